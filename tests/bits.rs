//! Level b1: every kernel counts bits as a plain loop does, and searches give what a full sort gives, for every kernel,
//! number of threads and queries, filter and kind of input.

mod random;

use nseekfs::build::{BuildParams, Builder};
use nseekfs::candidates::Filter;
use nseekfs::index::{AnnParams, Index, Method, SearchParams};
use nseekfs::input::Block;
use nseekfs::kernel::{self, BLOCK_ROWS};
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use nseekfs::scan::{self, Plan, Queries, Run};
use nseekfs::store::rows::DecodedRows;
use random::Random;

/// Bytes of a row: around words, registers and the most that shuffles sum in bytes, and the largest.
const ROW_BYTES: [usize; 18] = [1, 3, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 128, 247, 249, 500, 4097, 8192];

fn random_bytes(count: usize, random: &mut Random) -> Vec<u8> {
    (0..count).map(|_| random.next() as u8).collect()
}

fn differing(a: &[u8], b: &[u8]) -> u32 {
    let mut sum = 0;
    for (a, b) in a.iter().zip(b) {
        for at in 0..8 {
            sum += u32::from(a >> at & 1 != b >> at & 1);
        }
    }
    sum
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    bytes.chunks(8).map(word).collect()
}

#[test]
fn every_kernel_counts_as_a_plain_loop_does() {
    let mut random = Random::seeded(1);
    for row_bytes in ROW_BYTES {
        for rows in [1, 8, 9, 40] {
            // Off alignment.
            let mut table = random_bytes(row_bytes * rows + 1, &mut random);
            let query = random_bytes(row_bytes, &mut random);
            // All bits of the last row differ, and none of the first.
            table[1..][..row_bytes].copy_from_slice(&query);
            table[1 + row_bytes * (rows - 1)..].iter_mut().zip(&query).for_each(|(byte, query)| *byte = !query);
            let table = &table[1..];
            let want: Vec<u32> = table.chunks(row_bytes).map(|row| differing(row, &query)).collect();
            let query = words(&query);
            let blocks = rows.div_ceil(BLOCK_ROWS);
            let mut columns = vec![[0; BLOCK_ROWS]; blocks * query.len()];
            for (row, bytes) in table.chunks(row_bytes).enumerate() {
                let block = &mut columns[row / BLOCK_ROWS * query.len()..];
                block.iter_mut().zip(words(bytes)).for_each(|(column, word)| column[row % BLOCK_ROWS] = word);
            }
            for table_of in kernel::runnable() {
                let mut got = vec![9; rows];
                let least = (table_of.hamming)(&query, table, row_bytes, &mut got);
                assert_eq!((&got, Some(least)), (&want, want.iter().copied().min()), "{} {row_bytes}", table_of.name);
                let mut got = vec![9; blocks * BLOCK_ROWS];
                let least = (table_of.hamming_columns)(&query, &columns, &mut got);
                assert_eq!((&got[..rows], Some(least)), (&want[..], got.iter().copied().min()), "{} {row_bytes}", table_of.name);
            }
        }
    }
}

fn index(bits: &[u8], row_bytes: usize) -> Index {
    let params = BuildParams { level: Level::B1, metric: Metric::Hamming, ..BuildParams::default() };
    let mut builder = Builder::new((bits.len() / row_bytes) as u64, 8 * row_bytes, params).unwrap();
    let half = bits.len() / row_bytes / 2 * row_bytes;
    builder.push(Block::Bits(&bits[..half]), 8 * row_bytes, &Watch::new(&|| true)).unwrap();
    builder.push(Block::Bits(&bits[half..]), 8 * row_bytes, &Watch::new(&|| true)).unwrap();
    builder.finish(&Watch::new(&|| true)).unwrap()
}

/// The best k of `allowed`, by a stable sort.
fn sorted(bits: &[u8], row_bytes: usize, query: &[u8], allowed: &[usize], k: usize) -> Vec<(u64, f64)> {
    let row = |&row: &usize| (row as u64, f64::from(differing(&bits[row * row_bytes..][..row_bytes], query)));
    let mut all: Vec<(u64, f64)> = allowed.iter().map(row).collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    all.truncate(k);
    all
}

#[test]
fn scans_equal_a_full_sort() {
    let (mut random, watch) = (Random::seeded(2), Watch::new(&|| true));
    for (row_bytes, rows, queries) in [(1, 3000, 1), (1, 700, 5), (7, 513, 2), (32, 2100, 17), (129, 300, 33), (4097, 20, 3)] {
        let bits = random_bytes(rows * row_bytes, &mut random);
        let given = random_bytes(queries * row_bytes, &mut random);
        let index = index(&bits, row_bytes);
        let ready = Queries::new(kernel::selected().unwrap(), Level::B1, Block::Bits(&given), 8 * row_bytes, 0).unwrap();
        for step in [1, 3, 50] {
            let allowed: Vec<usize> = (0..rows).filter(|row| step == 1 || row % step < step / 2).collect();
            let runs = Run::of(&[rows], allowed.iter().copied()).unwrap();
            for (k, threads) in [(1, 1), (10, 3), (5000, 2)] {
                for kernel in kernel::runnable() {
                    let method = Method::Auto;
                    let threshold = f64::NEG_INFINITY;
                    let plan = Plan { metric: Metric::Hamming, k, kernel, method, threads, quantizer: None, unit: false, threshold };
                    let found = scan::search(&plan, &index.views(), &runs, &ready, &watch).unwrap();
                    for (query, top) in given.chunks(row_bytes).zip(found) {
                        assert_eq!(top.tally.refined, allowed.len() as u64);
                        let found: Vec<(u64, f64)> = top.into_sorted().iter().map(|entry| (entry.row, -entry.key)).collect();
                        assert_eq!(found, sorted(&bits, row_bytes, query, &allowed, k), "{} {row_bytes} {step} {k}", kernel.name);
                    }
                }
            }
        }
    }
}

