//! Where the bytes of an index lie: a mapped file or memory of our own, behind one type.

mod bytes;

pub(crate) use bytes::regular_file;
pub use bytes::{Bytes, BytesMut};
