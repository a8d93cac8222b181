//! Small files to break: written by the crate, patched at the offsets that FORMAT.md gives (spelled
//! out again here, so that a slip in the code's constants shows), and hashed again on request.

use nseekfs::error::{Error, Result};
use nseekfs::format::{
    self, AnnBytes, CodeBytes, Contents, Header, IdRecord, IndexRecord, Kind, Mode, QuantizerBytes, SegmentBytes, Verify,
};
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::store::Bytes;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

pub const LEVELS: [Level; 5] = [Level::F64, Level::F32, Level::F16, Level::F8, Level::B1];

/// Offsets of the records in a sealed file.
pub const SLOT_A: usize = 64;
pub const SLOT_B: usize = 128;
pub const TABLE: usize = 192;

/// The tick of someone patient.
pub fn patient() -> Result<()> {
    Ok(())
}

/// The parts of a segment, owned.
pub struct Segment {
    pub rows: u64,
    pub row_values: Vec<u8>,
    pub norms: Vec<u8>,
    pub scales: Option<Vec<u8>>,
    pub codes: Option<[Vec<u8>; 3]>,
}

impl Segment {
    /// Bytes that are all different from their neighbours, so that a shift shows.
    pub fn sample(level: Level, dims: usize, rows: usize) -> Self {
        let row_values = (0..rows * level.row_bytes(dims)).map(|i| (i * 37 % 251) as u8).collect();
        let normed = if level == Level::B1 { 0 } else { rows };
        let norms = (0..normed).flat_map(|i| (i as f64 + 0.5).to_le_bytes()).collect();
        let scales = (level == Level::F8).then(|| (0..rows).flat_map(|i| (i as f32 + 0.25).to_le_bytes()).collect());
        Segment { rows: rows as u64, row_values, norms, scales, codes: None }
    }

    /// The same with made-up lines, factors and remainder.
    pub fn coded(level: Level, dims: usize, rows: usize, leading: usize) -> Self {
        let blocks = rows.div_ceil(16);
        let lengths = [blocks * leading / 8 * 64, blocks * 160, rows * (leading / 2 + dims - leading)];
        let codes = lengths.map(|length| (0..length).map(|i| (i * 41 % 249) as u8).collect());
        Segment { codes: Some(codes), ..Segment::sample(level, dims, rows) }
    }

    pub fn bytes(&self) -> SegmentBytes<'_> {
        let codes = self.codes.as_ref().map(|[lines, factors, remainder]| CodeBytes { lines, factors, remainder });
        SegmentBytes { rows: self.rows, row_values: &self.row_values, norms: &self.norms, scales: self.scales.as_deref(), codes, ids: None }
    }
}

pub fn index(level: Level, dims: usize) -> IndexRecord {
    let metric = if level == Level::B1 { Metric::Hamming } else { Metric::Euclidean };
    IndexRecord { dims, level, metric, unit: true, seed: 0x0123_4567_89ab_cdef }
}

/// Dims of [`file()`].
pub fn dims(level: Level) -> usize {
    if level == Level::B1 { 24 } else { 3 }
}

/// The content of a file with these segments, written once: every write waits for the disk.
pub fn file(level: Level, rows: &[usize]) -> Vec<u8> {
    type Shape = (u32, Vec<usize>);
    static WRITTEN: Mutex<BTreeMap<Shape, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    written.entry((level as u32, rows.to_vec())).or_insert_with(|| written_anew(level, rows)).clone()
}

/// The same, written now.
pub fn written_anew(level: Level, rows: &[usize]) -> Vec<u8> {
    let segments: Vec<Segment> = rows.iter().map(|&rows| Segment::sample(level, dims(level), rows)).collect();
    let parts: Vec<SegmentBytes> = segments.iter().map(Segment::bytes).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.bin");
    format::write(
        &path,
        &Contents { index: &index(level, dims(level)), segments: &parts, quantizer: None, ann: None, ids: IdRecord::default() },
        &patient,
    )
    .unwrap();
    std::fs::read(path).unwrap()
}

/// Dims and leading dims of the quantizer of [`coded_file`].
pub const CODED_DIMS: usize = 32;
pub const LEAD: usize = 16;
/// The values of its quantizer section: axes that no sample gives, which the format accepts.
pub fn quantizer_values() -> Vec<u8> {
    (0..CODED_DIMS * (2 + CODED_DIMS)).flat_map(|i| (0.5 + (i % 97) as f32).to_le_bytes()).collect()
}

