//! Whole searches: rows and bits of keys are the same with codes and without.

use crate::bounds::{METRICS, hand_made};
use crate::quantizers::{self, Coded};
use crate::tables::{KINDS, Random, queries, table};
use nseekfs::build::{BuildParams, Builder};
use nseekfs::candidates::Filter;
use nseekfs::index::{Index, Method, SearchParams};
use nseekfs::input::Block;
use nseekfs::kernel::{self, Kernel};
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use nseekfs::quantize::Quantizer;
use nseekfs::scan::{self, Plan, Queries, Run};
use nseekfs::store::ids::IdSlice;
use nseekfs::store::rows::{Rows, Values};

/// An index that has codes.
fn index(level: Level, values: Block, dims: usize) -> Index {
    let watch = Watch::new(&|| true);
    let params = BuildParams { level, ..BuildParams::default() };
    let mut builder = Builder::new((values.len() / dims) as u64, dims, params).unwrap();
    builder.push(values, dims, &watch).unwrap();
    let index = builder.finish(&watch).unwrap();
    assert!(index.quantizer().is_some() || level == Level::F8, "a table of {} values is too small for codes", values.len());
    index
}

/// The rows and key bits of all queries.
fn answer(index: &Index, queries: Block, dims: usize, params: SearchParams) -> Vec<(u64, u64)> {
    let watch = Watch::new(&|| true);
    let hits = index.search(queries, dims, &params, &watch).unwrap();
    hits.rows.iter().map(|&row| row as u64).zip(hits.keys.iter().map(|key| key.to_bits())).collect()
}

/// Compares searches with and without codes, in batches of `batch`, on one thread or three.
fn same(index: &Index, queries: &[f32], dims: usize, batch: usize, params: SearchParams) {
    for (i, block) in queries.chunks(batch * dims).enumerate() {
        let plain = answer(index, Block::F32(block), dims, SearchParams { method: Method::Simd, threads: Some(1), ..params });
        let threads = [1, 3][(i + batch + params.k as usize / 10) % 2];
        let coded = answer(index, Block::F32(block), dims, SearchParams { threads: Some(threads), ..params });
        let (k, metric) = (params.k, params.metric);
        assert!(coded == plain, "{metric:?} k {k}, batch {i} of {batch}, {threads} threads: {coded:?}\n{plain:?}");
    }
}

fn same_for_all(index: &Index, queries: &[f32], dims: usize, ks: &[i64]) {
    for metric in METRICS {
        for &k in ks {
            same(index, queries, dims, 1, SearchParams { k, metric: Some(metric), ..SearchParams::default() });
        }
        for (k, batch) in [(10, 2), (10, 5), (1, 9), (10, 38), (100, 44)] {
            let queries = if batch > 9 { queries.repeat(4) } else { queries.to_vec() };
            same(index, &queries, dims, batch, SearchParams { k, metric: Some(metric), ..SearchParams::default() });
        }
    }
}

const DIMS: usize = 64;
/// A little more than four megabytes of float32, and enough rows for a k of 1000.
const ROWS: usize = 17_000;

#[test]
fn codes_change_no_answer_whatever_the_table() {
    for kind in KINDS {
        let rows = table(kind, ROWS, DIMS);
        let index = index(Level::F32, Block::F32(&rows), DIMS);
        same_for_all(&index, &queries(&rows, DIMS), DIMS, &[1, 10, 100, 1000]);
    }
}

#[test]
fn codes_change_no_answer_of_other_levels() {
    for kind in ["power law", "duplicates", "long and short", "nearly unit"] {
        let rows = table(kind, 2 * ROWS, DIMS);
        let queries = queries(&rows, DIMS);
        same_for_all(&index(Level::F16, Block::F32(&rows), DIMS), &queries, DIMS, &[10, 1000]);
        let wide: Vec<f64> = rows[..ROWS * DIMS].iter().map(|&x| f64::from(x) * 1.000_000_001).collect();
        same_for_all(&index(Level::F64, Block::F64(&wide), DIMS), &queries, DIMS, &[10, 1000]);
    }
}

