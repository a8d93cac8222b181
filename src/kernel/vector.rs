//! What AVX2 and AVX-512 do alike: one text, compiled for either.
//!
//! Each macro gives its functions to the module that calls it. `$gate` is their `target_feature`; `Doubles`, `Floats`,
//! `Ints` and the instructions, named without their width, are those of that module's `registers`. Macros, because
//! neither a trait's functions nor closures that leave a function are compiled for the CPU of their caller.

use std::ops::Range;

/// How far ahead of loads rows are prefetched, in bytes: of 0 to 32 K, 1 K and 2 K were the fastest on Sapphire Rapids.
pub const AHEAD: usize = 2048;

/// Bytes of rows that stay in a cache between two tiles; more are prefetched from memory.
pub const NEAR: usize = 2 << 20;

/// Coordinates whose codes times int16 can be summed in int32: 255 * 32,639 * 256 < 2^31.
pub const WORDS: usize = 256;

/// `count` rows in groups whose sums fill the registers: of the first size while there are enough, then of the
/// second, then one by one.
#[inline(always)]
pub fn row_groups(count: usize, sizes: [usize; 2]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = at;
        let left = count - first;
        at += sizes.into_iter().find(|&size| size <= left).unwrap_or(left.min(1));
        (first < at).then_some(first..at)
    })
}

/// Row functions with a query, each of `(name: value)`: the sum over `$term`, a closure of `(q, x, sum)`. The first rows
/// of few float32 values are summed side by side.
macro_rules! query_sums {
    ($gate:meta, $term:expr, $($name:ident: $value:ty),*) => {$(
        #[$gate]
        unsafe fn $name(query: &[f64], rows: &[$value], dims: usize, out: &mut [f64]) {
            let term = $term;
            // SAFETY: compiled for the same CPU as this function.
            let done = unsafe { <$value>::narrow(query, rows, dims, out, &term) };
            sums(&rows[done * dims..], dims, &mut out[done..], |at, x, sum| {
                // SAFETY: `at + DOUBLES <= padded(dims)`, the query's length by check_sums.
                let q = unsafe { loadu_pd(query.as_ptr().add(at)) };
                term(q, x, sum)
            });
        }
    )*};
}
pub(super) use query_sums;

