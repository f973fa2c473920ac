//! The closed loop of adds that count exactly once. Each request names its client and a sequence, and is repeated
//! with the same bytes until the node has acknowledged it or `--timeout` has passed. So it is known what the node
//! counts afterwards: all that was acknowledged, nothing twice, and of requests that never were (*uncertain*) each at
//! most once.
//!
//! The library's client does the same and cannot be used here: it decides by itself how much is on its way and what
//! shares a datagram, and does not tell when an acknowledgement came. This is a second program by the format's rules
//! ([`rmbd_proto::compact`], "Exactly once"), to which the node is held.
//!
//! The first requests of a socket come back with a cookie, since the node does not know the client yet, and are sent
//! again with it. Their times include that.
//!
//! A response time counts from when there was room for the request, and a service time from when its *first* copy
//! left. Both end with the first acknowledgement of any copy, so they include losses on the way.

mod lane;
mod patience;

use rmbd_proto::Boot;
use rmbd_proto::compact::{self, COOKIE_FIELD_BYTES_MAX, Header, Once, RequestWriter};

use self::lane::Lane;
use crate::flight::Times;
use crate::plan::{DATAGRAM_BYTES, Load, Script};
use crate::receive::Inbox;
use crate::record::Sent;
use crate::send::{Departed, Errand, SenderReport, Stranded, Train};

/// One thread of this closed loop.
pub(crate) struct OnceLoop<'a> {
    errand: Errand<'a>,
    lanes: Box<[Lane<'a>]>,
    inbox: Inbox<'a>,
    boot: Boot,
    writer: RequestWriter,
    train: Train,
    next_lane: usize,
    window: u64,
    on_their_way: u64,
    times: Times,
}

impl<'a> OnceLoop<'a> {
    /// The loop of thread `thread`, for a node with this boot.
    pub(crate) fn new(errand: Errand<'a>, thread: usize, boot: Boot) -> Self {
        let part = errand.part;
        Self {
            lanes: errand.connections.iter().map(Lane::new).collect(),
            inbox: Inbox::new(errand.connections),
            boot,
            writer: RequestWriter::new(DATAGRAM_BYTES - COOKIE_FIELD_BYTES_MAX),
            train: Train::of(part.load),
            next_lane: 0,
            window: part.outstanding_of(thread),
            on_their_way: 0,
            times: Times::new(part.window, part.nodes),
            errand,
        }
    }

    /// Runs until the time is over and nothing waits any more. Returns its results, the script as far as it came, and
    /// the times.
    pub(crate) fn run(mut self) -> (SenderReport, Script, Times) {
        self.errand.begin();
        self.work();
        let (report, script, _) = self.errand.end();
        (report, script, self.times)
    }

    fn work(&mut self) {
        loop {
            let over = self.errand.is_over();
            while !over && self.may_send() && self.send() {}
            let taken = self.take();
            let given_up = self.repeat(over && self.errand.part.is_stopped());
            self.on_their_way = self.on_their_way.saturating_sub(taken + given_up);
            let answers = &self.times.answers;
            self.errand
                .progress()
                .ended(answers.answered, answers.timed_out);
            if over && self.lanes.iter().all(Lane::is_settled) {
                break;
            }
            if taken == 0 && (over || !self.may_send()) {
                self.inbox.wait();
            }
        }
    }

    /// Whether a train may leave. As in the other closed loop, it waits for room for half a train. It also waits for a
    /// socket whose oldest request is not so old that the node may forget it.
    fn may_send(&self) -> bool {
        let train = (self.train.datagrams_max() * self.errand.part.load.pack) as u64;
        let worth_it = (self.window / 2).min(train / 2);
        self.free() >= worth_it.max(1)
            && self.errand.messages_left > 0
            && self.lanes.iter().any(Lane::has_room)
    }

    /// Number of messages that may join those on their way.
    fn free(&self) -> u64 {
        self.window.saturating_sub(self.on_their_way)
    }

