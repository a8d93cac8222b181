//! The definition: plain loops whose results every other kernel must return, bit for bit.

use super::bits::{hamming, hamming_columns};
use super::by_norm::replace as by_norm;
use super::check::{checked, table};
use super::float32_keys::{DotAbove, MinusDistance, Term, Value};
use super::int16::round as int16;
use super::lane_max::lanes as lane_max;
use super::ordered::sums;
use super::{COLUMNS, CoarseQuery, Int8Batch, LANES, LEVEL_TO_BYTE, Lines, RECONSTRUCTION, Tile, UnpackedCodes, unpacked_stride};

table!(
    /// The table of plain loops.
    "scalar"
);

/// The sum of `terms`, in 32 lanes added in halves.
#[inline(always)]
fn lane_sum(terms: impl Iterator<Item = f64>) -> f64 {
    let mut lanes = [0.0f64; LANES];
    for (j, term) in terms.enumerate() {
        lanes[j % LANES] += term;
    }
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn row_sums<T: Copy + Into<f64>>(query: &[f64], rows: &[T], dims: usize, out: &mut [f64], term: impl Fn(f64, f64) -> f64) {
    for (row, sum) in rows.chunks_exact(dims).zip(out) {
        *sum = lane_sum(query.iter().zip(row).map(|(&q, &x)| term(q, x.into())));
    }
}

#[inline(always)]
fn dot(query: &[f64], rows: &[f32], dims: usize, out: &mut [f64]) {
    row_sums(query, rows, dims, out, |q, x| q * x);
}

#[inline(always)]
fn dot_f64(query: &[f64], rows: &[f64], dims: usize, out: &mut [f64]) {
    row_sums(query, rows, dims, out, |q, x| q * x);
}

#[inline(always)]
fn squared_distance(query: &[f64], rows: &[f32], dims: usize, out: &mut [f64]) {
    row_sums(query, rows, dims, out, |q, x| (q - x) * (q - x));
}

#[inline(always)]
fn squared_distance_f64(query: &[f64], rows: &[f64], dims: usize, out: &mut [f64]) {
    row_sums(query, rows, dims, out, |q, x| (q - x) * (q - x));
}

#[inline(always)]
fn dot_at(query: &[f64], rows: &[f32], dims: usize, places: &[u32], out: &mut [f64]) {
    for (&place, out) in places.iter().zip(out) {
        dot(query, &rows[place as usize * dims..][..dims], dims, std::slice::from_mut(out));
    }
}

#[inline(always)]
fn squared_distance_at(query: &[f64], rows: &[f32], dims: usize, places: &[u32], out: &mut [f64]) {
    for (&place, out) in places.iter().zip(out) {
        squared_distance(query, &rows[place as usize * dims..][..dims], dims, std::slice::from_mut(out));
    }
}

#[inline(always)]
fn squared_norm(rows: &[f32], dims: usize, out: &mut [f64]) {
    for (row, sum) in rows.chunks_exact(dims).zip(out) {
        *sum = lane_sum(row.iter().map(|&x| f64::from(x) * f64::from(x)));
    }
}

#[inline(always)]
fn squared_norm_f64(rows: &[f64], dims: usize, out: &mut [f64]) {
    for (row, sum) in rows.chunks_exact(dims).zip(out) {
        *sum = lane_sum(row.iter().map(|&x| x * x));
    }
}

#[inline(always)]
fn float32_keys<T: Value>(query: &[T], rows: &[T], dims: usize, out: &mut [f32], term: impl Term) {
    for (row, sum) in rows.chunks_exact(dims).zip(out) {
        *sum = query.iter().zip(row).map(|(&q, &x)| term.of(q, x)).sum();
    }
}

fn dot_above(query: &[f32], rows: &[f32], dims: usize, slack: f32, out: &mut [f32]) {
    float32_keys(query, rows, dims, out, DotAbove { slack });
}

fn dot_above_f64(query: &[f64], rows: &[f64], dims: usize, slack: f32, out: &mut [f32]) {
    float32_keys(query, rows, dims, out, DotAbove { slack });
}

fn minus_distance(query: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    float32_keys(query, rows, dims, out, MinusDistance);
}

fn minus_distance_f64(query: &[f64], rows: &[f64], dims: usize, out: &mut [f32]) {
    float32_keys(query, rows, dims, out, MinusDistance);
}

#[inline(always)]
pub(super) fn decode_f16(codes: &[u16], out: &mut [f32]) {
    for (value, &code) in out.iter_mut().zip(codes) {
        *value = f16_to_f32(code);
    }
}

/// One binary16 value as float32, exactly (IEEE 754-2019, 3.4 and 3.6); a NaN becomes quiet, as in hardware.
#[inline(always)]
pub(super) fn f16_to_f32(code: u16) -> f32 {
    let sign = u32::from(code & 0x8000) << 16;
    let exponent = u32::from(code >> 10 & 0x1f);
    let fraction = u32::from(code & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: a multiple of 2^-24, exact in float32.
        0 => (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits(),
        31 => 0x7f80_0000 | fraction << 13 | u32::from(fraction != 0) << 22,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[inline(always)]
pub(super) fn decode_f8(codes: &[i8], scales: &[f32], dims: usize, out: &mut [f32]) {
    for ((row, values), &scale) in codes.chunks_exact(dims).zip(out.chunks_exact_mut(dims)).zip(scales) {
        for (value, &code) in values.iter_mut().zip(row) {
            *value = scale * f32::from(code);
        }
    }
}

fn tile(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    let width = tile.width;
    for (r, row) in rows.chunks_exact(dims).enumerate() {
        let mut sums = [0.0f32; 32];
        for (&x, column) in row.iter().zip(tile.columns.chunks_exact(width)) {
            for (sum, &q) in sums.iter_mut().zip(column) {
                *sum += q * x;
            }
        }
        keep[r] = (0..width).fold(0, |bits, i| {
            let reached = (sums[i] + tile.slope[i] * norms[r]) - halves[r] >= tile.threshold[i];
            bits | u32::from(reached) << i
        });
    }
}

fn products(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(dims).zip(out.chunks_exact_mut(COLUMNS)) {
        let mut sums = [0.0f32; COLUMNS];
        for (&x, column) in row.iter().zip(columns.as_chunks::<COLUMNS>().0) {
            sums.iter_mut().zip(column).for_each(|(sum, &c)| *sum += c * x);
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
}

fn ordered(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    sums::<1, 16>(columns, rows, dims, out);
}

#[inline(always)]
pub(super) fn rotate(columns: &[i16], rows: &[i16], out: &mut [i32]) {
    let dims = columns.len() / COLUMNS;
    for (row, out) in rows.chunks_exact(dims).zip(out.chunks_exact_mut(COLUMNS)) {
        out.fill(0);
        for (words, pairs) in row.as_chunks::<2>().0.iter().zip(columns.chunks_exact(2 * COLUMNS)) {
            for (sum, pair) in out.iter_mut().zip(pairs.as_chunks::<2>().0) {
                let products = [0, 1].map(|i| i32::from(words[i]) * i32::from(pair[i]));
                *sum = sum.wrapping_add(products[0]).wrapping_add(products[1]);
            }
        }
    }
}

fn bounds(probes: &[CoarseQuery], lines: &Lines, out: &mut [f32]) {
    for (at, bound) in out.iter_mut().enumerate() {
        let (probe, row) = (&probes[at / lines.offsets.len()], at % lines.offsets.len());
        let (block, lane) = (row / 16, row % 16);
        let (mut high, mut low) = (0, 0);
        for j in 0..probe.high.len() {
            let line = block * (probe.high.len() / 8) + j / 8;
            let byte = lines.codes[64 * line + 4 * lane + j % 4];
            let level = i32::from(RECONSTRUCTION[usize::from(byte >> (j % 8 / 4 * 4) & 15)]);
            high += level * i32::from(probe.high[j]);
            low += level * i32::from(probe.low.get(j).copied().unwrap_or(0));
        }
        *bound = row_bound(probe, lines, row, high, low);
    }
}

/// The bound of `row` from its sums of cells times plane bytes.
#[inline(always)]
pub(super) fn row_bound(probe: &CoarseQuery, lines: &Lines, row: usize, high: i32, low: i32) -> f32 {
    let half = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    let sum = 256.0 * (high - probe.high_sum) as f32 + (low - probe.low_sum) as f32;
    sum * probe.step
        + (lines.offsets[row] + probe.base)
        + probe.leading * half(lines.leading[row])
        + probe.trailing * half(lines.trailing[row])
}

#[inline(always)]
pub(super) fn at_least(bounds: &[f32], threshold: f32, places: &mut [u32]) -> usize {
    let mut count = 0;
    // Without a branch: every index is written, and the next overwrites it unless it was counted.
    for (place, &bound) in bounds.iter().enumerate() {
        places[count] = place as u32;
        count += usize::from(!matches!(bound.partial_cmp(&threshold), Some(std::cmp::Ordering::Less)));
    }
    count
}

#[inline(always)]
pub(super) fn remainder_dot(words: &[i16], half: usize, codes: &[u8]) -> i64 {
    let (pairs, others) = codes.split_at(half);
    let product = |code: i32, word: &i16| i64::from(code * i32::from(*word));
    let nibbles = pairs.iter().zip(words).map(|(&byte, word)| product(i32::from(byte & 15), word)).sum::<i64>()
        + pairs.iter().zip(&words[half..]).map(|(&byte, word)| product(i32::from(byte >> 4), word)).sum::<i64>();
    nibbles + others.iter().zip(&words[2 * half..]).map(|(&byte, word)| product(i32::from(byte as i8), word)).sum::<i64>()
}

#[inline(always)]
pub(super) fn unpack_codes(lines: &[u8], remainder: &[u8], remainder_bytes: usize, leading: usize, out: &mut [u8]) {
    let half = leading / 2;
    for (lane, remainder) in remainder.chunks_exact(remainder_bytes).enumerate() {
        let (pairs, others) = remainder.split_at(half);
        let level = |j: usize| RECONSTRUCTION[usize::from(lines[64 * (j / 8) + 4 * lane + j % 4] >> (j % 8 / 4 * 4) & 15)] + LEVEL_TO_BYTE;
        let mut put = |j: usize, code: u8| out[64 * (j / 4) + 4 * lane + j % 4] = code;
        for (j, &byte) in pairs.iter().enumerate() {
            put(j, level(j) + (byte & 15));
            put(half + j, level(half + j) + (byte >> 4));
        }
        others.iter().enumerate().for_each(|(j, &byte)| put(leading + j, byte ^ 128));
    }
}

fn int8_batch(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
    let stride = unpacked_stride(int8_batch.dims);
    keep_rows(int8_batch, wide, bounds, keep, |block, i| {
        let code = |j: usize, lane: usize| i32::from(wide.codes[16 * stride * block + 64 * (j / 4) + 4 * lane + j % 4]);
        [int8_batch.high, int8_batch.low]
            .map(|plane| std::array::from_fn(|lane| (0..int8_batch.dims).map(|j| code(j, lane) * i32::from(plane[i * stride + j])).sum()))
    });
}

/// The bounds of every block for every query i, and which of them are not below the threshold; `sums(block, i)` are those of
/// the block's rows, high and low.
#[inline(always)]
pub(super) fn keep_rows(
    int8_batch: &Int8Batch,
    wide: &UnpackedCodes,
    bounds: &mut [f32],
    keep: &mut [u16],
    sums: impl Fn(usize, usize) -> [[i32; 16]; 2],
) {
    for (at, (kept, bounds)) in keep.iter_mut().zip(bounds.as_chunks_mut::<16>().0).enumerate() {
        let Some(factors) = int8_batch.factors.get(at % 16) else { continue };
        let [high, low] = sums(at / 16, at % 16);
        *kept = 0;
        for (lane, bound) in bounds.iter_mut().enumerate() {
            let row = at / 16 * 16 + lane;
            let sum = 256.0 * (high[lane] - factors.high_sum) as f32 + (low[lane] - factors.low_sum) as f32;
            *bound = sum * factors.step + (wide.offsets[row] + factors.base) + factors.residual * wide.residuals[row];
            // NaN is not below.
            let below = *bound < factors.threshold;
            *kept |= u16::from(!below) << lane;
        }
    }
}
