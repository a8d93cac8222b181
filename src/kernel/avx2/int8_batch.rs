//! [`Kernel::int8_batch`](crate::kernel::Kernel::int8_batch) and [`Kernel::remainder_dot`](crate::kernel::Kernel::remainder_dot) with AVX2: codes become
//! int16, and one instruction adds two products with int16 of the query. In `int8_batch` lane i of a sum belongs to row i of
//! its half of the block.

use super::registers::*;
use crate::kernel::vector::{WORDS, batch_bounds};
use crate::kernel::{BoundFactors, Int8Batch, UnpackedCodes, scalar, unpacked_stride};
use std::arch::x86_64::*;

batch_bounds!(target_feature(enable = "avx2,fma,f16c"));

/// Queries that share a load of codes: with two sums each, as many as registers hold.
const QUERIES: usize = 4;

/// The rows of each block whose bounds are not below each query's threshold.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn int8_batch(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
    let stride = unpacked_stride(int8_batch.dims);
    for (block, codes) in wide.codes.chunks_exact(16 * stride).enumerate() {
        for first in (0..int8_batch.factors.len()).step_by(QUERIES) {
            // Not `array::from_fn`, which is compiled for any CPU and would not be inlined.
            let mut words = [&int8_batch.words[..0]; QUERIES];
            for (i, words) in words.iter_mut().enumerate() {
                *words = &int8_batch.words[(first + i) * stride..][..int8_batch.dims];
            }
            let sums = sums(words, codes.as_chunks::<64>().0);
            for (factors, (sums, at)) in int8_batch.factors[first..].iter().zip(sums.iter().zip(16 * block + first..)) {
                let mut kept = 0;
                for (half, sums) in sums.iter().enumerate() {
                    let out = &mut bounds[16 * at..][..16].as_chunks_mut::<8>().0[half];
                    kept |= finish(factors, wide, *sums, 2 * block + half, out) << (8 * half);
                }
                keep[at] = kept;
            }
        }
    }
}

/// The sums of either half of a block for some queries.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sums(words: [&[i16]; QUERIES], block: &[[u8; 64]]) -> [[Sums; 2]; QUERIES] {
    let zero = _mm256_setzero_si256();
    let dims = words[0].len();
    assert!(words.iter().all(|words| words.len() == dims) && dims.is_multiple_of(8) && block.len() >= dims / 4);
    // Bytes 0 and 1, then 2 and 3, of each dword as int16.
    let front = spread([0x8001_8000, 0x8005_8004, 0x8009_8008, 0x800d_800c]);
    let back = spread([0x8003_8002, 0x8007_8006, 0x800b_800a, 0x800f_800e]);
    let mut parts = [[[zero; 2]; 2]; QUERIES];
    for from in (0..dims).step_by(WORDS) {
        let mut narrow = [[zero; 2]; QUERIES];
        for j in (from..dims.min(from + WORDS)).step_by(4) {
            for (half, codes) in block[j / 4].as_chunks::<32>().0.iter().enumerate() {
                // SAFETY: an array of 32 bytes.
                let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
                let (first, last) = (_mm256_shuffle_epi8(codes, front), _mm256_shuffle_epi8(codes, back));
                for (narrow, words) in narrow.iter_mut().zip(words) {
                    // SAFETY: j + 4 <= dims, the length of `words` by the assertion.
                    let (a, b) = unsafe { (every_lane(words.as_ptr().add(j).cast()), every_lane(words.as_ptr().add(j + 2).cast())) };
                    narrow[half] = _mm256_add_epi32(narrow[half], _mm256_madd_epi16(first, a));
                    narrow[half] = _mm256_add_epi32(narrow[half], _mm256_madd_epi16(last, b));
                }
            }
        }
        for (parts, narrow) in parts.iter_mut().zip(narrow) {
            for (parts, narrow) in parts.iter_mut().zip(narrow) {
                parts[0] = _mm256_add_epi32(parts[0], _mm256_srai_epi32::<8>(narrow));
                parts[1] = _mm256_add_epi32(parts[1], _mm256_and_si256(narrow, _mm256_set1_epi32(255)));
            }
        }
    }
    parts
}

/// The bounds of half a block, and which of them are not below the threshold.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn finish(factors: &BoundFactors, wide: &UnpackedCodes, sums: Sums, half: usize, out: &mut [f32; 8]) -> u16 {
    let bound = bounds_of(factors, wide, less(sums, factors), half);
    // SAFETY: eight values.
    unsafe { storeu_ps(out.as_mut_ptr(), bound) };
    _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(bound, set1_ps(factors.threshold))) as u16
}

/// The sum of codes times coordinates, sixteen at a time.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn remainder_dot(words: &[i16], half: usize, codes: &[u8]) -> i64 {
    let (pairs, others) = codes.split_at(half);
    let (first, after) = words.split_at(half);
    let (second, last) = after.split_at(half);
    let nibble = _mm256_set1_epi16(15);
    let mut sum = _mm256_setzero_si256();
    let blocks = pairs.as_chunks::<16>().0.iter().zip(first.as_chunks().0).zip(second.as_chunks().0);
    for ((bytes, first), second) in blocks {
        // SAFETY: an array of sixteen bytes.
        let bytes = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_and_si256(bytes, nibble), sixteen(first)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_srli_epi16::<4>(bytes), sixteen(second)));
    }
    for (bytes, words) in others.as_chunks::<16>().0.iter().zip(last.as_chunks().0) {
        // SAFETY: an array of sixteen bytes.
        let bytes = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(bytes, sixteen(words)));
    }
    // The fewer than sixteen of either part, as a row of its own.
    let (pairs_done, others_done) = (half / 16 * 16, others.len() / 16 * 16);
    let left = [&first[pairs_done..], &second[pairs_done..], &last[others_done..]];
    let mut left_words = [0; 48];
    let mut left_codes = [0; 32];
    let (n, m) = (left[0].len(), left[2].len());
    for (part, to) in left.into_iter().zip([0, n, 2 * n]) {
        left_words[to..to + part.len()].copy_from_slice(part);
    }
    left_codes[..n].copy_from_slice(&pairs[pairs_done..]);
    left_codes[n..n + m].copy_from_slice(&others[others_done..]);
    let tail = scalar::remainder_dot(&left_words[..2 * n + m], n, &left_codes[..n + m]);
    let wide =
        _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(sum)), _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(sum)));
    let mut lanes = [0i64; 4];
    // SAFETY: four int64.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), wide) };
    lanes.iter().sum::<i64>() + tail
}

/// Sixteen int16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sixteen(words: &[i16; 16]) -> __m256i {
    // SAFETY: an array of sixteen int16.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}