    /// Sends a train of new requests; returns false if that failed.
    fn send(&mut self) -> bool {
        let mut messages = self.free().min(self.errand.messages_left);
        let Some(index) = self.lane_with_room() else {
            return false;
        };
        let (lane, part) = (&mut self.lanes[index], self.errand.part);
        let planned_ns = part.now_ns();
        let first = lane.next();
        while messages > 0 && self.train.has_room() && lane.has_room() {
            let once = Once {
                boot: self.boot,
                client: lane.client(),
                sequence: lane.next(),
            };
            let load = part.load;
            let most = messages.min(load.pack as u64);
            let adds = write(&mut self.writer, &mut self.errand.script, once, load, most);
            lane.put(self.writer.finish(), adds as u32, planned_ns);
            let sequence = lane.next() - 1;
            self.train.push(lane.copy(sequence));
            messages -= adds;
        }
        let sent_ns = part.now_ns();
        let (left, result) =
            self.train
                .send(&lane.connection().socket, || part.is_stopped(), |_| {});
        let bytes = self.train.bytes_of(left) as u64;
        self.train.clear();
        let stranded = lane.launched(first, left, sent_ns);
        let adds = lane.adds(first..lane.next());
        self.on_their_way += adds;
        self.errand.messages_left -= adds + stranded;
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
        self.errand.report.stranded(Stranded {
            contents: Sent {
                adds: stranded,
                ..Sent::default()
            },
            source,
        });
        false
    }

    fn departed(&mut self, contents: Sent, sent_ns: u64) {
        self.errand.departed(&Departed {
            node: 0,
            scripted: contents.adds,
            contents,
            sent_ns,
        });
    }

    fn lane_with_room(&mut self) -> Option<usize> {
        let lanes = self.lanes.len();
        let mut turns = (0..lanes).map(|turn| (self.next_lane + turn) % lanes);
        let index = turns.find(|&index| self.lanes[index].has_room())?;
        self.next_lane = (index + 1) % lanes;
        Some(index)
    }

    /// Takes the replies that have come. Returns how many messages are settled by them.
    fn take(&mut self) -> u64 {
        let (mut settled, clock) = (0, self.errand.part.clock);
        for lane in &mut self.lanes {
            let connection = lane.connection();
            (self.inbox).take(connection, clock, |datagram, now_ns| {
                match compact::reply(datagram) {
                    Ok(reply) => {
                        let report = &mut self.errand.report;
                        settled += lane.hear(&reply, now_ns, &mut self.times, report);
                    }
                    Err(_) => self.times.unexpected(),
                }
            });
        }
        settled
    }

    /// Repeats requests that have waited for too long. Gives up those that have waited for the whole timeout, or all
    /// if the run was stopped. Returns how many messages were given up.
    fn repeat(&mut self, stopped: bool) -> u64 {
        let part = self.errand.part;
        let timeout_ns = match stopped {
            true => 0,
            false => part.window.timeout_ns,
        };
        let mut given_up = 0;
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            let now_ns = part.now_ns();
            if now_ns < lane.due_ns() && !stopped {
                continue;
            }
            given_up += lane.look(now_ns, timeout_ns, &mut self.train, &mut self.times);
            if self.train.is_empty() {
                continue;
            }
            let (left, result) =
                self.train
                    .send(&lane.connection().socket, || part.is_stopped(), |_| {});
            let contents = Sent {
                datagrams: left as u64,
                bytes: self.train.bytes_of(left) as u64,
                ..Sent::default()
            };
            self.train.clear();
            self.times.once.repeated += left as u64;
            self.departed(contents, now_ns);
            if let Err(source) = result {
                let contents = Sent::default();
                self.errand.report.stranded(Stranded { contents, source });
            }
        }
        given_up
    }
}

/// Begins a request, and writes the next `most` adds, or as many as fit. Returns their number.
fn write(
    writer: &mut RequestWriter,
    script: &mut Script,
    once: Once,
    load: &Load,
    most: u64,
) -> u64 {
    let started = writer.start(&Header {
        // The id tells the requests of a socket apart, of which fewer than 2^32 are under way.
        id: once.sequence as u32,
        once: Some(once),
        sketch: load.sketch.number(),
        ..Header::default()
    });
    debug_assert!(started.is_ok(), "a header fits a datagram");
    let mut adds = 0;
    while adds < most {
        let (_, key) = script.next();
        if writer.add(key, load.weight.into()).is_err() {
            script.put_back();
            break;
        }
        adds += 1;
    }
    debug_assert!(adds > 0, "any add fits a datagram of its own");
    adds
}
