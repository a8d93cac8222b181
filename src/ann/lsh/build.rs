//! Tables of buckets of rows, for cosine: rows that point the same way tend to share buckets.
//!
//! [`crate::ann::lsh::hash`] says which bucket a row is in, this file sorts rows into [`crate::ann::lsh::tables`], and
//! [`crate::ann::lsh::probe`] says which buckets a query visits first. Every row is in every table once, and the tables are
//! the same from every kernel and for any number of threads.
//!
//! Two bits more or twice the tables take a fifth fewer candidates for the same recall; bits cost probes, four times
//! as many, tables cost memory and time to build: [`crate::ann::lsh::cost_model`] weighs them.

use super::hash::{HashScratch, Hasher, Params};
use super::tables::{Shape, Tables};
use crate::error::{Error, Result, filled};
use crate::kernel::{FloatMode, Kernel};
use crate::pool::{self, Watch};
use crate::store::rows::Rows;
use std::sync::Mutex;

/// Rows that one job hashes: their values, directions and coordinates stay in L2.
const JOB_ROWS: usize = 256;

/// All tables, built.
#[derive(Debug, Clone)]
pub struct BuiltTables {
    hasher: Hasher,
    shape: Shape,
    starts: Vec<u32>,
    rows: Vec<u32>,
    keys: Vec<u32>,
}

impl BuiltTables {
    /// Builds the tables of some rows.
    ///
    /// # Errors
    /// Parameters out of range; more rows than a segment holds; no memory; [`Error::Interrupted`].
    pub fn build(kernel: &Kernel, rows: &Rows, params: Params, threads: usize, watch: &Watch) -> Result<Self> {
        BuiltTables::fill(kernel, Hasher::learn(kernel, rows, params, threads, watch)?, rows, threads, watch)
    }

    /// Builds the tables of some rows whose hyperplanes are known.
    ///
    /// # Errors
    /// More rows than a segment holds; no memory; [`Error::Interrupted`].
    pub(crate) fn fill(kernel: &Kernel, hasher: Hasher, rows: &Rows, threads: usize, watch: &Watch) -> Result<Self> {
        if u32::try_from(rows.len()).is_err() {
            return Err(Error::input("embeddings", format!("{} rows at most", u32::MAX), rows.len()));
        }
        let _mode = FloatMode::standard();
        let params = hasher.params();
        let shape = Shape::new(params, rows.len());
        let hashed = hash(kernel, &hasher, rows, threads, watch)?;
        let memory = |each: usize| filled(params.tables * each, 0u32, "tables of hashed rows");
        let (mut starts, mut sorted, mut keys) = (memory(shape.starts())?, memory(rows.len())?, memory(shape.keys())?);
        let (mut row_parts, mut key_parts) = (sorted.chunks_mut(rows.len().max(1)), keys.chunks_mut(shape.keys().max(1)));
        let parts = starts.chunks_exact_mut(shape.starts());
        let jobs: Vec<_> =
            parts.map(|starts| Mutex::new((starts, row_parts.next().unwrap_or_default(), key_parts.next().unwrap_or_default()))).collect();
        let work = |(): &mut (), table: usize| {
            let mut slot = jobs[table].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (starts, rows, keys) = &mut *slot;
            sort(&hashed, table, shape, (starts, rows, keys), watch)
        };
        pool::run(threads, jobs.len(), watch, || Ok(()), work)?;
        drop(jobs);
        Ok(BuiltTables { hasher, shape, starts, rows: sorted, keys })
    }

    /// The tables.
    pub fn tables(&self) -> Tables<'_> {
        Tables { shape: self.shape, starts: &self.starts, rows: &self.rows, keys: &self.keys }
    }

    /// Their hyperplanes.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }
}

/// The buckets of all rows: for each [`JOB_ROWS`] of them all tables one after the other.
fn hash(kernel: &Kernel, hasher: &Hasher, rows: &Rows, threads: usize, watch: &Watch) -> Result<Vec<u32>> {
    let tables = hasher.params().tables;
    let mut hashed = filled(rows.len().saturating_mul(tables), 0, "the buckets of rows")?;
    let jobs: Vec<_> = hashed.chunks_mut(JOB_ROWS * tables).map(Mutex::new).collect();
    let work = |work: &mut HashScratch, job: usize| {
        let mut out = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let first = job * JOB_ROWS;
        hasher.buckets(kernel, rows, first..rows.len().min(first + JOB_ROWS), work, &mut out);
        Ok(())
    };
    pool::run(threads, jobs.len(), watch, || Ok(HashScratch::default()), work)?;
    drop(jobs);
    Ok(hashed)
}

/// Fills one table: counts what is in each slot of the directory, then puts the rows there in order.
fn sort(hashed: &[u32], table: usize, shape: Shape, out: (&mut [u32], &mut [u32], &mut [u32]), watch: &Watch) -> Result<()> {
    let (starts, rows, keys) = out;
    // Of the last job there may be fewer rows.
    let jobs = || hashed.chunks(JOB_ROWS * shape.tables).map(|job| job.chunks_exact(job.len() / shape.tables).nth(table));
    for buckets in jobs().flatten() {
        buckets.iter().for_each(|&bucket| starts[shape.slot(bucket) + 1] += 1);
    }
    watch.check()?;
    // Each start stands one slot late until its rows have moved it on.
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

/// The buckets of some rows, one for each table, those of one row after those of the other: what
/// [`Tables::explain`] and [`Tables::reach`] ask for.
pub fn buckets_of(kernel: &Kernel, hasher: &Hasher, rows: &Rows, some: &[u32]) -> Vec<u32> {
    let tables = hasher.params().tables;
    let (mut work, mut buckets) = (HashScratch::default(), vec![0; some.len() * tables]);
    for (out, &row) in buckets.chunks_exact_mut(tables).zip(some) {
        hasher.buckets(kernel, rows, row as usize..row as usize + 1, &mut work, out);
    }
    buckets
}
