//! Vectors of the crate `wide`, for CPUs without a kernel of their own: it compiles to the vector instructions that every
//! CPU of the target has.
//!
//! Four virtual lanes a vector, eight vectors a sum. Tails are padded with zeros, which add +0.0 to their lanes. Decoding
//! uses the scalar loops, which compilers vectorise.

use super::bits::{hamming, hamming_columns};
use super::by_norm::replace as by_norm;
use super::check::{checked, table};
use super::float32_keys::{self, DotAbove, MinusDistance};
use super::int16::round as int16;
use super::lane_max::lanes as lane_max;
use super::scalar::{self, at_least, decode_f8, decode_f16, remainder_dot, rotate, unpack_codes};
use super::{COLUMNS, CoarseQuery, Int8Batch, LANES, Lines, RECONSTRUCTION, Tile, UnpackedCodes, ordered, unpacked_stride};
use wide::{f32x8, f64x4, i16x8, i32x4};

table!(
    /// The table for every CPU.
    "portable"
);

/// Virtual lanes a vector.
const WIDTH: usize = 4;

/// Coordinates whose codes times int16 can be summed in int32: 255 * 32,639 * 256 < 2^31.
const WORDS: usize = 256;

/// Rows of a tile summed at a time: with 16 queries, as many sums as the target has registers for.
const TILE_ROWS: usize = if cfg!(target_arch = "x86_64") { 2 } else { 4 };

fn dot(query: &[f64], rows: &[f32], dims: usize, out: &mut [f64]) {
    // Fused where the target has the instruction: products of two float32 are exact in float64.
    sums(rows, dims, out, |at, x, sum| four(query, at).mul_add(x, sum));
}

fn dot_f64(query: &[f64], rows: &[f64], dims: usize, out: &mut [f64]) {
    sums(rows, dims, out, |at, x, sum| sum + four(query, at) * x);
}

fn squared_distance(query: &[f64], rows: &[f32], dims: usize, out: &mut [f64]) {
    sums(rows, dims, out, |at, x, sum| squared_difference(four(query, at), x, sum));
}

fn squared_distance_f64(query: &[f64], rows: &[f64], dims: usize, out: &mut [f64]) {
    sums(rows, dims, out, |at, x, sum| squared_difference(four(query, at), x, sum));
}

fn dot_at(query: &[f64], rows: &[f32], dims: usize, places: &[u32], out: &mut [f64]) {
    for (&place, out) in places.iter().zip(out) {
        dot(query, &rows[place as usize * dims..][..dims], dims, std::slice::from_mut(out));
    }
}

fn squared_distance_at(query: &[f64], rows: &[f32], dims: usize, places: &[u32], out: &mut [f64]) {
    for (&place, out) in places.iter().zip(out) {
        squared_distance(query, &rows[place as usize * dims..][..dims], dims, std::slice::from_mut(out));
    }
}

fn squared_norm(rows: &[f32], dims: usize, out: &mut [f64]) {
    sums(rows, dims, out, |_, x, sum| x.mul_add(x, sum));
}

fn squared_norm_f64(rows: &[f64], dims: usize, out: &mut [f64]) {
    sums(rows, dims, out, |_, x, sum| sum + x * x);
}

#[inline(always)]
fn squared_difference(q: f64x4, x: f64x4, sum: f64x4) -> f64x4 {
    let difference = q - x;
    sum + difference * difference
}

/// Values `at..at + 4` of a padded query.
#[inline(always)]
fn four(query: &[f64], at: usize) -> f64x4 {
    f64x4::new(query.as_chunks::<WIDTH>().0[at / WIDTH])
}

/// `out[i]` receives the sum of row i: `term(at, x, sum)` adds values `at..at + 4` to their lanes.
#[inline(always)]
fn sums<T: Copy + Default + Into<f64>>(rows: &[T], dims: usize, out: &mut [f64], term: impl Fn(usize, f64x4, f64x4) -> f64x4) {
    for (row, out) in rows.chunks_exact(dims).zip(out) {
        let mut sums = [f64x4::ZERO; LANES / WIDTH];
        let (blocks, tail) = row.as_chunks::<LANES>();
        for (b, block) in blocks.iter().enumerate() {
            add_block(b * LANES, block, &mut sums, &term);
        }
        if !tail.is_empty() {
            let mut block = [T::default(); LANES];
            block[..tail.len()].copy_from_slice(tail);
            add_block(blocks.len() * LANES, &block, &mut sums, &term);
        }
        *out = reduce(sums);
    }
}

