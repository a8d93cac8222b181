//! nseekfs finds the nearest vectors, exactly: the answer of a float64 brute force, bit for bit, on
//! every CPU, for any number of threads and queries.
//!
//! An index is a table of rows and, if it is large enough, compact codes that bound every row's score. It changes by
//! generations ([`live`]), each of which is an [`index::Index`] that never changes. A search
//! chooses candidates, bounds them by codes, refines the undecided rows and keeps the best k; where codes do not
//! pay, it visits all rows in panels that fit a cache. An approximate search differs in one thing: cells or buckets
//! name its candidates.
//!
//! ```text
//!  Index.query(v, top_k)            python/nseekfs/index.py    a contiguous (m, dims) array
//!    Index.search                   src/python/index.rs        a slice; the interpreter is released
//!      LiveIndex::current           src/live/mod.rs            the generation that is searched
//!      Index::search                src/index/mod.rs           checks dims and k, groups queries
//!        candidates                 src/candidates.rs              which rows? runs of row numbers
//!        Queries::new               src/scan/query.rs              rounded once, checked, measured
//!        effort                     src/index/ann.rs               all rows, or so many cells or buckets
//!        Ann::search                src/ann/{ivf,lsh}/search.rs    the nearest cells | the most probable buckets
//!        scan::search               src/scan/mod.rs                jobs in parallel (src/pool.rs)
//!          single | batch           src/scan/{single,batch}.rs         codes of one query | of a batch
//!          lists                    src/scan/lists.rs                  codes of the rows of some cells
//!            bound                  src/quantize/bound.rs                  what codes prove, and why
//!            refine                 src/scan/refine.rs                     the undecided rows, read in full
//!          float64|float32|int8     src/scan/{float64,float32,int8}.rs all rows | float32, then keys | rows of level f8
//!          bits                     src/scan/bits.rs                   rows of level b1
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
//! | [`reserve`] | memory for small requests that the system refuses | the line above |
//! | [`kernel`] | arithmetic on slices, the CPU, the floating-point mode | lines above |
//! | [`level`] | how a value is stored | lines above |
//! | [`metric`] | how vectors are compared | lines above |
//! | [`progress`] | how much of a long work is done | lines above |
//! | [`input`], [`topk`], [`pool`], [`random`] | input numbers, the best k, threads, seeds | lines above |
//! | [`linalg`] | products of matrices, orthonormal rows, principal axes | lines above |
//! | [`hits`] | answers as users see them | lines above |
//! | [`cluster`] | k-means: centroids, and the nearest of them | lines above |
//! | [`store`] | where bytes lie, rows seen in them | lines above |
//! | [`quantize`] | what bounds a row's score without reading the row | lines above |
//! | [`format`](mod@format), [`scan`] | the file; the search over rows | lines above |
//! | [`ann`] | which few rows are worth visiting | lines above |
//! | [`candidates`] | which rows a filter allows | lines above |
//! | [`index`] | search, save, open | lines above |
//! | [`build`] | rows into an index | lines above |
//! | [`live`] | one generation after another | lines above |
//! | `python` | views in, arrays out | lines above |
//!
//! `tests/layers.rs` checks the table, that no files use each other in a circle, and that each power has one place:
//! unsafe code in `kernel`, `store/bytes.rs` and `reserve.rs`, file names and fsync in
//! `format/replace.rs` and `format/growing.rs`, threads in `pool.rs`.
//!
//! # Glossary
//!
//! | word | meaning | source |
//! |---|---|---|
//! | key | float64 score that ranks rows, larger is better: cosine, dot product, minus the squared or the hamming distance | [`metric`] |
//! | threshold | key of the k-th best row so far: no row below it can be among the best | Seidl and Kriegel 1998 |
//! | quantizer | centre, orthonormal axes and steps that turn a row into a code | faiss `ScalarQuantizer` |
//! | reconstruction level | value that a 4-bit code stands for, close together where values are dense | Lloyd 1982, Max 1960 |
//! | residual norm | length of what a code leaves of a row | RaBitQ 2024, ScaNN 2020 |
//! | leading, trailing dims | coordinates along the axes of largest variance, and the others | ADSampling 2023 |
//! | coarse bound | upper bound of a cosine from the leading dims' levels | VA-file 1998, RaBitQ 2024 |
//! | full bound | upper bound from all codes of a row | multi-step search, Seidl and Kriegel 1998 |
//! | probable bound | bound that holds with high probability, for approximate search only | RaBitQ and ADSampling `epsilon0` |
//! | refine | to read a row in full and compute its key | faiss `IndexRefine`, ScaNN reorder |
//! | certificate | counts and the best bound of all rows not read, which show that an answer is exact | [`hits`] |
//! | panel | consecutive rows decoded for kernels, which fit a cache | BLIS, Van Zee and van de Geijn 2015 |
//! | cell, inverted list | rows nearest to one centroid | Sivic and Zisserman 2003, faiss IVF |
//! | nprobe | cells or buckets that a query visits | faiss |
//! | coarse search | ranking centroids by their keys with a query | faiss coarse quantizer |
//! | spill, SOAR | listing a row in a second cell, whose residual is not parallel to the first | Sun and others 2023 |
//! | bucket | rows with the same signs of projections on hyperplanes, in one hash table | Charikar 2002 |
//! | probing sequence | buckets in the order of the probability that they hold a neighbour | Lv and others 2007 |
//! | segment | rows that were written together | Lucene |
//! | generation | state of an index after a commit | Lucene |
//! | tombstone | mark of a deleted row, whose bytes stay until compaction | LSM tree, O'Neil and others 1996 |
//! | compaction | copying the rows that are left into one segment | LSM tree |
//! | section | part of a file with a checksum of its own | FORMAT.md |

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
pub mod live;
pub mod metric;
pub mod pool;
pub mod progress;
#[cfg(feature = "python")]
mod python;
pub mod quantize;
pub mod random;
pub mod reserve;
pub mod scan;
pub mod store;
pub mod topk;
