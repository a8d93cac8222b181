//! Writes an index file whole or not at all; an index can be saved over the file that it maps.
//!
//! The head is passed through the reader's own checks before a byte is written: what would be refused later is refused
//! now. Sections that come from another file must match the checksums stored there, so that damage is never written
//! under a fresh checksum.

use super::check::{self, Checked};
use super::checksum;
use super::header::Header;
use super::index_record::{IdRecord, IndexRecord};
use super::layout::{self, ALIGNMENT, BLOCK, HEADER_BYTES, padding};
use super::replace::Replacement;
use super::section::{Kind, Section};
use crate::error::{Error, Result};
use crate::store::BytesMut;
use bytemuck::Zeroable;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// The bytes of one segment as they go into the file.
#[derive(Debug, Clone, Copy)]
pub struct SegmentBytes<'a> {
    /// Rows, 1 to 2^32-1.
    pub rows: u64,
    /// The values, row after row, at the level of the index.
    pub row_values: &'a [u8],
    /// A float64 norm of each row; empty at level b1.
    pub norms: &'a [u8],
    /// A float32 scale of each row, at level f8 only.
    pub scales: Option<&'a [u8]>,
    /// The codes, if there is a quantizer.
    pub codes: Option<CodeBytes<'a>>,
    /// The ids and whether they are texts; none: they are row numbers.
    pub ids: Option<(&'a [u8], bool)>,
}

/// The codes of one segment as they go into the file.
#[derive(Debug, Clone, Copy)]
pub struct CodeBytes<'a> {
    /// Blocks of 16 rows.
    pub lines: &'a [u8],
    /// Offsets, then three kinds of residuals, each padded to whole blocks.
    pub factors: &'a [u8],
    /// Row after row.
    pub remainder: &'a [u8],
}

/// The quantizer.
#[derive(Debug, Clone, Copy)]
pub struct QuantizerBytes<'a> {
    /// Coordinates that lines hold.
    pub leading: usize,
    /// How far the axes are from orthonormal.
    pub skew: f64,
    /// Centre, steps and axes, one after the other, in float32.
    pub values: &'a [u8],
}

/// Cells or buckets, and their tuning.
#[derive(Debug, Clone, Copy)]
pub struct AnnBytes<'a> {
    /// [`Kind::Cells`] or [`Kind::Buckets`].
    pub kind: Kind,
    /// Record and parts, as [`CellShape`](super::CellShape) or [`BucketShape`](super::BucketShape) lays them out.
    pub ann: &'a [u8],
    /// As [`TuningRecord::payload`](super::TuningRecord::payload) makes it.
    pub tuning: &'a [u8],
}

/// All that goes into a file.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// What holds for all rows.
    pub index: &'a IndexRecord,
    /// The next id, and the type of ids.
    pub ids: IdRecord,
    /// The rows; a file without any may grow.
    pub segments: &'a [SegmentBytes<'a>],
    /// The quantizer of their codes, if they have codes.
    pub quantizer: Option<QuantizerBytes<'a>>,
    /// Cells or buckets, if search may be approximate.
    pub ann: Option<AnnBytes<'a>>,
}

/// One section that will be written.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Its segment, `u32::MAX` for the whole index.
    pub segment: u32,
    /// Rows that it describes.
    pub rows: u64,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// Writes a sealed file to `path`, replacing the one that is there; `tick` may interrupt.
///
/// The new file keeps the permissions of the one it replaces. A link is followed. If only the last
/// step fails, syncing the folder, the new file is in place and the error says that it may not
/// survive a loss of power.
pub fn write(path: &Path, contents: &Contents, tick: &dyn Fn() -> Result<()>) -> Result<()> {
    copy(path, contents, None, tick)
}

/// As [`write()`], of contents that were read from `source`: a section of the same kind and segment must have the checksum
/// that is stored there. The tuning is exempt, which is made anew.
///
/// # Errors
/// [`Error::Format`] naming the source (F17), before anything is written.
pub fn copy(path: &Path, contents: &Contents, source: Option<(&Path, &[Section])>, tick: &dyn Fn() -> Result<()>) -> Result<()> {
    let sealed = if contents.segments.is_empty() { Some(1) } else { None };
    emit(path, contents, sealed, source, tick, |_| Replacement::create(path))?.replace_target().map(|_| ())
}

/// As [`copy`], but a file that may grow, of this generation, which the caller goes on to hold.
///
/// # Errors
/// As [`copy`].
pub(super) fn replace(path: &Path, contents: &Contents, generation: u64, tick: &dyn Fn() -> Result<()>) -> Result<(File, u64)> {
    let mut bytes = 0;
    let new = emit(path, contents, Some(generation), None, tick, |length| {
        bytes = length;
        Replacement::of_own(path)
    })?;
    Ok((new.replace_target()?, bytes))
}

