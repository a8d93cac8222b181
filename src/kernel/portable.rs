//! Vectors of the crate `wide`: any target, whatever it was compiled for, so that a CPU without a
//! kernel of its own still adds several lanes at once.
//!
//! Four virtual lanes a vector, eight vectors a sum. Tails are copied between zeros, which add +0.0
//! to their lanes. The decoding loops are the scalar ones: compilers make vectors of them.

use super::{
    COLUMNS, CoarseQuery, Int8Batch, Kernel, LANES, Lines, RECONSTRUCTION, Tile, UnpackedCodes, check_bounds, check_int8_batch,
    check_norms, check_products, check_sums, check_tile, ordered, scalar, unpacked_stride,
};
use wide::{f32x8, f64x4, i16x8, i32x4};

/// The table for every CPU.
pub static KERNEL: Kernel = Kernel {
    name: "portable",
    dot,
    dot_f64,
    squared_distance,
    squared_distance_f64,
    squared_norm,
    squared_norm_f64,
    decode_f16: scalar::KERNEL.decode_f16,
    decode_f8: scalar::KERNEL.decode_f8,
    tile,
    products,
    ordered,
    rotate: scalar::rotate,
    bounds,
    at_least: scalar::KERNEL.at_least,
    lane_max: scalar::KERNEL.lane_max,
    remainder_dot: scalar::KERNEL.remainder_dot,
    unpack_codes: scalar::KERNEL.unpack_codes,
    int8_batch,
    int16: scalar::KERNEL.int16,
};

/// Virtual lanes a vector.
const WIDTH: usize = 4;

/// Coordinates whose codes times words int32 holds: 255 * 32,639 * 256 < 2^31.
const WORDS: usize = 256;

/// Rows of a tile summed side by side: with 16 queries, as many sums as the target has registers for.
const TILE_ROWS: usize = if cfg!(target_arch = "x86_64") { 2 } else { 4 };

fn dot(query: &[f64], rows: &[f32], dims: usize, out: &mut [f64]) {
    check_sums(query, rows, dims, out);
    // Fused where the target can: products of two float32 are exact in float64.
    sums(rows, dims, out, |at, x, sum| four(query, at).mul_add(x, sum));
}

fn dot_f64(query: &[f64], rows: &[f64], dims: usize, out: &mut [f64]) {
    check_sums(query, rows, dims, out);
    sums(rows, dims, out, |at, x, sum| sum + four(query, at) * x);
}

fn squared_distance(query: &[f64], rows: &[f32], dims: usize, out: &mut [f64]) {
    check_sums(query, rows, dims, out);
    sums(rows, dims, out, |at, x, sum| squared_difference(four(query, at), x, sum));
}

fn squared_distance_f64(query: &[f64], rows: &[f64], dims: usize, out: &mut [f64]) {
    check_sums(query, rows, dims, out);
    sums(rows, dims, out, |at, x, sum| squared_difference(four(query, at), x, sum));
}

fn squared_norm(rows: &[f32], dims: usize, out: &mut [f64]) {
    check_norms(rows, dims, out);
    sums(rows, dims, out, |_, x, sum| x.mul_add(x, sum));
}

fn squared_norm_f64(rows: &[f64], dims: usize, out: &mut [f64]) {
    check_norms(rows, dims, out);
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

fn tile(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    check_tile(tile, rows, dims, norms, halves, keep);
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

fn products(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    check_products(columns, rows, dims, out);
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
    check_products(columns, rows, dims, out);
    ordered::sums::<TILE_ROWS, 16>(columns, rows, dims, out);
}

/// Values `at..at + 8`.
#[inline(always)]
fn eight(values: &[f32], at: usize) -> f32x8 {
    f32x8::new(values.as_chunks::<8>().0[at / 8])
}

fn bounds(probes: &[CoarseQuery], lines: &Lines, out: &mut [f32]) {
    check_bounds(probes, lines, out);
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

/// Sums of cells times plane bytes of the rows of a block, `(high, low)`.
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

/// What multiplies the four nibbles of a row's two words: first, second, third and fourth from below.
#[inline(always)]
fn pairs(plane: &[i8; 8]) -> [i16x8; 4] {
    [0, 4, 1, 5].map(|j| {
        let pair = [i16::from(plane[j]), i16::from(plane[j + 2])];
        bytemuck::cast(i32x4::splat(bytemuck::cast(pair)))
    })
}

fn int8_batch(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
    check_int8_batch(int8_batch, wide, bounds, keep);
    let stride = unpacked_stride(int8_batch.dims);
    for (block, codes) in wide.codes.chunks_exact(16 * stride).enumerate() {
        for (i, factors) in int8_batch.factors.iter().enumerate() {
            let (at, words) = (16 * block + i, &int8_batch.words[i * stride..][..int8_batch.dims]);
            let sums = word_sums(words, codes.as_chunks::<64>().0);
            let sums = std::array::from_fn(|lane| [sums[0][lane] - factors.high_sum, sums[1][lane] - factors.low_sum]);
            keep[at] = scalar::block_keep(factors, wide, block, sums, &mut bounds[16 * at..][..16]);
        }
    }
}

/// Sums of codes times words of the rows of a block, in two parts: 256 times the first, plus the second.
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
