//! Queries to measure recall with, and their exact neighbours.
//!
//! Rows of the index stand for unseen queries: they are held out of the training of centroids, and neither they nor the
//! copies of them in the table count as neighbours, since an unseen query has no copies there. With copies, the nearest
//! rows of a row would all lie in its own cell or bucket, and any effort would seem enough. Of rows that are copies of
//! each other, one is a query.

use crate::error::{Result, collected, room};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::random::Random;
use crate::scan::{self, Plan, Queries, Run};
use crate::store::rows::Rows;
use crate::topk::{Entry, TopK};

/// Rows in a sample of queries.
const SAMPLE: usize = 1000;
/// Each of the two samples is at most one row in this many.
const SAMPLE_DIVISOR: usize = 8;
/// Queries per exact search, at least.
const MIN_BATCH: usize = 8;
/// Copies are nearer to a row than this share of the median distance of two rows: near duplicates of texts are, and
/// different texts are not.
const COPY_SHARE: f64 = 0.1;
/// The row next to the copies is at least this many times as far as they are. In tables of few dims, where many rows are
/// near, distances grow by less from row to row.
const COPY_GAP: f64 = 2.0;
/// Distances below this share of a row's norm may be rounding errors.
const ROUNDING: f64 = 1e-7;
/// Where all neighbours found may be copies, this many times as many are searched for.
const GROWTH: usize = 4;
/// Values whose squared differences are added before the sum is compared.
const CHUNK: usize = 16;

/// Two disjoint random samples of row numbers below `rows`, each ascending: to tune on, and to measure recall on.
pub fn samples(rows: usize, seed: u64) -> [Vec<usize>; 2] {
    let mut random = Random::new(seed ^ 0x7475_6e65);
    let count = sample_rows(rows);
    let drawn = crate::cluster::reseed::draw(&mut random, rows, 2 * count);
    // The only row of a table serves as both.
    let (tuned, tested) = drawn.split_at(count);
    [tuned, if tested.is_empty() { tuned } else { tested }].map(|rows| {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows
    })
}

/// The rows of each of these samples.
pub fn sample_rows(rows: usize) -> usize {
    SAMPLE.min(rows.div_ceil(SAMPLE_DIVISOR))
}

/// Queries to measure recall with.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The queries.
    pub queries: &'a Queries,
    /// The row number of each query, where the queries are rows of the index.
    pub own: Option<&'a [usize]>,
}

/// What a query of a sample should find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbourhood {
    /// The number of the query in its sample.
    pub query: usize,
    /// Its exact neighbours, best first: `k` or as many as there are.
    pub near: Vec<u64>,
    /// The rows that do not count, ascending: the query's own row and copies of it.
    pub ignored: Vec<u64>,
}

impl Neighbourhood {
    /// Whether rows besides the query's own do not count.
    pub fn has_copies(&self) -> bool {
        self.ignored.len() > 1
    }
}

/// The exact neighbours of queries. Of rows that are copies of each other only the first is a query; rows of norm 0, to
/// which all rows are equally near by cosine, are none. If nothing else is left, copies count as neighbours.
///
/// # Errors
/// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
pub fn neighbourhoods(sample: Sample, k: usize, plan: &Plan, segments: &[Rows], watch: &Watch) -> Result<Vec<Neighbourhood>> {
    let search = Exact { queries: sample.queries, plan, segments, watch };
    let all: Vec<usize> = (0..sample.queries.len()).collect();
    let some = match sample.own {
        Some(own) => beyond_copies(&search, own, k)?,
        None => Vec::new(),
    };
    if !some.is_empty() {
        return Ok(some);
    }
    let own = |query: usize| sample.own.map(|own| own[query] as u64);
    let lists = search.best(&all, k + usize::from(sample.own.is_some()))?;
    let hood = |(query, list): (usize, Vec<Entry>)| {
        let near = list.iter().map(|entry| entry.row).filter(|&row| Some(row) != own(query)).take(k).collect();
        Neighbourhood { query, near, ignored: own(query).into_iter().collect() }
    };
    Ok(lists.into_iter().enumerate().map(hood).collect())
}

