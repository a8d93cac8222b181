//! Hash tables over borrowed arrays, built or mapped, and multi-probe searches in them.
//!
//! A table holds all rows, sorted by bucket, then by row. `starts[b]` is where bucket b begins. Where there are more
//! buckets than rows, `starts` is indexed by *slot*, the bucket's upper bits, and `keys` holds the bucket of every row.
//! The starts of arrays from a file are checked when it is opened; row numbers are checked on every use.

use super::hash::Params;
use super::probe::{Heap, Perturbation, QueryHash};
use crate::error::{Result, filled};
use crate::kernel::prefetch;

/// How many buckets to prefetch before the first of them is read, and how many rows of each.
const AHEAD: usize = 8;
const AHEAD_ROWS: usize = 64;
/// With fewer words of the bitmap per candidate than this, reading it in order is faster than sorting candidates.
const WORDS_PER_CANDIDATE: usize = 8;

/// What determines the lengths of the arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The number of tables.
    pub tables: usize,
    /// Bits per bucket number.
    pub bits: usize,
    /// Rows in each table.
    pub rows: usize,
}

impl Shape {
    /// The shape of tables of `rows` rows.
    pub fn new(params: Params, rows: usize) -> Self {
        Shape { tables: params.tables, bits: params.bits, rows }
    }

    /// The slot of a bucket.
    pub(crate) fn slot(&self, bucket: u32) -> usize {
        (bucket >> (self.bits - self.directory_bits())) as usize
    }

    /// Bits of a slot: those of a bucket, at most log2 of the number of rows, rounded up.
    pub fn directory_bits(&self) -> usize {
        self.bits.min(self.rows.max(1).next_power_of_two().ilog2() as usize)
    }

    /// The length of `starts`, per table.
    pub fn starts(&self) -> usize {
        (1 << self.directory_bits()) + 1
    }

    /// The length of `keys`, per table: 0 where every bucket has a slot of its own.
    pub fn keys(&self) -> usize {
        if self.directory_bits() < self.bits { self.rows } else { 0 }
    }
}

/// All tables, in borrowed arrays.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    pub(super) shape: Shape,
    pub(super) starts: &'a [u32],
    pub(super) rows: &'a [u32],
    pub(super) keys: &'a [u32],
}

/// When to stop probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeLimits {
    /// The most buckets to visit.
    pub probes: u64,
    /// No further bucket is visited once there are this many candidates.
    pub candidates: usize,
}

/// How much was visited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeCounts {
    /// Buckets, empty ones too.
    pub probes: u64,
    /// Rows in them, a row of several buckets counted in each.
    pub entries: u64,
}

/// Scratch memory of a search, reusable by the next.
#[derive(Debug, Default)]
pub struct Scratch {
    heap: Heap,
    /// One bit per row; all zero between searches.
    visited: Vec<u64>,
}

/// The position of a row's bucket of one table in a query's probing sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketRank {
    /// The Hamming distance of the row's bucket from the query's.
    pub distance: u32,
    /// See [`Perturbation::score`].
    pub score: u64,
    /// The rank of the bucket in the probing sequence, from 1; `None` beyond the limit.
    pub probes: Option<u64>,
}

/// What a query finds by following its probing sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTrace {
    /// For each wanted row the number of the probe that finds it, from 1; `None` beyond the limit.
    pub found_at: Vec<Option<u64>>,
    /// The number of candidates after each of the given numbers of probes.
    pub candidates: Vec<u64>,
}

/// The probe that finds a row first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstProbe {
    /// The table of that probe.
    pub table: usize,
    /// What is visited up to and including that probe.
    pub counts: ProbeCounts,
}

