//! One test per rule of FORMAT.md. Each break is made with checksums that are right, so that the rule
//! itself refuses it, except where the checksum is the rule.

use crate::sample::{
    BLOCKS, BUCKET_STARTS, BUCKET_VALUES, CELLS, CODED_DIMS, LEAD, LEVELS, SLOT_A, SLOT_B, Segment, TABLE, TUNED, buckets_payload,
    cell_parts, celled_file, cells_payload, coded_file, dims, entry, file, get, header_refusal, index, open, patient, put,
    quantizer_values, refusal, rehash, tuning_payload, write_bucketed, write_celled,
};
use nseekfs::error::Error;
use nseekfs::format::{
    self, AnnBytes, AnnParts, AnnRecord, Commit, Contents, GrowingFile, Header, IdRecord, Kind, Mode, Part, QuantizerBytes, SegmentBytes,
    Verify,
};
use nseekfs::index::Index;
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use std::path::Path;

/// A sealed f8 file of one segment (sections rows, norms, scales), changed and hashed again.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut content = file(Level::F8, &[5]);
    change(&mut content);
    rehash(&mut content);
    content
}

/// The header must be refused for `reason`, which names the rule, the field and both sides.
#[track_caller]
fn refused(reason: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let got = header_refusal(&changed(change));
    assert!(got.starts_with(reason), "expected {reason:?}, got {got:?}");
}

#[test]
fn a_whole_file_holds_what_was_written() {
    for level in LEVELS {
        for mode in [Mode::Mmap, Mode::Ram] {
            let (bytes, header) = open(&file(level, &[5, 2]), mode, Verify::Full).unwrap();
            assert_eq!((header.index, header.generation, header.rows()), (index(level, dims(level)), 1, 7));
            for (segment, rows) in header.segments.iter().zip([5, 2]) {
                let expected = Segment::sample(level, dims(level), rows);
                assert_eq!(segment.rows, rows as u64);
                assert_eq!(bytes[segment.row_values.clone()], expected.row_values);
                assert_eq!(bytes[segment.norms.clone()], expected.norms);
                assert_eq!(segment.scales.clone().map(|scales| bytes[scales].to_vec()), expected.scales);
            }
            assert!(header.sections.iter().all(|section| section.extent.start % 64 == 0 && section.extent.end % 64 == 0));
        }
    }
}

#[test]
fn f1_a_file_starts_with_the_magic() {
    refused("F1: magic: expected 89 4e 53 4b 0d 0a 1a 0a, got 89 4e 53 4c 0d 0a 1a 0a", |content| content[3] += 1);
    assert_eq!(header_refusal(&[]), "F1: magic: expected an nseekfs file, got an empty one");
    assert_eq!(header_refusal(&file(Level::F32, &[1])[..5]), "F1: magic: expected 8 bytes, got 5: the file is cut short");
}

#[test]
fn f2_the_prologue_is_whole_and_its_checksum_holds() {
    let mut content = file(Level::F32, &[1]);
    content[56] ^= 1;
    assert!(header_refusal(&content).starts_with("F2: checksum of the prologue: stored "));
    assert!(header_refusal(&content[..63]).starts_with("F2: prologue: expected at least 64 bytes of file, got 63"));
}

#[test]
fn f3_the_version_is_known() {
    refused("F3: version: this nseekfs reads up to version 1 of the format, the file is of version 2", |c| put(c, 8, 2u32.to_le_bytes()));
    refused("F3: version: expected 1, got 0", |content| put(content, 8, 0u32.to_le_bytes()));
}

#[test]
fn f4_every_required_feature_is_known() {
    refused("F4: required: expected features 0x1 at most, got 0x8000000000000000", |c| put(c, 16, (1u64 << 63).to_le_bytes()));
    let content = changed(|content| put(content, 24, u64::MAX.to_le_bytes()));
    open(&content, Mode::Mmap, Verify::Full).expect("ignorable features are ignored");
}

#[test]
fn f5_the_file_is_sealed() {
    refused("F5: flags: expected 1, got 0", |content| put(content, 32, 0u64.to_le_bytes()));
    refused("F5: flags: expected 0, got 1", |content| put(content, 16, 1u64.to_le_bytes()));
    refused("F5: flags: expected 1, got 3", |content| put(content, 32, 3u64.to_le_bytes()));
    refused("F5: header_bytes: expected 192, got 256", |content| put(content, 12, 256u32.to_le_bytes()));
}

#[test]
fn f6_slot_a_is_whole_and_not_empty() {
    let mut content = file(Level::F32, &[1]);
    content[SLOT_A + 8] ^= 1;
    assert!(header_refusal(&content).starts_with("F6: checksum of the slot A: stored "));
    assert!(header_refusal(&content[..SLOT_A]).starts_with("F6: commit slots: expected at least 192 bytes of file, got 64"));
    refused("F6: generation of slot A: expected 1 or more, got 0", |content| put(content, SLOT_A, 0u64.to_le_bytes()));
}

#[test]
fn f7_slot_b_is_all_zero() {
    for at in SLOT_B..TABLE {
        refused("F7: slot B: expected 64 zero bytes", |content| content[at] = 1);
    }
    refused("F7: slot B: expected 64 zero bytes", |content| content.copy_within(SLOT_A..SLOT_B, SLOT_B));
}

#[test]
fn f8_the_length_is_exact() {
    let length = file(Level::F8, &[5]).len();
    refused(&format!("F8: file_bytes: expected {length} bytes of file, got {}: bytes were added", length + 64), |content| {
        content.extend([0; 64]);
    });
    refused(&format!("F8: file_bytes: expected {length} bytes of file, got {}: the file is cut short", length - 64), |content| {
        content.truncate(length - 64);
    });
}

