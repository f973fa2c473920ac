//! Who is large: the keys with the largest counts, of all time and in each window.
//!
//! A sketch answers how often a key came, and knows no keys. So each thread that adds keeps a small table of
//! *candidates*, the keys with the largest counts that it has met, for each list. The sketch gives the counts and the
//! tables give the keys.
//!
//! ```text
//!    data thread     add ──> cells ──> looked at, or a candidate? ──(seldom)──> all rows ──> candidates
//!                    key ──> wanted? ──(seldom)──> its bytes, into a bounded queue
//!    control thread  TopKeys: reads all candidates, asks for the bytes of those that it lacks, reads their counts
//! ```
//!
//! # Complete above a bound
//!
//! Each table has a *threshold* T, at first 0, and a *slack* S, at first 0. A thread looks at its adds: at each of them
//! at first, and from then on at one unit of weight in S / 20, drawn at random ([`looks`]). Where the key's count in
//! the cells that the thread adds to (its own *part* of the sketch: a lane, or the cells that all threads share) is
//! above T, the key becomes a candidate with that count as its *estimate*. Where all places are taken, the quarter with
//! the least estimates leaves, and T is the largest estimate that has left; S becomes half of T, or one in 8 192 of all
//! that was added, if that is more. Then:
//!
//! > Every key of which more than T + S was added to that part is a candidate, but for a chance of e^-20 for each key.
//!
//! *Proof*. Take a key of which c > T + S was added, and the last S units of weight of it. One of them was looked at,
//! but for that chance: each unit was with a chance of 20 / S at least, since S only grows. Behind that add the key's
//! count was at least c - S > T, for a count-min sketch is never too low; and so it was above the threshold of that
//! moment, since T only grows. So the key was a candidate then, or became one. It has not left since then, or has come
//! back: let it have left at a moment after which s units came, and not have been looked at since. Whoever leaves has
//! an estimate of now of at most the T that is then in force; and the key had c - s then. So s is S at least, and one
//! of them was looked at.
//!
//! *Ties* do no harm. Those that leave are a quarter of the candidates, whatever their estimates are; of several
//! with the estimate T some may stay. An add whose count is T does not enter. So a change of candidates takes an add
//! that is above T, and every time that the table is full a quarter of the places becomes free: keys that come and go
//! at the threshold move it upwards.
//!
//! *Several threads*. Where threads share cells, a thread that looks at a key sees all adds of it that came before
//! (`rmbd_sketch`, `added.rs`), whoever made them: the list is complete above the largest T and the largest S. A
//! thread with a lane sees what it added itself. Of a key with more than the sum of all bounds, more than the bound of
//! it was added in one of the lanes: the list is complete above the sum. What somebody added who has no table
//! ([`Lists::unlisted`]) adds its weight to it, since a key may have all of it.
//!
//! *Only what was added on this node counts here*, not what others counted, although an answer has both. So the
//! lists of several nodes can be put together like those of lanes: the sum of the thresholds of all nodes is hardly
//! more than that of one node with all their adds. If each node compared its threshold with the counts of all, each
//! threshold would be as large as that sum. And a thread that adds need not look at others' counts.
//!
//! *What is not worth listing*. When a table is full, its T is at least epsilon * N: an estimate below that may be
//! nothing but strangers ([`Replica::error`](crate::Replica::error)). So keys that all come as often as each other,
//! or once, make no candidates, and are seldom looked at.
//!
//! # Windows
//!
//! In a window the count is that of the time since the oldest snapshot of the ring, so it covers the window and up to
//! two steps more. A window forgets. So when a step is over, its thread compares all candidates with the snapshot that
//! is the oldest one now, some at each pause, and those of which nothing counts leave. Then a quarter leaves if all
//! places were taken, and T is the largest estimate that has left, or 0: *it comes down*, and S with it. For each step
//! the largest T and S of it are remembered.
//!
//! > Every key of which more than M was added in the window is a candidate, but for the same chance, where M is the sum
//! > of the largest T and the largest S that were in force since the window began.
//!
//! *Proof*. As above, with the largest T and S of the window in place of the last ones: the window of a moment within
//! it has all in it that was added since it began. A key does not leave because nothing of it counted: something does.
//! And when it was compared again, its estimate became what counted of it at that moment.
//!
//! A thread that adds nothing changes no candidates. The thresholds of steps that are out of the window do not count,
//! so that its list, too, is complete above 0 when all of it is forgotten.
//!
//! # What is certain of a key
//!
//! Of a candidate its thread sums the weight that came while it was a candidate: what is *certain*, since the key has
//! at least that. In a window this sum has *marks*, what it was at two earlier moments, half a window apart. What came
//! since a mark that is in the window is certain. What several threads have summed adds up.
//!
//! A key is known by its [`KeyHash`](rmbd_sketch::KeyHash). Two keys with the same hash are the same key to the sketch,
//! and to a list: it shows one of them, with the counts of both. Where nobody knows the seed of XXH3, this happens with
//! a probability of 2^-128 for two keys. Of FNV anybody can make such keys.

