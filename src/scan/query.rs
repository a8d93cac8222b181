//! Prepared queries: rounded once to the type that the rows decode to, widened to float64, with their norms, and
//! encoded for bounds when a scan first needs it; or packed bits, whose norms are 0.

use super::Plan;
use crate::error::{Result, collected, filled, room};
use crate::input::{Block, check_row};
use crate::kernel::{Kernel, padded};
use crate::level::Level;
use crate::pool::{self, Watch};
use crate::quantize::query_code::QueryCode;
use crate::quantize::rotate::Rotation;
use crate::quantize::{LEAST_NORM, Quantizer};
use std::sync::OnceLock;

/// Queries that are encoded in one job: they share each load of the axes.
const CODES_PER_JOB: usize = 16;

/// Queries of equal length.
#[derive(Debug)]
pub struct Queries {
    dims: usize,
    stride: usize,
    wide: Vec<f64>,
    norms: Vec<f64>,
    /// At level b1, where nothing is widened: words of packed bits.
    bits: Vec<u64>,
    /// Whether all values are float32 values.
    float32: bool,
    query_codes: OnceLock<Vec<Option<QueryCode>>>,
    rotated: OnceLock<Vec<Option<QueryCode>>>,
}

/// One query of a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    pub plan: &'a Plan<'a>,
    pub queries: &'a Queries,
    /// The query's position among `queries`.
    pub index: usize,
}

impl<'a> Query<'a> {
    /// The query's values, padded with zeros to `padded(dims)`.
    pub fn values(&self) -> &'a [f64] {
        self.queries.wide(self.index)
    }

    /// The query's euclidean norm.
    pub fn norm(&self) -> f64 {
        self.queries.norm(self.index)
    }
}

impl Queries {
    /// Rounds the queries of `block`, `dims` values each, as the level's rows decode; `first` is the number of the
    /// first query, for errors.
    ///
    /// # Errors
    /// NaN, infinity, a value beyond float32, a length of 2^63 or more; no memory.
    pub fn new(kernel: &Kernel, level: Level, block: Block, dims: usize, first: u64) -> Result<Self> {
        let count = block.len() / dims;
        if level == Level::B1 {
            return Self::packed(block, dims, first);
        }
        let stride = padded(dims);
        let mut wide = filled(count * stride, 0.0f64, "the queries")?;
        let mut norms = filled(count, 0.0, "the queries")?;
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
        Ok(Self::uncoded(dims, wide, norms, level != Level::F64))
    }

    /// Queries of bits.
    fn packed(block: Block, dims: usize, first: u64) -> Result<Self> {
        let (count, words) = (block.len() / dims, dims.div_ceil(64));
        let mut bits = filled(count * words, 0u64, "the queries")?;
        let mut bytes = vec![0; 8 * words];
        for (i, query) in bits.chunks_exact_mut(words).enumerate() {
            block.slice(i * dims..(i + 1) * dims).to_signs("query", first + i as u64, &mut bytes[..dims / 8])?;
            query.iter_mut().zip(bytes.as_chunks::<8>().0).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
        }
        Ok(Queries { bits, ..Self::uncoded(dims, Vec::new(), vec![0.0; count], false) })
    }

    /// Queries that are not encoded yet: `wide` holds `padded(dims)` values a query.
    fn uncoded(dims: usize, wide: Vec<f64>, norms: Vec<f64>, float32: bool) -> Self {
        Queries {
            dims,
            stride: padded(dims),
            wide,
            norms,
            bits: Vec::new(),
            float32,
            query_codes: OnceLock::new(),
            rotated: OnceLock::new(),
        }
    }

    /// Number of queries.
    pub fn len(&self) -> usize {
        self.norms.len()
    }

    /// Whether there are no queries.
    pub fn is_empty(&self) -> bool {
        self.norms.is_empty()
    }

    /// Values a query.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Query `i`, padded with zeros to `padded(dims)` values.
    pub fn wide(&self, i: usize) -> &[f64] {
        &self.wide[i * self.stride..(i + 1) * self.stride]
    }

    /// The bits of query `i` as words, the last one padded with zeros.
    pub fn bits(&self, i: usize) -> &[u64] {
        let words = self.dims.div_ceil(64);
        &self.bits[i * words..(i + 1) * words]
    }

