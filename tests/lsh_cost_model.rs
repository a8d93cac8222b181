//! The LSH cost model: its estimates agree with tables that are built, no other choice costs much less than its own, and
//! it is the same for every kernel and number of threads.

mod random;

use nseekfs::ann::lsh::build::BuiltTables;
use nseekfs::ann::lsh::cost_model::{self, Costs, Estimate, Workload};
use nseekfs::ann::lsh::hash::{Hasher, Params};
use nseekfs::ann::lsh::probe::QueryHash;
use nseekfs::ann::lsh::tables::Scratch;
use nseekfs::ann::sample::{Sample, neighbourhoods};
use nseekfs::input::Block;
use nseekfs::kernel::{Kernel, runnable, scalar};
use nseekfs::level::Level;
use nseekfs::metric::Metric;
use nseekfs::pool::Watch;
use nseekfs::scan::{Method, Plan, Queries};
use nseekfs::store::rows::{Rows, Values};
use random::Random;

const COUNT: usize = 8000;
const DIMS: usize = 40;
/// Costs for rows of 512 bytes, in bytes streamed in the same time.
const COSTS: Costs = Costs { probe: 3000.0, row: 3500.0, entry: 1200.0 };

/// A table, some of its rows as queries, and their neighbours.
struct Case {
    values: Vec<f32>,
    norms: Vec<f64>,
    queries: Queries,
    near: Vec<Vec<u64>>,
}

impl Case {
    /// Rows around `centres` centres, `spread` wide; every `step`-th row is a query.
    fn new(centres: usize, spread: f32, step: usize) -> Self {
        let mut random = Random::seeded(20);
        // A sum of eight numbers is nearly normal.
        let mut number = || (0..8).map(|_| (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).sum::<f32>();
        let middle: Vec<f32> = (0..centres * DIMS).map(|_| number()).collect();
        let values: Vec<f32> = (0..COUNT * DIMS).map(|i| middle[i / DIMS % centres * DIMS + i % DIMS] + spread * number()).collect();
        let mut norms = vec![0.0; COUNT];
        (scalar::KERNEL.squared_norm)(&values, DIMS, &mut norms);
        norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
        let own: Vec<usize> = (0..COUNT).step_by(step).collect();
        let values_of_queries: Vec<f32> = own.iter().flat_map(|&row| values[row * DIMS..(row + 1) * DIMS].to_vec()).collect();
        let queries = Queries::new(&scalar::KERNEL, Level::F32, Block::F32(&values_of_queries), DIMS, 0).unwrap();
        let mut case = Case { values, norms, queries, near: Vec::new() };
        let sample = Sample { queries: &case.queries, own: Some(&own) };
        let hoods = neighbourhoods(sample, 10, &plan(&scalar::KERNEL, 2), &[case.rows()], &Watch::new(&|| true)).unwrap();
        assert_eq!(hoods.len(), own.len());
        case.near = hoods.into_iter().map(|hood| hood.near).collect();
        case
    }

    fn rows(&self) -> Rows<'_> {
        let values = Values::F32(&self.values);
        Rows {
            dims: DIMS,
            first: 0,
            values,
            scattered: values,
            norms: &self.norms,
            codes: None,
            in_memory: true,
            deleted: &nseekfs::store::deleted::NONE,
        }
    }

    fn hasher(&self) -> Hasher {
        let params = cost_model::default_params(COUNT, 3);
        Hasher::learn(&scalar::KERNEL, &self.rows(), params, 1, &Watch::new(&|| true)).unwrap()
    }

    fn estimates(&self, recall: f64, given: [Option<usize>; 2], plan: &Plan) -> Vec<Estimate> {
        let wanted = Workload { queries: &self.queries, neighbours: &self.near, recall, costs: COSTS };
        cost_model::estimates((&self.hasher(), &self.rows()), &wanted, given, plan, &Watch::new(&|| true)).unwrap()
    }

    /// The probes that reach a recall in built tables, and the mean number of rows in them.
    fn measured(&self, params: Params, recall: f64) -> (f64, f64) {
        let lsh = BuiltTables::build(&scalar::KERNEL, &self.rows(), params, 1, &Watch::new(&|| true)).unwrap();
        let hashes: Vec<QueryHash> =
            (0..self.queries.len()).map(|i| QueryHash::new(lsh.hasher(), &self.queries.wide(i)[..DIMS], self.queries.norm(i))).collect();
        let mut scratch = Scratch::default();
        let trace = |i: usize, probes: &[usize], scratch: &mut Scratch| {
            lsh.tables().trace(&hashes[i], &self.near[i], probes, u64::MAX, scratch).unwrap()
        };
        let mut ranks: Vec<u64> = (0..hashes.len()).flat_map(|i| trace(i, &[], &mut scratch).found_at).map(Option::unwrap).collect();
        ranks.sort_unstable();
        let probes = ranks[(recall * ranks.len() as f64).ceil() as usize - 1];
        let visited: u64 = (0..hashes.len()).map(|i| trace(i, &[probes as usize], &mut scratch).candidates[0]).sum();
        (probes as f64, visited as f64 / hashes.len() as f64)
    }
}

