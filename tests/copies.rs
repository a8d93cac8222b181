//! The recall of unseen queries is measured with rows that have copies, and tables without copies are measured row by row.

mod random;

use nseekfs::ann::sample::{Neighbourhood, Sample, neighbourhoods};
use nseekfs::build::{BuildParams, Builder};
use nseekfs::index::{AnnKind, AnnParams, Index, Method, Recall, SearchParams};
use nseekfs::input::Block;
use nseekfs::kernel::scalar;
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use nseekfs::scan::{Plan, Queries};
use nseekfs::store::rows::{Rows, Values};
use random::Random;

const DIMS: usize = 24;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

/// A number from -1 to 1, most often near 0.
fn normal(random: &mut Random) -> f32 {
    (0..6).map(|_| (random.next() >> 11) as f32 / (1u64 << 53) as f32).sum::<f32>() / 3.0 - 1.0
}

/// Vectors of unit length.
fn vectors(count: usize, dims: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::seeded(seed);
    let mut values: Vec<f32> = (0..count * dims).map(|_| normal(&mut random)).collect();
    for row in values.chunks_exact_mut(dims) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= length);
    }
    values
}

/// Every row `copies` times, row i of all, then again row i of all, with noise.
fn repeated(values: &[f32], copies: usize, noise: f32) -> Vec<f32> {
    let mut random = Random::seeded(9);
    (0..copies).flat_map(|_| values).map(|x| x + noise * normal(&mut random)).collect()
}

/// The neighbourhoods of these rows of a table.
fn hoods(values: &[f32], dims: usize, own: &[usize], k: usize, metric: Metric) -> Vec<Neighbourhood> {
    let mut norms = vec![0.0; values.len() / dims];
    (scalar::KERNEL.squared_norm)(values, dims, &mut norms);
    norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
    let stored = Values::F32(values);
    let rows = Rows {
        dims,
        first: 0,
        values: stored,
        scattered: stored,
        norms: &norms,
        in_memory: true,
        codes: None,
        deleted: &nseekfs::store::deleted::NONE,
    };
    let asked: Vec<f32> = own.iter().flat_map(|&row| values[row * dims..(row + 1) * dims].to_vec()).collect();
    let queries = Queries::new(&scalar::KERNEL, Level::F32, Block::F32(&asked), dims, 0).unwrap();
    let method = Method::Auto;
    let plan = Plan { metric, k, kernel: &scalar::KERNEL, method, threads: 2, quantizer: None, unit: false, threshold: f64::NEG_INFINITY };
    neighbourhoods(Sample { queries: &queries, own: Some(own) }, k, &plan, &[rows], &Watch::new(&|| true)).unwrap()
}

#[test]
fn copies_of_a_query_are_no_neighbours_and_ask_once() {
    let texts = vectors(200, DIMS, 1);
    for (noise, metric) in
        [(0.0, Metric::Cosine), (1e-3, Metric::Cosine), (0.0, Metric::Dot), (1e-3, Metric::Dot), (1e-3, Metric::Euclidean)]
    {
        let table = repeated(&texts, 30, noise);
        // Rows of the same text are 200 apart.
        let found = hoods(&table, DIMS, &[7, 207, 12, 3012], 10, metric);
        assert_eq!(found.iter().map(|hood| hood.query).collect::<Vec<_>>(), [0, 2], "{metric:?}, noise {noise}");
        for (hood, text) in found.iter().zip([7, 12]) {
            assert_eq!(hood.ignored, (0..30).map(|copy| text + 200 * copy).collect::<Vec<u64>>());
            assert_eq!(hood.near.len(), 10);
            assert!(hood.near.iter().all(|row| row % 200 != text));
        }
    }
}

