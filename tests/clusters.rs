//! k-means: the nearest cells on every kernel are those of float64, 16-bit words are within their error bound, and
//! training gives the same bits for any number of threads.

mod random;

use nseekfs::cluster::assign::{Assignment, Centroids};
use nseekfs::cluster::lloyd::{Init, Params, train};
use nseekfs::cluster::minibatch::MiniBatch;
use nseekfs::cluster::samples::Samples;
use nseekfs::error::Error;
use nseekfs::kernel::{Affine, Int16Row, Planes, available, runnable, scalar, unpacked_stride};
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use nseekfs::progress::Progress;
use proptest::prelude::*;
use random::Random;

fn gaussian(random: &mut Random) -> f32 {
    (0..12).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() as f32 - 6.0
}

fn rows(count: usize, dims: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::seeded(seed);
    (0..count * dims).map(|_| gaussian(&mut random)).collect()
}

fn samples(values: &[f32], dims: usize) -> Samples<'_> {
    Samples::new("vectors", values, dims, &scalar::KERNEL, 1, &Watch::new(&|| true)).unwrap()
}

/// All cells with keys by the scalar kernel: larger key first, of equal keys the lower cell.
fn sorted(values: &[f32], centroids: &[f32], dims: usize, metric: Metric) -> Vec<Vec<(f64, u32)>> {
    let (rows, cells) = (samples(values, dims), samples(centroids, dims));
    let one = |row: usize| {
        let mut wide: Vec<f64> = rows.row(row).iter().map(|&x| f64::from(x)).collect();
        wide.resize(nseekfs::kernel::padded(dims), 0.0);
        let mut sums = vec![0.0; cells.len()];
        let kernel = &scalar::KERNEL;
        let sum = if metric == Metric::Euclidean { kernel.squared_distance } else { kernel.dot };
        sum(&wide, centroids, dims, &mut sums);
        let key = |(cell, &sum): (usize, &f64)| (metric.key(sum, rows.norm(row), cells.norm(cell)), cell as u32);
        let mut all: Vec<(f64, u32)> = sums.iter().enumerate().map(key).collect();
        all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
        all
    };
    (0..rows.len()).map(one).collect()
}

const METRICS: [Metric; 3] = [Metric::Euclidean, Metric::Cosine, Metric::Dot];

/// `assign`, `nearest` and `scores` give the cells and keys of the scalar kernel, bit for bit.
fn check(values: &[f32], centroids: &[f32], dims: usize) {
    let watch = Watch::new(&|| true);
    let queries = samples(values, dims);
    for metric in METRICS {
        let expected = sorted(values, centroids, dims, metric);
        let guess: Vec<u32> = (0..queries.len()).map(|row| (row * 7 % (centroids.len() / dims)) as u32).collect();
        for kernel in runnable() {
            let cells = Centroids::with_kernel(kernel, "centroids", centroids.to_vec(), dims, metric, 1, &watch).unwrap();
            let context = format!("{} {metric:?}: {} rows of {dims}, {} cells", kernel.name, queries.len(), cells.rows.len());
            for guess in [None, Some(&guess[..])] {
                let found = cells.assign(&queries, guess, 2, &watch).unwrap();
                for (row, expected) in expected.iter().enumerate() {
                    assert_eq!((found.keys[row], found.cells[row]), expected[0], "{context}, row {row}, guess {}", guess.is_some());
                }
            }
            let scores = cells.scores(&queries, |key| key as f32, 2, &watch).unwrap();
            for (row, expected) in expected.iter().enumerate() {
                for &(key, cell) in expected {
                    assert_eq!(scores[row * cells.rows.len() + cell as usize], key as f32, "{context}, row {row}, score of {cell}");
                }
            }
            for count in [1, 2, 5, cells.rows.len() + 3] {
                let Assignment { cells: found, keys } = cells.nearest(&queries, count, 2, &watch).unwrap();
                let each = count.min(cells.rows.len());
                for (row, expected) in expected.iter().enumerate() {
                    let got: Vec<(f64, u32)> = (0..each).map(|i| (keys[row * each + i], found[row * each + i])).collect();
                    assert_eq!(got, expected[..each], "{context}, row {row}, the {count} nearest");
                }
            }
        }
    }
}

