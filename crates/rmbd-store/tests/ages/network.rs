//! Nodes of the model on a network that loses, doubles and delays, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};

use rmbd_testkit::random::Random;

use super::model::{Arrival, Excess, Knowledge, Mark, Parcels, Rules, STEP, Tick, Writer};

const NODES: usize = 4;
const TICKS: Tick = 700;
/// Of 100 messages so many are lost, and so many sent twice.
const LOST: u64 = 15;
const DOUBLED: u64 = 10;
/// Longest stop of a process.
pub(crate) const STOP_MAX: Tick = 100;
/// Messages that wait for a process that is stopped.
const WAITING_MAX: usize = 200;
/// Ticks after which a message that was not acknowledged is sent again.
const PATIENCE: Tick = 4;
/// Ticks for which others may be behind before a slice of the dead is pulled.
const PULL_AFTER: Tick = 6;

/// What happens to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Restarts,
    Partitions,
    OneWay,
    Stops,
    All,
}

impl Trouble {
    fn has(self, other: Self) -> bool {
        self == other || self == Self::All
    }
}

#[derive(Debug, Clone)]
enum Message {
    /// A slice's value, with the age and the value of each mark.
    Parcel {
        of: Writer,
        value: u64,
        marks: Vec<Mark>,
        number: u64,
    },
    Acknowledged {
        of: Writer,
        number: u64,
        value: u64,
    },
    Digest(Vec<(Writer, u64)>),
    Pull {
        of: Writer,
        known: u64,
    },
}

#[derive(Debug, Clone)]
struct Packet {
    to: (usize, Writer),
    from: (usize, Writer),
    message: Message,
}

/// How far another node has our slice.
#[derive(Debug)]
struct Peer {
    base: u64,
    /// The latest time at which it is known to have had all that there was.
    had_at: Tick,
    under_way: BTreeMap<u64, Tick>,
}

#[derive(Debug)]
struct Node {
    is_up: bool,
    stopped_at: Tick,
    stopped_until: Tick,
    waiting: Vec<Packet>,
    known: Knowledge,
    peers: BTreeMap<Writer, Peer>,
    /// Slices that others have more of: since when, and how much was known here then.
    suspects: BTreeMap<Writer, (Tick, u64)>,
}

struct World {
    random: Random,
    rules: Rules,
    now: Tick,
    number: u64,
    nodes: Vec<Node>,
    /// By time and number.
    network: BTreeMap<(Tick, u64), Packet>,
    /// When each unit of each writer was counted.
    counted: Vec<Vec<Tick>>,
    cut: BTreeSet<(usize, usize)>,
    /// Of 100 ticks a node counts in so many.
    rate: u64,
}

enum Repair {
    Connect,
    ConnectOneWay(usize, usize),
    Start(usize),
}

/// Runs a cluster of the model.
pub(crate) fn run(seed: u64, rules: Rules, trouble: Trouble) -> Excess {
    let mut fate = Random(seed * 2 + 1);
    let mut world = World::new(seed, rules);
    world.rate = [10, 40][fate.below(2) as usize];
    let mut excess = Excess::default();
    let mut repairs: Vec<(Tick, Repair)> = Vec::new();
    for _ in 0..TICKS {
        world.trouble(trouble, &mut fate, &mut repairs);
        let due: Vec<_> = repairs.extract_if(.., |(at, _)| *at <= world.now).collect();
        due.into_iter().for_each(|(_, repair)| world.repair(repair));
        world.tick();
        world.judge(&mut excess);
    }
    excess
}

impl World {
    fn new(seed: u64, rules: Rules) -> Self {
        let mut world = Self {
            random: Random(seed),
            rules,
            now: 0,
            number: 0,
            nodes: Vec::new(),
            network: BTreeMap::new(),
            counted: Vec::new(),
            cut: BTreeSet::new(),
            rate: 0,
        };
        for _ in 0..NODES {
            let node = world.start();
            world.nodes.push(node);
        }
        world
    }

    fn start(&mut self) -> Node {
        self.counted.push(Vec::new());
        Node {
            is_up: true,
            stopped_at: 0,
            stopped_until: 0,
            waiting: Vec::new(),
            known: Knowledge::new(self.rules, self.counted.len() - 1, self.now),
            peers: BTreeMap::new(),
            suspects: BTreeMap::new(),
        }
    }

    fn chance(&mut self, of_100: u64) -> bool {
        self.random.below(100) < of_100
    }

