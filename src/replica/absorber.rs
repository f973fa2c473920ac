//! Keys that come again soon: their weights are summed here, and go into the sketch once.
//!
//! Where few keys make up most of the traffic (Zipf), all threads fight for the same few cache lines of
//! the sketch, and one core's line moves to the other with every add. A thread's absorber is its own: a
//! small table, direct-mapped by a cell index, of the keys that it has seen last. A key that is there
//! costs a comparison and an addition in the nearest cache.
//!
//! A key is known by its cell indexes: two keys with the same ones are the same to the sketch. So
//! nothing here is approximate, and both hash families are served.

use crate::sketch::{Geometry, MAX_WEIGHT};

/// Places, a power of two. With depth 4 they take 20 KiB, which leaves room in a first-level cache.
const PLACES: usize = 1 << 10;
/// Deeper sketches are not absorbed: their entries would fill the cache that makes this fast.
const DEPTH_MAX: usize = 8;

/// Adds between two looks at whether absorbing pays.
const PERIOD: u32 = 1 << 12;
/// Absorbed adds of a period from which it pays (`benches/threads.rs`).
const PAYS_FROM: u32 = PERIOD / 8;
/// Periods that are left out where it did not pay.
const PAUSE_PERIODS: u32 = 16;

/// One thread's table. Allocates when it is made, and never again.
#[derive(Debug)]
pub(super) struct Absorber {
    /// The cell indexes of each place, `depth` of them, one place after the other.
    cells: Box<[u32]>,
    /// The summed weight of each place; 0 is an empty one.
    weights: Box<[u32]>,
    /// Places that were filled since the table was last emptied, each once; some may be empty again.
    filled: Vec<u16>,
    is_listed: Box<[bool]>,
    adds: u32,
    hits: u32,
    /// Adds that still go by unlooked at.
    pause: u32,
}

impl Absorber {
    pub(super) fn new() -> Self {
        Self {
            cells: vec![0; PLACES * DEPTH_MAX].into_boxed_slice(),
            weights: vec![0; PLACES].into_boxed_slice(),
            filled: Vec::with_capacity(PLACES),
            is_listed: vec![false; PLACES].into_boxed_slice(),
            adds: 0,
            hits: 0,
            pause: 0,
        }
    }

    /// Takes an add of a checked weight to a key's cells, always of the same sketch. `None`: nothing
    /// is to be done now. `Some`: this weight has to be added to what `cells` hold then, the key's own
    /// or those of another one that made room for it.
    #[inline]
    pub(super) fn add(&mut self, cells: &mut [u32], weight: u32) -> Option<u32> {
        if self.pause > 0 || cells.len() > DEPTH_MAX {
            self.pause = self.pause.saturating_sub(1);
            return Some(weight);
        }
        self.review();
        let place = place(cells);
        let there = self.weights[place];
        let depth = cells.len();
        let theirs = &mut self.cells[place * depth..(place + 1) * depth];
        if there > 0 && equal(theirs, cells) && there + weight <= MAX_WEIGHT {
            self.hits += 1;
            self.weights[place] = there + weight;
            return None;
        }
        self.weights[place] = weight;
        swap(theirs, cells);
        if !self.is_listed[place] {
            self.is_listed[place] = true;
            self.filled.push(place as u16);
        }
        (there > 0).then_some(there)
    }

    /// Gives out what is absorbed for a key, 0 if nothing is: a count of it comes next.
    #[inline]
    pub(super) fn release(&mut self, cells: &[u32]) -> u32 {
        if cells.len() > DEPTH_MAX {
            return 0;
        }
        let place = place(cells);
        if self.weights[place] == 0 || !equal(self.cells_of(place, cells.len()), cells) {
            return 0;
        }
        std::mem::take(&mut self.weights[place])
    }

    /// Gives out one of all that are absorbed; `None` when it is empty.
    #[inline]
    pub(super) fn pop(&mut self, depth: usize) -> Option<(&[u32], u32)> {
        loop {
            let place = usize::from(self.filled.pop()?);
            self.is_listed[place] = false;
            let weight = std::mem::take(&mut self.weights[place]);
            if weight > 0 {
                return Some((self.cells_of(place, depth), weight));
            }
        }
    }

