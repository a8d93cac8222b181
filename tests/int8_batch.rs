//! `Kernel::int8_batch` of every kernel against a float64 evaluation: the rows kept and their bounds agree within the
//! roundings that its contract allows. `Kernel::unpack_codes` and `Kernel::remainder_dot` against plain integer loops.

mod random;

use nseekfs::kernel::{BATCH, BoundFactors, Int8Batch, LEVEL_ZERO, OFFSET_ZERO, RECONSTRUCTION, UnpackedCodes, runnable, unpacked_stride};
use proptest::prelude::*;
use random::Random;

/// Half a unit in the last place of float32, relative.
const U: f64 = 1.0 / (1u64 << 24) as f64;

impl Random {
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// From -32,639 to 32,639.
    fn word(&mut self) -> i16 {
        ((self.next() % 65_279) as i32 - 32_639) as i16
    }
}

/// High and low byte of a word, `word = 256 * high + low`.
fn bytes(word: i16) -> (i8, i8) {
    let high = (i32::from(word) + 128) >> 8;
    (high as i8, (i32::from(word) - 256 * high) as i8)
}

/// Rows and queries, one after the other: a code for each coordinate of a row, a word for each of a query.
#[derive(Debug)]
struct Case {
    dims: usize,
    codes: Vec<u8>,
    words: Vec<i16>,
    factors: Vec<BoundFactors>,
    offsets: Vec<f32>,
    residuals: Vec<f32>,
}

impl Case {
    /// Factors, offsets and residuals for which the bounds are the integer sums.
    fn whole(rows: usize, queries: usize, dims: usize, mut code: impl FnMut() -> u8, mut word: impl FnMut() -> i16) -> Self {
        let factors = BoundFactors { high_sum: 0, low_sum: 0, step: 1.0, base: 0.0, residual: 0.0, threshold: f32::NEG_INFINITY };
        Case {
            dims,
            codes: (0..rows * dims).map(|_| code()).collect(),
            words: (0..queries * dims).map(|_| word()).collect(),
            factors: vec![factors; queries],
            offsets: vec![0.0; rows],
            residuals: vec![0.0; rows],
        }
    }

    fn random(rows: usize, queries: usize, dims: usize, random: &mut Random) -> Self {
        let mut other = Random::seeded(random.next());
        let mut case = Case::whole(rows, queries, dims, || random.next() as u8, || other.word());
        for (i, factors) in case.factors.iter_mut().enumerate() {
            let sum = |part: fn((i8, i8)) -> i8| {
                case.words[i * dims..(i + 1) * dims].iter().map(|&word| 128 * i32::from(part(bytes(word)))).sum::<i32>()
            };
            (factors.high_sum, factors.low_sum) = (sum(|pair| pair.0), sum(|pair| pair.1));
            factors.step = random.uniform() * 1e-7;
            factors.base = random.uniform() - 0.5;
            (factors.residual, factors.threshold) = (random.uniform(), random.uniform());
        }
        for values in [&mut case.offsets, &mut case.residuals] {
            values.fill_with(|| random.uniform());
        }
        case
    }

    /// Rows and queries in the kernels' layout; the codes are not aligned.
    fn laid_out(&self) -> (Vec<u8>, Vec<i16>) {
        let (dims, stride) = (self.dims, unpacked_stride(self.dims));
        let mut codes = vec![77; 1 + self.offsets.len() * stride];
        for (at, &code) in self.codes.iter().enumerate() {
            let (row, j) = (at / dims, at % dims);
            codes[1 + row / 16 * 16 * stride + 64 * (j / 4) + row % 16 * 4 + j % 4] = code;
        }
        let mut words = vec![0; BATCH * stride];
        self.words.iter().enumerate().for_each(|(at, &word)| words[at / dims * stride + at % dims] = word);
        (codes, words)
    }

    /// Calls `each` with a kernel's name, a row, a query and, if the row was kept, its bound.
    fn run(&self, mut each: impl FnMut(&str, usize, usize, Option<f32>)) {
        let (codes, words) = self.laid_out();
        let (high, low): (Vec<i8>, Vec<i8>) = words.iter().map(|&word| bytes(word)).unzip();
        let rows = self.offsets.len();
        for kernel in runnable() {
            let int8_batch = Int8Batch { dims: self.dims, words: &words, high: &high, low: &low, factors: &self.factors };
            let unpacked = UnpackedCodes { codes: &codes[1..], offsets: &self.offsets, residuals: &self.residuals };
            let (mut bounds, mut keep) = (vec![f32::NAN; rows * BATCH], vec![0; rows]);
            (kernel.int8_batch)(&int8_batch, &unpacked, &mut bounds, &mut keep);
            for (row, query) in (0..rows).flat_map(|row| (0..self.factors.len()).map(move |query| (row, query))) {
                let at = row / 16 * 16 + query;
                let kept = keep[at] >> (row % 16) & 1 == 1;
                each(kernel.name, row, query, kept.then(|| bounds[16 * at + row % 16]));
            }
        }
    }

