//! Measurements of approximate search: tuning, recall with its confidence interval, and why a row was missed.

use super::ann::check_recall;
use super::{Index, SearchParams};
use crate::ann::Ann;
use crate::ann::effort::{self, SearchEffort};
use crate::ann::ivf::Nprobe;
use crate::ann::lsh::build::buckets_of;
use crate::ann::lsh::probe::QueryHash;
use crate::ann::lsh::tables::Scratch;
use crate::ann::sample::{Neighbourhood, Sample, neighbourhoods};
use crate::ann::tune;
use crate::error::{Error, Result};
use crate::format::TuningRecord;
use crate::input::Block;
use crate::kernel::{self, FloatMode};
use crate::level::Level;
use crate::pool::{self, Watch};
use crate::scan::{self, Plan, Queries, Run};
use crate::store::rows::{DecodedRows, PanelBuffer, Rows};
use crate::topk::TopK;
use std::collections::HashSet;
use std::sync::Arc;

/// Standard errors of a two-sided 95 % interval of a normal variable.
const DEVIATIONS: f64 = 1.96;

/// A measured recall.
#[derive(Debug, Clone, Copy)]
pub struct Recall {
    /// Share of the exact neighbours that were found.
    pub recall: f64,
    /// Lower end of the 95 % confidence interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Queries measured.
    pub queries: usize,
    /// Whether these were given; else they were rows held out.
    pub given: bool,
    /// Rows bounded or refined, on average, as a share of all rows.
    pub visited: f64,
    /// Share of the answers that were proven exact.
    pub exact: f64,
}

/// Why a search finds a row, or does not.
#[derive(Debug, Clone)]
pub struct Missed {
    /// Whether the row was found.
    pub found: bool,
    /// The row's key.
    pub key: f64,
    /// The key of the last row found.
    pub kth_key: f64,
    /// The row's cells, or the tables that hold it, each with the rank of the cell or bucket in the order in which the
    /// query visits them: 1 is the first.
    pub cells: Vec<(u32, usize)>,
    /// Cells or buckets that the query visits.
    pub nprobe: usize,
}

