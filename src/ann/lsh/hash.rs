//! The hash function: a vector's bucket in a table is the signs of its projections on the table's hyperplanes.
//!
//! A vector's direction is centred and projected on the principal axes of the rows; random sign flips and a
//! Walsh-Hadamard transform then rotate these coordinates (Andoni and others, Practical and optimal LSH for angular
//! distance, 2015), so that the rows have the same variance along every hyperplane's normal (Kong and Li, Isotropic
//! hashing, 2012). In the axes of largest variance, hyperplanes separate few neighbours for the rows they separate.
//!
//! Every number comes from single float32 or float64 operations in a fixed order, never fused, so buckets are the same
//! from every kernel and for any number of threads. A zero vector is in bucket 0.

use crate::error::{Error, Result, filled};
use crate::kernel::{COLUMNS, FloatMode, Kernel, scalar};
use crate::linalg::Compute;
use crate::linalg::pca::{self, principal};
use crate::pool::Watch;
use crate::random::Random;
use crate::store::rows::{PanelBuffer, PanelValues, Rows};
use std::ops::Range;

/// Principal axes, and hyperplanes per transform: a power of two. The time to build is proportional to it; with half as
/// many, hyperplanes separate more neighbours on sentence embeddings of 384 dims.
pub(super) const AXES: usize = 64;
/// Rows per call of the transform.
const LANES: usize = 8;
/// Sign flips and transforms in sequence where there are fewer axes than [`AXES`]: three are as good as a dense rotation
/// (Andoni and others). With all axes one is better: each hyperplane weighs every axis alike.
const ROUNDS: usize = 3;
/// Values of the sample that axes are learnt from, and the bounds of its rows.
const SAMPLE_VALUES: usize = 768 << 10;
const SAMPLE_ROWS: Range<usize> = 4 * AXES..2048;
/// The most tables: its number fits in a [`Perturbation`](super::probe::Perturbation) beside the score.
pub const MAX_TABLES: usize = crate::format::MAX_TABLES as usize;
/// The most bits per table, for the same reason.
pub const MAX_BITS: usize = crate::format::MAX_BITS as usize;

/// Parameters of the hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Tables, 1 to 64.
    pub tables: usize,
    /// Hyperplanes per table, 1 to 24.
    pub bits: usize,
    /// Seed of the axes and sign flips.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Params { tables: 8, bits: 14, seed: 0 }
    }
}

impl Params {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A number out of range, by name.
    pub fn check(&self) -> Result<()> {
        let checks = [("tables", self.tables, MAX_TABLES), ("bits", self.bits, MAX_BITS)];
        match checks.into_iter().find(|(_, value, max)| !(1..=*max).contains(value)) {
            Some((name, value, max)) => Err(Error::input(name, format!("a whole number from 1 to {max}"), value)),
            None => Ok(()),
        }
    }
}

/// A centred direction's coordinates along the axes; zero beyond the last axis.
pub(crate) type Coordinates = [f32; AXES];

/// The hyperplanes of all tables.
#[derive(Debug, Clone)]
pub struct Hasher {
    dims: usize,
    params: Params,
    /// The axes, then the centre's coordinate along each, then the rows' standard deviation along each.
    values: Vec<f32>,
    /// The axes in the layout of [`Kernel::ordered`], [`COLUMNS`] interleaved.
    columns: Vec<f32>,
    /// The sign flips of every transform, in order.
    signs: Vec<[f32; AXES]>,
    /// The standard deviation of the rows' projections on each hyperplane, table after table.
    spreads: Vec<f32>,
}

/// Scratch memory of hashing, reusable.
#[derive(Debug, Default)]
pub struct HashScratch {
    panel: PanelBuffer,
    units: Vec<f32>,
    sums: Vec<f32>,
    coordinates: Vec<Coordinates>,
}

