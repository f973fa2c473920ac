//! Requests that wait for an acknowledgement.

#[cfg(test)]
mod late_copies;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use rmbd_proto::compact::{
    Answer, COOKIE_BYTES_MAX, ONCE_WINDOW, Problem, Reply, ReplyHead, write_with_cookie,
};

use super::patience::Patience;
use crate::flight::{Connection, Question, Times};
use crate::judge::Claim;
use crate::plan::DATAGRAM_BYTES;
use crate::send::{SenderReport, Train};

/// A lane: a socket, which is a client of its own, with its requests that wait for an acknowledgement.
pub(super) struct Lane<'a> {
    connection: &'a Connection,
    client: u64,
    /// Sequence of the next request.
    next: u64,
    /// All requests before this sequence are settled.
    oldest: u64,
    /// The requests, by their sequences modulo [`ONCE_WINDOW`].
    requests: Box<[Request]>,
    /// The bytes of each request, without a cookie.
    bytes: Box<[u8]>,
    /// The latest cookie that the node sent. Below is whether the node knows us without one.
    cookie: Vec<u8>,
    is_known: bool,
    /// A copy of a request as it leaves.
    copy: Vec<u8>,
    /// Before this time no request is overdue.
    due_ns: u64,
    patience: Patience,
}

#[derive(Clone, Copy)]
struct Request {
    /// The question of the first copy.
    question: Question,
    len: usize,
    latest_ns: u64,
    copies: u32,
    waits: bool,
    /// Whether it came back for want of a good cookie, and is to be sent again at once, which happens only once.
    was_sent_back: bool,
    goes_again: bool,
}

impl Request {
    const NONE: Self = Self {
        question: Question {
            planned_ns: 0,
            sent_ns: 0,
            check: 0,
            covers: 0,
            claim: Claim::NONE,
        },
        len: 0,
        latest_ns: 0,
        copies: 0,
        waits: false,
        was_sent_back: false,
        goes_again: false,
    };
}

