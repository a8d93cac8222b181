//! Files of released format versions, which every later build opens. A folder, once released, is
//! never edited; a new version adds its own with
//! `cargo test --test format -- --ignored write_the_golden_files`.

use crate::sample::patient;
use nseekfs::build::{BuildParams, Builder};
use nseekfs::format::{self, AnnBytes, CodeBytes, Contents, IdRecord, IndexRecord, Kind, Mode, QuantizerBytes, SegmentBytes, Verify};
use nseekfs::index::{AnnKind, AnnParams, Index, Method, SearchParams};
use nseekfs::input::Block;
use nseekfs::kernel::{FloatMode, scalar};
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use nseekfs::quantize::encode::{CodesMut, EncodeScratch, Encoder};
use nseekfs::quantize::{Quantizer, from_bf16};
use nseekfs::store::rows::{DecodedRows, PanelValues};
use std::path::PathBuf;

/// Three rows of two dims that every level holds exactly: (3, 4), (0, 0), (-1.5, 2).
const ROWS: [f64; 6] = [3.0, 4.0, 0.0, 0.0, -1.5, 2.0];
const NORMS: [f64; 3] = [5.0, 0.0, 2.5];
/// The same as binary16 bits.
const F16: [u16; 6] = [0x4200, 0x4400, 0x0000, 0x0000, 0xbe00, 0x4000];
/// The same as bytes to be multiplied by the scale of their row.
const F8: [i8; 6] = [96, 127, 0, 0, -96, 127];
const SCALES: [f32; 3] = [4.0 / 127.0, 0.0, 2.0 / 127.0];

const GOLDEN: [(Level, Metric, &str); 4] = [
    (Level::F64, Metric::Cosine, "f64.bin"),
    (Level::F32, Metric::Dot, "f32.bin"),
    (Level::F16, Metric::Euclidean, "f16.bin"),
    (Level::F8, Metric::Cosine, "f8.bin"),
];

/// A file of bits: three rows of 24, of which a byte is reversed so that the order of bits shows.
const BITS: &str = "b1.bin";
const BIT_ROWS: [[u8; 3]; 3] = [[0b1000_0000, 0b0000_0001, 0xff], [0, 0, 0], [0b0000_0001, 0b1000_0000, 0xff]];

fn write_bits(path: &std::path::Path) {
    let segment = SegmentBytes { rows: 3, row_values: BIT_ROWS.as_flattened(), norms: &[], scales: None, codes: None, ids: None };
    let about = IndexRecord { dims: 24, ..index(Level::B1, Metric::Hamming) };
    format::write(path, &Contents { index: &about, segments: &[segment], quantizer: None, ann: None, ids: IdRecord::default() }, &patient)
        .unwrap();
}

#[test]
fn the_golden_file_of_bits_holds_them_and_answers() {
    let watch = Watch::new(&|| true);
    for mode in [Mode::Mmap, Mode::Ram] {
        let index = Index::open(&path(BITS), mode, Verify::Full, &watch).unwrap();
        let DecodedRows::B1(bits) = index.take(&[0, 1, 2], &watch).unwrap() else { panic!("expected bits") };
        assert_eq!(bits, BIT_ROWS.as_flattened());
        // The first value is in the highest bit of the first byte.
        let mut query = [-1.0f32; 24];
        query[0] = 1.0;
        let hits = index.search(Block::F32(&query), 24, &SearchParams { k: 3, ..SearchParams::default() }, &watch).unwrap();
        assert_eq!((hits.rows, hits.keys), (vec![1, 0, 2], vec![1.0, 9.0, 11.0]));
    }
}

/// A file with codes: three rows of 32 dims, 16 of them in lines.
const CODED: &str = "f32_codes.bin";
const DIMS: usize = 32;
const LEAD: usize = 16;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

fn row_bytes(level: Level) -> Vec<u8> {
    match level {
        Level::F64 => ROWS.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Level::F32 => ROWS.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect(),
        Level::F16 => F16.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
        Level::F8 => F8.iter().flat_map(|code| code.to_le_bytes()).collect(),
        Level::B1 => unreachable!("two values fill no byte"),
    }
}

fn index(level: Level, metric: Metric) -> IndexRecord {
    IndexRecord { dims: 2, level, metric, unit: false, seed: 20_250_101 }
}

