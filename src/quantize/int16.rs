//! Scalar quantisation to int16: `exact = step * word + e`, words from -32,639 to 32,639.

use super::encode::sum;

/// The largest word whose high byte fits int8, 127 * 256 + 127.
const LARGEST: f64 = 32_639.0;

/// High and low byte of a word, both int8: `word = 256 * high + low`.
pub fn bytes(word: i16) -> (i8, i8) {
    let high = (i32::from(word) + 128) >> 8;
    (high as i8, (i32::from(word) - 256 * high) as i8)
}

/// One byte of each word, as `part` picks it.
pub(super) fn plane(words: &[i16], part: impl Fn(i16) -> i8) -> Vec<i8> {
    words.iter().map(|&word| part(word)).collect()
}

/// The words nearest to `exact / step`, and the step: the largest magnitude over 32,639, rounded up.
pub fn quantize(exact: &[f64]) -> (Vec<i16>, f32) {
    let (chunks, remainder) = exact.as_chunks::<8>();
    let mut lanes = [0.0f64; 8];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, t)| *lane = if t.abs() > *lane { t.abs() } else { *lane });
    }
    let largest = lanes.iter().chain(remainder).fold(0.0f64, |largest, t| largest.max(t.abs()));
    let step = ((largest / LARGEST) as f32).next_up();
    let inverse = 1.0 / f64::from(step);
    (exact.iter().map(|t| word((t * inverse).clamp(-LARGEST, LARGEST))).collect(), step)
}

/// The integer nearest to `x`, ties to even; `x` is in the range of int16.
#[inline(always)]
pub(super) fn word(x: f64) -> i16 {
    // Adding 1.5 * 2^52 rounds to an integer, whose low bits are those of the sum. `round_ties_even` is a call on baseline
    // x86-64, and a cast of float64 saturates, which takes more instructions.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    (x + SHIFT).to_bits() as i16
}

/// The sum of all |e| of [`quantize`].
pub fn error_sum(exact: &[f64], words: &[i16], step: f32) -> f64 {
    sum(exact, words, |t, word| (t - f64::from(step) * f64::from(word)).abs())
}
