//! AVX-512 (f, bw, dq, vl): eight virtual lanes a register, four registers a sum. Sums of codes use
//! VNNI and AMX where the CPU has them.
//!
//! The functions of the table check lengths and step into code compiled for AVX-512; nothing else
//! here runs, so a CPU without it never meets an instruction that it lacks. Tails are masked loads,
//! whose idle lanes are +0.0 and never touch memory.

#[cfg(target_os = "linux")]
mod amx;
mod bounds;
mod columns;
mod int8_batch;

use super::{Affine, Int16Row, Kernel, LANES, Planes, Tile, int16};
use super::{check_decode_f8, check_norms, check_sums, check_tile};
use std::arch::x86_64::*;

/// The table for CPUs with AVX-512 f, bw, dq and vl.
pub static KERNEL: Kernel = Kernel {
    name: "avx512",
    dot,
    dot_f64,
    squared_distance,
    squared_distance_f64,
    squared_norm,
    squared_norm_f64,
    decode_f16,
    decode_f8,
    tile,
    products: columns::products,
    ordered: columns::ordered,
    rotate: columns::rotate,
    bounds: bounds::madd,
    at_least: bounds::at_least,
    lane_max: bounds::lane_max,
    remainder_dot: int8_batch::remainder_dot,
    unpack_codes: int8_batch::unpack_codes,
    int8_batch: int8_batch::madd,
    int16,
};

/// The table for CPUs with VNNI as well.
static WITH_VNNI: Kernel = Kernel { bounds: bounds::vnni, int8_batch: int8_batch::vnni, ..KERNEL };

/// The table for CPUs with VNNI and int8 tiles of AMX.
#[cfg(target_os = "linux")]
static WITH_AMX: Kernel = Kernel { int8_batch: amx::int8_batch, ..WITH_VNNI };

/// The tables for a CPU with VNNI that its system lets this process use, slowest first.
pub fn with_vnni() -> impl Iterator<Item = &'static Kernel> {
    #[cfg(target_os = "linux")]
    let tiles = amx::permitted().then_some(&WITH_AMX);
    #[cfg(not(target_os = "linux"))]
    let tiles = None;
    std::iter::once(&WITH_VNNI).chain(tiles)
}

/// Virtual lanes a register.
const WIDTH: usize = 8;

/// Rows summed side by side, each from its own part of the block.
const STREAMS: usize = 4;

/// How far ahead of a row's loads its lines are asked for, in bytes: of 0 to 32 K, 1 K and 2 K were
/// the fastest on Sapphire Rapids.
const AHEAD: usize = 2048;

/// Bytes of rows that a cache may hold between two tiles; more come from memory.
const NEAR: usize = 2 << 20;

/// A stored value that widens to float64, eight at a time.
trait Value: Copy {
    /// Eight values from `from`.
    unsafe fn load(from: *const Self) -> __m512d;
    /// The values whose bit is set, +0.0 elsewhere.
    unsafe fn load_masked(mask: __mmask8, from: *const Self) -> __m512d;
}

impl Value for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn load(from: *const f32) -> __m512d {
        // SAFETY: the caller vouches for eight values.
        _mm512_cvtps_pd(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn load_masked(mask: __mmask8, from: *const f32) -> __m512d {
        // SAFETY: the caller vouches for the values whose bit is set; no other is touched.
        _mm512_cvtps_pd(unsafe { _mm256_maskz_loadu_ps(mask, from) })
    }
}

impl Value for f64 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn load(from: *const f64) -> __m512d {
        // SAFETY: the caller vouches for eight values.
        unsafe { _mm512_loadu_pd(from) }
    }
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn load_masked(mask: __mmask8, from: *const f64) -> __m512d {
        // SAFETY: the caller vouches for the values whose bit is set; no other is touched.
        unsafe { _mm512_maskz_loadu_pd(mask, from) }
    }
}

