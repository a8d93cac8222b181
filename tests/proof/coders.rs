//! Coders made by hand, and rows encoded with any coder: the one place here that knows how coders
//! and codes are stored.

use crate::tables::Random;
use nseekfs::code::encode::{CodesMut, Encoder, Room};
use nseekfs::code::margin::{Look, bytes};
use nseekfs::code::{BLOCK, Coder, Codes, from16};
use nseekfs::kernel::{Kernel, Lines, SIEVE, Sieve, Wide, padded, scalar, wide_stride};
use nseekfs::store::rows::{PanelValues, Rows, Values};

/// A coder of these parts; `skew` must hold for the axes.
pub fn coder(lead: usize, centre: Vec<f32>, axes: Vec<f32>, steps: Vec<f32>, skew: f64) -> Coder {
    let values = Coder::pack(&centre, &steps, &axes).unwrap();
    Coder { dims: centre.len(), lead, skew, values }
}

/// A coder along the dims themselves whose steps fit the spread of the rows.
pub fn fitting(rows: &[f32], dims: usize, lead: usize) -> Coder {
    let mut squares = vec![0.0; dims];
    for row in rows.chunks_exact(dims) {
        let length = length(row);
        squares.iter_mut().zip(row).for_each(|(sum, &x)| *sum += (f64::from(x) / length).powi(2));
    }
    let count = (rows.len() / dims) as f64;
    let steps = squares.iter().map(|sum| (0.044 * (sum / count).sqrt()) as f32).collect();
    coder(lead, vec![0.0; dims], identity(dims), steps, 0.0)
}

/// Coordinates of a direction less the centre, along the coder's axes.
pub fn coordinates(coder: &Coder, direction: &[f64]) -> Vec<f64> {
    let centred: Vec<f64> = direction.iter().zip(coder.centre()).map(|(v, &m)| v - f64::from(m)).collect();
    let along = |axis: &[f32]| axis.iter().zip(&centred).map(|(&a, x)| f64::from(a) * x).sum();
    coder.axes().chunks_exact(coder.dims).map(along).collect()
}

