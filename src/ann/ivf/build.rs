//! Making cells: k-means on a sample, every row to its nearest cell and perhaps a second one, and the rows of
//! each cell laid out side by side with their codes.

use super::{Ivf, soar};
use crate::cluster::assign::Centroids;
use crate::cluster::lloyd::{self, Init, Params};
use crate::cluster::samples::Samples;
use crate::error::{Error, Result, filled};
use crate::format::{CellParts, CellRecord, CellShape};
use crate::kernel::{self, FloatMode};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::quantize::encode::{CodesMut, EncodeScratch, Encoder};
use crate::quantize::{BLOCK, LINE_BYTES, LINE_DIMS, Quantizer};
use crate::store::BytesMut;
use crate::store::codes::Codes;
use crate::store::lists::NO_ROW;
use crate::store::rows::{PanelBuffer, PanelValues, Rows, Values};
use std::borrow::Cow;
use std::sync::Mutex;

/// Centroids for each root of the number of rows: ranking cells then costs about what visiting them does.
const CELLS_A_ROOT: f64 = 5.0;
/// Rows a cell on average, at least.
const ROWS_A_CELL: usize = 16;
/// Rows that train a cell, at most, and updates of the centroids.
const TRAINED: usize = 24;
const ITERATIONS: usize = 5;
/// An iteration that gains less than this part is the last.
const TOLERANCE: f64 = 2e-3;
/// Centroids of a job.
const JOB_CELLS: usize = 16;

/// How to make cells.
#[derive(Debug, Clone)]
pub struct Cluster<'a> {
    /// How many; `None`: as many as rows deserve.
    pub cells: Option<usize>,
    /// What rows are nearest to centroids by: cosine or euclidean.
    pub metric: Metric,
    /// Whether every row gets a second cell.
    pub spill: bool,
    /// Rows that train no centroid, in order.
    pub held: &'a [usize],
    /// Seed of everything random.
    pub seed: u64,
    /// Workers.
    pub threads: usize,
}

/// Makes the cells of `rows`.
///
/// # Errors
/// More cells than rows, named `nlist`; no memory; [`Error::Interrupted`].
pub fn build(rows: &Rows, quantizer: Option<&Quantizer>, how: &Cluster, watch: &Watch) -> Result<Ivf> {
    let _mode = FloatMode::standard();
    let (kernel, dims, count) = (kernel::selected()?, rows.dims, rows.len());
    let cells = how.cells.unwrap_or_else(|| default_cells(count));
    if cells == 0 || cells > count {
        return Err(Error::input("nlist", format!("a whole number from 1 to {count}, the number of rows"), cells));
    }
    let (values, losses) = narrow(rows)?;
    let samples = Samples::new("embeddings", values, dims, kernel, how.threads, watch)?;
    let trained = train(&samples, cells, how, watch)?;
    let cells = Centroids::new("embeddings", trained, dims, how.metric, how.threads, watch)?;
    let among = if how.spill { soar::AMONG.min(cells.rows.len()) } else { 1 };
    let nearest = cells.nearest(&samples, among, how.threads, watch)?;
    let second = if among > 1 { Some(soar::second(&samples, &cells, &nearest, how.metric, how.threads, watch)?) } else { None };

    let mut reaches = filled(cells.rows.len(), f64::INFINITY, "the reaches of cells")?;
    for (row, (&cell, &key)) in nearest.cells.iter().zip(&nearest.keys).step_by(among).enumerate() {
        let loss = losses.get(row).copied().unwrap_or(0.0);
        let key = match how.metric {
            // A row whose norm is 0 has a cosine of 0 as it is and in float32.
            Metric::Cosine if rows.norms[row] > 0.0 => (key - super::exactness::rotated(loss, rows.norms[row])).max(-1.0),
            Metric::Euclidean if loss > 0.0 => -((-key).sqrt() + loss).powi(2),
            _ => key,
        };
        reaches[cell as usize] = reaches[cell as usize].min(key);
    }
    let first = nearest.cells.iter().copied().step_by(among);
    let lists = Listed::new(cells.rows.len(), count, first, second.as_deref())?;
    let codes = rows.codes.zip(quantizer);
    let shape =
        CellShape { dims, cells: cells.rows.len(), blocks: lists.blocks(), leading: codes.map_or(0, |(_, quantizer)| quantizer.leading) };
    let parts = shape.parts(0);
    let mut payload = BytesMut::zeroed(parts.end, "the cells")?;
    let record = CellRecord::record(&shape, how.metric, second.is_some());
    payload.view_mut::<u8>(0..size_of_val(&record)).copy_from_slice(bytemuck::bytes_of(&record));
    payload.view_mut::<u32>(parts.starts.clone()).copy_from_slice(&lists.starts);
    payload.view_mut::<f64>(parts.reaches.clone()).copy_from_slice(&reaches);
    let norms: Vec<f64> = measure(kernel, cells.rows.values(), dims);
    payload.view_mut::<f64>(parts.norms.clone()).copy_from_slice(&norms);
    payload.view_mut::<f32>(parts.centroids.clone()).copy_from_slice(cells.rows.values());
    payload.view_mut::<u32>(parts.rows.clone()).copy_from_slice(&lists.rows);
    if let Some((codes, quantizer)) = codes {
        encode_centroids(quantizer, cells.rows.values(), &norms, &parts, &mut payload)?;
        copy_codes(&lists, &codes, quantizer, &parts, &mut payload, (how.threads, watch))?;
    }

    let payload = payload.freeze()?;
    let record = CellRecord { metric: how.metric, spilled: second.is_some(), shape, payload: 0..parts.end, parts };
    Ok(Ivf::new(record, &payload))
}

