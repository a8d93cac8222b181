//! Every kernel that this CPU can run returns the scalar kernel's bits; every tile keeps what a
//! float64 evaluation says it must. `NSEEKFS_TEST_KERNELS` (`scalar,portable,avx2,avx512`) names
//! the kernels whose absence is a failure.

mod random;

use nseekfs::kernel::{ByNorm, COLUMNS, Kernel, Tile, available, padded, runnable, scalar};
use proptest::prelude::*;
use random::Random;

/// Half a unit in the last place of float32, relative.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Where every sequence of loads has its own tail.
fn all_dims() -> impl Iterator<Item = usize> {
    (1..=65).chain([96, 127, 384, 385, 1000, 4097])
}

impl Random {
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly standard normal: twelve uniforms.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// What the values of a table are like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Values {
    Gaussian,
    /// Magnitudes from 1e-30 to 1e18, zeros of both signs, subnormals of float32.
    Wild,
}

impl Values {
    fn f32(self, random: &mut Random) -> f32 {
        let sign = if random.next() & 1 == 0 { 1.0 } else { -1.0 };
        match (self, random.next() % 8) {
            (Values::Gaussian, _) => random.normal() as f32,
            (Values::Wild, 0) => 0.0f32.copysign(sign),
            (Values::Wild, 1) => f32::from_bits(random.next() as u32 & 0x007f_ffff).copysign(sign),
            (Values::Wild, _) => sign * 10f32.powf(random.uniform() as f32 * 48.0 - 30.0),
        }
    }

    /// As [`Values::f32`] with all digits of float64 and magnitudes from 1e-170, whose squares
    /// vanish, to 1e150.
    fn f64(self, random: &mut Random) -> f64 {
        let sign = if random.next() & 1 == 0 { 1.0 } else { -1.0 };
        match (self, random.next() % 8) {
            (Values::Gaussian, _) => random.normal(),
            (Values::Wild, 0) => 0.0f64.copysign(sign),
            (Values::Wild, 1) => f64::from_bits(random.next() & 0x000f_ffff_ffff_ffff).copysign(sign),
            (Values::Wild, _) => sign * 10f64.powf(random.uniform() * 320.0 - 170.0),
        }
    }
}

fn others() -> impl Iterator<Item = &'static Kernel> {
    available().into_iter().filter(|kernel| kernel.name != scalar::KERNEL.name)
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Compares every sum of every kernel with the scalar one, on rows that start off alignment.
fn sums_are_the_scalar_bits(dims: usize, rows: usize, values: Values, seed: u64) {
    let mut random = Random::seeded(seed);
    let narrow: Vec<f32> = (0..rows * dims + 1).map(|_| values.f32(&mut random)).collect();
    let wide: Vec<f64> = (0..rows * dims + 1).map(|_| values.f64(&mut random)).collect();
    let (narrow, wide) = (&narrow[1..], &wide[1..]);
    let (mut query, mut query_f64) = (vec![0.0; padded(dims)], vec![0.0; padded(dims)]);
    query[..dims].fill_with(|| f64::from(values.f32(&mut random)));
    query_f64[..dims].fill_with(|| values.f64(&mut random));

    let all = |kernel: &Kernel| {
        let mut sums = vec![vec![f64::NAN; rows]; 6];
        (kernel.dot)(&query, narrow, dims, &mut sums[0]);
        (kernel.dot_f64)(&query_f64, wide, dims, &mut sums[1]);
        (kernel.squared_distance)(&query, narrow, dims, &mut sums[2]);
        (kernel.squared_distance_f64)(&query_f64, wide, dims, &mut sums[3]);
        (kernel.squared_norm)(narrow, dims, &mut sums[4]);
        (kernel.squared_norm_f64)(wide, dims, &mut sums[5]);
        sums
    };
    let names = ["dot", "dot_f64", "squared_distance", "squared_distance_f64", "squared_norm", "squared_norm_f64"];
    let expected = all(&scalar::KERNEL);
    for kernel in others() {
        for ((expected, got), name) in expected.iter().zip(all(kernel)).zip(names) {
            assert!(expected.iter().all(|sum| sum.is_finite()));
            assert_eq!(bits(&got), bits(expected), "{} {name}: {rows} rows of {dims}, {values:?}, seed {seed}", kernel.name);
        }
    }
}

