//! Whose turn it is to change an index: one thread at a time, for one change or for a batch of them.

use crate::error::Result;
use crate::pool::Watch;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a thread that waits for its turn sleeps before it looks again.
const PAUSE: Duration = Duration::from_micros(100);

/// The thread that has the turn, or 0. It ends with its process: what a fork leaves behind can be taken.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU64);

/// A turn, which ends when this is dropped.
pub(super) struct Taken<'a>(Option<&'a Turn>);

impl Turn {
    /// Waits until no other thread has the turn. A thread that has it gets one that ends nothing.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn take(&self, watch: &Watch) -> Result<Taken<'_>> {
        let own = this_thread();
        loop {
            let holder = self.0.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed).err();
            match holder {
                None => return Ok(Taken(Some(self))),
                Some(holder) if holder == own => return Ok(Taken(None)),
                Some(holder) if holder >> 32 != own >> 32 => {
                    if self.0.compare_exchange(holder, own, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                        return Ok(Taken(Some(self)));
                    }
                }
                Some(_) => {
                    watch.check()?;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Whether this thread has it.
    pub fn is_own(&self) -> bool {
        self.0.load(Ordering::Relaxed) == this_thread()
    }

    /// The turn that [`Taken::keep`] has left to this or another thread.
    pub fn resume(&self) -> Taken<'_> {
        Taken(Some(self))
    }
}

impl Taken<'_> {
    /// Leaves the turn taken beyond the end of this.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.0 {
            turn.0.store(0, Ordering::Release);
        }
    }
}

/// The number of this process, then one of this thread.
fn this_thread() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static NUMBER: u64 = COUNT.fetch_add(1, Ordering::Relaxed));
    u64::from(std::process::id()) << 32 | NUMBER.with(|number| number & u64::from(u32::MAX))
}
