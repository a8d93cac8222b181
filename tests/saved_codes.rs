//! Codes in a file: a saved index gives the answers of the built one, and damaged codes in a file opened without
//! verification cause wrong answers at worst.

use nseekfs::build::{BuildParams, Builder};
use nseekfs::error::Error;
use nseekfs::format::{self, CodeBytes, Contents, Header, Mode, QuantizerBytes, SegmentBytes, Verify};
use nseekfs::index::{Index, Method, SearchParams};
use nseekfs::input::Block;
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use proptest::prelude::*;
use std::path::Path;

const DIMS: usize = 96;

/// Nearly normal values whose variance falls along the dims.
fn numbers(rows: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..rows * DIMS).map(|i| (next() + next() + next() + next() - 2.0) / (1.0 + (i % DIMS) as f32 / 8.0)).collect()
}

fn build(level: Level, values: &[f32]) -> Index {
    let watch = Watch::new(&|| true);
    let mut builder = Builder::new((values.len() / DIMS) as u64, DIMS, BuildParams { level, ..BuildParams::default() }).unwrap();
    builder.push(Block::F32(values), DIMS, &watch).unwrap();
    builder.finish(&watch).unwrap()
}

fn open(path: &Path, mode: Mode, verify: Verify) -> Result<Index, Error> {
    Index::open(path, mode, verify, &Watch::new(&|| true))
}

/// Rows and key bits of the 10 best rows of every query.
fn search(index: &Index, queries: &[f32], method: Method, metric: Metric) -> Result<(Vec<u64>, Vec<u64>), Error> {
    let params = SearchParams { k: 10, method, metric: Some(metric), threads: Some(2), ..SearchParams::default() };
    let mut found = (Vec::new(), Vec::new());
    for query in queries.chunks_exact(index.about().dims) {
        let hits = index.search(Block::F32(query), query.len(), &params, &Watch::new(&|| true))?;
        found.0.extend(hits.rows.iter().map(|&row| row as u64));
        found.1.extend(hits.keys.iter().map(|key| key.to_bits()));
    }
    Ok(found)
}

#[test]
fn a_saved_index_gives_the_answers_of_the_built_one_and_saves_the_same_bytes() {
    let values = numbers(12_000, 1);
    let queries = [&values[77 * DIMS..80 * DIMS], &numbers(3, 9)].concat();
    let folder = tempfile::tempdir().unwrap();
    for level in [Level::F64, Level::F32] {
        let built = build(level, &values);
        assert!(built.quantizer().is_some());
        let path = folder.path().join("index.bin");
        built.save(&path, &Watch::new(&|| true)).unwrap();
        let content = std::fs::read(&path).unwrap();
        for mode in [Mode::Mmap, Mode::Ram] {
            let opened = open(&path, mode, Verify::Full).unwrap();
            assert_eq!((opened.about(), opened.bytes()), (built.about(), built.bytes()));
            assert_eq!(opened.quantizer().map(|quantizer| quantizer.leading), built.quantizer().map(|quantizer| quantizer.leading));
            for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
                let expected = search(&built, &queries, Method::Simd, metric).unwrap();
                for method in [Method::Auto, Method::Simd] {
                    assert_eq!(search(&opened, &queries, method, metric).unwrap(), expected, "{mode:?} {method:?} {metric:?}");
                }
            }
            let again = folder.path().join("again.bin");
            opened.save(&again, &Watch::new(&|| true)).unwrap();
            assert!(std::fs::read(&again).unwrap() == content);
            // Saves over the file that it maps.
            opened.save(&path, &Watch::new(&|| true)).unwrap();
            assert!(std::fs::read(&path).unwrap() == content);
        }
        let (sections, whole) = (Header::parse(&content, &path).unwrap().sections, content.len());
        let payload: usize = sections.iter().map(|section| section.payload.len()).sum();
        assert!(built.bytes() == payload - 64 && payload <= whole, "the bytes of an index do not count the record of its quantizer");
    }
}

