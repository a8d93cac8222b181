//! LSH tables hold every row once, are the same from every kernel and for any number of threads, are probed in the order
//! of scores, and are checked when they come from a file.

mod random;

use nseekfs::ann::lsh::build::{BuiltTables, buckets_of};
use nseekfs::ann::lsh::hash::{HashScratch, Hasher, Params};
use nseekfs::ann::lsh::probe::{Heap, QueryHash};
use nseekfs::ann::lsh::tables::{ProbeLimits, Scratch, Shape, Tables};
use nseekfs::build::{BuildParams, Builder};
use nseekfs::error::Error;
use nseekfs::input::Block;
use nseekfs::kernel::{runnable, scalar};
use nseekfs::level::Level;
use nseekfs::pool::{self, Watch};
use nseekfs::store::rows::{Rows, Values};
use proptest::prelude::*;
use random::Random;

const ALL: ProbeLimits = ProbeLimits { probes: u64::MAX, candidates: usize::MAX };

/// Starts, rows and keys.
type Arrays = [Vec<u32>; 3];

/// Rows around a few centres, every tenth of them zero.
fn values(count: usize, dims: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::seeded(seed);
    let mut number = || (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    let centres: Vec<f32> = (0..7 * dims).map(|_| number()).collect();
    let one = |i: usize| if i / dims % 10 == 9 { 0.0 } else { 0.3 + centres[i / dims % 7 * dims + i % dims] + 0.5 * number() };
    (0..count * dims).map(one).collect()
}

fn norms(values: &[f32], dims: usize) -> Vec<f64> {
    let mut sums = vec![0.0; values.len() / dims];
    (scalar::KERNEL.squared_norm)(values, dims, &mut sums);
    sums.iter().map(|sum| sum.sqrt()).collect()
}

fn rows<'a>(values: &'a [f32], norms: &'a [f64], dims: usize) -> Rows<'a> {
    Rows {
        dims,
        first: 0,
        values: Values::F32(values),
        scattered: Values::F32(values),
        norms,
        codes: None,
        in_memory: true,
        deleted: &nseekfs::store::deleted::NONE,
    }
}

fn build(rows: &Rows, params: Params) -> BuiltTables {
    BuiltTables::build(&scalar::KERNEL, rows, params, 1, &Watch::new(&|| true)).unwrap()
}

fn query_hash(lsh: &BuiltTables, values: &[f32], norm: f64) -> QueryHash {
    QueryHash::new(lsh.hasher(), &values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), norm)
}

/// Every row is in every table once, in the bucket of its hash, and the rows of a bucket ascend.
fn check_tables(lsh: &BuiltTables, rows: &Rows) {
    let (tables, params) = (lsh.tables(), lsh.hasher().params());
    let all: Vec<u32> = (0..rows.len() as u32).collect();
    let buckets = buckets_of(&scalar::KERNEL, lsh.hasher(), rows, &all);
    let [_, kept, _] = tables.arrays();
    for table in 0..params.tables {
        let mut sorted = kept[table * rows.len()..(table + 1) * rows.len()].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, all, "table {table}");
        for &row in &all {
            let bucket = tables.bucket(table, buckets[row as usize * params.tables + table]);
            assert!(bucket.is_sorted() && bucket.binary_search(&row).is_ok(), "table {table}, row {row}");
            if rows.norms[row as usize] == 0.0 {
                assert_eq!(buckets[row as usize * params.tables + table], 0);
            }
        }
    }
    let [starts, kept, keys] = tables.arrays();
    Tables::new(tables.shape(), starts, kept, keys).unwrap();
}

#[test]
fn every_table_holds_every_row_once() {
    for (count, dims) in [(0, 3), (1, 5), (2, 1), (600, 1), (513, 4), (300, 63), (300, 64), (40, 200), (20, 4097)] {
        let values = values(count, dims, 1);
        let norms = norms(&values, dims);
        for (tables, bits) in [(1, 1), (3, 7), (2, 24), (64, 5)] {
            let rows = rows(&values, &norms, dims);
            check_tables(&build(&rows, Params { tables, bits, seed: 3 }), &rows);
        }
    }
}

