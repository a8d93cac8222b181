//! Approximate search of an index: building its cells or buckets, and choosing how many of them a query visits.

use super::{Index, SearchParams};
use crate::ann::effort::{self, SearchEffort};
use crate::ann::ivf::{self, IvfParams};
use crate::ann::lsh;
use crate::ann::lsh::cost_model::{self, Costs, Estimate, Workload};
use crate::ann::lsh::hash::{Hasher, Params};
use crate::ann::lsh::search::Lsh;
use crate::ann::sample::{Sample, neighbourhoods, sample_rows, samples};
use crate::ann::tune;
use crate::ann::{Ann, Found, Request};
use crate::error::{Error, Result};
use crate::format::{MAX_BITS, MAX_TABLES, TuningRecord};
use crate::kernel::{self, FloatMode};
use crate::level::Level;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::progress::cost;
use crate::scan::{self, LONG_RUN, Method, Plan, Queries, Run, SPARSE};
use crate::store::rows::Rows;
use crate::topk::TopK;
use std::sync::{Arc, Mutex};

/// `ann=True` leaves smaller tables to exact search, which costs no more than ranking a few hundred cells.
const LEAST_BYTES: usize = 4 << 20;
/// The k for which exact, ivf and lsh search are compared.
const USUAL_K: f64 = 10.0;
/// Cost of bounding a row of an inverted list, relative to streaming one: lists are short, and spilled rows lie in two.
const LISTED_COST: f64 = 1.5;
/// The same with a filter, which is tested for each row.
const FILTERED_COST: f64 = 3.0;
/// Cost of a random read of a row beyond its bytes, in bytes streamed in the same time.
const READ_COST: f64 = 3000.0;
/// Cost of probing a bucket, in bytes streamed in the same time.
const PROBE_COST: f64 = 3000.0;
/// Cost of inserting a row into one hash table, in the same unit.
const ENTRY_COST: f64 = 1200.0;
/// Sample queries for the choice of tables and bits.
const CHOOSERS: usize = 64;
/// With a filter that allows a share s of the rows, recall is tuned for the best SPREAD k / s of all rows, not k / s: the
/// ranks of allowed rows vary.
const SPREAD: f64 = 2.0;

/// How an approximate index is built.
#[derive(Debug, Clone)]
pub struct AnnParams {
    /// `None`: ivf, or exact search where that costs less.
    pub kind: Option<AnnKind>,
    /// The default recall of queries.
    pub recall: f64,
    /// Ivf: cells; `None`: a multiple of the root of the rows.
    pub cells: Option<i64>,
    /// Ivf: whether every row is listed in a second cell (SOAR).
    pub spill: bool,
    /// Lsh: hash tables; `None`: the number of least cost.
    pub tables: Option<i64>,
    /// Lsh: bits of a bucket number; `None`: the number of least cost.
    pub bits: Option<i64>,
}

/// Kinds of approximate index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnKind {
    /// Inverted lists around centroids.
    Ivf,
    /// Buckets of several hash tables.
    Lsh,
}

impl Default for AnnParams {
    fn default() -> Self {
        AnnParams { kind: None, recall: 0.95, cells: None, spill: true, tables: None, bits: None }
    }
}

impl AnnParams {
    /// The cost of [`Index::cluster`] for a table of this level.
    pub fn work(&self, rows: usize, dims: usize, level: Level) -> f64 {
        // Numbers out of range are refused later.
        let given =
            |number: Option<i64>, usual, most| number.map_or(usual, |number| usize::try_from(number).unwrap_or(most)).clamp(1, most);
        match self.kind {
            None if rows * level.row_bytes(dims) <= LEAST_BYTES => 0.0,
            Some(AnnKind::Lsh) => {
                let usual = cost_model::default_params(rows, 0);
                let tables = given(self.tables, usual.tables, MAX_TABLES as usize);
                let bits = given(self.bits, usual.bits, MAX_BITS as usize);
                let [hashing, filling] = lsh::build::work(rows, dims, tables);
                let tuning = tune::work(1, [rows, dims, tables << bits], sample_rows(rows));
                Hasher::work(rows, dims) + choice_work(rows, dims).iter().sum::<f64>() + hashing + filling + tuning
            }
            _ => {
                let cells = given(self.cells, ivf::default_cells(rows), rows);
                let tuning = tune::work(0, [rows, dims, cells], sample_rows(rows));
                ivf::work(rows, dims, cells, self.spill).iter().sum::<f64>() + tuning
            }
        }
    }
}

