//! The ids of a segment's rows: consecutive numbers, int64 numbers, or strings; each at most once in a segment.

use super::BytesMut;
use super::section::Section;
use crate::error::Result;
use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// An id as users know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id<'a> {
    /// A number, of any sign.
    Number(i64),
    /// Text of any length, which may be empty.
    Text(&'a str),
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Id::Number(number) => write!(out, "{number}"),
            Id::Text(text) => write!(out, "{text:?}"),
        }
    }
}

/// Several ids of one type.
#[derive(Debug, Clone, Copy)]
pub enum IdSlice<'a> {
    /// Numbers.
    Numbers(&'a [i64]),
    /// Texts.
    Texts(&'a [&'a str]),
}

impl<'a> IdSlice<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            IdSlice::Numbers(ids) => ids.len(),
            IdSlice::Texts(ids) => ids.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Id `at`.
    pub fn get(&self, at: usize) -> Id<'a> {
        match self {
            IdSlice::Numbers(ids) => Id::Number(ids[at]),
            IdSlice::Texts(ids) => Id::Text(ids[at]),
        }
    }

    /// All of them in order.
    pub fn iter(self) -> impl Iterator<Item = Id<'a>> {
        (0..self.len()).map(move |at| self.get(at))
    }
}

/// The ids of the rows of one segment.
#[derive(Debug, Clone)]
pub enum Ids {
    /// `first`, `first + 1`, ...
    Consecutive(i64),
    /// int64 numbers.
    Numbers(Section, Arc<OnceLock<Order>>),
    /// uint64 offsets of the texts' ends, then the UTF-8 bytes of all texts.
    Texts(Section, Arc<OnceLock<Order>>),
}

/// The rows of a segment by their ids.
#[derive(Debug)]
pub enum Order {
    /// Ids ascend from row to row.
    Ascending,
    /// Row numbers, by ascending id.
    Sorted(Vec<u32>),
}

impl Ids {
    /// A copy of these ids, in memory of its own; numbers that follow one another are kept as their first.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::error::Error::Memory).
    pub fn copy(ids: IdSlice) -> Result<Self> {
        match ids {
            IdSlice::Numbers(ids) => {
                let first = ids.first().copied().unwrap_or(0);
                if ids.iter().enumerate().all(|(at, &id)| first.checked_add(at as i64) == Some(id)) {
                    return Ok(Ids::Consecutive(first));
                }
                let mut bytes = BytesMut::zeroed(size_of_val(ids), "the ids")?;
                bytes.view_mut::<i64>(0..size_of_val(ids)).copy_from_slice(ids);
                Ok(Ids::numbers(Section::whole(bytes.freeze()?)))
            }
            IdSlice::Texts(ids) => {
                let texts: usize = ids.iter().map(|id| id.len()).sum();
                let mut bytes = BytesMut::zeroed(8 * ids.len() + texts, "the ids")?;
                let all = bytes.view_mut::<u8>(0..8 * ids.len() + texts);
                let (ends, mut rest) = all.split_at_mut(8 * ids.len());
                let mut end = 0u64;
                for (id, to) in ids.iter().zip(ends.chunks_exact_mut(8)) {
                    let (own, after) = std::mem::take(&mut rest).split_at_mut(id.len());
                    own.copy_from_slice(id.as_bytes());
                    rest = after;
                    end += id.len() as u64;
                    to.copy_from_slice(&end.to_le_bytes());
                }
                Ok(Ids::texts(Section::whole(bytes.freeze()?)))
            }
        }
    }

    /// Numbers that lie in a section.
    pub fn numbers(section: Section) -> Self {
        Ids::Numbers(section, Arc::default())
    }

    /// Texts that lie in a section.
    pub fn texts(section: Section) -> Self {
        Ids::Texts(section, Arc::default())
    }

    /// The same ids, of which those that lie in a section lie in another one.
    pub fn moved_to(&self, section: Section) -> Self {
        match self {
            Ids::Consecutive(first) => Ids::Consecutive(*first),
            Ids::Numbers(_, order) => Ids::Numbers(section, order.clone()),
            Ids::Texts(_, order) => Ids::Texts(section, order.clone()),
        }
    }

    /// The section that holds them, if any does.
    pub fn section(&self) -> Option<&Section> {
        match self {
            Ids::Consecutive(_) => None,
            Ids::Numbers(section, _) | Ids::Texts(section, _) => Some(section),
        }
    }

