//! The sketches of a node, as it lists them.

use std::time::Duration;

use super::questions::FromAnswer;
use super::{ClientError, Hash};
use rmbd_proto::SketchNumber;
use rmbd_proto::compact::{Answer, SketchEntry, SketchWindows};

/// Sketches of the longest list: far more than a node has.
const SKETCHES_MAX: usize = 1 << 16;

/// What a node says of one of its sketches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SketchInfo {
    /// Its name.
    pub name: String,
    /// The number that stands for the name in messages.
    pub number: SketchNumber,
    /// Equal where width, depth, hash and its seed are.
    pub fingerprint: u64,
    /// Columns a row.
    pub width: u64,
    /// Rows.
    pub depth: u8,
    /// The hash family.
    pub hash: Hash,
    /// The windows that it keeps.
    pub windows: Vec<SketchWindow>,
}

/// A window that a sketch keeps: it answers all multiples of its step up to its span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SketchWindow {
    /// The longest window.
    pub span: Duration,
    /// Between two snapshots.
    pub step: Duration,
    /// Columns a row of its snapshots.
    pub width: u64,
}

/// A part of the list.
pub(super) struct SketchesPart {
    total: u64,
    sketches: Vec<SketchInfo>,
}

/// The whole list, out of its parts.
#[derive(Default)]
pub(super) struct SketchesList(Vec<SketchInfo>);

impl SketchesList {
    /// Position of the first sketch that is not here yet.
    pub(super) fn first(&self) -> u64 {
        self.0.len() as u64
    }

    /// Takes the next part; whether that was the last one.
    pub(super) fn take(&mut self, part: SketchesPart) -> Result<bool, ClientError> {
        let is_empty = part.sketches.is_empty();
        self.0.extend(part.sketches);
        match self.0.len() {
            listed if listed as u64 >= part.total || listed >= SKETCHES_MAX => Ok(true),
            listed if is_empty => Err(ClientError::SketchesCutOff {
                listed,
                total: part.total,
            }),
            _ => Ok(false),
        }
    }

    pub(super) fn sketches(self) -> Vec<SketchInfo> {
        self.0
    }
}

impl FromAnswer for SketchesPart {
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self> {
        match answer? {
            Answer::Sketches(sketches) => Some(Self {
                total: sketches.total,
                sketches: sketches.entries().map(SketchInfo::from).collect(),
            }),
            _ => None,
        }
    }
}

impl From<(SketchEntry<'_>, SketchWindows<'_>)> for SketchInfo {
    fn from((entry, windows): (SketchEntry<'_>, SketchWindows<'_>)) -> Self {
        Self {
            name: entry.name.escape_ascii().to_string(),
            number: entry.number,
            fingerprint: entry.fingerprint,
            width: entry.width,
            depth: entry.depth,
            hash: entry.hash.into(),
            windows: windows
                .map(|window| SketchWindow {
                    span: Duration::from_millis(window.span_ms),
                    step: Duration::from_millis(window.step_ms),
                    width: window.width,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn part(total: u64, names: &[&str]) -> SketchesPart {
        let sketches = names.iter().map(|&name| SketchInfo {
            name: name.to_owned(),
            number: SketchNumber(1),
            fingerprint: 0,
            width: 1,
            depth: 1,
            hash: Hash::Xxh3,
            windows: Vec::new(),
        });
        SketchesPart {
            total,
            sketches: sketches.collect(),
        }
    }

    #[test]
    fn a_list_ends_with_its_last_part_and_never_goes_round() {
        let mut list = SketchesList::default();
        assert!(!list.take(part(3, &["a", "b"])).unwrap());
        assert_eq!(list.first(), 2);
        assert!(list.take(part(3, &["c"])).unwrap());
        let names: Vec<_> = list.sketches().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        // A sketch was taken away between two questions, or its entry is longer than a reply.
        let mut list = SketchesList::default();
        assert!(!list.take(part(3, &["a", "b"])).unwrap());
        assert!(list.take(part(2, &[])).unwrap());
        assert!(SketchesList::default().take(part(1, &[])).is_err());
        assert!(SketchesList::default().take(part(0, &[])).unwrap());
    }
}
