//! From bytes to a header that can be trusted: [`RawHeader`] holds any bytes, [`Header`] only what
//! obeys F1 to F15 and F19 to F28 of FORMAT.md.
//!
//! Sizes are added and multiplied with checks and compared with the real length of the file, and
//! nothing is allocated before the number that sizes it has been checked. No bytes make it panic.

use super::ann::{self, AnnParts};
use super::check::{Checked, checksum, ensure, same};
use super::checksum::hash;
use super::codes::{self, QuantizerRecord};
use super::foreign;
use super::index_record::{IdRecord, IndexRecord};
use super::layout::{self, ALIGNMENT, HEADER_BYTES, RECORD_BYTES};
use super::section::{self, Section, SegmentLayout};
use crate::error::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// The checked header and section table of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// What holds for the whole index.
    pub index: IndexRecord,
    /// The next id, and the type of ids.
    pub ids: IdRecord,
    /// Which commit this is; 1 in a sealed file.
    pub generation: u64,
    /// Whether the file never grows.
    pub sealed: bool,
    /// Bytes of the file with this commit; what follows is none of it.
    pub file_bytes: u64,
    /// Where the parts of each segment lie, at least one segment.
    pub segments: Vec<SegmentLayout>,
    /// The quantizer of the codes; none without codes.
    pub quantizer: Option<QuantizerRecord>,
    /// Cells or buckets, and their tuning.
    pub ann: Option<AnnParts>,
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
        let sealed = raw.check_prologue()?;
        let (slot, older) = if sealed { (raw.check_sealed(file_bytes)?, None) } else { raw.newest(file_bytes)? };
        let table = raw.table(head, slot, sealed).map_err(|reason| match older {
            Some(older) => format!("{reason}; this is the newest commit, of generation {}; generation {older} is whole", slot.generation),
            None => reason,
        })?;
        Header::check_table(table, slot, sealed, payload)
    }

    /// The same for the bytes of a table that `slot` leads to.
    pub(super) fn check_table<'a>(
        table: &[u8],
        slot: &layout::Slot,
        sealed: bool,
        payload: impl Fn(Range<usize>) -> &'a [u8],
    ) -> Checked<Self> {
        let Some(stored) = layout::record::<layout::Index>(table, 0) else {
            return Err(format!("F9: table_bytes: expected at least {RECORD_BYTES}, got {}", table.len()));
        };
        let entries = &table[RECORD_BYTES..];
        let expected = u64::from(stored.sections) * RECORD_BYTES as u64;
        same("F9", "table_bytes beyond the index record", expected, entries.len() as u64)?;
        same("F10", "reserved bytes of the index record", [0; 3], stored.reserved)?;
        let (index, ids) = (IndexRecord::check(&stored, sealed)?, IdRecord::check(&stored)?);
        let place = slot.table_offset as usize..slot.table_offset as usize + table.len();
        let sections = section::read(entries, place, slot.file_bytes, stored.segments, sealed)?;
        let mut segments = section::segments(&sections, &index, stored.segments, sealed)?;
        let mut ends = Vec::with_capacity(segments.len());
        let rows = segments.iter().fold(0, |rows, segment| {
            ends.push(rows + segment.rows);
            rows + segment.rows
        });
        same("F14", "rows of all segments", stored.rows, rows)?;
        let quantizer = codes::read(&sections, &index, &mut segments, sealed, &payload)?;
        let leading = quantizer.as_ref().map_or(0, |quantizer| quantizer.leading);
        let listed = if sealed { &ends[ends.len() - 1..] } else { &ends };
        let ann = ann::read(&sections, &index, listed, leading, &payload)?;
        Ok(Header { index, ids, generation: slot.generation, sealed, file_bytes: slot.file_bytes, segments, quantizer, ann, sections })
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

    /// F2 to F5: whether the file is sealed.
    fn check_prologue(&self) -> Checked<bool> {
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
        ensure(unknown == 0, || {
            format!("F4: required: expected features {:#x} at most, got {:#x}: upgrade nseekfs", layout::KNOWN_FEATURES, prologue.required)
        })?;
        let sealed = prologue.required & layout::GROWING_FEATURE == 0;
        same("F5", "flags", if sealed { layout::SEALED } else { 0 }, prologue.flags)?;
        same("F5", "header_bytes", HEADER_BYTES as u32, prologue.header_bytes)?;
        same("F10", "reserved bytes of the prologue", [0; 2], prologue.reserved)?;
        Ok(sealed)
    }

    /// F6 to F8 of a sealed file: its only slot.
    fn check_sealed(&self, file_bytes: u64) -> Checked<&layout::Slot> {
        check_slot("slot A", &self.a)?;
        ensure(is_empty(&self.b), || "F7: slot B: expected 64 zero bytes in a sealed file, got others".to_string())?;
        ensure(self.a.file_bytes == file_bytes, || {
            let what = if file_bytes < self.a.file_bytes { "the file is cut short" } else { "bytes were added" };
            format!("F8: file_bytes: expected {} bytes of file, got {file_bytes}: {what}", self.a.file_bytes)
        })?;
        Ok(&self.a)
    }

    /// F6 to F8 of a file that may grow: the slot of the newest commit, and the generation of the other if there is one.
    fn newest(&self, file_bytes: u64) -> Checked<(&layout::Slot, Option<u64>)> {
        let whole = |name: &str, slot: &layout::Slot, other: &layout::Slot| {
            check_slot(name, slot).map_err(|reason| match check_slot("", other) {
                Ok(()) => {
                    format!("{reason}; it may have been the newest commit; generation {} is whole in the other slot", other.generation)
                }
                Err(_) => reason,
            })
        };
        whole("slot A", &self.a, &self.b)?;
        let first = is_empty(&self.b) && self.a.generation == 1;
        if !first {
            whole("slot B", &self.b, &self.a)?;
        }
        let [a, b] = [self.a.generation, self.b.generation];
        ensure(first || a % 2 == 1 && a.abs_diff(b) == 1, || {
            format!("F7: generations of the slots: expected an odd one in A and the one before or after it in B, got {a} and {b}")
        })?;
        let (newest, older) = if first {
            (&self.a, None)
        } else if a > b {
            (&self.a, Some(b))
        } else {
            (&self.b, Some(a))
        };
        ensure(newest.file_bytes <= file_bytes, || {
            format!("F8: file_bytes: expected {} bytes of file or more, got {file_bytes}: the file is cut short", newest.file_bytes)
        })?;
        Ok((newest, older))
    }

    /// F9: the bytes of the table.
    fn table<'a>(&self, head: &'a [u8], slot: &layout::Slot, sealed: bool) -> Checked<&'a [u8]> {
        if sealed {
            same("F9", "table_offset", HEADER_BYTES as u64, slot.table_offset)?;
        }
        let start = usize::try_from(slot.table_offset).ok().filter(|start| start.is_multiple_of(ALIGNMENT) && *start >= HEADER_BYTES);
        let start = start.ok_or_else(|| format!("F9: table_offset: expected a multiple of 64 from 192, got {}", slot.table_offset))?;
        let end = usize::try_from(slot.table_bytes).ok().and_then(|bytes| start.checked_add(bytes));
        let end = end.filter(|&end| end as u64 <= slot.file_bytes);
        let table = end.and_then(|end| head.get(start..end)).ok_or_else(|| {
            format!("F9: table_bytes: expected {} at most, got {}", slot.file_bytes.saturating_sub(slot.table_offset), slot.table_bytes)
        })?;
        checksum("F9", "table", slot.table_checksum, hash(table))?;
        Ok(table)
    }
}

/// Whether a file says that it may grow.
pub(super) fn may_grow(head: &[u8]) -> bool {
    RawHeader::read(head, head.len() as u64).and_then(|raw| raw.check_prologue()).is_ok_and(|sealed| !sealed)
}

/// The newest generation that the slots of a file tell of; `None` where they are not right.
pub(super) fn newest_generation(head: &[u8]) -> Option<u64> {
    let raw = RawHeader::read(head, u64::MAX).ok()?;
    let sealed = raw.check_prologue().ok()?;
    if sealed { Some(raw.a.generation) } else { raw.newest(u64::MAX).ok().map(|(slot, _)| slot.generation) }
}

/// F6 of one slot.
fn check_slot(name: &str, slot: &layout::Slot) -> Checked<()> {
    checksum("F6", name, slot.checksum, hash(layout::checked_bytes(slot)))?;
    ensure(slot.generation > 0, || format!("F6: generation of {name}: expected 1 or more, got 0"))?;
    same("F10", &format!("reserved bytes of {name}"), [0; 2], slot.reserved)
}

fn is_empty(slot: &layout::Slot) -> bool {
    bytemuck::bytes_of(slot).iter().all(|&byte| byte == 0)
}
