//! Tables of buckets of rows, wherever their arrays lie, and searches in them.
//!
//! A table is all rows sorted by bucket, then by row. `starts` say where the rows of a bucket begin; where there
//! are more buckets than rows, where those of a slot of buckets do, and `keys` tell its buckets apart. The
//! starts of arrays from a file are checked when it is opened; rows are when they are met.

use super::hash::Params;
use super::probe::{Heap, Perturbation, ProbingSequence, QueryHash};
use crate::error::{Result, filled};
use crate::kernel::prefetch;

/// Buckets whose rows are asked of memory before the first of them is read, and rows of each.
const AHEAD: usize = 8;
const AHEAD_ROWS: usize = 64;
/// Below so many words of the bitmap for each candidate, reading it is faster than sorting them.
const WORDS_PER_CANDIDATE: usize = 8;

/// The lengths of a table's arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Tables.
    pub tables: usize,
    /// Bits of a bucket's number.
    pub bits: usize,
    /// Rows in each table.
    pub rows: usize,
}

impl Shape {
    /// That of the tables of so many rows.
    pub fn new(params: Params, rows: usize) -> Self {
        Shape { tables: params.tables, bits: params.bits, rows }
    }

    /// The slot of the directory that a bucket is in.
    pub(crate) fn slot(&self, bucket: u32) -> usize {
        (bucket >> (self.bits - self.directory_bits())) as usize
    }

    /// The uppermost bits of a bucket's number, by which `starts` are kept: no more than rows can tell apart.
    pub fn directory_bits(&self) -> usize {
        self.bits.min(self.rows.max(1).next_power_of_two().ilog2() as usize)
    }

    /// `starts` of each table.
    pub fn starts(&self) -> usize {
        (1 << self.directory_bits()) + 1
    }

    /// `keys` of each table: one a row where `starts` do not tell buckets apart.
    pub fn keys(&self) -> usize {
        if self.directory_bits() < self.bits { self.rows } else { 0 }
    }
}

/// All tables, wherever they lie.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    pub(super) shape: Shape,
    pub(super) starts: &'a [u32],
    pub(super) rows: &'a [u32],
    pub(super) keys: &'a [u32],
}

/// When to stop probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Buckets visited, at most.
    pub probes: u64,
    /// No further bucket is visited once there are so many candidates.
    pub candidates: usize,
}

/// What was visited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Buckets, empty ones too.
    pub probes: u64,
    /// Rows in them, each as often as it was met.
    pub entries: u64,
}

/// Room for a search: what it allocates is used again by the next.
#[derive(Debug, Default)]
pub struct Scratch {
    heap: Heap,
    /// A bit a row; all zero between searches.
    seen: Vec<u64>,
}

/// Where one table has a row, as a query sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meeting {
    /// In how many bits the row's bucket differs from the query's.
    pub distance: u32,
    /// See [`Perturbation::score`].
    pub score: u64,
    /// Probes that reach the bucket, itself counted, when that is within the limit.
    pub probes: Option<u64>,
}

/// What a query meets as it probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// For each row that was wanted the probe that met it, the first being 1.
    pub probes: Vec<Option<u64>>,
    /// How many rows are candidates after each of some numbers of probes.
    pub grown: Vec<u64>,
}

/// What it takes to reach a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The table that has it first.
    pub table: usize,
    /// What is visited until then, the row's bucket counted.
    pub tally: Tally,
}

impl<'a> Tables<'a> {
    /// Tables that were kept: of each its starts, rows and keys, those of one table after those of the other.
    ///
    /// # Errors
    /// The reason why they cannot be such arrays.
    pub fn new(shape: Shape, starts: &'a [u32], rows: &'a [u32], keys: &'a [u32]) -> std::result::Result<Self, String> {
        let params = Params { tables: shape.tables, bits: shape.bits, seed: 0 };
        params.check().map_err(|error| error.to_string())?;
        if u32::try_from(shape.rows).is_err() {
            return Err(format!("tables hold {} rows at most, got {}", u32::MAX, shape.rows));
        }
        let arrays = [("starts", starts.len(), shape.starts()), ("rows", rows.len(), shape.rows), ("keys", keys.len(), shape.keys())];
        for (name, got, each) in arrays {
            if Some(got) != each.checked_mul(shape.tables) {
                return Err(format!("{} tables of {each} {name} each, got {got} values", shape.tables));
            }
        }
        let made = Tables { shape, starts, rows, keys };
        (0..shape.tables).try_for_each(|table| made.check(table))?;
        Ok(made)
    }

