//! [`Kernel::ordered`](super::Kernel::ordered): one loop for every table, compiled for each kind of CPU.
//!
//! Vector lanes are columns, so every sum is added in the order of j and none is fused: all tables round alike.

use super::COLUMNS;

/// The sums, `R` rows and `W` columns at a time, inlined into a function that is compiled for its CPU. No closures: those
/// passed to iterator functions are not compiled for it.
#[inline(always)]
pub fn sums<const R: usize, const W: usize>(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    let whole = out.len() / COLUMNS / R * R;
    let (rows, left) = rows.split_at(whole * dims);
    let (out, out_left) = out.split_at_mut(whole * COLUMNS);
    for (rows, out) in rows.chunks_exact(R * dims).zip(out.chunks_exact_mut(R * COLUMNS)) {
        some::<R, W>(columns, rows, dims, out);
    }
    for (row, out) in left.chunks_exact(dims).zip(out_left.chunks_exact_mut(COLUMNS)) {
        some::<1, W>(columns, row, dims, out);
    }
}

#[inline(always)]
fn some<const R: usize, const W: usize>(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    // Slices of one known length: nothing is left to check in the inner loop.
    let columns = &columns[..dims * COLUMNS];
    let mut each = [&rows[..0]; R];
    for r in 0..R {
        each[r] = &rows[r * dims..][..dims];
    }
    for first in (0..COLUMNS).step_by(W) {
        let mut sums = [[0.0f32; W]; R];
        for j in 0..dims {
            let column = &columns[j * COLUMNS + first..][..W];
            for r in 0..R {
                let x = each[r][j];
                for l in 0..W {
                    sums[r][l] += x * column[l];
                }
            }
        }
        for r in 0..R {
            out[r * COLUMNS + first..][..W].copy_from_slice(&sums[r]);
        }
    }
}