fn default_cells(rows: usize) -> usize {
    let wanted = (CELLS_A_ROOT * (rows as f64).sqrt()) as usize;
    wanted.min(rows / ROWS_A_CELL).next_multiple_of(BLOCK).clamp(1, rows)
}

/// The rows in float32, where they lie if they are, and how far each of them is from what it was; nothing where none
/// is.
fn narrow<'a>(rows: &Rows<'a>) -> Result<(Cow<'a, [f32]>, Vec<f64>)> {
    if let Values::F32(values) = rows.values {
        return Ok((Cow::Borrowed(values), Vec::new()));
    }
    let wide = matches!(rows.values, Values::F64(_));
    let mut losses = filled(if wide { rows.len() } else { 0 }, 0.0, "the rows in float32")?;
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
                losses[row] = out.iter().zip(values).map(|(&near, x)| (x - f64::from(near)).powi(2)).sum::<f64>().sqrt();
            }
        }
    }
    Ok((Cow::Owned(values), losses))
}

fn measure(kernel: &kernel::Kernel, values: &[f32], dims: usize) -> Vec<f64> {
    let mut norms = vec![0.0; values.len() / dims];
    (kernel.squared_norm)(values, dims, &mut norms);
    norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
    norms
}

/// Centroids from a sample of the rows that are not held out.
fn train(samples: &Samples, cells: usize, how: &Cluster, watch: &Watch) -> Result<Vec<f32>> {
    let params = Params {
        cells,
        metric: how.metric,
        iterations: ITERATIONS,
        tolerance: TOLERANCE,
        init: Init::Random,
        sample: None,
        seed: how.seed,
        threads: Some(how.threads as i64),
    };
    let left: Vec<usize> = (0..samples.len()).filter(|row| how.held.binary_search(row).is_err()).collect();
    let enough = left.len() >= cells;
    let wanted = (TRAINED * cells).min(if enough { left.len() } else { samples.len() });
    // Spread evenly: neighbours in a table are often alike, and the sample should not be.
    let chosen: Vec<usize> =
        (0..wanted).map(|i| if enough { left[(i as u64 * left.len() as u64 / wanted as u64) as usize] } else { i }).collect();
    let sample = samples.pick(&chosen)?;
    Ok(lloyd::train(&sample, &params, &mut |_, _, _| true, watch)?.centroids)
}

