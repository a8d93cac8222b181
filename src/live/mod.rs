//! An index that changes: one generation after another, each of them an [`Index`] that never changes.
//!
//! Readers take the generation that is current and keep it as long as they like. One writer at a time makes the next: it
//! adds segments and marks rows as deleted, and where the index lies in a file, the file is the first to know. Small
//! segments are merged on the way, and compaction makes one segment of all. So an exact answer is that of a fresh index
//! of the rows in the order in which they were inserted, bit for bit.

mod change;
mod commit;
mod merge;
mod turn;

use crate::build::{BuildParams, Builder};
use crate::error::{Error, Result};
use crate::format::{GrowingFile, IndexRecord, MAX_DIMS, Mode, Verify};
use crate::index::Index;
use crate::input::Block;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::store::ids::{Id, IdSlice, Ids};
use crate::store::segment::Segment;
use change::Work;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use turn::Turn;

/// Rows to be added: their values, one after the other, and how many there are of each.
#[derive(Debug, Clone, Copy)]
pub struct NewRows<'a> {
    /// All values.
    pub values: Block<'a>,
    /// Values a row.
    pub dims: usize,
}

/// Where the next generation goes.
#[derive(Debug)]
enum Place {
    /// It stays in memory.
    Memory,
    /// First into a file.
    File(GrowingFile),
}

/// An index and its writer.
#[derive(Debug)]
pub struct LiveIndex {
    current: Mutex<Arc<Index>>,
    /// How a reader maps its file; `None` where the index can be changed.
    reader: Option<Mode>,
    /// Taken only by who has the turn.
    writer: Mutex<Writer>,
    turn: Turn,
}

#[derive(Debug)]
struct Writer {
    place: Place,
    /// The next generation as far as a batch has come; `None` outside of one.
    batch: Option<Arc<Index>>,
    /// How many times the rows or bytes that are needed make a change compact; `None`: nothing does.
    automatic: Option<f64>,
}

impl LiveIndex {
    /// An index in memory; one that lies in a file can only be read.
    pub fn new(index: Index) -> Self {
        let reader = index.path().map(|_| Mode::Mmap);
        Self::at(index, Place::Memory, reader)
    }

    fn at(index: Index, place: Place, reader: Option<Mode>) -> Self {
        let writer = Writer { place, batch: None, automatic: Some(change::EXCESS) };
        LiveIndex { current: Mutex::new(Arc::new(index)), reader, writer: Mutex::new(writer), turn: Turn::default() }
    }

    /// An index without rows, of a level, metric and seed, in memory or in a new file; `dims` is 0 where the first rows shall
    /// tell.
    ///
    /// # Errors
    /// As [`LiveIndex::open_writable`].
    pub fn empty(about: IndexRecord, path: Option<&Path>, watch: &Watch) -> Result<Self> {
        if about.dims > MAX_DIMS as usize {
            return Err(Error::input("dims", format!("a number from 1 to {MAX_DIMS}"), about.dims));
        }
        about.level.check_dims("dims", about.dims)?;
        Metric::of_level(about.level, "metric", Some(about.metric))?;
        let empty = Index::in_memory(about, Vec::new(), None);
        let Some(path) = path else { return Ok(Self::new(empty)) };
        empty.save(path, watch)?;
        Self::open_writable(path, Verify::Header, watch)
    }

