//! The byte formats of rmbd: the [compact] one of clients, the one of Redis ([resp]), the one of HAProxy
//! ([spoe]), the [legacy] one of the Python program, and the messages that nodes of a [cluster] send each other.
//! Nothing in this crate panics, whatever the bytes, and reading copies nothing.
//!
//! ```
//! use rmbd_proto::compact::{Operation, request};
//!
//! let datagram = b"\xc1\x01\x2a\0\0\0\0\x01\x03abc\x03\x03abc"; // add "abc", then count it
//! let request = request(datagram).expect("a request");
//! let operations: Vec<_> = request.operations().map_while(Result::ok).collect();
//! let key = b"abc";
//! assert_eq!(operations, [Operation::Add { key, weight: 1 }, Operation::Count { key }]);
//! ```

pub mod cluster;
pub mod compact;
pub mod legacy;
mod numbers;
mod reader;
pub mod resp;
mod sketch_name;
pub mod snapshot_file;
pub mod spoe;
mod varint;

pub use self::numbers::{Boot, LimitNumber, SketchNumber, Writer};
pub use self::sketch_name::{SKETCH_NAME_BYTES_MAX, SketchName, SketchNameError};
