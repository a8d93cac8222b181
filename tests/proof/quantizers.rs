//! Quantizers made by hand, and encoded rows. The other files of this test do not depend on the layout of codes.

use crate::tables::Random;
use nseekfs::kernel::{BATCH, Int8Batch, Kernel, Lines, UnpackedCodes, padded, scalar, unpacked_stride};
use nseekfs::quantize::encode::{CodesMut, EncodeScratch, Encoder};
use nseekfs::quantize::int16::bytes;
use nseekfs::quantize::query_code::QueryCode;
use nseekfs::quantize::{BLOCK, Codes, Quantizer, from_bf16};
use nseekfs::store::rows::{PanelValues, Rows, Values};

/// A quantizer of these parts; `skew` must bound that of the axes.
pub fn quantizer(leading: usize, centre: Vec<f32>, axes: Vec<f32>, steps: Vec<f32>, skew: f64) -> Quantizer {
    let values = Quantizer::pack(&centre, &steps, &axes).unwrap();
    Quantizer { dims: centre.len(), leading, skew, values }
}

/// A quantizer whose axes are the dims and whose steps fit the spread of the rows.
pub fn fitting(rows: &[f32], dims: usize, leading: usize) -> Quantizer {
    let mut squares = vec![0.0; dims];
    for row in rows.chunks_exact(dims) {
        let length = length(row);
        squares.iter_mut().zip(row).for_each(|(sum, &x)| *sum += (f64::from(x) / length).powi(2));
    }
    let count = (rows.len() / dims) as f64;
    let steps = squares.iter().map(|sum| (0.044 * (sum / count).sqrt()) as f32).collect();
    quantizer(leading, vec![0.0; dims], identity(dims), steps, 0.0)
}

/// Coordinates of a direction, centred, along the quantizer's axes.
pub fn coordinates(quantizer: &Quantizer, direction: &[f64]) -> Vec<f64> {
    let centred: Vec<f64> = direction.iter().zip(quantizer.centre()).map(|(v, &m)| v - f64::from(m)).collect();
    let along = |axis: &[f32]| axis.iter().zip(&centred).map(|(&a, x)| f64::from(a) * x).sum();
    quantizer.axes().chunks_exact(quantizer.dims).map(along).collect()
}

