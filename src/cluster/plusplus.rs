//! k-means++ (Arthur and Vassilvitskii, SODA 2007): rows far from each other, to begin with.
//!
//! Rows are drawn one after the other, each as likely as it is costly so far. A few are drawn from the same
//! costs: one whose cost the others have lowered is taken only as often as what is left of it, which makes
//! every draw as likely as if costs had been brought up to date before. Then all rows meet those few at
//! once: codes tell which pairs may be nearer than what a row has, and float64 compares them. So the rows
//! chosen depend on seed and rows alone, not on CPU or threads.

use super::assign::widen;
use super::centroid_codes::{BLOCK, Codes, EncodedRow};
use super::reseed::{gain, nothing};
use super::samples::Samples;
use super::tile::{Tile, below};
use crate::error::{Result, filled};
use crate::kernel::{self, BATCH, Kernel};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::random::Random;
use std::sync::Mutex;

/// Rows of a job, whole blocks.
const JOB_ROWS: usize = 512;

/// `count` rows by k-means++. Where no row costs anything, any row.
pub(super) fn spread(
    samples: &Samples,
    count: usize,
    metric: Metric,
    random: &mut Random,
    threads: usize,
    watch: &Watch,
) -> Result<Vec<usize>> {
    let mut nearest = Nearest::new(samples, metric, threads, watch)?;
    let mut chosen = vec![random.below(samples.len())];
    let mut met = 0;
    while chosen.len() < count {
        nearest.meet(&chosen[met..], threads, watch)?;
        met = chosen.len();
        chosen.extend(nearest.draw(count - met, random));
        if chosen.len() == met {
            chosen.extend((met..count).map(|_| random.below(samples.len())));
        }
    }
    Ok(chosen)
}

/// How near each row is to the rows chosen so far.
struct Nearest<'a> {
    samples: &'a Samples<'a>,
    metric: Metric,
    kernel: &'static Kernel,
    codes: Codes,
    keys: Vec<f64>,
}

/// A row chosen, as rows meet it.
struct Chosen {
    seen: EncodedRow,
    wide: Vec<f64>,
    norm: f64,
}

impl<'a> Nearest<'a> {
    fn new(samples: &'a Samples<'a>, metric: Metric, threads: usize, watch: &Watch) -> Result<Self> {
        let codes = Codes::new(samples, metric, threads, watch)?;
        let keys = filled(samples.len(), f64::NEG_INFINITY, "the keys of rows")?;
        Ok(Nearest { samples, metric, kernel: kernel::selected()?, codes, keys })
    }

    /// Some rows, `most` or fewer, by their costs; none where none costs anything.
    fn draw(&self, most: usize, random: &mut Random) -> Vec<usize> {
        let nothing = nothing(self.metric);
        let mut total = 0.0;
        let costs = (0..self.keys.len()).map(|row| self.cost(row, self.keys[row]));
        let sums = costs.map(|cost| {
            total += if cost > nothing { cost } else { 0.0 };
            total
        });
        let sums: Vec<f64> = sums.collect();
        let (mut drawn, mut wide) = (Vec::new(), Vec::new());
        for _ in 0..if total > 0.0 { BATCH.min(most) } else { 0 } {
            let at = random.unit() * total;
            let row = sums.partition_point(|&sum| sum <= at).min(sums.len() - 1);
            let before = self.cost(row, self.keys[row]);
            widen(self.samples.row(row), &mut wide);
            let left = drawn.iter().fold(before, |left, &other| left.min(self.cost(row, self.key(&wide, self.samples.norm(row), other))));
            // The first is never refused, so that there is one.
            if drawn.is_empty() || left > nothing && random.unit() * before < left {
                drawn.push(row);
            }
        }
        drawn
    }

    /// Brings the keys of all rows up to date with `fresh`, sixteen rows at most.
    fn meet(&mut self, fresh: &[usize], threads: usize, watch: &Watch) -> Result<()> {
        let mut tile = Tile::new(self.samples.dims())?;
        let chosen = fresh.iter().map(|&row| {
            let (values, norm, mut wide) = (self.samples.row(row), self.samples.norm(row), Vec::new());
            widen(values, &mut wide);
            Chosen { seen: tile.push(&self.codes, self.kernel, values, norm), wide, norm }
        });
        let chosen: Vec<Chosen> = chosen.collect();
        let mut keys = std::mem::take(&mut self.keys);
        let jobs: Vec<_> = keys.chunks_mut(JOB_ROWS).map(Mutex::new).collect();
        let start = || Ok((filled(JOB_ROWS * BATCH, 0.0, "the bounds of rows")?, filled(JOB_ROWS, 0, "the bounds of rows")?));
        let work = |(bounds, keep): &mut (Vec<f32>, Vec<u16>), job: usize| {
            let mut slot = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (first, rows) = (job * JOB_ROWS, slot.len().next_multiple_of(BLOCK));
            tile.int8_batch(self.kernel, &self.codes.wide(first..first + rows), &mut bounds[..rows * BATCH], &mut keep[..rows]);
            let bounds = bounds.as_chunks::<BLOCK>().0.chunks_exact(BATCH);
            for ((block, keys), bounds) in slot.chunks_mut(BLOCK).enumerate().zip(bounds) {
                for (chosen, bounds) in chosen.iter().zip(bounds) {
                    self.compare(first + block * BLOCK, keys, chosen, bounds);
                }
            }
            Ok(())
        };
        pool::run(threads, jobs.len(), watch, start, work)?;
        drop(jobs);
        self.keys = keys;
        Ok(())
    }

