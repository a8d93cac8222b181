//! An index that visits few rows: how many a recall takes, what recall that gives, and why a row was not found.

use super::{Index, SearchParams};
use crate::ann::buckets::Buckets;
use crate::ann::ivf::{self, Cluster};
use crate::ann::lsh::buckets_of;
use crate::ann::probing::Aim;
use crate::ann::tables::Scratch;
use crate::ann::tune::{self, Effort, Sample, samples};
use crate::ann::{Asked, Few};
use crate::error::{Error, Result};
use crate::format::{MAX_BITS, MAX_TABLES, TuningRecord};
use crate::kernel::{self, FloatMode};
use crate::level::Level;
use crate::metric::Metric;
use crate::numbers::Block;
use crate::pool::{self, Watch};
use crate::scan::listed::Mask;
use crate::scan::{Method, Plan, Queries, Run};
use crate::store::rows::{DecodedRows, PanelBuffer, Rows};
use crate::topk::TopK;
use std::sync::{Arc, Mutex};

/// Neighbours that a choice between ways to search is made for.
const USUAL_K: f64 = 10.0;
/// What visiting a listed row costs beside streaming one: cells begin anew, and rows stand in two of them.
const LISTED_COST: f64 = 1.5;
/// What reading a row here and there costs beyond its bytes.
const READ_COST: f64 = 3000.0;
/// What a probe of a bucket costs, in bytes streamed in the same time.
const PROBE_COST: f64 = 1000.0;
/// Times as many rows as a filter's share says hold the best that it leaves: the last of few come late.
const SPREAD: f64 = 2.0;
/// Rows are streamed by codes when a filter allows at least one in this many.
const SPARSE: f64 = 20.0;

/// How an index is to visit few rows.
#[derive(Debug, Clone)]
pub struct AnnParams {
    /// Which way; `None`: cells, or exact search where it costs less.
    pub kind: Option<AnnKind>,
    /// The recall that queries get unless they say otherwise.
    pub recall: f64,
    /// Cells; `None`: as many as rows deserve.
    pub cells: Option<i64>,
    /// Whether every row stands in a second cell.
    pub spill: bool,
    /// Tables of buckets; `None`: 8.
    pub tables: Option<i64>,
    /// Bits of a bucket; `None`: as many as rows deserve.
    pub bits: Option<i64>,
}

/// The ways to visit few rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnKind {
    /// Cells around centroids.
    Ivf,
    /// Buckets of several tables.
    Lsh,
}

impl AnnKind {
    /// The way of a user's word.
    ///
    /// # Errors
    /// Another word.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "ivf" => Ok(AnnKind::Ivf),
            "lsh" => Ok(AnnKind::Lsh),
            _ => Err(Error::input("ann", "True, False, 'ivf' or 'lsh'", format!("{name:?}"))),
        }
    }
}

impl Default for AnnParams {
    fn default() -> Self {
        AnnParams { kind: None, recall: 0.95, cells: None, spill: true, tables: None, bits: None }
    }
}

/// How an index visits few rows, and what was measured of that.
#[derive(Debug)]
pub(super) struct Ann {
    pub few: Few,
    pub tuning: Mutex<Arc<TuningRecord>>,
}

impl Ann {
    pub fn new(few: Few, tuning: TuningRecord) -> Self {
        Ann { few, tuning: Mutex::new(Arc::new(tuning)) }
    }

