//! Tests of a client's window and a node's, with a network between them that loses, doubles and delays for any time.
//! A copy may come when its request was settled long ago and the window has moved past it. The node refuses the copy
//! as too old, rightly, and the client ignores that answer.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use rmbd_proto::compact::Problem;
use rmbd_store::once::{Admission, Caller, OnceTable};

use super::*;
use crate::closed::once::patience::PATIENCE_FIRST_NS;
use crate::plan::Window;
use crate::plan::testing::load;

use rmbd_testkit::random::Random;

const MS: u64 = 1_000_000;

/// One client, one node, and the network between them.
struct World<'a> {
    lane: Lane<'a>,
    times: Times,
    report: SenderReport,
    train: Train,
    now_ns: u64,
    node: OnceTable,
    applied: BTreeSet<u64>,
    /// Numbers of refusals as too old: of requests that the client still waited for, and of others.
    too_old: (u64, u64),
    /// Sequences of copies that are on their way; replies on their way follow.
    requests: Vec<u64>,
    replies: Vec<ReplyHead>,
}

impl<'a> World<'a> {
    fn new(connection: &'a Connection) -> Self {
        let window = Window::new(0, &load("add", "uniform:9"));
        Self {
            lane: Lane::new(connection),
            times: Times::new(window, 1),
            report: SenderReport::new(&window, 1),
            train: Train::new(None, 64),
            now_ns: 0,
            node: OnceTable::new(1, &[7; 32]),
            applied: BTreeSet::new(),
            too_old: (0, 0),
            requests: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// Sends new requests of one add each, as many as the window has room for.
    fn send(&mut self, most: u64) {
        let first = self.lane.next;
        for _ in 0..most {
            if !self.lane.has_room() {
                break;
            }
            let sequence = self.lane.next;
            self.lane.put(&sequence.to_le_bytes(), 1, self.now_ns);
            self.requests.push(sequence);
        }
        let left = (self.lane.next - first) as usize;
        self.lane.launched(first, left, self.now_ns);
    }

    /// Waits, and repeats requests that are overdue then.
    fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
        self.train.clear();
        let given_up = (self.lane).look(self.now_ns, u64::MAX, &mut self.train, &mut self.times);
        assert_eq!(given_up, 0, "nothing is ever given up here");
        for datagram in self.train.datagrams() {
            let bytes = datagram.try_into().unwrap();
            self.requests.push(u64::from_le_bytes(bytes));
        }
    }

    /// Delivers a copy to the node, which sends its reply.
    fn arrive(&mut self, sequence: u64) {
        let reply = ReplyHead {
            id: sequence as u32,
            done: 1,
            ..ReplyHead::default()
        };
        let ip = Ipv4Addr::LOCALHOST.into();
        let cookie = self.node.cookie(ip, Duration::ZERO);
        let caller = Caller {
            client: 1,
            ip,
            cookie: Some(&cookie),
        };
        let reply = match self.node.admit(caller, sequence, Duration::ZERO) {
            Admission::New => {
                assert!(self.applied.insert(sequence), "{sequence} counts twice");
                reply
            }
            Admission::Repeat => ReplyHead {
                repeated: true,
                ..reply
            },
            Admission::TooOld => {
                match self.lane.oldest <= sequence && self.lane.request(sequence).waits {
                    true => self.too_old.0 += 1,
                    false => self.too_old.1 += 1,
                }
                ReplyHead {
                    done: 0,
                    code: Problem::SequenceTooOld.code(),
                    ..reply
                }
            }
            Admission::Unproven | Admission::NetworkFull | Admission::Full => {
                panic!("there is one client, and it shows its cookie")
            }
        };
        self.replies.push(reply);
    }

    fn take(&mut self, reply: ReplyHead) {
        (self.lane).settle(reply, self.now_ns, &mut self.times, &mut self.report);
    }

    /// Delivers everything that is on its way, in order.
    fn calm(&mut self) {
        for sequence in std::mem::take(&mut self.requests) {
            self.arrive(sequence);
        }
        for reply in std::mem::take(&mut self.replies) {
            self.take(reply);
        }
    }

    /// Checks that all that was sent is applied once and acknowledged, whatever was refused.
    fn check(&mut self, about: &str) {
        while !self.lane.is_settled() {
            self.wait(1000 * MS);
            self.calm();
        }
        assert_eq!(self.too_old.0, 0, "one that the client waits for, {about}");
        assert_eq!(self.report.refused, None, "{about}");
        assert_eq!(self.times.answers.unexpected, 0, "{about}");
        let once = self.times.once;
        assert_eq!(
            (once.acknowledged, once.uncertain),
            (self.lane.next, 0),
            "{about}"
        );
        assert_eq!(self.applied.len() as u64, self.lane.next, "{about}");
    }
}

fn connection() -> Connection {
    let anybody = "127.0.0.1:9".parse().unwrap();
    Connection::open(&[anybody], 0, &load("add", "uniform:9")).unwrap()
}

#[test]
fn a_copy_that_comes_when_the_window_has_moved_on_is_too_old_and_nobody_minds() {
    let connection = connection();
    let mut world = World::new(&connection);
    // All requests of a window but the first are acknowledged.
    world.send(ONCE_WINDOW);
    assert_eq!(world.requests.remove(0), 0, "lost");
    world.calm();
    world.send(1);
    assert!(world.requests.is_empty(), "the first holds the window");
    // The repeat of the first request comes, and is doubled on the way; the double is overtaken.
    world.wait(PATIENCE_FIRST_NS);
    assert_eq!(world.requests, [0]);
    world.calm();
    world.send(1);
    world.calm();
    world.arrive(0);
    assert_eq!(world.too_old, (0, 1));
    let [refusal] = world.replies[..] else {
        panic!("{:?}", world.replies);
    };
    assert_eq!(refusal.code, Problem::SequenceTooOld.code());
    world.take(refusal);
    world.check("in the end");
}

#[test]
fn no_order_of_copies_and_replies_refuses_what_is_waited_for() {
    let mut late_copies = 0;
    for seed in 0..40 {
        let connection = connection();
        let (mut world, mut random) = (World::new(&connection), Random(seed));
        for _ in 0..600 {
            match random.below(8) {
                0..2 => world.send(1 + random.below(ONCE_WINDOW)),
                2 => world.wait(random.below(400) * MS),
                3 => world.replies.retain(|_| random.below(3) > 0),
                4 => world.requests.retain(|_| random.below(3) > 0),
                // Some copies come, from any place in the queue, and some of these will come again.
                5..7 => {
                    for _ in 0..random.below(400) {
                        if world.requests.is_empty() {
                            break;
                        }
                        let at = random.below(world.requests.len() as u64) as usize;
                        let sequence = match random.below(8) {
                            0 => world.requests[at],
                            _ => world.requests.swap_remove(at),
                        };
                        world.arrive(sequence);
                    }
                }
                _ => {
                    for reply in std::mem::take(&mut world.replies) {
                        world.take(reply);
                    }
                }
            }
        }
        world.check(&format!("seed {seed}"));
        late_copies += world.too_old.1;
    }
    assert!(
        late_copies > 100,
        "the case that this is about: {late_copies}"
    );
}
