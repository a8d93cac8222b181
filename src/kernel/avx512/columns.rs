//! Rows against [`COLUMNS`] columns side by side: products of float32, and of words.

use super::{AHEAD, column_sums};
use crate::kernel::{COLUMNS, check_products, check_rotate, ordered};
use std::arch::x86_64::*;

pub fn products(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    check_products(columns, rows, dims, out);
    let (count, mut at) = (out.len() / COLUMNS, 0);
    while at < count {
        let group = [12, 4].into_iter().find(|&group| group <= count - at).unwrap_or(1);
        let (rows, out) = (&rows[at * dims..(at + group) * dims], &mut out[at * COLUMNS..(at + group) * COLUMNS]);
        // SAFETY: `available` lists this table only where the CPU has these features.
        unsafe {
            match group {
                12 => add_products::<12>(columns, rows, dims, out),
                4 => add_products::<4>(columns, rows, dims, out),
                _ => add_products::<1>(columns, rows, dims, out),
            }
        }
        at += group;
    }
}

/// Adds the products of `R` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn add_products<const R: usize>(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    let sums = column_sums::<{ COLUMNS / 16 }, R, false>(columns, rows, dims);
    for (&sum, out) in sums.as_flattened().iter().zip(out.as_chunks_mut::<16>().0) {
        // SAFETY: an array of sixteen.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(out.as_ptr()), sum)) };
    }
}

pub fn ordered(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn gated(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
        ordered::sums::<8, 32>(columns, rows, dims, out);
    }
    check_products(columns, rows, dims, out);
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe { gated(columns, rows, dims, out) }
}

pub fn rotate(columns: &[i16], rows: &[i16], out: &mut [i32]) {
    let dims = check_rotate(columns, rows, out);
    let (count, mut at) = (out.len() / COLUMNS, 0);
    while at < count {
        let group = if at + 4 <= count { 4 } else { 1 };
        let (rows, out) = (&rows[at * dims..(at + group) * dims], &mut out[at * COLUMNS..(at + group) * COLUMNS]);
        // SAFETY: `available` lists this table only where the CPU has these features.
        unsafe {
            match group {
                4 => rotate_rows::<4, 1>(columns, rows, dims, out),
                // Sums of one row are few, and each would wait for its last term: so they are more.
                _ => rotate_rows::<1, 4>(columns, rows, dims, out),
            }
        }
        at += group;
    }
}

/// Sums of `R` rows, each made of `SIDE` sums of every so many pairs.
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
                // SAFETY: an array of 32 words.
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