/// Row functions that take a query: the sum over `$term`, a closure of `(q, x, sum)`.
macro_rules! query_sums {
    ($name:ident, $value:ty, $term:expr) => {
        fn $name(query: &[f64], rows: &[$value], dims: usize, out: &mut [f64]) {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn gated(query: &[f64], rows: &[$value], dims: usize, out: &mut [f64]) {
                let term = $term;
                sums(rows, dims, out, |at, x, sum| {
                    // SAFETY: `at + 8 <= padded(dims)`, the query's length by check_sums.
                    let q = unsafe { _mm512_loadu_pd(query.as_ptr().add(at)) };
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
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
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

query_sums!(dot, f32, |q, x, sum| _mm512_fmadd_pd(q, x, sum));
query_sums!(dot_f64, f64, |q, x, sum| _mm512_add_pd(sum, _mm512_mul_pd(q, x)));
query_sums!(squared_distance, f32, |q, x, sum| squared_difference(q, x, sum));
query_sums!(squared_distance_f64, f64, |q, x, sum| squared_difference(q, x, sum));
row_norms!(squared_norm, f32, |x, sum| _mm512_fmadd_pd(x, x, sum));
row_norms!(squared_norm_f64, f64, |x, sum| _mm512_add_pd(sum, _mm512_mul_pd(x, x)));

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn squared_difference(q: __m512d, x: __m512d, sum: __m512d) -> __m512d {
    let difference = _mm512_sub_pd(q, x);
    _mm512_add_pd(sum, _mm512_mul_pd(difference, difference))
}

/// `out[i]` receives the sum of row i: `term(at, x, sum)` adds values `at..at + 8` to their lanes.
///
/// The block is cut into [`STREAMS`] runs of rows and one row of each run is summed side by side: a
/// load of the query serves all, and several streams reach more of the memory's speed than one
/// (15.2 against 12.6 GB/s on a Sapphire Rapids core).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn sums<T: Value>(rows: &[T], dims: usize, out: &mut [f64], term: impl Fn(usize, __m512d, __m512d) -> __m512d) {
    let run = out.len() / STREAMS;
    for i in 0..run {
        let together: [&[T]; STREAMS] = std::array::from_fn(|s| &rows[(s * run + i) * dims..][..dims]);
        for (s, sum) in row_sums::<T, STREAMS, true>(together, dims, &term).into_iter().enumerate() {
            out[s * run + i] = sum;
        }
    }
    for i in STREAMS * run..out.len() {
        [out[i]] = row_sums::<T, 1, false>([&rows[i * dims..][..dims]], dims, &term);
    }
}

/// The sums of `R` rows of `dims` values, side by side; of `MORE` to come, lines are asked for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn row_sums<T: Value, const R: usize, const MORE: bool>(
    rows: [&[T]; R],
    dims: usize,
    term: &impl Fn(usize, __m512d, __m512d) -> __m512d,
) -> [f64; R] {
    assert!(rows.iter().all(|row| row.len() == dims));
    let mut sums = [[_mm512_setzero_pd(); LANES / WIDTH]; R];
    let whole = dims - dims % LANES;
    for start in (0..whole).step_by(LANES) {
        for (row, sums) in rows.iter().zip(&mut sums) {
            let block = row.as_ptr().wrapping_add(start);
            for line in 0..if MORE { size_of::<[T; LANES]>() / 64 } else { 0 } {
                _mm_prefetch::<_MM_HINT_T0>(block.wrapping_byte_add(AHEAD + 64 * line).cast());
            }
            for (part, sum) in sums.iter_mut().enumerate() {
                // SAFETY: start + 32 <= dims, the row's length by the assertion.
                let x = unsafe { T::load(block.add(part * WIDTH)) };
                *sum = term(start + part * WIDTH, x, *sum);
            }
        }
    }
    if whole < dims {
        let tail = (1u32 << (dims - whole)) - 1;
        for (row, sums) in rows.iter().zip(&mut sums) {
            for (part, sum) in sums.iter_mut().enumerate() {
                let mask = (tail >> (part * WIDTH)) as u8;
                // SAFETY: the bits of `tail` are the values from `whole` to `dims`, the row's length.
                let x = unsafe { T::load_masked(mask, row.as_ptr().wrapping_add(whole + part * WIDTH)) };
                *sum = term(whole + part * WIDTH, x, *sum);
            }
        }
    }
    sums.map(|sums| reduce(sums))
}

/// Lanes added in halves: 16, 8, 4, 2, 1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn reduce(sums: [__m512d; 4]) -> f64 {
    let by8 = _mm512_add_pd(_mm512_add_pd(sums[0], sums[2]), _mm512_add_pd(sums[1], sums[3]));
    let by4 = _mm256_add_pd(_mm512_castpd512_pd256(by8), _mm512_extractf64x4_pd::<1>(by8));
    let by2 = _mm_add_pd(_mm256_castpd256_pd128(by4), _mm256_extractf128_pd::<1>(by4));
    _mm_cvtsd_f64(_mm_add_sd(by2, _mm_unpackhi_pd(by2, by2)))
}

fn decode_f16(codes: &[u16], out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn gated(codes: &[u16], out: &mut [f32]) {
        for (codes, out) in codes.chunks(16).zip(out.chunks_mut(16)) {
            let mask = first(codes.len());
            // SAFETY: only the first `codes.len()` values are touched, and `out` is as long.
            unsafe {
                let codes = _mm256_maskz_loadu_epi16(mask, codes.as_ptr().cast());
                _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, _mm512_cvtph_ps(codes));
            }
        }
    }
    assert_eq!(codes.len(), out.len());
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe { gated(codes, out) }
}

fn decode_f8(codes: &[i8], scales: &[f32], dims: usize, out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn gated(codes: &[i8], scales: &[f32], dims: usize, out: &mut [f32]) {
        for ((codes, out), &scale) in codes.chunks_exact(dims).zip(out.chunks_exact_mut(dims)).zip(scales) {
            let scale = _mm512_set1_ps(scale);
            for (codes, out) in codes.chunks(16).zip(out.chunks_mut(16)) {
                let mask = first(codes.len());
                // SAFETY: only the first `codes.len()` values are touched, and `out` is as long.
                unsafe {
                    let codes = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, codes.as_ptr()));
                    _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(codes)));
                }
            }
        }
    }
    check_decode_f8(codes, scales, dims, out);
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe { gated(codes, scales, dims, out) }
}

