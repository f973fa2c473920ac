//! The writer of snapshots: it copies what was counted, in pieces, when a step is over.
//!
//! *The end of a copying* is read from the clock after its last cell. An add that is not in the snapshot may have been
//! made before that time, but whatever is in the snapshot was: the loads of the cells are done when the clock is read.
//! On x86-64 the kernel's clock waits for loads before it reads the counter (`lfence`); the fence here keeps the
//! compiler from moving them. Elsewhere nothing waits for loads, and [`RUN_AHEAD_NS`] is added.
//!
//! *While nothing is added* the snapshot before is copied instead of cells, which is shorter where it is folded; and
//! when all slots hold the same, nothing is copied at all: the slot whose turn it is holds what the snapshot would. All
//! else goes on, so that each step has a snapshot with a time of its own, to which old growth can be
//! [booked](super::booking) when it comes. (One snapshot that stands for a long time would have to count such growth as
//! new.)
//!
//! Whether something was added is told by N of our own slice, and by how often cells of others were raised. Weight that
//! a thread has added and not settled is in no N. A snapshot that is not copied lacks it, and windows count it as
//! younger than it is, by what a batch takes; a snapshot never holds more than the cells at its time.
//!
//! *When a snapshot is due.* The oldest slot gives way to it. A reader needs a snapshot that ended a window ago; so a
//! snapshot begins only when the second oldest one ended a window ago and [`slack_ns`] more. As long as copying takes
//! less than half a step, this is so whenever a step is over.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, fence};
use std::time::Duration;

use rmbd_sketch::{CellIndex, PASS_WEIGHT_MAX};

use super::ring::Ring;
use super::{Windows, ns, ns_of_ms};
use crate::Replica;

/// How far a processor's loads may be behind its clock, where the clock does not wait for them. It is some hundred
/// times as much as a load takes.
const RUN_AHEAD_NS: i64 = if cfg!(target_arch = "x86_64") {
    0
} else {
    10_000
};

/// The outcome of a call of [`Slices::snapshot`](crate::Slices::snapshot).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// A piece was copied; the snapshot is not at its end, and the next call goes on.
    Partly,
    /// A snapshot is done.
    Done {
        /// The length of its window in milliseconds.
        span_ms: u64,
    },
}

/// The single writer of the rings of one replica.
#[derive(Debug)]
pub(crate) struct Copier {
    rings: Box<[State]>,
    /// The ring that is looked at first.
    turn: usize,
    /// How often a cell of others was raised.
    raised: u64,
}

/// What was counted at some moment. Where two are equal, nothing was added in between, but for weight that was not
/// settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counted {
    /// N of our own slice, and of learnt ones.
    own: u64,
    learnt: u64,
    /// How often a cell of others was raised. Their N may stand still while cells grow, as it is that of the fullest
    /// row.
    raised: u64,
}

impl Counted {
    fn weight(&self) -> u64 {
        self.own.saturating_add(self.learnt)
    }
}

/// The writer's side of a ring.
#[derive(Debug)]
struct State {
    hand: Option<Hand>,
    /// What was counted when the last snapshot was begun.
    counted: Counted,
    /// So many of the youngest snapshots hold the same, up to the number of slots, if nothing was added since the
    /// last one was begun.
    equal: u64,
}

/// The snapshot that is being copied.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) number: u64,
    /// The first cell that is not copied yet.
    pub(super) next: usize,
    /// The largest growth of a cell since the snapshot before.
    growth: u64,
    /// What was booked to cells that had been copied, beyond what was booked to the snapshot before.
    pub(super) booked: u64,
    /// What was counted when the snapshot before was begun, and when this one was.
    before: Counted,
    counted: Counted,
}

impl Copier {
    pub(crate) fn new(windows: &Windows) -> Self {
        Self {
            rings: windows.rings.iter().map(State::new).collect(),
            turn: 0,
            raised: 0,
        }
    }

