#![allow(clippy::unwrap_used)]

mod ages;
mod bad_input;
mod history;
mod missing;
mod releases;
mod resumed;
mod sketches;
mod top;

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;

use super::*;
use crate::gossip::LEAVE_LIMIT;
use crate::gossip::peers::Peer;
use crate::gossip::push::PUBLISH_CELLS;
use crate::gossip::slices_of;
use crate::membership::MemberState;
use rmbd_proto::cluster::{DigestEntry, SliceId};
use rmbd_proto::{Boot, Writer};
use rmbd_sketch::{Geometry, HashFamily};
use rmbd_store::{Replica, ReplicaLimits, fingerprint};

const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 7 };
const MS: Duration = Duration::from_millis(1);
const ROUND: Duration = Duration::from_millis(500);
/// One way.
const DELAY: Duration = MS;
/// So much more than its boot is the number of a node's writer.
const WRITER: u64 = 1 << 40;

struct Node {
    /// Of the first sketch.
    replica: Arc<Replica>,
    replicas: Vec<Arc<Replica>>,
    cluster: Cluster,
    address: SocketAddr,
}

/// When a datagram was sent, to whom, by whom, and its bytes.
type Sent = (Duration, SocketAddr, SocketAddr, Vec<u8>);

/// Nodes and the datagrams between them. Time is virtual.
struct Net {
    now: Duration,
    nodes: Vec<Node>,
    /// (arrives at, sent as number, to, from, bytes)
    under_way: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
    /// What was sent, where that is wanted.
    log: Option<Vec<Sent>>,
    loss: f64,
    random: ChaCha12Rng,
    limits: ReplicaLimits,
    /// Bytes that a node may send in a second.
    rate: u64,
    keys: KeyRing,
    /// Nodes between which nothing arrives, by their addresses.
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Nodes that tell others what they are, and nothing of what they have.
    mute: BTreeSet<SocketAddr>,
}

fn address(n: u16) -> SocketAddr {
    ([127, 0, 0, 1], 1000 + n).into()
}

impl Net {
    fn new(loss: f64) -> Self {
        Self {
            now: Duration::from_secs(1),
            nodes: Vec::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            log: None,
            loss,
            random: ChaCha12Rng::seed_from_u64(11),
            rate: 32 << 20,
            keys: KeyRing::public(),
            cut: BTreeSet::new(),
            mute: BTreeSet::new(),
            limits: ReplicaLimits {
                max_peers: 2,
                max_origins: 256,
                max_memory_bytes: u64::MAX,
            },
        }
    }

    fn start(&mut self, node: u64, boot: u64, port: u16, geometry: Geometry) -> usize {
        let first = (0, geometry, FAMILY);
        self.start_with(node, boot, port, &[first])
    }

    /// Starts a node with sketches of these numbers.
    fn start_with(
        &mut self,
        node: u64,
        boot: u64,
        port: u16,
        sketches: &[(u32, Geometry, HashFamily)],
    ) -> usize {
        let own = SliceId::of(node, Writer(boot + WRITER));
        let slices = self.slices(own, sketches);
        self.start_on(slices, boot, port)
    }

    /// The slices of sketches in which a writer writes.
    fn slices(&self, own: SliceId, sketches: &[(u32, Geometry, HashFamily)]) -> Vec<Slices> {
        let replicas = sketches.iter().map(|&(number, geometry, family)| {
            let sketch = SketchNumber(number);
            let own = SliceId { sketch, ..own };
            let replica = Replica::try_with(geometry, family, own, self.limits);
            Arc::new(replica.unwrap())
        });
        slices_of(replicas, self.now).unwrap()
    }

    /// Starts a node with these slices.
    fn start_on(&mut self, slices: Vec<Slices>, boot: u64, port: u16) -> usize {
        let replicas: Vec<Arc<Replica>> =
            slices.iter().map(|it| Arc::clone(it.replica())).collect();
        let replica = Arc::clone(&replicas[0]);
        let options = ClusterOptions {
            me: Member {
                node: replica.own_slice().node,
                boot: Boot(boot),
                started_ms: 1_000 + boot,
                renewals: 0,
                address: address(port),
                client_port: 1,
            },
            keys: self.keys.clone(),
            seed: boot,
            gossip_interval: ROUND,
            gossip_rate_bytes_per_s: self.rate,
            join: !self.nodes.is_empty(),
            shares_names: true,
            limits: ClusterLimits::default(),
        };
        let cluster = Cluster::try_new(self.now, options, slices).unwrap();
        self.nodes.push(Node {
            replica,
            replicas,
            cluster,
            address: address(port),
        });
        self.nodes.len() - 1
    }

