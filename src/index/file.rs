//! The file of an index: opened, written, verified, and followed from one generation to the next.

use super::{Index, ann};
use crate::ann::Ann;
use crate::ann::ivf::Ivf;
use crate::ann::lsh::search::Lsh;
use crate::error::{Error, Result};
use crate::format::{
    self, AnnBytes, AnnParts, AnnRecord, CodeBytes, Contents, Kind, Mode, QuantizerBytes, SegmentBytes, SegmentLayout, Verify,
};
use crate::level::Level;
use crate::pool::Watch;
use crate::progress::cost;
use crate::quantize::Quantizer;
use crate::store::codes::CodeSections;
use crate::store::deleted::Deleted;
use crate::store::ids::Ids;
use crate::store::section::Section;
use crate::store::segment::Segment;
use crate::store::{Bytes, same_file};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The share of the time of saving that the system takes after the last byte was written, about.
const SYNC: f64 = 0.6;

/// What errors call the file that is only bytes in memory.
const BYTES_NAME: &str = "pickled index";

/// The file that an index was opened from, or written to.
#[derive(Debug, Clone)]
pub(crate) struct IndexFile {
    pub path: PathBuf,
    /// The last bytes of the file that belong to this generation, mapped.
    pub bytes: Bytes,
    /// With the checksums that its bytes must have.
    pub sections: Vec<format::Section>,
    /// Of each segment, its number in `sections`; `None`: it is not in the file.
    pub stored: Vec<Option<u32>>,
    /// Which commit it is.
    pub generation: u64,
    /// Whether the file never grows.
    pub sealed: bool,
    /// Bytes of the file with this commit.
    pub file_bytes: u64,
}

impl Index {
    /// Opens a saved index.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Format`] when it is not a whole nseekfs
    /// file, [`Error::Memory`] in [`Mode::Ram`], [`Error::Interrupted`].
    pub fn open(path: &Path, mode: Mode, verify: Verify, watch: &Watch) -> Result<Self> {
        let (bytes, header) = format::open(path, mode, verify, &|| watch.check())?;
        Index::assemble(bytes, header, path, true)
    }

    /// An index in memory from what [`Index::to_bytes`] made, every byte checked.
    ///
    /// # Errors
    /// [`Error::Format`] when they are anything else, [`Error::Memory`], [`Error::Interrupted`].
    pub fn from_bytes(file: &[u8], watch: &Watch) -> Result<Self> {
        let name = Path::new(BYTES_NAME);
        let (bytes, header) = format::from_bytes(file, name, &|| watch.check())?;
        Index::assemble(bytes, header, name, false)
    }

