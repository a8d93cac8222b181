//! [`Kernel::remainder_dot`](crate::kernel::Kernel::remainder_dot), [`Kernel::unpack_codes`](crate::kernel::Kernel::unpack_codes) and
//! [`Kernel::int8_batch`](crate::kernel::Kernel::int8_batch) with AVX-512: a register holds four codes of each of 16 rows, and in
//! `int8_batch` lane i of every sum belongs to row i.

use super::bounds::levels;
use super::registers::*;
use crate::kernel::vector::{WORDS, batch_bounds};
use crate::kernel::{BoundFactors, Int8Batch, LEVEL_TO_BYTE, UnpackedCodes, unpacked_stride};
use std::arch::x86_64::*;

/// Queries that share a load of codes, and blocks that share a load of the queries: sixteen sums.
const QUERIES: usize = 4;
const BLOCKS: usize = 2;

batch_bounds!(target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl"));

/// With VNNI, which adds four products of bytes to an int32 in one instruction.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub fn vnni(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
    visit(int8_batch, wide, bounds, keep, |first, blocks| vnni_sums(int8_batch, first, blocks));
}

/// Without VNNI: codes become int16, and one instruction adds two products with int16 of the query.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn madd(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
    visit(int8_batch, wide, bounds, keep, |first, blocks| madd_sums(int8_batch, first, blocks));
}