#[test]
fn f9_the_table_is_whole() {
    refused("F9: table_offset: expected 192, got 256", |content| put(content, SLOT_A + 8, 256u64.to_le_bytes()));
    refused("F9: table_bytes: expected at least 64, got 0", |content| put(content, SLOT_A + 16, 0u64.to_le_bytes()));
    refused("F9: table_bytes: expected", |content| put(content, SLOT_A + 16, u64::MAX.to_le_bytes()));
    refused("F9: table_bytes beyond the index record: expected 192, got 191", |c| put(c, SLOT_A + 16, 255u64.to_le_bytes()));
    refused("F9: table_bytes beyond the index record: expected 274877906880, got 192", |c| put(c, TABLE + 28, u32::MAX.to_le_bytes()));
    let mut content = file(Level::F8, &[5]);
    content[TABLE + 100] ^= 1;
    assert!(header_refusal(&content).starts_with("F9: checksum of the table: stored "));
}

#[test]
fn f10_reserved_bytes_are_zero() {
    let records = [(0, 40..56), (SLOT_A, 40..56), (TABLE, 52..64), (entry(0), 40..64), (entry(2), 40..64)];
    for (record, fields) in records {
        for at in fields {
            refused("F10: reserved bytes of ", |content| content[record + at] = 0x80);
        }
    }
}

#[test]
fn f11_the_index_record_holds_listed_values() {
    refused("F11: dims: expected 1 to 65536, got 0", |content| put(content, TABLE, 0u32.to_le_bytes()));
    refused("F11: dims: expected 1 to 65536, got 65537", |content| put(content, TABLE, 65_537u32.to_le_bytes()));
    refused("F11: level: expected 0 to 4, got 5", |content| put(content, TABLE + 4, 5u32.to_le_bytes()));
    refused("F11: metric: expected 0 to 3, got 4", |content| put(content, TABLE + 8, 4u32.to_le_bytes()));
    refused("F11: metric: expected cosine, dot or euclidean", |content| put(content, TABLE + 8, 3u32.to_le_bytes()));
    refused("F11: metric: expected hamming", |content| put(content, TABLE + 4, 4u32.to_le_bytes()));
    refused("F11: unit: expected 0 or 1, got 2", |content| put(content, TABLE + 12, 2u32.to_le_bytes()));
}

#[test]
fn f11_f13_f14_rows_of_bits_fill_bytes_and_have_no_norms() {
    let refused = |reason: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut content = file(Level::B1, &[5]);
        change(&mut content);
        rehash(&mut content);
        let got = header_refusal(&content);
        assert!(got.starts_with(reason), "expected {reason:?}, got {got:?}");
    };
    refused("F11: dims: expected a multiple of 8", &|content| put(content, TABLE, 23u32.to_le_bytes()));
    refused("F11: metric: expected hamming", &|content| put(content, TABLE + 8, 0u32.to_le_bytes()));
    refused("F14: length of the rows section of segment 0: expected 20, got 15", &|content| put(content, TABLE, 32u32.to_le_bytes()));
    let written = |segment: &Segment, ann: Option<AnnBytes>| {
        let index = index(Level::B1, CODED_DIMS);
        let contents = Contents { index: &index, segments: &[segment.bytes()], quantizer: None, ann, ids: IdRecord::default() };
        match format::write(&tempfile::tempdir().unwrap().path().join("refused.bin"), &contents, &patient) {
            Err(Error::Format { reason, .. }) => reason,
            other => panic!("expected a format error, got {other:?}"),
        }
    };
    let segment = Segment::sample(Level::B1, CODED_DIMS, 20);
    let normed = Segment { norms: vec![0; 160], ..Segment::sample(Level::B1, CODED_DIMS, 20) };
    assert_eq!(written(&normed, None), "F13: sections: expected 1, being rows for each of 1 segments, got 2");
    let ann = AnnBytes { kind: Kind::Cells, ann: &cells_payload(), tuning: &tuning_payload() };
    assert_eq!(written(&segment, Some(ann)), "F22: cells or buckets: expected none at level b1, got some");
}

#[test]
fn f12_kinds_and_segments_are_known() {
    refused("F12: kind of entry 1: expected one that this nseekfs knows, got 99 (unknown)", |c| put(c, entry(1), 99u32.to_le_bytes()));
    refused("F12: kind of entry 0: expected one that this nseekfs knows, got 0 (unknown)", |c| put(c, entry(0), 0u32.to_le_bytes()));
    refused("F12: segment of entry 0: expected below 1, got 1", |content| put(content, entry(0) + 4, 1u32.to_le_bytes()));
    refused("F12: segment of entry 0: expected below 1, got 4294967295", |c| put(c, entry(0) + 4, u32::MAX.to_le_bytes()));
}

/// An f32 file of one segment with a third section of an ignorable kind.
fn with_ignorable_section(segment: u32) -> Vec<u8> {
    let mut content = file(Level::F32, &[5]);
    let mut added = [0u8; 64];
    put(&mut added, 0, 0x8000_0063u32.to_le_bytes());
    put(&mut added, 4, segment.to_le_bytes());
    put(&mut added, 8, (content.len() as u64 + 64).to_le_bytes());
    put(&mut added, 16, 70u64.to_le_bytes());
    let end = entry(2);
    content.splice(end..end, added);
    content.extend([7; 70]);
    content.extend([0; 58]);
    for (at, value) in [(entry(0) + 8, end + 64), (SLOT_A + 16, 256), (SLOT_A + 24, content.len())] {
        put(&mut content, at, (value as u64).to_le_bytes());
    }
    let norms = get(&content, entry(1) + 8) + 64;
    put(&mut content, entry(1) + 8, norms.to_le_bytes());
    put(&mut content, TABLE + 28, 3u32.to_le_bytes());
    rehash(&mut content);
    content
}

