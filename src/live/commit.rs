//! Generations of an index in its file: written, replaced, and followed by readers.

use super::change::section_of;
use crate::error::{Error, Result};
use crate::format::{self, Commit, GrowingFile, Kind, Mode, Part, Section, Verify};
use crate::index::{Index, IndexFile};
use crate::pool::Watch;
use crate::store::section;
use crate::store::segment::Segment;
use crate::store::{Bytes, same_file};
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

/// Kinds of sections that hold the rows of a segment.
const OF_SEGMENTS: [Kind; 8] =
    [Kind::Rows, Kind::Norms, Kind::Scales, Kind::Lines, Kind::Factors, Kind::Remainder, Kind::Numbers, Kind::Texts];

/// Takes over what was read of a file.
pub(super) fn follow(growing: &mut GrowingFile, index: &Index) {
    if let Some(file) = &index.file {
        growing.follow(file.sealed, file.generation, file.file_bytes);
    }
}

/// The sections that a commit keeps and those that it adds.
#[derive(Default)]
struct Plan<'a> {
    kept: Vec<Section>,
    new: Vec<NewSection<'a>>,
}

/// A section to be written.
struct NewSection<'a> {
    kind: Kind,
    segment: u32,
    rows: u64,
    payload: Cow<'a, [u8]>,
}

/// Appends to the file what `next` has beyond `before`, which is the generation that the file holds.
///
/// # Errors
/// As [`GrowingFile::commit`].
pub(super) fn write(mut next: Index, before: &Index, growing: &mut GrowingFile, watch: &Watch) -> Result<Index> {
    let (Some(file), Some(old)) = (next.file.take(), &before.file) else {
        return Err(Error::input("index", "one that lies in a file", "one in memory"));
    };
    let rows: u64 = next.segments.iter().map(|segment| segment.rows as u64).sum();
    let mut plan = Plan::default();
    let mut first = 0;
    for (at, (segment, stored)) in (0u32..).zip(next.segments.iter().zip(&file.stored)) {
        match stored {
            Some(number) => plan.keep(at, segment, (*number, before), old)?,
            None => plan.add(at, segment, first)?,
        }
        first += segment.rows as u64;
    }
    for section in old.sections.iter().filter(|section| section.segment == u32::MAX && rows > 0) {
        // The quantizer is of all rows, cells and buckets of those that were there when they were made.
        let rows = if section.kind == Some(Kind::Quantizer) { rows } else { section.rows };
        plan.kept.extend(section.kind.map(|_| Section { rows, ..section.clone() }));
    }
    let parts = plan.new.iter().map(|new| Part { kind: new.kind, segment: new.segment, rows: new.rows, payload: &new.payload });
    let parts: Vec<Part> = parts.collect();
    let commit = Commit { index: &next.about, ids: next.ids, segments: next.segments.len(), rows, kept: &plan.kept, new: &parts };
    let start = growing.file_bytes() as usize;
    // What headers are checked against, as it lies in the file.
    let whole = plan.kept.iter().filter(|section| section.segment == u32::MAX);
    let whole = whole.map(|section| Ok((section, old.bytes.remap(section.extent.clone())?))).collect::<Result<Vec<_>>>()?;
    let payload = |place: Range<usize>| {
        let found = whole.iter().find(|(section, _)| section.payload == place);
        found.and_then(|(_, bytes)| bytes.as_ref()).map_or(&[][..], |bytes| &bytes[..place.len()])
    };
    let header = growing.commit(&commit, payload, &|| watch.check())?;
    // Without a map of what was written, the next commit would be made from the generation before.
    let tail = old.bytes.remap(start..header.file_bytes as usize).inspect_err(|_| growing.give_up())?;
    let tail = tail.ok_or_else(|| Error::input("index", "one that lies in a file", "one in memory"))?;
    let stored = (0..next.segments.len() as u32).map(Some).collect();
    for (at, segment) in next.segments.iter_mut().enumerate().filter(|(at, _)| file.stored[*at].is_none()) {
        place(segment, at as u32, &header.sections, (&tail, start));
    }
    next.file = Some(IndexFile {
        path: file.path,
        bytes: tail,
        sections: header.sections,
        stored,
        generation: header.generation,
        sealed: false,
        file_bytes: header.file_bytes,
    });
    Ok(next)
}