#[test]
fn rows_without_copies_have_the_neighbours_of_the_table() {
    for (dims, metric) in METRICS.into_iter().flat_map(|metric| [(DIMS, metric), (6, metric)]) {
        let (table, own) = (vectors(2000, dims, 2), [3usize, 40, 1999]);
        for (hood, own) in hoods(&table, dims, &own, 10, metric).iter().zip(own) {
            let key = |row: usize| {
                let pair = |i: usize| (f64::from(table[own * dims + i]), f64::from(table[row * dims + i]));
                (0..dims)
                    .map(|i| if metric == Metric::Euclidean { -(pair(i).0 - pair(i).1).powi(2) } else { pair(i).0 * pair(i).1 })
                    .sum::<f64>()
            };
            let mut others: Vec<u64> = (0..2000).filter(|&row| row != own as u64).collect();
            others.sort_by(|&a, &b| key(b as usize).total_cmp(&key(a as usize)));
            assert_eq!((hood.near.as_slice(), hood.ignored.as_slice()), (&others[..10], [own as u64].as_slice()));
        }
    }
}

#[test]
fn tables_of_nothing_but_copies_and_zeros_are_measured_with_them() {
    let one = repeated(&vectors(1, DIMS, 3), 50, 0.0);
    for (table, metric) in [(&one, Metric::Cosine), (&vec![0.0; 50 * DIMS], Metric::Cosine), (&vec![0.0; 50 * DIMS], Metric::Euclidean)] {
        let found = hoods(table, DIMS, &[1, 30], 10, metric);
        assert_eq!(found.iter().map(|hood| (hood.near.len(), hood.ignored.len())).collect::<Vec<_>>(), [(10, 1), (10, 1)]);
    }
    // Rows without a direction do not ask, and are a crowd of the euclidean distance.
    let some = [vec![0.0; 50 * DIMS], vectors(50, DIMS, 4)].concat();
    let asked = |metric| hoods(&some, DIMS, &[1, 30, 60], 10, metric).iter().map(|hood| hood.query).collect::<Vec<_>>();
    assert_eq!((asked(Metric::Cosine), asked(Metric::Euclidean)), (vec![2], vec![0, 2]));
    let pair = vectors(2, DIMS, 5);
    assert_eq!(hoods(&pair, DIMS, &[1], 1, Metric::Cosine)[0].near, [0]);
    assert!(hoods(&pair[..DIMS], DIMS, &[0], 1, Metric::Cosine)[0].near.is_empty());
}

fn index(values: &[f32], kind: AnnKind, recall: f64, threads: i64) -> Index {
    let watch = Watch::new(&|| true);
    let ann = AnnParams { kind: Some(kind), recall, ..AnnParams::default() };
    let params = BuildParams { ann: Some(ann), threads: Some(threads), ..BuildParams::default() };
    let mut builder = Builder::new((values.len() / DIMS) as u64, DIMS, params).unwrap();
    builder.push(Block::F32(values), DIMS, &watch).unwrap();
    builder.finish(&watch).unwrap()
}

fn recall(index: &Index, queries: Option<&[f32]>) -> Recall {
    index
        .recall(
            queries.map(|queries| (Block::F32(queries), DIMS)),
            &SearchParams { k: 10, ..SearchParams::default() },
            &Watch::new(&|| true),
        )
        .unwrap()
}

#[test]
fn unseen_queries_of_a_table_of_copies_get_the_recall_asked_for() {
    let (texts, queries) = (vectors(800, DIMS, 6), vectors(400, DIMS, 7));
    for (kind, noise) in [(AnnKind::Ivf, 0.0), (AnnKind::Ivf, 1e-3), (AnnKind::Lsh, 1e-3)] {
        let index = index(&repeated(&texts, 20, noise), kind, 0.8, 2);
        let (told, measured) = (recall(&index, None), recall(&index, Some(&queries)));
        assert!(measured.recall >= 0.75, "{kind:?}, noise {noise}: {measured:?}");
        assert!((told.recall - measured.recall).abs() < 0.1, "{kind:?}, noise {noise}: {told:?}, {measured:?}");
        assert!(told.queries < 700);
    }
}

#[test]
fn tuning_on_copies_is_the_same_for_any_number_of_threads() {
    let table = repeated(&vectors(300, DIMS, 8), 20, 1e-3);
    for kind in [AnnKind::Ivf, AnnKind::Lsh] {
        let [one, four] = [1, 4].map(|threads| index(&table, kind, 0.9, threads));
        assert_eq!(one.ann().unwrap().1, four.ann().unwrap().1);
        assert_eq!(recall(&one, None).recall.to_bits(), recall(&four, None).recall.to_bits());
    }
}
