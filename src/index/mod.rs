//! The index: rows in segments; search, save, open, verify.

mod ann;
mod recall;

pub(crate) use ann::check_recall;
pub use ann::{AnnKind, AnnParams};
pub use recall::{Missed, Recall};

use crate::ann::Ann;
use crate::ann::ivf::Ivf;
use crate::ann::lsh::search::Lsh;
use crate::candidates::{Filter, candidates};
use crate::error::{Error, Result};
use crate::format::{self, AnnBytes, AnnRecord, CodeBytes, Contents, IndexRecord, Mode, QuantizerBytes, SegmentBytes, Verify};
use crate::hits::{Certificate, Hits};
use crate::input::Block;
use crate::kernel::{self, FloatMode, Kernel};
use crate::level::Level;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::progress::cost;
use crate::quantize::Quantizer;
pub use crate::scan::Method;
use crate::scan::{Plan, Queries};
use crate::store::Bytes;
use crate::store::codes::CodeSections;
use crate::store::rows::{DecodedRows, PanelBuffer, Rows};
use crate::store::section::Section;
use crate::store::segment::{self, Segment};
use crate::topk::Entry;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Queries of one group: their float32 tiles and a panel of rows fit one cache.
const GROUP: usize = 1024;
/// Bytes of kept entries of a group, over all workers, at most.
const GROUP_BYTES: u64 = 256 << 20;

/// The share of the time of saving that the system takes after the last byte was written, about.
const SYNC: f64 = 0.6;

/// What errors call the file that is only bytes in memory.
const BYTES_NAME: &str = "pickled index";

/// One search.
#[derive(Debug, Clone, Copy)]
pub struct SearchParams<'a> {
    /// What the caller's argument of queries is called, for errors.
    pub queries_name: &'static str,
    /// Rows wanted for each query, at least 1; more than there are gives all.
    pub k: i64,
    /// How rows are scored.
    pub method: Method,
    /// `None`: the index's own.
    pub metric: Option<Metric>,
    /// Which rows may be found.
    pub filter: Option<Filter<'a>>,
    /// For a single query: the least key, or for euclidean the largest distance, of a hit.
    pub bound: Option<f64>,
    /// Workers; `None`: as [`pool::thread_count`] says.
    pub threads: Option<i64>,
    /// Approximate index: the recall wanted; `None`: the one it was tuned for. 1 asks for exact search.
    pub recall: Option<f64>,
    /// Approximate index: cells or buckets to visit, in place of a recall.
    pub nprobe: Option<i64>,
    /// Ivf: cells whose centroid's key is below this share of the best centroid's are not visited, 0 to 1.
    pub ratio_threshold: Option<f64>,
    /// Ivf with codes: rows that a query refines at most, `k` or more.
    pub reorder_k: Option<i64>,
}

impl Default for SearchParams<'_> {
    fn default() -> Self {
        SearchParams {
            queries_name: "queries",
            k: 10,
            method: Method::Auto,
            metric: None,
            filter: None,
            bound: None,
            threads: None,
            recall: None,
            nprobe: None,
            ratio_threshold: None,
            reorder_k: None,
        }
    }
}

/// Rows that answer nearest-neighbour queries.
#[derive(Debug)]
pub struct Index {
    about: IndexRecord,
    segments: Vec<Segment>,
    quantizer: Option<Quantizer>,
    ann: Option<ann::TunedAnn>,
    file: Option<IndexFile>,
}

/// The file that an index was opened from.
#[derive(Debug)]
struct IndexFile {
    path: PathBuf,
    bytes: Bytes,
    /// With the checksums that its bytes must have.
    sections: Vec<format::Section>,
}

impl Index {
    /// An index of segments that lie in memory.
    pub fn in_memory(about: IndexRecord, segments: Vec<Segment>, quantizer: Option<Quantizer>) -> Self {
        Index { about, segments, quantizer, ann: None, file: None }
    }

    /// Opens a saved index.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Format`] when it is not a whole nseekfs
    /// file, [`Error::Memory`] in [`Mode::Ram`], [`Error::Interrupted`].
    pub fn open(path: &Path, mode: Mode, verify: Verify, watch: &Watch) -> Result<Self> {
        let (bytes, header) = format::open(path, mode, verify, &|| watch.check())?;
        Index::assemble(bytes, header, path, true)
    }

