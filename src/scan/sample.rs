//! Thresholds to begin with, for batches with a large k: the key that somewhat more than k rows reach, as a random sample
//! of the rows suggests.
//!
//! A scan that begins without a threshold scores about k (1 + ln(rows / k)) rows in float64 for each query, and all of the
//! first ones. With a sample it scores little more than k. A threshold that is too high for k rows shows in the
//! number of rows found; `scan::search` then repeats the scan without one.

use super::{Job, Run, float32, float32_error};
use crate::error::{Result, collected, filled, room};
use crate::kernel::COLUMNS;
use crate::pool;
use crate::random::Random;
use crate::store::rows::{PanelBuffer, PanelValues};

/// Below this k, the rows scored while thresholds are low cost less than a sample.
const MIN_K: usize = 200;
/// Rows of a sample: at most, and at most one row in `ROWS_PER_SAMPLED`.
const MAX_ROWS: u64 = 4096;
const ROWS_PER_SAMPLED: u64 = 16;
/// Standard deviations, and one more row for each, by which the sample may hold more of the k best rows than expected: one
/// threshold in a thousand, or fewer, is too high.
const DEVIATIONS: f64 = 3.0;
/// Rows of a job.
const JOB_ROWS: usize = 64;

/// A threshold for each query; negative infinity for all where a sample does not pay.
pub(super) fn thresholds(job: &Job, allowed: u64) -> Result<Vec<f64>> {
    let (plan, queries) = (job.plan, job.queries);
    let count = MAX_ROWS.min(allowed / ROWS_PER_SAMPLED) as usize;
    let expected = plan.k as f64 * count as f64 / allowed as f64;
    let rank = (expected + DEVIATIONS * (expected.sqrt() + 1.0)) as usize;
    if plan.k < MIN_K || 2 * rank > count || plan.threshold > f64::NEG_INFINITY || job.has_float64_rows() {
        return filled(queries.len(), f64::NEG_INFINITY, "the thresholds");
    }
    let rows = rows(job.runs, allowed, count);
    let every = collected(0..queries.len(), "the queries")?;
    let mut tiles = room(every.len().div_ceil(COLUMNS), "the queries")?;
    for which in every.chunks(COLUMNS) {
        tiles.push(float32::pack(queries, which, COLUMNS)?);
    }
    let parts: Vec<&[(usize, usize)]> = rows.chunks(JOB_ROWS).collect();
    let start = || Ok((PanelBuffer::default(), Vec::new()));
    let keys = pool::map(plan.threads, parts.len(), job.watch, start, |(buffer, sums), part| keys(job, &tiles, parts[part], buffer, sums))?;
    let select = |of_query: &mut Vec<f64>, query: usize| {
        of_query.clear();
        keys.iter()
            .for_each(|keys| of_query.extend_from_slice(&keys[query * (keys.len() / queries.len())..][..keys.len() / queries.len()]));
        let key = *of_query.select_nth_unstable_by(rank, |a, b| b.total_cmp(a)).1;
        Ok(if key.is_finite() { key } else { f64::NEG_INFINITY })
    };
    pool::map(plan.threads, queries.len(), job.watch, || Ok(Vec::new()), select)
}

/// The segment and number of `count` of the `allowed` rows of some runs: a random one of each of as many equal parts.
fn rows(runs: &[Run], allowed: u64, count: usize) -> Vec<(usize, usize)> {
    let mut random = Random::new(allowed);
    let mut runs = runs.iter();
    let (mut run, mut before) = (runs.next(), 0);
    let place = |i: usize| {
        let (from, to) = (i as u64 * allowed / count as u64, (i as u64 + 1) * allowed / count as u64);
        let position = from + random.below((to - from) as usize) as u64;
        while let Some(passed) = run.filter(|run| position >= before + run.rows.len() as u64) {
            before += passed.rows.len() as u64;
            run = runs.next();
        }
        run.map(|run| (run.segment, run.rows.start + (position - before) as usize))
    };
    (0..count).filter_map(place).collect()
}

/// Lower bounds of the keys of some rows, query after query.
fn keys(job: &Job, tiles: &[Vec<f32>], rows: &[(usize, usize)], buffer: &mut PanelBuffer, sums: &mut Vec<f32>) -> Result<Vec<f64>> {
    let (plan, queries, dims) = (job.plan, job.queries, job.queries.dims());
    buffer.clear();
    rows.iter().for_each(|&(segment, row)| job.segments[segment].decode(plan.kernel, row..row + 1, buffer));
    let PanelValues::F32(values) = buffer.values() else { return Ok(Vec::new()) };
    let mut keys = room(rows.len() * queries.len(), "the keys of a sample")?;
    for (tile, columns) in tiles.iter().enumerate() {
        sums.clear();
        sums.resize(rows.len() * COLUMNS, 0.0);
        (plan.kernel.products)(columns, values, dims, sums);
        for i in 0..COLUMNS.min(queries.len() - tile * COLUMNS) {
            let norm = queries.norm(tile * COLUMNS + i);
            keys.extend(rows.iter().zip(sums.chunks_exact(COLUMNS)).map(|(&(segment, row), sums)| {
                float32_error::key_at_least(plan.metric, dims, sums[i], [norm, job.segments[segment].norms[row]])
            }));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_holds_a_row_of_each_part_of_all_runs() {
        let runs = [(0, 3..40), (0, 50..51), (2, 0..62)].map(|(segment, rows)| Run { segment, rows });
        let all: Vec<(usize, usize)> = runs.iter().flat_map(|run| run.rows.clone().map(|row| (run.segment, row))).collect();
        for count in [1, 7, 50, 100] {
            let found = rows(&runs, 100, count);
            let positions: Vec<usize> = found.iter().map(|row| all.iter().position(|one| one == row).unwrap()).collect();
            assert!(positions.iter().enumerate().all(|(i, &at)| (i * 100 / count..(i + 1) * 100 / count).contains(&at)), "{positions:?}");
        }
    }
}