#[test]
fn f12_a_section_of_an_ignorable_kind_is_skipped_and_verified() {
    for segment in [0, u32::MAX] {
        let content = with_ignorable_section(segment);
        let (_, header) = open(&content, Mode::Mmap, Verify::Full).unwrap();
        assert_eq!((header.segments.len(), header.sections.len()), (1, 3));
        assert_eq!((header.sections[2].kind, header.sections[2].payload.len()), (None, 70));
        let mut damaged = content.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(refusal(&damaged, Mode::Mmap, Verify::Full).starts_with("F17: checksum of the ignorable section"));
    }
    assert!(header_refusal(&with_ignorable_section(1)).starts_with("F12: segment of entry 2: expected below 1, got 1"));
}

#[test]
fn f13_each_segment_has_its_parts_once() {
    refused("F13: segments: expected 1 or more, got 0", |content| {
        put(content, TABLE + 24, 0u32.to_le_bytes());
        for number in 0..3 {
            put(content, entry(number), (0x8000_0000u32 + 99).to_le_bytes());
            put(content, entry(number) + 4, u32::MAX.to_le_bytes());
        }
    });
    refused("F13: sections: expected 12884901885, being rows, norms, scales for each of 4294967295 segments, got 3", |content| {
        put(content, TABLE + 24, u32::MAX.to_le_bytes());
    });
    refused("F13: sections: expected 2, being rows, norms for each of 1 segments, got 3", |c| put(c, TABLE + 4, 1u32.to_le_bytes()));
    refused("F13: sections: expected 3, being rows, norms, scales for each of 1 segments, got 2", |content| {
        put(content, entry(1), 0x8000_0063u32.to_le_bytes());
    });
    refused("F13: norms section of segment 0: expected one, got two", |content| put(content, entry(2), 2u32.to_le_bytes()));
    let mut content = file(Level::F32, &[5]);
    put(&mut content, entry(1), (Kind::Scales as u32).to_le_bytes());
    rehash(&mut content);
    assert_eq!(header_refusal(&content), "F13: scales section of segment 0: expected none at level f32, got one");
    let mut content = file(Level::F32, &[5, 5]);
    put(&mut content, entry(2) + 4, 0u32.to_le_bytes());
    rehash(&mut content);
    assert_eq!(header_refusal(&content), "F13: rows section of segment 0: expected one, got two");
}

#[test]
fn f14_rows_and_lengths_agree() {
    let every_section = |rows: u64| {
        move |content: &mut Vec<u8>| {
            for at in [TABLE + 32, entry(0) + 24, entry(1) + 24, entry(2) + 24] {
                put(content, at, rows.to_le_bytes());
            }
        }
    };
    refused("F14: rows of the rows section of segment 0: expected 1 to 4294967295, got 0", every_section(0));
    refused("F14: rows of the rows section of segment 0: expected 1 to 4294967295, got 4294967296", every_section(1 << 32));
    refused("F14: length of the rows section of segment 0: expected 18, got 15", every_section(6));
    refused("F14: length of the rows section of segment 0: expected 4294967298, got 15", every_section(0x5555_5556));
    refused("F14: length of the norms section of segment 0: expected 32, got 40", |c| put(c, entry(1) + 24, 4u64.to_le_bytes()));
    refused("F14: rows of the norms section of segment 0: expected 5, got 4", |content| {
        put(content, entry(1) + 24, 4u64.to_le_bytes());
        put(content, entry(1) + 16, 32u64.to_le_bytes());
    });
    refused("F14: rows of all segments: expected 6, got 5", |content| put(content, TABLE + 32, 6u64.to_le_bytes()));
}

#[test]
fn f15_sections_are_contiguous_and_fill_the_file() {
    refused("F15: offset of entry 0: expected 448, got 512", |content| put(content, entry(0) + 8, 512u64.to_le_bytes()));
    refused("F15: offset of entry 1: expected 512, got 448", |content| put(content, entry(1) + 8, 448u64.to_le_bytes()));
    for length in [u64::MAX, u64::MAX - 63, 1 << 63, 193] {
        refused("F15: length of entry 0: expected 192 at most, got", |content| put(content, entry(0) + 16, length.to_le_bytes()));
    }
    refused("F15: end of the last section: expected 704, got 640", |content| {
        content.extend([0; 64]);
        put(content, SLOT_A + 24, 704u64.to_le_bytes());
    });
}

#[test]
fn f16_a_file_that_is_cut_while_open_is_noticed() {
    let file_on_disk = tempfile::NamedTempFile::new().unwrap();
    let content = file(Level::F32, &[5]);
    std::fs::write(file_on_disk.path(), &content).unwrap();
    let (bytes, _) = format::open(file_on_disk.path(), Mode::Mmap, Verify::Full, &patient).unwrap();
    file_on_disk.as_file().set_len(content.len() as u64 - 1).unwrap();
    for error in [bytes.check_len().unwrap_err(), format::verify(&bytes, file_on_disk.path(), &patient).unwrap_err()] {
        assert!(matches!(&error, Error::Format { reason, .. } if reason.starts_with("F16: file length: ")), "{error}");
    }
}

#[test]
fn f17_the_checksum_of_every_section_holds() {
    let whole = file(Level::F8, &[5]);
    let header = Header::parse(&whole, Path::new("sample.bin")).unwrap();
    for (section, name) in header.sections.iter().zip(["rows", "norms", "scales"]) {
        let mut content = whole.clone();
        content[section.payload.end - 1] ^= 1;
        open(&content, Mode::Mmap, Verify::Header).expect("data is not read");
        let expected = format!("F17: checksum of the {name} section of segment 0: stored ");
        for verify in [Verify::Auto, Verify::Full] {
            assert!(refusal(&content, Mode::Mmap, verify).starts_with(&expected));
        }
    }
}

#[test]
fn f18_padding_is_zero() {
    let content = changed(|content| content[448 + 15] = 1);
    open(&content, Mode::Mmap, Verify::Header).expect("data is not read");
    let reason = refusal(&content, Mode::Ram, Verify::Full);
    assert_eq!(reason, "F18: padding of the rows section of segment 0: expected zero bytes, got others");
}

