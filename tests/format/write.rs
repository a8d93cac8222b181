//! Writing is all or nothing, whatever stops it, and never disturbs a file that is mapped.

use crate::sample::{CODED_DIMS, LEAD, Segment, coded_file, file, index, open, patient, quantizer_values, written_anew};
use nseekfs::error::{Error, Result};
use nseekfs::format::{self, CodeBytes, Contents, IdRecord, Mode, QuantizerBytes, SegmentBytes, SegmentLayout, Verify};
use nseekfs::level::Level;
use std::cell::Cell;
use std::io::ErrorKind;
use std::path::Path;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn write(path: &Path, rows: usize, tick: &dyn Fn() -> Result<()>) -> Result<()> {
    format::write(
        path,
        &Contents {
            index: &index(Level::F32, 3),
            segments: &[Segment::sample(Level::F32, 3, rows).bytes()],
            quantizer: None,
            ann: None,
            ids: IdRecord::default(),
        },
        tick,
    )
}

#[test]
fn an_interruption_anywhere_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.bin");
    let total = Cell::new(0);
    write(&path, 200_000, &|| {
        total.set(total.get() + 1);
        Ok(())
    })
    .unwrap();
    // Three blocks of rows, two of norms, each hashed and written, and once before the rename.
    assert_eq!(total.get(), 11);
    let old = file(Level::F32, &[5]);
    for (before, names_before) in [(Some(&old), vec!["index.bin"]), (None, vec![])] {
        std::fs::remove_file(&path).ok();
        before.inspect(|old| std::fs::write(&path, old).unwrap());
        for stop in 0..total.get() {
            let calls = Cell::new(0);
            let stopped = write(&path, 200_000, &|| {
                calls.set(calls.get() + 1);
                if calls.get() > stop { Err(Error::Interrupted) } else { Ok(()) }
            });
            assert!(matches!(stopped, Err(Error::Interrupted)));
            assert_eq!(names(folder.path()), names_before);
            assert_eq!(std::fs::read(&path).ok().as_ref(), before);
        }
    }
}

#[test]
fn a_panic_of_the_caller_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.bin");
    let calls = Cell::new(0);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        write(&path, 5, &|| {
            calls.set(calls.get() + 1);
            assert!(calls.get() < 4);
            Ok(())
        })
    }));
    assert!(panicked.is_err() && names(folder.path()).is_empty());
}

#[test]
fn an_index_can_be_saved_over_the_file_that_it_maps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.bin");
    write(&path, 200_000, &patient).unwrap();
    let before = std::fs::read(&path).unwrap();
    let (bytes, header) = format::open(&path, Mode::Mmap, Verify::Full, &patient).unwrap();
    let segment = &header.segments[0];
    let part = SegmentBytes {
        rows: segment.rows,
        row_values: &bytes[segment.row_values.clone()],
        norms: &bytes[segment.norms.clone()],
        scales: None,
        codes: None,
        ids: None,
    };
    format::write(
        &path,
        &Contents { index: &header.index, segments: &[part], quantizer: None, ann: None, ids: IdRecord::default() },
        &patient,
    )
    .unwrap();
    assert!(std::fs::read(&path).unwrap() == before);
    write(&path, 1, &patient).unwrap();
    bytes.check_len().unwrap();
    format::verify(&bytes, &path, &patient).unwrap();
    assert!(bytes[..] == before[..]);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(written_anew(Level::F8, &[5, 2]), written_anew(Level::F8, &[5, 2]));
}

#[test]
fn what_a_file_with_codes_holds_can_be_written_again() {
    let content = coded_file(&[20, 3]);
    let (bytes, header) = open(&content, Mode::Mmap, Verify::Full).unwrap();
    let part = |segment: &SegmentLayout| {
        let codes = segment.codes.clone().unwrap();
        SegmentBytes {
            rows: segment.rows,
            row_values: &bytes[segment.row_values.clone()],
            norms: &bytes[segment.norms.clone()],
            scales: None,
            codes: Some(CodeBytes { lines: &bytes[codes.lines], factors: &bytes[codes.factors], remainder: &bytes[codes.remainder] }),
            ids: None,
        }
    };
    let parts: Vec<SegmentBytes> = header.segments.iter().map(part).collect();
    let record = header.quantizer.unwrap();
    let quantizer = QuantizerBytes { leading: record.leading, skew: record.skew, values: &bytes[record.values] };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.bin");
    format::write(
        &path,
        &Contents { index: &header.index, segments: &parts, quantizer: Some(quantizer), ann: None, ids: IdRecord::default() },
        &patient,
    )
    .unwrap();
    assert!(std::fs::read(path).unwrap() == content);
}

