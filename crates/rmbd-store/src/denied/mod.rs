//! Which keys limits with names deny most often, on this node alone.
//!
//! ```text
//!    a thread's seat ── note(key) ──> its table of the limit, of this span     names that wait ──> names
//!                                              |                     └─────────────^               |
//!                                              └──────────── list: merged, with names <────────────┘
//! ```
//!
//! Each thread counts in tables of its own (Space-Saving, in sets), so that nobody waits for anybody. Time comes in as
//! the number of a *span*; a list tells of the newest span and the one before it, so that it says who is denied of
//! late. Only entries of tables have names: a thread copies the bytes of a key that is new in its table into a bounded
//! queue, and where that is full it does so at the key's next hit.

mod names;
mod table;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use self::names::Names;
use self::table::{Read, SETS, Spans};
use rmbd_sketch::{Geometry, HashFamily};

/// The largest number of keys that are told of one limit: a fraction of a table's places, so that as many keys seldom
/// displace each other.
pub const DENIED_MAX: usize = 100;

/// A data thread has a session for datagrams, and one for connections.
const SEATS_A_THREAD: usize = 2;
/// Seats beyond those of the data threads: one of the thread of HTTP, and some for a program that hits in its node.
const SPARE_SEATS: usize = 4;

/// What all limits of a node share: the seats of threads, and the names of denied keys.
#[derive(Debug)]
pub struct DeniedBook {
    /// Its seed is known here only, so that nobody can choose keys that meet in one set.
    family: HashFamily,
    are_taken: Box<[AtomicBool]>,
    names: Names,
    limits: AtomicU64,
}

/// The counts of one limit. They are gone when it is dropped.
#[derive(Debug)]
pub struct DeniedKeys {
    /// Its number: no other counts of the same book have it.
    limit: u64,
    seats: Box<[Spans]>,
    /// Hits of whoever has no seat, and of keys that are too long, since ever.
    unlisted: AtomicU64,
}

/// A thread's right to count in the tables of a seat.
#[derive(Debug)]
pub struct DeniedSeat {
    book: Arc<DeniedBook>,
    /// `None` where no seat was free.
    number: Option<usize>,
}

/// The keys that a limit denied most often in two spans.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeniedList {
    /// The newer of the spans. The list tells of the one before it, too.
    pub span: u64,
    /// Denied hits of all keys in these spans.
    pub denied: u64,
    /// Every key that was denied more often in these spans is in `keys`.
    pub complete_above: u64,
    /// Number of keys that are known; `keys` may be fewer.
    pub listed: usize,
    /// The keys, those that were certainly denied most often first.
    pub keys: Vec<DeniedKey>,
}

/// One key of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedKey {
    /// Its bytes; `None` if there was no room for them yet.
    pub name: Option<Box<[u8]>>,
    /// It was denied at least as often.
    pub at_least: u64,
    /// It was denied at most as often.
    pub at_most: u64,
}

impl DeniedBook {
    /// A book for this many data threads, with a seed that nobody knows.
    #[must_use]
    pub fn new(threads: usize, seed: u64) -> Self {
        Self {
            family: HashFamily::Xxh3 { seed },
            are_taken: (0..seats(threads))
                .map(|_| AtomicBool::new(false))
                .collect(),
            names: Names::new(),
            limits: AtomicU64::new(0),
        }
    }

    /// Bytes of the counts of this many limits, and of the names at most.
    #[must_use]
    pub fn memory_bytes(threads: usize, limits: usize) -> u64 {
        let tables = limits * seats(threads) * size_of::<Spans>();
        tables as u64 + Names::MEMORY_BYTES
    }

    /// Empty counts of a limit. This allocates all that they ever need.
    #[must_use]
    pub fn limit(&self) -> DeniedKeys {
        DeniedKeys {
            limit: self.limits.fetch_add(1, Relaxed),
            seats: self.are_taken.iter().map(|_| Spans::default()).collect(),
            unlisted: AtomicU64::new(0),
        }
    }

    /// Takes a seat for a thread, until it is dropped. Where none is free, what is noted has no name.
    #[must_use]
    pub fn seat(self: &Arc<Self>) -> DeniedSeat {
        let is_free = |is_taken: &AtomicBool| {
            // Acquire pairs with the Release at the end of a seat: this thread goes on with what the last one left.
            let exchanged = is_taken.compare_exchange(false, true, Acquire, Relaxed);
            exchanged.is_ok()
        };
        DeniedSeat {
            number: self.are_taken.iter().position(is_free),
            book: Arc::clone(self),
        }
    }

