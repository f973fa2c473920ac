//! Errors of a comparison.

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
    /// The keys are not possible.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A stream of this many distinct keys is not possible.
    #[error("--distinct: {0}")]
    Distinct(#[from] KeySpecError),
    /// The size of the sketch is not possible.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The other server cannot be found.
    #[error(transparent)]
    Rival(#[from] RivalError),
    /// `--cms` was given for memcached, which has no sketch.
    #[error("memcached has no count-min sketch: --cms goes with redis://")]
    NoSketch,
    /// A server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A server does not do what it should.
    #[error(transparent)]
    Target(#[from] AdapterError),
    /// The record cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The table cannot be printed. The record, if there is to be one, is written.
    #[error("cannot print the table")]
    Table(#[source] io::Error),
}
