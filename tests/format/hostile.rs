//! Malice: any bytes, and headers that say anything with every checksum right. None makes the reader
//! panic, read out of bounds or take memory that the file does not back.

use crate::sample::{LEVELS, SLOT_A, SLOT_B, TABLE, celled_file, coded_file, entry, file, header_refusal, open, patient, put, rehash};
use nseekfs::ann::ivf::Ivf;
use nseekfs::format::{self, AnnParts, AnnRecord, Header, Kind, Mode, Verify};
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::store::Bytes;
use proptest::prelude::*;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// What must hold for anything that was accepted: the ranges lie in the file, apart from one another, and fit.
fn assert_in_bounds(content: &[u8], header: &Header) {
    let mut end = 0;
    for section in &header.sections {
        assert!(section.extent.start >= end && section.payload.start == section.extent.start);
        assert!(section.payload.end <= section.extent.end && section.extent.end <= content.len());
        end = section.extent.end;
    }
    assert_eq!(end, content.len());
    let bits = header.index.level == Level::B1;
    assert!(!header.segments.is_empty() && header.segments.len() * if bits { 1 } else { 2 } <= header.sections.len());
    assert!(header.sections.capacity() * 64 <= content.len());
    let per_row = header.index.level.row_bytes(header.index.dims);
    assert_eq!(bits, header.index.metric == Metric::Hamming);
    for segment in &header.segments {
        let rows = usize::try_from(segment.rows).unwrap();
        assert!(rows > 0 && segment.row_values.len() == rows * per_row && segment.norms.len() == if bits { 0 } else { rows * 8 });
        assert_eq!(segment.scales.as_ref().map(|scales| scales.len()), (header.index.level == Level::F8).then_some(rows * 4));
        assert_eq!(segment.codes.is_some(), header.quantizer.is_some());
    }
    assert_cells_in_bounds(content, header);
    let Some(quantizer) = &header.quantizer else { return };
    let (dims, leading) = (header.index.dims, quantizer.leading);
    assert!((32..=4096).contains(&dims) && leading % 8 == 0 && 0 < leading && leading <= dims && (0.0..1e-3).contains(&quantizer.skew));
    assert!(quantizer.values.len() == 4 * dims * (2 + dims) && header.index.level != Level::F8 && !bits);
    for (segment, codes) in header.segments.iter().zip(header.segments.iter().filter_map(|segment| segment.codes.as_ref())) {
        let (rows, blocks) = (segment.rows as usize, segment.rows.div_ceil(16) as usize);
        assert!(codes.lines.len() == blocks * leading * 8 && codes.factors.len() == blocks * 160);
        assert!(codes.remainder.len() == rows * (leading / 2 + dims - leading));
    }
}

/// The same for cells: their parts lie in the section, apart from one another, and fit.
fn assert_cells_in_bounds(content: &[u8], header: &Header) {
    let Some(AnnParts { record: AnnRecord::Cells(cells), tuning, .. }) = &header.ann else { return };
    let (shape, parts) = (cells.shape, &cells.parts);
    assert!((1..=header.rows()).contains(&(shape.cells as u64)) && shape.dims == header.index.dims);
    assert!(shape.leading == 0 || header.quantizer.as_ref().is_some_and(|quantizer| quantizer.leading == shape.leading));
    assert!((shape.leading > 0) == parts.codes.is_some() && parts.codes.is_some() == parts.listed.is_some());
    let mut ranges = vec![parts.starts.clone(), parts.reaches.clone(), parts.norms.clone(), parts.centroids.clone()];
    ranges.extend(parts.codes.iter().flat_map(|codes| [&codes.lines, &codes.factors, &codes.remainder]).cloned());
    ranges.push(parts.rows.clone());
    ranges.extend(parts.listed.iter().flatten().cloned());
    let mut end = cells.payload.start + 64;
    for range in ranges {
        assert!(range.start % 64 == 0 && range.start >= end && range.end >= range.start);
        end = range.end;
    }
    assert!(end == parts.end && end == cells.payload.end && end <= content.len());
    assert!(tuning.points.capacity() * 64 <= 2 * content.len().max(256));
}

/// Opens `content` in full and touches all that it claims to hold; whether it was accepted.
fn survive(content: &[u8]) -> bool {
    if let Ok(header) = Header::parse(content, Path::new("hostile.bin")) {
        assert_in_bounds(content, &header);
    }
    let Ok((bytes, header)) = open(content, Mode::Mmap, Verify::Full) else { return false };
    for segment in &header.segments {
        assert!(bytes.view::<f64>(segment.norms.clone()).len() as u64 == if header.index.level == Level::B1 { 0 } else { segment.rows });
        let values = segment.row_values.clone();
        match header.index.level {
            Level::F64 => drop(bytes.view::<f64>(values).to_vec()),
            Level::F32 => drop(bytes.view::<f32>(values).to_vec()),
            Level::F16 => drop(bytes.view::<u16>(values).to_vec()),
            Level::F8 => drop(bytes.view::<i8>(values).to_vec()),
            Level::B1 => drop(bytes.view::<u8>(values).to_vec()),
        }
        if let Some(codes) = segment.codes.clone() {
            assert!(bytes.view::<f32>(codes.factors.clone()).len() * 2 == bytes.view::<u16>(codes.factors).len());
            assert!(!bytes[codes.lines].is_empty() && !bytes[codes.remainder].is_empty());
        }
        segment.scales.clone().inspect(|scales| assert!(bytes.view::<f32>(scales.clone()).len() as u64 == segment.rows));
    }
    if let Some(AnnParts { record: AnnRecord::Cells(record), .. }) = header.ann {
        let ivf = Ivf::new(record, &bytes);
        let (lists, centroids) = (ivf.lists(), ivf.centroids());
        assert!(lists.cells() == ivf.cells() && centroids.len() == ivf.cells());
        assert!((0..ivf.cells()).map(|cell| lists.rows[lists.entries(cell)].len()).sum::<usize>() == lists.rows.len());
        assert_eq!(centroids.codes.is_some(), lists.codes.is_some());
    }
    true
}