/// The number of axes of vectors of `dims` values.
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
        let learning = Hasher::work(rows.len(), rows.dims);
        watch.stage(learning, learning as u64);
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

    /// The cost of [`Hasher::learn`] from this many rows.
    pub fn work(rows: usize, dims: usize) -> f64 {
        pca::work(sample_rows(rows, dims), dims, axes(dims))
    }

    /// A hasher with the same axes and other parameters, which must be in range.
    pub fn with(&self, params: Params) -> Self {
        Hasher::assemble(self.dims, params, self.values.clone())
    }

    /// The hasher that had these [`values`](Hasher::values).
    ///
    /// # Errors
    /// A sentence saying what is wrong with them: their number, or NaN or a value beyond 4.
    pub fn new(dims: usize, params: Params, values: &[f32]) -> std::result::Result<Self, String> {
        params.check().map_err(|error| error.to_string())?;
        let expected = Hasher::size(dims);
        if dims == 0 || values.len() != expected {
            return Err(format!("hyperplanes of {dims} dims take {expected} values, got {}", values.len()));
        }
        // Within 4, all sums of products stay finite.
        if let Some(at) = values.iter().position(|x| x.is_nan() || x.abs() > 4.0) {
            return Err(format!("value {at} of the hyperplanes is {}, not from -4 to 4", values[at]));
        }
        let _mode = FloatMode::standard();
        Ok(Hasher::assemble(dims, params, values.to_vec()))
    }

    /// The number of [`values`](Hasher::values) for vectors of `dims` values.
    pub fn size(dims: usize) -> usize {
        axes(dims) * (dims + 2)
    }

    /// What a file stores: with dims and parameters, it determines the hasher.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Values per vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The parameters.
    pub fn params(&self) -> Params {
        self.params
    }

    /// The standard deviation of the rows' projections on each hyperplane, table after table.
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

    /// Tables whose hyperplanes come from the same transform.
    fn tables_per_block(&self) -> usize {
        AXES / self.params.bits
    }

    fn blocks(&self) -> usize {
        self.params.tables.div_ceil(self.tables_per_block())
    }

    fn rounds(&self) -> usize {
        if axes(self.dims) == AXES { 1 } else { ROUNDS }
    }

    fn centre(&self) -> &[f32] {
        let count = axes(self.dims);
        &self.values[count * self.dims..count * (self.dims + 1)]
    }

    /// Coordinates along principal axes are uncorrelated, so the variance on a hyperplane is a sum over axes.
    fn bit_spreads(&self) -> Vec<f32> {
        let mut variances = vec![0.0f64; self.params.tables * self.params.bits];
        let count = axes(self.dims);
        for (i, &spread) in self.values[count * (self.dims + 1)..].iter().enumerate() {
            let mut axis = [[0.0]; AXES];
            axis[i] = [spread];
            self.rotate(&axis, |bit, [x]| variances[bit] += f64::from(x) * f64::from(x));
        }
        variances.into_iter().map(|variance| variance.sqrt() as f32).collect()
    }

    /// The buckets of the rows of `range`, table after table: row i of the range has `out[t * range.len() + i]` in table t.
    pub fn buckets(&self, kernel: &Kernel, rows: &Rows, range: Range<usize>, scratch: &mut HashScratch, out: &mut [u32]) {
        self.project_rows(kernel, rows, range, scratch);
        self.buckets_of(&scratch.coordinates, out);
    }

    /// The coordinates of one row.
    pub(crate) fn coordinates(&self, kernel: &Kernel, rows: &Rows, row: usize, scratch: &mut HashScratch) -> Coordinates {
        self.project_rows(kernel, rows, row..row + 1, scratch);
        scratch.coordinates[0]
    }

    /// The buckets of rows with these coordinates, in the order of [`Hasher::buckets`].
    pub(crate) fn buckets_of(&self, coordinates: &[Coordinates], out: &mut [u32]) {
        let (count, bits) = (coordinates.len(), self.params.bits);
        assert!(out.len() == count * self.params.tables);
        let _mode = FloatMode::standard();
        for (group, rows) in coordinates.chunks(LANES).enumerate() {
            let mut lanes = [[0.0; LANES]; AXES];
            for (lane, row) in rows.iter().enumerate() {
                lanes.iter_mut().zip(row).for_each(|(lanes, &x)| lanes[lane] = x);
            }
            let mut buckets = [0u32; LANES];
            self.rotate(&lanes, |at, x| {
                let bit = at % bits;
                for lane in 0..LANES {
                    buckets[lane] |= u32::from(x[lane] > 0.0) << bit;
                }
                if bit + 1 == bits {
                    let first = at / bits * count + group * LANES;
                    out[first..first + rows.len()].copy_from_slice(&buckets[..rows.len()]);
                    buckets = [0; LANES];
                }
            });
        }
    }

    /// Puts the coordinates of the rows of `range` into `scratch`.
    fn project_rows(&self, kernel: &Kernel, rows: &Rows, range: Range<usize>, scratch: &mut HashScratch) {
        assert!(rows.dims == self.dims);
        let _mode = FloatMode::standard();
        let norms = &rows.norms[range.clone()];
        scratch.panel.clear();
        scratch.units.clear();
        let values = rows.in_place(range.clone()).unwrap_or_else(|| {
            rows.decode(kernel, range, &mut scratch.panel);
            scratch.panel.values()
        });
        match values {
            PanelValues::F32(values) => units(values, self.dims, norms, &mut scratch.units),
            PanelValues::F64(values) => units(values, self.dims, norms, &mut scratch.units),
        }
        self.project(kernel, norms, scratch);
    }

    /// The projections of a vector of this norm on all hyperplanes, table after table, rounded as those of rows are: a
    /// bit of a bucket is set where its projection is positive.
    pub fn projections(&self, vector: &[f64], norm: f64) -> Vec<f32> {
        assert!(vector.len() == self.dims);
        let _mode = FloatMode::standard();
        let mut scratch = HashScratch::default();
        units(vector, self.dims, &[norm], &mut scratch.units);
        // For one vector, reading the axes takes longer than the scalar kernel's arithmetic.
        self.project(&scalar::KERNEL, &[norm], &mut scratch);
        let mut values = vec![0.0; self.params.tables * self.params.bits];
        self.rotate(&scratch.coordinates[0].map(|x| [x]), |at, [x]| values[at] = x);
        values
    }

    /// The centred coordinates of the unit rows in `scratch`, all zero for a zero row.
    fn project(&self, kernel: &Kernel, norms: &[f64], scratch: &mut HashScratch) {
        let HashScratch { units, sums, coordinates, .. } = scratch;
        coordinates.clear();
        coordinates.resize(norms.len(), [0.0; AXES]);
        sums.resize(norms.len() * COLUMNS, 0.0);
        for (group, columns) in self.columns.chunks_exact(self.dims * COLUMNS).enumerate() {
            (kernel.ordered)(columns, units, self.dims, sums);
            for (row, sums) in coordinates.iter_mut().zip(sums.chunks_exact(COLUMNS)) {
                row[group * COLUMNS..][..COLUMNS].copy_from_slice(sums);
            }
        }
        for (row, &norm) in coordinates.iter_mut().zip(norms) {
            if norm > 0.0 {
                row.iter_mut().zip(self.centre()).for_each(|(x, c)| *x -= c);
            }
        }
    }

    /// Calls `each` with every hyperplane's number, table after table, and the projections of `R` rows.
    #[inline(always)]
    fn rotate<const R: usize>(&self, coordinates: &[[f32; R]; AXES], mut each: impl FnMut(usize, [f32; R])) {
        let total = self.params.tables * self.params.bits;
        let per_block = self.tables_per_block() * self.params.bits;
        for (block, signs) in self.signs.chunks_exact(self.rounds()).enumerate() {
            let mut values = *coordinates;
            for signs in signs {
                values.iter_mut().zip(signs).for_each(|(x, sign)| x.iter_mut().for_each(|x| *x *= sign));
                hadamard(&mut values);
            }
            let first = block * per_block;
            for (at, &x) in (first..total).zip(&values[..per_block]) {
                each(at, x);
            }
        }
    }
}

