#![doc = include_str!("FORMAT.md")]

// A file is read in three steps, each a change of type: bytes are mapped (store), `Header::parse`
// checks header, table, quantizer, cells or buckets (F1 to F15, F19 to F25), `verify` reads every byte (F16 to F18). `write`
// is the way back.

mod ann;
mod check;
mod checksum;
mod codes;
mod foreign;
mod header;
mod index_record;
mod layout;
mod replace;
mod section;
mod write;

pub use ann::{AnnRecord, BucketRecord, BucketShape, CellParts, CellRecord, CellShape, TuningRecord};
pub use codes::{MAX_SKEW, QuantizerRecord};
pub use header::Header;
pub use index_record::IndexRecord;
pub use layout::{BLOCK, MAX_BITS, MAX_CODED_DIMS, MAX_DIMS, MAX_POWER, MAX_SEGMENT_ROWS, MAX_TABLES, MIN_CODED_DIMS, TuningPoint};
pub use section::{CodeLayout, Kind, Section, SegmentLayout};
pub use write::{AnnBytes, CodeBytes, Contents, QuantizerBytes, SegmentBytes, copy, to_bytes, write};

use crate::error::{Error, Result};
use crate::store::{Bytes, BytesMut};
use std::path::Path;

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
    let mut bytes = Bytes::map(path)?;
    // Read-ahead is off for the header, so that opening a file reads no rows.
    let mut header = Header::parse(bytes.scattered(), path)?;
    if mode == Mode::Ram {
        // Checked once before memory is taken for it, once more as what will be used.
        bytes = bytes.into_ram(tick)?;
        header = Header::parse(&bytes, path)?;
    }
    if verify == Verify::Full || (verify == Verify::Auto && bytes.len() < AUTO_FULL) {
        verify_sections(&bytes, &header, path, tick)?;
    }
    Ok((bytes, header))
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
    verify_sections(&bytes, &header, name, tick)?;
    Ok((bytes, header))
}

/// Checks every byte of an open file, header and table again included; `path` is only for the error.
pub fn verify(bytes: &Bytes, path: &Path, tick: &dyn Fn() -> Result<()>) -> Result<()> {
    bytes.check_len()?;
    let header = Header::parse(bytes, path)?;
    verify_sections(bytes, &header, path, tick)
}

/// F16 to F18.
fn verify_sections(bytes: &Bytes, header: &Header, path: &Path, tick: &dyn Fn() -> Result<()>) -> Result<()> {
    let tick = || {
        bytes.check_len()?;
        tick()
    };
    for section in &header.sections {
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
