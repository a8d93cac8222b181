//! The candidates of a search: all rows, or those that a filter allows, as runs of consecutive rows.
//!
//! Runs suit every selectivity: a filter that allows nearly all rows is a few long runs, a sparse one many runs of
//! single rows. Only allowed rows are ever read, and deleted rows are never allowed.

use crate::error::{Error, Result, collected};
use crate::scan::Run;
use crate::store::ids::{IdSlice, Ids};
use crate::store::segment::{Segment, find};
use std::ops::Range;

/// Which rows may be hits; applied before the best are chosen.
#[derive(Debug, Clone, Copy)]
pub enum Filter<'a> {
    /// One flag for every row of the index that has not been deleted, in order.
    Mask(&'a [bool]),
    /// Ids in any order; naming one twice allows its row once.
    Ids(IdSlice<'a>),
}

/// The runs of all rows, in order.
///
/// # Errors
/// [`Error::Memory`].
pub fn all(segments: &[Segment]) -> Result<Vec<Run>> {
    let live = segments.iter().enumerate().flat_map(|(segment, rows)| rows.live_runs().map(move |rows| Run { segment, rows }));
    collected(live, "the rows to search")
}

/// Whether the ids of the rows are 0, 1, 2, ...
pub fn numbered(segments: &[Segment]) -> bool {
    let mut first = 0;
    segments.iter().all(|segment| {
        let own = matches!(segment.ids, Ids::Consecutive(id) if id == first) && segment.deleted.count() == 0;
        first += segment.rows as i64;
        own
    })
}

/// The runs of the allowed rows, in order.
///
/// # Errors
/// [`Error::Input`]: a mask whose length is not the number of rows; ids that look like a mask; where ids are row numbers, a
/// number that is negative or too large. Other ids that the index does not hold allow nothing. No memory.
pub fn candidates(filter: Filter, segments: &[Segment]) -> Result<Vec<Run>> {
    let sizes: Vec<usize> = segments.iter().map(|segment| segment.rows).collect();
    let total: usize = segments.iter().map(Segment::live).sum();
    match filter {
        Filter::Mask(mask) => {
            if mask.len() != total {
                return Err(Error::input("filter", format!("a mask of {total} flags, one for each row"), format!("{} flags", mask.len())));
            }
            let live = all(segments)?.into_iter().flat_map(|run| numbers(&sizes, run.segment, run.rows));
            Run::of(&sizes, live.zip(mask).filter(|(_, allowed)| **allowed).map(|(row, _)| row))
        }
        Filter::Ids(ids) => {
            let texts = segments.first().is_some_and(|segment| segment.ids.are_texts());
            if !ids.is_empty() && total > 0 && texts != matches!(ids, IdSlice::Texts(_)) {
                let [own, got] = if texts { ["texts", "integers"] } else { ["integers", "texts"] };
                return Err(Error::input("filter", format!("ids of rows, which are {own}, or a mask of bools"), got));
            }
            if let IdSlice::Numbers(ids) = ids {
                // Of one or two rows 0 and 1 are all there is to name.
                if ids.len() == total && total > 2 && ids.iter().all(|id| matches!(id, 0 | 1)) {
                    let got = format!(
                        "{total} numbers that are all 0 or 1, for {total} rows; if they are a mask, give it as filter.astype(bool)"
                    );
                    return Err(Error::input("filter", "ids of rows, or a mask of bools", got));
                }
                if numbered(segments) {
                    return by_number(ids, &sizes);
                }
            }
            let found = ids.iter().filter_map(|id| find(segments, id)).map(|(segment, row)| number(&sizes, segment, row));
            ascending(found, &sizes)
        }
    }
}

/// The runs of rows whose ids are their numbers.
fn by_number(ids: &[i64], sizes: &[usize]) -> Result<Vec<Run>> {
    let total: usize = sizes.iter().sum();
    if let Some(&id) = ids.iter().find(|&&id| id < 0 || id as u64 >= total as u64) {
        return Err(match total {
            0 => Error::input("filter", "no ids, as there are no rows", id),
            _ => Error::input("filter", format!("row numbers from 0 to {}", total - 1), id),
        });
    }
    ascending(ids.iter().map(|&id| id as usize), sizes)
}

/// The runs of rows in any order, some perhaps named twice.
fn ascending(rows: impl Iterator<Item = usize>, sizes: &[usize]) -> Result<Vec<Run>> {
    let mut sorted = collected(rows, "the row numbers of a filter")?;
    sorted.sort_unstable();
    sorted.dedup();
    Run::of(sizes, sorted.into_iter())
}

/// The number, in the whole index, of a row of a segment.
fn number(sizes: &[usize], segment: usize, row: usize) -> usize {
    sizes[..segment].iter().sum::<usize>() + row
}

fn numbers(sizes: &[usize], segment: usize, rows: Range<usize>) -> Range<usize> {
    let first = number(sizes, segment, 0);
    first + rows.start..first + rows.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::BytesMut;
    use crate::store::deleted::Deleted;
    use crate::store::section::Section;

    fn segments(sizes: &[usize], ids: Option<&[i64]>) -> Vec<Segment> {
        let mut first = 0;
        let empty = || Section::whole(BytesMut::zeroed(0, "a test").unwrap().freeze().unwrap());
        let mut segment = |&rows: &usize| {
            let own = match ids {
                Some(ids) => Ids::copy(IdSlice::Numbers(&ids[first..first + rows])).unwrap(),
                None => Ids::Consecutive(first as i64),
            };
            first += rows;
            let (values, norms, scales) = (empty(), empty(), empty());
            Segment { rows, values, norms, scales, codes: None, ids: own, deleted: Deleted::default() }
        };
        sizes.iter().map(&mut segment).collect()
    }

    fn by_ids<'a>(ids: &'a [i64]) -> Filter<'a> {
        Filter::Ids(IdSlice::Numbers(ids))
    }

    fn run(segment: usize, rows: Range<usize>) -> Run {
        Run { segment, rows }
    }

    #[test]
    fn a_mask_and_its_row_numbers_name_the_same_runs() {
        let mask = [true, true, false, true, true, true, false];
        let want = vec![run(0, 0..2), run(0, 3..4), run(2, 0..2)];
        let segments = segments(&[4, 0, 3], None);
        assert_eq!(candidates(Filter::Mask(&mask), &segments).unwrap(), want);
        assert_eq!(candidates(by_ids(&[5, 0, 3, 1, 4, 0]), &segments).unwrap(), want);
    }

    #[test]
    fn an_empty_filter_allows_no_row() {
        assert_eq!(all(&segments(&[4, 3], None)).unwrap(), vec![run(0, 0..4), run(1, 0..3)]);
        assert_eq!(candidates(by_ids(&[]), &segments(&[4], None)).unwrap(), vec![]);
    }

    #[test]
    fn deleted_rows_are_never_allowed_and_masks_leave_them_out() {
        let mut segments = segments(&[4, 3], None);
        segments[0].deleted.insert(1);
        segments[1].deleted.insert(0);
        assert_eq!(all(&segments).unwrap(), vec![run(0, 0..1), run(0, 2..4), run(1, 1..3)]);
        assert_eq!(candidates(by_ids(&[1, 2, 4, 6, 99, -1]), &segments).unwrap(), vec![run(0, 2..3), run(1, 2..3)]);
        assert_eq!(candidates(Filter::Mask(&[false, true, false, true, false]), &segments).unwrap(), vec![run(0, 2..3), run(1, 1..2)]);
        assert!(candidates(Filter::Mask(&[true; 7]), &segments).is_err());
    }

    #[test]
    fn ids_of_the_users_are_found_and_others_allow_nothing() {
        let segments = segments(&[2, 3], Some(&[70, -5, 9, 8, 70_000]));
        assert_eq!(candidates(by_ids(&[8, -5, 0, 8]), &segments).unwrap(), vec![run(0, 1..2), run(1, 1..2)]);
        assert!(candidates(Filter::Ids(IdSlice::Texts(&["8"])), &segments).unwrap_err().to_string().contains("integers"));
    }

    #[test]
    fn rows_outside_and_masks_of_another_length_are_refused() {
        for filter in [by_ids(&[-1]), by_ids(&[7]), Filter::Mask(&[true; 6]), Filter::Mask(&[true; 8])] {
            assert!(candidates(filter, &segments(&[4, 3], None)).unwrap_err().to_string().starts_with("filter: expected"));
        }
    }

    #[test]
    fn row_numbers_that_look_like_a_mask_are_refused() {
        for mask in [[0i64, 1, 1], [0; 3], [1; 3]] {
            let refused = candidates(by_ids(&mask), &segments(&[2, 1], None)).unwrap_err().to_string();
            assert!(refused.starts_with("filter: expected") && refused.contains("astype(bool)"), "{refused}");
        }
        assert_eq!(candidates(by_ids(&[1, 0, 1, 1]), &segments(&[2, 1], None)).unwrap(), vec![run(0, 0..2)]);
        assert_eq!(candidates(by_ids(&[1, 1]), &segments(&[2], None)).unwrap(), vec![run(0, 1..2)]);
        assert_eq!(candidates(by_ids(&[0]), &segments(&[1], None)).unwrap(), vec![run(0, 0..1)]);
    }
}