/// Rows of the sample that axes are learnt from, at most.
fn sample_rows(rows: usize, dims: usize) -> usize {
    (SAMPLE_VALUES / dims).clamp(SAMPLE_ROWS.start, SAMPLE_ROWS.end).min(rows)
}

/// Directions of rows spread over the table; zero rows are left out.
fn sample(kernel: &Kernel, rows: &Rows) -> Result<Vec<f32>> {
    let count = sample_rows(rows.len(), rows.dims);
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

/// Appends rows divided by their norms, in float64 and rounded once; zero rows stay zero.
fn units<T: Copy + Into<f64>>(values: &[T], dims: usize, norms: &[f64], out: &mut Vec<f32>) {
    for (row, &norm) in values.chunks_exact(dims).zip(norms) {
        let inverse = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        out.extend(row.iter().map(|&x| (x.into() * inverse) as f32));
    }
}

/// The unnormalised Walsh-Hadamard transform of each lane.
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

/// -1 for each set bit, 1 for each other.
fn signs(bits: u64) -> [f32; AXES] {
    std::array::from_fn(|i| if bits >> i & 1 == 1 { -1.0 } else { 1.0 })
}

const _: () = assert!(AXES <= u64::BITS as usize && MAX_BITS <= AXES && AXES.is_multiple_of(COLUMNS));
