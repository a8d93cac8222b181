//! AVX2 with FMA and F16C: four virtual lanes a register, eight registers a sum.
//!
//! The functions of the table check lengths and step into code compiled for AVX2; nothing else here
//! runs, so a CPU without it never meets an instruction that it lacks. Tails of rows are copied
//! between zeros, which add +0.0 to their lanes.

mod bounds;
mod int8_batch;

use super::{Affine, COLUMNS, Int16Row, Kernel, LANES, Planes, Tile, int16, ordered};
use super::{check_decode_f8, check_norms, check_products, check_rotate, check_sums, check_tile, scalar};
use std::arch::x86_64::*;

/// The table for CPUs with AVX2, FMA and F16C.
pub static KERNEL: Kernel = Kernel {
    name: "avx2",
    dot,
    dot_f64,
    squared_distance,
    squared_distance_f64,
    squared_norm,
    squared_norm_f64,
    decode_f16,
    decode_f8,
    tile,
    products,
    ordered,
    rotate,
    bounds: bounds::bounds,
    at_least: scalar::KERNEL.at_least,
    lane_max: bounds::lane_max,
    remainder_dot: int8_batch::remainder_dot,
    unpack_codes: scalar::KERNEL.unpack_codes,
    int8_batch: int8_batch::int8_batch,
    int16,
};

/// Virtual lanes a register.
const WIDTH: usize = 4;

/// Runs of rows that a block is cut into.
const STREAMS: usize = 4;

/// How far ahead of a row's loads its lines are asked for, in bytes.
const AHEAD: usize = 2048;

/// Bytes of rows that a cache may hold between two tiles; more come from memory.
const NEAR: usize = 2 << 20;

/// A stored value that widens to float64, four at a time.
trait Value: Copy + Default {
    /// Four values from `from`.
    unsafe fn load(from: *const Self) -> __m256d;
}

impl Value for f32 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const f32) -> __m256d {
        // SAFETY: the caller vouches for four values.
        _mm256_cvtps_pd(unsafe { _mm_loadu_ps(from) })
    }
}

impl Value for f64 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const f64) -> __m256d {
        // SAFETY: the caller vouches for four values.
        unsafe { _mm256_loadu_pd(from) }
    }
}

/// Row functions that take a query: the sum over `$term`, a closure of `(q, x, sum)`.
macro_rules! query_sums {
    ($name:ident, $value:ty, $term:expr) => {
        fn $name(query: &[f64], rows: &[$value], dims: usize, out: &mut [f64]) {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn gated(query: &[f64], rows: &[$value], dims: usize, out: &mut [f64]) {
                let term = $term;
                sums(rows, dims, out, |at, x, sum| {
                    // SAFETY: `at + 4 <= padded(dims)`, the query's length by check_sums.
                    let q = unsafe { _mm256_loadu_pd(query.as_ptr().add(at)) };
                    term(q, x, sum)
                });
            }
            check_sums(query, rows, dims, out);
            // SAFETY: `available` lists this table only where the CPU has these features.
            unsafe { gated(query, rows, dims, out) }
        }
    };
}

/// Row functions without a query: the sum over `$term`, a closure of `(x, sum)`.
macro_rules! row_norms {
    ($name:ident, $value:ty, $term:expr) => {
        fn $name(rows: &[$value], dims: usize, out: &mut [f64]) {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn gated(rows: &[$value], dims: usize, out: &mut [f64]) {
                let term = $term;
                sums(rows, dims, out, |_, x, sum| term(x, sum));
            }
            check_norms(rows, dims, out);
            // SAFETY: `available` lists this table only where the CPU has these features.
            unsafe { gated(rows, dims, out) }
        }
    };
}

