//! [`Kernel::bounds`](crate::kernel::Kernel::bounds) with AVX2: 64 bytes of codes are two registers, and lane i of a sum
//! belongs to row i of its half of the block. Sums of two products fit int16: 2 * 127 * 128 < 2^15.

use super::registers::*;
use crate::kernel::vector::line_bounds;
use crate::kernel::{CoarseQuery, Lines, RECONSTRUCTION};
use std::arch::x86_64::*;

/// How far ahead of loads codes are prefetched, in bytes: of 0 to 32 K, 2 K was the fastest from memory on Sapphire Rapids.
const AHEAD: usize = 2048;

line_bounds!(target_feature(enable = "avx2,fma,f16c"));

/// The bounds of all rows for each query in turn.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn bounds(probes: &[CoarseQuery], lines: &Lines, out: &mut [f32]) {
    for (i, probe) in probes.iter().enumerate() {
        let out = &mut out[i * lines.offsets.len()..][..lines.offsets.len()];
        if probe.low.is_empty() { each_row::<false>(probe, lines, out) } else { each_row::<true>(probe, lines, out) }
    }
}

/// The bounds of all rows for one query, which has a low plane if `LOW`.
#[target_feature(enable = "avx2,fma,f16c")]
fn each_row<const LOW: bool>(probe: &CoarseQuery, lines: &Lines, out: &mut [f32]) {
    let (codes, size) = (lines.codes.as_chunks::<64>().0, probe.high.len() / 8);
    let (blocks, run) = (out.len() / 16, out.len() / 32);
    // A block of either half of the rows in turn: reading two streams is faster than one. Of an odd number of blocks the
    // middle one is bounded twice.
    for block in (0..blocks - run).flat_map(|one| [one, one + run]) {
        for (half, sums) in sums::<LOW>(probe, &codes[block * size..][..size]).into_iter().enumerate() {
            finish(probe, lines, sums, 2 * block + half, out);
        }
    }
}

/// The sums of either half of a block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sums<const LOW: bool>(probe: &CoarseQuery, block: &[[u8; 64]]) -> [Sums; 2] {
    let (ones, levels) = (_mm256_set1_epi16(1), levels());
    let mut sums = [Sums { high: _mm256_set1_epi32(-probe.high_sum), low: _mm256_set1_epi32(-probe.low_sum) }; 2];
    for (line, (high, low)) in block.iter().zip(planes(probe)) {
        _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(AHEAD).cast());
        for (half, sums) in line.as_chunks::<32>().0.iter().zip(&mut sums) {
            // SAFETY: an array of 32 bytes.
            let codes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
            for (i, levels) in both(levels, codes).into_iter().enumerate() {
                sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(_mm256_maddubs_epi16(levels, high[i]), ones));
                if LOW {
                    sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(_mm256_maddubs_epi16(levels, low[i]), ones));
                }
            }
        }
    }
    sums
}

/// For each 64 bytes of codes, the 8 bytes of either plane, four to a lane: `(high, low)`. An empty low plane is replaced
/// by the high one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn planes(probe: &CoarseQuery) -> impl Iterator<Item = ([__m256i; 2], [__m256i; 2])> {
    let halves = |plane: &[[i8; 4]; 2]| [every_lane(&plane[0]), every_lane(&plane[1])];
    let low = if probe.low.is_empty() { probe.high } else { probe.low };
    let [high, low] = [probe.high, low].map(|plane| plane.as_chunks::<4>().0.as_chunks::<2>().0);
    high.iter().zip(low).map(move |(high, low)| (halves(high), halves(low)))
}
