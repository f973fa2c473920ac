//! Growth of others that is old: it counts in the total, and not as new in windows.
//!
//! When a slice is learnt late, its growth belongs to the time when it was counted. Its writer says how much of it had
//! been reached at which time. The cell is raised first; then each snapshot that ended at or after such a time gets
//! the part that had been reached by it, from the youngest to the oldest.
//!
//! *Never too low*. A reader that sees a raised snapshot sees the raised cell (`turns`). A snapshot gets no more than
//! what was reached when it ended, so what was counted after that is in the difference. The snapshot at hand ends later
//! than all these times. It gets its part only where a cell has been copied; the others will be copied as they are
//! then.
//!
//! *Not too high for a moment*. Between the raising of the cell and that of a snapshot a reader would take old growth
//! for new. The number of changes is odd meanwhile and higher afterwards, and the reader asks again.

use rmbd_sketch::CellIndex;

use super::copier::Copier;
use super::ring::folded;
use crate::Replica;
use crate::ages::Reached;

/// Growth that is being booked. Readers ask again until it is dropped, so it should live for some cells only.
#[derive(Debug)]
pub(crate) struct Booking<'w> {
    replica: &'w Replica,
    copier: &'w mut Copier,
}

impl Copier {
    /// Begins to book growth.
    pub(crate) fn book<'w>(&'w mut self, replica: &'w Replica) -> Booking<'w> {
        replica.windows.bookings.begin();
        Booking {
            replica,
            copier: self,
        }
    }
}

impl Booking<'_> {
    /// Raises what others counted in a cell. All cells of a group are raised before parts of its growth are booked.
    pub(crate) fn raise(&mut self, cell: CellIndex, growth: u64) {
        self.copier.raise(self.replica, cell, growth);
    }

    /// Books what had been reached of the growth of a cell, or of some neighbouring cells that are one cell in the
    /// snapshots of all windows; `reached` may be in any order. A snapshot that ended at or after several of the times
    /// gets the largest part.
    pub(crate) fn reached(&mut self, cell: CellIndex, reached: &[Reached]) {
        for ring in 0..self.replica.windows.rings.len() {
            self.reached_in(ring, cell, reached);
        }
    }

    /// Like [`reached`](Self::reached), in the ring with this number only.
    pub(crate) fn reached_in(&mut self, ring_number: usize, cell: CellIndex, reached: &[Reached]) {
        let Some(ring) = self.replica.windows.rings.get(ring_number) else {
            return;
        };
        let at = folded(cell.get(), ring.plan().fold() as u32) as usize;
        self.replica.windows.bookings.between();
        let (oldest, youngest) = ring.numbers();
        let part = |number| part_by(reached, ring.ended_ns(number));
        if let Some(hand) = self.copier.hand(ring_number).filter(|hand| at < hand.next) {
            let all = part_by(reached, i64::MAX);
            ring.raise(hand.number, at, all);
            hand.booked = (hand.booked).saturating_add(all.saturating_sub(part(youngest)));
        }
        for number in (oldest..=youngest).rev() {
            let part = part(number);
            // Older ones get no more.
            if part == 0 {
                break;
            }
            ring.book(number, at, part);
        }
    }
}

impl Drop for Booking<'_> {
    fn drop(&mut self) {
        self.replica.windows.bookings.end();
    }
}

fn part_by(reached: &[Reached], ended_ns: i64) -> u64 {
    let by_then = reached.iter().filter(|it| it.at.ns() <= ended_ns);
    by_then.map(|it| it.part).max().unwrap_or_default()
}
