//! Orthonormal rows by Householder reflections, as many at a time as kernels multiply columns.
//!
//! The rows A (m x d) are factored from the left, A H_1 ... H_m = [L 0], and the rows of H_m ... H_1 are orthonormal: the
//! first k of them span the first k rows of A, and those beyond m complete them to a basis. Neither dependent rows nor
//! rows of zeros need care. A block of reflections is applied as I - Y T Y' (Schreiber and Van Loan, 1989; Golub and
//! Van Loan, Matrix Computations, 5.1.7 and 5.2.3).
//!
//! Y is rounded to float32 before T is made from it in float64, so that I - Y T Y' as held is orthogonal to float64;
//! only applying it rounds to float32. About m^2 d multiply-adds factor the rows, and as many make m of the new ones; all
//! d of them take (2 d - m) m d.

use super::product::{BLOCK_ROWS, Columns, Panel};
use super::{Compute, dot};
use crate::error::{Result, filled};
use crate::kernel::COLUMNS;
use crate::pool;
use std::sync::Mutex;

/// `wanted` orthonormal rows of `dims` values, the first of which span what as many of the given rows span; `wanted` is
/// `dims` at most, and not less than there are rows.
///
/// # Errors
/// [`Error::Interrupted`](crate::error::Error::Interrupted).
pub fn orthonormal(compute: Compute, mut rows: Vec<f32>, dims: usize, wanted: usize) -> Result<Vec<f32>> {
    let mut made = Vec::new();
    for first in (0..rows.len() / dims).step_by(COLUMNS) {
        compute.watch.check()?;
        let end = rows.len().min((first + COLUMNS) * dims);
        let (before, later) = rows.split_at_mut(end);
        let reflections = Reflections::clearing(&before[first * dims..], dims, first)?;
        reflections.apply(compute, later, Order::FirstToLast)?;
        made.push(reflections);
    }
    drop(rows);
    let mut rows = filled(wanted * dims, 0.0, "orthonormal rows")?;
    rows.iter_mut().step_by(dims + 1).for_each(|x| *x = 1.0);
    for reflections in made.iter().rev() {
        // Rows of the identity above the first reflection do not change by it.
        reflections.apply(compute, &mut rows[reflections.first * dims..], Order::LastToFirst)?;
    }
    Ok(rows)
}

/// The multiply-adds of [`orthonormal`] for `count` rows.
pub fn work(count: usize, dims: usize, wanted: usize) -> f64 {
    let block = |first: usize| 2 * COLUMNS * (dims - first) * (count.saturating_sub(first + COLUMNS) + wanted - first);
    (0..count).step_by(COLUMNS).map(|first| block(first) as f64).sum()
}

/// Which reflection of a block meets a row first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    FirstToLast,
    LastToFirst,
}

/// Up to [`COLUMNS`] reflections that leave the first values of rows alone.
#[derive(Debug)]
struct Reflections {
    dims: usize,
    /// Values of a row that are left alone.
    first: usize,
    /// Y, a reflection a column.
    across: Columns,
    /// Y', a reflection a row.
    along: Columns,
    /// T, upper triangular, row by row.
    triangle: Vec<[f64; COLUMNS]>,
}

impl Reflections {
    /// Those that clear row i of `rows` behind value `first + i`.
    fn clearing(rows: &[f32], dims: usize, first: usize) -> Result<Self> {
        let width = dims - first;
        let mut panel: Vec<Vec<f64>> = rows.chunks_exact(dims).map(|row| row[first..].iter().map(|&x| f64::from(x)).collect()).collect();
        let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(panel.len());
        let mut factors = Vec::with_capacity(panel.len());
        for i in 0..panel.len() {
            let (vector, factor) = reflection(&panel[i], i);
            for row in &mut panel[i + 1..] {
                let along = factor * dot(&row[i..], &vector[i..]);
                row[i..].iter_mut().zip(&vector[i..]).for_each(|(x, v)| *x -= along * v);
            }
            vectors.push(vector);
            factors.push(factor);
        }
        let triangle = triangle(&vectors, &factors);
        let mut narrow = vec![0.0f32; COLUMNS * width];
        narrow.iter_mut().zip(vectors.iter().flatten()).for_each(|(narrow, &v)| *narrow = v as f32);
        let (across, along) = (Columns::transposed(&narrow, width)?, Columns::of(&narrow, width)?);
        Ok(Reflections { dims, first, across, along, triangle })
    }

