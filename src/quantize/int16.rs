//! Real numbers in whole steps of 16 bits: `exact = step * T + e`, T from -32,639 to 32,639, |e| summed up.

use super::encode::sum;

/// Largest |T| whose high byte fits, 127 * 256 + 127.
const LARGEST: f64 = 32_639.0;

/// High and low byte of a word, both signed: `word = 256 * high + low`.
pub fn bytes(word: i16) -> (i8, i8) {
    let high = (i32::from(word) + 128) >> 8;
    (high as i8, (i32::from(word) - 256 * high) as i8)
}

/// One byte of each word.
pub(super) fn plane(words: &[i16], part: impl Fn(i16) -> i8) -> Vec<i8> {
    words.iter().map(|&word| part(word)).collect()
}

/// Numbers in whole steps of 16 bits: `exact = step * word + e`, and the step.
pub fn whole_words(exact: &[f64]) -> (Vec<i16>, f32) {
    let (eights, left) = exact.as_chunks::<8>();
    let mut most = [0.0f64; 8];
    for eight in eights {
        most.iter_mut().zip(eight).for_each(|(most, t)| *most = if t.abs() > *most { t.abs() } else { *most });
    }
    let largest = most.iter().chain(left).fold(0.0f64, |most, t| most.max(t.abs()));
    let step = ((largest / LARGEST) as f32).next_up();
    let inverse = 1.0 / f64::from(step);
    (exact.iter().map(|t| word((t * inverse).clamp(-LARGEST, LARGEST))).collect(), step)
}

/// The nearest whole number, ties to even, of one within the range of words.
#[inline(always)]
pub(super) fn word(x: f64) -> i16 {
    // The sum keeps no bits for a fraction and ends in the whole number's own bits; `round_ties_even` would be
    // a call on old CPUs, and a cast would look for numbers beyond all.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    (x + SHIFT).to_bits() as i16
}

/// The sum of all |e| of [`whole_words`].
pub fn lost(exact: &[f64], words: &[i16], step: f32) -> f64 {
    sum(exact, words, |t, word| (t - f64::from(step) * f64::from(word)).abs())
}