    /// The same of arrays whose lengths and starts are known to be right; a row that is none is passed over.
    pub(crate) fn within(shape: Shape, starts: &'a [u32], rows: &'a [u32], keys: &'a [u32]) -> Self {
        Tables { shape, starts, rows, keys }
    }

    fn check(&self, table: usize) -> std::result::Result<(), String> {
        let (starts, rows, keys) = self.table(table);
        if starts[0] != 0 || starts[starts.len() - 1] as usize != rows.len() || !starts.is_sorted() {
            return Err(format!("the starts of table {table} do not ascend from 0 to {}", rows.len()));
        }
        let largest = rows.iter().fold(0, |largest, &row| largest.max(row));
        if largest as usize >= rows.len().max(1) {
            return Err(format!("table {table} has row {largest} of {}", rows.len()));
        }
        let in_slot = |(slot, pair): (usize, &[u32])| {
            keys.get(pair[0] as usize..pair[1] as usize).is_none_or(|keys| keys.iter().all(|&key| self.shape.slot(key) == slot))
        };
        if !keys.is_sorted() || !starts.windows(2).enumerate().all(in_slot) {
            return Err(format!("the keys of table {table} are not in order"));
        }
        Ok(())
    }

    /// The arrays of a table: starts, rows and keys.
    fn table(&self, table: usize) -> (&'a [u32], &'a [u32], &'a [u32]) {
        let part = |values: &'a [u32], each: usize| &values[table * each..(table + 1) * each];
        (part(self.starts, self.shape.starts()), part(self.rows, self.shape.rows), part(self.keys, self.shape.keys()))
    }

    /// The lengths of all arrays.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What to keep: the starts of all tables, their rows, and their keys.
    pub fn arrays(&self) -> [&'a [u32]; 3] {
        [self.starts, self.rows, self.keys]
    }