#[test]
fn axes_of_nan_change_no_answer() {
    let values = numbers(12_000, 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.bin");
    build(Level::F32, &values).save(&path, &Watch::new(&|| true)).unwrap();
    let mut content = std::fs::read(&path).unwrap();
    let record = Header::parse(&content, &path).unwrap().quantizer.unwrap();
    content[record.values.start + 2 * 4 * DIMS..record.values.end].fill(0xff);
    std::fs::write(&path, &content).unwrap();
    assert!(matches!(open(&path, Mode::Mmap, Verify::Full), Err(Error::Format { reason, .. }) if reason.starts_with("F17: ")));
    for mode in [Mode::Mmap, Mode::Ram] {
        let opened = open(&path, mode, Verify::Header).unwrap();
        let queries = numbers(2, 5);
        let expected = search(&opened, &queries, Method::Simd, Metric::Cosine).unwrap();
        assert_eq!(search(&opened, &queries, Method::Auto, Metric::Cosine).unwrap(), expected);
    }
}

/// The file of an index with codes, smaller than those that a build gives codes, and its header.
fn small(folder: &Path) -> (Vec<u8>, Header) {
    let (rows, leading) = (400, 32);
    let values = numbers(rows, 3);
    let norms: Vec<f64> =
        values.chunks_exact(DIMS).map(|row| row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()).collect();
    let bytes = |length: usize| (0..length).map(|i| (i * 41 % 249) as u8).collect::<Vec<u8>>();
    let [lines, factors, remainder] = [rows / 16 * leading / 8 * 64, rows * 10, rows * (leading / 2 + DIMS - leading)].map(bytes);
    let segment = SegmentBytes {
        rows: rows as u64,
        row_values: bytemuck::cast_slice(&values),
        norms: bytemuck::cast_slice(&norms),
        scales: None,
        codes: Some(CodeBytes { lines: &lines, factors: &factors, remainder: &remainder }),
        ids: None,
    };
    let quantizer = vec![0.125f32; DIMS * (2 + DIMS)];
    let quantizer = QuantizerBytes { leading, skew: 1e-6, values: bytemuck::cast_slice(&quantizer) };
    let path = folder.join("small.bin");
    let about = format::IndexRecord { dims: DIMS, level: Level::F32, metric: Metric::Cosine, unit: false, seed: 0 };
    format::write(
        &path,
        &Contents { index: &about, segments: &[segment], quantizer: Some(quantizer), ann: None, ids: format::IdRecord::default() },
        &|| Ok(()),
    )
    .unwrap();
    let content = std::fs::read(&path).unwrap();
    let header = Header::parse(&content, &path).unwrap();
    (content, header)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_bytes_of_codes_make_a_search_panic(
        fills in prop::collection::vec((0usize..6, any::<prop::sample::Index>(), 1usize..5000, any::<[u8; 4]>()), 1..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut content, header) = small(folder.path());
        let (codes, quantizer) = (header.segments[0].codes.clone().unwrap(), header.quantizer.unwrap());
        let (centre, axes) = (quantizer.values.start..quantizer.values.start + 8 * DIMS, quantizer.values.start + 8 * DIMS..quantizer.values.end);
        for (part, at, length, bytes) in fills {
            let range = [&codes.lines, &codes.factors, &codes.factors, &codes.remainder, &centre, &axes][part].clone();
            let start = range.start + at.index(range.len()) / 4 * 4;
            for word in content[start..range.end.min(start + length)].chunks_exact_mut(4) {
                word.copy_from_slice(&bytes);
            }
        }
        let path = folder.path().join("damaged.bin");
        std::fs::write(&path, &content).unwrap();
        // A centre or steps that are not finite are refused; all else is searched.
        match open(&path, Mode::Mmap, Verify::Header) {
            Ok(index) => for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
                let _ = search(&index, &numbers(2, 7), Method::Auto, metric);
            },
            Err(Error::Format { reason, .. }) => prop_assert!(reason.starts_with("F20: ")),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
