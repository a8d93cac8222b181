//! Builds an inverted file: k-means on a sample, the nearest cell of every row and perhaps a second one, and the inverted
//! lists with copies of the rows' codes.

use super::{Ivf, soar};
use crate::cluster::assign::Centroids;
use crate::cluster::lloyd::{self, Init, Params};
use crate::cluster::samples::Samples;
use crate::error::{Error, Result, collected, filled};
use crate::format::{CellParts, CellRecord, CellShape};
use crate::kernel::{self, FloatMode};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::progress::cost;
use crate::quantize::encode::{CodesMut, EncodeScratch, Encoder};
use crate::quantize::{BLOCK, LINE_BYTES, LINE_DIMS, Quantizer};
use crate::store::BytesMut;
use crate::store::codes::Codes;
use crate::store::lists::NO_ROW;
use crate::store::rows::{PanelBuffer, PanelValues, Rows, Values};
use std::borrow::Cow;
use std::sync::Mutex;

/// The default number of cells is this times sqrt(rows): ranking cells then takes about as long as visiting them.
const CELLS_PER_SQRT_ROW: f64 = 5.0;
/// The least average number of rows per cell, by default.
const MIN_ROWS_PER_CELL: usize = 16;
/// k-means trains on this many rows per cell at most, with this many updates of the centroids.
const TRAINING_ROWS: usize = 24;
const ITERATIONS: usize = 5;
/// Training ends once an iteration lowers the objective by less than this share.
const TOLERANCE: f64 = 2e-3;
/// Blocks of list entries per job.
const JOB_BLOCKS: usize = 16;

/// Parameters of [`build`].
#[derive(Debug, Clone)]
pub struct IvfParams<'a> {
    /// The number of cells; `None`: 5 sqrt(rows), but at least 16 rows per cell.
    pub cells: Option<usize>,
    /// The metric by which rows are assigned to centroids: cosine or euclidean.
    pub metric: Metric,
    /// Whether every row gets a second cell (SOAR).
    pub spill: bool,
    /// Rows to hold out of training, ascending.
    pub held_out: &'a [usize],
    /// Seed of all random choices.
    pub seed: u64,
    /// Worker threads.
    pub threads: usize,
}

