//! Which buckets a query looks into first: those that most likely hold a neighbour, over all tables.
//!
//! A neighbour's projection is the query's, shrunk, plus noise; so the bit of a large margin seldom differs. With
//! the odds of each bit independent, a bucket's likelihood is that of the query's own bucket times the odds of each
//! bit in which it differs. A probe's score is minus its logarithm: the lowest come first. (Lv and others,
//! Multi-probe LSH, VLDB 2007, visit the sets of bits in the same way, by sums of squared margins; likelihoods also
//! say what a probe of one table is worth beside one of another.)
//!
//! Scores are whole numbers, so the order is the same everywhere: by score, then table, then set of bits.

use super::hash::{Hasher, MAX_BITS, MAX_TABLES};
use crate::kernel::FloatMode;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The noise of a neighbour's projections in spreads of the rows': that of a cosine of 0.64 between centred
/// vectors. Between 0.7 and 1.2 little changes on embeddings.
const NOISE: f64 = 1.2;
/// What a score counts in: 65,536 of it are one natural unit.
const UNIT: f64 = 65_536.0;
/// No bit costs more: 24 of these and the query's own bucket leave room for table and bits in 64 bits.
const MOST: f64 = 4096.0;
const TABLE_SHIFT: u32 = MAX_BITS as u32;
const SCORE_SHIFT: u32 = TABLE_SHIFT + MAX_TABLES.ilog2();
const _: () = assert!((MAX_BITS as u64 + 1) * (MOST as u64) < 1 << (64 - SCORE_SHIFT - 16));

/// Where a query looks: its own bucket of each table, and what it costs to leave it.
#[derive(Debug, Clone)]
pub struct QueryHash {
    bits: usize,
    buckets: Vec<u32>,
    /// The score of the own bucket.
    scores: Vec<u64>,
    /// For each table its bits, the cheapest to differ in first.
    order: Vec<u8>,
    /// What they cost.
    costs: Vec<u64>,
}

/// A bucket in the order of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Perturbation(u64);

impl Perturbation {
    /// Minus the logarithm of its likelihood, in 65,536ths.
    pub fn score(self) -> u64 {
        self.0 >> SCORE_SHIFT
    }

    /// Its table.
    pub fn table(self) -> usize {
        (self.0 >> TABLE_SHIFT) as usize % MAX_TABLES
    }

    /// In how many bits it differs from the query's own bucket.
    pub fn distance(self) -> u32 {
        self.differing().count_ones()
    }

    /// The bits that differ, as numbers in the order of their costs.
    fn differing(self) -> u32 {
        self.0 as u32 & ((1 << MAX_BITS) - 1)
    }

    fn new(score: u64, table: usize, differing: u32) -> Self {
        Perturbation(score << SCORE_SHIFT | (table as u64) << TABLE_SHIFT | u64::from(differing))
    }
}

