//! Approximate search: an index selects candidate rows, which are scored exactly.
//!
//! [`ivf`] visits the inverted lists of the cells nearest to a query, [`lsh`] the buckets that most probably hold its
//! neighbours. [`tune`] measures how many cells or buckets must be visited for a recall, with the queries of [`sample`], and
//! [`effort`] chooses the number.

pub mod effort;
pub mod ivf;
pub mod lsh;
pub mod sample;
pub mod tune;

use crate::error::Result;
use crate::format::Kind;
use crate::pool::Watch;
use crate::scan::lists::Mask;
use crate::scan::{self, Plan, Queries, Run};
use crate::store::rows::Rows;
use crate::topk::TopK;
use ivf::{Adapt, Ivf};
use lsh::Lsh;

/// An index for approximate search.
#[derive(Debug, Clone)]
pub enum Ann {
    /// An inverted file.
    Ivf(Ivf),
    /// Locality-sensitive hashing.
    Lsh(Lsh),
}

/// The arguments of an approximate search.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Metric, k, kernel and threads; the quantizer, if rows have codes.
    pub plan: &'a Plan<'a>,
    /// All rows of the index.
    pub segments: &'a [Rows<'a>],
    /// The queries.
    pub queries: &'a Queries,
    /// Cells or buckets to visit, at least 1; of cells, on average where they are adapted.
    pub nprobe: usize,
    /// See [`Nprobe`](ivf::Nprobe).
    pub adapt: Option<Adapt>,
    /// Skip cells whose centroid's key is below this share of the best one's, from 0 to 1.
    pub ratio: Option<f64>,
    /// The most rows that a query reads in full, those with the highest bounds; `None`: every row whose bound reaches
    /// the threshold.
    pub reorder: Option<usize>,
    /// The rows that a filter allows, and their number; `None`: all.
    pub mask: Option<(&'a Mask, u64)>,
    /// List entries of allowed rows that `nprobe` cells hold on average. Where the nearest cells hold far fewer, because
    /// the filter excludes rows near the query, more cells are visited.
    pub expected_entries: f64,
}

/// The result for one query.
#[derive(Debug)]
pub struct Found {
    /// The best rows found.
    pub top: TopK,
    /// Whether they are proven to be the best of all rows.
    pub exact: bool,
}

impl Ann {
    /// The best rows visited for every query; more cells or buckets are visited while fewer than k rows are found.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn search(&self, request: &Request, watch: &Watch) -> Result<Vec<Found>> {
        match self {
            Ann::Ivf(ivf) => ivf.search(request, watch),
            Ann::Lsh(lsh) => lsh.search(request, watch),
        }
    }

    /// The inverted file, if it is one.
    pub fn cells(&self) -> Option<&Ivf> {
        match self {
            Ann::Ivf(ivf) => Some(ivf),
            Ann::Lsh(_) => None,
        }
    }

    /// The number of cells or buckets.
    pub fn max_probes(&self) -> usize {
        match self {
            Ann::Ivf(ivf) => ivf.cells(),
            Ann::Lsh(lsh) => lsh.buckets(),
        }
    }

    /// The kind of index as a file names it.
    pub fn kind(&self) -> Kind {
        match self {
            Ann::Ivf(_) => Kind::Cells,
            Ann::Lsh(_) => Kind::Buckets,
        }
    }

    /// The whole index, as it lies in a file.
    pub fn payload(&self) -> &[u8] {
        match self {
            Ann::Ivf(ivf) => ivf.payload(),
            Ann::Lsh(lsh) => lsh.payload(),
        }
    }
}

impl Request<'_> {
    /// The number of rows that may be found.
    fn allowed(&self) -> u64 {
        self.mask.map_or_else(|| self.segments.iter().map(|rows| rows.len() as u64).sum(), |mask| mask.1)
    }

    /// The best of some candidate rows, ascending, for one query: exact keys of all of them.
    fn score(&self, query: usize, rows: &[u32], watch: &Watch) -> Result<TopK> {
        let sizes: Vec<usize> = self.segments.iter().map(Rows::len).collect();
        let runs = Run::of(&sizes, rows.iter().map(|&row| row as usize))?;
        let plan = Plan { threads: 1, ..*self.plan };
        Ok(scan::search(&plan, self.segments, &runs, &self.queries.only(query)?, watch)?.swap_remove(0))
    }
}
