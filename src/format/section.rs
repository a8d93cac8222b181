//! The section table: from entries that hold anything to ranges that lie in the file.
//!
//! A [`Section`] obeys F12 and F15: it is inside the file and shares no byte with another. A
//! [`SegmentLayout`] obeys F13 and F14: each part is there once and of the length that its rows need.

use super::check::{Checked, ensure, same};
use super::index_record::IndexRecord;
use super::layout::{self, ALIGNMENT, Entry, IGNORABLE, RECORD_BYTES, WHOLE_INDEX};
use crate::level::Level;
use crate::quantize;
use crate::store::codes::FACTOR_BYTES;
use std::ops::Range;

/// What a section holds. The discriminants are stored in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The values of the rows, at the level of the index.
    Rows = 1,
    /// The float64 euclidean norm of each row, but not at level b1.
    Norms = 2,
    /// The float32 scale of each row, level f8 only.
    Scales = 3,
    /// The int64 id of each row.
    Numbers = 5,
    /// The ids of all rows as UTF-8, and where each ends.
    Texts = 6,
    /// Numbers of deleted rows.
    Tombstones = 7,
    /// The quantizer of the whole index.
    Quantizer = IGNORABLE | 4,
    /// High bits of the codes, in blocks of 16 rows.
    Lines = IGNORABLE | 10,
    /// The offset and residuals of each row, padded to whole blocks.
    Factors = IGNORABLE | 11,
    /// Low bits of the leading dims, and the trailing dims.
    Remainder = IGNORABLE | 12,
    /// Inverted lists: rows by cell.
    Cells = IGNORABLE | 9,
    /// Measured recall of cells or buckets.
    Tuning = IGNORABLE | 13,
    /// Hash tables: rows by bucket.
    Buckets = IGNORABLE | 14,
}

/// Kinds that later versions will write; until then only their numbers are taken.
pub const RESERVED_KINDS: [(u32, &str); 1] = [(IGNORABLE | 8, "metadata")];

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Kind; 13] = [
        Kind::Rows,
        Kind::Norms,
        Kind::Scales,
        Kind::Quantizer,
        Kind::Lines,
        Kind::Factors,
        Kind::Remainder,
        Kind::Cells,
        Kind::Tuning,
        Kind::Buckets,
        Kind::Numbers,
        Kind::Texts,
        Kind::Tombstones,
    ];

    /// The kind of a stored number.
    pub fn from_code(code: u32) -> Option<Self> {
        Kind::ALL.into_iter().find(|&kind| kind as u32 == code)
    }

    /// The name in FORMAT.md.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Rows => "rows",
            Kind::Norms => "norms",
            Kind::Scales => "scales",
            Kind::Quantizer => "quantizer",
            Kind::Lines => "lines",
            Kind::Factors => "factors",
            Kind::Remainder => "remainder",
            Kind::Cells => "cells",
            Kind::Tuning => "tuning",
            Kind::Buckets => "buckets",
            Kind::Numbers => "int64 ids",
            Kind::Texts => "utf-8 ids",
            Kind::Tombstones => "tombstones",
        }
    }

    /// Whether it is a part of the codes, which an index may do without.
    pub(super) fn is_code(self) -> bool {
        self.is_ignorable() && !self.is_ann()
    }

    /// Whether it is a part of approximate search.
    pub(super) fn is_ann(self) -> bool {
        matches!(self, Kind::Cells | Kind::Tuning | Kind::Buckets)
    }

    /// Whether it tells which rows there are, beside what is in them.
    fn is_identity(self) -> bool {
        matches!(self, Kind::Numbers | Kind::Texts | Kind::Tombstones)
    }

    fn is_ignorable(self) -> bool {
        self as u32 & IGNORABLE != 0
    }

    /// Whether it belongs to the whole index.
    fn is_whole(self) -> bool {
        self == Kind::Quantizer || self.is_ann()
    }

    /// Whether every segment of such an index has one, codes aside; if not, none has.
    fn belongs_to(self, level: Level) -> bool {
        match self {
            Kind::Norms => level.has_norms(),
            Kind::Scales => level == Level::F8,
            _ => !self.is_ignorable() && !self.is_identity(),
        }
    }

    /// Bytes of payload for `rows` rows, 2^32-1 at most; `leading` is that of the quantizer, 0 where there is none. How much
    /// cells, buckets and their tuning hold stands in them.
    pub(super) fn payload_bytes(self, rows: u64, index: &IndexRecord, leading: usize) -> u64 {
        // At most 2^32 rows of 2^16 values of 8 bytes: 2^51.
        let blocks = rows.div_ceil(quantize::BLOCK as u64);
        match self {
            Kind::Rows => rows * index.level.row_bytes(index.dims) as u64,
            Kind::Norms => rows * size_of::<f64>() as u64,
            Kind::Scales => rows * size_of::<f32>() as u64,
            Kind::Quantizer => (RECORD_BYTES + (2 + index.dims) * index.dims * size_of::<f32>()) as u64,
            Kind::Lines => blocks * quantize::block_bytes(leading) as u64,
            Kind::Factors => blocks * (quantize::BLOCK * FACTOR_BYTES) as u64,
            Kind::Remainder => rows * quantize::remainder_bytes(index.dims, leading) as u64,
            Kind::Numbers => rows * size_of::<i64>() as u64,
            Kind::Tombstones => rows * size_of::<u32>() as u64,
            Kind::Cells | Kind::Tuning | Kind::Buckets | Kind::Texts => 0,
        }
    }
}