#[test]
fn every_kernel_level_and_number_of_threads_gives_the_same_tables() {
    let (count, dims) = (700, 100);
    let values = values(count, dims, 2);
    for level in [Level::F64, Level::F32, Level::F16, Level::F8] {
        let watch = Watch::new(&|| true);
        let mut builder = Builder::new(count as u64, dims, BuildParams { level, ..BuildParams::default() }).unwrap();
        builder.push(Block::F32(&values), dims, &watch).unwrap();
        let index = builder.finish(&watch).unwrap();
        let rows = index.views()[0];
        let params = Params { tables: 6, bits: 9, seed: 1 };
        let first = build(&rows, params);
        check_tables(&first, &rows);
        for kernel in runnable() {
            for threads in [1, 2, 5] {
                let other = BuiltTables::build(kernel, &rows, params, threads, &watch).unwrap();
                let bits = |lsh: &BuiltTables| lsh.hasher().values().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&other), bits(&first), "{} {level:?}, {threads} threads", kernel.name);
                assert_eq!(other.tables().arrays(), first.tables().arrays(), "{} {level:?}, {threads} threads", kernel.name);
            }
        }
    }
}

#[test]
fn a_query_is_hashed_as_the_row_that_it_equals() {
    for dims in [1, 2, 50, 64, 130] {
        let values = values(90, dims, 4);
        let norms = norms(&values, dims);
        let rows = rows(&values, &norms, dims);
        let lsh = build(&rows, Params { tables: 9, bits: 11, seed: 0 });
        for (row, value) in values.chunks_exact(dims).enumerate() {
            let query_hash = query_hash(&lsh, value, norms[row]);
            assert_eq!(query_hash.buckets(), buckets_of(&scalar::KERNEL, lsh.hasher(), &rows, &[row as u32]));
        }
    }
}

#[test]
fn a_hasher_of_kept_values_hashes_alike() {
    let values = values(200, 70, 5);
    let norms = norms(&values, 70);
    let rows = rows(&values, &norms, 70);
    let lsh = build(&rows, Params { tables: 5, bits: 13, seed: 8 });
    let kept = Hasher::new(70, lsh.hasher().params(), lsh.hasher().values()).unwrap();
    let mut buckets = [vec![0; 5 * 200], vec![1; 5 * 200]];
    for (hasher, out) in [lsh.hasher(), &kept].into_iter().zip(&mut buckets) {
        hasher.buckets(&scalar::KERNEL, &rows, 0..200, &mut HashScratch::default(), out);
    }
    assert_eq!(buckets[0], buckets[1]);
    assert_eq!(lsh.hasher().spreads(), kept.spreads());
}

#[test]
fn a_probing_sequence_ascends_and_names_every_bucket_once() {
    let values = values(300, 40, 6);
    let norms = norms(&values, 40);
    let lsh = build(&rows(&values, &norms, 40), Params { tables: 3, bits: 6, seed: 2 });
    for row in [0, 1, 9] {
        let query_hash = query_hash(&lsh, &values[row * 40..(row + 1) * 40], norms[row]);
        let mut heap = Heap::default();
        let sequence: Vec<_> = query_hash.probing_sequence(&mut heap).collect();
        assert!(sequence.is_sorted() && sequence.windows(2).all(|pair| pair[0].score() <= pair[1].score()));
        let mut named: Vec<_> = sequence.iter().map(|&perturbation| (perturbation.table(), query_hash.bucket(perturbation))).collect();
        named.sort_unstable();
        assert_eq!(named, (0..3).flat_map(|table| (0..64).map(move |bucket| (table, bucket))).collect::<Vec<_>>());
        for &perturbation in &sequence {
            let bucket = query_hash.bucket(perturbation);
            assert_eq!(query_hash.perturbation(perturbation.table(), bucket), perturbation);
            assert_eq!(perturbation.distance(), (bucket ^ query_hash.buckets()[perturbation.table()]).count_ones());
        }
    }
}

#[test]
fn probing_every_bucket_finds_every_row() {
    for (count, dims, tables, bits) in [(700, 20, 3, 8), (1, 6, 2, 10), (300, 1, 4, 12), (5, 4097, 1, 7)] {
        let values = values(count, dims, 7);
        let norms = norms(&values, dims);
        let lsh = build(&rows(&values, &norms, dims), Params { tables, bits, seed: 5 });
        let (mut scratch, mut found) = (Scratch::default(), vec![99]);
        for query in values.chunks_exact(dims).zip(&norms).map(|(value, &norm)| query_hash(&lsh, value, norm)).take(12) {
            let counts = lsh.tables().candidates(&query, ALL, &mut scratch, &mut found).unwrap();
            assert_eq!(found, (0..count as u32).collect::<Vec<_>>());
            assert_eq!((counts.probes, counts.entries), ((tables << bits) as u64, (tables * count) as u64));
        }
    }
}

