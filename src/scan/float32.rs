//! Batches without codes: one float32 product of a tile of up to 32 queries with a cached panel; rows within its
//! error band (`float32_error.rs`) are scored in float64.

use super::panel::Panel;
use super::{Job, Queries, float32_error, float64};
use crate::error::Result;
use crate::kernel::Tile;
use crate::store::rows::PanelValues;
use crate::topk::TopK;

/// Queries of a full tile; a last tile of at most half as many is half as wide.
const WIDTH: usize = 32;

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
    /// Packs the queries numbered `which`.
    pub fn new(queries: &Queries, which: &[usize]) -> Self {
        let pack = |which: &[usize]| {
            let width = if which.len() <= WIDTH / 2 { WIDTH / 2 } else { WIDTH };
            let mut values = vec![0.0; queries.dims() * width];
            for (i, &query) in which.iter().enumerate() {
                for (j, &value) in queries.wide(query)[..queries.dims()].iter().enumerate() {
                    // Exact: `Queries::new` rounded the query to float32.
                    values[j * width + i] = value as f32;
                }
            }
            Columns { queries: which.to_vec(), width, values }
        };
        Tiles { tiles: which.chunks(WIDTH).map(pack).collect() }
    }
}

/// A worker's buffers.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    norms: Vec<f32>,
    halves: Vec<f32>,
    keep: Vec<u32>,
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
        for columns in &tiles.tiles {
            job.watch.check()?;
            let (mut slope, mut threshold) = ([0.0; WIDTH], [f32::INFINITY; WIDTH]);
            for (i, &query) in columns.queries.iter().enumerate() {
                best[query].tally.refined += panel.rows.len() as u64;
                (slope[i], threshold[i]) = float32_error::threshold(metric, queries.dims(), queries.norm(query), best[query].threshold());
            }
            let width = columns.width;
            let tile = Tile { width, columns: &columns.values, slope: &slope[..width], threshold: &threshold[..width] };
            (job.plan.kernel.tile)(&tile, rows, queries.dims(), &self.norms, &self.halves, &mut self.keep);
            self.refine(job, columns, panel, best);
        }
        Ok(())
    }

    /// Scores in float64 the rows that the tile kept.
    fn refine(&self, job: &Job, columns: &Columns, panel: &Panel, best: &mut [TopK]) {
        let mut changed = 0u32;
        for (row, &kept) in self.keep.iter().enumerate() {
            let mut bits = kept;
            while bits != 0 {
                let query = columns.queries[bits.trailing_zeros() as usize];
                best[query].push(float64::key(job.query(query), panel, row), panel.rows[row]);
                bits &= bits - 1;
            }
            changed |= kept;
        }
        while changed != 0 {
            best[columns.queries[changed.trailing_zeros() as usize]].cut();
            changed &= changed - 1;
        }
    }
}