/// One section that lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it holds; none for an ignorable kind of a later version.
    pub kind: Option<Kind>,
    /// Its segment, `u32::MAX` for the whole index.
    pub segment: u32,
    /// Rows that it describes.
    pub rows: u64,
    /// Its payload.
    pub payload: Range<usize>,
    /// Its payload and padding.
    pub extent: Range<usize>,
    /// The stored checksum of its extent.
    pub checksum: u64,
}

impl Section {
    /// Its name in errors.
    pub(super) fn name(&self) -> String {
        let kind = self.kind.map_or("ignorable", Kind::name);
        if self.segment == WHOLE_INDEX { format!("{kind} section") } else { format!("{kind} section of segment {}", self.segment) }
    }
}

/// Where the parts of one segment lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLayout {
    /// Rows, 1 to 2^32-1.
    pub rows: u64,
    /// The stored values, row after row.
    pub row_values: Range<usize>,
    /// The float64 norms; empty at level b1.
    pub norms: Range<usize>,
    /// The float32 scales, at level f8.
    pub scales: Option<Range<usize>>,
    /// The codes, if the index has a quantizer.
    pub codes: Option<CodeLayout>,
    /// The ids and whether they are texts; none: they are row numbers.
    pub ids: Option<(Range<usize>, bool)>,
    /// Lists of deleted rows.
    pub tombstones: Vec<Range<usize>>,
}

/// Where the codes of one segment lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeLayout {
    /// Blocks of 16 rows.
    pub lines: Range<usize>,
    /// Offsets, then three kinds of residuals, each padded to whole blocks.
    pub factors: Range<usize>,
    /// Row after row.
    pub remainder: Range<usize>,
}