/// The direction `m + factor * V along` of length 1: its coordinates are parallel to `along`.
pub fn direction_along(quantizer: &Quantizer, along: &[f64]) -> Vec<f64> {
    let mut g = vec![0.0; quantizer.dims];
    for (axis, z) in quantizer.axes().chunks_exact(quantizer.dims).zip(along) {
        g.iter_mut().zip(axis).for_each(|(g, &a)| *g += z * f64::from(a));
    }
    let m: Vec<f64> = quantizer.centre().iter().map(|&m| f64::from(m)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (gg, gm, left) = (dot(&g, &g), dot(&g, &m), 1.0 - dot(&m, &m));
    let factor = (-gm + (gm * gm + gg * left).sqrt()) / gg;
    m.iter().zip(&g).map(|(m, g)| m + factor * g).collect()
}

pub fn centre(quantizer: &Quantizer) -> Vec<f64> {
    quantizer.centre().iter().map(|&m| f64::from(m)).collect()
}

pub fn steps(quantizer: &Quantizer) -> Vec<f64> {
    quantizer.steps().iter().map(|&s| f64::from(s)).collect()
}

pub fn identity(dims: usize) -> Vec<f32> {
    (0..dims * dims).map(|i| f32::from(u8::from(i / dims == i % dims))).collect()
}

/// Random orthonormal axes.
pub fn rotated(dims: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::seeded(seed);
    let mut axes: Vec<Vec<f64>> = Vec::new();
    while axes.len() < dims {
        let mut axis = random.normals(dims);
        for _ in 0..2 {
            for other in &axes {
                let along: f64 = axis.iter().zip(other).map(|(a, b)| a * b).sum();
                axis.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let length = axis.iter().map(|x| x * x).sum::<f64>().sqrt();
        axes.push(axis.iter().map(|x| x / length).collect());
    }
    axes.concat().iter().map(|&x| x as f32).collect()
}

/// Axes with noise of about `by`, so that they are not orthonormal.
pub fn moved(axes: &[f32], by: f64, seed: u64) -> Vec<f32> {
    let mut random = Random::seeded(seed);
    let dims = (axes.len() as f64).sqrt();
    axes.iter().map(|&a| (f64::from(a) + by / dims * random.normal()) as f32).collect()
}

/// The largest sum of magnitudes in a row of V'V - 1.
pub fn skew(axes: &[f32], dims: usize) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let rows: Vec<&[f32]> = axes.chunks_exact(dims).collect();
    let sum = |i: usize| (0..dims).map(|j| (product(rows[i], rows[j]) - f64::from(u8::from(i == j))).abs()).sum::<f64>();
    (0..dims).map(sum).fold(0.0, f64::max) + dims as f64 * 1e-12
}

/// Rows and their codes.
pub struct Coded {
    pub norms: Vec<f64>,
    lines: Vec<u8>,
    offsets: Vec<f32>,
    leading: Vec<u16>,
    trailing: Vec<u16>,
    full: Vec<u16>,
    remainder: Vec<u8>,
}

impl Coded {
    pub fn new(kernel: &Kernel, quantizer: &Quantizer, rows: &[f64]) -> Self {
        let count = rows.len() / quantizer.dims;
        let padded = count.next_multiple_of(BLOCK);
        let mut coded = Coded {
            norms: vec![0.0; count],
            lines: vec![0; padded / BLOCK * quantizer.block_bytes()],
            offsets: vec![0.0; padded],
            leading: vec![0; padded],
            trailing: vec![0; padded],
            full: vec![0; padded],
            remainder: vec![0; count * quantizer.remainder_bytes()],
        };
        (scalar::KERNEL.squared_norm_f64)(rows, quantizer.dims, &mut coded.norms);
        coded.norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
        let mut out = CodesMut {
            lines: &mut coded.lines,
            offsets: &mut coded.offsets,
            leading_residuals: &mut coded.leading,
            trailing_residuals: &mut coded.trailing,
            remainder_residuals: &mut coded.full,
            remainder: &mut coded.remainder,
        };
        Encoder::new(kernel, quantizer).unwrap().encode(PanelValues::F64(rows), &coded.norms, &mut EncodeScratch::default(), &mut out, 0);
        coded
    }

    /// The full bound of row `row`, from its coarse bound.
    pub fn full_bound(&self, query_code: &QueryCode, kernel: &Kernel, quantizer: &Quantizer, row: usize, coarse: f32) -> f64 {
        let bytes = quantizer.remainder_bytes();
        let residuals = [self.leading[row], self.trailing[row], self.full[row]];
        query_code.full_bound(kernel, quantizer, &self.remainder[row * bytes..(row + 1) * bytes], residuals, coarse)
    }

    pub fn codes(&self) -> Codes<'_> {
        Codes {
            lines: &self.lines,
            offsets: &self.offsets,
            leading_residuals: &self.leading,
            trailing_residuals: &self.trailing,
            remainder_residuals: &self.full,
            remainder: &self.remainder,
            scattered: &self.remainder,
        }
    }

    /// The coarse bounds of all rows.
    pub fn coarse_bounds(&self, kernel: &Kernel, query_code: &QueryCode) -> Vec<f32> {
        let lines = Lines { codes: &self.lines, offsets: &self.offsets, leading: &self.leading, trailing: &self.trailing, next: &[] };
        let mut out = vec![0.0; self.offsets.len()];
        (kernel.bounds)(&[query_code.coarse_query()], &lines, &mut out);
        out.truncate(self.norms.len());
        out
    }

    /// The bounds of all rows from `Kernel::int8_batch`, which must keep them all at a threshold of -inf.
    pub fn batch_bounds(&self, kernel: &Kernel, quantizer: &Quantizer, query_code: &QueryCode) -> Vec<f32> {
        let (stride, remainder_bytes) = (unpacked_stride(quantizer.dims), quantizer.remainder_bytes());
        let mut codes = vec![0; self.offsets.len() * stride];
        for (block, out) in codes.chunks_exact_mut(BLOCK * stride).enumerate() {
            let end = self.remainder.len().min((block + 1) * BLOCK * remainder_bytes);
            let remainder = &self.remainder[block * BLOCK * remainder_bytes..end];
            let lines = &self.lines[block * quantizer.block_bytes()..][..quantizer.block_bytes()];
            (kernel.unpack_codes)(lines, remainder, remainder_bytes, quantizer.leading, out);
        }
        let residuals: Vec<f32> = self.full.iter().map(|&bits| from_bf16(bits)).collect();
        let unpacked = UnpackedCodes { codes: &codes, offsets: &self.offsets, residuals: &residuals };
        let mut words = query_code.words().to_vec();
        words.resize(BATCH * stride, 0);
        let (high, low): (Vec<i8>, Vec<i8>) = words.iter().map(|&word| bytes(word)).unzip();
        let factors = [query_code.factors(f32::NEG_INFINITY)];
        let batch = Int8Batch { dims: quantizer.dims.next_multiple_of(8), words: &words, high: &high, low: &low, factors: &factors };
        let (mut bounds, mut keep) = (vec![f32::NAN; self.offsets.len() * BATCH], vec![0; self.offsets.len()]);
        (kernel.int8_batch)(&batch, &unpacked, &mut bounds, &mut keep);
        assert!(keep.chunks_exact(BATCH).all(|block| block[0] == u16::MAX), "{} lost a row", kernel.name);
        (0..self.norms.len()).map(|r| bounds[r / BLOCK * BLOCK * BATCH + r % BLOCK]).collect()
    }

    /// The rows as a scan takes them.
    pub fn rows<'a>(&'a self, values: Values<'a>, dims: usize, first: u64) -> Rows<'a> {
        Rows {
            dims,
            first,
            values,
            scattered: values,
            norms: &self.norms,
            in_memory: true,
            codes: Some(self.codes()),
            deleted: &nseekfs::store::deleted::NONE,
        }
    }
}

/// A query padded to `kernel::padded` values, and its norm.
pub fn padded_query(query: &[f64]) -> (Vec<f64>, f64) {
    let mut squared = [0.0];
    (scalar::KERNEL.squared_norm_f64)(query, query.len(), &mut squared);
    let mut wide = query.to_vec();
    wide.resize(padded(query.len()), 0.0);
    (wide, squared[0].sqrt())
}

pub fn length(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}
