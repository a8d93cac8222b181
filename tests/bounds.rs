//! `Kernel::bounds` gives the same bits in every kernel, agrees with float64 within the roundings that its contract allows,
//! and is exact where float32 holds every intermediate result.

mod random;

use nseekfs::kernel::{CoarseQuery, LEVEL_ZERO, Lines, RECONSTRUCTION, runnable};
use proptest::prelude::*;
use random::Random;

/// Unit roundoff of float32.
const U: f64 = 1.0 / (1u64 << 24) as f64;

impl Random {
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }
}

/// A query and rows; `codes` holds an index of 0 to 15 a coordinate, row by row.
#[derive(Debug)]
struct Case {
    codes: Vec<u8>,
    high: Vec<i8>,
    low: Vec<i8>,
    high_sum: i32,
    low_sum: i32,
    /// Step, base, and the factors of leading and trailing residual norms.
    factors: [f32; 4],
    offsets: Vec<f32>,
    leading: Vec<u16>,
    trailing: Vec<u16>,
}

impl Case {
    /// Bounds without offsets and residuals: `256 * s_high + s_low`.
    fn whole(rows: usize, dims: usize, mut code: impl FnMut() -> u8, mut bytes: impl FnMut() -> (i8, i8)) -> Self {
        let (high, low) = (0..dims).map(|_| bytes()).unzip();
        Case {
            codes: (0..rows * dims).map(|_| code()).collect(),
            high,
            low,
            high_sum: 0,
            low_sum: 0,
            factors: [1.0, 0.0, 0.0, 0.0],
            offsets: vec![0.0; rows],
            leading: vec![0; rows],
            trailing: vec![0; rows],
        }
    }

    fn random(rows: usize, dims: usize, random: &mut Random) -> Self {
        let codes: Vec<u8> = (0..rows * dims).map(|_| random.next() as u8 & 15).collect();
        let mut codes = codes.into_iter();
        let mut case = Case::whole(rows, dims, || codes.next().unwrap(), || (random.next() as i8, random.next() as i8));
        let total = |plane: &[i8]| i32::from(LEVEL_ZERO) * plane.iter().map(|&byte| i32::from(byte)).sum::<i32>();
        (case.high_sum, case.low_sum) = (total(&case.high), total(&case.low));
        case.factors = [random.uniform() * 1e-5, random.uniform() - 0.5, random.uniform(), random.uniform()];
        case.offsets.fill_with(|| random.uniform() - 0.5);
        for residuals in [&mut case.leading, &mut case.trailing] {
            residuals.fill_with(|| (random.uniform().to_bits() >> 16) as u16);
        }
        case
    }

    /// The codes as in `Lines`: blocks of 16 rows, lines of 8 coordinates.
    fn lines(&self) -> Vec<u8> {
        let dims = self.high.len();
        let mut lines = vec![0; self.codes.len() / 2];
        for (at, &code) in self.codes.iter().enumerate() {
            let (row, j) = (at / dims, at % dims);
            let line = row / 16 * (dims / 8) + j / 8;
            lines[64 * line + row % 16 * 4 + j % 4] |= code << (j % 8 / 4 * 4);
        }
        lines
    }

    /// Every kernel's bounds, by codes that are not aligned.
    fn bounds(&self) -> impl Iterator<Item = (&'static str, Vec<f32>)> {
        let lines = [vec![0xff], self.lines()].concat();
        let [step, base, leading, trailing] = self.factors;
        let (high_sum, low_sum) = (self.high_sum, self.low_sum);
        runnable().into_iter().map(move |kernel| {
            let query = CoarseQuery { high: &self.high, low: &self.low, high_sum, low_sum, step, base, leading, trailing };
            let lines = Lines { codes: &lines[1..], offsets: &self.offsets, leading: &self.leading, trailing: &self.trailing, next: &[] };
            let mut out = vec![f32::NAN; self.offsets.len()];
            (kernel.bounds)(&[query], &lines, &mut out);
            if self.low.iter().all(|&byte| byte == 0) {
                let mut without = vec![f32::NAN; out.len()];
                (kernel.bounds)(&[CoarseQuery { low: &[], ..query }], &lines, &mut without);
                assert_eq!(without, out, "{}: without a plane of zeros", kernel.name);
            }
            (kernel.name, out)
        })
    }

    /// `s_high` and `s_low` of a row.
    fn sums(&self, row: usize) -> (i32, i32) {
        let codes = &self.codes[row * self.high.len()..][..self.high.len()];
        let level = |code: u8| i32::from(RECONSTRUCTION[usize::from(code)]);
        let sum = |plane: &[i8]| codes.iter().zip(plane).map(|(&code, &byte)| level(code) * i32::from(byte)).sum::<i32>();
        (sum(&self.high) - self.high_sum, sum(&self.low) - self.low_sum)
    }

    /// The terms of a row's bound, in float64.
    fn terms(&self, row: usize) -> [f64; 6] {
        let [step, base, leading, trailing] = self.factors.map(f64::from);
        let half = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
        let (high, low) = self.sums(row);
        let planes = [256.0 * f64::from(high) * step, f64::from(low) * step];
        [planes[0], planes[1], f64::from(self.offsets[row]), base, leading * half(self.leading[row]), trailing * half(self.trailing[row])]
    }

    fn shape(&self) -> String {
        format!("{} rows of {}", self.offsets.len(), self.high.len())
    }

    /// Checks for twelve roundings, each of at most u times the sum of the magnitudes of all terms.
    fn check(&self) {
        let mut first = None;
        for (name, bounds) in self.bounds() {
            assert_eq!(first.get_or_insert_with(|| bounds.clone()), &bounds, "{name}: {}", self.shape());
            for (row, bound) in bounds.into_iter().enumerate() {
                let terms = self.terms(row);
                let size: f64 = terms.iter().map(|term| term.abs()).sum();
                let error = (f64::from(bound) - terms.iter().sum::<f64>()).abs();
                assert!(error <= 12.0 * U * size, "{name}: row {row} of {} is off by {error:e}, size {size:e}", self.shape());
            }
        }
    }

