//! Locality-sensitive hashing: several tables, in each of which rows on the same sides of random hyperplanes share a
//! bucket. Searches probe several buckets per table (Lv and others, Multi-probe LSH, VLDB 2007).
//!
//! [`hash`] maps a vector to a bucket, [`build`] fills the [`tables`], [`probe`] orders the buckets by their probability
//! to hold a neighbour of the query, [`search`] scores the rows of the first ones exactly; [`cost_model`] chooses the
//! number of tables and bits.

pub mod build;
pub mod cost_model;
pub mod hash;
pub mod probe;
pub mod search;
pub mod tables;

pub use search::Lsh;
