//! What a batch adds with: it notes each key that may be among the largest.

use std::sync::Arc;

use rmbd_sketch::{CellIndexes, KeyHash, Lane, Weight};

use super::list::List;
use super::window_list::{Added, WindowList};
use super::{Lists, Seat};
use crate::Replica;

/// Where a batch adds, and what it notes of it.
#[derive(Debug)]
pub(crate) struct Adder {
    /// The lane that this thread alone adds to; without one, adds go to the cells that all threads share.
    lane: Option<Lane>,
    watch: Watch,
}

#[derive(Debug)]
enum Watch {
    /// The sketch has no lists.
    Off,
    Listed(Box<Candidates>),
    /// All seats are taken. The weight is what was added since it was told last.
    Unlisted(u64),
}

/// The candidates of one thread, for all lists of one sketch.
#[derive(Debug)]
struct Candidates {
    seat: Seat,
    total: List,
    windows: Box<[WindowList]>,
}

impl Adder {
    /// Adds to this lane of the replica, and has a seat if there is one.
    pub(crate) fn new(replica: &Replica, lane: Option<Lane>) -> Self {
        let watch = match &replica.lists {
            None => Watch::Off,
            Some(lists) => match lists.take_seat(lane.as_ref()) {
                Some(seat) => Watch::Listed(Box::new(Candidates::new(replica, lists, seat))),
                None => Watch::Unlisted(0),
            },
        };
        Self { lane, watch }
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
        match &mut self.watch {
            Watch::Listed(candidates) => {
                let value = replica.own.add_and_read(self.lane.as_mut(), cells, weight);
                let added = Added {
                    hash,
                    cells,
                    weight,
                    value,
                };
                candidates.see(replica, self.lane.as_ref(), &added);
                return;
            }
            Watch::Unlisted(unlisted) => *unlisted += u64::from(weight),
            Watch::Off => {}
        }
        match &mut self.lane {
            None => replica.own.add_at(cells, weight),
            Some(lane) => replica.own.add_in_lane(lane, cells, weight),
        }
    }

    /// Starts to fetch what an add to these cells reads beside them.
    #[inline]
    pub(crate) fn prefetch(&self, cells: &CellIndexes) {
        if let Watch::Listed(candidates) = &self.watch
            && let Some(&last) = cells.as_slice().last()
        {
            for window in &candidates.windows {
                window.prefetch(last);
            }
        }
    }

    /// What is to be done now and then, and not between two adds.
    pub(crate) fn pause(&mut self, replica: &Replica) {
        match &mut self.watch {
            Watch::Off => {}
            Watch::Listed(candidates) => {
                for window in &mut candidates.windows {
                    window.pause(replica, self.lane.as_ref());
                }
            }
            Watch::Unlisted(unlisted) => {
                let weight = std::mem::take(unlisted);
                replica.note_unlisted(weight);
            }
        }
    }

    /// Gives back what it has of the replica, when it adds no more.
    pub(crate) fn give_back(&mut self, replica: &Replica) {
        self.pause(replica);
        if let (Watch::Listed(candidates), Some(lists)) = (&self.watch, &replica.lists) {
            lists.give_back(&candidates.seat);
        }
        self.watch = Watch::Off;
        // The seat of a lane is given back before the lane: whoever takes the lane finds it.
        if let Some(lane) = self.lane.take() {
            replica.own.give_back(lane);
        }
    }
}

impl Candidates {
    fn new(replica: &Replica, lists: &Lists, seat: Seat) -> Self {
        let (total, windows) = lists.tables(&seat);
        let part = lists.part_of(&seat);
        let windows = windows.iter().enumerate();
        let windows =
            windows.map(|(ring, table)| WindowList::new(Arc::clone(table), replica, ring, part));
        Self {
            total: List::new(Arc::clone(total), 0, total.threshold_of(0)),
            windows: windows.collect(),
            seat,
        }
    }

    /// Looks whether a key that was added may be a candidate.
    #[inline]
    fn see(&mut self, replica: &Replica, lane: Option<&Lane>, added: &Added<'_>) {
        let Some(&last) = added.cells.as_slice().last() else {
            return;
        };
        let is_of_total = self.may_be_of_total(replica, last, added.value);
        let mut windows = self.windows.iter();
        if is_of_total || windows.any(|window| window.may_be(last, added.value)) {
            self.note(replica, lane, last, added);
        }
    }

    #[inline]
    fn may_be_of_total(&self, replica: &Replica, last: u32, value: u32) -> bool {
        u64::from(value) > self.total.threshold() || replica.own.may_be_above_32_bits(last)
    }

    #[cold]
    #[inline(never)]
    fn note(&mut self, replica: &Replica, lane: Option<&Lane>, last: u32, added: &Added<'_>) {
        let weight = u64::from(added.weight);
        if weight == 0 {
            return;
        }
        if self.may_be_of_total(replica, last, added.value) {
            let estimate = replica.own.estimate_added(lane, added.cells);
            let floor = || replica.floor();
            self.total.note(added.hash, estimate, weight, floor);
        }
        for window in &mut self.windows {
            if window.may_be(last, added.value) {
                window.note(replica, added);
            }
        }
    }
}
