//! Tests of the thread, with real folders.

#![allow(clippy::unwrap_used)]