mod adder;
mod keys;
mod list;
mod looks;
mod names;
mod slot;
mod table;
mod top_keys;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use adder::Adder;
pub(crate) use names::Wanted;
pub(crate) use top_keys::{CertainIn, Merged};
pub use top_keys::{TopKey, TopKeys, TopList};

use crossbeam_utils::CachePadded;
use rmbd_sketch::{Geometry, HashFamily, lanes_of};

use self::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use crate::memory::{MemoryLimit, MemoryShare};
use crate::seats::{Seat, Seats};
use crate::windows::WindowPlan;
use table::{Bound, Table};

/// The atomics that [`slot`] and [`table`] are written with; `tests/loom_candidates.rs` puts a model of them in this
/// place.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};

    /// How often a reader reads a place in which keys change all the time.
    pub(super) const SLOT_TRIES: usize = 4;
}

/// Largest number of keys that a list tells. The names of twice as many may take 2 MiB for each list.
pub const TOP_MAX: usize = 1_000;
/// The number of keys that a list tells where nothing else is said.
pub const TOP_DEFAULT: usize = 100;

/// The list of all time, among the lists of a table. Those of windows follow, in the order of their rings.
const TOTAL: usize = 0;
/// Smallest number of candidates of a list: a key that comes often must not be driven out by each that comes once.
const CANDIDATES_MIN: usize = 16;
/// Moments that are remembered beyond the slots of a ring, so that those that count are not overwritten while they are
/// read.
const SPARE_MOMENTS: u64 = 4;

/// What lists a sketch has.
///
/// ```
/// use rmbd_sketch::{Geometry, HashFamily};
/// use rmbd_store::TopPlan;
///
/// let family = HashFamily::Xxh3 { seed: 7 };
/// let plan = TopPlan { top: 100, geometry: Geometry::DEFAULT, family, threads: 1, windows: &[] };
/// assert!(plan.memory_bytes() < 1 << 19); // with room for the names of 256 keys
/// assert_eq!(TopPlan { top: 0, ..plan }.memory_bytes(), 0);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TopPlan<'w> {
    /// Keys that a list tells, at most [`TOP_MAX`]; 0 is no list.
    pub top: usize,
    /// Width and depth of the sketch.
    pub geometry: Geometry,
    /// The hash family of the sketch. There are no lists where a key's cells do not follow from one hash
    /// ([`HashFamily::hash`]): FNV with more than 4 rows.
    pub family: HashFamily,
    /// Threads that add.
    pub threads: usize,
    /// The windows of the sketch, each of which has a list.
    pub windows: &'w [WindowPlan],
}

impl TopPlan<'_> {
    /// Bytes of all lists, with all that belongs to them. All of them are reserved when the sketch is made.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        if !self.has_lists() {
            return 0;
        }
        let table = Table::bytes_of(self.places(), self.moments());
        let names = Wanted::bytes_of(self.candidates(), self.places());
        self.seats() as u64 * table + names
    }

    /// Whether there are lists at all.
    #[must_use]
    pub fn has_lists(&self) -> bool {
        self.top > 0 && Self::can_list(self.family, self.geometry)
    }

    /// Whether a sketch of this hash family and size can have lists.
    #[must_use]
    pub fn can_list(family: HashFamily, geometry: Geometry) -> bool {
        family.hash(b"", geometry).is_some()
    }

    /// Candidates of a list: twice as many as it tells, rounded up to a power of two.
    fn candidates(&self) -> usize {
        (2 * self.top).next_power_of_two().max(CANDIDATES_MIN)
    }

    /// Places of a table. So many names are kept, too: for each list those of as many keys as a table has of it.
    fn places(&self) -> usize {
        self.candidates() * (1 + self.windows.len())
    }

    /// Of so many moments bounds are remembered, for each list of a table.
    fn moments(&self) -> impl Iterator<Item = usize> {
        [1].into_iter().chain(self.windows.iter().map(moments_of))
    }

    fn lanes(&self) -> usize {
        lanes_of(self.geometry, self.threads)
    }

    fn seats(&self) -> usize {
        Seats::count(self.geometry, self.threads)
    }
}