#[test]
fn candidates_are_the_rows_of_the_first_buckets_sorted_and_each_once() {
    let (count, dims) = (3000, 30);
    let values = values(count, dims, 8);
    let norms = norms(&values, dims);
    let lsh = build(&rows(&values, &norms, dims), Params { tables: 5, bits: 7, seed: 5 });
    let (mut scratch, mut found, mut heap) = (Scratch::default(), Vec::new(), Heap::default());
    for row in (0..count).step_by(211) {
        let query_hash = query_hash(&lsh, &values[row * dims..(row + 1) * dims], norms[row]);
        for (probes, candidates) in [(0, 9), (1, 9), (7, usize::MAX), (8, usize::MAX), (9, usize::MAX), (u64::MAX, 40), (u64::MAX, 900)] {
            let counts = lsh.tables().candidates(&query_hash, ProbeLimits { probes, candidates }, &mut scratch, &mut found).unwrap();
            let (mut expected, mut entries, mut visited) = (Vec::new(), 0, 0);
            for perturbation in query_hash.probing_sequence(&mut heap).take(probes.min(10_000) as usize) {
                if expected.len() >= candidates {
                    break;
                }
                let bucket = lsh.tables().bucket(perturbation.table(), query_hash.bucket(perturbation));
                (entries, visited) = (entries + bucket.len() as u64, visited + 1);
                expected.extend_from_slice(bucket);
                expected.sort_unstable();
                expected.dedup();
            }
            assert_eq!((&found, counts.probes, counts.entries), (&expected, visited, entries), "{probes} probes, {candidates} candidates");
        }
    }
}

#[test]
fn explain_and_first_probes_agree_with_candidates() {
    let (count, dims) = (2000, 48);
    let values = values(count, dims, 9);
    let norms = norms(&values, dims);
    let rows = rows(&values, &norms, dims);
    let lsh = build(&rows, Params { tables: 4, bits: 8, seed: 5 });
    let (mut scratch, mut found, tables) = (Scratch::default(), Vec::new(), lsh.tables());
    let query_hash = query_hash(&lsh, &values[..dims], norms[0]);
    let wanted_rows: Vec<u32> = (0..count as u32).step_by(97).collect();
    let buckets = buckets_of(&scalar::KERNEL, lsh.hasher(), &rows, &wanted_rows);
    for (first_probe, (&row, buckets)) in
        tables.first_probes(&query_hash, &buckets, 300, &mut scratch).iter().zip(wanted_rows.iter().zip(buckets.chunks(4)))
    {
        let ranks = tables.explain(&query_hash, buckets, 300, &mut scratch);
        assert_eq!(ranks.len(), 4);
        let first = ranks.iter().enumerate().filter_map(|(table, rank)| Some((rank.probes?, table))).min();
        assert_eq!(first_probe.map(|probe| (probe.counts.probes, probe.table)), first);
        for (rank, (own, bucket)) in ranks.iter().zip(query_hash.buckets().iter().zip(buckets)) {
            assert_eq!(rank.distance, (own ^ bucket).count_ones());
        }
        let probes = first.map_or(300, |first| first.0);
        let before = ProbeLimits { probes: probes - u64::from(first.is_some()), candidates: usize::MAX };
        tables.candidates(&query_hash, before, &mut scratch, &mut found).unwrap();
        assert!(found.binary_search(&row).is_err());
        if let Some(probe) = first_probe {
            let counts = tables.candidates(&query_hash, ProbeLimits { probes, candidates: usize::MAX }, &mut scratch, &mut found).unwrap();
            assert!(found.binary_search(&row).is_ok());
            assert_eq!(counts, probe.counts);
        }
    }
    assert_eq!(tables.first_probes(&query_hash, &buckets[..4], 300, &mut scratch)[0].unwrap().counts.probes, 1);
}

