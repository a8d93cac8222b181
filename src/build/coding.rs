//! Codes of the rows of a table: learn a quantizer from a sample, then encode every row.

use crate::error::{Result, collected, room};
use crate::format::{MAX_CODED_DIMS, MIN_CODED_DIMS};
use crate::input::Block;
use crate::kernel::Kernel;
use crate::level::Level;
use crate::linalg::Compute;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::progress::cost;
use crate::quantize::calibrate::{self, PseudoQuery};
use crate::quantize::encode::{CodesMut, EncodeScratch, Encoder};
use crate::quantize::{BLOCK, LEAST_NORM, Quantizer, axes};
use crate::scan::{self, FULL_BOUND_COST, Method, Plan, Queries, Run};
use crate::store::BytesMut;
use crate::store::codes::{CodeSections, FACTOR_BYTES};
use crate::store::rows::{PanelBuffer, PanelValues, Rows};
use crate::store::section::Section;
use std::ops::RangeInclusive;
use std::sync::Mutex;

/// Smaller tables are read in full in less time than a query takes to prepare for codes.
const LEAST_BYTES: usize = 4 << 20;
/// Dims of rows that get codes: below, the factors of a row take as many bytes as its codes; above, the format ends.
const DIMS: RangeInclusive<usize> = MIN_CODED_DIMS as usize..=MAX_CODED_DIMS as usize;
/// Rows for each dim, at least. With 4 rows a dim a query by codes takes a sixth to a half of the time of reading all rows,
/// with 2 from a half to nearly all of it, and the axes take half the bytes of the rows.
const ROWS_PER_DIM: usize = 4;
/// Values, and rows, of the sample that axes are learnt from, at most.
const SAMPLE_VALUES: usize = 8 << 20;
const SAMPLE_ROWS: usize = 16_384;
/// Values of the rows that calibrate the number of leading dims, such rows at most, and pseudo-queries.
const WIDTH_VALUES: usize = 2 << 20;
const WIDTH_ROWS: usize = 2048;
const PSEUDO_QUERIES: usize = 48;
/// k of three pseudo-queries in four, and of the fourth; one neighbour may be the row that the query was made from.
const PSEUDO_K: [usize; 2] = [11, 101];
/// Full bounds that a search computes for each row that reaches the final threshold, which it learns late.
const LATE: f64 = 2.0;
/// Rows of one encoding job.
const JOB_ROWS: usize = 64 * BLOCK;

/// Parameters that learning and encoding share.
#[derive(Clone, Copy)]
pub(crate) struct Coding<'a> {
    pub kernel: &'static Kernel,
    pub threads: usize,
    pub seed: u64,
    pub watch: &'a Watch<'a>,
}

/// What memory for rows, from which codes are learned, is for.
const SAMPLE: &str = "a sample of rows";

/// Whether rows get codes: where there are enough of them, and level f8 has none.
pub(crate) fn worthwhile(level: Level, rows: usize, dims: usize) -> bool {
    level.may_have_codes() && rows * level.row_bytes(dims) > LEAST_BYTES && DIMS.contains(&dims) && rows >= ROWS_PER_DIM * dims
}

/// What it costs to learn axes, to search for pseudo-queries, to choose the number of leading dims, and to encode.
pub(super) fn work(rows: usize, dims: usize) -> [f64; 4] {
    let (sample, search) = (sample_rows(rows, dims), cost::SCAN * (rows * dims * PSEUDO_QUERIES) as f64);
    let encoding = (rows * dims) as f64 * (dims as f64 + cost::QUANTIZE);
    [cost::LEARN * axes::work(sample, dims), search, calibrate::work(sample.min(width_rows(dims)), dims, PSEUDO_QUERIES), encoding]
}

/// Rows of the sample that axes are learnt from, at most.
fn sample_rows(rows: usize, dims: usize) -> usize {
    (SAMPLE_VALUES / dims).min(SAMPLE_ROWS).min(rows)
}

/// Rows that calibrate the number of leading dims, about.
fn width_rows(dims: usize) -> usize {
    WIDTH_ROWS.min(WIDTH_VALUES / dims)
}

/// Learns a quantizer from the rows.
pub(crate) fn learn(coding: Coding, level: Level, rows: &Rows) -> Result<Quantizer> {
    let Coding { kernel, threads, seed, watch } = coding;
    let dims = rows.dims;
    let [learning, searching, choosing, _] = work(rows.len(), dims);
    watch.stage(learning, (learning / cost::LEARN) as u64);
    let sample = directions(kernel, rows, sample_rows(rows.len(), dims))?;
    let compute = Compute { kernel, threads, watch };
    let mut quantizer = axes::learn(compute, &sample, dims, seed)?;
    let pseudo = pseudo_queries(&sample, dims);
    let narrow = collected(pseudo.iter().flatten().map(|&x| x as f32), SAMPLE)?;
    let queries = Queries::new(kernel, level, Block::F32(&narrow), dims, 0)?;
    let plan = Plan {
        metric: Metric::Cosine,
        k: PSEUDO_K[1],
        kernel,
        method: Method::Simd,
        threads,
        quantizer: None,
        unit: false,
        threshold: f64::NEG_INFINITY,
    };
    watch.stage(searching, (rows.len() * queries.len()) as u64);
    let best = scan::search(&plan, &[*rows], &[Run { segment: 0, rows: 0..rows.len() }], &queries, watch)?;
    let kth = best.into_iter().enumerate().map(|(i, top)| {
        let sorted = top.into_sorted();
        // Of each of the four kinds of pseudo-queries, three in four take the smaller k.
        sorted.get(PSEUDO_K[i / 4 % 4 / 3] - 1).or(sorted.last()).map_or(-1.0, |entry| entry.key)
    });
    let pseudo: Vec<PseudoQuery> = pseudo.into_iter().zip(kth).map(|(direction, kth)| PseudoQuery { direction, kth }).collect();
    watch.stage(choosing, choosing as u64);
    let step = (sample.len() / dims / width_rows(dims)).max(1);
    let some = collected(sample.chunks_exact(dims).step_by(step).flatten().copied(), SAMPLE)?;
    quantizer.leading = calibrate::leading_dims(compute, &quantizer, &some, &pseudo, LATE * FULL_BOUND_COST as f64)?;
    Ok(quantizer)
}

