//! Where which key is in a thread's table of candidates.

use std::sync::Arc;

use super::TOTAL;
use super::slot::{Entry, Slot};
use super::table::{SharedList, Table};

/// A place in a table.
pub(super) type Place = u32;
/// No place.
const NONE: Place = Place::MAX;
/// Words of bits that tell which keys may be candidates: one bit for each key. They take 8 KiB, a sixth of the cache
/// nearest to the core. A key that is none is taken for one with a probability of half a percent where a list
/// tells 100 keys, and of 3 percent where it tells 1 000; each costs a part of an add.
const WORDS: usize = 1 << 10;

/// The places of keys by their hashes. It allocates when it is made, and never again.
#[derive(Debug)]
pub(super) struct Keys {
    /// A bit for each key, by its hash.
    bits: Box<[u64; WORDS]>,
    /// Keys by hash, with more than twice as many entries as there are places (open addressing, linear probing).
    index: Box<[Indexed]>,
    free: Vec<Place>,
    table: Arc<Table>,
}

/// A key in the index.
#[derive(Debug, Clone, Copy)]
struct Indexed {
    place: Place,
    /// Whether it is in the list of all time.
    is_in_total: bool,
}

const EMPTY: Indexed = Indexed {
    place: NONE,
    is_in_total: false,
};

impl Keys {
    /// The keys of a table, which nobody else writes.
    pub(super) fn new(table: Arc<Table>) -> Self {
        let places = table.slots().len();
        let mut keys = Self {
            bits: Box::new([0; WORDS]),
            index: vec![EMPTY; (2 * places).next_power_of_two()].into(),
            free: Vec::with_capacity(places),
            table,
        };
        keys.tidy();
        keys
    }

    /// Whether a key with this hash may be a candidate.
    #[inline]
    pub(super) fn may_have(&self, hash: [u64; 2]) -> bool {
        let (word, bit) = bit_of(hash);
        self.bits[word] >> bit & 1 == 1
    }

    /// The place of a key, and whether it is in the list of all time.
    pub(super) fn find(&self, hash: [u64; 2]) -> Option<(Place, bool)> {
        if !self.may_have(hash) {
            return None;
        }
        let found = self.index[self.search(hash)];
        (found.place != NONE).then_some((found.place, found.is_in_total))
    }

    /// A key that is here is in the list of all time now.
    pub(super) fn note_in_total(&mut self, hash: [u64; 2]) {
        let at = self.search(hash);
        self.index[at].is_in_total = true;
    }

    /// Where a key is in the index, or would be.
    fn search(&self, hash: [u64; 2]) -> usize {
        let mask = self.index.len() - 1;
        let mut at = self.home(hash);
        // Half of all entries are empty at least.
        loop {
            let place = self.index[at].place;
            if place == NONE || self.slot(place).hash() == hash {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    /// Puts a key at a free place; `None` if there is none.
    pub(super) fn put(&mut self, hash: [u64; 2]) -> Option<Place> {
        let place = self.free.pop()?;
        self.slot(place).put(hash);
        self.insert(hash, place);
        Some(place)
    }

    #[inline]
    pub(super) fn slot(&self, place: Place) -> &Slot {
        &self.table.slots()[place as usize]
    }

    #[inline]
    pub(super) fn list(&self, number: usize) -> &SharedList {
        &self.table.lists()[number]
    }

    #[inline]
    pub(super) fn entry(&self, list: usize, place: Place) -> &Entry {
        &self.list(list).entries()[place as usize]
    }

    /// Finds out anew which keys are here, after some have entered or left a list. Those that are in no list any more
    /// have left.
    pub(super) fn tidy(&mut self) {
        self.index.fill(EMPTY);
        self.bits.fill(0);
        self.free.clear();
        let places = self.table.slots().len() as Place;
        for place in (0..places).rev() {
            let mut lists = self.table.lists().iter();
            let is_there = lists.any(|list| list.entries()[place as usize].estimate() > 0);
            if is_there {
                self.insert(self.slot(place).hash(), place);
            } else {
                self.free.push(place);
            }
        }
    }

    fn insert(&mut self, hash: [u64; 2], place: Place) {
        let at = self.search(hash);
        let is_in_total = self.entry(TOTAL, place).estimate() > 0;
        self.index[at] = Indexed { place, is_in_total };
        let (word, bit) = bit_of(hash);
        self.bits[word] |= 1 << bit;
    }

    /// The first entry where a key may be. Both halves count: of some families the lower one alone is no hash.
    fn home(&self, [low, high]: [u64; 2]) -> usize {
        // Fibonacci hashing; the length is a power of two.
        let mixed = (low ^ high).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.index.len() - 1)
    }
}

/// The word and the number of a key's bit.
#[inline]
fn bit_of([_, high]: [u64; 2]) -> (usize, u64) {
    // What is above the word falls off, and a number is taken modulo 64 where it is shifted by.
    ((high >> 54) as usize % WORDS, high % u64::BITS as u64)
}
