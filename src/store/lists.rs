//! Rows by cell: which rows a cell holds, and their codes side by side.

use super::section::Section;

/// Stands for no row, where a cell's last block is padded.
pub const NO_ROW: u32 = u32::MAX;

/// Where the lists of all cells lie.
#[derive(Debug, Clone)]
pub struct ListSections {
    /// The first block of every cell, and the end of the last: uint32.
    pub starts: Section,
    /// Row numbers, uint32, in blocks of 16.
    pub rows: Section,
    /// Copies of the rows' codes, if they have any.
    pub codes: Option<ListedCodes>,
}

/// Where the codes of the lists lie.
#[derive(Debug, Clone)]
pub struct ListedCodes {
    /// The lines of every block.
    pub lines: Section,
    /// Of every row of every block, as [`CodeSections::factors`](super::codes::CodeSections).
    pub factors: Section,
}

impl ListSections {
    /// The lists as a scan reads them.
    pub fn view(&self) -> Lists<'_> {
        let rows: &[u32] = self.rows.view();
        let codes = self.codes.as_ref().map(|codes| {
            let (start, count) = (codes.factors.range.start, rows.len());
            let halves = |i: usize| codes.factors.bytes.view(start + (4 + 2 * i) * count..start + (6 + 2 * i) * count);
            ListCodes {
                lines: codes.lines.view(),
                offsets: codes.factors.bytes.view(start..start + 4 * count),
                leading_residuals: halves(0),
                trailing_residuals: halves(1),
                remainder_residuals: halves(2),
            }
        });
        Lists { starts: self.starts.view(), rows, codes }
    }
}

/// The rows of every cell, in blocks of 16.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'a> {
    /// The first block of every cell, and the end of the last.
    pub starts: &'a [u32],
    /// Row numbers, or [`NO_ROW`].
    pub rows: &'a [u32],
    /// Their codes, if they have any.
    pub codes: Option<ListCodes<'a>>,
}

/// The codes of listed rows, in blocks of 16.
#[derive(Debug, Clone, Copy)]
pub struct ListCodes<'a> {
    /// As [`Codes::lines`](super::codes::Codes).
    pub lines: &'a [u8],
    /// `<centre, direction>`, a row each.
    pub offsets: &'a [f32],
    /// What the lines leave, as [`Codes::leading_residuals`](super::codes::Codes).
    pub leading_residuals: &'a [u16],
    /// As [`Codes::trailing_residuals`](super::codes::Codes).
    pub trailing_residuals: &'a [u16],
    /// As [`Codes::remainder_residuals`](super::codes::Codes).
    pub remainder_residuals: &'a [u16],
}

impl Lists<'_> {
    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.starts.len() - 1
    }

    /// Places of the rows of a cell, whole blocks.
    pub fn places(&self, cell: usize) -> std::ops::Range<usize> {
        16 * self.starts[cell] as usize..16 * self.starts[cell + 1] as usize
    }
}
