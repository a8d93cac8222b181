//! Reading ahead where the system cannot: it knows a file, but not which parts come next.

use super::bytes::{waits, want};

/// Parts that are few enough to wait for one after the other.
const FEW: usize = 4;
/// Parts between two looks at whether the thread waits for the disk, at most: asking the system takes
/// as long as a part or two.
const SELDOM: usize = 256;

/// For a reader of many small parts of a mapped file. As soon as one of them had to come from disk,
/// the next are asked for together, so that the disk works on them side by side. Where all is in
/// memory, nothing is asked for.
#[derive(Debug)]
pub struct ReadAhead {
    window: usize,
    /// The part before which to look or to ask next.
    next: usize,
    waits: i64,
}

impl ReadAhead {
    /// For `parts` parts, of which `window` are asked for at a time; of memory of our `own`, none.
    pub fn new(window: usize, parts: usize, own: bool) -> Self {
        if own || parts <= FEW { ReadAhead { window, next: usize::MAX, waits: 0 } } else { ReadAhead { window, next: 1, waits: waits() } }
    }

    /// To be called before part `at` is read; `parts` are that one and those after it.
    #[inline]
    pub fn before<'a>(&mut self, at: usize, parts: impl Iterator<Item = &'a [u8]>) {
        if at < self.next {
            return;
        }
        if waits() > self.waits {
            parts.take(self.window).for_each(want);
            self.next = at + self.window;
        } else {
            self.next = at + at.clamp(1, SELDOM);
        }
    }
}
