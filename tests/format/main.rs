//! The index file: every rule of `src/format/FORMAT.md`, damage, hostile bytes, interrupted writes,
//! files that are not ours, and the files of released versions.

mod damage;
mod foreign;
mod golden;
mod hostile;
mod rules;
mod sample;
mod write;