impl<'a> Plan<'a> {
    /// A segment that is in the file as number `number` of `before`; rows may have been deleted since.
    fn keep(&mut self, at: u32, segment: &Segment, (number, before): (u32, &Index), file: &IndexFile) -> Result<()> {
        let mut tombstones = Vec::new();
        for section in file.sections.iter().filter(|section| section.segment == number) {
            let moved = Section { segment: at, ..section.clone() };
            match section.kind {
                Some(Kind::Tombstones) => tombstones.push(moved),
                Some(_) => self.kept.push(moved),
                None => {}
            }
        }
        let earlier = before.segments.get(number as usize).map(|segment| &segment.deleted);
        let mut new: Vec<u32> = segment.deleted.rows_since(earlier).map(|row| row as u32).collect();
        // So few lists are left, and each row number is copied once for each doubling.
        while !new.is_empty()
            && let Some(last) = tombstones.pop_if(|last| last.rows <= new.len() as u64)
        {
            let bytes = file.bytes.remap(last.extent.clone())?;
            let rows = bytes.iter().flat_map(|bytes| bytes.view::<u32>(0..last.payload.len()).to_vec());
            new.extend(rows);
        }
        self.kept.append(&mut tombstones);
        self.tombstones(at, &new);
        Ok(())
    }

    fn tombstones(&mut self, segment: u32, rows: &[u32]) {
        if !rows.is_empty() {
            let payload = Cow::Owned(bytemuck::cast_slice(rows).to_vec());
            self.new.push(NewSection { kind: Kind::Tombstones, segment, rows: rows.len() as u64, payload });
        }
    }

    /// A segment that is not in the file yet, the first of whose rows is row `first` of the index.
    fn add(&mut self, at: u32, segment: &'a Segment, first: u64) -> Result<()> {
        let rows = segment.rows as u64;
        for kind in OF_SEGMENTS {
            let is_right = !matches!(kind, Kind::Numbers | Kind::Texts) || (kind == Kind::Texts) == segment.ids.are_texts();
            if let Some(section) = section_of(segment, kind).filter(|section| !section.range.is_empty() && is_right) {
                self.new.push(NewSection { kind, segment: at, rows, payload: Cow::Borrowed(section.view()) });
            }
        }
        if let Some(numbers) = segment.numbers(first)? {
            let payload = Cow::Owned(bytemuck::cast_slice(&numbers).to_vec());
            self.new.push(NewSection { kind: Kind::Numbers, segment: at, rows, payload });
        }
        let deleted: Vec<u32> = segment.deleted.rows().map(|row| row as u32).collect();
        self.tombstones(at, &deleted);
        Ok(())
    }
}

/// Lets a segment that has been written lie in the file: in `tail`, which starts at byte `start` of it.
fn place(segment: &mut Segment, number: u32, sections: &[Section], (tail, start): (&Bytes, usize)) {
    for stored in sections.iter().filter(|section| section.segment == number) {
        let range = stored.payload.start - start..stored.payload.end - start;
        let section = section::Section { bytes: tail.clone(), range };
        match (stored.kind, &mut segment.codes) {
            (Some(Kind::Rows), _) => segment.values = section,
            (Some(Kind::Norms), _) => segment.norms = section,
            (Some(Kind::Scales), _) => segment.scales = section,
            (Some(Kind::Lines), Some(codes)) => codes.lines = section,
            (Some(Kind::Factors), Some(codes)) => codes.factors = section,
            (Some(Kind::Remainder), Some(codes)) => codes.remainder = section,
            (Some(Kind::Numbers | Kind::Texts), _) => segment.ids = segment.ids.moved_to(section),
            _ => {}
        }
    }
}

/// Writes `compact`, which lies in memory, in place of the file.
///
/// # Errors
/// As [`GrowingFile::create`].
pub(super) fn replace(compact: &Index, growing: &mut GrowingFile, watch: &Watch) -> Result<Index> {
    let path = growing.path().to_owned();
    growing.check_place()?;
    let generation = growing.generation() + 1;
    let new = compact.write(|contents, _| GrowingFile::create(&path, contents, generation, &|| watch.check()))?;
    // The old file is gone; the new one must be held whatever follows.
    *growing = new;
    Index::open(&path, Mode::Mmap, Verify::Header, watch).inspect_err(|_| growing.give_up())
}

/// The newest generation of the file of `current`, if it is newer.
///
/// # Errors
/// As [`Index::open`].
pub(super) fn newer(current: &Index, mode: Mode, watch: &Watch) -> Result<Option<Index>> {
    let Some(file) = &current.file else { return Ok(None) };
    let path: &Path = &file.path;
    if let Some((generation, now)) = format::newest_generation(path)
        && generation == file.generation
        && file.bytes.file().is_none_or(|old| same_file(old, &now))
    {
        return Ok(None);
    }
    let mut newer = Index::open(path, mode, Verify::Header, watch)?;
    newer.reuse(current);
    Ok(Some(newer))
}
