//! [`Kernel::bounds`](crate::kernel::Kernel::bounds) with AVX2: a line is two registers, and lane i
//! of a sum belongs to row i of its half of the block. Pairs of products fit int16: 2 * 127 * 128 < 2^15.

use crate::kernel::lane_max::lanes;
use crate::kernel::{CoarseQuery, Lines, RECONSTRUCTION, check_bounds};
use std::arch::x86_64::*;

/// How far ahead of a block's loads its lines are asked for, in bytes: of 0 to 32 K, 2 K was the
/// fastest from memory on Sapphire Rapids.
const AHEAD: usize = 2048;

/// Sums of cells times plane bytes of half the rows of a block, less those of the probe.
#[derive(Clone, Copy)]
struct Sums {
    high: __m256i,
    low: __m256i,
}

/// One bound a row, probe after probe.
pub fn bounds(probes: &[CoarseQuery], lines: &Lines, out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn gated<const LOW: bool>(probe: &CoarseQuery, lines: &Lines, out: &mut [f32]) {
        let (codes, size) = (lines.codes.as_chunks::<64>().0, probe.high.len() / 8);
        let (blocks, run) = (out.len() / 16, out.len() / 32);
        // A block of either half at a time: two streams reach more of the memory's speed than one.
        // Of an odd number of blocks the middle one is bounded twice.
        for block in (0..blocks - run).flat_map(|one| [one, one + run]) {
            for (half, sums) in sums::<LOW>(probe, &codes[block * size..][..size]).into_iter().enumerate() {
                finish(probe, lines, sums, 2 * block + half, out);
            }
        }
    }
    check_bounds(probes, lines, out);
    for (i, probe) in probes.iter().enumerate() {
        let out = &mut out[i * lines.offsets.len()..][..lines.offsets.len()];
        // SAFETY: `available` lists this function's table only where the CPU has these features.
        unsafe { if probe.low.is_empty() { gated::<false>(probe, lines, out) } else { gated::<true>(probe, lines, out) } }
    }
}

/// The sums of either half of a block, of the low plane if there is one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sums<const LOW: bool>(probe: &CoarseQuery, block: &[[u8; 64]]) -> [Sums; 2] {
    let (nibble, ones, levels) = (_mm256_set1_epi8(0x0f), _mm256_set1_epi16(1), levels());
    let mut sums = [Sums { high: _mm256_set1_epi32(-probe.high_sum), low: _mm256_set1_epi32(-probe.low_sum) }; 2];
    for (line, (high, low)) in block.iter().zip(planes(probe)) {
        _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(AHEAD).cast());
        for (half, sums) in line.as_chunks::<32>().0.iter().zip(&mut sums) {
            // SAFETY: an array of 32 bytes.
            let codes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
            let first = _mm256_shuffle_epi8(levels, _mm256_and_si256(codes, nibble));
            let last = _mm256_shuffle_epi8(levels, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble));
            for (levels, i) in [(first, 0), (last, 1)] {
                sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(_mm256_maddubs_epi16(levels, high[i]), ones));
                if LOW {
                    sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(_mm256_maddubs_epi16(levels, low[i]), ones));
                }
            }
        }
    }
    sums
}

/// [`RECONSTRUCTION`] in either half of a register.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn levels() -> __m256i {
    // SAFETY: an array of sixteen bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(RECONSTRUCTION.as_ptr().cast()) })
}

/// For each line, both halves of either plane in every lane: `(high, low)`; of an empty plane, those of the other.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn planes(probe: &CoarseQuery) -> impl Iterator<Item = ([__m256i; 2], [__m256i; 2])> {
    let halves = |plane: &[[i8; 4]; 2]| [every_lane(&plane[0]), every_lane(&plane[1])];
    let low = if probe.low.is_empty() { probe.high } else { probe.low };
    let [high, low] = [probe.high, low].map(|plane| plane.as_chunks::<4>().0.as_chunks::<2>().0);
    high.iter().zip(low).map(move |(high, low)| (halves(high), halves(low)))
}

/// Four bytes in every lane, loaded as one: made from bytes, they take the port that sums need.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn every_lane(bytes: &[i8; 4]) -> __m256i {
    // SAFETY: an array of four bytes.
    _mm256_set1_epi32(unsafe { bytes.as_ptr().cast::<i32>().read_unaligned() })
}

/// The bounds of rows `8 * half..8 * half + 8` from their sums.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn finish(probe: &CoarseQuery, lines: &Lines, sums: Sums, half: usize, out: &mut [f32]) {
    let add = |sum: __m256, a: __m256, b: __m256| _mm256_add_ps(sum, _mm256_mul_ps(a, b));
    let sum = add(_mm256_cvtepi32_ps(sums.low), _mm256_set1_ps(256.0), _mm256_cvtepi32_ps(sums.high));
    // SAFETY: eight values.
    let offset = unsafe { _mm256_loadu_ps(lines.offsets.as_chunks::<8>().0[half].as_ptr()) };
    let bound = add(_mm256_add_ps(offset, _mm256_set1_ps(probe.base)), sum, _mm256_set1_ps(probe.step));
    let bound = add(bound, _mm256_set1_ps(probe.leading), residuals(lines.leading, half));
    let bound = add(bound, _mm256_set1_ps(probe.trailing), residuals(lines.trailing, half));
    // SAFETY: eight values.
    unsafe { _mm256_storeu_ps(out.as_chunks_mut::<8>().0[half].as_mut_ptr(), bound) };
}

/// The residuals of rows `8 * half..8 * half + 8`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn residuals(halves: &[u16], half: usize) -> __m256 {
    // SAFETY: eight values.
    let halves = unsafe { _mm_loadu_si128(halves.as_chunks::<8>().0[half].as_ptr().cast()) };
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
}

pub fn lane_max(bounds: &[f32], most: &mut [f32]) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn gated(bounds: &[f32], most: &mut [f32]) {
        lanes(bounds, most);
    }
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe { gated(bounds, most) }
}