query_sums!(dot, f32, |q, x, sum| _mm256_fmadd_pd(q, x, sum));
query_sums!(dot_f64, f64, |q, x, sum| _mm256_add_pd(sum, _mm256_mul_pd(q, x)));
query_sums!(squared_distance, f32, |q, x, sum| squared_difference(q, x, sum));
query_sums!(squared_distance_f64, f64, |q, x, sum| squared_difference(q, x, sum));
row_norms!(squared_norm, f32, |x, sum| _mm256_fmadd_pd(x, x, sum));
row_norms!(squared_norm_f64, f64, |x, sum| _mm256_add_pd(sum, _mm256_mul_pd(x, x)));

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn squared_difference(q: __m256d, x: __m256d, sum: __m256d) -> __m256d {
    let difference = _mm256_sub_pd(q, x);
    _mm256_add_pd(sum, _mm256_mul_pd(difference, difference))
}

/// `out[i]` receives the sum of row i: `term(at, x, sum)` adds values `at..at + 4` to their lanes.
///
/// The block is cut into [`STREAMS`] runs of rows and visited a row of each in turn: several streams
/// reach more of the memory's speed than one (13.5 against 10.2 GB/s on a Sapphire Rapids core).
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sums<T: Value>(rows: &[T], dims: usize, out: &mut [f64], term: impl Fn(usize, __m256d, __m256d) -> __m256d) {
    let run = out.len() / STREAMS;
    for i in 0..run {
        for s in 0..STREAMS {
            out[s * run + i] = row_sum::<T, true>(&rows[(s * run + i) * dims..][..dims], &term);
        }
    }
    for i in STREAMS * run..out.len() {
        out[i] = row_sum::<T, false>(&rows[i * dims..][..dims], &term);
    }
}

/// The sum of one row; of `MORE` to come, lines are asked for.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn row_sum<T: Value, const MORE: bool>(row: &[T], term: &impl Fn(usize, __m256d, __m256d) -> __m256d) -> f64 {
    let mut sums = [_mm256_setzero_pd(); LANES / WIDTH];
    let (blocks, tail) = row.as_chunks::<LANES>();
    for (b, block) in blocks.iter().enumerate() {
        for line in 0..if MORE { size_of::<[T; LANES]>() / 64 } else { 0 } {
            _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_byte_add(AHEAD + 64 * line).cast());
        }
        add_block(b * LANES, block, &mut sums, term);
    }
    if !tail.is_empty() {
        let mut block = [T::default(); LANES];
        block[..tail.len()].copy_from_slice(tail);
        add_block(blocks.len() * LANES, &block, &mut sums, term);
    }
    reduce(sums)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_block<T: Value>(
    start: usize,
    block: &[T; LANES],
    sums: &mut [__m256d; LANES / WIDTH],
    term: &impl Fn(usize, __m256d, __m256d) -> __m256d,
) {
    for (part, sum) in sums.iter_mut().enumerate() {
        // SAFETY: part < 8, so that these four of 32 values are in the block.
        let x = unsafe { T::load(block.as_ptr().add(part * WIDTH)) };
        *sum = term(start + part * WIDTH, x, *sum);
    }
}

/// Lanes added in halves: 16, 8, 4, 2, 1.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn reduce(s: [__m256d; LANES / WIDTH]) -> f64 {
    let by16: [__m256d; 4] = [_mm256_add_pd(s[0], s[4]), _mm256_add_pd(s[1], s[5]), _mm256_add_pd(s[2], s[6]), _mm256_add_pd(s[3], s[7])];
    let by4 = _mm256_add_pd(_mm256_add_pd(by16[0], by16[2]), _mm256_add_pd(by16[1], by16[3]));
    let by2 = _mm_add_pd(_mm256_castpd256_pd128(by4), _mm256_extractf128_pd::<1>(by4));
    _mm_cvtsd_f64(_mm_add_sd(by2, _mm_unpackhi_pd(by2, by2)))
}

fn decode_f16(codes: &[u16], out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn gated(codes: &[u16], out: &mut [f32]) {
        let (codes, codes_tail) = codes.as_chunks::<8>();
        let (out, out_tail) = out.as_chunks_mut::<8>();
        for (codes, out) in codes.iter().zip(out) {
            // SAFETY: both sides are arrays of eight.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(codes.as_ptr().cast()))) };
        }
        (scalar::KERNEL.decode_f16)(codes_tail, out_tail);
    }
    assert_eq!(codes.len(), out.len());
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe { gated(codes, out) }
}

