//! k-means: centroids of rows, and the nearest of them to each row.
//!
//! [`lloyd`] works on all rows at once, [`minibatch`] on one batch after the other. Both start from [`plusplus`] or from
//! random rows, find the nearest centroids with [`assign`], add up the rows of each cell in [`sums`] and refill empty
//! cells in [`reseed`]. Every step gives the same bits on every CPU and for any number of threads.

pub mod assign;
mod centroid_codes;
pub mod lloyd;
pub mod minibatch;
mod plusplus;
pub(crate) mod reseed;
pub mod samples;
mod sums;
mod tile;
