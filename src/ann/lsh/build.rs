//! Builds the tables: hashes every row and sorts the rows of each table by bucket.
//!
//! Every table holds every row once. The tables are the same from every kernel and for any number of threads.
//!
//! Two more bits, or twice the tables, reach a recall with a fifth fewer candidates. The bits take four times as many
//! probes, the tables memory and time to build; [`cost_model`](super::cost_model) weighs them.

use super::hash::{AXES, HashScratch, Hasher, Params};
use super::tables::{Shape, Tables};
use crate::error::{Error, Result, filled};
use crate::kernel::{FloatMode, Kernel};
use crate::pool::{self, Watch};
use crate::progress::cost;
use crate::store::rows::Rows;
use std::sync::Mutex;

/// Rows per job of hashing: their values, directions and coordinates fit in L2.
const JOB_ROWS: usize = 256;

/// Tables in memory, and their hyperplanes.
#[derive(Debug, Clone)]
pub struct BuiltTables {
    hasher: Hasher,
    shape: Shape,
    starts: Vec<u32>,
    rows: Vec<u32>,
    keys: Vec<u32>,
}

impl BuiltTables {
    /// Learns hyperplanes from the rows and builds their tables.
    ///
    /// # Errors
    /// Parameters out of range; more rows than a segment holds; no memory; [`Error::Interrupted`].
    pub fn build(kernel: &Kernel, rows: &Rows, params: Params, threads: usize, watch: &Watch) -> Result<Self> {
        BuiltTables::with_hasher(kernel, Hasher::learn(kernel, rows, params, threads, watch)?, rows, threads, watch)
    }

    /// Builds the tables of the rows by given hyperplanes.
    ///
    /// # Errors
    /// More rows than a segment holds; no memory; [`Error::Interrupted`].
    pub(crate) fn with_hasher(kernel: &Kernel, hasher: Hasher, rows: &Rows, threads: usize, watch: &Watch) -> Result<Self> {
        if u32::try_from(rows.len()).is_err() {
            return Err(Error::input("embeddings", format!("{} rows at most", u32::MAX), rows.len()));
        }
        let _mode = FloatMode::standard();
        let params = hasher.params();
        let shape = Shape::new(params, rows.len());
        let [hashing, filling] = work(rows.len(), rows.dims, params.tables);
        watch.stage(hashing, rows.len() as u64);
        let hashed = hash(kernel, &hasher, rows, threads, watch)?;
        watch.stage(filling, params.tables as u64);
        let memory = |each: usize| filled(params.tables * each, 0u32, "tables of hashed rows");
        let (mut starts, mut sorted, mut keys) = (memory(shape.starts())?, memory(rows.len())?, memory(shape.keys())?);
        let (mut row_parts, mut key_parts) = (sorted.chunks_mut(rows.len().max(1)), keys.chunks_mut(shape.keys().max(1)));
        let parts = starts.chunks_exact_mut(shape.starts());
        let jobs: Vec<_> =
            parts.map(|starts| Mutex::new((starts, row_parts.next().unwrap_or_default(), key_parts.next().unwrap_or_default()))).collect();
        let work = |(): &mut (), table: usize| {
            let mut slot = jobs[table].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (starts, rows, keys) = &mut *slot;
            watch.advance(1);
            fill_table(&hashed, table, shape, (starts, rows, keys), watch)
        };
        pool::run(threads, jobs.len(), watch, || Ok(()), work)?;
        drop(jobs);
        Ok(BuiltTables { hasher, shape, starts, rows: sorted, keys })
    }

    /// The tables.
    pub fn tables(&self) -> Tables<'_> {
        Tables { shape: self.shape, starts: &self.starts, rows: &self.rows, keys: &self.keys }
    }

    /// The hyperplanes of the tables.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }
}

/// The cost of hashing `rows`, and of filling the tables.
pub fn work(rows: usize, dims: usize, tables: usize) -> [f64; 2] {
    [rows as f64 * (AXES * dims) as f64 + cost::HASH * (rows * tables) as f64, cost::ENTRY * (rows * tables) as f64]
}

/// The buckets of all rows: per job of [`JOB_ROWS`] rows, table after table.
fn hash(kernel: &Kernel, hasher: &Hasher, rows: &Rows, threads: usize, watch: &Watch) -> Result<Vec<u32>> {
    let tables = hasher.params().tables;
    let mut hashed = filled(rows.len().saturating_mul(tables), 0, "the buckets of rows")?;
    let jobs: Vec<_> = hashed.chunks_mut(JOB_ROWS * tables).map(Mutex::new).collect();
    let work = |scratch: &mut HashScratch, job: usize| {
        let mut out = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let first = job * JOB_ROWS;
        hasher.buckets(kernel, rows, first..rows.len().min(first + JOB_ROWS), scratch, &mut out);
        watch.advance((out.len() / tables) as u64);
        Ok(())
    };
    pool::run(threads, jobs.len(), watch, || Ok(HashScratch::default()), work)?;
    drop(jobs);
    Ok(hashed)
}

/// Fills one table by a counting sort over slots, then sorts the rows of every slot by bucket.
fn fill_table(hashed: &[u32], table: usize, shape: Shape, out: (&mut [u32], &mut [u32], &mut [u32]), watch: &Watch) -> Result<()> {
    let (starts, rows, keys) = out;
    // The last job may have fewer rows.
    let jobs = || hashed.chunks(JOB_ROWS * shape.tables).map(|job| job.chunks_exact(job.len() / shape.tables).nth(table));
    for buckets in jobs().flatten() {
        buckets.iter().for_each(|&bucket| starts[shape.slot(bucket) + 1] += 1);
    }
    watch.check()?;
    // `starts[slot + 1]` is the start of `slot` until its rows have advanced it to the end.
    let mut sum = 0;
    for start in &mut starts[1..] {
        (*start, sum) = (sum, sum + *start);
    }
    for (job, buckets) in jobs().flatten().enumerate() {
        for (i, &bucket) in buckets.iter().enumerate() {
            let at = &mut starts[shape.slot(bucket) + 1];
            rows[*at as usize] = (job * JOB_ROWS + i) as u32;
            if let Some(key) = keys.get_mut(*at as usize) {
                *key = bucket;
            }
            *at += 1;
        }
    }
    watch.check()?;
    if keys.is_empty() {
        return Ok(());
    }
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    for slot in starts.windows(2).map(|pair| pair[0] as usize..pair[1] as usize).filter(|slot| slot.len() > 1) {
        pairs.clear();
        pairs.extend(keys[slot.clone()].iter().copied().zip(rows[slot.clone()].iter().copied()));
        pairs.sort_unstable();
        for (at, &(key, row)) in slot.zip(&pairs) {
            (keys[at], rows[at]) = (key, row);
        }
    }
    Ok(())
}

/// The buckets of the rows with these numbers, one per table, row after row, as [`Tables::explain`] and
/// [`Tables::first_probes`] take them.
pub fn buckets_of(kernel: &Kernel, hasher: &Hasher, rows: &Rows, numbers: &[u32]) -> Vec<u32> {
    let tables = hasher.params().tables;
    let (mut scratch, mut buckets) = (HashScratch::default(), vec![0; numbers.len() * tables]);
    for (out, &row) in buckets.chunks_exact_mut(tables).zip(numbers) {
        hasher.buckets(kernel, rows, row as usize..row as usize + 1, &mut scratch, out);
    }
    buckets
}
