//! An inverted file: rows by the cell of the nearest centroid, of which a query visits those whose centroids
//! are nearest to it (Sivic and Zisserman, ICCV 2003).
//!
//! Cells only name candidates. Their centroids are a small table of rows, ranked by their codes; the rows of
//! the cells visited are bounded by copies of their codes, with margins that nearly all rows keep within, and
//! refined in float64. The answer is the same on every CPU, in any batch and for any number of threads. It is the
//! best of all rows, and said to be, where the least key of each cell's rows to its centroid proves that no other
//! cell has a better one, and whole margins that no other row of the cells visited is.

mod batch;
mod build;
mod coarse;
mod exactness;
mod search;
mod soar;

pub use build::{Cluster, build};
pub use coarse::Nprobe;

use crate::error::Result;
use crate::format::CellRecord;
use crate::level::Level;
use crate::metric::Metric;
use crate::pool::Watch;
use crate::quantize::rotate::Rotation;
use crate::scan::{Plan, Queries};
use crate::store::Bytes;
use crate::store::codes::CodeSections;
use crate::store::lists::{ListSections, ListedCodes, Lists};
use crate::store::rows::Rows;
use crate::store::section::Section;
use crate::store::segment::{self, Segment};
use coarse::CoarseSearch;
use std::ops::Range;
use std::sync::OnceLock;

/// Rows by cell.
#[derive(Debug, Clone)]
pub struct Ivf {
    record: CellRecord,
    payload: Section,
    centroids: Segment,
    reaches: Section,
    lists: ListSections,
    /// The axes of codes in whole numbers, made when first needed.
    rotation: OnceLock<Rotation>,
}

impl Ivf {
    /// Cells that lie in `bytes` as their record says.
    pub fn new(record: CellRecord, bytes: &Bytes) -> Self {
        let section = |range: &Range<usize>| Section { bytes: bytes.clone(), range: range.clone() };
        let parts = &record.parts;
        let codes = parts.codes.as_ref().map(|codes| CodeSections {
            lines: section(&codes.lines),
            factors: section(&codes.factors),
            remainder: section(&codes.remainder),
        });
        let centroids = Segment {
            rows: record.shape.cells,
            values: section(&parts.centroids),
            norms: section(&parts.norms),
            scales: section(&(0..0)),
            codes,
        };
        let codes = parts.listed.as_ref().map(|[lines, factors]| ListedCodes { lines: section(lines), factors: section(factors) });
        let lists = ListSections { starts: section(&parts.starts), rows: section(&parts.rows), codes };
        Ivf { payload: section(&record.payload), reaches: section(&parts.reaches), centroids, lists, rotation: OnceLock::new(), record }
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.record.shape.cells
    }

    /// Whether rows stand in two cells each.
    pub fn spilled(&self) -> bool {
        self.record.spilled
    }

    /// What rows are nearest to centroids by.
    pub fn metric(&self) -> Metric {
        self.record.metric
    }

    /// All of it, as it lies in a file.
    pub fn payload(&self) -> &[u8] {
        self.payload.view()
    }

    /// The centroids as rows.
    pub fn centroids(&self) -> Rows<'_> {
        segment::rows(self.record.shape.dims, Level::F32, &self.centroids, 0)
    }

    /// The rows of every cell.
    pub fn lists(&self) -> Lists<'_> {
        self.lists.view()
    }

    /// All cells for one query, nearest first, with the keys of their centroids.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn order(&self, plan: &Plan, queries: &Queries, query: usize, watch: &Watch) -> Result<Vec<(f64, u32)>> {
        let plan = Plan { threads: 1, ..*plan };
        let ranking = CoarseSearch::new(self, &plan, queries, watch)?;
        Ok(ranking.nearest(query, ranking.all(), &mut coarse::Scratch::default())?.cells)
    }

    /// How many cells a query visits whose [`Ivf::order`] has these keys.
    pub fn count(&self, count: Nprobe, metric: Metric, norm: f64, order: &[(f64, u32)]) -> usize {
        count.of(order.iter().map(|rank| rank.0), Nprobe::gap_unit(self.rank_metric(metric), norm), self.cells())
    }

    /// What cells are ranked by for queries of a metric.
    pub fn rank_metric(&self, metric: Metric) -> Metric {
        if self.record.metric == Metric::Cosine { Metric::Cosine } else { metric }
    }
}
