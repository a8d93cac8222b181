//! The records of a file as they lie on disk, and every number of FORMAT.md.
//!
//! Nothing here judges: these types hold any bytes. `header.rs` and `section.rs` check them. A field
//! is added here and in FORMAT.md, and the test below compares the two.

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};

const _: () = assert!(cfg!(target_endian = "little"), "files are little-endian and used in place");

/// The first bytes: high bit set, a name, both kinds of line end and the end-of-text of DOS.
pub const MAGIC: [u8; 8] = *b"\x89NSK\r\n\x1a\n";
/// The version of the format that this code writes and reads.
pub const VERSION: u32 = 1;
/// Bytes of the prologue and the two slots; the table of a sealed file starts here.
pub const HEADER_BYTES: usize = 192;
/// Every section starts at a multiple of this: a cache line, and enough for any vector register.
pub const ALIGNMENT: usize = 64;
/// Bytes hashed at a time: large enough for full speed, small enough to share out and to interrupt.
pub const BLOCK: usize = 1 << 20;
/// Values per row, at most.
pub const MAX_DIMS: u32 = 65_536;
/// Rows per segment, at most.
pub const MAX_SEGMENT_ROWS: u64 = u32::MAX as u64;
/// Dims of rows that may have codes: sums of products of codes and int16 stay exact in the int32 lanes of kernels.
pub const MIN_CODED_DIMS: u32 = 32;
/// See [`MIN_CODED_DIMS`].
pub const MAX_CODED_DIMS: u32 = 4096;
/// Tables of buckets, and bits of a bucket's number, at most.
pub const MAX_TABLES: u32 = 64;
/// See [`MAX_TABLES`].
pub const MAX_BITS: u32 = 24;
/// The largest power of a tuning point: steeper fits are noise.
pub const MAX_POWER: u32 = 16;
/// The flag of a file that is whole and never grows.
pub const SEALED: u64 = 1;
/// The required feature bit of a file that may grow, which is not sealed.
pub const GROWING_FEATURE: u64 = 1;
/// Required feature bits that this code knows.
pub const KNOWN_FEATURES: u64 = GROWING_FEATURE;
/// Kinds with this bit may be skipped by readers that do not know them.
pub const IGNORABLE: u32 = 1 << 31;
/// The segment number of a section that belongs to the whole index.
pub const WHOLE_INDEX: u32 = u32::MAX;

/// The first 64 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Prologue {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// [`HEADER_BYTES`].
    pub header_bytes: u32,
    /// Feature bits that a reader must know.
    pub required: u64,
    /// Feature bits that a reader need not know.
    pub ignorable: u64,
    /// [`SEALED`].
    pub flags: u64,
    /// Zero.
    pub reserved: [u64; 2],
    /// xxh3-64 of the bytes before.
    pub checksum: u64,
}

/// One commit: which table is valid, and how long the file is with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Slot {
    /// Counts commits from 1.
    pub generation: u64,
    /// First byte of the table.
    pub table_offset: u64,
    /// Its length.
    pub table_bytes: u64,
    /// Length of the committed file.
    pub file_bytes: u64,
    /// xxh3-64 of the table.
    pub table_checksum: u64,
    /// Zero.
    pub reserved: [u64; 2],
    /// xxh3-64 of the bytes before.
    pub checksum: u64,
}

/// The first record of the table: what holds for the whole index.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Index {
    /// Values per row.
    pub dims: u32,
    /// Code of a [`Level`](crate::level::Level).
    pub level: u32,
    /// Code of a [`Metric`](crate::metric::Metric).
    pub metric: u32,
    /// 1 if every row is of unit length, else 0.
    pub unit: u32,
    /// Seed of the build.
    pub seed: u64,
    /// Number of segments.
    pub segments: u32,
    /// Number of entries.
    pub sections: u32,
    /// Rows of all segments.
    pub rows: u64,
    /// The next id by default; 0: as many as `rows` where `ids` is 0.
    pub next_id: u64,
    /// 0: ids are row numbers; 1: int64; 2: text.
    pub ids: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// One section in the table.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Entry {
    /// Code of a [`Kind`](super::section::Kind), or one that a later version defines.
    pub kind: u32,
    /// The segment, or [`WHOLE_INDEX`].
    pub segment: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes of payload, padding not counted.
    pub length: u64,
    /// Rows that the section describes.
    pub rows: u64,
    /// Of payload and padding, in blocks.
    pub checksum: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

