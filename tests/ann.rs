//! Inverted files: visiting all cells is an exact search, visiting some finds the best of their rows on every kernel, and
//! no answer is reported as exact that is not.

mod random;

use nseekfs::ann::Request;
use nseekfs::ann::ivf::Ivf;
use nseekfs::build::{BuildParams, Builder};
use nseekfs::candidates::Filter;
use nseekfs::error::Error;
use nseekfs::format::{
    AnnBytes, AnnParts, CellRecord, CellShape, CodeBytes, Contents, Header, IdRecord, IndexRecord, Kind, Mode, QuantizerBytes,
    SegmentBytes, TuningPoint, TuningRecord, Verify,
};
use nseekfs::hits::Hits;
use nseekfs::index::{AnnKind, AnnParams, Index, Method, SearchParams};
use nseekfs::input::Block;
use nseekfs::kernel::{self, scalar};
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use nseekfs::quantize::levels::{level_value, nearest_level};
use nseekfs::quantize::query_code::QueryCode;
use nseekfs::scan::lists::Mask;
use nseekfs::scan::{Plan, Queries};
use nseekfs::store::ids::IdSlice;
use nseekfs::store::rows::{PanelBuffer, PanelValues, Rows};
use nseekfs::topk::{Entry, best_first};
use proptest::prelude::*;
use random::Random;
use std::path::Path;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];
const LEVELS: [Level; 4] = [Level::F64, Level::F32, Level::F16, Level::F8];

/// A number from -1 to 1, most often near 0.
fn normal(random: &mut Random) -> f64 {
    (0..6).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() / 3.0 - 1.0
}

/// Rows around `centres` centres, `spread` wide.
fn clustered(rows: usize, dims: usize, centres: usize, spread: f64, seed: u64) -> Vec<f64> {
    let mut random = Random::seeded(seed);
    let middle: Vec<f64> = (0..centres * dims).map(|_| normal(&mut random)).collect();
    let mut values = Vec::with_capacity(rows * dims);
    for _ in 0..rows {
        let centre = random.next() as usize % centres;
        values.extend(middle[centre * dims..(centre + 1) * dims].iter().map(|x| x + spread * normal(&mut random)));
    }
    values
}

fn unit(values: &[f64], dims: usize) -> Vec<f64> {
    let length = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-300);
    values.chunks_exact(dims).flat_map(|row| row.iter().map(move |x| x / length(row))).collect()
}

/// Rows of different norms, some of them zero, some duplicated.
fn uneven(rows: usize, dims: usize, seed: u64) -> Vec<f64> {
    let mut values = clustered(rows, dims, 9, 0.3, seed);
    let mut random = Random::seeded(seed);
    for row in 0..rows {
        let own = row * dims..(row + 1) * dims;
        match random.next() % 16 {
            0 => values[own].fill(0.0),
            1..4 if row > 0 => values.copy_within(row / 2 * dims..(row / 2 + 1) * dims, own.start),
            4..8 => values[own].iter_mut().for_each(|x| *x *= 1e3),
            _ => {}
        }
    }
    values
}

fn cells(count: usize, spill: bool) -> AnnParams {
    AnnParams { kind: Some(AnnKind::Ivf), cells: Some(count as i64), spill, ..AnnParams::default() }
}

/// The inverted file of an index, and its tuning.
fn ivf_of(index: &Index) -> Option<(&Ivf, std::sync::Arc<TuningRecord>)> {
    index.ann().map(|(ann, tuning)| (ann.cells().unwrap(), tuning))
}

fn build(level: Level, metric: Metric, values: &[f64], dims: usize, ann: AnnParams) -> Index {
    let watch = Watch::new(&|| true);
    let params = BuildParams { level, metric, ann: Some(ann), seed: 5, threads: Some(2), ..BuildParams::default() };
    let mut builder = Builder::new((values.len() / dims) as u64, dims, params).unwrap();
    builder.push(Block::F64(values), dims, &watch).unwrap();
    builder.finish(&watch).unwrap()
}

fn search(index: &Index, queries: &[f64], params: &SearchParams) -> Hits {
    index.search(Block::F64(queries), index.about().dims, params, &Watch::new(&|| true)).unwrap()
}

/// Rows, and the bits of keys and scores.
fn bits(hits: &Hits) -> (Vec<i64>, Vec<u64>, Vec<u32>) {
    (hits.rows.clone(), hits.keys.iter().map(|key| key.to_bits()).collect(), hits.scores.iter().map(|score| score.to_bits()).collect())
}

/// Rows, a shifted row, a zero query, and queries of very large and small norms.
fn queries(values: &[f64], dims: usize) -> Vec<f64> {
    let mut random = Random::seeded(77);
    let count = values.len() / dims;
    let row = |at: usize| &values[at % count * dims..(at % count + 1) * dims];
    let mut all = [row(0), row(count / 2), row(count - 1), &vec![0.0; dims]].concat();
    all.extend(row(count / 3).iter().map(|x| x + 0.1 * normal(&mut random)));
    all.extend(row(count / 5).iter().map(|x| 1e9 * (x + 0.1)));
    all.extend(row(count / 7).iter().map(|x| -1e-9 * x));
    all.extend((0..dims).map(|_| normal(&mut random)));
    all
}

/// Visiting all cells gives the answer of the scalar scan of all rows, reported as exact.
fn same_as_exact(index: &Index, vectors: &[f64], ks: &[i64]) {
    let (dims, rows) = (index.about().dims, index.rows());
    let count = ivf_of(index).unwrap().0.cells() as i64;
    let mask: Vec<bool> = (0..rows).map(|row| row % 3 != 1).collect();
    let ann: Vec<i64> = (0..rows as i64).step_by(7).chain([0, rows as i64 - 1]).collect();
    for metric in METRICS {
        for &k in ks {
            for filter in [None, Some(Filter::Mask(&mask)), Some(Filter::Ids(IdSlice::Numbers(&ann)))] {
                let exact = SearchParams { k, metric: Some(metric), filter, method: Method::Scalar, ..SearchParams::default() };
                let all = SearchParams { method: Method::Auto, nprobe: Some(count), threads: Some(2), ..exact };
                let context = format!("{:?} {metric:?} k {k} of {rows} rows, filter {filter:?}", index.about());
                let (want, got) = (search(index, vectors, &exact), search(index, vectors, &all));
                assert_eq!(bits(&got), bits(&want), "{context}");
                assert!(got.certificates.iter().all(|certificate| certificate.exact));
                for (i, query) in vectors.chunks_exact(dims).enumerate() {
                    assert_eq!(bits(&search(index, query, &all)), bits(&search(index, query, &exact)), "{context}, query {i} alone");
                    // Bounds equal to the score of a found row, and between scores.
                    let Some(&key) = want.keys.get(i * want.per_query + want.per_query / 2) else { continue };
                    let score = if metric == Metric::Euclidean { key.sqrt() } else { key };
                    for bound in [score, score * 0.75] {
                        let bounded = |params: &SearchParams| search(index, query, &SearchParams { bound: Some(bound), ..*params });
                        assert_eq!(bits(&bounded(&all)), bits(&bounded(&exact)), "{context}, query {i} bound {bound}");
                    }
                }
            }
        }
    }
}

