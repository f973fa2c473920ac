//! Publishing our own slices: passes over the live cells, and when which version came to be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::gossip::sketches::Sketches;
use rmbd_proto::SketchNumber;
use rmbd_store::Published;

/// Cells that one call of [`Publishing::step`] compares, of all sketches together: a fraction of a millisecond's work.
pub(crate) const PUBLISH_CELLS: usize = 1 << 18;
/// What looking at a sketch counts as in which nothing was added: no cell is compared.
const IDLE_CELLS: usize = 128;
/// Publishing times that are remembered of each sketch, for telling a lag in seconds.
const PUBLISHED_MAX: usize = 1_024;

/// Passes over all sketches, and the times at which versions were published, and at which others had them.
#[derive(Debug)]
pub(crate) struct Publishing {
    started_at: Duration,
    of_sketches: BTreeMap<SketchNumber, Versions>,
    /// Sketches of which a pass is under way, or is to begin with the next call.
    wanted: BTreeSet<SketchNumber>,
    /// The sketch that was looked at last; the next one's turn is after it.
    turn: SketchNumber,
}

/// The versions of our slice in one sketch.
#[derive(Debug, Default)]
struct Versions {
    /// Version and time of each, oldest first.
    published: VecDeque<(u64, Duration)>,
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
            started_at: now,
            of_sketches: BTreeMap::new(),
            wanted: BTreeSet::new(),
            turn: SketchNumber(u32::MAX),
        }
    }

    /// A pass over a sketch is to begin, or to go on.
    pub(crate) fn want(&mut self, sketch: SketchNumber) {
        self.wanted.insert(sketch);
    }

    /// Sketches of which a pass is under way, or is to begin with the next call.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = SketchNumber> + '_ {
        self.wanted.iter().copied()
    }

    /// There is work for [`step`](Self::step).
    pub(crate) fn is_due(&self, sketches: &Sketches) -> bool {
        // Also where nobody listens: what may be added until the next pass is bounded.
        !self.wanted.is_empty() || sketches.iter().any(|slices| slices.wants_pass())
    }

    /// Goes on with passes, one sketch after the other, those first of which data threads wait for one; returns those
    /// that are at their end.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        sketches: &mut Sketches,
    ) -> Vec<(SketchNumber, Pass)> {
        let mut ended = Vec::new();
        let mut cells_left = PUBLISH_CELLS;
        for sketch in self.due(sketches) {
            if cells_left == 0 {
                break;
            }
            self.turn = sketch;
            self.wanted.insert(sketch);
            let (pass, cells) = self.publish(now, sketches, sketch, cells_left);
            cells_left = cells_left.saturating_sub(cells);
            if let Some(pass) = pass {
                self.wanted.remove(&sketch);
                ended.push((sketch, pass));
            }
        }
        ended
    }

    /// The sketches of which a pass is due, in the order in which they are looked at.
    fn due(&self, sketches: &Sketches) -> Vec<SketchNumber> {
        let is_urgent = |sketch: &SketchNumber| {
            let slices = sketches.get(*sketch);
            slices.is_some_and(|slices| slices.wants_pass())
        };
        let circle = sketches.numbers_behind(self.turn);
        let (mut due, rest): (Vec<_>, Vec<_>) = circle.partition(is_urgent);
        due.extend(
            rest.into_iter()
                .filter(|sketch| self.wanted.contains(sketch)),
        );
        due
    }

    /// Goes on with the pass over one sketch; says so where it is at its end, and how many cells that took at most.
    fn publish(
        &mut self,
        now: Duration,
        sketches: &mut Sketches,
        sketch: SketchNumber,
        cells_max: usize,
    ) -> (Option<Pass>, usize) {
        let Some(slices) = sketches.get_mut(sketch) else {
            return (Some(Pass::Idle), 0);
        };
        let cells = slices.own_cells().len().min(cells_max);
        match slices.publish(cells_max) {
            Published::Partly => (None, cells),
            Published::Idle => (Some(Pass::Idle), IDLE_CELLS),
            Published::Done { version, .. } => {
                self.note_published(now, sketch, version);
                (Some(Pass::Done), cells)
            }
        }
    }

    /// Somebody has all until this version.
    pub(crate) fn note_told(&mut self, sketch: SketchNumber, version: u64) {
        let versions = self.of_sketches.entry(sketch).or_default();
        versions.told_max = versions.told_max.max(version);
    }

    /// Somebody had all until this version, at some time.
    pub(crate) fn was_told(&self, sketch: SketchNumber, version: u64) -> bool {
        let versions = self.of_sketches.get(&sketch);
        versions.map_or(0, |versions| versions.told_max) >= version
    }

    /// All live members have all that is published.
    pub(crate) fn note_converged(&mut self, now: Duration, sketch: SketchNumber) {
        self.of_sketches.entry(sketch).or_default().converged_at = Some(now);
    }

    /// How long ago all live members had everything; where they never had, since the node came up.
    pub(crate) fn converged_age(&self, now: Duration, sketch: SketchNumber) -> Duration {
        let versions = self.of_sketches.get(&sketch);
        let converged_at = versions.and_then(|versions| versions.converged_at);
        now.saturating_sub(converged_at.unwrap_or(self.started_at))
    }

    /// How long a peer that has all until `base` has lacked something, given that it is behind since then: since the
    /// oldest version that it lacks was published or, where that is not known any more, since it fell behind.
    pub(crate) fn lag(
        &self,
        now: Duration,
        sketch: SketchNumber,
        base: u64,
        behind_since: Duration,
    ) -> Duration {
        let versions = self.of_sketches.get(&sketch);
        let mut published = versions
            .into_iter()
            .flat_map(|versions| &versions.published);
        let missing = published.find(|&&(version, _)| version > base);
        let published_at = missing.map_or(behind_since, |&(_, at)| at.max(behind_since));
        now.saturating_sub(published_at)
    }

    fn note_published(&mut self, now: Duration, sketch: SketchNumber, version: u64) {
        let published = &mut self.of_sketches.entry(sketch).or_default().published;
        let last = published.back();
        if last.is_none_or(|&(last, _)| last < version) {
            published.push_back((version, now));
            if published.len() > PUBLISHED_MAX {
                published.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SKETCH: SketchNumber = SketchNumber(3);

    #[test]
    fn a_lag_is_counted_from_the_oldest_version_that_is_lacking() {
        let mut publishing = Publishing::new(SECOND);
        for version in [1, 2, 2, 3] {
            publishing.note_published(SECOND * (10 * version as u32), SKETCH, version);
        }
        let lag = |base, since| publishing.lag(SECOND * 100, SKETCH, base, SECOND * since);
        assert_eq!(lag(1, 0), SECOND * 80);
        assert_eq!(lag(2, 0), SECOND * 70);
        assert_eq!(lag(1, 50), SECOND * 50, "it fell behind later");
        assert_eq!(lag(3, 60), SECOND * 40, "nothing that is known is lacking");
        let other = publishing.lag(SECOND * 100, SketchNumber(4), 1, SECOND * 9);
        assert_eq!(other, SECOND * 91);
    }

    #[test]
    fn times_of_publishing_are_bounded() {
        let mut publishing = Publishing::new(SECOND);
        for version in 1..=PUBLISHED_MAX as u64 + 9 {
            publishing.note_published(SECOND, SKETCH, version);
        }
        let published = &publishing.of_sketches[&SKETCH].published;
        assert_eq!(published.len(), PUBLISHED_MAX);
        assert_eq!(published.front(), Some(&(10, SECOND)));
    }

    #[test]
    fn convergence_is_counted_from_the_start_until_there_was_one() {
        let mut publishing = Publishing::new(SECOND);
        assert_eq!(publishing.converged_age(SECOND * 3, SKETCH), SECOND * 2);
        publishing.note_converged(SECOND * 5, SKETCH);
        assert_eq!(publishing.converged_age(SECOND * 7, SKETCH), SECOND * 2);
        publishing.note_told(SKETCH, 4);
        publishing.note_told(SKETCH, 3);
        assert!(publishing.was_told(SKETCH, 4) && !publishing.was_told(SKETCH, 5));
        assert!(publishing.was_told(SketchNumber(4), 0));
    }
}
