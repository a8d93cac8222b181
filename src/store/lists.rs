//! Inverted lists: the row numbers of every cell, in blocks of 16 entries, with copies of the rows' codes.

use super::codes::factors;
use super::section::Section;

/// An entry that pads a cell's last block.
pub const NO_ROW: u32 = u32::MAX;

/// The sections of the lists of all cells.
#[derive(Debug, Clone)]
pub struct ListSections {
    /// The first block of each cell, then the end of the last cell's blocks: uint32.
    pub starts: Section,
    /// Row numbers, or [`NO_ROW`]: uint32.
    pub rows: Section,
    /// Codes of the entries, if the index has codes.
    pub codes: Option<ListCodeSections>,
}

/// The sections of the entries' codes.
#[derive(Debug, Clone)]
pub struct ListCodeSections {
    /// The lines of every block.
    pub lines: Section,
    /// Factors of all entries, as [`CodeSections::factors`](super::codes::CodeSections).
    pub factors: Section,
}

impl ListSections {
    /// The sections as values.
    pub fn view(&self) -> Lists<'_> {
        let rows: &[u32] = self.rows.view();
        let codes = self.codes.as_ref().map(|codes| {
            let (offsets, [leading_residuals, trailing_residuals, remainder_residuals]) = factors(&codes.factors, rows.len());
            ListCodes { lines: codes.lines.view(), offsets, leading_residuals, trailing_residuals, remainder_residuals }
        });
        Lists { starts: self.starts.view(), rows, codes }
    }
}

/// The inverted lists of all cells, in place.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'a> {
    /// The first block of each cell, then the end of the last cell's blocks.
    pub starts: &'a [u32],
    /// Row numbers, or [`NO_ROW`].
    pub rows: &'a [u32],
    /// Codes of the entries, if the index has codes.
    pub codes: Option<ListCodes<'a>>,
}

/// The codes of the lists' entries, in place.
#[derive(Debug, Clone, Copy)]
pub struct ListCodes<'a> {
    /// As [`Codes::lines`](super::codes::Codes).
    pub lines: &'a [u8],
    /// As [`Codes::offsets`](super::codes::Codes).
    pub offsets: &'a [f32],
    /// As [`Codes::leading_residuals`](super::codes::Codes).
    pub leading_residuals: &'a [u16],
    /// As [`Codes::trailing_residuals`](super::codes::Codes).
    pub trailing_residuals: &'a [u16],
    /// As [`Codes::remainder_residuals`](super::codes::Codes).
    pub remainder_residuals: &'a [u16],
}

impl Lists<'_> {
    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.starts.len() - 1
    }

    /// Positions of a cell's entries in `rows`, whole blocks.
    pub fn entries(&self, cell: usize) -> std::ops::Range<usize> {
        16 * self.starts[cell] as usize..16 * self.starts[cell + 1] as usize
    }
}