/// Start of the quantizer section of a whole file with codes.
fn quantizer_start(content: &[u8]) -> usize {
    Header::parse(content, Path::new("whole.bin")).unwrap().quantizer.unwrap().values.start - 64
}

/// The same of the cells section of a whole file with cells, and of its tuning.
fn ann_starts(content: &[u8]) -> [usize; 2] {
    let sections = Header::parse(content, Path::new("whole.bin")).unwrap().sections;
    [Kind::Cells, Kind::Tuning].map(|kind| sections.iter().find(|section| section.kind == Some(kind)).unwrap().extent.start)
}

/// Numbers at which sums, products and roundings turn over.
fn edge() -> impl Strategy<Value = u64> {
    let near = (0u32..64, -2i64..=2).prop_map(|(bit, by)| (1u64 << bit).wrapping_add_signed(by));
    prop_oneof![near, 0u64..1024, any::<u64>(), any::<u64>().prop_map(u64::wrapping_neg), (0u64..16).prop_map(|n| n * 64)]
}

/// `(offset, size)` of a field of the header, of slot A or B, of the index record or of one of thirteen entries.
fn field() -> impl Strategy<Value = (usize, usize)> {
    let prologue = prop::sample::select(vec![(0, 8), (8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8)]);
    let slot = prop::sample::select(vec![0, 8, 16, 24, 40]).prop_map(|at| (SLOT_A + at, 8));
    let empty = (0usize..8).prop_map(|word| (SLOT_B + 8 * word, 8));
    let index = prop::sample::select(vec![(0, 4), (4, 4), (8, 4), (12, 4), (16, 8), (24, 4), (28, 4), (32, 8), (40, 8)]);
    let fields = prop::sample::select(vec![(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (56, 8)]);
    let entries = (0usize..13, fields).prop_map(|(number, (at, size))| (entry(number) + at, size));
    prop_oneof![1 => prologue, 2 => slot, 1 => empty, 4 => index.prop_map(|(at, size)| (TABLE + at, size)), 8 => entries]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn headers_that_say_anything_with_right_checksums_are_harmless(
        level in prop::option::of(prop::sample::select(LEVELS.to_vec())),
        rows in prop::sample::select(vec![vec![5], vec![1, 2], vec![16, 1, 8]]),
        changes in prop::collection::vec((field(), edge()), 1..6),
        quantizer in prop::option::weighted(0.5, (0usize..80, edge())),
        cells in prop::option::of(prop::collection::vec((any::<bool>(), 0usize..40, edge(), any::<bool>()), 0..4)),
        length in prop::option::weighted(0.2, 192usize..2048),
    ) {
        let coded = || if cells.is_some() { celled_file(&rows) } else { coded_file(&rows) };
        let mut content = level.map_or_else(coded, |level| file(level, &rows));
        let ann = if level.is_none() && cells.is_some() { ann_starts(&content) } else { [0; 2] };
        if let (None, Some((word, value))) = (level, quantizer) {
            // Its record, centre, steps and first axes.
            let start = quantizer_start(&content);
            content[start + 4 * word..][..8].copy_from_slice(&value.to_le_bytes());
        }
        if let (None, Some(cells)) = (level, &cells) {
            // The record and starts of cells, or the record and points of their tuning.
            for &(tuning, word, value, long) in cells {
                let at = ann[usize::from(tuning)] + 4 * word;
                let value = &value.to_le_bytes()[..if long { 8 } else { 4 }];
                content[at..at + value.len()].copy_from_slice(value);
            }
        }
        if let Some(length) = length {
            // The file also says that it has this length.
            content.resize(length, 0);
            content[SLOT_A + 24..SLOT_A + 32].copy_from_slice(&(length as u64).to_le_bytes());
        }
        for ((at, size), value) in changes {
            if at + size <= content.len() {
                content[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            }
        }
        rehash(&mut content);
        survive(&content);
    }

    #[test]
    fn random_bytes_are_refused(mut content in prop::collection::vec(any::<u8>(), 0..1024), ours in any::<bool>()) {
        if ours && content.len() >= TABLE {
            content[..16].copy_from_slice(b"\x89NSK\r\n\x1a\n\x01\0\0\0\xc0\0\0\0");
            content[16..56].fill(0);
            content[32] = 1;
            content[SLOT_B..TABLE].fill(0);
            content[SLOT_A + 8..SLOT_A + 16].copy_from_slice(&192u64.to_le_bytes());
            let length = content.len() as u64;
            content[SLOT_A + 24..SLOT_A + 32].copy_from_slice(&length.to_le_bytes());
            rehash(&mut content);
        }
        prop_assert!(!survive(&content));
    }
}

#[test]
fn every_edge_value_in_every_field_is_harmless() {
    let edges = (0..64).flat_map(|bit| [-1i64, 0, 1].map(|by| (1u64 << bit).wrapping_add_signed(by)));
    let edges: Vec<u64> = edges.chain([u64::MAX, u64::MAX - 63, u64::MAX - 64]).collect();
    let whole = LEVELS.map(|level| file(level, &[5, 2]));
    let (coded, celled) = (coded_file(&[20, 3]), celled_file(&[20, 3]));
    let (mut accepted, mut tried) = (0, 0);
    for content in whole.iter().chain([&coded, &celled]) {
        let table_end = Header::parse(content, Path::new("whole.bin")).unwrap().sections[0].extent.start;
        let quantizer = if *content == coded { quantizer_start(content)..quantizer_start(content) + 80 } else { 0..0 };
        let [cells, tuning] = if *content == celled { ann_starts(content) } else { [0; 2] };
        let ann = if *content == celled { (cells..cells + 80).chain(tuning..tuning + 252) } else { (0..0).chain(0..0) };
        for at in (0..table_end).chain(quantizer).chain(ann).step_by(4) {
            for size in [4, 8] {
                for value in &edges {
                    let mut changed = content.clone();
                    changed[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
                    rehash(&mut changed);
                    tried += 1;
                    if let Ok(header) = Header::parse(&changed, Path::new("hostile.bin")) {
                        assert_in_bounds(&changed, &header);
                        accepted += 1;
                    }
                }
            }
        }
    }
    println!("{tried} headers tried, {accepted} accepted");
    assert!(accepted > 0 && accepted < tried / 4, "seeds, generations and ignorable bits are free, little else is");
}

/// A file with cells whose last section, the tuning, is `length` bytes of this content and then of holes.
fn with_sparse_end(content: &mut [u8], tuning: usize, length: u64) -> tempfile::NamedTempFile {
    put(content, entry(7) + 16, length.to_le_bytes());
    put(content, SLOT_A + 24, (tuning as u64 + length).to_le_bytes());
    rehash(content);
    let sparse = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(sparse.path(), content).unwrap();
    sparse.as_file().set_len(tuning as u64 + length).unwrap();
    sparse
}

#[test]
fn a_huge_tuning_of_nothing_takes_no_memory() {
    let mut content = celled_file(&[20]);
    let [_, tuning] = ann_starts(&content);
    put(&mut content, tuning + 16, u32::MAX.to_le_bytes());
    let sparse = with_sparse_end(&mut content, tuning, 64 << 32);
    let mapped = Bytes::map(sparse.path()).unwrap();
    let reason = header_refusal(&mapped);
    assert!(reason.starts_with("F24: k and nprobe: expected more than (2, 2), got (0, 0)"), "{reason}");
}

#[test]
fn huge_cells_of_nothing_take_no_memory() {
    // Every row number of 2^32 - 18 blocks, none of them in the file's few kilobytes.
    let (mut content, blocks) = (celled_file(&[20]), (1u64 << 32) - 18);
    let [cells, tuning] = ann_starts(&content);
    let payload = content[tuning..].to_vec();
    let length = 1088 + 352 * blocks;
    put(&mut content, cells + 16, blocks.to_le_bytes());
    put(&mut content, cells + 64 + 12, (blocks as u32).to_le_bytes());
    put(&mut content, entry(6) + 16, length.to_le_bytes());
    put(&mut content, entry(7) + 8, (cells as u64 + length).to_le_bytes());
    let end = cells as u64 + length + 256;
    put(&mut content, SLOT_A + 24, end.to_le_bytes());
    rehash(&mut content);
    let sparse = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(sparse.path(), &content[..tuning]).unwrap();
    sparse.as_file().set_len(end).unwrap();
    let mut handle = sparse.reopen().unwrap();
    handle.seek(SeekFrom::Start(end - 256)).unwrap();
    handle.write_all(&payload).unwrap();
    let mapped = Bytes::map(sparse.path()).unwrap();
    let reason = header_refusal(&mapped);
    assert!(reason.starts_with("F23: blocks: expected 7 at most, got 4294967278"), "{reason}");
}

#[test]
fn a_huge_sparse_file_is_refused_without_reading_it_into_memory() {
    let sparse = tempfile::NamedTempFile::new().unwrap();
    sparse.as_file().set_len(1 << 40).unwrap();
    assert!(format::open(sparse.path(), Mode::Ram, Verify::Full, &patient).is_err());
    assert!(Header::parse(&Bytes::map(sparse.path()).unwrap(), sparse.path()).is_err());
}