    pub fn tuning(&self) -> Arc<TuningRecord> {
        self.tuning.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// A measured recall.
#[derive(Debug, Clone, Copy)]
pub struct Recall {
    /// Share of the exact neighbours that were found.
    pub recall: f64,
    /// Its standard error.
    pub error: f64,
    /// Queries asked.
    pub queries: usize,
    /// Rows read by code or in full, on average, as a share of all.
    pub visited: f64,
    /// Share of the answers that were known to be exact.
    pub exact: f64,
}

/// Where a query meets a row.
#[derive(Debug, Clone)]
pub struct Missed {
    /// The row's key.
    pub key: f64,
    /// The key of the last row found.
    pub kth: f64,
    /// The row's cells, or the tables that hold it, each with the place of the cell or bucket in the query's order.
    pub cells: Vec<(u32, usize)>,
    /// Cells or buckets that the query visits.
    pub probes: usize,
    /// Whether the row was found.
    pub found: bool,
}

impl Index {
    /// Groups the rows into cells or buckets and measures how many of them a recall takes.
    ///
    /// # Errors
    /// Parameters out of range, or of another way than is asked for; no memory; [`Error::Interrupted`].
    pub fn cluster(&mut self, params: &AnnParams, threads: Option<i64>, watch: &Watch) -> Result<()> {
        let _mode = FloatMode::standard();
        check_recall(params.recall)?;
        let threads = pool::thread_count(threads)?;
        // Without codes beside them rows are too few, or too short, for anything to be gained.
        if params.kind.is_none() && self.coder.is_none() {
            return Ok(());
        }
        let few = match params.kind {
            Some(AnnKind::Lsh) => self.buckets(params, threads, watch)?,
            _ => self.cells(params, threads, watch)?,
        };
        let tuning = self.measure(&few, None, params.recall, threads, watch)?;
        let usual = tune::effort(&tuning, params.recall, USUAL_K);
        if params.kind.is_some() || self.pays(&few, usual, None) {
            self.ann = Some(Ann::new(few, tuning));
        }
        Ok(())
    }

    fn cells(&self, params: &AnnParams, threads: usize, watch: &Watch) -> Result<Few> {
        let rows = self.rows();
        let whole = |cells: i64| {
            usize::try_from(cells).map_err(|_| Error::input("nlist", format!("a whole number from 1 to {rows}, the number of rows"), cells))
        };
        let cells = params.cells.map(whole).transpose()?;
        let cosine = self.about.metric == Metric::Cosine || self.about.unit;
        let metric = if cosine { Metric::Cosine } else { Metric::Euclidean };
        let [tuned, tested] = samples(rows, self.about.seed);
        let mut held = [tuned.as_slice(), &tested].concat();
        held.sort_unstable();
        let how = Cluster { cells, metric, spill: params.spill, held: &held, seed: self.about.seed, threads };
        Ok(Few::Cells(ivf::build(&self.only_view()?, self.coder.as_ref(), &how, watch)?))
    }

    fn buckets(&self, params: &AnnParams, threads: usize, watch: &Watch) -> Result<Few> {
        if self.about.metric != Metric::Cosine && !self.about.unit {
            return Err(Error::input("ann", "'ivf' for rows that differ in length, as buckets know directions only", "'lsh'"));
        }
        let whole = |name: &'static str, most: u32, given: Option<i64>| {
            let number = |given| usize::try_from(given).map_err(|_| Error::input(name, format!("a whole number from 1 to {most}"), given));
            given.map(number).transpose()
        };
        let (tables, bits) = (whole("tables", MAX_TABLES, params.tables)?, whole("bits", MAX_BITS, params.bits)?);
        Ok(Few::Buckets(Buckets::build(&self.only_view()?, tables, bits, self.about.seed, threads, watch)?))
    }

    /// The rows, which a builder has put into one segment.
    fn only_view(&self) -> Result<Rows<'_>> {
        match self.views().as_slice() {
            [view] => Ok(*view),
            views => Err(Error::input("embeddings", "rows of one segment", format!("{} segments", views.len()))),
        }
    }

    /// How few rows are visited, if they are, and what was measured of that.
    pub fn few(&self) -> Option<(&Few, Arc<TuningRecord>)> {
        self.ann.as_ref().map(|ann| (&ann.few, ann.tuning()))
    }

    /// Forgets cells and buckets: every answer is exact.
    pub fn without_ann(mut self) -> Self {
        self.ann = None;
        self
    }

    /// Measures again how many cells or buckets a recall takes, with these queries or with rows.
    ///
    /// # Errors
    /// An exact index; unusable queries; no memory; [`Error::Interrupted`].
    pub fn tune(
        &self,
        recall: Option<f64>,
        queries: Option<(Block, usize)>,
        threads: Option<i64>,
        watch: &Watch,
    ) -> Result<Arc<TuningRecord>> {
        let _mode = FloatMode::standard();
        let Some(ann) = &self.ann else {
            return Err(Error::input("ann", "an index for approximate search, built with ann=True, 'ivf' or 'lsh'", "an exact one"));
        };
        let recall = recall.unwrap_or_else(|| ann.tuning().recall);
        check_recall(recall)?;
        self.check_file()?;
        let queries = queries.map(|(block, dims)| self.asked(block, dims)).transpose()?;
        let tuning = Arc::new(self.measure(&ann.few, queries.as_ref(), recall, pool::thread_count(threads)?, watch)?);
        *ann.tuning.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = tuning.clone();
        Ok(tuning)
    }

