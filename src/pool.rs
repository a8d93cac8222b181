//! The thread pool: workers take jobs from a shared counter, one at a time.
//!
//! The calling thread is always a worker, so one worker needs no other thread. The others belong to a rayon pool of
//! this crate, not the global one; a forked child does not inherit its parent's threads and makes a pool of its own.
//! Where the system starts no more threads, the calling thread works alone. Every worker runs in the standard floating-point mode.

use crate::error::{Error, Result, collected, push, room};
use crate::kernel::FloatMode;
use crate::progress::Progress;
use crate::reserve;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// More workers than this are refused as a mistake.
const MAX_THREADS: usize = 1024;
/// Time between two checks for an interrupt. A check takes the interpreter's lock from other Python threads, so it must
/// be rare; Ctrl-C should still act at once.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Memory that must be free for each thread to start, many times what it takes.
const THREAD_BYTES: usize = 1 << 20;
/// From this size on, glibc asks the system (its largest `M_MMAP_THRESHOLD`), unless the process has freed as much in one
/// piece: a new thread cannot use what other threads have freed.
const MAPPED_BYTES: usize = 32 << 20;

/// The number of workers of a call: `requested`, else `NSEEKFS_NUM_THREADS` or `RAYON_NUM_THREADS` of the environment,
/// else the number of CPUs that the process may use.
///
/// # Errors
/// [`Error::Input`] for a number or an environment variable that is not a whole number from 1 to 1024.
pub fn thread_count(requested: Option<i64>) -> Result<usize> {
    let expected = || format!("a whole number from 1 to {MAX_THREADS}");
    if let Some(requested) = requested {
        let count = usize::try_from(requested).ok().filter(|count| (1..=MAX_THREADS).contains(count));
        return count.ok_or_else(|| Error::input("threads", expected(), requested));
    }
    for variable in ["NSEEKFS_NUM_THREADS", "RAYON_NUM_THREADS"] {
        if let Some(value) = std::env::var_os(variable) {
            let count = value.to_str().and_then(|value| value.trim().parse().ok());
            let count = count.filter(|count| (1..=MAX_THREADS).contains(count));
            return count.ok_or_else(|| Error::input(variable, expected(), format!("{value:?}")));
        }
    }
    // Kept, as finding it reads several system files.
    static CPUS: OnceLock<usize> = OnceLock::new();
    Ok(*CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, |count| count.get()).min(MAX_THREADS)))
}

/// Lets the caller interrupt running jobs, and hear of their progress.
pub struct Watch<'a> {
    go_on: &'a (dyn Fn() -> bool + Sync),
    progress: Option<&'a Progress<'a>>,
    caller: ThreadId,
    start: Instant,
    /// When `go_on` was last called: milliseconds after `start`.
    checked: AtomicU64,
    stop: AtomicBool,
    /// [`reserve::refused`] at the start.
    refused: u64,
}

impl<'a> Watch<'a> {
    /// `go_on` is called about ten times a second, on the thread that calls this function only; work stops once it
    /// returns false.
    pub fn new(go_on: &'a (dyn Fn() -> bool + Sync)) -> Self {
        let caller = std::thread::current().id();
        Watch {
            go_on,
            progress: None,
            caller,
            start: Instant::now(),
            checked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            refused: reserve::refused(),
        }
    }

    /// The same, and `progress` hears of the work, on the same thread.
    pub fn telling(self, progress: Option<&'a Progress<'a>>) -> Self {
        Watch { progress, ..self }
    }

    /// A watch of a small part of the work, whose steps do not count.
    pub fn silent(&self) -> Self {
        let (checked, stop) = (AtomicU64::new(self.checked.load(Ordering::Relaxed)), AtomicBool::new(false));
        Watch { progress: None, checked, stop, ..*self }
    }

    /// [`Progress::plan`], where somebody listens.
    pub fn plan(&self, cost: f64) {
        if let Some(progress) = self.progress {
            progress.plan(cost);
        }
    }

    /// [`Progress::stage`], where somebody listens.
    pub fn stage(&self, cost: f64, steps: u64) {
        if let Some(progress) = self.progress {
            progress.stage(cost, steps);
        }
    }

    /// [`Progress::advance`], where somebody listens; the next check tells.
    pub fn advance(&self, steps: u64) {
        if let Some(progress) = self.progress {
            progress.advance(steps);
        }
    }