/// The bytes of the file that [`copy`] would write; `name` stands for its path in errors.
///
/// # Errors
/// As [`copy`]; [`Error::Memory`].
pub fn to_bytes(name: &Path, contents: &Contents, source: Option<(&Path, &[Section])>, tick: &dyn Fn() -> Result<()>) -> Result<Vec<u8>> {
    let sealed = if contents.segments.is_empty() { Some(1) } else { None };
    emit(name, contents, sealed, source, tick, |bytes| {
        let mut file = Vec::new();
        let room = usize::try_from(bytes).unwrap_or(usize::MAX);
        file.try_reserve_exact(room).map_err(|_| Error::Memory { bytes, purpose: "the bytes of a file" })?;
        Ok(file)
    })
}

/// The bytes of a file that may grow, of some generation.
#[cfg(test)]
pub(super) fn growing_bytes(contents: &Contents, generation: u64) -> Result<Vec<u8>> {
    emit(Path::new("growing"), contents, Some(generation), None, &|| Ok(()), |_| Ok(Vec::new()))
}

/// Where a file goes, from its start to its end.
trait Sink {
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Sink for Replacement<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes)
    }
}

impl Sink for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Checks everything, then writes the file to what `create` makes for its length. The file is sealed, or may grow and is of
/// some generation.
fn emit<S: Sink>(
    path: &Path,
    contents: &Contents,
    generation: Option<u64>,
    source: Option<(&Path, &[Section])>,
    tick: &dyn Fn() -> Result<()>,
    create: impl FnOnce(u64) -> Result<S>,
) -> Result<S> {
    let Contents { segments, quantizer, ann, .. } = contents;
    let quantizer = quantizer.as_ref().map(quantizer_payload).transpose()?;
    let mut parts = parts(segments);
    let rows = segments.iter().fold(0u64, |rows, segment| rows.saturating_add(segment.rows));
    let mut whole = |kind: Kind, payload| parts.push(Part { kind, segment: layout::WHOLE_INDEX, rows, payload });
    quantizer.as_deref().into_iter().for_each(|payload| whole(Kind::Quantizer, payload));
    ann.iter().for_each(|ann| {
        whole(ann.kind, ann.ann);
        whole(Kind::Tuning, ann.tuning);
    });
    let checksums = parts.iter().map(|part| checksum::of_section(part.payload, tick)).collect::<Result<Vec<u64>>>()?;
    if let Some((path, sections)) = source {
        check_source(&parts, &checksums, sections).map_err(|reason| Error::Format { path: path.to_owned(), reason })?;
    }
    let head = head(contents, generation, &parts, &checksums);
    let mut starts = Vec::with_capacity(parts.len());
    let mut file_bytes = head.len() as u64;
    for part in &parts {
        starts.push(file_bytes);
        file_bytes += extent_bytes(part.payload);
    }
    let payload =
        |place: Range<usize>| starts.iter().position(|&start| start == place.start as u64).map_or(&[][..], |at| parts[at].payload);
    Header::check(&head, file_bytes, payload).map_err(|reason| Error::Format { path: path.to_owned(), reason })?;

    let mut file = create(file_bytes)?;
    file.append(&head)?;
    for part in &parts {
        for block in part.payload.chunks(BLOCK) {
            tick()?;
            file.append(block)?;
        }
        file.append(&[0; ALIGNMENT][..padding(part.payload.len())])?;
    }
    tick()?;
    Ok(file)
}

/// The record, then the values.
fn quantizer_payload(quantizer: &QuantizerBytes) -> Result<BytesMut> {
    let record = layout::Quantizer { leading: narrow(quantizer.leading), reserved: [0; 13], skew: quantizer.skew };
    let bytes = layout::RECORD_BYTES + quantizer.values.len();
    let mut payload = BytesMut::zeroed(bytes, "the axes of codes")?;
    payload.view_mut(0..layout::RECORD_BYTES).copy_from_slice(bytemuck::bytes_of(&record));
    payload.view_mut(layout::RECORD_BYTES..bytes).copy_from_slice(quantizer.values);
    Ok(payload)
}

/// A number too large for its field becomes the largest, which the check refuses.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Sections of segments in the order of the file: by segment, then by kind.
fn parts<'a>(segments: &[SegmentBytes<'a>]) -> Vec<Part<'a>> {
    let mut parts = Vec::with_capacity(Kind::ALL.len() * segments.len());
    for (number, segment) in (0u32..).zip(segments) {
        let codes = segment.codes;
        let payloads = [
            (Kind::Rows, Some(segment.row_values)),
            (Kind::Norms, Some(segment.norms).filter(|norms| !norms.is_empty())),
            (Kind::Scales, segment.scales),
            (Kind::Lines, codes.map(|codes| codes.lines)),
            (Kind::Factors, codes.map(|codes| codes.factors)),
            (Kind::Remainder, codes.map(|codes| codes.remainder)),
            (Kind::Numbers, segment.ids.filter(|ids| !ids.1).map(|ids| ids.0)),
            (Kind::Texts, segment.ids.filter(|ids| ids.1).map(|ids| ids.0)),
        ];
        for (kind, payload) in payloads {
            parts.extend(payload.map(|payload| Part { kind, segment: number, rows: segment.rows, payload }));
        }
    }
    parts
}