    /// Checks bounds without offsets and residuals, of sums below 2^24: adding the two sums is the only rounding.
    fn check_whole(&self) {
        let expected = (0..self.offsets.len()).map(|row| {
            let (high, low) = self.sums(row);
            assert!(high.abs().max(low.abs()) < 1 << 24);
            (256 * i64::from(high) + i64::from(low)) as f32
        });
        let expected: Vec<f32> = expected.collect();
        for (name, bounds) in self.bounds() {
            assert_eq!(bounds, expected, "{name}: {}", self.shape());
        }
    }
}

/// Shapes whose sums are below 2^24 whatever the codes.
fn small_shapes() -> impl Iterator<Item = (usize, usize)> {
    shapes().filter(|shape| shape.1 <= 1000)
}

/// Numbers of rows and dims that leave every remainder of the loops over blocks and lines.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    let rows = [0, 16, 32, 48, 64, 80, 112, 176];
    rows.into_iter().flat_map(|rows| (8..=136).step_by(8).chain([192, 384, 1000, 4096]).map(move |dims| (rows, dims)))
}

#[test]
fn bounds_of_sums_alone_are_exact() {
    let (mut codes, mut bytes) = (Random::seeded(1), Random::seeded(2));
    for (rows, dims) in small_shapes() {
        Case::whole(rows, dims, || codes.next() as u8 & 15, || (bytes.next() as i8, bytes.next() as i8)).check_whole();
    }
}

#[test]
fn the_largest_sums_are_exact() {
    for (rows, dims) in small_shapes() {
        for extremes in [(i8::MIN, i8::MIN), (i8::MAX, i8::MAX), (i8::MIN, i8::MAX), (i8::MAX, i8::MIN)] {
            Case::whole(rows, dims, || 15, || extremes).check_whole();
        }
    }
}

/// A nibble of one row and a byte of one coordinate at a time.
#[test]
fn every_nibble_is_multiplied_by_its_own_coordinate() {
    let (rows, dims) = (48, 24);
    for at in 0..rows * dims {
        let (mut code, mut coordinate) = (0.., 0i32..);
        let code = || if code.next() == Some(at) { 15 } else { 0 };
        Case::whole(rows, dims, code, || coordinate.next().map(|j| (j as i8 + 1, -3 * j as i8)).unwrap()).check_whole();
    }
}

#[test]
fn bounds_agree_with_float64() {
    let mut random = Random::seeded(3);
    for (rows, dims) in shapes() {
        Case::random(rows, dims, &mut random).check();
        let mut case = Case::random(rows, dims, &mut random);
        case.low.fill(0);
        case.low_sum = 0;
        case.check();
    }
}

#[test]
fn an_infinite_residual_bounds_nothing() {
    let infinite = (f32::INFINITY.to_bits() >> 16) as u16;
    for leading in [0.7, 0.0] {
        let mut case = Case::random(48, 64, &mut Random::seeded(4));
        case.factors[2] = leading;
        case.leading.iter_mut().step_by(3).for_each(|residual| *residual = infinite);
        case.trailing.iter_mut().skip(1).step_by(3).for_each(|residual| *residual = infinite);
        for (name, bounds) in case.bounds() {
            for (row, bound) in bounds.into_iter().enumerate() {
                match (row % 3, leading) {
                    (0, 0.0) => assert!(bound.is_nan(), "{name}: row {row}: {bound}"),
                    (0 | 1, _) => assert_eq!(bound, f32::INFINITY, "{name}: row {row}"),
                    _ => assert!(bound.is_finite(), "{name}: row {row}: {bound}"),
                }
            }
        }
    }
}

/// Queries with low bytes and without, in every order.
#[test]
fn several_queries_get_the_bounds_of_each_alone() {
    let mut random = Random::seeded(5);
    for (rows, dims) in [(16, 8), (48, 40), (112, 192), (0, 16)] {
        let case = Case::random(rows, dims, &mut random);
        let queries: Vec<Case> = (0..9).map(|_| Case::random(0, dims, &mut random)).collect();
        let codes = case.lines();
        let lines = Lines { codes: &codes, offsets: &case.offsets, leading: &case.leading, trailing: &case.trailing, next: &[] };
        for pattern in 0u32..1 << 9 {
            let coarse: Vec<CoarseQuery> = queries
                .iter()
                .enumerate()
                .map(|(i, query)| {
                    let ([step, base, leading, trailing], low) = (query.factors, pattern >> i & 1 == 1);
                    let (low, low_sum) = if low { (&query.low[..], query.low_sum) } else { (&[][..], 0) };
                    CoarseQuery { high: &query.high, low, high_sum: query.high_sum, low_sum, step, base, leading, trailing }
                })
                .collect();
            for kernel in runnable() {
                let mut alone = vec![f32::NAN; 9 * rows];
                for (query, out) in coarse.iter().zip(alone.chunks_exact_mut(rows.max(1))) {
                    (kernel.bounds)(&[*query], &lines, out);
                }
                let mut out = vec![f32::NAN; 9 * rows];
                (kernel.bounds)(&coarse, &lines, &mut out);
                assert_eq!(out, alone, "{}: {rows} rows of {dims}, {pattern:b}", kernel.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn bounds_of_any_shape_agree_with_float64(blocks in 0usize..8, lines in 1usize..80, seed: u64) {
        Case::random(16 * blocks, 8 * lines, &mut Random::seeded(seed)).check();
    }
}
