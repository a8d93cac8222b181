//! Scans without codes against a full sort of the scalar kernel's keys: every kernel, level, metric and number of
//! queries and threads, with and without tiles and filters, must give the same rows, order and bits.

use nseekfs::build::{BuildParams, Builder};
use nseekfs::candidates::Filter;
use nseekfs::index::{Index, Method, SearchParams};
use nseekfs::input::Block;
use nseekfs::kernel::{self, Kernel, scalar};
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use nseekfs::scan::{self, Plan, Queries, Run};
use nseekfs::store::ids::IdSlice;
use nseekfs::store::rows::{PanelBuffer, PanelValues, Rows};
use nseekfs::topk::{Entry, best_first};
use proptest::prelude::*;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];
const LEVELS: [Level; 4] = [Level::F64, Level::F32, Level::F16, Level::F8];

/// Pseudo-random numbers from -1 to 1 (xorshift).
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn index(level: Level, values: &[f32], dims: usize) -> Index {
    let watch = Watch::new(&|| true);
    let params = BuildParams { level, ..BuildParams::default() };
    let mut builder = Builder::new((values.len() / dims) as u64, dims, params).unwrap();
    let half = values.len() / dims / 2 * dims;
    builder.push(Block::F32(&values[..half]), dims, &watch).unwrap();
    builder.push(Block::F32(&values[half..]), dims, &watch).unwrap();
    builder.finish(&watch).unwrap()
}

/// Every key by the scalar kernel, sorted in full.
fn oracle(metric: Metric, segments: &[Rows], runs: &[Run], queries: &Queries, query: usize, k: usize) -> Vec<Entry> {
    let mut all = Vec::new();
    for run in runs {
        let rows = &segments[run.segment];
        for row in run.rows.clone() {
            let mut buffer = PanelBuffer::default();
            rows.decode(&scalar::KERNEL, row..row + 1, &mut buffer);
            let (mut sum, wide, dims) = ([0.0], queries.wide(query), queries.dims());
            match (buffer.values(), metric) {
                (PanelValues::F32(x), Metric::Euclidean) => (scalar::KERNEL.squared_distance)(wide, x, dims, &mut sum),
                (PanelValues::F32(x), _) => (scalar::KERNEL.dot)(wide, x, dims, &mut sum),
                (PanelValues::F64(x), Metric::Euclidean) => (scalar::KERNEL.squared_distance_f64)(wide, x, dims, &mut sum),
                (PanelValues::F64(x), _) => (scalar::KERNEL.dot_f64)(wide, x, dims, &mut sum),
            }
            all.push(Entry { key: metric.key(sum[0], queries.norm(query), rows.norms[row]), row: rows.first + row as u64 });
        }
    }
    all.sort_by(best_first);
    all.truncate(k);
    all
}

/// Compares one scan with the oracle, bit for bit.
fn check(plan: &Plan, segments: &[Rows], runs: &[Run], queries: &Queries) {
    let watch = Watch::new(&|| true);
    let found = scan::search(plan, segments, runs, queries, &watch).unwrap();
    assert_eq!(found.len(), queries.len());
    for (query, top) in found.into_iter().enumerate() {
        let bits = |entries: Vec<Entry>| entries.into_iter().map(|e| (e.row, e.key.to_bits())).collect::<Vec<_>>();
        let want = oracle(plan.metric, segments, runs, queries, query, plan.k);
        assert_eq!(bits(top.into_sorted()), bits(want), "{} {:?} query {query} of {}", plan.kernel.name, plan, queries.len());
    }
}

fn check_all(level: Level, rows: &[f32], given: &[f32], dims: usize, k: usize, runs: &dyn Fn(usize) -> Vec<Run>) {
    let index = index(level, rows, dims);
    let segments = index.views();
    for kernel in kernel::available() {
        let queries = Queries::new(kernel, level, Block::F32(given), dims, 0).unwrap();
        for metric in METRICS {
            for (method, threads) in [(Method::Scalar, 1), (Method::Simd, 1), (Method::Simd, 3), (Method::Auto, 2)] {
                check(
                    &Plan { metric, k, kernel, method, threads, quantizer: None, unit: false, threshold: f64::NEG_INFINITY },
                    &segments,
                    &runs(index.rows()),
                    &queries,
                );
            }
        }
    }
}

