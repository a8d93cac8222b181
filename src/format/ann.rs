//! The cells or buckets of a file and their tuning: F22 to F25.
//!
//! Of cells, the record and the starts are checked. Row numbers are checked when they are used; other values do no more
//! harm than those of rows.

use super::check::{Checked, ensure, same};
use super::index_record::IndexRecord;
use super::layout::{self, MAX_BITS, MAX_POWER, MAX_TABLES, RECORD_BYTES, padding};
use super::section::{self, CodeLayout, Kind, Section};
use crate::metric::Metric;
use crate::quantize;
use crate::store::codes::FACTOR_BYTES;
use std::ops::Range;

/// How many cells there are, and how much they hold: where everything lies follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellShape {
    /// Values a centroid.
    pub dims: usize,
    /// Cells.
    pub cells: usize,
    /// Blocks of 16 rows in all lists.
    pub blocks: usize,
    /// Coordinates that lines hold; 0 where nothing has codes.
    pub leading: usize,
}

/// Where the parts of cells lie, each at a multiple of 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellParts {
    /// First blocks, and the end of the last.
    pub starts: Range<usize>,
    /// The least key of a row of each cell.
    pub reaches: Range<usize>,
    /// Norms of centroids.
    pub norms: Range<usize>,
    /// Centroids.
    pub centroids: Range<usize>,
    /// Their codes, if anything has codes.
    pub codes: Option<CodeLayout>,
    /// Row numbers.
    pub rows: Range<usize>,
    /// Lines and factors of listed rows, if anything has codes.
    pub listed: Option<[Range<usize>; 2]>,
    /// Where the last part ends.
    pub end: usize,
}

impl CellShape {
    /// Where the parts lie of cells whose record stands at `start`, a multiple of 64.
    pub fn parts(&self, start: usize) -> CellParts {
        // At most 2^32 cells of 2^16 values and 2^32 blocks of 2^17 bytes: far from 2^63.
        let mut end = start + RECORD_BYTES;
        let mut part = |bytes: usize| {
            let from = end + padding(end);
            end = from + bytes;
            from..end
        };
        let (cells, blocks) = (self.cells, self.blocks);
        let padded = cells.next_multiple_of(quantize::BLOCK);
        let coded = self.leading > 0;
        let (starts, reaches, norms) = (part(4 * (cells + 1)), part(8 * cells), part(8 * cells));
        let centroids = part(4 * cells * self.dims);
        let codes = coded.then(|| CodeLayout {
            lines: part(padded / quantize::BLOCK * quantize::block_bytes(self.leading)),
            factors: part(padded * FACTOR_BYTES),
            remainder: part(cells * quantize::remainder_bytes(self.dims, self.leading)),
        });
        let rows = part(4 * quantize::BLOCK * blocks);
        let listed = coded.then(|| [part(blocks * quantize::block_bytes(self.leading)), part(blocks * quantize::BLOCK * FACTOR_BYTES)]);
        CellParts { starts, reaches, norms, centroids, codes, rows, listed, end }
    }
}

/// The cells of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct CellRecord {
    /// The metric of rows and centroids.
    pub metric: Metric,
    /// Whether rows are listed in two cells each.
    pub spilled: bool,
    /// Sizes.
    pub shape: CellShape,
    /// Where everything lies in the file.
    pub parts: CellParts,
    /// The whole payload.
    pub payload: Range<usize>,
}

impl CellRecord {
    /// The record of these cells, as it stands before their parts.
    pub fn record(shape: &CellShape, metric: Metric, spilled: bool) -> layout::Cells {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        layout::Cells {
            cells: small(shape.cells),
            metric: metric as u32,
            leading: small(shape.leading),
            spilled: u32::from(spilled),
            blocks: shape.blocks as u64,
            reserved: [0; 5],
        }
    }

