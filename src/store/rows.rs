//! A borrowed view of stored rows, and their decoding for the kernels.
//!
//! Reading a level is defined here alone: kernels get float32 or float64 values, whatever the level; bits they read as
//! they are stored.

use super::codes::Codes;
use super::deleted::Deleted;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::level::Level;
use std::ops::Range;

/// The stored values of some rows, one variant a level.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// float64 values.
    F64(&'a [f64]),
    /// float32 values.
    F32(&'a [f32]),
    /// IEEE 754 binary16 bits.
    F16(&'a [u16]),
    /// Signed codes and one scale a row.
    F8 {
        /// `dims` codes a row.
        codes: &'a [i8],
        /// One a row.
        scales: &'a [f32],
    },
    /// `dims / 8` bytes a row.
    B1(&'a [u8]),
}

/// Consecutive rows of one segment.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Values a row.
    pub dims: usize,
    /// Row number, in the whole index, of the first row.
    pub first: u64,
    /// The values, row after row.
    pub values: Values<'a>,
    /// The same values for random access, see [`Bytes::scattered`](super::Bytes::scattered).
    pub scattered: Values<'a>,
    /// The euclidean norm of every decoded row; empty at level b1.
    pub norms: &'a [f64],
    /// Whether the rows are in anonymous memory, not in a mapped file, so that no read waits for a disk.
    pub in_memory: bool,
    /// The rows' codes, if the index has a quantizer.
    pub codes: Option<Codes<'a>>,
    /// The rows that have been deleted.
    pub deleted: &'a Deleted,
}

impl<'a> Rows<'a> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        if let Values::B1(bits) = self.values { bits.len() / self.row_bytes() } else { self.norms.len() }
    }

    /// Runs of the rows that have not been deleted, in order.
    pub fn live_runs(&self) -> impl Iterator<Item = Range<usize>> + 'a {
        self.deleted.live_runs(self.len())
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number within the segment of row `row` of the whole index; `None` if it is in another segment.
    pub fn local_row(&self, row: u64) -> Option<usize> {
        let number = row.wrapping_sub(self.first);
        (number < self.len() as u64).then_some(number as usize)
    }

    /// The same rows and remainders for random access.
    pub fn scattered(self) -> Self {
        let codes = self.codes.map(|codes| Codes { remainder: codes.scattered, ..codes });
        Rows { values: self.scattered, codes, ..self }
    }

    /// The stored bytes of one row's values.
    pub fn stored(&self, row: usize) -> &'a [u8] {
        let values = row * self.dims..(row + 1) * self.dims;
        match self.values {
            Values::F64(stored) => bytemuck::cast_slice(&stored[values]),
            Values::F32(stored) => bytemuck::cast_slice(&stored[values]),
            Values::F16(stored) => bytemuck::cast_slice(&stored[values]),
            Values::F8 { codes, .. } => bytemuck::cast_slice(&codes[values]),
            Values::B1(bits) => &bits[row * self.row_bytes()..(row + 1) * self.row_bytes()],
        }
    }

    /// Bytes of one stored row, its scale included.
    pub fn row_bytes(&self) -> usize {
        match self.values {
            Values::F64(_) => 8 * self.dims,
            Values::F32(_) => 4 * self.dims,
            Values::F16(_) => 2 * self.dims,
            Values::F8 { .. } => self.dims + 4,
            Values::B1(_) => self.dims / 8,
        }
    }

    /// The rows of `range` without copying; `None` for levels that need decoding.
    pub fn in_place(&self, range: Range<usize>) -> Option<PanelValues<'a>> {
        match self.values {
            Values::F64(stored) => Some(PanelValues::F64(stored).part(range, self.dims)),
            Values::F32(stored) => Some(PanelValues::F32(stored).part(range, self.dims)),
            Values::F16(_) | Values::F8 { .. } | Values::B1(_) => None,
        }
    }

    /// Appends the decoded rows of `range` to `buffer`.
    pub fn decode(&self, kernel: &Kernel, range: Range<usize>, buffer: &mut PanelBuffer) {
        let values = range.start * self.dims..range.end * self.dims;
        match self.values {
            Values::F64(stored) => buffer.f64.extend_from_slice(&stored[values]),
            Values::F32(stored) => buffer.f32.extend_from_slice(&stored[values]),
            Values::F16(stored) => (kernel.decode_f16)(&stored[values.clone()], buffer.append(values.len())),
            Values::F8 { codes, scales } => {
                (kernel.decode_f8)(&codes[values.clone()], &scales[range], self.dims, buffer.append(values.len()));
            }
            Values::B1(bits) => buffer.bits.extend_from_slice(&bits[values.start / 8..values.end / 8]),
        }
    }
}

/// Decoded rows, one after the other.
#[derive(Debug, Clone, Copy)]
pub enum PanelValues<'a> {
    /// Levels f32, f16 and f8.
    F32(&'a [f32]),
    /// Level f64.
    F64(&'a [f64]),
}

impl PanelValues<'_> {
    /// The rows of `range`, `dims` values each.
    pub fn part(self, range: Range<usize>, dims: usize) -> Self {
        let values = range.start * dims..range.end * dims;
        match self {
            PanelValues::F32(rows) => PanelValues::F32(&rows[values]),
            PanelValues::F64(rows) => PanelValues::F64(&rows[values]),
        }
    }
}

/// Owned decoded rows, one after the other.
#[derive(Debug)]
pub enum DecodedRows {
    /// Levels f32, f16 and f8.
    F32(Vec<f32>),
    /// Level f64.
    F64(Vec<f64>),
    /// Level b1: packed bits.
    B1(Vec<u8>),
}

/// A buffer of decoded rows; the level decides which of the vectors is used.
#[derive(Debug, Default)]
pub struct PanelBuffer {
    f32: Vec<f32>,
    f64: Vec<f64>,
    bits: Vec<u8>,
}

impl PanelBuffer {
    /// The place of `count` more float32 values.
    fn append(&mut self, count: usize) -> &mut [f32] {
        let start = self.f32.len();
        self.f32.resize(start + count, 0.0);
        &mut self.f32[start..]
    }

    /// A buffer with memory for `count` rows of `dims` values at `level`.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn with_capacity(level: Level, count: usize, dims: usize) -> Result<Self> {
        let (mut buffer, values) = (PanelBuffer::default(), count.saturating_mul(dims));
        let (bytes, reserved) = match level {
            Level::F64 => (values.saturating_mul(8), buffer.f64.try_reserve_exact(values)),
            Level::B1 => (values / 8, buffer.bits.try_reserve_exact(values / 8)),
            _ => (values.saturating_mul(4), buffer.f32.try_reserve_exact(values)),
        };
        reserved.map_err(|_| Error::Memory { bytes: bytes as u64, purpose: "decoded rows" })?;
        Ok(buffer)
    }

    /// Removes the rows and keeps the memory.
    pub fn clear(&mut self) {
        self.f32.clear();
        self.f64.clear();
        self.bits.clear();
    }

    /// The rows, in the type that rows of `level` decode to even if there are none.
    pub fn into_rows(self, level: Level) -> DecodedRows {
        match level {
            Level::F64 => DecodedRows::F64(self.f64),
            Level::B1 => DecodedRows::B1(self.bits),
            _ => DecodedRows::F32(self.f32),
        }
    }

    /// The rows decoded since the last `clear`, of a level other than b1.
    pub fn values(&self) -> PanelValues<'_> {
        if self.f64.is_empty() { PanelValues::F32(&self.f32) } else { PanelValues::F64(&self.f64) }
    }
}
