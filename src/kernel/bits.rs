//! Differing bits of a query and rows, exactly, for every kind of CPU.
//!
//! One query reads the rows as they are stored: with the instruction POPCNT that is as fast as memory is. Several read
//! cached *columns*, in which eight rows stand side by side, so that sums of vectors need no last step within a row.
//!
//! Both return the least distance of the call, so that a caller who wants none of these rows need not look at them.

use super::{BLOCK_ROWS, Column};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Words whose bytes of counts, 8 at most each, a byte holds the sum of.
#[cfg(target_arch = "x86_64")]
const SHUFFLES: usize = 31;

#[inline(always)]
pub(super) fn hamming(query: &[u64], rows: &[u8], row_bytes: usize, out: &mut [u32]) -> u32 {
    // The loop over a row is unrolled where its length is known.
    match row_bytes {
        16 => whole_words::<2>(query, rows, out),
        32 => whole_words::<4>(query, rows, out),
        64 => whole_words::<8>(query, rows, out),
        128 => whole_words::<16>(query, rows, out),
        _ => any_bytes(query, rows, row_bytes, out),
    }
}

/// Rows of `W` words.
#[inline(always)]
fn whole_words<const W: usize>(query: &[u64], rows: &[u8], out: &mut [u32]) -> u32 {
    let Some(query) = query.first_chunk::<W>() else { return u32::MAX };
    let mut least = u32::MAX;
    for (row, out) in rows.as_chunks::<8>().0.as_chunks::<W>().0.iter().zip(out) {
        *out = (0..W).map(|i| differing(u64::from_le_bytes(row[i]), query[i])).sum();
        least = least.min(*out);
    }
    least
}

#[inline(always)]
fn any_bytes(query: &[u64], rows: &[u8], row_bytes: usize, out: &mut [u32]) -> u32 {
    let mut least = u32::MAX;
    for (row, out) in rows.chunks_exact(row_bytes).zip(out) {
        let (words, rest) = row.as_chunks::<8>();
        let (fours, others) = words.as_chunks::<4>();
        let (query_fours, query_others) = query[..words.len()].as_chunks::<4>();
        let mut sum = 0;
        for (words, query) in fours.iter().zip(query_fours) {
            sum += (0..4).map(|i| differing(u64::from_le_bytes(words[i]), query[i])).sum::<u32>();
        }
        sum += others.iter().zip(query_others).map(|(&word, &query)| differing(u64::from_le_bytes(word), query)).sum::<u32>();
        if let Some(&query) = query.last().filter(|_| !rest.is_empty()) {
            sum += differing(padded(rest), query);
        }
        *out = sum;
        least = least.min(sum);
    }
    least
}

#[inline(always)]
fn differing(word: u64, query: u64) -> u32 {
    (word ^ query).count_ones()
}

/// Up to eight bytes as a word, padded with zeros.
#[inline(always)]
pub fn padded(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

#[inline(always)]
pub(super) fn hamming_columns(query: &[u64], columns: &[Column], out: &mut [u32]) -> u32 {
    for (block, out) in columns.chunks_exact(query.len()).zip(out.as_chunks_mut::<BLOCK_ROWS>().0) {
        *out = [0; BLOCK_ROWS];
        for (column, &query) in block.iter().zip(query) {
            out.iter_mut().zip(column).for_each(|(sum, word)| *sum += differing(*word, query));
        }
    }
    out.iter().copied().min().unwrap_or(u32::MAX)
}

/// [`hamming`] with the instruction POPCNT.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
pub(super) fn hamming_popcnt(query: &[u64], rows: &[u8], row_bytes: usize, out: &mut [u32]) -> u32 {
    hamming(query, rows, row_bytes, out)
}

/// [`hamming`] with the instruction VPOPCNTQ.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
pub(super) fn hamming_vpopcnt(query: &[u64], rows: &[u8], row_bytes: usize, out: &mut [u32]) -> u32 {
    if row_bytes.is_multiple_of(64) {
        by_lines::<false>(query, rows, row_bytes, out)
    } else {
        by_lines::<true>(query, rows, row_bytes, out)
    }
}

/// Rows of lines of 64 bytes, and a part of one if `REST`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
fn by_lines<const REST: bool>(query: &[u64], rows: &[u8], row_bytes: usize, out: &mut [u32]) -> u32 {
    let (query_lines, query_rest) = bytemuck::cast_slice::<u64, u8>(query)[..row_bytes].as_chunks::<64>();
    let query_rest = masked(query_rest);
    let mut least = u32::MAX;
    for (row, out) in rows.chunks_exact(row_bytes).zip(out) {
        let (lines, rest) = row.as_chunks::<64>();
        let mut sums = if REST { _mm512_popcnt_epi64(_mm512_xor_si512(masked(rest), query_rest)) } else { _mm512_setzero_si512() };
        for (line, query) in lines.iter().zip(query_lines) {
            // SAFETY: arrays of 64 bytes.
            let (line, query) = unsafe { (_mm512_loadu_si512(line.as_ptr().cast()), _mm512_loadu_si512(query.as_ptr().cast())) };
            sums = _mm512_add_epi64(sums, _mm512_popcnt_epi64(_mm512_xor_si512(line, query)));
        }
        *out = _mm512_reduce_add_epi64(sums) as u32;
        least = least.min(*out);
    }
    least
}

/// Up to 63 bytes, padded with zeros.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn masked(bytes: &[u8]) -> __m512i {
    // SAFETY: only these bytes are read.
    unsafe { _mm512_maskz_loadu_epi8((1 << bytes.len()) - 1, bytes.as_ptr().cast()) }
}