/// A file with codes (level f16, sections rows, norms, lines, factors, remainder, then the quantizer) is refused with `reason`.
#[track_caller]
fn refused_codes(reason: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = coded_file(&[20]);
    change(&mut content);
    rehash(&mut content);
    let got = header_refusal(&content);
    assert!(got.starts_with(reason), "expected {reason:?}, got {got:?}");
}

/// First byte of the quantizer section of that file.
const QUANTIZER: usize = 3200;

#[test]
fn a_file_with_codes_holds_what_was_written() {
    for mode in [Mode::Mmap, Mode::Ram] {
        let (bytes, header) = open(&coded_file(&[20, 3]), mode, Verify::Full).unwrap();
        let quantizer = header.quantizer.unwrap();
        assert_eq!((quantizer.leading, quantizer.skew), (LEAD, 1e-6));
        assert!(quantizer.values.start % 64 == 0 && bytes[quantizer.values] == quantizer_values());
        for (segment, rows) in header.segments.iter().zip([20, 3]) {
            let expected = Segment::coded(Level::F16, CODED_DIMS, rows, LEAD);
            assert_eq!(bytes[segment.row_values.clone()], expected.row_values);
            let codes = segment.codes.clone().unwrap();
            assert_eq!([codes.lines, codes.factors, codes.remainder].map(|part| bytes[part].to_vec()), expected.codes.unwrap());
        }
    }
    assert!(open(&file(Level::F16, &[5]), Mode::Mmap, Verify::Full).unwrap().1.quantizer.is_none());
}

#[test]
fn f12_a_quantizer_belongs_to_the_whole_index_and_other_codes_to_segments() {
    refused_codes("F12: segment of entry 5, of kind quantizer: expected 4294967295, got 0", |c| put(c, entry(5) + 4, 0u32.to_le_bytes()));
    refused_codes("F12: segment of entry 2: expected below 1, got 4294967295", |c| put(c, entry(2) + 4, u32::MAX.to_le_bytes()));
}

#[test]
fn f19_codes_are_whole_or_not_there() {
    for number in 2..6 {
        let unknown = 0x8000_0063u32.to_le_bytes();
        let expected = "F19: sections of codes: expected 4, being a quantizer and lines, factors, remainder for each segment, got 3";
        refused_codes(expected, |content| put(content, entry(number), unknown));
    }
    let mut none = coded_file(&[20]);
    (2..6).for_each(|number| put(&mut none, entry(number), 0x8000_0063u32.to_le_bytes()));
    rehash(&mut none);
    assert!(Header::parse(&none, Path::new("sample.bin")).unwrap().quantizer.is_none());
    let mut two = coded_file(&[20, 3]);
    put(&mut two, entry(8), (Kind::Lines as u32).to_le_bytes());
    rehash(&mut two);
    assert!(header_refusal(&two).starts_with("F19: lines section of segment 1: expected one, got two"));
    refused_codes("F19: quantizer section: expected one, got two", |content| {
        put(content, entry(2), (Kind::Quantizer as u32).to_le_bytes());
        put(content, entry(2) + 4, u32::MAX.to_le_bytes());
        put(content, entry(2) + 24, 20u64.to_le_bytes());
    });
    refused_codes("F19: rows of the quantizer section: expected 20, got 21", |c| put(c, entry(5) + 24, 21u64.to_le_bytes()));
    refused_codes("F19: rows of the remainder section of segment 0: expected 20, got 19", |c| put(c, entry(4) + 24, 19u64.to_le_bytes()));
    // What is written passes through the reader's checks first.
    let not_written = |level: Level, dims: usize| {
        let segment = Segment::coded(level, dims, 20, 8);
        let quantizer = QuantizerBytes { leading: 8, skew: 0.0, values: &vec![0; 4 * dims * (2 + dims)] };
        let folder = tempfile::tempdir().unwrap();
        match format::write(
            &folder.path().join("refused.bin"),
            &Contents {
                index: &index(level, dims),
                segments: &[segment.bytes()],
                quantizer: Some(quantizer),
                ann: None,
                ids: IdRecord::default(),
            },
            &patient,
        ) {
            Err(Error::Format { reason, .. }) => reason,
            other => panic!("expected a format error, got {other:?}"),
        }
    };
    assert_eq!(not_written(Level::F8, 32), "F19: codes: expected none at level f8, got some");
    assert_eq!(not_written(Level::B1, 32), "F19: codes: expected none at level b1, got some");
    assert_eq!(not_written(Level::F32, 31), "F19: dims of rows with codes: expected 32 to 4096, got 31");
    assert_eq!(not_written(Level::F32, 4097), "F19: dims of rows with codes: expected 32 to 4096, got 4097");
}

#[test]
fn f20_the_quantizer_holds_usable_numbers() {
    for leading in [0u32, 4, 15, 40, u32::MAX, 1 << 31] {
        let expected = format!("F20: leading: expected a multiple of 8 from 8 to 32, got {leading}");
        refused_codes(&expected, |content| put(content, QUANTIZER, leading.to_le_bytes()));
    }
    for at in 4..56 {
        refused_codes("F10: reserved bytes of the quantizer: expected", |content| content[QUANTIZER + at] = 1);
    }
    for skew in [-1e-9, 1e-3, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused_codes("F20: skew: expected 0 to below 0.001, got", |content| put(content, QUANTIZER + 56, skew.to_le_bytes()));
    }
    for (value, at) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().zip([0, 3, 31]) {
        refused_codes("F20: centre: expected finite values, got", |content| put(content, QUANTIZER + 64 + 4 * at, value.to_le_bytes()));
    }
    for (value, at) in [f32::NAN, f32::INFINITY, -1.0, 0.0, -0.0].into_iter().zip([32, 40, 50, 60, 63]) {
        refused_codes("F20: steps: expected finite values above 0, got", |c| put(c, QUANTIZER + 64 + 4 * at, value.to_le_bytes()));
    }
    refused_codes("F20: length of the quantizer section: expected 4416, got 4415", |c| put(c, entry(5) + 16, 4415u64.to_le_bytes()));
    // Axes are not checked.
    let mut content = coded_file(&[20]);
    put(&mut content, QUANTIZER + 64 + 4 * 64, f32::NAN.to_le_bytes());
    rehash(&mut content);
    open(&content, Mode::Ram, Verify::Full).unwrap();
}