    /// Takes over the names that wait, so that there is room for others. `all` are the counts of all limits: where the
    /// names get many, those of keys that are in no table are forgotten.
    pub fn take_names<'k>(&self, all: impl Iterator<Item = &'k DeniedKeys>) {
        if self.names.take() {
            self.forget_others(all);
        }
    }

    /// Forgets the names of keys that are in no table of `all` limits.
    pub fn forget_others<'k>(&self, all: impl Iterator<Item = &'k DeniedKeys>) {
        let known = |keys: &DeniedKeys| {
            let places = keys.seats.iter().flat_map(Spans::hashes);
            places
                .map(|hash| (keys.limit, hash))
                .collect::<HashSet<_>>()
        };
        let known: HashSet<_> = all.flat_map(known).collect();
        self.names.retain(|key| known.contains(&key));
    }

    /// The keys of a limit that were denied most often in this span, or a newer one if there is one, and in the one
    /// before it; at most `most` and [`DENIED_MAX`].
    #[must_use]
    pub fn list(&self, keys: &DeniedKeys, span: u64, most: usize) -> DeniedList {
        let (span, tables) = keys.read(span);
        let mut bounds = Bounds::of(&tables);
        let unlisted = keys.unlisted.load(Relaxed);
        let (listed, most) = (bounds.keys.len(), most.min(DENIED_MAX));
        let cut = bounds.keys.split_off(most.min(listed));
        let cut = cut.iter().map(|key| key.at_most).max().unwrap_or_default();
        // The names of keys that came a moment ago wait yet.
        self.names.take();
        let hashes = bounds.keys.iter().map(|key| (keys.limit, key.hash));
        let names = self.names.find(hashes);
        let told = bounds.keys.iter().zip(names).map(|(key, name)| DeniedKey {
            name,
            at_least: key.at_least,
            at_most: key.at_most.saturating_add(unlisted),
        });
        DeniedList {
            span,
            denied: bounds.denied.saturating_add(unlisted),
            complete_above: bounds.missed.max(cut).saturating_add(unlisted),
            listed,
            keys: told.collect(),
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let hash = self.family.hash(key, Geometry::DEFAULT).unwrap_or_default();
        let [low, _] = hash.halves();
        // 0 stands for no key.
        low.max(1)
    }
}

impl DeniedKeys {
    /// The tables of the newest span and the one before it, and which that is: this one, or a newer one.
    fn read(&self, span: u64) -> (u64, Vec<Read>) {
        let newest = |span: u64| {
            let newest = self.seats.iter().filter_map(Spans::newest).max();
            newest.map_or(span, |newest| newest.max(span))
        };
        loop {
            let span = newest(span);
            let read = self.seats.iter().map(|tables| tables.read(span));
            let read: Option<Vec<_>> = read.collect();
            // A thread begins a newer span where this has failed.
            if let Some(read) = read {
                return (span, read.into_iter().flatten().flatten().collect());
            }
        }
    }
}

impl DeniedSeat {
    /// Notes a denied hit of `key` in this span. This allocates nothing, and waits for nobody.
    #[cold]
    pub fn note(&mut self, keys: &DeniedKeys, key: &[u8], span: u64) {
        let seat = self.number.and_then(|number| keys.seats.get(number));
        let (Some(tables), true) = (seat, Names::takes(key)) else {
            // Relaxed: the number stands for itself.
            keys.unlisted.fetch_add(1, Relaxed);
            return;
        };
        let hash = self.book.hash(key);
        let place = tables.add(hash, span);
        if !place.is_told() && self.book.names.tell((keys.limit, hash), key) {
            place.set_told();
        }
    }
}

impl Drop for DeniedSeat {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.book.are_taken[number].store(false, Release);
        }
    }
}

/// What tables say of all keys together.
struct Bounds {
    keys: Vec<KeyBounds>,
    /// No key that is in no table was denied more often.
    missed: u64,
    denied: u64,
}

struct KeyBounds {
    hash: u64,
    at_least: u64,
    at_most: u64,
}

impl Bounds {
    fn of(tables: &[Read]) -> Self {
        let mut bounds = Self {
            keys: Vec::new(),
            missed: 0,
            denied: 0,
        };
        for set in 0..SETS {
            let sets = || tables.iter().map(|table| &table[set]);
            // A key that is not in a set has been there at most as often as the least of those that are.
            let least = sets().map(|set| set.iter().map(|place| place.count).min().unwrap_or(0));
            let missed: u64 = least.clone().sum();
            let mut keys = BTreeMap::new();
            for (places, least) in sets().zip(least) {
                for place in places.iter().filter(|place| place.hash != 0) {
                    let (at_least, at_most) = keys.entry(place.hash).or_insert((0, missed));
                    *at_least += place.count.saturating_sub(place.floor);
                    *at_most += place.count - least;
                    bounds.denied += place.count;
                }
            }
            bounds.missed = bounds.missed.max(missed);
            let keys = keys.into_iter();
            bounds
                .keys
                .extend(keys.map(|(hash, (at_least, at_most))| KeyBounds {
                    hash,
                    at_least,
                    at_most,
                }));
        }
        let order = |key: &KeyBounds| (Reverse((key.at_least, key.at_most)), key.hash);
        bounds.keys.sort_unstable_by_key(order);
        bounds
    }
}

fn seats(threads: usize) -> usize {
    SEATS_A_THREAD * threads + SPARE_SEATS
}