fn plan(kernel: &'static Kernel, threads: usize) -> Plan<'static> {
    Plan { metric: Metric::Cosine, k: 1, kernel, method: Method::Auto, threads, quantizer: None, unit: false, threshold: f64::NEG_INFINITY }
}

/// The cost that the model estimates, from measured numbers.
fn measured_cost(params: Params, (probes, visited): (f64, f64)) -> f64 {
    probes * COSTS.probe + visited * COSTS.row + (params.tables * COUNT) as f64 * COSTS.entry / 300.0
}

#[test]
fn estimates_agree_with_built_tables() {
    for (centres, spread) in [(400, 0.4), (COUNT, 1.0)] {
        let case = Case::new(centres, spread, 50);
        for recall in [0.5, 0.9] {
            let estimates = case.estimates(recall, [None, None], &plan(&scalar::KERNEL, 2));
            assert!(estimates.len() > 8);
            for one in estimates.iter().filter(|one| one.cost < f64::INFINITY) {
                let (probes, visited) = case.measured(one.params, recall);
                let context = format!("{centres} centres, recall {recall}: {one:?}, {probes} probes, {visited} rows");
                // Scores are rounded to 1/16 natural unit, and the first numbers of probes to integers.
                assert!((one.probes - probes).abs() <= 1.0 + 0.2 * probes, "{context}");
                assert!((one.visited - visited).abs() <= 4.0 + 0.2 * visited, "{context}");
            }
        }
    }
}

#[test]
fn no_other_choice_costs_much_less() {
    for (centres, spread) in [(400, 0.4), (200, 0.6)] {
        let case = Case::new(centres, spread, 50);
        for recall in [0.8, 0.95] {
            let estimates = case.estimates(recall, [None, None], &plan(&scalar::KERNEL, 2));
            let chosen = cost_model::cheapest(&estimates, cost_model::default_params(COUNT, 3));
            let had = measured_cost(chosen, case.measured(chosen, recall));
            for one in &estimates {
                let other = measured_cost(one.params, case.measured(one.params, recall));
                assert!(had <= 1.15 * other, "{centres} centres, recall {recall}: {chosen:?} costs {had}, {:?} {other}", one.params);
            }
        }
    }
}

#[test]
fn near_rows_take_fewer_tables_than_far_ones() {
    let chosen = [(400, 0.05, 0.8), (400, 0.6, 0.95)].map(|(centres, spread, recall)| {
        let estimates = Case::new(centres, spread, 50).estimates(recall, [None, None], &plan(&scalar::KERNEL, 2));
        cost_model::cheapest(&estimates, cost_model::default_params(COUNT, 3)).tables
    });
    assert!(chosen[0] < chosen[1], "{chosen:?}");
}

#[test]
fn given_tables_and_bits_are_kept() {
    let case = Case::new(400, 0.4, 200);
    for given in [[Some(3), None], [None, Some(5)], [Some(20), Some(12)]] {
        let estimates = case.estimates(0.8, given, &plan(&scalar::KERNEL, 2));
        assert!(!estimates.is_empty());
        for one in estimates {
            assert!(given[0].is_none_or(|tables| tables == one.params.tables) && given[1].is_none_or(|bits| bits == one.params.bits));
        }
    }
}

#[test]
fn a_recall_that_nothing_reaches_gives_the_default() {
    let case = Case::new(COUNT, 1.0, 200);
    let default_params = cost_model::default_params(COUNT, 3);
    let estimates = case.estimates(1.0, [Some(1), None], &plan(&scalar::KERNEL, 2));
    assert!(estimates.iter().all(|one| one.cost == f64::INFINITY));
    assert_eq!(cost_model::cheapest(&estimates, default_params), default_params);
}

#[test]
fn every_kernel_and_number_of_threads_estimates_alike() {
    let case = Case::new(400, 0.4, 100);
    let first = case.estimates(0.9, [None, None], &plan(&scalar::KERNEL, 1));
    for kernel in runnable() {
        for threads in [1, 2, 5] {
            assert_eq!(case.estimates(0.9, [None, None], &plan(kernel, threads)), first, "{}, {threads} threads", kernel.name);
        }
    }
}