/// Bounds two blocks at a time with the sums of `sums`; of an odd number of blocks the last one twice.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn visit(
    int8_batch: &Int8Batch,
    wide: &UnpackedCodes,
    bounds: &mut [f32],
    keep: &mut [u16],
    sums: impl Fn(usize, [&[[u8; 64]]; BLOCKS]) -> [[Sums; QUERIES]; BLOCKS],
) {
    let (codes, size) = (wide.codes.as_chunks::<64>().0, unpacked_stride(int8_batch.dims) / 4);
    let count = keep.len() / 16;
    for pair in (0..count).step_by(BLOCKS) {
        let blocks = [pair, (pair + 1).min(count - 1)];
        for first in (0..int8_batch.factors.len()).step_by(QUERIES) {
            let sums = sums(first, blocks.map(|block| &codes[block * size..][..size]));
            for (block, sums) in blocks.into_iter().zip(sums) {
                for (factors, (sums, at)) in int8_batch.factors[first..].iter().zip(sums.into_iter().zip(16 * block + first..)) {
                    keep[at] = finish(factors, wide, less(sums, factors), block, &mut bounds[16 * at..][..16]);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn vnni_sums(int8_batch: &Int8Batch, first: usize, blocks: [&[[u8; 64]]; BLOCKS]) -> [[Sums; QUERIES]; BLOCKS] {
    let (stride, groups) = (unpacked_stride(int8_batch.dims), int8_batch.dims / 4);
    assert!(
        blocks.iter().all(|block| block.len() >= groups) && (first + QUERIES) * stride <= int8_batch.high.len().min(int8_batch.low.len())
    );
    let mut sums = [[[_mm512_setzero_si512(); 2]; QUERIES]; BLOCKS];
    for g in 0..groups {
        // SAFETY: g < groups, which every block has by the assertion.
        let codes = unsafe { [_mm512_loadu_si512(blocks[0].as_ptr().add(g).cast()), _mm512_loadu_si512(blocks[1].as_ptr().add(g).cast())] };
        for i in 0..QUERIES {
            let at = (first + i) * stride + 4 * g;
            // SAFETY: the planes hold `first + QUERIES` rows of `stride` bytes by the assertion.
            let (high, low) =
                unsafe { (every_lane(int8_batch.high.as_ptr().add(at).cast()), every_lane(int8_batch.low.as_ptr().add(at).cast())) };
            for (sums, codes) in sums.iter_mut().zip(codes) {
                sums[i][0] = _mm512_dpbusd_epi32(sums[i][0], codes, high);
                sums[i][1] = _mm512_dpbusd_epi32(sums[i][1], codes, low);
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn madd_sums(int8_batch: &Int8Batch, first: usize, blocks: [&[[u8; 64]]; BLOCKS]) -> [[Sums; QUERIES]; BLOCKS] {
    let (stride, dims) = (unpacked_stride(int8_batch.dims), int8_batch.dims);
    assert!(blocks.iter().all(|block| block.len() >= dims / 4) && (first + QUERIES) * stride <= int8_batch.words.len());
    let zero = _mm512_setzero_si512();
    // Bytes 0 and 1, then 2 and 3, of each dword as int16.
    let front = spread([0x8001_8000, 0x8005_8004, 0x8009_8008, 0x800d_800c]);
    let back = spread([0x8003_8002, 0x8007_8006, 0x800b_800a, 0x800f_800e]);
    let mut parts = [[[zero; 2]; QUERIES]; BLOCKS];
    for from in (0..dims).step_by(WORDS) {
        let mut narrow = [[zero; QUERIES]; BLOCKS];
        for j in (from..dims.min(from + WORDS)).step_by(4) {
            // SAFETY: j / 4 < dims / 4, which every block has by the assertion.
            let codes = unsafe {
                [_mm512_loadu_si512(blocks[0].as_ptr().add(j / 4).cast()), _mm512_loadu_si512(blocks[1].as_ptr().add(j / 4).cast())]
            };
            for i in 0..QUERIES {
                let at = (first + i) * stride + j;
                // SAFETY: the words hold `first + QUERIES` rows of `stride` by the assertion.
                let words = unsafe { int8_batch.words.as_ptr().add(at) };
                // SAFETY: as above, j + 4 <= dims <= stride.
                let (a, b) = unsafe { (every_lane(words.cast()), every_lane(words.add(2).cast())) };
                for (narrow, codes) in narrow.iter_mut().zip(codes) {
                    narrow[i] = _mm512_add_epi32(narrow[i], _mm512_madd_epi16(_mm512_shuffle_epi8(codes, front), a));
                    narrow[i] = _mm512_add_epi32(narrow[i], _mm512_madd_epi16(_mm512_shuffle_epi8(codes, back), b));
                }
            }
        }
        for (parts, narrow) in parts.iter_mut().flatten().zip(narrow.into_iter().flatten()) {
            parts[0] = _mm512_add_epi32(parts[0], _mm512_srai_epi32::<8>(narrow));
            parts[1] = _mm512_add_epi32(parts[1], _mm512_and_si512(narrow, _mm512_set1_epi32(255)));
        }
    }
    parts
}

/// Which rows of a block have bounds not below the query's threshold, from what `less` returns; writes the bounds if there
/// are any.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn finish(factors: &BoundFactors, wide: &UnpackedCodes, sums: Sums, block: usize, out: &mut [f32]) -> u16 {
    let bound = bounds_of(factors, wide, sums, block);
    let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(bound, _mm512_set1_ps(factors.threshold));
    if kept != 0 {
        // SAFETY: sixteen values.
        unsafe { _mm512_storeu_ps(out.as_chunks_mut::<16>().0[0].as_mut_ptr(), bound) };
    }
    kept
}

/// The sum of codes times coordinates, 32 at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn remainder_dot(words: &[i16], half: usize, codes: &[u8]) -> i64 {
    let (pairs, others) = codes.split_at(half);
    let (first, words) = words.split_at(half);
    let (second, last) = words.split_at(half);
    let nibble = _mm512_set1_epi16(15);
    let mut sums = [_mm512_setzero_si512(); 2];
    let add = |sums: &mut [__m512i; 2], bytes: __m256i, words: [__m512i; 2]| {
        let bytes = _mm512_cvtepu8_epi16(bytes);
        let low = _mm512_madd_epi16(_mm512_and_si512(bytes, nibble), words[0]);
        let high = _mm512_madd_epi16(_mm512_srli_epi16::<4>(bytes), words[1]);
        *sums = [_mm512_add_epi32(sums[0], low), _mm512_add_epi32(sums[1], high)];
    };
    let (whole, tail) = pairs.as_chunks::<32>();
    for ((bytes, first), second) in whole.iter().zip(first.as_chunks::<32>().0).zip(second.as_chunks::<32>().0) {
        add(&mut sums, all_bytes(bytes), [all_words(first), all_words(second)]);
    }
    if !tail.is_empty() {
        let (at, mask) = (half - tail.len(), lowest(tail.len()));
        add(&mut sums, bytes(mask, tail), [self::words(mask, &first[at..]), self::words(mask, &second[at..])]);
    }
    let (whole, tail) = others.as_chunks::<32>();
    for (i, (bytes, words)) in whole.iter().zip(last.as_chunks::<32>().0).enumerate() {
        sums[i % 2] = _mm512_add_epi32(sums[i % 2], _mm512_madd_epi16(_mm512_cvtepi8_epi16(all_bytes(bytes)), all_words(words)));
    }
    if !tail.is_empty() {
        let mask = lowest(tail.len());
        let words = self::words(mask, &last[others.len() - tail.len()..]);
        sums[0] = _mm512_add_epi32(sums[0], _mm512_madd_epi16(_mm512_cvtepi8_epi16(bytes(mask, tail)), words));
    }
    let wide = |sum| {
        let halves = [_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)].map(|half| _mm512_cvtepi32_epi64(half));
        _mm512_add_epi64(halves[0], halves[1])
    };
    _mm512_reduce_add_epi64(_mm512_add_epi64(wide(sums[0]), wide(sums[1])))
}

/// The lowest `count` bits, 32 at most.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn lowest(count: usize) -> __mmask32 {
    u32::MAX >> (32 - count.clamp(1, 32))
}

/// 32 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn all_bytes(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: an array of 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 32 int16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn all_words(words: &[i16; 32]) -> __m512i {
    // SAFETY: an array of 32 int16.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// The bytes whose bit is set in the mask, zeros for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn bytes(mask: __mmask32, from: &[u8]) -> __m256i {
    assert!(mask.count_ones() as usize <= from.len());
    // SAFETY: the lowest bits of the mask are set, no more than the slice is long; no other byte is read.
    unsafe { _mm256_maskz_loadu_epi8(mask, from.as_ptr().cast()) }
}

/// The int16 whose bit is set in the mask, zeros for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn words(mask: __mmask32, from: &[i16]) -> __m512i {
    assert!(mask.count_ones() as usize <= from.len());
    // SAFETY: the lowest bits of the mask are set, no more than the slice is long; no other int16 is read.
    unsafe { _mm512_maskz_loadu_epi16(mask, from.as_ptr()) }
}

/// All codes of one block, by transposing dwords of sixteen rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn unpack_codes(lines: &[u8], remainder: &[u8], remainder_bytes: usize, leading: usize, out: &mut [u8]) {
    let (last, half) = (remainder.len() / remainder_bytes - 1, leading / 2);
    let mut rows = [&remainder[..0]; 16];
    for (lane, row) in rows.iter_mut().enumerate() {
        *row = &remainder[lane.min(last) * remainder_bytes..][..remainder_bytes];
    }
    let (lines, out) = (lines.as_chunks::<64>().0, out.as_chunks_mut::<64>().0);
    let levels = _mm512_add_epi8(levels(), _mm512_set1_epi8(LEVEL_TO_BYTE as i8));
    for from in (0..half).step_by(64) {
        let bytes = half.min(from + 64) - from;
        let rotated = rotate(loads(&rows, from, bytes));
        for (i, low) in rotated.into_iter().take(bytes / 4).enumerate() {
            let group = from / 4 + i;
            put(levels, lines, group, low, out);
            put(levels, lines, group + half / 4, _mm512_srli_epi16::<4>(low), out);
        }
    }
    for from in (half..remainder_bytes).step_by(64) {
        let bytes = remainder_bytes.min(from + 64) - from;
        let rotated = rotate(loads(&rows, from, bytes));
        for (i, codes) in rotated.into_iter().take(bytes.div_ceil(4)).enumerate() {
            let unsigned = _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
            // SAFETY: an array of 64 bytes.
            unsafe { _mm512_storeu_si512(out[(half + from) / 4 + i].as_mut_ptr().cast(), unsigned) };
        }
    }
}

/// Writes the levels of four coordinates plus their refinements, the low nibbles of `low`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn put(levels: __m512i, lines: &[[u8; 64]], group: usize, low: __m512i, out: &mut [[u8; 64]]) {
    // SAFETY: an array of 64 bytes.
    let line = unsafe { _mm512_loadu_si512(lines[group / 2].as_ptr().cast()) };
    _mm_prefetch::<_MM_HINT_T0>(lines[group / 2].as_ptr().wrapping_add(2 * size_of_val(lines)).cast());
    let nibble = _mm512_set1_epi8(0x0f);
    let numbers = if group.is_multiple_of(2) { line } else { _mm512_srli_epi16::<4>(line) };
    let level = _mm512_shuffle_epi8(levels, _mm512_and_si512(numbers, nibble));
    let codes = _mm512_add_epi8(level, _mm512_and_si512(low, nibble));
    // SAFETY: an array of 64 bytes.
    unsafe { _mm512_storeu_si512(out[group].as_mut_ptr().cast(), codes) };
}

/// `bytes` bytes of each row from `from` on, 64 at most, then zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn loads(rows: &[&[u8]; 16], from: usize, bytes: usize) -> [__m512i; 16] {
    let mask = u64::MAX >> (64 - bytes.clamp(1, 64));
    let mut loaded = [_mm512_setzero_si512(); 16];
    // Not `map`, which is compiled for any CPU and would not be inlined.
    for (loaded, row) in loaded.iter_mut().zip(rows) {
        // The same bytes of the rows of two blocks ahead.
        _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(32 * row.len() + from).cast());
        let row = &row[from..from + bytes];
        // SAFETY: the bits of the mask are bytes of the slice, which holds 1 to 64; no other is touched.
        *loaded = unsafe { _mm512_maskz_loadu_epi8(mask, row.as_ptr().cast()) };
    }
    loaded
}

