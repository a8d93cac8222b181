//! The index: rows in segments, and the search over them.

mod ann;
mod file;
mod recall;
mod rows;

pub(crate) use ann::check_recall;
pub use ann::{AnnKind, AnnParams};
pub use recall::{Missed, Recall};

use crate::candidates::Filter;
use crate::error::{Error, Result};
use crate::format::{IdRecord, IndexRecord};
use crate::hits::{Certificate, Hits};
use crate::input::Block;
use crate::kernel::{self, FloatMode, Kernel};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::quantize::Quantizer;
pub use crate::scan::Method;
use crate::scan::{Plan, Queries};
use crate::store::rows::Rows;
use crate::store::segment::Segment;
use crate::topk::Entry;
pub(crate) use file::IndexFile;
use rows::Live;
use std::sync::{Arc, OnceLock};

/// Queries of one group: their float32 tiles and a panel of rows fit one cache.
const GROUP: usize = 1024;
/// Bytes of kept entries of a group, over all workers, at most.
const GROUP_BYTES: u64 = 256 << 20;

/// One search.
#[derive(Debug, Clone, Copy)]
pub struct SearchParams<'a> {
    /// What the caller's argument of queries is called, for errors.
    pub queries_name: &'static str,
    /// Rows wanted for each query, at least 1; more than there are gives all.
    pub k: i64,
    /// How rows are scored.
    pub method: Method,
    /// `None`: the index's own.
    pub metric: Option<Metric>,
    /// Which rows may be found.
    pub filter: Option<Filter<'a>>,
    /// For a single query: the least key, or for euclidean and hamming the largest distance, of a hit.
    pub bound: Option<f64>,
    /// Workers; `None`: as [`pool::thread_count`] says.
    pub threads: Option<i64>,
    /// Approximate index: the recall wanted; `None`: the one it was tuned for. 1 asks for exact search.
    pub recall: Option<f64>,
    /// Approximate index: cells or buckets to visit, in place of a recall.
    pub nprobe: Option<i64>,
    /// Ivf: cells whose centroid's key is below this share of the best centroid's are not visited, 0 to 1.
    pub ratio_threshold: Option<f64>,
    /// Ivf with codes: rows that a query refines at most, `k` or more.
    pub reorder_k: Option<i64>,
}

impl Default for SearchParams<'_> {
    fn default() -> Self {
        SearchParams {
            queries_name: "queries",
            k: 10,
            method: Method::Auto,
            metric: None,
            filter: None,
            bound: None,
            threads: None,
            recall: None,
            nprobe: None,
            ratio_threshold: None,
            reorder_k: None,
        }
    }
}

/// Rows that answer nearest-neighbour queries: one generation of an index, which never changes.
#[derive(Debug)]
pub struct Index {
    pub(crate) about: IndexRecord,
    pub(crate) ids: IdRecord,
    pub(crate) segments: Vec<Segment>,
    pub(crate) quantizer: Option<Quantizer>,
    ann: Option<Arc<ann::TunedAnn>>,
    pub(crate) file: Option<IndexFile>,
    live: OnceLock<Live>,
}

impl Index {
    /// An index of segments that lie in memory.
    pub fn in_memory(about: IndexRecord, segments: Vec<Segment>, quantizer: Option<Quantizer>) -> Self {
        let ids = IdRecord::of(&segments);
        Index { about, ids, segments, quantizer, ann: None, file: None, live: OnceLock::new() }
    }

    /// Another index of the same bytes, which neither changes; it can be tuned apart.
    pub fn copy(&self) -> Self {
        Index { ann: self.ann.as_ref().map(|ann| Arc::new(ann.copy())), ..self.copy_without_ann() }
    }

    /// The same index, to be changed into its next generation.
    pub(crate) fn next(&self) -> Self {
        Index { ann: self.ann.clone(), ..self.copy_without_ann() }
    }

    fn copy_without_ann(&self) -> Self {
        Index {
            about: self.about,
            ids: self.ids,
            segments: self.segments.clone(),
            quantizer: self.quantizer.clone(),
            ann: None,
            file: self.file.clone(),
            live: OnceLock::new(),
        }
    }

    /// Dims, level, metric, unit length and seed.
    pub fn about(&self) -> &IndexRecord {
        &self.about
    }

    /// The quantizer of the codes, if rows have codes.
    pub fn quantizer(&self) -> Option<&Quantizer> {
        self.quantizer.as_ref()
    }

    /// Bytes of rows, norms, scales, codes, the quantizer, and inverted lists or tables.
    pub fn bytes(&self) -> usize {
        let rows = self.segments.iter().flat_map(Segment::sections);
        let quantizer = self.quantizer.iter().map(|quantizer| &quantizer.values);
        let cells = self.ann.iter().map(|ann| ann.ann.payload().len()).sum::<usize>();
        rows.chain(quantizer).map(|section| section.range.len()).sum::<usize>() + cells
    }

