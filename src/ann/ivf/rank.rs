//! Which cells are nearest to a query: by the codes of their centroids, in whole numbers.
//!
//! A bound of a score must hold; an order of cells must only be good, and the same on every CPU and in every batch.
//! So an exact integer stands for the product with a centroid: that of its cells with the query's high bytes.

use super::Ivf;
use crate::code::margin::Look;
use crate::kernel::{Kernel, Lines, Probe};
use crate::metric::Metric;
use crate::scan::reach::reached_by;

/// What a worker needs besides centroids.
#[derive(Debug, Default)]
pub struct Scratch {
    keys: Vec<f32>,
    near: Vec<u32>,
    zeros: Vec<f32>,
}

/// Queries that are ranked together: they share what a kernel makes of a line.
pub const TOGETHER: usize = 4;

impl Ivf {
    /// For each query, given as codes see it with its norm, the `count` nearest cells, nearest first, with keys of their
    /// centroids.
    pub(super) fn by_codes(
        &self,
        kernel: &Kernel,
        metric: Metric,
        asks: &[(&Look, f64)],
        count: usize,
        scratch: &mut Scratch,
    ) -> Vec<Vec<(f64, u32)>> {
        let centroids = self.centroids();
        let Some(codes) = centroids.codes else { return Vec::new() };
        let (cells, padded) = (centroids.len(), codes.offsets.len());
        let Scratch { keys, near, zeros } = scratch;
        keys.resize(padded * asks.len(), 0.0);
        zeros.resize(padded, 0.0);
        near.resize(cells, 0);
        let none: &[u16] = &bytemuck::cast_slice(zeros)[..padded];
        let probes: Vec<Probe> = asks.iter().map(|(look, _)| look.coarse()).collect();
        (kernel.bounds)(&probes, &Lines { codes: codes.lines, offsets: zeros, lead: none, tail: none, next: &[] }, keys);
        let rank = |(&(look, norm), keys): (&(&Look, f64), &mut [f32])| {
            let keys = &mut keys[..cells];
            // Products and sums of float32, each rounded by itself: the same on every CPU.
            let (unit, known) = (look.coarse_unit() as f32, look.centre_part() as f32);
            keys.iter_mut().zip(codes.offsets).for_each(|(key, &offset)| *key = *key * unit + (offset + known));
            if metric != Metric::Cosine {
                let squares = if metric == Metric::Euclidean { 1.0 } else { 0.0 };
                for (key, &length) in keys.iter_mut().zip(centroids.norms) {
                    *key = (f64::from(*key) * (1.0 + squares) * (norm * length) - squares * (norm * norm + length * length)) as f32;
                }
            }
            let reached = (kernel.reaching)(keys, reached_by(keys, count), near);
            let mut ranks: Vec<(f64, u32)> = near[..reached].iter().map(|&cell| (f64::from(keys[cell as usize]), cell)).collect();
            ranks.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            ranks.truncate(count);
            ranks
        };
        asks.iter().zip(keys.chunks_exact_mut(padded)).map(rank).collect()
    }
}
