//! Panels: the rows of a job, some at a time, decoded and together with their norms, so that
//! every query meets them while they are in a cache.

use super::Run;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::store::rows::{PanelBuffer, PanelValues, Rows};
use std::ops::Range;

/// Rows of a panel that one query passes over where they lie: enough for a kernel's streams.
const IN_PLACE_ROWS: usize = 1024;
/// Bytes of decoded values in a panel that one query at a time passes over: half of a small L1.
const DECODED_BYTES: usize = 16 << 10;
/// The same for a panel that tiles of queries pass over: a part of L2, with room for a tile.
const TILE_PANEL_BYTES: usize = 384 << 10;
/// A multiple of the rows that any kernel takes at a time.
const TILE_ROWS: usize = 24;

/// Some rows, their numbers and their norms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel<'a> {
    pub values: PanelValues<'a>,
    pub rows: &'a [u64],
    pub norms: &'a [f64],
}

impl Panel<'_> {
    /// The rows of `range`.
    pub fn part(&self, range: Range<usize>, dims: usize) -> Self {
        let span = range.start * dims..range.end * dims;
        let values = match self.values {
            PanelValues::F32(values) => PanelValues::F32(&values[span]),
            PanelValues::F64(values) => PanelValues::F64(&values[span]),
        };
        Panel { values, rows: &self.rows[range.clone()], norms: &self.norms[range] }
    }
}

/// How many rows a panel holds at most.
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

/// Room for one panel after the other.
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

    /// Calls `each` with panels that together hold the rows of `runs`, in order.
    pub fn visit(&mut self, kernel: &Kernel, segments: &[Rows], runs: &[Run], each: &mut dyn FnMut(Panel) -> Result<()>) -> Result<()> {
        for (i, run) in runs.iter().enumerate() {
            let segment = &segments[run.segment];
            let mut at = run.rows.start;
            while at < run.rows.end {
                let end = run.rows.end.min(at + self.capacity - self.rows.len());
                let alone = self.rows.is_empty() && (end - at == self.capacity || i + 1 == runs.len());
                self.rows.extend((at..end).map(|row| segment.first + row as u64));
                self.norms.extend_from_slice(&segment.norms[at..end]);
                match segment.in_place(at..end) {
                    Some(values) if alone => self.give(Some(values), each)?,
                    _ => segment.decode(kernel, at..end, &mut self.buffer),
                }
                if self.rows.len() == self.capacity {
                    self.give(None, each)?;
                }
                at = end;
            }
        }
        if self.rows.is_empty() { Ok(()) } else { self.give(None, each) }
    }

    /// Hands the panel over (its values lie elsewhere when given) and starts the next.
    fn give(&mut self, values: Option<PanelValues>, each: &mut dyn FnMut(Panel) -> Result<()>) -> Result<()> {
        let values = values.unwrap_or_else(|| self.buffer.values());
        let result = each(Panel { values, rows: &self.rows, norms: &self.norms });
        self.buffer.clear();
        self.rows.clear();
        self.norms.clear();
        result
    }
}
