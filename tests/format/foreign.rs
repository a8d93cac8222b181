//! Files that are not ours are refused by name.

use crate::sample::{file, header_refusal, open, patient};
use nseekfs::error::Error;
use nseekfs::format::{self, Mode, Verify};
use nseekfs::level::Level;
use std::io::ErrorKind;
use std::path::Path;

#[track_caller]
fn named(content: &[u8], words: &str) {
    let reason = header_refusal(content);
    assert!(reason.starts_with("F1: magic: ") && reason.contains(words), "expected {words:?}, got {reason:?}");
}

#[test]
fn files_of_other_programs_are_named() {
    named(b"", "empty");
    named(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'", ".npy");
    named(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull");
    named(b"PK\x03\x04\x14\x00\x00\x00", ".npz or torch");
    named(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "pickle");
    named(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00", "pickle");
    named(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "gzip");
    named(b"\x89HDF\r\n\x1a\n\x00", "HDF5");
    named(b"just some text that is longer than a header", "it is no nseekfs file");
    named(b"x", "it is no nseekfs file");
}

#[test]
fn copies_in_text_mode_are_named() {
    let content = file(Level::F32, &[5]);
    let replaced = |from: &[u8], to: &[u8]| {
        let mut copy = Vec::new();
        let mut remainder = &content[..];
        while !remainder.is_empty() {
            let (taken, put) = if remainder.starts_with(from) { (from.len(), to) } else { (1, &remainder[..1]) };
            copy.extend_from_slice(put);
            remainder = &remainder[taken..];
        }
        copy
    };
    for (from, to) in [
        (&b"\n"[..], &b"\r\n"[..]),
        (b"\r\n", b"\n"),
        (b"\r", b"\n"),
        (b"\x89", b"\x09"),
        (b"\x89", b"\xef\xbf\xbd"),
        (b"\x89", b"\xc2\x89"),
    ] {
        named(&replaced(from, to), "text mode");
    }
}

#[test]
fn older_nseekfs_files_are_named_with_their_shape() {
    let older = |words: &[u32], values: usize| -> Vec<u8> {
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        words.chain((0..values).flat_map(|i| (i as f32).to_le_bytes())).collect()
    };
    named(&older(&[4, 3, 0], 12), "nseekfs 1.1.0 (3 rows of 4 dims)");
    named(&older(&[4, 3, 2], 12), "nseekfs 1.1.0 (3 rows of 4 dims)");
    named(&older(&[4, 3], 12), "nseekfs 0.1 (3 rows of 4 dims)");
    for content in [older(&[4, 3, 3], 12), older(&[4, 3, 0], 10), older(&[0, 0, 0], 0), older(&[u32::MAX, u32::MAX, 0], 3)] {
        named(&content, "it is no nseekfs file");
    }
}

#[test]
fn paths_that_hold_no_file_are_io_errors_that_name_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let kind = |path: &Path| match format::open(path, Mode::Mmap, Verify::Auto, &patient) {
        Err(Error::Io { path: named, source }) if named == path => source.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(folder.path()), ErrorKind::IsADirectory);
    assert_eq!(kind(&folder.path().join("missing.bin")), ErrorKind::NotFound);
    std::fs::write(folder.path().join("file"), b"x").unwrap();
    assert_eq!(kind(&folder.path().join("file/below.bin")), ErrorKind::NotADirectory);
}

#[test]
fn the_error_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.bin");
    std::fs::write(&path, &file(Level::F32, &[1])[..100]).unwrap();
    let error = format::open(&path, Mode::Mmap, Verify::Auto, &patient).unwrap_err().to_string();
    assert_eq!(error, format!("{}: F6: commit slots: expected at least 192 bytes of file, got 100: the file is cut short", path.display()));
    assert!(open(&file(Level::F32, &[1]), Mode::Mmap, Verify::Auto).is_ok());
}
