//! Chooses the number of tables and bits: those of least cost at a given recall, by a model that builds no table.
//!
//! For every number of bits, the model hashes some queries, their exact neighbours and a sample of all rows. A query
//! finds a row once it has probed every bucket whose score (see [`probe`](super::probe)) is below the row's lowest.
//! Hence, up to any score: the number of buckets is the number of probes, the share of sampled rows is that of rows
//! read, and the share of neighbours is the recall. The cost is that of probes and of rows read, plus the time to build
//! the tables divided by `QUERIES`.
//!
//! Only integers are counted, so the choice is the same on every CPU and for any number of threads.

use super::hash::{Coordinates, HashScratch, Hasher, MAX_BITS, Params};
use super::probe::QueryHash;
use crate::ann::tune::PROBE_LIMIT_DIVISOR;
use crate::error::Result;
use crate::pool::{self, Watch};
use crate::scan::{Plan, Queries};
use crate::store::rows::Rows;
use std::ops::Range;

/// The most tables: twice as many would read a fifth fewer rows, but take time to build.
const TABLES: usize = 8;
/// The default number of bits leaves about this many rows per bucket; up to [`EXTRA_BITS`] more are tried. Fewer bits
/// never cost less.
const ROWS_PER_BUCKET: usize = 16;
const EXTRA_BITS: usize = 2;
/// Queries that the cost of building is divided among: an index is assumed to serve this many at least.
const QUERIES: f64 = 300.0;
/// Rows in the sample of all rows.
const SAMPLE: usize = 1024;
/// Scores above that of the query's most probable bucket are counted in bins of 1/16 natural unit; each bit's cost is
/// rounded to bins. Buckets from bin [`BINS`] on, e^16 times less probable, count as never probed.
const BIN_WIDTH: u64 = 65_536 / 16;
const BINS: usize = 256;
/// The ratio of consecutive numbers of probes at which the model is evaluated.
const GRID_RATIO: f64 = 1.4;

/// The queries to optimise for.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// The queries.
    pub queries: &'a Queries,
    /// The exact neighbours of each query.
    pub neighbours: &'a [Vec<u64>],
    /// The share of neighbours to find.
    pub recall: f64,
    /// The costs of a query.
    pub costs: Costs,
}

/// Costs, all in one unit.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// Of a probe.
    pub probe: f64,
    /// Of reading a row.
    pub row: f64,
    /// Of inserting a row into a table.
    pub entry: f64,
}

/// A choice of tables and bits, and its modelled cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The choice.
    pub params: Params,
    /// Probes per query that reach the recall.
    pub probes: f64,
    /// Rows read per query.
    pub visited: f64,
    /// The cost per query, its share of building included; infinite where the recall is not reached.
    pub cost: f64,
}

/// The parameters where no choice is modelled, or none reaches the recall.
pub fn default_params(rows: usize, seed: u64) -> Params {
    let bits = (rows / ROWS_PER_BUCKET).max(2).next_power_of_two().ilog2() as usize;
    Params { tables: TABLES, bits: bits.min(MAX_BITS), seed }
}

