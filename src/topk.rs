//! The best k of a stream of (key, row), in the one order of the crate: larger key first, then smaller row. Keys
//! compare as numbers, so -0 equals +0; a NaN is never kept.
//!
//! A buffer of about 2k entries is cut to k by selection when full: a push costs O(1) amortised for any k, and the
//! threshold rises with each cut.

use crate::error::{Error, Result};
use std::cmp::Ordering;

/// One kept row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Internal key: larger is better.
    pub key: f64,
    /// Row number in the whole index.
    pub row: u64,
}

/// The cost of a query's search, and its proof.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tally {
    /// Rows read in full.
    pub refined: u64,
    /// Rows that got a full bound, from all of their codes.
    pub bounded: u64,
    /// Bytes of codes read.
    pub code_bytes: u64,
    /// An upper bound of the keys of all rows that were not read in full.
    pub best_left: f64,
}

/// The order of hits: larger key first, then smaller row.
pub fn best_first(a: &Entry, b: &Entry) -> Ordering {
    b.key.partial_cmp(&a.key).unwrap_or(Ordering::Equal).then(a.row.cmp(&b.row))
}

/// Collects the best `k` entries.
#[derive(Debug)]
pub struct TopK {
    k: usize,
    capacity: usize,
    threshold: f64,
    entries: Vec<Entry>,
    /// Counted by the scan that offers the rows.
    pub tally: Tally,
}

impl TopK {
    /// An empty collector of the best `k` of at most `most` pushes, or [`Error::Memory`]; `k` is at least 1.
    pub fn new(k: usize, most: u64) -> Result<Self> {
        let k = (k as u64).min(most).max(1) as usize;
        let capacity = (2 * k).max(32).min(most.max(1) as usize);
        let mut entries = Vec::new();
        let bytes = (capacity * size_of::<Entry>()) as u64;
        entries.try_reserve_exact(capacity).map_err(|_| Error::Memory { bytes, purpose: "the best rows" })?;
        let tally = Tally { refined: 0, bounded: 0, code_bytes: 0, best_left: f64::NEG_INFINITY };
        Ok(TopK { k, capacity, threshold: f64::NEG_INFINITY, entries, tally })
    }

    /// A lower bound of the k-th best key: rows with lower keys cannot be among the best k, rows with equal keys can.
    #[inline]
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// How many rows are held, at most k.
    pub fn held(&self) -> usize {
        self.entries.len().min(self.k)
    }

    /// Raises the threshold to one that another collector of the same query has reached, or that the caller sets.
    pub fn raise(&mut self, threshold: f64) {
        self.threshold = self.threshold.max(threshold);
    }

    /// Offers a row. Each row is offered at most once.
    #[inline]
    pub fn push(&mut self, key: f64, row: u64) {
        if key >= self.threshold {
            if self.entries.len() == self.capacity {
                self.cut();
                if key < self.threshold {
                    return;
                }
            }
            self.entries.push(Entry { key, row });
        }
    }

    /// Drops all but the best k rows and raises the threshold to the k-th best key.
    pub fn cut(&mut self) {
        if self.entries.len() >= self.k {
            if self.entries.len() > self.k {
                self.entries.select_nth_unstable_by(self.k - 1, best_first);
                self.entries.truncate(self.k);
            }
            let worst = self.entries.iter().fold(f64::INFINITY, |low, entry| low.min(entry.key));
            self.threshold = self.threshold.max(worst);
        }
    }

    /// The rows held and the tally, for [`TopK::restore`].
    pub fn snapshot(&self) -> (Vec<Entry>, Tally) {
        (self.entries.clone(), self.tally)
    }

    /// Removes the rows pushed since a [`TopK::snapshot`], so that they can be read and pushed again. The threshold
    /// stays, and so do the counts of codes, which have been read.
    pub fn restore(&mut self, (entries, tally): (Vec<Entry>, Tally)) {
        self.entries = entries;
        (self.tally.refined, self.tally.best_left) = (tally.refined, tally.best_left);
    }

    /// Adds the rows and the tally of another collector of the same query.
    pub fn merge(&mut self, other: TopK) {
        for entry in other.entries {
            self.push(entry.key, entry.row);
        }
        let (own, other) = (&mut self.tally, other.tally);
        own.refined += other.refined;
        own.bounded += other.bounded;
        own.code_bytes += other.code_bytes;
        own.best_left = own.best_left.max(other.best_left);
    }

    /// The best k rows, best first.
    pub fn into_sorted(mut self) -> Vec<Entry> {
        self.cut();
        self.entries.sort_unstable_by(best_first);
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn best(k: usize, pushed: &[(f64, u64)]) -> Vec<(f64, u64)> {
        let mut top = TopK::new(k, pushed.len() as u64).unwrap();
        pushed.iter().for_each(|&(key, row)| top.push(key, row));
        top.into_sorted().into_iter().map(|e| (e.key, e.row)).collect()
    }

    #[test]
    fn equal_keys_are_ordered_by_row_and_zeros_are_equal() {
        assert_eq!(best(2, &[(0.0, 7), (-0.0, 3), (0.0, 5)]).iter().map(|e| e.1).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn a_nan_is_never_kept() {
        assert_eq!(best(2, &[(f64::NAN, 0), (1.0, 1)]), [(1.0, 1)]);
    }

    proptest! {
        #[test]
        fn keeps_what_a_full_sort_keeps(keys in prop::collection::vec(-4i32..4, 1..300), k in 1usize..400) {
            let pushed: Vec<(f64, u64)> = keys.iter().enumerate().map(|(row, &key)| (f64::from(key), row as u64)).collect();
            let mut sorted = pushed.clone();
            sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            sorted.truncate(k);
            prop_assert_eq!(best(k, &pushed), sorted);
        }
    }
}
