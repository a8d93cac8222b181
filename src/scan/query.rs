//! Queries made ready: rounded once to the type that the rows decode to, widened, measured, and seen along
//! the axes of codes when first asked for.

use crate::error::{Result, filled};
use crate::input::{Block, check_row};
use crate::kernel::{Kernel, padded};
use crate::level::Level;
use crate::pool::{self, Watch};
use crate::quantize::query_code::QueryCode;
use crate::quantize::rotate::Rotation;
use crate::quantize::{LEAST_NORM, Quantizer};
use std::sync::OnceLock;

/// Queries that meet the axes together.
const TOGETHER: usize = 16;

/// Some queries of equal length.
#[derive(Debug)]
pub struct Queries {
    dims: usize,
    stride: usize,
    wide: Vec<f64>,
    norms: Vec<f64>,
    /// Whether all values are float32 values.
    single: bool,
    query_codes: OnceLock<Vec<Option<QueryCode>>>,
    rotated: OnceLock<Vec<Option<QueryCode>>>,
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
        let mut wide = filled(count * stride, 0.0f64, "the queries")?;
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
        Ok(Queries { dims, stride, wide, norms, single: level != Level::F64, query_codes: OnceLock::new(), rotated: OnceLock::new() })
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

    /// The queries rounded to float32, as kernels want them for float32 rows; none if they are already.
    pub fn narrow(&self, kernel: &Kernel) -> Option<Queries> {
        if self.single {
            return None;
        }
        let wide: Vec<f64> = self.wide.iter().map(|&x| f64::from(x as f32)).collect();
        let mut norms = vec![0.0; self.len()];
        for (norm, row) in norms.iter_mut().zip(wide.chunks_exact(self.stride)) {
            (kernel.squared_norm_f64)(&row[..self.dims], self.dims, std::slice::from_mut(norm));
            *norm = norm.sqrt();
        }
        Some(Queries {
            dims: self.dims,
            stride: self.stride,
            wide,
            norms,
            single: true,
            query_codes: OnceLock::new(),
            rotated: OnceLock::new(),
        })
    }

    /// Query `i` alone.
    pub fn only(&self, i: usize) -> Queries {
        self.some(&[i])
    }

    /// Some of the queries.
    pub fn some(&self, which: &[usize]) -> Queries {
        let wide = which.iter().flat_map(|&i| self.wide(i)).copied().collect();
        let norms = which.iter().map(|&i| self.norms[i]).collect();
        Queries {
            dims: self.dims,
            stride: self.stride,
            wide,
            norms,
            single: self.single,
            query_codes: OnceLock::new(),
            rotated: OnceLock::new(),
        }
    }

    /// Every query as codes see it; none for one without a direction, such as zero. Made once, for the one
    /// coder that the queries' index has.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn query_codes(&self, kernel: &Kernel, quantizer: &Quantizer, threads: usize, watch: &Watch) -> Result<&[Option<QueryCode>]> {
        self.seen(&self.query_codes, threads, watch, |queries| QueryCode::several(kernel, quantizer, queries))
    }

    /// The same by a `rotation`: sooner, and less sharply.
    ///
    /// # Errors
    /// As there.
    pub fn rotated(
        &self,
        kernel: &Kernel,
        quantizer: &Quantizer,
        rotation: &Rotation,
        threads: usize,
        watch: &Watch,
    ) -> Result<&[Option<QueryCode>]> {
        self.seen(&self.rotated, threads, watch, |queries| QueryCode::rotated(kernel, quantizer, rotation, queries))
    }

    fn seen<'a>(
        &'a self,
        kept: &'a OnceLock<Vec<Option<QueryCode>>>,
        threads: usize,
        watch: &Watch,
        see: impl Fn(&[(&'a [f64], f64)]) -> Vec<QueryCode> + Sync,
    ) -> Result<&'a [Option<QueryCode>]> {
        if kept.get().is_none() {
            let some: Vec<usize> = (0..self.len()).filter(|&i| self.norms[i] >= LEAST_NORM).collect();
            let chunks: Vec<&[usize]> = some.chunks(TOGETHER).collect();
            let work = |(): &mut (), job: usize| {
                Ok(see(&chunks[job].iter().map(|&i| (self.wide(i), self.norms[i])).collect::<Vec<(&[f64], f64)>>()))
            };
            let made = pool::map(threads, chunks.len(), watch, || Ok(()), work)?;
            let mut query_codes: Vec<Option<QueryCode>> = (0..self.len()).map(|_| None).collect();
            some.into_iter().zip(made.into_iter().flatten()).for_each(|(i, query_code)| query_codes[i] = Some(query_code));
            return Ok(kept.get_or_init(|| query_codes));
        }
        Ok(kept.get().map_or(&[], Vec::as_slice))
    }
}