fn decode_f8(codes: &[i8], scales: &[f32], dims: usize, out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn gated(codes: &[i8], scales: &[f32], dims: usize, out: &mut [f32]) {
        for ((codes, out), &scale) in codes.chunks_exact(dims).zip(out.chunks_exact_mut(dims)).zip(scales) {
            let (codes, codes_tail) = codes.as_chunks::<8>();
            let (out, out_tail) = out.as_chunks_mut::<8>();
            let scales = _mm256_set1_ps(scale);
            for (codes, out) in codes.iter().zip(out) {
                // SAFETY: eight codes are the eight bytes read.
                let codes = _mm256_cvtepi8_epi32(unsafe { _mm_loadu_si64(codes.as_ptr().cast()) });
                // SAFETY: an array of eight.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_mul_ps(scales, _mm256_cvtepi32_ps(codes))) };
            }
            for (value, &code) in out_tail.iter_mut().zip(codes_tail) {
                *value = scale * f32::from(code);
            }
        }
    }
    check_decode_f8(codes, scales, dims, out);
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe { gated(codes, scales, dims, out) }
}

fn tile(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    check_tile(tile, rows, dims, norms, halves, keep);
    keep.fill(0);
    let far = size_of_val(rows) > NEAR;
    let mut at = 0;
    while at < keep.len() {
        let group = [6, 2].into_iter().find(|&group| group <= keep.len() - at).unwrap_or(1);
        let (rows, keep) = (&rows[at * dims..(at + group) * dims], &mut keep[at..at + group]);
        let (norms, halves) = (&norms[at..at + group], &halves[at..at + group]);
        for first in (0..tile.width).step_by(16) {
            // SAFETY: `available` lists this table only where the CPU has these features.
            unsafe {
                match group {
                    6 if far && first == 0 => tile_group::<6, true>(tile, first, rows, dims, norms, halves, keep),
                    6 => tile_group::<6, false>(tile, first, rows, dims, norms, halves, keep),
                    2 => tile_group::<2, false>(tile, first, rows, dims, norms, halves, keep),
                    _ => tile_group::<1, false>(tile, first, rows, dims, norms, halves, keep),
                }
            }
        }
        at += group;
    }
}

/// `R` rows against queries `first..first + 16`: the sums stay in registers until they are bits.
/// Where they are `FAR`, the rows that follow are asked for.
#[target_feature(enable = "avx2,fma,f16c")]
fn tile_group<const R: usize, const FAR: bool>(
    tile: &Tile,
    first: usize,
    rows: &[f32],
    dims: usize,
    norms: &[f32],
    halves: &[f32],
    keep: &mut [u32],
) {
    let sums = column_sums::<R, FAR>(tile.columns, tile.width, first, rows, dims);
    for (r, sums) in sums.iter().enumerate() {
        let (norm, half) = (_mm256_set1_ps(norms[r]), _mm256_set1_ps(halves[r]));
        for (v, &sum) in sums.iter().enumerate() {
            let at = first + 8 * v;
            let reach = _mm256_sub_ps(_mm256_fmadd_ps(eight(tile.slope, at), norm, sum), half);
            let reached = _mm256_cmp_ps::<_CMP_GE_OQ>(reach, eight(tile.threshold, at));
            keep[r] |= (_mm256_movemask_ps(reached) as u32) << at;
        }
    }
}

