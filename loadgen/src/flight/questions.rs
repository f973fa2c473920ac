//! Requests on their way, with one queue for each socket. The sender puts them in, and the receiver finds the one
//! that an answer belongs to.
//!
//! A legacy answer carries its key and no number. The server answers the requests of one socket in order, so an
//! answer usually belongs to the next request. The key shows where that is not so:
//!
//! ```text
//!   head            expiry      next          tail
//!    | gaps: lost or  |          |             |
//!    v reordered      v          v             v
//!   [A .. B .. .. C .. ..  D .. ][E  F  G  H  I]
//!    timed out -----> |          | <- searched first: the first request with the answer's key
//! ```
//!
//! A compact answer carries the number of its request instead, which all questions in it share; they are answered in
//! order. So no answer is mistaken for another.
//!
//! A skipped request stays until it times out, so that an answer that was only overtaken is still found. Requests
//! that have timed out are remembered as long as there is room, so that a late answer is not taken for that of a
//! younger request for the same key. If the first of two requests for one key is lost, and nothing was asked between
//! them, the answer counts for the first. The number of lost ones is right then, and one time is too long by their
//! distance.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use xxhash_rust::xxh3::xxh3_64;

use crate::judge::Claim;

/// Number of steps that searching may take between two calls of [`Matcher::expire`]: unexpected answers must not keep
/// the receiver from its work.
const SEARCH_STEPS: u64 = 1 << 22;

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    /// The planned send time.
    pub(crate) planned_ns: u64,
    /// The real send time.
    pub(crate) sent_ns: u64,
    /// The [`check`] of its key, or the number of its request.
    pub(crate) check: u32,
    /// Number of messages that its answer settles: itself, and the adds before it.
    pub(crate) covers: u32,
    /// The condition that its answer must meet.
    pub(crate) claim: Claim,
}

/// A checksum of a key. Two different keys have the same one with a probability of 2^-32.
#[inline]
pub(crate) fn check(key: &[u8]) -> u32 {
    xxh3_64(key) as u32
}

/// A bounded queue of one sender and one receiver, which may be two threads.
#[derive(Debug)]
pub(crate) struct InFlight {
    slots: Box<[Slot]>,
    /// Number of questions ever put in. Only the sender writes it.
    tail: CachePadded<AtomicU64>,
    /// Number of questions that are done with. Only the receiver writes it.
    head: CachePadded<AtomicU64>,
}

/// Plain data. It is atomic only because two threads use it in turn.
#[derive(Debug, Default)]
struct Slot {
    planned_ns: AtomicU64,
    sent_ns: AtomicU64,
    check: AtomicU32,
    covers: AtomicU32,
    claim: AtomicU64,
}

impl InFlight {
    /// A queue with room for at least `capacity` questions. All memory is touched now.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1).next_power_of_two();
        Self {
            slots: (0..capacity).map(|_| Slot::default()).collect(),
            tail: CachePadded::default(),
            head: CachePadded::default(),
        }
    }

    /// Number of questions that can be put in. The sender asks; the number can only grow meanwhile.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        // Acquire: the receiver's reads of the slots before `head` happened before we write them.
        let used = self.tail.load(Ordering::Relaxed) - self.head.load(Ordering::Acquire);
        self.slots.len() - used as usize
    }

    /// Puts a question in. The sender has made sure of the [`room`](Self::room).
    #[inline]
    pub(crate) fn push(&self, question: Question) {
        debug_assert!(self.room() > 0);
        let tail = self.tail.load(Ordering::Relaxed);
        let slot = self.slot(tail);
        slot.planned_ns
            .store(question.planned_ns, Ordering::Relaxed);
        slot.sent_ns.store(question.sent_ns, Ordering::Relaxed);
        slot.check.store(question.check, Ordering::Relaxed);
        slot.covers.store(question.covers, Ordering::Relaxed);
        slot.claim
            .store(question.claim.to_bits(), Ordering::Relaxed);
        // Release: a receiver that sees the new tail sees the slot.
        self.tail.store(tail + 1, Ordering::Release);
    }

    #[inline]
    fn slot(&self, index: u64) -> &Slot {
        &self.slots[index as usize & (self.slots.len() - 1)]
    }

    #[inline]
    fn question(&self, index: u64) -> Question {
        let slot = self.slot(index);
        Question {
            planned_ns: slot.planned_ns.load(Ordering::Relaxed),
            sent_ns: slot.sent_ns.load(Ordering::Relaxed),
            check: slot.check.load(Ordering::Relaxed),
            covers: slot.covers.load(Ordering::Relaxed),
            claim: Claim::from_bits(slot.claim.load(Ordering::Relaxed)),
        }
    }
}

