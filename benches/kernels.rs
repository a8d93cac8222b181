//! Speed of every kernel that this CPU can run: bytes of rows a second where memory decides,
//! multiply-adds (elements) a second where arithmetic does.
//!
//! `cargo bench --bench kernels -- [filter]`. `NSEEKFS_BENCH_DIMS` (384), `NSEEKFS_BENCH_ROWS`
//! (200000: a table larger than caches) and `NSEEKFS_BENCH_PANEL` (256: rows that stay in L2 while
//! tiles of queries pass over them) set the sizes; `NSEEKFS_BENCH_LEAD` (192 coordinates) and
//! `NSEEKFS_BENCH_CODES` (1048576 rows, 100 MB) those of codes.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nseekfs::kernel::{CoarseQuery, Kernel, Lines, Tile, available, padded};

/// A whole number from the environment.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: expected a whole number, got {text:?}")))
}

/// Values in [-0.5, 0.5) from Knuth's MMIX generator.
fn values(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// Measures `run` of every kernel under `name`.
fn each(group: &mut BenchmarkGroup<WallTime>, name: &str, mut run: impl FnMut(&Kernel)) {
    for kernel in available() {
        group.bench_function(BenchmarkId::new(name, kernel.name), |bencher| bencher.iter(|| run(kernel)));
    }
}

/// One query against every row of a table in memory.
fn stream(criterion: &mut Criterion) {
    let (dims, rows) = (number("NSEEKFS_BENCH_DIMS", 384), number("NSEEKFS_BENCH_ROWS", 200_000));
    let table = values(rows * dims);
    let mut query = vec![0.0; padded(dims)];
    query.iter_mut().zip(&table[..dims]).for_each(|(q, &x)| *q = f64::from(x));
    let mut out = vec![0.0; rows];
    let mut group = criterion.benchmark_group(format!("stream of {rows} x {dims}"));
    group.sample_size(10).throughput(Throughput::Bytes(size_of_val(&table[..]) as u64));
    each(&mut group, "dot", |kernel| (kernel.dot)(&query, &table, dims, &mut out));
    each(&mut group, "squared_distance", |kernel| (kernel.squared_distance)(&query, &table, dims, &mut out));
    each(&mut group, "squared_norm", |kernel| (kernel.squared_norm)(&table, dims, &mut out));
}

/// A tile of queries against a panel of rows, both in cache.
fn tile(criterion: &mut Criterion) {
    let (dims, panel) = (number("NSEEKFS_BENCH_DIMS", 384), number("NSEEKFS_BENCH_PANEL", 256));
    let (rows, columns, ones) = (values(panel * dims), values(32 * dims), vec![1.0; panel.max(32)]);
    let mut keep = vec![0; panel];
    let mut group = criterion.benchmark_group(format!("tile over {panel} x {dims}"));
    for width in [16, 32] {
        let tile = Tile { width, columns: &columns[..width * dims], slope: &ones[..width], threshold: &ones[..width] };
        group.throughput(Throughput::Elements((width * panel * dims) as u64));
        each(&mut group, &format!("width {width}"), |kernel| {
            (kernel.tile)(&tile, &rows, dims, &ones[..panel], &ones[..panel], &mut keep);
        });
    }
}

/// Codes of a panel in cache.
fn decode(criterion: &mut Criterion) {
    let (dims, panel) = (number("NSEEKFS_BENCH_DIMS", 384), number("NSEEKFS_BENCH_PANEL", 256));
    let halves: Vec<u16> = (0..panel * dims).map(|i| i as u16 & 0x3fff).collect();
    let bytes: Vec<i8> = (0..panel * dims).map(|i| i as i8).collect();
    let (scales, mut out) = (vec![0.01; panel], vec![0.0; panel * dims]);
    let mut group = criterion.benchmark_group(format!("decode {panel} x {dims}"));
    group.throughput(Throughput::Elements((panel * dims) as u64));
    each(&mut group, "f16", |kernel| (kernel.decode_f16)(&halves, &mut out));
    each(&mut group, "f8", |kernel| (kernel.decode_f8)(&bytes, &scales, dims, &mut out));
}

/// One query against codes, of rows that stay in L2 and of a table in memory.
fn bounds(criterion: &mut Criterion) {
    let leading = number("NSEEKFS_BENCH_LEAD", 192);
    let rows = number("NSEEKFS_BENCH_CODES", 1 << 20);
    let plane: Vec<i8> = (0..leading).map(|j| (j * 37) as i8).collect();
    let probe = CoarseQuery { high: &plane, low: &plane, high_sum: 0, low_sum: 0, step: 1e-5, base: 0.0, leading: 0.5, trailing: 0.5 };
    let codes: Vec<u8> = (0..rows * leading / 2 + 64).map(|i| (i * 101 / 8) as u8).collect();
    // As in an index, lines are lines of a cache.
    let codes = &codes[codes.as_ptr().align_offset(64)..];
    let (offsets, residuals, mut out) = (vec![0.1; rows], vec![0x3d00; rows], vec![0.0; rows]);
    for rows in [4096, rows] {
        let lines = Lines {
            codes: &codes[..rows * leading / 2],
            offsets: &offsets[..rows],
            leading: &residuals[..rows],
            trailing: &residuals[..rows],
            next: &[],
        };
        let mut group = criterion.benchmark_group(format!("bounds of {rows} x {leading}"));
        group.sample_size(10).throughput(Throughput::Bytes((rows * (leading / 2 + 8)) as u64));
        each(&mut group, "bounds", |kernel| (kernel.bounds)(&[probe], &lines, &mut out[..rows]));
    }
}

criterion_group!(benches, stream, bounds, tile, decode);
criterion_main!(benches);
