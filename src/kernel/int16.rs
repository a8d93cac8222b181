//! [`Kernel::int16`](super::Kernel::int16): one loop for every table, compiled for each kind of CPU.
//!
//! Sums run in sixteen lanes and in a fixed order, so that all tables round alike.

use super::{Affine, Int16Row, Planes};

/// Lanes of a sum.
const LANES: usize = 16;

/// The largest magnitude of a quantised coordinate, one less than [`Int8Batch`](super::Int8Batch) takes.
const LARGEST: f32 = 32_638.0;

/// 2^100: rows with a product of this magnitude or more, or with NaN, are not quantised.
const HUGE: f32 = 1.267_650_6e30;

/// 1.5 * 2^23: added to a float32 of magnitude below 2^22, it leaves the nearest integer in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

type Sixteen = [f32; LANES];

/// The row as int16, inlined into a function that is compiled for its CPU. No closures: those passed to iterator functions
/// are not compiled for it.
#[inline(always)]
pub fn round(row: &[f32], frame: &Affine, planes: &mut Planes) -> Int16Row {
    let (chunks, tail) = row.as_chunks::<LANES>();
    let (centre, steps) = (frame.centre.as_chunks::<LANES>().0, frame.steps.as_chunks::<LANES>().0);
    let mut last = [0.0; LANES];
    last[..tail.len()].copy_from_slice(tail);
    let at_tail = chunks.len().min(centre.len() - 1);
    let mut extent = Extent { squares: [0.0; LANES], most: [0.0; LANES] };
    for ((values, centre), steps) in chunks.iter().zip(centre).zip(steps) {
        extent.take(values, frame.scale, centre, steps);
    }
    if !tail.is_empty() {
        extent.take(&last, frame.scale, &centre[at_tail], &steps[at_tail]);
    }
    let (squared, largest) = extent.reduce();
    let factor = if largest < HUGE && squared < f32::INFINITY { LARGEST / largest } else { f32::INFINITY };
    if factor == f32::INFINITY {
        return nothing(largest == 0.0 && squared < f32::INFINITY, squared, row.len().next_multiple_of(LANES), planes);
    }
    let words = planes.words.as_chunks_mut::<LANES>().0;
    let (high, low) = (planes.high.as_chunks_mut::<LANES>().0, planes.low.as_chunks_mut::<LANES>().0);
    let mut sums = Sums { high: [0; LANES], low: [0; LANES] };
    let outs = words.iter_mut().zip(high.iter_mut()).zip(low.iter_mut());
    for (((values, centre), steps), ((words, high), low)) in chunks.iter().zip(centre).zip(steps).zip(outs) {
        sums.put(&centred(values, frame.scale, centre), steps, factor, (words, high, low));
    }
    if !tail.is_empty() {
        let out = (&mut words[at_tail], &mut high[at_tail], &mut low[at_tail]);
        sums.put(&centred(&last, frame.scale, &centre[at_tail]), &steps[at_tail], factor, out);
    }
    let (high_sum, low_sum) = sums.reduce();
    Int16Row { step: largest / LARGEST, squared, high_sum, low_sum }
}

/// Coordinates of 0: of a row at the centre, with step 0, or of one that cannot be quantised, with step NaN.
fn nothing(at_centre: bool, squared: f32, end: usize, planes: &mut Planes) -> Int16Row {
    planes.words[..end].fill(0);
    planes.high[..end].fill(0);
    planes.low[..end].fill(0);
    Int16Row { step: if at_centre { 0.0 } else { f32::NAN }, squared, high_sum: 0, low_sum: 0 }
}

#[inline(always)]
fn centred(values: &Sixteen, scale: f32, centre: &Sixteen) -> Sixteen {
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        out[l] = values[l] * scale - centre[l];
    }
    out
}

/// The sum of squares of the centred values and the largest magnitude of their products with steps, in lanes.
struct Extent {
    squares: Sixteen,
    most: Sixteen,
}

impl Extent {
    #[inline(always)]
    fn take(&mut self, values: &Sixteen, scale: f32, centre: &Sixteen, steps: &Sixteen) {
        let values = centred(values, scale, centre);
        for l in 0..LANES {
            self.squares[l] += values[l] * values[l];
            let product = (values[l] * steps[l]).abs();
            self.most[l] = if product > self.most[l] { product } else { self.most[l] };
        }
    }

    #[inline(always)]
    fn reduce(&self) -> (f32, f32) {
        let (mut squared, mut largest) = (0.0, 0.0);
        for l in 0..LANES {
            squared += self.squares[l];
            largest = if self.most[l] > largest { self.most[l] } else { largest };
        }
        (squared, largest)
    }
}

/// Sums of the high and of the low bytes, in lanes.
struct Sums {
    high: [i32; LANES],
    low: [i32; LANES],
}

impl Sums {
    #[inline(always)]
    fn put(&mut self, values: &Sixteen, steps: &Sixteen, factor: f32, out: (&mut [i16; LANES], &mut [i8; LANES], &mut [i8; LANES])) {
        for l in 0..LANES {
            let shifted = values[l] * steps[l] * factor + ROUNDER;
            let word = shifted.to_bits() as i32 - ROUNDER.to_bits() as i32;
            let upper = (word + 128) >> 8;
            let lower = word - (upper << 8);
            (out.0[l], out.1[l], out.2[l]) = (word as i16, upper as i8, lower as i8);
            self.high[l] += upper;
            self.low[l] += lower;
        }
    }

    #[inline(always)]
    fn reduce(&self) -> (i32, i32) {
        let (mut high, mut low) = (0, 0);
        for l in 0..LANES {
            high += self.high[l];
            low += self.low[l];
        }
        (high, low)
    }
}
