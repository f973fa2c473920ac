//! Publishing our own slice: passes over the live cells, and when which version came to be.

use std::collections::VecDeque;
use std::time::Duration;

use rmbd_store::{Published, Slices};

/// Cells that one call of [`Publishing::step`] compares: a fraction of a millisecond's work.
pub(crate) const PUBLISH_CELLS: usize = 1 << 18;
/// Publishing times that are remembered, for telling a lag in seconds.
const PUBLISHED_MAX: usize = 1_024;

/// Times at which versions were published, and at which others had them.
#[derive(Debug)]
pub(crate) struct Publishing {
    /// A pass is under way, or is to begin with the next call.
    is_wanted: bool,
    /// Version and time of each, oldest first.
    published: VecDeque<(u64, Duration)>,
    started_at: Duration,
    /// When all live members had all that was published.
    converged_at: Option<Duration>,
    /// The highest version that anybody had completely.
    told_max: u64,
}

/// A pass that has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Nothing was added since the one before had begun.
    Idle,
    /// It has looked at all cells.
    Done,
}

impl Publishing {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            is_wanted: false,
            published: VecDeque::new(),
            started_at: now,
            converged_at: None,
            told_max: 0,
        }
    }

    /// Whether a pass is to begin or to go on.
    pub(crate) fn set_wanted(&mut self, is_wanted: bool) {
        self.is_wanted = is_wanted;
    }

    #[cfg(test)]
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// There is work for [`step`](Self::step).
    pub(crate) fn is_due(&self, slices: &Slices) -> bool {
        // Also where nobody listens: what may be added until the next pass is bounded.
        self.is_wanted || slices.wants_pass()
    }

    /// Goes on with a pass; says so where it is at its end.
    pub(crate) fn step(&mut self, now: Duration, slices: &mut Slices) -> Option<Pass> {
        self.is_wanted = self.is_due(slices);
        if !self.is_wanted {
            return None;
        }
        let pass = match slices.publish(PUBLISH_CELLS) {
            Published::Partly => return None,
            Published::Idle => Pass::Idle,
            Published::Done { version, .. } => {
                self.note_published(now, version);
                Pass::Done
            }
        };
        self.is_wanted = false;
        Some(pass)
    }

    /// Somebody has all until this version.
    pub(crate) fn note_told(&mut self, version: u64) {
        self.told_max = self.told_max.max(version);
    }

    /// Somebody had all until this version, at some time.
    pub(crate) fn was_told(&self, version: u64) -> bool {
        self.told_max >= version
    }

    /// All live members have all that is published.
    pub(crate) fn note_converged(&mut self, now: Duration) {
        self.converged_at = Some(now);
    }

    /// How long ago all live members had everything; where they never had, since the node came up.
    pub(crate) fn converged_age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.converged_at.unwrap_or(self.started_at))
    }

    /// How long a peer that has all until `base` has lacked something, given that it is behind since then: since the
    /// oldest version that it lacks was published or, where that is not known any more, since it fell behind.
    pub(crate) fn lag(&self, now: Duration, base: u64, behind_since: Duration) -> Duration {
        let missing = self.published.iter().find(|&&(version, _)| version > base);
        let published_at = missing.map_or(behind_since, |&(_, at)| at.max(behind_since));
        now.saturating_sub(published_at)
    }

    fn note_published(&mut self, now: Duration, version: u64) {
        let last = self.published.back();
        if last.is_none_or(|&(last, _)| last < version) {
            self.published.push_back((version, now));
            if self.published.len() > PUBLISHED_MAX {
                self.published.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lag_is_counted_from_the_oldest_version_that_is_lacking() {
        let mut publishing = Publishing::new(SECOND);
        for version in [1, 2, 2, 3] {
            publishing.note_published(SECOND * (10 * version as u32), version);
        }
        let lag = |base, since| publishing.lag(SECOND * 100, base, SECOND * since);
        assert_eq!(lag(1, 0), SECOND * 80);
        assert_eq!(lag(2, 0), SECOND * 70);
        assert_eq!(lag(1, 50), SECOND * 50, "it fell behind later");
        assert_eq!(lag(3, 60), SECOND * 40, "nothing that is known is lacking");
    }

    #[test]
    fn times_of_publishing_are_bounded() {
        let mut publishing = Publishing::new(SECOND);
        for version in 1..=PUBLISHED_MAX as u64 + 9 {
            publishing.note_published(SECOND, version);
        }
        assert_eq!(publishing.published.len(), PUBLISHED_MAX);
        assert_eq!(publishing.published.front(), Some(&(10, SECOND)));
    }

    #[test]
    fn convergence_is_counted_from_the_start_until_there_was_one() {
        let mut publishing = Publishing::new(SECOND);
        assert_eq!(publishing.converged_age(SECOND * 3), SECOND * 2);
        publishing.note_converged(SECOND * 5);
        assert_eq!(publishing.converged_age(SECOND * 7), SECOND * 2);
        publishing.note_told(4);
        publishing.note_told(3);
        assert!(publishing.was_told(4) && !publishing.was_told(5));
    }
}
