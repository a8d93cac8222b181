//! An inverted file (Sivic and Zisserman, ICCV 2003): every row is in the list of its nearest centroid's cell, and a
//! query visits the lists of the cells whose centroids are nearest to it.
//!
//! A search ranks cells by the codes of their centroids (`coarse`), bounds the rows of the first cells by copies of their
//! codes in list order (`batch`, [`crate::scan::lists`]), with bounds that hold with high probability, and refines the
//! candidates in float64. The answer is the same on every CPU, in any batch and for any number of threads. `exactness`
//! proves some answers to be the best of all rows: by the least key of each cell's rows to its centroid for the cells
//! not visited, and by bounds that always hold for the others.

mod batch;
mod build;
mod coarse;
mod exactness;
mod search;
mod soar;

pub use build::{IvfParams, build, default_cells, work};
pub use coarse::{Adapt, Nprobe};

use crate::error::Result;
use crate::format::CellRecord;
use crate::level::Level;
use crate::metric::Metric;
use crate::pool::Watch;
use crate::quantize::rotate::Rotation;
use crate::scan::{Plan, Queries};
use crate::store::Bytes;
use crate::store::codes::CodeSections;
use crate::store::deleted::Deleted;
use crate::store::ids::Ids;
use crate::store::lists::{ListCodeSections, ListSections, Lists};
use crate::store::rows::Rows;
use crate::store::section::Section;
use crate::store::segment::{self, Segment};
use coarse::CoarseSearch;
use std::ops::Range;
use std::sync::OnceLock;

/// An inverted file over rows that it does not hold.
#[derive(Debug, Clone)]
pub struct Ivf {
    record: CellRecord,
    payload: Section,
    centroids: Box<Segment>,
    /// The least key of each cell's rows to its centroid, float64; infinite for a cell without rows.
    min_keys: Section,
    lists: ListSections,
    /// The quantizer's rotation, made by the first search.
    rotation: OnceLock<Rotation>,
}

impl Ivf {
    /// The index that lies in `bytes` as `record` says.
    pub fn new(record: CellRecord, bytes: &Bytes) -> Self {
        let section = |range: &Range<usize>| Section { bytes: bytes.clone(), range: range.clone() };
        let parts = &record.parts;
        let codes = parts.codes.as_ref().map(|codes| CodeSections {
            lines: section(&codes.lines),
            factors: section(&codes.factors),
            remainder: section(&codes.remainder),
        });
        let centroids = Box::new(Segment {
            rows: record.shape.cells,
            values: section(&parts.centroids),
            norms: section(&parts.norms),
            scales: section(&(0..0)),
            codes,
            ids: Ids::Consecutive(0),
            deleted: Deleted::default(),
        });
        let codes = parts.listed.as_ref().map(|[lines, factors]| ListCodeSections { lines: section(lines), factors: section(factors) });
        let lists = ListSections { starts: section(&parts.starts), rows: section(&parts.rows), codes };
        Ivf { payload: section(&record.payload), min_keys: section(&parts.reaches), centroids, lists, rotation: OnceLock::new(), record }
    }

    /// The number of cells.
    pub fn cells(&self) -> usize {
        self.record.shape.cells
    }

    /// Whether every row is in two cells (SOAR).
    pub fn spilled(&self) -> bool {
        self.record.spilled
    }

    /// The metric by which rows are assigned to centroids.
    pub fn metric(&self) -> Metric {
        self.record.metric
    }

    /// The whole index, as it lies in a file.
    pub fn payload(&self) -> &[u8] {
        self.payload.view()
    }

    /// The centroids as rows.
    pub fn centroids(&self) -> Rows<'_> {
        segment::rows(self.record.shape.dims, Level::F32, &self.centroids, 0)
    }

    /// The inverted lists.
    pub fn lists(&self) -> Lists<'_> {
        self.lists.view()
    }

    /// All cells for one query as (key of the centroid, cell), nearest first.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn order(&self, plan: &Plan, queries: &Queries, query: usize, watch: &Watch) -> Result<Vec<(f64, u32)>> {
        let plan = Plan { threads: 1, ..*plan };
        let coarse = CoarseSearch::new(self, &plan, queries, watch)?;
        Ok(coarse.nearest(query, coarse.all(), &mut coarse::Scratch::default())?.cells)
    }

    /// How many cells a query of this norm visits, given its [`Ivf::order`].
    pub fn count(&self, nprobe: Nprobe, metric: Metric, norm: f64, order: &[(f64, u32)]) -> usize {
        nprobe.resolve(order.iter().map(|cell| cell.0), self.rank_metric(metric), norm, self.cells())
    }

    /// The metric by which cells are ranked for queries of `metric`.
    pub fn rank_metric(&self, metric: Metric) -> Metric {
        if self.record.metric == Metric::Cosine { Metric::Cosine } else { metric }
    }
}