/// Transposes: dword i of row r becomes dword r of row i.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn rotate(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut a = rows;
    for (pair, out) in rows.as_chunks::<2>().0.iter().zip(a.as_chunks_mut::<2>().0) {
        *out = [_mm512_unpacklo_epi32(pair[0], pair[1]), _mm512_unpackhi_epi32(pair[0], pair[1])];
    }
    // Four rows by four: a[4 q + c] holds column c of each quarter, of rows 4 q to 4 q + 3.
    let mut b = a;
    for (four, out) in a.as_chunks::<4>().0.iter().zip(b.as_chunks_mut::<4>().0) {
        *out = [
            _mm512_unpacklo_epi64(four[0], four[2]),
            _mm512_unpackhi_epi64(four[0], four[2]),
            _mm512_unpacklo_epi64(four[1], four[3]),
            _mm512_unpackhi_epi64(four[1], four[3]),
        ];
    }
    let mut out = b;
    for c in 0..4 {
        // Quarters of sixteen bytes: first and third, second and fourth, of rows 0 to 7, then 8 to 15.
        let even = [_mm512_shuffle_i32x4::<0b10_00_10_00>(b[c], b[4 + c]), _mm512_shuffle_i32x4::<0b10_00_10_00>(b[8 + c], b[12 + c])];
        let odd = [_mm512_shuffle_i32x4::<0b11_01_11_01>(b[c], b[4 + c]), _mm512_shuffle_i32x4::<0b11_01_11_01>(b[8 + c], b[12 + c])];
        out[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even[0], even[1]);
        out[4 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd[0], odd[1]);
        out[8 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even[0], even[1]);
        out[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd[0], odd[1]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::avx512::KERNEL;
    use crate::kernel::{BATCH, runnable};

    #[test]
    fn every_way_keeps_the_same_rows() {
        for (dims, rows, queries) in [(8, 16, 1), (64, 48, 16), (136, 32, 7), (600, 80, 12)] {
            let stride = unpacked_stride(dims);
            let codes: Vec<u8> = (0..rows * stride).map(|i| (i * i / 7) as u8 | ((i % 5 == 0) as u8 * 255)).collect();
            let word = |i: usize| if i % stride < dims { (i * 7919 % 65_279) as i32 - 32_639 } else { 0 };
            let words: Vec<i16> = (0..BATCH * stride).map(|i| word(i) as i16).collect();
            let high: Vec<i8> = words.iter().map(|&word| ((i32::from(word) + 128) >> 8) as i8).collect();
            let low: Vec<i8> = words.iter().map(|&word| word as i8).collect();
            let factors = BoundFactors { high_sum: 99, low_sum: -77, step: 1e-6, base: 0.3, residual: 0.6, threshold: 0.0 };
            let factors = vec![factors; queries];
            let int8_batch = Int8Batch { dims, words: &words, high: &high, low: &low, factors: &factors };
            let (offsets, residuals) = (vec![0.1; rows], vec![0.05; rows]);
            let wide = UnpackedCodes { codes: &codes, offsets: &offsets, residuals: &residuals };
            for table in runnable().into_iter().filter(|table| table.name == "avx512") {
                let (mut bounds, mut expected, mut got) = (vec![0.0; rows * BATCH], vec![0; rows], vec![0; rows]);
                (KERNEL.int8_batch)(&int8_batch, &wide, &mut bounds, &mut expected);
                (table.int8_batch)(&int8_batch, &wide, &mut bounds, &mut got);
                assert_eq!(got, expected, "{rows} rows of {dims}");
            }
        }
    }
}
