//! The registers and instructions of AVX2 as `vector.rs` names them.

use std::arch::x86_64::*;
pub use std::arch::x86_64::{
    __m256 as Floats, __m256d as Doubles, __m256i as Ints, _mm_loadu_ps as loadu_half_ps, _mm_loadu_si128 as loadu_half_ints,
    _mm256_add_pd as add_pd, _mm256_add_ps as add_ps, _mm256_and_si256 as and_ints, _mm256_broadcastsi128_si256 as broadcast_128,
    _mm256_castsi256_ps as castints_ps, _mm256_cvtepi32_ps as cvtepi32_ps, _mm256_cvtepu16_epi32 as cvtepu16_epi32,
    _mm256_cvtps_pd as cvtps_pd, _mm256_fmadd_pd as fmadd_pd, _mm256_fmadd_ps as fmadd_ps, _mm256_loadu_pd as loadu_pd,
    _mm256_loadu_ps as loadu_ps, _mm256_mul_pd as mul_pd, _mm256_mul_ps as mul_ps, _mm256_set1_epi8 as set1_epi8,
    _mm256_set1_epi32 as set1_epi32, _mm256_set1_pd as set1_pd, _mm256_set1_ps as set1_ps, _mm256_setzero_pd as setzero_pd,
    _mm256_setzero_ps as setzero_ps, _mm256_shuffle_epi8 as shuffle_epi8, _mm256_slli_epi32 as slli_epi32, _mm256_srli_epi16 as srli_epi16,
    _mm256_storeu_pd as storeu_pd, _mm256_storeu_ps as storeu_ps, _mm256_sub_epi32 as sub_epi32, _mm256_sub_pd as sub_pd,
};

/// Values of float64 a register.
pub const DOUBLES: usize = 4;

/// Values of float32 a register.
pub const FLOATS: usize = 8;

/// Eight values as float64.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub fn widen(values: __m256) -> [Doubles; 2] {
    [_mm256_cvtps_pd(_mm256_castps256_ps128(values)), _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(values))]
}

/// The sum of a register's values in halves: l with l + 2, then with l + 1.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub fn add_lanes(sum: Doubles) -> f64 {
    let by2 = _mm_add_pd(_mm256_castpd256_pd128(sum), _mm256_extractf128_pd::<1>(sum));
    _mm_cvtsd_f64(_mm_add_sd(by2, _mm_unpackhi_pd(by2, by2)))
}

/// The values whose bit of the lowest four is set, +0.0 elsewhere.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn maskz_loadu_pd(mask: u8, from: *const f64) -> Doubles {
    let bits = _mm256_setr_epi64x(1, 2, 4, 8);
    let set = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(i64::from(mask)), bits), bits);
    // SAFETY: the caller vouches for the values whose bit is set; no other is touched.
    unsafe { _mm256_maskload_pd(from, set) }
}

/// The values whose bit of the lowest four is set, +0.0 elsewhere.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn maskz_loadu_half_ps(mask: u8, from: *const f32) -> __m128 {
    let bits = _mm_setr_epi32(1, 2, 4, 8);
    let set = _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32(i32::from(mask)), bits), bits);
    // SAFETY: the caller vouches for the values whose bit is set; no other is touched.
    unsafe { _mm_maskload_ps(from, set) }
}