    /// F23 and F10 of a payload that stands at `place`.
    fn check(payload: &[u8], section: &Section, index: &IndexRecord, leading: usize) -> Checked<Self> {
        let stored: layout::Cells = layout::record(payload, 0).ok_or("F23: cells: expected a whole record, got less")?;
        same("F10", "reserved bytes of the cells", [0; 5], stored.reserved)?;
        let metric = Metric::from_code(stored.metric)
            .filter(|&metric| metric != Metric::Hamming)
            .ok_or_else(|| format!("F23: metric: expected 0 to 2, got {}", stored.metric))?;
        ensure(stored.spilled <= 1, || format!("F23: spilled: expected 0 or 1, got {}", stored.spilled))?;
        ensure((1..=section.rows).contains(&u64::from(stored.cells)), || {
            format!("F23: cells: expected 1 to {}, got {}", section.rows, stored.cells)
        })?;
        // Rows are listed twice at most, and each cell begins one block more than it fills.
        let most = 2 * section.rows.div_ceil(quantize::BLOCK as u64) + u64::from(stored.cells);
        ensure(stored.blocks <= most, || format!("F23: blocks: expected {most} at most, got {}", stored.blocks))?;
        let found = stored.leading as usize;
        ensure(found == 0 || found == leading, || format!("F23: leading: expected 0 or that of the quantizer, {leading}, got {found}"))?;
        let shape = CellShape { dims: index.dims, cells: stored.cells as usize, blocks: stored.blocks as usize, leading: found };
        let parts = shape.parts(section.payload.start);
        same("F23", &format!("length of the {}", section.name()), parts.end - section.payload.start, section.payload.len())?;
        let starts = &payload[parts.starts.start - section.payload.start..parts.starts.end - section.payload.start];
        let mut last = 0;
        for (at, bytes) in starts.as_chunks::<4>().0.iter().enumerate() {
            let next = u32::from_le_bytes(*bytes);
            ensure(if at == 0 { next == 0 } else { next >= last }, || {
                format!(
                    "F23: start of cell {at}: expected {}, got {next}",
                    if at == 0 { "0".to_owned() } else { format!("{last} or more") }
                )
            })?;
            last = next;
        }
        same("F23", "end of the last cell", stored.blocks, u64::from(last))?;
        Ok(CellRecord { metric, spilled: stored.spilled == 1, shape, parts, payload: section.payload.clone() })
    }
}

/// How large the tables of buckets are: where everything lies follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketShape {
    /// Tables.
    pub tables: usize,
    /// Bits of a bucket's number.
    pub bits: usize,
    /// Seed of the signs of the hyperplanes.
    pub seed: u64,
    /// Values that make the hyperplanes.
    pub values: usize,
    /// Starts of all tables.
    pub starts: usize,
    /// Rows of all tables.
    pub rows: usize,
    /// Keys of all tables.
    pub keys: usize,
}

/// Where the parts of buckets lie, each at a multiple of 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketParts {
    /// What makes the hyperplanes.
    pub values: Range<usize>,
    /// Where buckets, or slots of them, start in each table.
    pub starts: Range<usize>,
    /// Row numbers.
    pub rows: Range<usize>,
    /// Numbers of the rows' buckets, where starts do not tell.
    pub keys: Range<usize>,
    /// Where the last part ends.
    pub end: usize,
}

impl BucketShape {
    /// The sizes that these numbers of tables, bits, values and rows make.
    fn new(stored: &layout::Buckets, rows: u64) -> Self {
        let (tables, bits) = (stored.tables as usize, stored.bits as usize);
        // The directory of a table tells as many buckets apart as rows can.
        let told = bits.min(rows.next_power_of_two().ilog2() as usize);
        let keys = if told < bits { tables * rows as usize } else { 0 };
        let starts = tables * ((1 << told) + 1);
        BucketShape { tables, bits, seed: stored.seed, values: stored.values as usize, starts, rows: tables * rows as usize, keys }
    }

    /// Where the parts lie of buckets whose record stands at `start`, a multiple of 64.
    pub fn parts(&self, start: usize) -> BucketParts {
        let mut end = start + RECORD_BYTES;
        let mut part = |count: usize| {
            let from = end + padding(end);
            end = from + 4 * count;
            from..end
        };
        let (values, starts, rows, keys) = (part(self.values), part(self.starts), part(self.rows), part(self.keys));
        BucketParts { values, starts, rows, keys, end }
    }

