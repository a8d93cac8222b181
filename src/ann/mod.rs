//! Cells: rows grouped around centroids, so that a search may visit few of them.
//!
//! [`kmeans`] finds centroids of all rows at once (Lloyd), [`minibatch`] of one batch after the other;
//! [`cells`] names the nearest of them, which is the same cell on every CPU and for any number of
//! threads. [`points`] are the rows that all of them work on.
//!
//! [`lsh`] makes [`tables`] of buckets of rows for cosine, [`hashing`] says which bucket a vector is in, and
//! [`probing`] which buckets a query looks into first.

pub mod cells;
mod frame;
mod gather;
pub mod hashing;
pub mod kmeans;
pub mod lsh;
pub mod minibatch;
pub mod points;
mod principal;
pub mod probing;
mod seeding;
pub mod tables;