#[test]
fn codes_change_no_answer_of_a_filter_of_sparse_long_runs() {
    // Less than a twentieth of the rows, runs that share a block, and one at either end.
    let rows = 90_000;
    let mask: Vec<bool> = (0..rows).map(|i| (i + 70) % 2903 < 139 || i % 2903 == 75 || i >= rows - 20).collect();
    let allowed = mask.iter().filter(|&&flag| flag).count();
    assert!(allowed >= 64 * DIMS && allowed < rows / 20);
    for kind in ["power law", "gaussian", "long and short", "duplicates"] {
        let rows = table(kind, rows, DIMS);
        let index = index(Level::F32, Block::F32(&rows), DIMS);
        let queries = queries(&rows, DIMS);
        for metric in METRICS {
            for (k, batch) in [(1, 1), (200, 1), (10, 5), (20, 11)] {
                let filter = Some(Filter::Mask(&mask));
                same(&index, &queries, DIMS, batch, SearchParams { k, metric: Some(metric), filter, ..SearchParams::default() });
            }
        }
    }
}

#[test]
fn rows_of_level_f8_are_bounded_by_their_own_codes() {
    for kind in KINDS {
        let rows = table(kind, 3000, 72);
        let index = index(Level::F8, Block::F32(&rows), 72);
        same_for_all(&index, &queries(&rows, 72), 72, &[1, 10, 1000]);
    }
    // More dims than one exact sum takes, and rows that decode to subnormal values.
    let dims = 4100;
    let rows: Vec<f32> =
        table("power law", 40, dims).iter().enumerate().map(|(i, x)| x * if i / dims % 3 == 0 { 1e-39 } else { 1.0 }).collect();
    same_for_all(&index(Level::F8, Block::F32(&rows), dims), &queries(&rows, dims), dims, &[1, 7, 40]);
}

#[test]
fn rows_of_level_f8_that_differ_by_their_rounding_alone_keep_their_order() {
    // All rows have one scale and one sum of codes, and the query is 1 in every dim: a bound that ignores how values round
    // is the same for all rows, and below the best keys.
    let (dims, rows) = (64, 900);
    let mut random = Random::seeded(31);
    for scale in [0.007_123f32, 0.000_913, 1.7e-3] {
        let mut values = Vec::new();
        for _ in 0..rows {
            let mut codes = vec![64i32; dims];
            codes[0] = 127;
            for _ in 0..200 {
                let (a, b) = (1 + random.below(dims - 1), 1 + random.below(dims - 1));
                if codes[a] < 120 && codes[b] > 8 {
                    (codes[a], codes[b]) = (codes[a] + 1, codes[b] - 1);
                }
            }
            values.extend(codes.iter().map(|&code| scale * code as f32));
        }
        let index = index(Level::F8, Block::F32(&values), dims);
        for metric in METRICS {
            for k in [1, 10, 100] {
                same(&index, &vec![1.0; dims], dims, 1, SearchParams { k, metric: Some(metric), ..SearchParams::default() });
            }
        }
    }
}

#[test]
fn zero_rows_of_level_f8_are_found_after_rows_that_score_less() {
    let (dims, rows) = (40, 600);
    let query = Random::seeded(5).normals(dims);
    let mut random = Random::seeded(6);
    let away = |random: &mut Random| query.iter().map(|q| (-q + 0.1 * random.normal()) as f32).collect::<Vec<f32>>();
    let values: Vec<f32> = (0..rows).flat_map(|i| if i < rows / 2 { away(&mut random) } else { vec![0.0; dims] }).collect();
    let index = index(Level::F8, Block::F32(&values), dims);
    let query: Vec<f32> = query.iter().map(|&q| q as f32).collect();
    for metric in METRICS {
        same(&index, &query, dims, 1, SearchParams { k: 10, metric: Some(metric), ..SearchParams::default() });
    }
}