#[test]
fn visiting_all_cells_is_an_exact_search() {
    let dims = 12;
    let rows = uneven(400, dims, 1);
    for level in LEVELS {
        for metric in METRICS {
            for (values, spill) in [(rows.clone(), true), (rows.clone(), false), (unit(&clustered(400, dims, 8, 0.4, 2), dims), true)] {
                let index = build(level, metric, &values, dims, cells(21, spill));
                let (ivf, _) = ivf_of(&index).unwrap();
                assert_eq!((ivf.cells(), ivf.spilled()), (21, spill));
                same_as_exact(&index, &queries(&values, dims), &[1, 10, 500]);
            }
        }
    }
}

/// An index that is large enough for codes: more than 4 MiB.
fn coded(level: Level, metric: Metric, unit_rows: bool, spill: bool) -> (Index, Vec<f64>, usize) {
    let (rows, dims) = match level {
        Level::F64 => (9_000, 64),
        Level::F16 => (33_500, 64),
        _ => (17_000, 64),
    };
    let mut values = if unit_rows { unit(&clustered(rows, dims, 40, 0.5, 3), dims) } else { uneven(rows, dims, 6) };
    // Falling variance, as of principal axes.
    values.iter_mut().enumerate().for_each(|(i, x)| *x /= if unit_rows { 1.0 } else { 1.0 + (i % dims) as f64 / 8.0 });
    let index = build(level, metric, &values, dims, cells(64, spill));
    assert!(index.quantizer().is_some() && ivf_of(&index).unwrap().0.lists().codes.is_some());
    (index, values, dims)
}

#[test]
fn visiting_all_cells_of_a_table_with_codes_is_an_exact_search() {
    let kinds =
        [(Level::F32, Metric::Cosine, true, true), (Level::F64, Metric::Euclidean, false, true), (Level::F16, Metric::Dot, false, false)];
    for (level, metric, unit_rows, spill) in kinds {
        let (index, values, dims) = coded(level, metric, unit_rows, spill);
        same_as_exact(&index, &queries(&values, dims)[2 * dims..7 * dims], &[30]);
    }
}

/// The key of a row by the scalar kernel.
fn key_of(metric: Metric, rows: &Rows, row: usize, queries: &Queries, query: usize) -> f64 {
    let mut buffer = PanelBuffer::default();
    rows.decode(&scalar::KERNEL, row..row + 1, &mut buffer);
    let (mut sum, wide, dims) = ([0.0], queries.wide(query), queries.dims());
    match (buffer.values(), metric) {
        (PanelValues::F32(x), Metric::Euclidean) => (scalar::KERNEL.squared_distance)(wide, x, dims, &mut sum),
        (PanelValues::F32(x), _) => (scalar::KERNEL.dot)(wide, x, dims, &mut sum),
        (PanelValues::F64(x), Metric::Euclidean) => (scalar::KERNEL.squared_distance_f64)(wide, x, dims, &mut sum),
        (PanelValues::F64(x), _) => (scalar::KERNEL.dot_f64)(wide, x, dims, &mut sum),
    }
    metric.key(sum[0], queries.norm(query), rows.norms[row])
}

/// Cells by the exact keys of their centroids, nearest first.
fn by_keys(ivf: &Ivf, metric: Metric, queries: &Queries, query: usize) -> Vec<u32> {
    let narrow = queries.narrow(&scalar::KERNEL).unwrap();
    let (vectors, by) = (narrow.as_ref().unwrap_or(queries), if ivf.metric() == Metric::Cosine { Metric::Cosine } else { metric });
    let entry = |cell: usize| Entry { key: key_of(by, &ivf.centroids(), cell, vectors, query), row: cell as u64 };
    let mut order: Vec<Entry> = (0..ivf.cells()).map(entry).collect();
    order.sort_by(best_first);
    order.iter().map(|entry| entry.row as u32).collect()
}

/// The order in which a query visits cells: without codes that of exact keys, with codes close to it.
fn order(index: &Index, metric: Metric, queries: &Queries, query: usize) -> Vec<u32> {
    let ivf = ivf_of(index).unwrap().0;
    let exact = by_keys(ivf, metric, queries, query);
    if index.quantizer().is_none() {
        return exact;
    }
    let watch = Watch::new(&|| true);
    let (quantizer, unit) = (index.quantizer(), index.about().unit);
    let plan =
        Plan { metric, k: 1, kernel: &scalar::KERNEL, method: Method::Auto, threads: 1, quantizer, unit, threshold: f64::NEG_INFINITY };
    let order = ivf.order(&plan, &queries.only(query).unwrap(), 0, &watch).unwrap();
    let order: Vec<u32> = order.into_iter().map(|rank| rank.1).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..ivf.cells() as u32));
    let near = ivf.cells() / 4;
    let same = order[..near].iter().filter(|cell| exact[..near].contains(cell)).count();
    assert!(2 * order.iter().position(|&cell| cell == exact[0]).unwrap() <= near && 4 * same >= 3 * near, "{same} of {near}");
    order
}

