//! The cells of a coordinate's code: which one holds a code, and where it lies.
//!
//! A code is a whole number of steps. In the lead it is a cell, one of sixteen that are close together where
//! codes are many, and what stands beside it, 0 to 15 for up to 8 below its centre and 7 above.

use crate::kernel::{CELL_MIDDLE, CELL_ZERO, CELLS};

/// The number of the cell that holds a whole `code`, and what stands beside it for the code or the nearest
/// to it that can be had.
pub fn cell(code: f32) -> (u8, u8) {
    let place = |code: f32| (code.clamp(-OUTERMOST, OUTERMOST) + OUTERMOST) as usize;
    let number = NEAREST[place(code)];
    let beside = (code - cell_centre(number) + f32::from(CELL_MIDDLE)).clamp(0.0, 15.0);
    (number, beside as u8)
}

/// Where a cell lies, in steps.
pub fn cell_centre(number: u8) -> f32 {
    f32::from(CELLS[usize::from(number)]) - f32::from(CELL_ZERO)
}

/// Codes beyond belong to the outermost cells.
const OUTERMOST: f32 = 64.0;

/// The cell nearest to each code from -64 to 64, of two the lower.
const NEAREST: [u8; 129] = {
    let (mut nearest, mut code, mut cell) = ([0; 129], 0, 0);
    while code < 129 {
        // Twice the place of the code, from -64, against that of the middle between two cells.
        while cell < 15 && 2 * code > CELLS[cell] as usize + CELLS[cell + 1] as usize {
            cell += 1;
        }
        nearest[code] = cell as u8;
        code += 1;
    }
    nearest
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_within_reach_is_a_cell_and_what_stands_beside_it() {
        let reach = (cell_centre(0) - 8.0) as i32..=(cell_centre(15) + 7.0) as i32;
        for code in reach.clone() {
            let (number, beside) = cell(code as f32);
            assert_eq!(cell_centre(number) as i32 + i32::from(beside) - 8, code);
        }
        assert_eq!(cell((reach.start() - 100) as f32), cell(*reach.start() as f32));
        assert_eq!(cell((reach.end() + 100) as f32), cell(*reach.end() as f32));
    }

    #[test]
    fn no_cell_is_nearer_than_the_one_named() {
        for code in -100..=100 {
            let distance = |number: u8| (cell_centre(number) - code as f32).abs();
            let nearest = (0..16).map(distance).fold(f32::INFINITY, f32::min);
            assert_eq!(distance(cell(code as f32).0), nearest, "{code}");
        }
    }
}
