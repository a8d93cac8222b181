//! Approximate search: which few rows are worth visiting.
//!
//! [`ivf`] visits the inverted lists of the cells nearest to a query, [`lsh`] the buckets that a query most likely
//! shares with its neighbours. Either names candidates, all of which are scored exactly; [`tune`] measures how many
//! cells or buckets a recall takes.

pub mod ivf;
pub mod lsh;
pub mod tune;

use crate::error::Result;
use crate::format::Kind;
use crate::pool::Watch;
use crate::scan::lists::Mask;
use crate::scan::{Plan, Queries};
use crate::store::rows::Rows;
use crate::topk::TopK;
use ivf::Ivf;
use lsh::Lsh;

/// How few rows are visited.
#[derive(Debug, Clone)]
pub enum Ann {
    /// Those in the cells nearest to the query.
    Ivf(Ivf),
    /// Those in the likeliest buckets.
    Lsh(Lsh),
}

/// What an approximate search is told.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is wanted; the coder, if rows have codes.
    pub plan: &'a Plan<'a>,
    /// All rows.
    pub segments: &'a [Rows<'a>],
    /// Who asks.
    pub queries: &'a Queries,
    /// Cells or buckets to visit, 1 or more; of cells, on average where there is a `gap`.
    pub probes: usize,
    /// See [`Nprobe`](ivf::Count).
    pub gap: Option<f64>,
    /// Cells whose centroid's key is below this part of the best one's are left out.
    pub ratio: Option<f64>,
    /// Rows at most that a query reads in full, the best by their codes; `None`: all that codes leave undecided.
    pub reorder: Option<usize>,
    /// Which rows may be found, and how many; `None`: all.
    pub mask: Option<(&'a Mask, u64)>,
    /// Of rows that may be found, the least to visit, as often as they are listed: where a filter goes against the
    /// query, the nearest cells hold fewer of them than others do.
    pub least: f64,
}

/// The best rows found for a query.
#[derive(Debug)]
pub struct Found {
    /// The rows.
    pub top: TopK,
    /// Whether no other row can be among the best.
    pub exact: bool,
}

impl Ann {
    /// The best of the rows visited for every query. Where these are fewer than are asked for, more are visited.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn search(&self, request: &Request, watch: &Watch) -> Result<Vec<Found>> {
        match self {
            Ann::Ivf(ivf) => ivf.search(request, watch),
            Ann::Lsh(buckets) => buckets.search(request, watch),
        }
    }

    /// The cells, if it is cells.
    pub fn cells(&self) -> Option<&Ivf> {
        match self {
            Ann::Ivf(ivf) => Some(ivf),
            Ann::Lsh(_) => None,
        }
    }

    /// Cells or buckets that there are to visit.
    pub fn most(&self) -> usize {
        match self {
            Ann::Ivf(ivf) => ivf.cells(),
            Ann::Lsh(buckets) => buckets.most(),
        }
    }

    /// What it is in a file.
    pub fn kind(&self) -> Kind {
        match self {
            Ann::Ivf(_) => Kind::Cells,
            Ann::Lsh(_) => Kind::Buckets,
        }
    }

    /// All of it, as it lies in a file.
    pub fn payload(&self) -> &[u8] {
        match self {
            Ann::Ivf(ivf) => ivf.payload(),
            Ann::Lsh(buckets) => buckets.payload(),
        }
    }
}

impl Request<'_> {
    /// Rows that may be found.
    fn allowed(&self) -> u64 {
        self.mask.map_or_else(|| self.segments.iter().map(|rows| rows.len() as u64).sum(), |mask| mask.1)
    }
}