/// Models every choice, or those with the given number of tables or bits; ordered by bits, then by tables.
///
/// # Errors
/// Parameters out of range; no memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
pub fn estimates(
    (hasher, rows): (&Hasher, &Rows),
    workload: &Workload,
    [tables, bits]: [Option<usize>; 2],
    plan: &Plan,
    watch: &Watch,
) -> Result<Vec<Estimate>> {
    let mut scratch = HashScratch::default();
    let mut coordinates = |row: u64| hasher.coordinates(plan.kernel, rows, row as usize, &mut scratch);
    let count = SAMPLE.min(rows.len()) as u64;
    let sample: Vec<Coordinates> = (0..count).map(|i| coordinates(i * rows.len() as u64 / count)).collect();
    let near: Vec<Coordinates> = workload.neighbours.iter().flatten().map(|&row| coordinates(row)).collect();
    let fewest = default_params(rows.len(), hasher.params().seed).bits;
    let range = fewest..=(fewest + EXTRA_BITS).min(MAX_BITS);
    let models: Vec<Model> = bits
        .map_or(range, |bits| bits..=bits)
        .map(|bits| Model::new(hasher.with(Params { tables: tables.unwrap_or(TABLES), bits, ..hasher.params() }), &sample, &near))
        .collect();
    let start = || Ok(models.iter().map(|model| vec![[0; 2]; model.grid.len() * model.tables()]).collect());
    let work = |counts: &mut Vec<Vec<Counts>>, query: usize| {
        watch.advance(1);
        let (vector, norm) = (&workload.queries.wide(query)[..rows.dims], workload.queries.norm(query));
        let first: usize = workload.neighbours[..query].iter().map(Vec::len).sum();
        let near = first..first + workload.neighbours[query].len();
        models
            .iter()
            .zip(counts)
            .for_each(|(model, counts)| model.count_query(&QueryHash::new(&model.hasher, vector, norm), near.clone(), counts));
        Ok(())
    };
    let parts = pool::run(plan.threads, workload.neighbours.len(), watch, start, work)?;
    let mut estimates = Vec::new();
    for (i, model) in models.iter().enumerate() {
        let sum = |at: usize| parts.iter().fold([0; 2], |sum, part| [0, 1].map(|j| sum[j] + part[i][at][j]));
        let sums: Vec<Counts> = (0..model.grid.len() * model.tables()).map(sum).collect();
        let of_tables = sums
            .chunks_exact(model.grid.len())
            .zip(1usize..)
            .filter(|&(_, count)| tables.map_or(count.is_power_of_two(), |tables| tables == count));
        estimates.extend(of_tables.map(|(sums, tables)| model.estimate(tables, sums, rows.len(), workload)));
    }
    Ok(estimates)
}

/// The choice of least cost, or `otherwise` where none reaches the recall.
pub fn cheapest(estimates: &[Estimate], otherwise: Params) -> Params {
    let best = estimates.iter().filter(|one| one.cost < f64::INFINITY).min_by(|a, b| a.cost.total_cmp(&b.cost));
    best.map_or(otherwise, |best| best.params)
}

/// The neighbours found and the sampled rows read, summed over queries.
type Counts = [u64; 2];

/// The model of tables of one number of bits.
struct Model {
    hasher: Hasher,
    /// The numbers of probes to evaluate at.
    grid: Vec<u64>,
    /// The buckets of the sample and of all neighbours, table after table.
    sample: Vec<u32>,
    near: Vec<u32>,
}

impl Model {
    fn new(hasher: Hasher, sample: &[Coordinates], near: &[Coordinates]) -> Self {
        let Params { tables, bits, .. } = hasher.params();
        let max = (tables << bits) as u64 / PROBE_LIMIT_DIVISOR + 1;
        let next = |&last: &u64| Some(((last as f64 * GRID_RATIO) as u64).max(last + 1)).filter(|&next| next <= max);
        let grid = std::iter::successors(Some(1), next).collect();
        let [sample, near] = [sample, near].map(|some| {
            let mut buckets = vec![0; some.len() * tables];
            hasher.buckets_of(some, &mut buckets);
            buckets
        });
        Model { hasher, grid, sample, near }
    }

    fn tables(&self) -> usize {
        self.hasher.params().tables
    }

    /// Adds what one query finds and reads: with the first table, the first two and so on, at each number of probes.
    fn count_query(&self, query_hash: &QueryHash, near: Range<usize>, counts: &mut [Counts]) {
        let (tables, bits) = (self.tables(), self.hasher.params().bits);
        let least = (0..tables).map(|table| query_hash.costs(table).0).min().unwrap_or(0);
        let bin = |score: u64| ((score + BIN_WIDTH / 2) / BIN_WIDTH).min(BINS as u64) as usize;
        // Over the tables so far: each row's lowest bin, and the number of buckets in each bin.
        let [all_near, all_sample] = [&self.near, &self.sample].map(|buckets| buckets.len() / tables);
        let mut bins = [vec![BINS; near.len()], vec![BINS; all_sample]];
        let mut per_bin = vec![0.0f64; BINS];
        for (table, counts) in counts.chunks_exact_mut(self.grid.len()).enumerate() {
            let (own, costs) = query_hash.costs(table);
            let (own, costs) = (bin(own - least), costs.map(|(bit, cost)| (bit, bin(cost))).collect::<Vec<_>>());
            let bin_sums = BinSums::new(own, bits, &costs);
            let buckets = [&self.near[table * all_near..][near.clone()], &self.sample[table * all_sample..][..all_sample]];
            for (bins, buckets) in bins.iter_mut().zip(buckets) {
                bins.iter_mut()
                    .zip(buckets)
                    .for_each(|(bin, &bucket)| *bin = (*bin).min(bin_sums.of(bucket ^ query_hash.buckets()[table])));
            }
            per_bin.iter_mut().zip(subsets_per_bin(own, &costs)).for_each(|(sum, buckets)| *sum += buckets);
            let reached = bins.each_ref().map(|bins| cumulative(bins));
            let (mut last, mut sum) = (0, per_bin[0]);
            for (&probes, counts) in self.grid.iter().zip(counts) {
                while sum < probes as f64 && last + 1 < BINS {
                    last += 1;
                    sum += per_bin[last];
                }
                counts.iter_mut().zip(&reached).for_each(|(count, reached)| *count += reached[last]);
            }
        }
    }

