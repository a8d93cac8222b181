//! float64 to IEEE 754 binary16, rounded once: rounding to float32 first would differ from numpy's `astype` on ties.

/// The difference of the exponent biases of binary64 (1023) and binary16 (15), shifted to binary16's exponent.
const REBIAS: u64 = (1023 - 15) << 10;

/// The bits of the nearest binary16, ties to even; values that would round beyond 65504 become infinity, NaN stays NaN.
#[inline(always)]
pub fn from_f64(value: f64) -> u16 {
    let sign = (value.to_bits() >> 48) as u16 & 0x8000;
    let magnitude = value.abs();
    let bits = if magnitude < 6.103515625e-5 {
        // Below 2^-14: multiples of 2^-24. Adding 2^28 leaves 52 - 28 = 24 fraction bits, so the
        // addition itself rounds to nearest even, and the low bits are the count.
        ((magnitude + 268_435_456.0).to_bits() & 0xffff) as u16
    } else if magnitude < 65520.0 {
        // Keeps 10 of 52 fraction bits: adds half a unit less one, and one more if the kept bits are odd.
        let wide = magnitude.to_bits();
        let rounded = wide + ((1 << 41) - 1) + (wide >> 42 & 1);
        ((rounded >> 42) - REBIAS) as u16
    } else if magnitude.is_nan() {
        0x7e00
    } else {
        0x7c00
    };
    sign | bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::scalar;
    use proptest::prelude::*;

    /// Every finite magnitude in order; code + 1 is the next larger.
    fn value(code: u16) -> f64 {
        let mut out = [0.0];
        (scalar::KERNEL.decode_f16)(&[code], &mut out);
        f64::from(out[0])
    }

    #[test]
    fn every_half_and_every_tie_rounds_to_nearest_even() {
        for code in 0..0x7bffu16 {
            let (low, high) = (value(code), value(code + 1));
            let tie = (low + high) / 2.0;
            let even = code + (code & 1);
            for (given, want) in [(low, code), (tie, even), (tie.next_down(), code), (tie.next_up(), code + 1)] {
                assert_eq!(from_f64(given), want, "{given:e}");
                assert_eq!(from_f64(-given), want | 0x8000, "{given:e}");
            }
        }
        assert_eq!((from_f64(65504.0), from_f64(65519.99), from_f64(65520.0)), (0x7bff, 0x7bff, 0x7c00));
        assert_eq!((from_f64(f64::NAN), from_f64(f64::NEG_INFINITY)), (0x7e00, 0xfc00));
    }

    proptest! {
        #[test]
        fn no_neighbour_is_nearer(given in -70000.0f64..70000.0) {
            let code = from_f64(given) & 0x7fff;
            prop_assume!(code < 0x7bff && code > 0);
            let error = (value(code) - given.abs()).abs();
            prop_assert!(error <= (value(code + 1) - given.abs()).abs() && error <= (value(code - 1) - given.abs()).abs());
        }
    }
}