/// F10, F12 and F15 of `entries`: of a sealed file, sections fill it from the end of the `table` on; of another one, they
/// lie anywhere in it.
pub(super) fn read(entries: &[u8], table: Range<usize>, file_bytes: u64, segments: u32, sealed: bool) -> Checked<Vec<Section>> {
    // One section takes at least 64 bytes of the table that was just read, so this is bounded by it.
    let mut sections = Vec::with_capacity(entries.len() / RECORD_BYTES);
    let mut end = table.end;
    for (number, bytes) in entries.chunks_exact(RECORD_BYTES).enumerate() {
        let entry: Entry = bytemuck::pod_read_unaligned(bytes);
        same("F10", &format!("reserved bytes of entry {number}"), [0; 3], entry.reserved)?;
        let kind = check_kind(&entry, number, segments)?;
        if sealed {
            same("F15", &format!("offset of entry {number}"), end as u64, entry.offset)?;
        } else {
            let aligned = usize::try_from(entry.offset).ok().filter(|at| at.is_multiple_of(ALIGNMENT) && *at >= layout::HEADER_BYTES);
            end = aligned
                .ok_or_else(|| format!("F15: offset of entry {number}: expected a multiple of 64 from 192, got {}", entry.offset))?;
        }
        let extent = extent(end, entry.length, file_bytes).ok_or_else(|| {
            let room = file_bytes.saturating_sub(end as u64);
            format!("F15: length of entry {number}: expected {room} at most, got {}", entry.length)
        })?;
        end = extent.end;
        let payload = extent.start..extent.start + entry.length as usize;
        sections.push(Section { kind, segment: entry.segment, rows: entry.rows, payload, extent, checksum: entry.checksum });
    }
    if sealed {
        same("F15", "end of the last section", file_bytes, end as u64)?;
    } else {
        apart(&sections, table)?;
    }
    Ok(sections)
}

/// F15 of a file that may grow: no byte belongs to two sections, or to one and the table.
fn apart(sections: &[Section], table: Range<usize>) -> Checked<()> {
    let mut extents: Vec<Range<usize>> =
        sections.iter().map(|section| section.extent.clone()).filter(|extent| !extent.is_empty()).collect();
    extents.push(table);
    extents.sort_unstable_by_key(|extent| extent.start);
    let shared = extents.windows(2).find(|pair| pair[1].start < pair[0].end);
    shared.map_or(Ok(()), |pair| Err(format!("F15: sections: expected none to overlap, got {:?} and {:?}", pair[0], pair[1])))
}

/// F12.
fn check_kind(entry: &Entry, number: usize, segments: u32) -> Checked<Option<Kind>> {
    let kind = Kind::from_code(entry.kind);
    let ignorable = entry.kind & IGNORABLE != 0;
    ensure(kind.is_some() || ignorable, || {
        let reserved = RESERVED_KINDS.into_iter().find(|&(code, _)| code == entry.kind);
        let name = reserved.map_or("unknown", |(_, name)| name);
        format!("F12: kind of entry {number}: expected one that this nseekfs knows, got {} ({name}): upgrade nseekfs", entry.kind)
    })?;
    if let Some(kind) = kind.filter(|kind| kind.is_whole()) {
        same("F12", &format!("segment of entry {number}, of kind {}", kind.name()), WHOLE_INDEX, entry.segment)?;
        return Ok(Some(kind));
    }
    let whole = kind.is_none() && entry.segment == WHOLE_INDEX;
    ensure(entry.segment < segments || whole, || {
        format!("F12: segment of entry {number}: expected below {segments}, got {}", entry.segment)
    })?;
    Ok(kind)
}

/// Payload and padding of a section, if they end within the file.
fn extent(start: usize, length: u64, file_bytes: u64) -> Option<Range<usize>> {
    let payload_end = start.checked_add(usize::try_from(length).ok()?)?;
    let end = payload_end.checked_next_multiple_of(ALIGNMENT)?;
    (end as u64 <= file_bytes).then_some(start..end)
}