/// Builds the inverted file of `rows`.
///
/// # Errors
/// More cells than rows, named `nlist`; no memory; [`Error::Interrupted`].
pub fn build(rows: &Rows, quantizer: Option<&Quantizer>, params: &IvfParams, watch: &Watch) -> Result<Ivf> {
    let _mode = FloatMode::standard();
    let (kernel, dims, count) = (kernel::selected()?, rows.dims, rows.len());
    let cells = params.cells.unwrap_or_else(|| default_cells(count));
    if cells == 0 || cells > count {
        return Err(Error::input("nlist", format!("a whole number from 1 to {count}, the number of rows"), cells));
    }
    let [_, assigning, choosing, copying] = work(count, dims, cells, params.spill);
    let (values, errors) = to_f32(rows)?;
    let samples = Samples::new("embeddings", values, dims, kernel, params.threads, watch)?;
    let trained = train(&samples, cells, params, watch)?;
    let cells = Centroids::new("embeddings", trained, dims, params.metric, params.threads, watch)?;
    let candidates = if params.spill { soar::CANDIDATES.min(cells.rows.len()) } else { 1 };
    watch.stage(assigning, count as u64);
    let nearest = cells.nearest(&samples, candidates, params.threads, watch)?;
    watch.stage(choosing, count as u64);
    let second =
        if candidates > 1 { Some(soar::second_cells(&samples, &cells, &nearest, params.metric, params.threads, watch)?) } else { None };

    let mut min_keys = filled(cells.rows.len(), f64::INFINITY, "the least keys of cells")?;
    for (row, (&cell, &key)) in nearest.cells.iter().zip(&nearest.keys).step_by(candidates).enumerate() {
        let error = errors.get(row).copied().unwrap_or(0.0);
        let key = match params.metric {
            // A zero row is exact in float32, and its cosine is 0.
            Metric::Cosine if rows.norms[row] > 0.0 => (key - super::exactness::cosine_error(error, rows.norms[row])).max(-1.0),
            Metric::Euclidean if error > 0.0 => -((-key).sqrt() + error).powi(2),
            _ => key,
        };
        min_keys[cell as usize] = min_keys[cell as usize].min(key);
    }
    let first = nearest.cells.iter().copied().step_by(candidates);
    let lists = InvertedLists::new(cells.rows.len(), count, first, second.as_deref())?;
    let codes = rows.codes.zip(quantizer);
    let shape =
        CellShape { dims, cells: cells.rows.len(), blocks: lists.blocks(), leading: codes.map_or(0, |(_, quantizer)| quantizer.leading) };
    let parts = shape.parts(0);
    let mut payload = BytesMut::zeroed(parts.end, "the cells")?;
    let record = CellRecord::record(&shape, params.metric, second.is_some());
    payload.view_mut::<u8>(0..size_of_val(&record)).copy_from_slice(bytemuck::bytes_of(&record));
    payload.view_mut::<u32>(parts.starts.clone()).copy_from_slice(&lists.starts);
    payload.view_mut::<f64>(parts.reaches.clone()).copy_from_slice(&min_keys);
    let norms: Vec<f64> = (0..cells.rows.len()).map(|cell| cells.rows.norm(cell)).collect();
    payload.view_mut::<f64>(parts.norms.clone()).copy_from_slice(&norms);
    payload.view_mut::<f32>(parts.centroids.clone()).copy_from_slice(cells.rows.values());
    payload.view_mut::<u32>(parts.rows.clone()).copy_from_slice(&lists.rows);
    if let Some((codes, quantizer)) = codes {
        encode_centroids(quantizer, cells.rows.values(), &norms, &parts, &mut payload)?;
        watch.stage(copying, lists.rows.len() as u64);
        copy_codes(&lists, &codes, quantizer, &parts, &mut payload, (params.threads, watch))?;
    }

    let payload = payload.freeze()?;
    let record = CellRecord { metric: params.metric, spilled: second.is_some(), shape, payload: 0..parts.end, parts };
    Ok(Ivf::new(record, &payload))
}

/// What it costs to train `cells`, to assign rows to them, to choose second ones, and to copy codes into lists.
pub fn work(rows: usize, dims: usize, cells: usize, spill: bool) -> [f64; 4] {
    let (values, spilled) = ((rows * dims) as f64, f64::from(u8::from(spill)));
    let kmeans = Params { cells, iterations: ITERATIONS, ..Params::default() };
    let training = lloyd::work(rows.min(TRAINING_ROWS.saturating_mul(cells)), dims, &kmeans);
    let second = spilled * soar::CANDIDATES as f64 * cost::SECOND * values;
    [training, (1.0 + spilled) * Centroids::work(rows, cells, dims), second, (1.0 + spilled) * cost::COPY * values]
}

/// The number of cells where none is given.
pub fn default_cells(rows: usize) -> usize {
    let cells = (CELLS_PER_SQRT_ROW * (rows as f64).sqrt()) as usize;
    cells.min(rows / MIN_ROWS_PER_CELL).next_multiple_of(BLOCK).clamp(1, rows)
}

/// The rows in float32, borrowed if they are stored so, and the distance of each float64 row from its rounded values;
/// other levels are exact in float32, and have no distances.
fn to_f32<'a>(rows: &Rows<'a>) -> Result<(Cow<'a, [f32]>, Vec<f64>)> {
    if let Values::F32(values) = rows.values {
        return Ok((Cow::Borrowed(values), Vec::new()));
    }
    let wide = matches!(rows.values, Values::F64(_));
    let mut errors = filled(if wide { rows.len() } else { 0 }, 0.0, "the rows in float32")?;
    let kernel = kernel::selected()?;
    let mut values = filled(rows.len() * rows.dims, 0.0f32, "the rows in float32")?;
    let mut buffer = PanelBuffer::default();
    for (row, out) in values.chunks_exact_mut(rows.dims).enumerate() {
        buffer.clear();
        rows.decode(kernel, row..row + 1, &mut buffer);
        match buffer.values() {
            PanelValues::F32(values) => out.copy_from_slice(values),
            PanelValues::F64(values) => {
                out.iter_mut().zip(values).for_each(|(out, &x)| *out = x as f32);
                errors[row] = out.iter().zip(values).map(|(&rounded, x)| (x - f64::from(rounded)).powi(2)).sum::<f64>().sqrt();
            }
        }
    }
    Ok((Cow::Owned(values), errors))
}