    /// The record of these buckets, as it stands before their parts.
    pub fn record(&self) -> layout::Buckets {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        layout::Buckets {
            tables: small(self.tables),
            bits: small(self.bits),
            seed: self.seed,
            values: small(self.values),
            reserved: [0; 11],
        }
    }
}

/// The buckets of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketRecord {
    /// Sizes.
    pub shape: BucketShape,
    /// Where everything lies in the file.
    pub parts: BucketParts,
    /// The whole payload.
    pub payload: Range<usize>,
}

impl BucketRecord {
    /// F25 and F10.
    fn check(payload: &[u8], section: &Section) -> Checked<Self> {
        let stored: layout::Buckets = layout::record(payload, 0).ok_or("F25: buckets: expected a whole record, got less")?;
        same("F10", "reserved bytes of the buckets", [0; 11], stored.reserved)?;
        for (name, value, most) in [("tables", stored.tables, MAX_TABLES), ("bits", stored.bits, MAX_BITS)] {
            ensure((1..=most).contains(&value), || format!("F25: {name}: expected 1 to {most}, got {value}"))?;
        }
        let shape = BucketShape::new(&stored, section.rows);
        let parts = shape.parts(section.payload.start);
        same("F25", &format!("length of the {}", section.name()), parts.end - section.payload.start, section.payload.len())?;
        let inside = |range: &Range<usize>| range.start - section.payload.start..range.end - section.payload.start;
        for (table, starts) in payload[inside(&parts.starts)].as_chunks::<4>().0.chunks(shape.starts / shape.tables).enumerate() {
            let mut last = 0;
            for (at, bytes) in starts.iter().enumerate() {
                let next = u64::from(u32::from_le_bytes(*bytes));
                ensure(if at == 0 { next == 0 } else { next >= last }, || {
                    let expected = if at == 0 { "0".to_owned() } else { format!("{last} or more") };
                    format!("F25: start {at} of table {table}: expected {expected}, got {next}")
                })?;
                last = next;
            }
            same("F25", &format!("end of table {table}"), section.rows, last)?;
        }
        Ok(BucketRecord { shape, parts, payload: section.payload.clone() })
    }
}

/// Cells or buckets.
#[derive(Debug, Clone, PartialEq)]
pub enum AnnRecord {
    /// Rows by cell.
    Cells(CellRecord),
    /// Rows by bucket.
    Buckets(BucketRecord),
}

impl AnnRecord {
    /// The cells, if these are cells.
    pub fn cells(self) -> Option<CellRecord> {
        match self {
            AnnRecord::Cells(cells) => Some(cells),
            AnnRecord::Buckets(_) => None,
        }
    }
}

/// The tuning of an approximate index.
#[derive(Debug, Clone, PartialEq)]
pub struct TuningRecord {
    /// The default recall of queries.
    pub recall: f64,
    /// Queries of the measurement.
    pub queries: usize,
    /// Whether these were given; else they were rows.
    pub given: bool,
    /// Measurements, by k, then by nprobe.
    pub points: Vec<layout::TuningPoint>,
}

impl TuningRecord {
    /// The payload of a file.
    pub fn payload(&self) -> Vec<u8> {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let record = layout::Tuning {
            recall: self.recall,
            queries: small(self.queries),
            given: u32::from(self.given),
            points: small(self.points.len()),
            reserved: [0; 11],
        };
        let mut payload = bytemuck::bytes_of(&record).to_vec();
        payload.extend_from_slice(bytemuck::cast_slice(&self.points));
        payload
    }

