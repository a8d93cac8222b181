#![doc = include_str!("FORMAT.md")]

// A file is read in three steps, each a change of type: bytes are mapped (store), `Header::parse`
// checks header, table, quantizer, cells or buckets (F1 to F15, F19 to F25), `verify` reads every byte (F16 to F18). `write`
// is the way back.

mod ann;
mod check;
mod checksum;
mod codes;
mod foreign;
mod growing;
mod header;
mod index_record;
mod layout;
mod replace;
mod section;
mod write;

pub use ann::{AnnParts, AnnRecord, BucketRecord, BucketShape, CellParts, CellRecord, CellShape, TuningRecord};
pub use codes::{MAX_SKEW, QuantizerRecord};
pub use growing::{Commit, GrowingFile};
pub use header::Header;
pub use index_record::{IdRecord, IndexRecord};
pub use layout::{BLOCK, MAX_BITS, MAX_CODED_DIMS, MAX_DIMS, MAX_POWER, MAX_SEGMENT_ROWS, MAX_TABLES, MIN_CODED_DIMS, TuningPoint};
pub use section::{CodeLayout, Kind, Section, SegmentLayout};
pub use write::{AnnBytes, CodeBytes, Contents, Part, QuantizerBytes, SegmentBytes, copy, to_bytes, write};

use crate::error::{Error, Result};
use crate::store::{Bytes, BytesMut};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Files below this are verified in full by [`Verify::Auto`]: about 20 ms at the 3 GB/s that one thread reads a map.
const AUTO_FULL: usize = 64 << 20;

/// Where the bytes of an opened file lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// In the file, mapped.
    #[default]
    Mmap,
    /// In memory of our own, read at once.
    Ram,
}

/// How much of a file is checked when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Full under 64 MiB, else header.
    #[default]
    Auto,
    /// Header and section table.
    Header,
    /// Every byte.
    Full,
}

impl Mode {
    /// The mode of a user's word.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "mmap" => Ok(Mode::Mmap),
            "ram" => Ok(Mode::Ram),
            _ => Err(Error::input("mode", "one of mmap, ram", format!("{name:?}"))),
        }
    }
}

impl Verify {
    /// The extent of a user's word.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Verify::Auto),
            "header" => Ok(Verify::Header),
            "full" => Ok(Verify::Full),
            _ => Err(Error::input("verify", "one of auto, header, full", format!("{name:?}"))),
        }
    }
}

/// Opens an index file; `tick` is called between blocks of a full check or a copy and may interrupt.
pub fn open(path: &Path, mode: Mode, verify: Verify, tick: &dyn Fn() -> Result<()>) -> Result<(Bytes, Header)> {
    let (mut bytes, mut header) = map(path)?;
    if mode == Mode::Ram {
        // Checked once before memory is taken for it, once more as what will be used.
        bytes = bytes.into_ram(tick)?;
        header = Header::parse(&bytes, path)?;
    }
    if verify == Verify::Full || (verify == Verify::Auto && bytes.len() < AUTO_FULL) {
        verify_sections(&bytes, &header.sections, path, tick)?;
    } else {
        // A damaged tombstone would bring back one row and delete another.
        let tombstones = header.sections.iter().filter(|section| section.kind == Some(Kind::Tombstones)).cloned();
        verify_sections(&bytes, &tombstones.collect::<Vec<Section>>(), path, tick)?;
    }
    Ok((bytes, header))
}

/// Times that the header of a file is read where a writer may be changing it meanwhile.
const ATTEMPTS: u32 = 5;

/// Maps a file and reads its header.
fn map(path: &Path) -> Result<(Bytes, Header)> {
    let mut attempt = 0;
    loop {
        let bytes = Bytes::map(path)?;
        // Read-ahead is off for the header, so that opening a file reads no rows.
        match Header::parse(bytes.scattered(), path) {
            Ok(header) => return Ok((bytes, header)),
            // A slot that is read while it is written, or that tells of bytes beyond the map, is right soon after.
            Err(_) if attempt < ATTEMPTS && header::may_grow(&bytes) => std::thread::sleep(Duration::from_millis(1 << attempt)),
            Err(error) => return Err(error),
        }
        attempt += 1;
    }
}

/// The newest generation of the file at `path` and the file itself, without reading more than its slots; `None` where it
/// cannot be told, and the file must be opened to know why.
pub fn newest_generation(path: &Path) -> Option<(u64, std::fs::File)> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut head = [0; layout::HEADER_BYTES];
    file.read_exact(&mut head).ok()?;
    header::newest_generation(&head).map(|generation| (generation, file))
}

/// The newest generation of a file; `None` where its header is damaged.
pub fn newest(file: &[u8]) -> Option<u64> {
    header::newest_generation(file)
}

/// Copies the bytes of an index file, such as [`to_bytes`] makes, and checks every one; `name` stands for the path in errors.
pub fn from_bytes(file: &[u8], name: &Path, tick: &dyn Fn() -> Result<()>) -> Result<(Bytes, Header)> {
    let mut copy = BytesMut::zeroed(file.len(), "a copy of an index")?;
    for (to, from) in copy.view_mut(0..file.len()).chunks_mut(layout::BLOCK).zip(file.chunks(layout::BLOCK)) {
        tick()?;
        to.copy_from_slice(from);
    }
    let bytes = copy.freeze()?;
    let header = Header::parse(&bytes, name)?;
    verify_sections(&bytes, &header.sections, name, tick)?;
    Ok((bytes, header))
}

/// Checks every byte of an open file, header and table again included; `path` is only for the error.
pub fn verify(bytes: &Bytes, path: &Path, tick: &dyn Fn() -> Result<()>) -> Result<()> {
    bytes.check_len()?;
    let header = Header::parse(bytes, path)?;
    verify_sections(bytes, &header.sections, path, tick)
}

/// F17 of one section that is about to be copied, as it lies in memory.
///
/// # Errors
/// [`Error::Format`]; that of `tick`.
pub fn check_section(section: &Section, payload: &[u8], path: &Path, tick: &dyn Fn() -> Result<()>) -> Result<()> {
    let computed = checksum::of_section(payload, tick)?;
    let checked = check::checksum("F17", &section.name(), section.checksum, computed);
    checked.map_err(|reason| Error::Format { path: path.to_owned(), reason })
}

/// F16 to F18 of sections in the map of a whole file.
///
/// # Errors
/// [`Error::Format`]; that of `tick`.
pub fn verify_sections(bytes: &Bytes, sections: &[Section], path: &Path, tick: &dyn Fn() -> Result<()>) -> Result<()> {
    let tick = || {
        bytes.check_len()?;
        tick()
    };
    for section in sections {
        let computed = checksum::of_section(&bytes[section.extent.clone()], &tick)?;
        let padding = &bytes[section.payload.end..section.extent.end];
        let zero = || {
            check::ensure(padding.iter().all(|&byte| byte == 0), || {
                format!("F18: padding of the {}: expected zero bytes, got others", section.name())
            })
        };
        check::checksum("F17", &section.name(), section.checksum, computed)
            .and_then(|()| zero())
            .map_err(|reason| Error::Format { path: path.to_owned(), reason })?;
    }
    Ok(())
}