/// A mask of the first `count` of sixteen.
#[inline]
fn first(count: usize) -> __mmask16 {
    (u32::MAX >> (32 - count)) as u16
}

fn tile(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    check_tile(tile, rows, dims, norms, halves, keep);
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe {
        match (tile.width, size_of_val(rows) > NEAR) {
            (16, false) => tile_rows::<1, false>(tile, rows, dims, norms, halves, keep),
            (16, true) => tile_rows::<1, true>(tile, rows, dims, norms, halves, keep),
            (_, false) => tile_rows::<2, false>(tile, rows, dims, norms, halves, keep),
            (_, true) => tile_rows::<2, true>(tile, rows, dims, norms, halves, keep),
        }
    }
}

/// All rows, in groups whose sums fill the registers; `V` registers hold the queries. `FAR` rows
/// are asked for a group ahead.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn tile_rows<const V: usize, const FAR: bool>(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    let mut at = 0;
    while at < keep.len() {
        let group = [12, 4].into_iter().find(|&group| group <= keep.len() - at).unwrap_or(1);
        let some = at..at + group;
        let (rows, norms, halves) = (&rows[at * dims..(at + group) * dims], &norms[some.clone()], &halves[some.clone()]);
        let keep = &mut keep[some];
        match group {
            12 => tile_group::<V, 12, FAR>(tile, rows, dims, norms, halves, keep),
            4 => tile_group::<V, 4, false>(tile, rows, dims, norms, halves, keep),
            _ => tile_group::<V, 1, false>(tile, rows, dims, norms, halves, keep),
        }
        at += group;
    }
}

/// `R` rows against `16 * V` queries: the sums stay in registers until they are bits of `keep`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn tile_group<const V: usize, const R: usize, const FAR: bool>(
    tile: &Tile,
    rows: &[f32],
    dims: usize,
    norms: &[f32],
    halves: &[f32],
    keep: &mut [u32],
) {
    let sums = column_sums::<V, R, FAR>(tile.columns, rows, dims);
    for (r, sums) in sums.iter().enumerate() {
        let (norm, half) = (_mm512_set1_ps(norms[r]), _mm512_set1_ps(halves[r]));
        keep[r] = 0;
        for (v, &sum) in sums.iter().enumerate() {
            let (slope, threshold) = (sixteen(tile.slope, v), sixteen(tile.threshold, v));
            let reach = _mm512_sub_ps(_mm512_fmadd_ps(slope, norm, sum), half);
            keep[r] |= u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(reach, threshold)) << (16 * v);
        }
    }
}

/// Products of `R` rows with `16 * V` columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn column_sums<const V: usize, const R: usize, const FAR: bool>(columns: &[f32], rows: &[f32], dims: usize) -> [[__m512; V]; R] {
    assert!(columns.len() == dims * 16 * V && rows.len() == R * dims);
    let (columns, from) = (columns.as_ptr(), rows.as_ptr());
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for start in (0..dims).step_by(if FAR { 16 } else { dims }) {
        let end = if FAR { dims.min(start + 16) } else { dims };
        for line in 0..if FAR { R } else { 0 } {
            _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add((dims + start) * R + 16 * line).cast());
        }
        for j in start..end {
            let mut values = [_mm512_setzero_ps(); V];
            for (v, value) in values.iter_mut().enumerate() {
                // SAFETY: 16 * V values are numbered j, by the assertion.
                *value = unsafe { _mm512_loadu_ps(columns.add((j * V + v) * 16)) };
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: value j of row r < R, by the assertion.
                let x = _mm512_set1_ps(unsafe { *from.add(r * dims + j) });
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = _mm512_fmadd_ps(value, x, *sum);
                }
            }
        }
    }
    sums
}

fn int16(row: &[f32], frame: &Affine, planes: &mut Planes) -> Int16Row {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn gated(row: &[f32], frame: &Affine, planes: &mut Planes) -> Int16Row {
        int16::round(row, frame, planes)
    }
    int16::check(row, frame, planes);
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe { gated(row, frame, planes) }
}

/// Values `16 * v..16 * v + 16`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn sixteen(values: &[f32], v: usize) -> __m512 {
    let values = &values[16 * v..16 * v + 16];
    // SAFETY: the slice has sixteen values.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}