/// Rows by cell, in blocks.
struct Listed {
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl Listed {
    /// Every row in its first cell, and in its second if that is another; each list in the order of rows.
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
        let mut listed = filled(starts[cells] as usize * BLOCK, NO_ROW, "the rows of cells")?;
        let mut next: Vec<usize> = starts.iter().map(|&start| start as usize * BLOCK).collect();
        for (row, (one, other)) in (0..rows as u32).zip(pairs()) {
            let mut put = |cell: u32| {
                listed[next[cell as usize]] = row;
                next[cell as usize] += 1;
            };
            put(one);
            if other != u32::MAX && other != one {
                put(other);
            }
        }
        Ok(Listed { starts, rows: listed })
    }

    fn blocks(&self) -> usize {
        self.rows.len() / BLOCK
    }
}

/// Writes the codes of the centroids.
fn encode_centroids(quantizer: &Quantizer, values: &[f32], norms: &[f64], parts: &CellParts, payload: &mut BytesMut) -> Result<()> {
    let Some(places) = &parts.codes else { return Ok(()) };
    let padded = norms.len().next_multiple_of(BLOCK);
    let (mut lines, mut remainder) = (filled(places.lines.len(), 0u8, "codes")?, filled(places.remainder.len(), 0u8, "codes")?);
    let mut offsets = filled(padded, 0.0f32, "codes")?;
    let [mut leading, mut trailing, mut fine] = [0; 3].map(|_| vec![0u16; padded]);
    let mut out = CodesMut {
        lines: &mut lines,
        offsets: &mut offsets,
        leading_residuals: &mut leading,
        trailing_residuals: &mut trailing,
        remainder_residuals: &mut fine,
        remainder: &mut remainder,
    };
    Encoder::new(kernel::selected()?, quantizer).encode(PanelValues::F32(values), norms, &mut EncodeScratch::default(), &mut out, 0);
    payload.view_mut::<u8>(places.lines.clone()).copy_from_slice(&lines);
    payload.view_mut::<u8>(places.remainder.clone()).copy_from_slice(&remainder);
    let (first, halves) = payload.view_mut::<u8>(places.factors.clone()).split_at_mut(4 * padded);
    first.copy_from_slice(bytemuck::cast_slice(&offsets));
    halves
        .chunks_exact_mut(2 * padded)
        .zip([&leading, &trailing, &fine])
        .for_each(|(out, half)| out.copy_from_slice(bytemuck::cast_slice(half)));
    Ok(())
}

/// Where the codes of some cells go.
struct ListedMut<'a> {
    rows: &'a [u32],
    lines: &'a mut [u8],
    offsets: &'a mut [f32],
    leading: &'a mut [u16],
    trailing: &'a mut [u16],
    remainder: &'a mut [u16],
}

/// Copies the codes of listed rows to where the lists are.
fn copy_codes(
    lists: &Listed,
    codes: &Codes,
    quantizer: &Quantizer,
    parts: &CellParts,
    payload: &mut BytesMut,
    (threads, watch): (usize, &Watch),
) -> Result<()> {
    let Some([lines, factors]) = &parts.listed else { return Ok(()) };
    let count = lists.rows.len();
    // Both lie after each other, with zeros between.
    let both = payload.view_mut::<u8>(lines.start..factors.end);
    let (all_lines, all_factors) = both.split_at_mut(factors.start - lines.start);
    let (offsets, halves) = all_factors.split_at_mut(4 * count);
    let (leading, others) = bytemuck::cast_slice_mut::<u8, u16>(halves).split_at_mut(count);
    let (trailing, remainder) = others.split_at_mut(count);
    let per_job = JOB_CELLS * BLOCK;
    let mut leading = leading.chunks_mut(per_job);
    let mut trailing = trailing.chunks_mut(per_job);
    let mut remainder = remainder.chunks_mut(per_job);
    let mut offsets = bytemuck::cast_slice_mut::<u8, f32>(offsets).chunks_mut(per_job);
    let line_parts = all_lines[..lines.len()].chunks_mut(JOB_CELLS * quantizer.block_bytes());
    let jobs: Vec<_> = line_parts
        .zip(lists.rows.chunks(per_job))
        .map(|(lines, rows)| {
            Mutex::new(ListedMut {
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
        Ok(())
    };
    pool::run(threads, jobs.len(), watch, || Ok(()), work)?;
    Ok(())
}
