//! Rows into codes: what is written for one row, and for a run of them.

use super::{BLOCK, Coder, LEAST_NORM, LINE_BYTES, LINE_DIMS, up16};
use crate::kernel::{Kernel, padded};

/// What float64 may have lost on the way to a residual, all of whose terms are about 1 at most.
const LOST: f64 = 1e-9;

/// Bytes of axes that several directions meet in a cache.
const AXES_BYTES: usize = 256 << 10;

/// Where the codes of some blocks go, whole blocks but perhaps the last.
#[derive(Debug)]
pub struct CodesMut<'a> {
    /// `block_bytes` a block.
    pub lines: &'a mut [u8],
    /// One a row, padded to whole blocks; so are the next three.
    pub offsets: &'a mut [f32],
    /// See [`super::Codes`].
    pub lead_residuals: &'a mut [u16],
    /// See [`super::Codes`].
    pub tail_residuals: &'a mut [u16],
    /// See [`super::Codes`].
    pub rest_residuals: &'a mut [u16],
    /// `rest_bytes` a row.
    pub rest: &'a mut [u8],
}

/// A worker's room for one row.
#[derive(Debug, Default)]
pub struct Scratch {
    centred: Vec<f64>,
    coordinates: Vec<f64>,
}

impl Scratch {
    /// Coordinates of a direction along the axes, centre taken off, and `<centre, direction>`.
    pub fn see<'a>(&'a mut self, kernel: &Kernel, coder: &Coder, direction: impl Iterator<Item = f64>) -> (&'a [f64], f64) {
        let offset = self.centre(coder, direction);
        self.coordinates.resize(coder.dims, 0.0);
        (kernel.dot)(&self.centred, coder.axes(), coder.dims, &mut self.coordinates);
        (&self.coordinates, offset)
    }

    /// Takes the centre off; `<centre, direction>`.
    fn centre(&mut self, coder: &Coder, direction: impl Iterator<Item = f64>) -> f64 {
        let mut offset = 0.0;
        self.centred.clear();
        self.centred.extend(direction.zip(coder.centre()).map(|(v, &m)| {
            offset += v * f64::from(m);
            v - f64::from(m)
        }));
        self.centred.resize(padded(coder.dims), 0.0);
        offset
    }
}

/// What [`Scratch::see`] says of several directions, some axes at a time, which stay in a cache.
pub fn see_all(kernel: &Kernel, coder: &Coder, directions: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let mut seen: Vec<Scratch> = Vec::new();
    for direction in directions {
        let mut scratch = Scratch { coordinates: vec![0.0; coder.dims], ..Scratch::default() };
        scratch.centre(coder, direction.into_iter());
        seen.push(scratch);
    }
    let together = (AXES_BYTES / (4 * coder.dims)).max(1);
    for (i, axes) in coder.axes().chunks(together * coder.dims).enumerate() {
        for scratch in &mut seen {
            let out = &mut scratch.coordinates[i * together..][..axes.len() / coder.dims];
            (kernel.dot)(&scratch.centred, axes, coder.dims, out);
        }
    }
    seen.into_iter().map(|scratch| scratch.coordinates).collect()
}

/// Writes the codes of row `at`, counted from the start of `out`.
///
/// `row` are the decoded values, `norm` is their euclidean norm; a row below [`LEAST_NORM`] has no
/// direction and gets an infinite residual, so that every query reads it in full.
pub fn encode(
    kernel: &Kernel,
    coder: &Coder,
    row: impl Iterator<Item = f64>,
    norm: f64,
    scratch: &mut Scratch,
    out: &mut CodesMut,
    at: usize,
) {
    if norm < LEAST_NORM {
        out.lead_residuals[at] = up16(f64::INFINITY);
        return;
    }
    let (seen, offset) = scratch.see(kernel, coder, row.map(|x| x / norm));
    let (block, lane) = (at / BLOCK, at % BLOCK);
    let lines = &mut out.lines[block * coder.block_bytes()..(block + 1) * coder.block_bytes()];
    let rest = &mut out.rest[at * coder.rest_bytes()..(at + 1) * coder.rest_bytes()];
    let (mut coarse, mut fine, mut tail) = (0.0, 0.0, 0.0);
    for (j, (&y, &step)) in seen.iter().zip(coder.steps()).enumerate() {
        let step = f64::from(step);
        let code = (y / step).round_ties_even().clamp(-128.0, 127.0) as i32;
        fine += (y - step * f64::from(code)).powi(2);
        if j < coder.lead {
            let high = code >> 4;
            coarse += (y - step * (16.0 * f64::from(high) + 7.5)).powi(2);
            put_high(lines, lane, j, (high + 8) as u8);
            put_low(rest, coder.lead / 2, j, (code - 16 * high) as u8);
        } else {
            tail += y * y;
            rest[j - coder.lead / 2] = code as i8 as u8;
        }
    }
    out.offsets[at] = offset as f32;
    out.lead_residuals[at] = up16(coarse.sqrt() + LOST);
    out.tail_residuals[at] = up16(tail.sqrt() + LOST);
    out.rest_residuals[at] = up16(fine.sqrt() + LOST);
}

/// Coordinate j of a row in its block's lines: dword `lane` of line j / 8 holds four low nibbles
/// for the first four coordinates of the line, four high ones for the others.
fn put_high(lines: &mut [u8], lane: usize, j: usize, nibble: u8) {
    let (line, within) = (j / LINE_DIMS, j % LINE_DIMS);
    let byte = &mut lines[line * LINE_BYTES + 4 * lane + within % 4];
    *byte |= nibble << (within / 4 * 4);
}

/// Coordinate j of the first `2 * half` in a row's rest: the first half in low nibbles.
fn put_low(rest: &mut [u8], half: usize, j: usize, nibble: u8) {
    rest[j % half] |= nibble << (j / half * 4);
}
