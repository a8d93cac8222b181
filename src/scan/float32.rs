//! Batches: a tile of queries meets a cached panel in one float32 product; the few rows that its
//! error band cannot rule out are computed in float64.

use super::float32_error;
use super::panel::Panel;
use super::{Plan, Queries, float64};
use crate::error::Result;
use crate::kernel::Tile;
use crate::pool::Watch;
use crate::store::rows::PanelValues;
use crate::topk::TopK;

/// Queries of a full float32; a last tile of at most half is narrower.
const WIDTH: usize = 32;

/// The queries of a batch, packed in tiles: shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    tiles: Vec<Columns>,
}

#[derive(Debug)]
struct Columns {
    queries: Vec<usize>,
    width: usize,
    values: Vec<f32>,
}

impl Tiles {
    /// Packs some of the queries: value j of the tile's query i at `j * width + i`.
    pub fn new(queries: &Queries, some: &[usize]) -> Self {
        let pack = |some: &[usize]| {
            let width = if some.len() <= WIDTH / 2 { WIDTH / 2 } else { WIDTH };
            let mut values = vec![0.0; queries.dims() * width];
            for (i, &query) in some.iter().enumerate() {
                for (j, &value) in queries.wide(query)[..queries.dims()].iter().enumerate() {
                    // The query was rounded to float32 when it came, so nothing is lost here.
                    values[j * width + i] = value as f32;
                }
            }
            Columns { queries: some.to_vec(), width, values }
        };
        Tiles { tiles: some.chunks(WIDTH).map(pack).collect() }
    }
}

/// What a worker needs besides the panel.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    norms: Vec<f32>,
    halves: Vec<f32>,
    keep: Vec<u32>,
}

impl Scratch {
    /// Offers every row of the panel that may be among a query's best to that query.
    pub fn visit(&mut self, plan: &Plan, queries: &Queries, tiles: &Tiles, panel: Panel, best: &mut [TopK], watch: &Watch) -> Result<()> {
        let PanelValues::F32(rows) = panel.values else {
            float64::visit(plan, queries, panel, best);
            return Ok(());
        };
        let terms = panel.norms.iter().map(|&norm| float32_error::row_terms(plan.metric, norm));
        self.norms.clear();
        self.halves.clear();
        for (norm, half) in terms {
            self.norms.push(norm);
            self.halves.push(half);
        }
        self.keep.clear();
        self.keep.resize(panel.rows.len(), 0);
        for columns in &tiles.tiles {
            watch.check()?;
            let (mut slope, mut threshold) = ([0.0; WIDTH], [f32::INFINITY; WIDTH]);
            for (i, &query) in columns.queries.iter().enumerate() {
                best[query].tally.refined += panel.rows.len() as u64;
                (slope[i], threshold[i]) =
                    float32_error::threshold(plan.metric, queries.dims(), queries.norm(query), best[query].threshold());
            }
            let width = columns.width;
            let tile = Tile { width, columns: &columns.values, slope: &slope[..width], threshold: &threshold[..width] };
            (plan.kernel.tile)(&tile, rows, queries.dims(), &self.norms, &self.halves, &mut self.keep);
            self.refine(plan, queries, columns, &panel, best);
        }
        Ok(())
    }

    fn refine(&self, plan: &Plan, queries: &Queries, columns: &Columns, panel: &Panel, best: &mut [TopK]) {
        let mut touched = 0u32;
        for (row, &kept) in self.keep.iter().enumerate() {
            let mut bits = kept;
            while bits != 0 {
                let query = columns.queries[bits.trailing_zeros() as usize];
                best[query].push(float64::key(plan, queries, query, panel, row), panel.rows[row]);
                bits &= bits - 1;
            }
            touched |= kept;
        }
        while touched != 0 {
            best[columns.queries[touched.trailing_zeros() as usize]].cut();
            touched &= touched - 1;
        }
    }
}