#[test]
fn kernels_that_ci_asks_for_are_available() {
    let names: Vec<&str> = available().iter().map(|kernel| kernel.name).collect();
    let asked = std::env::var("NSEEKFS_TEST_KERNELS").unwrap_or_default();
    for name in asked.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        assert!(names.contains(&name), "NSEEKFS_TEST_KERNELS asks for {name}; this CPU runs {}", names.join(", "));
    }
}

/// The sum as the module's header words it.
fn worded(terms: &[f64]) -> f64 {
    let mut lanes: Vec<f64> = (0..32).map(|l| terms.iter().skip(l).step_by(32).fold(0.0, |sum, term| sum + term)).collect();
    while lanes.len() > 1 {
        let upper = lanes.split_off(lanes.len() / 2);
        lanes.iter_mut().zip(upper).for_each(|(lane, other)| *lane += other);
    }
    lanes[0]
}

#[test]
fn scalar_sums_are_the_worded_definition() {
    let mut random = Random::seeded(5);
    for dims in all_dims() {
        let mut query = vec![0.0; padded(dims)];
        query[..dims].fill_with(|| Values::Gaussian.f64(&mut random));
        let row: Vec<f64> = (0..dims).map(|_| Values::Gaussian.f64(&mut random)).collect();
        let terms = |term: &dyn Fn(f64, f64) -> f64| query.iter().zip(&row).map(|(&q, &x)| term(q, x)).collect::<Vec<f64>>();
        let mut got = [f64::NAN; 3];
        (scalar::KERNEL.dot_f64)(&query, &row, dims, &mut got[..1]);
        (scalar::KERNEL.squared_distance_f64)(&query, &row, dims, &mut got[1..2]);
        (scalar::KERNEL.squared_norm_f64)(&row, dims, &mut got[2..]);
        let expected = [worded(&terms(&|q, x| q * x)), worded(&terms(&|q, x| (q - x) * (q - x))), worded(&terms(&|_, x| x * x))];
        assert_eq!(bits(&got), bits(&expected), "{dims} dims");
    }
}

#[test]
fn scalar_f16_is_the_formula_of_ieee_754() {
    for code in (0..=u16::MAX).filter(|code| code & 0x7c00 != 0x7c00) {
        let (exponent, fraction) = (i32::from(code >> 10 & 31), f64::from(code & 1023));
        let magnitude = if exponent == 0 { fraction * 2f64.powi(-24) } else { (1024.0 + fraction) * 2f64.powi(exponent - 25) };
        let mut out = [f32::NAN];
        (scalar::KERNEL.decode_f16)(&[code], &mut out);
        let expected = if code >> 15 == 1 { -magnitude } else { magnitude };
        assert_eq!(f64::from(out[0]).to_bits(), expected.to_bits(), "code {code:#06x}");
    }
}

#[test]
fn sums_are_the_scalar_bits_for_every_tail() {
    for dims in all_dims() {
        for rows in [1, 4, 7, 10] {
            for values in [Values::Gaussian, Values::Wild] {
                sums_are_the_scalar_bits(dims, rows, values, (dims * 100 + rows) as u64);
            }
        }
    }
}

#[test]
fn sums_are_the_scalar_bits_for_every_count_of_rows() {
    for rows in (0..=17).chain([31, 64, 101]) {
        for dims in [1, 31, 32, 33, 100, 384] {
            for values in [Values::Gaussian, Values::Wild] {
                sums_are_the_scalar_bits(dims, rows, values, (dims * 100 + rows) as u64);
            }
        }
    }
}

#[test]
fn sums_of_few_dims_are_the_scalar_bits() {
    for dims in 1..=40 {
        for rows in [8, 9, 16, 24, 33, 64] {
            for values in [Values::Gaussian, Values::Wild] {
                sums_are_the_scalar_bits(dims, rows, values, (dims * 100 + rows) as u64);
            }
        }
    }
}

