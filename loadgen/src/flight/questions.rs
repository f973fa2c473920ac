//! Requests on their way, one queue a socket: the sender puts them in, the receiver finds the
//! one that an answer belongs to.
//!
//! A legacy answer carries its key and no number. The server answers the requests of one socket in
//! order, so the next answer belongs to the next request, and the key tells where that is not so:
//!
//! ```text
//!   head            expiry      next          tail
//!    | gaps: lost or  |          |             |
//!    v reordered      v          v             v
//!   [A .. B .. .. C .. ..  D .. ][E  F  G  H  I]
//!    timed out -----> |          | <- searched first: the first request with the answer's key
//! ```
//!
//! A compact answer carries the number of its request instead, which is that of all questions in it;
//! they are answered in order. So nothing is ever taken for something else.
//!
//! What is skipped stays until it times out, so an answer that was only overtaken is still found.
//! What has timed out is remembered for as long as there is room, so that its late answer is not
//! taken for that of a younger request for the same key. If of two requests for one key the first
//! is lost and nothing was asked between them, the answer counts for the first: the number of lost
//! ones is right, and one time is too long by their distance.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use xxhash_rust::xxh3::xxh3_64;

use crate::judge::Claim;

/// Steps that searching may take between two calls of [`Matcher::expire`]: answers to nothing
/// must not keep the receiver from its work.
const SEARCH_STEPS: u64 = 1 << 22;

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    /// When it should have left.
    pub(crate) planned_ns: u64,
    /// When it left.
    pub(crate) sent_ns: u64,
    /// [`check`] of its key, or the number of its request.
    pub(crate) check: u32,
    /// Messages that its answer accounts for: itself, and the adds before it.
    pub(crate) covers: u32,
    /// What must be true of its answer.
    pub(crate) claim: Claim,
}

/// Tells keys apart; two of them are taken for one with a probability of 2^-32.
#[inline]
pub(crate) fn check(key: &[u8]) -> u32 {
    xxh3_64(key) as u32
}

/// A bounded queue of one sender and one receiver, which may be two threads.
#[derive(Debug)]
pub(crate) struct InFlight {
    slots: Box<[Slot]>,
    /// Questions ever put in. Written by the sender only.
    tail: CachePadded<AtomicU64>,
    /// Questions before this one are done with. Written by the receiver only.
    head: CachePadded<AtomicU64>,
}

/// Plain data; atomic only because two threads use it, in turn.
#[derive(Debug, Default)]
struct Slot {
    planned_ns: AtomicU64,
    sent_ns: AtomicU64,
    check: AtomicU32,
    covers: AtomicU32,
    claim: AtomicU64,
}

impl InFlight {
    /// Room for at least `capacity` questions. All memory is touched now.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1).next_power_of_two();
        Self {
            slots: (0..capacity).map(|_| Slot::default()).collect(),
            tail: CachePadded::default(),
            head: CachePadded::default(),
        }
    }

    /// How many questions can be put in. For the sender: it can only become more.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        // Acquire: what the receiver read of the slots before `head` happened before we write them.
        let used = self.tail.load(Ordering::Relaxed) - self.head.load(Ordering::Acquire);
        self.slots.len() - used as usize
    }

    /// Puts a question in. For the sender, which has made sure of the [`room`](Self::room).
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
        // Release: who sees the new tail sees the slot.
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

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// It belongs to this question.
    Answered(Question),
    /// It belongs to one that has timed out.
    Late,
    /// It belongs to none that is known.
    Unknown,
}

/// The receiver's end of a [`InFlight`].
#[derive(Debug)]
pub(crate) struct Matcher<'a> {
    in_flight: &'a InFlight,
    answered: Box<[bool]>,
    head: u64,
    /// Those before this one are answered or have timed out.
    expiry: u64,
    /// The one after the youngest that was answered.
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

    /// Hands over what was sent at `before_ns` or earlier and has no answer. Call it often.
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

    /// Whether nothing waits any more. For when the sender has ended.
    pub(crate) fn is_settled(&self) -> bool {
        (self.expiry..self.tail()).all(|index| self.is_answered(index))
    }

    /// Frees the slots that nobody needs.
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
        // Release: we are done reading the slots before it.
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

    /// When the question was asked that an answer of `key` belongs to.
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

    /// Against a list that is searched from its front, over random losses.
    #[test]
    fn a_naive_list_agrees() {
        use rand::rand_core::{Rng, SeedableRng};
        let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(5);
        let flight = InFlight::new(1 << 14);
        let mut waiting = Matcher::new(&flight);
        let (mut lost, mut answered) = (Vec::new(), Vec::new());
        for at in 0..10_000 {
            // Keys of their own, so that there is one right answer.
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
