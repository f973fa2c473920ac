//! What a peer is asked before anything of our slices goes to it, where an earlier start gave them their name.
//!
//! ```text
//!   us                                        a peer
//!    -- sections asked ---------------------->     of our own slice
//!    <-- its version, hashes of sections -----     or a line of its digest, where it has nothing of it
//!    -- what it lacks ----------------------->
//! ```
//!
//! Others know such a slice already. So each peer gets what it lacks, and not everything again. Its word also tells
//! whether the name is ours alone, which [`Naming`](crate::gossip::lifecycle::Naming) judges.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rmbd_proto::SketchNumber;

/// An answer that does not come within this time is asked for again.
const ANSWER_TIME: Duration = Duration::from_millis(250);
/// Sketches of which a peer is asked at the same time: half of the questions that may wait for it.
const ASKED_AT_ONCE: usize = 32;

/// What one peer is asked of our slices.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    open: BTreeMap<SketchNumber, Question>,
    answered: BTreeSet<SketchNumber>,
}

#[derive(Debug)]
struct Question {
    since: Duration,
    asked_at: Option<Duration>,
    /// It has told the hashes of all sections before this one.
    section: u32,
}

impl Questions {
    /// The peer is to be asked of a sketch, if it has not told yet.
    pub(crate) fn put(&mut self, now: Duration, sketch: SketchNumber) {
        if !self.answered.contains(&sketch) {
            let fresh = Question {
                since: now,
                asked_at: None,
                section: 0,
            };
            self.open.entry(sketch).or_insert(fresh);
        }
    }

    /// The peer has told what it has of our slice in a sketch.
    pub(super) fn is_answered(&self, sketch: SketchNumber) -> bool {
        self.answered.contains(&sketch)
    }

    /// The peer has told what it has, or is not waited for any more; false if it was so before.
    pub(super) fn answer(&mut self, sketch: SketchNumber) -> bool {
        self.open.remove(&sketch);
        self.answered.insert(sketch)
    }

    /// The section from which on hashes are waited for; `None` where nothing is.
    pub(crate) fn section(&self, sketch: SketchNumber) -> Option<u32> {
        self.open.get(&sketch).map(|question| question.section)
    }

    /// The hashes of all sections before this one have come.
    pub(crate) fn go_on(&mut self, sketch: SketchNumber, section: u32) {
        let question = self.open.get_mut(&sketch);
        if let Some(question) = question.filter(|question| question.section < section) {
            question.section = section;
            question.asked_at = None;
        }
    }

    /// Calls `ask` with each sketch of which the peer is to be asked now, and the section from which on.
    pub(crate) fn ask(&mut self, now: Duration, mut ask: impl FnMut(SketchNumber, u32)) {
        let mut room = self.room(now);
        for (&sketch, question) in &mut self.open {
            if room == 0 {
                return;
            }
            if !question.waits(now) {
                question.asked_at = Some(now);
                room -= 1;
                ask(sketch, question.section);
            }
        }
    }

    /// Sketches of which the peer is to tell, and since when.
    pub(crate) fn open(&self) -> impl Iterator<Item = (SketchNumber, Duration)> + '_ {
        let open = self.open.iter();
        open.map(|(&sketch, question)| (sketch, question.since))
    }

    /// When [`ask`](Self::ask) has something to do.
    pub(crate) fn next_wake(&self, now: Duration) -> Option<Duration> {
        let asked = self.open.values().filter(|question| question.waits(now));
        let again = asked.filter_map(|question| Some(question.asked_at? + ANSWER_TIME));
        let has_unasked = self.open.values().any(|question| !question.waits(now));
        let at_once = (has_unasked && self.room(now) > 0).then_some(now);
        again.chain(at_once).min()
    }

    /// The peer is gone: it is asked when it is back.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// The peer has no such sketch.
    pub(super) fn leave_out(&mut self, sketch: SketchNumber) {
        self.open.remove(&sketch);
    }

    fn room(&self, now: Duration) -> usize {
        let asked = self.open.values().filter(|question| question.waits(now));
        ASKED_AT_ONCE.saturating_sub(asked.count())
    }
}

impl Question {
    /// It was asked lately.
    fn waits(&self, now: Duration) -> bool {
        self.asked_at.is_some_and(|at| now < at + ANSWER_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn asked(questions: &mut Questions, now: Duration) -> Vec<(u32, u32)> {
        let mut asked = Vec::new();
        questions.ask(now, |sketch, section| asked.push((sketch.0, section)));
        asked
    }

    #[test]
    fn what_is_not_answered_is_asked_again_and_some_at_a_time() {
        let mut questions = Questions::default();
        (0..40).for_each(|sketch| questions.put(SECOND, SketchNumber(sketch)));
        assert_eq!(questions.next_wake(SECOND), Some(SECOND));
        let first = asked(&mut questions, SECOND);
        assert!(first.into_iter().eq((0..32).map(|sketch| (sketch, 0))));
        assert_eq!(asked(&mut questions, SECOND), []);
        assert_eq!(questions.next_wake(SECOND), Some(SECOND + ANSWER_TIME));
        assert!(questions.answer(SketchNumber(3)) && !questions.answer(SketchNumber(3)));
        assert!(questions.is_answered(SketchNumber(3)));
        assert_eq!(asked(&mut questions, SECOND), [(32, 0)]);
        // It has told a part of another one.
        questions.go_on(SketchNumber(5), 140);
        questions.go_on(SketchNumber(5), 70);
        assert_eq!(questions.section(SketchNumber(5)), Some(140));
        assert_eq!(asked(&mut questions, SECOND), [(5, 140)]);
        let later = SECOND + ANSWER_TIME;
        assert_eq!(asked(&mut questions, later).len(), ASKED_AT_ONCE);
        // Whoever has told is not asked when it is back; all else is.
        questions.clear();
        assert_eq!(questions.next_wake(later), None);
        (0..40).for_each(|sketch| questions.put(later, SketchNumber(sketch)));
        assert_eq!(questions.open().count(), 39);
        questions.leave_out(SketchNumber(0));
        assert_eq!(questions.open().next(), Some((SketchNumber(1), later)));
    }
}
