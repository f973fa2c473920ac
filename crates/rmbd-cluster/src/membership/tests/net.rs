//! A network in virtual time: a seed decides what is lost and how long the rest takes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Header, Message};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::super::datagram::{Datagram, Update};
use super::super::{
    Member, MemberState, Membership, MembershipDatagram, MembershipEvent, MembershipOptions,
};
use rmbd_proto::Boot;

/// What a caller waits before it tries to join again.
const JOIN_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) nodes: BTreeMap<SocketAddr, Membership>,
    /// Share of datagrams that is lost.
    pub(super) loss: f64,
    /// Those on one side of a cut.
    pub(super) island: BTreeSet<SocketAddr>,
    /// Nodes whose process stands still; what reaches them waits.
    pub(super) stopped: BTreeSet<SocketAddr>,
    /// Other ways to an address.
    pub(super) aliases: BTreeMap<SocketAddr, SocketAddr>,
    pub(super) events: Vec<(Duration, SocketAddr, MembershipEvent)>,
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    /// Every message, while it is not `None`.
    pub(super) recorded: Option<Vec<Vec<u8>>>,
    in_flight: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    joins: BTreeMap<SocketAddr, (Duration, Vec<SocketAddr>)>,
    rng: ChaCha8Rng,
}

pub(super) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 8001))
}

