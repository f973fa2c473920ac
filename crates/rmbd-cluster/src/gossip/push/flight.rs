//! Numbered datagrams that are under way to one peer, which has not acknowledged them yet.
//!
//! Loss is told as QUIC tells it (RFC 9002): a datagram is lost when one that was sent three later has
//! arrived, or when nothing was heard for a probe timeout. The window is that of TCP Reno (RFC 5681) in
//! datagrams, so that a path that loses is not flooded; what a node sends in all is paced elsewhere.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use rmbd_pace::{RoundTrip, Timeouts};
use rmbd_proto::SketchNumber;

/// Datagrams that may arrive in another order before one counts as lost (RFC 9002 section 6.1.1).
const REORDERING: u64 = 3;
/// Least window: a few datagrams go out even where every second one is lost.
const WINDOW_MIN: usize = 16;
/// Largest window: with 1 200 bytes each, what a receive buffer of some megabytes holds for a few peers.
const WINDOW_MAX: usize = 1_024;
/// Window at the start.
const WINDOW_START: usize = 64;
/// Probe timeout while no round trip was measured.
const FIRST_TIMEOUT: Duration = Duration::from_millis(250);
/// An ack waits for company at most this long; the sender reckons with it.
pub(crate) const ACK_DELAY: Duration = Duration::from_millis(10);
/// Least probe timeout above the round trip: schedulers' slack.
const TIMEOUT_SLACK: Duration = Duration::from_millis(15);
/// Largest probe timeout: who comes back is told within this time, also where round trips were long before
/// and nothing was heard for long.
const TIMEOUT_MAX: Duration = Duration::from_secs(4);
/// Doublings of the probe timeout while nothing is heard.
const BACKOFF_MAX: u32 = 4;
/// The probe timeout (RFC 9002, section 6.2.1).
const TIMEOUTS: Timeouts = Timeouts {
    first: FIRST_TIMEOUT,
    variation_min: TIMEOUT_SLACK,
    answer_delay: ACK_DELAY,
    min: Duration::ZERO,
    max: TIMEOUT_MAX,
    doublings_max: BACKOFF_MAX,
};

/// A piece of our slice in a sketch. A numbered datagram carries one or more, at most one of each sketch.
pub(crate) type SentPiece = (SketchNumber, Piece);

/// A part of a numbered datagram's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// It carried what had changed in cells `from..to`.
    Range { from: u32, to: u32 },
    /// It told that everything until this version has arrived.
    Complete { version: u64 },
}

#[derive(Debug, Clone)]
struct Sent {
    at: Duration,
    pieces: Vec<SentPiece>,
}

/// Pieces that have arrived or are lost, as an ack or silence tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) arrived: Vec<SentPiece>,
    pub(super) lost: Vec<SentPiece>,
}

/// Datagrams under way on one channel.
#[derive(Debug)]
pub(super) struct Flight {
    sent: BTreeMap<u64, Sent>,
    newest_acked: u64,
    round_trip: RoundTrip,
    backoff: u32,
    window: usize,
    slow_start_until: usize,
    /// Acked since the window last grew by one.
    credit: usize,
    /// Losses of datagrams up to this number have shrunk the window already.
    shrunk_at: u64,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            sent: BTreeMap::new(),
            newest_acked: 0,
            round_trip: RoundTrip::new(TIMEOUTS),
            backoff: 0,
            window: WINDOW_START,
            slow_start_until: WINDOW_MAX,
            credit: 0,
            shrunk_at: 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.sent.len() < self.window
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn note_sent(&mut self, number: u64, now: Duration, pieces: Vec<SentPiece>) {
        self.sent.insert(number, Sent { at: now, pieces });
    }

