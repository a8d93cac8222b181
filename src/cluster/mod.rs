//! k-means: centroids of rows, and the nearest centroids of each row.
//!
//! [`lloyd`] trains on all rows at once, [`minibatch`] on one batch after the other. Both start from k-means++
//! (`plusplus`) or from random rows, find the nearest centroids with [`assign`], add up the rows of each cell in `sums`
//! and give empty cells new centroids in `reseed`. A *cell* is the set of rows nearest to one centroid, and has its
//! number. Every step gives the same bits on every CPU and for any number of threads.

pub mod assign;
mod centroid_codes;
pub mod lloyd;
pub mod minibatch;
mod plusplus;
pub(crate) mod reseed;
pub mod samples;
mod sums;
mod tile;
