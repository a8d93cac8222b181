//! Files of released format versions, which every later build opens. A folder, once released, is
//! never edited; a new version adds its own with
//! `cargo test --test format -- --ignored write_the_golden_files`.

use crate::sample::patient;
use nseekfs::format::{self, IndexRecord, Mode, SegmentBytes, Verify};
use nseekfs::level::Level;
use nseekfs::metric::Metric;
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

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

fn row_bytes(level: Level) -> Vec<u8> {
    match level {
        Level::F64 => ROWS.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Level::F32 => ROWS.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect(),
        Level::F16 => F16.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
        Level::F8 => F8.iter().flat_map(|code| code.to_le_bytes()).collect(),
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
    let segment = SegmentBytes { rows: 3, row_values: &row_values, norms: &norms, scales };
    format::write(path, &index(level, metric), &[segment], &patient).unwrap();
}

#[test]
#[ignore = "writes tests/golden/v1; only for a version that is not released yet"]
fn write_the_golden_files() {
    for (level, metric, name) in GOLDEN {
        write(&path(name), level, metric);
    }
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
}
