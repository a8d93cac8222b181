//! A file that grows by commits: new sections and a new table are appended and synced, then one of two slots is overwritten
//! and synced.
//!
//! Until the slot is written, the file is the one of the commit before, whatever has been appended. A slot is 64 bytes
//! within one sector of a disk, which is written whole or not at all. No other byte of a commit is ever written again, so
//! maps of earlier generations stay valid. One writer holds the file by a lock that goes with it, however it ends.

use super::header::Header;
use super::index_record::{IdRecord, IndexRecord};
use super::layout::{self, ALIGNMENT, BLOCK, HEADER_BYTES, RECORD_BYTES, padding};
use super::replace;
use super::section::Section;
use super::write::{self, Contents, Part, extent_bytes};
use super::{checksum, write::prologue};
use crate::error::{Error, Result};
use crate::store::{regular_file, same_file};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What a commit makes of a file.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// What holds for all rows.
    pub index: &'a IndexRecord,
    /// The next id, and the type of ids.
    pub ids: IdRecord,
    /// How many segments there will be.
    pub segments: usize,
    /// Rows of all of them.
    pub rows: u64,
    /// Sections that are in the file, and stay, with the segments and rows that they will belong to.
    pub kept: &'a [Section],
    /// Sections to be written.
    pub new: &'a [Part<'a>],
}

/// Where bytes go: a file, or what a test puts in its place.
pub trait Storage: std::fmt::Debug + Send {
    /// Writes all `bytes` at `offset`.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes all that was written survive a loss of power.
    fn sync(&mut self) -> io::Result<()>;
    /// Lets others write.
    fn release(&mut self) {}
}

impl Storage for File {
    #[cfg(unix)]
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    #[cfg(not(unix))]
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn release(&mut self) {
        // A file that cannot be unlocked is unlocked when it is closed.
        let _ = self.unlock();
    }
}

/// A file that this process alone may write.
#[derive(Debug)]
pub struct GrowingFile<S: Storage = File> {
    storage: S,
    path: PathBuf,
    sealed: bool,
    generation: u64,
    file_bytes: u64,
    /// Whether a commit failed after which nobody knows what the file holds.
    lost: bool,
    /// The process that opened it; a forked child has a copy.
    process: u32,
}

impl GrowingFile {
    /// Opens and locks the file at `path`; what is in it must then be read.
    ///
    /// # Errors
    /// [`Error::Busy`] where another writer holds it; [`Error::Io`].
    pub fn lock(path: &Path) -> Result<Self> {
        loop {
            regular_file(path)?;
            let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| Error::io(path, e))?;
            replace::lock(&file, path)?;
            // Between the two calls the writer before may have put another file in its place.
            let now = File::open(path).map_err(|e| Error::io(path, e))?;
            if same_file(&now, &file) {
                replace::remove_abandoned(&replace::folder_of(path));
                return Ok(Self::of(file, path, (true, 0, 0)));
            }
        }
    }

    /// Writes a new file in place of the one at `path`, of generation `generation`, and holds it.
    ///
    /// # Errors
    /// As [`write()`](super::write()).
    pub fn create(path: &Path, contents: &Contents, generation: u64, tick: &dyn Fn() -> Result<()>) -> Result<Self> {
        let (storage, file_bytes) = write::replace(path, contents, generation, tick)?;
        Ok(Self::of(storage, path, (false, generation, file_bytes)))
    }

    fn of(storage: File, path: &Path, (sealed, generation, file_bytes): (bool, u64, u64)) -> Self {
        GrowingFile { storage, path: path.to_owned(), sealed, generation, file_bytes, lost: false, process: std::process::id() }
    }

    /// [`Error::Io`] where the file at the path is another one by now.
    pub fn check_place(&self) -> Result<()> {
        let there = File::open(&self.path).map_err(|e| Error::io(&self.path, e))?;
        if !same_file(&there, &self.storage) {
            let reason = "expected the file that was opened for writing, got another one in its place";
            return Err(Error::io(&self.path, io::Error::other(reason)));
        }
        Ok(())
    }

    /// Appends a commit; returns what the file then holds.
    ///
    /// # Errors
    /// [`Error::Io`]; that of `tick`, which is called between blocks until the commit can no longer be stopped. The file then
    /// holds what it held before, except after an error that says that it is not known.
    pub fn commit<'a>(
        &mut self,
        commit: &Commit<'a>,
        payload: impl Fn(Range<usize>) -> &'a [u8],
        tick: &dyn Fn() -> Result<()>,
    ) -> Result<Header> {
        self.check_place()?;
        self.append(commit, payload, tick)
    }
}

