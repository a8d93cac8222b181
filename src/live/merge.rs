//! Several segments become one, without the rows that have been deleted: stored bytes are copied, codes are moved from block
//! to block, and rows that have no codes yet get some.

use crate::build::coding::{self, Coding};
use crate::error::Result;
use crate::format::IndexRecord;
use crate::level::Level;
use crate::quantize::{BLOCK, LINE_BYTES, Quantizer};
use crate::store::BytesMut;
use crate::store::codes::{CodeSections, Codes, FACTOR_BYTES};
use crate::store::deleted::Deleted;
use crate::store::ids::{Id, IdSlice, Ids};
use crate::store::section::Section;
use crate::store::segment::{self, Segment};
use std::ops::Range;

/// Bytes that are copied between two checks for an interrupt.
const COPY_BYTES: usize = 4 << 20;

/// How segments are merged.
#[derive(Clone, Copy)]
pub(super) struct Merging<'a> {
    pub about: &'a IndexRecord,
    /// The quantizer of the codes that rows have and get; `None`: no codes.
    pub quantizer: Option<&'a Quantizer>,
    pub coding: Coding<'a>,
}

impl Merging<'_> {
    /// The rows of `segments` that have not been deleted, of which there is at least one.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn merge(&self, segments: &[Segment]) -> Result<Segment> {
        let (rows, level) = (segments.iter().map(Segment::live).sum::<usize>(), self.about.level);
        let scale_bytes = if level == Level::F8 { size_of::<f32>() } else { 0 };
        let norm_bytes = if level.has_norms() { size_of::<f64>() } else { 0 };
        let values = self.copy(segments, |segment| &segment.values, level.row_bytes(self.about.dims), rows)?;
        let norms = self.copy(segments, |segment| &segment.norms, norm_bytes, rows)?;
        let scales = self.copy(segments, |segment| &segment.scales, scale_bytes, rows)?;
        let codes = self.quantizer.map(|quantizer| self.codes(segments, quantizer, rows)).transpose()?;
        Ok(Segment { rows, values, norms, scales, codes, ids: ids(segments)?, deleted: Deleted::default() })
    }

    /// The bytes of the rows that are left, `bytes` each.
    fn copy(&self, segments: &[Segment], of: impl Fn(&Segment) -> &Section, bytes: usize, rows: usize) -> Result<Section> {
        let mut copy = BytesMut::zeroed(rows * bytes, "merged rows")?;
        let mut to = copy.view_mut::<u8>(0..rows * bytes);
        for segment in segments.iter().filter(|_| bytes > 0) {
            let from: &[u8] = of(segment).view();
            for run in segment.live_runs() {
                for part in from[run.start * bytes..run.end * bytes].chunks(COPY_BYTES) {
                    self.coding.watch.check()?;
                    let (own, rest) = std::mem::take(&mut to).split_at_mut(part.len());
                    own.copy_from_slice(part);
                    to = rest;
                }
            }
        }
        copy.freeze().map(Section::whole)
    }

    /// The codes of the rows that are left.
    fn codes(&self, segments: &[Segment], quantizer: &Quantizer, rows: usize) -> Result<CodeSections> {
        let mut moved = MovedCodes::new(quantizer, rows)?;
        let mut first = 0;
        for segment in segments {
            let own = match &segment.codes {
                Some(codes) => codes.clone(),
                None => coding::encode(self.coding, quantizer, &segment::rows(self.about.dims, self.about.level, segment, 0))?,
            };
            for run in segment.live_runs() {
                self.coding.watch.check()?;
                moved.copy(&own.view(segment.rows), run.clone(), first);
                first += run.len();
            }
        }
        moved.finish()
    }
}

/// The ids of the rows that are left.
fn ids(segments: &[Segment]) -> Result<Ids> {
    let live = segments.iter().flat_map(|segment| segment.live_runs().flatten().map(move |row| segment.id(row)));
    if segments.iter().any(|segment| segment.ids.are_texts()) {
        // Bytes that are no text have been refused when their checksums were compared.
        let texts = live.map(|id| if let Some(Id::Text(text)) = id { text } else { "" });
        return Ids::copy(IdSlice::Texts(&texts.collect::<Vec<&str>>()));
    }
    let numbers = live.map(|id| if let Some(Id::Number(number)) = id { number } else { 0 });
    Ids::copy(IdSlice::Numbers(&numbers.collect::<Vec<i64>>()))
}

/// Codes that are being filled.
struct MovedCodes {
    rows: usize,
    block_bytes: usize,
    remainder_bytes: usize,
    lines: BytesMut,
    factors: BytesMut,
    remainder: BytesMut,
}

impl MovedCodes {
    fn new(quantizer: &Quantizer, rows: usize) -> Result<Self> {
        let (padded, block_bytes, remainder_bytes) = (rows.next_multiple_of(BLOCK), quantizer.block_bytes(), quantizer.remainder_bytes());
        let lines = BytesMut::zeroed(padded / BLOCK * block_bytes, "the codes")?;
        let factors = BytesMut::zeroed(padded * FACTOR_BYTES, "the codes")?;
        let remainder = BytesMut::zeroed(rows * remainder_bytes, "the codes")?;
        Ok(MovedCodes { rows, block_bytes, remainder_bytes, lines, factors, remainder })
    }

    /// Copies the codes of the rows of `run`, the first of which becomes row `first`.
    fn copy(&mut self, from: &Codes, run: Range<usize>, first: usize) {
        let (padded, bytes, blocks) = (self.rows.next_multiple_of(BLOCK), self.remainder_bytes, self.block_bytes);
        let to = first..first + run.len();
        self.remainder
            .view_mut::<u8>(to.start * bytes..to.end * bytes)
            .copy_from_slice(&from.remainder[run.start * bytes..run.end * bytes]);
        self.factors.view_mut::<f32>(4 * to.start..4 * to.end).copy_from_slice(&from.offsets[run.clone()]);
        let residuals = [from.leading_residuals, from.trailing_residuals, from.remainder_residuals];
        for (at, residuals) in residuals.into_iter().enumerate() {
            let start = (4 + 2 * at) * padded;
            self.factors.view_mut::<u16>(start + 2 * to.start..start + 2 * to.end).copy_from_slice(&residuals[run.clone()]);
        }
        let own = self.lines.len();
        let lines = self.lines.view_mut::<[u8; 4]>(0..own);
        let given: &[[u8; 4]] = bytemuck::cast_slice(from.lines);
        let (dwords, per_line) = (blocks / 4, LINE_BYTES / 4);
        for (row, to) in run.zip(to) {
            let (start, end) = (row / BLOCK * dwords + row % BLOCK, to / BLOCK * dwords + to % BLOCK);
            for line in 0..dwords / per_line {
                lines[end + line * per_line] = given[start + line * per_line];
            }
        }
    }

    fn finish(self) -> Result<CodeSections> {
        let [lines, factors, remainder] = [self.lines, self.factors, self.remainder].map(|section| section.freeze().map(Section::whole));
        Ok(CodeSections { lines: lines?, factors: factors?, remainder: remainder? })
    }
}
