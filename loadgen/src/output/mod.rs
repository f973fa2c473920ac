//! How results are written: figures as a person reads them, and files that are whole.

pub mod files;
pub mod units;
