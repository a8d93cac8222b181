//! Checksums: xxh3-64 of a record, and of a section cut in blocks.
//!
//! A section's checksum is the hash of the hashes of its blocks, so that blocks can be hashed in any
//! order and by many threads, and a long check can be interrupted between two of them.

use super::layout::{BLOCK, padding};
use crate::error::Result;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Zero bytes up to the alignment.
const ZEROS: [u8; super::layout::ALIGNMENT] = [0; super::layout::ALIGNMENT];

/// The hash of a record or of the table.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The checksum of a section: `bytes` is its payload, followed by its padding or not (it is zero
/// and goes in either way). `tick` is called before every block and may interrupt.
pub fn of_section(bytes: &[u8], tick: &dyn Fn() -> Result<()>) -> Result<u64> {
    let mut hashes = Xxh3::new();
    for block in bytes.chunks(BLOCK) {
        tick()?;
        hashes.update(&of_block(block).to_le_bytes());
    }
    Ok(hashes.digest())
}

/// The hash of one block, padded; only the last block of a payload needs padding.
fn of_block(block: &[u8]) -> u64 {
    let zeros = &ZEROS[..padding(block.len())];
    if zeros.is_empty() {
        return xxh3_64(block);
    }
    let mut hash = Xxh3::new();
    hash.update(block);
    hash.update(zeros);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> Result<()> {
        Ok(())
    }

    #[test]
    fn hashes_are_those_of_the_published_function() {
        // From the reference implementation, seed 0.
        assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash(b"abc"), 0x78af_5f94_892f_3950);
    }

    #[test]
    fn a_section_is_the_hash_of_the_hashes_of_its_padded_blocks() {
        for length in [0, 1, 64, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 77] {
            let payload: Vec<u8> = (0..length).map(|i| (i * 7 % 253) as u8).collect();
            let mut padded = payload.clone();
            padded.resize(length + padding(length), 0);
            let hashes: Vec<u8> = padded.chunks(BLOCK).flat_map(|block| xxh3_64(block).to_le_bytes()).collect();
            assert_eq!(of_section(&payload, &never).unwrap(), xxh3_64(&hashes), "{length}");
            assert_eq!(of_section(&padded, &never).unwrap(), xxh3_64(&hashes), "{length}");
        }
    }
}
