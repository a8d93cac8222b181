//! Ways to visit few rows: cells around centroids, and buckets of rows that lie on the same sides of
//! hyperplanes.
//!
//! [`kmeans`] finds centroids of all rows at once (Lloyd), [`minibatch`] of one batch after the other;
//! [`cells`] names the nearest of them, which is the same cell on every CPU and for any number of
//! threads. [`points`] are the rows that all of them work on. [`ivf`] is an index of cells.
//!
//! [`lsh`] makes [`tables`] of buckets of rows for cosine, [`hashing`] says which bucket a vector is in, and
//! [`probing`] which buckets a query looks into first; [`buckets`] is an index of them; [`choice`] says how many
//! tables of how many bits cost least.
//!
//! Either names candidates, all of which are scored exactly; [`tune`] measures how many a recall takes.

pub mod buckets;
pub mod cells;
pub mod choice;
mod frame;
mod gather;
pub mod hashing;
pub mod ivf;
pub mod kmeans;
pub mod lsh;
pub mod minibatch;
pub mod points;
mod principal;
pub mod probing;
mod seeding;
mod spread;
pub mod tables;
mod tile;
pub mod tune;

use crate::error::Result;
use crate::format::Kind;
use crate::pool::Watch;
use crate::scan::listed::Mask;
use crate::scan::{Plan, Queries};
use crate::store::rows::Rows;
use crate::topk::TopK;
use buckets::Buckets;
use ivf::Ivf;

/// How few rows are visited.
#[derive(Debug, Clone)]
pub enum Few {
    /// Those in the cells nearest to the query.
    Cells(Ivf),
    /// Those in the likeliest buckets.
    Buckets(Buckets),
}

/// What an approximate search is told.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What is wanted; the coder, if rows have codes.
    pub plan: &'a Plan<'a>,
    /// All rows.
    pub segments: &'a [Rows<'a>],
    /// Who asks.
    pub queries: &'a Queries,
    /// Cells or buckets to visit, 1 or more; of cells, on average where there is a `gap`.
    pub probes: usize,
    /// See [`Count`](ivf::Count).
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

impl Few {
    /// The best of the rows visited for every query. Where these are fewer than are asked for, more are visited.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn search(&self, asked: &Asked, watch: &Watch) -> Result<Vec<Found>> {
        match self {
            Few::Cells(ivf) => ivf.search(asked, watch),
            Few::Buckets(buckets) => buckets.search(asked, watch),
        }
    }

    /// The cells, if it is cells.
    pub fn cells(&self) -> Option<&Ivf> {
        match self {
            Few::Cells(ivf) => Some(ivf),
            Few::Buckets(_) => None,
        }
    }

    /// Cells or buckets that there are to visit.
    pub fn most(&self) -> usize {
        match self {
            Few::Cells(ivf) => ivf.cells(),
            Few::Buckets(buckets) => buckets.most(),
        }
    }

    /// What it is in a file.
    pub fn kind(&self) -> Kind {
        match self {
            Few::Cells(_) => Kind::Cells,
            Few::Buckets(_) => Kind::Buckets,
        }
    }

    /// What users call the number of cells or buckets to visit.
    pub fn argument(&self) -> &'static str {
        match self {
            Few::Cells(_) => "nprobe",
            Few::Buckets(_) => "probes",
        }
    }

    /// All of it, as it lies in a file.
    pub fn payload(&self) -> &[u8] {
        match self {
            Few::Cells(ivf) => ivf.payload(),
            Few::Buckets(buckets) => buckets.payload(),
        }
    }
}

impl Asked<'_> {
    /// Rows that may be found.
    fn allowed(&self) -> u64 {
        self.mask.map_or_else(|| self.segments.iter().map(|rows| rows.len() as u64).sum(), |mask| mask.1)
    }
}
