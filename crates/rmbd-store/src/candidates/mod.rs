//! Who is large: the keys with the largest counts, of all time and in each window.
//!
//! A sketch answers how often a key came, and knows no keys. So each thread that adds keeps a small table of
//! *candidates*, the keys with the largest counts that it has met, for each list. The sketch gives the counts and the
//! tables give the keys.
//!
//! ```text
//!    data thread     add ──> cells ──> last row's cell above the threshold? ──(seldom)──> all rows ──> candidates
//!                    key ──> wanted? ──(seldom)──> its bytes, into a bounded queue
//!    control thread  TopKeys: reads all candidates, asks for the bytes of those that it lacks, reads their counts
//! ```
//!
//! # Complete above a threshold
//!
//! Each table has a *threshold* T, at first 0. When weight has been added to a key, and the key's count in the cells
//! that the thread adds to (its own *part* of the sketch: a lane, or the cells that all threads share) is above T, the
//! key becomes a candidate with that count as its *estimate*, or its estimate is replaced. Where all places are taken,
//! the quarter with the least estimates leaves, and T is the largest estimate that has left. Then:
//!
//! > Every key of which more than T was added to that part is a candidate.
//!
//! *Proof*. Take a key of which c > T was added, and the last add of it. Behind that add its count was at least c, for
//! a count-min sketch is never too low; and above the threshold of that moment, since T only grows. So it was a
//! candidate then, with an estimate of at least c. It has not left since then: whoever leaves has an estimate of at
//! most T. That the estimate is as old as the last add does no harm: nothing was added since that it would have to
//! know, and if strangers in its cells have grown, a higher estimate would only keep it longer.
//!
//! *Ties* do no harm either. Those that leave are a quarter of the candidates, whatever their estimates are; of several
//! with the estimate T some may stay. An add whose count is T does not enter. So a change of candidates takes an add
//! that is above T, and every time that the table is full a quarter of the places becomes free: keys that come and go
//! at the threshold move it upwards.
//!
//! *Several threads*. Where threads share cells, the thread whose add comes last in the last row has seen all adds of
//! the key (`rmbd_sketch`, `added.rs`), so the key is in its table: the list is complete above the largest of the Ts.
//! A thread with a lane sees what it added itself. Of a key with more than the sum of the Ts, more than T was added in
//! one of the lanes: the list is complete above the sum. What somebody added who has no table ([`Lists::unlisted`])
//! adds its weight to the threshold, since a key may have all of it.
//!
//! *Only what was added on this node counts here*, not what others counted, although an answer has both. So the
//! lists of several nodes can be put together like those of lanes: the sum of the thresholds of all nodes is hardly
//! more than that of one node with all their adds. If each node compared its threshold with the counts of all, each
//! threshold would be as large as that sum. And a thread that adds need not look at others' counts.
//!
//! *What is not worth listing*. When a table is full, its T is at least epsilon * N: an estimate below that may be
//! nothing but strangers ([`Replica::error`](crate::Replica::error)). So keys that all come as often as each other,
//! or once, make no candidates, and cost a comparison.
//!
//! # Windows
//!
//! In a window the count is that of the time since the oldest snapshot of the ring, so it covers the window and up to
//! two steps more; and at most what came to the cell of the last row (`windows::last_rows`), by which most adds know
//! already that they need not look. A window forgets. So when a step is over, its thread compares all candidates with
//! the snapshot that is the oldest one now, some at each pause, and those of which nothing counts leave. Then a
//! quarter leaves if all places were taken, and T is the largest estimate that has left, or 0: *it comes down*. For
//! each step the largest T of it is remembered.
//!
//! > Every key of which more than M was added to that part in the window is a candidate, where M is the largest T that
//! > was in force since the window began.
//!
//! *Proof*. Take a key of which c > M was added in the window that ends now, and the last add of it, which was in the
//! window. The window of that moment had all of c in it, since it began before the one of now. So the key had a count
//! of at least c then, above the T of that moment, and became a candidate with it. Has it left since then? Not for want
//! of room, as above: whoever leaves has an estimate of at most the T that is then in force, which is at most M. Not
//! because nothing of it counted: c does. And when it was compared again, its estimate became what counted of it at
//! that moment, c at least.
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
use table::Table;

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
    /// Whether threads compare keys before they add them, since one of them adds nearly everything.
    compare_first: bool,
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
            compare_first: plan.threads <= 1,
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

    /// The names that are wanted.
    pub(crate) fn wanted(&self) -> &Arc<Wanted> {
        &self.wanted
    }

    fn table(&self, seat: &Seat) -> &Arc<Table> {
        &self.tables[seat.number()]
    }

    /// A seed for what a thread of a seat draws for a list.
    fn seed(&self, seat: &Seat, list: usize) -> u64 {
        let [number, list] = [seat.number(), list].map(|it| it as u64);
        self.seed ^ (number << 32 | list).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The tables of all threads.
    fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.iter()
    }

    /// The count above which a list has every key that was added here, for what was added since a moment: see the head
    /// of this file. The caller has read all candidates before.
    fn complete_above(&self, list: usize, moment: u64) -> u64 {
        let bound = |table: &Arc<Table>| table.lists()[list].bound_since(moment);
        let (lanes, shared) = self.tables.split_at(self.lanes);
        let [of_lanes, of_shared] = [lanes, shared].map(|tables| tables.iter().map(bound));
        let of_lanes = match list {
            // Each thread has compared what it added itself.
            TOTAL => of_lanes.fold(0, u64::saturating_add),
            // Each thread has compared what all have added.
            _ => of_lanes.max().unwrap_or_default(),
        };
        let of_shared = match list {
            TOTAL if self.compare_first => of_shared.fold(0, u64::saturating_add),
            _ => of_shared.max().unwrap_or_default(),
        };
        let bound = match list {
            TOTAL => of_lanes.saturating_add(of_shared),
            _ => of_lanes.max(of_shared),
        };
        bound.saturating_add(self.unlisted())
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
