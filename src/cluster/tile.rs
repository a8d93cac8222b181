//! Up to sixteen rows made ready for a sieve, which holds them against codes all at once.

use super::centroid_codes::{BLOCK, Codes, EncodedRow};
use crate::error::{Result, filled};
use crate::kernel::{BATCH, BoundFactors, Int8Batch, Kernel, Line, Planes, UnpackedCodes, unpacked_stride};
use bytemuck::{Zeroable, cast_slice, cast_slice_mut};

/// The rows, as whole numbers in the frame of some codes.
pub(super) struct Tile {
    dims: usize,
    words: Vec<Line>,
    high: Vec<Line>,
    low: Vec<Line>,
    /// What turns sums into bounds, a row each; its floor is for the caller to set.
    pub factors: Vec<BoundFactors>,
}

impl Tile {
    /// Room for rows of `dims` values.
    pub fn new(dims: usize) -> Result<Self> {
        let lines = |bytes: usize| filled(BATCH * unpacked_stride(dims) * bytes / size_of::<Line>(), Line::zeroed(), "a tile of rows");
        Ok(Tile { dims, words: lines(2)?, high: lines(1)?, low: lines(1)?, factors: Vec::with_capacity(BATCH) })
    }

    /// Adds a row of length `norm`; all of them stand in the frame of the same `codes`.
    pub fn push(&mut self, codes: &Codes, kernel: &Kernel, row: &[f32], norm: f64) -> EncodedRow {
        let stride = unpacked_stride(self.dims);
        let span = self.factors.len() * stride..(self.factors.len() + 1) * stride;
        let planes = Planes {
            words: &mut cast_slice_mut(&mut self.words)[span.clone()],
            high: &mut cast_slice_mut(&mut self.high)[span.clone()],
            low: &mut cast_slice_mut(&mut self.low)[span],
        };
        let seen = codes.see(kernel, row, norm, planes);
        self.factors.push(seen.factors);
        seen
    }

    /// Bounds of some codes for each row, as [`Kernel::int8_batch`] gives them.
    pub fn int8_batch(&self, kernel: &Kernel, wide: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
        let int8_batch = Int8Batch {
            dims: self.dims.next_multiple_of(8),
            words: cast_slice(&self.words),
            high: cast_slice(&self.high),
            low: cast_slice(&self.low),
            factors: &self.factors,
        };
        (kernel.int8_batch)(&int8_batch, wide, bounds, keep);
    }
}

/// Whether all bounds of a block are below `threshold`; what is no number is not.
pub(super) fn below(bounds: &[f32; BLOCK], threshold: f32) -> bool {
    // Not `all`: without a branch a lane, sixteen are a few instructions.
    bounds.iter().fold(true, |below, &bound| below & (bound < threshold))
}
