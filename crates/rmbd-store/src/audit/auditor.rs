//! What a batch counts exactly, and judges.

use std::sync::Arc;
use std::sync::atomic::{Ordering::Release, fence};

use rmbd_sketch::{CellIndexes, KeyHash, Weight};

use super::table::Place;
use super::{Audit, OfSeat, tag_of};
use crate::Replica;
use crate::seats::Seat;

/// The audit of one thread.
#[derive(Debug)]
pub(crate) struct Auditor {
    /// The sample as this thread knows it: tags below this; 0 where nothing is audited.
    below: u64,
    /// `None` where all seats are taken, or nothing is audited.
    of_seat: Option<Arc<OfSeat>>,
}

impl Auditor {
    /// Counts in the table of a seat, if there is one.
    pub(crate) fn new(replica: &Replica, seat: Option<&Seat>) -> Self {
        let mut auditor = Self {
            below: 0,
            of_seat: None,
        };
        if let Some(audit) = &replica.audit {
            auditor.of_seat = seat.map(|seat| Arc::clone(audit.of_seat(seat)));
            auditor.take_over(audit.sample.below());
        }
        auditor
    }

    /// Whether a key with this hash may be audited. Most are not.
    #[inline]
    pub(crate) fn sees(&self, hash: KeyHash) -> bool {
        tag_of(hash.halves()) < self.below
    }

    /// Begins to add to a key that this thread sees. If it is audited, the caller [ends](Self::end) that when the
    /// cells have the weight.
    pub(crate) fn begin(
        &mut self,
        replica: &Replica,
        hash: KeyHash,
        weight: Weight,
    ) -> Option<Place> {
        let audit = replica.audit.as_ref()?;
        if weight == Weight::ZERO {
            return None;
        }
        self.follow(audit);
        while self.sees(hash) {
            let Some(of_seat) = &self.of_seat else {
                audit.note_missed(hash, weight.into());
                return None;
            };
            let place = of_seat.table.begin(hash.halves(), weight.into());
            if place.is_some() {
                return place;
            }
            audit.sample.halve(self.below);
            self.follow(audit);
        }
        None
    }

    /// The weight has been added to the cells of the key at this place.
    pub(crate) fn end(&self, place: Place, weight: Weight) {
        if let Some(of_seat) = &self.of_seat {
            of_seat.table.end(place, weight.into());
        }
    }

    /// What is to be done now and then.
    pub(crate) fn pause(&mut self, replica: &Replica) {
        if let Some(audit) = &replica.audit {
            self.follow(audit);
        }
    }

    /// Counts a verdict on a key that this thread sees, of which the estimate says whether a limit is passed. Where
    /// it cannot be told whether that is the error's doing, the verdict does not count. The error is that of a moment
    /// later.
    #[cold]
    #[inline(never)]
    pub(crate) fn judge(
        &self,
        replica: &Replica,
        (cells, hash): (&CellIndexes, KeyHash),
        estimate: u64,
        passes: impl Fn(u64) -> bool,
    ) {
        let (Some(audit), Some(of_seat)) = (&replica.audit, &self.of_seat) else {
            return;
        };
        let is_over = passes(estimate);
        let is_wrong = match is_over {
            false => Some(false),
            true => audit
                .error_here(replica, (cells, hash))
                .map(|error| !passes(estimate.saturating_sub(error))),
        };
        if let Some(is_wrong) = is_wrong {
            of_seat.verdicts.note(is_over, is_wrong);
        }
    }

    /// Takes over the sample of all threads, if it is another one.
    fn follow(&mut self, audit: &Audit) {
        let below = audit.sample.below();
        if below < self.below {
            self.take_over(below);
        }
    }

    fn take_over(&mut self, below: u64) {
        self.below = below;
        // Before all that is added to cells from now on: see the head of `audit`.
        fence(Release);
        if let Some(of_seat) = &self.of_seat {
            of_seat.table.keep(below);
        }
    }
}

impl Audit {
    /// The error of a key, if it is known now.
    fn error_here(&self, replica: &Replica, (cells, hash): (&CellIndexes, KeyHash)) -> Option<u64> {
        let hash = hash.halves();
        let found = self.read_between(hash, || replica.own.own_estimate_at(cells))?;
        let is_known = found.is_exact() && tag_of(hash) < self.told_below();
        is_known.then(|| found.read.saturating_sub(found.done))
    }
}