/// The content of a file of level f16 with codes, its quantizer last.
pub fn coded_file(rows: &[usize]) -> Vec<u8> {
    static WRITTEN: Mutex<BTreeMap<Vec<usize>, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    let write = || {
        let segments: Vec<Segment> = rows.iter().map(|&rows| Segment::coded(Level::F16, CODED_DIMS, rows, LEAD)).collect();
        let parts: Vec<SegmentBytes> = segments.iter().map(Segment::bytes).collect();
        let values = quantizer_values();
        let quantizer = QuantizerBytes { leading: LEAD, skew: 1e-6, values: &values };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coded.bin");
        format::write(
            &path,
            &Contents {
                index: &index(Level::F16, CODED_DIMS),
                segments: &parts,
                quantizer: Some(quantizer),
                ann: None,
                ids: IdRecord::default(),
            },
            &patient,
        )
        .unwrap();
        std::fs::read(path).unwrap()
    };
    written.entry(rows.to_vec()).or_insert_with(write).clone()
}

/// What [`celled_file`] has: cells, blocks of rows in their lists, and points of its tuning.
pub const CELLS: usize = 3;
pub const BLOCKS: usize = 4;
pub const POINTS: usize = 3;

/// The parts of its cells after their record: starts, reaches, norms, centroids, lines, factors and remainder of these,
/// rows, lines and factors of these. Each begins at a multiple of 64 bytes.
pub fn cell_parts() -> [Vec<u8>; 10] {
    let lengths = [
        4 * (CELLS + 1),
        8 * CELLS,
        8 * CELLS,
        4 * CELLS * CODED_DIMS,
        LEAD / 8 * 64,
        160,
        CELLS * (LEAD / 2 + CODED_DIMS - LEAD),
        64 * BLOCKS,
        BLOCKS * LEAD / 8 * 64,
        BLOCKS * 160,
    ];
    let mut parts = lengths.map(|length| (0..length).map(|i| (i * 43 % 247) as u8).collect::<Vec<u8>>());
    parts[0] = [0u32, 1, 1, BLOCKS as u32].map(u32::to_le_bytes).concat();
    parts
}

/// The payload of its cells section.
pub fn cells_payload() -> Vec<u8> {
    let mut payload = vec![0; 64];
    for (at, field) in [CELLS as u32, Metric::Euclidean as u32, LEAD as u32, 1, BLOCKS as u32].into_iter().enumerate() {
        put(&mut payload, 4 * at, field.to_le_bytes());
    }
    for part in cell_parts() {
        payload.resize(payload.len().next_multiple_of(64), 0);
        payload.extend(part);
    }
    payload
}

/// `(k, nprobe, recall, error, visited)` of each point.
pub const TUNED: [(u32, u32, f64, f64, f64, f64); POINTS] =
    [(1, 1, 0.5, 0.25, 16.0, 0.0), (1, 3, 1.0, 0.0, 64.0, 0.5), (2, 2, 0.75, 0.125, 0.0, 0.125)];

/// The payload of its tuning section.
pub fn tuning_payload() -> Vec<u8> {
    let mut payload = vec![0; 64 * (1 + POINTS)];
    put(&mut payload, 0, 0.9f64.to_le_bytes());
    put(&mut payload, 8, 77u32.to_le_bytes());
    put(&mut payload, 12, 1u32.to_le_bytes());
    put(&mut payload, 16, (POINTS as u32).to_le_bytes());
    for (at, (k, nprobe, recall, error, visited, gap)) in (64..).step_by(64).zip(TUNED) {
        put(&mut payload, at, k.to_le_bytes());
        put(&mut payload, at + 4, nprobe.to_le_bytes());
        put(&mut payload, at + 8, recall.to_le_bytes());
        put(&mut payload, at + 16, error.to_le_bytes());
        put(&mut payload, at + 24, visited.to_le_bytes());
        put(&mut payload, at + 32, gap.to_le_bytes());
    }
    payload
}

/// Writes [`coded_file`] with these cells and this tuning beside its quantizer.
pub fn write_celled(path: &Path, rows: &[usize], cells: &[u8], tuning: &[u8]) -> Result<()> {
    let segments: Vec<Segment> = rows.iter().map(|&rows| Segment::coded(Level::F16, CODED_DIMS, rows, LEAD)).collect();
    let parts: Vec<SegmentBytes> = segments.iter().map(Segment::bytes).collect();
    let values = quantizer_values();
    let quantizer = Some(QuantizerBytes { leading: LEAD, skew: 1e-6, values: &values });
    let ann = Some(AnnBytes { kind: Kind::Cells, ann: cells, tuning });
    format::write(
        path,
        &Contents { index: &index(Level::F16, CODED_DIMS), segments: &parts, quantizer, ann, ids: IdRecord::default() },
        &patient,
    )
}

/// The content of a file of level f16 with codes, cells and their tuning; quantizer, cells and tuning come last.
pub fn celled_file(rows: &[usize]) -> Vec<u8> {
    static WRITTEN: Mutex<BTreeMap<Vec<usize>, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    let write = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("celled.bin");
        write_celled(&path, rows, &cells_payload(), &tuning_payload()).unwrap();
        std::fs::read(path).unwrap()
    };
    written.entry(rows.to_vec()).or_insert_with(write).clone()
}