    /// Opens a saved index to be read.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn open(path: &Path, mode: Mode, verify: Verify, ann: bool, watch: &Watch) -> Result<Self> {
        let index = Index::open(path, mode, verify, watch)?;
        Ok(Self::at(if ann { index } else { index.without_ann() }, Place::Memory, Some(mode)))
    }

    /// Opens a saved index to be changed.
    ///
    /// # Errors
    /// As [`Index::open`]; [`Error::Busy`] where another writer holds it.
    pub fn open_writable(path: &Path, verify: Verify, watch: &Watch) -> Result<Self> {
        let mut file = GrowingFile::lock(path)?;
        let index = Index::open(path, Mode::Mmap, verify, watch)?;
        commit::follow(&mut file, &index);
        Ok(Self::at(index, Place::File(file), None))
    }

    /// Writes the rows that are left to one file, whole or not at all.
    ///
    /// # Errors
    /// As [`Index::save`].
    pub fn save(&self, path: &Path, watch: &Watch) -> Result<()> {
        let current = self.current();
        if change::is_plain(&current) {
            return current.save(path, watch);
        }
        change::compacted(&current, Work { threads: pool::thread_count(None)?, watch })?.save(path, watch)
    }

    /// The bytes of the file that [`LiveIndex::save`] would write.
    ///
    /// # Errors
    /// As [`Index::to_bytes`].
    pub fn to_bytes(&self, watch: &Watch) -> Result<Vec<u8>> {
        let current = self.current();
        if change::is_plain(&current) {
            return current.to_bytes(watch);
        }
        change::compacted(&current, Work { threads: pool::thread_count(None)?, watch })?.to_bytes(watch)
    }

    /// The current generation.
    pub fn current(&self) -> Arc<Index> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the index can be changed.
    pub fn writable(&self) -> bool {
        self.reader.is_none()
    }

    /// The writer, for who has the turn.
    fn writer(&self) -> Result<MutexGuard<'_, Writer>> {
        if self.reader.is_some() {
            return Err(Error::input("index", "one that can be changed, by load_index(path, writable=True)", "one opened for reading"));
        }
        let writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The thread that holds it was left behind by a fork.
            Err(TryLockError::WouldBlock) => {
                return Err(Error::input("index", "one that no thread was changing when the process was forked", "such a one"));
            }
        };
        if let Place::File(file) = &writer.place {
            file.check_process()?;
        }
        Ok(writer)
    }

    fn publish(&self, next: Arc<Index>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// How many times the rows or bytes that are needed make a change compact; `None`: nothing does.
    ///
    /// # Errors
    /// A number that is not above 1; an index that was opened to be read; [`Error::Interrupted`].
    pub fn set_automatic(&self, automatic: Option<f64>, watch: &Watch) -> Result<()> {
        if let Some(most) = automatic.filter(|most| most.is_nan() || *most <= 1.0) {
            return Err(Error::input("ratio", "a number above 1, or None", most));
        }
        let _turn = self.turn.take(watch)?;
        self.writer()?.automatic = automatic;
        Ok(())
    }

    /// Adds rows, with ids that the index does not have; `None`: the next numbers. Returns the first of these.
    ///
    /// # Errors
    /// Unusable rows or ids; an index that was opened to be read; no memory; [`Error::Io`]; [`Error::Interrupted`]. Nothing
    /// is then added.
    pub fn add(&self, rows: NewRows, ids: Option<IdSlice>, threads: Option<i64>, watch: &Watch) -> Result<Option<i64>> {
        self.change(threads, watch, |index, work| {
            let count = count(&index, rows)?;
            if count == 0 {
                ids.map_or(Ok(()), |ids| if ids.is_empty() { Ok(()) } else { Err(no_rows_for(ids)) })?;
                return Ok((index, None));
            }
            let own = change::ids_for(&index, ids, count)?;
            if let Some(ids) = ids {
                change::check_distinct(ids)?;
                change::check_new(&index, ids)?;
            }
            let first = match own.get(0, count) {
                Some(Id::Number(number)) => Some(number),
                _ => None,
            };
            let (segment, about) = built(&index, rows, count, own, work)?;
            Ok((change::with_segment(index, segment, &about, work)?, first))
        })
    }

    /// Adds rows in place of those that have these ids; of an id that is given twice, the last row counts.
    ///
    /// # Errors
    /// As [`LiveIndex::add`].
    pub fn upsert(&self, rows: NewRows, ids: IdSlice, threads: Option<i64>, watch: &Watch) -> Result<()> {
        self.change(threads, watch, |index, work| {
            let count = count(&index, rows)?;
            let own = change::ids_for(&index, Some(ids), count)?;
            if count == 0 {
                return Ok((index, ()));
            }
            let (mut segment, about) = built(&index, rows, count, own, work)?;
            if let Some(last) = change::last_of_each(ids) {
                let mut kept = last.into_iter().peekable();
                for row in 0..count {
                    if kept.next_if_eq(&row).is_none() {
                        segment.deleted.insert(row);
                    }
                }
                segment = change::alone(&about, segment, work)?;
            }
            let (index, _) = change::without(index, ids);
            Ok((change::with_segment(index, segment, &about, work)?, ()))
        })
    }

    /// Deletes the rows that have these ids, and returns how many there were.
    ///
    /// # Errors
    /// Ids of another type; an index that was opened to be read; [`Error::Io`]; [`Error::Interrupted`]. Nothing is then deleted.
    pub fn delete(&self, ids: IdSlice, watch: &Watch) -> Result<usize> {
        self.change(None, watch, |index, _| {
            change::check_type(&index, ids)?;
            Ok(change::without(index, ids))
        })
    }

    /// Begins a batch: changes are kept back until [`LiveIndex::commit`].
    ///
    /// # Errors
    /// An index that was opened to be read; a batch has begun; [`Error::Interrupted`].
    pub fn begin(&self, watch: &Watch) -> Result<()> {
        if self.turn.is_own() {
            return Err(Error::input("batch", "no batch within a batch", "one"));
        }
        let turn = self.turn.take(watch)?;
        self.writer()?.batch = Some(self.current());
        turn.keep();
        Ok(())
    }

    /// Makes the changes of a batch the current generation, all or none.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Interrupted`]. None of the changes is then made.
    pub fn commit(&self, watch: &Watch) -> Result<()> {
        let _turn = self.turn.resume();
        let mut writer = self.writer()?;
        match writer.batch.take() {
            Some(next) if !Arc::ptr_eq(&next, &self.current()) => {
                self.settle(&mut writer, next.next(), Work { threads: pool::thread_count(None)?, watch })
            }
            _ => Ok(()),
        }
    }

    /// Ends a batch without its changes.
    pub fn roll_back(&self) {
        let _turn = self.turn.resume();
        if let Ok(mut writer) = self.writer() {
            writer.batch = None;
        }
    }

    /// Makes one segment of all rows that are left, with codes and cells or buckets as if they had just been built.
    ///
    /// # Errors
    /// As [`LiveIndex::delete`]; [`Error::Format`] where the file is damaged.
    pub fn compact(&self, threads: Option<i64>, watch: &Watch) -> Result<()> {
        let work = Work { threads: pool::thread_count(threads)?, watch };
        let _turn = self.turn.take(watch)?;
        let mut writer = self.writer()?;
        if writer.batch.is_some() {
            return Err(Error::input("compact", "an index outside of a batch", "one in a batch"));
        }
        let current = self.current();
        self.replace(&mut writer, &current, work)
    }

    /// Moves a reader to the newest generation of its file; whether there was a newer one.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn refresh(&self, watch: &Watch) -> Result<bool> {
        let _turn = self.turn.take(watch)?;
        let Some(mode) = self.reader else { return Ok(false) };
        let current = self.current();
        match commit::newer(&current, mode, watch)? {
            Some(newer) => {
                self.publish(Arc::new(newer));
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Makes a change the next generation, or a part of the batch that has begun.
    fn change<T>(&self, threads: Option<i64>, watch: &Watch, make: impl FnOnce(Index, Work) -> Result<(Index, T)>) -> Result<T> {
        let work = Work { threads: pool::thread_count(threads)?, watch };
        let _turn = self.turn.take(watch)?;
        let mut writer = self.writer()?;
        let base = writer.batch.clone().unwrap_or_else(|| self.current());
        let (next, made) = make(base.next(), work)?;
        if writer.batch.is_some() {
            writer.batch = Some(Arc::new(next));
        } else {
            self.settle(&mut writer, next, work)?;
        }
        Ok(made)
    }

    /// Writes the next generation to where it belongs, makes it the current one, and compacts it if that is due.
    fn settle(&self, writer: &mut Writer, next: Index, work: Work) -> Result<()> {
        let next = Arc::new(match &mut writer.place {
            Place::File(file) => commit::write(next, &self.current(), file, work.watch)?,
            _ => next,
        });
        self.publish(next.clone());
        let file_bytes = if let Place::File(file) = &writer.place { file.file_bytes() } else { 0 };
        if writer.automatic.is_some_and(|most| change::is_due(&next, file_bytes, most)) {
            // The change is made, and whatever prevents a compaction prevents no change; the next one tries again.
            match self.replace(writer, &next, work) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn replace(&self, writer: &mut Writer, index: &Index, work: Work) -> Result<()> {
        let compact = change::compacted(index, work)?;
        let next = match &mut writer.place {
            Place::File(file) => commit::replace(&compact, file, work.watch)?,
            _ => compact,
        };
        self.publish(Arc::new(next));
        Ok(())
    }
}

/// The ids of the rows of a new index: those given, or 0, 1, 2, ...
///
/// # Errors
/// An id that occurs twice; no memory.
pub fn first_ids(ids: Option<IdSlice>, rows: usize) -> Result<Ids> {
    ids.map_or(Ok(Ids::Consecutive(0)), |ids| {
        change::check_count(ids, rows)?;
        change::check_distinct(ids)?;
        Ids::copy(ids)
    })
}

/// How many rows there are.
fn count(index: &Index, rows: NewRows) -> Result<usize> {
    let dims = index.about().dims;
    if dims > 0 && rows.dims != dims && !rows.values.is_empty() {
        return Err(Error::input("embeddings", format!("rows of {dims} values"), format!("{} values", rows.dims)));
    }
    Ok(rows.values.len() / rows.dims.max(1))
}

fn no_rows_for(ids: IdSlice) -> Error {
    Error::input("ids", "no ids, as there are no rows", format!("{} ids", ids.len()))
}

/// The rows as a segment.
fn built(index: &Index, rows: NewRows, count: usize, ids: Ids, work: Work) -> Result<(Segment, IndexRecord)> {
    let IndexRecord { level, metric, seed, .. } = *index.about();
    let params = BuildParams { level, metric, seed, codes: false, threads: Some(work.threads as i64), ..BuildParams::default() };
    let mut builder = Builder::new(count as u64, rows.dims, params)?;
    builder.push(rows.values, rows.dims, work.watch)?;
    builder.segment(ids)
}