/// The match of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// The answer belongs to this question.
    Answered(Question),
    /// The answer belongs to a question that has timed out.
    Late,
    /// The answer belongs to no known question.
    Unknown,
}

/// The receiver's end of an [`InFlight`].
#[derive(Debug)]
pub(crate) struct Matcher<'a> {
    in_flight: &'a InFlight,
    answered: Box<[bool]>,
    head: u64,
    /// Questions before this one are answered or have timed out.
    expiry: u64,
    /// The position behind the youngest question that was answered.
    next: u64,
    steps_left: u64,
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(in_flight: &'a InFlight) -> Self {
        let head = in_flight.head.load(Ordering::Relaxed);
        Self {
            in_flight,
            answered: vec![false; in_flight.slots.len()].into_boxed_slice(),
            head,
            expiry: head,
            next: head,
            steps_left: SEARCH_STEPS,
        }
    }

    /// Finds the question that an answer belongs to.
    pub(crate) fn answer(&mut self, check: u32) -> Match {
        let tail = self.tail();
        let Some(index) = self
            .find(check, self.next, tail)
            .or_else(|| self.find(check, self.head, self.next))
        else {
            return Match::Unknown;
        };
        let question = self.in_flight.question(index);
        let late = index < self.expiry;
        *self.answered_mut(index) = true;
        self.next = self.next.max(index + 1);
        self.forget(tail);
        if late {
            Match::Late
        } else {
            Match::Answered(question)
        }
    }

    fn find(&mut self, check: u32, from: u64, to: u64) -> Option<u64> {
        let to = to.min(from + self.steps_left);
        let found = (from..to).find(|&index| {
            !self.is_answered(index)
                && self.in_flight.slot(index).check.load(Ordering::Relaxed) == check
        });
        let steps = found.map_or(to, |index| index + 1) - from;
        self.steps_left -= steps;
        found
    }

    /// Hands over the questions without an answer that were sent at `before_ns` or earlier. Call it often.
    pub(crate) fn expire(&mut self, before_ns: u64, mut timed_out: impl FnMut(Question)) {
        self.steps_left = SEARCH_STEPS;
        let tail = self.tail();
        while self.expiry < tail {
            let question = self.in_flight.question(self.expiry);
            if !self.is_answered(self.expiry) {
                if question.sent_ns > before_ns {
                    break;
                }
                timed_out(question);
            }
            self.expiry += 1;
        }
        self.forget(tail);
    }

    /// Whether no question waits any more. It is asked when the sender has ended.
    pub(crate) fn is_settled(&self) -> bool {
        (self.expiry..self.tail()).all(|index| self.is_answered(index))
    }

    /// Frees the slots that are not needed any more.
    fn forget(&mut self, tail: u64) {
        let capacity = self.in_flight.slots.len() as u64;
        while self.head < tail {
            let expired = self.head < self.expiry;
            let overtaken = self.head < self.next;
            let crowded = tail - self.head > capacity / 2;
            if !(self.is_answered(self.head) || expired && (overtaken || crowded)) {
                break;
            }
            *self.answered_mut(self.head) = false;
            self.head += 1;
        }
        self.expiry = self.expiry.max(self.head);
        self.next = self.next.max(self.head);
        // Release: we have read the slots before it.
        self.in_flight.head.store(self.head, Ordering::Release);
    }

    #[inline]
    fn tail(&self) -> u64 {
        // Acquire: the slots before it are written.
        self.in_flight.tail.load(Ordering::Acquire)
    }

    #[inline]
    fn is_answered(&self, index: u64) -> bool {
        self.answered[index as usize & (self.answered.len() - 1)]
    }

    #[inline]
    fn answered_mut(&mut self, index: u64) -> &mut bool {
        let mask = self.answered.len() - 1;
        &mut self.answered[index as usize & mask]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ask(flight: &InFlight, at_ns: u64, key: &str) {
        flight.push(Question {
            planned_ns: at_ns,
            sent_ns: at_ns,
            check: check(key.as_bytes()),
            covers: 1,
            claim: Claim::NONE,
        });
    }

    /// The time at which the question was asked that an answer of `key` belongs to.
    fn answer(waiting: &mut Matcher<'_>, key: &str) -> Option<u64> {
        match waiting.answer(check(key.as_bytes())) {
            Match::Answered(question) => Some(question.sent_ns),
            Match::Late | Match::Unknown => None,
        }
    }

    fn expired(waiting: &mut Matcher<'_>, before_ns: u64) -> Vec<u64> {
        let mut times = Vec::new();
        waiting.expire(before_ns, |question| times.push(question.sent_ns));
        times
    }

    #[test]
    fn answers_in_order_take_the_questions_in_order() {
        let flight = InFlight::new(4);
        let mut waiting = Matcher::new(&flight);
        for round in 0..10 {
            for n in 0..4 {
                ask(&flight, round * 4 + n, "same key");
            }
            assert_eq!(flight.room(), 0);
            for n in 0..4 {
                assert_eq!(answer(&mut waiting, "same key"), Some(round * 4 + n));
            }
            assert_eq!(flight.room(), 4);
        }
        assert!(waiting.is_settled());
    }

    #[test]
    fn what_is_lost_times_out_and_nothing_else_does() {
        let flight = InFlight::new(8);
        let mut waiting = Matcher::new(&flight);
        for (at, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            ask(&flight, at, key);
        }
        assert_eq!(answer(&mut waiting, "b"), Some(2));
        assert_eq!(answer(&mut waiting, "a"), Some(3), "not the one before b");
        assert_eq!(answer(&mut waiting, "c"), Some(4));
        assert!(!waiting.is_settled());
        assert!(expired(&mut waiting, 0).is_empty());
        assert_eq!(expired(&mut waiting, 9), [1]);
        assert!(waiting.is_settled());
        assert_eq!(flight.room(), 8);
    }

    #[test]
    fn an_overtaken_answer_is_found() {
        let flight = InFlight::new(8);
        let mut waiting = Matcher::new(&flight);
        for (at, key) in [(1, "a"), (2, "b"), (3, "c")] {
            ask(&flight, at, key);
        }
        assert_eq!(answer(&mut waiting, "c"), Some(3));
        assert_eq!(answer(&mut waiting, "a"), Some(1));
        assert_eq!(answer(&mut waiting, "b"), Some(2));
        assert!(waiting.is_settled());
        assert!(expired(&mut waiting, 9).is_empty());
    }

    #[test]
    fn late_answers_are_not_taken_for_younger_ones() {
        let flight = InFlight::new(8);
        let mut waiting = Matcher::new(&flight);
        ask(&flight, 1, "a");
        ask(&flight, 2, "a");
        assert_eq!(expired(&mut waiting, 2), [1, 2]);
        ask(&flight, 3, "a");
        assert_eq!(waiting.answer(check(b"a")), Match::Late);
        assert_eq!(waiting.answer(check(b"a")), Match::Late);
        assert_eq!(answer(&mut waiting, "a"), Some(3));
        assert_eq!(waiting.answer(check(b"a")), Match::Unknown);
    }

    #[test]
    fn a_dead_server_leaves_room_for_what_follows() {
        let flight = InFlight::new(8);
        let mut waiting = Matcher::new(&flight);
        for at in 0..100 {
            assert!(flight.room() > 0, "at {at}");
            ask(&flight, at, "a");
            assert_eq!(expired(&mut waiting, at), [at]);
        }
        assert!(waiting.is_settled());
    }

    #[test]
    fn answers_to_nothing_are_unknown() {
        let flight = InFlight::new(8);
        let mut waiting = Matcher::new(&flight);
        assert_eq!(waiting.answer(1), Match::Unknown);
        ask(&flight, 1, "a");
        assert_eq!(waiting.answer(check(b"b")), Match::Unknown);
        assert_eq!(answer(&mut waiting, "a"), Some(1));
    }

    /// The oracle is a list that is searched from its front, over random losses.
    #[test]
    fn a_naive_list_agrees() {
        use rand::rand_core::{Rng, SeedableRng};
        let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(5);
        let flight = InFlight::new(1 << 14);
        let mut waiting = Matcher::new(&flight);
        let (mut lost, mut answered) = (Vec::new(), Vec::new());
        for at in 0..10_000 {
            // Each key is unique, so that there is one right answer.
            let key = format!("{at}");
            ask(&flight, at, &key);
            if rng.next_u64() % 4 == 0 {
                lost.push(at);
            } else {
                answered.push((at, key));
            }
        }
        for (at, key) in answered {
            assert_eq!(answer(&mut waiting, &key), Some(at));
        }
        assert_eq!(expired(&mut waiting, u64::MAX), lost);
    }
}
