//! Float32 rows of fewer values than [`LANES`](super::LANES): the lanes of a register are rows, not values.
//!
//! A sum of such a row has one term in each of its first lanes, 0 + term, and +0.0 in the others. No lane is ever -0.0, so
//! additions of +0.0 change nothing and are left out; the rest is added in the order of the definition.

/// Rows at a time, and values of a row that are loaded at a time.
pub const SIDE: usize = 8;

/// `side_by_side`, as `vector.rs` describes macros.
macro_rules! narrow_sums {
    ($gate:meta) => {
        /// One value of each of [`SIDE`] rows.
        type Column = [Doubles; SIDE / DOUBLES];

        /// Writes the sums of the first rows of fewer than [`LANES`] values and returns how many; leaves rows whose loads
        /// could end beyond `rows`. `term(q, x, sum)` adds to lanes.
        #[inline]
        #[$gate]
        fn side_by_side(
            query: &[f64],
            rows: &[f32],
            dims: usize,
            out: &mut [f64],
            term: &impl Fn(Doubles, Doubles, Doubles) -> Doubles,
        ) -> usize {
            if dims >= LANES {
                return 0;
            }
            let beyond = dims.next_multiple_of(SIDE) - dims;
            let whole = (rows.len().saturating_sub(beyond) / (SIDE * dims)).min(out.len() / SIDE);
            for (i, out) in out.as_chunks_mut::<SIDE>().0[..whole].iter_mut().enumerate() {
                let rows = &rows[i * SIDE * dims..][..SIDE * dims + beyond];
                let mut sums = columns(query, rows, dims, 0, term);
                if dims > 16 {
                    add_columns(&mut sums, &columns(query, rows, dims, 16, term));
                }
                if dims > 8 {
                    let mut others = columns(query, rows, dims, 8, term);
                    if dims > 24 {
                        add_columns(&mut others, &columns(query, rows, dims, 24, term));
                    }
                    add_columns(&mut sums, &others);
                }
                for half in [4, 2, 1] {
                    let (low, high) = sums.split_at_mut(half);
                    add_columns(low, high);
                }
                for (sum, out) in sums[0].into_iter().zip(out.as_chunks_mut::<DOUBLES>().0) {
                    // SAFETY: an array of a register's values.
                    unsafe { storeu_pd(out.as_mut_ptr(), sum) };
                }
            }
            whole * SIDE
        }

        /// Adds lane to lane.
        #[inline]
        #[$gate]
        fn add_columns(sums: &mut [Column], others: &[Column]) {
            for (sums, others) in sums.iter_mut().zip(others) {
                for (sum, &other) in sums.iter_mut().zip(others) {
                    *sum = add_pd(*sum, other);
                }
            }
        }

        /// The lanes of the terms from `start` on, +0.0 for those from `dims` on.
        #[inline]
        #[$gate]
        fn columns(
            query: &[f64],
            rows: &[f32],
            dims: usize,
            start: usize,
            term: &impl Fn(Doubles, Doubles, Doubles) -> Doubles,
        ) -> [Column; SIDE] {
            assert!(start < dims && rows.len() >= (SIDE - 1) * dims + start + SIDE);
            let mut loaded = [_mm256_setzero_ps(); SIDE];
            for (row, values) in loaded.iter_mut().enumerate() {
                // SAFETY: eight values from `start` of row `row < 8`, by the assertion; of the last rows some are those of the next.
                *values = unsafe { _mm256_loadu_ps(rows.as_ptr().add(row * dims + start)) };
            }
            let mut lanes = [[setzero_pd(); SIDE / DOUBLES]; SIDE];
            for (j, (lanes, values)) in lanes.iter_mut().zip(transpose(loaded)).enumerate() {
                if start + j < dims {
                    let q = set1_pd(query[start + j]);
                    for (lane, x) in lanes.iter_mut().zip(widen(values)) {
                        *lane = term(q, x, *lane);
                    }
                }
            }
            lanes
        }

        /// Value i of register j becomes value j of register i.
        #[inline]
        #[$gate]
        fn transpose(r: [__m256; SIDE]) -> [__m256; SIDE] {
            let pair = |a: __m256, b: __m256| [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)];
            let four = |a: [__m256; 2], b: [__m256; 2]| {
                [
                    _mm256_shuffle_ps::<0x44>(a[0], b[0]),
                    _mm256_shuffle_ps::<0xee>(a[0], b[0]),
                    _mm256_shuffle_ps::<0x44>(a[1], b[1]),
                    _mm256_shuffle_ps::<0xee>(a[1], b[1]),
                ]
            };
            let [a, b, c, d] = four(pair(r[0], r[1]), pair(r[2], r[3]));
            let [e, f, g, h] = four(pair(r[4], r[5]), pair(r[6], r[7]));
            [
                _mm256_permute2f128_ps::<0x20>(a, e),
                _mm256_permute2f128_ps::<0x20>(b, f),
                _mm256_permute2f128_ps::<0x20>(c, g),
                _mm256_permute2f128_ps::<0x20>(d, h),
                _mm256_permute2f128_ps::<0x31>(a, e),
                _mm256_permute2f128_ps::<0x31>(b, f),
                _mm256_permute2f128_ps::<0x31>(c, g),
                _mm256_permute2f128_ps::<0x31>(d, h),
            ]
        }
    };
}
pub(super) use narrow_sums;