/// An approximate index and its tuning.
#[derive(Debug)]
pub(super) struct TunedAnn {
    pub ann: Ann,
    /// How many of the first rows are in the cells or buckets; later ones are searched exactly.
    pub rows: usize,
    pub tuning: Mutex<Arc<TuningRecord>>,
}

impl TunedAnn {
    pub fn new(ann: Ann, rows: usize, tuning: TuningRecord) -> Self {
        TunedAnn { ann, rows, tuning: Mutex::new(Arc::new(tuning)) }
    }

    /// The same, tuned apart from now on.
    pub fn copy(&self) -> Self {
        TunedAnn { ann: self.ann.clone(), rows: self.rows, tuning: Mutex::new(self.tuning()) }
    }

    pub fn tuning(&self) -> Arc<TuningRecord> {
        self.tuning.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Index {
    /// Builds cells or buckets and tunes them.
    ///
    /// # Errors
    /// Parameters out of range; no memory; [`Error::Interrupted`].
    pub fn cluster(&mut self, params: &AnnParams, threads: Option<i64>, watch: &Watch) -> Result<()> {
        let _mode = FloatMode::standard();
        check_recall(params.recall)?;
        let threads = pool::thread_count(threads)?;
        let rows = self.rows();
        let whole = |given: i64| usize::try_from(given).ok().filter(|cells| (1..=rows).contains(cells)).ok_or(given);
        let cells = params.cells.map(whole).transpose();
        let cells = cells.map_err(|got| Error::input("nlist", format!("a whole number from 1 to {rows}, the number of rows"), got))?;
        let bytes: usize = self.views().iter().map(|rows| rows.len() * rows.row_bytes()).sum();
        if params.kind.is_none() && bytes <= LEAST_BYTES {
            return Ok(());
        }
        let ann = match params.kind {
            Some(AnnKind::Lsh) => self.buckets(params, threads, watch)?,
            _ => self.cells(cells, params.spill, threads, watch)?,
        };
        let tuning = self.measure(&ann, None, params.recall, threads, watch)?;
        let usual = effort::effort(&tuning, params.recall, USUAL_K);
        if params.kind.is_some() || self.pays(&ann, usual, None) {
            self.ann = Some(Arc::new(TunedAnn::new(ann, rows, tuning)));
        }
        Ok(())
    }

    fn cells(&self, cells: Option<usize>, spill: bool, threads: usize, watch: &Watch) -> Result<Ann> {
        let cosine = self.about.metric == Metric::Cosine || self.about.unit;
        let metric = if cosine { Metric::Cosine } else { Metric::Euclidean };
        let [tuned, tested] = self.held_out()?;
        let mut held_out = [tuned.as_slice(), &tested].concat();
        held_out.sort_unstable();
        let params = IvfParams { cells, metric, spill, held_out: &held_out, seed: self.about.seed, threads };
        Ok(Ann::Ivf(ivf::build(&self.only_view()?, self.quantizer.as_ref(), &params, watch)?))
    }

    fn buckets(&self, params: &AnnParams, threads: usize, watch: &Watch) -> Result<Ann> {
        if self.about.metric != Metric::Cosine && !self.about.unit {
            return Err(Error::input("ann", "'ivf' for rows that differ in length, as buckets hash directions only", "'lsh'"));
        }
        let whole = |name: &'static str, most: u32, given: Option<i64>| {
            let number = |given| usize::try_from(given).map_err(|_| Error::input(name, format!("a whole number from 1 to {most}"), given));
            given.map(number).transpose()
        };
        let (tables, bits) = (whole("tables", MAX_TABLES, params.tables)?, whole("bits", MAX_BITS, params.bits)?);
        let rows = self.only_view()?;
        // The axes do not depend on numbers that are still open.
        let usual = cost_model::default_params(rows.len(), self.about.seed);
        let first = Params { tables: tables.unwrap_or(usual.tables), bits: bits.unwrap_or(usual.bits), ..usual };
        let plan = self.plain_plan(1, threads)?;
        let mut hasher = Hasher::learn(plan.kernel, &rows, first, threads, watch)?;
        if rows.len() > 1 && (tables.is_none() || bits.is_none()) {
            let estimates = self.estimates(&hasher, params.recall, [tables, bits], &plan, watch)?;
            hasher = hasher.with(cost_model::cheapest(&estimates, first));
        }
        Ok(Ann::Lsh(Lsh::build(hasher, &rows, threads, watch)?))
    }

    /// The cost of each choice of tables and bits.
    fn estimates(&self, hasher: &Hasher, recall: f64, given: [Option<usize>; 2], plan: &Plan, watch: &Watch) -> Result<Vec<Estimate>> {
        let (rows, views) = (self.only_view()?, self.views());
        let [own, _] = self.held_out()?;
        let count = CHOOSERS.min(own.len());
        let own: Vec<usize> = (0..count).map(|i| own[i * own.len() / count]).collect();
        let queries = self.rows_as_queries(&own)?;
        let [searching, modelling] = choice_work(rows.len(), rows.dims);
        watch.stage(searching, (rows.len() * count) as u64);
        let hoods = neighbourhoods(Sample { queries: &queries, own: Some(&own) }, USUAL_K as usize, plan, &views, watch)?;
        let queries = queries.some(&hoods.iter().map(|hood| hood.query).collect::<Vec<usize>>())?;
        let near: Vec<Vec<u64>> = hoods.into_iter().map(|hood| hood.near).collect();
        watch.stage(modelling, count as u64);
        let costs = Costs { probe: PROBE_COST, row: rows.row_bytes() as f64 + READ_COST, entry: ENTRY_COST };
        cost_model::estimates((hasher, &rows), &Workload { queries: &queries, neighbours: &near, recall, costs }, given, plan, watch)
    }

    /// Two samples of rows to tune on and to measure recall on: those that were held out when cells or buckets were made, as
    /// far as they have not been deleted since.
    pub(super) fn held_out(&self) -> Result<[Vec<usize>; 2]> {
        let rows = self.ann.as_ref().map_or(self.rows(), |ann| ann.rows);
        let live = self.live()?.mask.as_ref();
        Ok(samples(rows, self.about.seed).map(|sample| {
            let left: Vec<usize> = sample.into_iter().filter(|&row| live.is_none_or(|live| live.allows(row))).collect();
            if left.is_empty() { self.live_numbers().take(1).collect() } else { left }
        }))
    }

    /// The rows of an index of one segment, as a builder makes it.
    fn only_view(&self) -> Result<Rows<'_>> {
        match self.views().as_slice() {
            [view] => Ok(*view),
            views => Err(Error::input("embeddings", "rows of one segment", format!("{} segments", views.len()))),
        }
    }