/// [`Kernel::dot`](super::Kernel::dot) to [`Kernel::squared_norm_f64`](super::Kernel::squared_norm_f64), over `sums` of the
/// module, which visits rows. Tails of rows are masked loads: masked lanes are +0.0 and no memory is read for them.
macro_rules! row_sums {
    ($gate:meta) => {
        query_sums!($gate, |q, x, sum| fmadd_pd(q, x, sum), dot: f32);
        query_sums!($gate, |q, x, sum| add_pd(sum, mul_pd(q, x)), dot_f64: f64);
        query_sums!($gate, |q, x, sum| squared_difference(q, x, sum), squared_distance: f32, squared_distance_f64: f64);

        #[$gate]
        fn dot_at(query: &[f64], rows: &[f32], dims: usize, places: &[u32], out: &mut [f64]) {
            sums_at(rows, dims, places, out, |at, x, sum| {
                // SAFETY: `at + DOUBLES <= padded(dims)`, the query's length by check_sums_at.
                fmadd_pd(unsafe { loadu_pd(query.as_ptr().add(at)) }, x, sum)
            });
        }

        #[$gate]
        fn squared_distance_at(query: &[f64], rows: &[f32], dims: usize, places: &[u32], out: &mut [f64]) {
            sums_at(rows, dims, places, out, |at, x, sum| {
                // SAFETY: as above.
                squared_difference(unsafe { loadu_pd(query.as_ptr().add(at)) }, x, sum)
            });
        }

        /// The sums of the rows at some places, [`TOGETHER`] at a time.
        #[inline]
        #[$gate]
        fn sums_at(rows: &[f32], dims: usize, places: &[u32], out: &mut [f64], term: impl Fn(usize, Doubles, Doubles) -> Doubles) {
            let row = |place: u32| &rows[place as usize * dims..][..dims];
            let (groups, left) = places.as_chunks::<TOGETHER>();
            let (sums, sums_left) = out.as_chunks_mut::<TOGETHER>();
            for (group, sums) in groups.iter().zip(sums) {
                *sums = row_sums::<f32, TOGETHER, false>(group.map(row), dims, &term);
            }
            for (&place, sum) in left.iter().zip(sums_left) {
                [*sum] = row_sums::<f32, 1, false>([row(place)], dims, &term);
            }
        }

        #[$gate]
        fn squared_norm(rows: &[f32], dims: usize, out: &mut [f64]) {
            sums(rows, dims, out, |_, x, sum| fmadd_pd(x, x, sum));
        }

        #[$gate]
        fn squared_norm_f64(rows: &[f64], dims: usize, out: &mut [f64]) {
            sums(rows, dims, out, |_, x, sum| add_pd(sum, mul_pd(x, x)));
        }

        #[inline]
        #[$gate]
        fn squared_difference(q: Doubles, x: Doubles, sum: Doubles) -> Doubles {
            let difference = sub_pd(q, x);
            add_pd(sum, mul_pd(difference, difference))
        }

        /// A stored value that becomes float64 exactly, [`DOUBLES`] at a time.
        trait Value: Copy {
            /// `DOUBLES` values from `from`.
            unsafe fn load(from: *const Self) -> Doubles;
            /// The values whose bit is set, +0.0 elsewhere.
            unsafe fn load_masked(mask: u8, from: *const Self) -> Doubles;
            /// Sums of the first rows, if `side_by_side` can sum such rows; returns how many.
            unsafe fn narrow(_: &[f64], _: &[Self], _: usize, _: &mut [f64], _: &impl Fn(Doubles, Doubles, Doubles) -> Doubles) -> usize;
        }

        impl Value for f32 {
            #[inline]
            #[$gate]
            unsafe fn load(from: *const f32) -> Doubles {
                // SAFETY: the caller vouches for the values.
                cvtps_pd(unsafe { loadu_half_ps(from) })
            }
            #[inline]
            #[$gate]
            unsafe fn load_masked(mask: u8, from: *const f32) -> Doubles {
                // SAFETY: the caller vouches for the values whose bit is set; no other is touched.
                cvtps_pd(unsafe { maskz_loadu_half_ps(mask, from) })
            }
            #[inline]
            #[$gate]
            unsafe fn narrow(query: &[f64], rows: &[f32], dims: usize, out: &mut [f64], term: &impl Fn(Doubles, Doubles, Doubles) -> Doubles) -> usize {
                side_by_side(query, rows, dims, out, term)
            }
        }

        impl Value for f64 {
            #[inline]
            #[$gate]
            unsafe fn load(from: *const f64) -> Doubles {
                // SAFETY: the caller vouches for the values.
                unsafe { loadu_pd(from) }
            }
            #[inline]
            #[$gate]
            unsafe fn load_masked(mask: u8, from: *const f64) -> Doubles {
                // SAFETY: the caller vouches for the values whose bit is set; no other is touched.
                unsafe { maskz_loadu_pd(mask, from) }
            }
            #[inline]
            #[$gate]
            unsafe fn narrow(_: &[f64], _: &[f64], _: usize, _: &mut [f64], _: &impl Fn(Doubles, Doubles, Doubles) -> Doubles) -> usize {
                0
            }
        }

        /// The sums of `R` rows of `dims` values at a time; prefetches ahead if `MORE` rows follow.
        #[inline]
        #[$gate]
        fn row_sums<T: Value, const R: usize, const MORE: bool>(
            rows: [&[T]; R],
            dims: usize,
            term: &impl Fn(usize, Doubles, Doubles) -> Doubles,
        ) -> [f64; R] {
            assert!(rows.iter().all(|row| row.len() == dims));
            let mut sums = [[setzero_pd(); LANES / DOUBLES]; R];
            let whole = dims - dims % LANES;
            for start in (0..whole).step_by(LANES) {
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let block = row.as_ptr().wrapping_add(start);
                    for line in 0..if MORE { size_of::<[T; LANES]>() / 64 } else { 0 } {
                        _mm_prefetch::<_MM_HINT_T0>(block.wrapping_byte_add(AHEAD + 64 * line).cast());
                    }
                    for (part, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: start + 32 <= dims, the row's length by the assertion.
                        let x = unsafe { T::load(block.add(part * DOUBLES)) };
                        *sum = term(start + part * DOUBLES, x, *sum);
                    }
                }
            }
            if whole < dims {
                let tail = (1u32 << (dims - whole)) - 1;
                for (row, sums) in rows.iter().zip(&mut sums) {
                    for (part, sum) in sums.iter_mut().enumerate() {
                        let mask = (tail >> (part * DOUBLES)) as u8;
                        // SAFETY: the bits of `tail` are the values from `whole` to `dims`, the row's length.
                        let x = unsafe { T::load_masked(mask, row.as_ptr().wrapping_add(whole + part * DOUBLES)) };
                        *sum = term(whole + part * DOUBLES, x, *sum);
                    }
                }
            }
            sums.map(|sums| reduce(sums))
        }

        /// Lanes added in halves: 16, 8, 4, 2, 1.
        #[inline]
        #[$gate]
        fn reduce(mut sums: [Doubles; LANES / DOUBLES]) -> f64 {
            let mut half = sums.len() / 2;
            while half > 0 {
                for l in 0..half {
                    sums[l] = add_pd(sums[l], sums[l + half]);
                }
                half /= 2;
            }
            add_lanes(sums[0])
        }
    };
}
pub(super) use row_sums;