/// Trains centroids on a sample of the rows that are not held out, or on the first rows if these are too few.
fn train(samples: &Samples, cells: usize, params: &IvfParams, watch: &Watch) -> Result<Vec<f32>> {
    let kmeans = Params {
        cells,
        metric: params.metric,
        iterations: ITERATIONS,
        tolerance: TOLERANCE,
        init: Init::Random,
        sample: None,
        seed: params.seed,
        threads: Some(params.threads as i64),
    };
    let free = (0..samples.len()).filter(|row| params.held_out.binary_search(row).is_err());
    let free = collected(free, "rows to train on")?;
    let enough = free.len() >= cells;
    let wanted = (TRAINING_ROWS * cells).min(if enough { free.len() } else { samples.len() });
    // Spread evenly over the table, as adjacent rows are often alike.
    let chosen = (0..wanted).map(|i| if enough { free[(i as u64 * free.len() as u64 / wanted as u64) as usize] } else { i });
    let chosen = collected(chosen, "rows to train on")?;
    let sample = samples.pick(&chosen)?;
    Ok(lloyd::train(&sample, &kmeans, watch)?.centroids)
}

/// The inverted lists, padded with [`NO_ROW`] to whole blocks.
struct InvertedLists {
    /// The first block of every cell, and the end of the last.
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl InvertedLists {
    /// Lists every row in its first cell, and in its second if that is different; each list ascends.
    fn new(cells: usize, rows: usize, first: impl Iterator<Item = u32> + Clone, second: Option<&[u32]>) -> Result<Self> {
        let pairs = || {
            let second = second.map(|cells| cells.iter().copied());
            let other = second.into_iter().flatten().chain(std::iter::repeat(u32::MAX));
            first.clone().zip(other)
        };
        let mut sizes = filled(cells, 0u32, "the sizes of cells")?;
        pairs().for_each(|(one, other)| {
            sizes[one as usize] += 1;
            if other != u32::MAX && other != one {
                sizes[other as usize] += 1;
            }
        });
        let mut starts = filled(cells + 1, 0u32, "the starts of cells")?;
        for (cell, &size) in sizes.iter().enumerate() {
            starts[cell + 1] = starts[cell] + size.div_ceil(BLOCK as u32);
        }
        let mut entries = filled(starts[cells] as usize * BLOCK, NO_ROW, "the rows of cells")?;
        let mut next: Vec<usize> = starts.iter().map(|&start| start as usize * BLOCK).collect();
        for (row, (one, other)) in (0..rows as u32).zip(pairs()) {
            let mut put = |cell: u32| {
                entries[next[cell as usize]] = row;
                next[cell as usize] += 1;
            };
            put(one);
            if other != u32::MAX && other != one {
                put(other);
            }
        }
        Ok(InvertedLists { starts, rows: entries })
    }

    fn blocks(&self) -> usize {
        self.rows.len() / BLOCK
    }
}

/// Encodes the centroids into `payload`.
fn encode_centroids(quantizer: &Quantizer, values: &[f32], norms: &[f64], parts: &CellParts, payload: &mut BytesMut) -> Result<()> {
    let Some(ranges) = &parts.codes else { return Ok(()) };
    let padded = norms.len().next_multiple_of(BLOCK);
    let (mut lines, mut remainder) = (filled(ranges.lines.len(), 0u8, "codes")?, filled(ranges.remainder.len(), 0u8, "codes")?);
    let mut offsets = filled(padded, 0.0f32, "codes")?;
    let [mut leading, mut trailing, mut rest] = [0; 3].map(|_| vec![0u16; padded]);
    let mut out = CodesMut {
        lines: &mut lines,
        offsets: &mut offsets,
        leading_residuals: &mut leading,
        trailing_residuals: &mut trailing,
        remainder_residuals: &mut rest,
        remainder: &mut remainder,
    };
    Encoder::new(kernel::selected()?, quantizer)?.encode(PanelValues::F32(values), norms, &mut EncodeScratch::default(), &mut out, 0);
    payload.view_mut::<u8>(ranges.lines.clone()).copy_from_slice(&lines);
    payload.view_mut::<u8>(ranges.remainder.clone()).copy_from_slice(&remainder);
    let (first, halves) = payload.view_mut::<u8>(ranges.factors.clone()).split_at_mut(4 * padded);
    first.copy_from_slice(bytemuck::cast_slice(&offsets));
    halves
        .chunks_exact_mut(2 * padded)
        .zip([&leading, &trailing, &rest])
        .for_each(|(out, half)| out.copy_from_slice(bytemuck::cast_slice(half)));
    Ok(())
}

/// Some list entries, and where their codes go.
struct ListCodesMut<'a> {
    rows: &'a [u32],
    lines: &'a mut [u8],
    offsets: &'a mut [f32],
    leading: &'a mut [u16],
    trailing: &'a mut [u16],
    remainder: &'a mut [u16],
}

