//! Threads of our own: jobs handed out one at a time to a fixed number of workers.
//!
//! The caller is always the first worker, so one thread means no thread at all. The others belong
//! to one rayon pool, never the global one, that remembers its process: a forked child makes a
//! fresh one. Every worker runs in the standard floating-point mode.

use crate::error::{Error, Result};
use crate::kernel::FloatMode;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// More workers than this are refused: they could only be a mistake.
const MOST_THREADS: usize = 1024;
/// How often the caller is asked whether to go on. Long enough that asking, which takes a lock
/// from other threads of an interpreter, costs nothing; short enough for an impatient Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many workers a call gets: what it asked for, or the environment's word, or the CPUs that
/// the process may use.
///
/// # Errors
/// [`Error::Input`] when the number is 0 or above 1024, or an environment variable is no number.
pub fn thread_count(asked: Option<i64>) -> Result<usize> {
    let expected = || format!("a whole number from 1 to {MOST_THREADS}");
    if let Some(asked) = asked {
        let count = usize::try_from(asked).ok().filter(|count| (1..=MOST_THREADS).contains(count));
        return count.ok_or_else(|| Error::input("threads", expected(), asked));
    }
    for variable in ["NSEEKFS_NUM_THREADS", "RAYON_NUM_THREADS"] {
        if let Some(word) = std::env::var_os(variable) {
            let count = word.to_str().and_then(|word| word.trim().parse().ok());
            let count = count.filter(|count| (1..=MOST_THREADS).contains(count));
            return count.ok_or_else(|| Error::input(variable, expected(), format!("{word:?}")));
        }
    }
    // Asked once: the answer takes the reading of several system files.
    static CPUS: OnceLock<usize> = OnceLock::new();
    Ok(*CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, |count| count.get()).min(MOST_THREADS)))
}

/// Lets a caller stop work that is under way.
pub struct Watch<'a> {
    go_on: &'a (dyn Fn() -> bool + Sync),
    caller: ThreadId,
    start: Instant,
    asked: AtomicU64,
    stop: AtomicBool,
}

impl<'a> Watch<'a> {
    /// `go_on` is asked about ten times a second, on the thread that calls this and on no other.
    pub fn new(go_on: &'a (dyn Fn() -> bool + Sync)) -> Self {
        let caller = std::thread::current().id();
        Watch { go_on, caller, start: Instant::now(), asked: AtomicU64::new(0), stop: AtomicBool::new(false) }
    }

    /// Called by the workers between pieces of work.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once the caller has said stop or another worker has failed.
    pub fn check(&self) -> Result<()> {
        let now = self.start.elapsed();
        let asked = Duration::from_millis(self.asked.load(Ordering::Relaxed));
        if now - asked.min(now) >= PATIENCE && std::thread::current().id() == self.caller {
            self.asked.store(now.as_millis() as u64, Ordering::Relaxed);
            if !(self.go_on)() {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Runs `work(state, 0..jobs)` on up to `threads` workers, each with a state of its own made by
/// `start`, and returns the states in no particular order.
///
/// # Errors
/// The error of the failing job with the lowest number; [`Error::Interrupted`].
pub fn run<S: Send>(
    threads: usize,
    jobs: usize,
    watch: &Watch,
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, usize) -> Result<()> + Sync,
) -> Result<Vec<S>> {
    let next = AtomicUsize::new(0);
    let finished: Mutex<Vec<S>> = Mutex::new(Vec::new());
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let fail = |job: usize, error: Error| {
        watch.stop.store(true, Ordering::Relaxed);
        let mut first = failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let interrupted = matches!(error, Error::Interrupted);
        if first.as_ref().is_none_or(|(other, seen)| matches!(seen, Error::Interrupted) || (!interrupted && job < *other)) {
            *first = Some((job, error));
        }
    };
    let worker = || {
        let _mode = FloatMode::standard();
        let mut state = match start() {
            Ok(state) => state,
            Err(error) => return fail(0, error),
        };
        while !watch.stop.load(Ordering::Relaxed) {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                break;
            }
            if let Err(error) = work(&mut state, job).and_then(|()| watch.check()) {
                return fail(job, error);
            }
        }
        finished.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(state);
    };
    let helpers = threads.min(jobs).saturating_sub(1);
    if helpers == 0 {
        worker();
    } else {
        pool(helpers)?.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| worker());
            }
            worker();
        });
    }
    match failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(finished.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())),
    }
}

/// As [`run`], but returns what `work` made of every job, in order.
///
/// # Errors
/// As there.
pub fn map<S: Send, T: Send>(
    threads: usize,
    jobs: usize,
    watch: &Watch,
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let states = run(
        threads,
        jobs,
        watch,
        || Ok((start()?, Vec::new())),
        |(state, made), job| {
            made.push((job, work(state, job)?));
            Ok(())
        },
    )?;
    let mut made: Vec<(usize, T)> = states.into_iter().flat_map(|state| state.1).collect();
    made.sort_unstable_by_key(|made| made.0);
    Ok(made.into_iter().map(|made| made.1).collect())
}

/// A pool of this process with at least `size` threads.
fn pool(size: usize) -> Result<Arc<ThreadPool>> {
    /// The process that made the pool, and the pool.
    type Owned = (u32, Arc<ThreadPool>);
    static SHARED: OnceLock<Mutex<Option<Owned>>> = OnceLock::new();
    let process = std::process::id();
    let shared = SHARED.get_or_init(Mutex::default);
    // A fork may have copied the lock while another thread held it: wait for it, but not for ever.
    let mut slot = (0..1000).find_map(|_| {
        shared.try_lock().ok().or_else(|| {
            std::thread::yield_now();
            None
        })
    });
    if let Some((owner, pool)) = slot.as_deref().and_then(Option::as_ref)
        && *owner == process
        && pool.current_num_threads() >= size
    {
        return Ok(Arc::clone(pool));
    }
    let built = ThreadPoolBuilder::new().num_threads(size).thread_name(|index| format!("nseekfs-{index}")).build();
    let pool = Arc::new(built.map_err(|error| Error::input("threads", "a number of threads that can be started", error))?);
    if let Some(slot) = slot.as_deref_mut()
        && let Some((owner, old)) = slot.replace((process, Arc::clone(&pool)))
        && owner != process
    {
        // The threads of the parent do not exist here; joining them would wait for ever.
        std::mem::forget(old);
    }
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let watch = Watch::new(&|| true);
            let seen = run(
                threads,
                100,
                &watch,
                || Ok(Vec::new()),
                |mine, job| {
                    mine.push(job);
                    Ok(())
                },
            )
            .unwrap();
            let mut seen: Vec<usize> = seen.into_iter().flatten().collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_failing_job_ends_the_run_with_its_error() {
        let watch = Watch::new(&|| true);
        let result = run(2, 1000, &watch, || Ok(()), |(), job| if job == 7 { Err(Error::input("k", "x", job)) } else { Ok(()) });
        assert_eq!(result.unwrap_err().to_string(), "k: expected x, got 7");
    }

    #[test]
    fn the_caller_can_stop_a_run() {
        let watch = Watch::new(&|| false);
        let result = run(
            2,
            1_000_000,
            &watch,
            || Ok(()),
            |(), _| {
                std::thread::sleep(PATIENCE / 4);
                Ok(())
            },
        );
        assert!(matches!(result, Err(Error::Interrupted)));
    }
}
