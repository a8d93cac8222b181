//! The answer of a search: the best rows of every query, best first.

use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::topk::Entry;

/// `queries` times `per_query` hits, query after query.
#[derive(Debug, Default)]
pub struct Hits {
    /// Hits of one query: min(k, allowed rows), or fewer when a bound cut them.
    pub per_query: usize,
    /// Row numbers.
    pub rows: Vec<i64>,
    /// float32 of the key; euclidean: of its square root, the distance.
    pub scores: Vec<f32>,
    /// The float64 keys that ranked the rows; euclidean: squared distances.
    pub keys: Vec<f64>,
    /// What shows that they are the best, a query each.
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
    /// Room for the hits of `queries` queries.
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

    /// Appends the hits of one query.
    pub fn push(&mut self, metric: Metric, best: &[Entry]) {
        self.per_query = best.len();
        for entry in best {
            self.rows.push(entry.row as i64);
            self.scores.push(metric.score(entry.key));
            self.keys.push(metric.public_key(entry.key));
        }
    }
}
