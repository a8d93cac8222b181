//! How many tables of buckets to make, and of how many bits: those that cost least at the recall asked for.
//!
//! A model tells, without a table being made. Some rows ask, whose neighbours are known; these and a sample of all rows
//! are hashed for every number of bits. A query comes upon a row once it has probed every place whose score is less
//! than that of the row's likeliest bucket. So up to a score, the places of no more are the probes made, the sampled
//! rows the share of rows read, and the neighbours the recall. A query's probes and rows have their costs, and so
//! has a table: what making it takes, shared by [`QUERIES`].
//!
//! All that is counted are whole numbers, so the choice is the same on every CPU and for any number of threads.

use super::hash::{Along, HashScratch, Hasher, MAX_BITS, Params};
use super::probe::QueryHash;
use crate::ann::tune::LIMIT_SHARE;
use crate::error::Result;
use crate::pool::{self, Watch};
use crate::scan::{Plan, Queries};
use crate::store::rows::Rows;
use std::ops::Range;

/// Tables, at most: more read fewer rows, a fifth for twice as many, but would have to be made.
const MOST: usize = 8;
/// Rows of a bucket, about: as many bits as that takes are usual, and so many more are tried. Fewer never cost less.
const ROWS_A_BUCKET: usize = 16;
const BITS_MORE: usize = 2;
/// Queries that share the cost of making the tables: an index is asked at least as often as that.
const QUERIES: f64 = 300.0;
/// Rows of the sample that stands for all.
const SAMPLE: usize = 1024;
/// A score counts in these, sixteenths of a natural unit, above that of the query's likeliest bucket: each bit's cost
/// is rounded to one. Scores of [`LEVELS`] and more are as good as never reached: e^16 times less likely.
const STEP: u64 = 65_536 / 16;
const LEVELS: usize = 256;
/// From one number of probes to the next.
const RATIO: f64 = 1.4;

/// Rows that ask, and what they ask for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The rows.
    pub queries: &'a Queries,
    /// Their neighbours.
    pub near: &'a [Vec<u64>],
    /// The part of these to be found.
    pub recall: f64,
    /// What a query pays.
    pub costs: Costs,
}

/// What a query pays, all in one unit.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// For a probe.
    pub probe: f64,
    /// For a row that is read.
    pub row: f64,
    /// What it takes to put a row into a table.
    pub entry: f64,
}

/// A choice, and what the model says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Tables and bits.
    pub params: Params,
    /// Probes that reach the recall.
    pub probes: f64,
    /// Rows read on the way.
    pub visited: f64,
    /// What a query costs, and its share of the tables; infinite where the recall is not reached.
    pub cost: f64,
}

/// Tables and bits for rows of which nothing is known, or among which nothing reaches the recall.
pub fn usual(rows: usize, seed: u64) -> Params {
    let bits = (rows / ROWS_A_BUCKET).max(2).next_power_of_two().ilog2() as usize;
    Params { tables: MOST, bits: bits.min(MAX_BITS), seed }
}