    /// Takes an ack. Ranges that were never sent are ignored; the work is bounded by what is under way.
    pub(super) fn ack(
        &mut self,
        now: Duration,
        ranges: impl Iterator<Item = RangeInclusive<u64>>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut newest, mut datagrams) = (None, 0);
        for range in ranges {
            // A range may be as long as the other end likes; only what is under way is gone through.
            let acked: Vec<u64> = self.sent.range(range).map(|(&number, _)| number).collect();
            for number in acked {
                if let Some(sent) = self.sent.remove(&number) {
                    newest = newest.max(Some((number, sent.at)));
                    outcome.arrived.extend(sent.pieces);
                    datagrams += 1;
                }
            }
        }
        let Some((number, at)) = newest else {
            return outcome;
        };
        if number > self.newest_acked {
            self.newest_acked = number;
            self.round_trip.measured(now.saturating_sub(at));
        }
        self.backoff = 0;
        self.grow(datagrams);
        let lost_below = self.newest_acked.saturating_sub(REORDERING);
        self.lose(..=lost_below, &mut outcome);
        outcome
    }

    /// All that is under way is lost if nothing was heard until now for too long.
    pub(super) fn expire(&mut self, now: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.backoff = self.backoff.saturating_add(1);
            let timeout = self.timeout();
            let expired: Vec<u64> = self
                .sent
                .iter()
                .filter(|(_, sent)| now.saturating_sub(sent.at) * 2 >= timeout)
                .map(|(&number, _)| number)
                .collect();
            if let Some(&newest) = expired.last() {
                self.shrink(newest);
            }
            for number in expired {
                if let Some(sent) = self.sent.remove(&number) {
                    outcome.lost.extend(sent.pieces);
                }
            }
        }
        outcome
    }

    /// There is no time for patience any more: what would be lost by now, had all of it been answered so far,
    /// is lost.
    pub(super) fn hurry(&mut self, now: Duration) -> Outcome {
        self.backoff = 0;
        self.expire(now)
    }

    /// Gives all up: what was under way is lost, and no fault of the path.
    pub(super) fn abandon(&mut self) -> Vec<SentPiece> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_values().flat_map(|sent| sent.pieces).collect()
    }

    /// When silence becomes loss.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let (_, oldest) = self.sent.first_key_value()?;
        Some(oldest.at + self.timeout())
    }

    fn timeout(&self) -> Duration {
        self.round_trip.timeout(self.backoff)
    }

    fn grow(&mut self, acked: usize) {
        if self.window < self.slow_start_until {
            self.window += acked;
        } else {
            self.credit += acked;
            self.window += self.credit / self.window;
            self.credit %= self.window;
        }
        self.window = self.window.min(WINDOW_MAX);
    }

    fn lose(&mut self, numbers: std::ops::RangeToInclusive<u64>, outcome: &mut Outcome) {
        while let Some(entry) = self.sent.first_entry() {
            if *entry.key() > numbers.end {
                break;
            }
            let (number, sent) = entry.remove_entry();
            self.shrink(number);
            outcome.lost.extend(sent.pieces);
        }
    }

    /// Once a round trip: losses of what was sent before the last shrinking are the same event.
    fn shrink(&mut self, lost: u64) {
        if lost <= self.shrunk_at {
            return;
        }
        self.shrunk_at = self
            .sent
            .keys()
            .next_back()
            .copied()
            .unwrap_or(lost)
            .max(lost);
        self.window = (self.window / 2).max(WINDOW_MIN);
        self.slow_start_until = self.window;
        self.credit = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn piece(n: u32) -> SentPiece {
        (SketchNumber(n % 3), Piece::Range { from: n, to: n + 1 })
    }

    fn flight_of(count: u64) -> Flight {
        let mut flight = Flight::new();
        for number in 1..=count {
            flight.note_sent(number, MS * number as u32, vec![piece(number as u32)]);
        }
        flight
    }

    #[test]
    fn what_is_acked_arrived_and_what_is_three_behind_is_lost() {
        let mut flight = flight_of(10);
        let outcome = flight.ack(MS * 20, [9..=9, 2..=3].into_iter());
        assert_eq!(outcome.arrived, [piece(9), piece(2), piece(3)]);
        assert_eq!(outcome.lost, [piece(1), piece(4), piece(5), piece(6)]);
        assert_eq!(
            flight.ack(MS * 21, [1..=6].into_iter()),
            Outcome::default(),
            "late"
        );
        let rest = flight.ack(MS * 22, std::iter::once(0..=u64::MAX));
        assert_eq!(rest.arrived, [piece(7), piece(8), piece(10)]);
        assert!(flight.is_empty() && flight.deadline().is_none());
    }

    #[test]
    fn all_pieces_of_a_datagram_share_its_fate_and_count_as_one() {
        let mut flight = Flight::new();
        for number in 1..=5 {
            let first = number as u32 * 10;
            flight.note_sent(number, MS, vec![piece(first), piece(first + 1)]);
        }
        let outcome = flight.ack(MS * 2, std::iter::once(5..=5));
        assert_eq!(outcome.arrived, [piece(50), piece(51)]);
        assert_eq!(outcome.lost, [10, 11, 20, 21].map(piece));
        assert_eq!(flight.abandon(), [30, 31, 40, 41].map(piece));
    }

    #[test]
    fn silence_is_loss_after_a_timeout_that_grows() {
        let mut flight = Flight::new();
        let mut now = MS;
        let mut waits = Vec::new();
        for number in 1..8 {
            flight.note_sent(number, now, vec![piece(0)]);
            let deadline = flight.deadline().expect("one is under way");
            assert_eq!(flight.expire(deadline - MS), Outcome::default());
            waits.push(deadline - now);
            now = deadline;
            assert_eq!(flight.expire(now).lost, [piece(0)]);
        }
        assert!(waits.is_sorted() && waits[1] == waits[0] * 2);
        assert_eq!(waits.last(), Some(&(FIRST_TIMEOUT * (1 << BACKOFF_MAX))));
    }

    #[test]
    fn who_comes_back_after_a_storm_is_tried_soon() {
        let mut flight = Flight::new();
        let mut now = MS;
        flight.note_sent(1, now, vec![piece(0)]);
        now += MS * 900;
        flight.ack(now, std::iter::once(1..=1));
        for number in 2..12 {
            flight.note_sent(number, now, vec![piece(0)]);
            let deadline = flight.deadline().expect("one is under way");
            assert!(deadline - now <= TIMEOUT_MAX);
            now = deadline;
            assert_eq!(flight.expire(now).lost, [piece(0)]);
        }
        flight.note_sent(12, now, vec![piece(0)]);
        now += MS * 3_000;
        assert_eq!(flight.expire(now), Outcome::default());
        assert_eq!(flight.hurry(now).lost, [piece(0)]);
        flight.note_sent(13, now, vec![piece(0)]);
        assert_eq!(flight.hurry(now), Outcome::default(), "it may still arrive");
    }

    #[test]
    fn the_window_grows_while_all_arrives_and_shrinks_once_for_one_event() {
        let mut flight = Flight::new();
        let mut number = 0;
        for round in 1..20 {
            let from = number + 1;
            while flight.has_room() {
                number += 1;
                flight.note_sent(number, MS * round, vec![piece(0)]);
            }
            flight.ack(MS * (round + 1), std::iter::once(from..=number));
        }
        assert_eq!(flight.window, WINDOW_MAX);
        for lost in 0..40 {
            flight.note_sent(number + 1 + lost, MS * 30, vec![piece(0)]);
        }
        let newest = number + 40;
        let outcome = flight.ack(MS * 31, [newest..=newest].into_iter());
        assert_eq!(outcome.lost.len(), 37);
        assert_eq!(flight.window, WINDOW_MAX / 2);
        for _ in 0..20 {
            number += 100;
            flight.note_sent(number, MS * 40, vec![piece(0)]);
            flight.note_sent(number + 10, MS * 40, vec![piece(0)]);
            flight.ack(MS * 41, std::iter::once(number + 10..=number + 10));
        }
        assert!((WINDOW_MIN..WINDOW_MIN + 40).contains(&flight.window));
    }
}