#[test]
fn f21_lengths_of_codes_are_those_of_their_rows() {
    for (number, name, length) in [(2, "lines", 256u64), (3, "factors", 320), (4, "remainder", 480)] {
        let expected = format!("F21: length of the {name} section of segment 0: expected {length}, got {}", length - 1);
        refused_codes(&expected, |content| put(content, entry(number) + 16, (length - 1).to_le_bytes()));
    }
    refused_codes("F21: length of the lines section of segment 0: expected 128, got 256", |c| put(c, QUANTIZER, 8u32.to_le_bytes()));
}

/// A file with cells (sections of [`refused_codes`], then cells and tuning) must be refused so.
#[track_caller]
fn refused_cells(reason: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = celled_file(&[20]);
    change(&mut content);
    rehash(&mut content);
    let got = header_refusal(&content);
    assert!(got.starts_with(reason), "expected {reason:?}, got {got:?}");
}

/// Cells and tuning that are not written, for `reason`.
#[track_caller]
fn not_written(reason: &str, cells: &[u8], tuning: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    match write_celled(&folder.path().join("refused.bin"), &[20], cells, tuning) {
        Err(Error::Format { reason: got, .. }) => assert!(got.starts_with(reason), "expected {reason:?}, got {got:?}"),
        other => panic!("expected a format error, got {other:?}"),
    }
}

/// First bytes of the cells section and of the tuning section of that file; length of the former.
const CELLS_AT: usize = 7744;
const CELLS_BYTES: usize = 2496;
const TUNING_AT: usize = CELLS_AT + CELLS_BYTES;
/// A kind that nobody knows and everybody may skip.
const UNKNOWN: [u8; 4] = 0x8000_0063u32.to_le_bytes();

#[test]
fn a_file_with_cells_holds_what_was_written() {
    for (mode, rows) in [(Mode::Mmap, vec![20]), (Mode::Ram, vec![20, 3])] {
        let (bytes, header) = open(&celled_file(&rows), mode, Verify::Full).unwrap();
        let AnnParts { record: ann, tuning, .. } = header.ann.unwrap();
        let cells = ann.cells().unwrap();
        assert!(cells.metric == Metric::Euclidean && cells.spilled && bytes[cells.payload.clone()] == cells_payload());
        let shape = cells.shape;
        assert_eq!((shape.dims, shape.cells, shape.blocks, shape.leading), (CODED_DIMS, CELLS, BLOCKS, LEAD));
        let (parts, codes) = (cells.parts.clone(), cells.parts.codes.unwrap());
        let [listed_lines, listed_factors] = parts.listed.unwrap();
        let ranges = [
            parts.starts,
            parts.reaches,
            parts.norms,
            parts.centroids,
            codes.lines,
            codes.factors,
            codes.remainder,
            parts.rows,
            listed_lines,
            listed_factors,
        ];
        for (range, part) in ranges.into_iter().zip(cell_parts()) {
            assert!(range.start % 64 == 0 && bytes[range] == part);
        }
        assert_eq!((parts.end, cells.payload.len()), (cells.payload.end, CELLS_BYTES));
        assert_eq!((tuning.recall, tuning.queries, tuning.given), (0.9, 77, true));
        let points = tuning.points.iter().map(|point| (point.k, point.nprobe, point.recall, point.error, point.visited, point.gap));
        let points: Vec<_> = points.collect();
        assert_eq!(points, TUNED);
        assert!(tuning.payload() == tuning_payload());
    }
    assert!(open(&coded_file(&[20]), Mode::Mmap, Verify::Full).unwrap().1.ann.is_none());
    let sections = Header::parse(&celled_file(&[20]), Path::new("sample.bin")).unwrap().sections;
    assert_eq!((sections[6].payload.clone(), sections[7].payload.start), (CELLS_AT..TUNING_AT, TUNING_AT));
}

#[test]
fn f10_reserved_bytes_of_cells_and_tuning_are_zero() {
    for at in 24..64 {
        refused_cells("F10: reserved bytes of the cells: expected", |content| content[CELLS_AT + at] = 1);
    }
    for at in 20..64 {
        refused_cells("F10: reserved bytes of the tuning: expected", |content| content[TUNING_AT + at] = 0x80);
    }
    for (point, at) in [(1, 56), (1, 63), (2, 60), (3, 57), (3, 62)] {
        refused_cells("F10: reserved bytes of a tuning point: expected", |content| content[TUNING_AT + 64 * point + at] = 1);
    }
}

#[test]
fn f12_cells_and_their_tuning_belong_to_the_whole_index() {
    refused_cells("F12: segment of entry 6, of kind cells: expected 4294967295, got 0", |c| put(c, entry(6) + 4, 0u32.to_le_bytes()));
    refused_cells("F12: segment of entry 7, of kind tuning: expected 4294967295, got 1", |c| put(c, entry(7) + 4, 1u32.to_le_bytes()));
}

