//! The bytes of an index, in a mapped file or in anonymous memory behind one type, and typed views of its rows, codes
//! and inverted lists.

mod ahead;
mod bytes;
pub mod codes;
pub mod lists;
pub mod rows;
pub mod section;
pub mod segment;
mod unnamed;

pub use ahead::ReadAhead;
pub(crate) use bytes::regular_file;
pub use bytes::{Bytes, BytesMut};
pub(crate) use unnamed::{link, unnamed_file};