#[test]
fn sums_at_places_are_those_of_all_rows() {
    let mut random = Random::seeded(23);
    for dims in all_dims() {
        let rows: Vec<f32> = (0..9 * dims).map(|_| Values::Wild.f32(&mut random)).collect();
        let mut query = vec![0.0; padded(dims)];
        query[..dims].fill_with(|| f64::from(Values::Wild.f32(&mut random)));
        let (mut dots, mut distances) = (vec![0.0; 9], vec![0.0; 9]);
        (scalar::KERNEL.dot)(&query, &rows, dims, &mut dots);
        (scalar::KERNEL.squared_distance)(&query, &rows, dims, &mut distances);
        for kernel in available() {
            for places in [&[][..], &[3], &[8, 0, 8, 1], &[7, 6, 5, 4, 3, 2, 1, 0, 8, 8, 2]] {
                let (mut got, mut got_distances) = (vec![f64::NAN; places.len()], vec![f64::NAN; places.len()]);
                (kernel.dot_at)(&query, &rows, dims, places, &mut got);
                (kernel.squared_distance_at)(&query, &rows, dims, places, &mut got_distances);
                let at = |sums: &[f64]| bits(&places.iter().map(|&place| sums[place as usize]).collect::<Vec<f64>>());
                assert_eq!((bits(&got), bits(&got_distances)), (at(&dots), at(&distances)), "{}, {dims} dims", kernel.name);
            }
        }
    }
}

/// Rows are summed side by side; what a file that is damaged holds in one must not reach the others.
#[test]
fn a_row_that_is_not_finite_changes_no_other_sum() {
    let mut random = Random::seeded(7);
    for dims in 1..=40 {
        let mut values: Vec<f32> = (0..40 * dims).map(|_| Values::Gaussian.f32(&mut random)).collect();
        let mut query = vec![0.0; padded(dims)];
        query[..dims].fill_with(|| f64::from(Values::Gaussian.f32(&mut random)));
        for (row, x) in values.chunks_exact_mut(dims).enumerate().skip(1).step_by(2) {
            x.fill([f32::INFINITY, f32::NAN][row / 2 % 2]);
        }
        for kernel in others() {
            for (own, scalar) in [(kernel.dot, scalar::KERNEL.dot), (kernel.squared_distance, scalar::KERNEL.squared_distance)] {
                let (mut got, mut expected) = (vec![1.0; 40], vec![2.0; 40]);
                own(&query, &values, dims, &mut got);
                scalar(&query, &values, dims, &mut expected);
                let even = |sums: &[f64]| bits(&sums.iter().copied().step_by(2).collect::<Vec<f64>>());
                assert_eq!(even(&got), even(&expected), "{}, {dims} dims", kernel.name);
            }
        }
    }
}

#[test]
fn bounds_that_reach_a_threshold_have_the_scalar_places() {
    let mut random = Random::seeded(5);
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0];
    for count in (0..70).chain([4096, 4099]) {
        let bounds: Vec<f32> =
            (0..count).map(|i| if i % 7 == 3 { odd[random.next() as usize % odd.len()] } else { random.normal() as f32 }).collect();
        for threshold in [0.0, -0.0, 0.7, 9.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN] {
            let not_below =
                (0..count as u32).filter(|&i| !matches!(bounds[i as usize].partial_cmp(&threshold), Some(std::cmp::Ordering::Less)));
            let expected: Vec<u32> = not_below.collect();
            for kernel in others().chain([&scalar::KERNEL]) {
                let mut places = vec![7; bounds.len()];
                let reached = (kernel.at_least)(&bounds, threshold, &mut places);
                assert_eq!(places[..reached], expected, "{}, {count} bounds, threshold {threshold}", kernel.name);
            }
        }
    }
}

