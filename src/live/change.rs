//! What makes one generation of an index from another: rows added, rows deleted, segments merged.

use super::merge::Merging;
use crate::ann::ivf::default_cells;
use crate::build::coding::{self, Coding};
use crate::error::{Error, Result};
use crate::format::{self, IndexRecord, Kind, MAX_SKEW};
use crate::index::{AnnKind, AnnParams, Index};
use crate::kernel;
use crate::metric::Metric;
use crate::pool::Watch;
use crate::store::ids::{Id, IdSlice, Ids};
use crate::store::segment::{self, Segment};
use std::collections::HashMap;

/// So many segments of a size are merged into one, so that a row is copied once for each factor by which a table grows.
const FANOUT: usize = 8;
/// Segments of this many rows are merged by compaction only.
const MERGED_ROWS: usize = 1 << 16;
/// Segments from this many rows on have codes.
const CODED_ROWS: usize = 1 << 9;
/// Rows are deleted for good, and their bytes given back, once a table holds this many times the rows that it should.
pub(super) const EXCESS: f64 = 1.5;
/// Rows, and bytes of a file, below which that does not matter.
const FEW_ROWS: usize = 1024;
const FEW_BYTES: u64 = 256 << 10;
/// A quantizer is learnt again when there are this many times the rows that it was learnt from.
const OUTGROWN: usize = 4;
/// Cells or buckets are made again when this share of the rows is not in them.
const UNLISTED: f64 = 0.2;

/// Threads and interrupts of a change.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub threads: usize,
    pub watch: &'a Watch<'a>,
}

impl Work<'_> {
    fn coding(&self, about: &IndexRecord) -> Result<Coding<'_>> {
        Ok(Coding { kernel: kernel::selected()?, threads: self.threads, seed: about.seed, watch: self.watch })
    }
}

/// The ids of rows to be added: those given, or the next numbers.
pub(super) fn ids_for(index: &Index, given: Option<IdSlice>, rows: usize) -> Result<Ids> {
    let Some(given) = given else {
        if index.ids.texts == Some(true) {
            return Err(Error::input("ids", "a text for each row, as the index has texts as ids", "none"));
        }
        let last = index
            .ids
            .next
            .and_then(|next| next.checked_add(rows as i64 - 1))
            .ok_or_else(|| Error::input("ids", "ids for the rows, as the number after the largest id is beyond int64", "none"))?;
        return Ok(Ids::Consecutive(last - (rows as i64 - 1)));
    };
    check_count(given, rows)?;
    check_type(index, given)?;
    Ids::copy(given)
}

/// Each row has one id.
pub(super) fn check_count(ids: IdSlice, rows: usize) -> Result<()> {
    if ids.len() == rows { Ok(()) } else { Err(Error::input("ids", format!("{rows} ids, one for each row"), format!("{} ids", ids.len()))) }
}

/// Ids of an index are of one type.
pub(super) fn check_type(index: &Index, given: IdSlice) -> Result<()> {
    let texts = matches!(given, IdSlice::Texts(_));
    match index.ids.texts.filter(|&own| own != texts && !given.is_empty()) {
        Some(true) => Err(Error::input("ids", "texts, as the index has texts as ids", "numbers")),
        Some(false) => Err(Error::input("ids", "integers, as the index has integers as ids", "texts")),
        None => Ok(()),
    }
}

/// Refuses ids that occur twice.
pub(super) fn check_distinct(ids: IdSlice) -> Result<()> {
    let mut first = HashMap::with_capacity(ids.len());
    for (at, id) in ids.iter().enumerate() {
        if let Some(before) = first.insert(id, at) {
            let got = format!("{id} at rows {before} and {at}");
            return Err(Error::input("ids", "each id once", got));
        }
    }
    Ok(())
}

/// Refuses ids that the index has.
pub(super) fn check_new(index: &Index, ids: IdSlice) -> Result<()> {
    let taken = ids.iter().find(|&id| segment::find(&index.segments, id).is_some());
    taken.map_or(Ok(()), |id| {
        let expected = "ids that the index does not have; upsert replaces rows";
        Err(Error::input("ids", expected, id))
    })
}

/// The positions of the last row of each id, ascending, if any id occurs twice.
pub(super) fn last_of_each(ids: IdSlice) -> Option<Vec<usize>> {
    let last: HashMap<Id, usize> = ids.iter().enumerate().map(|(at, id)| (id, at)).collect();
    (last.len() < ids.len()).then(|| {
        let mut rows: Vec<usize> = last.into_values().collect();
        rows.sort_unstable();
        rows
    })
}

