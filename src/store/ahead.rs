//! Reading ahead in a mapped file where the system cannot: it does not know which parts are read next.

use super::bytes::{major_faults, request};

/// Up to this many parts are read one after the other, without reading ahead.
const MIN_PARTS: usize = 4;
/// Parts between two counts of page faults, at most: a count takes as long as a part or two.
const MAX_INTERVAL: usize = 256;

/// Requests many small parts of a mapped file before they are read. As soon as one had to come from disk, the next
/// are requested together, so that the disk reads them side by side. While all are in memory, nothing is requested.
#[derive(Debug)]
pub struct ReadAhead {
    window: usize,
    /// The part before which to count faults, or to request again.
    next: usize,
    /// Page faults of this thread before the first part.
    faults: i64,
}

impl ReadAhead {
    /// For `parts` parts, `window` of them requested at a time; `in_memory` parts are never requested.
    pub fn new(window: usize, parts: usize, in_memory: bool) -> Self {
        if in_memory || parts <= MIN_PARTS {
            ReadAhead { window, next: usize::MAX, faults: 0 }
        } else {
            ReadAhead { window, next: 1, faults: major_faults() }
        }
    }

    /// To be called before part `at` is read; `parts` are that one and those after it.
    #[inline]
    pub fn before<'a>(&mut self, at: usize, parts: impl Iterator<Item = &'a [u8]>) {
        if at < self.next {
            return;
        }
        if major_faults() > self.faults {
            parts.take(self.window).for_each(request);
            self.next = at + self.window;
        } else {
            self.next = at + at.clamp(1, MAX_INTERVAL);
        }
    }
}
