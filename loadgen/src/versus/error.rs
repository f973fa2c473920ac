//! Why there is no comparison.

use std::io;

use rmbd_sketch::GeometryError;
use thiserror::Error;

use super::adapter::AdapterError;
use super::process::StartError;
use super::rival::RivalError;
use crate::output::OutputError;
use crate::plan::{KeySpecError, KeysError};

/// A comparison that could not be made. Servers that were started have been ended.
#[derive(Debug, Error)]
pub(super) enum VersusError {
    /// No keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// No stream of so many keys.
    #[error("--distinct: {0}")]
    Distinct(#[from] KeySpecError),
    /// No sketch.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// No other server.
    #[error(transparent)]
    Rival(#[from] RivalError),
    /// memcached and `--cms`.
    #[error("memcached has no count-min sketch: --cms goes with redis://")]
    NoSketch,
    /// A server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A server does not do what it should.
    #[error(transparent)]
    Target(#[from] AdapterError),
    /// The record can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The table can't be printed; the record, if there is to be one, is written.
    #[error("cannot print the table")]
    Table(#[source] io::Error),
}