#[test]
fn f22_cells_and_tuning_are_both_there_or_neither() {
    refused_cells("F22: sections of kind cells: expected one, got none or two", |content| put(content, entry(6), UNKNOWN));
    refused_cells("F22: sections of kind tuning: expected one, got none or two", |content| put(content, entry(7), UNKNOWN));
    let kind = |kind: Kind| (kind as u32).to_le_bytes();
    refused_cells("F22: sections of kind cells: expected one, got none or two", |content| put(content, entry(7), kind(Kind::Cells)));
    // A second tuning in place of the quantizer.
    refused_cells("F22: sections of kind tuning: expected one, got none or two", |content| {
        (2..5).for_each(|number| put(content, entry(number), UNKNOWN));
        put(content, entry(5), kind(Kind::Tuning));
    });
    for (number, name) in [(6, "cells"), (7, "tuning")] {
        for rows in [0u64, 19, 21, 1 << 32, u64::MAX] {
            let expected = format!("F22: rows of the {name} section: expected 20, got {rows}");
            refused_cells(&expected, |content| put(content, entry(number) + 24, rows.to_le_bytes()));
        }
    }
    let mut neither = celled_file(&[20]);
    (6..8).for_each(|number| put(&mut neither, entry(number), UNKNOWN));
    rehash(&mut neither);
    assert!(open(&neither, Mode::Mmap, Verify::Full).unwrap().1.ann.is_none());
}

#[test]
fn f23_cells_are_of_one_shape() {
    for cells in [0u32, 21, u32::MAX] {
        let expected = format!("F23: cells: expected 1 to 20, got {cells}");
        refused_cells(&expected, |content| put(content, CELLS_AT, cells.to_le_bytes()));
    }
    for metric in [3u32, u32::MAX] {
        let expected = format!("F23: metric: expected 0 to 2, got {metric}");
        refused_cells(&expected, |content| put(content, CELLS_AT + 4, metric.to_le_bytes()));
    }
    for leading in [8u32, 24, 32, u32::MAX] {
        let expected = format!("F23: leading: expected 0 or that of the quantizer, 16, got {leading}");
        refused_cells(&expected, |content| put(content, CELLS_AT + 8, leading.to_le_bytes()));
    }
    refused_cells("F23: spilled: expected 0 or 1, got 2", |content| put(content, CELLS_AT + 12, 2u32.to_le_bytes()));
    for blocks in [8u64, 1 << 32, 1 << 63, u64::MAX] {
        let expected = format!("F23: blocks: expected 7 at most, got {blocks}");
        refused_cells(&expected, |content| put(content, CELLS_AT + 16, blocks.to_le_bytes()));
    }
    // Without a quantizer, nothing has codes.
    refused_cells("F23: leading: expected 0 or that of the quantizer, 0, got 16", |content| {
        (2..6).for_each(|number| put(content, entry(number), UNKNOWN));
    });
    let whole = cells_payload();
    for cut in [0, 1, 63] {
        not_written("F23: cells: expected a whole record, got less", &whole[..cut], &tuning_payload());
    }
}

#[test]
fn f23_the_length_of_cells_is_what_their_shape_makes_it() {
    let length = "F23: length of the cells section: expected";
    let blocks = |blocks: u64| move |content: &mut Vec<u8>| put(content, CELLS_AT + 16, blocks.to_le_bytes());
    // A block takes 64 bytes of rows, 128 of lines and 160 of factors.
    refused_cells(&format!("{length} 2848, got 2496"), blocks(5));
    refused_cells(&format!("{length} 1088, got 2496"), blocks(0));
    refused_cells(&format!("{length} 896, got 2496"), |content| put(content, CELLS_AT + 8, 0u32.to_le_bytes()));
    for cells in [1u32, 2, 4, 20] {
        refused_cells(length, |content| put(content, CELLS_AT, cells.to_le_bytes()));
    }
    refused_cells(&format!("{length} 2496, got 2495"), |content| put(content, entry(6) + 16, (CELLS_BYTES as u64 - 1).to_le_bytes()));
    let whole = cells_payload();
    not_written(&format!("{length} 2496, got 64"), &whole[..64], &tuning_payload());
    not_written(&format!("{length} 2496, got 2560"), &[&whole[..], &[0; 64]].concat(), &tuning_payload());
}

#[test]
fn f23_starts_of_cells_never_fall() {
    let starts = |starts: [u32; CELLS + 1]| {
        move |content: &mut Vec<u8>| {
            starts.iter().enumerate().for_each(|(at, start)| put(content, CELLS_AT + 64 + 4 * at, start.to_le_bytes()))
        }
    };
    refused_cells("F23: start of cell 0: expected 0, got 1", starts([1, 1, 1, 4]));
    refused_cells("F23: start of cell 2: expected 4 or more, got 3", starts([0, 4, 3, 4]));
    refused_cells("F23: start of cell 3: expected 4294967295 or more, got 4", starts([0, 0, u32::MAX, 4]));
    for end in [1, 3, 5, u32::MAX] {
        refused_cells(&format!("F23: end of the last cell: expected 4, got {end}"), starts([0, 1, 1, end]));
    }
    for good in [[0, 0, 0, 4], [0, 4, 4, 4], [0, 1, 2, 4]] {
        let mut content = celled_file(&[20]);
        starts(good)(&mut content);
        rehash(&mut content);
        open(&content, Mode::Ram, Verify::Full).unwrap();
    }
}

#[test]
fn f24_the_tuning_holds_usable_numbers() {
    let length = "F24: length of the tuning section: expected";
    let points = |points: u32| move |content: &mut Vec<u8>| put(content, TUNING_AT + 16, points.to_le_bytes());
    refused_cells(&format!("{length} 64, got 256"), points(0));
    refused_cells(&format!("{length} 192, got 256"), points(2));
    refused_cells(&format!("{length} 274877906944, got 256"), points(u32::MAX));
    refused_cells(&format!("{length} 256, got 255"), |content| put(content, entry(7) + 16, 255u64.to_le_bytes()));
    let mut tuning = tuning_payload();
    not_written(&format!("{length} 256, got 320"), &cells_payload(), &[&tuning[..], &[0; 64]].concat());
    not_written("F24: tuning: expected a whole record, got less", &cells_payload(), &tuning[..63]);
    put(&mut tuning, 16, 0u32.to_le_bytes());
    not_written("F24: points: expected 1 or more, got 0", &cells_payload(), &tuning[..64]);
    refused_cells("F24: given: expected 0 or 1, got 2", |content| put(content, TUNING_AT + 12, 2u32.to_le_bytes()));
    for value in [-1e-9, 1.0 + 1e-9, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (at, name) in [(0, "recall"), (72, "recall of a point"), (200, "recall of a point"), (80, "error of a point")] {
            let expected = format!("F24: {name}: expected 0 to 1, got {value}");
            refused_cells(&expected, |content| put(content, TUNING_AT + at, value.to_le_bytes()));
        }
    }
    for value in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (at, name) in [(24, "visited"), (32, "gap"), (40, "far")] {
            let expected = format!("F24: {name}: expected a finite number from 0, got {value}");
            refused_cells(&expected, |content| put(content, TUNING_AT + 2 * 64 + at, value.to_le_bytes()));
        }
    }
    for power in [17, u64::MAX] {
        let expected = format!("F24: power: expected 0 to 16, got {power}");
        refused_cells(&expected, |content| put(content, TUNING_AT + 64 + 48, power.to_le_bytes()));
    }
}

