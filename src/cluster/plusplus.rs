//! k-means++ (Arthur and Vassilvitskii, SODA 2007): initial centroids far from each other.
//!
//! Each row is drawn with a probability proportional to its cost at the nearest row chosen so far. Up to
//! [`BATCH`] rows are drawn from the same costs by rejection: a row whose cost has fallen through those drawn before it
//! is accepted with the probability (new cost / old cost), so that the distribution is that of drawing one by one. Then
//! the costs of all rows are updated for the whole batch: upper bounds from codes select the pairs to compare in
//! float64. The choice depends on rows and seed, not on CPU or threads.

use super::assign::to_padded_f64;
use super::centroid_codes::{BLOCK, Codes, EncodedRow};
use super::reseed::{negligible_cost, reducible_cost};
use super::samples::Samples;
use super::tile::{Tile, all_below};
use crate::error::{Result, filled};
use crate::kernel::{self, BATCH, Kernel};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::random::Random;
use std::sync::Mutex;

/// Rows per job, in whole blocks.
const JOB_ROWS: usize = 512;

/// Chooses `count` rows by k-means++; where all costs are negligible, rows drawn evenly.
pub(super) fn choose(
    samples: &Samples,
    count: usize,
    metric: Metric,
    random: &mut Random,
    threads: usize,
    watch: &Watch,
) -> Result<Vec<usize>> {
    let mut nearest = NearestChosen::new(samples, metric, threads, watch)?;
    let mut chosen = vec![random.below(samples.len())];
    let mut measured = 0;
    while chosen.len() < count {
        nearest.update_keys(&chosen[measured..], threads, watch)?;
        watch.advance((chosen.len() - measured) as u64);
        measured = chosen.len();
        chosen.extend(nearest.draw(count - measured, random));
        if chosen.len() == measured {
            chosen.extend((measured..count).map(|_| random.below(samples.len())));
        }
    }
    Ok(chosen)
}

/// Of each row the key to the nearest row chosen so far.
struct NearestChosen<'a> {
    samples: &'a Samples<'a>,
    metric: Metric,
    kernel: &'static Kernel,
    codes: Codes,
    keys: Vec<f64>,
}

/// A chosen row, encoded and in padded float64.
struct ChosenRow {
    encoded: EncodedRow,
    wide: Vec<f64>,
    norm: f64,
}

impl<'a> NearestChosen<'a> {
    fn new(samples: &'a Samples<'a>, metric: Metric, threads: usize, watch: &Watch) -> Result<Self> {
        let codes = Codes::new(samples, metric, threads, watch)?;
        let keys = filled(samples.len(), f64::NEG_INFINITY, "the keys of rows")?;
        Ok(NearestChosen { samples, metric, kernel: kernel::selected()?, codes, keys })
    }

    /// Draws up to `min(max, BATCH)` rows by their costs; none where all costs are negligible.
    fn draw(&self, max: usize, random: &mut Random) -> Vec<usize> {
        let negligible = negligible_cost(self.metric);
        let mut total = 0.0;
        let costs = (0..self.keys.len()).map(|row| self.cost(row, self.keys[row]));
        let sums = costs.map(|cost| {
            total += if cost > negligible { cost } else { 0.0 };
            total
        });
        let sums: Vec<f64> = sums.collect();
        let (mut drawn, mut wide) = (Vec::new(), Vec::new());
        for _ in 0..if total > 0.0 { BATCH.min(max) } else { 0 } {
            let at = random.unit() * total;
            let row = sums.partition_point(|&sum| sum <= at).min(sums.len() - 1);
            let before = self.cost(row, self.keys[row]);
            to_padded_f64(self.samples.row(row), &mut wide);
            let left = drawn.iter().fold(before, |left, &other| left.min(self.cost(row, self.key(&wide, self.samples.norm(row), other))));
            // The first draw is always accepted.
            if drawn.is_empty() || left > negligible && random.unit() * before < left {
                drawn.push(row);
            }
        }
        drawn
    }

    /// Updates the keys of all rows for the newly chosen rows `fresh`, [`BATCH`] at most.
    fn update_keys(&mut self, fresh: &[usize], threads: usize, watch: &Watch) -> Result<()> {
        let mut tile = Tile::new(self.samples.dims())?;
        let chosen = fresh.iter().map(|&row| {
            let (values, norm, mut wide) = (self.samples.row(row), self.samples.norm(row), Vec::new());
            to_padded_f64(values, &mut wide);
            ChosenRow { encoded: tile.push(&self.codes, self.kernel, values, norm), wide, norm }
        });
        let chosen: Vec<ChosenRow> = chosen.collect();
        let mut keys = std::mem::take(&mut self.keys);
        let jobs: Vec<_> = keys.chunks_mut(JOB_ROWS).map(Mutex::new).collect();
        let start = || Ok((filled(JOB_ROWS * BATCH, 0.0, "the bounds of rows")?, filled(JOB_ROWS, 0, "the bounds of rows")?));
        let work = |(bounds, keep): &mut (Vec<f32>, Vec<u16>), job: usize| {
            let mut slot = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (first, rows) = (job * JOB_ROWS, slot.len().next_multiple_of(BLOCK));
            tile.bound(self.kernel, &self.codes.unpacked(first..first + rows), &mut bounds[..rows * BATCH], &mut keep[..rows]);
            let bounds = bounds.as_chunks::<BLOCK>().0.chunks_exact(BATCH);
            for ((block, keys), bounds) in slot.chunks_mut(BLOCK).enumerate().zip(bounds) {
                for (chosen, bounds) in chosen.iter().zip(bounds) {
                    self.update_block(first + block * BLOCK, keys, chosen, bounds);
                }
            }
            Ok(())
        };
        pool::run(threads, jobs.len(), watch, start, work)?;
        drop(jobs);
        self.keys = keys;
        Ok(())
    }

