//! A part of a region of bytes that holds values of one type.

use super::Bytes;
use bytemuck::AnyBitPattern;
use std::ops::Range;

/// A part of a region that holds values of one type.
#[derive(Debug, Clone)]
pub struct Section {
    /// The region.
    pub bytes: Bytes,
    /// Where in it.
    pub range: Range<usize>,
}

impl Section {
    /// A whole region.
    pub fn whole(bytes: Bytes) -> Self {
        let range = 0..bytes.len();
        Section { bytes, range }
    }

    /// The section as values of `T`, in place.
    pub fn view<T: AnyBitPattern>(&self) -> &[T] {
        self.bytes.view(self.range.clone())
    }

    /// The same for who reads a few values here and a few there.
    pub fn view_scattered<T: AnyBitPattern>(&self) -> &[T] {
        self.bytes.view_scattered(self.range.clone())
    }
}