#[test]
fn a_trace_agrees_with_candidates() {
    let (count, dims) = (3000, 30);
    let values = values(count, dims, 15);
    let norms = norms(&values, dims);
    let lsh = build(&rows(&values, &norms, dims), Params { tables: 5, bits: 7, seed: 5 });
    let (mut scratch, mut found, tables) = (Scratch::default(), Vec::new(), lsh.tables());
    let probes: Vec<usize> = vec![1, 2, 3, 9, 40, 41, 200, 640];
    // Unsorted, with zero rows.
    let wanted: Vec<u64> = (0..40).map(|i| (i * 1297 + 9) % count as u64).collect();
    for query in (0..count).step_by(397) {
        let query_hash = query_hash(&lsh, &values[query * dims..(query + 1) * dims], norms[query]);
        for (grid, limit) in [(&probes[..], u64::MAX), (&[], u64::MAX), (&probes[..5], 40), (&[], 7)] {
            let trace = tables.trace(&query_hash, &wanted, grid, limit, &mut Scratch::default()).unwrap();
            assert_eq!((trace.found_at.len(), trace.candidates.len()), (wanted.len(), grid.len()));
            let mut within = |probes| {
                tables.candidates(&query_hash, ProbeLimits { probes, candidates: usize::MAX }, &mut scratch, &mut found).unwrap();
                found.clone()
            };
            for (&probes, &candidates) in grid.iter().zip(&trace.candidates) {
                assert_eq!(within(probes as u64).len() as u64, candidates, "{probes} probes");
            }
            for (&row, probe) in wanted.iter().zip(&trace.found_at) {
                let last = probe.unwrap_or(limit + u64::from(limit < u64::MAX));
                assert!(last <= limit || probe.is_none());
                assert!(probe.is_none_or(|probe| within(probe).binary_search(&(row as u32)).is_ok()), "row {row} at {probe:?}");
                assert!(within(last - 1).binary_search(&(row as u32)).is_err(), "row {row} before {last}");
            }
        }
    }
}