impl QueryHash {
    /// Where a vector looks, see [`Hasher::projections`].
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
            let set = margins.iter().enumerate().map(|(bit, &margin)| u32::from(margin > 0.0) << bit);
            query_hash.buckets.push(set.sum());
            let mut costs = [(0u64, 0u8); MAX_BITS];
            let mut own = 0.0;
            for (bit, (&margin, &spread)) in margins.iter().zip(spreads).enumerate() {
                let odds = log_odds(f64::from(margin), f64::from(spread));
                own += stay(odds);
                costs[bit] = ((odds * UNIT) as u64, bit as u8);
            }
            costs[..bits].sort_unstable();
            query_hash.scores.push((own * UNIT) as u64);
            query_hash.order.extend(costs[..bits].iter().map(|&(_, bit)| bit));
            query_hash.costs.extend(costs[..bits].iter().map(|&(cost, _)| cost));
        }
        query_hash
    }

    /// The query's own bucket of each table.
    pub fn buckets(&self) -> &[u32] {
        &self.buckets
    }

    /// The score of a table's own bucket, and its bits with what it costs to differ in each.
    pub(crate) fn costs(&self, table: usize) -> (u64, impl Iterator<Item = (usize, u64)>) {
        let bits = table * self.bits..(table + 1) * self.bits;
        let costs = self.order[bits.clone()].iter().zip(&self.costs[bits]).map(|(&bit, &cost)| (usize::from(bit), cost));
        (self.scores[table], costs)
    }

    /// The number of the bucket at a place.
    pub fn bucket(&self, place: Perturbation) -> u32 {
        let order = &self.order[place.table() * self.bits..];
        let mut left = place.differing();
        let mut bucket = self.buckets[place.table()];
        while left != 0 {
            bucket ^= 1 << order[left.trailing_zeros() as usize];
            left &= left - 1;
        }
        bucket
    }

    /// The place of a bucket of a table.
    pub fn place(&self, table: usize, bucket: u32) -> Perturbation {
        let differ = self.buckets[table] ^ bucket;
        let from = table * self.bits;
        let (mut score, mut differing) = (self.scores[table], 0);
        for (i, (&bit, &cost)) in self.order[from..from + self.bits].iter().zip(&self.costs[from..]).enumerate() {
            if differ >> bit & 1 == 1 {
                score += cost;
                differing |= 1 << i;
            }
        }
        Perturbation::new(score, table, differing)
    }

    /// All places, the likeliest first; `heap` is only room.
    pub fn places<'a>(&'a self, heap: &'a mut Heap) -> ProbingSequence<'a> {
        heap.0.clear();
        heap.0.extend((0..self.scores.len()).map(|table| Reverse(Perturbation::new(self.scores[table], table, 0))));
        ProbingSequence { query_hash: self, heap: &mut heap.0 }
    }
}

/// Room for places that are still to come.
#[derive(Debug, Default)]
pub struct Heap(BinaryHeap<Reverse<Perturbation>>);

/// The places of an [`QueryHash`], in order.
#[derive(Debug)]
pub struct ProbingSequence<'a> {
    query_hash: &'a QueryHash,
    heap: &'a mut BinaryHeap<Reverse<Perturbation>>,
}

impl Iterator for ProbingSequence<'_> {
    type Item = Perturbation;

    /// Each set of bits comes from one other, by moving its last bit to the next or by adding the next (Lv and
    /// others): both cost no less, and are larger numbers, so places ascend.
    fn next(&mut self) -> Option<Perturbation> {
        let mut top = self.heap.peek_mut()?;
        let place = top.0;
        let (table, differing) = (place.table(), place.differing());
        let costs = &self.query_hash.costs[table * self.query_hash.bits..(table + 1) * self.query_hash.bits];
        let next = (u32::BITS - differing.leading_zeros()) as usize;
        let Some(&cost) = costs.get(next) else {
            PeekMut::pop(top);
            return Some(place);
        };
        let added = Perturbation::new(place.score() + cost, table, differing | 1 << next);
        if next == 0 {
            *top = Reverse(added);
        } else {
            *top = Reverse(Perturbation::new(place.score() + cost - costs[next - 1], table, differing ^ 3 << (next - 1)));
            drop(top);
            self.heap.push(Reverse(added));
        }
        Some(place)
    }
}

/// The logarithm of the odds that a neighbour's bit is the query's: those of a normal variable below
/// `margin / spread / NOISE`, by the logistic function of Bowling and others (2009), within 0.0002 of it.
fn log_odds(margin: f64, spread: f64) -> f64 {
    let x = if spread > 0.0 { (margin / spread / NOISE).abs() } else { 0.0 };
    ((0.07056 * x * x + 1.5976) * x).min(MOST)
}

/// Minus the logarithm of the probability whose odds are `exp(odds)`, that is `ln(1 + exp(-odds))`, within 0.006: by
/// multiplications, as the logarithms of machines differ.
fn stay(odds: f64) -> f64 {
    // Value, slope and about the curvature at 0 of the logarithm of what is sought.
    let decline = (0.08 * odds + 0.72135) * odds;
    let mut power = 1.0 + decline / 16.0;
    (0..4).for_each(|_| power *= power);
    std::f64::consts::LN_2 / power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chance_to_stay_is_near_its_formula() {
        for step in 0..400 {
            let odds = f64::from(step) * 0.05;
            let error = stay(odds) - (-odds).exp().ln_1p();
            assert!(error.abs() < 0.006, "{odds}: {error}");
        }
    }
}
