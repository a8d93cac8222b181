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
mod tests {
    use super::super::write::SegmentBytes;
    use super::super::{Contents, Kind, verify_sections};
    use super::*;
    use crate::level::Level;
    use crate::metric::Metric;
    use crate::random::Random;
    use crate::store::BytesMut;

    const INDEX: IndexRecord = IndexRecord { dims: 3, level: Level::F32, metric: Metric::Cosine, unit: false, seed: 0 };
    const IDS: IdRecord = IdRecord { next: Some(100), texts: Some(false) };
    const SECTOR: usize = 512;

    /// A disk that fails or loses power.
    #[derive(Debug, Default, Clone)]
    struct Disk {
        synced: Vec<u8>,
        /// Writes since the last sync.
        pending: Vec<(usize, Vec<u8>)>,
        calls: usize,
        /// The call that fails.
        fails: Option<usize>,
        /// How much of a failing write is done.
        done: usize,
    }

    impl Disk {
        fn call(&mut self) -> bool {
            self.calls += 1;
            self.fails == Some(self.calls - 1)
        }

        fn apply(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
            image.resize(image.len().max(offset + bytes.len()), 0);
            image[offset..offset + bytes.len()].copy_from_slice(bytes);
        }

        /// What may be left after a loss of power: of each unsynced write, each sector is there or not.
        fn after_power_loss(&self, random: &mut Random) -> Vec<u8> {
            let mut image = self.synced.clone();
            let mut writes: Vec<(usize, Vec<u8>)> = Vec::new();
            for (offset, bytes) in &self.pending {
                let mut at = *offset;
                while at < offset + bytes.len() {
                    let end = ((at / SECTOR + 1) * SECTOR).min(offset + bytes.len());
                    writes.push((at, bytes[at - offset..end - offset].to_vec()));
                    at = end;
                }
            }
            let share = random.below(4);
            writes.into_iter().filter(|_| random.below(4) <= share).for_each(|(at, bytes)| Self::apply(&mut image, at, &bytes));
            image
        }

        /// What the next process reads after this one was killed.
        fn after_kill(&self) -> Vec<u8> {
            let mut image = self.synced.clone();
            self.pending.iter().for_each(|(at, bytes)| Self::apply(&mut image, *at, bytes));
            image
        }
    }

    impl Storage for Disk {
        fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let fails = self.call();
            let done = if fails { self.done.min(bytes.len()) } else { bytes.len() };
            self.pending.push((offset as usize, bytes[..done].to_vec()));
            if fails { Err(io::Error::other("no space left")) } else { Ok(()) }
        }

