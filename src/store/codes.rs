//! The codes of a segment: where they lie, and the view of them that scans read.
//!
//! What the numbers mean is known one layer up, where codes are made and bounds drawn from them.

use super::section::Section;

/// Rows of a line block: dword lane i of a line belongs to row i of the block.
pub const BLOCK: usize = 16;
/// Bytes of factors that each row has, padding rows included.
pub const FACTOR_BYTES: usize = 10;

/// The codes of a segment.
#[derive(Debug, Clone)]
pub struct CodeSections {
    /// Blocks of 16 rows.
    pub lines: Section,
    /// Of each row, padded to whole blocks: all float32 offsets, then the upper halves of all lead
    /// residuals, all tail residuals, all rest residuals.
    pub factors: Section,
    /// Low bits and other coordinates, row after row.
    pub remainder: Section,
}

impl CodeSections {
    /// The sections as the scan reads them.
    pub(super) fn view(&self, rows: usize) -> Codes<'_> {
        let padded = rows.next_multiple_of(BLOCK);
        let start = self.factors.range.start;
        let halves = |i: usize| self.factors.bytes.view(start + (4 + 2 * i) * padded..start + (6 + 2 * i) * padded);
        Codes {
            lines: self.lines.view(),
            offsets: self.factors.bytes.view(start..start + 4 * padded),
            leading_residuals: halves(0),
            trailing_residuals: halves(1),
            remainder_residuals: halves(2),
            remainder: self.remainder.view(),
            scattered: self.remainder.view_scattered(),
        }
    }
}

/// The codes of a segment in place; its last block is padded.
#[derive(Debug, Clone, Copy)]
pub struct Codes<'a> {
    /// `leading / 8` lines a block.
    pub lines: &'a [u8],
    /// `<centre, direction>`, a row each.
    pub offsets: &'a [f32],
    /// What the lines leave of the first `leading` coordinates, a norm a row: the upper half of a
    /// float32, rounded up.
    pub leading_residuals: &'a [u16],
    /// The norm of the other coordinates, a row each, rounded up.
    pub trailing_residuals: &'a [u16],
    /// What lines and rest together leave, a norm a row, rounded up.
    pub remainder_residuals: &'a [u16],
    /// `remainder_bytes` a row.
    pub remainder: &'a [u8],
    /// The same for who reads a few rows here and there, see [`Bytes::scattered`](super::Bytes::scattered).
    pub scattered: &'a [u8],
}
