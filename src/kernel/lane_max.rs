//! [`Kernel::lane_max`](super::Kernel::highest): one loop for every table, compiled for each kind of CPU.

/// Lanes side by side, which registers hold.
const SIDE: usize = 16;

/// The loop, for a caller that is compiled for its CPU. No closures: they would not be.
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

/// The bound, if it is finite and higher. What does not wait for `most` comes first.
#[inline(always)]
fn higher(most: f32, bound: f32) -> f32 {
    let bound = if bound < f32::INFINITY { bound } else { f32::NEG_INFINITY };
    if bound > most { bound } else { most }
}
