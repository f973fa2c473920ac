//! The shadow audit: what a sketch really errs by, on keys that are counted exactly beside it.
//!
//! Epsilon * N is what the theorem promises of any stream, and the sampled error
//! ([`LikelyError`](crate::LikelyError)) is that of keys that never came. Here some of the keys that did come are
//! counted twice: in the cells, as all are, and exactly. So a node knows by what it errs, and which of its verdicts
//! are wrong for that reason.
//!
//! ```text
//!    data thread     add ──> hash in the sample? ──(seldom)──> its own table of exact counts
//!                    hit ──> hash in the sample? ──(seldom)──> was the verdict wrong by the error of its key?
//!    control thread  AuditReader, AuditWindows: all tables, and what the cells say of the same keys
//! ```
//!
//! **Own counts only.** An exact count is what was added on this node since it started, and is compared with our own
//! cells. What others counted is theirs to audit, so an answer that has it errs by at least as much as is told here,
//! and a verdict that is told to be wrong is so, whatever others counted. Weight is counted when it leaves a batch
//! for the cells, so that both are of the same moment.
//!
//! **Verdicts of all time only.** A snapshot of a window has own and others together, and folded; the part of it that
//! is ours is known to nobody. So the [errors of windows](windows) are audited by what is noted for it, and verdicts
//! that rest on windows are not.
//!
//! # A bounded sample without bias
//!
//! A key is in the sample if a number that is made of its hash ([`sample`]) is below a bound: of keys that were
//! chosen without a look at the seed, each with the same probability, however often it comes. When a thread's table
//! is full, the bound is halved for all threads (adaptive sampling: Wegman 1984; Flajolet, "On adaptive sampling",
//! 1990): keys that are not below it leave, and never come back. So *a key that is in the sample was in it ever
//! since*, and its count is exact.
//!
//! It begins with one key in 64. So a sketch of some ten thousand keys has more than a hundred of them to tell a
//! quantile from, where one key in 1 024 would be ten. It comes to one in 1 024 where a thread adds more than four
//! hundred thousand keys. An add of a key that is not in the sample costs a multiplication and a comparison.
//!
//! # What a reader may mix
//!
//! A reader asks each table what is done of a key, then reads the cells, and then asks for what is begun ([`table`]).
//! *An error is never below 0*: what is done is in the cells. *An error that is told as exact is so*: where what is
//! done before and what is begun behind are equal, nothing was added to the key in between, and the cells have as
//! much of it.
//!
//! *At last the reader asks for the sample*, and forgets the keys that are not in it: a thread may have left such a
//! key out, and added to its cells. Has the reader read such cells, it knows the sample by which the thread left it
//! out: whoever takes over another sample puts a Release fence behind it, before all that it adds to cells then, and
//! the reader has an Acquire fence behind the cells. And if a key has left a table that the reader has read, the turn
//! of the table tells of that sample, too. The sample is taken over at pauses, or when a key of the old one comes: a
//! thread that still counts more keys than it has to does no harm. `tests/loom_audit.rs` runs both files in every
//! order.
//!
//! # What is missed
//!
//! Who finds no seat adds without a table ([`Seats`](crate::seats::Seats)), and so does [`Replica::add`]. Where such
//! weight goes to a key of the sample, exact counts are none, and nothing is told of errors from then on. It is noted
//! before the cells are touched (with a fence, as above), so that no error is told that has such weight in it. FNV
//! with more than 4 rows has no hash to know keys by, and no audit. Of FNV anybody can make keys that fill the
//! sample: it becomes empty at last.

mod auditor;
mod figures;
mod reader;
mod sample;
mod table;
#[cfg(test)]
mod tests;
mod windows;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use auditor::Auditor;
pub use figures::{AuditFigures, AuditState, AuditVerdicts};
pub use reader::{AuditLook, AuditReader};
pub use windows::AuditWindows;