#[test]
fn nearest_cells_are_those_of_scalar_sums_for_every_shape() {
    for dims in [1, 2, 7, 8, 9, 31, 64, 65, 200, 1000] {
        for (count, cells) in [(1, 1), (16, 15), (17, 16), (33, 40), (70, 129)] {
            check(&rows(count, dims, 1), &rows(cells, dims, 2), dims);
        }
    }
}

#[test]
fn nearest_cells_are_those_of_scalar_sums_when_codes_exceed_a_cache() {
    check(&rows(150, 500, 3), &rows(1700, 500, 4), 500);
}

#[test]
fn equal_centroids_are_ordered_by_cell() {
    let (dims, values) = (24, rows(40, 24, 5));
    let mut centroids = values[..10 * dims].to_vec();
    centroids.extend_from_within(..);
    check(&values, &centroids, dims);
    check(&values, &vec![0.5; 20 * dims], dims);
    check(&values, &vec![0.0; 20 * dims], dims);
    check(&vec![0.0; 20 * dims], &centroids, dims);
}

#[test]
fn nearest_cells_are_those_of_scalar_sums_at_every_scale_and_far_away() {
    let dims = 30;
    for scale in [1e-42f32, 1e-30, 1e-12, 1e12, 1e17] {
        for offset in [0.0, 1.0, 1e5] {
            let moved = |seed: u64, count: usize| rows(count, dims, seed).iter().map(|&x| (x + offset) * scale).collect::<Vec<f32>>();
            if offset * scale < 1e18 {
                check(&moved(6, 20), &moved(7, 33), dims);
            }
        }
    }
    let mut uneven = rows(50, dims, 8);
    uneven.iter_mut().step_by(dims).for_each(|x| *x *= 1e15);
    uneven[5] = 1e-40;
    check(&uneven, &uneven[..20 * dims], dims);
    check(
        &rows(20, dims, 9).iter().map(|&x| x * 1e17).collect::<Vec<f32>>(),
        &rows(20, dims, 9).iter().map(|&x| x * 1e-30).collect::<Vec<f32>>(),
        dims,
    );
}

/// `int16` of every kernel against its contract.
#[test]
fn words_are_the_rounded_products() {
    let mut random = Random::seeded(10);
    for dims in (1..=70).chain([384, 1000]) {
        let stride = unpacked_stride(dims);
        let row: Vec<f32> = (0..dims).map(|_| gaussian(&mut random)).collect();
        let padded = |random: &mut Random| (0..stride).map(|j| if j < dims { gaussian(random).abs() } else { 0.0 }).collect::<Vec<f32>>();
        let (centre, steps) = (padded(&mut random), padded(&mut random));
        let affine = Affine { scale: 0.75, centre: &centre, steps: &steps };
        for kernel in available() {
            let (mut words, mut high, mut low) = (vec![0i16; stride], vec![0i8; stride], vec![0i8; stride]);
            let rounded: Int16Row = (kernel.int16)(&row, &affine, &mut Planes { words: &mut words, high: &mut high, low: &mut low });
            let mut squared = 0.0;
            for j in 0..stride {
                let value = if j < dims { f64::from(row[j]) * 0.75 - f64::from(centre[j]) } else { 0.0 };
                squared += value * value;
                let exact = value * f64::from(steps[j]) / f64::from(rounded.step);
                assert!((f64::from(words[j]) - exact).abs() <= 0.515, "{}: {dims} dims, word {j}", kernel.name);
                assert_eq!(i32::from(words[j]), 256 * i32::from(high[j]) + i32::from(low[j]));
            }
            assert!((f64::from(rounded.squared) - squared).abs() <= squared * (dims + 16) as f64 / (1u64 << 24) as f64);
            assert_eq!(rounded.high_sum, high.iter().map(|&x| i32::from(x)).sum::<i32>());
            assert_eq!(rounded.low_sum, low.iter().map(|&x| i32::from(x)).sum::<i32>());
        }
    }
}