impl<'a> Tables<'a> {
    /// Checks untrusted arrays, each table after table.
    ///
    /// # Errors
    /// A sentence that names the array and what is wrong with it.
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
        let tables = Tables { shape, starts, rows, keys };
        (0..shape.tables).try_for_each(|table| tables.check(table))?;
        Ok(tables)
    }

    /// Tables of arrays whose lengths and starts have been checked; searches skip row numbers out of range.
    pub(crate) fn from_checked(shape: Shape, starts: &'a [u32], rows: &'a [u32], keys: &'a [u32]) -> Self {
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
        let keys_fit_slot = |(slot, pair): (usize, &[u32])| {
            keys.get(pair[0] as usize..pair[1] as usize).is_none_or(|keys| keys.iter().all(|&key| self.shape.slot(key) == slot))
        };
        if !keys.is_sorted() || !starts.windows(2).enumerate().all(keys_fit_slot) {
            return Err(format!("the keys of table {table} are not in order"));
        }
        Ok(())
    }

    /// One table's starts, rows and keys.
    fn table(&self, table: usize) -> (&'a [u32], &'a [u32], &'a [u32]) {
        let part = |values: &'a [u32], each: usize| &values[table * each..(table + 1) * each];
        (part(self.starts, self.shape.starts()), part(self.rows, self.shape.rows), part(self.keys, self.shape.keys()))
    }

    /// The shape of the tables.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The starts, the rows and the keys of all tables, as [`Tables::new`] takes them.
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

    /// Writes the rows of the first buckets of the probing sequence to `out`, ascending, each once. Buckets are visited
    /// whole, so there may be more rows than [`ProbeLimits::candidates`].
    ///
    /// # Errors
    /// No memory.
    pub fn candidates(&self, hash: &QueryHash, limits: ProbeLimits, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<ProbeCounts> {
        out.clear();
        let words = self.shape.rows.div_ceil(u64::BITS as usize);
        if scratch.visited.len() < words {
            scratch.visited = filled(words, 0, "the rows visited")?;
        }
        let visited = &mut scratch.visited[..words];
        let mut counts = ProbeCounts::default();
        self.probe(hash, &mut scratch.heap, |bucket| {
            if counts.probes >= limits.probes || out.len() >= limits.candidates {
                return false;
            }
            counts.probes += 1;
            counts.entries += bucket.len() as u64;
            for &row in bucket.iter().filter(|&&row| (row as usize) < self.shape.rows) {
                let (word, bit) = (&mut visited[row as usize / 64], 1u64 << (row % 64));
                if *word & bit == 0 {
                    *word |= bit;
                    out.push(row);
                }
            }
            true
        });
        if out.len().saturating_mul(WORDS_PER_CANDIDATE) < words {
            out.iter().for_each(|&row| visited[row as usize / 64] = 0);
            out.sort_unstable();
        } else {
            out.clear();
            for (i, word) in visited.iter_mut().enumerate() {
                while *word != 0 {
                    out.push(64 * i as u32 + word.trailing_zeros());
                    *word &= *word - 1;
                }
            }
        }
        Ok(counts)
    }

    /// The position of a row's bucket of each table (see [`Hasher::buckets`](crate::ann::lsh::hash::Hasher::buckets)) among
    /// the first `limit` entries of the probing sequence.
    pub fn explain(&self, hash: &QueryHash, buckets: &[u32], limit: u64, scratch: &mut Scratch) -> Vec<BucketRank> {
        let targets: Vec<Perturbation> = buckets.iter().enumerate().map(|(table, &bucket)| hash.perturbation(table, bucket)).collect();
        let found = self.counts_until(hash, &targets, limit, scratch);
        let rank = |(target, counts): (&Perturbation, Option<ProbeCounts>)| BucketRank {
            distance: target.distance(),
            score: target.score(),
            probes: counts.map(|counts| counts.probes),
        };
        targets.iter().zip(found).map(rank).collect()
    }

    /// For each of some rows the probe that finds it first, `None` beyond `limit` probes. `buckets` holds one bucket per
    /// table for each row, row after row.
    pub fn first_probes(&self, hash: &QueryHash, buckets: &[u32], limit: u64, scratch: &mut Scratch) -> Vec<Option<FirstProbe>> {
        let first = |row: &[u32]| row.iter().enumerate().map(|(table, &bucket)| hash.perturbation(table, bucket)).min();
        let targets: Vec<Perturbation> = buckets.chunks_exact(self.shape.tables).filter_map(first).collect();
        let found = self.counts_until(hash, &targets, limit, scratch);
        targets.iter().zip(found).map(|(target, counts)| counts.map(|counts| FirstProbe { table: target.table(), counts })).collect()
    }

    /// Calls `visit` with one bucket after the other of the probing sequence, until it returns false. Prefetches
    /// [`AHEAD`] buckets at a time.
    fn probe(&self, hash: &QueryHash, heap: &mut Heap, mut visit: impl FnMut(&[u32]) -> bool) {
        let mut sequence = hash.probing_sequence(heap);
        let mut ahead: [&[u32]; AHEAD] = Default::default();
        loop {
            let mut found = 0;
            for (bucket, perturbation) in ahead.iter_mut().zip(&mut sequence) {
                *bucket = self.bucket(perturbation.table(), hash.bucket(perturbation));
                prefetch(&bucket[..bucket.len().min(AHEAD_ROWS)]);
                found += 1;
            }
            if !ahead[..found].iter().all(|bucket| visit(bucket)) || found < AHEAD {
                break;
            }
        }
    }

    /// Probes bucket after bucket, until every one of the distinct rows `wanted` is found and the last of the ascending
    /// numbers `probes` is reached, or `limit` is.
    ///
    /// # Errors
    /// No memory.
    pub fn trace(&self, hash: &QueryHash, wanted: &[u64], probes: &[usize], limit: u64, scratch: &mut Scratch) -> Result<ProbeTrace> {
        let words = self.shape.rows.div_ceil(64);
        let (mut visited, mut targets) = (filled(words, 0u64, "the rows visited")?, filled(words, 0u64, "the rows wanted")?);
        let mut sorted: Vec<(u32, usize)> = wanted.iter().enumerate().map(|(i, &row)| (row as u32, i)).collect();
        sorted.sort_unstable();
        sorted.iter().for_each(|&(row, _)| targets[row as usize / 64] |= 1 << (row % 64));
        let mut trace = ProbeTrace { found_at: vec![None; wanted.len()], candidates: Vec::with_capacity(probes.len()) };
        let (mut left, mut count, mut made) = (wanted.len(), 0, 0);
        self.probe(hash, &mut scratch.heap, |bucket| {
            let done = left == 0 && trace.candidates.len() == probes.len();
            if done || made >= limit || count as usize == self.shape.rows {
                return false;
            }
            made += 1;
            for &row in bucket.iter().filter(|&&row| (row as usize) < self.shape.rows) {
                let (word, bit) = (row as usize / 64, 1u64 << (row % 64));
                let fresh = !visited[word] & bit;
                visited[word] |= bit;
                count += u64::from(fresh != 0);
                if fresh & targets[word] != 0 {
                    trace.found_at[sorted[sorted.partition_point(|&(other, _)| other < row)].1] = Some(made);
                    left -= 1;
                }
            }
            while probes.get(trace.candidates.len()).is_some_and(|&probes| probes as u64 == made) {
                trace.candidates.push(count);
            }
            true
        });
        trace.candidates.resize(probes.len(), count);
        Ok(trace)
    }

    /// What is visited up to and including each of some entries of the probing sequence; `None` beyond `limit` probes.
    fn counts_until(&self, hash: &QueryHash, targets: &[Perturbation], limit: u64, scratch: &mut Scratch) -> Vec<Option<ProbeCounts>> {
        let mut order: Vec<usize> = (0..targets.len()).collect();
        order.sort_unstable_by_key(|&i| targets[i]);
        let mut found = vec![None; targets.len()];
        let mut left = order.into_iter().peekable();
        let mut counts = ProbeCounts::default();
        let mut sequence = hash.probing_sequence(&mut scratch.heap);
        while left.peek().is_some() && counts.probes < limit {
            let Some(perturbation) = sequence.next() else { break };
            counts.probes += 1;
            counts.entries += self.bucket(perturbation.table(), hash.bucket(perturbation)).len() as u64;
            while let Some(i) = left.next_if(|&i| targets[i] == perturbation) {
                found[i] = Some(counts);
            }
        }
        found
    }
}