#[test]
fn the_lane_max_of_each_lane_is_the_lane_max_finite_bound() {
    let mut random = Random::seeded(6);
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0];
    for (count, lanes) in (0..70).map(|count| (count, 1 + count % 40)).chain([(4099, 128), (5000, 512), (333, 112)]) {
        let bounds: Vec<f32> =
            (0..count).map(|i| if i % 5 == 3 { odd[random.next() as usize % odd.len()] } else { random.normal() as f32 }).collect();
        for start in [f32::NEG_INFINITY, 0.5] {
            let of_lane = |lane: usize| bounds.iter().skip(lane).step_by(lanes).filter(|bound| **bound < f32::INFINITY);
            let expected: Vec<f32> = (0..lanes).map(|lane| of_lane(lane).fold(start, |most, &bound| most.max(bound))).collect();
            for kernel in others().chain([&scalar::KERNEL]) {
                let mut most = vec![start; lanes];
                (kernel.lane_max)(&bounds, &mut most);
                assert_eq!(most, expected, "{}, {count} bounds in {lanes} lanes", kernel.name);
            }
        }
    }
}

#[test]
fn every_f16_code_decodes_to_the_scalar_bits() {
    let codes: Vec<u16> = (0..=u16::MAX).collect();
    let decode = |kernel: &Kernel, codes: &[u16]| {
        let mut out = vec![1.0; codes.len()];
        (kernel.decode_f16)(codes, &mut out);
        out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    for kernel in others() {
        assert_eq!(decode(kernel, &codes), decode(&scalar::KERNEL, &codes), "{}", kernel.name);
        for tail in (0..=40).map(|length| &codes[codes.len() / 3..][..length]) {
            assert_eq!(decode(kernel, tail), decode(&scalar::KERNEL, tail), "{}: {} codes", kernel.name, tail.len());
        }
    }
}

#[test]
fn every_f8_code_decodes_to_the_scalar_bits() {
    let subnormal = f32::from_bits(3);
    let scales = [1.0, 0.007_874_016, subnormal, f32::from_bits(0x007f_ffff), f32::MIN_POSITIVE, 0.0, f32::MAX / 128.0];
    for dims in (1..=65).chain([256, 1000]) {
        let codes: Vec<i8> = (0..scales.len() * dims).map(|i| (i % dims) as u8 as i8).collect();
        let decode = |kernel: &Kernel| {
            let mut out = vec![1.0; codes.len()];
            (kernel.decode_f8)(&codes, &scales, dims, &mut out);
            out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        for kernel in others() {
            assert_eq!(decode(kernel), decode(&scalar::KERNEL), "{}: {dims} codes a row", kernel.name);
        }
    }
}

/// `rows` rows against 32 columns, on top of what is there already.
fn products_are_what_float64_says(dims: usize, rows: usize, values: Values, seed: u64) {
    let mut random = Random::seeded(seed);
    let columns: Vec<f32> = (0..COLUMNS * dims).map(|_| values.f32(&mut random)).collect();
    let matrix: Vec<f32> = (0..rows * dims).map(|_| values.f32(&mut random)).collect();
    let before: Vec<f32> = (0..rows * COLUMNS).map(|_| values.f32(&mut random)).collect();
    for kernel in available() {
        let mut out = before.clone();
        (kernel.products)(&columns, &matrix, dims, &mut out);
        for (at, (&out, &before)) in out.iter().zip(&before).enumerate() {
            let terms = (0..dims).map(|j| f64::from(matrix[at / COLUMNS * dims + j]) * f64::from(columns[j * COLUMNS + at % COLUMNS]));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
            let size = size + f64::from(before.abs());
            let bound = (dims as f64 + 2.0) * U * 1.01 * size + (dims as f64 + 1.0) * f64::from(f32::from_bits(1));
            let error = (f64::from(out) - sum - f64::from(before)).abs();
            // Beyond float32 there is nothing to compare.
            assert!(error <= bound || size > f64::from(f32::MAX), "{}: {rows} rows of {dims}: {error:e} of {bound:e}", kernel.name);
        }
    }
}

#[test]
fn products_are_what_float64_says_for_every_shape() {
    for (i, dims) in all_dims().enumerate() {
        for rows in [0, 1, 5, 29] {
            products_are_what_float64_says(dims, rows, Values::Gaussian, i as u64);
            products_are_what_float64_says(dims, rows, Values::Wild, i as u64);
        }
    }
}

#[test]
fn products_are_summed_before_they_are_added() {
    // Each product is a quarter of a unit in the last place of what is there: added one by one, all are lost.
    let (dims, start) = (128, 16_777_216.0f32);
    for kernel in runnable() {
        for rows in [1, 5] {
            let mut out = vec![start; rows * COLUMNS];
            (kernel.products)(&vec![1.0; dims * COLUMNS], &vec![0.5; rows * dims], dims, &mut out);
            assert_eq!(out, vec![start + 64.0; rows * COLUMNS], "{}", kernel.name);
        }
    }
}

#[test]
fn ordered_products_are_the_same_bits_everywhere() {
    let mut random = Random::seeded(12);
    for dims in all_dims() {
        for rows in [0, 1, 2, 7, 8, 29] {
            let columns: Vec<f32> = (0..COLUMNS * dims).map(|_| Values::Gaussian.f32(&mut random)).collect();
            let matrix: Vec<f32> = (0..rows * dims).map(|_| Values::Gaussian.f32(&mut random)).collect();
            let sum =
                |at: usize| (0..dims).fold(0.0f32, |sum, j| sum + matrix[at / COLUMNS * dims + j] * columns[j * COLUMNS + at % COLUMNS]);
            let want: Vec<u32> = (0..rows * COLUMNS).map(|at| sum(at).to_bits()).collect();
            for kernel in runnable() {
                // What was there before does not count.
                let mut out = vec![f32::NAN; rows * COLUMNS];
                (kernel.ordered)(&columns, &matrix, dims, &mut out);
                assert_eq!(out.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want, "{}: {rows} rows of {dims}", kernel.name);
            }
        }
    }
}

/// Rows of words against 32 columns, the largest among them.
#[test]
fn rotated_words_are_exact_sums() {
    let mut random = Random::seeded(9);
    for (dims, rows) in [(2, 1), (4, 3), (6, 4), (34, 5), (130, 9), (384, 16), (1538, 2)] {
        let largest = (i32::MAX / dims as i32).isqrt().min(32_767);
        let mut word = || match random.next() % 8 {
            0 => largest as i16,
            1 => -largest as i16,
            _ => ((random.uniform() * 2.0 - 1.0) * f64::from(largest)) as i16,
        };
        let columns: Vec<i16> = (0..dims * COLUMNS).map(|_| word()).collect();
        let matrix: Vec<i16> = (0..dims * rows).map(|_| word()).collect();
        let product = |row: usize, column: usize, j: usize| {
            i64::from(matrix[row * dims + j]) * i64::from(columns[2 * (j / 2 * COLUMNS + column) + j % 2])
        };
        let sum = |at: usize| (0..dims).map(|j| product(at / COLUMNS, at % COLUMNS, j)).sum::<i64>();
        let expected: Vec<i64> = (0..rows * COLUMNS).map(sum).collect();
        for kernel in available() {
            let mut out = vec![-1; rows * COLUMNS];
            (kernel.rotate)(&columns, &matrix, &mut out);
            let out: Vec<i64> = out.into_iter().map(i64::from).collect();
            assert_eq!(out, expected, "{}: {rows} rows of {dims}", kernel.name);
        }
    }
}

/// One call of a tile: `rows` rows against `queries` queries, the columns beyond them idle.
struct TileCase {
    width: usize,
    dims: usize,
    columns: Vec<f32>,
    slope: Vec<f32>,
    rows: Vec<f32>,
    norms: Vec<f32>,
    halves: Vec<f32>,
}

impl TileCase {
    fn random(width: usize, queries: usize, dims: usize, rows: usize, values: Values, random: &mut Random) -> Self {
        let mut columns = vec![0.0; width * dims];
        for column in columns.chunks_exact_mut(width) {
            column[..queries].fill_with(|| values.f32(random));
        }
        let mut several = |count: usize| (0..count).map(|_| random.normal() as f32).collect::<Vec<f32>>();
        let (slope, norms, halves) = (several(width), several(rows), several(rows));
        let rows = (0..rows * dims + 1).map(|_| values.f32(random)).collect();
        TileCase { width, dims, columns, slope, rows, norms, halves }
    }

    /// Left-hand side of query i and row r in float64, and how far a float32 one may be from it.
    ///
    /// A float32 sum of dims products errs by less than (dims + 8) u |q||x| for dims <= 11,585, plus
    /// half the least subnormal a product; three more roundings by u of what they round, each.
    fn reach(&self, i: usize, r: usize) -> (f64, f64) {
        let row = &self.rows[1 + r * self.dims..][..self.dims];
        let (mut sum, mut qq, mut xx) = (0.0, 0.0, 0.0);
        for (&x, column) in row.iter().zip(self.columns.chunks_exact(self.width)) {
            let (q, x) = (f64::from(column[i]), f64::from(x));
            sum += q * x;
            qq += q * q;
            xx += x * x;
        }
        let lift = f64::from(self.slope[i]) * f64::from(self.norms[r]);
        let half = f64::from(self.halves[r]);
        let dims = self.dims as f64;
        let bound = (dims + 8.0) * U * (qq * xx).sqrt() + (dims + 3.0) * f64::from(f32::from_bits(1));
        (sum + lift - half, bound + 4.0 * U * ((qq * xx).sqrt() + lift.abs() + half.abs()))
    }

    fn keep(&self, kernel: &Kernel, threshold: &[f32]) -> Vec<u32> {
        let tile = Tile { width: self.width, columns: &self.columns, slope: &self.slope, threshold };
        let mut keep = vec![0xdead_beef; self.norms.len()];
        (kernel.tile)(&tile, &self.rows[1..], self.dims, &self.norms, &self.halves, &mut keep);
        keep
    }

    /// Thresholds within a few bounds of what some row reaches, so that both answers are put to the test.
    fn check(&self, random: &mut Random) {
        let rows = self.norms.len();
        let threshold: Vec<f32> = (0..self.width)
            .map(|i| match rows {
                0 => 0.0,
                _ => {
                    let (reach, bound) = self.reach(i, random.next() as usize % rows);
                    (reach + bound * (random.uniform() * 8.0 - 4.0)) as f32
                }
            })
            .collect();
        let all = (u32::MAX >> (32 - self.width), 0);
        for kernel in available() {
            let shape = format!("{}: width {}, {rows} rows of {}", kernel.name, self.width, self.dims);
            for (r, keep) in self.keep(kernel, &threshold).into_iter().enumerate() {
                assert_eq!(keep & !all.0, 0, "{shape}: a bit beyond the width");
                for (i, &threshold) in threshold.iter().enumerate() {
                    let (reach, bound) = self.reach(i, r);
                    let (above, set) = (reach - f64::from(threshold), keep >> i & 1 == 1);
                    assert!(set || above <= bound, "{shape}: query {i} missed row {r}, {above:e} above its threshold, bound {bound:e}");
                    assert!(!set || above >= -bound, "{shape}: query {i} kept row {r}, {above:e} above its threshold, bound {bound:e}");
                }
            }
            assert_eq!(self.keep(kernel, &vec![f32::INFINITY; self.width]), vec![all.1; rows], "{shape}: idle columns");
            assert_eq!(self.keep(kernel, &vec![f32::NEG_INFINITY; self.width]), vec![all.0; rows], "{shape}: no threshold");
        }
    }
}

#[test]
fn tiles_keep_what_float64_says_for_every_count_of_rows() {
    let mut random = Random::seeded(7);
    for rows in (0..=40).chain([255, 256]) {
        for (width, queries, dims) in [(16, 16, 384), (32, 32, 384), (16, 3, 33), (32, 17, 1), (32, 29, 100)] {
            TileCase::random(width, queries, dims, rows, Values::Gaussian, &mut random).check(&mut random);
        }
    }
}

/// Small whole numbers round nowhere, so every bit is known, ties with the threshold included.
#[test]
fn tiles_keep_ties_with_the_threshold() {
    let mut random = Random::seeded(6);
    for (width, dims, rows) in [(16, 40, 31), (32, 40, 31), (32, 384, 12), (32, 100, 0)] {
        let mut case = TileCase::random(width, width, dims, rows, Values::Gaussian, &mut random);
        for values in [&mut case.columns, &mut case.slope, &mut case.rows, &mut case.norms, &mut case.halves] {
            values.iter_mut().for_each(|value| *value = value.round());
        }
        let reach = |i: usize, r: usize| case.reach(i, r).0 as f32;
        let threshold: Vec<f32> = (0..width).map(|i| if rows == 0 { 0.0 } else { reach(i, i % rows) }).collect();
        let expected: Vec<u32> = (0..rows).map(|r| (0..width).map(|i| u32::from(reach(i, r) >= threshold[i]) << i).sum()).collect();
        for kernel in available() {
            assert_eq!(case.keep(kernel, &threshold), expected, "{}: width {width}, {rows} rows of {dims}", kernel.name);
        }
    }
}

/// More rows than a cache holds take other paths.
#[test]
fn tiles_keep_what_float64_says_of_rows_from_memory() {
    let mut random = Random::seeded(9);
    for (width, dims, rows) in [(16, 4097, 140), (32, 1000, 600)] {
        assert!(rows * dims * size_of::<f32>() > 2 << 20);
        TileCase::random(width, width, dims, rows, Values::Gaussian, &mut random).check(&mut random);
    }
}

#[test]
fn tiles_keep_what_float64_says_for_every_dims() {
    let mut random = Random::seeded(8);
    for dims in all_dims() {
        for (width, values) in [(16, Values::Gaussian), (32, Values::Gaussian), (16, Values::Wild), (32, Values::Wild)] {
            TileCase::random(width, width, dims, 29, values, &mut random).check(&mut random);
        }
    }
}

/// Compares float32 keys of every kernel with float64 sums: `terms` are `sum |q_j x_j|`, `sum q_j x_j` and the squared
/// distance of each row.
fn check_float32_keys(dims: usize, slack: f32, terms: &[[f64; 3]], keys: &dyn Fn(&Kernel, [&mut [f32]; 2]), case: &str) {
    let (band, tiny) = (f64::from(slack), (dims as f64 + 1.0) * 2f64.powi(-148));
    for kernel in available() {
        let (mut above, mut minus) = (vec![f32::NAN; terms.len()], vec![f32::NAN; terms.len()]);
        keys(kernel, [&mut above, &mut minus]);
        for ((&[magnitude, dot, distance], above), minus) in terms.iter().zip(above).zip(minus) {
            let (above, minus) = (f64::from(above), f64::from(minus));
            assert!(above >= dot - tiny, "{} {case}: {above} is below {dot}", kernel.name);
            assert!(above <= dot + 2.1 * band * magnitude + tiny, "{} {case}: {above} is far above {dot}", kernel.name);
            if minus.is_finite() {
                let error = band * distance + tiny;
                assert!((minus + distance).abs() <= error, "{} {case}: {minus} for {distance}", kernel.name);
            } else {
                assert!(distance > 1e38, "{} {case}: infinite for {distance}", kernel.name);
            }
        }
    }
}

#[test]
fn float32_keys_are_within_their_error_bound() {
    let mut random = Random::seeded(17);
    for (dims, rows) in (1..=65).flat_map(|dims| [1, 7, 8, 9, 30].map(|rows| (dims, rows))) {
        // As scans choose it.
        let slack = ((1.01 * (dims as f64 + 16.0) * U) as f32).next_up();
        for (values, near) in [(Values::Gaussian, false), (Values::Gaussian, true), (Values::Wild, false), (Values::Wild, true)] {
            let mut query = vec![0.0f32; padded(dims)];
            query[..dims].fill_with(|| values.f32(&mut random));
            // Off alignment, and some rows a few units in the last place from the query: the worst cancellation.
            let mut table: Vec<f32> = (0..rows * dims + 1).map(|_| values.f32(&mut random)).collect();
            if near {
                let near = |(i, x): (usize, &mut f32)| *x = f32::from_bits(query[i % dims].to_bits() ^ (random.next() & 3) as u32);
                table[1..].iter_mut().enumerate().for_each(near);
            }
            // All digits of float64.
            let widen = |x: &f32| f64::from(*x) * 1.000000123456789;
            let (wide_query, wide): (Vec<f64>, Vec<f64>) = (query.iter().map(widen).collect(), table.iter().map(widen).collect());
            let terms = |query: &[f64], rows: &[f64]| -> Vec<[f64; 3]> {
                let sum = |row: &[f64], term: &dyn Fn(f64, f64) -> f64| query.iter().zip(row).map(|(&q, &x)| term(q, x)).sum::<f64>();
                let three = |row| [sum(row, &|q, x| (q * x).abs()), sum(row, &|q, x| q * x), sum(row, &|q, x| (q - x) * (q - x))];
                rows.chunks_exact(dims).map(three).collect()
            };
            let exactly = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let case = format!("{rows} rows of {dims}, {values:?}, near {near}");
            let keys = |kernel: &Kernel, [above, minus]: [&mut [f32]; 2]| {
                (kernel.dot_above)(&query, &table[1..], dims, slack, above);
                (kernel.minus_distance)(&query, &table[1..], dims, minus);
            };
            check_float32_keys(dims, slack, &terms(&exactly(&query), &exactly(&table[1..])), &keys, &case);
            let keys = |kernel: &Kernel, [above, minus]: [&mut [f32]; 2]| {
                (kernel.dot_above_f64)(&wide_query, &wide[1..], dims, slack, above);
                (kernel.minus_distance_f64)(&wide_query, &wide[1..], dims, minus);
            };
            check_float32_keys(dims, slack, &terms(&wide_query, &wide[1..]), &keys, &case);
        }
    }
}

#[test]
fn functions_of_norms_are_the_scalar_bits_and_rounded_up() {
    let mut random = Random::seeded(19);
    for count in (0..40).chain([1000]) {
        for wild in [Values::Gaussian, Values::Wild] {
            let values: Vec<f32> = (0..count).map(|_| wild.f32(&mut random)).collect();
            let norms: Vec<f64> = (0..count).map(|_| f64::from(wild.f32(&mut random).abs())).collect();
            let [value, product, norm, square, constant] = [(); 5].map(|()| random.normal());
            let terms = ByNorm { value, product, norm, square, constant };
            let mut expected = values.clone();
            (scalar::KERNEL.by_norm)(&terms, &norms, &mut expected);
            for ((&got, &v), &n) in expected.iter().zip(&values).zip(&norms) {
                let v = f64::from(v);
                let exact = (product * v + norm) * n + (square * n * n + constant + value * v);
                assert!(
                    f64::from(got) >= exact && (got == f32::INFINITY || f64::from(got.next_down().next_down()) < exact),
                    "{got} {exact}"
                );
            }
            for kernel in others() {
                let mut got = values.clone();
                (kernel.by_norm)(&terms, &norms, &mut got);
                assert!(got.iter().zip(&expected).all(|(got, expected)| got.to_bits() == expected.to_bits()), "{}", kernel.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn sums_are_the_scalar_bits_for_any_shape(dims in 1usize..700, rows in 0usize..40, wild: bool, seed: u64) {
        sums_are_the_scalar_bits(dims, rows, if wild { Values::Wild } else { Values::Gaussian }, seed);
    }

    #[test]
    fn tiles_keep_what_float64_says_for_any_shape(dims in 1usize..300, rows in 0usize..60, queries in 1usize..=32, wild: bool, seed: u64) {
        let (mut random, width) = (Random::seeded(seed), if queries > 16 { 32 } else { 16 });
        let values = if wild { Values::Wild } else { Values::Gaussian };
        TileCase::random(width, queries, dims, rows, values, &mut random).check(&mut random);
    }
}