#[test]
fn near_rows_are_found_in_the_first_buckets() {
    let (count, dims) = (4000, 96);
    let mut random = Random::seeded(10);
    // A sum of eight numbers is nearly normal.
    let mut number = || (0..8).map(|_| (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).sum::<f32>();
    let values: Vec<f32> = (0..count * dims).map(|_| number()).collect();
    let norms = norms(&values, dims);
    let lsh = build(&rows(&values, &norms, dims), Params { tables: 8, bits: 9, seed: 0 });
    let (mut scratch, mut found, mut hits) = (Scratch::default(), Vec::new(), 0);
    for row in 0..200 {
        // A cosine of about 0.93.
        let near: Vec<f32> = values[row * dims..(row + 1) * dims].iter().map(|x| x + 0.4 * number()).collect();
        let query_hash = query_hash(&lsh, &near, self::norms(&near, dims)[0]);
        lsh.tables().candidates(&query_hash, ProbeLimits { probes: 40, candidates: usize::MAX }, &mut scratch, &mut found).unwrap();
        assert!(found.len() < count / 8);
        hits += usize::from(found.binary_search(&(row as u32)).is_ok());
    }
    assert!(hits >= 196, "{hits} of 200");
}

#[test]
fn rows_of_any_length_are_hashed_by_their_direction() {
    let (count, dims) = (60, 70);
    let given = values(count, dims, 11);
    // Powers of two, so that directions do not change.
    let scaled: Vec<f32> = given.iter().enumerate().map(|(i, x)| x * [1.0, 2f32.powi(-90), 2f32.powi(60)][i / dims % 3]).collect();
    let tables = [&given, &scaled].map(|values| {
        let norms = norms(values, dims);
        build(&rows(values, &norms, dims), Params { tables: 4, bits: 10, seed: 0 }).tables().arrays().map(<[u32]>::to_vec)
    });
    assert_eq!(tables[0], tables[1]);
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
    let norms = [5f64.sqrt()];
    let rows = rows(&[1.0, 2.0], &norms, 2);
    for (tables, bits, want) in [
        (0, 8, "tables: expected a whole number from 1 to 64, got 0"),
        (65, 8, "tables: expected a whole number from 1 to 64, got 65"),
        (8, 0, "bits: expected a whole number from 1 to 24, got 0"),
        (8, 25, "bits: expected a whole number from 1 to 24, got 25"),
    ] {
        let result = BuiltTables::build(&scalar::KERNEL, &rows, Params { tables, bits, seed: 0 }, 1, &Watch::new(&|| true));
        assert_eq!(result.unwrap_err().to_string(), want);
    }
}

#[test]
fn a_build_ends_when_its_watch_stops() {
    let values = values(600, 16, 12);
    let norms = norms(&values, 16);
    let watch = Watch::new(&|| true);
    // A failing job stops every job that shares the watch.
    pool::run(1, 1, &watch, || Ok(()), |(), _| Err(Error::Interrupted)).unwrap_err();
    let result = BuiltTables::build(&scalar::KERNEL, &rows(&values, &norms, 16), Params::default(), 2, &watch);
    assert!(matches!(result, Err(Error::Interrupted)));
}

#[test]
fn hostile_arrays_are_refused() {
    let values = values(100, 12, 13);
    let norms = norms(&values, 12);
    for bits in [4, 20] {
        let params = Params { tables: 2, bits, seed: 0 };
        let lsh = build(&rows(&values, &norms, 12), params);
        let (shape, arrays) = (lsh.tables().shape(), lsh.tables().arrays().map(<[u32]>::to_vec));
        assert_eq!(shape, Shape::new(params, 100));
        let refusal = |shape: Shape, change: &dyn Fn(&mut Arrays)| {
            let mut changed = arrays.clone();
            change(&mut changed);
            Tables::new(shape, &changed[0], &changed[1], &changed[2]).err()
        };
        assert_eq!(refusal(shape, &|_| {}), None);
        let each = shape.starts();
        let broken: [&dyn Fn(&mut Arrays); 8] = [
            &|arrays| arrays[0].truncate(each),
            &|arrays| arrays[1].push(0),
            &|arrays| arrays[2].push(0),
            &|arrays| arrays[0][0] = 1,
            &|arrays| arrays[0][each + 1] = u32::MAX,
            &|arrays| arrays[0][2 * each - 1] = 99,
            &|arrays| arrays[1][150] = 100,
            &|arrays| arrays[1][3] = u32::MAX,
        ];
        for (i, change) in broken.iter().enumerate() {
            assert!(refusal(shape, change).is_some(), "change {i}, {bits} bits");
        }
        if bits == 20 {
            for key in [0, 1 << 20, u32::MAX] {
                assert!(refusal(shape, &|arrays| arrays[2][170] = key).is_some(), "key {key}");
            }
        }
        for shape in [Shape { bits: 25, ..shape }, Shape { tables: usize::MAX, ..shape }, Shape { rows: usize::MAX, ..shape }] {
            assert!(refusal(shape, &|_| {}).is_some(), "{shape:?}");
        }
    }
}

#[test]
fn hostile_hyperplanes_are_refused() {
    let params = Params { tables: 2, bits: 3, seed: 0 };
    let good = vec![0.5; Hasher::size(6)];
    assert!(Hasher::new(6, params, &good).is_ok());
    assert!(Hasher::new(7, params, &good).is_err() && Hasher::new(0, params, &[]).is_err());
    assert!(Hasher::new(6, Params { bits: 99, ..params }, &good).is_err());
    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        let mut values = good.clone();
        values[17] = bad;
        assert!(Hasher::new(6, params, &values).unwrap_err().contains("value 17"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn searches_of_arrays_that_pass_the_check_never_panic(
        bits in 1usize..6,
        count in 0usize..9,
        noise in proptest::collection::vec((0usize..3, 0usize..200, 0u32..12), 0..4),
    ) {
        let (given, dims) = (values(count, 3, 14), 3);
        let lengths = norms(&given, dims);
        let lsh = build(&rows(&given, &lengths, dims), Params { tables: 2, bits, seed: 1 });
        let mut arrays = lsh.tables().arrays().map(<[u32]>::to_vec);
        for (array, at, value) in noise {
            let length = arrays[array].len().max(1);
            if let Some(slot) = arrays[array].get_mut(at % length) {
                *slot = value;
            }
        }
        if let Ok(tables) = Tables::new(lsh.tables().shape(), &arrays[0], &arrays[1], &arrays[2]) {
            let (mut scratch, mut found) = (Scratch::default(), Vec::new());
            let query_hash = QueryHash::new(lsh.hasher(), &[0.5; 3], 0.75f64.sqrt());
            tables.candidates(&query_hash, ALL, &mut scratch, &mut found).unwrap();
            prop_assert!(found.iter().all(|&row| (row as usize) < count) && found.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