/// Products of `R` rows with columns `first..first + 16` out of `width`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn column_sums<const R: usize, const FAR: bool>(
    columns: &[f32],
    width: usize,
    first: usize,
    rows: &[f32],
    dims: usize,
) -> [[__m256; 2]; R] {
    assert!(first + 16 <= width && columns.len() == dims * width && rows.len() == R * dims);
    let (columns, from) = (columns.as_ptr(), rows.as_ptr());
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for start in (0..dims).step_by(if FAR { 16 } else { dims }) {
        let end = if FAR { dims.min(start + 16) } else { dims };
        for line in 0..if FAR { R } else { 0 } {
            _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add((dims + start) * R + 16 * line).cast());
        }
        for j in start..end {
            // SAFETY: values first..first + 16 of those numbered j, by the assertion.
            let columns = unsafe {
                let column = columns.add(j * width + first);
                [_mm256_loadu_ps(column), _mm256_loadu_ps(column.add(8))]
            };
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: value j of row r < R, by the assertion.
                let x = _mm256_set1_ps(unsafe { *from.add(r * dims + j) });
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm256_fmadd_ps(column, x, *sum);
                }
            }
        }
    }
    sums
}

fn products(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    check_products(columns, rows, dims, out);
    let (count, mut at) = (out.len() / COLUMNS, 0);
    while at < count {
        let group = [6, 2].into_iter().find(|&group| group <= count - at).unwrap_or(1);
        let (rows, out) = (&rows[at * dims..(at + group) * dims], &mut out[at * COLUMNS..(at + group) * COLUMNS]);
        for first in [0, 16] {
            // SAFETY: `available` lists this table only where the CPU has these features.
            unsafe {
                match group {
                    6 => add_products::<6>(columns, first, rows, dims, out),
                    2 => add_products::<2>(columns, first, rows, dims, out),
                    _ => add_products::<1>(columns, first, rows, dims, out),
                }
            }
        }
        at += group;
    }
}

/// Adds the products of `R` rows with columns `first..first + 16`.
#[target_feature(enable = "avx2,fma,f16c")]
fn add_products<const R: usize>(columns: &[f32], first: usize, rows: &[f32], dims: usize, out: &mut [f32]) {
    let sums = column_sums::<R, false>(columns, COLUMNS, first, rows, dims);
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(COLUMNS)) {
        for (&sum, out) in sums.iter().zip(out[first..first + 16].as_chunks_mut::<8>().0) {
            // SAFETY: an array of eight.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_add_ps(_mm256_loadu_ps(out.as_ptr()), sum)) };
        }
    }
}

fn ordered(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn gated(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
        ordered::sums::<4, 16>(columns, rows, dims, out);
    }
    check_products(columns, rows, dims, out);
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe { gated(columns, rows, dims, out) }
}

fn rotate(columns: &[i16], rows: &[i16], out: &mut [i32]) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn gated(columns: &[i16], row: &[i16], out: &mut [i32; COLUMNS]) {
        let mut sums = [_mm256_setzero_si256(); COLUMNS / 8];
        for (words, pairs) in row.as_chunks::<2>().0.iter().zip(columns.as_chunks::<{ 2 * COLUMNS }>().0) {
            let words = _mm256_set1_epi32(bytemuck::cast(*words));
            for (sum, pairs) in sums.iter_mut().zip(pairs.as_chunks::<16>().0) {
                // SAFETY: an array of sixteen words.
                let pairs = unsafe { _mm256_loadu_si256(pairs.as_ptr().cast()) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, words));
            }
        }
        for (sum, out) in sums.into_iter().zip(out.as_chunks_mut::<8>().0) {
            // SAFETY: an array of eight.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sum) };
        }
    }
    let dims = check_rotate(columns, rows, out);
    for (row, out) in rows.chunks_exact(dims).zip(out.as_chunks_mut().0) {
        // SAFETY: `available` lists this table only where the CPU has these features.
        unsafe { gated(columns, row, out) };
    }
}

fn int16(row: &[f32], frame: &Affine, planes: &mut Planes) -> Int16Row {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn gated(row: &[f32], frame: &Affine, planes: &mut Planes) -> Int16Row {
        int16::round(row, frame, planes)
    }
    int16::check(row, frame, planes);
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe { gated(row, frame, planes) }
}

/// Values `at..at + 8`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn eight(values: &[f32], at: usize) -> __m256 {
    let values = &values[at..at + 8];
    // SAFETY: the slice has eight values.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}
