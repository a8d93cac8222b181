//! Which bucket of each table a vector is in: signs of its projections, a bit each.
//!
//! A vector's direction is centred and seen along the principal axes of the rows; sign flips and a
//! Walsh-Hadamard transform then spread it over as many hyperplanes, all of which the rows cross with the
//! same spread (Kong and Li, Isotropic hashing, 2012; Andoni and others, Practical and optimal LSH for
//! angular distance, 2015, for the transform). Hyperplanes among the axes of largest variance part
//! neighbours least often for the rows that they part.
//!
//! Every number is one rounded float32 or float64 operation after the other in a set order, never fused, so that
//! buckets are the same from every kernel and for any number of threads. A zero vector is in bucket 0.

use crate::error::{Error, Result, filled};
use crate::kernel::{COLUMNS, FloatMode, Kernel, scalar};
use crate::linalg::Compute;
use crate::linalg::pca::principal;
use crate::pool::Watch;
use crate::random::Random;
use crate::store::rows::{PanelBuffer, PanelValues, Rows};
use std::ops::Range;

/// Axes, and hyperplanes of a transform: a power of two. Finding the axes and multiplying rows with them is what
/// building costs, in proportion; on sentence embeddings of 384 values half as many part more neighbours.
const AXES: usize = 64;
/// Rows transformed side by side.
const SIDE: usize = 8;
/// Transforms in a row where there are fewer axes than [`AXES`]: three are as good as a dense rotation (Andoni and
/// others); with all axes one is better, as its hyperplanes weigh every axis alike.
const ROUNDS: usize = 3;
/// Values of the sample that axes are learnt from, and the bounds of its rows.
const SAMPLE_VALUES: usize = 768 << 10;
const SAMPLE_ROWS: Range<usize> = 4 * AXES..2048;
/// Tables, and bits a table, at most: what fits a place in the order of probes beside its score.
pub const MAX_TABLES: usize = crate::format::MAX_TABLES as usize;
/// See [`MAX_TABLES`].
pub const MAX_BITS: usize = crate::format::MAX_BITS as usize;

/// What is decided before building.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Tables, 1 to 64.
    pub tables: usize,
    /// Hyperplanes a table, 1 to 24.
    pub bits: usize,
    /// Seed of axes and signs.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Params { tables: 8, bits: 14, seed: 0 }
    }
}

impl Params {
    /// Whether they can be used.
    ///
    /// # Errors
    /// A number out of range.
    pub fn check(&self) -> Result<()> {
        let checks = [("tables", self.tables, MAX_TABLES), ("bits", self.bits, MAX_BITS)];
        match checks.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            Some((name, value, most)) => Err(Error::input(name, format!("a whole number from 1 to {most}"), value)),
            None => Ok(()),
        }
    }
}

/// Coordinates of a vector along the axes.
pub(crate) type Along = [f32; AXES];

/// The hyperplanes of all tables.
#[derive(Debug, Clone)]
pub struct Hasher {
    dims: usize,
    params: Params,
    /// Axes, then the centre along each, then the spread along each.
    values: Vec<f32>,
    /// The axes again, [`COLUMNS`] of them side by side, as [`Kernel::ordered`] wants them.
    columns: Vec<f32>,
    /// Signs of one transform after the other.
    signs: Vec<[f32; AXES]>,
    /// The spread of the rows' projections, for each bit of each table.
    spreads: Vec<f32>,
}

/// Room for the work on some rows.
#[derive(Debug, Default)]
pub struct HashScratch {
    panel: PanelBuffer,
    units: Vec<f32>,
    sums: Vec<f32>,
    along: Vec<Along>,
}

/// How many axes vectors of `dims` values have.
fn axes(dims: usize) -> usize {
    dims.min(AXES)
}

impl Hasher {
    /// Learns the axes of the rows.
    ///
    /// # Errors
    /// Parameters out of range; no memory; [`Error::Interrupted`].
    pub fn learn(kernel: &Kernel, rows: &Rows, params: Params, threads: usize, watch: &Watch) -> Result<Self> {
        params.check()?;
        let _mode = FloatMode::standard();
        let sample = sample(kernel, rows)?;
        let compute = Compute { kernel, threads, watch };
        let found = principal(compute, sample, rows.dims, axes(rows.dims), params.seed)?;
        let centre = found
            .axes
            .chunks_exact(rows.dims)
            .map(|axis| axis.iter().zip(&found.mean).map(|(&a, &m)| f64::from(a) * f64::from(m)).sum::<f64>() as f32);
        let centre: Vec<f32> = centre.collect();
        let mut values = found.axes;
        values.extend(centre);
        values.extend(found.variances.iter().map(|variance| variance.sqrt() as f32));
        Ok(Hasher::assemble(rows.dims, params, values))
    }

    /// The hasher of other numbers of tables and bits, both in range, that has the same axes.
    pub fn with(&self, params: Params) -> Self {
        Hasher::assemble(self.dims, params, self.values.clone())
    }

