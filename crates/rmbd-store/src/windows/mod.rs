//! Windows: what was counted in the last seconds, minutes or days.
//!
//! ```text
//!    control thread: at each step  ──(copies what was counted, folded)──> the next slot of the ring
//!
//!    ring        | n-13 | n-12 |  ...  | n-1 |  n  | at hand |      each with the time at which its copying ended
//!                                  ^
//!    reader: ──── snapshot first ──┘ then cells:    window = min over rows (cell - snapshot)    mod 2^32
//! ```
//!
//! Cells count for ever, so an add knows nothing of windows, and nothing is ever zeroed or expired. Any number of
//! windows stand on one table. A snapshot holds the lowest 32 bits of own and others together.
//!
//! *Never too low*. A reader takes the youngest snapshot whose copying ended at or before the beginning of its window.
//! An add that came after that is not in the snapshot: the copier read the cell before its clock, and the add was made
//! after it came. It is in the cell: see `read`. A slot that was reused meanwhile would say too little; its number
//! tells of that, and the reader asks again. Where nothing helps, the answer is the count of all time.
//!
//! *Never much too high*. A snapshot is due a step after the one before; so the one that is used ended less than a
//! step (and the time of a copying) before the window began. After a pause one snapshot is taken, and the next is due
//! a step later: windows cover more then, never less.

#[cfg_attr(not(test), expect(dead_code, reason = "merges with ages use it"))]
mod booking;
mod copier;
mod plan;
mod question;
mod read;
mod ring;
#[cfg(test)]
mod tests;
mod turns;
mod weight;

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

pub(super) use copier::Copier;
pub use copier::Snapshot;
pub use plan::{SPAN_MS_MAX, STEP_MS_MIN, STEPS_MAX, WINDOWS_MAX, WindowPlan, WindowPlanError};
pub use question::{Reading, UnknownWindow, Window, WindowQuestion};
pub(super) use read::{Kept, Question, RESOLVED_KEPT, Resolved};
pub(super) use ring::Ring;
use turns::Bookings;

use crate::ages::Moment;
use crate::memory::{MemoryShare, NoMemory};

/// The atomics that [`turns`] is written with; `tests/loom.rs` puts a model of them in this place.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

/// Before any time.
const EVER_NS: i64 = i64::MIN;

/// All rings of a replica. Any thread reads them; the one writer is the [`Copier`].
#[derive(Debug)]
pub(super) struct Windows {
    rings: Box<[Ring]>,
    /// From this time on everything is here that was received or told.
    known_since_ns: AtomicI64,
    bookings: Bookings,
}

/// Since when a node has all that was counted: a moment, or ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownSince(Option<Moment>);

impl KnownSince {
    /// Nothing was ever counted that is not here.
    pub const EVER: Self = Self(None);

    /// Since this time.
    #[must_use]
    pub fn at(time: Duration) -> Self {
        Self(Some(Moment::of(time)))
    }

    /// What another node has told in milliseconds, when it is `now` here: see [`told_ms`](Self::told_ms).
    #[must_use]
    pub fn of_told(told_ms: u64, now: Duration) -> Self {
        Self((told_ms < u64::MAX).then(|| Moment::of(now).before(told_ms)))
    }

    /// For how many milliseconds that is at `now`, as other nodes are told: see [`Moment::told_age_ms`]. `u64::MAX` is
    /// ever.
    #[must_use]
    pub fn told_ms(self, now: Duration) -> u64 {
        self.0
            .map_or(u64::MAX, |moment| moment.told_age_ms(Moment::of(now)))
    }
}

impl Windows {
    /// Rings whose snapshots are all empty. Their memory is reserved now, and taken page by page.
    pub(super) fn try_new(
        plans: &[WindowPlan],
        started: Duration,
        memory: &MemoryShare,
    ) -> Result<Self, NoMemory> {
        if plans.len() > WINDOWS_MAX {
            return Err(NoMemory::TooManyWindows {
                windows: plans.len(),
                max: WINDOWS_MAX,
            });
        }
        let started_ns = ns(started);
        let ring = |plan: &WindowPlan| {
            let (span_ms, bytes) = (plan.span_ms(), plan.memory_bytes());
            let reserved = memory.reserve(bytes);
            reserved.map_err(|limit| NoMemory::Window {
                span_ms,
                bytes,
                needed_bytes: limit.needed_bytes,
                max_bytes: limit.max_bytes,
            })?;
            Ok(Ring::try_new(*plan, started_ns)?)
        };
        Ok(Self {
            rings: plans.iter().map(ring).collect::<Result<_, NoMemory>>()?,
            known_since_ns: AtomicI64::new(started_ns),
            bookings: Bookings::new(),
        })
    }

    /// The plans of all windows.
    pub(super) fn plans(&self) -> impl Iterator<Item = &WindowPlan> + Clone {
        self.rings.iter().map(Ring::plan)
    }

    /// The window of this length, from the ring with the shortest step that covers it.
    pub(super) fn window(&self, span_ms: u64) -> Result<Window, UnknownWindow> {
        let unknown = || UnknownWindow::new(span_ms, self.plans());
        self.find(span_ms).ok_or_else(unknown)
    }

    #[inline]
    pub(super) fn find(&self, span_ms: u64) -> Option<Window> {
        let rings = self.rings.iter().enumerate();
        let covering = rings.filter(|(_, ring)| ring.plan().covers(span_ms));
        let best = covering.min_by_key(|(_, ring)| ring.plan().step_ms());
        best.map(|(number, ring)| Window::new(number, ring.plan(), span_ms))
    }

    /// The rings of all windows, in the order in which their plans were given.
    pub(super) fn rings(&self) -> &[Ring] {
        &self.rings
    }

    fn ring(&self, window: Window) -> Option<&Ring> {
        self.rings.get(window.ring())
    }

    /// Notes since when everything is here. It is a hint for readers and orders nothing.
    pub(super) fn set_known_since(&self, since: KnownSince) {
        let ns = since.0.map_or(EVER_NS, Moment::ns);
        self.known_since_ns.store(ns, Relaxed);
    }

    pub(super) fn known_since(&self) -> KnownSince {
        let ns = self.known_since_ns.load(Relaxed);
        KnownSince((ns > EVER_NS).then(|| Moment::at_ns(ns)))
    }

    /// Notes the weight of all slices as it is now. Only the one writer of others calls this.
    pub(super) fn look(&self, weight: u64) {
        self.rings.iter().for_each(|ring| ring.look(weight));
    }

    /// Whether something that counts in a window from this time on may not be here.
    fn lacks_since(&self, from_ns: i64) -> bool {
        from_ns < self.known_since_ns.load(Relaxed)
    }
}

/// A time in nanoseconds, as rings have it: such times may lie before the fixed moment that all count from.
fn ns(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// The same for milliseconds of a plan, which are at most a month.
fn ns_of_ms(ms: u64) -> i64 {
    ms.min(SPAN_MS_MAX) as i64 * 1_000_000
}
