//! What a batch adds with: it notes each key that may be among the largest, and counts those that are audited.

use std::sync::Arc;

use rmbd_sketch::{CellIndexes, KeyHash, Lane, Weight};

use super::keys::{Keys, Place};
use super::list::{Floor, List};
use super::looks::Looks;
use super::window::Window;
use super::{Lists, TOTAL};
use crate::Replica;
use crate::audit::Auditor;
use crate::seats::Seat;

/// Where a batch adds, and what it notes of it.
#[derive(Debug)]
pub(crate) struct Adder {
    /// The lane that this thread alone adds to; without one, adds go to the cells that all threads share.
    lane: Option<Lane>,
    /// `None` if all are taken.
    seat: Option<Seat>,
    // In place, since each add reads of it behind locked additions, where a pointer more is felt.
    candidates: Option<Candidates>,
    /// What was added since it was told last, where the sketch has lists and all seats are taken.
    unlisted: Option<u64>,
    auditor: Auditor,
}

/// The candidates of one thread, for all lists of one sketch.
#[derive(Debug)]
struct Candidates {
    looks: Looks,
    keys: Keys,
    total: List,
    windows: Box<[Window]>,
}

/// A key that was added.
#[derive(Debug, Clone, Copy)]
struct Added<'c> {
    cells: &'c CellIndexes,
    hash: [u64; 2],
    weight: u64,
}

/// Where a key that was added is among the candidates.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    place: Option<Place>,
    is_in_total: bool,
    /// What was certain of it before the add.
    before: u64,
}

impl Adder {
    /// Adds to this lane of the replica, and has a seat if there is one.
    pub(crate) fn new(replica: &Replica, lane: Option<Lane>) -> Self {
        let seat = replica.seats.take(lane.as_ref());
        let has_lists = replica.lists.is_some();
        let listed = replica.lists.as_ref().zip(seat.as_ref());
        Self {
            candidates: listed.map(|(lists, seat)| Candidates::new(replica, lists, seat)),
            unlisted: (has_lists && seat.is_none()).then_some(0),
            auditor: Auditor::new(replica, seat.as_ref()),
            lane,
            seat,
        }
    }

    #[inline]
    pub(crate) fn lane(&self) -> Option<&Lane> {
        self.lane.as_ref()
    }

    /// Adds to the cells of a key with this hash.
    #[inline]
    pub(crate) fn add(
        &mut self,
        replica: &Replica,
        cells: &CellIndexes,
        hash: KeyHash,
        weight: Weight,
    ) {
        if self.auditor.sees(hash) {
            return self.add_audited(replica, cells, hash, weight);
        }
        self.add_to_cells(replica, cells, hash, weight);
    }

    /// Counts a verdict on a key, if it is audited: see [`Auditor::judge`].
    #[inline]
    pub(crate) fn judge(
        &self,
        replica: &Replica,
        (cells, hash): (&CellIndexes, KeyHash),
        estimate: u64,
        passes: impl Fn(u64) -> bool,
    ) {
        if self.auditor.sees(hash) {
            (self.auditor).judge(replica, (cells, hash), estimate, passes);
        }
    }

    #[cold]
    #[inline(never)]
    fn add_audited(
        &mut self,
        replica: &Replica,
        cells: &CellIndexes,
        hash: KeyHash,
        weight: Weight,
    ) {
        let place = self.auditor.begin(replica, hash, weight);
        self.add_to_cells(replica, cells, hash, weight);
        if let Some(place) = place {
            self.auditor.end(place, weight);
        }
    }

    #[inline]
    fn add_to_cells(
        &mut self,
        replica: &Replica,
        cells: &CellIndexes,
        hash: KeyHash,
        weight: Weight,
    ) {
        match &mut self.lane {
            None => replica.own.add_at(cells, weight),
            Some(lane) => replica.own.add_in_lane(lane, cells, weight),
        }
        if let Some(candidates) = &mut self.candidates {
            if candidates.sees(hash, weight) {
                candidates.note(replica, self.lane.as_ref(), cells, hash, weight);
            }
        } else if let Some(unlisted) = &mut self.unlisted {
            *unlisted += u64::from(weight);
        }
    }

    /// What is to be done now and then, and not between two adds.
    pub(crate) fn pause(&mut self, replica: &Replica) {
        self.auditor.pause(replica);
        if let Some(candidates) = &mut self.candidates {
            candidates.pause(replica);
        }
        if let Some(unlisted) = &mut self.unlisted {
            replica.note_unlisted(std::mem::take(unlisted));
        }
    }

    /// Gives back what it has of the replica, when it adds no more.
    pub(crate) fn give_back(&mut self, replica: &Replica) {
        self.pause(replica);
        (self.candidates, self.unlisted) = (None, None);
        if let Some(seat) = self.seat.take() {
            replica.seats.give_back(seat);
        }
        // The seat of a lane is given back before the lane: whoever takes the lane finds it.
        if let Some(lane) = self.lane.take() {
            replica.own.give_back(lane);
        }
    }
}

