#![allow(clippy::unwrap_used)]

mod keeping;
mod parts;
mod passes;
