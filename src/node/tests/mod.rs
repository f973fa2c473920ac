#![allow(clippy::unwrap_used)]

mod parts;
mod passes;
