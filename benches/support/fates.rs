//! The outcome of each add in one call of a client.

use std::ops::Range;

use rmbd_client::{ClientError, Fate};

/// The fate of the add at this position in the call; `None` if it was acknowledged.
pub(crate) fn fate(outcome: &Result<u64, ClientError>, position: u64) -> Option<Fate> {
    let is_in = |ranges: &[Range<u64>]| ranges.iter().any(|range| range.contains(&position));
    match outcome {
        Ok(_) => None,
        Err(ClientError::Adds { report, .. }) => {
            if is_in(&report.uncertain) {
                Some(Fate::Uncertain)
            } else if position >= report.taken || is_in(&report.not_added) {
                Some(Fate::NotAdded)
            } else {
                None
            }
        }
        Err(error) => Some(error.fate()),
    }
}