/// The direction whose coordinates point as `along` do: of length 1, `m + factor * V along`.
pub fn direction_along(coder: &Coder, along: &[f64]) -> Vec<f64> {
    let mut g = vec![0.0; coder.dims];
    for (axis, z) in coder.axes().chunks_exact(coder.dims).zip(along) {
        g.iter_mut().zip(axis).for_each(|(g, &a)| *g += z * f64::from(a));
    }
    let m: Vec<f64> = coder.centre().iter().map(|&m| f64::from(m)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (gg, gm, left) = (dot(&g, &g), dot(&g, &m), 1.0 - dot(&m, &m));
    let factor = (-gm + (gm * gm + gg * left).sqrt()) / gg;
    m.iter().zip(&g).map(|(m, g)| m + factor * g).collect()
}

pub fn centre(coder: &Coder) -> Vec<f64> {
    coder.centre().iter().map(|&m| f64::from(m)).collect()
}

pub fn steps(coder: &Coder) -> Vec<f64> {
    coder.steps().iter().map(|&s| f64::from(s)).collect()
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

/// Axes that are moved by about `by` and are no longer orthonormal.
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
    lead: Vec<u16>,
    tail: Vec<u16>,
    fine: Vec<u16>,
    rest: Vec<u8>,
}

impl Coded {
    pub fn new(kernel: &Kernel, coder: &Coder, rows: &[f64]) -> Self {
        let count = rows.len() / coder.dims;
        let padded = count.next_multiple_of(BLOCK);
        let mut coded = Coded {
            norms: vec![0.0; count],
            lines: vec![0; padded / BLOCK * coder.block_bytes()],
            offsets: vec![0.0; padded],
            lead: vec![0; padded],
            tail: vec![0; padded],
            fine: vec![0; padded],
            rest: vec![0; count * coder.rest_bytes()],
        };
        (scalar::KERNEL.squared_norm_f64)(rows, coder.dims, &mut coded.norms);
        coded.norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
        let mut out = CodesMut {
            lines: &mut coded.lines,
            offsets: &mut coded.offsets,
            lead_residuals: &mut coded.lead,
            tail_residuals: &mut coded.tail,
            rest_residuals: &mut coded.fine,
            rest: &mut coded.rest,
        };
        Encoder::new(kernel, coder).encode(PanelValues::F64(rows), &coded.norms, &mut Room::default(), &mut out, 0);
        coded
    }

    /// The bound of a second look at row `row`.
    pub fn second(&self, look: &Look, kernel: &Kernel, coder: &Coder, row: usize, first: f32) -> f64 {
        let bytes = coder.rest_bytes();
        let residuals = [self.lead[row], self.tail[row], self.fine[row]];
        look.second(kernel, coder, &self.rest[row * bytes..(row + 1) * bytes], residuals, first)
    }

    pub fn codes(&self) -> Codes<'_> {
        Codes {
            lines: &self.lines,
            offsets: &self.offsets,
            lead_residuals: &self.lead,
            tail_residuals: &self.tail,
            rest_residuals: &self.fine,
            rest: &self.rest,
            scattered: &self.rest,
        }
    }

    /// The first bounds of all rows.
    pub fn bounds(&self, kernel: &Kernel, look: &Look) -> Vec<f32> {
        let lines = Lines { codes: &self.lines, offsets: &self.offsets, lead: &self.lead, tail: &self.tail, next: &[] };
        let mut out = vec![0.0; self.offsets.len()];
        (kernel.bounds)(&[look.probe()], &lines, &mut out);
        out.truncate(self.norms.len());
        out
    }

    /// The bounds that a sieve gives all rows, all of which it must keep at a floor of -inf; those of
    /// rows without a direction are left out.
    pub fn wide_bounds(&self, kernel: &Kernel, coder: &Coder, look: &Look) -> Vec<f32> {
        let (stride, rest_bytes) = (wide_stride(coder.dims), coder.rest_bytes());
        let mut codes = vec![0; self.offsets.len() * stride];
        for (block, out) in codes.chunks_exact_mut(BLOCK * stride).enumerate() {
            let rest = &self.rest[block * BLOCK * rest_bytes..self.rest.len().min((block + 1) * BLOCK * rest_bytes)];
            let lines = &self.lines[block * coder.block_bytes()..][..coder.block_bytes()];
            (kernel.widen)(lines, rest, rest_bytes, coder.lead, out);
        }
        let residuals: Vec<f32> = self.fine.iter().map(|&half| from16(half)).collect();
        let wide = Wide { codes: &codes, offsets: &self.offsets, residuals: &residuals };
        let mut words = look.words().to_vec();
        words.resize(SIEVE * stride, 0);
        let (high, low): (Vec<i8>, Vec<i8>) = words.iter().map(|&word| bytes(word)).unzip();
        let factors = [look.factors(f32::NEG_INFINITY)];
        let sieve = Sieve { dims: coder.dims.next_multiple_of(8), words: &words, high: &high, low: &low, factors: &factors };
        let (mut bounds, mut keep) = (vec![f32::NAN; self.offsets.len() * SIEVE], vec![0; self.offsets.len()]);
        (kernel.sieve)(&sieve, &wide, &mut bounds, &mut keep);
        assert!(keep.chunks_exact(SIEVE).all(|block| block[0] == u16::MAX), "{} lost a row", kernel.name);
        (0..self.norms.len()).map(|r| bounds[r / BLOCK * BLOCK * SIEVE + r % BLOCK]).collect()
    }

    /// The rows as a scan sees them.
    pub fn rows<'a>(&'a self, values: Values<'a>, dims: usize, first: u64) -> Rows<'a> {
        Rows { dims, first, values, scattered: values, norms: &self.norms, own: true, codes: Some(self.codes()) }
    }
}

/// A query padded as kernels want it, and its norm.
pub fn asked(query: &[f64]) -> (Vec<f64>, f64) {
    let mut squared = [0.0];
    (scalar::KERNEL.squared_norm_f64)(query, query.len(), &mut squared);
    let mut wide = query.to_vec();
    wide.resize(padded(query.len()), 0.0);
    (wide, squared[0].sqrt())
}

pub fn length(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}
