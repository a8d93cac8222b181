//! The scan of lists: as [`certified`](super::certified), but of the rows that some cells hold, whose lines lie
//! cell by cell. What is left of a list's codes stands with the rows.
//!
//! Its answer is that of reading every listed row, or, by a look that is only likely to bound them, of nearly every
//! one; the same on every CPU either way. A row may stand in several lists and counts once.

use super::threshold::{UNIT_LENGTHS, by_key, least, max_below, reached_by, up};
use super::{Plan, Queries, refine};
use crate::kernel::{CoarseQuery, Kernel, Lines, prefetch};
use crate::metric::Metric;
use crate::quantize::bound;
use crate::quantize::query_code::QueryCode;
use crate::quantize::{BLOCK, Quantizer};
use crate::store::lists::{ListCodes, Lists, NO_ROW};
use crate::store::rows::{PanelBuffer, Rows};
use crate::topk::TopK;
use std::ops::Range;

/// Rows of the highest bounds that are looked at first: this many for each row wanted, and at least so many.
const SEED_FACTOR: usize = 2;
const MIN_SEED_ROWS: usize = 32;
/// How many rows ahead of a second look its codes are asked for.
const AHEAD: usize = 8;

/// Ranks that are compared with a floor at a time.
const TOGETHER: usize = 4096;

/// Which rows may be found, one bit each.
#[derive(Debug, Default)]
pub struct Mask(Vec<u64>);

impl Mask {
    /// No row of `rows`.
    pub fn none(rows: usize) -> Self {
        Mask(vec![0; rows.div_ceil(64)])
    }

    /// Lets a row be found.
    pub fn allow(&mut self, row: usize) {
        self.0[row / 64] |= 1 << (row % 64);
    }

    /// Whether a row may be found; one that there is not may not.
    #[inline(always)]
    pub fn allows(&self, row: usize) -> bool {
        self.0.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }
}

/// The rows of cells, and what bounds them.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    /// What computes the bounds.
    pub kernel: &'a Kernel,
    /// What made the codes.
    pub quantizer: &'a Quantizer,
    /// Rows by cell.
    pub lists: &'a Lists<'a>,
    /// Their codes.
    pub codes: &'a ListCodes<'a>,
}

impl Listing<'_> {
    /// Bounds of the rows of a cell, probe after probe; asks for the codes of the next one.
    pub fn bound(&self, probes: &[CoarseQuery], cell: usize, next: Option<usize>, out: &mut [f32]) {
        let Listing { kernel, quantizer, lists, codes } = self;
        let block_bytes = quantizer.block_bytes();
        let lines = |places: &Range<usize>| &codes.lines[places.start / BLOCK * block_bytes..places.end / BLOCK * block_bytes];
        let (places, next) = (lists.places(cell), next.map_or(0..0, |next| lists.places(next)));
        prefetch(&codes.offsets[next.clone()]);
        prefetch(&codes.leading_residuals[next.clone()]);
        prefetch(&codes.trailing_residuals[next.clone()]);
        prefetch(&lists.rows[next.clone()]);
        let lines = Lines {
            codes: lines(&places),
            offsets: &codes.offsets[places.clone()],
            leading: &codes.leading_residuals[places.clone()],
            trailing: &codes.trailing_residuals[places],
            next: lines(&next),
        };
        (kernel.bounds)(probes, &lines, out);
    }
}

/// What a worker needs besides rows.
#[derive(Debug, Default)]
pub struct Scratch {
    bounds: Vec<f32>,
    keys: Vec<f32>,
    buffer: PanelBuffer,
    found: Vec<Listed>,
    rows: Vec<(f64, usize)>,
    known: Known,
    near: Vec<u32>,
}

/// A listed row that may be among the best.
#[derive(Debug, Clone, Copy)]
struct Listed {
    /// What orders rows before they are looked at again.
    rank: f32,
    /// The first look's bound of the cosine.
    first: f32,
    /// Its place in the lists.
    place: usize,
    /// Its number in its segment.
    row: usize,
}

/// One query, and the cells that it visits.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// What every query shares.
    pub plan: &'a Plan<'a>,
    /// All queries.
    pub queries: &'a Queries,
    /// The one that asks.
    pub query: usize,
    /// As codes see it.
    pub query_code: &'a QueryCode,
    /// Whether the look bounds scores for sure: only then does the highest bound of what is left say something.
    pub certain: bool,
    /// The rows of cells.
    pub listing: Listing<'a>,
    /// All rows.
    pub segments: &'a [Rows<'a>],
    /// The cells to visit, each once.
    pub cells: &'a [u32],
    /// Which rows may be found; `None`: all.
    pub mask: Option<&'a Mask>,
    /// Rows at most that are read in full, those of the highest bounds; `None`: all that may be among the best.
    pub reorder: Option<usize>,
}

