//! [`Kernel::words`](super::Kernel::words): one loop for every table, compiled for each kind of CPU.
//!
//! Sixteen lanes side by side and no choice left to the compiler, so that all tables round alike.

use super::{Frame, Planes, Rounded, wide_stride};

/// Values side by side.
const LANES: usize = 16;

/// The largest word, a little less than a [`Sieve`](super::Sieve) takes.
const LARGEST: f32 = 32_638.0;

/// Products from here on, and what is no number, become no words.
const HUGE: f32 = 1.267_650_6e30;

/// Added and taken off, it rounds a float32 below 2^22 to a whole number, to nearest.
const ROUNDER: f32 = 12_582_912.0;

/// Panics unless the lengths fit.
#[inline(always)]
pub fn check(row: &[f32], frame: &Frame, planes: &Planes) {
    let stride = wide_stride(row.len());
    assert!(!row.is_empty() && frame.centre.len() == stride && frame.steps.len() == stride);
    assert!(planes.words.len() == stride && planes.high.len() == stride && planes.low.len() == stride);
}

/// The loop, for a caller that is compiled for its CPU.
#[inline(always)]
pub fn round(row: &[f32], frame: &Frame, planes: &mut Planes) -> Rounded {
    let (mut squares, mut most) = ([0.0f32; LANES], [0.0f32; LANES]);
    each(row, frame, |_, values, steps| {
        for l in 0..LANES {
            squares[l] += values[l] * values[l];
            let product = (values[l] * steps[l]).abs();
            most[l] = if product > most[l] { product } else { most[l] };
        }
    });
    let squared = squares.iter().sum::<f32>();
    let most = most.iter().fold(0.0f32, |most, &lane| if lane > most { lane } else { most });
    // Not below: what is no number is no better.
    let whole = most < HUGE && squared < f32::INFINITY;
    let factor = if whole && most > 0.0 { LARGEST / most } else { 0.0 };
    if factor == 0.0 || factor == f32::INFINITY {
        let end = row.len().next_multiple_of(LANES);
        planes.words[..end].fill(0);
        planes.high[..end].fill(0);
        planes.low[..end].fill(0);
        let step = if whole && most == 0.0 { 0.0 } else { f32::NAN };
        return Rounded { step, squared, high_sum: 0, low_sum: 0 };
    }
    let (mut high_sums, mut low_sums) = ([0i32; LANES], [0i32; LANES]);
    let (words, high, low) =
        (planes.words.as_chunks_mut::<LANES>().0, planes.high.as_chunks_mut::<LANES>().0, planes.low.as_chunks_mut::<LANES>().0);
    each(row, frame, |at, values, steps| {
        for l in 0..LANES {
            let shifted = values[l] * steps[l] * factor + ROUNDER;
            let word = shifted.to_bits() as i32 - ROUNDER.to_bits() as i32;
            let upper = (word + 128) >> 8;
            let lower = word - (upper << 8);
            words[at][l] = word as i16;
            high[at][l] = upper as i8;
            low[at][l] = lower as i8;
            high_sums[l] += upper;
            low_sums[l] += lower;
        }
    });
    Rounded { step: most / LARGEST, squared, high_sum: high_sums.iter().sum(), low_sum: low_sums.iter().sum() }
}

/// Calls `visit` with sixteen centred values and their steps at a time; beyond the row they are zero.
#[inline(always)]
fn each(row: &[f32], frame: &Frame, mut visit: impl FnMut(usize, [f32; LANES], &[f32; LANES])) {
    let (chunks, tail) = row.as_chunks::<LANES>();
    let mut last = [0.0; LANES];
    last[..tail.len()].copy_from_slice(tail);
    let parts = frame.centre.as_chunks::<LANES>().0.iter().zip(frame.steps.as_chunks::<LANES>().0);
    for (at, (centre, steps)) in parts.enumerate().take(row.len().div_ceil(LANES)) {
        let values = chunks.get(at).unwrap_or(&last);
        let mut centred = [0.0; LANES];
        for l in 0..LANES {
            centred[l] = values[l] * frame.scale - centre[l];
        }
        visit(at, centred, steps);
    }
}