    /// Updates the keys of a block of rows, from `first` on, for one chosen row with these upper `bounds`.
    fn update_block(&self, first: usize, keys: &mut [f64], chosen: &ChosenRow, bounds: &[f32; BLOCK]) {
        let least = keys.iter().fold(f64::INFINITY, |least, &key| least.min(key));
        if all_below(bounds, chosen.encoded.threshold(least)) {
            return;
        }
        for ((row, key), &bound) in (first..).zip(keys).zip(bounds) {
            // NaN bounds nothing.
            if bound.is_nan() || bound >= chosen.encoded.threshold(*key) {
                *key = key.max(self.key(&chosen.wide, chosen.norm, row));
            }
        }
    }

    /// The key of a row in padded float64, of this norm, and another row.
    fn key(&self, wide: &[f64], norm: f64, row: usize) -> f64 {
        let sums = if self.metric == Metric::Euclidean { self.kernel.squared_distance } else { self.kernel.dot };
        let mut sum = [0.0];
        sums(wide, self.samples.row(row), self.samples.dims(), &mut sum);
        self.metric.key(sum[0], norm, self.samples.norm(row))
    }

    fn cost(&self, row: usize, key: f64) -> f64 {
        reducible_cost(self.samples, row, key, self.metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f32], dims: usize) -> Samples<'_> {
        Samples::new("vectors", values, dims, kernel::selected().unwrap(), 1, &Watch::new(&|| true)).unwrap()
    }

    #[test]
    fn every_key_is_that_of_the_nearest_chosen_row() {
        let (mut random, dims) = (Random::new(1), 33);
        let mut values: Vec<f32> = (0..1100 * dims).map(|_| random.signed() as f32).collect();
        values[5 * dims..7 * dims].fill(0.0);
        for far in [1.0, 1e17] {
            values[7 * dims..8 * dims].fill(far);
            let (samples, watch) = (samples(&values, dims), Watch::new(&|| true));
            for (metric, threads) in [(Metric::Euclidean, 1), (Metric::Cosine, 1), (Metric::Euclidean, 3)] {
                let mut nearest = NearestChosen::new(&samples, metric, threads, &watch).unwrap();
                let chosen = [3, 9, 5, 1000, 7, 64];
                nearest.update_keys(&chosen[..1], threads, &watch).unwrap();
                nearest.update_keys(&chosen[1..], threads, &watch).unwrap();
                let mut wide = Vec::new();
                for row in 0..samples.len() {
                    let keys = chosen.map(|other| {
                        to_padded_f64(samples.row(other), &mut wide);
                        nearest.key(&wide, samples.norm(other), row)
                    });
                    assert_eq!(nearest.keys[row], keys.into_iter().fold(f64::NEG_INFINITY, f64::max), "{metric:?}, row {row}");
                }
            }
        }
    }

    #[test]
    fn rows_are_drawn_in_proportion_to_their_costs() {
        let values = [0.0, 1.0, 2.0, 4.0];
        let (samples, watch) = (samples(&values, 1), Watch::new(&|| true));
        let mut counts = std::collections::HashMap::new();
        for seed in 0..20_000 {
            let chosen = choose(&samples, 3, Metric::Euclidean, &mut Random::new(seed), 1, &watch).unwrap();
            *counts.entry(chosen).or_insert(0.0) += 1.0;
        }
        // After row 0 the costs are 0, 1, 4, 16. After row 3 too, rows 1 and 2 cost 1 and 4; after row 2, rows 1 and 3 do.
        for (chosen, share) in [([0, 3, 2], 16.0 / 21.0 * 0.8), ([0, 3, 1], 16.0 / 21.0 * 0.2), ([0, 2, 3], 4.0 / 21.0 * 0.8)] {
            let expected: f64 = 20_000.0 / 4.0 * share;
            assert!((counts[&chosen[..]] - expected).abs() < 4.0 * expected.sqrt(), "{chosen:?}: {counts:?}, expected {expected}");
        }
    }

    #[test]
    fn duplicates_are_drawn_only_once_every_distinct_row_is() {
        let values: Vec<f32> = (0..60).map(|i| (i % 5) as f32).collect();
        let mut chosen = choose(&samples(&values, 1), 8, Metric::Euclidean, &mut Random::new(2), 1, &Watch::new(&|| true)).unwrap();
        assert_eq!(chosen.len(), 8);
        chosen.truncate(5);
        chosen.iter_mut().for_each(|row| *row %= 5);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 1, 2, 3, 4]);
    }
}
