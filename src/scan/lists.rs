//! Search by codes over the inverted lists of some cells: as `single.rs`, but codes of the leading dims and residual
//! norms are stored list by list, copied from the rows'; the other codes are read from the rows' segments.
//!
//! With a query code whose bounds always hold, the answer is that of reading every row of the lists; with one whose
//! bounds hold with high probability, rows may be missed. Either is the same on every CPU. A row may be in several
//! lists and counts once.

use super::query::Query;
use super::refine::{self, FullBound};
use super::threshold::{self, CoarseBounds, SeedRows, by_key, reached_by, up, zero_rows};
use super::{Plan, Queries};
use crate::error::{Result, filled};
use crate::kernel::{CoarseQuery, Kernel, Lines, prefetch};
use crate::quantize::bound;
use crate::quantize::query_code::QueryCode;
use crate::quantize::{BLOCK, Quantizer};
use crate::store::lists::{ListCodes, Lists, NO_ROW};
use crate::store::rows::{PanelBuffer, Rows};
use crate::topk::TopK;
use std::ops::Range;

/// The threshold is seeded by reading this many rows for each hit wanted, and at least `MIN_SEED_ROWS`.
const SEED_FACTOR: usize = 2;
const MIN_SEED_ROWS: usize = 32;
/// How many rows ahead of a full bound its codes are prefetched.
const AHEAD: usize = 8;
/// Bounds that are compared with the threshold at a time.
const CHUNK: usize = 4096;

/// Which rows of the index a search may return, one bit each.
#[derive(Debug, Default)]
pub struct Mask(Vec<u64>);

impl Mask {
    /// A mask that allows none of `rows` rows; an error where there is no memory.
    pub fn none(rows: usize) -> Result<Self> {
        Ok(Mask(filled(rows.div_ceil(64), 0, "the rows of a filter")?))
    }

    /// Allows some rows.
    pub fn allow(&mut self, rows: Range<usize>) {
        for word in rows.start / 64..rows.end.div_ceil(64) {
            let (from, to) = (rows.start.max(64 * word) % 64, rows.end.min(64 * word + 64) - 64 * word);
            self.0[word] |= u64::MAX >> (64 - (to - from)) << from;
        }
    }

    /// Whether a row is allowed; rows outside the mask are not.
    #[inline(always)]
    pub fn allows(&self, row: usize) -> bool {
        self.0.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }
}

/// Inverted lists and the codes of their entries.
#[derive(Debug, Clone, Copy)]
pub struct CodedLists<'a> {
    /// The functions that compute bounds.
    pub kernel: &'a Kernel,
    /// The quantizer of the codes.
    pub quantizer: &'a Quantizer,
    /// Row numbers by cell.
    pub lists: &'a Lists<'a>,
    /// The entries' codes.
    pub codes: &'a ListCodes<'a>,
}

impl CodedLists<'_> {
    /// Writes coarse bounds of the cosines of a cell's entries to `out`, query after query, and prefetches the codes
    /// of the cell `next`.
    pub fn bound(&self, queries: &[CoarseQuery], cell: usize, next: Option<usize>, out: &mut [f32]) {
        let CodedLists { kernel, quantizer, lists, codes } = self;
        let block_bytes = quantizer.block_bytes();
        let lines = |entries: &Range<usize>| &codes.lines[entries.start / BLOCK * block_bytes..entries.end / BLOCK * block_bytes];
        let (entries, next) = (lists.entries(cell), next.map_or(0..0, |next| lists.entries(next)));
        prefetch(&codes.offsets[next.clone()]);
        prefetch(&codes.leading_residuals[next.clone()]);
        prefetch(&codes.trailing_residuals[next.clone()]);
        prefetch(&lists.rows[next.clone()]);
        let lines = Lines {
            codes: lines(&entries),
            offsets: &codes.offsets[entries.clone()],
            leading: &codes.leading_residuals[entries.clone()],
            trailing: &codes.trailing_residuals[entries],
            next: lines(&next),
        };
        (kernel.bounds)(queries, &lines, out);
    }
}

