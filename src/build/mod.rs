//! Building: rows come in blocks, are rounded once to their level and measured, and become a segment. No reference to
//! a caller's array is kept.

pub(crate) mod coding;

use crate::error::{Error, Result};
use crate::format::{IndexRecord, MAX_DIMS, MAX_SEGMENT_ROWS, MAX_SKEW};
use crate::index::{AnnParams, Index, check_recall};
use crate::input::{Block, check_row};
use crate::kernel::{self, FloatMode, Kernel};
use crate::level::{Level, f8, f16};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::progress::cost;
use crate::store::BytesMut;
use crate::store::deleted::{self, Deleted};
use crate::store::ids::Ids;
use crate::store::rows::{PanelBuffer, PanelValues, Rows, Values};
use crate::store::section::Section;
use crate::store::segment::{self, Segment};
use std::sync::Mutex;

/// A row is of unit length when its norm is this near to 1, as normalised half-precision embeddings are.
const UNIT_TOLERANCE: f64 = 2e-3;
/// Bytes of float32 values that one job of a push takes in.
const JOB_BYTES: usize = 256 << 10;

/// Parameters of a build.
#[derive(Debug, Clone)]
pub struct BuildParams {
    /// How precisely rows are stored.
    pub level: Level,
    /// Default metric of queries.
    pub metric: Metric,
    /// `Some(true)`: rows must be of unit length, which is checked.
    pub normalized: Option<bool>,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether rows get codes, where the table is large enough.
    pub codes: bool,
    /// Approximate search; `None`: exact search only.
    pub ann: Option<AnnParams>,
    /// Workers; `None`: as [`pool::thread_count`] says.
    pub threads: Option<i64>,
}

impl Default for BuildParams {
    fn default() -> Self {
        BuildParams { level: Level::F32, metric: Metric::Cosine, normalized: None, seed: 0, codes: true, ann: None, threads: None }
    }
}

impl BuildParams {
    /// Refuses what is wrong whatever the rows are, so that none need be read to learn it.
    ///
    /// # Errors
    /// A metric of another level, approximate search or unit length of bits, a recall out of range, an unusable number of
    /// threads or kernel.
    pub fn check(&self) -> Result<()> {
        Metric::of_level(self.level, "metric", Some(self.metric))?;
        if self.level == Level::B1 && self.ann.is_some() {
            return Err(Error::input("ann", "None at level b1, which is searched exactly", "approximate search"));
        }
        if self.level == Level::B1 && self.normalized == Some(true) {
            return Err(Error::input("normalized", "None or False at level b1, whose rows have no length", "True"));
        }
        self.ann.as_ref().map_or(Ok(()), |ann| check_recall(ann.recall))?;
        pool::thread_count(self.threads)?;
        kernel::selected()?;
        Ok(())
    }
}

/// An index that is being built.
#[derive(Debug)]
pub struct Builder {
    params: BuildParams,
    kernel: &'static Kernel,
    threads: usize,
    dims: usize,
    rows: usize,
    filled: usize,
    unit: bool,
    values: BytesMut,
    norms: BytesMut,
    scales: BytesMut,
}

impl Builder {
    /// A builder of `rows` rows of `dims` values.
    ///
    /// # Errors
    /// As [`BuildParams::check`]; zero or too many rows or dims, dims that do not fit the level, no memory.
    pub fn new(rows: u64, dims: usize, params: BuildParams) -> Result<Self> {
        params.check()?;
        params.level.check_dims("embeddings", dims)?;
        if dims == 0 || dims > MAX_DIMS as usize {
            return Err(Error::input("embeddings", format!("rows of 1 to {MAX_DIMS} values"), format!("{dims} values")));
        }
        if rows == 0 || rows > MAX_SEGMENT_ROWS {
            return Err(Error::input("embeddings", format!("1 to {MAX_SEGMENT_ROWS} rows"), format!("{rows} rows")));
        }
        let threads = pool::thread_count(params.threads)?;
        let kernel = kernel::selected()?;
        let count = rows as usize;
        let values = BytesMut::zeroed(count * params.level.row_bytes(dims), "the rows")?;
        let norms = BytesMut::zeroed(if params.level.has_norms() { count * 8 } else { 0 }, "the norms")?;
        let scales = BytesMut::zeroed(if params.level == Level::F8 { count * 4 } else { 0 }, "the scales")?;
        Ok(Builder { params, kernel, threads, dims, rows: count, filled: 0, unit: true, values, norms, scales })
    }

    /// The cost of taking in all rows and of [`Builder::finish`], and, if it is `saved`, of [`Index::save`].
    pub fn work(&self, saved: bool) -> f64 {
        let (level, rows, dims, values) = (self.params.level, self.rows, self.dims, (self.rows * self.dims) as f64);
        let coded = self.params.codes && coding::worthwhile(level, rows, dims);
        let codes = if coded { coding::work(rows, dims).iter().sum() } else { 0.0 };
        let ann = self.params.ann.as_ref().map_or(0.0, |ann| ann.work(rows, dims, level));
        // Codes take about a byte a value, cells half of that for each row's two entries.
        let bytes = self.values.len() as f64 + if coded { values } else { 0.0 } + if ann > 0.0 { values } else { 0.0 };
        cost::ROUND * values + codes + ann + if saved { cost::BYTE * bytes } else { 0.0 }
    }