    /// The sum of code * word over the coordinates.
    fn sum(&self, row: usize, query: usize) -> i64 {
        let codes = &self.codes[row * self.dims..][..self.dims];
        let words = &self.words[query * self.dims..][..self.dims];
        codes.iter().zip(words).map(|(&code, &word)| i64::from(code) * i64::from(word)).sum()
    }

    /// The error allowed is twelve float32 roundings, each of at most the sum of the terms' magnitudes.
    fn check(&self) {
        self.run(|name, row, query, bound| {
            let f = &self.factors[query];
            let taken = 256 * i64::from(f.high_sum) + i64::from(f.low_sum);
            let others = [f.base, self.offsets[row]].map(f64::from);
            let others = [others[0], others[1], f64::from(f.residual) * f64::from(self.residuals[row])];
            let exact = (self.sum(row, query) - taken) as f64 * f64::from(f.step) + others.iter().sum::<f64>();
            let words = &self.words[query * self.dims..][..self.dims];
            let reach: f64 = words.iter().map(|&word| 255.0 * (f64::from(word).abs() + 256.0)).sum::<f64>() * f64::from(f.step);
            let size = reach + others.iter().map(|term| term.abs()).sum::<f64>();
            let error = 12.0 * U * size;
            let shape = format!("{name}: row {row}, query {query} of {} rows of {}", self.offsets.len(), self.dims);
            match bound {
                Some(bound) => {
                    assert!((f64::from(bound) - exact).abs() <= error, "{shape}: {bound} for {exact}");
                    assert!(exact >= f64::from(f.threshold) - error, "{shape}: kept, but {exact} is below {}", f.threshold);
                }
                None => assert!(exact <= f64::from(f.threshold) + error, "{shape}: lost, but {exact} reaches {}", f.threshold),
            }
        });
    }

    /// For bounds that are integer sums, small enough to be exact in float32.
    fn check_whole(&self) {
        self.run(|name, row, query, bound| {
            let expected = self.sum(row, query);
            assert!(expected.abs() < 1 << 24);
            assert_eq!(bound, Some(expected as f32), "{name}: row {row}, query {query} of {} rows of {}", self.offsets.len(), self.dims);
        });
    }
}

/// Shapes in which loops over blocks, queries and coordinates end with every kind of remainder.
fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
    let rows = [0, 16, 32, 48];
    rows.into_iter()
        .flat_map(|rows| [8, 64, 72, 120, 128, 136, 256, 264, 1000].into_iter().map(move |dims| (rows, 1 + (rows + dims) / 8 % 16, dims)))
}