/// [`hamming_columns`] by a table of the bits of half a byte (Mula, Kurz and Lemire 2018).
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(super) fn hamming_columns_shuffle(query: &[u64], columns: &[Column], out: &mut [u32]) -> u32 {
    let (zero, low) = (_mm256_setzero_si256(), _mm256_set1_epi8(15));
    let bits = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    let mut least = _mm256_set1_epi32(-1);
    for (block, out) in columns.chunks_exact(query.len()).zip(out.as_chunks_mut::<BLOCK_ROWS>().0) {
        let mut sums = [zero; 2];
        for (columns, query) in block.chunks(SHUFFLES).zip(query.chunks(SHUFFLES)) {
            let mut counts = [zero; 2];
            for (column, &query) in columns.iter().zip(query) {
                let query = _mm256_set1_epi64x(query.cast_signed());
                for (count, half) in counts.iter_mut().zip(column.as_chunks::<4>().0) {
                    // SAFETY: an array of four words.
                    let differing = _mm256_xor_si256(unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }, query);
                    let lower = _mm256_shuffle_epi8(bits, _mm256_and_si256(differing, low));
                    let upper = _mm256_shuffle_epi8(bits, _mm256_and_si256(_mm256_srli_epi16::<4>(differing), low));
                    *count = _mm256_add_epi8(*count, _mm256_add_epi8(lower, upper));
                }
            }
            // The eight bytes of a row's word are summed at once.
            sums = [0, 1].map(|half| _mm256_add_epi64(sums[half], _mm256_sad_epu8(counts[half], zero)));
        }
        // The low halves of eight sums, in order.
        let even = _mm256_shuffle_ps::<0b10_00_10_00>(_mm256_castsi256_ps(sums[0]), _mm256_castsi256_ps(sums[1]));
        let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(even));
        least = _mm256_min_epu32(least, sums);
        // SAFETY: an array of eight sums.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
    }
    lane_min(least)
}

/// [`hamming_columns`] with the instruction VPOPCNTQ.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq,avx2")]
pub(super) fn hamming_columns_vpopcnt(query: &[u64], columns: &[Column], out: &mut [u32]) -> u32 {
    let fours = out.len() / (4 * BLOCK_ROWS);
    let (columns, other_columns) = columns.split_at(4 * fours * query.len());
    let (out, other_out) = out.split_at_mut(4 * fours * BLOCK_ROWS);
    lane_min(_mm256_min_epu32(blocks::<4>(query, columns, out), blocks::<1>(query, other_columns, other_out)))
}

/// `B` blocks at a time, which share the loads of the query; the least of each lane.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,avx2")]
fn blocks<const B: usize>(query: &[u64], columns: &[Column], out: &mut [u32]) -> __m256i {
    let (words, mut least) = (query.len(), _mm256_set1_epi32(-1));
    let out = out.as_chunks_mut::<BLOCK_ROWS>().0.as_chunks_mut::<B>().0;
    for (columns, out) in columns.chunks_exact(B * words).zip(out) {
        let mut sums = [_mm512_setzero_si512(); B];
        for (at, &query) in query.iter().enumerate() {
            let query = _mm512_set1_epi64(query.cast_signed());
            for (block, sum) in sums.iter_mut().enumerate() {
                // SAFETY: an array of eight words.
                let column = unsafe { _mm512_loadu_si512(columns[block * words + at].as_ptr().cast()) };
                *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(_mm512_xor_si512(column, query)));
            }
        }
        for (sum, out) in sums.into_iter().zip(out) {
            let sums = _mm512_cvtepi64_epi32(sum);
            least = _mm256_min_epu32(least, sums);
            // SAFETY: an array of eight sums.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
        }
    }
    least
}

/// The least of eight numbers.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn lane_min(lanes: __m256i) -> u32 {
    let half = _mm_min_epu32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let pair = _mm_min_epu32(half, _mm_shuffle_epi32::<0b00_00_11_10>(half));
    _mm_cvtsi128_si32(_mm_min_epu32(pair, _mm_shuffle_epi32::<1>(pair))).cast_unsigned()
}