use crossbeam_utils::CachePadded;
use rmbd_sketch::{Geometry, HashFamily, KeyHash};

use self::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use crate::Replica;
use crate::memory::{MemoryShare, NoMemory};
use crate::seats::{Seat, Seats};
use sample::{Sample, tag_of};
use table::Table;

/// The atomics that [`sample`] and [`table`] are written with; `tests/loom_audit.rs` puts a model of them in this
/// place.
mod atomic {
    pub(super) use crate::memory::try_zeroed;
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

/// Places of a thread's table, of which three quarters are taken at most. After a halving half of those remain, which
/// is enough for 7 of them to be above the quantile of 4 rows. With 32 KiB it is in the cache where keys of the
/// sample come often.
const PLACES: usize = 1 << 10;
/// How often a key is read where it is added to meanwhile, or a table whose keys just leave.
const TRIES: usize = 4;

/// What an audit takes.
///
/// ```
/// use rmbd_sketch::{Geometry, HashFamily};
/// use rmbd_store::AuditPlan;
///
/// let family = HashFamily::Xxh3 { seed: 7 };
/// let plan = AuditPlan { geometry: Geometry::DEFAULT, family, threads: 2 };
/// assert!(plan.memory_bytes() <= 6 << 15); // two threads, and some that a program around the node has
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct AuditPlan {
    /// Width and depth of the sketch.
    pub geometry: Geometry,
    /// The hash family of the sketch. There is no audit where a key's cells do not follow from one hash
    /// ([`HashFamily::hash`]): FNV with more than 4 rows.
    pub family: HashFamily,
    /// Threads that add.
    pub threads: usize,
}

impl AuditPlan {
    /// Bytes of all tables of exact counts. All of them are reserved when the sketch is made.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match self.is_possible() {
            true => self.seats() as u64 * Table::bytes_of(PLACES),
            false => 0,
        }
    }

    fn is_possible(&self) -> bool {
        self.family.hash(b"", self.geometry).is_some()
    }

    fn seats(&self) -> usize {
        Seats::count(self.geometry, self.threads)
    }
}

/// The exact counts of a replica, by their threads, and what was found by them.
#[derive(Debug)]
pub(crate) struct Audit {
    sample: Sample,
    /// In the order of the seats.
    seats: Box<[Arc<OfSeat>]>,
    /// Weight of keys of the sample that was added by who has no table.
    missed: AtomicU64,
    /// Estimates that were below an exact count.
    too_low: AtomicU64,
    latest: Mutex<Latest>,
}

/// What was found last. Only the control thread uses it.
#[derive(Debug)]
struct Latest {
    all_time: Option<AuditFigures>,
    /// Of each ring of windows.
    windows: Box<[Option<AuditFigures>]>,
}

/// What the thread of a seat writes.
#[derive(Debug)]
struct OfSeat {
    table: Table,
    /// Data threads count here beside each other.
    verdicts: CachePadded<VerdictCounters>,
}

/// Numbers that stand for themselves.
#[derive(Debug, Default)]
struct VerdictCounters {
    judged: AtomicU64,
    refused: AtomicU64,
    wrong: AtomicU64,
}

/// What was read of a key, and what was added to it on all threads: `done` is in what was read, and nothing more than
/// `begun`.
#[derive(Debug, Clone, Copy)]
struct Between<T> {
    done: u64,
    read: T,
    begun: u64,
}

/// By what an estimate of our own cells exceeds the exact count of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct KeyError {
    error: u64,
    /// The estimate was below the exact count, which must not be.
    is_too_low: bool,
}

impl KeyError {
    fn of(estimate: u64, exact: u64) -> Self {
        Self {
            error: estimate.saturating_sub(exact),
            is_too_low: estimate < exact,
        }
    }
}

impl<T> Between<T> {
    /// Whether nothing was added to the key meanwhile.
    fn is_exact(&self) -> bool {
        self.done == self.begun
    }
}