/// The best rows of the `nprobe` cells nearest to a query, doubled until there are `k`: by the scalar kernel and a full
/// sort.
fn oracle(
    index: &Index,
    metric: Metric,
    k: usize,
    nprobe: usize,
    allowed: &dyn Fn(usize) -> bool,
    queries: &Queries,
    query: usize,
) -> Vec<Entry> {
    let (ivf, views) = (ivf_of(index).unwrap().0, index.views());
    let (rows, lists) = (&views[0], ivf.lists());
    let order = order(index, metric, queries, query);
    let wanted = k.min((0..rows.len()).filter(|&row| allowed(row)).count());
    let mut count = nprobe.min(order.len());
    loop {
        let cells = order[..count].iter().map(|&cell| cell as usize);
        let mut found: Vec<usize> = cells.flat_map(|cell| lists.rows[lists.entries(cell)].iter().map(|&row| row as usize)).collect();
        found.retain(|&row| row < rows.len() && allowed(row));
        found.sort_unstable();
        found.dedup();
        if found.len() >= wanted || count == order.len() {
            let mut best: Vec<Entry> =
                found.iter().map(|&row| Entry { key: key_of(metric, rows, row, queries, query), row: row as u64 }).collect();
            best.sort_by(best_first);
            best.truncate(k);
            return best;
        }
        count = (2 * count).min(order.len());
    }
}

