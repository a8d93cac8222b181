//! [`Kernel::highest`](super::Kernel::highest): one loop for every table, compiled for each kind of CPU.

/// The loop, for a caller that is compiled for its CPU.
#[inline(always)]
pub fn lanes(bounds: &[f32], most: &mut [f32]) {
    for some in bounds.chunks(most.len()) {
        for (most, &bound) in most.iter_mut().zip(some) {
            *most = if bound > *most && bound < f32::INFINITY { bound } else { *most };
        }
    }
}