/// What every choice would cost, tables and bits being those that are given if they are: by bits, then by tables.
///
/// # Errors
/// Parameters out of range; no memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
pub fn estimates(
    (hasher, rows): (&Hasher, &Rows),
    wanted: &Wanted,
    [tables, bits]: [Option<usize>; 2],
    plan: &Plan,
    watch: &Watch,
) -> Result<Vec<Estimate>> {
    let mut work = HashScratch::default();
    let mut along = |row: u64| hasher.along(plan.kernel, rows, row as usize, &mut work);
    let count = SAMPLE.min(rows.len()) as u64;
    let sample: Vec<Along> = (0..count).map(|i| along(i * rows.len() as u64 / count)).collect();
    let near: Vec<Along> = wanted.near.iter().flatten().map(|&row| along(row)).collect();
    let usual = usual(rows.len(), hasher.params().seed).bits;
    let around = usual..=(usual + BITS_MORE).min(MAX_BITS);
    let models: Vec<Model> = bits
        .map_or(around, |bits| bits..=bits)
        .map(|bits| Model::new(hasher.with(Params { tables: tables.unwrap_or(MOST), bits, ..hasher.params() }), &sample, &near))
        .collect();
    let start = || Ok(models.iter().map(|model| vec![[0; 2]; model.grid.len() * model.tables()]).collect());
    let ask = |counts: &mut Vec<Vec<Counts>>, query: usize| {
        let (vector, norm) = (&wanted.queries.wide(query)[..rows.dims], wanted.queries.norm(query));
        let first: usize = wanted.near[..query].iter().map(Vec::len).sum();
        let near = first..first + wanted.near[query].len();
        models.iter().zip(counts).for_each(|(model, counts)| model.ask(&QueryHash::new(&model.hasher, vector, norm), near.clone(), counts));
        Ok(())
    };
    let parts = pool::run(plan.threads, wanted.near.len(), watch, start, ask)?;
    let mut estimates = Vec::new();
    for (i, model) in models.iter().enumerate() {
        let sum = |at: usize| parts.iter().fold([0; 2], |sum, part| [0, 1].map(|j| sum[j] + part[i][at][j]));
        let sums: Vec<Counts> = (0..model.grid.len() * model.tables()).map(sum).collect();
        let of_tables = sums
            .chunks_exact(model.grid.len())
            .zip(1usize..)
            .filter(|&(_, made)| tables.map_or(made.is_power_of_two(), |tables| tables == made));
        estimates.extend(of_tables.map(|(sums, tables)| model.estimate(tables, sums, rows.len(), wanted)));
    }
    Ok(estimates)
}

/// The choice of least cost; `otherwise`, where none reaches the recall.
pub fn cheapest(estimates: &[Estimate], otherwise: Params) -> Params {
    let best = estimates.iter().filter(|one| one.cost < f64::INFINITY).min_by(|a, b| a.cost.total_cmp(&b.cost));
    best.map_or(otherwise, |best| best.params)
}

/// Neighbours found and sampled rows read, over all queries.
type Counts = [u64; 2];

/// Tables of one number of bits, none of which is made.
struct Model {
    hasher: Hasher,
    /// Numbers of probes.
    grid: Vec<u64>,
    /// Buckets of the sample, then of all neighbours: those of each table one after the other.
    sample: Vec<u32>,
    near: Vec<u32>,
}

impl Model {
    fn new(hasher: Hasher, sample: &[Along], near: &[Along]) -> Self {
        let Params { tables, bits, .. } = hasher.params();
        let most = (tables << bits) as u64 / LIMIT_SHARE + 1;
        let next = |&last: &u64| Some(((last as f64 * RATIO) as u64).max(last + 1)).filter(|&next| next <= most);
        let grid = std::iter::successors(Some(1), next).collect();
        let [sample, near] = [sample, near].map(|some| {
            let mut keys = vec![0; some.len() * tables];
            hasher.keys(some, &mut keys);
            keys
        });
        Model { hasher, grid, sample, near }
    }

    fn tables(&self) -> usize {
        self.hasher.params().tables
    }

    /// Counts what a query finds and reads, for the first table, the first two and so on, at each number of probes.
    fn ask(&self, query_hash: &QueryHash, near: Range<usize>, counts: &mut [Counts]) {
        let (tables, bits) = (self.tables(), self.hasher.params().bits);
        let least = (0..tables).map(|table| query_hash.costs(table).0).min().unwrap_or(0);
        let level = |score: u64| ((score + STEP / 2) / STEP).min(LEVELS as u64) as usize;
        // In the first tables: the level of each row, and how many places there are at each level.
        let [all_near, all_sample] = [&self.near, &self.sample].map(|keys| keys.len() / tables);
        let mut levels = [vec![LEVELS; near.len()], vec![LEVELS; all_sample]];
        let mut places = vec![0.0f64; LEVELS];
        for (table, counts) in counts.chunks_exact_mut(self.grid.len()).enumerate() {
            let (own, costs) = query_hash.costs(table);
            let (own, costs) = (level(own - least), costs.map(|(bit, cost)| (bit, level(cost))).collect::<Vec<_>>());
            let scores = Scores::new(own, bits, &costs);
            let keys = [&self.near[table * all_near..][near.clone()], &self.sample[table * all_sample..][..all_sample]];
            for (levels, keys) in levels.iter_mut().zip(keys) {
                levels.iter_mut().zip(keys).for_each(|(level, &key)| *level = (*level).min(scores.of(key ^ query_hash.buckets()[table])));
            }
            places.iter_mut().zip(sets(own, &costs)).for_each(|(places, more)| *places += more);
            let reached = levels.each_ref().map(|levels| up_to(levels));
            let (mut last, mut sum) = (0, places[0]);
            for (&probes, counts) in self.grid.iter().zip(counts) {
                while sum < probes as f64 && last + 1 < LEVELS {
                    last += 1;
                    sum += places[last];
                }
                counts.iter_mut().zip(&reached).for_each(|(count, reached)| *count += reached[last]);
            }
        }
    }