/// Values of the hyperplanes of [`buckets_payload`], and where its starts begin.
pub const BUCKET_VALUES: usize = 3 * 5;
pub const BUCKET_STARTS: usize = 128;

/// The payload of the buckets of 20 rows of 3 values: two tables of three bits, fabricated.
pub fn buckets_payload() -> Vec<u8> {
    let mut payload = vec![0; 64];
    put(&mut payload, 0, 2u32.to_le_bytes());
    put(&mut payload, 4, 3u32.to_le_bytes());
    put(&mut payload, 8, 7u64.to_le_bytes());
    put(&mut payload, 16, (BUCKET_VALUES as u32).to_le_bytes());
    payload.extend((0..BUCKET_VALUES).flat_map(|i| (0.25 * i as f32 - 1.0).to_le_bytes()));
    payload.resize(BUCKET_STARTS, 0);
    for _ in 0..2 {
        payload.extend([0u32, 2, 4, 6, 8, 9, 9, 15, 20].map(u32::to_le_bytes).as_flattened());
    }
    payload.resize(payload.len().next_multiple_of(64), 0);
    for table in 0..2u32 {
        payload.extend((0..20u32).flat_map(|row| ((row * (7 + 6 * table)) % 20).to_le_bytes()));
    }
    // Of no rows, keys begin at a multiple of 64 all the same.
    payload.resize(payload.len().next_multiple_of(64), 0);
    payload
}

/// Writes a file of 20 rows with these buckets.
pub fn write_bucketed(path: &Path, buckets: &[u8]) -> Result<()> {
    let segment = Segment::sample(Level::F32, 3, 20);
    let tuning = tuning_payload();
    let ann = Some(AnnBytes { kind: Kind::Buckets, ann: buckets, tuning: &tuning });
    format::write(
        path,
        &Contents { index: &index(Level::F32, 3), segments: &[segment.bytes()], quantizer: None, ann, ids: IdRecord::default() },
        &patient,
    )
}

/// Opens `content` as a file of its own.
pub fn open(content: &[u8], mode: Mode, verify: Verify) -> Result<(Bytes, Header)> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // Not fs::write: truncating first makes some file systems wait for the disk, thousands of times here.
    file.write_all(content).unwrap();
    format::open(file.path(), mode, verify, &patient)
}

/// The reason why `content` is refused as a file; anything but a format error fails the test.
pub fn refusal(content: &[u8], mode: Mode, verify: Verify) -> String {
    match open(content, mode, verify) {
        Err(Error::Format { reason, .. }) => reason,
        Err(other) => panic!("expected a format error, got {other}"),
        Ok((_, header)) => panic!("expected a refusal, got {header:?}"),
    }
}

/// The reason why the header of `content` is refused.
pub fn header_refusal(content: &[u8]) -> String {
    match Header::parse(content, Path::new("sample.bin")) {
        Err(Error::Format { reason, .. }) => reason,
        other => panic!("expected a format error, got {other:?}"),
    }
}

pub fn put<const N: usize>(content: &mut [u8], offset: usize, value: [u8; N]) {
    content[offset..offset + N].copy_from_slice(&value);
}

pub fn get(content: &[u8], offset: usize) -> u64 {
    content.get(offset..offset + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

/// The offset of entry `number`.
pub fn entry(number: usize) -> usize {
    TABLE + 64 * (1 + number)
}

/// Makes every checksum right that can be reached: sections as their entries claim, table, slots, prologue.
pub fn rehash(content: &mut [u8]) {
    let start = usize::try_from(get(content, SLOT_A + 8)).unwrap_or(usize::MAX);
    let bytes = usize::try_from(get(content, SLOT_A + 16)).unwrap_or(usize::MAX);
    let table = start..start.saturating_add(bytes);
    if content.get(table.clone()).is_some() {
        for at in (table.start + 64..table.end).step_by(64) {
            let offset = usize::try_from(get(content, at + 8)).unwrap_or(usize::MAX);
            let length = usize::try_from(get(content, at + 16)).unwrap_or(usize::MAX);
            let end = offset.saturating_add(length).checked_next_multiple_of(64).unwrap_or(usize::MAX);
            let extent = content.get(offset..end).unwrap_or(&[]);
            let hashes: Vec<u8> = extent.chunks(1 << 20).flat_map(|block| xxh3_64(block).to_le_bytes()).collect();
            if at + 40 <= content.len() {
                put(content, at + 32, xxh3_64(&hashes).to_le_bytes());
            }
        }
        let hash = xxh3_64(&content[table]);
        put(content, SLOT_A + 32, hash.to_le_bytes());
    }
    for record in [0, SLOT_A] {
        let hash = xxh3_64(&content[record..record + 56]);
        put(content, record + 56, hash.to_le_bytes());
    }
}
