//! What a file is that does not start with our magic: a sentence for the error.
//!
//! The files that people do pass by mistake are named, with what to do about them. A guess is never
//! used to read anything.

use super::layout::MAGIC;

/// Starts of files that are not ours. Longer ones first where two begin alike.
const STARTS: [(&[u8], &str); 17] = [
    (b"\x89NSK\n\x1a\n", DAMAGED),
    (b"\x89NSK\r\r\n", DAMAGED),
    (b"\x89NSK\r\n\n", DAMAGED),
    (b"\x89NSK\n\n", DAMAGED),
    (b"\x09NSK", DAMAGED),
    (b"\xc2\x89NSK", DAMAGED),
    (b"\xef\xbf\xbdNSK", DAMAGED),
    (b"version https://git-lfs", "it is a git-lfs pointer, not the file itself: run `git lfs pull`"),
    (b"\x93NUMPY", "it is a .npy array, not an index: load it with numpy and build an index from it"),
    (b"PK\x03\x04", "it is a zip archive (.npz or torch), not an index: load the array in it and build an index from that"),
    (b"PK\x05\x06", "it is an empty zip archive"),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"\x1f\x8b", "it is compressed with gzip: decompress it first"),
    (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file: load the array in it and build an index from that"),
];

const DAMAGED: &str = "it is an nseekfs file that was damaged by a copy in text mode (line ends or encoding): copy it again as binary";
const PICKLE: &str = "it is a Python pickle (or an old torch file), not an index: load the array in it and build an index from that";

/// The broken rule F1, in words: what `head`, the start of a file of `file_bytes`, looks like.
pub(super) fn describe(head: &[u8], file_bytes: u64) -> String {
    if file_bytes == 0 {
        return "F1: magic: expected an nseekfs file, got an empty one".to_string();
    }
    if MAGIC.starts_with(head) {
        return format!("F1: magic: expected 8 bytes, got {file_bytes}: the file is cut short");
    }
    let known = STARTS.iter().find(|(start, _)| head.starts_with(start)).map(|&(_, what)| what.to_string());
    let what = known.or_else(|| older(head, file_bytes)).unwrap_or_else(|| "it is no nseekfs file".to_string());
    format!("F1: magic: expected {}, got {}: {what}", hex(&MAGIC), hex(&head[..head.len().min(8)]))
}

/// The files of nseekfs before this format: a few u32 (dims, rows, a metric in 1.1.0), then float32 rows.
fn older(head: &[u8], file_bytes: u64) -> Option<String> {
    let word = |i: usize| head.get(4 * i..4 * i + 4).map(bytemuck::pod_read_unaligned::<u32>);
    let (dims, rows) = (word(0)?, word(1)?);
    if dims == 0 || rows == 0 {
        return None;
    }
    let values = u128::from(dims) * u128::from(rows) * 4;
    let release = match u128::from(file_bytes).checked_sub(values)? {
        12 if word(2)? <= 2 => "1.1.0",
        8 => "0.1",
        _ => return None,
    };
    Some(format!(
        "it is an index of nseekfs {release} ({rows} rows of {dims} dims), which had no checks: build it again from its embeddings"
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