    #[inline]
    fn cells_of(&self, place: usize, depth: usize) -> &[u32] {
        &self.cells[place * depth..(place + 1) * depth]
    }

    /// Once a period: does it pay?
    #[inline]
    fn review(&mut self) {
        self.adds += 1;
        if self.adds == PERIOD {
            if self.hits < PAYS_FROM {
                self.pause = PERIOD * PAUSE_PERIODS;
            }
            self.adds = 0;
            self.hits = 0;
        }
    }
}

/// The first row's column, from the hash's upper bits, is as good as a hash of its own.
#[inline]
fn place(cells: &[u32]) -> usize {
    cells.first().map_or(0, |&cell| cell as usize % PLACES)
}

/// The default depth, for which comparing and copying is one instruction.
type Usual = [u32; Geometry::DEFAULT.depth()];

#[inline]
fn equal(one: &[u32], other: &[u32]) -> bool {
    match (Usual::try_from(one), Usual::try_from(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

#[inline]
fn swap(one: &mut [u32], other: &mut [u32]) {
    match (
        <&mut Usual>::try_from(&mut *one),
        <&mut Usual>::try_from(&mut *other),
    ) {
        (Ok(one), Ok(other)) => std::mem::swap(one, other),
        _ => one.swap_with_slice(other),
    }
}

/// Of two slices of one length.
#[inline]
pub(super) fn copy(from: &[u32], to: &mut [u32]) {
    match (Usual::try_from(from), <&mut Usual>::try_from(&mut *to)) {
        (Ok(from), Ok(to)) => *to = from,
        _ => to.copy_from_slice(from),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Cells of a made-up key: a few keys share a place, and some cells.
    fn cells(key: u8, depth: usize) -> Vec<u32> {
        let first = u32::from(key % 4) + u32::from(key / 4) * PLACES as u32;
        (0..depth as u32).map(|row| first + row * 7).collect()
    }

    proptest! {
        /// Whatever goes in comes out: displaced, released, or at the end, and nothing else does.
        #[test]
        fn weight_is_kept_for_each_key(
            adds in prop::collection::vec((any::<u8>(), 0..=MAX_WEIGHT), 0..300),
            depth in 1..=DEPTH_MAX + 1,
        ) {
            let mut absorber = Absorber::new();
            let (mut truth, mut seen) = (HashMap::new(), HashMap::new());
            for (step, &(key, weight)) in adds.iter().enumerate() {
                let mut cells = cells(key % 16, depth);
                *truth.entry(cells.clone()).or_insert(0) += u64::from(weight);
                if step % 7 == 0 {
                    *seen.entry(cells.clone()).or_insert(0) += u64::from(absorber.release(&cells));
                    prop_assert_eq!(absorber.release(&cells), 0);
                }
                if let Some(weight) = absorber.add(&mut cells, weight) {
                    prop_assert!(weight <= MAX_WEIGHT);
                    *seen.entry(cells).or_insert(0) += u64::from(weight);
                }
            }
            while let Some((cells, weight)) = absorber.pop(depth) {
                prop_assert!((1..=MAX_WEIGHT).contains(&weight));
                *seen.entry(cells.to_vec()).or_insert(0) += u64::from(weight);
            }
            truth.retain(|_, weight| *weight > 0);
            seen.retain(|_, weight| *weight > 0);
            prop_assert_eq!(truth, seen);
        }
    }

    #[test]
    fn it_steps_aside_where_no_key_comes_again_and_comes_back() {
        let mut absorber = Absorber::new();
        let mut passed = 0;
        for key in 0..PERIOD * 2 {
            let mut cells = [key.wrapping_mul(0x9E37_79B9), key, key, key];
            let own = cells;
            passed += u32::from(absorber.add(&mut cells, 1) == Some(1) && cells == own);
        }
        assert!(passed > PERIOD / 2, "{passed}");
        let mut absorbed = 0;
        for _ in 0..PERIOD * (PAUSE_PERIODS + 1) {
            absorbed += u32::from(absorber.add(&mut [1, 2, 3, 4], 1).is_none());
        }
        assert!(absorbed > PERIOD / 2, "{absorbed}");
    }
}