/// The index without the rows of these ids, and how many there were.
pub(super) fn without(mut index: Index, ids: IdSlice) -> (Index, usize) {
    let mut count = 0;
    for id in ids.iter() {
        if let Some((at, row)) = segment::find(&index.segments, id) {
            index.segments[at].deleted.insert(row);
            count += 1;
        }
    }
    (index, count)
}

/// The index with one more segment, and small ones merged.
pub(super) fn with_segment(mut index: Index, segment: Segment, about: &IndexRecord, work: Work) -> Result<Index> {
    let old = index.about;
    // Before the first row, all rows are of unit length, and dims may not be known.
    index.about = IndexRecord { dims: about.dims, unit: about.unit && (old.unit || index.segments.is_empty()), ..old };
    if let (Some(next), Some(largest)) = (index.ids.next, segment.ids.largest(segment.rows)) {
        index.ids.next = if largest >= next { largest.checked_add(1) } else { Some(next) };
    }
    index.ids.texts = Some(segment.ids.are_texts());
    let mut segment = segment;
    if let Some(quantizer) = index.quantizer.as_ref().filter(|_| segment.rows >= CODED_ROWS) {
        let rows = segment::rows(about.dims, about.level, &segment, 0);
        segment.codes = Some(coding::encode(work.coding(about)?, quantizer, &rows)?);
    }
    index.segments.push(segment);
    if let Some(file) = &mut index.file {
        file.stored.push(None);
    }
    merge_small(index, work)
}

/// A segment without the rows that have been deleted in it.
pub(super) fn alone(about: &IndexRecord, segment: Segment, work: Work) -> Result<Segment> {
    Merging { about, quantizer: None, coding: work.coding(about)? }.merge(&[segment])
}

/// Merges the last segments while there are `FANOUT` or more of about one size.
fn merge_small(mut index: Index, work: Work) -> Result<Index> {
    let listed = index.listed_segments();
    loop {
        let sizes: Vec<usize> = index.segments.iter().map(|segment| segment.rows).collect();
        let Some(first) = mergeable(&sizes, listed) else { return Ok(index) };
        let rows: usize = index.segments[first..].iter().map(Segment::live).sum();
        check_sources(&index, first, work)?;
        let merged = if rows == 0 {
            None
        } else {
            let quantizer = index.quantizer.as_ref().filter(|_| rows >= CODED_ROWS);
            let merging = Merging { about: &index.about, quantizer, coding: work.coding(&index.about)? };
            Some(merging.merge(&index.segments[first..])?)
        };
        index.segments.truncate(first);
        if let Some(file) = &mut index.file {
            file.stored.truncate(first);
            file.stored.extend(merged.iter().map(|_| None));
        }
        index.segments.extend(merged);
    }
}

/// Where the last segments begin that are to be merged: the last `FANOUT` of a size, and all after them.
fn mergeable(sizes: &[usize], listed: usize) -> Option<usize> {
    let class = |rows: usize| rows.max(1).ilog(FANOUT);
    let small = sizes.iter().rposition(|&rows| rows >= MERGED_ROWS).map_or(0, |at| at + 1).max(listed);
    let tail = &sizes[small..];
    // Sizes fall towards the end, but for the last: whatever is smaller than a later one goes with it.
    (0..tail.len())
        .find(|&at| {
            let own = class(tail[at]);
            tail[at..].iter().filter(|&&rows| class(rows) >= own).count() >= FANOUT
        })
        .map(|at| small + at)
}

/// F17 of the segments from `first` on that lie in a file: what is copied must be right.
fn check_sources(index: &Index, first: usize, work: Work) -> Result<()> {
    let Some(file) = &index.file else { return Ok(()) };
    for (segment, stored) in index.segments.iter().zip(&file.stored).skip(first) {
        let own = |section: &&format::Section| Some(section.segment) == *stored;
        for section in file.sections.iter().filter(own) {
            if let Some(bytes) = section.kind.and_then(|kind| section_of(segment, kind)) {
                format::check_section(section, bytes.view(), &file.path, &|| work.watch.check())?;
            }
        }
    }
    Ok(())
}

/// The bytes of a segment that a section of some kind holds.
pub(super) fn section_of(segment: &Segment, kind: Kind) -> Option<&crate::store::section::Section> {
    match kind {
        Kind::Rows => Some(&segment.values),
        Kind::Norms => Some(&segment.norms),
        Kind::Scales => Some(&segment.scales),
        Kind::Lines => segment.codes.as_ref().map(|codes| &codes.lines),
        Kind::Factors => segment.codes.as_ref().map(|codes| &codes.factors),
        Kind::Remainder => segment.codes.as_ref().map(|codes| &codes.remainder),
        Kind::Numbers | Kind::Texts => segment.ids.section(),
        _ => None,
    }
}

