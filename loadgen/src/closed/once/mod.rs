//! The closed loop of adds that count exactly once: each request names its client and a sequence, and is
//! sent again, the same bytes, until the node has acknowledged it or `--timeout` has passed. So what the
//! node counts afterwards is known: all that was acknowledged, nothing twice, and of what never was
//! (*uncertain*) each request at most once.
//!
//! The library's client does the same and could not stand here: it decides by itself how much is on its
//! way and what shares a datagram, and tells nobody when an acknowledgement came. It is the format's rules
//! ([`rmbd::wire::compact`], "Exactly once") that are kept to, by a second program that the node is held to.
//!
//! The first requests of a socket come back with a cookie, since the node does not know the client yet, and
//! go again with it. What that takes is in their times, too.
//!
//! A response time counts from when there was room for the request, a service time from when its *first*
//! copy left; both end with the first acknowledgement of any copy. So what is lost on the way is in them.

#[cfg(test)]
mod late_copies;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;

use rmbd::io::{Receiver, TRAIN_BYTES_MAX, send_segments};
use rmbd::wire::Boot;
use rmbd::wire::compact::{
    self, Answer, COOKIE_BYTES_MAX, COOKIE_FIELD_BYTES_MAX, Header, ONCE_WINDOW, Once, Problem,
    Reply, ReplyHead, RequestWriter, write_with_cookie,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::closed::window;
use crate::flight::progress::Progress;
use crate::flight::queue::Question;
use crate::flight::times::Times;
use crate::judge::ledger::Claim;
use crate::plan::format::DATAGRAM_BYTES;
use crate::plan::load::SEGMENTS_MAX;
use crate::plan::script::Script;
use crate::receive::is_refusal;
use crate::record::Sent;
use crate::send::outgoing::{Departed, Link, Stranded, patiently};
use crate::send::sender::{SenderReport, Shared, precise_sleep, thread_cpu_time};

/// Trains of acknowledgements that one system call takes.
const TRAINS: usize = 16;
/// How long to wait for acknowledgements before what is overdue is looked for.
const WAIT_NS: u32 = 2_000_000;

/// How long an acknowledgement is waited for while no round trip has been measured ...
const PATIENCE_FIRST_NS: u64 = 100_000_000;
/// ... at least, since a busy machine may leave a node without a CPU for so long, ...
const PATIENCE_MIN_NS: u64 = 10_000_000;
/// ... and at most.
const PATIENCE_MAX_NS: u64 = 1_000_000_000;

/// One thread of it.
pub(crate) struct OnceLoop<'a> {
    shared: &'a Shared<'a>,
    lanes: Box<[Lane<'a>]>,
    polled: Box<[PollFd<'a>]>,
    script: Script,
    progress: &'a Progress,
    boot: Boot,
    writer: RequestWriter,
    train: Train,
    receiver: Receiver,
    next_lane: usize,
    window: u64,
    on_their_way: u64,
    messages_left: u64,
    report: SenderReport,
    times: Times,
}

impl<'a> OnceLoop<'a> {
    /// Thread `part`, which has the links to itself, for a node of this boot.
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        part: usize,
        links: &'a [Link],
        script: Script,
        progress: &'a Progress,
        boot: Boot,
    ) -> Self {
        let load = shared.load;
        Self {
            shared,
            lanes: links.iter().map(Lane::new).collect(),
            polled: links
                .iter()
                .map(|link| PollFd::new(&link.socket, PollFlags::IN))
                .collect(),
            script,
            progress,
            boot,
            writer: RequestWriter::new(DATAGRAM_BYTES - COOKIE_FIELD_BYTES_MAX),
            train: Train::new(load.gso, load.segment_bytes(), load.datagrams_per_train()),
            receiver: Receiver::new(TRAINS, TRAIN_BYTES_MAX),
            next_lane: 0,
            window: window(shared, part),
            on_their_way: 0,
            messages_left: shared.messages_of(part),
            report: SenderReport::new(&shared.window),
            times: Times::new(shared.window),
        }
    }

    /// Runs until the time is over and nothing waits any more; gives back what it did, the script
    /// as far as it came, and the times. From the first message on it allocates nothing.
    pub(crate) fn run(mut self) -> (SenderReport, Script, Times) {
        precise_sleep();
        let before = thread_cpu_time();
        self.shared.wait_for_start();
        self.work();
        self.report.cpu = thread_cpu_time().saturating_sub(before);
        (self.report, self.script, self.times)
    }

    fn work(&mut self) {
        loop {
            let over = self.is_over();
            while !over && self.may_send() && self.send() {}
            let taken = self.take();
            let given_up = self.repeat(over && self.shared.is_stopped());
            self.on_their_way = self.on_their_way.saturating_sub(taken + given_up);
            let answers = &self.times.answers;
            self.progress.ended(answers.answered, answers.timed_out);
            if over && self.lanes.iter().all(Lane::is_settled) {
                break;
            }
            if taken == 0 && (over || !self.may_send()) {
                self.wait();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.messages_left == 0
            || self.report.failure.is_some()
            || self.report.refused.is_some()
            || self.shared.is_stopped()
            || self.shared.clock.now_ns() >= self.shared.window.end_ns
    }

    /// As in the other closed loop, half a train is waited for; and a socket whose oldest request is not
    /// so old that the node may forget it.
    fn may_send(&self) -> bool {
        let train = (self.train.datagrams_max * self.shared.load.pack) as u64;
        let worth_it = (self.window / 2).min(train / 2);
        self.free() >= worth_it.max(1)
            && self.messages_left > 0
            && self.lanes.iter().any(Lane::has_room)
    }

    /// How many more may be on their way.
    fn free(&self) -> u64 {
        self.window.saturating_sub(self.on_their_way)
    }

    /// Sends a train of new requests; false where that failed.
    fn send(&mut self) -> bool {
        let mut messages = self.free().min(self.messages_left);
        let Some(index) = self.lane_with_room() else {
            return false;
        };
        let lane = &mut self.lanes[index];
        let planned_ns = self.shared.clock.now_ns();
        let first = lane.next;
        while messages > 0 && self.train.has_room() && lane.has_room() {
            let once = Once {
                boot: self.boot,
                client: lane.client,
                sequence: lane.next,
            };
            let load = self.shared.load;
            let most = messages.min(load.pack as u64);
            let adds = write(
                &mut self.writer,
                &mut self.script,
                once,
                load.weight.into(),
                most,
            );
            lane.put(self.writer.finish(), adds as u32, planned_ns);
            let sequence = lane.next - 1;
            self.train.push(lane.copy(sequence));
            messages -= adds;
        }
        let sent_ns = self.shared.clock.now_ns();
        let (left, result) = self.train.send(lane.link, || self.shared.is_stopped());
        let bytes = self.train.sent_bytes(left);
        self.train.clear();
        let stranded = lane.launched(first, left, sent_ns);
        let adds = lane.adds(first..lane.next);
        self.on_their_way += adds;
        self.messages_left -= adds + stranded;
        let contents = Sent {
            adds,
            datagrams: left as u64,
            bytes,
            ..Sent::default()
        };
        self.departed(contents, sent_ns);
        let Err(source) = result else {
            return true;
        };
        self.report.stranded(Stranded {
            contents: Sent {
                adds: stranded,
                ..Sent::default()
            },
            source,
        });
        false
    }

    fn departed(&mut self, contents: Sent, sent_ns: u64) {
        let departed = Departed {
            scripted: contents.adds,
            contents,
            sent_ns,
        };
        self.report.departed(&self.shared.window, &departed);
        self.progress.sent(&self.report.sent);
    }

    fn lane_with_room(&mut self) -> Option<usize> {
        let lanes = self.lanes.len();
        let mut turns = (0..lanes).map(|turn| (self.next_lane + turn) % lanes);
        let index = turns.find(|&index| self.lanes[index].has_room())?;
        self.next_lane = (index + 1) % lanes;
        Some(index)
    }

    /// Takes what has come; returns how many messages are settled by that.
    fn take(&mut self) -> u64 {
        let mut settled = 0;
        for lane in &mut self.lanes {
            loop {
                let trains = match self.receiver.receive(&lane.link.socket) {
                    Ok(0) => break,
                    Ok(trains) => trains,
                    // A refusal of something sent earlier is reported here too: look again.
                    Err(error) if is_refusal(&error) => continue,
                    Err(_) => break,
                };
                let now_ns = self.shared.clock.now_ns();
                for train in (0..trains).filter_map(|index| self.receiver.train(index)) {
                    for datagram in train.datagrams() {
                        match compact::reply(datagram) {
                            Ok(reply) => {
                                settled +=
                                    lane.hear(&reply, now_ns, &mut self.times, &mut self.report);
                            }
                            Err(_) => self.times.unexpected(),
                        }
                    }
                }
                if trains < TRAINS {
                    break;
                }
            }
        }
        settled
    }

    /// Sends again what has waited for too long, and gives up what has waited for the whole timeout, or
    /// all of it where the run was stopped. Returns how many messages were given up.
    fn repeat(&mut self, stopped: bool) -> u64 {
        let timeout_ns = match stopped {
            true => 0,
            false => self.shared.window.timeout_ns(),
        };
        let mut given_up = 0;
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            let now_ns = self.shared.clock.now_ns();
            if now_ns < lane.due_ns && !stopped {
                continue;
            }
            given_up += lane.look(now_ns, timeout_ns, &mut self.train, &mut self.times);
            if self.train.is_empty() {
                continue;
            }
            let (left, result) = self.train.send(lane.link, || self.shared.is_stopped());
            let contents = Sent {
                datagrams: left as u64,
                bytes: self.train.sent_bytes(left),
                ..Sent::default()
            };
            self.train.clear();
            self.times.once.repeated += left as u64;
            self.departed(contents, now_ns);
            if let Err(source) = result {
                let contents = Sent::default();
                self.report.stranded(Stranded { contents, source });
            }
        }
        given_up
    }

    /// Sleeps until there is something to take, or for a short while.
    fn wait(&mut self) {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: WAIT_NS.into(),
        };
        // Interrupted, or refused for want of memory: the caller looks again anyway.
        let _ = poll(&mut self.polled, Some(&wait));
    }
}

/// Begins a request and writes the next `most` adds, or as many as fit; how many those are.
fn write(
    writer: &mut RequestWriter,
    script: &mut Script,
    once: Once,
    weight: u64,
    most: u64,
) -> u64 {
    let started = writer.start(&Header {
        // Tells the requests of a socket apart, of which less than 2^32 are under way.
        id: once.sequence as u32,
        once: Some(once),
        ..Header::default()
    });
    debug_assert!(started.is_ok(), "33 bytes fit a datagram");
    let mut adds = 0;
    while adds < most {
        let (_, key) = script.next();
        if writer.add(key, weight).is_err() {
            script.put_back();
            break;
        }
        adds += 1;
    }
    debug_assert!(adds > 0, "any add fits a datagram of its own");
    adds
}

/// A socket, which is a client of its own, and its requests that wait for an acknowledgement.
struct Lane<'a> {
    link: &'a Link,
    client: u64,
    /// Sequence of the next request.
    next: u64,
    /// All before this one are settled.
    oldest: u64,
    /// By their sequences modulo [`ONCE_WINDOW`].
    requests: Box<[Request]>,
    /// Of each request, without a cookie.
    bytes: Box<[u8]>,
    /// The latest that the node sent, and whether it knows us without.
    cookie: Vec<u8>,
    is_known: bool,
    /// A copy as it leaves.
    copy: Vec<u8>,
    /// Before this nothing is overdue.
    due_ns: u64,
    patience: Patience,
}