    fn trouble(&mut self, kind: Trouble, fate: &mut Random, repairs: &mut Vec<(Tick, Repair)>) {
        let one = fate.below(NODES as u64) as usize;
        let other = (one + 1 + fate.below(NODES as u64 - 1) as usize) % NODES;
        let now = self.now;
        let mut after = |times: &[Tick]| now + times[fate.below(times.len() as u64) as usize];
        match self.random.below(1_000) {
            0..4 if kind.has(Trouble::Partitions) => {
                for other in (0..NODES).filter(|&other| other != one) {
                    self.cut.extend([(one, other), (other, one)]);
                }
                repairs.push((after(&[15, 60, 150]), Repair::Connect));
            }
            4..8 if kind.has(Trouble::Stops) => {
                let node = &mut self.nodes[one];
                if node.is_up && node.stopped_until <= now {
                    (node.stopped_at, node.stopped_until) = (now, after(&[8, 30, STOP_MAX]));
                }
            }
            8..14 if kind.has(Trouble::Restarts) => {
                self.nodes[one].is_up = false;
                repairs.push((after(&[2, 20]), Repair::Start(one)));
            }
            14..18 if kind.has(Trouble::OneWay) => {
                self.cut.insert((one, other));
                repairs.push((after(&[30, 120]), Repair::ConnectOneWay(one, other)));
            }
            _ => {}
        }
    }