    /// The best rows for each query of `queries`, which holds them one after the other,
    /// `query_dims` values each.
    ///
    /// # Errors
    /// Unusable queries or parameters, a file that was cut short meanwhile, no memory,
    /// [`Error::Interrupted`].
    pub fn search(&self, queries: Block, query_dims: usize, params: &SearchParams, watch: &Watch) -> Result<Hits> {
        let _mode = FloatMode::standard();
        let dims = self.about.dims;
        // An index that has had no rows yet knows no dims.
        if dims > 0 && query_dims != dims || !queries.len().is_multiple_of(query_dims.max(1)) {
            return Err(Error::input(params.queries_name, format!("{dims} values each, like the rows"), query_dims));
        }
        let count = queries.len() / query_dims.max(1);
        let k = wanted(params.k)?.min(self.live_rows());
        self.check_file()?;
        let metric = self.metric_of(params)?;
        if params.bound.is_some_and(f64::is_nan) {
            return Err(Error::input(metric.bound_name(), "a number", "NaN"));
        }
        let kernel = kernel_of(params.method)?;
        // Batches filter afterwards: float32 tiles assume thresholds that are keys of rows.
        let threshold = params.bound.filter(|_| count == 1).map_or(f64::NEG_INFINITY, |bound| metric.threshold(bound));
        let (threads, quantizer, unit) = (pool::thread_count(params.threads)?, self.quantizer.as_ref(), self.about.unit);
        let plan = Plan { metric, k, kernel, method: params.method, threads, quantizer, unit, threshold };
        let runs = self.allowed(params.filter)?;
        if k == 0 {
            return Ok(Hits::none(count, metric));
        }
        let row_bytes = self.views().iter().map(Rows::row_bytes).max().unwrap_or(0) as u64;
        let allowed: u64 = runs.iter().map(|run| run.rows.len() as u64).sum();
        let kept = (k as u64).min(allowed).max(1) * 2 * size_of::<Entry>() as u64 * plan.threads as u64;
        let group = (GROUP_BYTES / kept).clamp(1, GROUP as u64) as usize;
        let effort = self.effort(params, metric, &runs)?;
        let mut hits = Hits::with_capacity(count, (k as u64).min(allowed))?;
        for first in (0..count).step_by(group) {
            let block = queries.slice(first * dims..count.min(first + group) * dims);
            let ready = Queries::new(kernel, self.about.level, block, dims, first as u64);
            let ready = ready.map_err(|error| error.of_argument(params.queries_name))?;
            for (top, exact) in self.find(&plan, &runs, params, effort, &ready, watch)? {
                let (tally, reached) = (top.tally, top.threshold());
                let mut best = top.into_sorted();
                let all = best.len() as u64 == (k as u64).min(allowed);
                if !all && params.bound.is_none() || best.iter().any(|entry| entry.key.is_nan()) {
                    return Err(self.not_numbers());
                }
                hits.certificates.push(Certificate {
                    rows: allowed,
                    bounded: tally.bounded.min(allowed),
                    refined: tally.refined.min(allowed),
                    bytes_read: tally.code_bytes + tally.refined.min(allowed) * row_bytes,
                    kth_key: metric.public_key(best.last().filter(|_| all).map_or(threshold, |entry| entry.key)),
                    best_bound_left: metric.public_key(if !exact {
                        f64::INFINITY
                    } else if effort.is_some() {
                        tally.best_left.max(reached)
                    } else {
                        tally.best_left
                    }),
                    exact,
                });
                if let Some(bound) = params.bound {
                    best.retain(|entry| metric.reaches(entry.key, bound));
                }
                hits.push(metric, &best);
            }
        }
        Ok(hits)
    }

    /// The metric of a search.
    ///
    /// # Errors
    /// [`Error::Input`] for one that the level does not have.
    fn metric_of(&self, params: &SearchParams) -> Result<Metric> {
        Metric::of_level(self.about.level, "similarity", Some(params.metric.unwrap_or(self.about.metric)))
    }
}

/// `k` as a count.
fn wanted(k: i64) -> Result<usize> {
    let count = usize::try_from(k).ok().filter(|&k| k > 0);
    count.ok_or_else(|| Error::input("k", "a whole number of at least 1", k))
}

/// The kernel of a method.
fn kernel_of(method: Method) -> Result<&'static Kernel> {
    match method {
        Method::Auto | Method::Simd => kernel::selected(),
        Method::Scalar => Ok(&kernel::scalar::KERNEL),
    }
}
