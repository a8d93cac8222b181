//! The bytes of an index, in a mapped file or in anonymous memory behind one type, and typed views of its rows, codes
//! and inverted lists.

mod ahead;
mod bytes;
pub mod codes;
pub mod deleted;
pub mod ids;
pub mod lists;
pub mod rows;
pub mod section;
pub mod segment;

pub use ahead::ReadAhead;
pub use bytes::{Bytes, BytesMut};
pub(crate) use bytes::{link, regular_file, same_file, unnamed_file};