/// Copies the codes of rows into `payload`, in list order.
fn copy_codes(
    lists: &InvertedLists,
    codes: &Codes,
    quantizer: &Quantizer,
    parts: &CellParts,
    payload: &mut BytesMut,
    (threads, watch): (usize, &Watch),
) -> Result<()> {
    let Some([lines, factors]) = &parts.listed else { return Ok(()) };
    let count = lists.rows.len();
    // One mutable view of both: factors follow lines, after padding.
    let both = payload.view_mut::<u8>(lines.start..factors.end);
    let (all_lines, all_factors) = both.split_at_mut(factors.start - lines.start);
    let (offsets, halves) = all_factors.split_at_mut(4 * count);
    let (leading, others) = bytemuck::cast_slice_mut::<u8, u16>(halves).split_at_mut(count);
    let (trailing, remainder) = others.split_at_mut(count);
    let per_job = JOB_BLOCKS * BLOCK;
    let mut leading = leading.chunks_mut(per_job);
    let mut trailing = trailing.chunks_mut(per_job);
    let mut remainder = remainder.chunks_mut(per_job);
    let mut offsets = bytemuck::cast_slice_mut::<u8, f32>(offsets).chunks_mut(per_job);
    let line_parts = all_lines[..lines.len()].chunks_mut(JOB_BLOCKS * quantizer.block_bytes());
    let jobs: Vec<_> = line_parts
        .zip(lists.rows.chunks(per_job))
        .map(|(lines, rows)| {
            Mutex::new(ListCodesMut {
                rows,
                lines,
                offsets: offsets.next().unwrap_or_default(),
                leading: leading.next().unwrap_or_default(),
                trailing: trailing.next().unwrap_or_default(),
                remainder: remainder.next().unwrap_or_default(),
            })
        })
        .collect();
    let block_bytes = quantizer.block_bytes();
    let work = |(): &mut (), job: usize| {
        let mut out = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (at, &row) in out.rows.iter().enumerate() {
            if row == NO_ROW {
                out.offsets[at] = f32::NEG_INFINITY;
                continue;
            }
            let row = row as usize;
            (out.offsets[at], out.remainder[at]) = (codes.offsets[row], codes.remainder_residuals[row]);
            (out.leading[at], out.trailing[at]) = (codes.leading_residuals[row], codes.trailing_residuals[row]);
            let from = row / BLOCK * block_bytes + row % BLOCK * 4;
            let to = at / BLOCK * block_bytes + at % BLOCK * 4;
            for line in (0..quantizer.leading / LINE_DIMS).map(|line| line * LINE_BYTES) {
                out.lines[to + line..to + line + 4].copy_from_slice(&codes.lines[from + line..from + line + 4]);
            }
        }
        watch.advance(out.rows.len() as u64);
        Ok(())
    };
    pool::run(threads, jobs.len(), watch, || Ok(()), work)?;
    Ok(())
}