/// F17 of every part that stands in the file whose sections these are.
fn check_source(parts: &[Part], checksums: &[u64], sections: &[Section]) -> Checked<()> {
    for (part, &computed) in parts.iter().zip(checksums).filter(|(part, _)| part.kind != Kind::Tuning) {
        let stored = sections.iter().find(|section| section.kind == Some(part.kind) && section.segment == part.segment);
        if let Some(section) = stored {
            check::checksum("F17", &section.name(), section.checksum, computed)?;
        }
    }
    Ok(())
}

/// Header and table.
fn head(contents: &Contents, generation: Option<u64>, parts: &[Part], checksums: &[u64]) -> Vec<u8> {
    let mut offset = (HEADER_BYTES + (1 + parts.len()) * layout::RECORD_BYTES) as u64;
    let sections = parts.iter().zip(checksums).map(|(part, &checksum)| {
        let start = offset as usize;
        offset += extent_bytes(part.payload);
        let payload = start..start + part.payload.len();
        Section { kind: Some(part.kind), segment: part.segment, rows: part.rows, payload, extent: start..offset as usize, checksum }
    });
    let sections: Vec<Section> = sections.collect();
    let rows = contents.segments.iter().fold(0u64, |rows, segment| rows.saturating_add(segment.rows));
    let table = table(contents.index, &contents.ids, (contents.segments.len(), rows), &sections);
    let slot = slot(generation.unwrap_or(1), HEADER_BYTES as u64, &table, offset);
    let mut head = bytemuck::bytes_of(&prologue(generation.is_none())).to_vec();
    // A file that replaces one of generation g - 1 has no trace of it, and two slots as any file of generation g.
    let other = match slot.generation {
        1 => layout::Slot::zeroed(),
        later => self::slot(later - 1, HEADER_BYTES as u64, &table, offset),
    };
    let [a, b] = if slot.generation % 2 == 1 { [slot, other] } else { [other, slot] };
    head.extend_from_slice(bytemuck::bytes_of(&a));
    head.extend_from_slice(bytemuck::bytes_of(&b));
    head.extend_from_slice(&table);
    head
}

/// The table of these sections; `size` counts segments and their rows.
pub(super) fn table(index: &IndexRecord, ids: &IdRecord, size: (usize, u64), sections: &[Section]) -> Vec<u8> {
    let (next_id, ids) = ids.stored(size.1);
    let record = layout::Index {
        dims: narrow(index.dims),
        level: index.level as u32,
        metric: index.metric as u32,
        unit: u32::from(index.unit),
        seed: index.seed,
        segments: narrow(size.0),
        sections: narrow(sections.len()),
        rows: size.1,
        next_id,
        ids,
        reserved: [0; 3],
    };
    let mut table = bytemuck::bytes_of(&record).to_vec();
    for section in sections {
        let entry = layout::Entry {
            kind: section.kind.map_or(0, |kind| kind as u32),
            segment: section.segment,
            offset: section.payload.start as u64,
            length: section.payload.len() as u64,
            rows: section.rows,
            checksum: section.checksum,
            reserved: [0; 3],
        };
        table.extend_from_slice(bytemuck::bytes_of(&entry));
    }
    table
}

/// The first 64 bytes of a file that is sealed, or may grow.
pub(super) fn prologue(sealed: bool) -> layout::Prologue {
    let mut prologue = layout::Prologue {
        magic: layout::MAGIC,
        version: layout::VERSION,
        header_bytes: HEADER_BYTES as u32,
        required: if sealed { 0 } else { layout::GROWING_FEATURE },
        ignorable: 0,
        flags: if sealed { layout::SEALED } else { 0 },
        reserved: [0; 2],
        checksum: 0,
    };
    prologue.checksum = checksum::hash(layout::checked_bytes(&prologue));
    prologue
}

/// The slot that leads to a table.
pub(super) fn slot(generation: u64, table_offset: u64, table: &[u8], file_bytes: u64) -> layout::Slot {
    let mut slot = layout::Slot {
        generation,
        table_offset,
        table_bytes: table.len() as u64,
        file_bytes,
        table_checksum: checksum::hash(table),
        reserved: [0; 2],
        checksum: 0,
    };
    slot.checksum = checksum::hash(layout::checked_bytes(&slot));
    slot
}

pub(super) fn extent_bytes(payload: &[u8]) -> u64 {
    (payload.len() + padding(payload.len())) as u64
}
