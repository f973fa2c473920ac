//! The files that a run writes.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use rmbd_console as console;

use super::{figures, hgrm, page};
use crate::output::{OutputError, check_directory, check_file};
use crate::record::Record;

/// Files that a run writes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct Results {
    /// Write everything that was found as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write response times as percentile text; of several phases that have any, each gets a file of its
    /// own, with its name in front of the ending
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write the plots as SVG files
    #[arg(long, value_name = "DIRECTORY")]
    pub plots: Option<PathBuf>,
}

impl Results {
    /// Checks before the run that files can be written: a bad path should not cost a run.
    pub(crate) fn check(&self) -> Result<(), OutputError> {
        let files = [
            ("the JSON record", &self.json),
            ("the percentile text", &self.hgrm),
            ("the report", &self.report),
        ];
        for (what, path) in files {
            if let Some(path) = path {
                check_file(what, path)?;
            }
        }
        if let Some(directory) = &self.plots {
            check_directory("the plots", directory)?;
        }
        Ok(())
    }

    /// Writes all files that can be written. Returns false if one could not.
    pub(crate) fn write(&self, record: &Record) -> bool {
        type Write = fn(&Record, &Path) -> Result<(), Box<dyn Error>>;
        let all: [(_, Write); 4] = [
            (&self.json, |record, path| Ok(record.write_json(path)?)),
            (&self.hgrm, |record, path| {
                if hgrm::write(record, path)?.is_empty() {
                    console::note(
                        "loadgen: no load had answers to take the time of: no percentile text was written",
                    );
                }
                Ok(())
            }),
            (&self.report, |record, path| Ok(page::write(record, path)?)),
            (&self.plots, |record, path| {
                figures::export(record, path)?;
                Ok(())
            }),
        ];
        let mut whole = true;
        for (path, write) in all {
            let Some(path) = path else { continue };
            if let Err(error) = write(record, path) {
                console::note(&format!("loadgen: {error}"));
                whole = false;
            }
        }
        whole
    }
}
