//! How much of a long work is done, for callers who wait.
//!
//! The work is planned at one cost, which estimates the time of all its stages. A stage begins with [`Progress::stage`] and
//! advances by steps of equal cost; what it does not use is skipped when the next stage begins, and what it takes beyond
//! its cost does not count. So the share of the work that is done never falls, and the whole is told once, by
//! [`Progress::finish`], when the work is over. Costs are estimates: they change what callers hear, and no result.
//!
//! The unit of cost is a multiply-add of a product of matrices in float32; [`cost`] holds what else was measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Callers hear of thousandths of the work.
pub const WHOLE: u64 = 1000;
/// They hear after so many more, in any case; of fewer, when they are asked for an interrupt.
const OFTEN: u64 = 10;

/// What one step costs, in multiply-adds: measured on one thread with AVX-512, where a nanosecond holds 35 of them.
pub mod cost {
    /// Rounding, checking and measuring one value of a row.
    pub const ROUND: f64 = 30.0;
    /// One byte of a file: its checksum, the copy, and its part of bringing the file to the disk.
    pub const BYTE: f64 = 40.0;
    /// A multiply-add that learns axes, with what is done between products on one thread.
    pub const LEARN: f64 = 1.5;
    /// A multiply-add of a float64 product.
    pub const FLOAT64: f64 = 4.0;
    /// A value of a query and a value of a row, in a scan of all rows; and in a scan of their codes.
    pub const SCAN: f64 = 1.0;
    /// See [`SCAN`].
    pub const CODED: f64 = 0.5;
    /// Counting a coordinate of a row for a pseudo-query and all numbers of leading dims.
    pub const COUNT: f64 = 130.0;
    /// Quantizing a coordinate of a row.
    pub const QUANTIZE: f64 = 50.0;
    /// A value of a row and a value of a centroid, bounded by codes.
    pub const ASSIGN: f64 = 0.5;
    /// A value of a row and a value of a cell that may be its second.
    pub const SECOND: f64 = 12.0;
    /// Copying the code of a value of a row into an inverted list.
    pub const COPY: f64 = 34.0;
    /// Ranking a cell, or probing a bucket, for a query.
    pub const PROBE: f64 = 2000.0;
    /// The bits of a row in a hash table.
    pub const HASH: f64 = 500.0;
    /// Inserting a row into a hash table.
    pub const ENTRY: f64 = 600.0;
    /// Modelling all numbers of tables and bits for a query.
    pub const MODEL: f64 = 1e7;
}

/// The progress of one work, which `tell` hears of in thousandths; work stops once `tell` returns false.
pub struct Progress<'a> {
    tell: Box<dyn Fn(u64) -> bool + Send + Sync + 'a>,
    /// Works that are planned, one after the other.
    times: f64,
    stages: Mutex<Stages>,
    /// Steps of this stage that are done.
    done: AtomicU64,
    /// Steps of this stage after which to tell.
    due: AtomicU64,
}

/// Where in the plan the work is.
#[derive(Debug, Default)]
struct Stages {
    planned: f64,
    /// The cost of all stages before this one, then its own, and its steps.
    before: f64,
    cost: f64,
    steps: u64,
    /// Thousandths told.
    told: u64,
}

impl<'a> Progress<'a> {
    /// Of `times` works of one cost.
    pub fn new(times: usize, tell: impl Fn(u64) -> bool + Send + Sync + 'a) -> Self {
        Progress {
            tell: Box::new(tell),
            times: times as f64,
            stages: Mutex::default(),
            done: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
        }
    }

    /// Announces the cost of a work. Where it is part of another work, which was planned before, that plan stays.
    pub fn plan(&self, cost: f64) {
        let mut stages = self.stages();
        if stages.planned == 0.0 {
            stages.planned = cost * self.times;
        }
    }

    /// Ends the stage before and begins one of this cost, which [`Progress::advance`]s by `steps` in all.
    pub fn stage(&self, cost: f64, steps: u64) {
        let mut stages = self.stages();
        stages.before += stages.cost;
        (stages.cost, stages.steps) = (cost, steps);
        self.done.store(0, Ordering::Relaxed);
        self.due.store(0, Ordering::Relaxed);
    }

