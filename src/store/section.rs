//! A section: a range of bytes that holds values of one type.

use super::Bytes;
use bytemuck::AnyBitPattern;
use std::ops::Range;

/// A range of bytes that holds values of one type.
#[derive(Debug, Clone)]
pub struct Section {
    /// The file or memory that holds the section.
    pub bytes: Bytes,
    /// The section's bytes in it.
    pub range: Range<usize>,
}

impl Section {
    /// A section of all `bytes`.
    pub fn whole(bytes: Bytes) -> Self {
        let range = 0..bytes.len();
        Section { bytes, range }
    }

    /// The section as values of `T`, in place, see [`Bytes::view`].
    pub fn view<T: AnyBitPattern>(&self) -> &[T] {
        self.bytes.view(self.range.clone())
    }

    /// The same for random access, see [`Bytes::scattered`].
    pub fn view_scattered<T: AnyBitPattern>(&self) -> &[T] {
        self.bytes.view_scattered(self.range.clone())
    }
}