#[test]
fn a_least_score_only_cuts_the_answer() {
    for (kind, level) in [("power law", Level::F32), ("long and short", Level::F32), ("duplicates", Level::F8), ("integers", Level::F32)] {
        let rows = table(kind, ROWS, DIMS);
        let index = index(level, Block::F32(&rows), DIMS);
        for metric in METRICS {
            for query in queries(&rows, DIMS).chunks_exact(DIMS) {
                let find = |bound| {
                    answer(&index, Block::F32(query), DIMS, SearchParams { k: 40, metric: Some(metric), bound, ..SearchParams::default() })
                };
                let all = find(None);
                let keys: Vec<f64> = all.iter().map(|hit| f64::from_bits(hit.1)).collect();
                // Public keys: of distances they are squares.
                let outer = |key: f64| if metric == Metric::Euclidean { key.sqrt() } else { key };
                for bound in [outer(keys[0]), outer(keys[17]), outer(keys[17]).next_up(), outer(keys[17]).next_down(), 0.0, 1e30, -1e30] {
                    let reaches = |key: &f64| if metric == Metric::Euclidean { key.sqrt() <= bound } else { *key >= bound };
                    let expected: Vec<_> = all.iter().filter(|hit| reaches(&f64::from_bits(hit.1))).copied().collect();
                    assert_eq!(find(Some(bound)), expected, "{kind} {metric:?} {bound:e}");
                }
            }
        }
    }
}

#[test]
fn codes_change_no_answer_of_a_filter() {
    let mut random = Random::seeded(4);
    let mask = |density: f64, random: &mut Random| -> Vec<bool> { (0..ROWS).map(|_| random.below_one() < density).collect() };
    let (dense, half, thin) = (mask(0.97, &mut random), mask(0.5, &mut random), mask(0.06, &mut random));
    let list: Vec<i64> = (0..ROWS as i64).rev().filter(|&i| half[i as usize] && i % 4 != 0).collect();
    // Runs that start and end inside blocks and spans.
    let runs: Vec<bool> = (0..ROWS).map(|i| (i / 1237) % 3 == 1 || (4090..4105).contains(&i) || i == ROWS - 1).collect();
    let filters =
        [Filter::Mask(&dense), Filter::Mask(&half), Filter::Mask(&thin), Filter::Mask(&runs), Filter::Ids(IdSlice::Numbers(&list))];
    for kind in ["power law", "duplicates", "half zero"] {
        let rows = table(kind, ROWS, DIMS);
        let index = index(Level::F32, Block::F32(&rows), DIMS);
        let queries = queries(&rows, DIMS);
        for filter in filters {
            for metric in METRICS {
                for (k, batch) in [(1, 1), (30, 1), (10, 5), (20, 11)] {
                    same(
                        &index,
                        &queries,
                        DIMS,
                        batch,
                        SearchParams { k, metric: Some(metric), filter: Some(filter), ..SearchParams::default() },
                    );
                }
            }
        }
    }
}

#[test]
fn codes_change_no_answer_where_they_do_not_pay() {
    // Isotropic rows of 64 bytes: codes do not pay, and are tried again some thirty spans later.
    let (rows, dims) = (150_000, 32);
    let mut random = Random::seeded(12);
    let values: Vec<f32> = (0..rows * dims).map(|_| (random.below_one() - 0.5) as f32).collect();
    let index = index(Level::F16, Block::F32(&values), dims);
    let queries = queries(&values, dims);
    for metric in METRICS {
        for k in [10, 1000] {
            same(&index, &queries[..4 * dims], dims, 1, SearchParams { k, metric: Some(metric), ..SearchParams::default() });
        }
        same(&index, &queries[4 * dims..9 * dims], dims, 5, SearchParams { metric: Some(metric), ..SearchParams::default() });
        same(&index, &queries, dims, 30, SearchParams { metric: Some(metric), ..SearchParams::default() });
    }
}