/// A worker's buffers.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Coarse bounds of cosines, cell after cell.
    cosines: Vec<f32>,
    /// Coarse bounds of keys in the same order, where [`by_key`] holds.
    keys: Vec<f32>,
    candidates: Candidates,
}

/// The rows of one segment that are not excluded yet.
#[derive(Debug, Default)]
struct Candidates {
    entries: Vec<Entry>,
    /// Full bound and row number within the segment.
    rows: Vec<(f64, usize)>,
    visited: Visited,
    positions: Vec<u32>,
    buffer: PanelBuffer,
}

/// An entry of an inverted list whose row may be among the best.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The coarse bound that is compared with the threshold.
    bound: f32,
    /// The coarse bound of the cosine.
    cosine: f32,
    /// Position in the lists.
    position: usize,
    /// Row number within the segment.
    row: usize,
}

/// The search of one query in the inverted lists of some cells.
#[derive(Debug, Clone, Copy)]
pub struct ListScan<'a> {
    /// The parameters that all queries share.
    pub plan: &'a Plan<'a>,
    /// All queries.
    pub queries: &'a Queries,
    /// The position of this one among them.
    pub query: usize,
    /// Its code.
    pub query_code: &'a QueryCode,
    /// Whether the code's bounds always hold, not only with high probability. Only then the tally's `best_left` is set.
    pub certain: bool,
    /// The inverted lists.
    pub lists: CodedLists<'a>,
    /// All rows.
    pub segments: &'a [Rows<'a>],
    /// The cells to visit, each once.
    pub cells: &'a [u32],
    /// Which rows may be returned; `None`: all.
    pub mask: Option<&'a Mask>,
    /// Rows at most that are read in full, those of the highest bounds; `None`: all that may be among the best.
    pub reorder: Option<usize>,
}

impl ListScan<'_> {
    /// Offers every row of the cells that may be among the query's best to `top`. `bounds` are the coarse bounds of
    /// the cells in order, if they have been computed for a batch.
    pub fn run<'a>(&self, bounds: Option<impl Iterator<Item = &'a [f32]>>, top: &mut TopK, scratch: &mut Scratch) {
        let Scratch { cosines, keys, candidates } = scratch;
        cosines.clear();
        match bounds {
            Some(bounds) => bounds.for_each(|bounds| cosines.extend_from_slice(bounds)),
            None => self.coarse_bounds(cosines),
        }
        keys.clear();
        if by_key(self.plan) {
            let rows = self.cells.iter().flat_map(|&cell| &self.lists.lists.rows[self.lists.lists.entries(cell as usize)]);
            keys.extend(cosines.iter().zip(rows).map(|(&cosine, &row)| self.key_bound(cosine, row)));
        }
        top.tally.code_bytes += (cosines.len() * self.lists.quantizer.line_bytes()) as u64;
        let bounds = CoarseBounds { cosines, compared: if by_key(self.plan) { keys } else { cosines } };
        let query = Query { plan: self.plan, queries: self.queries, index: self.query };
        let full = FullBound { query, query_code: self.query_code, quantizer: self.lists.quantizer };
        for segment in self.segments {
            SegmentSearch { scan: self, full, bounds, segment: &segment.scattered() }.run(top, candidates);
        }
    }

    /// Coarse bounds of the cosines of all entries of the cells, cell after cell.
    fn coarse_bounds(&self, cosines: &mut Vec<f32>) {
        let entries = |cell: u32| self.lists.lists.entries(cell as usize).len();
        cosines.resize(self.cells.iter().map(|&cell| entries(cell)).sum(), 0.0);
        let (mut left, query) = (cosines.as_mut_slice(), self.query_code.coarse_query());
        for (i, &cell) in self.cells.iter().enumerate() {
            let next = self.cells.get(i + 1).map(|&next| next as usize);
            let own;
            (own, left) = left.split_at_mut(entries(cell));
            self.lists.bound(&[query], cell as usize, next, own);
        }
    }

    /// An upper bound of a row's key from the coarse bound of its cosine; negative infinity for no row.
    fn key_bound(&self, cosine: f32, row: u32) -> f32 {
        let norm = self.segments.iter().find_map(|segment| Some(segment.norms[segment.local_row(u64::from(row))?]));
        norm.map_or(f32::NEG_INFINITY, |norm| {
            up(bound::key_bound(self.plan.metric, self.query_code.max_cosine(cosine), self.queries.norm(self.query), norm))
        })
    }
}

