//! The probing sequence of a query: the buckets of all tables, by falling probability to hold a given neighbour.
//!
//! A neighbour's projection is modelled as the query's, scaled by their cosine, plus normal noise, so a bit flips with a probability that falls
//! with its margin, the query's distance from the hyperplane. With bits independent, a bucket's probability is that of
//! the query's own bucket times the odds of every flipped bit. Its score is minus the logarithm. Perturbation sets are
//! generated as by Lv and others (Multi-probe LSH, VLDB 2007, section 4.4), whose score is a sum of squared margins;
//! with probabilities, the scores of different tables are comparable.
//!
//! Scores are integers, so the order is the same on every CPU: by score, then table, then perturbation set.

use super::hash::{Hasher, MAX_BITS, MAX_TABLES};
use crate::kernel::FloatMode;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// sqrt(1 - c^2) / c for a neighbour's cosine c of 0.64 between centred vectors: noise by scale, in standard deviations of
/// the rows' projections. On embeddings, 0.7 to 1.2 perform alike.
const NOISE: f64 = 1.2;
/// Scores are natural logarithms times this.
const UNIT: f64 = 65_536.0;
/// Log odds are clamped to this, so that a score, a table and a perturbation set fit in 64 bits.
const MAX_LOG_ODDS: f64 = 4096.0;
const TABLE_SHIFT: u32 = MAX_BITS as u32;
const SCORE_SHIFT: u32 = TABLE_SHIFT + MAX_TABLES.ilog2();
const _: () = assert!((MAX_BITS as u64 + 1) * (MAX_LOG_ODDS as u64) < 1 << (64 - SCORE_SHIFT - 16));

/// A query's bucket in each table, and the log odds of its bits.
#[derive(Debug, Clone)]
pub struct QueryHash {
    bits: usize,
    buckets: Vec<u32>,
    /// The score of the query's own bucket of each table.
    scores: Vec<u64>,
    /// The bits of each table, ascending by cost.
    order: Vec<u8>,
    /// Their costs: what flipping each adds to the score.
    costs: Vec<u64>,
}

/// One entry of the probing sequence: a table, and the perturbation set of bits that are flipped in the query's own
/// bucket. Ordered by score. In 64 bits, from the top: score, table, set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Perturbation(u64);

impl Perturbation {
    /// Minus the natural logarithm of the bucket's probability, times 65,536.
    pub fn score(self) -> u64 {
        self.0 >> SCORE_SHIFT
    }

    /// The table.
    pub fn table(self) -> usize {
        (self.0 >> TABLE_SHIFT) as usize % MAX_TABLES
    }

    /// The Hamming distance from the query's own bucket.
    pub fn distance(self) -> u32 {
        self.flipped().count_ones()
    }

    /// The perturbation set: bit i is the bit of the i-th lowest cost.
    fn flipped(self) -> u32 {
        self.0 as u32 & ((1 << MAX_BITS) - 1)
    }

    fn new(score: u64, table: usize, flipped: u32) -> Self {
        Perturbation(score << SCORE_SHIFT | (table as u64) << TABLE_SHIFT | u64::from(flipped))
    }
}

impl QueryHash {
    /// Hashes a vector of `hasher.dims()` values and this norm.
    pub fn new(hasher: &Hasher, vector: &[f64], norm: f64) -> Self {
        let _mode = FloatMode::standard();
        let (bits, projections) = (hasher.params().bits, hasher.projections(vector, norm));
        let tables = hasher.params().tables;
        let mut query_hash = QueryHash {
            bits,
            buckets: Vec::with_capacity(tables),
            scores: Vec::with_capacity(tables),
            order: Vec::with_capacity(tables * bits),
            costs: Vec::with_capacity(tables * bits),
        };
        for (margins, spreads) in projections.chunks_exact(bits).zip(hasher.spreads().chunks_exact(bits)) {
            let bucket = margins.iter().enumerate().map(|(bit, &margin)| u32::from(margin > 0.0) << bit);
            query_hash.buckets.push(bucket.sum());
            let mut costs = [(0u64, 0u8); MAX_BITS];
            let mut own_score = 0.0;
            for (bit, (&margin, &spread)) in margins.iter().zip(spreads).enumerate() {
                let odds = log_odds(f64::from(margin), f64::from(spread));
                own_score += neg_log_probability(odds);
                costs[bit] = ((odds * UNIT) as u64, bit as u8);
            }
            costs[..bits].sort_unstable();
            query_hash.scores.push((own_score * UNIT) as u64);
            query_hash.order.extend(costs[..bits].iter().map(|&(_, bit)| bit));
            query_hash.costs.extend(costs[..bits].iter().map(|&(cost, _)| cost));
        }
        query_hash
    }

    /// The query's own bucket of each table.
    pub fn buckets(&self) -> &[u32] {
        &self.buckets
    }