    /// The euclidean norm of query `i`.
    pub fn norm(&self, i: usize) -> f64 {
        self.norms[i]
    }

    /// The queries rounded to float32, which kernels require with float32 rows; `None` if they are float32 already.
    ///
    /// # Errors
    /// No memory.
    pub fn narrow(&self, kernel: &Kernel) -> Result<Option<Queries>> {
        if self.float32 {
            return Ok(None);
        }
        let wide = collected(self.wide.iter().map(|&x| f64::from(x as f32)), "the queries")?;
        let mut norms = filled(self.len(), 0.0, "the queries")?;
        for (norm, row) in norms.iter_mut().zip(wide.chunks_exact(self.stride)) {
            (kernel.squared_norm_f64)(&row[..self.dims], self.dims, std::slice::from_mut(norm));
            *norm = norm.sqrt();
        }
        Ok(Some(Self::uncoded(self.dims, wide, norms, true)))
    }

    /// Query `i` alone.
    ///
    /// # Errors
    /// No memory.
    pub fn only(&self, i: usize) -> Result<Queries> {
        self.some(&[i])
    }

    /// The queries numbered `which`, in that order.
    ///
    /// # Errors
    /// No memory.
    pub fn some(&self, which: &[usize]) -> Result<Queries> {
        let norms = collected(which.iter().map(|&i| self.norms[i]), "the queries")?;
        if !self.bits.is_empty() {
            let bits = collected(which.iter().flat_map(|&i| self.bits(i)).copied(), "the queries")?;
            return Ok(Queries { bits, ..Self::uncoded(self.dims, Vec::new(), norms, false) });
        }
        let mut wide = room(which.len() * self.stride, "the queries")?;
        which.iter().for_each(|&i| wide.extend_from_slice(self.wide(i)));
        Ok(Self::uncoded(self.dims, wide, norms, self.float32))
    }

    /// The code of every query; `None` for a query shorter than [`LEAST_NORM`], such as zero, which has no direction.
    /// Computed once: all calls must pass the same quantizer.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn query_codes(&self, kernel: &Kernel, quantizer: &Quantizer, threads: usize, watch: &Watch) -> Result<&[Option<QueryCode>]> {
        self.encode(&self.query_codes, threads, watch, |queries| QueryCode::several(kernel, quantizer, queries))
    }

    /// The same by a rotation in int16: faster, with wider bounds.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn rotated(
        &self,
        kernel: &Kernel,
        quantizer: &Quantizer,
        rotation: &Rotation,
        threads: usize,
        watch: &Watch,
    ) -> Result<&[Option<QueryCode>]> {
        self.encode(&self.rotated, threads, watch, |queries| QueryCode::rotated(kernel, quantizer, rotation, queries))
    }

    /// The codes in `cache`, computed by `encode` from (values, norm) pairs if the cache is empty.
    fn encode<'a>(
        &'a self,
        cache: &'a OnceLock<Vec<Option<QueryCode>>>,
        threads: usize,
        watch: &Watch,
        encode: impl Fn(&[(&'a [f64], f64)]) -> Vec<QueryCode> + Sync,
    ) -> Result<&'a [Option<QueryCode>]> {
        if let Some(query_codes) = cache.get() {
            return Ok(query_codes);
        }
        let some = collected((0..self.len()).filter(|&i| self.norms[i] >= LEAST_NORM), "the codes of queries")?;
        let chunks: Vec<&[usize]> = some.chunks(CODES_PER_JOB).collect();
        let work = |(): &mut (), job: usize| {
            Ok(encode(&chunks[job].iter().map(|&i| (self.wide(i), self.norms[i])).collect::<Vec<(&[f64], f64)>>()))
        };
        let encoded = pool::map(threads, chunks.len(), watch, || Ok(()), work)?;
        let mut query_codes: Vec<Option<QueryCode>> = collected((0..self.len()).map(|_| None), "the codes of queries")?;
        some.into_iter().zip(encoded.into_iter().flatten()).for_each(|(i, query_code)| query_codes[i] = Some(query_code));
        Ok(cache.get_or_init(|| query_codes))
    }
}