    /// Takes in the next rows, of `dims` values each.
    ///
    /// # Errors
    /// NaN or infinity, values beyond the level's range, lengths of 2^63 or more, rows that are not
    /// of unit length though said to be, more rows than announced. The builder is unusable after.
    pub fn push(&mut self, block: Block, dims: usize, watch: &Watch) -> Result<()> {
        let (level, kernel) = (self.params.level, self.kernel);
        let first = self.filled;
        if dims != self.dims || !block.len().is_multiple_of(dims) {
            return Err(Error::input("embeddings", format!("rows of {} values", self.dims), format!("{dims} values")));
        }
        let count = block.len() / dims;
        if count > self.rows - first {
            return Err(Error::input("embeddings", format!("{} rows", self.rows), format!("{} rows", first + count)));
        }
        let per_job = (JOB_BYTES / (4 * dims)).max(1);
        let row_bytes = level.row_bytes(dims);
        let values = self.values.view_mut::<u8>(first * row_bytes..(first + count) * row_bytes);
        let norm_range = if level.has_norms() { first * 8..(first + count) * 8 } else { 0..0 };
        let mut norms = self.norms.view_mut::<f64>(norm_range).chunks_mut(per_job);
        let scale_range = if level == Level::F8 { first * 4..(first + count) * 4 } else { 0..0 };
        let mut scales = self.scales.view_mut::<f32>(scale_range).chunks_mut(per_job);
        let jobs: Vec<Mutex<Slot>> = values
            .chunks_mut(per_job * row_bytes)
            .enumerate()
            .map(|(job, values)| {
                let start = job * per_job;
                let rows = values.len() / row_bytes;
                let given = block.slice(start * dims..(start + rows) * dims);
                let (norms, scales) = (norms.next().unwrap_or_default(), scales.next().unwrap_or_default());
                Mutex::new(Slot { level, dims, rows, first: (first + start) as u64, given, values, norms, scales })
            })
            .collect();
        watch.stage(cost::ROUND * block.len() as f64, count as u64);
        let claimed = self.params.normalized == Some(true);
        let states = pool::run(
            self.threads,
            jobs.len(),
            watch,
            || Ok(Scratch::default()),
            |scratch, job| {
                let mut slot = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                watch.advance(slot.rows as u64);
                slot.fill(kernel, scratch, claimed)
            },
        )?;
        self.unit &= states.iter().all(|scratch| !scratch.not_unit);
        self.filled += count;
        Ok(())
    }

    /// The rows taken in, without codes, and what holds for all of them.
    ///
    /// # Errors
    /// Fewer rows came than were announced; no memory.
    pub fn segment(self, ids: Ids) -> Result<(Segment, IndexRecord)> {
        if self.filled != self.rows {
            return Err(Error::input("embeddings", format!("{} rows", self.rows), format!("{} rows", self.filled)));
        }
        let BuildParams { level, metric, seed, .. } = self.params;
        let about = IndexRecord { dims: self.dims, level, metric, unit: self.unit, seed };
        let [values, norms, scales] = [self.values, self.norms, self.scales].map(|section| section.freeze().map(Section::whole));
        let (values, norms, scales) = (values?, norms?, scales?);
        Ok((Segment { rows: self.rows, values, norms, scales, codes: None, ids, deleted: Deleted::default() }, about))
    }

    /// The number of rows announced.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The index of the rows taken in, whose ids are 0, 1, 2, ...
    ///
    /// # Errors
    /// Fewer rows came than were announced; no memory; [`Error::Interrupted`].
    pub fn finish(self, watch: &Watch) -> Result<Index> {
        self.finish_with(Ids::Consecutive(0), watch)
    }

    /// The same with these ids, one for each row, each once.
    ///
    /// # Errors
    /// As [`Builder::finish`].
    pub fn finish_with(self, ids: Ids, watch: &Watch) -> Result<Index> {
        let BuildParams { level, seed, codes, .. } = self.params;
        let (kernel, threads, dims, ann, wanted) = (self.kernel, self.threads, self.dims, self.params.ann.clone(), self.params.threads);
        let (mut segment, about) = self.segment(ids)?;
        let mut quantizer = None;
        if codes && coding::worthwhile(level, segment.rows, dims) {
            let _mode = FloatMode::standard();
            let coding = coding::Coding { kernel, threads, seed, watch };
            let rows = segment::rows(dims, level, &segment, 0);
            let learnt = coding::learn(coding, level, &rows)?;
            // Bounds from axes farther from orthonormal would prune nothing, and F20 refuses them.
            if learnt.skew < MAX_SKEW {
                segment.codes = Some(coding::encode(coding, &learnt, &rows)?);
                quantizer = Some(learnt);
            }
        }
        let mut index = Index::in_memory(about, vec![segment], quantizer);
        if let Some(ann) = &ann {
            index.cluster(ann, wanted, watch)?;
        }
        Ok(index)
    }
}

