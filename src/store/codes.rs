//! The codes of a segment: their sections, and the typed view that scans read. `quantize/` defines what the numbers
//! mean.
//!
//! Codes of the leading dims, four bits each, are interleaved in lines of 64 bytes, 8 dims of a block of 16 rows;
//! the remainder (low four bits of the leading dims, eight bits of each trailing dim) is stored row by row.

use super::section::Section;

/// Rows of a block: dword i of a line belongs to row i of its block.
pub const BLOCK: usize = 16;
/// Bytes of a row's factors: a float32 offset and three residual norms in 16 bits.
pub const FACTOR_BYTES: usize = 10;

/// The sections of a segment's codes.
#[derive(Debug, Clone)]
pub struct CodeSections {
    /// The lines of every block.
    pub lines: Section,
    /// Factors of all rows, padded to whole blocks: all offsets (float32), then all leading residuals, all trailing
    /// residuals and all remainder residuals (upper halves of float32).
    pub factors: Section,
    /// The remainder of every row.
    pub remainder: Section,
}

impl CodeSections {
    /// The sections of `rows` rows as values.
    pub fn view(&self, rows: usize) -> Codes<'_> {
        let (offsets, [leading_residuals, trailing_residuals, remainder_residuals]) = factors(&self.factors, rows.next_multiple_of(BLOCK));
        let (lines, remainder, scattered) = (self.lines.view(), self.remainder.view(), self.remainder.view_scattered());
        Codes { lines, offsets, leading_residuals, trailing_residuals, remainder_residuals, remainder, scattered }
    }
}

/// Offsets, then leading, trailing and remainder residuals, of `rows` rows.
pub(super) fn factors(section: &Section, rows: usize) -> (&[f32], [&[u16]; 3]) {
    let start = section.range.start;
    let residuals = |i: usize| section.bytes.view(start + (4 + 2 * i) * rows..start + (6 + 2 * i) * rows);
    (section.bytes.view(start..start + 4 * rows), [residuals(0), residuals(1), residuals(2)])
}

/// The codes of a segment, in place. Factors are padded to whole blocks of 16 rows. A residual norm is the upper half
/// of a float32, rounded up.
#[derive(Debug, Clone, Copy)]
pub struct Codes<'a> {
    /// `leading / 8` lines a block.
    pub lines: &'a [u8],
    /// `<centre, direction>` of each row.
    pub offsets: &'a [f32],
    /// Residual norm of each row's leading dims after the codes in its lines.
    pub leading_residuals: &'a [u16],
    /// Norm of each row's trailing dims, for which the lines hold no codes.
    pub trailing_residuals: &'a [u16],
    /// Residual norm of each row after all of its codes.
    pub remainder_residuals: &'a [u16],
    /// Remainders, `remainder_bytes` a row.
    pub remainder: &'a [u8],
    /// The same for random access, see [`Bytes::scattered`](super::Bytes::scattered).
    pub scattered: &'a [u8],
}
