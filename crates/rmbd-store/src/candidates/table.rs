//! The candidates of one thread, which it writes and any thread reads.

use super::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use super::slot::{Candidate, Entry, Slot};

/// The keys that are candidates of some list, and the lists.
#[derive(Debug)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    lists: Box<[SharedList]>,
}

/// Above what a list is complete: see the head of `candidates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bound {
    /// A key enters that is looked at with an estimate above this.
    pub(super) threshold: u64,
    /// A key is looked at before so much more is added to it.
    pub(super) slack: u64,
}

/// What one list has of the keys in a table. It is complete above its *bounds*.
#[derive(Debug)]
pub(super) struct SharedList {
    /// One for each place of the table.
    entries: Box<[Entry]>,
    /// The bounds of the last moments, each at the place of its moment.
    records: Box<[Record]>,
    /// Keys that became candidates.
    entered: AtomicU64,
}

/// The largest bound that held from one moment to the next.
#[derive(Debug)]
struct Record {
    moment: AtomicU64,
    threshold: AtomicU64,
    slack: AtomicU64,
}

impl Bound {
    /// The count above which a list is complete.
    pub(super) fn sum(self) -> u64 {
        self.threshold.saturating_add(self.slack)
    }

    /// What both do not pass.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            threshold: self.threshold.max(other.threshold),
            slack: self.slack.max(other.slack),
        }
    }
}

impl Record {
    fn bound(&self) -> Bound {
        Bound {
            threshold: self.threshold.load(Relaxed),
            slack: self.slack.load(Relaxed),
        }
    }

    fn set(&self, bound: Bound) {
        self.threshold.store(bound.threshold, Relaxed);
        self.slack.store(bound.slack, Relaxed);
    }
}

impl Table {
    /// An empty table with so many places, and with a list for each number of moments of which bounds are remembered.
    pub(super) fn new(places: usize, moments: impl Iterator<Item = usize>) -> Self {
        Self {
            slots: (0..places).map(|_| Slot::new()).collect(),
            lists: moments
                .map(|moments| SharedList::new(places, moments))
                .collect(),
        }
    }

    /// Bytes of such a table.
    pub(super) fn bytes_of(places: usize, moments: impl Iterator<Item = usize>) -> u64 {
        let list = |moments| places * size_of::<Entry>() + moments * size_of::<Record>();
        let lists: usize = moments.map(list).sum();
        (places * size_of::<Slot>() + lists) as u64
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn lists(&self) -> &[SharedList] {
        &self.lists
    }

    /// The candidates of a list as they are now. Any thread may call this. Whoever asks for a
    /// [bound](SharedList::bound_since) after it misses no key above that.
    pub(super) fn candidates(&self, list: usize) -> impl Iterator<Item = Candidate> + '_ {
        let entries = self.lists.get(list).map(|list| &list.entries);
        let entries = entries.into_iter().flatten();
        let places = self.slots.iter().zip(entries);
        places.filter_map(|(slot, entry)| slot.read(entry))
    }
}

impl SharedList {
    fn new(places: usize, moments: usize) -> Self {
        let record = |_| Record {
            moment: AtomicU64::new(0),
            threshold: AtomicU64::new(0),
            slack: AtomicU64::new(0),
        };
        Self {
            entries: (0..places).map(|_| Entry::new()).collect(),
            records: (0..moments).map(record).collect(),
            entered: AtomicU64::new(0),
        }
    }

    /// What no bound passed that held since a moment. Any thread may call this, after it has read the candidates.
    pub(super) fn bound_since(&self, moment: u64) -> Bound {
        fence(Acquire);
        let bounds = self.records.iter().map(|record| {
            // The moment is written behind the bound.
            let began = record.moment.load(Acquire);
            if began >= moment {
                record.bound()
            } else {
                Bound::default()
            }
        });
        bounds.fold(Bound::default(), Bound::max)
    }

    /// Keys that became candidates so far. The number stands for itself.
    pub(super) fn entered(&self) -> u64 {
        self.entered.load(Relaxed)
    }
}

/// The calls of the one thread whose table it is.
impl SharedList {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// From this moment on, which is not before the one that began last, this bound holds.
    pub(super) fn begin(&self, moment: u64, bound: Bound) {
        let most = bound.max(self.bound_of(moment));
        let record = self.record(moment);
        record.set(most);
        record.moment.store(moment, Release);
    }

    /// The bound is raised, before candidates leave. The moment is the one that began last.
    pub(super) fn raise(&self, moment: u64, bound: Bound) {
        let record = self.record(moment);
        record.set(record.bound().max(bound));
        // This comes before estimates of 0: see `slot`.
        fence(Release);
    }

    /// What no bound passed that held since a moment, if that one began last.
    pub(super) fn bound_of(&self, moment: u64) -> Bound {
        let record = self.record(moment);
        match record.moment.load(Relaxed) == moment {
            true => record.bound(),
            false => Bound::default(),
        }
    }

    pub(super) fn note_entered(&self) {
        self.entered.store(self.entered() + 1, Relaxed);
    }

    fn record(&self, moment: u64) -> &Record {
        &self.records[(moment % self.records.len() as u64) as usize]
    }
}