fn write(path: &std::path::Path, level: Level, metric: Metric) {
    let row_values = row_bytes(level);
    let norms: Vec<u8> = NORMS.iter().flat_map(|norm| norm.to_le_bytes()).collect();
    let scales: Vec<u8> = SCALES.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let scales = (level == Level::F8).then_some(&scales[..]);
    let segment = SegmentBytes { rows: 3, row_values: &row_values, norms: &norms, scales, codes: None, ids: None };
    format::write(
        path,
        &Contents { index: &index(level, metric), segments: &[segment], quantizer: None, ann: None, ids: IdRecord::default() },
        &patient,
    )
    .unwrap();
}

#[test]
#[ignore = "writes tests/golden/v1; only for a version that is not released yet"]
fn write_the_golden_files() {
    for (level, metric, name) in GOLDEN {
        write(&path(name), level, metric);
    }
    write_bits(&path(BITS));
    write_coded(&path(CODED));
    write_celled(&path(CELLED));
    write_hashed(&path(HASHED));
}

#[test]
fn golden_files_open_and_hold_known_values() {
    for (level, metric, name) in GOLDEN {
        for mode in [Mode::Mmap, Mode::Ram] {
            let (bytes, header) = format::open(&path(name), mode, Verify::Full, &patient).unwrap();
            assert_eq!((header.index, header.generation, header.rows()), (index(level, metric), 1, 3), "{name}");
            let segment = &header.segments[0];
            assert_eq!(bytes.view::<f64>(segment.norms.clone()), NORMS, "{name}");
            assert_eq!(
                segment.scales.clone().map(|scales| bytes.view::<f32>(scales)),
                (level == Level::F8).then_some(&SCALES[..]),
                "{name}"
            );
            let rows = segment.row_values.clone();
            match level {
                Level::F64 => assert_eq!(bytes.view::<f64>(rows), ROWS),
                Level::F32 => assert_eq!(bytes.view::<f32>(rows), ROWS.map(|value| value as f32)),
                Level::F16 => assert_eq!(bytes.view::<u16>(rows), F16),
                Level::F8 => assert_eq!(bytes.view::<i8>(rows), F8),
                Level::B1 => unreachable!("two values fill no byte"),
            }
        }
    }
}

#[test]
fn the_writer_still_gives_the_golden_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (level, metric, name) in GOLDEN {
        let again = folder.path().join(name);
        write(&again, level, metric);
        assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(path(name)).unwrap(), "{name}");
    }
    for (name, write) in [(BITS, write_bits as fn(&std::path::Path)), (CODED, write_coded), (CELLED, write_celled), (HASHED, write_hashed)]
    {
        let again = folder.path().join(name);
        write(&again);
        assert!(std::fs::read(&again).unwrap() == std::fs::read(path(name)).unwrap(), "{name}");
    }
}

/// Rows of norm 2, 0 and 5.
fn coded_rows() -> Vec<f32> {
    let mut rows = vec![0.0; 3 * DIMS];
    for (at, value) in [(0, 1.0), (1, -1.0), (16, 1.0), (31, -1.0), (2 * DIMS, 3.0), (2 * DIMS + 20, 4.0)] {
        rows[at] = value;
    }
    rows
}

/// Axes are those of the values, so that coordinates are the same on every machine.
fn quantizer() -> Quantizer {
    let mut centre = [0.0; DIMS];
    centre[0] = 0.25;
    let steps: Vec<f32> = (0..DIMS).map(|j| if j < LEAD { 1.0 / 128.0 } else { 1.0 / 64.0 }).collect();
    let axes: Vec<f32> = (0..DIMS * DIMS).map(|i| f32::from(u8::from(i % (DIMS + 1) == 0))).collect();
    Quantizer { dims: DIMS, leading: LEAD, skew: 0.0, values: Quantizer::pack(&centre, &steps, &axes).unwrap() }
}

