//! Byte formats. Nothing in here panics, whatever the bytes.

pub mod cluster;
pub mod compact;
pub mod legacy;
mod numbers;
mod varint;

pub use self::numbers::{Boot, SketchNumber, Writer};
