//! Compact codes: what bounds a row's score without reading the row.
//!
//! A row's direction, centred, is seen along orthonormal axes of falling variance ([`axes`]). Its
//! first `leading` coordinates are kept as the high four bits of an 8-bit code in lines that one
//! query streams through; the low bits and the other coordinates lie row by row, for the rows that
//! the first look leaves. [`margin`] proves what either look says about the score, and `probable` says what nearly all rows
//! keep within.

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

/// Coordinates in one 64-byte line of a block, four bits each.
pub const LINE_DIMS: usize = 8;
/// Bytes of a line.
pub const LINE_BYTES: usize = 64;
/// What one float32 rounding errs by, relative, 2^-24.
pub const UNIT: f64 = 1.0 / 16_777_216.0;
/// Shorter vectors have no direction to rely on: their squares lose bits below the least normal
/// float64, so the norm as computed may be far from the length. Here a square loses 2^-1075 at most
/// out of a sum of 1e-300, which is nothing.
pub const LEAST_NORM: f64 = 1e-150;

/// How the rows of an index become codes.
#[derive(Debug, Clone)]
pub struct Quantizer {
    /// Values a row.
    pub dims: usize,
    /// Coordinates that the lines hold, a multiple of [`LINE_DIMS`].
    pub leading: usize,
    /// Largest |V'V - 1|, V being the axes: what rounding them to float32 left of orthonormality.
    pub skew: f64,
    /// Centre, steps and axes, as [`Quantizer::pack`] lays them out.
    pub values: Section,
}

impl Quantizer {
    /// Centre, steps and axes one after the other, as they lie in a file too.
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

    /// A step of the 8-bit code along each axis.
    pub fn steps(&self) -> &[f32] {
        &self.values.view()[self.dims..2 * self.dims]
    }

    /// Axis after axis, `dims` values each, by falling variance.
    pub fn axes(&self) -> &[f32] {
        &self.values.view()[2 * self.dims..]
    }

    /// Bytes of one row beside its line: low bits, then the other coordinates.
    pub fn remainder_bytes(&self) -> usize {
        remainder_bytes(self.dims, self.leading)
    }

    /// Bytes of one row that a first look reads: its part of the lines, offset and two residuals.
    pub fn line_bytes(&self) -> usize {
        self.block_bytes() / BLOCK + 8
    }

    /// Bytes of the lines of one block.
    pub fn block_bytes(&self) -> usize {
        block_bytes(self.leading)
    }
}

/// Bytes of one row beside its line, of a coder with these widths.
pub fn remainder_bytes(dims: usize, leading: usize) -> usize {
    leading / 2 + dims - leading
}

/// Bytes of the lines of one block, of a coder with this `leading`.
pub fn block_bytes(leading: usize) -> usize {
    leading / LINE_DIMS * LINE_BYTES
}

/// The upper half of the least float32 with an empty lower half that is not below `value` >= 0.
pub fn up16(value: f64) -> u16 {
    let near = value as f32;
    let above = if f64::from(near) < value { near.next_up() } else { near };
    ((above.to_bits() + 0xffff) >> 16) as u16
}

/// The number that [`up16`] wrote.
#[inline(always)]
pub fn from16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_residual_is_rounded_up_and_not_far(value in 0.0f64..4.0) {
            let kept = f64::from(from16(up16(value)));
            prop_assert!(value <= kept && kept <= value * (1.0 + 1.0 / 64.0) + 1e-38);
        }
    }

    #[test]
    fn an_infinite_residual_stays_infinite() {
        assert_eq!(from16(up16(f64::INFINITY)), f32::INFINITY);
        assert_eq!(from16(up16(0.0)), 0.0);
    }
}