/// Node `index`, in its `run`th run.
pub(super) fn member(index: usize, run: u64) -> Member {
    Member {
        node: 1_000 + index as u64,
        boot: Boot(1_000_000 * run + index as u64 + 1),
        started_ms: 1_700_000_000_000 + run * 60_000,
        renewals: 0,
        address: address(index),
        client_port: 8000,
    }
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A message as foca writes it.
pub(super) fn datagram(
    src: Member,
    dst: Member,
    message: Message<Member>,
    updates: Vec<Update>,
) -> Vec<u8> {
    let header = Header {
        src,
        src_incarnation: 0,
        dst,
        message,
    };
    Datagram { header, updates }.write().unwrap()
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            loss: 0.0,
            island: BTreeSet::new(),
            stopped: BTreeSet::new(),
            aliases: BTreeMap::new(),
            events: Vec::new(),
            datagrams: 0,
            bytes: 0,
            recorded: None,
            in_flight: BTreeMap::new(),
            joins: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// `count` nodes that all join the first one, and know each other.
    pub(super) fn whole(count: usize, seed: u64) -> Self {
        let mut net = Self::new(seed);
        for index in 0..count {
            net.start(member(index, 1), &[address(0)]);
        }
        net.run_until("all know each other", secs(60), Self::is_whole);
        net.events.clear();
        net
    }

    /// Starts a process, in place of one that runs at the address; it tries to join `seeds` while it
    /// is alone.
    pub(super) fn start(&mut self, me: Member, seeds: &[SocketAddr]) {
        let node = Membership::new(me, self.rng.random(), MembershipOptions::default());
        self.nodes.insert(me.address, node);
        self.joins.insert(me.address, (self.now, seeds.to_vec()));
        self.stopped.remove(&me.address);
    }

    pub(super) fn kill(&mut self, address: SocketAddr) -> Membership {
        self.joins.remove(&address);
        self.nodes.remove(&address).unwrap()
    }

    pub(super) fn leave(&mut self, address: SocketAddr) {
        let now = self.now;
        self.nodes.get_mut(&address).unwrap().leave(now);
        self.collect();
        self.kill(address);
    }

    /// From now on whoever is alone has to help itself.
    pub(super) fn stop_joining(&mut self) {
        self.joins.clear();
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.collect();
        while self.step(end) {}
        self.now = end;
    }

    /// How long it took.
    pub(super) fn run_until(
        &mut self,
        what: &str,
        limit: Duration,
        is_reached: impl Fn(&Self) -> bool,
    ) -> Duration {
        let start = self.now;
        self.collect();
        while !is_reached(self) {
            assert!(
                self.step(start + limit),
                "not within {limit:?}: {what}\n{self:?}"
            );
        }
        self.now - start
    }

    /// Everybody sees everybody else as they are, alive, and nobody else up.
    pub(super) fn is_whole(&self) -> bool {
        self.nodes.keys().all(|address| self.is_right(*address))
    }

    /// How `of` is seen at `at`, whatever its identity.
    pub(super) fn state(&self, at: SocketAddr, of: SocketAddr) -> Option<(Member, MemberState)> {
        let mut members = self.nodes[&at].members();
        members
            .find(|(member, _)| member.address == of)
            .map(|(member, state)| (*member, state))
    }

    /// Whether all others see `of` down.
    pub(super) fn is_down_everywhere(&self, of: SocketAddr) -> bool {
        self.nodes.keys().all(|at| {
            let state = self.state(*at, of);
            *at == of || state.is_some_and(|(_, state)| state == MemberState::Down)
        })
    }

    pub(super) fn count(&self, is_counted: impl Fn(SocketAddr, &MembershipEvent) -> bool) -> usize {
        let counted = |(_, at, event): &&_| is_counted(*at, event);
        self.events.iter().filter(counted).count()
    }

    fn is_right(&self, at: SocketAddr) -> bool {
        // A node makes its list anew each time that it is asked, so it is asked once.
        let members = self.nodes[&at].members();
        let up: Vec<(&Member, MemberState)> = members
            .filter(|(_, state)| *state != MemberState::Down)
            .collect();
        let seen: BTreeMap<SocketAddr, &(&Member, MemberState)> =
            (up.iter().map(|seen| (seen.0.address, seen))).collect();
        let mut others = self.nodes.values().filter(|node| node.me().address != at);
        up.len() + 1 == self.nodes.len()
            && others.all(|other| {
                let me = other.me();
                seen.get(&me.address) == Some(&&(me, MemberState::Alive))
            })
    }

    /// The next thing that happens until `end`, or `false`.
    fn step(&mut self, end: Duration) -> bool {
        let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
        let wake = self.awake().filter_map(|(_, node)| node.next_wake()).min();
        let join = self.joins.values().map(|(at, _)| *at).min();
        let Some(next) = [arrival, wake, join].into_iter().flatten().min() else {
            return false;
        };
        if next > end {
            return false;
        }
        self.now = self.now.max(next);
        let now = self.now;
        if join == Some(next) {
            self.join_again();
        } else if arrival == Some(next) {
            self.deliver();
        } else {
            let stopped = self.stopped.clone();
            let awake = self
                .nodes
                .iter_mut()
                .filter(|(at, _)| !stopped.contains(at));
            for (_, node) in awake {
                if node.next_wake().is_some_and(|at| at <= now) {
                    node.wake(now);
                }
            }
        }
        self.collect();
        true
    }

    fn awake(&self) -> impl Iterator<Item = (&SocketAddr, &Membership)> {
        let is_awake = |(at, _): &(&SocketAddr, _)| !self.stopped.contains(at);
        self.nodes.iter().filter(is_awake)
    }

    fn join_again(&mut self) {
        for (at, (due, seeds)) in &mut self.joins {
            if *due > self.now {
                continue;
            }
            *due += JOIN_AGAIN;
            let node = self.nodes.get_mut(at).unwrap();
            if node.is_alone() && !self.stopped.contains(at) {
                for seed in seeds {
                    node.join(self.now, *seed);
                }
            }
        }
    }

    fn deliver(&mut self) {
        let Some((_, (from, to, bytes))) = self.in_flight.pop_first() else {
            return;
        };
        let is_cut = self.island.contains(&from) != self.island.contains(&to);
        if self.stopped.contains(&to) {
            let later = (self.now + secs(1), self.rng.random());
            self.in_flight.insert(later, (from, to, bytes));
        } else if !is_cut && let Some(node) = self.nodes.get_mut(&to) {
            node.handle(self.now, &bytes)
                .unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
        }
    }

    fn collect(&mut self) {
        for (from, node) in &mut self.nodes {
            while let Some(event) = node.poll_event() {
                self.events.push((self.now, *from, event));
            }
            while let Some(MembershipDatagram {
                to, message: bytes, ..
            }) = node.poll_transmit()
            {
                self.datagrams += 1;
                self.bytes += bytes.len() as u64;
                if let Some(recorded) = &mut self.recorded {
                    recorded.push(bytes.clone());
                }
                if self.rng.random_bool(self.loss) {
                    continue;
                }
                let to = *self.aliases.get(&to).unwrap_or(&to);
                let delay = Duration::from_micros(self.rng.random_range(100..5_000));
                let key = (self.now + delay, self.rng.random());
                self.in_flight.insert(key, (*from, to, bytes));
            }
        }
    }
}

/// What is not right.
impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, node) in &self.nodes {
            for (member, state) in node.members() {
                let real = self.nodes.get(&member.address).map(Membership::me);
                let is_up = state == MemberState::Alive;
                if is_up != real.is_some() || is_up && real != Some(member) {
                    writeln!(f, "{at} sees {state:?} {member:?}, is {real:?}")?;
                }
            }
            let lacks = |of: &&SocketAddr| *of != at && self.state(*at, **of).is_none();
            let lacking: Vec<_> = self.nodes.keys().filter(lacks).collect();
            if !lacking.is_empty() {
                writeln!(f, "{at} does not know {lacking:?}")?;
            }
        }
        Ok(())
    }
}