#[test]
fn what_the_reader_would_refuse_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.bin");
    let whole = Segment::sample(Level::F32, 3, 5);
    let part = whole.bytes();
    let try_write = |dims, parts: &[SegmentBytes]| match format::write(
        &path,
        &Contents { index: &index(Level::F32, dims), segments: parts, quantizer: None, ann: None, ids: IdRecord::default() },
        &patient,
    ) {
        Err(Error::Format { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(try_write(0, &[part]).starts_with("F11: dims"));
    assert!(try_write(usize::MAX, &[part]).starts_with("F11: dims"));
    assert!(try_write(3, &[SegmentBytes { scales: Some(&[0; 20]), ..part }]).starts_with("F13: sections"));
    assert!(try_write(3, &[SegmentBytes { rows: 6, ..part }]).starts_with("F14: length of the rows"));
    assert!(try_write(3, &[SegmentBytes { norms: &[0; 39], ..part }]).starts_with("F14: length of the norms"));
    assert!(
        try_write(3, &[SegmentBytes { rows: 0, row_values: &[], norms: &[0; 8], scales: None, codes: None, ids: None }])
            .starts_with("F14: rows")
    );
    let (coded, values) = (Segment::coded(Level::F32, CODED_DIMS, 20, LEAD), quantizer_values());
    let quantizer = QuantizerBytes { leading: LEAD, skew: 0.0, values: &values };
    let part = coded.bytes();
    let try_coded = |quantizer: Option<&QuantizerBytes>, part: SegmentBytes| match format::write(
        &path,
        &Contents {
            index: &index(Level::F32, CODED_DIMS),
            segments: &[part],
            quantizer: quantizer.copied(),
            ann: None,
            ids: IdRecord::default(),
        },
        &patient,
    ) {
        Err(Error::Format { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(try_coded(None, part).starts_with("F19: sections of codes: expected 4"));
    assert!(try_coded(Some(&quantizer), SegmentBytes { codes: None, ..part }).starts_with("F19: sections of codes: expected 4"));
    assert!(try_coded(Some(&QuantizerBytes { values: &values[4..], ..quantizer }), part).starts_with("F20: length of the quantizer"));
    assert!(try_coded(Some(&QuantizerBytes { values: &[], ..quantizer }), part).starts_with("F20: length of the quantizer"));
    assert!(try_coded(Some(&QuantizerBytes { leading: usize::MAX, ..quantizer }), part).starts_with("F20: lead"));
    assert!(try_coded(Some(&QuantizerBytes { skew: f64::NAN, ..quantizer }), part).starts_with("F20: skew"));
    assert!(try_coded(Some(&QuantizerBytes { leading: 24, ..quantizer }), part).starts_with("F21: length of the lines"));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn places_that_cannot_be_written_are_io_errors_that_name_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let kind = |path: &Path| match write(path, 5, &patient) {
        Err(Error::Io { path: named, source }) if named == path => source.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(&file.join("below.bin")), ErrorKind::NotADirectory);
    assert_eq!(kind(&folder.path().join("missing/index.bin")), ErrorKind::NotFound);
    assert_eq!(kind(folder.path()), ErrorKind::IsADirectory);
    assert_eq!(names(folder.path()), ["file"]);
}

#[cfg(unix)]
#[test]
fn devices_are_never_replaced_and_full_ones_leave_nothing() {
    for device in ["/dev/null", "/dev/full"] {
        match write(Path::new(device), 5, &patient) {
            Err(Error::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::InvalidInput),
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(unix)]
#[test]
fn permissions_of_the_old_file_stay_and_a_new_file_has_those_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (path, plain) = (folder.path().join("index.bin"), folder.path().join("plain"));
    std::fs::write(&plain, b"x").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    write(&path, 5, &patient).unwrap();
    assert_eq!(mode(&path), mode(&plain));
    for bits in [0o600, 0o440] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
        write(&path, 6, &patient).unwrap();
        assert_eq!(mode(&path), bits);
    }
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_and_long_or_odd_names_work() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.bin"), folder.path().join("link.bin"));
    write(&real, 5, &patient).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    write(&link, 6, &patient).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(format::open(&real, Mode::Mmap, Verify::Full, &patient).unwrap().1.rows(), 6);
    for name in ["n".repeat(255), "sp ace \n é".to_string()] {
        write(&folder.path().join(name), 5, &patient).unwrap();
    }
}

#[test]
fn many_writers_of_one_path_leave_one_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.bin");
    std::thread::scope(|scope| {
        for rows in 1..=8 {
            let path = &path;
            scope.spawn(move || write(path, rows, &patient).unwrap());
        }
    });
    format::open(&path, Mode::Mmap, Verify::Full, &patient).unwrap();
    assert_eq!(names(folder.path()), ["index.bin"]);
}