#[test]
fn codes_change_no_answer_where_squares_underflow() {
    // Half of the rows are so short that their norms and cosines as computed are far off.
    let (rows, dims) = (9_000, 64);
    let mut random = Random::seeded(13);
    let mut values = Vec::new();
    for i in 0..rows {
        let factor = if i % 2 == 0 { 1e-161 } else { 1.0 };
        values.extend((0..dims).map(|j| factor * random.normal() / (1.0 + j as f64 / 4.0)));
    }
    let index = index(Level::F64, Block::F64(&values), dims);
    let queries: Vec<f64> = [&values[..6 * dims], &random.normals(3 * dims), &vec![1.0; dims]].concat();
    for metric in METRICS {
        for queries in queries.chunks_exact(dims).chain([&queries[..]]) {
            let find = |method| {
                answer(&index, Block::F64(queries), dims, SearchParams { method, metric: Some(metric), ..SearchParams::default() })
            };
            assert_eq!(find(Method::Auto), find(Method::Simd), "{metric:?}");
        }
    }
}

#[test]
fn codes_change_no_answer_where_norms_vanish() {
    // Rows whose norm as computed is 0 have positive dot products with the query, as have some nearly orthogonal rows; all
    // others have negative ones.
    let (rows, dims) = (9_000, 64);
    let mut random = Random::seeded(14);
    let mut values = Vec::new();
    for i in 0..rows {
        let mut row = random.normals(dims);
        match i % 150 {
            0 => row.iter_mut().enumerate().for_each(|(j, x)| *x = if j == 0 { 1e-170 * (1.0 + i as f64) } else { 0.0 }),
            1 | 2 => row[0] = 1e-180,
            _ => row[0] = -1.0 - row[0].abs(),
        }
        values.extend(row);
    }
    let index = index(Level::F64, Block::F64(&values), dims);
    let queries: Vec<f64> = (0..12).flat_map(|i| (0..dims).map(move |j| if j == 0 { 1.0 + i as f64 } else { 0.0 })).collect();
    for metric in METRICS {
        for queries in [&queries[..dims], &queries] {
            let find = |method| {
                let params = SearchParams { method, metric: Some(metric), threads: Some(1), ..SearchParams::default() };
                answer(&index, Block::F64(queries), dims, params)
            };
            assert_eq!(find(Method::Auto), find(Method::Simd), "{metric:?}, {} queries", queries.len() / dims);
        }
    }
}

/// Compares scans with and without codes, of rows cut into segments at `cuts`.
fn same_scan(quantizer: &Quantizer, values: &[f32], queries: &[f32], cuts: &[usize]) {
    same_scan_by(kernel::selected().unwrap(), quantizer, values, queries, cuts);
}

