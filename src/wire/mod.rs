//! Byte formats. Nothing in here panics, whatever the bytes.

pub mod compact;
pub mod legacy;