    /// Workers call this between pieces of work.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once `go_on` or the progress has returned false or another worker has failed; [`Error::Memory`]
    /// once the system has refused a small request, which the reserve answered.
    pub fn check(&self) -> Result<()> {
        let now = self.start.elapsed();
        let checked = Duration::from_millis(self.checked.load(Ordering::Relaxed));
        let time = now - checked.min(now) >= CHECK_INTERVAL;
        if (time || self.progress.is_some_and(Progress::is_due)) && std::thread::current().id() == self.caller {
            if time {
                self.checked.store(now.as_millis() as u64, Ordering::Relaxed);
            }
            if time && !(self.go_on)() || self.progress.is_some_and(|progress| !progress.report(time)) {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let refused = reserve::refused() - self.refused;
        if refused > 0 { Err(Error::Memory { bytes: refused, purpose: "small buffers" }) } else { Ok(()) }
    }
}

/// Runs `work(state, job)` for every job below `jobs` on up to `threads` workers, each with a state of its own made by
/// `start`, and returns the states in no particular order.
///
/// # Errors
/// Of the failed jobs, the error of the one with the lowest number; [`Error::Interrupted`].
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
        if first.as_ref().is_none_or(|(other, error)| matches!(error, Error::Interrupted) || (!interrupted && job < *other)) {
            *first = Some((job, error));
        }
    };
    let worker = || {
        let _mode = FloatMode::standard();
        let mut state = match watch.check().and_then(|()| start()) {
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
    match pool(helpers) {
        Some(pool) => pool.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| worker());
            }
            worker();
        }),
        None => worker(),
    }
    match failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(finished.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())),
    }
}

/// As [`run`], but returns the results of `work`, in the order of jobs.
///
/// # Errors
/// As [`run`].
pub fn map<S: Send, T: Send>(
    threads: usize,
    jobs: usize,
    watch: &Watch,
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = |(state, results): &mut (S, Vec<(usize, T)>), job: usize| push(results, (job, work(state, job)?), "results");
    let states = run(threads, jobs, watch, || Ok((start()?, Vec::new())), work)?;
    let mut results: Vec<(usize, T)> = collected(states.into_iter().flat_map(|state| state.1), "results")?;
    results.sort_unstable_by_key(|result| result.0);
    collected(results.into_iter().map(|result| result.1), "results")
}

/// The pool of this process, made anew if it has fewer than `size` threads; none for no threads, and where the system
/// starts no more.
fn pool(size: usize) -> Option<Arc<ThreadPool>> {
    if size == 0 {
        return None;
    }
    /// The number of the process that made the pool, and the pool.
    type Owned = (u32, Arc<ThreadPool>);
    static SHARED: OnceLock<Mutex<Option<Owned>>> = OnceLock::new();
    let process = std::process::id();
    let shared = SHARED.get_or_init(Mutex::default);
    // A fork may have copied the lock while another thread held it; it is never released then, so the wait is limited.
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
        return Some(Arc::clone(pool));
    }
    // The C library ends the process where a new thread gets no memory for its variables. What nobody looks at would not
    // even be asked for.
    std::hint::black_box(room::<u8>(MAPPED_BYTES + size * THREAD_BYTES, "threads").ok()?);
    let built = ThreadPoolBuilder::new().num_threads(size).thread_name(|index| format!("nseekfs-{index}")).build();
    let pool = Arc::new(built.ok()?);
    if let Some(slot) = slot.as_deref_mut()
        && let Some((owner, old)) = slot.replace((process, Arc::clone(&pool)))
        && owner != process
    {
        // The parent's threads do not exist in this process, so joining them would never end.
        std::mem::forget(old);
    }
    Some(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let watch = Watch::new(&|| true);
            let work = |done: &mut Vec<usize>, job: usize| {
                done.push(job);
                Ok(())
            };
            let done = run(threads, 100, &watch, || Ok(Vec::new()), work).unwrap();
            let mut done: Vec<usize> = done.into_iter().flatten().collect();
            done.sort_unstable();
            assert_eq!(done, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_failing_job_ends_the_run_with_its_error() {
        let watch = Watch::new(&|| true);
        let result = run(2, 1000, &watch, || Ok(()), |(), job| if job == 7 { Err(Error::input("k", "x", job)) } else { Ok(()) });
        assert_eq!(result.unwrap_err().to_string(), "k: expected x, got 7");
    }

    #[test]
    fn the_caller_can_interrupt_a_run() {
        let watch = Watch::new(&|| false);
        let work = |(): &mut (), _| {
            std::thread::sleep(CHECK_INTERVAL / 4);
            Ok(())
        };
        let result = run(2, 1_000_000, &watch, || Ok(()), work);
        assert!(matches!(result, Err(Error::Interrupted)));
    }
}