fn every_row(rows: usize) -> Vec<Run> {
    vec![Run { segment: 0, rows: 0..rows }]
}

#[test]
fn batches_of_every_shape_equal_a_full_sort() {
    for (dims, rows, queries) in [(1, 50, 1), (3, 700, 2), (16, 701, 3), (31, 300, 16), (65, 513, 17), (384, 290, 33), (4097, 30, 40)] {
        let mut values = numbers(rows * dims, 5);
        let copy = values[..values.len() / 3].to_vec();
        let end = values.len();
        values[end - copy.len()..].copy_from_slice(&copy);
        values[..dims].fill(0.0);
        let mut given = numbers(queries * dims, 6);
        given[..dims].copy_from_slice(&copy[copy.len() - dims..]);
        for level in LEVELS {
            check_all(level, &values, &given, dims, 10, &every_row);
        }
    }
}

#[test]
fn filters_of_every_density_equal_a_full_sort() {
    let (dims, rows) = (20, 900);
    let (values, given) = (numbers(rows * dims, 1), numbers(5 * dims, 2));
    for step in [2, 7, 300] {
        let sparse = |rows: usize| (0..rows).step_by(step).map(|row| Run { segment: 0, rows: row..(row + step / 2).min(rows) }).collect();
        for level in LEVELS {
            check_all(level, &values, &given, dims, 6, &sparse);
        }
    }
}

#[test]
fn rows_of_very_different_length_equal_a_full_sort() {
    let (dims, rows) = (24, 400);
    let mut values = numbers(rows * dims, 3);
    for (row, x) in values.iter_mut().enumerate() {
        *x *= ((row / dims) as f32 / 25.0 - 8.0).exp();
    }
    for k in [1, 100, 400, 1000] {
        check_all(Level::F32, &values, &values[..4 * dims], dims, k, &every_row);
    }
}

#[test]
fn several_segments_give_the_answer_of_one() {
    let dims = 12;
    let (values, given) = (numbers(500 * dims, 8), numbers(4 * dims, 9));
    let (whole, left, right) =
        (index(Level::F16, &values, dims), index(Level::F16, &values[..123 * dims], dims), index(Level::F16, &values[123 * dims..], dims));
    let mut parts = left.views();
    parts.extend(right.views().into_iter().map(|rows| Rows { first: 123, ..rows }));
    let kernel: &'static Kernel = kernel::selected().unwrap();
    let queries = Queries::new(kernel, Level::F16, Block::F32(&given), dims, 0).unwrap();
    let plan = Plan {
        metric: Metric::Cosine,
        k: 9,
        kernel,
        method: Method::Simd,
        threads: 2,
        quantizer: None,
        unit: false,
        threshold: f64::NEG_INFINITY,
    };
    let watch = Watch::new(&|| true);
    let runs = [Run { segment: 0, rows: 0..123 }, Run { segment: 1, rows: 0..377 }];
    let split = scan::search(&plan, &parts, &runs, &queries, &watch).unwrap();
    let joined = scan::search(&plan, &whole.views(), &every_row(500), &queries, &watch).unwrap();
    for (a, b) in split.into_iter().zip(joined) {
        assert_eq!(a.into_sorted(), b.into_sorted());
    }
}

#[test]
fn a_filter_is_applied_before_the_best_are_chosen() {
    let dims = 4;
    let values = numbers(100 * dims, 4);
    let index = index(Level::F32, &values, dims);
    let watch = Watch::new(&|| true);
    let search = |filter| {
        let params = SearchParams { k: 3, filter: Some(filter), method: Method::Auto, ..SearchParams::default() };
        index.search(Block::F32(&values[..dims]), dims, &params, &watch).unwrap().rows
    };
    let mut mask = [false; 100];
    for row in [90, 13, 55] {
        mask[row] = true;
    }
    let mut found = search(Filter::Mask(&mask));
    assert_eq!(found, search(Filter::Ids(IdSlice::Numbers(&[55, 90, 13, 13]))));
    found.sort_unstable();
    assert_eq!(found, [13, 55, 90]);
    assert!(search(Filter::Ids(IdSlice::Numbers(&[]))).is_empty());
}

/// Changes the row of a number.
type Change<'a> = &'a dyn Fn(usize, &mut [f32]);

