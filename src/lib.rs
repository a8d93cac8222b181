//! nseekfs: nearest vectors, exact to the last bit.
pub mod error;
pub mod format;
pub mod kernel;
pub mod level;
pub mod metric;
pub mod store;
pub mod topk;