#[test]
fn the_words_of_zero_rows_and_of_rows_that_overflow_are_zero() {
    let (centre, steps) = (vec![0.0; 64], vec![1.0; 64]);
    for kernel in available() {
        for (value, step) in [(0.0, 0.0), (1e38, f32::NAN), (f32::MAX, f32::NAN)] {
            let (mut words, mut high, mut low) = (vec![7i16; 64], vec![7i8; 64], vec![7i8; 64]);
            let affine = Affine { scale: 1e3, centre: &centre, steps: &steps };
            let rounded = (kernel.int16)(&[value; 64], &affine, &mut Planes { words: &mut words, high: &mut high, low: &mut low });
            assert_eq!(rounded.step.to_bits(), f32::to_bits(step), "{}: {value}", kernel.name);
            assert_eq!((words, high, low), (vec![0; 64], vec![0; 64], vec![0; 64]));
        }
    }
}

#[test]
fn training_is_the_same_for_any_number_of_threads_and_lowers_the_objective() {
    let values = rows(3000, 20, 11);
    let watch = Watch::new(&|| true);
    for (metric, init) in [(Metric::Euclidean, Init::Random), (Metric::Cosine, Init::PlusPlus)] {
        let params =
            |threads| Params { cells: 60, metric, init: init.clone(), iterations: 12, tolerance: 0.0, threads, ..Params::default() };
        let one = train(&samples(&values, 20), &params(Some(1)), &watch).unwrap();
        let several = train(&samples(&values, 20), &params(Some(3)), &watch).unwrap();
        assert_eq!(one.centroids, several.centroids);
        assert_eq!((&one.assignment, &one.history), (&several.assignment, &several.history));
        assert!(one.history.windows(2).all(|pair| pair[1] <= pair[0]), "{:?}", one.history);
        assert_eq!((one.iterations, one.history.len()), (12, 13));
        assert!((0..60).all(|cell| one.assignment.cells.contains(&cell)));
    }
}

#[test]
fn training_on_a_sample_uses_that_many_rows_per_cell() {
    let values = rows(1000, 4, 12);
    let params = Params { cells: 5, sample: Some(30), ..Params::default() };
    let trained = train(&samples(&values, 4), &params, &Watch::new(&|| true)).unwrap();
    assert_eq!(trained.assignment.cells.len(), 150);
}

#[test]
fn a_caller_can_stop_training() {
    let values = rows(500, 4, 13);
    let progress = Progress::new(1, |done| done < 200);
    let result = train(&samples(&values, 4), &Params::default(), &Watch::new(&|| true).telling(Some(&progress)));
    assert!(matches!(result, Err(Error::Interrupted)));
    let watch = Watch::new(&|| true);
    let other = Samples::new("vectors", &values, 5, &scalar::KERNEL, 1, &watch).unwrap();
    let mut state = MiniBatch::new(&samples(&values, 4), Params::default(), 0.01, &watch).unwrap();
    assert_eq!(
        state.step(&other, &watch).unwrap_err().to_string(),
        "vectors: expected rows of 4 values, as the centroids have, got 5 values"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn nearest_cells_are_those_of_scalar_sums(
        dims in 1usize..80,
        values in proptest::collection::vec(prop_oneof![-8f32..8.0, Just(0.0), -1e9f32..1e9, -1e-9f32..1e-9], 80..1200),
        share in 1usize..4,
    ) {
        let whole = &values[..values.len() / dims * dims];
        if !whole.is_empty() {
            let cells = (whole.len() / dims / share).max(1) * dims;
            check(whole, &whole[..cells], dims);
        }
    }
}
