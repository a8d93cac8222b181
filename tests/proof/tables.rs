//! Tables of rows from fixed seeds, each hard on bounds in its own way.

use nseekfs::random;

/// The library's random stream, by the distributions that tables need.
pub struct Random(random::Random);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Random(random::Random::new(seed))
    }

    pub fn below_one(&mut self) -> f64 {
        self.0.unit()
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.below_one() * end as f64) as usize
    }

    /// Nearly normal, variance 1.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.below_one()).sum::<f64>() - 6.0
    }

    pub fn normals(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.normal()).collect()
    }
}

pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

pub const KINDS: [&str; 13] = [
    "gaussian",
    "power law",
    "common direction",
    "duplicates",
    "all equal",
    "integers",
    "sorted",
    "long and short",
    "offset",
    "half zero",
    "one ulp apart",
    "dead dims",
    "nearly unit",
];

/// `rows` rows of one of [`KINDS`].
pub fn table(kind: &str, rows: usize, dims: usize) -> Vec<f32> {
    let mut random = Random::seeded(rows as u64 + dims as u64);
    let mut values = random.normals(rows * dims);
    let falling = |j: usize| 1.0 / (1.0 + j as f64 / 4.0);
    let first: Vec<f64> = values[..dims].to_vec();
    let length = first.iter().map(|x| x * x).sum::<f64>().sqrt();
    for (i, row) in values.chunks_exact_mut(dims).enumerate() {
        match kind {
            "gaussian" => {}
            "common direction" => {
                // A mean cosine of about 0.7.
                row.iter_mut().zip(&first).for_each(|(x, c)| *x += 1.53 * c / length * (dims as f64).sqrt());
            }
            "all equal" => row.copy_from_slice(&first),
            "integers" => row.iter_mut().for_each(|x| *x = x.round()),
            "offset" => row.iter_mut().for_each(|x| *x = *x * 1e-3 + 5.0),
            "half zero" if random.below_one() < 0.5 => row.fill(0.0),
            "one ulp apart" => {
                row.copy_from_slice(&first);
                let j = random.below(dims);
                row[j] = f64::from((row[j] as f32).next_up());
            }
            _ => row.iter_mut().enumerate().for_each(|(j, x)| *x *= falling(j)),
        }
        if kind == "long and short" {
            let factor = (16.0 * random.below_one() - 8.0).exp();
            row.iter_mut().for_each(|x| *x *= factor);
        }
        if kind == "dead dims" {
            row[dims / 2..].fill(if i % 1000 == 7 { 0.5 } else { 0.0 });
        }
    }
    if kind == "duplicates" {
        for i in (0..rows).filter(|i| i % 10 < 3) {
            let from = random.below(rows / 50) * 50 + 5;
            values.copy_within(from * dims..(from + 1) * dims, i * dims);
        }
    }
    if kind == "nearly unit" {
        for row in values.chunks_exact_mut(dims) {
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt() / (1.0 + 1.99e-3 * (2.0 * random.below_one() - 1.0));
            row.iter_mut().for_each(|x| *x /= length);
        }
    }
    if kind == "sorted" {
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|&a, &b| values[a * dims].total_cmp(&values[b * dims]));
        values = order.iter().flat_map(|&i| values[i * dims..(i + 1) * dims].to_vec()).collect();
    }
    narrow(&values)
}

/// Queries: rows, rows with noise, a negated row, zero, unrelated vectors, a long one, a short one.
pub fn queries(rows: &[f32], dims: usize) -> Vec<f32> {
    let mut random = Random::seeded(77);
    let count = rows.len() / dims;
    let row = |i: usize| rows[i * dims..(i + 1) * dims].to_vec();
    let mut all = [row(0), row(count / 2), row(count - 1)].concat();
    for i in [count / 3, 2 * count / 3] {
        all.extend(row(i).iter().map(|x| x + 0.02 * random.normal() as f32));
    }
    all.extend(row(count / 5).iter().map(|x| -x));
    all.extend(vec![0.0; dims]);
    all.extend(narrow(&random.normals(2 * dims)));
    all.extend(row(count / 7).iter().map(|x| x * 3e9));
    all.extend(row(count / 9).iter().map(|x| x * 1e-9));
    all
}

/// Rows that codes represent badly, in float64.
pub fn extremes(dims: usize) -> Vec<f64> {
    let mut random = Random::seeded(dims as u64);
    let mut all = Vec::new();
    let mut add = |row: &dyn Fn(usize) -> f64| all.extend((0..dims).map(row));
    for hot in [0, 7, dims / 2, dims - 1] {
        add(&|j| f64::from(u8::from(j == hot)));
        add(&|j| -1e-12 * f64::from(u8::from(j == hot)));
    }
    add(&|_| 1.0);
    add(&|_| -3e18);
    add(&|j| if j % 2 == 0 { 1.0 } else { -1.0 });
    add(&|j| if j % 3 == 0 { 0.25 } else { -4.0 });
    add(&|j| if j < dims / 2 { 1.0 } else { -1.0 });
    add(&|j| 10f64.powf(30.0 - 60.0 * j as f64 / dims as f64) * if j % 2 == 0 { 1.0 } else { -1.0 });
    add(&|j| 2f64.powi(j as i32 % 60 - 30));
    // Subnormal float32 values, and float64 values whose squares nearly are.
    add(&|j| f64::from(f32::from_bits(1 + j as u32)));
    add(&|j| -f64::from(f32::from_bits(1 << (j % 23))));
    add(&|j| 1e-149 * (1.0 + j as f64));
    add(&|_| 0.0);
    let base = random.normals(dims);
    add(&|j| base[j]);
    add(&|j| if j == dims / 3 { base[j].next_up() } else { base[j] });
    add(&|j| f64::from((base[j] as f32).next_down()));
    add(&|j| -base[j]);
    all
}
