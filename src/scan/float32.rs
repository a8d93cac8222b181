//! Batches without codes: one float32 product of a tile of up to 32 queries with a cached panel; rows within its
//! error band (`float32_error.rs`) are scored in float64.

use super::panel::Panel;
use super::query::Query;
use super::{Job, Queries, float32_error, float64};
use crate::error::{Result, filled, room};
use crate::kernel::Tile;
use crate::store::rows::PanelValues;
use crate::topk::TopK;

/// Queries of a full tile; a last tile of at most half as many is half as wide.
const WIDTH: usize = 32;
/// Equal rows are looked for where a tile keeps one row in this many of a panel, or more.
const COPIES_FROM: usize = 4;

/// The queries of a batch, packed in tiles that all workers share.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    tiles: Vec<Columns>,
}

/// The queries of one tile.
#[derive(Debug)]
struct Columns {
    queries: Vec<usize>,
    width: usize,
    /// Value j of the tile's query i at `j * width + i`.
    values: Vec<f32>,
}

impl Tiles {
    /// Packs the queries numbered `which`; an error where there is no memory.
    pub fn new(queries: &Queries, which: &[usize]) -> Result<Self> {
        let columns = |which: &[usize]| {
            let width = if which.len() <= WIDTH / 2 { WIDTH / 2 } else { WIDTH };
            Ok(Columns { queries: which.to_vec(), width, values: pack(queries, which, width)? })
        };
        let mut tiles = room(which.len().div_ceil(WIDTH), "the queries")?;
        for which in which.chunks(WIDTH) {
            tiles.push(columns(which)?);
        }
        Ok(Tiles { tiles })
    }
}

/// The queries numbered `which` as `width` columns: value j of the i-th at `j * width + i`.
pub(super) fn pack(queries: &Queries, which: &[usize], width: usize) -> Result<Vec<f32>> {
    let mut values = filled(queries.dims() * width, 0.0, "the queries")?;
    for (i, &query) in which.iter().enumerate() {
        for (j, &value) in queries.wide(query)[..queries.dims()].iter().enumerate() {
            // Exact: `Queries::new` rounded the query to float32.
            values[j * width + i] = value as f32;
        }
    }
    Ok(values)
}

/// A worker's buffers.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    norms: Vec<f32>,
    halves: Vec<f32>,
    keep: Vec<u32>,
    /// For each query of a tile, the rows that the tile kept for it.
    kept: [Vec<u32>; WIDTH],
    keys: Vec<f64>,
    copies: Copies,
}

impl Scratch {
    /// Offers the rows of the panel that may be among a query's best to that query.
    pub fn visit(&mut self, job: &Job, tiles: &Tiles, panel: &Panel, best: &mut [TopK]) -> Result<()> {
        let PanelValues::F32(rows) = panel.values else {
            let queries = tiles.tiles.iter().flat_map(|columns| &columns.queries);
            queries.for_each(|&query| float64::visit(job.query(query), panel, &mut best[query]));
            return Ok(());
        };
        let (metric, queries) = (job.plan.metric, job.queries);
        self.norms.clear();
        self.halves.clear();
        for (norm, half) in panel.norms.iter().map(|&norm| float32_error::row_terms(metric, norm)) {
            self.norms.push(norm);
            self.halves.push(half);
        }
        self.keep.clear();
        self.keep.resize(panel.rows.len(), 0);
        self.copies.clear();
        for columns in &tiles.tiles {
            job.watch.check()?;
            let (mut slope, mut threshold) = ([0.0; WIDTH], [f32::INFINITY; WIDTH]);
            for (i, &query) in columns.queries.iter().enumerate() {
                (slope[i], threshold[i]) = float32_error::threshold(metric, queries.dims(), queries.norm(query), best[query].threshold());
            }
            let width = columns.width;
            let tile = Tile { width, columns: &columns.values, slope: &slope[..width], threshold: &threshold[..width] };
            (job.plan.kernel.tile)(&tile, rows, queries.dims(), &self.norms, &self.halves, &mut self.keep);
            self.refine(job, columns, panel, best);
        }
        Ok(())
    }

    /// Scores in float64 the rows that the tile kept, one query after the other: its values stay in the nearest cache.
    fn refine(&mut self, job: &Job, columns: &Columns, panel: &Panel, best: &mut [TopK]) {
        self.kept.iter_mut().for_each(Vec::clear);
        for (row, &kept) in self.keep.iter().enumerate() {
            let mut bits = kept;
            while bits != 0 {
                self.kept[bits.trailing_zeros() as usize].push(row as u32);
                bits &= bits - 1;
            }
        }
        for (kept, &query) in self.kept.iter().zip(&columns.queries) {
            let (top, count) = (&mut best[query], panel.rows.len());
            top.tally.refined += count as u64;
            if kept.len() * COPIES_FROM > count {
                self.copies.visit(job.query(query), panel, kept, top);
            } else {
                float64::offer_at(job.query(query), panel, kept, &mut self.keys, top);
            }
            if !kept.is_empty() {
                top.cut_if_due();
            }
        }
    }
}

/// Equal rows of a panel are scored once. Where many rows are equal, no threshold excludes them.
#[derive(Debug, Default)]
struct Copies {
    /// For each row the first one that is equal; empty until it is needed.
    first: Vec<usize>,
    order: Vec<usize>,
    /// The keys of a query; NaN where unknown.
    keys: Vec<f64>,
}

impl Copies {
    fn clear(&mut self) {
        self.first.clear();
    }

    /// Offers the `kept` rows of the panel to a query.
    fn visit(&mut self, query: Query, panel: &Panel, kept: &[u32], top: &mut TopK) {
        if self.first.is_empty() {
            self.find(panel, query.queries.dims());
        }
        self.keys.clear();
        self.keys.resize(panel.rows.len(), f64::NAN);
        for row in kept.iter().map(|&row| row as usize) {
            let key = &mut self.keys[self.first[row]];
            if key.is_nan() {
                *key = float64::key(query, panel, row);
            }
            top.push(*key, panel.rows[row]);
        }
    }

    /// Finds equal rows among those of equal norms.
    fn find(&mut self, panel: &Panel, dims: usize) {
        self.first.extend(0..panel.rows.len());
        let PanelValues::F32(values) = panel.values else { return };
        let values = |row: usize| bytemuck::cast_slice::<f32, u8>(&values[row * dims..(row + 1) * dims]);
        let norm = |row: usize| panel.norms[row].to_bits();
        self.order.clear();
        self.order.extend(0..panel.rows.len());
        self.order.sort_unstable_by_key(|&row| (norm(row), row));
        let mut first = self.order[0];
        for &row in &self.order {
            if norm(row) != norm(first) || values(row) != values(first) {
                first = row;
            }
            self.first[row] = first;
        }
    }
}
