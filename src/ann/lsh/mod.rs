//! Locality-sensitive hashing: several tables of buckets of rows that lie on the same sides of random hyperplanes.
//!
//! [`hash`] says which bucket a vector is in, [`build`] fills [`tables`] with rows, [`probe`] lists the buckets that a
//! query looks into, the likeliest first, [`search`] scores their rows exactly; [`cost_model`] says how many tables of
//! how many bits cost least.

pub mod build;
pub mod cost_model;
pub mod hash;
pub mod probe;
pub mod search;
pub mod tables;

pub use search::Lsh;
