//! The candidates of one thread for one list, and the thresholds that were in force.

use super::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use super::slot::{Candidate, Slot};

/// A table that its thread writes and any thread reads. It is *complete above* its threshold: see the head of
/// `candidates`.
#[derive(Debug)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    /// The thresholds of the last moments, each at the place of its moment: see [`Table::begin`].
    records: Box<[Record]>,
    /// Keys that became candidates.
    entered: AtomicU64,
}

/// The largest threshold that was in force from one moment to the next.
#[derive(Debug)]
struct Record {
    moment: AtomicU64,
    threshold: AtomicU64,
}

impl Table {
    /// An empty table with so many places, which remembers the thresholds of so many moments.
    pub(super) fn new(places: usize, moments: usize) -> Self {
        let record = |_| Record {
            moment: AtomicU64::new(0),
            threshold: AtomicU64::new(0),
        };
        Self {
            slots: (0..places).map(|_| Slot::new()).collect(),
            records: (0..moments).map(record).collect(),
            entered: AtomicU64::new(0),
        }
    }

    /// Bytes of such a table.
    pub(super) fn bytes_of(places: usize, moments: usize) -> u64 {
        (places * size_of::<Slot>() + moments * size_of::<Record>()) as u64
    }

    /// The places.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The candidates as they are now. Any thread may call this. Whoever asks for a
    /// [threshold](Self::threshold_since) after it misses no key above that.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.slots.iter().filter_map(Slot::read)
    }

    /// The largest threshold that was in force since a moment. Any thread may call this, after it has read the
    /// candidates.
    pub(super) fn threshold_since(&self, moment: u64) -> u64 {
        fence(Acquire);
        let records = self.records.iter();
        let thresholds = records.map(|record| {
            // The moment is written behind the threshold.
            let began = record.moment.load(Acquire);
            if began >= moment {
                record.threshold.load(Relaxed)
            } else {
                0
            }
        });
        thresholds.max().unwrap_or_default()
    }

    /// Keys that became candidates so far. The number stands for itself.
    pub(super) fn entered(&self) -> u64 {
        self.entered.load(Relaxed)
    }
}

/// The calls of the one thread whose table it is.
impl Table {
    /// From this moment on, which is not before the one that began last, this threshold is in force.
    pub(super) fn begin(&self, moment: u64, threshold: u64) {
        let most = threshold.max(self.threshold_of(moment));
        let record = self.record(moment);
        record.threshold.store(most, Relaxed);
        record.moment.store(moment, Release);
    }

    /// The threshold that is in force is raised, before candidates leave. The moment is the one that began last.
    pub(super) fn raise(&self, moment: u64, threshold: u64) {
        let record = self.record(moment);
        let most = record.threshold.load(Relaxed).max(threshold);
        record.threshold.store(most, Relaxed);
        // This comes before what is cleared: see `slot`.
        fence(Release);
    }

    /// The largest threshold that was in force since a moment, if that one began last.
    pub(super) fn threshold_of(&self, moment: u64) -> u64 {
        let record = self.record(moment);
        match record.moment.load(Relaxed) == moment {
            true => record.threshold.load(Relaxed),
            false => 0,
        }
    }

    pub(super) fn note_entered(&self) {
        self.entered.store(self.entered() + 1, Relaxed);
    }

    fn record(&self, moment: u64) -> &Record {
        &self.records[(moment % self.records.len() as u64) as usize]
    }
}