#[test]
fn every_code_counts_for_its_own_row_and_query_alone() {
    let (rows, queries, dims) = (32, 3, 72);
    for at in (0..rows * dims).step_by(7) {
        let (mut code, mut coordinate) = (0.., 0..);
        let code = || if code.next() == Some(at) { 255 } else { 0 };
        Case::whole(rows, queries, dims, code, || coordinate.next().map(|j: i16| 7 * j - 300).unwrap()).check_whole();
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    for (rows, queries, dims) in shapes() {
        for word in [32_639, -32_639] {
            let mut case = Case::whole(rows, queries, dims, || 255, || word);
            let (high, low) = bytes(word);
            // Leaves the word times one code.
            for factors in &mut case.factors {
                factors.high_sum = (255 * dims as i32 - 1) * i32::from(high);
                factors.low_sum = (255 * dims as i32 - 1) * i32::from(low);
            }
            case.run(|name, row, query, bound| {
                let error = 3.0 * U * 255.0 * 33_000.0 * dims as f64;
                let bound = f64::from(bound.unwrap());
                assert!((bound - f64::from(word)).abs() <= error, "{name}: row {row}, query {query}: {bound} for {word}");
            });
        }
    }
}

#[test]
fn rows_kept_and_bounds_agree_with_float64() {
    let mut random = Random::seeded(3);
    for (rows, queries, dims) in shapes() {
        Case::random(rows, queries, dims, &mut random).check();
    }
}

#[test]
fn a_bound_that_equals_its_threshold_is_kept() {
    // Small integers, of which no step rounds.
    let mut random = Random::seeded(7);
    for (rows, queries, dims) in shapes().filter(|shape| shape.0 > 0 && shape.2 < 200) {
        let mut other = Random::seeded(random.next());
        let mut case = Case::whole(rows, queries, dims, || random.next() as u8, || (other.next() % 513) as i16 - 256);
        for query in 0..queries {
            case.factors[query].threshold = case.sum(query % rows, query) as f32;
        }
        case.run(|name, row, query, bound| {
            let (sum, threshold) = (case.sum(row, query) as f32, case.factors[query].threshold);
            assert_eq!(bound.is_some(), sum >= threshold, "{name}: row {row}, query {query}: {sum} for a threshold of {threshold}");
        });
    }
}

#[test]
fn rows_with_infinite_or_nan_bounds_are_kept() {
    let mut case = Case::random(48, 16, 64, &mut Random::seeded(4));
    case.factors.iter_mut().for_each(|factors| factors.threshold = 1e30);
    case.factors[3].residual = 0.0;
    case.residuals.iter_mut().step_by(3).for_each(|residual| *residual = f32::INFINITY);
    case.run(|name, row, query, bound| match (row % 3, query) {
        (0, 3) => assert!(bound.is_some_and(f32::is_nan), "{name}: row {row}: {bound:?}"),
        (0, _) => assert_eq!(bound, Some(f32::INFINITY), "{name}: row {row}"),
        _ => assert_eq!(bound, None, "{name}: row {row}"),
    });
}

#[test]
fn unpacked_codes_are_levels_plus_low_bits_and_signed_bytes_plus_128() {
    let mut random = Random::seeded(5);
    for (leading, trailing) in [(8, 0), (24, 3), (64, 64), (120, 0), (128, 1), (136, 70), (384, 0), (256, 128), (1000, 509)] {
        for rows in [16, 1, 11] {
            let (dims, remainder_bytes) = (leading + trailing, leading / 2 + trailing);
            let codes: Vec<u8> = (0..rows * dims).map(|_| random.next() as u8).collect();
            let (mut lines, mut remainder, mut expected) = (vec![0; 8 * leading], vec![0xa5; rows * remainder_bytes], codes.clone());
            for (at, code) in codes.iter().enumerate() {
                let (row, j) = (at / dims, at % dims);
                if j >= leading {
                    remainder[row * remainder_bytes + j - leading / 2] = (i32::from(*code) - 128) as u8;
                    continue;
                }
                let (level, low_bits) = (code >> 4, code & 15);
                expected[at] = (128 + i16::from(RECONSTRUCTION[usize::from(level)]) - i16::from(LEVEL_ZERO) + i16::from(low_bits)
                    - i16::from(OFFSET_ZERO)) as u8;
                lines[64 * (j / 8) + 4 * row + j % 4] |= level << (j % 8 / 4 * 4);
                let byte = &mut remainder[row * remainder_bytes + j % (leading / 2)];
                *byte = if j < leading / 2 { low_bits } else { *byte & 15 | low_bits << 4 };
            }
            for kernel in runnable() {
                let mut out = vec![0; 16 * unpacked_stride(dims)];
                (kernel.unpack_codes)(&lines, &remainder, remainder_bytes, leading, &mut out);
                for (at, &code) in expected.iter().enumerate() {
                    let (row, j) = (at / dims, at % dims);
                    assert_eq!(out[64 * (j / 4) + 4 * row + j % 4], code, "{}: row {row} of {rows}, coordinate {j} of {dims}", kernel.name);
                }
            }
        }
    }
}

#[test]
fn the_remainder_of_a_row_is_summed_exactly() {
    let mut random = Random::seeded(6);
    for (half, others) in
        [(0, 0), (4, 0), (0, 1), (5, 3), (16, 16), (31, 33), (32, 64), (128, 128), (100, 290), (512, 1024), (0, 4096), (2048, 0)]
    {
        for extreme in [false, true] {
            let word = |random: &mut Random| if extreme { -32_639 } else { random.word() };
            let words: Vec<i16> = (0..2 * half + others).map(|_| word(&mut random)).collect();
            let byte = |j: usize, random: &mut Random| {
                if !extreme {
                    random.next() as u8
                } else if j < half {
                    255
                } else {
                    128
                }
            };
            let codes: Vec<u8> = (0..half + others).map(|j| byte(j, &mut random)).collect();
            let code = |j: usize| match j {
                _ if j < half => i64::from(codes[j] & 15),
                _ if j < 2 * half => i64::from(codes[j - half] >> 4),
                _ => i64::from(codes[j - half] as i8),
            };
            let expected: i64 = words.iter().enumerate().map(|(j, &word)| code(j) * i64::from(word)).sum();
            for kernel in runnable() {
                assert_eq!((kernel.remainder_dot)(&words, half, &codes), expected, "{}: {half} pairs, {others} others", kernel.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn rows_kept_and_bounds_agree_with_float64_for_any_shape(blocks in 0usize..6, queries in 0usize..17, lines in 1usize..80, seed: u64) {
        Case::random(16 * blocks, queries, 8 * lines, &mut Random::seeded(seed)).check();
    }
}
