//! Rows of bits: every row's distance is counted, by one query from where the rows lie, by several from cached columns.
//!
//! A key is minus a whole number of bits, so that float64 holds it exactly.

use super::{Job, Worker};
use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, Column, padded_word};
use crate::store::rows::Values;
use crate::topk::TopK;

/// Distances of one call of a kernel.
const GROUP: usize = 512;
/// Bytes of columns that several queries visit in turn: half of a small L1.
const COLUMN_BYTES: usize = 16 << 10;

/// Buffers of one worker.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    distances: Vec<u32>,
    columns: Vec<Column>,
    /// Numbers, in the whole index, of the rows in the columns.
    rows: Vec<u64>,
}

/// Offers every row of the job to all queries.
pub(super) fn visit(job: &Job, worker: &mut Worker) -> Result<()> {
    let Worker { best, bits, .. } = worker;
    if job.queries.len() == 1 { one_query(job, &mut best[0], bits) } else { several(job, best, bits) }
}

fn one_query(job: &Job, top: &mut TopK, scratch: &mut Scratch) -> Result<()> {
    job.watch.check()?;
    scratch.distances.resize(GROUP, 0);
    for run in job.runs {
        let segment = &job.segments[run.segment];
        let (Values::B1(stored), bytes) = (segment.values, segment.row_bytes()) else { continue };
        top.tally.refined += run.rows.len() as u64;
        for start in run.rows.clone().step_by(GROUP) {
            let rows = start..run.rows.end.min(start + GROUP);
            let distances = &mut scratch.distances[..rows.len()];
            let least = (job.plan.kernel.hamming)(job.queries.bits(0), &stored[rows.start * bytes..rows.end * bytes], bytes, distances);
            offer(distances, least, rows.map(|row| segment.first + row as u64), top);
        }
    }
    Ok(())
}

fn several(job: &Job, best: &mut [TopK], scratch: &mut Scratch) -> Result<()> {
    let words = job.queries.dims().div_ceil(64);
    let capacity = (COLUMN_BYTES / (8 * words)).clamp(BLOCK_ROWS, GROUP) / BLOCK_ROWS * BLOCK_ROWS;
    scratch.columns.resize(capacity / BLOCK_ROWS * words, [0; BLOCK_ROWS]);
    scratch.distances.resize(GROUP, 0);
    for run in job.runs {
        let segment = &job.segments[run.segment];
        let (Values::B1(stored), bytes) = (segment.values, segment.row_bytes()) else { continue };
        for row in run.rows.clone() {
            scratch.push(&stored[row * bytes..(row + 1) * bytes], segment.first + row as u64, words);
            if scratch.rows.len() == capacity {
                scratch.give(job, best, words)?;
            }
        }
    }
    scratch.give(job, best, words)
}

impl Scratch {
    /// Puts a row of `words` words beside those that are there.
    fn push(&mut self, row: &[u8], number: u64, words: usize) {
        let (block, lane) = (self.rows.len() / BLOCK_ROWS, self.rows.len() % BLOCK_ROWS);
        let columns = &mut self.columns[block * words..(block + 1) * words];
        let (whole, rest) = row.as_chunks::<8>();
        columns.iter_mut().zip(whole).for_each(|(column, word)| column[lane] = u64::from_le_bytes(*word));
        if let Some(column) = columns.get_mut(whole.len()) {
            column[lane] = padded_word(rest);
        }
        self.rows.push(number);
    }

    /// Offers the rows to every query, and starts anew.
    fn give(&mut self, job: &Job, best: &mut [TopK], words: usize) -> Result<()> {
        job.watch.check()?;
        // Lanes behind the last row hold rows of before, whose distances nobody reads.
        let blocks = self.rows.len().div_ceil(BLOCK_ROWS);
        for (i, top) in best.iter_mut().enumerate() {
            let distances = &mut self.distances[..blocks * BLOCK_ROWS];
            let least = (job.plan.kernel.hamming_columns)(job.queries.bits(i), &self.columns[..blocks * words], distances);
            top.tally.refined += self.rows.len() as u64;
            offer(distances, least, self.rows.iter().copied(), top);
        }
        self.rows.clear();
        Ok(())
    }
}

/// Offers rows with their distances, of which none is below `least`.
fn offer(distances: &[u32], least: u32, rows: impl Iterator<Item = u64>, top: &mut TopK) {
    if 0.0 - f64::from(least) < top.threshold() {
        return;
    }
    for (&distance, row) in distances.iter().zip(rows) {
        top.push(0.0 - f64::from(distance), row);
    }
}