    /// An index in memory from what [`Index::to_bytes`] made, every byte checked.
    ///
    /// # Errors
    /// [`Error::Format`] when they are anything else, [`Error::Memory`], [`Error::Interrupted`].
    pub fn from_bytes(file: &[u8], watch: &Watch) -> Result<Self> {
        let name = Path::new(BYTES_NAME);
        let (bytes, header) = format::from_bytes(file, name, &|| watch.check())?;
        Index::assemble(bytes, header, name, false)
    }

    /// The index that `header` tells of; `path` is its file, or only what errors call it.
    fn assemble(bytes: Bytes, header: format::Header, path: &Path, is_file: bool) -> Result<Self> {
        let section = |range: &Range<usize>| Section { bytes: bytes.clone(), range: range.clone() };
        let segments = header.segments.iter().map(|layout| Segment {
            rows: layout.rows as usize,
            values: section(&layout.row_values),
            norms: section(&layout.norms),
            scales: section(layout.scales.as_ref().unwrap_or(&(0..0))),
            codes: layout.codes.as_ref().map(|codes| CodeSections {
                lines: section(&codes.lines),
                factors: section(&codes.factors),
                remainder: section(&codes.remainder),
            }),
        });
        let segments = segments.collect();
        let quantizer = header.quantizer.as_ref();
        let quantizer = quantizer.map(|record| Quantizer {
            dims: header.index.dims,
            leading: record.leading,
            skew: record.skew,
            values: section(&record.values),
        });
        let (dims, rows) = (header.index.dims, header.rows() as usize);
        let ann = |record| match record {
            AnnRecord::Cells(cells) => Ok(Ann::Ivf(Ivf::new(cells, &bytes))),
            AnnRecord::Buckets(buckets) => Lsh::new(buckets, dims, rows, &bytes).map(Ann::Lsh),
        };
        let ann = header.ann.map(|(record, tuning)| ann(record).map(|ann| ann::TunedAnn::new(ann, tuning))).transpose();
        let ann = ann.map_err(|reason| Error::Format { path: path.to_path_buf(), reason: format!("F25: {reason}") })?;
        let file = is_file.then(|| IndexFile { path: path.to_path_buf(), bytes, sections: header.sections });
        Ok(Index { about: header.index, segments, quantizer, ann, file })
    }

    /// Writes the index whole to `path`, replacing what is there, or leaves `path` as it was.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written; [`Error::Format`] when the file that the index was opened from has been
    /// damaged (F17); [`Error::Interrupted`].
    pub fn save(&self, path: &Path, watch: &Watch) -> Result<()> {
        let work = cost::BYTE * self.bytes() as f64;
        watch.plan(work);
        // Blocks are first hashed, then written; the rest of the work is that the system brings them to the disk.
        watch.stage(work * (1.0 - SYNC), 2 * (self.bytes() as u64).div_ceil(format::BLOCK as u64));
        let tick = || {
            watch.advance(1);
            watch.check()
        };
        self.write(|contents, source| format::copy(path, contents, source, &tick))
    }