    fn measure(&self, few: &Few, given: Option<&Queries>, recall: f64, threads: usize, watch: &Watch) -> Result<TuningRecord> {
        let plan = self.plain_plan(1, threads)?;
        if let Some(queries) = given {
            return tune::measure(few, Sample { queries, own: None }, recall, &plan, &self.views(), watch);
        }
        let [own, _] = samples(self.rows(), self.about.seed);
        let queries = self.rows_as_queries(&own)?;
        tune::measure(few, Sample { queries: &queries, own: Some(&own) }, recall, &plan, &self.views(), watch)
    }

    /// Measures the recall of searches for `k` rows, with these queries or with rows that neither trained the
    /// cells nor chose how many are visited; a row is not its own neighbour.
    ///
    /// # Errors
    /// Unusable queries or parameters; no memory; [`Error::Interrupted`].
    pub fn recall(&self, queries: Option<(Block, usize)>, params: &SearchParams, watch: &Watch) -> Result<Recall> {
        let _mode = FloatMode::standard();
        self.check_file()?;
        let k = super::wanted(params.k)?;
        let threads = pool::thread_count(params.threads)?;
        let [_, own] = samples(self.rows(), self.about.seed);
        let (queries, own) = match queries {
            Some((block, dims)) => (self.asked(block, dims)?, None),
            None => (self.rows_as_queries(&own)?, Some(own)),
        };
        if queries.is_empty() {
            return Err(Error::input("queries", "one query or more", "none"));
        }
        let plan = self.plain_plan(k, threads)?;
        let sample = Sample { queries: &queries, own: own.as_deref() };
        let near = tune::neighbours(sample, k, &plan, &self.views(), watch)?;
        let more = k + usize::from(own.is_some());
        let found = self.find(&Plan { k: more, ..plan }, &self.all_runs(), params, None, &queries, watch)?;
        let (count, rows) = (near.len() as f64, self.rows() as f64);
        let (mut shares, mut visited, mut exact) = (Vec::new(), 0.0, 0.0);
        for (near, (top, proven)) in near.iter().zip(found) {
            exact += f64::from(u8::from(proven));
            let lines = self.coder.as_ref().map_or(0, |coder| top.tally.code_bytes / coder.line_bytes() as u64);
            visited += lines.max(top.tally.read) as f64;
            let found: Vec<u64> = top.into_sorted().iter().map(|entry| entry.row).collect();
            let hits = near.iter().filter(|row| found.contains(row)).count();
            shares.push(if near.is_empty() { 1.0 } else { hits as f64 / near.len() as f64 });
        }
        let recall = shares.iter().sum::<f64>() / count;
        let spread = shares.iter().map(|share| (share - recall).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        Ok(Recall {
            recall,
            error: (spread / count).sqrt(),
            queries: near.len(),
            visited: (visited / count / rows).min(1.0),
            exact: exact / count,
        })
    }

    /// Why a search for `params.k` rows does or does not find `row`.
    ///
    /// # Errors
    /// Unusable queries or parameters; a row that the index does not have; no memory; [`Error::Interrupted`].
    pub fn explain(&self, query: (Block, usize), row: usize, params: &SearchParams, watch: &Watch) -> Result<Missed> {
        let _mode = FloatMode::standard();
        self.check_file()?;
        if row >= self.rows() {
            return Err(Error::input("row", format!("a row from 0 to {}", self.rows() - 1), row));
        }
        let queries = self.asked(query.0, query.1)?;
        if queries.len() != 1 {
            return Err(Error::input("query", "one query", format!("{} queries", queries.len())));
        }
        let metric = params.metric.unwrap_or(self.about.metric);
        let plan = Plan { metric, ..self.plain_plan(super::wanted(params.k)?, 1)? };
        let found = self.find(&plan, &self.all_runs(), params, None, &queries, watch)?.swap_remove(0).0.into_sorted();
        let alone = Run::of(&[self.rows()], std::iter::once(row));
        let key = crate::scan::search(&plan, &self.views(), &alone, &queries, watch)?.swap_remove(0).into_sorted();
        let mut cells = Vec::new();
        let mut probes = 0;
        if let (Some(ann), Some(effort)) = (&self.ann, self.effort(params, metric, self.rows() as u64)?) {
            probes = effort.probes;
            cells = self.homes(&ann.few, &plan, &queries, row, watch)?;
        }
        let kth = found.last().map_or(f64::NEG_INFINITY, |entry| entry.key);
        Ok(Missed {
            key: metric.public_key(key.first().map_or(f64::NEG_INFINITY, |entry| entry.key)),
            kth: metric.public_key(kth),
            cells,
            probes,
            found: found.iter().any(|entry| entry.row == row as u64),
        })
    }

    /// The cells or tables that hold a row, each with the place in the query's order of its cell or bucket.
    fn homes(&self, few: &Few, plan: &Plan, queries: &Queries, row: usize, watch: &Watch) -> Result<Vec<(u32, usize)>> {
        match few {
            Few::Cells(ivf) => {
                let narrow = queries.narrow(plan.kernel);
                let order = ivf.ranks(plan, narrow.as_ref().unwrap_or(queries), ivf.cells(), watch)?.swap_remove(0);
                let lists = ivf.lists();
                let holds = |cell: u32| lists.rows[lists.places(cell as usize)].contains(&(row as u32));
                Ok(order.iter().enumerate().filter(|(_, rank)| holds(rank.1)).map(|(place, rank)| (rank.1, place)).collect())
            }
            Few::Buckets(buckets) => {
                let homes = buckets_of(plan.kernel, buckets.hasher(), &self.only_view()?, &[row as u32]);
                let aim = Aim::new(buckets.hasher(), &queries.wide(0)[..queries.dims()], queries.norm(0));
                let meetings = buckets.tables().explain(&aim, &homes, buckets.most() as u64, &mut Scratch::default());
                let places = (0..).zip(meetings).filter_map(|(table, meeting)| Some((table, meeting.probes? as usize - 1)));
                let mut places: Vec<(u32, usize)> = places.collect();
                places.sort_unstable_by_key(|place| place.1);
                Ok(places)
            }
        }
    }

    /// The best rows of every query, and whether they are known to be the best of all.
    pub(super) fn find(
        &self,
        plan: &Plan,
        runs: &[Run],
        params: &SearchParams,
        effort: Option<Option<Effort>>,
        queries: &Queries,
        watch: &Watch,
    ) -> Result<Vec<(TopK, bool)>> {
        let segments = self.views();
        let allowed: u64 = runs.iter().map(|run| run.rows.len() as u64).sum();
        let effort = match effort {
            Some(known) => known,
            None => self.effort(params, plan.metric, allowed)?,
        };
        let (Some(ann), Some(effort)) = (&self.ann, effort) else {
            let best = crate::scan::search(plan, &segments, runs, queries, watch)?;
            return Ok(best.into_iter().map(|top| (top, true)).collect());
        };
        let mask = params.filter.map(|_| {
            let mut mask = Mask::none(self.rows());
            for run in runs {
                let first = segments[run.segment].first as usize;
                run.rows.clone().for_each(|row| mask.allow(first + row));
            }
            mask
        });
        let asked = Asked {
            plan,
            segments: &segments,
            queries,
            probes: effort.probes,
            ratio: params.ratio_threshold,
            mask: mask.as_ref().map(|mask| (mask, allowed)),
        };
        Ok(ann.few.search(&asked, watch)?.into_iter().map(|found| (found.top, found.exact)).collect())
    }

    /// How many cells a search visits; none where it is exact.
    pub(super) fn effort(&self, params: &SearchParams, metric: Metric, allowed: u64) -> Result<Option<Effort>> {
        params.recall.map_or(Ok(()), check_recall)?;
        if let Some(ratio) = params.ratio_threshold.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
            return Err(Error::input("ratio_threshold", "a number from 0 to 1", ratio));
        }
        let given = [("nprobe", params.nprobe), ("probes", params.probes), ("ratio_threshold", params.ratio_threshold.map(|_| 1))];
        let own = match &self.ann {
            Some(Ann { few: Few::Cells(_), .. }) => ["nprobe", "ratio_threshold"].as_slice(),
            Some(Ann { few: Few::Buckets(_), .. }) => &["probes"],
            None => &[],
        };
        if let Some((name, value)) = given.iter().find(|(name, value)| value.is_some() && !own.contains(name)) {
            let kind = if *name == "probes" { "'lsh'" } else { "'ivf'" };
            return Err(Error::input(name, format!("it only for an index built with ann={kind}"), value.unwrap_or_default()));
        }
        let Some(ann) = &self.ann else { return Ok(None) };
        let most = ann.few.most();
        let probes = params.nprobe.or(params.probes);
        let probes = probes.map(|probes| usize::try_from(probes).ok().filter(|&probes| probes > 0).ok_or(probes)).transpose();
        let probes = probes.map_err(|got| Error::input(ann.few.argument(), "a whole number of at least 1", got))?;
        // Directions order rows of one length for any metric, others for the metric that they were tuned for.
        let directions = !matches!(&ann.few, Few::Cells(ivf) if ivf.metric() != Metric::Cosine);
        let fits = metric == self.about.metric || directions && self.about.unit;
        if params.method != Method::Auto || !fits || allowed == 0 {
            return Ok(None);
        }
        if let Some(probes) = probes {
            return Ok(Some(Effort { probes: probes.min(most), visited: 0.0 }));
        }
        let tuning = ann.tuning();
        let recall = params.recall.unwrap_or(tuning.recall);
        // A filter that knows nothing of the query leaves k rows of about the best k / share, now of more, now of fewer.
        let (rows, k) = (self.rows() as f64, super::wanted(params.k)? as f64);
        let among = if (allowed as f64) < rows { SPREAD * k * rows / allowed as f64 } else { k };
        let effort = tune::effort(&tuning, recall, among.min(rows));
        Ok((recall < 1.0 && self.pays(&ann.few, effort, Some(allowed))).then_some(effort))
    }