#[derive(Clone, Copy)]
struct Request {
    /// Of its first copy.
    question: Question,
    len: usize,
    latest_ns: u64,
    copies: u32,
    waits: bool,
    /// It came back for want of a good cookie, and is to go again at once: that, the first time only.
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
    fn new(link: &'a Link) -> Self {
        let requests = ONCE_WINDOW as usize;
        Self {
            link,
            // Of its own, at random: the standard library's seed for its maps comes from the system.
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

    fn has_room(&self) -> bool {
        self.next - self.oldest < ONCE_WINDOW
    }

    fn is_settled(&self) -> bool {
        self.oldest == self.next
    }

    fn request(&mut self, sequence: u64) -> &mut Request {
        &mut self.requests[(sequence % ONCE_WINDOW) as usize]
    }

    /// Keeps the next request.
    fn put(&mut self, datagram: &[u8], adds: u32, planned_ns: u64) {
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

    /// A request as it is sent now: with the cookie where the node wants one.
    fn copy(&mut self, sequence: u64) -> &[u8] {
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

    /// The requests from sequence `first` on were to leave, and so many did. The others, whose adds are
    /// returned, never were.
    fn launched(&mut self, first: u64, left: usize, sent_ns: u64) -> u64 {
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

    fn adds(&mut self, sequences: std::ops::Range<u64>) -> u64 {
        let adds = sequences.map(|sequence| u64::from(self.request(sequence).question.covers));
        adds.sum()
    }

    /// A reply has come; returns how many messages it settles.
    fn hear(
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
            // As if it had been lost: it goes again, and more slowly.
            _ if reply.head.code == Problem::Busy.code() => 0,
            _ => self.settle(reply.head, now_ns, times, report),
        }
    }

    /// The request was not applied: it goes again with this cookie, and the same sequence.
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

    /// Of a request that may be under way, if it is before the next one.
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
            // A second one to a copy says nothing; only what was never sent is strange.
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
            // Refused now, or at an operation; another copy may have been applied before.
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

    /// Puts what is overdue into a train, and gives up what was sent `timeout_ns` ago; returns how many
    /// messages were given up.
    fn look(&mut self, now_ns: u64, timeout_ns: u64, train: &mut Train, times: &mut Times) -> u64 {
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

/// How long an acknowledgement may take, from round trips as RFC 6298 measures them: of requests that
/// were sent once (3, Karn's algorithm).
#[derive(Default)]
struct Patience {
    /// Smoothed round trip, and its variation.
    measured_ns: Option<(u64, u64)>,
}

impl Patience {
    fn measured(&mut self, round_trip_ns: u64) {
        self.measured_ns = Some(match self.measured_ns {
            None => (round_trip_ns, round_trip_ns / 2),
            Some((smoothed, variation)) => (
                (smoothed * 7 + round_trip_ns) / 8,
                (variation * 3 + smoothed.abs_diff(round_trip_ns)) / 4,
            ),
        });
    }

    /// For a request of which so many copies were sent: twice as long for each.
    fn ns(&self, copies: u32) -> u64 {
        let first = self
            .measured_ns
            .map_or(PATIENCE_FIRST_NS, |(smoothed, variation)| {
                (smoothed + 4 * variation).max(PATIENCE_MIN_NS)
            });
        let doublings = copies.saturating_sub(1).min(16);
        first.saturating_mul(1 << doublings).min(PATIENCE_MAX_NS)
    }
}

/// Datagrams one behind the other; all but the last of one size where the kernel splits them.
struct Train {
    bytes: Box<[u8]>,
    /// Where each datagram begins and ends.
    datagrams: Vec<(usize, usize)>,
    datagrams_max: usize,
    /// Where the kernel splits it.
    segment_bytes: Option<usize>,
}

impl Train {
    fn new(gso: bool, segment_bytes: usize, datagrams_max: usize) -> Self {
        Self {
            bytes: vec![0; TRAIN_BYTES_MAX.max(DATAGRAM_BYTES * datagrams_max)].into_boxed_slice(),
            datagrams: Vec::with_capacity(SEGMENTS_MAX),
            datagrams_max,
            segment_bytes: gso.then_some(segment_bytes),
        }
    }

    fn has_room(&self) -> bool {
        self.datagrams.len() < self.datagrams_max
    }

    fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    fn clear(&mut self) {
        self.datagrams.clear();
    }

    /// Appends a datagram, at most a segment. What is missing to one is padding, which is no operation.
    fn push(&mut self, datagram: &[u8]) {
        let mut start = self.datagrams.last().map_or(0, |last| last.1);
        if let (Some(segment_bytes), Some(last)) = (self.segment_bytes, self.datagrams.last_mut()) {
            let end = last.0 + segment_bytes;
            self.bytes[start..end].fill(0);
            last.1 = end;
            start = end;
        }
        let end = start + datagram.len();
        self.bytes[start..end].copy_from_slice(datagram);
        self.datagrams.push((start, end));
    }

    /// Sends it; how many datagrams left, and why not more. Waits where the kernel has no room.
    fn send(&self, link: &Link, give_up: impl Fn() -> bool) -> (usize, io::Result<()>) {
        if let Some(segment_bytes) = self.segment_bytes {
            let len = self.datagrams.last().map_or(0, |last| last.1);
            let sent = patiently(&give_up, || {
                // At most 1 400.
                send_segments(&link.socket, None, &self.bytes[..len], segment_bytes as u16)
            });
            let left = if sent.is_ok() {
                self.datagrams.len()
            } else {
                0
            };
            return (left, sent);
        }
        for (left, &(start, end)) in self.datagrams.iter().enumerate() {
            let sent = patiently(&give_up, || link.socket.send(&self.bytes[start..end]));
            if sent.is_err() {
                return (left, sent);
            }
        }
        (self.datagrams.len(), Ok(()))
    }

    /// Bytes of its first `left` datagrams.
    fn sent_bytes(&self, left: usize) -> u64 {
        let sent = self.datagrams.iter().take(left);
        sent.map(|&(start, end)| (end - start) as u64).sum()
    }
}