impl Audit {
    /// The audit of a plan, if it has one, for this many windows.
    pub(crate) fn try_new(
        plan: &AuditPlan,
        windows: usize,
        memory: &MemoryShare,
    ) -> Result<Option<Self>, NoMemory> {
        if !plan.is_possible() {
            return Ok(None);
        }
        memory.reserve(plan.memory_bytes())?;
        let of_seat = |_| {
            Ok(Arc::new(OfSeat {
                table: Table::try_new(PLACES)?,
                verdicts: CachePadded::default(),
            }))
        };
        let seats = (0..plan.seats()).map(of_seat);
        Ok(Some(Self {
            sample: Sample::new(),
            seats: seats.collect::<Result<_, NoMemory>>()?,
            missed: AtomicU64::new(0),
            too_low: AtomicU64::new(0),
            latest: Mutex::new(Latest {
                all_time: None,
                windows: vec![None; windows].into(),
            }),
        }))
    }

    fn of_seat(&self, seat: &Seat) -> &Arc<OfSeat> {
        &self.seats[seat.number()]
    }

    /// Notes weight that somebody without a table is about to add to a key, if the key is in the sample.
    pub(crate) fn note_missed(&self, hash: KeyHash, weight: u64) {
        if weight > 0 && tag_of(hash.halves()) < self.sample.below() {
            self.missed.fetch_add(weight, Relaxed);
            // See the head of this file.
            fence(Release);
        }
    }

    /// Reads something of the cells of a key, and what was added to it before and behind; anew a few times where the
    /// key is added to meanwhile. `None` where keys just leave. The caller asks [behind it](Self::told_below) whether
    /// the key is in the sample.
    fn read_between<T>(&self, hash: [u64; 2], mut read: impl FnMut() -> T) -> Option<Between<T>> {
        let mut latest = None;
        for _ in 0..TRIES {
            let found = self.try_read_between(hash, &mut read);
            let is_exact = found.as_ref().is_some_and(Between::is_exact);
            latest = found.or(latest);
            if is_exact {
                break;
            }
        }
        latest
    }

    fn try_read_between<T>(
        &self,
        hash: [u64; 2],
        read: &mut impl FnMut() -> T,
    ) -> Option<Between<T>> {
        let done = self.sum(|table| table.done(hash))?;
        let read = read();
        fence(Acquire);
        let begun = self.sum(|table| table.begun(hash))?;
        Some(Between { done, read, begun })
    }

    fn sum(&self, read: impl Fn(&Table) -> Option<u64>) -> Option<u64> {
        let mut read = self.seats.iter().map(|seat| read(&seat.table));
        read.try_fold(0_u64, |sum, count| Some(sum.saturating_add(count?)))
    }

    /// The bound of tags below which errors that were read before may be told; 0 where none may.
    fn told_below(&self) -> u64 {
        fence(Acquire);
        match self.missed.load(Relaxed) {
            0 => self.sample.below(),
            _ => 0,
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        // Figures are written as a whole.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replica {
    /// What is known of the errors of our own cells; `None` where the sketch is not audited.
    #[must_use]
    pub fn audit(&self) -> Option<AuditState> {
        self.audit.as_ref().map(|audit| audit.state())
    }

    /// What windows err by, in the order of their [plans](Self::window_plans): found of each over a time of its
    /// length, and so much later than it began. Those of an audited sketch only.
    #[must_use]
    pub fn window_audits(&self) -> Vec<Option<AuditFigures>> {
        let audit = self.audit.as_ref();
        audit.map_or_else(Vec::new, |audit| audit.windows())
    }

    /// Whether so much was added since the last look that there should be [another](AuditReader).
    #[must_use]
    pub fn wants_audit(&self) -> bool {
        let audit = self.audit.as_ref();
        audit.is_some_and(|audit| audit.is_old_at(self.own.total_weight()))
    }
}