/// Codes of some rows by the scalar kernel: lines, factors, remainder.
fn encoded(rows: &[f32], norms: &[f64]) -> [Vec<u8>; 3] {
    let _mode = FloatMode::standard();
    let quantizer = quantizer();
    assert!(norms.len() <= 16, "one block");
    let mut lines = vec![0; quantizer.block_bytes()];
    let mut remainder = vec![0; norms.len() * quantizer.remainder_bytes()];
    let mut offsets = [0.0f32; 16];
    let mut residuals = [[0u16; 16]; 3];
    let [leading_residuals, trailing_residuals, remainder_residuals] = &mut residuals;
    let mut out = CodesMut {
        lines: &mut lines,
        offsets: &mut offsets,
        leading_residuals,
        trailing_residuals,
        remainder_residuals,
        remainder: &mut remainder,
    };
    Encoder::new(&scalar::KERNEL, &quantizer).unwrap().encode(PanelValues::F32(rows), norms, &mut EncodeScratch::default(), &mut out, 0);
    let factors = [bytemuck::cast_slice::<f32, u8>(&offsets), bytemuck::cast_slice(&residuals)].concat();
    [lines, factors, remainder]
}

/// Writes rows with their codes, and with cells.
fn write_encoded(path: &std::path::Path, rows: &[f32], norms: &[f64], ann: Option<AnnBytes>) {
    let ([lines, factors, remainder], quantizer) = (encoded(rows, norms), quantizer());
    let segment = SegmentBytes {
        rows: norms.len() as u64,
        row_values: bytemuck::cast_slice(rows),
        norms: bytemuck::cast_slice(norms),
        scales: None,
        codes: Some(CodeBytes { lines: &lines, factors: &factors, remainder: &remainder }),
        ids: None,
    };
    let about = IndexRecord { dims: DIMS, ..index(Level::F32, Metric::Cosine) };
    let record = QuantizerBytes { leading: quantizer.leading, skew: quantizer.skew, values: quantizer.values.view() };
    format::write(
        path,
        &Contents { index: &about, segments: &[segment], quantizer: Some(record), ann, ids: IdRecord::default() },
        &patient,
    )
    .unwrap();
}

fn write_coded(path: &std::path::Path) {
    write_encoded(path, &coded_rows(), &[2.0, 0.0, 5.0], None);
}

#[test]
fn the_golden_file_with_codes_holds_what_its_rows_are_in_codes() {
    let (bytes, header) = format::open(&path(CODED), Mode::Mmap, Verify::Full, &patient).unwrap();
    let record = header.quantizer.unwrap();
    assert_eq!((record.leading, record.skew), (LEAD, 0.0));
    assert_eq!(bytes[record.values], *quantizer().values.view::<u8>());
    let codes = header.segments[0].codes.clone().unwrap();
    // Codes of row 0: 32 is 3 above level 12, -64 is 1 below level 0, all other leading dims are 3 above level 7;
    // from the sixteenth on 32, 0 ... 0, -32. Of row 2: 45 is 3 below level 14, the others as before, and 51 at 20.
    let lines = &bytes[codes.lines];
    assert_eq!(lines[..12], [0x7c, 0x70, 0x77, 0x77, 0, 0, 0, 0, 0x7e, 0x77, 0x77, 0x77]);
    assert_eq!(lines[64..76], [0x77, 0x77, 0x77, 0x77, 0, 0, 0, 0, 0x77, 0x77, 0x77, 0x77]);
    assert!(lines[12..64].iter().chain(&lines[76..]).all(|&byte| byte == 0));
    let mut remainder = [[0xbbu8; 24], [0; 24], [0xbb; 24]];
    (remainder[0][1], remainder[2][0]) = (0xb7, 0xb5);
    remainder[0][8..].fill(0);
    remainder[2][8..].fill(0);
    (remainder[0][8], remainder[0][23], remainder[2][12]) = (32, -32i8 as u8, 51);
    assert_eq!(bytes[codes.remainder], *remainder.as_flattened());
    let factors = codes.factors.start;
    assert_eq!(bytes.view::<f32>(factors..factors + 12), [0.125, 0.0, 0.15]);
    let residuals = bytes.view::<u16>(factors + 64..codes.factors.end);
    let is = |half: u16, exact: f64| (exact..exact * 1.01 + 1e-4).contains(&f64::from(from_bf16(half)));
    assert!(is(residuals[0], f64::from(15 * 9 + 1).sqrt() / 128.0) && residuals[1] == 0x7f80);
    assert!(is(residuals[16], 0.5f64.sqrt()) && residuals[17] == 0 && is(residuals[32], 0.0));
}