/// [`Kernel::products`](super::Kernel::products), `$many` or `$some` rows at a time with the columns of two registers from
/// each `$first` on; and the sums that it shares with [`Kernel::tile`](super::Kernel::tile).
macro_rules! column_sums {
    ($gate:meta, $many:literal or $some:literal rows, columns from $($first:literal),*) => {
        #[$gate]
        fn products(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
            for group in row_groups(out.len() / COLUMNS, [$many, $some]) {
                let rows = &rows[group.start * dims..group.end * dims];
                let out = &mut out[group.start * COLUMNS..group.end * COLUMNS];
                match group.len() {
                    $many => {
                        $(add_products::<$many, $first>(columns, rows, dims, out);)*
                    }
                    $some => {
                        $(add_products::<$some, $first>(columns, rows, dims, out);)*
                    }
                    _ => {
                        $(add_products::<1, $first>(columns, rows, dims, out);)*
                    }
                }
            }
        }

        /// Adds the products of `R` rows with the columns from `FIRST` on.
        #[inline(never)]
        #[$gate]
        fn add_products<const R: usize, const FIRST: usize>(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
            let sums = column_sums::<2, R, false>(columns, COLUMNS, FIRST, rows, dims);
            for (sums, out) in sums.into_iter().zip(out.as_chunks_mut::<COLUMNS>().0) {
                for (sum, out) in sums.into_iter().zip(out[FIRST..].as_chunks_mut::<FLOATS>().0) {
                    // SAFETY: an array of a register's values.
                    unsafe { storeu_ps(out.as_mut_ptr(), add_ps(loadu_ps(out.as_ptr()), sum)) };
                }
            }
        }

        /// Products of `R` rows with the columns of `V` registers from `first` on, out of `width`. If `FAR`,
        /// prefetches the rows that follow.
        #[inline]
        #[$gate]
        fn column_sums<const V: usize, const R: usize, const FAR: bool>(
            columns: &[f32],
            width: usize,
            first: usize,
            rows: &[f32],
            dims: usize,
        ) -> [[Floats; V]; R] {
            assert!(first + V * FLOATS <= width && columns.len() == dims * width && rows.len() == R * dims);
            let (columns, from) = (columns.as_ptr(), rows.as_ptr());
            let mut sums = [[setzero_ps(); V]; R];
            for start in (0..dims).step_by(if FAR { 16 } else { dims }) {
                let end = if FAR { dims.min(start + 16) } else { dims };
                for line in 0..if FAR { R } else { 0 } {
                    _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add((dims + start) * R + 16 * line).cast());
                }
                for j in start..end {
                    let mut values = [setzero_ps(); V];
                    for (v, value) in values.iter_mut().enumerate() {
                        // SAFETY: of the values numbered j, those from `first` on, by the assertion.
                        *value = unsafe { loadu_ps(columns.add(j * width + first + v * FLOATS)) };
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: value j of row r < R, by the assertion.
                        let x = set1_ps(unsafe { *from.add(r * dims + j) });
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum = fmadd_ps(value, x, *sum);
                        }
                    }
                }
            }
            sums
        }

        /// The register from value `at` on.
        #[inline]
        #[$gate]
        fn floats(values: &[f32], at: usize) -> Floats {
            let values = &values[at..at + FLOATS];
            // SAFETY: the slice has as many values.
            unsafe { loadu_ps(values.as_ptr()) }
        }
    };
}
pub(super) use column_sums;

