//! nseekfs finds the nearest vectors, exactly: the answer of a float64 brute force, bit for bit, on
//! every CPU, for any number of threads and queries.
//!
//! An index is a table of rows and, once it is large, compact codes that bound every row's score. A
//! search is: choose candidates, bound them by codes, read the undecided rows, keep the best k; or,
//! where codes do not pay, visit all rows in panels that fit a cache. An approximate search differs in one thing:
//! cells or buckets name its candidates.
//!
//! ```text
//!  Index.query(v, top_k)            python/nseekfs/index.py    a contiguous (m, dims) array
//!    Index.search                   src/python/index.rs        a slice; the interpreter is released
//!      Index::search                src/index/mod.rs           checks dims and k, groups queries
//!        candidates                 src/candidates.rs              which rows? runs of row numbers
//!        Queries::new               src/scan/query.rs              rounded once, checked, measured
//!        effort                     src/index/ann.rs               all rows, or so many cells or buckets
//!        Ann::search                src/ann/{ivf,lsh}/search.rs    the nearest cells | the likeliest buckets
//!        scan::search               src/scan/mod.rs                jobs in parallel (src/pool.rs)
//!          single | batch           src/scan/{single,batch}.rs         codes of one query | of a batch
//!          lists                    src/scan/lists.rs                  codes of the rows of some cells
//!            bound                  src/quantize/bound.rs                  what codes prove, and why
//!            refine                 src/scan/refine.rs                     the undecided rows, read in full
//!          float64|float32|int8     src/scan/{float64,float32,int8}.rs all rows | float32, then keys | rows of level f8
//!            Panels                 src/scan/panel.rs                      rows decoded for the kernels
//!            Kernel                 src/kernel/                            sums in 32 lanes of float64
//!          TopK                     src/topk.rs                        (key, row) order
//!      Hits                         src/hits.rs                    rows, float32 scores, float64 keys
//!    numpy arrays                   src/python/array.rs
//! ```
//!
//! | module | what it knows | may use |
//! |---|---|---|
//! | [`error`] | every refusal and its sentence | nothing of ours |
//! | [`kernel`] | arithmetic on slices, the CPU, the floating-point mode | the line above |
//! | [`metric`], [`level`] | how vectors are compared, how a value is stored | lines above |
//! | [`input`], [`topk`], [`pool`], [`random`] | input numbers, the best k, threads, seeds | lines above |
//! | [`linalg`] | products of matrices, orthonormal rows, principal axes | lines above |
//! | [`hits`] | answers as users see them | lines above |
//! | [`cluster`] | k-means: centroids, and the nearest of them | lines above |
//! | [`store`] | where bytes lie, rows seen in them | lines above |
//! | [`quantize`] | what bounds a row's score without reading the row | lines above |
//! | [`format`], [`scan`] | the file; the search over rows | lines above |
//! | [`ann`] | which few rows are worth visiting | lines above |
//! | [`candidates`] | which rows a filter allows | lines above |
//! | [`index`] | search, save, open | lines above |
//! | [`build`] | rows into an index | lines above |
//! | `python` | views in, arrays out | lines above |
//!
//! `tests/layers.rs` holds the table to its word. Unsafe code is in `kernel` and `store/bytes.rs`
//! alone, file names and fsync in `format/write.rs` alone, threads in `pool.rs` alone.

pub mod ann;
pub mod build;
pub mod candidates;
pub mod cluster;
pub mod error;
pub mod format;
pub mod hits;
pub mod index;
pub mod input;
pub mod kernel;
pub mod level;
pub mod linalg;
pub mod metric;
pub mod pool;
#[cfg(feature = "python")]
mod python;
pub mod quantize;
pub mod random;
pub mod scan;
pub mod store;
pub mod topk;
