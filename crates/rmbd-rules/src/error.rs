//! What is wrong with files of rules.

use std::fmt;

use thiserror::Error;

/// Files of rules that were not understood. Nothing of them counts: whoever has older rules can keep them.
///
/// It reads `FILE:LINE:COLUMN: what is wrong: what to do`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}{place}: {wrong}")]
pub struct RulesError {
    file: Box<str>,
    place: Place,
    wrong: WrongRules,
}

/// Line and column, both from 1. A file that is wrong as a whole has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(Option<(u32, u32)>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl RulesError {
    /// The name of the file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1. None: the file is wrong as a whole.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.place.0.map(|(line, _)| line)
    }

    /// The column in that line, in characters from 1.
    #[must_use]
    pub fn column(&self) -> Option<u32> {
        self.place.0.map(|(_, column)| column)
    }

    /// What is wrong there.
    #[must_use]
    pub const fn wrong(&self) -> &WrongRules {
        &self.wrong
    }
}

/// What is wrong with a file of rules.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WrongRules {
    /// It is not YAML.
    #[error("this is not YAML: {0}")]
    Yaml(Box<str>),
}