    /// The index that `header` tells of; `path` is its file, or only what errors call it.
    pub(super) fn assemble(bytes: Bytes, header: format::Header, path: &Path, is_file: bool) -> Result<Self> {
        let section = |range: &Range<usize>| Section { bytes: bytes.clone(), range: range.clone() };
        let segment = |(at, first, layout): (usize, u64, &SegmentLayout)| -> Result<Segment> {
            let damaged = |reason: String| Error::Format { path: path.to_path_buf(), reason };
            let rows = layout.rows as usize;
            let ids = match &layout.ids {
                None => Ids::Consecutive(first as i64),
                Some((place, false)) => Ids::numbers(section(place)),
                Some((place, true)) => Ids::texts(section(place)),
            };
            let mut deleted = Deleted::default();
            for place in &layout.tombstones {
                for &row in bytes.view::<u32>(place.clone()) {
                    if row as usize >= rows || !deleted.insert(row as usize) {
                        return Err(damaged(format!("F28: tombstones of segment {at}: expected rows below {rows}, each once, got {row}")));
                    }
                }
            }
            Ok(Segment {
                rows,
                values: section(&layout.row_values),
                norms: section(&layout.norms),
                scales: section(layout.scales.as_ref().unwrap_or(&(0..0))),
                codes: layout.codes.as_ref().map(|codes| CodeSections {
                    lines: section(&codes.lines),
                    factors: section(&codes.factors),
                    remainder: section(&codes.remainder),
                }),
                ids,
                deleted,
            })
        };
        let mut first = 0;
        let layouts = header.segments.iter().enumerate().map(|(at, layout)| {
            first += layout.rows;
            (at, first - layout.rows, layout)
        });
        let segments: Vec<Segment> = layouts.map(segment).collect::<Result<_>>()?;
        let quantizer = header.quantizer.as_ref();
        let quantizer = quantizer.map(|record| Quantizer {
            dims: header.index.dims,
            leading: record.leading,
            skew: record.skew,
            values: section(&record.values),
        });
        let dims = header.index.dims;
        let ann = |parts: AnnParts| {
            let rows = parts.rows as usize;
            let ann = match parts.record {
                AnnRecord::Cells(cells) => Ann::Ivf(Ivf::new(cells, &bytes)),
                AnnRecord::Buckets(buckets) => Ann::Lsh(Lsh::new(buckets, dims, rows, &bytes)?),
            };
            Ok(Arc::new(ann::TunedAnn::new(ann, rows, parts.tuning)))
        };
        let ann = header.ann.map(ann).transpose();
        let ann = ann.map_err(|reason: String| Error::Format { path: path.to_path_buf(), reason: format!("F25: {reason}") })?;
        let stored = (0..segments.len() as u32).map(Some).collect();
        let (generation, sealed, file_bytes) = (header.generation, header.sealed, header.file_bytes);
        let file = is_file.then(|| IndexFile {
            path: path.to_path_buf(),
            bytes,
            sections: header.sections,
            stored,
            generation,
            sealed,
            file_bytes,
        });
        Ok(Index { about: header.index, ids: header.ids, segments, quantizer, ann, file, live: OnceLock::new() })
    }

    /// Writes the index whole to `path`, replacing what is there, or leaves `path` as it was.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written; [`Error::Format`] when the file that the index was opened from has been
    /// damaged (F17); [`Error::Interrupted`].
    pub fn save(&self, path: &Path, watch: &Watch) -> Result<()> {
        let work = cost::BYTE * self.bytes() as f64;
        watch.plan(work);
        // Blocks are first hashed, then written; the rest of the work is that the system brings them to the disk.
        watch.stage(work * (1.0 - SYNC), 2 * (self.bytes() as u64).div_ceil(format::BLOCK as u64));
        let tick = || {
            watch.advance(1);
            watch.check()
        };
        self.write(|contents, source| format::copy(path, contents, source, &tick))
    }