    /// The score of the query's own bucket of a table, and the table's bits with their costs.
    pub(crate) fn costs(&self, table: usize) -> (u64, impl Iterator<Item = (usize, u64)>) {
        let bits = table * self.bits..(table + 1) * self.bits;
        let costs = self.order[bits.clone()].iter().zip(&self.costs[bits]).map(|(&bit, &cost)| (usize::from(bit), cost));
        (self.scores[table], costs)
    }

    /// The bucket of an entry of the probing sequence.
    pub fn bucket(&self, perturbation: Perturbation) -> u32 {
        let order = &self.order[perturbation.table() * self.bits..];
        let mut left = perturbation.flipped();
        let mut bucket = self.buckets[perturbation.table()];
        while left != 0 {
            bucket ^= 1 << order[left.trailing_zeros() as usize];
            left &= left - 1;
        }
        bucket
    }

    /// The entry of the probing sequence of a bucket of a table.
    pub fn perturbation(&self, table: usize, bucket: u32) -> Perturbation {
        let flipped_bits = self.buckets[table] ^ bucket;
        let from = table * self.bits;
        let (mut score, mut flipped) = (self.scores[table], 0);
        for (i, (&bit, &cost)) in self.order[from..from + self.bits].iter().zip(&self.costs[from..]).enumerate() {
            if flipped_bits >> bit & 1 == 1 {
                score += cost;
                flipped |= 1 << i;
            }
        }
        Perturbation::new(score, table, flipped)
    }

    /// All buckets of all tables by ascending score; `heap` is scratch memory.
    pub fn probing_sequence<'a>(&'a self, heap: &'a mut Heap) -> ProbingSequence<'a> {
        heap.0.clear();
        heap.0.extend((0..self.scores.len()).map(|table| Reverse(Perturbation::new(self.scores[table], table, 0))));
        ProbingSequence { query_hash: self, heap: &mut heap.0 }
    }
}

/// Scratch memory of a [`ProbingSequence`]: the entries generated and not yet returned.
#[derive(Debug, Default)]
pub struct Heap(BinaryHeap<Reverse<Perturbation>>);

/// See [`QueryHash::probing_sequence`].
#[derive(Debug)]
pub struct ProbingSequence<'a> {
    query_hash: &'a QueryHash,
    heap: &'a mut BinaryHeap<Reverse<Perturbation>>,
}

impl Iterator for ProbingSequence<'_> {
    type Item = Perturbation;

    /// The shift and expand operations of Lv and others generate every set once from another: move its last bit to the
    /// next one, or add the next one. Neither lowers the score or the number of the set, so the sequence ascends.
    fn next(&mut self) -> Option<Perturbation> {
        let mut top = self.heap.peek_mut()?;
        let perturbation = top.0;
        let (table, flipped) = (perturbation.table(), perturbation.flipped());
        let costs = &self.query_hash.costs[table * self.query_hash.bits..(table + 1) * self.query_hash.bits];
        let next = (u32::BITS - flipped.leading_zeros()) as usize;
        let Some(&cost) = costs.get(next) else {
            PeekMut::pop(top);
            return Some(perturbation);
        };
        let expanded = Perturbation::new(perturbation.score() + cost, table, flipped | 1 << next);
        if next == 0 {
            *top = Reverse(expanded);
        } else {
            let shifted = perturbation.score() + cost - costs[next - 1];
            *top = Reverse(Perturbation::new(shifted, table, flipped ^ 3 << (next - 1)));
            drop(top);
            self.heap.push(Reverse(expanded));
        }
        Some(perturbation)
    }
}

/// The log odds that a neighbour's bit equals the query's. The probability, that of a standard normal variable below
/// `|margin| / spread / NOISE`, is approximated within 0.0002 by the logistic function of Bowling and others (2009).
fn log_odds(margin: f64, spread: f64) -> f64 {
    let x = if spread > 0.0 { (margin / spread / NOISE).abs() } else { 0.0 };
    ((0.07056 * x * x + 1.5976) * x).min(MAX_LOG_ODDS)
}

/// `ln(1 + exp(-odds))`, minus the logarithm of the probability with log odds `odds`, within 0.006. Only
/// multiplications: the logarithms of C libraries differ.
fn neg_log_probability(odds: f64) -> f64 {
    // ln 2 / (1 + decline / 16)^16, with the exact value and slope at 0, and nearly the exact curvature.
    let decline = (0.08 * odds + 0.72135) * odds;
    let mut power = 1.0 + decline / 16.0;
    (0..4).for_each(|_| power *= power);
    std::f64::consts::LN_2 / power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neg_log_probability_is_within_its_error() {
        for step in 0..400 {
            let odds = f64::from(step) * 0.05;
            let error = neg_log_probability(odds) - (-odds).exp().ln_1p();
            assert!(error.abs() < 0.006, "{odds}: {error}");
        }
    }
}
