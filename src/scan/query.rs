//! Queries made ready: rounded once to the type that the rows decode to, widened, measured.

use crate::error::{Error, Result};
use crate::kernel::{Kernel, padded};
use crate::level::Level;
use crate::numbers::{Block, check_row};

/// Some queries of equal length.
#[derive(Debug)]
pub struct Queries {
    dims: usize,
    stride: usize,
    wide: Vec<f64>,
    norms: Vec<f64>,
}

impl Queries {
    /// Rounds the queries of `block` as the level's rows decode; `first` is the number of the
    /// first one, for errors.
    ///
    /// # Errors
    /// NaN, infinity, a value beyond float32, a length of 2^63 or more; no memory.
    pub fn new(kernel: &Kernel, level: Level, block: Block, dims: usize, first: u64) -> Result<Self> {
        let count = block.len() / dims;
        let stride = padded(dims);
        let mut wide: Vec<f64> = Vec::new();
        let bytes = (count * stride * 8) as u64;
        wide.try_reserve_exact(count * stride).map_err(|_| Error::Memory { bytes, purpose: "the queries" })?;
        wide.resize(count * stride, 0.0);
        let mut norms = vec![0.0; count];
        for (i, padded_row) in wide.chunks_exact_mut(stride).enumerate() {
            let row = &mut padded_row[..dims];
            let given = block.slice(i * dims..(i + 1) * dims);
            if level == Level::F64 {
                given.to_f64(row)
            } else {
                given.to_f32_wide(row)
            }
            (kernel.squared_norm_f64)(row, dims, &mut norms[i..=i]);
            check_row("query", if level == Level::F64 { level } else { Level::F32 }, given, norms[i], first + i as u64)?;
            norms[i] = norms[i].sqrt();
        }
        Ok(Queries { dims, stride, wide, norms })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.norms.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.norms.is_empty()
    }

    /// Values a query.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Query `i`, padded with zeros as kernels want it.
    pub fn wide(&self, i: usize) -> &[f64] {
        &self.wide[i * self.stride..(i + 1) * self.stride]
    }

    /// The euclidean norm of query `i`.
    pub fn norm(&self, i: usize) -> f64 {
        self.norms[i]
    }
}