/// The entries of one segment's rows.
struct SegmentSearch<'a> {
    scan: &'a ListScan<'a>,
    full: FullBound<'a>,
    /// Of all entries, whatever their segment.
    bounds: CoarseBounds<'a>,
    segment: &'a Rows<'a>,
}

impl SegmentSearch<'_> {
    /// Reads the rows that may be among the best.
    fn run(&self, top: &mut TopK, candidates: &mut Candidates) {
        let (query, segment) = (self.full.query, self.segment);
        self.seed_entries(top, candidates);
        let Candidates { entries, rows, visited, positions, buffer } = candidates;
        visited.clear();
        entries.retain(|entry| visited.insert(entry.row));
        self.full_bounds(entries, rows, top);
        // With a limit on rows to read, this pass reads k at most: rows of higher bounds may be among the others.
        self.limit_refined(rows, query.plan.k, top);
        let read = refine::in_order(query, segment, rows, top, buffer);
        if self.scan.reorder.is_some() {
            visited.clear();
            rows[..read].iter().for_each(|row| _ = visited.insert(row.1));
        }
        let least = self.least(top);
        let exclude_zero = zero_rows(query, segment.norms, top.threshold());
        entries.clear();
        self.scan(least, positions, |entry| {
            if !exclude_zero(entry.row, entry.bound, top) && visited.insert(entry.row) {
                entries.push(entry);
            }
            least
        });
        self.full_bounds(entries, rows, top);
        self.limit_refined(rows, usize::MAX, top);
        refine::in_order(query, segment, rows, top, buffer);
        if self.scan.certain {
            top.tally.best_left = top.tally.best_left.max(threshold::max_key_below(query, self.bounds.compared, least));
        }
    }

    /// What a row's coarse bound must reach for its key to reach the threshold.
    fn least(&self, top: &TopK) -> f32 {
        let least = threshold::least(self.full.query, top.threshold());
        if by_key(self.scan.plan) { least } else { self.scan.query_code.min_bound(least) }
    }

    /// Drops all but the rows of the highest bounds where there is a limit on rows to read: those that it still
    /// allows, `most` at most.
    fn limit_refined(&self, rows: &mut Vec<(f64, usize)>, most: usize, top: &TopK) {
        let Some(reorder) = self.scan.reorder else { return };
        let left = reorder.saturating_sub(top.tally.refined as usize).min(most);
        if left > 0 && rows.len() > left {
            rows.select_nth_unstable_by(left - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        rows.truncate(left);
    }

    /// Calls `each` with the entries of allowed rows of the segment whose coarse bound is not below what `each` last
    /// returned, `least` at first.
    fn scan(&self, mut least: f32, positions: &mut Vec<u32>, mut each: impl FnMut(Entry) -> f32) {
        let (scan, segment, CoarseBounds { cosines, compared }) = (self.scan, self.segment, self.bounds);
        let lists = scan.lists.lists;
        let (first, end) = (segment.first, segment.first + segment.len() as u64);
        positions.resize(CHUNK.min(compared.len()), 0);
        let mut cells = scan.cells.iter().map(|&cell| lists.entries(cell as usize));
        // The cell of the last bound: its range among the bounds, and among the entries of the lists.
        let (mut own, mut entries) = (0..0, 0..0);
        for (chunk, start) in compared.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
            let count = (scan.plan.kernel.at_least)(chunk, least, &mut positions[..chunk.len()]);
            for &at in &positions[..count] {
                let at = start + at as usize;
                let bound = compared[at];
                if bound < least {
                    continue;
                }
                while at >= own.end {
                    entries = cells.next().unwrap_or(0..usize::MAX);
                    own = own.end..own.end.saturating_add(entries.len());
                }
                let position = entries.start + at - own.start;
                let row = u64::from(lists.rows[position]);
                if row != u64::from(NO_ROW) && (first..end).contains(&row) && scan.mask.is_none_or(|mask| mask.allows(row as usize)) {
                    least = each(Entry { bound, cosine: cosines[at], position, row: (row - first) as usize });
                }
            }
        }
    }

    /// Collects the entries of the highest coarse bounds, which are refined first to raise the threshold.
    fn seed_entries(&self, top: &TopK, candidates: &mut Candidates) {
        let Candidates { entries, positions, .. } = candidates;
        let count = (SEED_FACTOR * self.scan.plan.k).max(MIN_SEED_ROWS);
        let mut least = self.least(top);
        if self.scan.mask.is_none() && self.scan.segments.len() == 1 {
            least = least.max(reached_by(self.scan.plan.kernel, self.bounds.compared, count));
        }
        entries.clear();
        let mut seeds = SeedRows { rows: entries, count, bound_of: |entry: &Entry| entry.bound, least };
        self.scan(least, positions, |entry| seeds.offer(entry.bound, entry));
        seeds.cut();
    }

    /// Fills `rows` with the full bounds of the entries' rows, without those below the threshold.
    fn full_bounds(&self, entries: &[Entry], rows: &mut Vec<(f64, usize)>, top: &mut TopK) {
        rows.clear();
        let Some(codes) = &self.segment.codes else { return };
        let (list_codes, bytes) = (self.scan.lists.codes, self.full.quantizer.remainder_bytes());
        let remainder = |row: usize| &codes.remainder[row * bytes..(row + 1) * bytes];
        for (i, &Entry { cosine, position, row, .. }) in entries.iter().enumerate() {
            if let Some(next) = entries.get(i + AHEAD) {
                prefetch(remainder(next.row));
                prefetch(&list_codes.remainder_residuals[next.position..=next.position]);
            }
            let residuals =
                [list_codes.leading_residuals[position], list_codes.trailing_residuals[position], list_codes.remainder_residuals[position]];
            rows.push((self.full.key(cosine, remainder(row), residuals, (self.segment.norms, row)), row));
        }
        self.full.keep(rows, top);
    }
}