    /// The rows in a bucket, ascending.
    pub fn bucket(&self, table: usize, bucket: u32) -> &'a [u32] {
        let (starts, rows, keys) = self.table(table);
        let slot = self.shape.slot(bucket);
        let range = starts[slot] as usize..starts[slot + 1] as usize;
        if keys.is_empty() {
            return &rows[range];
        }
        let (rows, keys) = (&rows[range.clone()], &keys[range]);
        let first = keys.partition_point(|&key| key < bucket);
        let count = keys[first..].partition_point(|&key| key == bucket);
        &rows[first..first + count]
    }

    /// The rows in the likeliest buckets, ascending, each once. A bucket is taken whole, so there may be more than
    /// [`Limits::candidates`].
    ///
    /// # Errors
    /// No memory.
    pub fn candidates(&self, query_hash: &QueryHash, limits: Limits, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<Tally> {
        out.clear();
        let words = self.shape.rows.div_ceil(u64::BITS as usize);
        if scratch.seen.len() < words {
            scratch.seen = filled(words, 0, "the rows seen")?;
        }
        let seen = &mut scratch.seen[..words];
        let mut tally = Tally::default();
        let mut places = query_hash.places(&mut scratch.heap);
        let mut ahead: [&[u32]; AHEAD] = Default::default();
        'probes: loop {
            let found = self.ask(query_hash, &mut places, &mut ahead);
            for bucket in &ahead[..found] {
                if tally.probes >= limits.probes || out.len() >= limits.candidates {
                    break 'probes;
                }
                tally.probes += 1;
                tally.entries += bucket.len() as u64;
                for &row in bucket.iter().filter(|&&row| (row as usize) < self.shape.rows) {
                    let (word, bit) = (&mut seen[row as usize / 64], 1u64 << (row % 64));
                    if *word & bit == 0 {
                        *word |= bit;
                        out.push(row);
                    }
                }
            }
            if found < AHEAD {
                break;
            }
        }
        if out.len().saturating_mul(WORDS_PER_CANDIDATE) < words {
            out.iter().for_each(|&row| seen[row as usize / 64] = 0);
            out.sort_unstable();
        } else {
            out.clear();
            for (i, word) in seen.iter_mut().enumerate() {
                while *word != 0 {
                    out.push(64 * i as u32 + word.trailing_zeros());
                    *word &= *word - 1;
                }
            }
        }
        Ok(tally)
    }

    /// How each table has a row, whose bucket in each is given (see
    /// [`Hasher::buckets`](crate::ann::lsh::hash::Hasher::buckets)), within so many probes.
    pub fn explain(&self, query_hash: &QueryHash, buckets: &[u32], limit: u64, scratch: &mut Scratch) -> Vec<Meeting> {
        let sought: Vec<Perturbation> = buckets.iter().enumerate().map(|(table, &bucket)| query_hash.place(table, bucket)).collect();
        let found = self.follow(query_hash, &sought, limit, scratch);
        let meeting = |(place, tally): (&Perturbation, Option<Tally>)| Meeting {
            distance: place.distance(),
            score: place.score(),
            probes: tally.map(|tally| tally.probes),
        };
        sought.iter().zip(found).map(meeting).collect()
    }

    /// What it takes to reach each of some rows, or `None` where so many probes do not. `buckets` holds those of
    /// each row: one for each table, those of one row after those of the other.
    pub fn reach(&self, query_hash: &QueryHash, buckets: &[u32], limit: u64, scratch: &mut Scratch) -> Vec<Option<Reach>> {
        let first = |row: &[u32]| row.iter().enumerate().map(|(table, &bucket)| query_hash.place(table, bucket)).min();
        let sought: Vec<Perturbation> = buckets.chunks_exact(self.shape.tables).filter_map(first).collect();
        let found = self.follow(query_hash, &sought, limit, scratch);
        sought.iter().zip(found).map(|(place, tally)| tally.map(|tally| Reach { table: place.table(), tally })).collect()
    }

    /// The buckets of the next places, as many as there is room for, asked of memory; how many these are.
    fn ask(&self, query_hash: &QueryHash, places: &mut ProbingSequence, ahead: &mut [&'a [u32]; AHEAD]) -> usize {
        let mut found = 0;
        for (slot, place) in ahead.iter_mut().zip(places) {
            *slot = self.bucket(place.table(), query_hash.bucket(place));
            prefetch(&slot[..slot.len().min(AHEAD_ROWS)]);
            found += 1;
        }
        found
    }

    /// Probes buckets until every row of `wanted`, each another row of the table, is met and the last of `probes`, which ascend, is made, but no more
    /// than `limit`.
    ///
    /// # Errors
    /// No memory.
    pub fn meet(&self, query_hash: &QueryHash, wanted: &[u64], probes: &[usize], limit: u64, scratch: &mut Scratch) -> Result<Met> {
        let words = self.shape.rows.div_ceil(64);
        let (mut seen, mut sought) = (filled(words, 0u64, "the rows seen")?, filled(words, 0u64, "the rows sought")?);
        let mut sorted: Vec<(u32, usize)> = wanted.iter().enumerate().map(|(i, &row)| (row as u32, i)).collect();
        sorted.sort_unstable();
        sorted.iter().for_each(|&(row, _)| sought[row as usize / 64] |= 1 << (row % 64));
        let mut met = Met { probes: vec![None; wanted.len()], grown: Vec::with_capacity(probes.len()) };
        let (mut left, mut count, mut made) = (wanted.len(), 0, 0);
        let mut places = query_hash.places(&mut scratch.heap);
        let mut ahead: [&[u32]; AHEAD] = Default::default();
        'probes: loop {
            let found = self.ask(query_hash, &mut places, &mut ahead);
            for bucket in &ahead[..found] {
                let done = left == 0 && met.grown.len() == probes.len();
                if done || made >= limit || count as usize == self.shape.rows {
                    break 'probes;
                }
                made += 1;
                for &row in bucket.iter().filter(|&&row| (row as usize) < self.shape.rows) {
                    let (word, bit) = (row as usize / 64, 1u64 << (row % 64));
                    let fresh = !seen[word] & bit;
                    seen[word] |= bit;
                    count += u64::from(fresh != 0);
                    if fresh & sought[word] != 0 {
                        met.probes[sorted[sorted.partition_point(|&(other, _)| other < row)].1] = Some(made);
                        left -= 1;
                    }
                }
                while probes.get(met.grown.len()).is_some_and(|&probes| probes as u64 == made) {
                    met.grown.push(count);
                }
            }
            if found < AHEAD {
                break;
            }
        }
        met.grown.resize(probes.len(), count);
        Ok(met)
    }

    /// What is visited until each of some places is, if it is within so many probes.
    fn follow(&self, query_hash: &QueryHash, sought: &[Perturbation], limit: u64, scratch: &mut Scratch) -> Vec<Option<Tally>> {
        let mut order: Vec<usize> = (0..sought.len()).collect();
        order.sort_unstable_by_key(|&i| sought[i]);
        let mut found = vec![None; sought.len()];
        let mut left = order.into_iter().peekable();
        let mut tally = Tally::default();
        let mut places = query_hash.places(&mut scratch.heap);
        while left.peek().is_some() && tally.probes < limit {
            let Some(place) = places.next() else { break };
            tally.probes += 1;
            tally.entries += self.bucket(place.table(), query_hash.bucket(place)).len() as u64;
            while let Some(i) = left.next_if(|&i| sought[i] == place) {
                found[i] = Some(tally);
            }
        }
        found
    }
}
