//! The report (`--report`): one page that needs nothing else, neither a network nor a script.

pub mod figures;
pub mod hgrm;
pub mod live;
mod page;
pub mod plot;
pub mod table;
#[cfg(test)]
mod tests;

use std::path::Path;

use thiserror::Error;

use crate::output::files::{OutputError, write_text};
use crate::record::Record;
use crate::report::plot::PlotError;

/// A report that could not be made. The record is as it was.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A plot could not be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The page could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Writes the page of a record.
///
/// # Errors
/// [`ReportError`].
pub fn write(record: &Record, path: &Path) -> Result<(), ReportError> {
    let html = html(record)?;
    write_text("the report", path, html.as_bytes())?;
    Ok(())
}

/// The page of a record.
///
/// # Errors
/// [`PlotError`].
pub fn html(record: &Record) -> Result<String, PlotError> {
    Ok(page::page(record)?.into_string())
}
