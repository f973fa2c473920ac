//! Tests with everything that a socket can receive: all short strings, and random datagrams by the million.

use std::net::UdpSocket;

use rmbd::config::IoChoice;
use rmbd::node::Node;
use rmbd::status::Status;
use rmbd_proto::compact::{self, Operation};
use rmbd_proto::legacy::{Dialect, Layout, Message, encode_count, messages};
use rmbd_sketch::MAX_WEIGHT;
use rmbd_udp::send_segments;

use crate::support::{BACKENDS, client_of, config, receive, runs_alone, wait_for};

/// Number of random datagrams; `RMBD_TEST_DATAGRAMS=10000000` sends more.
const DATAGRAMS: u64 = 1_000_000;
const SEED: u64 = 0x5eed_0001;

/// The counters that the node must have, by a parse of the same bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    datagrams: u64,
    add: u64,
    count: u64,
    /// Number of hits, bounds and infos of the compact format.
    other: u64,
    rare: u64,
    malformed: u64,
    /// Number of requests that are understood and refused, except by the compact format's limits.
    refused: u64,
    /// Number of replies to nothing that was asked.
    unsolicited: u64,
}

impl Expected {
    fn take(&mut self, datagram: &[u8], layout: Layout) {
        self.datagrams += 1;
        if datagram
            .first()
            .is_some_and(|&first| compact::is_request(first))
        {
            return self.take_compact(datagram);
        }
        if datagram
            .first()
            .is_some_and(|&first| compact::is_reply(first))
        {
            return self.unsolicited += 1;
        }
        for message in messages(datagram, layout) {
            match message {
                Ok(Message::Add { .. }) => self.add += 1,
                Ok(Message::Count { .. }) => self.count += 1,
                Ok(_) => self.rare += 1,
                Err(_) => self.malformed += 1,
            }
        }
    }

    fn take_compact(&mut self, datagram: &[u8]) {
        let Ok(request) = compact::request(datagram) else {
            return self.malformed += 1;
        };
        // Random bytes do not hit the boot.
        if request.sketch.0 != 0 || request.once.is_some() {
            return self.refused += 1;
        }
        for operation in request.operations() {
            match operation {
                Ok(Operation::Add { weight, .. } | Operation::Hit { weight, .. })
                    if weight > MAX_WEIGHT.into() =>
                {
                    return self.refused += 1;
                }
                Ok(Operation::Hit { window_ms: 1.., .. }) => return self.refused += 1,
                Ok(Operation::Add { .. }) => self.add += 1,
                Ok(Operation::Count { .. }) => self.count += 1,
                Ok(_) => self.other += 1,
                Err(_) => self.malformed += 1,
            }
        }
    }

    fn of(status: &Status) -> Self {
        Self {
            datagrams: status.datagrams.received,
            add: status.messages.add,
            count: status.messages.count,
            other: status.messages.hit + status.messages.bounds + status.messages.info,
            rare: status.messages.sync + status.messages.peer + status.messages.ack,
            malformed: status.datagrams.malformed.values().sum(),
            refused: compact_refusals(status),
            unsolicited: unsolicited(status),
        }
    }
}

/// Number of unsolicited replies. The data thread refuses them, or the control thread does while it awaits other
/// replies, or there were too many rare messages at once: then the missing ones are counted there.
fn unsolicited(status: &Status) -> u64 {
    let refused = |name| status.datagrams.refused.get(name).copied().unwrap_or(0);
    refused("unsolicited_reply") + refused("reply_of_nobody")
}

/// Whether everything is counted as expected.
fn is_all(status: &Status, expected: &Expected) -> bool {
    let counted = Expected::of(status);
    let missing = expected.unsolicited.checked_sub(counted.unsolicited);
    let too_many = status.datagrams.refused["queue_full"];
    let counted = Expected {
        unsolicited: expected.unsolicited,
        ..counted
    };
    counted == *expected && missing.is_some_and(|missing| missing <= too_many)
}