        fn sync(&mut self) -> io::Result<()> {
            if self.call() {
                return Err(io::Error::other("input/output error"));
            }
            let image = self.after_kill();
            (self.synced, self.pending) = (image, Vec::new());
            Ok(())
        }
    }

    fn never() -> Result<()> {
        Ok(())
    }

    /// A file of one segment, sealed or of some generation.
    fn base(generation: Option<u64>) -> Vec<u8> {
        let (values, norms) = ([1u8; 24], [2u8; 16]);
        let segment = SegmentBytes { rows: 2, row_values: &values, norms: &norms, scales: None, codes: None, ids: None };
        let contents = Contents { index: &INDEX, ids: IdRecord { next: Some(2), ..IDS }, segments: &[segment], quantizer: None, ann: None };
        match generation {
            None => write::to_bytes(Path::new("base"), &contents, None, &never).unwrap(),
            Some(generation) => write::growing_bytes(&contents, generation).unwrap(),
        }
    }

    fn open(image: &[u8]) -> Result<Header> {
        let mut bytes = BytesMut::zeroed(image.len(), "a test")?;
        bytes.view_mut(0..image.len()).copy_from_slice(image);
        let bytes = bytes.freeze()?;
        let header = Header::parse(&bytes, Path::new("image"))?;
        verify_sections(&bytes, &header.sections, Path::new("image"), &never)?;
        Ok(header)
    }

    fn on(disk: Disk) -> GrowingFile<Disk> {
        let header = open(&disk.after_kill()).unwrap();
        let mut file =
            GrowingFile { storage: disk, path: PathBuf::new(), sealed: true, generation: 0, file_bytes: 0, lost: false, process: 0 };
        file.follow(header.sealed, header.generation, header.file_bytes);
        file
    }

    /// Appends `rows` rows and deletes one of the first segment.
    fn commit(file: &mut GrowingFile<Disk>, rows: usize) -> Result<Header> {
        let header = open(&file.storage.after_kill())?;
        let segments = header.segments.len();
        let (values, norms) = (vec![rows as u8; 12 * rows], vec![4u8; 8 * rows]);
        let part = |kind, segment, rows: usize, payload| Part { kind, segment: segment as u32, rows: rows as u64, payload };
        let number = (header.generation as u32).to_le_bytes();
        let mut new = vec![part(Kind::Rows, segments, rows, &values), part(Kind::Norms, segments, rows, &norms)];
        if header.generation < 2 {
            new.push(part(Kind::Tombstones, 0, 1, &number));
        }
        let commit = Commit {
            index: &INDEX,
            ids: IDS,
            segments: segments + 1,
            rows: header.rows() + rows as u64,
            kept: &header.sections,
            new: &new,
        };
        file.append(&commit, |_| &[], &never)
    }

    #[test]
    fn whenever_power_is_lost_the_file_is_whole_and_what_was_acknowledged_is_there() {
        let mut random = Random::new(7);
        let mut points = 0;
        for start in [None, Some(1), Some(2), Some(9)] {
            let calls = {
                let mut file = on(Disk { synced: base(start), ..Disk::default() });
                [1, 200, 3].into_iter().for_each(|rows| _ = commit(&mut file, rows).unwrap());
                file.storage.calls
            };
            // Killed, or without power, before each call.
            for stop in 0..=calls {
                for half in [0, 100, 700, usize::MAX] {
                    let mut file = on(Disk { synced: base(start), fails: Some(stop), done: half, ..Disk::default() });
                    let acknowledged = [1, 200, 3].into_iter().take_while(|&rows| commit(&mut file, rows).is_ok()).count() as u64;
                    let first = start.unwrap_or(1);
                    let allowed = [first + acknowledged, first + acknowledged + 1];
                    // A write that fails half done is followed by nothing; of a slot it is the whole sector or nothing.
                    let mut images = vec![];
                    (0..20).for_each(|_| images.push(file.storage.after_power_loss(&mut random)));
                    if half == 0 || half == usize::MAX {
                        images.push(file.storage.after_kill());
                    }
                    for image in images {
                        let in_slot = file
                            .storage
                            .pending
                            .last()
                            .is_some_and(|(at, bytes)| *at < HEADER_BYTES && bytes.len() < RECORD_BYTES && !bytes.is_empty());
                        if !in_slot {
                            let header = open(&image).unwrap();
                            assert!(allowed.contains(&header.generation), "{} of {allowed:?}", header.generation);
                            points += 1;
                        }
                    }
                }
            }
        }
        assert!(points > 4000, "{points}");
    }

    #[test]
    fn a_commit_that_fails_changes_nothing_and_the_next_one_succeeds() {
        let calls = {
            let mut file = on(Disk { synced: base(Some(1)), ..Disk::default() });
            commit(&mut file, 5).unwrap();
            file.storage.calls
        };
        for stop in 0..calls {
            let mut file = on(Disk { synced: base(Some(1)), fails: Some(stop), ..Disk::default() });
            assert!(commit(&mut file, 5).is_err());
            assert_eq!(open(&file.storage.after_kill()).unwrap().generation, if stop + 1 == calls { 2 } else { 1 });
            let next = commit(&mut file, 7);
            // Once the slot may or may not have been written, only opening the file tells.
            if stop + 2 < calls {
                assert_eq!((next.unwrap().rows(), open(&file.storage.after_kill()).unwrap().generation), (9, 2));
            } else {
                assert!(next.unwrap_err().to_string().contains("open it again"));
            }
        }
    }

    #[test]
    fn damage_of_the_newest_commit_is_an_error_that_names_the_older_one() {
        let mut file = on(Disk { synced: base(Some(1)), ..Disk::default() });
        commit(&mut file, 5).unwrap();
        let (whole, header) = (file.storage.after_kill(), open(&file.storage.after_kill()).unwrap());
        let table = whole.len() - RECORD_BYTES * (1 + header.sections.len());
        for at in (HEADER_BYTES - RECORD_BYTES..HEADER_BYTES).chain(table..whole.len()) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            let error = open(&damaged).unwrap_err().to_string();
            assert!(error.contains("generation 1"), "{at}: {error}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            // The first table and its padding belong to generation 1 alone.
            let old_table = (HEADER_BYTES..HEADER_BYTES + 3 * RECORD_BYTES).contains(&at);
            assert!(old_table || open(&damaged).is_err(), "{at}");
        }
    }
}
