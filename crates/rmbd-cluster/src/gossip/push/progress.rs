//! Where one peer stands with our own slice, and what of it is under way to it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::flight::{Flight, Outcome, Piece};
use super::own_slice::OwnSliceWriter;
use super::sweep::Push;

/// How much of our own slice a peer has.
#[derive(Debug)]
pub(crate) struct Progress {
    push: Push,
    flight: Flight,
    behind_since: Option<Duration>,
}

impl Progress {
    /// The peer has nothing yet. The slice has so many cells.
    pub(crate) fn new(cells: u32) -> Self {
        Self {
            push: Push::new(cells),
            flight: Flight::new(),
            behind_since: None,
        }
    }

    /// Begins to send what the peer lacks of a version, where nothing is under way.
    pub(crate) fn begin(&mut self, published: u64) {
        self.push.begin(published);
    }

    /// As [`begin`](Self::begin), of a version that was published just now.
    pub(crate) fn begin_published(&mut self, now: Duration, published: u64) {
        self.begin(published);
        if !self.has(published) {
            self.behind_since.get_or_insert(now);
        }
    }

    /// The peer has all until this version, and knows it.
    pub(crate) fn has(&self, published: u64) -> bool {
        self.push.is_done(published)
    }

    /// The version until which all has arrived.
    pub(crate) fn base(&self) -> u64 {
        self.push.base()
    }

    /// The time since which it lacks something that was published.
    pub(crate) fn behind_since(&self) -> Option<Duration> {
        self.behind_since
    }

    /// It is behind in nothing, or nobody waits for it any more.
    pub(crate) fn note_not_behind(&mut self) {
        self.behind_since = None;
    }

    /// The peer has no room for our slice.
    pub(crate) fn refuse(&mut self) {
        self.push.refuse();
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.push.is_refused()
    }

    /// The peer has room again: it gets everything from the beginning.
    pub(crate) fn want(&mut self, published: u64) {
        self.push.want();
        self.begin(published);
    }

    /// The peer says itself what it has.
    pub(crate) fn heard(&mut self, version: u64, published: u64) {
        self.push.heard(version, published);
    }

    /// Something may go out now.
    pub(crate) fn has_data(&self) -> bool {
        self.flight.has_room() && self.push.has_more()
    }

    /// Writes what comes next as one frame; [`note_sent`](Self::note_sent) is called with what it returns. `None`:
    /// nothing, or no room.
    pub(crate) fn write(&mut self, own: &mut OwnSliceWriter<'_, '_>) -> Option<Piece> {
        self.push.write(own)
    }

    /// A piece has gone out in the datagram with this number; `None` where that could not be sealed.
    pub(crate) fn note_sent(&mut self, now: Duration, number: Option<u64>, piece: Piece) {
        match number {
            Some(number) => self.flight.note_sent(number, now, piece),
            None => self.push.lost(piece),
        }
    }

    /// Takes an ack; returns how many pieces it tells to be lost.
    pub(crate) fn take_ack(
        &mut self,
        now: Duration,
        ranges: impl Iterator<Item = RangeInclusive<u64>>,
    ) -> u64 {
        let outcome = self.flight.ack(now, ranges);
        self.settle(outcome)
    }

    /// Looks whether nothing was heard for too long; returns how many pieces are lost.
    pub(crate) fn expire(&mut self, now: Duration) -> u64 {
        let outcome = self.flight.expire(now);
        self.settle(outcome)
    }

    /// There is no time for patience any more; returns how many pieces are lost.
    pub(crate) fn hurry(&mut self, now: Duration) -> u64 {
        let outcome = self.flight.hurry(now);
        self.settle(outcome)
    }

    /// The peer is gone: what is under way is lost. What it has stays known.
    pub(crate) fn abandon(&mut self) {
        for piece in self.flight.abandon() {
            self.push.lost(piece);
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.flight.deadline()
    }

    fn settle(&mut self, outcome: Outcome) -> u64 {
        for piece in outcome.arrived {
            self.push.arrived(piece);
        }
        let lost = outcome.lost.len() as u64;
        for piece in outcome.lost {
            self.push.lost(piece);
        }
        lost
    }
}