/// The exact neighbours of rows, without copies of them.
fn beyond_copies(search: &Exact, own: &[usize], k: usize) -> Result<Vec<Neighbourhood>> {
    let rows: usize = search.segments.iter().map(Rows::len).sum();
    let directed = |&query: &usize| search.queries.norm(query) > 0.0 || matches!(search.plan.metric, Metric::Euclidean | Metric::Hamming);
    let mut open: Vec<usize> = (0..own.len()).filter(directed).collect();
    let points = Points::new(search.queries, search.plan.metric)?;
    let radius = points.copy_radius(&open);
    let (mut found, mut depth) = (Vec::new(), k + 1);
    while !open.is_empty() {
        let (lists, mut left) = (search.best(&open, depth)?, Vec::new());
        for (&query, list) in open.iter().zip(lists) {
            let distances: Vec<f64> = list.iter().map(|entry| search.distance(query, entry)).collect();
            let outside = distances.iter().filter(|&&distance| distance > radius).count();
            if outside < k && depth < rows {
                left.push(query);
                continue;
            }
            let copies = copies(&distances, radius, list.len() == rows);
            let ignores = |at: usize| list[at].row == own[query] as u64 || copies.is_some_and(|reach| distances[at] <= reach);
            let (ignored, near): (Vec<usize>, Vec<usize>) = (0..list.len()).partition(|&at| ignores(at));
            let near: Vec<u64> = near.into_iter().take(k).map(|at| list[at].row).collect();
            let mut ignored: Vec<u64> = ignored.into_iter().map(|at| list[at].row).collect();
            ignored.sort_unstable();
            if !near.is_empty() {
                found.push(Neighbourhood { query, near, ignored });
            }
        }
        // One query for each large group of copies: deep searches are rare.
        open = points.distinct(&left, radius);
        depth = depth.saturating_mul(GROWTH).min(rows);
    }
    found.sort_unstable_by_key(|hood| hood.query);
    Ok(found)
}

/// The distance of the farthest copy: within the radius, with a gap after it; none where there are no copies. `all`: no
/// row of the table is farther than these.
fn copies(distances: &[f64], radius: f64, all: bool) -> Option<f64> {
    let mut sorted = distances.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    if all {
        sorted.push(f64::INFINITY);
    }
    let gap = |pair: &&[f64]| pair[0] <= radius && pair[1] >= COPY_GAP * pair[0];
    sorted.windows(2).rev().find(gap).map(|pair| pair[0])
}

/// Exact searches for queries of a sample.
struct Exact<'a> {
    queries: &'a Queries,
    plan: &'a Plan<'a>,
    segments: &'a [Rows<'a>],
    watch: &'a Watch<'a>,
}

impl Exact<'_> {
    /// The best `k` rows of some queries, best first.
    fn best(&self, which: &[usize], k: usize) -> Result<Vec<Vec<Entry>>> {
        // A search merges the results of its threads on one of them, which for large k takes longer than the scan. So
        // each thread gets queries of its own, enough for a batch.
        let threads = self.plan.threads;
        let plan = Plan { k, threshold: f64::NEG_INFINITY, threads: 1, ..*self.plan };
        let each = which.len().div_ceil(threads).max(MIN_BATCH);
        let parts: Vec<&[usize]> = which.chunks(each).collect();
        let work = |(): &mut (), part: usize| {
            scan::search(&plan, self.segments, &Run::all(self.segments)?, &self.queries.some(parts[part])?, self.watch)
        };
        let found = pool::map(threads, parts.len(), self.watch, || Ok(()), work)?;
        Ok(found.into_iter().flatten().map(TopK::into_sorted).collect())
    }

    /// The distance of a query to a row that it found: for cosine, of their directions.
    fn distance(&self, query: usize, entry: &Entry) -> f64 {
        let squared = match self.plan.metric {
            Metric::Cosine => 2.0 - 2.0 * entry.key,
            Metric::Euclidean | Metric::Hamming => -entry.key,
            Metric::Dot => {
                let norm = |rows: &Rows| Some(rows.norms[rows.local_row(entry.row)?]);
                let norm = self.segments.iter().find_map(norm).unwrap_or(0.0);
                self.queries.norm(query).powi(2) + norm.powi(2) - 2.0 * entry.key
            }
        };
        squared.max(0.0).sqrt()
    }
}

