//! The candidates of a search: all rows, or those that a filter allows, as runs of consecutive rows.
//!
//! Runs suit every selectivity: a filter that allows nearly all rows is a few long runs, a sparse one many runs of
//! single rows. Only allowed rows are ever read.

use crate::error::{Error, Result, collected};
use crate::scan::Run;

/// Which rows may be hits; applied before the best are chosen.
#[derive(Debug, Clone, Copy)]
pub enum Filter<'a> {
    /// One flag for every row of the index.
    Mask(&'a [bool]),
    /// Row numbers in any order; naming a row twice allows it once.
    Rows(&'a [i64]),
}

/// The runs of the allowed rows, in order. `sizes` holds the number of rows of each segment.
///
/// # Errors
/// [`Error::Input`]: a mask whose length is not the number of rows; a row number that is negative or too large; row numbers
/// that look like a mask; no memory.
pub fn candidates(filter: Option<Filter>, sizes: &[usize]) -> Result<Vec<Run>> {
    let total: usize = sizes.iter().sum();
    match filter {
        None => Ok(sizes.iter().enumerate().map(|(segment, &rows)| Run { segment, rows: 0..rows }).collect()),
        Some(Filter::Mask(mask)) => {
            if mask.len() != total {
                return Err(Error::input("filter", format!("a mask of {total} flags, one for each row"), format!("{} flags", mask.len())));
            }
            Run::of(sizes, mask.iter().enumerate().filter(|(_, allowed)| **allowed).map(|(row, _)| row))
        }
        Some(Filter::Rows(rows)) => {
            if let Some(&row) = rows.iter().find(|&&row| row < 0 || row as u64 >= total as u64) {
                return Err(Error::input("filter", format!("row numbers from 0 to {}", total - 1), row));
            }
            // Of one or two rows 0 and 1 are all there is to name.
            if rows.len() == total && total > 2 && rows.iter().all(|row| matches!(row, 0 | 1)) {
                let got =
                    format!("{total} numbers that are all 0 or 1, for {total} rows; if they are a mask, give it as filter.astype(bool)");
                return Err(Error::input("filter", "row numbers, or a mask of bools", got));
            }
            let mut sorted = collected(rows.iter().map(|&row| row as usize), "the row numbers of a filter")?;
            sorted.sort_unstable();
            sorted.dedup();
            Run::of(sizes, sorted.into_iter())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(segment: usize, rows: std::ops::Range<usize>) -> Run {
        Run { segment, rows }
    }

    #[test]
    fn a_mask_and_its_row_numbers_name_the_same_runs() {
        let mask = [true, true, false, true, true, true, false];
        let want = vec![run(0, 0..2), run(0, 3..4), run(2, 0..2)];
        assert_eq!(candidates(Some(Filter::Mask(&mask)), &[4, 0, 3]).unwrap(), want);
        assert_eq!(candidates(Some(Filter::Rows(&[5, 0, 3, 1, 4, 0])), &[4, 0, 3]).unwrap(), want);
    }

    #[test]
    fn no_filter_allows_every_row_and_an_empty_one_none() {
        assert_eq!(candidates(None, &[4, 3]).unwrap(), vec![run(0, 0..4), run(1, 0..3)]);
        assert_eq!(candidates(Some(Filter::Rows(&[])), &[4]).unwrap(), vec![]);
    }

    #[test]
    fn rows_outside_and_masks_of_another_length_are_refused() {
        for filter in [Filter::Rows(&[-1]), Filter::Rows(&[7]), Filter::Mask(&[true; 6]), Filter::Mask(&[true; 8])] {
            assert!(candidates(Some(filter), &[4, 3]).unwrap_err().to_string().starts_with("filter: expected"));
        }
    }

    #[test]
    fn row_numbers_that_look_like_a_mask_are_refused() {
        for mask in [[0i64, 1, 1], [0; 3], [1; 3]] {
            let refused = candidates(Some(Filter::Rows(&mask)), &[2, 1]).unwrap_err().to_string();
            assert!(refused.starts_with("filter: expected") && refused.contains("astype(bool)"), "{refused}");
        }
        assert_eq!(candidates(Some(Filter::Rows(&[1, 0, 1, 1])), &[2, 1]).unwrap(), vec![run(0, 0..2)]);
        assert_eq!(candidates(Some(Filter::Rows(&[1, 1])), &[2]).unwrap(), vec![run(0, 1..2)]);
        assert_eq!(candidates(Some(Filter::Rows(&[0])), &[1]).unwrap(), vec![run(0, 0..1)]);
    }
}
