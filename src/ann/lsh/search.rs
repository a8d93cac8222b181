//! The LSH index: its arrays in a file or in memory, and its search. The rows of the first buckets of the probing
//! sequence are candidates, which the exact scan scores.

use super::build::BuiltTables;
use super::hash::{Hasher, Params};
use super::probe::QueryHash;
use super::tables::{ProbeLimits, Scratch, Shape, Tables};
use crate::ann::{Found, Request};
use crate::error::Result;
use crate::format::{BucketRecord, BucketShape};
use crate::kernel;
use crate::pool::{self, Watch};
use crate::store::rows::Rows;
use crate::store::section::Section;
use crate::store::{Bytes, BytesMut};

/// Where probes find fewer rows than are wanted, the search is repeated with this many times as many.
const PROBE_GROWTH: usize = 4;

/// An LSH index over rows that it does not hold.
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
    /// Hashes the rows into tables by these hyperplanes.
    ///
    /// # Errors
    /// More rows than a segment holds; no memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn build(hasher: Hasher, rows: &Rows, threads: usize, watch: &Watch) -> Result<Self> {
        let params @ Params { tables, bits, seed } = hasher.params();
        let built = BuiltTables::with_hasher(kernel::selected()?, hasher, rows, threads, watch)?;
        let lengths = Shape::new(params, rows.len());
        let shape = BucketShape {
            tables,
            bits,
            seed,
            values: built.hasher().values().len(),
            starts: tables * lengths.starts(),
            rows: tables * rows.len(),
            keys: tables * lengths.keys(),
        };
        let parts = shape.parts(0);
        let mut payload = BytesMut::zeroed(parts.end, "the buckets")?;
        let record = shape.record();
        payload.view_mut::<u8>(0..size_of_val(&record)).copy_from_slice(bytemuck::bytes_of(&record));
        payload.view_mut::<f32>(parts.values.clone()).copy_from_slice(built.hasher().values());
        let [starts, rows_by_bucket, keys] = built.tables().arrays();
        payload.view_mut::<u32>(parts.starts.clone()).copy_from_slice(starts);
        payload.view_mut::<u32>(parts.rows.clone()).copy_from_slice(rows_by_bucket);
        payload.view_mut::<u32>(parts.keys.clone()).copy_from_slice(keys);
        let record = BucketRecord { shape, payload: 0..parts.end, parts };
        Ok(Lsh::from_record(record, built.hasher().clone(), rows.len(), &payload.freeze()?))
    }

    /// The index of `rows` rows of `dims` values that lies in `bytes` as `record` says.
    ///
    /// # Errors
    /// A sentence saying why the hyperplanes cannot be used.
    pub fn new(record: BucketRecord, dims: usize, rows: usize, bytes: &Bytes) -> std::result::Result<Self, String> {
        let BucketShape { tables, bits, seed, .. } = record.shape;
        let hasher = Hasher::new(dims, Params { tables, bits, seed }, bytes.view(record.parts.values.clone()))?;
        Ok(Lsh::from_record(record, hasher, rows, bytes))
    }

    fn from_record(record: BucketRecord, hasher: Hasher, rows: usize, bytes: &Bytes) -> Self {
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
        Tables::from_checked(self.shape, self.starts.view(), self.rows.view(), self.keys.view())
    }

    /// The hyperplanes of the tables.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// The number of buckets in all tables, empty ones included.
    pub fn buckets(&self) -> usize {
        self.record.shape.tables << self.record.shape.bits
    }

    /// With this many probes or more, a query scores every row instead.
    pub fn exhaustive_probes(&self) -> usize {
        self.buckets().min(self.shape.rows.saturating_add(1))
    }

    /// The number of tables, and of bits per bucket.
    pub fn size(&self) -> (usize, usize) {
        (self.record.shape.tables, self.record.shape.bits)
    }

    /// The whole index, as it lies in a file.
    pub fn payload(&self) -> &[u8] {
        self.payload.view()
    }

    /// See [`Ann::search`](crate::ann::Ann::search).
    pub(crate) fn search(&self, request: &Request, watch: &Watch) -> Result<Vec<Found>> {
        let tables = self.tables();
        let work = |(scratch, rows): &mut (Scratch, Vec<u32>), query: usize| {
            let dims = request.queries.dims();
            let query_hash = QueryHash::new(&self.hasher, &request.queries.wide(query)[..dims], request.queries.norm(query));
            let wanted = request.allowed().min(request.plan.k as u64);
            let mut probes = request.nprobe;
            loop {
                watch.check()?;
                if probes >= self.exhaustive_probes() {
                    rows.clear();
                    rows.extend(0..self.shape.rows as u32);
                } else {
                    tables.candidates(&query_hash, ProbeLimits { probes: probes as u64, candidates: usize::MAX }, scratch, rows)?;
                }
                if let Some((mask, _)) = request.mask {
                    rows.retain(|&row| mask.allows(row as usize));
                }
                let all = rows.len() as u64 == request.allowed();
                if rows.len() as u64 >= wanted || all || probes >= self.exhaustive_probes() {
                    return Ok(Found { top: request.score(query, rows, watch)?, exact: all });
                }
                probes = probes.saturating_mul(PROBE_GROWTH);
            }
        };
        pool::map(request.plan.threads, request.queries.len(), watch, || Ok(Default::default()), work)
    }
}