/// Every kernel, number of threads and batch gives the same answer: without codes the oracle's, with codes at least
/// 99.5 % of it.
fn same_as_oracle(index: &Index, vectors: &[f64], metrics: &[Metric]) {
    let (dims, level, rows) = (index.about().dims, index.about().level, index.rows());
    let ivf: &Ivf = ivf_of(index).unwrap().0;
    let views = index.views();
    let mut third = Mask::none(rows).unwrap();
    (0..rows).step_by(3).for_each(|row| third.allow(row..row + 1));
    let third_rows = rows.div_ceil(3) as u64;
    for &metric in metrics {
        for (k, nprobe, masked) in
            [(1, 1, false), (10, 3, false), (25, 2, true), ((rows / 2).min(2500), 2, false), (12, 50, false), (5, 50, true)]
        {
            let mask = masked.then_some((&third, third_rows));
            let allowed = |row: usize| !masked || row.is_multiple_of(3);
            let ready = Queries::new(&scalar::KERNEL, level, Block::F64(vectors), dims, 0).unwrap();
            let want: Vec<_> = (0..ready.len()).map(|query| oracle(index, metric, k, nprobe, &allowed, &ready, query)).collect();
            let mut same = None;
            for kernel in kernel::available() {
                for (method, threads) in [(Method::Auto, 1), (Method::Auto, 3), (Method::Simd, 2)] {
                    let (quantizer, unit) = (index.quantizer(), index.about().unit);
                    let plan = Plan { metric, k, kernel, method, threads, quantizer, unit, threshold: f64::NEG_INFINITY };
                    let watch = Watch::new(&|| true);
                    let run = |queries: &Queries| {
                        let request = Request {
                            plan: &plan,
                            segments: &views,
                            queries,
                            nprobe,
                            adapt: None,
                            ratio: None,
                            reorder: None,
                            mask,
                            expected_entries: 0.0,
                        };
                        let found = ivf.search(&request, &watch).unwrap();
                        found.into_iter().map(|found| found.top.into_sorted()).collect::<Vec<_>>()
                    };
                    let queries = Queries::new(kernel, level, Block::F64(vectors), dims, 0).unwrap();
                    let alone = (0..queries.len()).flat_map(|query| run(&queries.only(query).unwrap())).collect();
                    for (found, how) in [(run(&queries), "batch"), (alone, "alone")] {
                        assert_eq!(found.len(), want.len());
                        let bits = |all: &[Vec<Entry>]| -> Vec<Vec<(u64, u64)>> {
                            all.iter().map(|entries| entries.iter().map(|e| (e.row, e.key.to_bits())).collect()).collect()
                        };
                        let (found, want) = (bits(&found), bits(&want));
                        let context = format!("{} {metric:?} k {k}, {how}", kernel.name);
                        assert!(same.get_or_insert_with(|| found.clone()) == &found, "{context}");
                        if index.quantizer().is_none() {
                            assert_eq!(found, want, "{context}");
                        }
                        for (found, want) in found.iter().zip(&want) {
                            let held = found.iter().filter(|entry| want.contains(entry)).count();
                            assert!(found.len() == want.len() && 200 * held >= 199 * want.len(), "{context}: {held} of {}", want.len());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn probed_cells_give_the_best_of_their_rows_on_every_kernel() {
    let dims = 12;
    for level in LEVELS {
        let rows = uneven(300, dims, 6);
        for metric in METRICS {
            let index = build(level, metric, &rows, dims, cells(17, metric != Metric::Dot));
            same_as_oracle(&index, &queries(&rows, dims), &[metric]);
        }
        let rows = unit(&clustered(300, dims, 7, 0.5, 7), dims);
        let index = build(level, Metric::Cosine, &rows, dims, cells(17, true));
        same_as_oracle(&index, &queries(&rows, dims), &METRICS);
    }
}

#[test]
fn probed_cells_of_a_table_with_codes_give_the_best_of_their_rows_on_every_kernel() {
    for (level, metric, unit_rows) in
        [(Level::F32, Metric::Cosine, true), (Level::F32, Metric::Dot, false), (Level::F64, Metric::Euclidean, false)]
    {
        let (index, values, dims) = coded(level, metric, unit_rows, true);
        let metrics = if unit_rows { &METRICS[..] } else { std::slice::from_ref(&metric) };
        same_as_oracle(&index, &queries(&values, dims)[2 * dims..6 * dims], metrics);
    }
}

/// A query along one axis is kept in 16 bits, as its other coordinates vanish in 8; a query like the rows in 8.
#[test]
fn queries_in_sixteen_bits_and_in_eight_give_the_best_of_their_rows_on_every_kernel() {
    let (rows, dims) = (6_000, 640);
    let mut random = Random::seeded(41);
    // For isotropic rows, the 4-bit codes cover most axes.
    let values: Vec<f64> = (0..rows * dims).map(|_| normal(&mut random)).collect();
    let index = build(Level::F32, Metric::Cosine, &values, dims, cells(16, true));
    let axis = &index.quantizer().unwrap().axes()[..dims];
    let along = |random: &mut Random| axis.iter().map(|&a| f64::from(a) + 0.05 * normal(random)).collect::<Vec<f64>>();
    let like = |row: usize| values[row * dims..(row + 1) * dims].iter().map(|x| x + 0.01).collect::<Vec<f64>>();
    let vectors = [along(&mut random), like(3), along(&mut random), like(700), like(4000), along(&mut random)].concat();
    let queries = Queries::new(&scalar::KERNEL, Level::F32, Block::F64(&vectors), dims, 0).unwrap();
    let query_code = |i: usize| QueryCode::new(&scalar::KERNEL, index.quantizer().unwrap(), queries.wide(i), queries.norm(i)).probable();
    assert_eq!([0, 1, 2, 3, 4, 5].map(|i| query_code(i).coarse_query().low.is_empty()), [false, true, false, true, true, false]);
    // Twice, so that cells are visited often enough for batch bounds.
    same_as_oracle(&index, &vectors.repeat(2), &[Metric::Cosine]);
}

#[test]
fn cells_are_the_same_for_any_number_of_threads() {
    let values = uneven(2000, 16, 8);
    let build = |threads| {
        let watch = Watch::new(&|| true);
        let params = BuildParams { ann: Some(cells(30, true)), threads: Some(threads), ..BuildParams::default() };
        let mut builder = Builder::new(2000, 16, params).unwrap();
        builder.push(Block::F64(&values), 16, &watch).unwrap();
        builder.finish(&watch).unwrap()
    };
    let (one, three) = (build(1), build(3));
    let ((a, tuned_a), (b, tuned_b)) = (ivf_of(&one).unwrap(), ivf_of(&three).unwrap());
    assert!(a.payload() == b.payload() && tuned_a == tuned_b);
}

/// Visits `nprobe` cells and checks that every answer reported as exact is that of all rows. Returns the number of
/// answers reported as exact, and of those that differ from the exact one.
fn never_wrongly_exact(index: &Index, vectors: &[f64], metric: Metric, k: i64, nprobe: &[i64]) -> (usize, usize) {
    let exact = SearchParams { k, metric: Some(metric), method: Method::Simd, ..SearchParams::default() };
    let want = search(index, vectors, &exact);
    let (mut proven, mut wrong) = (0, 0);
    for &nprobe in nprobe {
        let got = search(index, vectors, &SearchParams { method: Method::Auto, nprobe: Some(nprobe), ..exact });
        for (query, certificate) in got.certificates.iter().enumerate() {
            let own = query * got.per_query..(query + 1) * got.per_query;
            let bits =
                |hits: &Hits| (hits.rows[own.clone()].to_vec(), hits.keys[own.clone()].iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            let same = bits(&got) == bits(&want);
            proven += usize::from(certificate.exact);
            wrong += usize::from(!same);
            let context = format!("{:?} {metric:?} k {k}, {nprobe} cells, query {query}", index.about());
            assert!(same || !certificate.exact, "{context}: {:?} for {:?}", bits(&got), bits(&want));
            assert_eq!(certificate.best_bound_left.is_infinite(), !certificate.exact, "{context}: {certificate:?}");
        }
    }
    (proven, wrong)
}

/// Queries parallel to the coding error of a row: probable bounds miss rows of the visited cells, a proof must not.
#[test]
fn rows_that_probable_bounds_miss_are_not_reported_as_exact() {
    let dims = 96;
    let values = unit(&clustered(12_000, dims, 96, 0.1, 31), dims);
    let index = build(Level::F32, Metric::Cosine, &values, dims, cells(96, true));
    let quantizer = index.quantizer().unwrap();
    let towards_error = |(row, part): (&[f64], f64)| {
        let mut query: Vec<f64> = vec![0.0; dims];
        let mut length = 0.0;
        for (axis, &step) in quantizer.axes().chunks_exact(dims).zip(quantizer.steps()).take(quantizer.leading) {
            let coordinate: f64 = row.iter().zip(quantizer.centre()).zip(axis).map(|((x, &m), &a)| (x - f64::from(m)) * f64::from(a)).sum();
            let step = f64::from(step);
            let error = coordinate - step * f64::from(level_value(nearest_level((coordinate / step).round_ties_even() as f32).0));
            query.iter_mut().zip(axis).for_each(|(q, &a)| *q += error * f64::from(a));
            length += error * error;
        }
        query.iter().zip(row).map(|(q, x)| part * q / f64::sqrt(length) + (1.0 - part) * x).collect::<Vec<f64>>()
    };
    let vectors: Vec<f64> =
        values.chunks_exact(dims).step_by(20).zip([0.3, 0.4, 0.5, 0.6].into_iter().cycle()).flat_map(towards_error).collect();
    same_as_exact(&index, &vectors[..20 * dims], &[1, 10]);
    let (mut proven, mut wrong) = (0, 0);
    for k in [1, 10] {
        let (more, others) = never_wrongly_exact(&index, &vectors, Metric::Cosine, k, &[1, 8]);
        (proven, wrong) = (proven + more, wrong + others);
    }
    assert!(proven > 100 && wrong > 50, "{proven} proven, {wrong} wrong");
}

#[test]
fn no_answer_is_reported_as_exact_that_is_not() {
    for level in LEVELS {
        for metric in METRICS {
            let (mut proven, mut wrong) = (0, 0);
            for (dims, centres, spread) in [(2, 12, 0.05), (3, 30, 0.3), (16, 20, 0.1)] {
                for unit_rows in [false, true] {
                    let mut values = clustered(600, dims, centres, spread, 9);
                    if unit_rows {
                        values = unit(&values, dims);
                    }
                    let index = build(level, metric, &values, dims, cells(24, true));
                    let near = clustered(200, dims, centres, spread, 9);
                    let vectors = [&near[..], &clustered(50, dims, 50, 1.0, 10), &values[..50 * dims], &vec![0.0; dims]].concat();
                    for k in [1, 10] {
                        let (more, others) = never_wrongly_exact(&index, &vectors, metric, k, &[1, 3]);
                        (proven, wrong) = (proven + more, wrong + others);
                    }
                }
            }
            assert!(proven > 200 && wrong > 200, "{level:?} {metric:?}: {proven} proven, {wrong} wrong");
        }
    }
}

#[test]
fn no_answer_with_a_filter_or_a_bound_is_reported_as_exact_that_is_not() {
    let dims = 4;
    let values = clustered(800, dims, 16, 0.2, 11);
    for metric in METRICS {
        let index = build(Level::F32, metric, &values, dims, cells(20, true));
        let mask: Vec<bool> = (0..800).map(|row| row % 5 != 0).collect();
        let (mut proven, mut wrong) = (0, 0);
        for query in clustered(400, dims, 16, 0.2, 11).chunks_exact(dims) {
            for (filter, k, share) in
                [(Some(Filter::Mask(&mask)), 30, None), (None, 20, Some(0.98)), (Some(Filter::Mask(&mask)), 100, Some(0.9))]
            {
                let exact = SearchParams { k, filter, method: Method::Simd, ..SearchParams::default() };
                let best = search(&index, query, &exact).keys[0];
                let bound = share.map(|share| if metric == Metric::Euclidean { best.sqrt() + 4.0 * (1.0 - share) } else { best * share });
                let want = search(&index, query, &SearchParams { bound, ..exact });
                let got = search(&index, query, &SearchParams { bound, method: Method::Auto, nprobe: Some(1), ..exact });
                let (same, reported) = (bits(&got) == bits(&want), got.certificates[0].exact);
                assert!(same || !reported, "{metric:?} k {k} bound {bound:?}");
                (proven, wrong) = (proven + usize::from(reported), wrong + usize::from(!same));
            }
        }
        assert!(proven > 50 && wrong > 50, "{metric:?}: {proven} proven, {wrong} wrong");
    }
}

/// Rows and a query in the plane whose keys attain the bounds of the proof: one row in the first cell, and one in the
/// second that is nearer by `gap` and lies between its centroid and the query.
fn attained(metric: Metric, rotation: f64, gap: f64) -> (Vec<f64>, [f64; 2]) {
    let (u, v) = ([rotation.cos(), rotation.sin()], [-rotation.sin(), rotation.cos()]);
    let at = |along: f64, across: f64| [along * u[0] + across * v[0], along * u[1] + across * v[1]];
    let (query, first, near, far) = match metric {
        Metric::Cosine => {
            let angle = |angle: f64| at(angle.cos(), angle.sin());
            (angle(0.0), angle(-0.3), angle(0.3 - gap), angle(0.5))
        }
        Metric::Dot => (at(1.0, 0.0), at(1.0, 3.0), at(1.0 + gap, -3.0), at(0.6, -3.0)),
        Metric::Hamming => panic!("no cells serve it"),
        Metric::Euclidean => (at(3.0, 0.7), at(2.5, 0.7), at(3.5 - gap, 0.7), at(3.9, 0.7)),
    };
    ([first, near, far].concat().repeat(4), query)
}

#[test]
fn no_answer_is_reported_as_exact_that_is_not_when_keys_nearly_tie() {
    let mut random = Random::seeded(12);
    for level in [Level::F64, Level::F32] {
        for metric in METRICS {
            let (mut proven, mut wrong) = (0, 0);
            for table in 0..600 {
                let gap = normal(&mut random) * 10f64.powi(-4 - table % 7);
                let (values, query) = attained(metric, f64::from(table), gap);
                let index = build(level, metric, &values, 2, cells(2, false));
                let (more, others) = never_wrongly_exact(&index, &query, metric, 1, &[1]);
                (proven, wrong) = (proven + more, wrong + others);
            }
            assert!(proven > 20 && wrong > 20, "{level:?} {metric:?}: {proven} proven, {wrong} wrong");
        }
    }
}

#[test]
fn rows_that_vanish_in_float32_give_no_wrong_certificate() {
    let dims = 3;
    for scale in [1e-30, 1e-42, 1e-50] {
        for metric in METRICS {
            let mut values = clustered(200, dims, 8, 0.2, 13);
            values.iter_mut().enumerate().for_each(|(i, x)| *x *= if i / dims % 2 == 0 { scale } else { 1.0 });
            let index = build(Level::F64, metric, &values, dims, cells(10, true));
            let mut vectors = clustered(100, dims, 8, 0.2, 13);
            vectors.extend(vectors.clone().iter().map(|x| x * scale));
            never_wrongly_exact(&index, &vectors, metric, 1, &[1, 3]);
            never_wrongly_exact(&index, &vectors, metric, 8, &[1, 3]);
        }
    }
}

#[test]
fn k_rows_are_found_where_there_are_k() {
    let dims = 6;
    for (rows, count) in [(1, 1), (2, 1), (2, 2), (15, 15), (17, 4), (300, 100)] {
        let values = clustered(rows, dims, 5, 0.2, 14);
        for metric in METRICS {
            for spill in [false, true] {
                let index = build(Level::F32, metric, &values, dims, cells(count, spill));
                assert_eq!(ivf_of(&index).unwrap().0.cells(), count);
                for k in [1, 2, rows as i64 - 1, rows as i64, rows as i64 + 1, 1 << 40].into_iter().filter(|&k| k > 0) {
                    for nprobe in [1, 2, i64::MAX] {
                        let vectors = queries(&values, dims);
                        let hits = search(&index, &vectors, &SearchParams { k, nprobe: Some(nprobe), ..SearchParams::default() });
                        let want = (k as usize).min(rows);
                        assert_eq!((hits.per_query, hits.rows.len()), (want, want * vectors.len() / dims));
                        for found in hits.rows.chunks_exact(want) {
                            let mut once = found.to_vec();
                            once.sort_unstable();
                            once.dedup();
                            assert_eq!(once.len(), want);
                        }
                        if want == rows || nprobe == i64::MAX {
                            assert!(hits.certificates.iter().all(|certificate| certificate.exact));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_filter_that_allows_fewer_than_k_rows_gives_all_of_them() {
    let dims = 6;
    let values = clustered(300, dims, 5, 0.2, 15);
    let index = build(Level::F32, Metric::Euclidean, &values, dims, cells(40, true));
    for rows in [vec![], vec![299], vec![3, 77, 150, 151, 299]] {
        let params = SearchParams { k: 10, nprobe: Some(1), filter: Some(Filter::Ids(IdSlice::Numbers(&rows))), ..SearchParams::default() };
        let hits = search(&index, &values[..dims], &params);
        let mut found = hits.rows.clone();
        found.sort_unstable();
        assert_eq!(found, rows);
        assert!(hits.certificates[0].exact);
    }
}

#[test]
fn a_ratio_leaves_out_cells_and_never_all() {
    let dims = 8;
    let values = clustered(500, dims, 10, 0.2, 16);
    for metric in METRICS {
        let index = build(Level::F32, metric, &values, dims, cells(25, true));
        let vectors = queries(&values, dims);
        let found = |ratio: Option<f64>| {
            let params = SearchParams { nprobe: Some(25), ratio_threshold: ratio, k: 5, ..SearchParams::default() };
            let hits = search(&index, &vectors, &params);
            assert_eq!(hits.rows.len(), 5 * vectors.len() / dims);
            hits.certificates.iter().map(|certificate| certificate.refined).sum::<u64>()
        };
        let read = [1.0, 0.99, 0.5, 0.0].map(|ratio| found(Some(ratio)));
        assert!(read[0] < read[3] && read[3] <= found(None), "{metric:?}: {read:?}");
    }
}

fn open(path: &Path, mode: Mode, verify: Verify) -> Result<Index, Error> {
    Index::open(path, mode, verify, &Watch::new(&|| true))
}

#[test]
fn a_saved_index_answers_as_the_built_one_and_without_cells_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let (path, again) = (folder.path().join("index.bin"), folder.path().join("again.bin"));
    let small = |level, metric| {
        let values = uneven(500, 10, 17);
        (build(level, metric, &values, 10, cells(20, true)), values, 10)
    };
    let indexes = [small(Level::F64, Metric::Euclidean), small(Level::F8, Metric::Cosine), coded(Level::F32, Metric::Dot, false, true)];
    for (built, values, dims) in indexes {
        built.save(&path, &Watch::new(&|| true)).unwrap();
        let content = std::fs::read(&path).unwrap();
        let vectors = queries(&values, dims);
        let visited = |nprobe| SearchParams { nprobe: Some(nprobe), threads: Some(2), ..SearchParams::default() };
        let exact = bits(&search(&built, &vectors, &SearchParams { method: Method::Scalar, ..SearchParams::default() }));
        for mode in [Mode::Mmap, Mode::Ram] {
            let opened = open(&path, mode, Verify::Full).unwrap();
            let ((a, tuned), (b, tuned_again)) = (ivf_of(&built).unwrap(), ivf_of(&opened).unwrap());
            assert!(a.payload() == b.payload() && tuned == tuned_again);
            assert_eq!((built.bytes(), built.about()), (opened.bytes(), opened.about()));
            for params in [visited(1), visited(4), visited(20), SearchParams::default(), SearchParams { recall: Some(0.5), ..visited(2) }] {
                let (want, got) = (search(&built, &vectors, &params), search(&opened, &vectors, &params));
                assert_eq!(bits(&got), bits(&want));
                let said = |hits: &Hits| hits.certificates.iter().map(|certificate| certificate.exact).collect::<Vec<_>>();
                assert_eq!(said(&got), said(&want));
            }
            opened.save(&again, &Watch::new(&|| true)).unwrap();
            assert!(std::fs::read(&again).unwrap() == content);
            let without = opened.without_ann();
            assert!(ivf_of(&without).is_none());
            let got = search(&without, &vectors, &SearchParams::default());
            assert!(bits(&got) == exact && got.certificates.iter().all(|certificate| certificate.exact));
            without.save(&again, &Watch::new(&|| true)).unwrap();
            assert!(Header::parse(&std::fs::read(&again).unwrap(), &again).unwrap().ann.is_none());
        }
    }
}

#[test]
fn arguments_of_cells_are_refused_by_an_index_without_cells() {
    let values = clustered(50, 4, 5, 0.2, 18);
    let index = build(Level::F32, Metric::Cosine, &values, 4, cells(5, true)).without_ann();
    let refused = |params: SearchParams| index.search(Block::F64(&values[..4]), 4, &params, &Watch::new(&|| true)).unwrap_err().to_string();
    assert!(
        refused(SearchParams { nprobe: Some(1), ..SearchParams::default() })
            .starts_with("nprobe: expected it only for an index with ann='ivf'")
    );
    assert!(refused(SearchParams { ratio_threshold: Some(0.5), ..SearchParams::default() }).starts_with("ratio_threshold: expected"));
    search(&index, &values[..4], &SearchParams { recall: Some(0.9), ..SearchParams::default() });
}

/// An inverted file built by hand: each cell's centroid and rows, and its least key.
struct Made<'a> {
    metric: Metric,
    cells: &'a [([f32; 2], &'a [u32])],
    reaches: &'a [f64],
}

impl Made<'_> {
    fn payload(&self) -> Vec<u8> {
        let blocks: Vec<u32> = self.cells.iter().map(|cell| cell.1.len().div_ceil(16) as u32).collect();
        let shape = CellShape { dims: 2, cells: self.cells.len(), blocks: blocks.iter().sum::<u32>() as usize, leading: 0 };
        let parts = shape.parts(0);
        let mut payload = vec![0u8; parts.end];
        payload[..64].copy_from_slice(bytemuck::bytes_of(&CellRecord::record(&shape, self.metric, false)));
        let mut starts = vec![0u32];
        blocks.iter().for_each(|count| starts.push(starts[starts.len() - 1] + count));
        let centroids: Vec<f32> = self.cells.iter().flat_map(|cell| cell.0).collect();
        let norms: Vec<f64> = self.cells.iter().map(|cell| f64::from(cell.0[0]).hypot(f64::from(cell.0[1]))).collect();
        let rows: Vec<u32> = self
            .cells
            .iter()
            .flat_map(|cell| cell.1.iter().copied().chain(std::iter::repeat_n(u32::MAX, cell.1.len().next_multiple_of(16) - cell.1.len())))
            .collect();
        payload[parts.starts].copy_from_slice(bytemuck::cast_slice(&starts));
        payload[parts.reaches].copy_from_slice(bytemuck::cast_slice(self.reaches));
        payload[parts.norms].copy_from_slice(bytemuck::cast_slice(&norms));
        payload[parts.centroids].copy_from_slice(bytemuck::cast_slice(&centroids));
        payload[parts.rows].copy_from_slice(bytemuck::cast_slice(&rows));
        payload
    }

    /// An index with this inverted file over segments of rows.
    fn index(&self, about: Metric, segments: &[&[f32]]) -> Index {
        let point = TuningPoint { k: 1, nprobe: 1, recall: 1.0, error: 0.0, visited: 1.0, gap: 0.0, far: 0.0, power: 0, reserved: 0 };
        self.tuned(about, segments, vec![point])
    }

    /// The same with a given tuning.
    fn tuned(&self, about: Metric, segments: &[&[f32]], points: Vec<TuningPoint>) -> Index {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made.bin");
        let norms: Vec<Vec<f64>> =
            segments.iter().map(|rows| rows.chunks_exact(2).map(|row| f64::from(row[0]).hypot(f64::from(row[1]))).collect()).collect();
        let parts: Vec<SegmentBytes> = segments
            .iter()
            .zip(&norms)
            .map(|(rows, norms)| SegmentBytes {
                rows: norms.len() as u64,
                row_values: bytemuck::cast_slice(rows),
                norms: bytemuck::cast_slice(norms),
                scales: None,
                codes: None,
                ids: None,
            })
            .collect();
        let tuning = TuningRecord { recall: 0.9, queries: 1, given: false, points }.payload();
        let cells = self.payload();
        let about = IndexRecord { dims: 2, level: Level::F32, metric: about, unit: false, seed: 0 };
        let ann = Some(AnnBytes { kind: Kind::Cells, ann: &cells, tuning: &tuning });
        nseekfs::format::write(
            &path,
            &Contents { index: &about, segments: &parts, quantizer: None, ann, ids: IdRecord::default() },
            &|| Ok(()),
        )
        .unwrap();
        open(&path, Mode::Ram, Verify::Full).unwrap()
    }
}

#[test]
fn cells_of_another_metric_prove_nothing() {
    let rows = [1.0, 0.0, 0.0, 1.0, -1.0, 0.1];
    for (cells, index) in METRICS.iter().flat_map(|&cells| METRICS.map(|index| (cells, index))) {
        // Least keys that would prove most by each metric.
        let reach = if cells == Metric::Euclidean { 0.0 } else { 9.0 };
        let made = Made { metric: cells, cells: &[([1.0, 0.0], &[0]), ([0.0, 1.0], &[1, 2])], reaches: &[reach; 2] };
        let hits = search(&made.index(index, &[&rows]), &[1.0, 0.25], &SearchParams { k: 1, nprobe: Some(1), ..SearchParams::default() });
        let fits = (cells == Metric::Cosine) == (index == Metric::Cosine) && cells != Metric::Dot;
        // Directions do not serve rows that differ in length: all rows are searched.
        let all = cells == Metric::Cosine && index != Metric::Cosine;
        assert!(hits.rows == [0] && (fits || all || !hits.certificates[0].exact), "{cells:?} cells, {index:?} index");
    }
}

#[test]
fn cells_serve_rows_of_several_segments() {
    let values: Vec<f32> = clustered(90, 2, 6, 0.2, 19).iter().map(|&x| x as f32).collect();
    let first: Vec<u32> = (0..90).filter(|&row| values[2 * row as usize] >= 0.0).collect();
    let second: Vec<u32> = (0..90).filter(|row| !first.contains(row) || row % 9 == 0).collect();
    let made = Made { metric: Metric::Euclidean, cells: &[([0.5, 0.0], &first), ([-0.5, 0.0], &second)], reaches: &[-9.0; 2] };
    let whole = made.index(Metric::Euclidean, &[&values]);
    let split = made.index(Metric::Euclidean, &[&values[..2 * 31], &values[2 * 31..2 * 32], &values[2 * 32..]]);
    let vectors: Vec<f64> = values[..40].iter().map(|&x| f64::from(x) + 0.01).collect();
    for (nprobe, k) in [(1, 1), (1, 20), (2, 50), (1, 90)] {
        let params = SearchParams { k, nprobe: Some(nprobe), ..SearchParams::default() };
        assert_eq!(bits(&search(&split, &vectors, &params)), bits(&search(&whole, &vectors, &params)));
    }
}

#[test]
fn cells_serve_rows_with_codes_of_several_segments() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.bin");
    let (whole, values, dims) = coded(Level::F32, Metric::Euclidean, false, true);
    whole.save(&path, &Watch::new(&|| true)).unwrap();
    let content = std::fs::read(&path).unwrap();
    let header = Header::parse(&content, &path).unwrap();
    let (segment, quantizer) = (&header.segments[0], header.quantizer.as_ref().unwrap());
    let (codes, leading, rows) = (segment.codes.as_ref().unwrap(), quantizer.leading, segment.rows as usize);
    let padded = rows.next_multiple_of(16);
    let cuts = [0..4096, 4096..4112, 4112..rows];
    let factors = cuts.clone().map(|cut| {
        let end = cut.end.next_multiple_of(16);
        // Offsets of four bytes, then three residual norms of two.
        let arrays = [(0, 4), (4, 2), (6, 2), (8, 2)].map(|(before, bytes)| {
            let start = codes.factors.start + before * padded;
            &content[start + bytes * cut.start..start + bytes * end]
        });
        arrays.concat()
    });
    let part = |place: &std::ops::Range<usize>, from: usize, to: usize| place.start + from..place.start + to;
    let parts: Vec<SegmentBytes> = cuts
        .iter()
        .zip(&factors)
        .map(|(cut, factors)| {
            let (from, to, remainder) = (cut.start, cut.end, leading / 2 + dims - leading);
            SegmentBytes {
                rows: cut.len() as u64,
                row_values: &content[part(&segment.row_values, from * dims * 4, to * dims * 4)],
                norms: &content[part(&segment.norms, from * 8, to * 8)],
                scales: None,
                codes: Some(CodeBytes {
                    lines: &content[part(&codes.lines, from / 16 * leading * 8, to.div_ceil(16) * leading * 8)],
                    factors,
                    remainder: &content[part(&codes.remainder, from * remainder, to * remainder)],
                }),
                ids: None,
            }
        })
        .collect();
    let AnnParts { record: ann, tuning, .. } = header.ann.clone().unwrap();
    let cells = ann.cells().unwrap();
    let (quantizer, tuning) =
        (QuantizerBytes { leading, skew: quantizer.skew, values: &content[quantizer.values.clone()] }, tuning.payload());
    let ann = Some(AnnBytes { kind: Kind::Cells, ann: &content[cells.payload.clone()], tuning: &tuning });
    let again = folder.path().join("segments.bin");
    nseekfs::format::write(
        &again,
        &Contents { index: &header.index, segments: &parts, quantizer: Some(quantizer), ann, ids: IdRecord::default() },
        &|| Ok(()),
    )
    .unwrap();
    let split = open(&again, Mode::Mmap, Verify::Full).unwrap();
    let vectors = queries(&values, dims);
    let third: Vec<bool> = (0..rows).map(|row| row % 3 == 0).collect();
    for (nprobe, k, filter) in [(1, 1, None), (3, 20, None), (4, 30, Some(Filter::Mask(&third))), (64, 10, None), (1, 3000, None)] {
        let params = SearchParams { k, nprobe: Some(nprobe), filter, ..SearchParams::default() };
        let (got, want) = (search(&split, &vectors, &params), search(&whole, &vectors, &params));
        // Thresholds depend on the order of segments, so probable bounds may miss different rows.
        let entries = |hits: &Hits, query: usize| -> Vec<(i64, u64)> {
            let own = query * hits.per_query..(query + 1) * hits.per_query;
            hits.rows[own.clone()].iter().copied().zip(hits.keys[own].iter().map(|key| key.to_bits())).collect()
        };
        assert!(got.per_query == want.per_query && (nprobe < 64 || bits(&got) == bits(&want)), "{nprobe} cells, k {k}");
        for query in 0..got.certificates.len() {
            let (found, wanted) = (entries(&got, query), entries(&want, query));
            let held = found.iter().filter(|entry| wanted.contains(entry)).count();
            assert!(200 * held >= 199 * wanted.len(), "{nprobe} cells, k {k}: {held} of {}", wanted.len());
        }
    }
}

#[test]
fn no_tuning_record_breaks_a_search() {
    let values: Vec<f32> = clustered(40, 2, 6, 0.2, 22).iter().map(|&x| x as f32).collect();
    let (first, second): (Vec<u32>, Vec<u32>) = (0..40).partition(|row| row % 3 == 0);
    let made = Made { metric: Metric::Euclidean, cells: &[([0.5, 0.0], &first), ([-0.5, 0.0], &second)], reaches: &[-9.0; 2] };
    let point =
        |(k, nprobe, recall, error, visited)| TuningPoint { k, nprobe, recall, error, visited, gap: 0.0, far: 0.0, power: 0, reserved: 0 };
    let tunings = [
        vec![(1, u32::MAX, 1.0, 0.0, 0.0)],
        vec![(u32::MAX, 1, 0.0, 1.0, f64::MAX)],
        vec![(1, 1, 1.0, 0.0, f64::MAX), (u32::MAX, u32::MAX, 1.0, 0.0, 0.0)],
        vec![(7, 2, 0.3, 0.0, 0.0), (7, 900, 0.2, 1.0, 5e-324), (8, 1, 1.0, 1.0, 0.0), (9, 1, 1.0, 0.0, 1e-300)],
    ];
    for points in tunings {
        let index = made.tuned(Metric::Euclidean, &[&values], points.into_iter().map(point).collect());
        let vectors: Vec<f64> = values[..20].iter().map(|&x| f64::from(x)).collect();
        for (k, recall) in [(1, None), (10, Some(1e-300)), (40, Some(0.999)), (i64::MAX, Some(0.25)), (10, Some(1.0))] {
            for filter in [None, Some(Filter::Ids(IdSlice::Numbers(&[3, 9, 27])))] {
                let hits = search(&index, &vectors, &SearchParams { k, recall, filter, ..SearchParams::default() });
                assert_eq!(hits.per_query as i64, k.min(if filter.is_some() { 3 } else { 40 }));
            }
        }
    }
}

#[test]
fn centroids_with_nan_or_infinite_keys_break_no_search() {
    let rows = [1.0, 0.0, 0.0, 1.0, -1.0, 0.1];
    for metric in METRICS {
        for odd in [f32::NAN, f32::INFINITY, f32::MAX, 1e-45] {
            for centroids in [[[odd, 0.0], [0.0, 1.0]], [[odd, odd], [-odd, odd]]] {
                let made = Made { metric, cells: &[(centroids[0], &[0]), (centroids[1], &[1, 2])], reaches: &[f64::NAN, 1.0] };
                let index = made.index(metric, &[&rows]);
                for (k, ratio_threshold) in [(1, None), (3, None), (1, Some(1.0)), (3, Some(1.0)), (3, Some(0.5))] {
                    let params = SearchParams { k, nprobe: Some(1), ratio_threshold, ..SearchParams::default() };
                    let _ = index.search(Block::F64(&[1e9, 0.25]), 2, &params, &Watch::new(&|| true));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn no_damage_to_lists_or_codes_breaks_a_search(
        codes in prop::bool::weighted(0.2),
        fills in prop::collection::vec((0usize..10, any::<prop::sample::Index>(), 1usize..3000, any::<[u8; 4]>()), 1..8),
        ratio in prop::option::of(0.0..=1.0f64),
        mask in any::<bool>(),
    ) {
        static FILES: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
        let files = FILES.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("whole.bin");
            let values = uneven(400, 8, 20);
            let content = |index: Index| {
                index.save(&path, &Watch::new(&|| true)).unwrap();
                std::fs::read(&path).unwrap()
            };
            [content(build(Level::F32, Metric::Dot, &values, 8, cells(20, true))), content(coded(Level::F32, Metric::Cosine, true, true).0)]
        });
        let mut content = files[usize::from(codes)].clone();
        let header = Header::parse(&content, Path::new("whole.bin")).unwrap();
        let parts = header.ann.unwrap().record.cells().unwrap().parts;
        let mut ranges = vec![parts.reaches, parts.norms, parts.centroids, parts.rows.clone(), parts.rows];
        ranges.extend(parts.codes.into_iter().flat_map(|codes| [codes.lines, codes.factors, codes.remainder]));
        ranges.extend(parts.listed.into_iter().flatten());
        for (part, at, length, bytes) in fills {
            let range = ranges[part % ranges.len()].clone();
            let start = range.start + at.index(range.len()) / 4 * 4;
            for word in content[start..range.end.min(start + length)].chunks_exact_mut(4) {
                word.copy_from_slice(&bytes);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.bin");
        std::fs::write(&path, &content).unwrap();
        let index = open(&path, Mode::Mmap, Verify::Header).unwrap();
        let dims = header.index.dims;
        let ann: Vec<i64> = (0..300).collect();
        for metric in METRICS {
            for (k, nprobe) in [(1, 1), (10, 2), (350, 3)] {
                let params = SearchParams {
                    k,
                    metric: Some(metric),
                    nprobe: Some(nprobe),
                    ratio_threshold: ratio,
                    filter: mask.then_some(Filter::Ids(IdSlice::Numbers(&ann))),
                    ..SearchParams::default()
                };
                let vectors = clustered(3, dims, 3, 0.5, 21);
                let _ = index.search(Block::F64(&vectors), dims, &params, &Watch::new(&|| true));
            }
        }
        let params = SearchParams { nprobe: Some(2), ..SearchParams::default() };
        let vectors = clustered(1, dims, 3, 0.5, 21);
        let _ = index.explain((Block::F64(&vectors), dims), 7, &params, &Watch::new(&|| true));
    }
}