impl Index {
    /// Tunes again, with these queries or with a sample of rows as queries.
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
        let queries = queries.map(|(block, dims)| self.given_queries("queries", block, dims)).transpose()?;
        let tuning = Arc::new(self.measure(&ann.ann, queries.as_ref(), recall, pool::thread_count(threads)?, watch)?);
        *ann.tuning.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = tuning.clone();
        Ok(tuning)
    }

    pub(super) fn measure(&self, ann: &Ann, given: Option<&Queries>, recall: f64, threads: usize, watch: &Watch) -> Result<TuningRecord> {
        let plan = self.plain_plan(1, threads)?;
        // Rows that are in no cell or bucket are found whatever is visited.
        let mut views = self.views();
        if self.ann.is_some() {
            views.truncate(self.listed_segments());
        }
        if let Some(queries) = given {
            return tune::measure(ann, Sample { queries, own: None }, recall, &plan, &views, watch);
        }
        let [own, _] = self.held_out()?;
        let queries = self.rows_as_queries(&own)?;
        tune::measure(ann, Sample { queries: &queries, own: Some(&own) }, recall, &plan, &views, watch)
    }

    /// Measures the recall of searches for `k` rows, with these queries or with rows that neither trained the
    /// cells nor chose how many are visited; a row is not its own neighbour.
    ///
    /// # Errors
    /// Unusable queries or parameters; no memory; [`Error::Interrupted`].
    pub fn recall(&self, queries: Option<(Block, usize)>, params: &SearchParams, watch: &Watch) -> Result<Recall> {
        let _mode = FloatMode::standard();
        self.check_file()?;
        let k = super::wanted(params.k)?.min(self.live_rows());
        let threads = pool::thread_count(params.threads)?;
        let (queries, own) = match queries {
            Some((block, dims)) => (self.given_queries("queries", block, dims)?, None),
            None => {
                let [_, own] = self.held_out()?;
                (self.rows_as_queries(&own)?, Some(own))
            }
        };
        if queries.is_empty() {
            return Err(Error::input("queries", "one query or more", "none"));
        }
        let plan = self.plain_plan(k, threads)?;
        let sample = Sample { queries: &queries, own: own.as_deref() };
        let hoods = neighbourhoods(sample, k, &plan, &self.views(), watch)?;
        let found = self.find_beyond(&plan, params, &queries, &hoods, watch)?;
        let (count, rows) = (hoods.len() as f64, self.live_rows() as f64);
        let (mut shares, mut visited, mut exact) = (Vec::new(), 0.0, 0.0);
        for (Neighbourhood { near, .. }, (top, proven)) in hoods.iter().zip(found) {
            exact += f64::from(u8::from(proven));
            let lines = self.quantizer.as_ref().map_or(0, |quantizer| top.tally.code_bytes / quantizer.line_bytes() as u64);
            visited += lines.max(top.tally.refined) as f64;
            let found: HashSet<u64> = top.into_sorted().iter().map(|entry| entry.row).collect();
            let hits = near.iter().filter(|row| found.contains(row)).count();
            shares.push(if near.is_empty() { 1.0 } else { hits as f64 / near.len() as f64 });
        }
        let (recall, error) = effort::mean(&shares);
        let trials = effort::effective_trials(recall, error).unwrap_or(count);
        // Exact answers are certain.
        let (low, high) = if exact == count { (recall, recall) } else { effort::interval(recall, trials, DEVIATIONS) };
        Ok(Recall {
            recall,
            low,
            high,
            queries: hoods.len(),
            given: own.is_none(),
            visited: (visited / count / rows).min(1.0),
            exact: exact / count,
        })
    }

    /// What searches find where the rows that do not count are not there, and whether that is proven exact.
    fn find_beyond(
        &self,
        plan: &Plan,
        params: &SearchParams,
        queries: &Queries,
        hoods: &[Neighbourhood],
        watch: &Watch,
    ) -> Result<Vec<(TopK, bool)>> {
        let (all, views) = (Run::all(&self.views())?, self.views());
        let effort = self.effort(params, plan.metric, &all)?;
        // A row that has no copies finds itself first, which does not count: such rows are searched for together.
        let own = usize::from(hoods.iter().any(|hood| !hood.ignored.is_empty()));
        let alone: Vec<usize> = hoods.iter().filter(|hood| !hood.has_copies()).map(|hood| hood.query).collect();
        let more = SearchParams { reorder_k: params.reorder_k.map(|most| most.saturating_add(own as i64)), ..*params };
        let found = self.find(&Plan { k: plan.k + own, ..*plan }, &all, &more, effort, &queries.some(&alone)?, watch)?;
        // Others are searched for one by one, without their copies, and without more cells for these.
        let copied: Vec<&Neighbourhood> = hoods.iter().filter(|hood| hood.has_copies()).collect();
        let effort = effort.map(|effort| SearchEffort { visited: 0.0, ..effort });
        let sizes: Vec<usize> = views.iter().map(Rows::len).collect();
        let numbers: Vec<usize> = self.live_numbers().collect();
        let one = |(): &mut (), at: usize| {
            let Neighbourhood { query, ignored, .. } = copied[at];
            let runs = Run::of(&sizes, numbers.iter().copied().filter(|&row| ignored.binary_search(&(row as u64)).is_err()))?;
            self.find(&Plan { threads: 1, ..*plan }, &runs, params, effort, &queries.only(*query)?, watch)
        };
        let beyond = pool::map(plan.threads, copied.len(), watch, || Ok(()), one)?;
        let (mut found, mut beyond) = (found.into_iter(), beyond.into_iter().flatten());
        Ok(hoods.iter().filter_map(|hood| if hood.has_copies() { beyond.next() } else { found.next() }).collect())
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
        let queries = self.given_queries("query", query.0, query.1)?;
        if queries.len() != 1 {
            return Err(Error::input("query", "one query", format!("{} queries", queries.len())));
        }
        let metric = self.metric_of(params)?;
        let plan = Plan { metric, ..self.plain_plan(super::wanted(params.k)?.min(self.live_rows()), 1)? };
        let (views, runs) = (self.views(), Run::all(&self.views())?);
        let effort = self.effort(params, metric, &runs)?;
        let found = self.find(&plan, &runs, params, effort, &queries, watch)?.swap_remove(0).0.into_sorted();
        let sizes: Vec<usize> = views.iter().map(Rows::len).collect();
        let alone = Run::of(&sizes, std::iter::once(row))?;
        let key = scan::search(&plan, &views, &alone, &queries, watch)?.swap_remove(0).into_sorted();
        let (mut cells, mut nprobe) = (Vec::new(), 0);
        if let (Some(ann), Some(effort)) = (&self.ann, effort)
            && row < ann.rows
        {
            (cells, nprobe) = self.homes(&ann.ann, &plan, effort, &queries, row, watch)?;
        }
        Ok(Missed {
            found: found.iter().any(|entry| entry.row == row as u64),
            key: metric.public_key(key.first().map_or(f64::NEG_INFINITY, |entry| entry.key)),
            kth_key: metric.public_key(found.last().map_or(f64::NEG_INFINITY, |entry| entry.key)),
            cells,
            nprobe,
        })
    }

    /// The cells or tables that hold a row, each with the rank of its cell or bucket in the query's order, and how many of
    /// these the query visits.
    fn homes(
        &self,
        ann: &Ann,
        plan: &Plan,
        effort: SearchEffort,
        queries: &Queries,
        row: usize,
        watch: &Watch,
    ) -> Result<(Vec<(u32, usize)>, usize)> {
        match ann {
            Ann::Ivf(ivf) => {
                let order = ivf.order(plan, queries, 0, watch)?;
                let lists = ivf.lists();
                let holds = |cell: u32| lists.rows[lists.entries(cell as usize)].contains(&(row as u32));
                let count = ivf.count(Nprobe { nprobe: effort.nprobe, adapt: effort.adapt }, plan.metric, queries.norm(0), &order);
                let homes = (1..).zip(order).filter(|(_, entry)| holds(entry.1)).map(|(rank, entry)| (entry.1, rank));
                Ok((homes.collect(), count))
            }
            Ann::Lsh(buckets) => {
                let views = self.views();
                let holds = views.iter().filter_map(|view| Some((view, view.local_row(row as u64)?)));
                let homes: Vec<u32> =
                    holds.flat_map(|(view, row)| buckets_of(plan.kernel, buckets.hasher(), view, &[row as u32])).collect();
                let query_hash = QueryHash::new(buckets.hasher(), &queries.wide(0)[..queries.dims()], queries.norm(0));
                let ranks = buckets.tables().explain(&query_hash, &homes, buckets.exhaustive_probes() as u64, &mut Scratch::default());
                let homes = (0..).zip(ranks).filter_map(|(table, rank)| Some((table, rank.probes? as usize)));
                let mut homes: Vec<(u32, usize)> = homes.collect();
                homes.sort_unstable_by_key(|home| home.1);
                Ok((homes, effort.nprobe))
            }
        }
    }

    /// The caller's queries, given as the argument `name`.
    fn given_queries(&self, name: &'static str, block: Block, dims: usize) -> Result<Queries> {
        if dims != self.about.dims || !block.len().is_multiple_of(dims) {
            return Err(Error::input(name, format!("{} values each, like the rows", self.about.dims), dims));
        }
        Queries::new(kernel::selected()?, self.about.level, block, dims, 0).map_err(|error| error.of_argument(name))
    }

    /// Some rows, decoded, as queries.
    pub(super) fn rows_as_queries(&self, rows: &[usize]) -> Result<Queries> {
        let kernel = kernel::selected()?;
        let mut buffer = PanelBuffer::default();
        for view in self.views() {
            for row in rows.iter().filter_map(|&row| view.local_row(row as u64)) {
                view.decode(kernel, row..row + 1, &mut buffer);
            }
        }
        let queries = match buffer.into_rows(self.about.level) {
            DecodedRows::F32(values) => Queries::new(kernel, Level::F32, Block::F32(&values), self.about.dims, 0),
            DecodedRows::F64(values) => Queries::new(kernel, Level::F64, Block::F64(&values), self.about.dims, 0),
            DecodedRows::B1(bits) => Queries::new(kernel, Level::B1, Block::Bits(&bits), self.about.dims, 0),
        };
        // Rows that no builder accepts are damaged; the caller gave no queries that could be refused.
        queries.map_err(|error| match error {
            Error::Input { .. } | Error::NotFinite { .. } | Error::OutOfRange { .. } | Error::TooLong { .. } => self.not_numbers(),
            error => error,
        })
    }
}
