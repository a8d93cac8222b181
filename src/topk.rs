//! The best k of a stream of (key, row), in the one order of the crate: larger key first, then smaller row. Keys
//! compare as numbers, so -0 equals +0; a NaN is never kept.
//!
//! A buffer of about 2k entries is cut to k by selection when full: a push costs O(1) amortised for any k, and the
//! threshold rises with each cut. Of rows whose keys equal the threshold, those after the k-th best row are refused.

use crate::error::{Error, Result};
use std::cmp::Ordering;

/// Below this k, a cut costs less than the rows that a stale threshold lets pass.
const CUT_OFTEN_BELOW: usize = 64;

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
    /// Rows after this one whose keys equal the threshold cannot be among the best k.
    last_tie: u64,
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
        Ok(TopK { k, capacity, threshold: f64::NEG_INFINITY, last_tie: u64::MAX, entries, tally })
    }

    /// A lower bound of the k-th best key: rows with lower keys cannot be among the best k, rows with equal keys can.
    #[inline]
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The least key with which `row`, or a row after it, can be among the best k.
    #[inline]
    pub fn least_key(&self, row: u64) -> f64 {
        if row > self.last_tie { self.threshold.next_up() } else { self.threshold }
    }

    /// How many rows are held, at most k.
    pub fn held(&self) -> usize {
        self.entries.len().min(self.k)
    }

    /// Raises the threshold to one that another collector of the same query has reached, or that the caller sets.
    pub fn raise(&mut self, threshold: f64) {
        if threshold > self.threshold {
            (self.threshold, self.last_tie) = (threshold, u64::MAX);
        }
    }

    /// Offers a row. Each row is offered at most once.
    #[inline]
    pub fn push(&mut self, key: f64, row: u64) {
        if self.refuses(key, row) {
            return;
        }
        if self.entries.len() == self.capacity {
            self.cut();
            if self.refuses(key, row) {
                return;
            }
        }
        self.entries.push(Entry { key, row });
    }

    #[inline]
    fn refuses(&self, key: f64, row: u64) -> bool {
        // Written so that NaN is refused.
        !(key > self.threshold || key == self.threshold && row <= self.last_tie)
    }

    /// Drops all but the best k rows and raises the threshold to the k-th best key.
    pub fn cut(&mut self) {
        if self.entries.len() > self.k {
            self.entries.select_nth_unstable_by(self.k - 1, best_first);
            self.entries.truncate(self.k);
        }
        if self.entries.len() == self.k
            && let Some(worst) = self.entries.iter().copied().max_by(best_first)
            && worst.key >= self.threshold
        {
            (self.threshold, self.last_tie) = (worst.key, worst.row);
        }
    }

    /// The same once enough rows have been pushed: a cut costs O(k), which for a large k is cheap only beside as many
    /// pushes.
    pub fn cut_if_due(&mut self) {
        if self.entries.len() >= self.k + self.k / CUT_OFTEN_BELOW * (CUT_OFTEN_BELOW / 4) {
            self.cut();
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

    /// The best `k` of the rows that two collectors of one query hold, which saw `most` rows together, sorted.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn union(k: usize, most: u64, first: TopK, second: TopK) -> Result<Self> {
        let mut best = TopK::new(k, most)?;
        best.merge(first);
        best.merge(second);
        best.sort();
        Ok(best)
    }

    /// Cuts to the best k rows and sorts them, so that [`TopK::into_sorted`] has nothing left to do.
    pub fn sort(&mut self) {
        self.cut();
        let mut ranks: Vec<u128> = self.entries.iter().map(rank).collect();
        ranks.sort_unstable();
        self.entries.iter_mut().zip(ranks).for_each(|(entry, rank)| *entry = ranked(rank));
    }

    /// The best k rows, best first.
    pub fn into_sorted(mut self) -> Vec<Entry> {
        if !self.entries.is_sorted_by(|a, b| best_first(a, b).is_lt()) || self.entries.len() > self.k {
            self.sort();
        }
        self.entries
    }
}

/// A number that is the smaller the better the entry: numbers are sorted without branches. The lowest bit holds the
/// sign of a zero, which the order ignores.
fn rank(entry: &Entry) -> u128 {
    let negative_zero = entry.key == 0.0 && entry.key.is_sign_negative();
    let bits = (entry.key + 0.0).to_bits();
    let ascending = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    u128::from(!ascending) << 64 | u128::from(entry.row << 1) | u128::from(negative_zero)
}

/// The entry of a rank.
fn ranked(rank: u128) -> Entry {
    let ascending = !((rank >> 64) as u64);
    let key = f64::from_bits(if ascending >> 63 == 1 { ascending & !(1 << 63) } else { !ascending });
    Entry { key: if rank & 1 == 1 { -0.0 } else { key }, row: rank as u64 >> 1 }
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
    fn sorting_keeps_the_bits_of_keys() {
        let pushed = [(-0.0, 4), (0.0, 2), (1e-320, 9), (-1e-320, 1), (f64::INFINITY, 3), (f64::NEG_INFINITY, 8), (-2.5, 7), (2.5, 6)];
        let found: Vec<(u64, u64)> = best(8, &pushed).iter().map(|entry| (entry.0.to_bits(), entry.1)).collect();
        let order = [4, 7, 2, 1, 0, 3, 6, 5].map(|i: usize| (pushed[i].0.to_bits(), pushed[i].1));
        assert_eq!(found, order);
    }

    #[test]
    fn ties_after_the_kth_row_are_refused_and_ties_before_it_kept() {
        let mut top = TopK::new(2, 100).unwrap();
        [5, 6].into_iter().for_each(|row| top.push(1.0, row));
        top.cut();
        (7..50).for_each(|row| top.push(1.0, row));
        assert_eq!(top.entries.len(), 2);
        top.push(1.0, 3);
        assert_eq!(top.into_sorted().iter().map(|entry| entry.row).collect::<Vec<_>>(), [3, 5]);
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