    /// Whether visiting few rows costs less than an exact search of the `allowed` rows; `None`: of all.
    fn pays(&self, few: &Few, effort: Effort, allowed: Option<u64>) -> bool {
        let views = self.views();
        let (rows, row_bytes) = (self.rows() as f64, views.iter().map(Rows::row_bytes).max().unwrap_or(1) as f64);
        let line = self.coder.as_ref().map(|coder| coder.line_bytes() as f64);
        let allowed = allowed.map_or(rows, |allowed| allowed as f64);
        let in_full = row_bytes + READ_COST;
        let streamed = if allowed * SPARSE >= rows { rows * line.unwrap_or(row_bytes) } else { f64::INFINITY };
        let cost = match (few, line) {
            (Few::Cells(ivf), Some(line)) => (ivf.cells() as f64 + effort.visited * LISTED_COST) * line,
            (Few::Cells(ivf), None) => ivf.cells() as f64 * 4.0 * self.about.dims as f64 + effort.visited * in_full,
            (Few::Buckets(_), _) => effort.probes as f64 * PROBE_COST + effort.visited * allowed / rows * in_full,
        };
        cost < streamed.min(allowed * in_full)
    }

    fn plain_plan(&self, k: usize, threads: usize) -> Result<Plan<'_>> {
        Ok(Plan {
            metric: self.about.metric,
            k,
            kernel: kernel::selected()?,
            method: Method::Auto,
            threads,
            coder: self.coder.as_ref(),
            unit: self.about.unit,
            floor: f64::NEG_INFINITY,
        })
    }

    fn all_runs(&self) -> Vec<Run> {
        self.views().iter().enumerate().map(|(segment, rows)| Run { segment, rows: 0..rows.len() }).collect()
    }

    fn asked(&self, block: Block, dims: usize) -> Result<Queries> {
        if dims != self.about.dims || !block.len().is_multiple_of(dims) {
            return Err(Error::input("queries", format!("{} values each, like the rows", self.about.dims), dims));
        }
        Queries::new(kernel::selected()?, self.about.level, block, dims, 0)
    }

    /// Some rows as queries.
    fn rows_as_queries(&self, rows: &[usize]) -> Result<Queries> {
        let kernel = kernel::selected()?;
        let mut buffer = PanelBuffer::default();
        for view in self.views() {
            let first = view.first as usize;
            for row in rows.iter().filter(|&&row| (first..first + view.len()).contains(&row)) {
                view.decode(kernel, row - first..row - first + 1, &mut buffer);
            }
        }
        match buffer.into_rows(self.about.level) {
            DecodedRows::F32(values) => Queries::new(kernel, Level::F32, Block::F32(&values), self.about.dims, 0),
            DecodedRows::F64(values) => Queries::new(kernel, Level::F64, Block::F64(&values), self.about.dims, 0),
        }
    }
}

fn check_recall(recall: f64) -> Result<()> {
    if recall > 0.0 && recall <= 1.0 { Ok(()) } else { Err(Error::input("recall", "a number above 0, at most 1", recall)) }
}