/// A set of rows already visited, as a row may be in several lists.
#[derive(Debug, Default)]
struct Visited {
    /// An open-addressing hash table with linear probing: a power of two of slots, more than half of them [`NO_ROW`].
    slots: Vec<u32>,
    count: usize,
}

impl Visited {
    /// Slots of an empty set.
    const SLOTS: usize = 1024;

    fn clear(&mut self) {
        self.slots.truncate(Self::SLOTS);
        self.slots.fill(NO_ROW);
        self.slots.resize(Self::SLOTS, NO_ROW);
        self.count = 0;
    }

    /// Adds a row; returns whether it was absent.
    fn insert(&mut self, row: usize) -> bool {
        if 2 * self.count >= self.slots.len() {
            let slots = vec![NO_ROW; (2 * self.slots.len()).max(Self::SLOTS)];
            let rows = std::mem::replace(&mut self.slots, slots);
            self.count = 0;
            rows.into_iter().filter(|&row| row != NO_ROW).for_each(|row| _ = self.insert(row as usize));
        }
        let last = self.slots.len() - 1;
        // Multiplicative hashing: the upper bits of the product depend on all bits below, so neighbours spread.
        let mut at = (row as u32).wrapping_mul(0x9e37_79b9) as usize >> 7 & last;
        while self.slots[at] != NO_ROW {
            if self.slots[at] == row as u32 {
                return false;
            }
            at = (at + 1) & last;
        }
        self.slots[at] = row as u32;
        self.count += 1;
        true
    }
}