    /// The estimate for the first tables, interpolated between the two numbers of probes around the recall.
    fn estimate(&self, tables: usize, sums: &[Counts], rows: usize, workload: &Workload) -> Estimate {
        let params = Params { tables, ..self.hasher.params() };
        let neighbours: usize = workload.neighbours.iter().map(Vec::len).sum();
        let sampled = (self.sample.len() / self.tables() * workload.neighbours.len()) as f64;
        let recall = |at: usize| sums[at][0] as f64 / neighbours as f64;
        let Some(at) = (0..sums.len()).find(|&at| recall(at) >= workload.recall) else {
            return Estimate { params, probes: f64::INFINITY, visited: rows as f64, cost: f64::INFINITY };
        };
        let before = at.saturating_sub(1);
        let part = if at > 0 { (workload.recall - recall(before)) / (recall(at) - recall(before)) } else { 1.0 };
        let between = |low: f64, high: f64| low + part * (high - low);
        let probes = between(self.grid[before] as f64, self.grid[at] as f64);
        let visited = between(sums[before][1] as f64, sums[at][1] as f64) / sampled * rows as f64;
        let Costs { probe, row, entry } = workload.costs;
        let cost = probes * probe + visited * row + tables as f64 * rows as f64 * entry / QUERIES;
        Estimate { params, probes, visited, cost }
    }
}

/// The bin of a bucket by its difference from the query's own: lookup tables of eight bits each.
struct BinSums {
    own: usize,
    parts: [[usize; 256]; MAX_BITS / 8],
}

impl BinSums {
    fn new(own: usize, bits: usize, costs: &[(usize, usize)]) -> Self {
        let mut parts = [[0; 256]; MAX_BITS / 8];
        let mut of_bit = [0; MAX_BITS];
        costs.iter().for_each(|&(bit, cost)| of_bit[bit] = cost);
        for (part, of_bit) in parts[..bits.div_ceil(8)].iter_mut().zip(of_bit.as_chunks::<8>().0) {
            for set in 1..256usize {
                part[set] = part[set & (set - 1)] + of_bit[set.trailing_zeros() as usize];
            }
        }
        BinSums { own, parts }
    }

    fn of(&self, flipped: u32) -> usize {
        let at = |part: usize| self.parts[part][flipped as usize >> (8 * part) & 255];
        self.own + at(0) + at(1) + at(2)
    }
}

/// The number of perturbation sets in each bin, the empty set being in `own`.
fn subsets_per_bin(own: usize, costs: &[(usize, usize)]) -> Vec<f64> {
    let mut subsets = vec![0.0; BINS];
    if let Some(empty) = subsets.get_mut(own) {
        *empty = 1.0;
    }
    let mut without = subsets.clone();
    for &(_, cost) in costs.iter().filter(|bit| bit.1 < BINS) {
        without.copy_from_slice(&subsets);
        subsets[cost..].iter_mut().zip(&without).for_each(|(subsets, more)| *subsets += more);
    }
    subsets
}

/// For each bin, how many of `bins` are at most it.
fn cumulative(bins: &[usize]) -> Vec<u64> {
    let mut counts = vec![0; BINS];
    bins.iter().filter(|&&bin| bin < BINS).for_each(|&bin| counts[bin] += 1);
    let mut sum = 0;
    counts.iter_mut().for_each(|count| {
        sum += *count;
        *count = sum;
    });
    counts
}
