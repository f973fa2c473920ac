//! The exact counts of one thread, which it writes and any thread reads without waiting.
//!
//! ```text
//!    thread    adds      writes what is begun, then a Release fence, adds to cells, writes what is done (Release)
//!              drops     makes the turn odd, then a Release fence, moves what stays, makes the turn even (Release)
//!    reader    turn (Acquire), done (Acquire), turn: anew if it was odd or has changed
//!              cells, an Acquire fence
//!              turn (Acquire), begun, turn: as above
//! ```
//!
//! So what is read as done is in the cells that are read behind it, and of what is in those nothing lacks in what is
//! read as begun behind them: where both are equal, the key's own part of the cells is known exactly.
//!
//! This file uses nothing but atomics, so that a model checker can run it (`tests/loom_audit.rs`).

use super::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence, try_zeroed,
};
use super::sample::tag_of;
use rmbd_sketch::SketchError;

/// A place in a table.
pub(super) type Place = usize;

/// Keys by hash (open addressing, linear probing), with their counts. Pages in which no key was ever put cost nothing.
#[derive(Debug)]
pub(super) struct Table {
    /// Odd while keys leave.
    turn: AtomicU64,
    keys: AtomicU64,
    /// The words of all slots, a power of two of those. A quarter of the slots is empty at least.
    words: Box<[AtomicU64]>,
}

/// Words of a slot: what is begun, what is done, and the hash.
const SLOT_WORDS: usize = 4;

#[derive(Debug)]
struct Slot<'a> {
    /// What is added, or about to be; 0 where no key is here. The hash is written before it.
    begun: &'a AtomicU64,
    done: &'a AtomicU64,
    hash: [&'a AtomicU64; 2],
}

impl Table {
    /// An empty table with so many places, a power of two and at least 4.
    pub(super) fn try_new(places: usize) -> Result<Self, SketchError> {
        Ok(Self {
            turn: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            words: try_zeroed(places * SLOT_WORDS)?,
        })
    }

    /// Places of the table.
    fn len(&self) -> usize {
        self.words.len() / SLOT_WORDS
    }

    fn slot(&self, place: Place) -> Slot<'_> {
        let (slots, _) = self.words.as_chunks::<SLOT_WORDS>();
        let [begun, done, low, high] = &slots[place];
        Slot {
            begun,
            done,
            hash: [low, high],
        }
    }

    /// Bytes of such a table.
    pub(super) fn bytes_of(places: usize) -> u64 {
        (places * SLOT_WORDS * size_of::<u64>()) as u64
    }

    /// Calls `each` with the hash of each key. Returns whether that were all of them: false where keys just left.
    pub(super) fn for_each(&self, mut each: impl FnMut([u64; 2])) -> bool {
        if self.keys.load(Relaxed) == 0 {
            return true;
        }
        let read = self.calmly(|| {
            let slots = (0..self.len()).map(|place| self.slot(place));
            let here = slots.filter(|slot| slot.begun.load(Acquire) > 0);
            here.for_each(|slot| each(slot.hash()));
        });
        read.is_some()
    }

    /// What was added to a key for certain. `None` while keys leave.
    pub(super) fn done(&self, hash: [u64; 2]) -> Option<u64> {
        self.calmly(|| self.read(hash, |slot| slot.done.load(Acquire)))
    }

    /// What was added to a key, or is being added. `None` while keys leave.
    pub(super) fn begun(&self, hash: [u64; 2]) -> Option<u64> {
        self.calmly(|| self.read(hash, |slot| slot.begun.load(Relaxed)))
    }

    fn read(&self, hash: [u64; 2], read: impl FnOnce(&Slot<'_>) -> u64) -> u64 {
        if self.keys.load(Relaxed) == 0 {
            return 0;
        }
        let found = self.search(hash);
        found.map_or(0, |(place, is_here)| match is_here {
            true => read(&self.slot(place)),
            false => 0,
        })
    }

    /// Reads something, if no keys leave meanwhile.
    fn calmly<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        let turn = self.turn.load(Acquire);
        let read = read();
        fence(Acquire);
        let is_calm = turn.is_multiple_of(2) && self.turn.load(Relaxed) == turn;
        is_calm.then_some(read)
    }

    /// Where a key is, or would be, and whether it is there.
    fn search(&self, hash: [u64; 2]) -> Option<(Place, bool)> {
        let mask = self.len() - 1;
        let home = (tag_of(hash) >> 32) as usize;
        // There is an empty place always, but for who reads while keys leave.
        let mut places = (home..home + self.len()).map(|place| place & mask);
        places.find_map(|place| {
            let slot = self.slot(place);
            if slot.begun.load(Acquire) == 0 {
                return Some((place, false));
            }
            (slot.hash() == hash).then_some((place, true))
        })
    }
}

