//! The counts of one thread and one limit, which one thread writes and any thread reads.

use std::hint::spin_loop;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// Places of a set: a look at a key goes over all of them, which are four cache lines.
const WAYS: usize = 8;
/// Sets of a table, a power of two: with as many as that, one of the 100 keys that a list may have displaces another
/// in hardly any table.
pub(super) const SETS: usize = 32;

/// The tag of a table that begins anew.
const BEGINS: u64 = u64::MAX;

/// What was read of a table.
pub(super) type Read = [[Seen; WAYS]; SETS];

/// The tables of two spans: that of an even number, and that of an odd one.
#[derive(Debug, Default)]
pub(super) struct Spans([Table; 2]);

/// The counts of one span.
#[derive(Debug, Default)]
struct Table {
    /// Its span and 1; 0 is none, and [`BEGINS`] one that is not there yet.
    tag: AtomicU64,
    sets: [Set; SETS],
}

/// Some keys: Space-Saving (Metwally, Agrawal and El Abbadi 2005). A key that is new takes the place of the one with
/// the least count, and goes on from that.
#[derive(Debug, Default)]
struct Set {
    /// It is odd while a place gets another key.
    version: AtomicU64,
    places: [Place; WAYS],
}

#[derive(Debug, Default)]
pub(super) struct Place {
    /// 0 is no key.
    hash: AtomicU64,
    count: AtomicU64,
    /// The count that the key found.
    floor: AtomicU64,
    /// Whether the key's name was told; only the thread that writes asks.
    is_told: AtomicBool,
}

/// A place as it was at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) hash: u64,
    pub(super) count: u64,
    pub(super) floor: u64,
}

impl Spans {
    /// Counts a key in a span. Only the one thread that writes calls this.
    pub(super) fn add(&self, hash: u64, span: u64) -> &Place {
        let table = &self.0[(span % 2) as usize];
        let tag = tag_of(span);
        // Whoever is late counts in the newer span.
        if table.tag.load(Relaxed) < tag {
            table.begin(tag);
        }
        table.set(hash).add(hash)
    }

    /// The newest span in which something was counted.
    pub(super) fn newest(&self) -> Option<u64> {
        let tags = self.0.iter().map(|table| table.tag.load(Acquire));
        tags.filter(|&tag| tag != BEGINS).max()?.checked_sub(1)
    }

    /// The tables of this span and the one before it; `None` if one is of a newer span, or begins one meanwhile.
    pub(super) fn read(&self, span: u64) -> Option<[Option<Read>; 2]> {
        let tag = tag_of(span);
        let mut read = [None, None];
        for (read, table) in read.iter_mut().zip(&self.0) {
            let found = table.tag.load(Acquire);
            if found > tag {
                return None;
            }
            if found > 0 && found + 1 >= tag {
                *read = Some(table.sets.each_ref().map(Set::read));
                fence(Acquire);
                if table.tag.load(Relaxed) != found {
                    return None;
                }
            }
        }
        Some(read)
    }

    /// The keys of both tables, whatever their spans are.
    pub(super) fn hashes(&self) -> impl Iterator<Item = u64> {
        let sets = self.0.iter().flat_map(|table| &table.sets);
        let places = sets.flat_map(|set| &set.places);
        // Relaxed: whoever has heard of a key in a queue finds it here, or it has gone again.
        let hashes = places.map(|place| place.hash.load(Relaxed));
        hashes.filter(|&hash| hash != 0)
    }
}

impl Table {
    fn set(&self, hash: u64) -> &Set {
        &self.sets[hash as usize % SETS]
    }

    fn begin(&self, tag: u64) {
        self.tag.store(BEGINS, Relaxed);
        // Whoever sees that something is gone sees that tag, too, or a later one.
        fence(Release);
        for set in &self.sets {
            set.change(|| {
                for place in &set.places {
                    place.fill(Seen::default());
                }
            });
        }
        // Whoever sees this tag sees that all of it is gone.
        self.tag.store(tag, Release);
    }
}

impl Set {
    fn add(&self, hash: u64) -> &Place {
        let mut least = &self.places[0];
        for place in &self.places {
            if place.hash.load(Relaxed) == hash {
                let count = place.count.load(Relaxed);
                place.count.store(count.saturating_add(1), Relaxed);
                return place;
            }
            if place.count.load(Relaxed) < least.count.load(Relaxed) {
                least = place;
            }
        }
        let floor = least.count.load(Relaxed);
        let count = floor.saturating_add(1);
        self.change(|| least.fill(Seen { hash, count, floor }));
        least
    }

    /// Makes changes that nobody sees in part. Counts of keys that stay may grow at any time.
    fn change(&self, change: impl FnOnce()) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        // Whoever sees a part of the change sees the odd version, or that of the end.
        fence(Release);
        change();
        self.version.store(version.wrapping_add(2), Release);
    }

    fn read(&self) -> [Seen; WAYS] {
        loop {
            let version = self.version.load(Acquire);
            let seen = self.places.each_ref().map(Place::read);
            fence(Acquire);
            if version.is_multiple_of(2) && self.version.load(Relaxed) == version {
                return seen;
            }
            spin_loop();
        }
    }
}

fn tag_of(span: u64) -> u64 {
    // Time does not get so far.
    span.min(BEGINS - 2) + 1
}

impl Place {
    pub(super) fn is_told(&self) -> bool {
        self.is_told.load(Relaxed)
    }

    pub(super) fn set_told(&self) {
        self.is_told.store(true, Relaxed);
    }

    fn fill(&self, seen: Seen) {
        self.hash.store(seen.hash, Relaxed);
        self.count.store(seen.count, Relaxed);
        self.floor.store(seen.floor, Relaxed);
        self.is_told.store(false, Relaxed);
    }

    fn read(&self) -> Seen {
        Seen {
            hash: self.hash.load(Relaxed),
            count: self.count.load(Relaxed),
            floor: self.floor.load(Relaxed),
        }
    }
}