/// Loops of plain Rust, compiled for this CPU: `$rows` rows and `$columns` columns of [`Kernel::ordered`](super::Kernel::ordered)
/// at a time, as registers hold.
macro_rules! plain_loops {
    ($gate:meta, ordered by $rows:literal x $columns:literal) => {
        #[$gate]
        fn ordered(columns: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
            ordered::sums::<$rows, $columns>(columns, rows, dims, out);
        }

        #[$gate]
        fn dot_above(query: &[f32], rows: &[f32], dims: usize, slack: f32, out: &mut [f32]) {
            float32_keys::sums(query, rows, dims, out, DotAbove { slack });
        }

        #[$gate]
        fn dot_above_f64(query: &[f64], rows: &[f64], dims: usize, slack: f32, out: &mut [f32]) {
            float32_keys::sums(query, rows, dims, out, DotAbove { slack });
        }

        #[$gate]
        fn minus_distance(query: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
            float32_keys::sums(query, rows, dims, out, MinusDistance);
        }

        #[$gate]
        fn minus_distance_f64(query: &[f64], rows: &[f64], dims: usize, out: &mut [f32]) {
            float32_keys::sums(query, rows, dims, out, MinusDistance);
        }

        #[$gate]
        fn by_norm(terms: &ByNorm, norms: &[f64], values: &mut [f32]) {
            by_norm::replace(terms, norms, values);
        }

        #[$gate]
        fn lane_max(bounds: &[f32], most: &mut [f32]) {
            lane_max::lanes(bounds, most);
        }

        #[$gate]
        fn int16(row: &[f32], frame: &Affine, planes: &mut Planes) -> Int16Row {
            int16::round(row, frame, planes)
        }
    };
}
pub(super) use plain_loops;