    /// Raises what others counted in a cell. All that is learnt goes through here.
    #[inline]
    pub(crate) fn raise(&mut self, replica: &Replica, cell: CellIndex, growth: u64) {
        self.raised += 1;
        replica.own.add_of_others(cell, growth);
    }

    /// Copies the next piece of what is at hand or due, the rings in turn. `None` if nothing is.
    pub(crate) fn snapshot(
        &mut self,
        replica: &Replica,
        clock: &dyn Fn() -> Duration,
        cells_max: usize,
    ) -> Option<Snapshot> {
        let rings = &replica.windows.rings;
        let at = self.next_turn(rings, ns(clock()))?;
        self.turn = at + 1;
        let counted = self.counted(replica);
        let (ring, state) = (&rings[at], &mut self.rings[at]);
        let mut hand = match state.hand.take() {
            Some(hand) => hand,
            None => state.begin(ring, counted, ns(clock())),
        };
        let cells = ring.plan().geometry().cells();
        let piece = (cells_max / ring.plan().fold()).max(1);
        let end = hand.next.saturating_add(piece).min(cells);
        hand.copy(ring, replica, counted, end);
        if end < cells {
            state.hand = Some(hand);
            return Some(Snapshot::Partly);
        }
        hand.finish(ring, replica, clock);
        Some(Snapshot::Done {
            span_ms: ring.plan().span_ms(),
        })
    }

    /// When the next snapshot is due; a time that is past where one is at hand. `None` without windows.
    pub(crate) fn next(&self, replica: &Replica) -> Option<Duration> {
        let rings = replica.windows.rings.iter().zip(&self.rings);
        let due_ns = rings.map(|(ring, state)| match &state.hand {
            Some(_) => 0,
            None => ring.due_ns().max(0),
        });
        due_ns
            .min()
            .map(|due_ns| Duration::from_nanos(due_ns as u64))
    }

    /// The snapshot of a ring that is at hand.
    pub(super) fn hand(&mut self, ring: usize) -> Option<&mut Hand> {
        self.rings.get_mut(ring)?.hand.as_mut()
    }

    /// What is counted now. It is read before any cell is, so the cells have it.
    fn counted(&self, replica: &Replica) -> Counted {
        Counted {
            own: replica.own.total_weight(),
            learnt: replica.learnt_weight.load(Relaxed),
            raised: self.raised,
        }
    }

    fn next_turn(&self, rings: &[Ring], now_ns: i64) -> Option<usize> {
        let len = rings.len();
        let order = (0..len).map(|place| (self.turn + place) % len);
        let mut wanting =
            order.filter(|&at| self.rings[at].hand.is_some() || rings[at].due_ns() <= now_ns);
        wanting.next()
    }
}

impl State {
    /// All slots hold nothing.
    fn new(ring: &Ring) -> Self {
        Self {
            hand: None,
            counted: Counted::default(),
            equal: ring.len(),
        }
    }

    fn begin(&mut self, ring: &Ring, counted: Counted, now_ns: i64) -> Hand {
        let before = std::mem::replace(&mut self.counted, counted);
        let is_still = counted == before;
        let is_there = is_still && self.equal == ring.len();
        self.equal = match is_still {
            true => (self.equal + 1).min(ring.len()),
            false => 1,
        };
        let number = ring.begin(next_due_ns(ring, now_ns));
        Hand {
            number,
            next: if is_there {
                ring.plan().geometry().cells()
            } else {
                0
            },
            growth: 0,
            booked: 0,
            before,
            counted,
        }
    }
}

impl Hand {
    /// Copies the next piece, when so much was counted.
    fn copy(&mut self, ring: &Ring, replica: &Replica, counted: Counted, end: usize) {
        let numbers = self.next..end;
        self.next = end;
        if counted == self.before {
            return self.copy_the_one_before(ring, numbers);
        }
        self.copy_cells(ring, replica, numbers);
    }