#[test]
fn f24_points_come_in_order() {
    let pairs = |pairs: [(u32, u32); 3]| {
        move |content: &mut Vec<u8>| {
            for (at, (k, nprobe)) in (TUNING_AT + 64..).step_by(64).zip(pairs) {
                put(content, at, k.to_le_bytes());
                put(content, at + 4, nprobe.to_le_bytes());
            }
        }
    };
    let refused = |last: (u32, u32), got: (u32, u32), given| {
        refused_cells(&format!("F24: k and nprobe: expected more than {last:?}, got {got:?}"), pairs(given));
    };
    refused((0, 0), (0, 1), [(0, 1), (1, 1), (2, 1)]);
    refused((0, 0), (1, 0), [(1, 0), (1, 1), (2, 1)]);
    refused((1, 1), (2, 0), [(1, 1), (2, 0), (2, 1)]);
    refused((1, 2), (1, 2), [(1, 1), (1, 2), (1, 2)]);
    refused((1, 2), (1, 1), [(1, 2), (1, 1), (2, 1)]);
    refused((2, 1), (1, 9), [(1, 1), (2, 1), (1, 9)]);
    for good in [[(1, 1), (1, 2), (1, 3)], [(1, 9), (2, 1), (3, 1)], [(7, 7), (7, u32::MAX), (u32::MAX, 1)]] {
        let mut content = celled_file(&[20]);
        pairs(good)(&mut content);
        rehash(&mut content);
        open(&content, Mode::Mmap, Verify::Full).unwrap();
    }
}