/// The steps of [`Kernel::bounds`](super::Kernel::bounds) before and after the sums.
macro_rules! line_bounds {
    ($gate:meta) => {
        /// For each row the sums of [`RECONSTRUCTION`] times the bytes of a plane, less `high_sum` and `low_sum` of the probe.
        #[derive(Clone, Copy)]
        struct Sums {
            high: Ints,
            low: Ints,
        }

        /// [`RECONSTRUCTION`] in every sixteen bytes of a register.
        #[inline]
        #[$gate]
        pub fn levels() -> Ints {
            // SAFETY: an array of sixteen bytes.
            broadcast_128(unsafe { _mm_loadu_si128(RECONSTRUCTION.as_ptr().cast()) })
        }

        /// The levels of the low and of the high nibbles of `codes`.
        #[inline]
        #[$gate]
        fn both(levels: Ints, codes: Ints) -> [Ints; 2] {
            let nibble = set1_epi8(0x0f);
            let numbers = [and_ints(codes, nibble), and_ints(srli_epi16::<4>(codes), nibble)];
            [shuffle_epi8(levels, numbers[0]), shuffle_epi8(levels, numbers[1])]
        }

        /// Four bytes in every lane, by a broadcast from memory: one from a general register would take the port of the sums.
        #[inline]
        #[$gate]
        fn every_lane(bytes: &[i8; 4]) -> Ints {
            // SAFETY: an array of four bytes.
            set1_epi32(unsafe { bytes.as_ptr().cast::<i32>().read_unaligned() })
        }

        /// The bounds of the `at`-th register of rows from their sums.
        #[inline]
        #[$gate]
        fn finish(probe: &CoarseQuery, lines: &Lines, sums: Sums, at: usize, out: &mut [f32]) {
            let add = |sum: Floats, a: Floats, b: Floats| add_ps(sum, mul_ps(a, b));
            let sum = add(cvtepi32_ps(sums.low), set1_ps(256.0), cvtepi32_ps(sums.high));
            // SAFETY: an array of a register's values.
            let offset = unsafe { loadu_ps(lines.offsets.as_chunks::<FLOATS>().0[at].as_ptr()) };
            let bound = add(add_ps(offset, set1_ps(probe.base)), sum, set1_ps(probe.step));
            let bound = add(bound, set1_ps(probe.leading), residuals(lines.leading, at));
            let bound = add(bound, set1_ps(probe.trailing), residuals(lines.trailing, at));
            // SAFETY: as above.
            unsafe { storeu_ps(out.as_chunks_mut::<FLOATS>().0[at].as_mut_ptr(), bound) };
        }

        /// The `at`-th register of residual norms, of which the upper 16 bits are stored.
        #[inline]
        #[$gate]
        fn residuals(halves: &[u16], at: usize) -> Floats {
            // SAFETY: an array of as many halves.
            let halves = unsafe { loadu_half_ints(halves.as_chunks::<FLOATS>().0[at].as_ptr().cast()) };
            castints_ps(slli_epi32::<16>(cvtepu16_epi32(halves)))
        }
    };
}
pub(super) use line_bounds;

/// The steps of [`Kernel::int8_batch`](super::Kernel::int8_batch) before and after the sums.
macro_rules! batch_bounds {
    ($gate:meta) => {
        /// For each row of a register a query's sum in two parts: 256 times the first, plus the second.
        type Sums = [Ints; 2];

        /// Indices for `shuffle_epi8`, the same in every sixteen bytes.
        #[inline]
        #[$gate]
        fn spread([a, b, c, d]: [u32; 4]) -> Ints {
            broadcast_128(_mm_set_epi32(d as i32, c as i32, b as i32, a as i32))
        }

        /// Four bytes in every lane, loaded as one.
        #[inline]
        #[$gate]
        unsafe fn every_lane(bytes: *const i32) -> Ints {
            // SAFETY: the caller vouches for four bytes.
            set1_epi32(unsafe { bytes.read_unaligned() })
        }

        /// The sums less `high_sum` and `low_sum` of the query.
        #[inline]
        #[$gate]
        fn less(sums: Sums, factors: &BoundFactors) -> Sums {
            [sub_epi32(sums[0], set1_epi32(factors.high_sum)), sub_epi32(sums[1], set1_epi32(factors.low_sum))]
        }

        /// The bounds of the `at`-th register of rows for a query, from what `less` returns.
        #[inline]
        #[$gate]
        fn bounds_of(factors: &BoundFactors, wide: &UnpackedCodes, [high, low]: Sums, at: usize) -> Floats {
            let rows = |values: &[f32]| {
                // SAFETY: an array of a register's values.
                unsafe { loadu_ps(values.as_chunks::<FLOATS>().0[at].as_ptr()) }
            };
            let sum = fmadd_ps(set1_ps(256.0), cvtepi32_ps(high), cvtepi32_ps(low));
            let bound = add_ps(rows(wide.offsets), set1_ps(factors.base));
            let bound = fmadd_ps(sum, set1_ps(factors.step), bound);
            fmadd_ps(set1_ps(factors.residual), rows(wide.residuals), bound)
        }
    };
}
pub(super) use batch_bounds;