    /// The approximate index, if there is one, and its tuning.
    pub fn ann(&self) -> Option<(&Ann, Arc<TuningRecord>)> {
        self.ann.as_ref().map(|ann| (&ann.ann, ann.tuning()))
    }

    /// The same rows without cells or buckets: every search is exact.
    pub fn without_ann(mut self) -> Self {
        self.ann = None;
        self
    }

    /// The best rows of every query with this effort, and whether each answer is proven exact.
    pub(super) fn find(
        &self,
        plan: &Plan,
        runs: &[Run],
        params: &SearchParams,
        effort: Option<SearchEffort>,
        queries: &Queries,
        watch: &Watch,
    ) -> Result<Vec<(TopK, bool)>> {
        let segments = self.views();
        let allowed = |runs: &[Run]| runs.iter().map(|run| run.rows.len() as u64).sum::<u64>();
        let (Some(ann), Some(effort)) = (&self.ann, effort) else {
            let best = scan::search(plan, &segments, runs, queries, watch)?;
            return Ok(best.into_iter().map(|top| (top, true)).collect());
        };
        // Rows added since the cells or buckets were made are searched exactly.
        let (listed, added) = runs.split_at(runs.partition_point(|run| segments[run.segment].first < ann.rows as u64));
        let in_lists = allowed(listed);
        let (live, masked) = (self.live()?, in_lists < ann.rows as u64);
        let own = live.mask.as_ref().filter(|_| masked && std::ptr::eq(runs, live.runs.as_slice()));
        let made = (masked && own.is_none()).then(|| self.mask(listed)).transpose()?;
        let request = Request {
            plan,
            segments: &segments[..segments.partition_point(|segment| segment.first < ann.rows as u64)],
            queries,
            nprobe: effort.nprobe,
            adapt: effort.adapt,
            ratio: params.ratio_threshold,
            reorder: params.reorder_k.and_then(|most| usize::try_from(most).ok()),
            mask: own.or(made.as_ref()).map(|mask| (mask, in_lists)),
            expected_entries: effort.visited * in_lists as f64 / ann.rows as f64,
        };
        let found = if listed.is_empty() { Vec::new() } else { ann.ann.search(&request, watch)? };
        if added.is_empty() {
            return Ok(found.into_iter().map(|found| (found.top, found.exact)).collect());
        }
        let others = scan::search(plan, &segments, added, queries, watch)?;
        if found.is_empty() {
            return Ok(others.into_iter().map(|top| (top, true)).collect());
        }
        let most = in_lists + allowed(added);
        let union = |(found, other): (Found, TopK)| Ok((TopK::union(plan.k, most, found.top, other)?, found.exact));
        found.into_iter().zip(others).map(union).collect()
    }