/// Whether an index is as a builder makes it: in one segment, from which nothing has been deleted.
pub(super) fn is_plain(index: &Index) -> bool {
    let whole = index.segments.iter().all(|segment| segment.deleted.count() == 0);
    whole && index.segments.len() <= 1 && !outgrown(index)
}

/// Whether an index, in a file of `file_bytes`, should be compacted, at `most` times the rows or bytes that it should have.
pub(super) fn is_due(index: &Index, file_bytes: u64, most: f64) -> bool {
    let (rows, live) = (index.rows(), index.live_rows());
    let excess = |all: f64, own: f64| all > most * own;
    let own_bytes = index.bytes() as f64 * live as f64 / rows.max(1) as f64;
    rows > FEW_ROWS && excess(rows as f64, live as f64)
        || file_bytes > FEW_BYTES && excess(file_bytes as f64, own_bytes)
        || outgrown(index)
        || index.ann().is_some() && (index.unlisted_rows() as f64) > UNLISTED * live as f64
}

/// Whether a quantizer should be learnt, for the first time or again.
fn outgrown(index: &Index) -> bool {
    let (level, dims, live) = (index.about.level, index.about.dims, index.live_rows());
    let Some(first) = index.segments.first() else { return false };
    match &index.quantizer {
        Some(_) => live >= OUTGROWN * first.rows,
        // A table that was large enough from the start was built without codes, as its user wanted.
        None => coding::worthwhile(level, live, dims) && !coding::worthwhile(level, first.rows, dims),
    }
}

/// The index of the rows that are left, in one segment, with codes and cells or buckets as if it had just been built.
pub(super) fn compacted(index: &Index, work: Work) -> Result<Index> {
    check_sources(index, 0, work)?;
    let (about, live) = (index.about, index.live_rows());
    if live == 0 {
        let mut empty = Index::in_memory(about, Vec::new(), None);
        empty.ids = index.ids;
        return Ok(empty);
    }
    let coding = work.coding(&about)?;
    let learn = outgrown(index);
    let kept = index.quantizer.as_ref().filter(|_| !learn);
    let mut segment = Merging { about: &about, quantizer: kept, coding }.merge(&index.segments)?;
    let mut quantizer = kept.cloned();
    if learn || index.quantizer.is_some() && quantizer.is_none() {
        let rows = segment::rows(about.dims, about.level, &segment, 0);
        let learnt = coding::learn(coding, about.level, &rows)?;
        if learnt.skew < MAX_SKEW {
            segment.codes = Some(coding::encode(coding, &learnt, &rows)?);
            quantizer = Some(learnt);
        }
    }
    let ids = index.ids;
    let mut compact = Index::in_memory(about, vec![segment], quantizer);
    compact.ids = ids;
    if let Some((ann, tuning)) = index.ann() {
        let chosen = AnnParams { recall: tuning.recall, ..AnnParams::default() };
        let params = match ann.cells() {
            Some(ivf) => {
                // The number of cells grows with the rows, unless the user has chosen it.
                let own = ivf.cells() != default_cells(index.listed_rows());
                let cells = own.then(|| ivf.cells().min(live) as i64);
                AnnParams { kind: Some(AnnKind::Ivf), cells, spill: ivf.spilled(), ..chosen }
            }
            // Buckets hash directions, which serve rows that differ in length no more.
            None if about.metric != Metric::Cosine && !about.unit => AnnParams { kind: Some(AnnKind::Ivf), ..chosen },
            None => AnnParams { kind: Some(AnnKind::Lsh), ..chosen },
        };
        compact.cluster(&params, Some(work.threads as i64), work.watch)?;
    }
    Ok(compact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_copied_a_few_times_while_a_table_grows_by_single_rows() {
        let (mut sizes, mut copied) = (Vec::new(), 0);
        for _ in 0..100_000 {
            sizes.push(1);
            while let Some(first) = mergeable(&sizes, 0) {
                let rows = sizes[first..].iter().sum();
                sizes.truncate(first);
                sizes.push(rows);
                copied += rows;
            }
            assert!(sizes.len() <= 7 * 6 + 2, "{sizes:?}");
        }
        assert!(copied < 6 * 100_000, "{copied}");
        assert_eq!(sizes.iter().sum::<usize>(), 100_000);
    }

    #[test]
    fn the_last_of_equal_ids_counts() {
        assert_eq!(last_of_each(IdSlice::Numbers(&[3, 1, 3, 2])), Some(vec![1, 2, 3]));
        assert_eq!(last_of_each(IdSlice::Numbers(&[3, 1, 2])), None);
        assert!(check_distinct(IdSlice::Texts(&["a", "b", "a"])).is_err());
    }
}