/// Number of refusals by the compact format. The other refusals come from rare messages, which are counted apart.
fn compact_refusals(status: &Status) -> u64 {
    let problems = compact::Problem::ALL.iter().map(|problem| problem.name());
    problems
        .filter_map(|name| status.datagrams.refused.get(name))
        .sum()
}

/// Waits until the node has read all that was sent, so that no buffer overflows.
fn settle(client: &UdpSocket, expected: &mut Expected, layout: Layout) {
    let count = encode_count(b"are you there?");
    client.send(&count).unwrap();
    expected.take(&count, layout);
    // Answers to random counts may come first.
    while !receive(client)[1..].starts_with(b"are you there?") {}
}

fn layout() -> Layout {
    Layout {
        dialect: Dialect::Native,
        width: 1 << 12,
        depth: 4,
    }
}

#[test]
fn every_string_of_up_to_three_bytes_is_counted_as_what_it_is() {
    let node = Node::start(config(IoChoice::Auto)).unwrap();
    let client = client_of(&node);
    let mut expected = Expected::default();
    client.send(&[]).unwrap();
    expected.take(&[], layout());
    for len in 1..=3usize {
        let all: Vec<u32> = (0..1 << (8 * len)).collect();
        for (i, chunk) in all.chunks(64).enumerate() {
            let train: Vec<u8> = chunk
                .iter()
                .flat_map(|n| n.to_le_bytes().into_iter().take(len))
                .collect();
            send_segments(&client, None, &train, len as u16).unwrap();
            train
                .chunks(len)
                .for_each(|datagram| expected.take(datagram, layout()));
            if i % 16 == 0 {
                settle(&client, &mut expected, layout());
            }
        }
    }
    settle(&client, &mut expected, layout());
    let status = wait_for(&node, "all", |s| is_all(s, &expected));
    assert_eq!(status.messages.ack, 1 + (1 << 8) + (1 << 16));
}

/// A random generator (xorshift64*). Any would do; this one needs no memory.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Writes a random datagram, whose length and type mostly make some sense.
    fn datagram(&mut self, out: &mut Vec<u8>) {
        let lengths = [
            0, 1, 2, 140, 141, 142, 143, 145, 153, 282, 403, 809, 1269, 1410,
        ];
        let len = match self.next() % 4 {
            0 => self.next() as usize % 1500,
            _ => lengths[self.next() as usize % lengths.len()],
        };
        out.clear();
        out.resize(len, self.next() as u8);
        for at in (0..len).step_by(141) {
            out[at] = match self.next() % 8 {
                0 => self.next() as u8,
                n => (n % 6) as u8,
            };
            if let Some(length_byte) = out.get_mut(at + 1) {
                *length_byte = self.next() as u8;
            }
        }
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn random_datagrams_are_all_counted_and_cost_no_memory() {
    if !runs_alone("flood::random_datagrams_are_all_counted_and_cost_no_memory") {
        return;
    }
    let asked = std::env::var("RMBD_TEST_DATAGRAMS").ok();
    let asked = asked.filter(|text| !text.is_empty());
    let datagrams = asked.map_or(DATAGRAMS, |text| {
        text.parse().expect("RMBD_TEST_DATAGRAMS is a number")
    });
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        let (mut expected, mut random) = (Expected::default(), Random(SEED));
        let mut datagram = Vec::with_capacity(2048);
        let mut resident_before = 0;
        for i in 0..datagrams / 2 {
            random.datagram(&mut datagram);
            client.send(&datagram).unwrap();
            expected.take(&datagram, layout());
            if i % 32 == 0 {
                settle(&client, &mut expected, layout());
            }
            if i == datagrams / 20 {
                resident_before = resident_bytes();
            }
        }
        settle(&client, &mut expected, layout());
        let what = format!("{expected:?}, seed {SEED:#x}, {io}");
        let status = wait_for(&node, &what, |s| is_all(s, &expected));
        let grown = resident_bytes().saturating_sub(resident_before);
        assert!(grown < 4 << 20, "{grown} bytes more, {io}");
        assert_eq!(status.datagrams.dropped_by_kernel, 0);
    }
}