/// The calls of the one thread whose table it is.
impl Table {
    /// Begins to add to a key. The weight is not 0. `None` where all places are taken and the key has none.
    pub(super) fn begin(&self, hash: [u64; 2], weight: u64) -> Option<Place> {
        let (place, is_here) = self.search(hash)?;
        let slot = self.slot(place);
        if !is_here {
            let keys = self.keys.load(Relaxed);
            if keys >= keys_max(self.len()) {
                return None;
            }
            self.keys.store(keys + 1, Relaxed);
            slot.name(hash);
        }
        let begun = slot.begun.load(Relaxed);
        // Release: the hash was written before.
        slot.begun.store(begun + weight, Release);
        // And this comes before the cells.
        fence(Release);
        Some(place)
    }

    /// The weight has been added to the cells.
    pub(super) fn end(&self, place: Place, weight: u64) {
        let slot = self.slot(place);
        let done = slot.done.load(Relaxed);
        slot.done.store(done + weight, Release);
    }

    /// Drops the keys whose tags are not below this. Nothing is being added.
    pub(super) fn keep(&self, below: u64) {
        if self.keys.load(Relaxed) == 0 {
            return;
        }
        let turn = self.turn.load(Relaxed);
        self.turn.store(turn + 1, Relaxed);
        fence(Release);
        self.move_what_stays(below);
        self.turn.store(turn + 2, Release);
    }

    /// Each run of keys is gone over from its beginning, so that a key moves towards the place that its hash names,
    /// or stays: no key that is gone over later lies between.
    fn move_what_stays(&self, below: u64) {
        let mask = self.len() - 1;
        let mut slots = (0..self.len()).map(|place| self.slot(place));
        let empty = slots.position(|slot| slot.begun.load(Relaxed) == 0);
        let first = empty.unwrap_or_default() + 1;
        let mut keys = 0;
        for place in first..first + mask {
            let Some((hash, done)) = self.slot(place & mask).take() else {
                continue;
            };
            if tag_of(hash) < below
                && let Some((place, _)) = self.search(hash)
            {
                self.slot(place).put(hash, done);
                keys += 1;
            }
        }
        self.keys.store(keys, Relaxed);
    }
}

impl Slot<'_> {
    fn hash(&self) -> [u64; 2] {
        self.hash.map(|half| half.load(Relaxed))
    }

    fn name(&self, hash: [u64; 2]) {
        for (half, value) in self.hash.iter().zip(hash) {
            half.store(value, Relaxed);
        }
    }

    /// Takes out the key that is here, with what was added to it.
    fn take(&self) -> Option<([u64; 2], u64)> {
        let done = self.done.load(Relaxed);
        let is_here = self.begun.load(Relaxed) > 0;
        self.begun.store(0, Relaxed);
        self.done.store(0, Relaxed);
        is_here.then(|| (self.hash(), done))
    }

    fn put(&self, hash: [u64; 2], done: u64) {
        self.name(hash);
        self.done.store(done, Relaxed);
        self.begun.store(done, Release);
    }
}

/// Keys that so many places take: with more, searches would become long.
fn keys_max(places: usize) -> u64 {
    (places / 4 * 3) as u64
}