#[test]
fn signs_of_numbers_are_the_bits_that_they_pack_to() {
    let mut random = Random::seeded(3);
    let bits = random_bytes(40 * 3, &mut random);
    let ones: Vec<bool> = bits.iter().flat_map(|byte| (0..8).map(move |at| byte >> (7 - at) & 1 == 1)).collect();
    let wide: Vec<f64> = ones.iter().map(|&one| if one { 1e-300 } else { [-0.0, 0.0, -1e300][random.next() as usize % 3] }).collect();
    let narrow: Vec<f32> = ones.iter().map(|&one| if one { f32::MAX } else { -1e-45 }).collect();
    let signed: Vec<i64> = ones.iter().map(|&one| i64::from(one)).collect();
    let unsigned: Vec<u64> = ones.iter().map(|&one| if one { u64::MAX } else { 0 }).collect();
    let watch = Watch::new(&|| true);
    for block in [Block::F64(&wide), Block::F32(&narrow), Block::I64(&signed), Block::U64(&unsigned), Block::Bits(&bits)] {
        assert_eq!(block.len(), 960);
        let mut out = vec![0.5; 960];
        block.to_f64(&mut out);
        assert!(out.iter().zip(&ones).all(|(&number, &one)| (number > 0.0) == one));
        let params = BuildParams { level: Level::B1, metric: Metric::Hamming, ..BuildParams::default() };
        let mut builder = Builder::new(40, 24, params).unwrap();
        builder.push(block, 24, &watch).unwrap();
        let index = builder.finish(&watch).unwrap();
        let DecodedRows::B1(stored) = index.take(&(0..40).collect::<Vec<i64>>(), &Watch::new(&|| true)).unwrap() else {
            panic!("expected bits")
        };
        assert_eq!(stored, bits);
        let hits = index.search(block, 24, &SearchParams { k: 1, ..SearchParams::default() }, &watch).unwrap();
        assert!(hits.keys.iter().all(|&distance| distance == 0.0 && distance.is_sign_positive()));
    }
}

#[test]
fn limits_and_masks_choose_rows() {
    let (mut random, watch) = (Random::seeded(4), Watch::new(&|| true));
    let bits = random_bytes(500 * 4, &mut random);
    let (index, mask) = (index(&bits, 4), (0..500).map(|row| row % 3 == 0).collect::<Vec<bool>>());
    let allowed: Vec<usize> = (0..500).filter(|row| row % 3 == 0).collect();
    for bound in [-1.0, 0.0, 9.5, 12.0, 32.0] {
        for method in [Method::Auto, Method::Simd, Method::Scalar] {
            let params = SearchParams { k: 500, method, bound: Some(bound), filter: Some(Filter::Mask(&mask)), ..SearchParams::default() };
            let hits = index.search(Block::Bits(&bits[..4]), 32, &params, &watch).unwrap();
            let mut want = sorted(&bits, 4, &bits[..4], &allowed, 500);
            want.retain(|found| found.1 <= bound);
            let got: Vec<(u64, f64)> = hits.rows.iter().zip(&hits.keys).map(|(&row, &key)| (row as u64, key)).collect();
            assert_eq!(got, want);
            assert!(hits.scores.iter().zip(&hits.keys).all(|(&score, &key)| f64::from(score) == key));
        }
    }
}

#[test]
fn what_bits_do_not_have_is_refused() {
    let watch = Watch::new(&|| true);
    let params = || BuildParams { level: Level::B1, metric: Metric::Hamming, ..BuildParams::default() };
    let refused = |params: BuildParams, dims| Builder::new(3, dims, params).unwrap_err().to_string();
    assert!(refused(params(), 12).starts_with("embeddings: expected a multiple of 8 values a row"));
    assert!(refused(BuildParams { metric: Metric::Dot, ..params() }, 8).starts_with("metric: expected hamming"));
    assert!(refused(BuildParams { level: Level::F32, ..params() }, 8).starts_with("metric: expected cosine"));
    assert!(refused(BuildParams { ann: Some(AnnParams::default()), ..params() }, 8).starts_with("ann: expected None"));
    assert!(refused(BuildParams { normalized: Some(true), ..params() }, 8).starts_with("normalized: expected None"));
    let mut builder = Builder::new(2, 8, params()).unwrap();
    let mut numbers = [1.0f32; 16];
    numbers[11] = f32::NAN;
    let error = builder.push(Block::F32(&numbers), 8, &watch).unwrap_err().to_string();
    assert_eq!(error, "embeddings: expected finite values, got NaN at row 1, column 3");
    let bits = index(&[1, 2, 3], 1);
    let ask = |query: Block, metric| bits.search(query, query.len(), &SearchParams { metric, ..SearchParams::default() }, &watch);
    assert!(ask(Block::Bits(&[1]), Some(Metric::Cosine)).unwrap_err().to_string().starts_with("similarity: expected hamming"));
    assert!(ask(Block::F32(&numbers[8..]), None).unwrap_err().to_string().starts_with("queries: expected finite values, got NaN at row 0"));
    assert!(ask(Block::Bits(&[1, 2]), None).unwrap_err().to_string().starts_with("queries: expected 8 values each"));
}