    /// The id of row `row` of `rows`; `None` where the bytes of a damaged file hold none.
    pub fn get(&self, row: usize, rows: usize) -> Option<Id<'_>> {
        match self {
            Ids::Consecutive(first) => first.checked_add(row as i64).map(Id::Number),
            Ids::Numbers(section, _) => section.view::<i64>().get(row).copied().map(Id::Number),
            Ids::Texts(section, _) => std::str::from_utf8(text(section, row, rows)?).ok().map(Id::Text),
        }
    }

    /// The row of `rows` that has this id.
    pub fn find(&self, id: Id, rows: usize) -> Option<usize> {
        match (self, id) {
            (Ids::Consecutive(first), Id::Number(number)) => {
                let row = usize::try_from(number.checked_sub(*first)?).ok()?;
                (row < rows).then_some(row)
            }
            (Ids::Numbers(section, order), Id::Number(number)) => {
                let values: &[i64] = section.view();
                order.get_or_init(|| Order::of(rows, |a, b| values[a].cmp(&values[b]))).find(rows, |row| values[row].cmp(&number))
            }
            (Ids::Texts(section, order), Id::Text(wanted)) => {
                // Texts are ordered as their bytes are.
                let order = order.get_or_init(|| Order::of(rows, |a, b| text(section, a, rows).cmp(&text(section, b, rows))));
                order.find(rows, |row| text(section, row, rows).cmp(&Some(wanted.as_bytes())))
            }
            _ => None,
        }
    }

    /// The largest number among them.
    pub fn largest(&self, rows: usize) -> Option<i64> {
        match self {
            Ids::Consecutive(first) => rows.checked_sub(1).map(|last| first.saturating_add(last as i64)),
            Ids::Numbers(section, _) => section.view::<i64>().iter().copied().max(),
            Ids::Texts(..) => None,
        }
    }

    /// Bytes of memory or of a file that they take, without an order that lookups make.
    pub fn bytes(&self) -> usize {
        self.section().map_or(0, |section| section.range.len())
    }

    /// Whether they are texts.
    pub fn are_texts(&self) -> bool {
        matches!(self, Ids::Texts(..))
    }
}

/// The bytes of the text of row `row` of `rows`; `None` where those of a damaged file are none.
fn text(section: &Section, row: usize, rows: usize) -> Option<&[u8]> {
    let bytes: &[u8] = section.view();
    let (ends, texts) = bytes.split_at_checked(8 * rows)?;
    let end = |row: usize| Some(u64::from_le_bytes(ends.get(8 * row..8 * row + 8)?.try_into().ok()?) as usize);
    let start = if row == 0 { 0 } else { end(row - 1)? };
    texts.get(start..end(row)?)
}

impl Order {
    fn of(rows: usize, compare: impl Fn(usize, usize) -> Ordering) -> Self {
        if (1..rows).all(|row| compare(row - 1, row) == Ordering::Less) {
            return Order::Ascending;
        }
        let mut sorted: Vec<u32> = (0..rows as u32).collect();
        sorted.sort_unstable_by(|&a, &b| compare(a as usize, b as usize));
        Order::Sorted(sorted)
    }

    /// The row that compares as equal, by binary search.
    fn find(&self, rows: usize, compare: impl Fn(usize) -> Ordering) -> Option<usize> {
        match self {
            Order::Ascending => {
                let (mut low, mut high) = (0, rows);
                while low < high {
                    let middle = low + (high - low) / 2;
                    match compare(middle) {
                        Ordering::Less => low = middle + 1,
                        Ordering::Greater => high = middle,
                        Ordering::Equal => return Some(middle),
                    }
                }
                None
            }
            Order::Sorted(sorted) => sorted.binary_search_by(|&row| compare(row as usize)).ok().map(|at| sorted[at] as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_finds_what_it_holds_and_nothing_else() {
        let numbers: [&[i64]; 4] = [&[5, 6, 7], &[7, -3, 5, i64::MAX, i64::MIN], &[1, 4, 9], &[i64::MAX]];
        for ids in numbers {
            let kept = Ids::copy(IdSlice::Numbers(ids)).unwrap();
            for (row, &id) in ids.iter().enumerate() {
                assert_eq!(kept.get(row, ids.len()), Some(Id::Number(id)));
                assert_eq!(kept.find(Id::Number(id), ids.len()), Some(row));
            }
            assert!([0, 8, 100, -1].iter().all(|&id| kept.find(Id::Number(id), ids.len()).is_none()));
            assert_eq!(kept.find(Id::Text("5"), ids.len()), None);
            assert_eq!(kept.largest(ids.len()), ids.iter().copied().max());
        }
        let texts = ["b", "", "ä\0", "a", "bb"];
        let kept = Ids::copy(IdSlice::Texts(&texts)).unwrap();
        for (row, &id) in texts.iter().enumerate() {
            assert_eq!((kept.get(row, 5), kept.find(Id::Text(id), 5)), (Some(Id::Text(id)), Some(row)));
        }
        assert!(["c", "ä", "aa"].iter().all(|id| kept.find(Id::Text(id), 5).is_none()));
    }
}