    /// F24 and F10.
    fn check(payload: &[u8], name: &str) -> Checked<Self> {
        let stored: layout::Tuning = layout::record(payload, 0).ok_or("F24: tuning: expected a whole record, got less")?;
        same("F10", "reserved bytes of the tuning", [0; 11], stored.reserved)?;
        same("F24", &format!("length of the {name}"), (1 + u64::from(stored.points)) * RECORD_BYTES as u64, payload.len() as u64)?;
        ensure(stored.points > 0, || "F24: points: expected 1 or more, got 0".to_owned())?;
        let share = |name: &str, value: f64| ensure((0.0..=1.0).contains(&value), || format!("F24: {name}: expected 0 to 1, got {value}"));
        share("recall", stored.recall)?;
        ensure(stored.given <= 1, || format!("F24: given: expected 0 or 1, got {}", stored.given))?;
        // Grown as points are found to be good: a file may claim, and a sparse one have, any length of zeros.
        let mut points: Vec<layout::TuningPoint> = Vec::new();
        for bytes in payload[RECORD_BYTES..].chunks_exact(RECORD_BYTES) {
            let point: layout::TuningPoint = bytemuck::pod_read_unaligned(bytes);
            same("F10", "reserved bytes of a tuning point", 0, point.reserved)?;
            share("recall of a point", point.recall)?;
            share("error of a point", point.error)?;
            for (name, value) in [("visited", point.visited), ("gap", point.gap), ("far", point.far)] {
                ensure(value.is_finite() && value >= 0.0, || format!("F24: {name}: expected a finite number from 0, got {value}"))?;
            }
            ensure(point.power <= u64::from(MAX_POWER), || format!("F24: power: expected 0 to {MAX_POWER}, got {}", point.power))?;
            let last = points.last().map_or((0, 0), |last| (last.k, last.nprobe));
            ensure(point.k > 0 && point.nprobe > 0 && (point.k, point.nprobe) > last, || {
                format!("F24: k and nprobe: expected more than {last:?}, got {:?}", (point.k, point.nprobe))
            })?;
            points.push(point);
        }
        Ok(TuningRecord { recall: stored.recall, queries: stored.queries as usize, given: stored.given == 1, points })
    }
}

/// Cells or buckets, and what was measured of them.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnParts {
    /// Where they lie.
    pub record: AnnRecord,
    /// How many of the first rows are in them: all, or those of some first segments.
    pub rows: u64,
    /// Measured recall.
    pub tuning: TuningRecord,
}

/// F22 to F25: cells or buckets and what was measured of them; none if the file has nothing of it.
///
/// `rows` holds how many rows they may be of; `payload` gives the bytes of a section that lies in the file, its start at least.
pub(super) fn read<'a>(
    sections: &[Section],
    index: &IndexRecord,
    rows: &[u64],
    leading: usize,
    payload: impl Fn(Range<usize>) -> &'a [u8],
) -> Checked<Option<AnnParts>> {
    let parts = section::parts(sections, Kind::is_ann);
    if parts.is_empty() {
        return Ok(None);
    }
    ensure(index.level.has_norms(), || format!("F22: cells or buckets: expected none at level {}, got some", index.level.name()))?;
    let find = |wanted: Kind| {
        let mut found = parts.iter().filter(|&&(_, kind)| kind == wanted).map(|&(section, _)| section);
        let one = found.next().filter(|_| found.next().is_none());
        let one = one.ok_or_else(|| format!("F22: sections of kind {}: expected one, got none or two", wanted.name()))?;
        ensure(rows.contains(&one.rows), || {
            let expected = rows.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
            format!("F22: rows of the {}: expected {expected}, got {}", one.name(), one.rows)
        })?;
        Ok::<_, String>(one)
    };
    let hashed = parts.iter().any(|&(_, kind)| kind == Kind::Buckets);
    let ann = find(if hashed { Kind::Buckets } else { Kind::Cells })?;
    let tuning = find(Kind::Tuning)?;
    same("F22", "sections of cells, buckets and their tuning", 2, parts.len())?;
    let (start, ann_rows) = (payload(ann.payload.clone()), ann.rows);
    let record = if hashed {
        AnnRecord::Buckets(BucketRecord::check(start, ann)?)
    } else {
        AnnRecord::Cells(CellRecord::check(start, ann, index, leading)?)
    };
    same("F22", "rows of the tuning", ann_rows, tuning.rows)?;
    Ok(Some(AnnParts { record, rows: ann_rows, tuning: TuningRecord::check(payload(tuning.payload.clone()), &tuning.name())? }))
}
