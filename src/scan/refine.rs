//! Reading in full the rows that codes left undecided, in the order of their bounds: no method that
//! relies on the same bounds reads fewer (Seidl and Kriegel, SIGMOD 1998). Or all rows, for queries that
//! codes decide too little for.

use super::float32::{self, Tiles};
use super::panel::{Panel, Panels};
use super::{Plan, Queries, Run, TILE_FROM, float64};
use crate::error::Result;
use crate::kernel::prefetch;
use crate::pool::Watch;
use crate::store::ReadAhead;
use crate::store::rows::{PanelBuffer, Rows, Values};
use crate::topk::TopK;

/// How many rows are asked for at a time where they come from disk: more than are read at all would be
/// read from disk in vain.
const DISK_AHEAD: usize = 4;

/// How many rows ahead of the one read a row is asked for: as much as a CPU can wait for at a time.
const AHEAD: usize = 2;

/// Offers rows of a segment, given with bounds of their keys, highest bound first, until the next bound
/// is below the floor. Sorts them; returns how many were read.
pub(super) fn in_order(
    plan: &Plan,
    queries: &Queries,
    query: usize,
    segment: &Rows,
    rows: &mut [(f64, usize)],
    top: &mut TopK,
    buffer: &mut PanelBuffer,
) -> usize {
    let segment = segment.scattered();
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut disk = ReadAhead::new(DISK_AHEAD, rows.len(), segment.own);
    let mut read = 0;
    let ask = |row: usize| {
        prefetch(segment.stored(row));
        prefetch(&segment.norms[row..=row]);
    };
    rows.iter().take(AHEAD).for_each(|&(_, row)| ask(row));
    for &(bound, row) in rows.iter() {
        if bound < top.threshold() {
            top.tally.best_left = top.tally.best_left.max(bound);
            break;
        }
        let next = rows[read..].iter().take_while(|next| next.0 >= top.threshold());
        disk.before(read, next.map(|&(_, row)| segment.stored(row)));
        if let Some(&(_, next)) = rows.get(read + AHEAD) {
            ask(next);
        }
        buffer.clear();
        let in_place = segment.in_place(row..row + 1);
        if in_place.is_none() {
            segment.decode(plan.kernel, row..row + 1, buffer);
        }
        let panel = Panel {
            values: in_place.unwrap_or_else(|| buffer.values()),
            rows: &[segment.first + row as u64],
            norms: &segment.norms[row..row + 1],
        };
        top.tally.refined += 1;
        top.push(float64::key(plan, queries, query, &panel, 0), panel.rows[0]);
        // Cutting costs k: done for every row only while it is cheap beside reading one.
        if read % (plan.k / 64 + 1) == 0 {
            top.cut();
        }
        read += 1;
    }
    top.cut();
    read
}

/// Drops the rows whose bound is below the floor.
pub(super) fn keep(rows: &mut Vec<(f64, usize)>, top: &mut TopK) {
    let (threshold, left) = (top.threshold(), &mut top.tally.best_left);
    rows.retain(|&(bound, _)| {
        let reaches = bound >= threshold;
        if !reaches {
            *left = left.max(bound);
        }
        reaches
    });
}

/// Offers every row of `runs` to the `undecided` queries, for which codes decided too little.
pub(super) fn all(
    plan: &Plan,
    segments: &[Rows],
    runs: &[Run],
    queries: &Queries,
    undecided: &[usize],
    worker: (&mut Panels, &mut [TopK], &mut float32::Scratch),
    watch: &Watch,
) -> Result<()> {
    if undecided.is_empty() {
        return Ok(());
    }
    let (panels, best, tile) = worker;
    let wide = segments.iter().any(|segment| matches!(segment.values, Values::F64(_)));
    let tiles = (undecided.len() >= TILE_FROM && !wide).then(|| Tiles::new(queries, undecided));
    panels.visit(plan.kernel, segments, runs, &mut |panel| {
        watch.check()?;
        match &tiles {
            Some(tiles) => tile.visit(plan, queries, tiles, panel, best, watch)?,
            None => undecided.iter().for_each(|&i| float64::visit_one(plan, queries, i, panel, &mut best[i])),
        }
        Ok(())
    })
}