/// Tables of few dims, whose rows float32 keys exclude once there is a threshold; each kind is the worst of one sort.
#[test]
fn single_queries_of_few_dims_equal_a_full_sort() {
    let rows = 2300;
    for dims in [1, 2, 3, 7, 8, 16, 33, 64, 65] {
        let longest = 9.22e18 / (dims as f32).sqrt();
        let kinds: [Change; 9] = [
            &|_, _| {},
            // A few distinct rows, and small whole numbers: ties.
            &|row, x| x.copy_from_slice(&numbers(x.len(), row as u64 % 20)),
            &|_, x| x.iter_mut().for_each(|x| *x = (*x * 2.0).round()),
            &|row, x| x.iter_mut().for_each(|x| *x *= (row % 3) as f32),
            // Lengths from subnormal ones to the longest.
            &|row, x| x.iter_mut().for_each(|x| *x *= 2f32.powi(row as i32 % 190 - 131)),
            // Rows a few units in the last place apart, far from zero: cancellation.
            &|row, x| {
                x.iter_mut().zip(numbers(70, 3)).for_each(|(x, q)| *x = (1e3 + q) * (1.0 + (*x * (row % 9) as f32).round() * f32::EPSILON))
            },
            // Squared distances at the end of float32, all subnormal values, all of them equal.
            &|row, x| x.iter_mut().for_each(|x| *x = x.signum() * longest / (1 + row % 2) as f32),
            &|_, x| x.iter_mut().for_each(|x| *x *= 1e-43),
            &|_, x| x.fill(0.25),
        ];
        for (at, kind) in kinds.iter().enumerate() {
            let mut values = numbers(rows * dims, (dims + at) as u64);
            values.chunks_exact_mut(dims).enumerate().for_each(|(row, x)| kind(row, x));
            let mut given = values[1700 * dims..1701 * dims].to_vec();
            if at % 2 == 1 {
                given.extend(values[5 * dims..6 * dims].iter().map(|x| -x));
            }
            let k = [1, 10, 300][at % 3];
            for level in [Level::F32, Level::F64] {
                check_all(level, &values, &given, dims, k, &every_row);
            }
            if at < 3 {
                let sparse = |rows: usize| (0..rows).step_by(3).map(|row| Run { segment: 0, rows: row..(row + 2).min(rows) }).collect();
                check_all(Level::F16, &values, &given, dims, k, &sparse);
                check_all(Level::F8, &values, &given, dims, k, &every_row);
            }
        }
    }
}

/// Tables of 6000 rows, which batches with a large k sample.
#[test]
fn batches_with_a_large_k_equal_a_full_sort() {
    for (dims, kind) in [(3, 0), (20, 1), (33, 2), (8, 3), (1, 0)] {
        let rows = 6000;
        let mut values = numbers(rows * dims, 11);
        match kind {
            // Rows of a few directions, in order: a sample finds all of them, but ties fill whole panels.
            1 => values.chunks_exact_mut(dims).enumerate().for_each(|(row, x)| x.fill((row / 1500) as f32 - 1.0)),
            // A few distinct rows, mixed.
            2 => {
                let some = values[..7 * dims].to_vec();
                values.chunks_exact_mut(dims).enumerate().for_each(|(row, x)| x.copy_from_slice(&some[row * row % 7 * dims..][..dims]));
            }
            // Equal norms, different rows, and both zeros.
            3 => values.iter_mut().for_each(|x| *x = x.signum() * if *x > 0.9 { -0.0 } else { 1.0 }),
            _ => {}
        }
        let given = numbers(5 * dims, 12);
        let sparse = |rows: usize| (0..rows).step_by(3).map(|row| Run { segment: 0, rows: row..row + 2 }).collect();
        for k in [200, 900, 2500, 7000] {
            check_all(Level::F32, &values, &given, dims, k, &every_row);
        }
        check_all(Level::F16, &values, &given, dims, 300, &sparse);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_shape_equals_a_full_sort(dims in 1usize..70, rows in 1usize..200, queries in 1usize..40, k in 1usize..220, seed: u64, level in 0usize..4) {
        // Small whole numbers: many equal keys.
        let coarse = |values: Vec<f32>| values.into_iter().map(|x| (x * 3.0).round()).collect::<Vec<_>>();
        let (values, given) = (coarse(numbers(rows * dims, seed)), coarse(numbers(queries * dims, !seed)));
        check_all(LEVELS[level], &values, &given, dims, k, &every_row);
    }
}
