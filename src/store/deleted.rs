//! Which rows of a segment have been deleted: a bitmap in chunks that clones share until one of them changes.

use std::ops::Range;
use std::sync::Arc;

/// Words of a chunk: 8 kB for 65,536 rows.
const WORDS: usize = 1024;
const CHUNK: usize = 64 * WORDS;

/// No row is deleted.
pub static NONE: Deleted = Deleted { chunks: Vec::new(), count: 0 };

/// The deleted rows of a segment, by their numbers in it.
#[derive(Debug, Clone, Default)]
pub struct Deleted {
    /// `None`, and what is beyond the end: nothing is deleted there.
    chunks: Vec<Option<Arc<[u64; WORDS]>>>,
    count: usize,
}

impl Deleted {
    /// How many rows are deleted.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a row is deleted.
    #[inline]
    pub fn contains(&self, row: usize) -> bool {
        let chunk = self.chunks.get(row / CHUNK).and_then(Option::as_ref);
        chunk.is_some_and(|words| words[row % CHUNK / 64] >> (row % 64) & 1 == 1)
    }

    /// Deletes a row; returns whether it was there.
    pub fn insert(&mut self, row: usize) -> bool {
        if self.contains(row) {
            return false;
        }
        if self.chunks.len() <= row / CHUNK {
            self.chunks.resize(row / CHUNK + 1, None);
        }
        let chunk = self.chunks[row / CHUNK].get_or_insert_with(|| Arc::new([0; WORDS]));
        Arc::make_mut(chunk)[row % CHUNK / 64] |= 1 << (row % 64);
        self.count += 1;
        true
    }

    /// Runs of rows below `rows` that are not deleted, in order.
    pub fn live_runs(&self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        self.rows().chain([rows]).filter_map(move |end| {
            let run = start..end.min(rows);
            start = end + 1;
            (!run.is_empty()).then_some(run)
        })
    }

    /// The deleted rows, ascending.
    pub fn rows(&self) -> impl Iterator<Item = usize> {
        self.rows_since(None)
    }

    /// Those that are not deleted in `earlier`, of which this is a changed clone.
    pub fn rows_since<'a>(&'a self, earlier: Option<&'a Deleted>) -> impl Iterator<Item = usize> + 'a {
        let before = move |at: usize| earlier.and_then(|deleted| deleted.chunks.get(at)).and_then(Option::as_ref);
        let chunks = self.chunks.iter().enumerate().filter_map(|(at, chunk)| Some((at, chunk.as_ref()?)));
        let changed = chunks.filter(move |&(at, chunk)| before(at).is_none_or(|earlier| !Arc::ptr_eq(earlier, chunk)));
        changed.flat_map(move |(at, chunk)| {
            (0..WORDS).flat_map(move |word| {
                let new = chunk[word] & !before(at).map_or(0, |earlier| earlier[word]);
                (0..64).filter(move |bit| new != 0 && new >> bit & 1 == 1).map(move |bit| at * CHUNK + 64 * word + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_what_was_not_deleted() {
        let mut deleted = Deleted::default();
        let runs = |deleted: &Deleted, rows| deleted.live_runs(rows).collect::<Vec<_>>();
        assert_eq!(runs(&deleted, 5), vec![0..5]);
        let before = deleted.clone();
        assert!([0, 3, 70_000, 65_536].into_iter().all(|row| deleted.insert(row)));
        assert!(!deleted.insert(3) && deleted.contains(65_536) && !deleted.contains(65_537) && !deleted.contains(1 << 40));
        assert_eq!(runs(&deleted, 70_001), vec![1..3, 4..65_536, 65_537..70_000]);
        assert_eq!((runs(&deleted, 1), deleted.count(), before.count()), (vec![], 4, 0));
        let middle = deleted.clone();
        deleted.insert(9);
        assert_eq!(deleted.rows_since(Some(&middle)).collect::<Vec<_>>(), [9]);
        assert_eq!(deleted.rows_since(Some(&before)).count(), 5);
    }
}