/// Queries as points between which distances are measured: for cosine, their directions; of bits, zeros and ones.
struct Points {
    dims: usize,
    values: Vec<f64>,
    norms: Vec<f64>,
}

impl Points {
    fn new(queries: &Queries, metric: Metric) -> Result<Self> {
        let (dims, all) = (queries.dims(), 0..queries.len());
        if metric == Metric::Hamming {
            let words = all.clone().flat_map(|i| queries.bits(i));
            let bits = words.flat_map(|word| (0..64).map(move |at| (word >> at & 1) as f64));
            let (values, norms) = (collected(bits, "the queries")?, all.map(|i| queries.norm(i)).collect());
            return Ok(Points { dims: dims.next_multiple_of(64), values, norms });
        }
        let cosine = metric == Metric::Cosine;
        let mut values = room(queries.len() * dims, "the queries")?;
        for i in all.clone() {
            let length = if cosine { queries.norm(i) } else { 1.0 };
            values.extend(queries.wide(i)[..dims].iter().map(|x| x / length));
        }
        let norms = all.map(|i| if cosine { 1.0 } else { queries.norm(i) }).collect();
        Ok(Points { dims, values, norms })
    }

    /// The squared distance of two points, or some number above `limit` if it is larger.
    fn squared_distance(&self, a: usize, b: usize, limit: f64) -> f64 {
        let point = |i: usize| &self.values[i * self.dims..(i + 1) * self.dims];
        let mut sum = 0.0;
        for (a, b) in point(a).chunks(CHUNK).zip(point(b).chunks(CHUNK)) {
            sum += a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            if sum > limit {
                break;
            }
        }
        sum
    }

    /// The distance within which a row may be a copy of another.
    fn copy_radius(&self, which: &[usize]) -> f64 {
        let rounding = which.iter().map(|&i| ROUNDING * self.norms[i]).fold(0.0, f64::max);
        let (first, second) = which.split_at(which.len() / 2);
        let mut distances: Vec<f64> = first.iter().zip(second).map(|(&a, &b)| self.squared_distance(a, b, f64::INFINITY).sqrt()).collect();
        // A pair of copies is no sample of the distance of different rows.
        distances.retain(|&distance| distance > rounding);
        distances.sort_unstable_by(f64::total_cmp);
        distances.get(distances.len() / 2).map_or(rounding, |median| (COPY_SHARE * median).max(rounding))
    }

    /// Those that are not within `radius` of an earlier one.
    fn distinct(&self, which: &[usize], radius: f64) -> Vec<usize> {
        let limit = radius * radius;
        let mut kept: Vec<usize> = Vec::new();
        for &i in which {
            if kept.iter().all(|&other| self.squared_distance(i, other, limit) > limit) {
                kept.push(i);
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_end_at_a_gap_within_the_radius() {
        assert_eq!(copies(&[0.0, 0.0, 0.01, 0.6, 0.7], 0.1, false), Some(0.01));
        assert_eq!(copies(&[0.6, 0.0, 0.7, 1.9], 0.1, false), Some(0.0));
        assert_eq!(copies(&[0.03, 0.05, 0.06, 0.09, 0.11], 0.1, false), None);
        assert_eq!(copies(&[0.5, 0.6, 1.5], 0.1, false), None);
        assert_eq!(copies(&[0.01, 0.015], 0.1, false), None);
        assert_eq!(copies(&[0.01, 0.015], 0.1, true), Some(0.015));
    }
}