#[inline(always)]
fn add_block<T: Copy + Into<f64>>(
    start: usize,
    block: &[T; LANES],
    sums: &mut [f64x4; LANES / WIDTH],
    term: &impl Fn(usize, f64x4, f64x4) -> f64x4,
) {
    for (part, (values, sum)) in block.as_chunks::<WIDTH>().0.iter().zip(sums).enumerate() {
        *sum = term(start + part * WIDTH, f64x4::new(values.map(Into::into)), *sum);
    }
}

/// Lanes added in halves: 16, 8, 4, 2, 1.
#[inline(always)]
fn reduce(s: [f64x4; LANES / WIDTH]) -> f64 {
    let by16 = [s[0] + s[4], s[1] + s[5], s[2] + s[6], s[3] + s[7]];
    let by8 = [by16[0] + by16[2], by16[1] + by16[3]];
    let [a, b, c, d] = (by8[0] + by8[1]).to_array();
    (a + c) + (b + d)
}

fn dot_above(query: &[f32], rows: &[f32], dims: usize, slack: f32, out: &mut [f32]) {
    float32_keys::sums(query, rows, dims, out, DotAbove { slack });
}

fn dot_above_f64(query: &[f64], rows: &[f64], dims: usize, slack: f32, out: &mut [f32]) {
    float32_keys::sums(query, rows, dims, out, DotAbove { slack });
}

fn minus_distance(query: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    float32_keys::sums(query, rows, dims, out, MinusDistance);
}

fn minus_distance_f64(query: &[f64], rows: &[f64], dims: usize, out: &mut [f32]) {
    float32_keys::sums(query, rows, dims, out, MinusDistance);
}

fn tile(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    keep.fill(0);
    for first in (0..tile.width).step_by(16) {
        let whole = keep.len() - keep.len() % TILE_ROWS;
        for r in (0..whole).step_by(TILE_ROWS) {
            tile_group::<TILE_ROWS>(tile, first, &rows[r * dims..], dims, &norms[r..], &halves[r..], &mut keep[r..]);
        }
        for r in whole..keep.len() {
            tile_group::<1>(tile, first, &rows[r * dims..], dims, &norms[r..], &halves[r..], &mut keep[r..]);
        }
    }
}

/// The first `R` rows against queries `first..first + 16`; sets their bits.
#[inline(always)]
fn tile_group<const R: usize>(tile: &Tile, first: usize, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    let sums = column_sums::<R>(tile.columns, tile.width, first, rows, dims);
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            let at = first + 8 * v;
            let reach = eight(tile.slope, at).mul_add(f32x8::splat(norms[r]), sum) - f32x8::splat(halves[r]);
            keep[r] |= reach.simd_ge(eight(tile.threshold, at)).to_bitmask() << at;
        }
    }
}

/// Products of the first `R` rows with columns `first..first + 16` out of `width`.
#[inline(always)]
fn column_sums<const R: usize>(columns: &[f32], width: usize, first: usize, rows: &[f32], dims: usize) -> [[f32x8; 2]; R] {
    let rows: [&[f32]; R] = std::array::from_fn(|r| &rows[r * dims..][..dims]);
    let mut sums = [[f32x8::ZERO; 2]; R];
    for (j, column) in columns.chunks_exact(width).enumerate().take(dims) {
        let column = [eight(column, first), eight(column, first + 8)];
        for (row, sums) in rows.iter().zip(&mut sums) {
            let x = f32x8::splat(row[j]);
            for (sum, column) in sums.iter_mut().zip(column) {
                *sum = column.mul_add(x, *sum);
            }
        }
    }
    sums
}

// Inlined into the function that checks lengths, it compiles to a loop that is 3 % slower.
#[inline(never)]
fn products(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    let count = out.len() / COLUMNS;
    let whole = count - count % TILE_ROWS;
    for first in (0..COLUMNS).step_by(16) {
        for r in (0..whole).step_by(TILE_ROWS) {
            add_products::<TILE_ROWS>(columns, first, &rows[r * dims..], dims, &mut out[r * COLUMNS..]);
        }
        for r in whole..count {
            add_products::<1>(columns, first, &rows[r * dims..], dims, &mut out[r * COLUMNS..]);
        }
    }
}

/// Adds the products of the first `R` rows with columns `first..first + 16`.
#[inline(always)]
fn add_products<const R: usize>(columns: &[f32], first: usize, rows: &[f32], dims: usize, out: &mut [f32]) {
    let sums = column_sums::<R>(columns, COLUMNS, first, rows, dims);
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(COLUMNS)) {
        for (&sum, out) in sums.iter().zip(out[first..first + 16].as_chunks_mut::<8>().0) {
            *out = (f32x8::new(*out) + sum).to_array();
        }
    }
}