/// Unit vectors of about `count` rows spread over the table, in float64, without zero rows.
fn directions(kernel: &Kernel, rows: &Rows, count: usize) -> Result<Vec<f64>> {
    let mut buffer = PanelBuffer::default();
    let mut sample = room(count * rows.dims, SAMPLE)?;
    for i in 0..count {
        let row = (i as u64 * rows.len() as u64 / count as u64) as usize;
        if rows.norms[row] >= LEAST_NORM {
            buffer.clear();
            rows.decode(kernel, row..row + 1, &mut buffer);
            sample.extend(values(buffer.values(), 0, rows.dims).map(|x| x / rows.norms[row]));
        }
    }
    Ok(sample)
}

/// Row `i` of some decoded rows, in float64.
fn values(decoded: PanelValues<'_>, i: usize, dims: usize) -> impl Iterator<Item = f64> {
    let (narrow, wide): (&[f32], &[f64]) = match decoded {
        PanelValues::F32(values) => (&values[i * dims..(i + 1) * dims], &[]),
        PanelValues::F64(values) => (&[], &values[i * dims..(i + 1) * dims]),
    };
    narrow.iter().map(|&x| f64::from(x)).chain(wide.iter().copied())
}

/// Rows of the sample, and normalised sums of two, four and eight of them: real queries often lie between rows, farther
/// from their neighbours than a row from its own.
fn pseudo_queries(sample: &[f64], dims: usize) -> Vec<Vec<f64>> {
    let count = sample.len() / dims;
    let row = |i: usize| &sample[i % count * dims..(i % count + 1) * dims];
    let made = (0..PSEUDO_QUERIES.min(count)).map(|i| {
        let at = i * count / PSEUDO_QUERIES.min(count);
        let mixed = 1 << (i % 4);
        let mut sum = vec![0.0; dims];
        for part in 0..mixed {
            sum.iter_mut().zip(row(at + part * count / mixed)).for_each(|(all, x)| *all += x);
        }
        let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 1e-3 { sum.iter().map(|x| x / length).collect() } else { row(at).to_vec() }
    });
    made.collect()
}

/// Encodes every row.
pub(crate) fn encode(coding: Coding, quantizer: &Quantizer, rows: &Rows) -> Result<CodeSections> {
    let padded = rows.len().next_multiple_of(BLOCK);
    let mut lines = BytesMut::zeroed(padded / BLOCK * quantizer.block_bytes(), "the codes")?;
    let mut factors = BytesMut::zeroed(padded * FACTOR_BYTES, "the codes")?;
    let mut remainder = BytesMut::zeroed(rows.len() * quantizer.remainder_bytes(), "the codes")?;
    let size = (lines.len(), remainder.len());
    let (offsets, halves) = factors.view_mut::<u8>(0..padded * FACTOR_BYTES).split_at_mut(4 * padded);
    let (leading, others) = bytemuck::cast_slice_mut::<u8, u16>(halves).split_at_mut(padded);
    let (trailing, fine) = others.split_at_mut(padded);
    let mut trailing = trailing.chunks_mut(JOB_ROWS);
    let mut fine = fine.chunks_mut(JOB_ROWS);
    let mut leading = leading.chunks_mut(JOB_ROWS);
    let mut offsets = bytemuck::cast_slice_mut::<u8, f32>(offsets).chunks_mut(JOB_ROWS);
    let mut remainder_parts = remainder.view_mut::<u8>(0..size.1).chunks_mut(JOB_ROWS * quantizer.remainder_bytes());
    let line_parts = lines.view_mut::<u8>(0..size.0).chunks_mut(JOB_ROWS / BLOCK * quantizer.block_bytes());
    let jobs: Vec<Mutex<CodesMut>> = line_parts
        .map(|lines| {
            Mutex::new(CodesMut {
                lines,
                offsets: offsets.next().unwrap_or_default(),
                leading_residuals: leading.next().unwrap_or_default(),
                trailing_residuals: trailing.next().unwrap_or_default(),
                remainder_residuals: fine.next().unwrap_or_default(),
                remainder: remainder_parts.next().unwrap_or_default(),
            })
        })
        .collect();
    let encoder = Encoder::new(coding.kernel, quantizer)?;
    coding.watch.stage(work(rows.len(), rows.dims)[3], rows.len() as u64);
    let encode = |(scratch, buffer): &mut (EncodeScratch, PanelBuffer), job: usize| {
        let mut out = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let range = job * JOB_ROWS..rows.len().min((job + 1) * JOB_ROWS);
        buffer.clear();
        rows.decode(coding.kernel, range.clone(), buffer);
        encoder.encode(buffer.values(), &rows.norms[range.clone()], scratch, &mut out, 0);
        coding.watch.advance(range.len() as u64);
        Ok(())
    };
    pool::run(coding.threads, jobs.len(), coding.watch, || Ok(<(EncodeScratch, PanelBuffer)>::default()), encode)?;
    drop(jobs);
    let [lines, factors, remainder] = [lines, factors, remainder].map(|section| section.freeze().map(Section::whole));
    Ok(CodeSections { lines: lines?, factors: factors?, remainder: remainder? })
}
