//! Fuzz targets, which are those of `tests/fuzz`.

#[path = "../../tests/fuzz/targets/mod.rs"]
pub mod targets;
