//! Memory for small requests that the system refuses.
//!
//! The language, rayon and PyO3 allocate in many places where a refusal ends the process. What grows with rows, dims,
//! queries or k is therefore asked for with `try_reserve`, and is `Error::Memory` where it is refused. Everything else is
//! small, and [`Allocator`] takes it from a reserve when the system has no more; work that is under way notices at its
//! next check (see `pool::Watch`) and ends with the same error, so the reserve is in use only for a moment. It is zeroed
//! static memory: no page of it exists before it is used.
//!
//! The extension module installs the allocator for its own Rust code. A Rust program chooses its allocator itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The largest request that the reserve answers; what may be larger is asked for with `try_reserve`.
const LARGEST: usize = 4 << 20;
/// Bytes of the reserve: the largest request, for each of a few threads.
const RESERVE: usize = 64 << 20;
/// The reserve is given out in pages of this size.
const PAGE: usize = 4096;
const PAGES: usize = RESERVE / PAGE;
/// Attempts to get the lock. A fork may have copied it while another thread held it; it is never released then.
const PATIENCE: usize = 10_000;

#[repr(align(4096))]
struct Memory(UnsafeCell<MaybeUninit<[u8; RESERVE]>>);

// SAFETY: only its address is used here; a page belongs to whoever holds the request that it was given out for.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new(MaybeUninit::uninit()));
/// Which pages are given out; changed under `LOCK`.
static GIVEN: [AtomicBool; PAGES] = [const { AtomicBool::new(false) }; PAGES];
static LOCK: AtomicBool = AtomicBool::new(false);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Bytes of all requests so far that the system refused and the reserve was asked for.
pub fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// The system's allocator, and the reserve for small requests that it refuses.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: memory is the system's or whole pages of the reserve that nobody else has, aligned to 4096; no call panics.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        let found = unsafe { System.alloc(layout) };
        if found.is_null() { instead(layout) } else { found }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let found = unsafe { System.alloc_zeroed(layout) };
        if !found.is_null() {
            return found;
        }
        let found = instead(layout);
        if !found.is_null() {
            // SAFETY: `take` gave this many bytes. They may have been used before.
            unsafe { found.write_bytes(0, layout.size()) };
        }
        found
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !in_reserve(old) {
            // SAFETY: `old` is the system's; the caller's promises are those that it asks for.
            let found = unsafe { System.realloc(old, layout, size) };
            if !found.is_null() {
                return found;
            }
        }
        // SAFETY: the caller promises that `size`, rounded up to the alignment, does not overflow `isize`.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller promises a size above 0.
        let found = if in_reserve(old) { unsafe { self.alloc(wanted) } } else { instead(wanted) };
        if !found.is_null() {
            // SAFETY: both are live, at least this long, and apart, because `found` is new.
            unsafe { found.copy_from_nonoverlapping(old, layout.size().min(size)) };
            // SAFETY: `old` came from this allocator with `layout`.
            unsafe { self.dealloc(old, layout) };
        }
        found
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        if in_reserve(old) {
            give_back(old, layout);
        } else {
            // SAFETY: what is not in the reserve came from the system, with this layout.
            unsafe { System.dealloc(old, layout) };
        }
    }
}

fn start() -> usize {
    MEMORY.0.get() as usize
}

fn in_reserve(memory: *mut u8) -> bool {
    (memory as usize).wrapping_sub(start()) < RESERVE
}

/// What the system has refused.
#[cold]
fn instead(layout: Layout) -> *mut u8 {
    if layout.size() <= LARGEST {
        REFUSED.fetch_add(layout.size() as u64, Ordering::Relaxed);
    }
    take(layout)
}

/// Free pages of the reserve; null where the request is large or no pages are free.
fn take(layout: Layout) -> *mut u8 {
    if layout.size() > LARGEST || layout.align() > PAGE {
        return null_mut();
    }
    let pages = layout.size().div_ceil(PAGE);
    let first_free = || {
        let mut free = 0;
        let end = GIVEN.iter().position(|given| {
            free = if given.load(Ordering::Relaxed) { 0 } else { free + 1 };
            free == pages
        });
        end.map(|end| end + 1 - pages)
    };
    let first = locked(|| {
        let first = first_free()?;
        GIVEN[first..first + pages].iter().for_each(|given| given.store(true, Ordering::Relaxed));
        Some(first)
    });
    first.flatten().map_or(null_mut(), |first| MEMORY.0.get().cast::<u8>().wrapping_add(first * PAGE))
}

/// Where the lock is never released, the pages stay given out.
#[cold]
fn give_back(memory: *mut u8, layout: Layout) {
    let first = (memory as usize - start()) / PAGE;
    let given = &GIVEN[first..first + layout.size().div_ceil(PAGE)];
    locked(|| given.iter().for_each(|given| given.store(false, Ordering::Relaxed)));
}

/// `work` while no other thread is here; none where the lock is never released.
fn locked<T>(work: impl FnOnce() -> T) -> Option<T> {
    (0..PATIENCE).find(|_| {
        let got = LOCK.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !got {
            std::thread::yield_now();
        }
        got
    })?;
    let done = work();
    LOCK.store(false, Ordering::Release);
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap()
    }

    /// One test, because all of it shares the reserve.
    #[test]
    fn the_reserve_gives_out_pages_that_nobody_has_and_takes_them_back() {
        assert!(take(layout(LARGEST + 1)).is_null());
        let small: Vec<*mut u8> = (0..100).map(|i| take(layout(1 + 97 * i))).collect();
        for (i, &memory) in small.iter().enumerate() {
            assert!(in_reserve(memory) && (memory as usize).is_multiple_of(64));
            // SAFETY: the bytes belong to this test.
            unsafe { memory.write_bytes(i as u8, 1 + 97 * i) };
        }
        for (i, &memory) in small.iter().enumerate() {
            // SAFETY: as above, and written.
            let bytes = unsafe { std::slice::from_raw_parts(memory, 1 + 97 * i) };
            assert!(bytes.iter().all(|&byte| byte == i as u8));
            // SAFETY: grown and shrunk with the layout that it has; the first bytes stay.
            unsafe {
                let moved = Allocator.realloc(memory, layout(1 + 97 * i), 20_000);
                assert_eq!((*moved, *moved.add(97 * i)), (i as u8, i as u8));
                Allocator.dealloc(moved, layout(20_000));
            }
        }
        let all: Vec<*mut u8> = (0..RESERVE / LARGEST).map(|_| take(layout(LARGEST))).collect();
        assert!(all.iter().all(|&memory| in_reserve(memory)), "freed pages are given out again");
        assert!(take(layout(1)).is_null(), "an empty reserve refuses");
        all.into_iter().for_each(|memory| give_back(memory, layout(LARGEST)));
        let again = take(layout(LARGEST));
        assert!(in_reserve(again));
        give_back(again, layout(LARGEST));
    }

    #[test]
    fn the_system_comes_first() {
        // SAFETY: a request of 100 bytes, returned with its layout.
        unsafe {
            let memory = Allocator.alloc_zeroed(layout(100));
            assert!(!memory.is_null() && !in_reserve(memory) && *memory.add(99) == 0);
            let memory = Allocator.realloc(memory, layout(100), 10_000);
            assert!(!in_reserve(memory) && *memory == 0);
            Allocator.dealloc(memory, layout(10_000));
        }
    }
}