fn moments_of(window: &WindowPlan) -> usize {
    window.snapshots() + SPARE_MOMENTS as usize
}

/// All candidates of a replica, by their threads.
#[derive(Debug)]
pub(crate) struct Lists {
    top: usize,
    memory_bytes: u64,
    /// Candidates that one table has of one list at most.
    candidates: usize,
    /// One for each seat, those of lanes first.
    tables: Box<[Arc<Table>]>,
    lanes: usize,
    wanted: Arc<Wanted>,
    seed: u64,
    unlisted: CachePadded<AtomicU64>,
}

impl Lists {
    /// The lists of a plan, if it has any.
    pub(crate) fn try_new(
        plan: &TopPlan<'_>,
        memory: &MemoryShare,
    ) -> Result<Option<Self>, MemoryLimit> {
        if !plan.has_lists() {
            return Ok(None);
        }
        memory.reserve(plan.memory_bytes())?;
        let table = |_| Arc::new(Table::new(plan.places(), plan.moments()));
        Ok(Some(Self {
            top: plan.top,
            memory_bytes: plan.memory_bytes(),
            candidates: plan.candidates(),
            tables: (0..plan.seats()).map(table).collect(),
            lanes: plan.lanes(),
            wanted: Arc::new(Wanted::new(plan.candidates())),
            seed: match plan.family {
                HashFamily::Xxh3 { seed } => seed,
                HashFamily::Fnv => 0,
            },
            unlisted: CachePadded::default(),
        }))
    }

    pub(crate) fn top(&self) -> usize {
        self.top
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Whether names were told that the control thread has not taken.
    pub(crate) fn are_names_told(&self) -> bool {
        self.wanted.are_told()
    }

    /// The names that are wanted.
    pub(crate) fn wanted(&self) -> &Arc<Wanted> {
        &self.wanted
    }

    fn table(&self, seat: &Seat) -> &Arc<Table> {
        &self.tables[seat.number()]
    }

    /// A seed for what the thread of a seat draws.
    fn seed(&self, seat: &Seat) -> u64 {
        self.seed ^ (seat.number() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The tables of all threads.
    fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.iter()
    }

    /// The count above which a list has every key that was added here, for what was added since a moment: see the head
    /// of this file. The caller has read all candidates before.
    fn complete_above(&self, list: usize, moment: u64) -> u64 {
        let bound = |table: &Arc<Table>| table.lists()[list].bound_since(moment);
        let most =
            |tables: &[Arc<Table>]| tables.iter().map(bound).fold(Bound::default(), Bound::max);
        let complete_above = match list {
            TOTAL => {
                // Each lane has its part of a key, and the cells that all share another one.
                let (lanes, shared) = self.tables.split_at(self.lanes);
                let of_lanes = lanes.iter().map(|table| bound(table).sum());
                of_lanes.fold(most(shared).sum(), u64::saturating_add)
            }
            // Each thread has compared what all have added.
            _ => most(&self.tables).sum(),
        };
        complete_above.saturating_add(self.unlisted())
    }

    /// Keys that became candidates so far.
    fn entered(&self) -> u64 {
        let lists = self.tables().flat_map(|table| table.lists());
        lists.map(|list| list.entered()).fold(0, u64::wrapping_add)
    }

    /// Weight that was added by those who have no table.
    fn unlisted(&self) -> u64 {
        self.unlisted.load(Acquire)
    }

    pub(crate) fn note_unlisted(&self, weight: u64) {
        self.unlisted.fetch_add(weight, Release);
    }
}
