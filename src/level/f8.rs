//! One signed byte a value and one float32 scale a row.
//!
//! On embeddings, whose values share one order of magnitude, the error of these linear steps is about a third of that
//! of 8-bit floats, which spend bits on exponents.

/// The largest code. -128 is not used, so that negating a row negates its codes.
const LARGEST: f64 = 127.0;
/// 1.5 * 2^52: adding and subtracting it rounds a float64 below 2^51 to the nearest even integer.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Writes the codes of a row and returns its scale, `f32(max |x| / 127)`; code = rint(x / scale).
///
/// A row whose scale is 0 (all values zero, or too small for a float32 scale) gets codes 0. Values must be finite.
pub fn encode(row: &[f64], codes: &mut [i8]) -> f32 {
    let largest = row.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let scale = (largest / LARGEST) as f32;
    if scale == 0.0 {
        codes.fill(0);
        return 0.0;
    }
    let step = f64::from(scale);
    for (code, x) in codes.iter_mut().zip(row) {
        // A scale rounded down can push the quotient past 127 when it is subnormal.
        let quotient = (x / step).clamp(-LARGEST, LARGEST);
        *code = ((quotient + ROUND) - ROUND) as i8;
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_rows_and_rows_below_every_scale_have_scale_zero() {
        let mut codes = [1i8; 3];
        assert_eq!((encode(&[0.0, -0.0, 0.0], &mut codes), codes), (0.0, [0; 3]));
        assert_eq!((encode(&[1e-60, 0.0, 0.0], &mut codes), codes), (0.0, [0; 3]));
    }

    proptest! {
        #[test]
        fn codes_are_the_nearest_and_the_largest_is_127(row in prop::collection::vec(-1e3f64..1e3, 1..50)) {
            let mut codes = vec![0i8; row.len()];
            let scale = f64::from(encode(&row, &mut codes));
            prop_assume!(scale > 0.0);
            for (&code, &x) in codes.iter().zip(&row) {
                prop_assert_eq!(f64::from(code), (x / scale).round_ties_even().clamp(-127.0, 127.0));
            }
            prop_assert_eq!(codes.iter().map(|c| c.unsigned_abs()).max(), Some(127));
        }
    }
}
