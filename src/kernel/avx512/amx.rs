//! [`Kernel::int8_batch`](crate::kernel::Kernel::int8_batch) with AMX: a tile register holds 64 bytes of sixteen queries or of sixteen
//! rows, and one instruction adds the products of two tiles to 256 sums.
//!
//! The layout of codes is that of AMX: row g of a tile holds codes 4 g to 4 g + 3, dword i those of row i. Linux permits
//! tiles to processes that ask for them.

use super::int8_batch::finish;
use crate::kernel::{BATCH, Int8Batch, UnpackedCodes, unpacked_stride};
use std::arch::asm;
use std::arch::x86_64::*;

/// Blocks that are summed at a time: four tiles hold sums, two queries, two codes.
const BLOCKS: usize = 2;

/// Sums of a block for either plane: a row for each query, a lane for each row. Aligned, as rows that cross cache lines take
/// twice the time.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Sums([[[i32; 16]; BATCH]; 2]);

/// The shapes of the eight tiles (Intel, Software Developer's Manual, volume 1, section 18.3).
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

const SHAPES: Shapes = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (row_bytes[tile], rows[tile]) = (64, 16);
        tile += 1;
    }
    Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

/// Whether the CPU has tiles of bytes and Linux permits this process to use them, which this function asks for. From then
/// on Linux refuses alternate signal stacks too small to save tiles, some 11 KB.
pub fn permitted() -> bool {
    const TILES_AND_BYTES: u32 = 0b11 << 24;
    // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), since Linux 5.16.
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & TILES_AND_BYTES != TILES_AND_BYTES {
        return false;
    }
    let mut result = ARCH_PRCTL;
    // SAFETY: a system call that reads and writes no memory of ours; it clobbers rcx and r11.
    unsafe {
        asm!("syscall", inout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
             out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

/// The rows of each block whose bounds are not below each query's threshold.
///
/// # Safety
/// The lengths must be those of `check_int8_batch`, and the process may use tiles, as [`permitted`] tells.
pub unsafe fn int8_batch(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn gated(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &mut [f32], keep: &mut [u16]) {
        let stride = unpacked_stride(int8_batch.dims);
        let count = keep.len() / 16;
        let mut starts = Sums([[[0; 16]; BATCH]; 2]);
        for (i, factors) in int8_batch.factors.iter().enumerate() {
            (starts.0[0][i], starts.0[1][i]) = ([-factors.high_sum; 16], [-factors.low_sum; 16]);
        }
        let both = |pair: usize| [pair, (pair + 1).min(count - 1)];
        let codes = |block: usize| &wide.codes[block * 16 * stride..][..16 * stride];
        // The tiles work on a pair of blocks while the sums of the pair before become bounds.
        let mut sums = [[Sums([[[0; 16]; BATCH]; 2]); BLOCKS]; 2];
        // SAFETY: the tiles are shaped, the lengths are right by `check_int8_batch`; so below.
        unsafe { multiply(stride, int8_batch, both(0).map(codes), &starts, &mut sums[0]) };
        for pair in (0..count).step_by(BLOCKS) {
            let [now, next] = if (pair / BLOCKS).is_multiple_of(2) { [0, 1] } else { [1, 0] };
            if pair + BLOCKS < count {
                // SAFETY: as above.
                unsafe { multiply(stride, int8_batch, both(pair + BLOCKS).map(codes), &starts, &mut sums[next]) };
            }
            for (block, Sums([high, low])) in both(pair).into_iter().zip(&sums[now]) {
                for (i, factors) in int8_batch.factors.iter().enumerate() {
                    let at = 16 * block + i;
                    // SAFETY: arrays of sixteen int32. Not `map`, which is compiled without these features.
                    let sums = unsafe { [_mm512_loadu_si512(high[i].as_ptr().cast()), _mm512_loadu_si512(low[i].as_ptr().cast())] };
                    keep[at] = finish(factors, wide, sums, block, &mut bounds[16 * at..][..16]);
                }
            }
        }
    }
    if keep.is_empty() {
        return;
    }
    // SAFETY: the caller vouches for the CPU and the lengths. Tiles keep their shapes until they are released; no
    // other code here or in the compiler knows of them.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, readonly));
        gated(int8_batch, wide, bounds, keep);
        asm!("tilerelease", options(nostack, nomem));
    }
}

/// Sums of codes times bytes of both planes, on top of `starts`, of two blocks.
///
/// # Safety
/// The tiles must be shaped by [`SHAPES`]; planes must hold 16 rows of `stride` bytes, and so must codes.
#[inline]
unsafe fn multiply(stride: usize, int8_batch: &Int8Batch, codes: [&[u8]; BLOCKS], starts: &Sums, sums: &mut [Sums; BLOCKS]) {
    // SAFETY: each turn reads 64 bytes of 16 rows of the planes and 1024 bytes of codes; there are
    // stride / 64 turns, one at least. What is stored are four blocks of sums.
    unsafe {
        asm!(
            "tileloadd tmm0, [{starts} + {line}]",
            "tileloadd tmm1, [{starts} + {line} + 1024]",
            "tileloadd tmm2, [{starts} + {line}]",
            "tileloadd tmm3, [{starts} + {line} + 1024]",
            "2:",
            "tileloadd tmm4, [{high} + {stride}]",
            "tileloadd tmm5, [{low} + {stride}]",
            "tileloadd tmm6, [{first} + {line}]",
            "tileloadd tmm7, [{second} + {line}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tdpbsud tmm1, tmm5, tmm6",
            "tdpbsud tmm2, tmm4, tmm7",
            "tdpbsud tmm3, tmm5, tmm7",
            "add {high}, 64",
            "add {low}, 64",
            "add {first}, 1024",
            "add {second}, 1024",
            "dec {turns}",
            "jnz 2b",
            "tilestored [{sums} + {line}], tmm0",
            "tilestored [{sums} + {line} + 1024], tmm1",
            "tilestored [{sums} + {line} + 2048], tmm2",
            "tilestored [{sums} + {line} + 3072], tmm3",
            starts = in(reg) starts,
            line = in(reg) 64usize,
            stride = in(reg) stride,
            high = inout(reg) int8_batch.high.as_ptr() => _,
            low = inout(reg) int8_batch.low.as_ptr() => _,
            first = inout(reg) codes[0].as_ptr() => _,
            second = inout(reg) codes[1].as_ptr() => _,
            turns = inout(reg) stride / 64 => _,
            sums = in(reg) sums,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