    /// Replaces every row by its image.
    fn apply(&self, compute: Compute, rows: &mut [f32], order: Order) -> Result<()> {
        let Compute { kernel, threads, watch } = compute;
        let dims = self.dims;
        let jobs: Vec<_> = rows.chunks_mut(BLOCK_ROWS * dims).map(Mutex::new).collect();
        let work = |(panel, factors, changes): &mut (Panel, Vec<f32>, Vec<f32>), job: usize| {
            let mut rows = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            panel.fill(&rows, dims, self.first..dims);
            factors.clear();
            for columns in self.across.groups() {
                let sums = panel.times(kernel, columns).as_chunks::<COLUMNS>().0;
                sums.iter().for_each(|sums| factors.extend(self.factors(sums, order).map(|x| x as f32)));
            }
            changes.resize(factors.len(), 0.0);
            for (group, columns) in self.along.groups().enumerate() {
                (kernel.ordered)(columns, factors, COLUMNS, changes);
                for (row, changes) in rows.chunks_exact_mut(dims).zip(changes.chunks_exact(COLUMNS)) {
                    row[self.first + group * COLUMNS..].iter_mut().zip(changes).for_each(|(x, change)| *x -= change);
                }
            }
            watch.advance((2 * COLUMNS * rows.len() / dims * (dims - self.first)) as u64);
            Ok(())
        };
        pool::run(threads, jobs.len(), watch, || Ok(Default::default()), work)?;
        watch.check()
    }

    /// The products of a row with Y, times T or its transpose.
    fn factors(&self, sums: &[f64; COLUMNS], order: Order) -> [f64; COLUMNS] {
        let mut made = [0.0; COLUMNS];
        for (i, line) in self.triangle.iter().enumerate() {
            match order {
                Order::FirstToLast => made.iter_mut().zip(line).for_each(|(made, t)| *made += sums[i] * t),
                Order::LastToFirst => made[i] = dot(line, sums),
            }
        }
        made
    }
}

/// The vector v, of float32 values, and the factor of the reflection 1 - factor v v' that clears a row behind value
/// `at` and leaves alone what is before; no reflection where nothing is left to clear.
fn reflection(row: &[f64], at: usize) -> (Vec<f64>, f64) {
    let length = dot(&row[at..], &row[at..]).sqrt();
    if length == 0.0 || !length.is_finite() {
        return (vec![0.0; row.len()], 0.0);
    }
    let mut vector = vec![0.0; row.len()];
    vector[at..].iter_mut().zip(&row[at..]).for_each(|(v, x)| *v = x / length);
    // Away from 0, so that nothing cancels.
    vector[at] += 1.0f64.copysign(row[at]);
    vector[at..].iter_mut().for_each(|v| *v = f64::from(*v as f32));
    let factor = 2.0 / dot(&vector, &vector);
    (vector, factor)
}

/// T of the product of reflections, the first on the left.
fn triangle(vectors: &[Vec<f64>], factors: &[f64]) -> Vec<[f64; COLUMNS]> {
    let mut made = vec![[0.0; COLUMNS]; vectors.len()];
    for j in 0..vectors.len() {
        made[j][j] = factors[j];
        let shared: Vec<f64> = vectors[..j].iter().map(|vector| dot(vector, &vectors[j])).collect();
        for line in &mut made[..j] {
            line[j] = -factors[j] * dot(&line[..j], &shared);
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;
    use crate::pool::Watch;
    use crate::random::Random;

    /// The largest |entry| of Q Q' - 1, and of what is left of the rows outside of the first rows of Q.
    fn errors(made: &[f32], given: &[f32], dims: usize) -> (f64, f64) {
        let wide = |row: &[f32]| row.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let made: Vec<Vec<f64>> = made.chunks_exact(dims).map(wide).collect();
        let (mut skew, mut outside) = (0.0f64, 0.0f64);
        for (i, a) in made.iter().enumerate() {
            for (j, b) in made.iter().enumerate() {
                skew = skew.max((dot(a, b) - f64::from(u8::from(i == j))).abs());
            }
        }
        for (i, row) in given.chunks_exact(dims).enumerate() {
            let mut left = wide(row);
            for axis in &made[..=i] {
                let along = dot(&left, axis);
                left.iter_mut().zip(axis).for_each(|(x, a)| *x -= along * a);
            }
            outside = outside.max(dot(&left, &left).sqrt());
        }
        (skew, outside)
    }

    #[test]
    fn rows_become_orthonormal_in_order_and_are_completed() {
        let watch = Watch::new(&|| true);
        for (count, dims, wanted) in [(0, 3, 3), (1, 1, 1), (5, 40, 5), (40, 40, 40), (33, 300, 300), (100, 150, 120)] {
            let mut random = Random::new(dims as u64);
            let mut rows: Vec<f32> = (0..count * dims).map(|_| random.signed() as f32).collect();
            if count > 4 {
                // A row of zeros, and one that depends on two others.
                rows[dims..2 * dims].fill(0.0);
                (0..dims).for_each(|j| rows[3 * dims + j] = rows[j] - rows[2 * dims + j]);
            }
            let mut same = None;
            for kernel in kernel::available() {
                for threads in [1, 3] {
                    let made = orthonormal(Compute { kernel, threads, watch: &watch }, rows.clone(), dims, wanted).unwrap();
                    assert_eq!(made.len(), wanted * dims);
                    let (skew, outside) = errors(&made, &rows, dims);
                    assert!(skew < 2e-6 && outside < 2e-5, "{count} of {dims}: {skew:e} {outside:e}");
                    assert!(same.get_or_insert_with(|| made.clone()) == &made, "{} {threads}", kernel.name);
                }
            }
        }
    }
}