impl<'a> Lane<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        let requests = ONCE_WINDOW as usize;
        Self {
            connection,
            // The client's number is random: the standard library seeds its maps from the system.
            client: RandomState::new().build_hasher().finish(),
            next: 0,
            oldest: 0,
            requests: vec![Request::NONE; requests].into_boxed_slice(),
            bytes: vec![0; requests * DATAGRAM_BYTES].into_boxed_slice(),
            cookie: Vec::with_capacity(COOKIE_BYTES_MAX),
            is_known: false,
            copy: Vec::with_capacity(DATAGRAM_BYTES),
            due_ns: u64::MAX,
            patience: Patience::default(),
        }
    }

    pub(super) fn connection(&self) -> &'a Connection {
        self.connection
    }

    pub(super) fn client(&self) -> u64 {
        self.client
    }

    /// Sequence of the next request.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Before this time no request is overdue.
    pub(super) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    pub(super) fn has_room(&self) -> bool {
        self.next - self.oldest < ONCE_WINDOW
    }

    pub(super) fn is_settled(&self) -> bool {
        self.oldest == self.next
    }

    fn request(&mut self, sequence: u64) -> &mut Request {
        &mut self.requests[(sequence % ONCE_WINDOW) as usize]
    }

    /// Keeps the next request.
    pub(super) fn put(&mut self, datagram: &[u8], adds: u32, planned_ns: u64) {
        let sequence = self.next;
        self.next += 1;
        *self.request(sequence) = Request {
            question: Question {
                planned_ns,
                check: sequence as u32,
                covers: adds,
                ..Request::NONE.question
            },
            len: datagram.len(),
            copies: 1,
            waits: true,
            ..Request::NONE
        };
        let start = (sequence % ONCE_WINDOW) as usize * DATAGRAM_BYTES;
        let kept = &mut self.bytes[start..][..datagram.len()];
        kept.copy_from_slice(datagram);
    }

    /// A request as it is sent now: with the cookie if the node wants one.
    pub(super) fn copy(&mut self, sequence: u64) -> &[u8] {
        let len = self.request(sequence).len;
        let start = (sequence % ONCE_WINDOW) as usize * DATAGRAM_BYTES;
        let kept = &self.bytes[start..][..len];
        self.copy.clear();
        match self.is_known || self.cookie.is_empty() {
            true => self.copy.extend_from_slice(kept),
            false => write_with_cookie(kept, &self.cookie, &mut self.copy),
        }
        &self.copy
    }

    /// Notes that requests from sequence `first` on were to leave, and `left` of them did. The others never left;
    /// returns the number of their adds.
    pub(super) fn launched(&mut self, first: u64, left: usize, sent_ns: u64) -> u64 {
        let end = first + left as u64;
        let stranded = self.adds(end..self.next);
        self.next = end;
        for sequence in first..end {
            let request = self.request(sequence);
            request.question.sent_ns = sent_ns;
            request.latest_ns = sent_ns;
        }
        self.due_ns = self.due_ns.min(sent_ns + self.patience.ns(1));
        stranded
    }

    pub(super) fn adds(&mut self, sequences: Range<u64>) -> u64 {
        let adds = sequences.map(|sequence| u64::from(self.request(sequence).question.covers));
        adds.sum()
    }

    /// Takes a reply, and returns how many messages it settles.
    pub(super) fn hear(
        &mut self,
        reply: &Reply<'_>,
        now_ns: u64,
        times: &mut Times,
        report: &mut SenderReport,
    ) -> u64 {
        let is_sent_back = reply.head.code == Problem::AddressUnproven.code();
        match reply.answers().next() {
            Some(Ok(Answer::Cookie(cookie))) if is_sent_back => {
                self.take_back(reply.head.id, cookie);
                0
            }
            // A busy node counts like a lost request: the request is repeated, and more slowly.
            _ if reply.head.code == Problem::Busy.code() => 0,
            _ => self.settle(reply.head, now_ns, times, report),
        }
    }

    /// Takes a request back that was not applied: it is sent again with this cookie and the same sequence.
    fn take_back(&mut self, id: u32, cookie: &[u8]) {
        self.cookie.clear();
        self.cookie
            .extend_from_slice(&cookie[..cookie.len().min(COOKIE_BYTES_MAX)]);
        self.is_known = false;
        let sequence = self.sequence_of(id);
        if sequence >= self.next || !self.request(sequence).waits {
            return;
        }
        let request = self.request(sequence);
        if !std::mem::replace(&mut request.was_sent_back, true) {
            request.goes_again = true;
            self.due_ns = 0;
        }
    }

    /// The sequence of a request that may be under way, if it is before the next one.
    fn sequence_of(&self, id: u32) -> u64 {
        self.oldest + u64::from(id.wrapping_sub(self.oldest as u32))
    }

    fn settle(
        &mut self,
        head: ReplyHead,
        now_ns: u64,
        times: &mut Times,
        report: &mut SenderReport,
    ) -> u64 {
        let sequence = self.sequence_of(head.id);
        if sequence >= self.next || !self.request(sequence).waits {
            // A second reply to a copy means nothing; only a sequence that was never sent is strange.
            let behind = (self.next as u32).wrapping_sub(head.id);
            if behind == 0 || u64::from(behind) > self.next {
                times.unexpected();
            }
            return 0;
        }
        let request = *self.request(sequence);
        let adds = u64::from(request.question.covers);
        match head.code {
            0 if u64::from(head.done) != adds => {
                times.unexpected();
                return 0;
            }
            0 => {
                self.is_known = true;
                times.once.acknowledged += adds;
                times.once.applied_before += u64::from(head.repeated);
                if request.copies == 1 {
                    let round_trip_ns = now_ns.saturating_sub(request.question.sent_ns);
                    self.patience.measured(round_trip_ns);
                }
            }
            // The request was refused now, or at an operation. Another copy may have been applied before.
            code => {
                times.once.uncertain += adds;
                report.refused = report.refused.or(Some(code));
            }
        }
        times.answered(&request.question, now_ns);
        self.request(sequence).waits = false;
        self.forget();
        adds
    }

    /// Puts overdue requests into a train, and gives up those that were sent `timeout_ns` ago. Returns how many
    /// messages were given up.
    pub(super) fn look(
        &mut self,
        now_ns: u64,
        timeout_ns: u64,
        train: &mut Train,
        times: &mut Times,
    ) -> u64 {
        let mut given_up = 0;
        self.due_ns = u64::MAX;
        for sequence in self.oldest..self.next {
            let mut request = *self.request(sequence);
            if !request.waits {
                continue;
            }
            let end_ns = request.question.sent_ns.saturating_add(timeout_ns);
            if end_ns <= now_ns {
                self.request(sequence).waits = false;
                given_up += u64::from(request.question.covers);
                times.timed_out(&request.question);
                continue;
            }
            let overdue_ns = request.latest_ns + self.patience.ns(request.copies);
            if (request.goes_again || overdue_ns <= now_ns) && train.has_room() {
                request.copies += 1;
                request.latest_ns = now_ns;
                request.goes_again = false;
                *self.request(sequence) = request;
                train.push(self.copy(sequence));
            }
            let overdue_ns = match request.goes_again {
                true => now_ns,
                false => request.latest_ns + self.patience.ns(request.copies),
            };
            self.due_ns = self.due_ns.min(overdue_ns).min(end_ns);
        }
        times.once.uncertain += given_up;
        self.forget();
        given_up
    }

    fn forget(&mut self) {
        while self.oldest < self.next && !self.request(self.oldest).waits {
            self.oldest += 1;
        }
    }
}