    fn cluster_of(count: u16, geometry: Geometry, loss: f64) -> Self {
        let mut net = Self::new(loss);
        for n in 0..count {
            net.start(u64::from(n) + 1, u64::from(n) + 101, n, geometry);
            if n > 0 {
                let now = net.now;
                net.nodes[usize::from(n)].cluster.join(now, address(0));
            }
        }
        net.run(MS * 5_000);
        net
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// One moment at which something happens.
    fn step(&mut self, end: Duration) -> bool {
        let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
        let now = self.now;
        let wakes = self.nodes.iter().map(|node| node.cluster.next_wake(now));
        let snapshots = (self.nodes.iter()).filter_map(|node| node.cluster.next_snapshot());
        let next = wakes.chain(snapshots).chain(arrival).min();
        let next = next.unwrap_or(end + MS).max(now);
        if next > end {
            return false;
        }
        self.now = next;
        while let Some(entry) = self.under_way.first_entry()
            && entry.key().0 <= next
        {
            let (to, from, mut bytes) = entry.remove();
            if self.cut.contains(&(from, to)) || self.cut.contains(&(to, from)) {
                continue;
            }
            if let Some(node) = self.nodes.iter_mut().find(|node| node.address == to) {
                node.cluster.handle(next, from, &mut bytes);
            }
        }
        for node in &mut self.nodes {
            node.cluster.wake(next);
            while node.cluster.snapshot(&|| next, usize::MAX).is_some() {}
            if self.mute.contains(&node.address) {
                node.cluster.peers.iter_mut().for_each(Peer::keep_abouts);
            }
            let mut buffer = Vec::new();
            while let Some(to) = node.cluster.transmit(next, &mut buffer) {
                assert!(buffer.len() <= DATAGRAM_BYTES_MAX);
                self.sent += 1;
                if let Some(log) = &mut self.log {
                    log.push((next, to, node.address, buffer.clone()));
                }
                if self.random.random_bool(1.0 - self.loss) {
                    let datagram = (to, node.address, buffer.clone());
                    self.under_way.insert((next + DELAY, self.sent), datagram);
                }
            }
        }
        true
    }

    fn is_equal(&self) -> bool {
        let digests = |node: &Node| {
            let all = node.cluster.all_slices().flat_map(Slices::digests);
            let all = all.filter(|digest| digest.root != 0);
            all.map(|digest| (digest.slice, digest.root))
                .collect::<BTreeMap<_, _>>()
        };
        let first = digests(&self.nodes[0]);
        self.nodes.iter().all(|node| digests(node) == first)
    }

    /// Runs until all are equal; returns after how long.
    fn until_equal(&mut self, at_most: Duration) -> Duration {
        let start = self.now;
        while !self.is_equal()
            || self
                .nodes
                .iter()
                .any(|node| node.cluster.slices().own_version() == 0)
        {
            assert!(self.now < start + at_most, "not equal after {at_most:?}");
            self.run(MS * 10);
        }
        self.now - start
    }

    /// Runs until all are equal, whatever they have published.
    fn until_equal_in(&mut self, at_most: Duration) {
        let start = self.now;
        while !self.is_equal() {
            assert!(self.now < start + at_most, "not equal after {at_most:?}");
            self.run(MS * 10);
        }
    }

    fn live(&self, node: usize) -> usize {
        let members = self.nodes[node].cluster.membership.members();
        members
            .filter(|(_, state)| !matches!(state, MemberState::Down))
            .count()
    }
}

fn geometry() -> Geometry {
    Geometry::new(1 << 14, 4).unwrap()
}

#[test]
fn three_nodes_find_each_other_and_agree_within_two_rounds() {
    let mut net = Net::cluster_of(3, geometry(), 0.0);
    for node in 0..3 {
        assert_eq!(net.live(node), 2, "node {node}");
        for key in 0..10_000u32 {
            let key = (key * 3 + node as u32).to_le_bytes();
            net.nodes[node].replica.add(&key, 1.into()).unwrap();
        }
    }
    net.run(MS);
    let took = net.until_equal(ROUND * 4);
    assert!(took <= ROUND * 2, "{took:?}");
    net.run(ROUND);
    for node in &net.nodes {
        assert!(node.replica.estimate(&0u32.to_le_bytes()).count >= 1);
        assert_eq!(node.replica.total_weight(), 30_000);
        let state = node.cluster.status(net.now);
        assert!(
            state.members.iter().all(|member| member.lag_versions == 0),
            "{state:?}"
        );
        assert!(state.is_ready && state.converged_age.is_some());
        assert_eq!(
            state.refused.values().sum::<u64>(),
            0,
            "{:?}",
            state.refused
        );
        println!("{state:?}");
    }
}

#[test]
fn a_lossy_network_takes_a_few_rounds_more() {
    let mut net = Net::cluster_of(3, geometry(), 0.2);
    for node in 0..3 {
        for key in 0..10_000u32 {
            net.nodes[node]
                .replica
                .add(&key.to_le_bytes(), 2.into())
                .unwrap();
        }
    }
    let took = net.until_equal(ROUND * 10);
    println!("{took:?}");
    assert!(
        net.nodes
            .iter()
            .any(|node| node.cluster.peers.resends() > 0)
    );
}

#[test]
fn a_new_node_gets_slices_of_the_dead_from_its_neighbours() {
    let mut net = Net::cluster_of(3, geometry(), 0.0);
    for key in 0..10_000u32 {
        net.nodes[2]
            .replica
            .add(&key.to_le_bytes(), 2.into())
            .unwrap();
    }
    net.run(ROUND * 3);
    net.nodes.pop();
    net.run(MS * 20_000);
    assert_eq!(net.live(0), 1);
    let new = net.start(9, 909, 9, geometry());
    let now = net.now;
    net.nodes[new].cluster.join(now, address(1));
    let start = net.now;
    while !net.is_equal() {
        net.run(MS * 10);
        assert!(net.now < start + ROUND * 10);
    }
    assert_eq!(net.nodes[new].replica.total_weight(), 20_000);
    net.run(ROUND * 2);
    assert!(net.nodes[new].cluster.is_ready());
    println!("{:?}", net.nodes[new].cluster.status(net.now));
}

#[test]
fn a_target_gets_everything_and_gives_nothing() {
    let mut net = Net::cluster_of(2, geometry(), 0.0);
    net.nodes[0].replica.add(b"one", 1.into()).unwrap();
    net.nodes[1].replica.add(b"two", 2.into()).unwrap();
    net.run(ROUND * 3);
    let target = net.start(7, 707, 7, geometry());
    net.nodes[target].replica.add(b"three", 3.into()).unwrap();
    let now = net.now;
    net.nodes[0].cluster.push_to(now, address(7));
    net.run(ROUND * 8);
    let of = |net: &Net, node: usize| {
        [&b"one"[..], b"two", b"three"].map(|key| net.nodes[node].replica.estimate(key).count)
    };
    assert_eq!(of(&net, target), [1, 2, 3]);
    assert_eq!(of(&net, 0), [1, 2, 0]);
    assert_eq!(of(&net, 1), [1, 2, 0]);
    net.nodes[0].replica.add(b"one", 5.into()).unwrap();
    net.run(ROUND * 3);
    assert_eq!(of(&net, target), [6, 2, 3]);
    assert_eq!(net.nodes[target].cluster.status(net.now).members.len(), 0);
}

#[test]
fn leaving_pushes_what_is_left() {
    let mut net = Net::cluster_of(3, geometry(), 0.1);
    net.nodes[2].replica.add(b"last", 5.into()).unwrap();
    let now = net.now;
    net.nodes[2].cluster.leave(now);
    while !net.nodes[2].cluster.is_flushed() {
        net.run(MS * 5);
        assert!(net.now < now + LEAVE_LIMIT + MS * 10);
    }
    net.nodes.pop();
    for node in &net.nodes {
        assert_eq!(node.replica.estimate(b"last").count, 5);
    }
}

/// What was added behind the back of a pass that was under way when the node was told to leave.
#[test]
fn leaving_pushes_what_the_pass_under_way_has_missed() {
    let two_calls = Geometry::new(PUBLISH_CELLS as u64 / 2, 4).unwrap();
    let mut net = Net::cluster_of(2, two_calls, 0.0);
    let node = &mut net.nodes[1];
    node.replica.add(b"first", 1.into()).unwrap();
    net.now = node.cluster.rounds.next();
    node.cluster.wake(net.now);
    let mut wanted = node.cluster.publishing.wanted();
    assert!(wanted.next().is_some(), "the pass is under way");
    drop(wanted);
    for key in 0..1_000u32 {
        node.replica.add(&key.to_le_bytes(), 1.into()).unwrap();
    }
    node.cluster.leave(net.now);
    while !net.nodes[1].cluster.is_flushed() {
        net.run(MS * 5);
    }
    for key in 0..1_000u32 {
        let count = net.nodes[0].replica.estimate(&key.to_le_bytes()).count;
        assert!(count >= 1, "{key}");
    }
}

#[test]
fn a_damaged_datagram_of_a_member_is_refused_and_makes_it_no_stranger() {
    let mut net = Net::cluster_of(2, geometry(), 0.0);
    let now = net.now;
    while net.nodes[0].cluster.poll_event().is_some() {}
    net.nodes[1].cluster.greet(address(0));
    let mut datagram = Vec::new();
    let cluster = &mut net.nodes[1].cluster;
    assert!(cluster.transmit(now, &mut datagram).is_some());
    for (from, is_told) in [(address(1), false), (address(77), true)] {
        let mut damaged = datagram.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let cluster = &mut net.nodes[0].cluster;
        cluster.handle(now, from, &mut damaged);
        let event = cluster.poll_event();
        assert_eq!(event, is_told.then_some(ClusterEvent::NoKeyOpens { from }));
    }
    assert_eq!(net.nodes[0].cluster.status(now).refused["forged"], 2);
}

/// Slices of thousands of earlier starts, of which each node lacks a few that the other one has.
#[test]
fn a_digest_does_not_grow_with_restarts_and_finds_what_is_missing() {
    const STARTS: u64 = 5_000;
    let mut net = Net::new(0.0);
    net.limits.max_origins = 2 * STARTS as usize;
    let small = Geometry::new(64, 1).unwrap();
    for n in 0..2 {
        net.start(n + 1, n + 101, n as u16, small);
    }
    for (number, node) in net.nodes.iter_mut().enumerate() {
        // Of a node that is gone, and of the first of the two.
        for writer in 1..=STARTS {
            let is_lacking = writer % 1_000 == number as u64;
            let slice = SliceId::of([1, 77][writer as usize % 2], Writer(writer));
            let cells = [(writer as u32 % 64, writer), (63 - writer as u32 % 64, 1)];
            let slices = &mut node.cluster.sketches;
            if !is_lacking {
                slices.merge(&slice, cells.into_iter()).unwrap();
                assert!(slices.complete(&slice, 0, writer % 7 + 1));
            }
        }
    }
    assert!(!net.is_equal());
    let now = net.now;
    net.nodes[1].cluster.join(now, address(0));
    // The catalogue is read at the join, which is another way; what it brings is taken away here.
    net.nodes[1].cluster.readiness = Readiness::new(now, false);
    let start = net.now;
    while !net.is_equal() {
        assert!(net.now < start + ROUND * 20, "not equal");
        net.run(MS * 10);
    }
    net.run(ROUND * 4);
    let digests = |net: &Net| -> u64 {
        let sent = net
            .nodes
            .iter()
            .map(|node| node.cluster.outbox.sent().digests);
        sent.sum()
    };
    let before = digests(&net);
    net.run(ROUND * 10);
    let a_round = (digests(&net) - before) / 20;
    assert!(a_round < 300, "{a_round} bytes of digests a node and round");
    let lines = |node: &Node| node.cluster.slices().digest_lines();
    assert!(net.nodes.iter().all(|node| lines(node) > STARTS as usize));
}

/// Who had no room for what a live node counts gets it when there is some, and says until then that it lacks it.
#[test]
fn what_a_live_node_counts_is_pushed_again_when_there_is_room() {
    let dense = Geometry::new(4096, 4).unwrap();
    let cells = |value: u64| (0..4 * 4096).map(move |cell| (cell, value));
    let departed = SliceId::of(77, Writer(1));
    let mut net = Net::new(0.0);
    net.start(1, 101, 0, dense);
    // Its own tables, and the slice of one that is gone, flat: no more.
    let free = Replica::try_with(dense, FAMILY, SliceId::of(9, Writer(9)), net.limits).unwrap();
    let mut unlimited = Slices::try_new(Arc::new(free)).unwrap();
    unlimited.merge_live(&departed, cells(100)).unwrap();
    let held = unlimited
        .learnt()
        .map(|learnt| learnt.memory_bytes)
        .sum::<u64>();
    net.limits.max_memory_bytes = 6 * dense.memory_bytes() + held + 600;
    net.start(2, 102, 1, dense);
    let slices = &mut net.nodes[1].cluster.sketches;
    slices.merge_live(&departed, cells(100)).unwrap();
    let now = net.now;
    net.nodes[1].cluster.join(now, address(0));
    for key in 0..2_000_u32 {
        let key = key.to_le_bytes();
        net.nodes[0].replica.add(&key, 3.into()).unwrap();
    }
    net.run(ROUND * 6);
    let live = net.nodes[0].replica.own_slice();
    let lacks = |net: &Net| net.nodes[1].cluster.slices().lacks(&live);
    assert!(lacks(&net) && net.nodes[1].replica.is_incomplete());
    let refused = net.nodes[0].cluster.status(net.now).members[0].refuses_ours;
    assert!(refused, "it is not pushed to");

    net.nodes[1].cluster.sketches.rest(&departed);
    net.run(ROUND * 6);
    assert!(!lacks(&net) && !net.nodes[1].replica.is_incomplete());
    let (here, there) = (&net.nodes[0], &net.nodes[1]);
    let version = here.cluster.slices().own_version();
    assert_eq!(there.cluster.slices().version(&live), version);
    assert_eq!(
        there.cluster.slices().root(&live),
        here.cluster.slices().root(&live)
    );
    assert!(!here.cluster.status(net.now).members[0].refuses_ours);
}