impl Candidates {
    fn new(replica: &Replica, lists: &Lists, seat: &Seat) -> Self {
        let keys = Keys::new(Arc::clone(lists.table(seat)));
        let most = lists.candidates;
        let bound = keys.list(TOTAL).bound_of(0);
        let windows = (0..replica.windows.rings().len()).map(|ring| {
            let number = TOTAL + 1 + ring;
            Window::new(&keys, replica, (number, ring), most)
        });
        Self {
            looks: Looks::new(lists.seed(seat)),
            windows: windows.collect(),
            total: List::new(&keys, TOTAL, most, (0, bound)),
            keys,
        }
    }

    /// Whether a key that was added is to be noted, since it may be a candidate or is looked at. Most are not.
    #[inline]
    fn sees(&mut self, hash: KeyHash, weight: Weight) -> bool {
        self.looks.sees(weight.into()) || self.keys.may_have(hash.halves())
    }

    // What was added comes in registers: what an add stores before the locked additions of the next one is felt.
    #[cold]
    #[inline(never)]
    fn note(
        &mut self,
        replica: &Replica,
        lane: Option<&Lane>,
        cells: &CellIndexes,
        hash: KeyHash,
        weight: Weight,
    ) {
        if weight == Weight::ZERO {
            return;
        }
        let added = &Added {
            cells,
            hash: hash.halves(),
            weight: weight.into(),
        };
        let mut found = self.count(replica, added);
        if self.looks.are_due() {
            self.look_at_all_time(replica, lane, added, &mut found);
            for number in 0..self.windows.len() {
                self.look_at_window(replica, number, added, &mut found);
            }
        }
        self.look_on();
    }

    /// Draws which add is looked at next.
    fn look_on(&mut self) {
        let windows = self.windows.iter().map(|window| window.list().look_every());
        let every = windows.fold(self.total.look_every(), u64::min);
        self.looks.go_on(every);
    }

    /// Counts the weight of a key that is a candidate.
    fn count(&mut self, replica: &Replica, added: &Added<'_>) -> Found {
        let Some((place, is_in_total)) = self.keys.find(added.hash) else {
            return Found::default();
        };
        for window in &mut self.windows {
            window.mark_if_due(&self.keys, replica, place);
        }
        let slot = self.keys.slot(place);
        let before = slot.certain();
        slot.grow(added.weight);
        Found {
            place: Some(place),
            is_in_total,
            before,
        }
    }

    fn look_at_all_time(
        &mut self,
        replica: &Replica,
        lane: Option<&Lane>,
        added: &Added<'_>,
        found: &mut Found,
    ) {
        if found.is_in_total {
            return;
        }
        let estimate = replica.own.estimate_added(lane, added.cells);
        let estimate_of = |hash| {
            let mut cells = CellIndexes::NONE;
            replica.own.cells_of_into(hash, &mut cells);
            replica.own.estimate_added(lane, &cells)
        };
        let own = &replica.own;
        // What each of several lanes has is a part of N.
        let floor = || {
            let weight = own.total_weight() / own.lanes().max(1) as u64;
            Floor::of(own.geometry(), weight)
        };
        let admits = (self.total).admits(&mut self.keys, estimate, estimate_of, floor);
        if admits && let Some(place) = found.or_put(&mut self.keys, added) {
            self.total.enter(&self.keys, place, estimate, found.before);
            self.keys.note_in_total(added.hash);
            ask_name(replica, added);
        }
    }

    fn look_at_window(
        &mut self,
        replica: &Replica,
        number: usize,
        added: &Added<'_>,
        found: &mut Found,
    ) {
        let window = &mut self.windows[number];
        if found.is_in(window.list(), &self.keys) {
            return;
        }
        if let Some(estimate) = window.look(&mut self.keys, replica, added.cells)
            && let Some(place) = found.or_put(&mut self.keys, added)
        {
            window.enter(&self.keys, place, estimate, found.before);
            ask_name(replica, added);
        }
    }

    fn pause(&mut self, replica: &Replica) {
        for window in &mut self.windows {
            window.pause(&mut self.keys, replica);
        }
        // Steps that are over may want more looks.
        self.look_on();
    }
}

/// Asks for the name of a key that became a candidate. What asked is behind: it is told when the key comes again.
fn ask_name(replica: &Replica, added: &Added<'_>) {
    if let Some(lists) = &replica.lists {
        lists.wanted.ask_too(KeyHash::of_halves(added.hash));
    }
}

impl Found {
    fn is_in(&self, list: &List, keys: &Keys) -> bool {
        self.place.is_some_and(|place| list.has(keys, place))
    }

    /// The place of the key, which is put somewhere if it has none.
    fn or_put(&mut self, keys: &mut Keys, added: &Added<'_>) -> Option<Place> {
        if self.place.is_none() {
            let place = keys.put(added.hash)?;
            keys.slot(place).grow(added.weight);
            self.place = Some(place);
        }
        self.place
    }
}