/// A file of 20 rows whose buckets are changed like this must be refused so.
fn refused_buckets(expected: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut payload = buckets_payload();
    change(&mut payload);
    let folder = tempfile::tempdir().unwrap();
    match write_bucketed(&folder.path().join("buckets.bin"), &payload) {
        Err(Error::Format { reason, .. }) => assert!(reason.starts_with(expected), "expected {expected:?}, got {reason:?}"),
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

#[test]
fn f22_cells_and_buckets_exclude_each_other() {
    refused_cells("F22: sections of cells, buckets and their tuning: expected 2, got 3", |content| {
        (2..5).for_each(|number| put(content, entry(number), UNKNOWN));
        put(content, entry(5), (Kind::Buckets as u32).to_le_bytes());
    });
}

#[test]
fn f25_buckets_are_of_one_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buckets.bin");
    write_bucketed(&path, &buckets_payload()).unwrap();
    let (bytes, header) = open(&std::fs::read(&path).unwrap(), Mode::Mmap, Verify::Full).unwrap();
    let Some(AnnParts { record: AnnRecord::Buckets(record), .. }) = header.ann else { panic!("expected buckets") };
    assert_eq!((record.shape.tables, record.shape.bits, record.shape.seed, record.shape.values), (2, 3, 7, BUCKET_VALUES));
    assert!(bytes[record.payload.clone()] == buckets_payload() && record.parts.end == record.payload.end);
    for (at, name, most) in [(0, "tables", 64), (4, "bits", 24)] {
        for value in [0u32, most + 1, u32::MAX] {
            let expected = format!("F25: {name}: expected 1 to {most}, got {value}");
            refused_buckets(&expected, |payload| put(payload, at, value.to_le_bytes()));
        }
    }
    for (at, value) in [(0, 1u32), (4, 4), (4, 6), (16, 0), (16, u32::MAX)] {
        refused_buckets("F25: length of the buckets section: expected", |payload| put(payload, at, value.to_le_bytes()));
    }
    refused_buckets("F25: buckets: expected a whole record, got less", |payload| payload.truncate(63));
    refused_buckets("F25: length of the buckets section: expected", |payload| payload.truncate(payload.len() - 1));
    refused_buckets("F25: start 0 of table 0: expected 0, got 1", |payload| put(payload, BUCKET_STARTS, 1u32.to_le_bytes()));
    refused_buckets("F25: start 4 of table 1: expected 6 or more, got 5", |payload| {
        put(payload, BUCKET_STARTS + 4 * 13, 5u32.to_le_bytes())
    });
    refused_buckets("F25: end of table 1: expected 20, got 21", |payload| put(payload, BUCKET_STARTS + 4 * 17, 21u32.to_le_bytes()));
    refused_buckets("F10: reserved bytes of the buckets: expected", |payload| payload[20] = 1);
    // Nobody makes hyperplanes of a number that is none, or of too few.
    for at in [64, 64 + 4 * (BUCKET_VALUES - 1)] {
        let mut payload = buckets_payload();
        put(&mut payload, at, f32::NAN.to_le_bytes());
        write_bucketed(&path, &payload).unwrap();
        match Index::open(&path, Mode::Mmap, Verify::Full, &Watch::new(&|| true)) {
            Err(Error::Format { reason, .. }) => assert!(reason.starts_with("F25: value "), "{reason}"),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

/// A sealed file of five rows with ids.
fn with_ids(ids: &[u8], texts: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids.bin");
    let whole = Segment::sample(Level::F32, 3, 5);
    let segment = SegmentBytes { ids: Some((ids, texts)), ..whole.bytes() };
    let record = IdRecord { next: Some(9), texts: Some(texts) };
    let contents = Contents { index: &index(Level::F32, 3), segments: &[segment], quantizer: None, ann: None, ids: record };
    format::write(&path, &contents, &patient).unwrap();
    std::fs::read(path).unwrap()
}

/// Ids of five rows: "a", "", "ab", "\u{e4}" and "z".
fn texts() -> Vec<u8> {
    let mut bytes: Vec<u8> = [1u64, 1, 3, 5, 6].iter().flat_map(|end| end.to_le_bytes()).collect();
    bytes.extend("aab\u{e4}z".bytes());
    bytes
}

#[test]
fn f26_ids_are_of_one_type_and_one_a_row() {
    let numbers: Vec<u8> = [7i64, -1, 3, 0, 5].iter().flat_map(|id| id.to_le_bytes()).collect();
    let whole = with_ids(&numbers, false);
    let header = open(&whole, Mode::Mmap, Verify::Full).unwrap().1;
    assert_eq!((header.ids, header.segments[0].ids.as_ref().unwrap().1), (IdRecord { next: Some(9), texts: Some(false) }, false));
    let broken = |reason: &str, at: usize, value: u64| {
        let mut content = whole.clone();
        put(&mut content, at, value.to_le_bytes());
        rehash(&mut content);
        let got = header_refusal(&content);
        assert!(got.starts_with(reason), "expected {reason:?}, got {got:?}");
    };
    broken("F26: ids: expected 0 to 2, got 3", TABLE + 48, 3);
    broken("F26: next_id: expected below 2^63, got 9223372036854775808", TABLE + 40, 1 << 63);
    broken("F26: rows of the int64 ids section of segment 0: expected 5, got 4", entry(2) + 24, 4);
    broken("F26: length of the int64 ids section of segment 0: expected 40, got 39", entry(2) + 16, 39);
    let short = with_ids(&texts(), true);
    let mut content = short.clone();
    put(&mut content, entry(2) + 16, 39u64.to_le_bytes());
    rehash(&mut content);
    assert!(header_refusal(&content).starts_with("F26: length of the utf-8 ids section of segment 0: expected 40 or more, got 39"));
}

#[test]
fn f27_texts_lie_in_their_section_and_are_utf_8() {
    let whole = with_ids(&texts(), true);
    let start = get(&whole, entry(2) + 8) as usize;
    let ids = |content: &[u8]| -> Result<Vec<String>, Error> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, content).unwrap();
        let index = Index::open(file.path(), Mode::Mmap, Verify::Header, &Watch::new(&|| true))?;
        Ok(index.live_ids()?.iter().map(ToString::to_string).collect())
    };
    assert_eq!(ids(&whole).unwrap(), ["\"a\"", "\"\"", "\"ab\"", "\"\u{e4}\"", "\"z\""]);
    for (at, value) in [(start, 2u8), (start + 7, 1), (start + 32, 99), (start + 40, 0xff), (start + 44, b'x')] {
        let mut content = whole.clone();
        content[at] = value;
        assert!(matches!(ids(&content), Err(Error::Format { reason, .. }) if reason.starts_with("F27")), "{at}");
    }
}

#[test]
fn f28_tombstones_name_rows_of_their_segment_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("growing.bin");
    let commit = |rows: &[u32]| {
        std::fs::write(&path, file(Level::F32, &[5])).unwrap();
        let sealed = Header::parse(&std::fs::read(&path).unwrap(), &path).unwrap();
        let mut growing = GrowingFile::lock(&path).unwrap();
        growing.follow(true, 1, sealed.file_bytes);
        let payload: Vec<u8> = rows.iter().flat_map(|row| row.to_le_bytes()).collect();
        let part = Part { kind: Kind::Tombstones, segment: 0, rows: rows.len() as u64, payload: &payload };
        let commit = Commit { index: &sealed.index, ids: sealed.ids, segments: 1, rows: 5, kept: &sealed.sections, new: &[part] };
        growing.commit(&commit, |_| &[], &patient)?;
        Index::open(&path, Mode::Mmap, Verify::Header, &Watch::new(&|| true))
    };
    let index = commit(&[4, 0]).unwrap();
    assert_eq!((index.live_numbers().collect::<Vec<_>>(), index.generation()), (vec![1, 2, 3], Some(2)));
    for rows in [&[5u32][..], &[1, 1], &[u32::MAX]] {
        let Err(Error::Format { reason, .. }) = commit(rows) else { panic!("{rows:?}") };
        assert!(reason.starts_with("F28: tombstones of segment 0: expected rows below 5, each once"), "{reason}");
    }
    let Err(Error::Format { reason, .. }) = commit(&[0, 1, 2, 3, 4, 5]) else { panic!() };
    assert!(reason.starts_with("F28: rows of the tombstones section of segment 0: expected 1 to 5, got 6"), "{reason}");
    // A damaged tombstone is refused whatever else is checked.
    commit(&[4, 0]).unwrap();
    let mut content = std::fs::read(&path).unwrap();
    let section =
        Header::parse(&content, &path).unwrap().sections.into_iter().find(|section| section.kind == Some(Kind::Tombstones)).unwrap();
    content[section.payload.start] = 3;
    assert!(refusal(&content, Mode::Mmap, Verify::Header).starts_with("F17: checksum of the tombstones section of segment 0"));
}

#[test]
fn the_rules_and_the_tests_have_the_same_numbers() {
    let rules = include_str!("../../src/format/FORMAT.md").lines().filter_map(|line| line.strip_prefix("- **F")?.split("**").next());
    let tests = include_str!("rules.rs");
    for number in rules {
        assert!(tests.contains(&format!("fn f{number}_")), "F{number} has no test");
    }
}