/// The start of the quantizer section; centre, steps and axes follow it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Quantizer {
    /// Coordinates that lines hold.
    pub leading: u32,
    /// Zero.
    pub reserved: [u32; 13],
    /// How far the axes are from orthonormal.
    pub skew: f64,
}

/// The start of the cells section; what the cells hold follows it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Cells {
    /// Number of cells.
    pub cells: u32,
    /// Code of the [`Metric`](crate::metric::Metric) that a row's cell is nearest by.
    pub metric: u32,
    /// Coordinates that lines hold, or 0.
    pub leading: u32,
    /// 1 if rows are listed in two cells each, else 0.
    pub spilled: u32,
    /// Blocks of 16 rows in all lists.
    pub blocks: u64,
    /// Zero.
    pub reserved: [u64; 5],
}

/// The start of the buckets section; hyperplanes and tables follow it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Buckets {
    /// Number of tables.
    pub tables: u32,
    /// Bits of a bucket's number.
    pub bits: u32,
    /// Seed of the signs of the hyperplanes.
    pub seed: u64,
    /// Values that make the hyperplanes.
    pub values: u32,
    /// Zero.
    pub reserved: [u32; 11],
}

/// The start of the tuning section; points follow it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Tuning {
    /// The default recall of queries.
    pub recall: f64,
    /// Queries of the measurement.
    pub queries: u32,
    /// 1 if they were given, 0 if they were rows.
    pub given: u32,
    /// Number of points.
    pub points: u32,
    /// Zero.
    pub reserved: [u32; 11],
}

/// The measurement of one k and nprobe.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct TuningPoint {
    /// Neighbours asked for.
    pub k: u32,
    /// Cells or buckets that a query visits; of cells, the mean, see `gap`.
    pub nprobe: u32,
    /// Share of them that was found.
    pub recall: f64,
    /// Its standard error.
    pub error: f64,
    /// Rows visited, on average.
    pub visited: f64,
    /// Mean difference of keys between the best centroid and the last one visited; 0 of buckets.
    pub gap: f64,
    /// Distance from the nearest centroid beyond which a query visits more cells; 0 of buckets.
    pub far: f64,
    /// By which power of the distance; 0 of buckets.
    pub power: u64,
    /// Zero.
    pub reserved: u64,
}

/// Bytes of every record: prologue, slot, index record, entry, quantizer, cells, buckets, tuning and its points.
pub const RECORD_BYTES: usize = 64;

/// The record at `offset`, if the bytes reach that far. Reads each byte once.
pub fn record<T: AnyBitPattern>(bytes: &[u8], offset: usize) -> Option<T> {
    let end = offset.checked_add(size_of::<T>())?;
    bytes.get(offset..end).map(bytemuck::pod_read_unaligned)
}

/// The bytes of a record under its own checksum: all but the last eight.
pub fn checked_bytes<T: NoUninit>(record: &T) -> &[u8] {
    let bytes = bytemuck::bytes_of(record);
    &bytes[..bytes.len() - 8]
}

