//! A borrowed view of stored rows, and panels of them decoded for the kernels.
//!
//! A level differs from another only here: kernels see float32 or float64 values, never codes.

use super::codes::Codes;
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
    /// The same values for who reads a few rows here and there, see [`Bytes::scattered`](super::Bytes::scattered).
    pub scattered: Values<'a>,
    /// The euclidean norm of every decoded row.
    pub norms: &'a [f64],
    /// Whether they lie in memory of our own, so that nothing waits for a disk.
    pub own: bool,
    /// What bounds their scores, if there are codes.
    pub codes: Option<Codes<'a>>,
}

impl<'a> Rows<'a> {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.norms.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.norms.is_empty()
    }

    /// The number here of a row of the whole index, if it is one of these.
    pub fn own_number(&self, row: u64) -> Option<usize> {
        let number = row.wrapping_sub(self.first);
        (number < self.len() as u64).then_some(number as usize)
    }

    /// The same rows for who reads a few of them here and there.
    pub fn scattered(self) -> Self {
        let codes = self.codes.map(|codes| Codes { remainder: codes.scattered, ..codes });
        Rows { values: self.scattered, codes, ..self }
    }

    /// The stored values of one row.
    pub fn stored(&self, row: usize) -> &'a [u8] {
        let values = row * self.dims..(row + 1) * self.dims;
        match self.values {
            Values::F64(stored) => bytemuck::cast_slice(&stored[values]),
            Values::F32(stored) => bytemuck::cast_slice(&stored[values]),
            Values::F16(stored) => bytemuck::cast_slice(&stored[values]),
            Values::F8 { codes, .. } => bytemuck::cast_slice(&codes[values]),
        }
    }

    /// Bytes that one stored row takes.
    pub fn row_bytes(&self) -> usize {
        match self.values {
            Values::F64(_) => 8 * self.dims,
            Values::F32(_) => 4 * self.dims,
            Values::F16(_) => 2 * self.dims,
            Values::F8 { .. } => self.dims + 4,
        }
    }

    /// The rows of `range` where they lie, when no decoding is needed.
    pub fn in_place(&self, range: Range<usize>) -> Option<PanelValues<'a>> {
        let values = range.start * self.dims..range.end * self.dims;
        match self.values {
            Values::F64(stored) => Some(PanelValues::F64(&stored[values])),
            Values::F32(stored) => Some(PanelValues::F32(&stored[values])),
            Values::F16(_) | Values::F8 { .. } => None,
        }
    }

    /// Appends the decoded rows of `range` to `buffer`.
    pub fn decode(&self, kernel: &Kernel, range: Range<usize>, buffer: &mut PanelBuffer) {
        let values = range.start * self.dims..range.end * self.dims;
        let narrow = |buffer: &mut PanelBuffer| {
            let start = buffer.f32.len();
            buffer.f32.resize(start + values.len(), 0.0);
            start
        };
        match self.values {
            Values::F64(stored) => buffer.f64.extend_from_slice(&stored[values]),
            Values::F32(stored) => buffer.f32.extend_from_slice(&stored[values]),
            Values::F16(stored) => {
                let start = narrow(buffer);
                (kernel.decode_f16)(&stored[values], &mut buffer.f32[start..]);
            }
            Values::F8 { codes, scales } => {
                let start = narrow(buffer);
                (kernel.decode_f8)(&codes[values], &scales[range], self.dims, &mut buffer.f32[start..]);
            }
        }
    }
}

/// Decoded values, rows one after the other.
#[derive(Debug, Clone, Copy)]
pub enum PanelValues<'a> {
    /// Levels f32, f16 and f8.
    F32(&'a [f32]),
    /// Level f64.
    F64(&'a [f64]),
}

/// Decoded rows, one after the other, that the receiver owns.
#[derive(Debug)]
pub enum DecodedRows {
    /// Levels f32, f16 and f8.
    F32(Vec<f32>),
    /// Level f64.
    F64(Vec<f64>),
}

/// Room for decoded rows; one of the two is in use, as the level says.
#[derive(Debug, Default)]
pub struct PanelBuffer {
    f32: Vec<f32>,
    f64: Vec<f64>,
}

impl PanelBuffer {
    /// Forgets the rows, keeps the room.
    pub fn clear(&mut self) {
        self.f32.clear();
        self.f64.clear();
    }

    /// The rows themselves, in the type that rows of `level` decode to even if there are none.
    pub fn into_rows(self, level: Level) -> DecodedRows {
        if level == Level::F64 { DecodedRows::F64(self.f64) } else { DecodedRows::F32(self.f32) }
    }

    /// What was decoded since the last `clear`.
    pub fn values(&self) -> PanelValues<'_> {
        if self.f64.is_empty() { PanelValues::F32(&self.f32) } else { PanelValues::F64(&self.f64) }
    }
}
