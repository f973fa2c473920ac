//! The end: what was counted last reaches the others, then good-bye is said.

use std::collections::BTreeSet;
use std::time::Duration;

use rmbd_proto::SketchNumber;

/// A node that leaves waits this long for acks at most.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// How often seeds are tried by a node that ends and has met nobody yet.
const CONTACT_PERIOD: Duration = Duration::from_millis(250);

/// How far the end has come, once it has begun.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// There are others to join: nobody being there is no reason to end at once.
    joins: bool,
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    deadline: Duration,
    /// Sketches over whose live cells the last pass has not been made.
    unpublished: BTreeSet<SketchNumber>,
    has_left: bool,
    contact_at: Duration,
}

/// The next thing to do for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaveStep {
    /// Nothing for now.
    Wait,
    /// Others are to be looked for, if nobody is there.
    Contact,
    /// Good-bye is to be said.
    SayGoodBye,
}

impl Leaving {
    /// It has not begun. `joins`: there are others to join.
    pub(crate) fn new(joins: bool) -> Self {
        Self { joins, end: None }
    }

    /// The end of a node with these sketches begins; false where it has begun before.
    pub(crate) fn begin(
        &mut self,
        now: Duration,
        sketches: impl Iterator<Item = SketchNumber>,
    ) -> bool {
        let is_first = self.end.is_none();
        self.end.get_or_insert_with(|| End {
            deadline: now + LEAVE_LIMIT,
            unpublished: sketches.collect(),
            has_left: false,
            contact_at: now,
        });
        is_first
    }

    /// Good-bye was said.
    pub(crate) fn is_over(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.has_left)
    }

    /// A pass over the live cells of a sketch is done, and perhaps `is_idle`: it had nothing to do. Whether another
    /// one is to follow: one that is done may have begun before the last adds were made; one that had nothing to do
    /// has not.
    pub(crate) fn wants_pass_after(&mut self, sketch: SketchNumber, is_idle: bool) -> bool {
        self.end.as_mut().is_some_and(|end| {
            if is_idle {
                end.unpublished.remove(&sketch);
            }
            end.unpublished.contains(&sketch)
        })
    }

    /// When the end goes on by itself.
    pub(crate) fn next_wake(&self, has_audience: bool) -> Option<Duration> {
        let end = self.end.as_ref().filter(|end| !end.has_left)?;
        let contact = (!has_audience).then_some(end.contact_at);
        Some(contact.map_or(end.deadline, |at| at.min(end.deadline)))
    }

    /// Says what is to be done now. `is_heard` tells whether everybody who is there has what was published.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        has_audience: bool,
        is_heard: impl FnOnce() -> bool,
    ) -> LeaveStep {
        let Some(end) = self.end.as_mut().filter(|end| !end.has_left) else {
            return LeaveStep::Wait;
        };
        let has_nobody = !self.joins && !has_audience;
        let is_heard = end.unpublished.is_empty() && (has_nobody || is_heard());
        if is_heard || now >= end.deadline {
            end.has_left = true;
            LeaveStep::SayGoodBye
        } else if now >= end.contact_at {
            end.contact_at = now + CONTACT_PERIOD;
            LeaveStep::Contact
        } else {
            LeaveStep::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);
    const SKETCHES: [SketchNumber; 2] = [SketchNumber(0), SketchNumber(9)];

    #[test]
    fn it_ends_when_all_is_published_and_heard() {
        let mut leaving = Leaving::new(true);
        let sketches = || SKETCHES.into_iter();
        assert!(
            !leaving.wants_pass_after(SKETCHES[0], true),
            "it has not begun"
        );
        assert!(leaving.begin(NOW, sketches()) && !leaving.begin(NOW * 2, sketches()));
        assert!(leaving.wants_pass_after(SKETCHES[0], false));
        assert!(!leaving.wants_pass_after(SKETCHES[1], true));
        assert_eq!(leaving.step(NOW, true, || true), LeaveStep::Contact);
        assert!(!leaving.wants_pass_after(SKETCHES[0], true));
        assert_eq!(leaving.step(NOW, true, || false), LeaveStep::Wait);
        assert_eq!(leaving.step(NOW, true, || true), LeaveStep::SayGoodBye);
        assert!(leaving.is_over());
        assert_eq!(leaving.step(NOW, true, || true), LeaveStep::Wait);
        assert_eq!(leaving.next_wake(true), None);
    }

    #[test]
    fn who_has_nobody_to_join_ends_when_all_is_published_and_who_has_tries_until_the_limit() {
        let mut alone = Leaving::new(false);
        alone.begin(NOW, SKETCHES.into_iter());
        for sketch in SKETCHES {
            assert_ne!(alone.step(NOW, false, || false), LeaveStep::SayGoodBye);
            alone.wants_pass_after(sketch, true);
        }
        assert_eq!(alone.step(NOW, false, || false), LeaveStep::SayGoodBye);
        let mut leaving = Leaving::new(true);
        leaving.begin(NOW, SKETCHES.into_iter());
        let mut now = NOW;
        let mut contacts = 0;
        while !leaving.is_over() {
            contacts += u32::from(leaving.step(now, false, || false) == LeaveStep::Contact);
            now = leaving.next_wake(false).unwrap_or(now);
        }
        assert_eq!((now - NOW, contacts), (LEAVE_LIMIT, 12));
    }
}
