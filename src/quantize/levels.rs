//! The cells of a coordinate's code: which one holds a code, and where it lies.
//!
//! A code is a whole number of steps. In the lead it is a cell, one of sixteen that are close together where
//! codes are many, and what stands beside it, 0 to 15 for up to 8 below its centre and 7 above.

use crate::kernel::{LEVEL_ZERO, OFFSET_ZERO, RECONSTRUCTION};

/// The level farthest from 0; the other end is as far.
pub(super) const FARTHEST: f64 = (RECONSTRUCTION[15] - LEVEL_ZERO) as f64;

/// The number of the cell that holds a whole `code`, and what stands beside it for the code or the nearest
/// to it that can be had.
pub fn nearest_level(code: f32) -> (u8, u8) {
    let place = |code: f32| (code.clamp(-OUTERMOST, OUTERMOST) + OUTERMOST) as usize;
    let number = NEAREST[place(code)];
    let beside = (code - level_value(number) + f32::from(OFFSET_ZERO)).clamp(0.0, 15.0);
    (number, beside as u8)
}

/// Where a cell lies, in steps.
pub fn level_value(number: u8) -> f32 {
    f32::from(RECONSTRUCTION[usize::from(number)]) - f32::from(LEVEL_ZERO)
}

/// Codes beyond belong to the outermost cells.
const OUTERMOST: f32 = 64.0;

/// The cell nearest to each code from -64 to 64, of two the lower.
const NEAREST: [u8; 129] = {
    let (mut nearest, mut code, mut level) = ([0; 129], 0, 0);
    while code < 129 {
        // Twice the place of the code, from -64, against that of the middle between two cells.
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
    fn every_code_within_reach_is_a_level_and_what_stands_beside_it() {
        let reach = (level_value(0) - 8.0) as i32..=(level_value(15) + 7.0) as i32;
        for code in reach.clone() {
            let (number, beside) = nearest_level(code as f32);
            assert_eq!(level_value(number) as i32 + i32::from(beside) - 8, code);
        }
        assert_eq!(nearest_level((reach.start() - 100) as f32), nearest_level(*reach.start() as f32));
        assert_eq!(nearest_level((reach.end() + 100) as f32), nearest_level(*reach.end() as f32));
    }

    #[test]
    fn no_level_is_nearer_than_the_one_named() {
        for code in -100..=100 {
            let distance = |number: u8| (level_value(number) - code as f32).abs();
            let nearest = (0..16).map(distance).fold(f32::INFINITY, f32::min);
            assert_eq!(distance(nearest_level(code as f32).0), nearest, "{code}");
        }
    }
}