fn same_scan_by(kernel: &'static Kernel, quantizer: &Quantizer, values: &[f32], queries: &[f32], cuts: &[usize]) {
    let (dims, watch) = (quantizer.dims, Watch::new(&|| true));
    let ends = cuts.iter().copied().chain([values.len() / dims]);
    let parts: Vec<(usize, usize)> = [0].into_iter().chain(cuts.iter().copied()).zip(ends).collect();
    let wide: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    let coded: Vec<Coded> = parts.iter().map(|&(from, to)| Coded::new(kernel, quantizer, &wide[from * dims..to * dims])).collect();
    let segments: Vec<Rows> = parts
        .iter()
        .zip(&coded)
        .map(|(&(from, to), coded)| coded.rows(Values::F32(&values[from * dims..to * dims]), dims, from as u64))
        .collect();
    let every = |step: usize, keep: usize| -> Vec<Run> {
        let runs = |(segment, &(from, to)): (usize, &(usize, usize))| {
            (0..to - from).step_by(step).map(move |row| Run { segment, rows: row..(row + keep).min(to - from) }).collect::<Vec<_>>()
        };
        parts.iter().enumerate().flat_map(runs).collect()
    };
    for metric in METRICS {
        for (k, threads, runs) in
            [(1, 1, every(1 << 20, 1 << 20)), (10, 3, every(1 << 20, 1 << 20)), (100, 1, every(33, 31)), (7, 2, every(5, 1))]
        {
            let queries = Queries::new(kernel, Level::F32, Block::F32(queries), dims, 0).unwrap();
            let find = |quantizer: Option<&Quantizer>| {
                let method = if quantizer.is_some() { Method::Auto } else { Method::Scalar };
                let plan = Plan { metric, k, kernel, method, threads, quantizer, unit: false, threshold: f64::NEG_INFINITY };
                let found = scan::search(&plan, &segments, &runs, &queries, &watch).unwrap();
                let bits = |top: nseekfs::topk::TopK| top.into_sorted().iter().map(|e| (e.row, e.key.to_bits())).collect::<Vec<_>>();
                found.into_iter().map(bits).collect::<Vec<_>>()
            };
            let (name, leading) = (kernel.name, quantizer.leading);
            assert_eq!(find(Some(quantizer)), find(None), "{name} {metric:?} k {k} threads {threads} leading {leading}");
        }
    }
}

#[test]
fn bad_quantizers_and_many_segments_change_no_answer() {
    let dims = 40;
    for kind in ["common direction", "integers", "duplicates", "half zero", "all equal"] {
        let values = table(kind, 5_000, dims);
        let queries = queries(&values, dims);
        for quantizer in hand_made(dims) {
            same_scan(&quantizer, &values, &queries[..7 * dims], &[]);
            same_scan(&quantizer, &values, &queries[4 * dims..], &[1, 17, 1003]);
            same_scan(&quantizer, &values, &queries, &[2048]);
        }
    }
}

#[test]
fn segments_after_the_first_are_bounded_by_codes_too() {
    // A sharp quantizer and a long first segment, so that codes pay and are not paused.
    let dims = 128;
    let values = table("power law", 9_500, dims);
    let sharp = quantizers::fitting(&values, dims, 64);
    same_scan(&sharp, &values, &queries(&values, dims), &[6_000, 6_001, 6_017]);
}

#[test]
fn codes_change_no_answer_of_any_kernel() {
    let dims = 128;
    let values = table("power law", 8_000, dims);
    let sharp = quantizers::fitting(&values, dims, 64);
    for kernel in kernel::runnable() {
        same_scan_by(kernel, &sharp, &values, &queries(&values, dims), &[6_000]);
    }
}

#[test]
fn of_equal_keys_the_smaller_rows_win() {
    // Every row is one of three with integer values, so that keys tie by the hundred; the rows of the best coarse bounds are
    // not the first.
    let dims = 40;
    let mut random = Random::seeded(21);
    let kinds: Vec<Vec<f32>> = (0..3).map(|_| (0..dims).map(|_| random.normal().round() as f32).collect()).collect();
    let values: Vec<f32> = (0..6_000).flat_map(|i| kinds[(i * 7 + i / 100) % 3].clone()).collect();
    for quantizer in hand_made(dims) {
        same_scan(&quantizer, &values, &kinds.concat(), &[4_500]);
    }
}

#[test]
fn rows_far_shorter_or_longer_than_the_query_keep_their_order() {
    // Squared distances then differ by their rounding alone, and tie by the hundred.
    let dims = 40;
    let values = table("power law", 5_000, dims);
    for factor in [1e-12f32, 1e-9, 1e-8, 1e9] {
        let scaled: Vec<f32> = values.iter().map(|x| x * factor).collect();
        for quantizer in hand_made(dims).iter().take(4) {
            same_scan(quantizer, &scaled, &queries(&values, dims), &[]);
        }
    }
}
