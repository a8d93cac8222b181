//! Up to [`BATCH`] rows quantised to 16 bits, whose products with all centroid codes one kernel call computes.

use super::centroid_codes::{BLOCK, Codes, EncodedRow};
use crate::error::{Result, filled};
use crate::kernel::{BATCH, BoundFactors, Int8Batch, Kernel, Line, Planes, UnpackedCodes, unpacked_stride};
use bytemuck::{Zeroable, cast_slice, cast_slice_mut};

/// Rows in 16-bit words and in two byte planes, [`unpacked_stride`] values each.
pub(super) struct Tile {
    dims: usize,
    words: Vec<Line>,
    high: Vec<Line>,
    low: Vec<Line>,
    /// One entry per row; the caller sets each threshold. Clearing it empties the tile.
    pub factors: Vec<BoundFactors>,
}

impl Tile {
    /// An empty tile for rows of `dims` values.
    pub fn new(dims: usize) -> Result<Self> {
        let lines = |bytes: usize| filled(BATCH * unpacked_stride(dims) * bytes / size_of::<Line>(), Line::zeroed(), "a tile of rows");
        Ok(Tile { dims, words: lines(2)?, high: lines(1)?, low: lines(1)?, factors: Vec::with_capacity(BATCH) })
    }

    /// Appends a row of this norm, quantised for `codes`, which must be the same for all rows of a tile.
    pub fn push(&mut self, codes: &Codes, kernel: &Kernel, row: &[f32], norm: f64) -> EncodedRow {
        let stride = unpacked_stride(self.dims);
        let span = self.factors.len() * stride..(self.factors.len() + 1) * stride;
        let planes = Planes {
            words: &mut cast_slice_mut(&mut self.words)[span.clone()],
            high: &mut cast_slice_mut(&mut self.high)[span.clone()],
            low: &mut cast_slice_mut(&mut self.low)[span],
        };
        let encoded = codes.encode_query(kernel, row, norm, planes);
        self.factors.push(encoded.factors);
        encoded
    }

    /// Upper bounds of the rows' ranks of some centroids, laid out as by [`Kernel::int8_batch`].
    pub fn bound(&self, kernel: &Kernel, codes: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
        let rows = Int8Batch {
            dims: self.dims.next_multiple_of(8),
            words: cast_slice(&self.words),
            high: cast_slice(&self.high),
            low: cast_slice(&self.low),
            factors: &self.factors,
        };
        (kernel.int8_batch)(&rows, codes, bounds, keep);
    }
}

/// Whether all bounds of a block are below `threshold`; false where one is NaN.
pub(super) fn all_below(bounds: &[f32; BLOCK], threshold: f32) -> bool {
    // A fold without early exit compiles to a few vector instructions; `all` branches per lane.
    bounds.iter().fold(true, |below, &bound| below & (bound < threshold))
}