    /// The hasher whose [`values`](Hasher::values) were kept.
    ///
    /// # Errors
    /// The reason why they cannot be such values.
    pub fn new(dims: usize, params: Params, values: &[f32]) -> std::result::Result<Self, String> {
        params.check().map_err(|error| error.to_string())?;
        let expected = Hasher::size(dims);
        if dims == 0 || values.len() != expected {
            return Err(format!("hyperplanes of {dims} dims take {expected} values, got {}", values.len()));
        }
        // Sums of products of these stay finite.
        if let Some(at) = values.iter().position(|x| x.is_nan() || x.abs() > 4.0) {
            return Err(format!("value {at} of the hyperplanes is {}, not from -4 to 4", values[at]));
        }
        let _mode = FloatMode::standard();
        Ok(Hasher::assemble(dims, params, values.to_vec()))
    }

    /// How many [`values`](Hasher::values) vectors of `dims` values take.
    pub fn size(dims: usize) -> usize {
        axes(dims) * (dims + 2)
    }

    /// What to keep: with dims and parameters, all there is.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Values a vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// What was decided before.
    pub fn params(&self) -> Params {
        self.params
    }

    /// The spread of the rows' projections, for each bit of each table.
    pub fn spreads(&self) -> &[f32] {
        &self.spreads
    }

    fn assemble(dims: usize, params: Params, values: Vec<f32>) -> Self {
        let count = axes(dims);
        let mut columns = vec![0.0; count.next_multiple_of(COLUMNS) * dims];
        for (i, axis) in values[..count * dims].chunks_exact(dims).enumerate() {
            let group = columns[i / COLUMNS * COLUMNS * dims..].chunks_exact_mut(COLUMNS);
            group.zip(axis).for_each(|(column, &x)| column[i % COLUMNS] = x);
        }
        let mut hasher = Hasher { dims, params, values, columns, signs: Vec::new(), spreads: Vec::new() };
        let mut random = Random::new(!params.seed);
        let transforms = hasher.blocks() * hasher.rounds();
        hasher.signs = (0..transforms).map(|_| signs(random.bits())).collect();
        hasher.spreads = hasher.bit_spreads();
        hasher
    }

    /// Tables that share a transform.
    fn tables_a_block(&self) -> usize {
        AXES / self.params.bits
    }

    fn blocks(&self) -> usize {
        self.params.tables.div_ceil(self.tables_a_block())
    }

    fn rounds(&self) -> usize {
        if axes(self.dims) == AXES { 1 } else { ROUNDS }
    }

    fn centre(&self) -> &[f32] {
        let count = axes(self.dims);
        &self.values[count * self.dims..count * (self.dims + 1)]
    }

    /// Coordinates along principal axes do not correlate: variances add up.
    fn bit_spreads(&self) -> Vec<f32> {
        let mut variances = vec![0.0f64; self.params.tables * self.params.bits];
        let count = axes(self.dims);
        for (i, &spread) in self.values[count * (self.dims + 1)..].iter().enumerate() {
            let mut along = [[0.0]; AXES];
            along[i] = [spread];
            self.rotate(&along, |bit, [x]| variances[bit] += f64::from(x) * f64::from(x));
        }
        variances.into_iter().map(|variance| variance.sqrt() as f32).collect()
    }

    /// The bucket of each row of `range` in each table: that of row i in table t goes to `out[t * range.len() + i]`.
    pub fn buckets(&self, kernel: &Kernel, rows: &Rows, range: Range<usize>, work: &mut HashScratch, out: &mut [u32]) {
        self.coordinates(kernel, rows, range, work);
        self.keys(&work.along, out);
    }

    /// The coordinates of one row.
    pub(crate) fn along(&self, kernel: &Kernel, rows: &Rows, row: usize, work: &mut HashScratch) -> Along {
        self.coordinates(kernel, rows, row..row + 1, work);
        work.along[0]
    }

    /// The buckets of rows with these coordinates, in the order of [`Hasher::buckets`].
    pub(crate) fn keys(&self, along: &[Along], out: &mut [u32]) {
        let (count, bits) = (along.len(), self.params.bits);
        assert!(out.len() == count * self.params.tables);
        let _mode = FloatMode::standard();
        for (group, alongs) in along.chunks(SIDE).enumerate() {
            let mut side = [[0.0; SIDE]; AXES];
            for (lane, along) in alongs.iter().enumerate() {
                side.iter_mut().zip(along).for_each(|(side, &x)| side[lane] = x);
            }
            let mut keys = [0u32; SIDE];
            self.rotate(&side, |at, x| {
                let bit = at % bits;
                for lane in 0..SIDE {
                    keys[lane] |= u32::from(x[lane] > 0.0) << bit;
                }
                if bit + 1 == bits {
                    let first = at / bits * count + group * SIDE;
                    out[first..first + alongs.len()].copy_from_slice(&keys[..alongs.len()]);
                    keys = [0; SIDE];
                }
            });
        }
    }

