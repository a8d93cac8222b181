//! Products of matrices, threaded over blocks of rows.
//!
//! A sum of products is added up in float32, in order, over `CHUNK` terms, and over the chunks in float64: it errs by
//! less than CHUNK roundings of float32 (Higham, Accuracy and Stability of Numerical Algorithms, 4.2), whatever
//! its length. A product of m x k by k x n takes m n k multiply-adds.

use super::Compute;
use crate::error::{Result, filled, room};
use crate::kernel::{COLUMNS, Kernel};
use crate::pool;
use std::ops::Range;

/// Terms summed in float32; of [`COLUMNS`] columns they take 32 KB.
const CHUNK: usize = 256;
/// Rows that a worker multiplies with all columns.
pub(super) const BLOCK_ROWS: usize = 64;

/// The right-hand matrix of products, k x n, in groups of [`COLUMNS`] columns, as [`Kernel::ordered`] wants them.
#[derive(Debug)]
pub struct Columns {
    inner: usize,
    count: usize,
    values: Vec<f32>,
}

impl Columns {
    /// A matrix of rows with `count` values.
    ///
    /// # Errors
    /// No memory.
    pub fn of(matrix: &[f32], count: usize) -> Result<Self> {
        let inner = matrix.len() / count;
        let mut values = filled(inner * count.next_multiple_of(COLUMNS), 0.0, "a matrix")?;
        for (j, row) in matrix.chunks_exact(count).enumerate() {
            for (group, part) in row.chunks(COLUMNS).enumerate() {
                values[(group * inner + j) * COLUMNS..][..part.len()].copy_from_slice(part);
            }
        }
        Ok(Columns { inner, count, values })
    }

    /// The transpose of a matrix of rows with `inner` values.
    ///
    /// # Errors
    /// No memory.
    pub fn transposed(matrix: &[f32], inner: usize) -> Result<Self> {
        let count = matrix.len() / inner;
        let mut values = filled(inner * count.next_multiple_of(COLUMNS), 0.0, "a matrix")?;
        for (rows, group) in matrix.chunks(COLUMNS * inner).zip(values.chunks_exact_mut(COLUMNS * inner)) {
            for (i, row) in rows.chunks_exact(inner).enumerate() {
                row.iter().zip(group.chunks_exact_mut(COLUMNS)).for_each(|(&x, column)| column[i] = x);
            }
        }
        Ok(Columns { inner, count, values })
    }

    /// The groups, each of as many times [`COLUMNS`] values as a column has.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.inner * COLUMNS)
    }
}

/// The rows of `left` times the columns of `right`.
///
/// # Errors
/// [`Error::Interrupted`](crate::error::Error::Interrupted); no memory.
pub fn product(compute: Compute, left: &[f32], right: &Columns) -> Result<Vec<f32>> {
    let Compute { kernel, threads, watch } = compute;
    let (inner, width) = (right.inner, right.count);
    let blocks: Vec<&[f32]> = left.chunks(BLOCK_ROWS * inner).collect();
    let work = |panel: &mut Panel, block: usize| {
        let count = blocks[block].len() / inner;
        panel.fill(blocks[block], inner, 0..inner);
        let mut out = filled(count * width, 0.0f32, "a matrix")?;
        for (group, columns) in right.groups().enumerate() {
            watch.check()?;
            let sums = panel.times(kernel, columns);
            watch.advance((count * inner * COLUMNS.min(width - group * COLUMNS)) as u64);
            for (out, sums) in out.chunks_exact_mut(width).zip(sums.chunks_exact(COLUMNS)) {
                out[group * COLUMNS..].iter_mut().zip(sums).for_each(|(out, &sum)| *out = sum as f32);
            }
        }
        Ok(out)
    };
    let made = pool::map(threads, blocks.len(), watch, || Ok(Panel::default()), work)?;
    // Where others have stopped the watch, blocks are missing.
    watch.check()?;
    let mut whole = room(left.len() / inner * width, "a matrix")?;
    made.iter().for_each(|block| whole.extend_from_slice(block));
    Ok(whole)
}

/// Some rows as a worker multiplies them: [`CHUNK`] values of every row, then the next.
#[derive(Debug, Default)]
pub(super) struct Panel {
    inner: usize,
    values: Vec<f32>,
    part: Vec<f32>,
    sums: Vec<f64>,
}

impl Panel {
    /// Takes the values in `range` of each of some rows of `width` values.
    pub fn fill(&mut self, rows: &[f32], width: usize, range: Range<usize>) {
        let count = rows.len() / width;
        self.inner = range.len();
        self.values.clear();
        for start in range.clone().step_by(CHUNK) {
            let end = range.end.min(start + CHUNK);
            rows.chunks_exact(width).for_each(|row| self.values.extend_from_slice(&row[start..end]));
        }
        self.part.resize(count * COLUMNS, 0.0);
        self.sums.resize(count * COLUMNS, 0.0);
    }

    /// The products of every row with [`COLUMNS`] columns, row after row.
    pub fn times(&mut self, kernel: &Kernel, columns: &[f32]) -> &[f64] {
        let rows = self.sums.len() / COLUMNS;
        self.sums.fill(0.0);
        for (columns, values) in columns.chunks(CHUNK * COLUMNS).zip(self.values.chunks(CHUNK * rows)) {
            (kernel.ordered)(columns, values, columns.len() / COLUMNS, &mut self.part);
            self.sums.iter_mut().zip(&self.part).for_each(|(sum, &part)| *sum += f64::from(part));
        }
        &self.sums
    }
}

/// The columns of a matrix of rows with `width` values, one after the other.
///
/// # Errors
/// No memory.
pub fn transpose(matrix: &[f32], width: usize) -> Result<Vec<f32>> {
    let count = matrix.len() / width;
    let mut columns = filled(matrix.len(), 0.0, "a matrix")?;
    // Sixteen rows at a time fill whole cache lines.
    for (start, rows) in matrix.chunks(16 * width).enumerate() {
        for j in 0..width {
            let out = &mut columns[j * count + 16 * start..];
            rows.chunks_exact(width).zip(out).for_each(|(row, out)| *out = row[j]);
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;
    use crate::pool::Watch;
    use crate::random::Random;

    #[test]
    fn products_are_near_the_exact_ones_and_the_same_from_every_kernel_and_any_threads() {
        let watch = Watch::new(&|| true);
        for (rows, inner, width) in [(1, 1, 1), (3, 40, 33), (65, 300, 64), (130, 513, 70)] {
            let mut random = Random::new(inner as u64);
            let [left, right] = [rows, width].map(|count| (0..count * inner).map(|_| random.signed() as f32).collect::<Vec<_>>());
            let mut same = None;
            for kernel in kernel::available() {
                for threads in [1, 3] {
                    let compute = Compute { kernel, threads, watch: &watch };
                    let found = product(compute, &left, &Columns::transposed(&right, inner).unwrap()).unwrap();
                    assert_eq!(found, product(compute, &left, &Columns::of(&transpose(&right, inner).unwrap(), width).unwrap()).unwrap());
                    for (at, &value) in found.iter().enumerate() {
                        let terms = left[at / width * inner..].iter().zip(&right[at % width * inner..][..inner]);
                        let exact: f64 = terms.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                        assert!((f64::from(value) - exact).abs() < 1e-5 * (inner as f64).sqrt(), "{value} for {exact}");
                    }
                    assert!(same.get_or_insert_with(|| found.clone()) == &found, "{} {threads}", kernel.name);
                }
            }
        }
    }
}
