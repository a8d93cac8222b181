//! nseekfs: nearest vectors, exact to the last bit.
pub mod error;
pub mod kernel;
pub mod metric;
pub mod topk;