    /// Puts the coordinates of some rows into `work`.
    fn coordinates(&self, kernel: &Kernel, rows: &Rows, range: Range<usize>, work: &mut HashScratch) {
        assert!(rows.dims == self.dims);
        let _mode = FloatMode::standard();
        let norms = &rows.norms[range.clone()];
        work.panel.clear();
        work.units.clear();
        let values = rows.in_place(range.clone()).unwrap_or_else(|| {
            rows.decode(kernel, range, &mut work.panel);
            work.panel.values()
        });
        match values {
            PanelValues::F32(values) => units(values, self.dims, norms, &mut work.units),
            PanelValues::F64(values) => units(values, self.dims, norms, &mut work.units),
        }
        self.project(kernel, norms, work);
    }

    /// The projections of a vector whose length is `norm`, rounded as the rows are: a number for each bit of each
    /// table, positive where the bit is set.
    pub fn projections(&self, vector: &[f64], norm: f64) -> Vec<f32> {
        assert!(vector.len() == self.dims);
        let _mode = FloatMode::standard();
        let mut work = HashScratch::default();
        units(vector, self.dims, &[norm], &mut work.units);
        // Of one vector, plain loops ask for no more than the axes do.
        self.project(&scalar::KERNEL, &[norm], &mut work);
        let mut values = vec![0.0; self.params.tables * self.params.bits];
        self.rotate(&work.along[0].map(|x| [x]), |at, [x]| values[at] = x);
        values
    }

    /// Centred coordinates of each of some unit rows along the axes; all zero for a zero row.
    fn project(&self, kernel: &Kernel, norms: &[f64], work: &mut HashScratch) {
        let HashScratch { units, sums, along, .. } = work;
        along.clear();
        along.resize(norms.len(), [0.0; AXES]);
        sums.resize(norms.len() * COLUMNS, 0.0);
        for (group, columns) in self.columns.chunks_exact(self.dims * COLUMNS).enumerate() {
            (kernel.ordered)(columns, units, self.dims, sums);
            for (along, sums) in along.iter_mut().zip(sums.chunks_exact(COLUMNS)) {
                along[group * COLUMNS..][..COLUMNS].copy_from_slice(sums);
            }
        }
        for (along, &norm) in along.iter_mut().zip(norms) {
            if norm > 0.0 {
                along.iter_mut().zip(self.centre()).for_each(|(x, c)| *x -= c);
            }
        }
    }

    /// Calls `each` with every bit of every table, in order, and the projections of some rows side by side.
    #[inline(always)]
    fn rotate<const R: usize>(&self, along: &[[f32; R]; AXES], mut each: impl FnMut(usize, [f32; R])) {
        let total = self.params.tables * self.params.bits;
        let a_block = self.tables_a_block() * self.params.bits;
        for (block, signs) in self.signs.chunks_exact(self.rounds()).enumerate() {
            let mut values = *along;
            for signs in signs {
                values.iter_mut().zip(signs).for_each(|(x, sign)| x.iter_mut().for_each(|x| *x *= sign));
                hadamard(&mut values);
            }
            let first = block * a_block;
            for (at, &x) in (first..total).zip(&values[..a_block]) {
                each(at, x);
            }
        }
    }
}

/// Directions of rows spread over the table; zero rows are left out.
fn sample(kernel: &Kernel, rows: &Rows) -> Result<Vec<f32>> {
    let count = (SAMPLE_VALUES / rows.dims).clamp(SAMPLE_ROWS.start, SAMPLE_ROWS.end).min(rows.len());
    let mut sample = filled(count * rows.dims, 0.0, "a sample of rows")?;
    sample.clear();
    let mut panel = PanelBuffer::default();
    for i in 0..count {
        let row = (i as u64 * rows.len() as u64 / count as u64) as usize;
        let norm = &rows.norms[row..row + 1];
        if norm[0] > 0.0 {
            panel.clear();
            rows.decode(kernel, row..row + 1, &mut panel);
            match panel.values() {
                PanelValues::F32(values) => units(values, rows.dims, norm, &mut sample),
                PanelValues::F64(values) => units(values, rows.dims, norm, &mut sample),
            }
        }
    }
    Ok(sample)
}

/// Appends rows divided by their lengths, in float64 and rounded once; zero rows stay zero.
fn units<T: Copy + Into<f64>>(values: &[T], dims: usize, norms: &[f64], out: &mut Vec<f32>) {
    for (row, &norm) in values.chunks_exact(dims).zip(norms) {
        let inverse = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        out.extend(row.iter().map(|&x| (x.into() * inverse) as f32));
    }
}

/// The Walsh-Hadamard transform, not normalised, of each lane.
#[inline(always)]
fn hadamard<const R: usize>(values: &mut [[f32; R]; AXES]) {
    let mut half = 1;
    while half < AXES {
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                for lane in 0..R {
                    (a[lane], b[lane]) = (a[lane] + b[lane], a[lane] - b[lane]);
                }
            }
        }
        half *= 2;
    }
}

/// A sign for each bit.
fn signs(bits: u64) -> [f32; AXES] {
    std::array::from_fn(|i| if bits >> i & 1 == 1 { -1.0 } else { 1.0 })
}

const _: () = assert!(AXES <= u64::BITS as usize && MAX_BITS <= AXES && AXES.is_multiple_of(COLUMNS));
