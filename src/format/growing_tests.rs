//! A growing file on a disk that fails or loses power.

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
    let mut file = GrowingFile { storage: disk, path: PathBuf::new(), sealed: true, generation: 0, file_bytes: 0, lost: false, process: 0 };
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
    let commit =
        Commit { index: &INDEX, ids: IDS, segments: segments + 1, rows: header.rows() + rows as u64, kept: &header.sections, new: &new };
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