/// F13 and F14: every segment with its rows; where codes lie is added by [`codes::read`](super::codes::read).
pub(super) fn segments(sections: &[Section], index: &IndexRecord, count: u32, sealed: bool) -> Checked<Vec<SegmentLayout>> {
    let known: Vec<(&Section, Kind)> = parts(sections, |kind| !kind.is_ignorable() && !kind.is_identity());
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.belongs_to(index.level)).collect();
    ensure(count > 0 || !sealed, || "F13: segments: expected 1 or more, got 0".to_string())?;
    // Also bounds `count` by the table before anything is sized by it.
    let expected = u64::from(count) * kinds.len() as u64;
    ensure(known.len() as u64 == expected, || {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        format!("F13: sections: expected {expected}, being {} for each of {count} segments, got {}", names.join(", "), known.len())
    })?;
    let mut parts: Vec<[Option<&Section>; 3]> = vec![[None; 3]; count as usize];
    for (section, kind) in known {
        ensure(kinds.contains(&kind), || format!("F13: {}: expected none at level {}, got one", section.name(), index.level.name()))?;
        let part = &mut parts[section.segment as usize][kind as usize - 1];
        ensure(part.is_none(), || format!("F13: {}: expected one, got two", section.name()))?;
        check_length(section, kind, index)?;
        *part = Some(section);
    }
    let mut segments: Vec<SegmentLayout> =
        parts.iter().enumerate().map(|(number, parts)| segment(number, parts)).collect::<Checked<_>>()?;
    for (section, kind) in self::parts(sections, Kind::is_identity) {
        identity(section, kind, index, &mut segments[section.segment as usize])?;
    }
    Ok(segments)
}

/// F26 and F27 of ids, F28 of tombstones.
fn identity(section: &Section, kind: Kind, index: &IndexRecord, segment: &mut SegmentLayout) -> Checked<()> {
    let (name, bytes) = (section.name(), section.payload.len() as u64);
    if kind == Kind::Tombstones {
        ensure((1..=segment.rows).contains(&section.rows), || {
            format!("F28: rows of the {name}: expected 1 to {}, got {}", segment.rows, section.rows)
        })?;
        same("F28", &format!("length of the {name}"), kind.payload_bytes(section.rows, index, 0), bytes)?;
        segment.tombstones.push(section.payload.clone());
        return Ok(());
    }
    ensure(segment.ids.is_none(), || format!("F26: {name}: expected one section of ids a segment, got two"))?;
    same("F26", &format!("rows of the {name}"), segment.rows, section.rows)?;
    let least = section.rows * size_of::<u64>() as u64;
    ensure(bytes == least || kind == Kind::Texts && bytes > least, || {
        format!("F26: length of the {name}: expected {least}{}, got {bytes}", if kind == Kind::Texts { " or more" } else { "" })
    })?;
    segment.ids = Some((section.payload.clone(), kind == Kind::Texts));
    Ok(())
}

/// The sections of such known kinds.
pub(super) fn parts(sections: &[Section], wanted: impl Fn(Kind) -> bool) -> Vec<(&Section, Kind)> {
    let known = sections.iter().filter_map(|section| Some((section, section.kind?)));
    known.filter(|&(_, kind)| wanted(kind)).collect()
}

/// F14 for one section.
fn check_length(section: &Section, kind: Kind, index: &IndexRecord) -> Checked<()> {
    let rows = section.rows;
    ensure((1..=layout::MAX_SEGMENT_ROWS).contains(&rows), || {
        format!("F14: rows of the {}: expected 1 to {}, got {rows}", section.name(), layout::MAX_SEGMENT_ROWS)
    })?;
    same("F14", &format!("length of the {}", section.name()), kind.payload_bytes(rows, index, 0), section.payload.len() as u64)
}

/// F13 and F14 for one segment of which each known section has been checked.
fn segment(number: usize, parts: &[Option<&Section>; 3]) -> Checked<SegmentLayout> {
    let [Some(rows), norms, scales] = *parts else {
        return Err(format!("F13: segment {number}: expected a rows section, got none"));
    };
    for other in [norms, scales].into_iter().flatten() {
        same("F14", &format!("rows of the {}", other.name()), rows.rows, other.rows)?;
    }
    let scales = scales.map(|section| section.payload.clone());
    let norms = norms.map_or(0..0, |section| section.payload.clone());
    let row_values = rows.payload.clone();
    Ok(SegmentLayout { rows: rows.rows, row_values, norms, scales, codes: None, ids: None, tombstones: Vec::new() })
}
