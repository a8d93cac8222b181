//! Cells: rows grouped around centroids, so that a search may visit few of them.
//!
//! [`kmeans`] finds centroids of all rows at once (Lloyd), [`minibatch`] of one batch after the other;
//! [`cells`] names the nearest of them, which is the same cell on every CPU and for any number of
//! threads. [`points`] are the rows that all of them work on. [`ivf`] is an index of cells, [`tune`] measures how
//! many of them a recall takes.

pub mod cells;
mod frame;
mod gather;
pub mod ivf;
pub mod kmeans;
pub mod minibatch;
pub mod points;
mod seeding;
pub mod tune;