/// Zero bytes that follow `length` bytes of payload.
pub fn padding(length: usize) -> usize {
    length.wrapping_neg() % ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::section::{Kind, RESERVED_KINDS};
    use crate::kernel::{LEVEL_ZERO, OFFSET_ZERO, RECONSTRUCTION};
    use crate::level::Level;
    use crate::metric::Metric;
    use std::mem::offset_of;

    const SPECIFICATION: &str = include_str!("FORMAT.md");

    /// The fields of the table whose header starts with `title`, without its two header lines.
    fn table(title: &str) -> Vec<Vec<String>> {
        let lines = SPECIFICATION.lines().skip_while(|line| !line.starts_with(&format!("| {title} |"))).skip(2);
        let fields = |line: &str| line.trim_matches('|').split('|').map(|field| field.trim().trim_matches('`').to_string()).collect();
        lines.take_while(|line| line.starts_with('|')).map(fields).collect()
    }

    /// `[record, offset, size, field]` of every field; fields follow one another without gaps.
    macro_rules! fields {
        ($name:literal, $record:ty: $($field:ident)+) => {{
            assert_eq!(size_of::<$record>(), RECORD_BYTES);
            let starts = [$(offset_of!($record, $field)),+];
            let ends = starts.iter().skip(1).copied().chain([RECORD_BYTES]);
            let names = [$(stringify!($field)),+];
            let rows = starts.iter().zip(ends).zip(names);
            rows.map(|((start, end), field)| [$name.to_string(), start.to_string(), (end - start).to_string(), field.to_string()])
                .collect::<Vec<_>>()
        }};
    }

    #[test]
    fn the_byte_map_of_the_specification_is_the_layout() {
        let mut layout = fields!("prologue", Prologue: magic version header_bytes required ignorable flags reserved checksum);
        layout.extend(fields!("slot", Slot: generation table_offset table_bytes file_bytes table_checksum reserved checksum));
        layout.extend(fields!("index", Index: dims level metric unit seed segments sections rows next_id ids reserved));
        layout.extend(fields!("entry", Entry: kind segment offset length rows checksum reserved));
        layout.extend(fields!("quantizer", Quantizer: leading reserved skew));
        layout.extend(fields!("cells", Cells: cells metric leading spilled blocks reserved));
        layout.extend(fields!("buckets", Buckets: tables bits seed values reserved));
        layout.extend(fields!("tuning", Tuning: recall queries given points reserved));
        layout.extend(fields!("point", TuningPoint: k nprobe recall error visited gap far power reserved));
        let specified: Vec<Vec<String>> = table("record").into_iter().map(|row| row[..4].to_vec()).collect();
        assert_eq!(specified, layout);
        let magic: Vec<String> = MAGIC.iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(table("record")[0][4].contains(&magic.join(" ")));
    }

    #[test]
    fn the_constants_of_the_specification_are_those_of_the_code() {
        let numbers = [
            ("VERSION", u64::from(VERSION)),
            ("HEADER_BYTES", HEADER_BYTES as u64),
            ("ALIGNMENT", ALIGNMENT as u64),
            ("BLOCK", BLOCK as u64),
            ("MAX_DIMS", u64::from(MAX_DIMS)),
            ("MAX_SEGMENT_ROWS", MAX_SEGMENT_ROWS),
            ("MIN_CODED_DIMS", u64::from(MIN_CODED_DIMS)),
            ("MAX_CODED_DIMS", u64::from(MAX_CODED_DIMS)),
            ("MAX_TABLES", u64::from(MAX_TABLES)),
            ("MAX_BITS", u64::from(MAX_BITS)),
            ("MAX_POWER", u64::from(MAX_POWER)),
        ];
        let specified: Vec<(String, String)> = table("constant").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
        assert_eq!(specified, numbers.map(|(name, value)| (name.to_string(), value.to_string())));
        assert_eq!(BLOCK % ALIGNMENT, 0);
    }

    #[test]
    fn the_levels_metrics_and_kinds_of_the_specification_are_those_of_the_code() {
        let levels = [Level::F64, Level::F32, Level::F16, Level::F8, Level::B1];
        let levels = levels.map(|l| vec![l.name().to_string(), (l as u32).to_string(), l.row_bytes(8).to_string()]);
        assert_eq!(table("level").iter().map(|row| row[..3].to_vec()).collect::<Vec<_>>(), levels);

        let metrics = [Metric::Cosine, Metric::Dot, Metric::Euclidean, Metric::Hamming].map(|m| format!("{} {}", m as u32, m.name()));
        assert!(SPECIFICATION.contains(&metrics.join(", ")));

        let known = Kind::ALL.map(|kind| (kind as u32, kind.name()));
        let kinds = known.into_iter().chain(RESERVED_KINDS).map(|(code, name)| vec![name.to_string(), code.to_string()]);
        let specified: Vec<Vec<String>> = table("kind").iter().map(|row| row[..2].to_vec()).collect();
        assert_eq!(specified, kinds.collect::<Vec<_>>());
        for row in table("kind") {
            let code: u32 = row[1].parse().unwrap();
            assert_eq!(row[2].contains("ignorable"), code & IGNORABLE != 0, "{row:?}");
        }
    }

    #[test]
    fn the_reconstruction_levels_of_the_specification_are_those_of_the_code() {
        let levels = RECONSTRUCTION.map(|level| (i32::from(level) - i32::from(LEVEL_ZERO)).to_string()).join(", ");
        assert!(SPECIFICATION.replace('\n', " ").contains(&format!("numbered from 0: {levels}.")), "{levels}");
        assert!(SPECIFICATION.contains(&format!("c = e + b - {OFFSET_ZERO} with b from 0 to 15")));
    }

    #[test]
    fn padding_rounds_up_to_the_alignment() {
        assert_eq!([0, 1, 63, 64, 65, usize::MAX].map(padding), [0, 63, 1, 0, 63, 1]);
    }

    #[test]
    fn a_record_beyond_the_end_is_none() {
        let bytes = [0u8; 100];
        assert!(record::<Slot>(&bytes, 36).is_some());
        assert!(record::<Slot>(&bytes, 37).is_none() && record::<Slot>(&bytes, usize::MAX).is_none());
    }
}
