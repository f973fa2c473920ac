//! What several test targets and benches use; each takes a part of it.

#![allow(dead_code)]

pub(crate) mod forgery;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod required;