impl Visit<'_> {
    /// Offers every row of the cells that may be among the query's best; `known` are its bounds, cell by cell, if there
    /// are any yet.
    pub fn run<'a>(&self, known: Option<impl Iterator<Item = &'a [f32]>>, top: &mut TopK, scratch: &mut Scratch) {
        scratch.bounds.clear();
        match known {
            Some(known) => known.for_each(|bounds| scratch.bounds.extend_from_slice(bounds)),
            None => self.bound(&mut scratch.bounds),
        }
        scratch.keys.clear();
        if by_key(self.plan) {
            let rows = self.cells.iter().flat_map(|&cell| &self.listing.lists.rows[self.listing.lists.places(cell as usize)]);
            scratch.keys.extend(scratch.bounds.iter().zip(rows).map(|(&cosine, &row)| self.rank(cosine, row)));
        }
        top.tally.code_bytes += (scratch.bounds.len() * self.listing.quantizer.line_bytes()) as u64;
        for segment in self.segments {
            self.refine_segment(&segment.scattered(), top, scratch);
        }
    }

    /// Bounds of all rows of the cells, one cell after the other.
    fn bound(&self, bounds: &mut Vec<f32>) {
        bounds.resize(self.cells.iter().map(|&cell| self.listing.lists.places(cell as usize).len()).sum(), 0.0);
        let (mut left, probe) = (bounds.as_mut_slice(), self.query_code.coarse_query());
        for (i, &cell) in self.cells.iter().enumerate() {
            let (cell, next) = (cell as usize, self.cells.get(i + 1).map(|&next| next as usize));
            let own;
            (own, left) = left.split_at_mut(self.listing.lists.places(cell).len());
            self.listing.bound(&[probe], cell, next, own);
        }
    }

    /// A bound of the key from one of the cosine.
    fn rank(&self, cosine: f32, row: u32) -> f32 {
        let norm = self.segments.iter().find_map(|segment| Some(segment.norms[segment.own_number(u64::from(row))?]));
        norm.map_or(f32::NEG_INFINITY, |norm| {
            up(bound::key_bound(self.plan.metric, self.query_code.max_cosine(cosine), self.queries.norm(self.query), norm))
        })
    }

    /// What the rank of a row reaches whose key reaches the floor.
    fn least(&self, threshold: f64) -> f32 {
        let least = least(self.plan, threshold, self.queries.norm(self.query));
        if by_key(self.plan) { least } else { self.query_code.min_bound(least) }
    }

    /// Reads the rows of one segment that may be among the best.
    fn refine_segment(&self, segment: &Rows, top: &mut TopK, scratch: &mut Scratch) {
        let Scratch { bounds, keys, buffer, found, rows, known, near } = scratch;
        let (plan, norm) = (self.plan, self.queries.norm(self.query));
        let ranks: &[f32] = if by_key(plan) { keys } else { bounds };
        self.seed_threshold(segment, (bounds, ranks), top, (found, near));
        known.clear();
        found.retain(|listed| known.add(listed.row));
        self.full_bounds(segment, found, top, rows);
        // Where few may be read, these only find the floor: better ones may be among the others.
        self.limit_refined(rows, plan.k, top);
        let read = refine::in_order(plan, self.queries, self.query, segment, rows, top, buffer);
        if self.reorder.is_some() {
            known.clear();
            rows[..read].iter().for_each(|row| _ = known.add(row.1));
        }
        let reached = self.least(top.threshold());
        // Zero rows have no bound of their own, but one for all.
        let zero = bound::zero_norm_bound(plan.metric, norm);
        let zeros_out = zero < top.threshold();
        found.clear();
        self.each(segment, (bounds, ranks), reached, near, |listed| {
            // Zero rows have infinite bounds, and no others of the norm need be looked up.
            if zeros_out && !listed.rank.is_finite() && segment.norms[listed.row] == 0.0 {
                top.tally.best_left = top.tally.best_left.max(zero);
            } else if known.add(listed.row) {
                found.push(listed);
            }
            reached
        });
        self.full_bounds(segment, found, top, rows);
        self.limit_refined(rows, usize::MAX, top);
        refine::in_order(plan, self.queries, self.query, segment, rows, top, buffer);
        if self.certain {
            let below = max_below(ranks, reached);
            let below = if by_key(plan) { below } else { bound::max_key(plan.metric, below, norm, UNIT_LENGTHS) };
            top.tally.best_left = top.tally.best_left.max(below);
        }
    }

    /// Leaves no more rows than may still be read in full, and than `most`, where there is a limit.
    fn limit_refined(&self, rows: &mut Vec<(f64, usize)>, most: usize, top: &TopK) {
        let Some(reorder) = self.reorder else { return };
        let left = reorder.saturating_sub(top.tally.refined as usize).min(most);
        if left > 0 && rows.len() > left {
            rows.select_nth_unstable_by(left - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        rows.truncate(left);
    }

    /// Calls `each` with the listed rows of a segment that may be found and whose rank is not below what `each`
    /// last returned.
    fn each(
        &self,
        segment: &Rows,
        (bounds, ranks): (&[f32], &[f32]),
        mut least: f32,
        near: &mut Vec<u32>,
        mut each: impl FnMut(Listed) -> f32,
    ) {
        let (first, end) = (segment.first, segment.first + segment.len() as u64);
        near.resize(TOGETHER.min(ranks.len()), 0);
        let mut cells = self.cells.iter().map(|&cell| self.listing.lists.places(cell as usize));
        // Where the cell of the last rank begins and ends among ranks, and where it lies in the lists.
        let (mut own, mut places) = (0..0, 0..0);
        for (some, start) in ranks.chunks(TOGETHER).zip((0..).step_by(TOGETHER)) {
            let count = (self.plan.kernel.at_least)(some, least, &mut near[..some.len()]);
            for &at in &near[..count] {
                let at = start + at as usize;
                let rank = ranks[at];
                if rank < least {
                    continue;
                }
                while at >= own.end {
                    places = cells.next().unwrap_or(0..usize::MAX);
                    own = own.end..own.end.saturating_add(places.len());
                }
                let place = places.start + at - own.start;
                let row = u64::from(self.listing.lists.rows[place]);
                if row != u64::from(NO_ROW) && (first..end).contains(&row) && self.mask.is_none_or(|mask| mask.allows(row as usize)) {
                    least = each(Listed { rank, first: bounds[at], place, row: (row - first) as usize });
                }
            }
        }
    }

    /// The rows of the highest ranks, those that have none aside.
    fn seed_threshold(
        &self,
        segment: &Rows,
        (bounds, ranks): (&[f32], &[f32]),
        top: &TopK,
        (found, near): (&mut Vec<Listed>, &mut Vec<u32>),
    ) {
        let few = (SEED_FACTOR * self.plan.k).max(MIN_SEED_ROWS);
        found.clear();
        let cut = |found: &mut Vec<Listed>| {
            if found.len() > few {
                found.select_nth_unstable_by(few - 1, |a, b| b.rank.total_cmp(&a.rank));
                found.truncate(few);
            }
        };
        let mut reached = self.least(top.threshold());
        if self.mask.is_none() && self.segments.len() == 1 {
            reached = reached.max(reached_by(self.plan.kernel, ranks, few));
        }
        self.each(segment, (bounds, ranks), reached, near, |listed| {
            if listed.rank.is_finite() {
                found.push(listed);
            }
            if found.len() == 4 * few {
                cut(found);
                reached = found.iter().fold(f32::INFINITY, |low, row| low.min(row.rank)).max(reached);
            }
            reached
        });
        cut(found);
    }

    /// The found rows with bounds of their keys from all of their codes, without those below the floor.
    fn full_bounds(&self, segment: &Rows, found: &[Listed], top: &mut TopK, rows: &mut Vec<(f64, usize)>) {
        rows.clear();
        let Some(codes) = &segment.codes else { return };
        let (metric, norm) = (self.plan.metric, self.queries.norm(self.query));
        let bytes = self.listing.quantizer.remainder_bytes();
        let remainder = |row: usize| &codes.remainder[row * bytes..(row + 1) * bytes];
        for (i, &Listed { first, place, row, .. }) in found.iter().enumerate() {
            if let Some(next) = found.get(i + AHEAD) {
                prefetch(remainder(next.row));
                prefetch(&self.listing.codes.remainder_residuals[next.place..=next.place]);
            }
            let left = [
                self.listing.codes.leading_residuals[place],
                self.listing.codes.trailing_residuals[place],
                self.listing.codes.remainder_residuals[place],
            ];
            let cosine = self.query_code.full_bound(self.plan.kernel, self.listing.quantizer, remainder(row), left, first);
            let row_norm = if metric == Metric::Cosine { 1.0 } else { segment.norms[row] };
            let key = bound::key_bound(metric, cosine, norm, row_norm);
            // What is no number bounds nothing: such a row is the first to be read.
            rows.push((if key.is_nan() { f64::INFINITY } else { key }, row));
        }
        top.tally.bounded += rows.len() as u64;
        top.tally.code_bytes += (rows.len() * bytes) as u64;
        refine::keep(rows, top);
    }
}

/// Row numbers that have been met: each has one bound, wherever it stands.
#[derive(Debug, Default)]
struct Known {
    /// A power of two of them, more than half of them free; a row stands in the first free one from its own on.
    slots: Vec<u32>,
    count: usize,
}

impl Known {
    /// How many slots there are at first.
    const SLOTS: usize = 1024;

    fn clear(&mut self) {
        self.slots.truncate(Self::SLOTS);
        self.slots.fill(NO_ROW);
        self.slots.resize(Self::SLOTS, NO_ROW);
        self.count = 0;
    }

    /// Whether a row is met for the first time.
    fn add(&mut self, row: usize) -> bool {
        if 2 * self.count >= self.slots.len() {
            let slots = vec![NO_ROW; (2 * self.slots.len()).max(Self::SLOTS)];
            let rows = std::mem::replace(&mut self.slots, slots);
            self.count = 0;
            rows.into_iter().filter(|&row| row != NO_ROW).for_each(|row| _ = self.add(row as usize));
        }
        let last = self.slots.len() - 1;
        // Neighbours in number lie apart: the upper bits of a product depend on all below.
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