/// A file with cells too: six rows around three axes, each in two cells.
const CELLED: &str = "f32_cells.bin";
const CELLED_NORMS: [f64; 6] = [2.0, 1.0, 5.0, 5.0, 0.0, 5.0];
/// First values of the rows; the others are 0.
const CELLED_ROWS: [[f32; 3]; 6] = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 5.0], [4.0, 3.0, 0.0], [0.0; 3], [0.0, 3.0, 4.0]];
/// Rows of the cells, whose centroids are the first three axes, and the least cosine of a row that is nearest to each.
const LISTS: [&[u32]; 3] = [&[0, 2, 3, 4], &[0, 1, 3, 4, 5], &[1, 2, 5]];
const REACHES: [f64; 3] = [0.0, 1.0, 0.8];
/// `(k, nprobe, recall, error, visited)`.
const TUNED: [(u32, u32, f64, f64, f64, f64); 4] =
    [(1, 1, 0.5, 0.25, 16.0, 0.0), (1, 2, 1.0, 0.0, 32.0, 0.25), (10, 1, 0.75, 0.125, 16.0, 0.0), (10, 3, 1.0, 0.0, 48.0, 0.5)];

/// Rows of [`DIMS`] values that begin like these.
fn padded(firsts: &[[f32; 3]]) -> Vec<f32> {
    firsts.iter().flat_map(|first| first.iter().copied().chain(std::iter::repeat_n(0.0, DIMS - 3))).collect()
}

