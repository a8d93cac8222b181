//! Panels: some rows of a job at a time, decoded and with their norms, so that every query reads them from a cache.

use super::Job;
use crate::error::Result;
use crate::store::rows::{PanelBuffer, PanelValues};
use std::ops::Range;

/// Rows of a panel for one query that needs no decoding: enough for a kernel to stream.
const IN_PLACE_ROWS: usize = 1024;
/// Bytes of decoded values in a panel for one query at a time: half of a small L1.
const DECODED_BYTES: usize = 16 << 10;
/// Bytes of values in a panel for tiles of queries: a part of L2 that leaves space for a tile.
const TILE_PANEL_BYTES: usize = 384 << 10;
/// A multiple of the rows that any tile kernel takes at a time.
const TILE_ROWS: usize = 24;

/// Some rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel<'a> {
    pub values: PanelValues<'a>,
    /// Row numbers in the whole index.
    pub rows: &'a [u64],
    pub norms: &'a [f64],
}

impl Panel<'_> {
    /// The rows of `range`.
    pub fn part(&self, range: Range<usize>, dims: usize) -> Self {
        Panel { values: self.values.part(range.clone(), dims), rows: &self.rows[range.clone()], norms: &self.norms[range] }
    }
}

/// How many rows a panel holds at most, for `tiles` of queries or one at a time, of rows read `in_place` or decoded.
pub(super) fn rows_for(tiles: bool, in_place: bool, dims: usize) -> usize {
    let fit = |bytes: usize| bytes / (4 * dims);
    if tiles {
        (fit(TILE_PANEL_BYTES) / TILE_ROWS).clamp(1, 40) * TILE_ROWS
    } else if in_place {
        IN_PLACE_ROWS
    } else {
        fit(DECODED_BYTES).clamp(4, 256)
    }
}

/// The buffers of a panel, reused from one panel to the next.
#[derive(Debug)]
pub(super) struct Panels {
    capacity: usize,
    buffer: PanelBuffer,
    rows: Vec<u64>,
    norms: Vec<f64>,
}

impl Panels {
    /// Panels of at most `capacity` rows.
    pub fn new(capacity: usize) -> Self {
        Panels { capacity, buffer: PanelBuffer::default(), rows: Vec::new(), norms: Vec::new() }
    }

    /// Calls `each` with panels that hold the job's rows, in order.
    pub fn visit(&mut self, job: &Job, each: &mut dyn FnMut(&Panel) -> Result<()>) -> Result<()> {
        for (i, run) in job.runs.iter().enumerate() {
            let segment = &job.segments[run.segment];
            let mut at = run.rows.start;
            while at < run.rows.end {
                let end = run.rows.end.min(at + self.capacity - self.rows.len());
                let alone = self.rows.is_empty() && (end - at == self.capacity || i + 1 == job.runs.len());
                self.rows.extend((at..end).map(|row| segment.first + row as u64));
                let norms = &segment.norms[at..end];
                if let Some(values) = segment.in_place(at..end).filter(|_| alone) {
                    let result = each(&Panel { values, rows: &self.rows, norms });
                    self.rows.clear();
                    result?;
                } else {
                    self.norms.extend_from_slice(norms);
                    segment.decode(job.plan.kernel, at..end, &mut self.buffer);
                }
                if self.rows.len() == self.capacity {
                    self.give(each)?;
                }
                at = end;
            }
        }
        if self.rows.is_empty() { Ok(()) } else { self.give(each) }
    }

    /// Passes the decoded panel to `each` and starts the next.
    fn give(&mut self, each: &mut dyn FnMut(&Panel) -> Result<()>) -> Result<()> {
        let result = each(&Panel { values: self.buffer.values(), rows: &self.rows, norms: &self.norms });
        self.buffer.clear();
        self.rows.clear();
        self.norms.clear();
        result
    }
}
