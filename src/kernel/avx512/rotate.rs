//! [`Kernel::rotate`](crate::kernel::Kernel::turn) with AVX-512: lanes of a sum are columns, and one
//! instruction adds two products of int16.

use crate::kernel::COLUMNS;
use crate::kernel::vector::AHEAD;
use std::arch::x86_64::*;

pub fn rotate(columns: &[i16], rows: &[i16], out: &mut [i32]) {
    let dims = columns.len() / COLUMNS;
    let (count, mut at) = (out.len() / COLUMNS, 0);
    while at < count {
        let group = if at + 4 <= count { 4 } else { 1 };
        let (rows, out) = (&rows[at * dims..(at + group) * dims], &mut out[at * COLUMNS..(at + group) * COLUMNS]);
        // SAFETY: `available` lists this table only where the CPU has these features.
        unsafe {
            match group {
                4 => rotate_rows::<4, 1>(columns, rows, dims, out),
                // One row has few sums, and each addition would wait for the one before: so each is split in four.
                _ => rotate_rows::<1, 4>(columns, rows, dims, out),
            }
        }
        at += group;
    }
}

/// Sums of `R` rows, each in `SIDE` parts: part i takes pairs i, i + `SIDE`, and so on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn rotate_rows<const R: usize, const SIDE: usize>(columns: &[i16], rows: &[i16], dims: usize, out: &mut [i32]) {
    let mut sums = [[[_mm512_setzero_si512(); COLUMNS / 16]; SIDE]; R];
    let pairs = columns.as_chunks::<{ 2 * COLUMNS }>().0;
    for (start, pairs) in pairs.chunks(SIDE).enumerate() {
        for (side, pairs) in pairs.iter().enumerate() {
            for line in 0..size_of_val(pairs) / 64 {
                _mm_prefetch::<_MM_HINT_T0>(pairs.as_ptr().wrapping_byte_add(AHEAD + 64 * line).cast());
            }
            let pairs = pairs.as_chunks::<32>().0.iter().map(|pairs| {
                // SAFETY: an array of 32 int16.
                unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) }
            });
            for (v, pairs) in pairs.enumerate() {
                for (r, sums) in sums.iter_mut().enumerate() {
                    let at = r * dims + 2 * (start * SIDE + side);
                    let words = _mm512_set1_epi32(bytemuck::cast([rows[at], rows[at + 1]]));
                    sums[side][v] = _mm512_add_epi32(sums[side][v], _mm512_madd_epi16(pairs, words));
                }
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.as_chunks_mut::<COLUMNS>().0) {
        for (v, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let sum = sums.iter().fold(_mm512_setzero_si512(), |sum, side| _mm512_add_epi32(sum, side[v]));
            // SAFETY: an array of sixteen.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sum) };
        }
    }
}
