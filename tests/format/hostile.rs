//! Malice: any bytes, and headers that say anything with every checksum right. None makes the reader
//! panic, read out of bounds or take memory that the file does not back.

use crate::sample::{LEVELS, SLOT_A, SLOT_B, TABLE, coded_file, entry, file, open, patient, rehash};
use nseekfs::format::{self, Header, Mode, Verify};
use nseekfs::level::Level;
use nseekfs::store::Bytes;
use proptest::prelude::*;
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
    assert!(!header.segments.is_empty() && header.segments.len() * 2 <= header.sections.len());
    assert!(header.sections.capacity() * 64 <= content.len());
    let per_row = header.index.dims * header.index.level.value_bytes();
    for segment in &header.segments {
        let rows = usize::try_from(segment.rows).unwrap();
        assert!(rows > 0 && segment.row_values.len() == rows * per_row && segment.norms.len() == rows * 8);
        assert_eq!(segment.scales.as_ref().map(|scales| scales.len()), (per_row == header.index.dims).then_some(rows * 4));
        assert_eq!(segment.codes.is_some(), header.coder.is_some());
    }
    let Some(coder) = &header.coder else { return };
    let (dims, lead) = (header.index.dims, coder.lead);
    assert!((32..=4096).contains(&dims) && lead % 8 == 0 && 0 < lead && lead <= dims && (0.0..1e-3).contains(&coder.skew));
    assert!(coder.values.len() == 4 * dims * (2 + dims) && header.index.level != Level::F8);
    for (segment, codes) in header.segments.iter().zip(header.segments.iter().filter_map(|segment| segment.codes.as_ref())) {
        let (rows, blocks) = (segment.rows as usize, segment.rows.div_ceil(16) as usize);
        assert!(codes.lines.len() == blocks * lead * 8 && codes.factors.len() == blocks * 160);
        assert!(codes.rest.len() == rows * (lead / 2 + dims - lead));
    }
}

/// Opens `content` in full and touches all that it claims to hold; whether it was accepted.
fn survive(content: &[u8]) -> bool {
    if let Ok(header) = Header::parse(content, Path::new("hostile.bin")) {
        assert_in_bounds(content, &header);
    }
    let Ok((bytes, header)) = open(content, Mode::Mmap, Verify::Full) else { return false };
    for segment in &header.segments {
        assert!(bytes.view::<f64>(segment.norms.clone()).len() as u64 == segment.rows);
        let values = segment.row_values.clone();
        match header.index.level {
            Level::F64 => drop(bytes.view::<f64>(values).to_vec()),
            Level::F32 => drop(bytes.view::<f32>(values).to_vec()),
            Level::F16 => drop(bytes.view::<u16>(values).to_vec()),
            Level::F8 => drop(bytes.view::<i8>(values).to_vec()),
        }
        if let Some(codes) = segment.codes.clone() {
            assert!(bytes.view::<f32>(codes.factors.clone()).len() * 2 == bytes.view::<u16>(codes.factors).len());
            assert!(!bytes[codes.lines].is_empty() && !bytes[codes.rest].is_empty());
        }
        segment.scales.clone().inspect(|scales| assert!(bytes.view::<f32>(scales.clone()).len() as u64 == segment.rows));
    }
    true
}

/// Where the coder section of a whole file with codes starts.
fn coder_start(content: &[u8]) -> usize {
    Header::parse(content, Path::new("whole.bin")).unwrap().coder.unwrap().values.start - 64
}

/// Numbers at which sums, products and roundings turn over.
fn edge() -> impl Strategy<Value = u64> {
    let near = (0u32..64, -2i64..=2).prop_map(|(bit, by)| (1u64 << bit).wrapping_add_signed(by));
    prop_oneof![near, 0u64..1024, any::<u64>(), any::<u64>().prop_map(u64::wrapping_neg), (0u64..16).prop_map(|n| n * 64)]
}

/// `(offset, size)` of a field of the header, of slot A or B, of the index record or of one of eleven entries.
fn field() -> impl Strategy<Value = (usize, usize)> {
    let prologue = prop::sample::select(vec![(0, 8), (8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8)]);
    let slot = prop::sample::select(vec![0, 8, 16, 24, 40]).prop_map(|at| (SLOT_A + at, 8));
    let empty = (0usize..8).prop_map(|word| (SLOT_B + 8 * word, 8));
    let index = prop::sample::select(vec![(0, 4), (4, 4), (8, 4), (12, 4), (16, 8), (24, 4), (28, 4), (32, 8), (40, 8)]);
    let fields = prop::sample::select(vec![(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (56, 8)]);
    let entries = (0usize..11, fields).prop_map(|(number, (at, size))| (entry(number) + at, size));
    prop_oneof![1 => prologue, 2 => slot, 1 => empty, 4 => index.prop_map(|(at, size)| (TABLE + at, size)), 8 => entries]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn headers_that_say_anything_with_right_checksums_are_harmless(
        level in prop::option::of(prop::sample::select(LEVELS.to_vec())),
        rows in prop::sample::select(vec![vec![5], vec![1, 2], vec![16, 1, 8]]),
        changes in prop::collection::vec((field(), edge()), 1..6),
        coder in prop::option::weighted(0.5, (0usize..80, edge())),
        length in prop::option::weighted(0.2, 192usize..2048),
    ) {
        let mut content = level.map_or_else(|| coded_file(&rows), |level| file(level, &rows));
        if let (None, Some((word, value))) = (level, coder) {
            // Its record, centre, steps and first axes.
            let start = coder_start(&content);
            content[start + 4 * word..][..8].copy_from_slice(&value.to_le_bytes());
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
    let coded = coded_file(&[20, 3]);
    let (mut accepted, mut tried) = (0, 0);
    for content in whole.iter().chain([&coded]) {
        let table_end = Header::parse(content, Path::new("whole.bin")).unwrap().sections[0].extent.start;
        let coder = if *content == coded { coder_start(content)..coder_start(content) + 80 } else { 0..0 };
        for at in (0..table_end).chain(coder).step_by(4) {
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

#[test]
fn a_huge_sparse_file_is_refused_without_reading_it_into_memory() {
    let sparse = tempfile::NamedTempFile::new().unwrap();
    sparse.as_file().set_len(1 << 40).unwrap();
    assert!(format::open(sparse.path(), Mode::Ram, Verify::Full, &patient).is_err());
    assert!(Header::parse(&Bytes::map(sparse.path()).unwrap(), sparse.path()).is_err());
}
