//! The answer of a search: the best rows of every query, best first, and the proof that they are.

use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::topk::Entry;

/// The hits of all queries: `per_query` each, query after query.
#[derive(Debug, Default)]
pub struct Hits {
    /// Hits of one query: min(k, allowed rows), or fewer where the caller bounds scores.
    pub per_query: usize,
    /// Row numbers.
    pub rows: Vec<i64>,
    /// Scores in float32: the keys; euclidean: their square roots, distances.
    pub scores: Vec<f32>,
    /// The float64 keys that ranked the rows; euclidean: squared distances.
    pub keys: Vec<f64>,
    /// The proof that the hits are the best, one for each query.
    pub certificates: Vec<Certificate>,
}

/// What shows that the rows found are the best: every row that was not read in full has an upper bound of its key that
/// does not pass the k-th best key.
#[derive(Debug, Clone, Copy)]
pub struct Certificate {
    /// Candidates: all rows, or those that a filter allows.
    pub rows: u64,
    /// Rows whose full bound, from all dims of their code, was computed.
    pub bounded: u64,
    /// Rows read in full and scored.
    pub refined: u64,
    /// Bytes of codes and rows that the query read, as if it had been alone.
    pub bytes_read: u64,
    /// Key of the k-th best row, as users see keys; where fewer reach a limit, the key of that limit.
    pub kth_key: f64,
    /// The best of the bounds of the rows that were not refined, as users see keys; infinite if `exact` is false.
    pub best_bound_left: f64,
    /// Whether the rows are proven to be the best of all candidates; else they are the best of those visited.
    pub exact: bool,
}

impl Hits {
    /// Empty hits with memory for `queries` queries, or [`Error::Memory`].
    pub fn with_capacity(queries: usize, per_query: u64) -> Result<Self> {
        let mut hits = Hits { per_query: per_query as usize, ..Hits::default() };
        let count = per_query.saturating_mul(queries as u64);
        let memory = |_| Error::Memory { bytes: count.saturating_mul(20), purpose: "the hits" };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        hits.rows.try_reserve_exact(count).map_err(memory)?;
        hits.scores.try_reserve_exact(count).map_err(memory)?;
        hits.keys.try_reserve_exact(count).map_err(memory)?;
        Ok(hits)
    }

    /// The hits of `queries` queries of an index without rows.
    pub fn none(queries: usize, metric: Metric) -> Self {
        let key = metric.public_key(f64::NEG_INFINITY);
        let nothing = Certificate { rows: 0, bounded: 0, refined: 0, bytes_read: 0, kth_key: key, best_bound_left: key, exact: true };
        Hits { certificates: vec![nothing; queries], ..Hits::default() }
    }

    /// Appends the hits of one query, best first.
    pub fn push(&mut self, metric: Metric, best: &[Entry]) {
        self.per_query = best.len();
        for entry in best {
            self.rows.push(entry.row as i64);
            self.scores.push(metric.score(entry.key));
            self.keys.push(metric.public_key(entry.key));
        }
    }
}