    /// The effort of an approximate search; none where the search is exact.
    pub(super) fn effort(&self, params: &SearchParams, metric: Metric, runs: &[Run]) -> Result<Option<SearchEffort>> {
        params.recall.map_or(Ok(()), check_recall)?;
        let (allowed, runs) = (runs.iter().map(|run| run.rows.len() as u64).sum::<u64>(), runs.len());
        if let Some(ratio) = params.ratio_threshold.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
            return Err(Error::input("ratio_threshold", "a number from 0 to 1", ratio));
        }
        let shown = |number: Option<i64>| number.map(|number| number.to_string());
        let ratio = params.ratio_threshold.map(|ratio| ratio.to_string());
        let given = [("nprobe", shown(params.nprobe)), ("ratio_threshold", ratio), ("reorder_k", shown(params.reorder_k))];
        let own = match self.ann.as_ref().map(|ann| &ann.ann) {
            Some(Ann::Ivf(_)) if self.quantizer.is_some() => ["nprobe", "ratio_threshold", "reorder_k"].as_slice(),
            Some(Ann::Ivf(_)) => &["nprobe", "ratio_threshold"],
            Some(Ann::Lsh(_)) => &["nprobe"],
            None => &[],
        };
        if let Some((name, value)) = given.iter().find(|(name, value)| value.is_some() && !own.contains(name)) {
            let kind = match *name {
                "nprobe" => "'ivf' or 'lsh'",
                "reorder_k" => "'ivf' and has codes",
                _ => "'ivf'",
            };
            return Err(Error::input(name, format!("it only for an index with ann={kind}"), value.as_deref().unwrap_or_default()));
        }
        if let Some(most) = params.reorder_k.filter(|&most| most < params.k) {
            return Err(Error::input("reorder_k", format!("a whole number of at least {}, the rows asked for", params.k), most));
        }
        let Some(ann) = &self.ann else { return Ok(None) };
        let most = ann.ann.max_probes();
        let nprobe = params.nprobe.map(|nprobe| usize::try_from(nprobe).ok().filter(|&nprobe| nprobe > 0).ok_or(nprobe)).transpose();
        let nprobe = nprobe.map_err(|got| Error::input("nprobe", "a whole number of at least 1", got))?;
        // Cosine cells and buckets serve every metric of unit rows; others only the metric that they were tuned for.
        let directions = !matches!(&ann.ann, Ann::Ivf(ivf) if ivf.metric() != Metric::Cosine);
        let fits = if directions { metric == Metric::Cosine || self.about.unit } else { metric == self.about.metric };
        if params.method != Method::Auto || !fits || allowed == 0 {
            return Ok(None);
        }
        if let Some(nprobe) = nprobe {
            return Ok(Some(SearchEffort { nprobe: nprobe.min(most), visited: 0.0, adapt: None }));
        }
        let tuning = ann.tuning();
        let recall = params.recall.unwrap_or(tuning.recall);
        // A filter independent of the query leaves k of about the best k / share rows.
        let (rows, k) = (self.live_rows() as f64, super::wanted(params.k)? as f64);
        let among = if (allowed as f64) < rows { SPREAD * k * rows / allowed as f64 } else { k };
        let effort = effort::effort(&tuning, recall, among.min(rows));
        Ok((recall < 1.0 && self.pays(&ann.ann, effort, Some((allowed, runs)))).then_some(effort))
    }

    /// Whether this effort costs less than exact search of the allowed rows: (rows, runs); `None`: of all rows.
    fn pays(&self, ann: &Ann, effort: SearchEffort, allowed: Option<(u64, usize)>) -> bool {
        let views = self.views();
        let (rows, row_bytes) = (self.live_rows() as f64, views.iter().map(Rows::row_bytes).max().unwrap_or(1) as f64);
        let line = self.quantizer.as_ref().map(|quantizer| quantizer.line_bytes() as f64);
        let (allowed, runs) = allowed.map_or((rows, 1.0), |(allowed, runs)| (allowed as f64, runs as f64));
        let in_full = row_bytes + READ_COST;
        let streamed = if allowed >= LONG_RUN as f64 * runs {
            allowed * line.unwrap_or(row_bytes)
        } else if allowed * SPARSE as f64 >= rows {
            rows * line.unwrap_or(row_bytes)
        } else {
            f64::INFINITY
        };
        let factor = if allowed < rows { FILTERED_COST } else { LISTED_COST };
        let cost = match (ann, line) {
            (Ann::Ivf(ivf), Some(line)) => (ivf.cells() as f64 + effort.visited * factor) * line,
            (Ann::Ivf(ivf), None) => ivf.cells() as f64 * 4.0 * self.about.dims as f64 + effort.visited * in_full,
            (Ann::Lsh(_), _) => effort.nprobe as f64 * PROBE_COST + effort.visited * allowed / rows * in_full,
        };
        cost < streamed.min(allowed * in_full)
    }

    pub(super) fn plain_plan(&self, k: usize, threads: usize) -> Result<Plan<'_>> {
        Ok(Plan {
            metric: self.about.metric,
            k,
            kernel: kernel::selected()?,
            method: Method::Auto,
            threads,
            quantizer: self.quantizer.as_ref(),
            unit: self.about.unit,
            threshold: f64::NEG_INFINITY,
        })
    }
}

/// What it costs to find the neighbours of the queries that choose tables and bits, and to model the choices.
fn choice_work(rows: usize, dims: usize) -> [f64; 2] {
    [cost::CODED * (rows * dims * CHOOSERS) as f64, cost::MODEL * CHOOSERS as f64]
}

pub(crate) fn check_recall(recall: f64) -> Result<()> {
    if recall > 0.0 && recall <= 1.0 { Ok(()) } else { Err(Error::input("recall", "a number above 0, at most 1", recall)) }
}