    /// Steps of this stage have been done, by any thread.
    pub fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
    }

    /// Whether the caller should hear of it now.
    pub(crate) fn is_due(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.due.load(Ordering::Relaxed)
    }

    /// Tells the caller what is done, where that is a hundredth more than it was told, or any more if it is `time`.
    pub(crate) fn report(&self, time: bool) -> bool {
        let done = self.done.load(Ordering::Relaxed);
        let mut stages = self.stages();
        let now = stages.thousandths(done).max(stages.told);
        let telling = now - stages.told >= if time { 1 } else { OFTEN };
        if telling {
            stages.told = now;
        }
        self.due.store(stages.steps_until(stages.told + OFTEN).max(done + 1), Ordering::Relaxed);
        drop(stages);
        !telling || (self.tell)(now)
    }

    /// Tells the caller that all is done.
    pub fn finish(&self) -> bool {
        (self.tell)(WHOLE)
    }

    fn stages(&self) -> MutexGuard<'_, Stages> {
        self.stages.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Stages {
    /// The share that is done, short of the whole.
    fn thousandths(&self, done: u64) -> u64 {
        let part = if self.steps == 0 { 0.0 } else { (done as f64 / self.steps as f64).min(1.0) };
        let share = (self.before + self.cost * part) / self.planned;
        // A share of 0.07 is 69.99... thousandths. A plan of cost 0 makes NaN, which is 0 as an integer.
        ((share * WHOLE as f64 + 1e-6) as u64).min(WHOLE - 1)
    }

    /// The steps of this stage that reach so many thousandths.
    fn steps_until(&self, thousandths: u64) -> u64 {
        let cost = thousandths as f64 / WHOLE as f64 * self.planned - self.before;
        // Rounding errors add no step.
        (cost / self.cost * self.steps as f64 - 1e-6).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of stages of these costs and steps, planned at `planned`.
    fn told(planned: f64, times: usize, stages: &[(f64, u64)], time: bool) -> Vec<u64> {
        let heard = Mutex::new(Vec::new());
        let progress = Progress::new(times, |done| {
            heard.lock().unwrap().push(done);
            true
        });
        for _ in 0..times {
            progress.plan(planned);
            for &(cost, steps) in stages {
                progress.stage(cost, steps);
                for _ in 0..steps {
                    progress.advance(1);
                    assert!(!(time || progress.is_due()) || progress.report(time));
                }
            }
        }
        assert!(progress.finish());
        drop(progress);
        heard.into_inner().unwrap()
    }

    #[test]
    fn every_hundredth_is_told_once_and_the_whole_at_the_end_only() {
        let expected: Vec<u64> = (1..=100).map(|i| 10 * i).collect();
        assert_eq!(told(1000.0, 1, &[(1000.0, 1000)], false), expected);
        assert_eq!(told(4.0, 1, &[(1.0, 25), (3.0, 75)], false), expected);
        assert_eq!(told(2.0, 2, &[(2.0, 50)], false), expected);
    }

    #[test]
    fn what_is_told_never_falls_or_reaches_the_whole_whatever_the_plan() {
        for planned in [0.0, 1e-9, 1.0, 50.0, 1e12, f64::INFINITY] {
            for stages in [&[(10.0, 7), (0.0, 3), (30.0, 0), (5.0, 1000)][..], &[], &[(f64::MAX, 10), (1.0, 10)]] {
                for time in [false, true] {
                    let heard = told(planned, 2, stages, time);
                    assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "{heard:?}");
                    assert_eq!(heard.last(), Some(&WHOLE));
                }
            }
        }
    }

    #[test]
    fn steps_that_a_stage_does_not_take_are_skipped_and_steps_beyond_it_do_not_count() {
        let heard = Mutex::new(Vec::new());
        let progress = Progress::new(1, |done| {
            heard.lock().unwrap().push(done);
            done < 750
        });
        progress.plan(4.0);
        progress.stage(2.0, 10);
        progress.advance(1);
        assert!(progress.report(false));
        progress.stage(1.0, 10);
        progress.advance(500);
        assert!(!progress.report(false));
        assert_eq!(*heard.lock().unwrap(), [50, 750]);
    }
}
