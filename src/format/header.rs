//! From bytes to a header that can be trusted: [`RawHeader`] holds any bytes, [`Header`] only what
//! obeys F1 to F15 and F19 to F25 of FORMAT.md.
//!
//! Sizes are added and multiplied with checks and compared with the real length of the file, and
//! nothing is allocated before the number that sizes it has been checked. No bytes make it panic.

use super::ann::{self, AnnRecord, TuningRecord};
use super::check::{Checked, checksum, ensure, same};
use super::checksum::hash;
use super::codes::{self, QuantizerRecord};
use super::foreign;
use super::index_record::IndexRecord;
use super::layout::{self, HEADER_BYTES, RECORD_BYTES};
use super::section::{self, Section, SegmentLayout};
use crate::error::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// The checked header and section table of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// What holds for the whole index.
    pub index: IndexRecord,
    /// Which commit this is; 1 in a sealed file of version 1.
    pub generation: u64,
    /// Where the parts of each segment lie, at least one segment.
    pub segments: Vec<SegmentLayout>,
    /// The quantizer of the codes; none without codes.
    pub quantizer: Option<QuantizerRecord>,
    /// Cells or buckets, and their tuning.
    pub ann: Option<(AnnRecord, TuningRecord)>,
    /// Every section of the file in order, unknown ignorable ones included.
    pub sections: Vec<Section>,
}

impl Header {
    /// Checks the header and the table of a whole file; `path` is only for the error.
    pub fn parse(file: &[u8], path: &Path) -> Result<Self> {
        Header::check(file, file.len() as u64, |place| &file[place]).map_err(|reason| Error::Format { path: path.to_owned(), reason })
    }

    /// The same for a file of `file_bytes` of which `head` is the start, header and table at least;
    /// `payload` gives the bytes of sections of the whole index, which lie within `file_bytes`.
    pub(super) fn check<'a>(head: &[u8], file_bytes: u64, payload: impl Fn(Range<usize>) -> &'a [u8]) -> Checked<Self> {
        let raw = RawHeader::read(head, file_bytes)?;
        raw.check_prologue()?;
        raw.check_slots(file_bytes)?;
        let table = raw.table(head)?;
        let Some(stored) = layout::record::<layout::Index>(table, 0) else {
            return Err(format!("F9: table_bytes: expected at least {RECORD_BYTES}, got {}", table.len()));
        };
        let entries = &table[RECORD_BYTES..];
        let expected = u64::from(stored.sections) * RECORD_BYTES as u64;
        same("F9", "table_bytes beyond the index record", expected, entries.len() as u64)?;
        same("F10", "reserved bytes of the index record", [0; 3], stored.reserved)?;
        let index = IndexRecord::check(&stored)?;
        let sections = section::read(entries, HEADER_BYTES + table.len(), file_bytes, stored.segments)?;
        let mut segments = section::segments(&sections, &index, stored.segments)?;
        let rows = segments.iter().map(|segment| segment.rows).sum();
        same("F14", "rows of all segments", stored.rows, rows)?;
        let quantizer = codes::read(&sections, &index, &mut segments, &payload)?;
        let leading = quantizer.as_ref().map_or(0, |quantizer| quantizer.leading);
        let ann = ann::read(&sections, &index, rows, leading, &payload)?;
        Ok(Header { index, generation: raw.a.generation, segments, quantizer, ann, sections })
    }

    /// Rows of all segments.
    pub fn rows(&self) -> u64 {
        self.segments.iter().map(|segment| segment.rows).sum()
    }
}

/// Prologue and slots as they lie in the file, the magic being right and nothing else known.
struct RawHeader {
    prologue: layout::Prologue,
    a: layout::Slot,
    b: layout::Slot,
}

impl RawHeader {
    /// F1, and that the file is long enough for F2 and F6 to be asked.
    fn read(head: &[u8], file_bytes: u64) -> Checked<Self> {
        if !head.starts_with(&layout::MAGIC) {
            return Err(foreign::describe(head, file_bytes));
        }
        let cut = |rule: &str, what: &str, bytes: usize| {
            format!("{rule}: {what}: expected at least {bytes} bytes of file, got {file_bytes}: the file is cut short")
        };
        let prologue = layout::record(head, 0).ok_or_else(|| cut("F2", "prologue", RECORD_BYTES))?;
        let slots = layout::record(head, RECORD_BYTES).zip(layout::record(head, 2 * RECORD_BYTES));
        let (a, b) = slots.ok_or_else(|| cut("F6", "commit slots", HEADER_BYTES))?;
        Ok(RawHeader { prologue, a, b })
    }

    /// F2 to F5.
    fn check_prologue(&self) -> Checked<()> {
        let prologue = &self.prologue;
        checksum("F2", "prologue", prologue.checksum, hash(layout::checked_bytes(prologue)))?;
        ensure(prologue.version <= layout::VERSION, || {
            format!(
                "F3: version: this nseekfs reads up to version {} of the format, the file is of version {}: upgrade nseekfs",
                layout::VERSION,
                prologue.version
            )
        })?;
        same("F3", "version", layout::VERSION, prologue.version)?;
        let unknown = prologue.required & !layout::KNOWN_FEATURES;
        ensure(unknown & layout::UNSEALED_FEATURE == 0, || {
            "F4: required feature bit 0: the file is unsealed, it may still grow; this nseekfs reads sealed files: upgrade nseekfs"
                .to_string()
        })?;
        ensure(unknown == 0, || {
            format!("F4: required: expected features {:#x} at most, got {:#x}: upgrade nseekfs", layout::KNOWN_FEATURES, prologue.required)
        })?;
        same("F5", "flags", layout::SEALED, prologue.flags)?;
        same("F5", "header_bytes", HEADER_BYTES as u32, prologue.header_bytes)?;
        same("F10", "reserved bytes of the prologue", [0; 2], prologue.reserved)
    }

    /// F6 to F8.
    fn check_slots(&self, file_bytes: u64) -> Checked<()> {
        checksum("F6", "slot A", self.a.checksum, hash(layout::checked_bytes(&self.a)))?;
        ensure(self.a.generation > 0, || "F6: generation of slot A: expected 1 or more, got 0".to_string())?;
        same("F10", "reserved bytes of slot A", [0; 2], self.a.reserved)?;
        let empty = bytemuck::bytes_of(&self.b).iter().all(|&byte| byte == 0);
        ensure(empty, || "F7: slot B: expected 64 zero bytes in a sealed file, got others".to_string())?;
        ensure(self.a.file_bytes == file_bytes, || {
            let what = if file_bytes < self.a.file_bytes { "the file is cut short" } else { "bytes were added" };
            format!("F8: file_bytes: expected {} bytes of file, got {file_bytes}: {what}", self.a.file_bytes)
        })
    }

    /// F9: the bytes of the table.
    fn table<'a>(&self, head: &'a [u8]) -> Checked<&'a [u8]> {
        same("F9", "table_offset", HEADER_BYTES as u64, self.a.table_offset)?;
        let bytes = usize::try_from(self.a.table_bytes).ok();
        let end = bytes.and_then(|bytes| bytes.checked_add(HEADER_BYTES));
        let table = end.and_then(|end| head.get(HEADER_BYTES..end)).ok_or_else(|| {
            format!("F9: table_bytes: expected {} at most, got {}", self.a.file_bytes - HEADER_BYTES as u64, self.a.table_bytes)
        })?;
        checksum("F9", "table", self.a.table_checksum, hash(table))?;
        Ok(table)
    }
}
