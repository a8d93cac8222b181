//! The codes of a file: F19 to F21, all or nothing.
//!
//! Of a quantizer, the record, centre and steps are checked. Its axes can take 64 MB and are not read; a wrong value among
//! them does no more harm than a wrong value of a row.

use super::check::{Checked, ensure, same};
use super::index_record::IndexRecord;
use super::layout::{self, MAX_CODED_DIMS, MIN_CODED_DIMS, RECORD_BYTES};
use super::section::{self, CodeLayout, Kind, Section, SegmentLayout};
use crate::quantize::LINE_DIMS;
use std::ops::Range;

/// Bounds grow by four times the skew: beyond this they prune nothing.
pub const MAX_SKEW: f64 = 1e-3;

/// The quantizer of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizerRecord {
    /// Coordinates that lines hold, a multiple of 8 from 8 to dims.
    pub leading: usize,
    /// How far the axes are from orthonormal, below [`MAX_SKEW`].
    pub skew: f64,
    /// Where centre, steps and axes lie, one after the other.
    pub values: Range<usize>,
}

/// F19 to F21: the quantizer, none if the file has no codes, and where codes lie, added to `segments`.
///
/// `payload` gives the bytes of the quantizer section, which starts where it is told.
pub(super) fn read<'a>(
    sections: &[Section],
    index: &IndexRecord,
    segments: &mut [SegmentLayout],
    sealed: bool,
    payload: impl FnOnce(Range<usize>) -> &'a [u8],
) -> Checked<Option<QuantizerRecord>> {
    let parts = section::parts(sections, Kind::is_code);
    if parts.is_empty() {
        return Ok(None);
    }
    ensure(index.level.may_have_codes(), || format!("F19: codes: expected none at level {}, got some", index.level.name()))?;
    ensure((MIN_CODED_DIMS as usize..=MAX_CODED_DIMS as usize).contains(&index.dims), || {
        format!("F19: dims of rows with codes: expected {MIN_CODED_DIMS} to {MAX_CODED_DIMS}, got {}", index.dims)
    })?;
    let (expected, got) = (1 + 3 * segments.len(), parts.len());
    // Segments of a file that may grow have codes once they are large.
    ensure(got == expected || !sealed && got < expected, || {
        format!("F19: sections of codes: expected {expected}, being a quantizer and lines, factors, remainder for each segment, got {got}")
    })?;
    let rows: u64 = segments.iter().map(|segment| segment.rows).sum();
    let mut quantizer = None;
    let mut codes: Vec<[Option<&Section>; 3]> = vec![[None; 3]; segments.len()];
    for (section, kind) in parts {
        let segment = section.segment as usize;
        let (place, rows) = match kind {
            Kind::Lines => (&mut codes[segment][0], segments[segment].rows),
            Kind::Factors => (&mut codes[segment][1], segments[segment].rows),
            Kind::Remainder => (&mut codes[segment][2], segments[segment].rows),
            _ => (&mut quantizer, rows),
        };
        ensure(place.is_none(), || format!("F19: {}: expected one, got two", section.name()))?;
        same("F19", &format!("rows of the {}", section.name()), rows, section.rows)?;
        *place = Some(section);
    }
    let quantizer = quantizer.ok_or("F19: quantizer section: expected one, got none")?;
    check_length("F20", quantizer, Kind::Quantizer, index, 0)?;
    let record = QuantizerRecord::check(payload(quantizer.payload.clone()), quantizer.payload.clone(), index.dims)?;
    for (segment, parts) in segments.iter_mut().zip(codes) {
        if !sealed && parts.iter().all(Option::is_none) {
            continue;
        }
        let place = |part: usize, kind: Kind| {
            let section: &Section = parts[part].ok_or_else(|| format!("F19: {} section: expected one a segment, got none", kind.name()))?;
            check_length("F21", section, kind, index, record.leading)?;
            Ok::<_, String>(section.payload.clone())
        };
        let [lines, factors, remainder] = [place(0, Kind::Lines)?, place(1, Kind::Factors)?, place(2, Kind::Remainder)?];
        segment.codes = Some(CodeLayout { lines, factors, remainder });
    }
    Ok(Some(record))
}

fn check_length(rule: &str, section: &Section, kind: Kind, index: &IndexRecord, leading: usize) -> Checked<()> {
    let expected = kind.payload_bytes(section.rows, index, leading);
    same(rule, &format!("length of the {}", section.name()), expected, section.payload.len() as u64)
}

impl QuantizerRecord {
    /// F20 and F10: `payload`, as long as dims make it, stands at `place`.
    fn check(payload: &[u8], place: Range<usize>, dims: usize) -> Checked<Self> {
        let stored: layout::Quantizer = layout::record(payload, 0).ok_or("F20: quantizer: expected a whole record, got less")?;
        same("F10", "reserved bytes of the quantizer", [0; 13], stored.reserved)?;
        let leading = stored.leading as usize;
        ensure(leading.is_multiple_of(LINE_DIMS) && (LINE_DIMS..=dims).contains(&leading), || {
            format!("F20: leading: expected a multiple of {LINE_DIMS} from {LINE_DIMS} to {dims}, got {leading}")
        })?;
        let skew = stored.skew;
        // A NaN is in no range.
        ensure((0.0..MAX_SKEW).contains(&skew), || format!("F20: skew: expected 0 to below {MAX_SKEW}, got {skew}"))?;
        let values = payload[RECORD_BYTES..].chunks_exact(size_of::<f32>()).map(bytemuck::pod_read_unaligned::<f32>);
        for (at, value) in values.take(2 * dims).enumerate() {
            if at < dims {
                ensure(value.is_finite(), || format!("F20: centre: expected finite values, got {value}"))?;
            } else {
                ensure(value.is_finite() && value > 0.0, || format!("F20: steps: expected finite values above 0, got {value}"))?;
            }
        }
        Ok(QuantizerRecord { leading, skew, values: place.start + RECORD_BYTES..place.end })
    }
}
