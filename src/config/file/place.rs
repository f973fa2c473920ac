//! Places in a configuration file, and the errors that name them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// A place in a file: its line and column, both counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    path: Arc<Path>,
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Why a configuration file is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error(
        "cannot read the configuration file {}: {problem}; name a file that this user may read", path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        problem: String,
    },
    /// Something in it is wrong.
    #[error("{place}: {problem}")]
    Wrong {
        /// Where it stands.
        place: Place,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl FileError {
    pub(crate) fn at(place: &Place, problem: impl fmt::Display) -> Self {
        Self::Wrong {
            place: place.clone(),
            problem: problem.to_string(),
        }
    }
}

/// Finds the places of bytes in a text.
pub(super) struct Places<'d> {
    path: Arc<Path>,
    text: &'d str,
    line_starts: Vec<usize>,
}

impl<'d> Places<'d> {
    pub(super) fn new(path: &Path, text: &'d str) -> Self {
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        Self {
            path: path.into(),
            text,
            line_starts: std::iter::once(0)
                .chain(ends.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    /// The place of the first of these bytes.
    pub(super) fn of(&self, span: &Range<usize>) -> Place {
        let line = self
            .line_starts
            .partition_point(|&start| start <= span.start);
        let start = self.line_starts[line - 1];
        // Columns are characters, as editors count them.
        let before = self.text.get(start..span.start).unwrap_or_default();
        Place {
            path: Arc::clone(&self.path),
            line,
            column: before.chars().count() + 1,
        }
    }

    pub(super) fn error(&self, span: &Range<usize>, problem: impl fmt::Display) -> FileError {
        FileError::at(&self.of(span), problem)
    }
}