    /// Raises the keys of a block of rows, from `first` on, for which `bounds` let it be.
    fn compare(&self, first: usize, keys: &mut [f64], chosen: &Chosen, bounds: &[f32; BLOCK]) {
        let least = keys.iter().fold(f64::INFINITY, |least, &key| least.min(key));
        if below(bounds, chosen.seen.threshold(least)) {
            return;
        }
        for ((row, key), &bound) in (first..).zip(keys).zip(bounds) {
            // What is no number bounds nothing.
            if bound.is_nan() || bound >= chosen.seen.threshold(*key) {
                *key = key.max(self.key(&chosen.wide, chosen.norm, row));
            }
        }
    }

    /// The key of a wide row of length `norm` and another row.
    fn key(&self, wide: &[f64], norm: f64, row: usize) -> f64 {
        let sums = if self.metric == Metric::Euclidean { self.kernel.squared_distance } else { self.kernel.dot };
        let mut sum = [0.0];
        sums(wide, self.samples.row(row), self.samples.dims(), &mut sum);
        self.metric.key(sum[0], norm, self.samples.norm(row))
    }

    fn cost(&self, row: usize, key: f64) -> f64 {
        gain(self.samples, row, key, self.metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f32], dims: usize) -> Samples<'_> {
        Samples::new("vectors", values, dims, kernel::selected().unwrap(), 1, &Watch::new(&|| true)).unwrap()
    }

    #[test]
    fn every_key_is_that_of_the_nearest_row_chosen() {
        let (mut random, dims) = (Random::new(1), 33);
        let mut values: Vec<f32> = (0..1100 * dims).map(|_| random.signed() as f32).collect();
        values[5 * dims..7 * dims].fill(0.0);
        for far in [1.0, 1e17] {
            values[7 * dims..8 * dims].fill(far);
            let (samples, watch) = (samples(&values, dims), Watch::new(&|| true));
            for (metric, threads) in [(Metric::Euclidean, 1), (Metric::Cosine, 1), (Metric::Euclidean, 3)] {
                let mut nearest = Nearest::new(&samples, metric, threads, &watch).unwrap();
                let chosen = [3, 9, 5, 1000, 7, 64];
                nearest.meet(&chosen[..1], threads, &watch).unwrap();
                nearest.meet(&chosen[1..], threads, &watch).unwrap();
                let mut wide = Vec::new();
                for row in 0..samples.len() {
                    let keys = chosen.map(|other| {
                        widen(samples.row(other), &mut wide);
                        nearest.key(&wide, samples.norm(other), row)
                    });
                    assert_eq!(nearest.keys[row], keys.into_iter().fold(f64::NEG_INFINITY, f64::max), "{metric:?}, row {row}");
                }
            }
        }
    }

    #[test]
    fn rows_are_drawn_as_often_as_they_are_costly() {
        let values = [0.0, 1.0, 2.0, 4.0];
        let (samples, watch) = (samples(&values, 1), Watch::new(&|| true));
        let mut counts = std::collections::HashMap::new();
        for seed in 0..20_000 {
            let chosen = spread(&samples, 3, Metric::Euclidean, &mut Random::new(seed), 1, &watch).unwrap();
            *counts.entry(chosen).or_insert(0.0) += 1.0;
        }
        // From 0 the others cost 1, 4 and 16; beside 4 the two left cost 1 and 4, and so they do beside 2.
        for (chosen, share) in [([0, 3, 2], 16.0 / 21.0 * 0.8), ([0, 3, 1], 16.0 / 21.0 * 0.2), ([0, 2, 3], 4.0 / 21.0 * 0.8)] {
            let expected: f64 = 20_000.0 / 4.0 * share;
            assert!((counts[&chosen[..]] - expected).abs() < 4.0 * expected.sqrt(), "{chosen:?}: {counts:?}, expected {expected}");
        }
    }

    #[test]
    fn copies_are_drawn_only_where_nothing_else_is_left() {
        let values: Vec<f32> = (0..60).map(|i| (i % 5) as f32).collect();
        let mut chosen = spread(&samples(&values, 1), 8, Metric::Euclidean, &mut Random::new(2), 1, &Watch::new(&|| true)).unwrap();
        assert_eq!(chosen.len(), 8);
        chosen.truncate(5);
        chosen.iter_mut().for_each(|row| *row %= 5);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 1, 2, 3, 4]);
    }
}
