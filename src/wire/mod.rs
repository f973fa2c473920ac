//! Byte formats. Nothing in here panics, whatever the bytes.

pub mod cluster;
pub mod compact;
pub mod legacy;
mod varint;
