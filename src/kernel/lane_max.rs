//! [`Kernel::lane_max`](super::Kernel::highest): one loop for every table, compiled for each kind of CPU.

/// Lanes that are kept in registers while bounds are visited.
const SIDE: usize = 16;

/// The maxima, inlined into a function that is compiled for its CPU. No closures: those passed to iterator functions are
/// not compiled for it.
#[inline(always)]
pub fn lanes(bounds: &[f32], most: &mut [f32]) {
    let width = most.len();
    let whole = bounds.len() / width * width;
    let (sides, left) = most.as_chunks_mut::<SIDE>();
    for (first, most) in (0..).step_by(SIDE).zip(sides) {
        let mut held = *most;
        for row in bounds[..whole].chunks_exact(width) {
            let some = &row[first..first + SIDE];
            for lane in 0..SIDE {
                held[lane] = higher(held[lane], some[lane]);
            }
        }
        *most = held;
    }
    for row in bounds[..whole].chunks_exact(width) {
        others(left, &row[width - left.len()..]);
    }
    others(most, &bounds[whole..]);
}

#[inline(always)]
fn others(most: &mut [f32], some: &[f32]) {
    for (most, &bound) in most.iter_mut().zip(some) {
        *most = higher(*most, bound);
    }
}

/// The larger, unless the bound is infinity or NaN. The first comparison does not depend on `most`, which keeps the chain
/// of dependent instructions short.
#[inline(always)]
fn higher(most: f32, bound: f32) -> f32 {
    let bound = if bound < f32::INFINITY { bound } else { f32::NEG_INFINITY };
    if bound > most { bound } else { most }
}
