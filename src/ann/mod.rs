//! Cells: rows grouped around centroids, so that a search may visit few of them.
//!
//! [`kmeans`] finds centroids of all rows at once (Lloyd), [`minibatch`] of one batch after the other;
//! [`cells`] names the nearest of them, which is the same cell on every CPU and for any number of
//! threads. [`points`] are the rows that all of them work on.

pub mod cells;
mod frame;
mod gather;
pub mod kmeans;
pub mod minibatch;
pub mod points;
mod seeding;
mod spread;
mod tile;
