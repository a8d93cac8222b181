//! Compact codes: an 8-bit scalar quantizer of rotated directions, and the upper bounds of a row's score that it gives.
//!
//! A row's centred direction is rotated to orthonormal axes of falling variance ([`axes`]). The 4-bit reconstruction
//! levels of its `leading` dims lie in lines that a scan streams for coarse bounds. Their 4-bit refinements, and 8-bit codes
//! of the trailing dims, lie row by row for full bounds. [`bound`] proves both; `probable_bound` narrows them to hold with
//! high probability.

pub mod axes;
pub mod bound;
pub mod calibrate;
pub mod encode;
pub mod int16;
pub mod levels;
mod probable_bound;
pub mod query_code;
pub mod rotate;

pub use crate::store::codes::{BLOCK, Codes};

use crate::error::Result;
use crate::store::BytesMut;
use crate::store::section::Section;

/// Coordinates of each row of a block in one line, four bits each.
pub const LINE_DIMS: usize = 8;
/// Bytes of a line.
pub const LINE_BYTES: usize = 64;
/// Unit roundoff of float32: the relative error of one rounding, 2^-24.
pub const UNIT: f64 = 1.0 / 16_777_216.0;
/// Shorter vectors get no bound: their squares underflow, and the norm as computed may be far from the length. From here on a
/// square errs by 2^-1075 at most, in a sum of 1e-300.
pub const LEAST_NORM: f64 = 1e-150;

/// Centre, axes and steps by which all rows of an index are encoded.
#[derive(Debug, Clone)]
pub struct Quantizer {
    /// Values a row.
    pub dims: usize,
    /// Leading dims, those in lines: a multiple of [`LINE_DIMS`].
    pub leading: usize,
    /// Bounds the eigenvalues of V'V - 1 in magnitude, V being the axes as stored: how far they are from orthonormal.
    pub skew: f64,
    /// Float32 values as [`Quantizer::pack`] lays them out.
    pub values: Section,
}

impl Quantizer {
    /// Concatenates centre (`dims`), steps (`dims`) and axes (`dims * dims`, axis after axis) as in a file.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::error::Error::Memory).
    pub fn pack(centre: &[f32], steps: &[f32], axes: &[f32]) -> Result<Section> {
        let bytes = size_of_val(centre) + size_of_val(steps) + size_of_val(axes);
        let mut packed = BytesMut::zeroed(bytes, "the axes of codes")?;
        let (first, others) = packed.view_mut::<f32>(0..bytes).split_at_mut(centre.len());
        let (second, third) = others.split_at_mut(steps.len());
        first.copy_from_slice(centre);
        second.copy_from_slice(steps);
        third.copy_from_slice(axes);
        packed.freeze().map(Section::whole)
    }

    /// Mean direction, `dims` values.
    pub fn centre(&self) -> &[f32] {
        &self.values.view()[..self.dims]
    }

    /// Step of the 8-bit code along each axis, `dims` values.
    pub fn steps(&self) -> &[f32] {
        &self.values.view()[self.dims..2 * self.dims]
    }

    /// `dims` axes of `dims` values, by falling variance.
    pub fn axes(&self) -> &[f32] {
        &self.values.view()[2 * self.dims..]
    }

    /// Bytes of one row outside lines: refinements of leading dims, then codes of trailing dims.
    pub fn remainder_bytes(&self) -> usize {
        remainder_bytes(self.dims, self.leading)
    }

    /// Bytes that the coarse bound of one row reads: its part of the lines, its offset and two residual norms.
    pub fn line_bytes(&self) -> usize {
        self.block_bytes() / BLOCK + 8
    }

    /// Bytes of the lines of one block of [`BLOCK`] rows.
    pub fn block_bytes(&self) -> usize {
        block_bytes(self.leading)
    }
}

/// [`Quantizer::remainder_bytes`] for `dims` of which `leading` are in lines.
pub fn remainder_bytes(dims: usize, leading: usize) -> usize {
    leading / 2 + dims - leading
}

/// [`Quantizer::block_bytes`] for `leading` dims.
pub fn block_bytes(leading: usize) -> usize {
    leading / LINE_DIMS * LINE_BYTES
}

/// The least bfloat16 not below `value`, which is 0 or more: bits of float32 but for the lower 16, which are 0.
pub fn bf16_up(value: f64) -> u16 {
    let near = value as f32;
    let above = if f64::from(near) < value { near.next_up() } else { near };
    ((above.to_bits() + 0xffff) >> 16) as u16
}

/// A bfloat16 as float32.
#[inline(always)]
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bfloat16_is_rounded_up_by_one_part_in_64_at_most(value in 0.0f64..4.0) {
            let kept = f64::from(from_bf16(bf16_up(value)));
            prop_assert!(value <= kept && kept <= value * (1.0 + 1.0 / 64.0) + 1e-38);
        }
    }

    #[test]
    fn infinity_and_zero_stay_as_bfloat16() {
        assert_eq!(from_bf16(bf16_up(f64::INFINITY)), f32::INFINITY);
        assert_eq!(from_bf16(bf16_up(0.0)), 0.0);
    }
}
