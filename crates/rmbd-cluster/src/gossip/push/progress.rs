//! Where one peer stands with our slices, and what of them is under way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::flight::{Flight, Outcome, SentPiece};
use super::own_slice::OwnSliceWriter;
use super::questions::Questions;
use super::sweep::Push;
use crate::gossip::sketches::{OurSlice, Sketches};
use rmbd_proto::SketchNumber;
use rmbd_proto::cluster::FrameWriter;

/// How much of our slices a peer has. A sketch in which we have published nothing takes no place.
#[derive(Debug)]
pub(crate) struct Progress {
    of_sketches: BTreeMap<SketchNumber, OfSketch>,
    /// Sketches of which something may go out.
    ready: BTreeSet<SketchNumber>,
    /// The sketch of which something went out last; the next one's turn is after it.
    turn: SketchNumber,
    /// Sketches of which the peer has told more since this was last asked.
    moved: BTreeSet<SketchNumber>,
    questions: Questions,
    flight: Flight,
}

#[derive(Debug)]
struct OfSketch {
    push: Push,
    behind_since: Option<Duration>,
}

impl Progress {
    /// The peer has nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            of_sketches: BTreeMap::new(),
            ready: BTreeSet::new(),
            turn: SketchNumber(u32::MAX),
            moved: BTreeSet::new(),
            questions: Questions::default(),
            flight: Flight::new(),
        }
    }

    /// Begins to send what the peer lacks of a version, where nothing is under way. Nothing is sent of a slice that is
    /// older than this start before the peer has told what it has of it.
    pub(crate) fn begin(&mut self, ours: OurSlice) {
        if !self.has(ours) && !self.is_asked(ours) {
            self.change(ours, |of| of.push.begin(ours.version));
        }
    }

    /// The peer is to tell what it has of our slice before it gets anything of it.
    pub(crate) fn is_asked(&self, ours: OurSlice) -> bool {
        ours.is_resumed && !self.questions.is_answered(ours.sketch)
    }

    /// What the peer is asked of our slices.
    pub(crate) fn questions(&self) -> &Questions {
        &self.questions
    }

    pub(crate) fn questions_mut(&mut self) -> &mut Questions {
        &mut self.questions
    }

    /// As [`begin`](Self::begin), of a version that was published just now.
    pub(crate) fn begin_published(&mut self, now: Duration, ours: OurSlice) {
        self.begin(ours);
        if !self.has(ours)
            && let Some(of) = self.of_sketches.get_mut(&ours.sketch)
        {
            of.behind_since.get_or_insert(now);
        }
    }

    /// The peer has all until this version, and knows it.
    pub(crate) fn has(&self, ours: OurSlice) -> bool {
        let of = self.of_sketches.get(&ours.sketch);
        of.map_or(ours.version == 0, |of| of.push.is_done(ours.version))
    }

    /// The version until which all has arrived.
    pub(crate) fn base(&self, sketch: SketchNumber) -> u64 {
        let of = self.of_sketches.get(&sketch);
        of.map_or(0, |of| of.push.base())
    }

    /// The sketches in which it lacks something that was published, and since when.
    pub(crate) fn behind(&self) -> impl Iterator<Item = (SketchNumber, Duration)> + '_ {
        let all = self.of_sketches.iter();
        all.filter_map(|(&sketch, of)| Some((sketch, of.behind_since?)))
    }

    /// It is behind in nothing of a sketch.
    pub(crate) fn note_not_behind(&mut self, sketch: SketchNumber) {
        if let Some(of) = self.of_sketches.get_mut(&sketch) {
            of.behind_since = None;
        }
    }

    /// Nobody waits for it any more.
    pub(crate) fn note_nobody_waits(&mut self) {
        for of in self.of_sketches.values_mut() {
            of.behind_since = None;
        }
    }

    /// The peer has no room for our slice.
    pub(crate) fn refuse(&mut self, ours: OurSlice) {
        self.change(ours, |of| of.push.refuse());
    }

    pub(crate) fn is_refused(&self, sketch: SketchNumber) -> bool {
        let of = self.of_sketches.get(&sketch);
        of.is_some_and(|of| of.push.is_refused())
    }

    /// The peer has no room for our slice of some sketch.
    pub(crate) fn is_any_refused(&self) -> bool {
        self.of_sketches.values().any(|of| of.push.is_refused())
    }

    /// The peer has room again: it gets everything from the beginning.
    pub(crate) fn want(&mut self, ours: OurSlice) {
        self.change(ours, |of| of.push.want());
        self.begin(ours);
    }

    /// The peer says itself what it has.
    pub(crate) fn heard(&mut self, version: u64, ours: OurSlice) {
        if version > 0 && ours.version > 0 {
            self.change(ours, |of| of.push.heard(version, ours.version));
        }
        if ours.is_resumed && self.questions.answer(ours.sketch) {
            self.begin(ours);
        }
    }

    /// Nothing of a sketch is exchanged with the peer.
    pub(crate) fn leave_out(&mut self, sketch: SketchNumber) {
        self.questions.leave_out(sketch);
        self.of_sketches.remove(&sketch);
        self.ready.remove(&sketch);
    }

    /// Sketches of which the peer has told more since the last call, or there was nothing to tell after all.
    pub(crate) fn take_moved(&mut self) -> BTreeSet<SketchNumber> {
        std::mem::take(&mut self.moved)
    }

    /// Something may go out now.
    pub(crate) fn has_data(&self) -> bool {
        self.flight.has_room() && !self.ready.is_empty()
    }

    /// Writes what comes next: a piece of each sketch, one after the other from whose turn it is, as many as fit.
    /// [`note_sent`](Self::note_sent) is called with what it returns.
    pub(crate) fn write(
        &mut self,
        now: Duration,
        sketches: &Sketches,
        writer: &mut FrameWriter<'_>,
    ) -> Vec<SentPiece> {
        let behind = self.ready.range((Excluded(self.turn), Unbounded));
        let before = self.ready.range(..=self.turn);
        let circle: Vec<SketchNumber> = behind.chain(before).copied().collect();
        let mut pieces = Vec::new();
        for sketch in circle {
            let (Some(slices), Some(ours)) = (sketches.get(sketch), sketches.our_slice(sketch))
            else {
                self.leave_out(sketch);
                continue;
            };
            let mut own = OwnSliceWriter::new(now, slices, writer);
            let piece = self.change(ours, |of| of.push.write(&mut own));
            if let Some(piece) = piece.flatten() {
                self.turn = sketch;
                pieces.push((sketch, piece));
            } else if self.ready.contains(&sketch) {
                // There was no room for it; it is the first of the next datagram.
                break;
            }
        }
        pieces
    }

    /// Pieces have gone out in the datagram with this number; `None` where that could not be sealed.
    pub(crate) fn note_sent(&mut self, now: Duration, number: Option<u64>, pieces: Vec<SentPiece>) {
        match number {
            _ if pieces.is_empty() => {}
            Some(number) => self.flight.note_sent(number, now, pieces),
            None => pieces.into_iter().for_each(|piece| self.lose(piece)),
        }
    }

    /// Takes an ack, and goes on to what is published; returns how many pieces it tells to be lost.
    pub(crate) fn take_ack(
        &mut self,
        now: Duration,
        ranges: impl Iterator<Item = RangeInclusive<u64>>,
        sketches: &Sketches,
    ) -> u64 {
        let outcome = self.flight.ack(now, ranges);
        let pieces = outcome.arrived.iter().chain(&outcome.lost);
        let touched: BTreeSet<SketchNumber> = pieces.map(|&(sketch, _)| sketch).collect();
        let lost = self.settle(outcome);
        for ours in touched
            .into_iter()
            .filter_map(|sketch| sketches.our_slice(sketch))
        {
            if self.of_sketches.contains_key(&ours.sketch) {
                self.begin(ours);
            }
        }
        lost
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
        self.questions.clear();
        for piece in self.flight.abandon() {
            self.lose(piece);
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.flight.deadline()
    }

    fn settle(&mut self, outcome: Outcome) -> u64 {
        for (sketch, piece) in outcome.arrived {
            self.change_known(sketch, |of| of.push.arrived(piece));
        }
        let lost = outcome.lost.len() as u64;
        outcome.lost.into_iter().for_each(|piece| self.lose(piece));
        lost
    }

    fn lose(&mut self, (sketch, piece): SentPiece) {
        self.change_known(sketch, |of| of.push.lost(piece));
    }

    /// Changes what is known of a sketch, which takes a place from now on.
    fn change<T>(&mut self, ours: OurSlice, change: impl FnOnce(&mut OfSketch) -> T) -> Option<T> {
        let fresh = || OfSketch {
            push: Push::new(ours.cells),
            behind_since: None,
        };
        self.of_sketches.entry(ours.sketch).or_insert_with(fresh);
        self.change_known(ours.sketch, change)
    }

    /// Changes what is known of a sketch; `None`, and nothing done, where nothing is.
    fn change_known<T>(
        &mut self,
        sketch: SketchNumber,
        change: impl FnOnce(&mut OfSketch) -> T,
    ) -> Option<T> {
        let of = self.of_sketches.get_mut(&sketch)?;
        let told = of.push.told();
        let changed = change(of);
        if of.push.told() != told {
            self.moved.insert(sketch);
        }
        if of.push.has_more() {
            self.ready.insert(sketch);
        } else {
            self.ready.remove(&sketch);
        }
        Some(changed)
    }
}
