//! The registers and instructions of AVX-512 as `vector.rs` names them.

use std::arch::x86_64::*;
pub use std::arch::x86_64::{
    __m512 as Floats, __m512d as Doubles, __m512i as Ints, _mm256_loadu_ps as loadu_half_ps, _mm256_loadu_si256 as loadu_half_ints,
    _mm256_maskz_loadu_ps as maskz_loadu_half_ps, _mm512_add_pd as add_pd, _mm512_add_ps as add_ps, _mm512_and_si512 as and_ints,
    _mm512_broadcast_i32x4 as broadcast_128, _mm512_castsi512_ps as castints_ps, _mm512_cvtepi32_ps as cvtepi32_ps,
    _mm512_cvtepu16_epi32 as cvtepu16_epi32, _mm512_cvtps_pd as cvtps_pd, _mm512_fmadd_pd as fmadd_pd, _mm512_fmadd_ps as fmadd_ps,
    _mm512_loadu_pd as loadu_pd, _mm512_loadu_ps as loadu_ps, _mm512_maskz_loadu_pd as maskz_loadu_pd, _mm512_mul_pd as mul_pd,
    _mm512_mul_ps as mul_ps, _mm512_set1_epi8 as set1_epi8, _mm512_set1_epi32 as set1_epi32, _mm512_set1_pd as set1_pd,
    _mm512_set1_ps as set1_ps, _mm512_setzero_pd as setzero_pd, _mm512_setzero_ps as setzero_ps, _mm512_shuffle_epi8 as shuffle_epi8,
    _mm512_slli_epi32 as slli_epi32, _mm512_srli_epi16 as srli_epi16, _mm512_storeu_pd as storeu_pd, _mm512_storeu_ps as storeu_ps,
    _mm512_sub_epi32 as sub_epi32, _mm512_sub_pd as sub_pd,
};

/// Values of float64 a register.
pub const DOUBLES: usize = 8;

/// Values of float32 a register.
pub const FLOATS: usize = 16;

/// Eight values as float64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn widen(values: __m256) -> [Doubles; 1] {
    [_mm512_cvtps_pd(values)]
}

/// The sum of a register's values in halves: l with l + 4, then with l + 2, l + 1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn add_lanes(sum: Doubles) -> f64 {
    let by4 = _mm256_add_pd(_mm512_castpd512_pd256(sum), _mm512_extractf64x4_pd::<1>(sum));
    let by2 = _mm_add_pd(_mm256_castpd256_pd128(by4), _mm256_extractf128_pd::<1>(by4));
    _mm_cvtsd_f64(_mm_add_sd(by2, _mm_unpackhi_pd(by2, by2)))
}
