//! Searches of single queries by codes against the same searches that read every row.

use nseekfs::build::{BuildParams, Builder};
use nseekfs::index::{Index, Method, SearchParams};
use nseekfs::input::Block;
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| next() + next() + next() + next() - 2.0).collect()
}

fn index(level: Level, values: &[f32], dims: usize) -> Index {
    let watch = Watch::new(&|| true);
    let params = BuildParams { level, ..BuildParams::default() };
    let mut builder = Builder::new((values.len() / dims) as u64, dims, params).unwrap();
    builder.push(Block::F32(values), dims, &watch).unwrap();
    builder.finish(&watch).unwrap()
}

fn check_with_and_without_codes(index: &Index, queries: &[f32], dims: usize) {
    let watch = Watch::new(&|| true);
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
        for k in [1, 10, 100] {
            for query in queries.chunks_exact(dims) {
                let search = |method| {
                    let params = SearchParams { k, method, metric: Some(metric), threads: Some(2), ..SearchParams::default() };
                    let hits = index.search(Block::F32(query), dims, &params, &watch).unwrap();
                    (hits.rows, hits.keys.iter().map(|key| key.to_bits()).collect::<Vec<_>>())
                };
                assert_eq!(search(Method::Auto), search(Method::Simd), "{metric:?} k {k}");
            }
        }
    }
}

#[test]
fn codes_change_no_answer() {
    let dims = 96;
    let mut values = numbers(40_000 * dims, 1);
    for (i, x) in values.iter_mut().enumerate() {
        *x /= 1.0 + (i % dims) as f32 / 8.0;
    }
    for level in [Level::F64, Level::F32, Level::F16] {
        let index = index(level, &values, dims);
        assert!(index.quantizer().is_some());
        check_with_and_without_codes(&index, &values[77 * dims..87 * dims], dims);
        check_with_and_without_codes(&index, &numbers(5 * dims, 9), dims);
    }
}