    /// The bytes of the file that [`Index::save`] would write.
    ///
    /// # Errors
    /// [`Error::Format`] as `save`; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn to_bytes(&self, watch: &Watch) -> Result<Vec<u8>> {
        self.write(|contents, source| format::to_bytes(Path::new(BYTES_NAME), contents, source, &|| watch.check()))
    }

    /// Hands to `to` all that goes into a file, and the path and the sections of the file that the index was opened from.
    pub(crate) fn write<T>(&self, to: impl FnOnce(&Contents, Option<(&Path, &[format::Section])>) -> Result<T>) -> Result<T> {
        self.check_file()?;
        let mut first = 0;
        let numbers = self.segments.iter().map(|segment| {
            first += segment.rows as u64;
            segment.numbers(first - segment.rows as u64)
        });
        let numbers: Vec<Option<Vec<i64>>> = numbers.collect::<Result<_>>()?;
        let parts = self.segments.iter().zip(&numbers).map(|(segment, numbers)| SegmentBytes {
            rows: segment.rows as u64,
            row_values: segment.values.view(),
            norms: segment.norms.view(),
            scales: (self.about.level == Level::F8).then(|| segment.scales.view()),
            codes: segment.codes.as_ref().map(|codes| CodeBytes {
                lines: codes.lines.view(),
                factors: codes.factors.view(),
                remainder: codes.remainder.view(),
            }),
            ids: match numbers {
                Some(numbers) => Some((bytemuck::cast_slice(numbers), false)),
                None => segment.ids.section().map(|ids| (ids.view(), segment.ids.are_texts())),
            },
        });
        let quantizer = self.quantizer.as_ref().map(|quantizer| QuantizerBytes {
            leading: quantizer.leading,
            skew: quantizer.skew,
            values: quantizer.values.view(),
        });
        let tuning = self.ann.as_ref().map(|ann| ann.tuning().payload());
        let ann =
            self.ann.as_ref().zip(tuning.as_deref()).map(|(ann, tuning)| AnnBytes { kind: ann.ann.kind(), ann: ann.ann.payload(), tuning });
        let segments: Vec<SegmentBytes> = parts.collect();
        let source = self.file.as_ref().map(|file| (file.path.as_path(), file.sections.as_slice()));
        to(&Contents { index: &self.about, ids: self.ids, segments: &segments, quantizer, ann }, source)
    }

    /// Keeps the maps of `earlier`, another generation of the same file, for what is in both.
    pub(crate) fn reuse(&mut self, earlier: &Index) {
        let (Some(own), Some(old)) = (&self.file, &earlier.file) else { return };
        if !own.bytes.file().zip(old.bytes.file()).is_some_and(|(own, old)| same_file(own, old)) {
            return;
        }
        let start = |file: &IndexFile, number: u32, kind: Kind| {
            file.sections
                .iter()
                .find(|section| section.segment == number && section.kind == Some(kind))
                .map(|section| section.payload.start)
        };
        for (at, segment) in (0u32..).zip(&mut self.segments) {
            let place = start(own, at, Kind::Rows);
            let known = old.stored.iter().position(|number| number.is_some_and(|number| start(old, number, Kind::Rows) == place));
            if let Some(known) = known.and_then(|known| earlier.segments.get(known)) {
                *segment = Segment { deleted: std::mem::take(&mut segment.deleted), ..known.clone() };
            }
        }
        let whole = |file: &IndexFile, kinds: &[Kind]| kinds.iter().find_map(|&kind| start(file, u32::MAX, kind));
        if whole(own, &[Kind::Quantizer]) == whole(old, &[Kind::Quantizer]) {
            self.quantizer.clone_from(&earlier.quantizer);
        }
        if whole(own, &[Kind::Cells, Kind::Buckets]) == whole(old, &[Kind::Cells, Kind::Buckets]) && self.ann.is_some() {
            self.ann.clone_from(&earlier.ann);
        }
    }

    /// Reads every byte of the file that the index was opened from and compares checksums.
    ///
    /// # Errors
    /// [`Error::Format`] when any differs. An index in memory has no file and nothing to compare.
    pub fn verify(&self, watch: &Watch) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.bytes.check_len()?;
        let whole = file.bytes.whole_file()?;
        match format::newest(&whole) {
            // The file has grown since: the newer commits are not of this index.
            Some(newest) if newest > file.generation => format::verify_sections(&whole, &file.sections, &file.path, &|| watch.check()),
            _ => format::verify(&whole, &file.path, &|| watch.check()),
        }
    }

    /// Which commit of its file this is; `None` in memory.
    pub fn generation(&self) -> Option<u64> {
        self.file.as_ref().map(|file| file.generation)
    }

    /// The file that the index was opened from.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Reading a mapped file beyond its end raises SIGBUS: its length is checked first.
    pub(super) fn check_file(&self) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.bytes.check_len())
    }

    /// The error of NaN keys: builders accept finite rows only, so the file is damaged.
    pub(super) fn not_numbers(&self) -> Error {
        self.damaged("F17: a row or its norm is not a number; verify the file")
    }

    pub(super) fn damaged(&self, reason: &str) -> Error {
        Error::Format { path: self.path().map(Path::to_owned).unwrap_or_default(), reason: reason.to_owned() }
    }
}
