//! An index of buckets: the rows in the likeliest buckets of all tables are the candidates, of which the exact
//! scan finds the best.

use super::build::BuiltTables;
use super::hash::{Hasher, Params};
use super::probe::QueryHash;
use super::tables::{Limits, Scratch, Shape, Tables};
use crate::ann::{Found, Request};
use crate::error::Result;
use crate::format::{BucketRecord, BucketShape};
use crate::kernel;
use crate::pool::{self, Watch};
use crate::scan::{self, Plan, Run};
use crate::store::rows::Rows;
use crate::store::section::Section;
use crate::store::{Bytes, BytesMut};
use crate::topk::TopK;

/// Times as many probes as before, where they found too few rows.
const MORE: usize = 4;

/// Tables of buckets.
#[derive(Debug, Clone)]
pub struct Lsh {
    record: BucketRecord,
    hasher: Hasher,
    shape: Shape,
    payload: Section,
    starts: Section,
    rows: Section,
    keys: Section,
}

impl Lsh {
    /// Hashes the rows into tables of these hyperplanes.
    ///
    /// # Errors
    /// More rows than a segment holds; no memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn build(hasher: Hasher, rows: &Rows, threads: usize, watch: &Watch) -> Result<Self> {
        let params @ Params { tables, bits, seed } = hasher.params();
        let made = BuiltTables::fill(kernel::selected()?, hasher, rows, threads, watch)?;
        let lengths = Shape::new(params, rows.len());
        let shape = BucketShape {
            tables,
            bits,
            seed,
            values: made.hasher().values().len(),
            starts: tables * lengths.starts(),
            rows: tables * rows.len(),
            keys: tables * lengths.keys(),
        };
        let parts = shape.parts(0);
        let mut payload = BytesMut::zeroed(parts.end, "the buckets")?;
        let record = shape.record();
        payload.view_mut::<u8>(0..size_of_val(&record)).copy_from_slice(bytemuck::bytes_of(&record));
        payload.view_mut::<f32>(parts.values.clone()).copy_from_slice(made.hasher().values());
        let [starts, listed, keys] = made.tables().arrays();
        payload.view_mut::<u32>(parts.starts.clone()).copy_from_slice(starts);
        payload.view_mut::<u32>(parts.rows.clone()).copy_from_slice(listed);
        payload.view_mut::<u32>(parts.keys.clone()).copy_from_slice(keys);
        let record = BucketRecord { shape, payload: 0..parts.end, parts };
        Ok(Lsh::of(record, made.hasher().clone(), rows.len(), &payload.freeze()?))
    }

    /// Buckets that lie in `bytes` as their record says, of `rows` rows of `dims` values.
    ///
    /// # Errors
    /// Why the hyperplanes cannot be used.
    pub fn new(record: BucketRecord, dims: usize, rows: usize, bytes: &Bytes) -> std::result::Result<Self, String> {
        let BucketShape { tables, bits, seed, .. } = record.shape;
        let hasher = Hasher::new(dims, Params { tables, bits, seed }, bytes.view(record.parts.values.clone()))?;
        Ok(Lsh::of(record, hasher, rows, bytes))
    }

    fn of(record: BucketRecord, hasher: Hasher, rows: usize, bytes: &Bytes) -> Self {
        let section = |range: &std::ops::Range<usize>| Section { bytes: bytes.clone(), range: range.clone() };
        let parts = &record.parts;
        Lsh {
            shape: Shape::new(hasher.params(), rows),
            payload: section(&record.payload),
            starts: section(&parts.starts),
            rows: section(&parts.rows),
            keys: section(&parts.keys),
            hasher,
            record,
        }
    }

    /// The tables.
    pub fn tables(&self) -> Tables<'_> {
        Tables::within(self.shape, self.starts.view(), self.rows.view(), self.keys.view())
    }

    /// Their hyperplanes.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Buckets of all tables.
    pub fn most(&self) -> usize {
        self.record.shape.tables << self.record.shape.bits
    }

    /// Probes after which a query might as well score every row.
    pub fn enough(&self) -> usize {
        self.most().min(self.shape.rows.saturating_add(1))
    }

    /// How many tables there are, and bits in each.
    pub fn size(&self) -> (usize, usize) {
        (self.record.shape.tables, self.record.shape.bits)
    }

    /// All of it, as it lies in a file.
    pub fn payload(&self) -> &[u8] {
        self.payload.view()
    }

    /// See [`Ann::search`](crate::ann::Few::search).
    pub(crate) fn search(&self, request: &Request, watch: &Watch) -> Result<Vec<Found>> {
        let sizes: Vec<usize> = request.segments.iter().map(Rows::len).collect();
        let tables = self.tables();
        let work = |(scratch, rows): &mut (Scratch, Vec<u32>), query: usize| {
            let dims = request.queries.dims();
            let query_hash = QueryHash::new(&self.hasher, &request.queries.wide(query)[..dims], request.queries.norm(query));
            let wanted = request.allowed().min(request.plan.k as u64);
            let mut probes = request.probes;
            loop {
                watch.check()?;
                if probes >= self.enough() {
                    rows.clear();
                    rows.extend(0..self.shape.rows as u32);
                } else {
                    tables.candidates(&query_hash, Limits { probes: probes as u64, candidates: usize::MAX }, scratch, rows)?;
                }
                if let Some((mask, _)) = request.mask {
                    rows.retain(|&row| mask.allows(row as usize));
                }
                let all = rows.len() as u64 == request.allowed();
                if rows.len() as u64 >= wanted || all || probes >= self.enough() {
                    return Ok(Found { top: self.best(request, query, rows, &sizes, watch)?, exact: all });
                }
                probes = probes.saturating_mul(MORE);
            }
        };
        pool::map(request.plan.threads, request.queries.len(), watch, || Ok(Default::default()), work)
    }

    /// The best of some rows for one query.
    fn best(&self, request: &Request, query: usize, rows: &[u32], sizes: &[usize], watch: &Watch) -> Result<TopK> {
        let runs = Run::of(sizes, rows.iter().map(|&row| row as usize));
        let plan = Plan { threads: 1, ..*request.plan };
        Ok(scan::search(&plan, request.segments, &runs, &request.queries.only(query), watch)?.swap_remove(0))
    }
}
