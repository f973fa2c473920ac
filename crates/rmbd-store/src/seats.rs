//! Seats of threads that add: whoever has one has tables of its own, which nobody else writes.

use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};

use rmbd_sketch::{Geometry, Lane, lanes_of};

/// Seats beyond those of the data threads, for a program that adds to the sketches of its node. Who finds none adds
/// without tables.
const SPARE_SEATS: usize = 4;

/// The seats of a replica.
#[derive(Debug)]
pub(crate) struct Seats {
    /// One for each lane first, in their order, then those of threads that share cells.
    are_taken: Box<[AtomicBool]>,
    lanes: usize,
}

/// A thread's right to write the tables of a seat. No other value stands for the same seat.
#[derive(Debug)]
pub(crate) struct Seat(usize);

impl Seats {
    /// Seats for this many threads that add, all free.
    pub(crate) fn new(geometry: Geometry, threads: usize) -> Self {
        let seats = Self::count(geometry, threads);
        Self {
            are_taken: (0..seats).map(|_| AtomicBool::new(false)).collect(),
            lanes: lanes_of(geometry, threads),
        }
    }

    /// How many seats there are for this many threads.
    pub(crate) fn count(geometry: Geometry, threads: usize) -> usize {
        match lanes_of(geometry, threads) {
            0 => threads + SPARE_SEATS,
            lanes => lanes + SPARE_SEATS,
        }
    }

    /// For how many threads there are seats, without the spare ones.
    pub(crate) fn threads(&self) -> usize {
        self.are_taken.len() - SPARE_SEATS
    }

    /// Takes the seat of a lane, or one of those for shared cells that nobody has.
    pub(crate) fn take(&self, lane: Option<&Lane>) -> Option<Seat> {
        let seats = match lane {
            Some(lane) => lane.number()..lane.number() + 1,
            None => self.lanes..self.are_taken.len(),
        };
        let is_free = |&number: &usize| {
            // Acquire pairs with the Release in `give_back`: the new holder goes on with what the last one left.
            let is_taken = &self.are_taken[number];
            let exchanged = is_taken.compare_exchange(false, true, Acquire, Relaxed);
            exchanged.is_ok()
        };
        seats.into_iter().find(is_free).map(Seat)
    }

    pub(crate) fn give_back(&self, Seat(number): Seat) {
        self.are_taken[number].store(false, Release);
    }
}

impl Seat {
    /// Its number among the seats of its replica, from 0 on.
    pub(crate) fn number(&self) -> usize {
        self.0
    }
}