    fn copy_the_one_before(&self, ring: &Ring, numbers: Range<usize>) {
        let (before, slot) = (ring.slot(self.number - 1), ring.slot(self.number));
        for (before, cell) in before[numbers.clone()].iter().zip(&slot[numbers]) {
            put(cell, before.load(Relaxed));
        }
    }

    fn copy_cells(&mut self, ring: &Ring, replica: &Replica, numbers: Range<usize>) {
        if may_pass_2_to_32(self.before.weight(), self.counted.weight()) {
            self.look_for_large_totals(ring, replica, numbers.clone());
        }
        let (before, slot) = (ring.slot(self.number - 1), ring.slot(self.number));
        let mut growth = 0;
        replica
            .own
            .for_each_folded(ring.plan().fold(), numbers, |at, value| {
                growth = value.wrapping_sub(before[at].load(Relaxed)).max(growth);
                put(&slot[at], value);
            });
        self.growth = self.growth.max(growth.into());
    }

    /// So much was added since the snapshot before that a difference mod 2^32 may say too little. It says the truth
    /// where a total has never reached 2^32; where one has, growth is as much as was added.
    #[cold]
    fn look_for_large_totals(&mut self, ring: &Ring, replica: &Replica, numbers: Range<usize>) {
        let fold = ring.plan().fold();
        let mut totals = numbers.map(|number| replica.own.folded_total(number as u32, fold));
        if totals.any(|total| total >> 32 > 0) {
            self.growth = self.growth.max(1 << 32);
        }
    }

    fn finish(self, ring: &Ring, replica: &Replica, clock: &dyn Fn() -> Duration) {
        // The loads of cells come before the clock: see the head of this file.
        fence(Acquire);
        let ended_ns = ns(clock()).saturating_add(RUN_AHEAD_NS);
        let (begun, weight) = (self.counted.weight(), replica.slices_weight());
        let growth = match may_pass_2_to_32(begun, weight) {
            true => 1 << 32,
            false => self.growth,
        };
        let growth = growth.saturating_add(self.booked).min(1 << 62);
        ring.complete(self.number, ended_ns, growth, begun);
        ring.look(weight);
    }
}

/// Equal values are not written, so that a page of zeros stays untouched.
#[inline]
fn put(cell: &AtomicU32, value: u32) {
    if cell.load(Relaxed) != value {
        cell.store(value, Relaxed);
    }
}

/// Whether a cell may have grown by 2^32 while N grew from one number to the other: cells are ahead of N by at most
/// what may be added between two passes.
fn may_pass_2_to_32(from: u64, to: u64) -> bool {
    to.saturating_sub(from).saturating_add(PASS_WEIGHT_MAX) >> 32 > 0
}

/// When the snapshot after the one that begins now is due: a step later, by the plan where this one is not late by a
/// step. It does not begin while a reader may need the snapshot after the one that it replaces.
fn next_due_ns(ring: &Ring, now_ns: i64) -> i64 {
    let (due_ns, step_ns) = (ring.due_ns(), ns_of_ms(ring.plan().step_ms()));
    let is_late = now_ns.saturating_sub(due_ns) >= step_ns;
    let planned_ns = if is_late { now_ns } else { due_ns }.saturating_add(step_ns);
    let (oldest, _) = ring.numbers();
    // This one replaces the oldest, the next one replaces the one after it.
    let kept_ns = ring.ended_ns(oldest + 2);
    let span_ns = ns_of_ms(ring.plan().span_ms());
    planned_ns.max(
        kept_ns
            .saturating_add(span_ns)
            .saturating_add(slack_ns(ring)),
    )
}

/// How long a reader that has read the clock may wait before it reads a snapshot: half a step.
pub(super) fn slack_ns(ring: &Ring) -> i64 {
    ns_of_ms(ring.plan().step_ms()) / 2
}