fn write_celled(path: &std::path::Path) {
    let rows = padded(&CELLED_ROWS);
    let centroids = padded(&[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
    let [lines, factors, _] = encoded(&rows, &CELLED_NORMS);
    let [centroid_lines, centroid_factors, centroid_remainder] = encoded(&centroids, &[1.0; 3]);
    // A block for each cell: its rows, and of each the dword of every line, the product and three residuals.
    let (mut numbers, mut listed_lines) = (vec![u32::MAX; 3 * 16], vec![0u8; 3 * lines.len()]);
    let (mut products, mut residuals) = (vec![f32::NEG_INFINITY; 3 * 16], [[0u16; 3 * 16]; 3]);
    let (own_products, own_residuals) = factors.split_at(64);
    for (cell, list) in LISTS.iter().enumerate() {
        for (at, &row) in (16 * cell..).zip(*list) {
            let number = row as usize;
            numbers[at] = row;
            products[at] = bytemuck::pod_read_unaligned(&own_products[4 * number..4 * number + 4]);
            for (kind, residuals) in residuals.iter_mut().enumerate() {
                let from = 32 * kind + 2 * number;
                residuals[at] = bytemuck::pod_read_unaligned(&own_residuals[from..from + 2]);
            }
            for line in (0..lines.len()).step_by(64) {
                let to = cell * lines.len() + line + at % 16 * 4;
                listed_lines[to..to + 4].copy_from_slice(&lines[line + 4 * number..line + 4 * number + 4]);
            }
        }
    }
    let mut cells = [3u32, Metric::Cosine as u32, LEAD as u32, 1, 3].map(u32::to_le_bytes).concat();
    let parts = [
        bytemuck::cast_slice(&[0u32, 1, 2, 3]),
        bytemuck::cast_slice(&REACHES),
        bytemuck::cast_slice(&[1.0f64; 3]),
        bytemuck::cast_slice(&centroids),
        &centroid_lines,
        &centroid_factors,
        &centroid_remainder,
        bytemuck::cast_slice(&numbers),
        &listed_lines,
        &[bytemuck::cast_slice(&products), bytemuck::cast_slice::<_, u8>(residuals.as_flattened())].concat(),
    ];
    for part in parts {
        cells.resize(cells.len().next_multiple_of(64), 0);
        cells.extend_from_slice(part);
    }
    let mut tuning = [&0.95f64.to_le_bytes()[..], &[3u32, 0, 4].map(u32::to_le_bytes).concat()].concat();
    tuning.resize(64, 0);
    for (k, nprobe, recall, error, visited, gap) in TUNED {
        tuning.extend([k, nprobe].map(u32::to_le_bytes).as_flattened());
        tuning.extend([recall, error, visited, gap].map(f64::to_le_bytes).as_flattened());
        tuning.resize(tuning.len().next_multiple_of(64), 0);
    }
    write_encoded(path, &rows, &CELLED_NORMS, Some(AnnBytes { kind: Kind::Cells, ann: &cells, tuning: &tuning }));
}

#[test]
fn the_golden_file_with_cells_holds_them_and_answers_from_ann() {
    let watch = Watch::new(&|| true);
    for mode in [Mode::Mmap, Mode::Ram] {
        let index = Index::open(&path(CELLED), mode, Verify::Full, &watch).unwrap();
        let (ann, tuning) = index.ann().unwrap();
        let cells = ann.cells().unwrap();
        assert_eq!((cells.cells(), cells.spilled(), cells.metric()), (3, true, Metric::Cosine));
        assert!(index.quantizer().is_some() && cells.lists().codes.is_some() && cells.centroids().codes.is_some());
        assert_eq!((tuning.recall, tuning.queries, tuning.given), (0.95, 3, false));
        let points = tuning.points.iter().map(|point| (point.k, point.nprobe, point.recall, point.error, point.visited, point.gap));
        let points: Vec<_> = points.collect();
        assert_eq!(points, TUNED);
        // The first of two equally near cells holds all of the best rows but one: row 1 has the key of row 0.
        let query = padded(&[[1.0, 1.0, 0.0]]);
        let ask = |k, nprobe: Option<i64>, method| {
            let hits =
                index.search(Block::F32(&query), DIMS, &SearchParams { k, nprobe, method, ..SearchParams::default() }, &watch).unwrap();
            (hits.rows, hits.certificates[0].exact)
        };
        assert_eq!(ask(3, None, Method::Scalar), (vec![3, 0, 1], true));
        assert_eq!(ask(3, Some(1), Method::Auto), (vec![3, 0, 2], false));
        assert_eq!(ask(3, Some(2), Method::Auto), (vec![3, 0, 1], true));
        assert_eq!(ask(6, Some(1), Method::Auto), (vec![3, 0, 1, 5, 2, 4], true));
        let query = padded(&[[0.0, 1.0, 64.0]]);
        let params = SearchParams { k: 2, nprobe: Some(1), ..SearchParams::default() };
        let hits = index.search(Block::F32(&query), DIMS, &params, &watch).unwrap();
        assert_eq!((hits.rows, hits.keys), (vec![2, 5], vec![64.0 / 4097f64.sqrt(), 259.0 / (5.0 * 4097f64.sqrt())]));
    }
}

const HASHED: &str = "f32_buckets.bin";
/// Rows of four values on the sides of a square, all different.
fn hashed_rows() -> Vec<f32> {
    (0..40).flat_map(|i| [(i % 7) as f32 - 3.0, (i % 5) as f32 - 2.0, (i % 3) as f32 - 1.0, i as f32 / 8.0]).collect()
}

/// Buckets are the same from every kernel, so the library makes them.
fn write_hashed(path: &std::path::Path) {
    let watch = Watch::new(&|| true);
    let ann = AnnParams { kind: Some(AnnKind::Lsh), tables: Some(2), bits: Some(3), ..AnnParams::default() };
    let params = BuildParams { seed: 5, ann: Some(ann), threads: Some(1), ..BuildParams::default() };
    let mut builder = Builder::new(40, 4, params).unwrap();
    builder.push(Block::F32(&hashed_rows()), 4, &watch).unwrap();
    builder.finish(&watch).unwrap().save(path, &watch).unwrap();
}

#[test]
fn the_golden_file_with_buckets_puts_queries_where_its_rows_are() {
    let watch = Watch::new(&|| true);
    let index = Index::open(&path(HASHED), Mode::Mmap, Verify::Full, &watch).unwrap();
    let (ann, _) = index.ann().unwrap();
    assert!(ann.cells().is_none() && ann.max_probes() == 16);
    // Queries are hashed by the hyperplanes of the file: a row is in the first bucket that it probes as a query.
    for (i, row) in hashed_rows().chunks_exact(4).enumerate() {
        let params = SearchParams { k: 1, nprobe: Some(1), ..SearchParams::default() };
        let hits = index.search(Block::F32(row), 4, &params, &watch).unwrap();
        assert_eq!(hits.rows, [i as i64]);
    }
}
