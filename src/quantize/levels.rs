//! Codes of one coordinate, as whole numbers of steps.
//!
//! A code of the leading dims is one of sixteen reconstruction levels (4 bits), closer where codes are frequent (Max, 1960),
//! and a refinement (4 bits) of 0 to 15 for 8 steps below the level to 7 above it.

use crate::kernel::{LEVEL_ZERO, OFFSET_ZERO, RECONSTRUCTION};

/// The largest level, 63; the smallest is its negative.
pub(super) const MAX_LEVEL: f64 = (RECONSTRUCTION[15] - LEVEL_ZERO) as f64;

/// The index of the level nearest to a whole `code`, and the refinement that comes nearest to it from there.
pub fn nearest_level(code: f32) -> (u8, u8) {
    let index = NEAREST[(code.clamp(-OUTERMOST, OUTERMOST) + OUTERMOST) as usize];
    let refinement = (code - level_value(index) + f32::from(OFFSET_ZERO)).clamp(0.0, 15.0);
    (index, refinement as u8)
}

/// The level of an index of 0 to 15, in steps.
pub fn level_value(index: u8) -> f32 {
    f32::from(RECONSTRUCTION[usize::from(index)]) - f32::from(LEVEL_ZERO)
}

/// Codes beyond are nearest to the outermost levels.
const OUTERMOST: f32 = 64.0;

/// The index of the level nearest to each code from -64 to 64, of two the lower.
const NEAREST: [u8; 129] = {
    let (mut nearest, mut code, mut level) = ([0; 129], 0, 0);
    while code < 129 {
        // Twice the code plus 64, against twice the midpoint of two levels.
        while level < 15 && 2 * code > RECONSTRUCTION[level] as usize + RECONSTRUCTION[level + 1] as usize {
            level += 1;
        }
        nearest[code] = level as u8;
        code += 1;
    }
    nearest
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_in_range_is_a_level_and_a_refinement() {
        let range = (level_value(0) - 8.0) as i32..=(level_value(15) + 7.0) as i32;
        for code in range.clone() {
            let (index, refinement) = nearest_level(code as f32);
            assert_eq!(level_value(index) as i32 + i32::from(refinement) - 8, code);
        }
        assert_eq!(nearest_level((range.start() - 100) as f32), nearest_level(*range.start() as f32));
        assert_eq!(nearest_level((range.end() + 100) as f32), nearest_level(*range.end() as f32));
    }

    #[test]
    fn no_level_is_nearer_than_the_one_named() {
        for code in -100..=100 {
            let distance = |index: u8| (level_value(index) - code as f32).abs();
            let nearest = (0..16).map(distance).fold(f32::INFINITY, f32::min);
            assert_eq!(distance(nearest_level(code as f32).0), nearest, "{code}");
        }
    }
}