    /// The bytes of the file that [`Index::save`] would write.
    ///
    /// # Errors
    /// [`Error::Format`] as `save`; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn to_bytes(&self, watch: &Watch) -> Result<Vec<u8>> {
        self.write(|contents, source| format::to_bytes(Path::new(BYTES_NAME), contents, source, &|| watch.check()))
    }

    /// Another index of the same bytes, which neither changes; it can be tuned apart.
    pub fn copy(&self) -> Self {
        let file = self.file.as_ref();
        Index {
            about: self.about,
            segments: self.segments.clone(),
            quantizer: self.quantizer.clone(),
            ann: self.ann.as_ref().map(ann::TunedAnn::copy),
            file: file.map(|file| IndexFile { path: file.path.clone(), bytes: file.bytes.clone(), sections: file.sections.clone() }),
        }
    }

    /// Hands to `to` all that goes into a file, and the path and the sections of the file that the index was opened from.
    fn write<T>(&self, to: impl FnOnce(&Contents, Option<(&Path, &[format::Section])>) -> Result<T>) -> Result<T> {
        self.check_file()?;
        let parts = self.segments.iter().map(|segment| SegmentBytes {
            rows: segment.rows as u64,
            row_values: segment.values.view(),
            norms: segment.norms.view(),
            scales: (self.about.level == Level::F8).then(|| segment.scales.view()),
            codes: segment.codes.as_ref().map(|codes| CodeBytes {
                lines: codes.lines.view(),
                factors: codes.factors.view(),
                remainder: codes.remainder.view(),
            }),
        });
        let quantizer = self.quantizer.as_ref().map(|quantizer| QuantizerBytes {
            leading: quantizer.leading,
            skew: quantizer.skew,
            values: quantizer.values.view(),
        });
        let tuning = self.ann.as_ref().map(|ann| ann.tuning().payload());
        let ann =
            self.ann.as_ref().zip(tuning.as_deref()).map(|(ann, tuning)| AnnBytes { kind: ann.ann.kind(), ann: ann.ann.payload(), tuning });
        let segments: Vec<SegmentBytes> = parts.collect();
        let source = self.file.as_ref().map(|file| (file.path.as_path(), file.sections.as_slice()));
        to(&Contents { index: &self.about, segments: &segments, quantizer, ann }, source)
    }

    /// Reads every byte of the file that the index was opened from and compares checksums.
    ///
    /// # Errors
    /// [`Error::Format`] when any differs. An index in memory has no file and nothing to compare.
    pub fn verify(&self, watch: &Watch) -> Result<()> {
        match &self.file {
            Some(file) => format::verify(&file.bytes, &file.path, &|| watch.check()),
            None => Ok(()),
        }
    }

    /// Dims, level, metric, unit length and seed.
    pub fn about(&self) -> &IndexRecord {
        &self.about
    }

    /// The quantizer of the codes, if rows have codes.
    pub fn quantizer(&self) -> Option<&Quantizer> {
        self.quantizer.as_ref()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.rows).sum()
    }

    /// Bytes of rows, norms, scales, codes, the quantizer, and inverted lists or tables.
    pub fn bytes(&self) -> usize {
        let rows = self.segments.iter().flat_map(|segment| [&segment.values, &segment.norms, &segment.scales]);
        let codes = self.segments.iter().filter_map(|segment| segment.codes.as_ref());
        let codes = codes.flat_map(|codes| [&codes.lines, &codes.factors, &codes.remainder]);
        let quantizer = self.quantizer.iter().map(|quantizer| &quantizer.values);
        let cells = self.ann.iter().map(|ann| ann.ann.payload().len()).sum::<usize>();
        rows.chain(codes).chain(quantizer).map(|section| section.range.len()).sum::<usize>() + cells
    }

    /// The file that the index was opened from.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// The best rows for each query of `queries`, which holds them one after the other,
    /// `query_dims` values each.
    ///
    /// # Errors
    /// Unusable queries or parameters, a file that was cut short meanwhile, no memory,
    /// [`Error::Interrupted`].
    pub fn search(&self, queries: Block, query_dims: usize, params: &SearchParams, watch: &Watch) -> Result<Hits> {
        let _mode = FloatMode::standard();
        let dims = self.about.dims;
        if query_dims != dims || !queries.len().is_multiple_of(dims) {
            return Err(Error::input(params.queries_name, format!("{dims} values each, like the rows"), query_dims));
        }
        let count = queries.len() / dims;
        let k = wanted(params.k)?.min(self.rows());
        self.check_file()?;
        let metric = params.metric.unwrap_or(self.about.metric);
        if params.bound.is_some_and(f64::is_nan) {
            return Err(Error::input(metric.bound_name(), "a number", "NaN"));
        }
        let kernel = kernel_of(params.method)?;
        // Batches filter afterwards: float32 tiles assume thresholds that are keys of rows.
        let threshold = params.bound.filter(|_| count == 1).map_or(f64::NEG_INFINITY, |bound| metric.threshold(bound));
        let (threads, quantizer, unit) = (pool::thread_count(params.threads)?, self.quantizer.as_ref(), self.about.unit);
        let plan = Plan { metric, k, kernel, method: params.method, threads, quantizer, unit, threshold };
        let sizes: Vec<usize> = self.segments.iter().map(|segment| segment.rows).collect();
        let runs = candidates(params.filter, &sizes)?;
        let row_bytes = self.views().iter().map(Rows::row_bytes).max().unwrap_or(0) as u64;
        let allowed: u64 = runs.iter().map(|run| run.rows.len() as u64).sum();
        let kept = (k as u64).min(allowed).max(1) * 2 * size_of::<Entry>() as u64 * plan.threads as u64;
        let group = (GROUP_BYTES / kept).clamp(1, GROUP as u64) as usize;
        let effort = self.effort(params, metric, &runs)?;
        let mut hits = Hits::with_capacity(count, (k as u64).min(allowed))?;
        for first in (0..count).step_by(group) {
            let block = queries.slice(first * dims..count.min(first + group) * dims);
            let ready = Queries::new(kernel, self.about.level, block, dims, first as u64);
            let ready = ready.map_err(|error| error.of_argument(params.queries_name))?;
            for (top, exact) in self.find(&plan, &runs, params, effort, &ready, watch)? {
                let (tally, reached) = (top.tally, top.threshold());
                let mut best = top.into_sorted();
                let all = best.len() as u64 == (k as u64).min(allowed);
                if !all && params.bound.is_none() || best.iter().any(|entry| entry.key.is_nan()) {
                    return Err(self.not_numbers());
                }
                hits.certificates.push(Certificate {
                    rows: allowed,
                    bounded: tally.bounded.min(allowed),
                    refined: tally.refined.min(allowed),
                    bytes_read: tally.code_bytes + tally.refined.min(allowed) * row_bytes,
                    kth_key: metric.public_key(best.last().filter(|_| all).map_or(threshold, |entry| entry.key)),
                    best_bound_left: metric.public_key(if !exact {
                        f64::INFINITY
                    } else if effort.is_some() {
                        tally.best_left.max(reached)
                    } else {
                        tally.best_left
                    }),
                    exact,
                });
                if let Some(bound) = params.bound {
                    best.retain(|entry| metric.reaches(entry.key, bound));
                }
                hits.push(metric, &best);
            }
        }
        Ok(hits)
    }

    /// Decodes the rows of `range`; float64 for level f64, else float32.
    ///
    /// # Errors
    /// Rows that the index does not have; a file that was cut short meanwhile; no memory.
    pub fn values(&self, range: Range<usize>) -> Result<DecodedRows> {
        let _mode = FloatMode::standard();
        if range.start > range.end || range.end > self.rows() {
            return Err(Error::input("row", format!("rows from 0 to {}", self.rows()), format!("{} to {}", range.start, range.end)));
        }
        self.check_file()?;
        let kernel = kernel::selected()?;
        let mut buffer = PanelBuffer::with_capacity(self.about.level, range.len(), self.about.dims)?;
        for rows in self.views() {
            let first = rows.first as usize;
            let (start, end) = (range.start.max(first), range.end.min(first + rows.len()));
            if start < end {
                rows.decode(kernel, start - first..end - first, &mut buffer);
            }
        }
        Ok(buffer.into_rows(self.about.level))
    }

    /// Decodes the rows of these numbers, in their order; as [`Index::values`].
    ///
    /// # Errors
    /// Rows that the index does not have; a file that was cut short meanwhile; no memory; [`Error::Interrupted`].
    pub fn take(&self, rows: &[i64], watch: &Watch) -> Result<DecodedRows> {
        let _mode = FloatMode::standard();
        self.check_file()?;
        let kernel = kernel::selected()?;
        let views: Vec<Rows> = self.views().into_iter().map(Rows::scattered).collect();
        let mut buffer = PanelBuffer::with_capacity(self.about.level, rows.len(), self.about.dims)?;
        for &row in rows {
            let found = u64::try_from(row).ok().and_then(|number| views.iter().find_map(|view| Some((view, view.local_row(number)?))));
            let (view, own) = found.ok_or_else(|| Error::input("row", format!("one of {} rows", self.rows()), row))?;
            watch.check()?;
            view.decode(kernel, own..own + 1, &mut buffer);
        }
        Ok(buffer.into_rows(self.about.level))
    }

    /// The error of NaN keys: builders accept finite rows only, so the file is damaged.
    fn not_numbers(&self) -> Error {
        let reason = "F17: a row or its norm is not a number; verify the file".to_owned();
        Error::Format { path: self.path().map(Path::to_owned).unwrap_or_default(), reason }
    }

    /// Reading a mapped file beyond its end raises SIGBUS: its length is checked first.
    fn check_file(&self) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.bytes.check_len())
    }

    /// The rows of every segment, as scans read them.
    pub fn views(&self) -> Vec<Rows<'_>> {
        let mut first = 0;
        let mut view = |segment| {
            let rows = segment::rows(self.about.dims, self.about.level, segment, first);
            first += rows.len() as u64;
            rows
        };
        self.segments.iter().map(&mut view).collect()
    }
}

/// `k` as a count.
fn wanted(k: i64) -> Result<usize> {
    let count = usize::try_from(k).ok().filter(|&k| k > 0);
    count.ok_or_else(|| Error::input("k", "a whole number of at least 1", k))
}

/// The kernel of a method.
fn kernel_of(method: Method) -> Result<&'static Kernel> {
    match method {
        Method::Auto | Method::Simd => kernel::selected(),
        Method::Scalar => Ok(&kernel::scalar::KERNEL),
    }
}