    /// What the sums over all queries say of the first tables, between two numbers of probes.
    fn estimate(&self, tables: usize, sums: &[Counts], rows: usize, wanted: &Wanted) -> Estimate {
        let params = Params { tables, ..self.hasher.params() };
        let neighbours: usize = wanted.near.iter().map(Vec::len).sum();
        let sampled = (self.sample.len() / self.tables() * wanted.near.len()) as f64;
        let recall = |at: usize| sums[at][0] as f64 / neighbours as f64;
        let Some(at) = (0..sums.len()).find(|&at| recall(at) >= wanted.recall) else {
            return Estimate { params, probes: f64::INFINITY, visited: rows as f64, cost: f64::INFINITY };
        };
        let before = at.saturating_sub(1);
        let part = if at > 0 { (wanted.recall - recall(before)) / (recall(at) - recall(before)) } else { 1.0 };
        let between = |low: f64, high: f64| low + part * (high - low);
        let probes = between(self.grid[before] as f64, self.grid[at] as f64);
        let visited = between(sums[before][1] as f64, sums[at][1] as f64) / sampled * rows as f64;
        let Costs { probe, row, entry } = wanted.costs;
        let cost = probes * probe + visited * row + tables as f64 * rows as f64 * entry / QUERIES;
        Estimate { params, probes, visited, cost }
    }
}

/// The levels of a table's buckets, by the bits in which they differ from the query's: eight bits at a time.
struct Scores {
    own: usize,
    parts: [[usize; 256]; MAX_BITS / 8],
}

impl Scores {
    fn new(own: usize, bits: usize, costs: &[(usize, usize)]) -> Self {
        let mut parts = [[0; 256]; MAX_BITS / 8];
        let mut of_bit = [0; MAX_BITS];
        costs.iter().for_each(|&(bit, cost)| of_bit[bit] = cost);
        for (part, of_bit) in parts[..bits.div_ceil(8)].iter_mut().zip(of_bit.as_chunks::<8>().0) {
            for set in 1..256usize {
                part[set] = part[set & (set - 1)] + of_bit[set.trailing_zeros() as usize];
            }
        }
        Scores { own, parts }
    }

    fn of(&self, differing: u32) -> usize {
        let at = |part: usize| self.parts[part][differing as usize >> (8 * part) & 255];
        self.own + at(0) + at(1) + at(2)
    }
}

/// How many sets of bits there are at each level, the empty one at `own`.
fn sets(own: usize, costs: &[(usize, usize)]) -> Vec<f64> {
    let mut sets = vec![0.0; LEVELS];
    if let Some(empty) = sets.get_mut(own) {
        *empty = 1.0;
    }
    let mut without = sets.clone();
    for &(_, cost) in costs.iter().filter(|bit| bit.1 < LEVELS) {
        without.copy_from_slice(&sets);
        sets[cost..].iter_mut().zip(&without).for_each(|(sets, more)| *sets += more);
    }
    sets
}

/// How many of some levels are no more than each.
fn up_to(levels: &[usize]) -> Vec<u64> {
    let mut counts = vec![0; LEVELS];
    levels.iter().filter(|&&level| level < LEVELS).for_each(|&level| counts[level] += 1);
    let mut sum = 0;
    counts.iter_mut().for_each(|count| {
        sum += *count;
        *count = sum;
    });
    counts
}
