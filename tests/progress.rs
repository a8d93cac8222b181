//! What callers hear of the progress of long works: it grows, in small steps, and is short of the whole until the end.

mod random;

use nseekfs::build::{BuildParams, Builder};
use nseekfs::cluster::lloyd::{self, Init, Params};
use nseekfs::cluster::minibatch::{self, Batches};
use nseekfs::cluster::samples::Samples;
use nseekfs::error::{Error, Result};
use nseekfs::index::{AnnKind, AnnParams, Index};
use nseekfs::input::Block;
use nseekfs::kernel;
use nseekfs::pool::Watch;
use nseekfs::progress::{Progress, WHOLE};
use random::Random;
use std::sync::Mutex;

/// What is told of a work that hears no objection.
fn told(work: impl FnOnce(&Progress, &Watch) -> Result<()>) -> Vec<u64> {
    let heard = Mutex::new(Vec::new());
    let progress = Progress::new(1, |done| {
        heard.lock().unwrap().push(done);
        true
    });
    work(&progress, &Watch::new(&|| true).telling(Some(&progress))).unwrap();
    progress.finish();
    heard.lock().unwrap().clone()
}

/// Progress that grows, by `step` at most, to the whole at the end.
fn check(name: &str, heard: &[u64], step: u64) {
    assert!(heard.len() >= 20, "{name}: {heard:?}");
    assert_eq!(heard.last(), Some(&WHOLE), "{name}");
    let steps = heard.iter().scan(0, |last, &done| Some(done.checked_sub(std::mem::replace(last, done))));
    assert!(steps.into_iter().all(|grown| grown.is_some_and(|grown| grown > 0 && grown <= step)), "{name}: {heard:?}");
}

fn rows(count: usize, dims: usize) -> Vec<f32> {
    let mut random = Random::seeded(7);
    (0..count * dims).map(|_| (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// A build on one thread; calls `taken_in` once all rows are.
fn build(
    values: &[f32],
    dims: usize,
    ann: Option<AnnKind>,
    (progress, watch): (&Progress, &Watch),
    taken_in: impl FnOnce(),
) -> Result<Index> {
    let ann = ann.map(|kind| AnnParams { kind: Some(kind), ..AnnParams::default() });
    let params = BuildParams { ann, threads: Some(1), ..BuildParams::default() };
    let mut builder = Builder::new((values.len() / dims) as u64, dims, params)?;
    progress.plan(builder.work(false));
    for block in values.chunks(500 * dims) {
        builder.push(Block::F32(block), dims, watch)?;
    }
    taken_in();
    builder.finish(watch)
}

#[test]
fn learning_and_writing_codes_are_most_of_a_build() {
    let (values, before) = (rows(2100, 512), Mutex::new(0));
    let heard = Mutex::new(Vec::new());
    let progress = Progress::new(1, |done| {
        heard.lock().unwrap().push(done);
        true
    });
    let watch = Watch::new(&|| true).telling(Some(&progress));
    let index =
        build(&values, 512, None, (&progress, &watch), || *before.lock().unwrap() = *heard.lock().unwrap().last().unwrap_or(&0)).unwrap();
    progress.finish();
    assert!(index.quantizer().is_some());
    assert!(*before.lock().unwrap() < WHOLE / 2, "{before:?}");
    check("codes", &heard.lock().unwrap(), 50);
}

#[test]
fn cells_buckets_and_their_tuning_are_part_of_a_build() {
    let values = rows(6000, 32);
    for kind in [AnnKind::Ivf, AnnKind::Lsh] {
        let heard = told(|progress, watch| build(&values, 32, Some(kind), (progress, watch), || ()).map(|_| ()));
        check(&format!("build {kind:?}"), &heard, 400);
        let index = build(&values, 32, Some(kind), (&Progress::new(1, |_| true), &Watch::new(&|| true)), || ()).unwrap();
        check(&format!("tune {kind:?}"), &told(|_, watch| index.tune(None, None, Some(1), watch).map(|_| ())), 400);
    }
}

#[test]
fn saving_tells_of_blocks_that_are_hashed_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let values = rows(8000, 512);
    let index = build(&values, 512, None, (&Progress::new(1, |_| true), &Watch::new(&|| true)), || ()).unwrap();
    let path = folder.path().join("index.bin");
    // What follows the last block, to the disk, cannot be seen.
    check("save", &told(|_, watch| index.save(&path, watch)), 600);
    std::fs::remove_file(&path).unwrap();
    let progress = Progress::new(1, |done| done < 300);
    let result = index.save(&path, &Watch::new(&|| true).telling(Some(&progress)));
    assert!(matches!(result, Err(Error::Interrupted)));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn trainings_of_centroids_tell_of_their_rows_whenever_they_converge() {
    let values = rows(6000, 16);
    let samples = Samples::new("X", &values[..], 16, kernel::selected().unwrap(), 1, &Watch::new(&|| true)).unwrap();
    for (init, iterations, tolerance) in
        [(Init::Random, 300, 1e-3), (Init::PlusPlus, 300, 1e-4), (Init::PlusPlus, 3, 0.0), (Init::Random, 40, 0.0)]
    {
        let params = Params { cells: 64, init, iterations, tolerance, threads: Some(1), ..Params::default() };
        check(&format!("{params:?}"), &told(|_, watch| lloyd::train(&samples, &params, watch).map(|_| ())), 250);
        for patience in [Some(3), None] {
            let params = Params { iterations: iterations.min(5), ..params.clone() };
            let batches = Batches { rows: 200, patience };
            let train = |_: &Progress, watch: &Watch| minibatch::train(&samples, &params, (&batches, 0.01), watch).map(|_| ());
            check(&format!("{batches:?}, {params:?}"), &told(train), 500);
        }
    }
}