impl<S: Storage> Drop for GrowingFile<S> {
    fn drop(&mut self) {
        // Closing would leave the lock to forked children that have copies of the handle.
        if self.process == std::process::id() {
            self.storage.release();
        }
    }
}

impl<S: Storage> GrowingFile<S> {
    /// Takes over what was read of the file after it was locked.
    pub fn follow(&mut self, sealed: bool, generation: u64, file_bytes: u64) {
        (self.sealed, self.generation, self.file_bytes) = (sealed, generation, file_bytes);
    }

    /// The name of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// [`Error::Busy`] in a forked child: the parent goes on to write the file.
    pub fn check_process(&self) -> Result<()> {
        if self.process == std::process::id() { Ok(()) } else { Err(Error::Busy { path: self.path.clone(), holder: Some(self.process) }) }
    }

    /// Refuses all further commits: what the file holds is not what its writer believes.
    pub fn give_up(&mut self) {
        self.lost = true;
    }

    /// The last commit.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes of the file with the last commit.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    fn append<'a>(
        &mut self,
        commit: &Commit<'a>,
        payload: impl Fn(Range<usize>) -> &'a [u8],
        tick: &dyn Fn() -> Result<()>,
    ) -> Result<Header> {
        if self.lost {
            let reason = "an earlier commit failed, and what the file holds is not known: open it again";
            return Err(Error::io(&self.path, io::Error::other(reason)));
        }
        let mut sections = commit.kept.to_vec();
        let mut end = self.file_bytes;
        for part in commit.new {
            let (start, extent) = (end as usize, extent_bytes(part.payload));
            end += extent;
            sections.push(Section {
                kind: Some(part.kind),
                segment: part.segment,
                rows: part.rows,
                payload: start..start + part.payload.len(),
                extent: start..end as usize,
                checksum: checksum::of_section(part.payload, tick)?,
            });
        }
        let table = write::table(commit.index, &commit.ids, (commit.segments, commit.rows), &sections);
        let slot = write::slot(self.generation + 1, end, &table, end + table.len() as u64);
        let new = &sections[commit.kept.len()..];
        let stored = |place: Range<usize>| {
            new.iter()
                .zip(commit.new)
                .find(|(section, _)| section.payload == place)
                .map_or_else(|| payload(place.clone()), |(_, part)| part.payload)
        };
        let header = Header::check_table(&table, &slot, false, stored);
        let header = header.map_err(|reason| Error::Format { path: self.path.clone(), reason })?;
        self.write(commit, &table, tick)?;
        self.publish(slot)?;
        Ok(header)
    }

    /// What must be on disk before the slot leads to it.
    fn write(&mut self, commit: &Commit, table: &[u8], tick: &dyn Fn() -> Result<()>) -> Result<()> {
        if self.sealed {
            self.put(bytemuck::bytes_of(&prologue(false)), 0)?;
            self.sync()?;
            self.sealed = false;
        }
        let (mut buffer, mut at) = (Vec::with_capacity(BLOCK + ALIGNMENT), self.file_bytes);
        for bytes in commit.new.iter().map(|part| part.payload).chain([table]) {
            for block in bytes.chunks(BLOCK) {
                tick()?;
                buffer.extend_from_slice(block);
                if buffer.len() >= BLOCK {
                    self.put(&buffer, at)?;
                    at += buffer.len() as u64;
                    buffer.clear();
                }
            }
            buffer.extend_from_slice(&[0; ALIGNMENT][..padding(bytes.len())]);
        }
        self.put(&buffer, at)?;
        tick()?;
        self.sync()
    }

    fn publish(&mut self, slot: layout::Slot) -> Result<()> {
        let place = if slot.generation % 2 == 1 { RECORD_BYTES } else { HEADER_BYTES - RECORD_BYTES };
        // From here on nobody knows what a failure leaves behind.
        self.lost = true;
        self.put(bytemuck::bytes_of(&slot), place as u64)?;
        self.sync()?;
        self.lost = false;
        (self.generation, self.file_bytes) = (slot.generation, slot.file_bytes);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.storage.write_at(bytes, offset).map_err(|e| Error::io(&self.path, e))
    }

    fn sync(&mut self) -> Result<()> {
        self.storage.sync().map_err(|e| Error::io(&self.path, e))
    }
}

#[cfg(test)]
#[path = "growing_tests.rs"]
mod tests;
