//! Input numbers: blocks of float32, float64, int64, uint64 or bits, rounded once to float32 or float64, or to their signs,
//! and the checks of rows and queries.

use crate::error::{Error, Result};
use crate::kernel::FloatMode;
use crate::level::Level;
use std::ops::Range;

/// Rows of this squared norm or more are refused: 2^126, so that no float32 score overflows.
const SQUARED_NORM_LIMIT: f64 = 8.507059173023462e37;

/// Contiguous numbers of one of the four types that hold every real numpy type exactly, or packed bits.
#[derive(Debug, Clone, Copy)]
pub enum Block<'a> {
    /// float32, and float16 converted to it.
    F32(&'a [f32]),
    /// float64.
    F64(&'a [f64]),
    /// Signed integers.
    I64(&'a [i64]),
    /// Unsigned integers.
    U64(&'a [u64]),
    /// Bits, the numbers 0 and 1, packed as numpy.packbits does: the first in the highest bit of the first byte.
    Bits(&'a [u8]),
}

/// A number that converts to floats as by numpy's `astype`.
trait Number: Copy {
    fn to_f32(self) -> f32;
    fn to_f64(self) -> f64;
}

macro_rules! number {
    ($($type:ty)+) => {
        $(impl Number for $type {
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
        })+
    };
}
number!(f32 f64 i64 u64);

/// Applies one expression to whichever slice a block holds.
macro_rules! each {
    ($block:expr, $slice:ident => $body:expr) => {
        match $block {
            Block::F32($slice) => $body,
            Block::F64($slice) => $body,
            Block::I64($slice) => $body,
            Block::U64($slice) => $body,
            Block::Bits(bytes) => {
                let bits: Vec<u64> = bytes.iter().flat_map(|byte| (0..8).map(move |at| u64::from(byte >> (7 - at) & 1))).collect();
                let $slice = &bits.as_slice();
                $body
            }
        }
    };
}

impl<'a> Block<'a> {
    /// Number of numbers.
    pub fn len(&self) -> usize {
        if let Block::Bits(bytes) = self { 8 * bytes.len() } else { each!(self, numbers => numbers.len()) }
    }

    /// Whether there are no numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers of `range`; of bits, whole bytes.
    pub fn slice(&self, range: Range<usize>) -> Block<'a> {
        match self {
            Block::F32(numbers) => Block::F32(&numbers[range]),
            Block::F64(numbers) => Block::F64(&numbers[range]),
            Block::I64(numbers) => Block::I64(&numbers[range]),
            Block::U64(numbers) => Block::U64(&numbers[range]),
            Block::Bits(bytes) => Block::Bits(&bytes[range.start / 8..range.end / 8]),
        }
    }

    /// Packs a row of a multiple of 8 numbers to bits, 1 for numbers above 0; `out` holds as many bytes as that takes.
    ///
    /// # Errors
    /// [`Error::NotFinite`] about this row of `argument`.
    pub fn to_signs(&self, argument: &'static str, row: u64, out: &mut [u8]) -> Result<()> {
        if let Block::Bits(bytes) = self {
            out.copy_from_slice(bytes);
            return Ok(());
        }
        let mut finite = true;
        each!(self, numbers => for (byte, eight) in out.iter_mut().zip(numbers.as_chunks::<8>().0) {
            let wide = eight.map(Number::to_f64);
            finite &= wide.iter().all(|x| x.is_finite());
            *byte = wide.iter().fold(0, |bits, &x| bits << 1 | u8::from(x > 0.0));
        });
        if finite { Ok(()) } else { check_row(argument, Level::B1, *self, f64::NAN, row) }
    }

    /// Writes each number, rounded once to float64; `out` is as long as the block.
    pub fn to_f64(&self, out: &mut [f64]) {
        each!(self, numbers => out.iter_mut().zip(*numbers).for_each(|(to, &from)| *to = from.to_f64()));
    }

    /// Writes each number, rounded once to float32; `out` is as long as the block.
    pub fn to_f32(&self, out: &mut [f32]) {
        match self {
            Block::F32(numbers) => out.copy_from_slice(numbers),
            _ => each!(self, numbers => out.iter_mut().zip(*numbers).for_each(|(to, &from)| *to = from.to_f32())),
        }
    }

    /// Writes each number, rounded once to float32, as float64.
    pub fn to_f32_wide(&self, out: &mut [f64]) {
        each!(self, numbers => out.iter_mut().zip(*numbers).for_each(|(to, &from)| *to = f64::from(from.to_f32())));
    }
}

/// Rounds rows of `dims` numbers to float32 in `out`; the first is row `first` of the argument, for errors.
///
/// # Errors
/// As [`check_row`].
pub fn round_rows(argument: &'static str, given: Block, dims: usize, first: u64, out: &mut [f32]) -> Result<()> {
    let _mode = FloatMode::standard();
    given.to_f32(out);
    for (row, values) in out.chunks_exact(dims.max(1)).enumerate() {
        let squared = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        check_row(argument, Level::F32, given.slice(row * dims..(row + 1) * dims), squared, first + row as u64)?;
    }
    Ok(())
}

/// Checks one row, given with its squared norm after rounding to `level`.
///
/// # Errors
/// [`Error::NotFinite`]; [`Error::OutOfRange`] for a value beyond the level's range; [`Error::TooLong`] for a length of
/// 2^63 or more.
pub fn check_row(argument: &'static str, level: Level, given: Block, squared_norm: f64, row: u64) -> Result<()> {
    if squared_norm < SQUARED_NORM_LIMIT {
        return Ok(());
    }
    let mut wide = vec![0.0; given.len()];
    given.to_f64(&mut wide);
    if let Some((column, &value)) = wide.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        return Err(Error::NotFinite { argument, row, column, value });
    }
    // The least magnitude that the level rounds to infinity.
    let beyond = match level {
        Level::F16 => 65520.0,
        Level::F32 => f64::from(f32::MAX) + 2f64.powi(103),
        Level::F64 | Level::F8 | Level::B1 => f64::INFINITY,
    };
    if let Some((column, &value)) = wide.iter().enumerate().find(|(_, value)| value.abs() >= beyond) {
        return Err(Error::OutOfRange { argument, level: level.type_name(), row, column, value });
    }
    let largest = wide.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let norm = largest * wide.iter().map(|value| (value / largest).powi(2)).sum::<f64>().sqrt();
    Err(Error::TooLong { argument, row, norm })
}
