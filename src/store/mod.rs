//! Where the bytes of an index lie: a mapped file or memory of our own, behind one type, and the
//! rows seen in them.

mod ahead;
mod bytes;
pub mod codes;
pub mod lists;
pub mod rows;
pub mod section;
pub mod segment;

pub use ahead::ReadAhead;
pub(crate) use bytes::regular_file;
pub use bytes::{Bytes, BytesMut};
