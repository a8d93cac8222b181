//! [`Kernel::bounds`](crate::kernel::Kernel::bounds) with AVX-512: 64 bytes of codes are a register, lane i of every sum
//! belongs to row i, and several blocks share each broadcast of the query.

use super::registers::*;
use crate::kernel::vector::line_bounds;
use crate::kernel::{CoarseQuery, Lines, RECONSTRUCTION};
use std::arch::x86_64::*;

/// How far ahead of loads codes are prefetched, in bytes: of 2, 4 and 8 K, 2 K was the fastest from memory on Sapphire Rapids.
const AHEAD: usize = 2048;

line_bounds!(target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl"));

/// A function of the table, whose sums are those of `$streams`.
macro_rules! by_groups {
    ($(#[$doc:meta])* $name:ident, $streams:ident) => {
        $(#[$doc])*
        pub fn $name(probes: &[CoarseQuery], lines: &Lines, out: &mut [f32]) {
            in_groups(probes, lines, out, |group, out| {
                // SAFETY: `available` lists this function's table only where the CPU has these features.
                unsafe {
                    match group {
                        Group::Whole(probe) => $streams::<true, 1, 4>([probe], lines, out),
                        Group::One(probe) => $streams::<false, 1, 4>([probe], lines, out),
                        Group::Two(probes) => $streams::<false, 2, 4>(probes.each_ref(), lines, out),
                        Group::Four(probes) => $streams::<false, 4, 2>(probes.each_ref(), lines, out),
                    }
                }
            });
        }
    };
}

by_groups!(
    /// With VNNI, which adds four products to an int32 in one instruction.
    vnni,
    vnni_streams
);
by_groups!(
    /// Without VNNI: two products are added in int16, which holds them: 2 * 127 * 128 < 2^15.
    madd,
    madd_streams
);

/// Probes that share the levels of a register of codes.
enum Group<'a, 'b> {
    /// One with a low plane.
    Whole(&'a CoarseQuery<'b>),
    One(&'a CoarseQuery<'b>),
    Two(&'a [CoarseQuery<'b>; 2]),
    Four(&'a [CoarseQuery<'b>; 4]),
}

/// Calls `work` for each group of probes with the part of `out` for its bounds.
fn in_groups<'a, 'b>(mut probes: &'a [CoarseQuery<'b>], lines: &Lines, out: &mut [f32], mut work: impl FnMut(Group<'a, 'b>, &mut [f32])) {
    let rows = lines.offsets.len();
    let mut left = out;
    while let Some(first) = probes.first() {
        let alike = probes.iter().take_while(|probe| probe.low.is_empty()).count();
        let (group, count) = match (probes.first_chunk(), probes.first_chunk(), alike) {
            (_, _, 0) => (Group::Whole(first), 1),
            (Some(four), _, 4..) => (Group::Four(four), 4),
            (_, Some(two), 2..) => (Group::Two(two), 2),
            _ => (Group::One(first), 1),
        };
        let (own, after) = std::mem::take(&mut left).split_at_mut(count * rows);
        work(group, own);
        (left, probes) = (after, &probes[count..]);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn vnni_streams<const LOW: bool, const Q: usize, const S: usize>(probes: [&CoarseQuery; Q], lines: &Lines, out: &mut [f32]) {
    streams(probes, lines, out, |blocks: [_; S], ahead| {
        level_sums::<LOW, Q, S>(probes, blocks, ahead, |sum, levels, bytes| _mm512_dpbusd_epi32(sum, levels, bytes))
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn madd_streams<const LOW: bool, const Q: usize, const S: usize>(probes: [&CoarseQuery; Q], lines: &Lines, out: &mut [f32]) {
    let ones = _mm512_set1_epi16(1);
    streams(probes, lines, out, |blocks: [_; S], ahead| {
        level_sums::<LOW, Q, S>(probes, blocks, ahead, |sum, levels, bytes| {
            _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(levels, bytes), ones))
        })
    });
}

/// Bounds of all rows, a block of each of `S` parts at a time: that makes several independent sums, and reading several
/// streams is faster than one (15.7 against 13.4 GB/s on a Sapphire Rapids core). Parts overlap where blocks do not divide
/// evenly; the shared blocks are bounded twice.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn streams<const Q: usize, const S: usize>(
    probes: [&CoarseQuery; Q],
    lines: &Lines,
    out: &mut [f32],
    sums: impl Fn([&[[u8; 64]]; S], [*const u8; S]) -> [[Sums; S]; Q],
) {
    let next = lines.next.as_chunks::<64>().0;
    let (codes, size) = (lines.codes.as_chunks::<64>().0, probes[0].high.len() / 8);
    let rows = lines.offsets.len();
    let blocks = rows / 16;
    let last = if next.is_empty() { usize::MAX } else { blocks.div_ceil(S) - 1 };
    for i in 0..blocks.div_ceil(S) {
        // Not `array::from_fn`, which is compiled for any CPU and would not be inlined.
        let (mut together, mut ahead) = ([&codes[..0]; S], [std::ptr::null(); S]);
        for (s, block) in together.iter_mut().enumerate() {
            *block = &codes[(s * blocks / S + i) * size..][..size];
            // Where each stream of the next call starts.
            let first = next.as_ptr().wrapping_add(s * (next.len() / size) / S * size);
            ahead[s] = if i == last { first } else { block.as_ptr().wrapping_byte_add(AHEAD) }.cast();
        }
        for (q, sums) in sums(together, ahead).into_iter().enumerate() {
            for (s, sums) in sums.into_iter().enumerate() {
                finish(probes[q], lines, sums, s * blocks / S + i, &mut out[q * rows..][..rows]);
            }
        }
    }
}

/// The sums of one block of each stream for every probe; `add` adds levels times bytes to a sum.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn level_sums<const LOW: bool, const Q: usize, const S: usize>(
    probes: [&CoarseQuery; Q],
    blocks: [&[[u8; 64]]; S],
    ahead: [*const u8; S],
    add: impl Fn(__m512i, __m512i, __m512i) -> __m512i,
) -> [[Sums; S]; Q] {
    let (size, levels, zero) = (blocks[0].len(), levels(), _mm512_setzero_si512());
    assert!(blocks.iter().all(|block| block.len() == size));
    let mut sums = [[Sums { high: zero, low: zero }; S]; Q];
    let mut planes = [[&[][..]; 2]; Q];
    for ((sums, planes), probe) in sums.iter_mut().zip(&mut planes).zip(probes) {
        *sums = [Sums { high: _mm512_set1_epi32(-probe.high_sum), low: _mm512_set1_epi32(-probe.low_sum) }; S];
        *planes = [probe.high.as_chunks::<4>().0, probe.low.as_chunks::<4>().0];
        assert!(planes[0].len() == 2 * size && (!LOW || planes[1].len() == 2 * size));
    }
    for g in 0..size {
        for s in 0..S {
            let [first, last] = both(levels, load(&blocks[s][g], ahead[s].wrapping_add(64 * g)));
            for (sums, [high, low]) in sums.iter_mut().zip(planes) {
                let sums = &mut sums[s];
                sums.high = add(add(sums.high, first, every_lane(&high[2 * g])), last, every_lane(&high[2 * g + 1]));
                if LOW {
                    sums.low = add(add(sums.low, first, every_lane(&low[2 * g])), last, every_lane(&low[2 * g + 1]));
                }
            }
        }
    }
    sums
}

/// 64 bytes of codes; prefetches those at `ahead`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn load(line: &[u8; 64], ahead: *const u8) -> __m512i {
    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
    // SAFETY: an array of 64 bytes.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

/// The indices of bounds not below the threshold, sixteen bounds at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn at_least(bounds: &[f32], threshold: f32, places: &mut [u32]) -> usize {
    let (blocks, remainder) = bounds.as_chunks::<16>();
    let (mut count, mut at) = (0, _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    for block in blocks {
        // SAFETY: an array of sixteen.
        let bounds = unsafe { _mm512_loadu_ps(block.as_ptr()) };
        let reach = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(bounds, _mm512_set1_ps(threshold));
        let out = &mut places[count..count + 16];
        // SAFETY: sixteen places.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(reach, at)) };
        count += reach.count_ones() as usize;
        at = _mm512_add_epi32(at, _mm512_set1_epi32(16));
    }
    for (place, bound) in (16 * blocks.len()..).zip(remainder) {
        places[count] = place as u32;
        count += usize::from(!matches!(bound.partial_cmp(&threshold), Some(std::cmp::Ordering::Less)));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::avx512::KERNEL;
    use crate::kernel::runnable;

    #[test]
    fn both_ways_give_the_same_bits() {
        for (dims, rows) in [(8, 16), (40, 48), (192, 96), (4096, 32)] {
            let codes: Vec<u8> = (0..rows * dims / 2).map(|i| (i * i / 7) as u8 | ((i % 5 == 0) as u8 * 255)).collect();
            let plane = |factor: usize| (0..dims).map(|j| if j % 3 == 0 { i8::MIN } else { (j * factor) as i8 }).collect::<Vec<i8>>();
            let (high, low) = (plane(37), plane(101));
            let probe =
                CoarseQuery { high: &high, low: &low, high_sum: 99, low_sum: -77, step: 0.01, base: 0.3, leading: 0.6, trailing: 0.8 };
            let (offsets, residuals) = (vec![0.1; rows], vec![0x3d71; rows]);
            let lines = Lines { codes: &codes, offsets: &offsets, leading: &residuals, trailing: &residuals, next: &codes };
            for table in runnable().into_iter().filter(|table| table.name == "avx512") {
                let (mut expected, mut got) = (vec![0.0; rows], vec![f32::NAN; rows]);
                (KERNEL.bounds)(&[probe], &lines, &mut expected);
                (table.bounds)(&[probe], &lines, &mut got);
                assert_eq!(got, expected, "{rows} rows of {dims}");
            }
        }
    }
}
