//! Chooses how many cells or buckets to visit for a wanted recall, from what was measured, and how certain that is.

use super::ivf::Adapt;
use crate::format::{TuningPoint, TuningRecord};
use std::f64::consts::SQRT_2;

/// Standard errors of a one-sided 95 % interval of a normal variable.
const ONE_SIDED: f64 = 1.645;

/// The mean of one or more shares, and its standard error.
pub fn mean(shares: &[f64]) -> (f64, f64) {
    let count = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / count;
    let spread = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (spread / count).sqrt())
}

/// The number of independent trials, each a success or not, whose share of successes would vary like this mean; `None`
/// where nothing varied. The neighbours of one query are found together or not, so they are fewer than the neighbours.
pub fn effective_trials(mean: f64, error: f64) -> Option<f64> {
    Some(mean * (1.0 - mean) / (error * error)).filter(|trials| trials.is_finite() && *trials > 0.0)
}

/// The interval of `deviations` standard errors around a share of so many trials: Wilson's (1927), with the effective
/// trials of Korn and Graubard (1998). Unlike mean +- deviations x error, it holds near 1 and for few queries, as those
/// of a table of copies are: 250 queries that all find everything tell no more than 0.99.
pub fn interval(share: f64, trials: f64, deviations: f64) -> (f64, f64) {
    let z = deviations * deviations / trials;
    let half = (deviations * (share * (1.0 - share) / trials + z / (4.0 * trials)).max(0.0).sqrt()) / (1.0 + z);
    let middle = (share + z / 2.0) / (1.0 + z);
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// How many cells or buckets to visit, and how many rows that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchEffort {
    /// Cells or buckets to visit; of cells, on average where they are adapted.
    pub nprobe: usize,
    /// List entries visited per query on average: a row in several cells counts in each.
    pub visited: f64,
    /// See [`Nprobe`](super::ivf::Nprobe); `None` to visit exactly `nprobe` cells.
    pub adapt: Option<Adapt>,
}

/// The least effort that keeps the promise of `recall`, see `promised`; interpolated between the measured values of k
/// as a power of k.
pub fn effort(tuning: &TuningRecord, recall: f64, k: f64) -> SearchEffort {
    let least = |curve: &[TuningPoint]| (f64::from(curve[0].k), least_effort(curve, recall, tuning.queries as f64));
    let curves: Vec<(f64, SearchEffort)> = tuning.points.chunk_by(|a, b| a.k == b.k).map(least).collect();
    let after = curves.iter().position(|curve| curve.0 >= k).unwrap_or(curves.len() - 1);
    // Beyond the largest measured k, extrapolate from the last two.
    let (low, high) = (&curves[after.saturating_sub(1)], &curves[after]);
    if low.0 == high.0 || k <= low.0 {
        return if k <= low.0 { low.1 } else { high.1 };
    }
    let part = (k / low.0).ln() / (high.0 / low.0).ln();
    let between = |low: f64, high: f64| low * (high / low).powf(part);
    let max_probes = tuning.points.iter().map(|point| point.nprobe).max().unwrap_or(1) as usize;
    let gap = |(low, high): (Adapt, Adapt)| Adapt { gap: low.gap + part.min(1.0) * (high.gap - low.gap), ..high };
    SearchEffort {
        nprobe: (between(low.1.nprobe as f64, high.1.nprobe as f64).ceil() as usize).min(max_probes),
        visited: between(low.1.visited.max(1.0), high.1.visited.max(1.0)),
        adapt: low.1.adapt.zip(high.1.adapt).map(gap),
    }
}

/// The recall that 19 of 20 fresh samples of such queries reach, each as large as the sample that was measured: the
/// difference of two means varies by the root of the sum of their squared standard errors, which are alike.
fn promised(recall: f64, trials: f64) -> f64 {
    interval(recall, trials, ONE_SIDED * SQRT_2).0
}

/// The least effort on the curve of one k, interpolated between its points.
fn least_effort(curve: &[TuningPoint], recall: f64, queries: f64) -> SearchEffort {
    // Where all was found or nothing, trials are those of the points before.
    let mut last = queries;
    let mut promise = |point: &TuningPoint| {
        last = effective_trials(point.recall, point.error).unwrap_or(last);
        promised(point.recall, last)
    };
    let promises: Vec<f64> = curve.iter().map(&mut promise).collect();
    let at = promises.iter().position(|&promise| promise >= recall).unwrap_or(curve.len() - 1);
    let before = at.saturating_sub(1);
    let ((high, to), (low, from)) = ((&curve[at], promises[at]), (&curve[before], promises[before]));
    let part = if to > from && from < recall { ((recall - from) / (to - from)).min(1.0) } else { 1.0 };
    let between = |low: f64, high: f64| low + part * (high - low);
    SearchEffort {
        nprobe: between(f64::from(low.nprobe), f64::from(high.nprobe)).ceil() as usize,
        visited: between(low.visited, high.visited),
        adapt: Some(Adapt { gap: between(low.gap, high.gap), far: high.far, power: high.power as u32 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_recall_is_promised_to_nineteen_of_twenty_fresh_samples() {
        // Queries that find some of ten neighbours, and queries that find all of them or none, as those of copies do.
        for (queries, each, recall, most) in [(1000, 10, 0.9, 970), (1000, 1, 0.9, 970), (250, 1, 0.95, 980), (250, 1, 0.99, 1000)] {
            let mut random = Random::new(3);
            let found = |random: &mut Random| (0..each).filter(|_| (random.below(1000) as f64) < 1000.0 * recall).count();
            let mut sample = || mean(&(0..queries).map(|_| found(&mut random) as f64 / f64::from(each)).collect::<Vec<f64>>());
            let mut reached = 0;
            for _ in 0..1000 {
                let (share, error) = sample();
                let trials = effective_trials(share, error).unwrap_or(f64::from(queries));
                reached += usize::from(sample().0 >= promised(share, trials));
            }
            assert!((930..=most).contains(&reached), "{reached} of 1000 for {recall} of {queries} queries");
        }
    }

    #[test]
    fn trials_of_which_none_fails_promise_no_certainty() {
        assert_eq!(effective_trials(1.0, 0.0), None);
        assert!((effective_trials(0.5, 0.05).unwrap_or(0.0) - 100.0).abs() < 1e-9);
        let (low, high) = interval(1.0, 250.0, 1.96);
        assert!((0.98..0.99).contains(&low) && high == 1.0, "{low}");
        // Far from 0 and 1, and with many trials, the interval is that of the normal distribution.
        let (low, high) = interval(0.9, 1e6, 1.96);
        assert!((low - (0.9 - 1.96 * 3e-4)).abs() < 1e-5 && (high - (0.9 + 1.96 * 3e-4)).abs() < 1e-5);
    }
}
