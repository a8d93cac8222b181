//! [`Kernel::by_norm`](super::Kernel::by_norm): one loop for every table, compiled for each kind of CPU.

/// A function of a float32 value v and a norm n: `(product v + norm) n + square n^2 + value v + constant`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByNorm {
    /// Factor of v.
    pub value: f64,
    /// Factor of v n.
    pub product: f64,
    /// Factor of n.
    pub norm: f64,
    /// Factor of n^2.
    pub square: f64,
    /// Added to all.
    pub constant: f64,
}

/// Replaces every value, inlined into a function that is compiled for its CPU.
#[inline(always)]
pub fn replace(terms: &ByNorm, norms: &[f64], values: &mut [f32]) {
    let (more, least) = (0.51 * f64::from(f32::EPSILON), f64::from(f32::from_bits(1)));
    let values = &mut values[..norms.len()];
    for i in 0..norms.len() {
        let (v, n) = (f64::from(values[i]), norms[i]);
        let exact = (terms.product * v + terms.norm) * n + (terms.square * n * n + terms.constant + terms.value * v);
        // Rounded to nearest, this is not below.
        values[i] = (exact + exact.abs() * more + least) as f32;
    }
}
