//! What several test targets and benches use; each takes a part of it.

#![allow(dead_code, clippy::print_stderr)]

pub(crate) mod forgery;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod required;