/// The error of a builder that has finished.
pub fn finished() -> Error {
    Error::input("embeddings", "a builder in use", "one that has finished")
}

/// Buffers of a worker, and whether it has seen a row that is not of unit length.
#[derive(Debug, Default)]
struct Scratch {
    wide: Vec<f64>,
    lengths: Vec<f64>,
    panel: PanelBuffer,
    not_unit: bool,
}

/// Some rows as given, and their places in the segment.
struct Slot<'a> {
    level: Level,
    dims: usize,
    rows: usize,
    first: u64,
    given: Block<'a>,
    values: &'a mut [u8],
    norms: &'a mut [f64],
    scales: &'a mut [f32],
}

impl Slot<'_> {
    /// Rounds, measures and checks the rows.
    fn fill(&mut self, kernel: &Kernel, scratch: &mut Scratch, claimed_unit: bool) -> Result<()> {
        let given = self.given;
        // Norms as given, where they differ from those of the stored rows.
        scratch.lengths.clear();
        match self.level {
            Level::F64 => given.to_f64(bytemuck::cast_slice_mut(self.values)),
            Level::F32 => given.to_f32(bytemuck::cast_slice_mut(self.values)),
            Level::F16 | Level::F8 => self.round_coarsely(kernel, scratch)?,
            Level::B1 => return self.pack(scratch),
        }
        self.measure(kernel, scratch);
        for (i, norm) in self.norms.iter_mut().enumerate() {
            let row = self.first + i as u64;
            check_row("embeddings", self.level, given.slice(i * self.dims..(i + 1) * self.dims), *norm, row)?;
            *norm = norm.sqrt();
            let length = scratch.lengths.get(i).copied().unwrap_or(*norm);
            if (length - 1.0).abs() > UNIT_TOLERANCE {
                scratch.not_unit = true;
                if claimed_unit {
                    return Err(Error::NotUnit { row, norm: length });
                }
            }
        }
        Ok(())
    }

    /// Level b1: signs as bits, which have no length.
    fn pack(&mut self, scratch: &mut Scratch) -> Result<()> {
        scratch.not_unit = true;
        let rows = self.values.chunks_exact_mut(self.level.row_bytes(self.dims)).enumerate();
        for (i, bits) in rows {
            self.given.slice(i * self.dims..(i + 1) * self.dims).to_signs("embeddings", self.first + i as u64, bits)?;
        }
        Ok(())
    }

    /// Levels f16 and f8: from float64, whose norms are kept.
    fn round_coarsely(&mut self, kernel: &Kernel, scratch: &mut Scratch) -> Result<()> {
        let dims = self.dims;
        scratch.wide.resize(dims, 0.0);
        for i in 0..self.norms.len() {
            let row = self.given.slice(i * dims..(i + 1) * dims);
            row.to_f64(&mut scratch.wide);
            let mut squared = [0.0];
            (kernel.squared_norm_f64)(&scratch.wide, dims, &mut squared);
            check_row("embeddings", self.level, row, squared[0], self.first + i as u64)?;
            scratch.lengths.push(squared[0].sqrt());
            if self.level == Level::F8 {
                self.scales[i] = f8::encode(&scratch.wide, &mut bytemuck::cast_slice_mut(self.values)[i * dims..(i + 1) * dims]);
            } else {
                let codes: &mut [u16] = &mut bytemuck::cast_slice_mut(self.values)[i * dims..(i + 1) * dims];
                codes.iter_mut().zip(&scratch.wide).for_each(|(code, &value)| *code = f16::from_f64(value));
            }
        }
        Ok(())
    }

    /// Writes the squared norms of the rows as they decode.
    fn measure(&mut self, kernel: &Kernel, scratch: &mut Scratch) {
        let values = match self.level {
            Level::F64 => return (kernel.squared_norm_f64)(bytemuck::cast_slice(self.values), self.dims, self.norms),
            Level::F32 => return (kernel.squared_norm)(bytemuck::cast_slice(self.values), self.dims, self.norms),
            Level::F16 => Values::F16(bytemuck::cast_slice(self.values)),
            Level::F8 => Values::F8 { codes: bytemuck::cast_slice(self.values), scales: self.scales },
            Level::B1 => return,
        };
        scratch.panel.clear();
        let rows = Rows {
            dims: self.dims,
            first: 0,
            values,
            scattered: values,
            norms: self.norms,
            in_memory: true,
            codes: None,
            deleted: &deleted::NONE,
        };
        rows.decode(kernel, 0..self.norms.len(), &mut scratch.panel);
        if let PanelValues::F32(decoded) = scratch.panel.values() {
            (kernel.squared_norm)(decoded, self.dims, self.norms);
        }
    }
}
