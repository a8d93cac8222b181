//! Accidents: any byte changed, any length lost, anything added. All are refused by a full check, and
//! in header and table by every check.

use crate::sample::{LEVELS, celled_file, coded_file, file, open, refusal};
use nseekfs::error::Error;
use nseekfs::format::{Header, Kind, Mode, Verify};
use nseekfs::index::Index;
use nseekfs::level::Level;
use nseekfs::pool::Watch;
use std::fs;
use std::path::Path;

/// A file of each level, one of two segments, one with codes, and one with cells.
fn files() -> Vec<Vec<u8>> {
    let single = LEVELS.map(|level| file(level, &[5]));
    single.into_iter().chain([file(Level::F8, &[5, 2]), coded_file(&[20]), celled_file(&[20])]).collect()
}

/// Where the first section starts: everything before is header and table.
fn data_start(content: &[u8]) -> usize {
    Header::parse(content, Path::new("whole.bin")).unwrap().sections[0].extent.start
}

#[test]
fn every_changed_byte_is_refused() {
    let mut refused = 0;
    for content in files() {
        let start = data_start(&content);
        for at in 0..content.len() {
            for mask in [0x01, 0xff] {
                let mut damaged = content.clone();
                damaged[at] ^= mask;
                refusal(&damaged, if mask == 1 { Mode::Mmap } else { Mode::Ram }, Verify::Full);
                if at < start {
                    refusal(&damaged, Mode::Mmap, Verify::Header);
                }
                refused += 1;
            }
        }
    }
    println!("{refused} changed files refused");
}

#[test]
fn damage_is_never_saved_under_a_fresh_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("damaged.bin"), folder.path().join("copy.bin"));
    let watch = Watch::new(&|| true);
    for content in files() {
        let header = Header::parse(&content, Path::new("whole.bin")).unwrap();
        for (number, section) in header.sections.iter().enumerate() {
            let mut damaged = content.clone();
            damaged[section.payload.end - 1] ^= 1;
            fs::write(&path, &damaged).unwrap();
            fs::write(&copy, b"what stood here before").unwrap();
            let Ok(index) = Index::open(&path, Mode::Mmap, Verify::Header, &watch) else { continue };
            let saved = index.save(&copy, &watch);
            if section.kind == Some(Kind::Tuning) {
                continue;
            }
            match saved {
                Err(Error::Format { path: named, reason }) => assert!(named == path && reason.starts_with("F17"), "{reason}"),
                other => panic!("section {number} ({:?}): {other:?}", section.kind),
            }
            assert_eq!(fs::read(&copy).unwrap(), b"what stood here before");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        }
        fs::write(&path, &content).unwrap();
        Index::open(&path, Mode::Mmap, Verify::Header, &watch).unwrap().save(&copy, &watch).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), content);
    }
}

#[test]
fn every_other_value_of_a_header_byte_is_refused() {
    let mut refused = 0;
    for content in files() {
        for at in 0..data_start(&content) {
            for mask in 1..=255 {
                let mut damaged = content.clone();
                damaged[at] ^= mask;
                assert!(Header::parse(&damaged, Path::new("damaged.bin")).is_err(), "byte {at} xor {mask:#x}");
                refused += 1;
            }
        }
    }
    println!("{refused} changed headers refused");
}

#[test]
fn every_truncation_is_refused() {
    let mut refused = 0;
    for content in files() {
        for length in 0..content.len() {
            for verify in [Verify::Header, Verify::Auto, Verify::Full] {
                refusal(&content[..length], if length % 2 == 0 { Mode::Mmap } else { Mode::Ram }, verify);
            }
            refused += 1;
        }
    }
    println!("{refused} truncated files refused");
}

#[test]
fn every_addition_is_refused() {
    for content in files() {
        for added in [1, 63, 64, 4096] {
            for byte in [0, 0xff] {
                let mut longer = content.clone();
                longer.resize(content.len() + added, byte);
                assert!(refusal(&longer, Mode::Mmap, Verify::Header).starts_with("F8: file_bytes: "));
            }
        }
        let mut shifted = vec![0];
        shifted.extend(&content);
        refusal(&shifted, Mode::Mmap, Verify::Header);
    }
}

#[test]
fn swapped_blocks_are_refused() {
    let content = file(Level::F32, &[200_000]);
    let rows = Header::parse(&content, Path::new("whole.bin")).unwrap().segments[0].row_values.clone();
    open(&content, Mode::Mmap, Verify::Full).unwrap();
    let mut swapped = content.clone();
    let block = 1 << 20;
    swapped.copy_within(rows.start + block..rows.start + 2 * block, rows.start);
    swapped[rows.start + block..rows.start + 2 * block].copy_from_slice(&content[rows.start..rows.start + block]);
    assert!(refusal(&swapped, Mode::Ram, Verify::Full).starts_with("F17: checksum of the rows section of segment 0"));
}