fn ordered(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    ordered::sums::<TILE_ROWS, 16>(columns, rows, dims, out);
}

/// Values `at..at + 8`.
#[inline(always)]
fn eight(values: &[f32], at: usize) -> f32x8 {
    f32x8::new(values.as_chunks::<8>().0[at / 8])
}

fn bounds(probes: &[CoarseQuery], lines: &Lines, out: &mut [f32]) {
    let (codes, blocks) = (lines.codes.as_chunks::<64>().0, lines.offsets.len() / 16);
    for (at, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (probe, block) = (&probes[at / blocks], at % blocks);
        let size = probe.high.len() / 8;
        let (high, low) = block_sums(probe, &codes[block * size..][..size]);
        for (lane, bound) in out.iter_mut().enumerate() {
            *bound = scalar::row_bound(probe, lines, 16 * block + lane, high[lane], low[lane]);
        }
    }
}

/// For each row of a block the sums of [`RECONSTRUCTION`] times the bytes of a plane, `(high, low)`.
#[inline(always)]
fn block_sums(probe: &CoarseQuery, lines: &[[u8; 64]]) -> ([i32; 16], [i32; 16]) {
    let mut sums = [[i32x4::ZERO; 4]; 2];
    for (g, line) in lines.iter().enumerate() {
        let planes = [probe.high, probe.low].map(|plane| plane.as_chunks::<8>().0.get(g).map(pairs));
        for (part, rows) in line.as_chunks::<16>().0.iter().enumerate() {
            let words: [u16; 8] = std::array::from_fn(|i| u16::from_le_bytes([rows[2 * i], rows[2 * i + 1]]));
            let levels =
                [0, 4, 8, 12].map(|shift| i16x8::new(words.map(|word| i16::from(RECONSTRUCTION[usize::from(word >> shift & 15)]))));
            for (sums, plane) in sums.iter_mut().zip(planes).filter_map(|(sums, plane)| Some((sums, plane?))) {
                for (levels, bytes) in levels.into_iter().zip(plane) {
                    sums[part] += levels.dot(bytes);
                }
            }
        }
    }
    let [high, low] = sums.map(|sums| std::array::from_fn(|row| sums[row / 4].to_array()[row % 4]));
    (high, low)
}

/// The bytes of a plane that the four nibbles of a row's two int16 are multiplied with, from the lowest nibble up.
#[inline(always)]
fn pairs(plane: &[i8; 8]) -> [i16x8; 4] {
    [0, 4, 1, 5].map(|j| {
        let pair = [i16::from(plane[j]), i16::from(plane[j + 2])];
        bytemuck::cast(i32x4::splat(bytemuck::cast(pair)))
    })
}

fn int8_batch(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
    let stride = unpacked_stride(int8_batch.dims);
    scalar::keep_rows(int8_batch, wide, bounds, keep, |block, i| {
        let words = &int8_batch.words[i * stride..][..int8_batch.dims];
        word_sums(words, wide.codes[16 * stride * block..][..16 * stride].as_chunks::<64>().0)
    });
}

/// For each row of a block the sum of codes times int16, in two parts: 256 times the first, plus the second.
#[inline(always)]
fn word_sums(words: &[i16], block: &[[u8; 64]]) -> [[i32; 16]; 2] {
    let mut sums = [[0; 16]; 2];
    for (words, groups) in words.chunks(WORDS).zip(block.chunks(WORDS / 4)) {
        let mut narrow = [i32x4::ZERO; 4];
        for (&[a, b, c, d], group) in words.as_chunks::<4>().0.iter().zip(groups) {
            let [even, odd]: [i16x8; 2] = [[a, c], [b, d]].map(|pair| bytemuck::cast(i32x4::splat(bytemuck::cast(pair))));
            for (rows, sum) in group.as_chunks::<16>().0.iter().zip(&mut narrow) {
                let codes = i16x8::new(std::array::from_fn(|i| i16::from_le_bytes([rows[2 * i], rows[2 * i + 1]])));
                let [first, last] = [codes, codes >> 8].map(|codes| codes & i16x8::splat(255));
                *sum += first.dot(even);
                *sum += last.dot(odd);
            }
        }
        for (lane, sum) in narrow.iter().flat_map(|sum| sum.to_array()).enumerate() {
            sums[0][lane] += sum >> 8;
            sums[1][lane] += sum & 255;
        }
    }
    sums
}