    fn repair(&mut self, repair: Repair) {
        match repair {
            Repair::Connect => self.cut.clear(),
            Repair::ConnectOneWay(from, to) => {
                self.cut.remove(&(from, to));
            }
            Repair::Start(node) => {
                if !self.nodes[node].is_up {
                    self.nodes[node] = self.start();
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: (usize, Writer), message: Message) {
        if self.cut.contains(&(from, to.0)) {
            return;
        }
        let from = (from, self.nodes[from].known.writer);
        let copies = 1 + u64::from(self.chance(DOUBLED));
        for _ in 0..copies {
            if self.chance(LOST) {
                continue;
            }
            let delay = if self.chance(95) {
                [0, 0, 1, 1, 2, 3][self.random.below(6) as usize]
            } else {
                self.random.below(61) as Tick
            };
            self.number += 1;
            let packet = Packet {
                to,
                from,
                message: message.clone(),
            };
            self.network.insert((self.now + delay, self.number), packet);
        }
    }

    fn is_running(&self, node: usize) -> bool {
        self.nodes[node].is_up && self.nodes[node].stopped_until <= self.now
    }

    fn tick(&mut self) {
        self.now += 1;
        for node in 0..NODES {
            if self.is_running(node) {
                let began = self.nodes[node].stopped_at;
                for packet in std::mem::take(&mut self.nodes[node].waiting) {
                    self.deliver(packet, began);
                }
            }
        }
        while let Some((&(at, number), _)) = self.network.first_key_value()
            && at <= self.now
        {
            let packet = self.network.remove(&(at, number));
            packet.into_iter().for_each(|packet| self.arrive(packet));
        }
        for node in 0..NODES {
            if self.is_running(node) {
                self.work(node);
            }
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let node = &mut self.nodes[packet.to.0];
        if !node.is_up || node.known.writer != packet.to.1 {
            return;
        }
        if node.stopped_until <= self.now {
            self.deliver(packet, self.now);
        } else if node.waiting.len() < WAITING_MAX {
            node.waiting.push(packet);
        }
    }

    /// Takes a message. The clock was read at `read_before` for the last time before the message was received.
    fn deliver(&mut self, packet: Packet, read_before: Tick) {
        let (node, from) = (packet.to.0, packet.from);
        match packet.message {
            Message::Parcel {
                of,
                value,
                marks,
                number,
            } => {
                let arrival = match self.rules.arrival {
                    Arrival::ReadAfterwards => self.now,
                    Arrival::ReadBefore => read_before,
                };
                let known = &mut self.nodes[node].known;
                if of != known.writer {
                    let marks = marks.into_iter().map(|(age, value)| (arrival - age, value));
                    known.learn(self.now, of, value, &marks.collect::<Vec<Mark>>());
                    self.send(node, from, Message::Acknowledged { of, number, value });
                }
            }
            Message::Acknowledged { of, number, value } => {
                let node = &mut self.nodes[node];
                if let Some(peer) = node.peers.get_mut(&from.1)
                    && of == node.known.writer
                    && let Some(sent_at) = peer.under_way.remove(&number)
                    && value > peer.base
                {
                    (peer.base, peer.had_at) = (value, sent_at);
                }
            }
            Message::Digest(lines) => self.compare(node, from, lines),
            Message::Pull { of, known } => {
                if self.nodes[node].known.value(of) > known {
                    self.tell(node, from, of, known, None);
                }
            }
        }
    }

    fn compare(&mut self, node: usize, from: (usize, Writer), lines: Vec<(Writer, u64)>) {
        for (of, value) in lines {
            let own = self.nodes[node].known.writer;
            let known = self.nodes[node].known.value(of);
            if of == own || of == from.1 || value <= known {
                continue;
            }
            let is_alive = (self.nodes.iter()).any(|node| node.is_up && node.known.writer == of);
            let (now, suspects) = (self.now, &mut self.nodes[node].suspects);
            let (since, then) = *suspects.entry(of).or_insert((now, known));
            if then != known && is_alive {
                suspects.insert(of, (now, known));
            } else if !is_alive || now - since >= PULL_AFTER {
                suspects.remove(&of);
                self.send(node, from, Message::Pull { of, known });
            }
        }
    }

    /// Tells somebody who has a slice up to `base` what it is now.
    fn tell(
        &mut self,
        node: usize,
        to: (usize, Writer),
        of: Writer,
        base: u64,
        had_at: Option<Tick>,
    ) {
        let known = &self.nodes[node].known;
        let value = known.value(of);
        let is_lately = had_at.is_some_and(|at| self.now - at <= STEP);
        let mut marks: Vec<Mark> = Vec::new();
        if !is_lately && self.rules.parcels != Parcels::NoAges {
            let since = known.marks_since(self.now, of, base).into_iter();
            marks.extend(since.map(|(at, value)| (self.now - at, value)));
        }
        self.number += 1;
        let number = self.number;
        if self.rules.parcels == Parcels::Apart {
            for (age, value) in std::mem::take(&mut marks) {
                let (marks, number) = (vec![(age, value)], 0);
                self.send(
                    node,
                    to,
                    Message::Parcel {
                        of,
                        value,
                        marks,
                        number,
                    },
                );
            }
        }
        self.send(
            node,
            to,
            Message::Parcel {
                of,
                value,
                marks,
                number,
            },
        );
        if had_at.is_some()
            && let Some(peer) = self.nodes[node].peers.get_mut(&to.1)
        {
            peer.under_way.insert(number, self.now);
        }
    }

    fn work(&mut self, node: usize) {
        if self.chance(self.rate) {
            let count = [1, 1, 1, 2, 20][self.random.below(5) as usize];
            let known = &mut self.nodes[node].known;
            for _ in 0..count {
                self.counted[known.writer].push(self.now);
                known.count();
            }
        }
        let known = &mut self.nodes[node].known;
        known.take_snapshot(self.now);
        if self.now % STEP == node as Tick % STEP {
            known.end_step(self.now);
        }
        if self.now % 2 == 0 {
            self.push(node);
        }
    }

    /// Tells all others what they lack of our own slice, and one of them what we have of all slices.
    fn push(&mut self, node: usize) {
        let now = self.now;
        let up = (0..NODES).filter(|&other| other != node && self.nodes[other].is_up);
        let others: Vec<_> = up
            .map(|other| (other, self.nodes[other].known.writer))
            .collect();
        for &to in &others {
            let this = &mut self.nodes[node];
            let (own, value) = (this.known.writer, this.known.own().value);
            let peer = this.peers.entry(to.1).or_insert_with(|| Peer {
                base: 0,
                had_at: Tick::MIN / 2,
                under_way: BTreeMap::new(),
            });
            let last_sent = peer.under_way.values().max();
            if peer.base >= value {
                peer.had_at = now;
            } else if last_sent.is_none_or(|&at| now - at > PATIENCE) {
                if peer.under_way.len() > 8 {
                    peer.under_way.pop_first();
                }
                let (base, had_at) = (peer.base, peer.had_at);
                self.tell(node, to, own, base, Some(had_at));
            }
        }
        if !others.is_empty() {
            let to = others[self.random.below(others.len() as u64) as usize];
            let slices = self.nodes[node].known.slices.iter();
            let lines = slices
                .map(|(&writer, slice)| (writer, slice.value))
                .collect();
            self.send(node, to, Message::Digest(lines));
        }
    }

    /// Asks each node that can answer, and judges its answer by what it has heard of.
    fn judge(&self, excess: &mut Excess) {
        for node in (0..NODES).filter(|&node| self.is_running(node)) {
            let known = &self.nodes[node].known;
            let slices = known.slices.iter();
            let heard = slices.map(|(&of, slice)| &self.counted[of][..slice.value as usize]);
            excess.judge(self.now, known.answer(self.now), &heard.collect::<Vec<_>>());
        }
    }
}
