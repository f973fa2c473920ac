//! Lists of several nodes together, against exact counts of all keys.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::Writer;
use rmbd_proto::cluster::{
    DATAGRAM_BYTES_MAX, Frame, FrameWriter, TOP_PLACES_MAX, TopBound, TopEntry, TopHead, TopName,
    frames,
};
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_testkit::random::Random;

use super::*;
use crate::{Batch, ReplicaLimits, ReplicaOptions};

const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };
const TOP: usize = 8;
const WINDOW_MS: u64 = 10_000;
const STEP_MS: u64 = 1_000;

type Counts = HashMap<Vec<u8>, u64>;
/// When, which key, and how much.
type Add = (Duration, Vec<u8>, u64);

/// A node, and the truth of what was added here, of all time and by the time of each add.
struct Node {
    slices: Slices,
    batch: Batch<()>,
    counts: Counts,
    adds: Vec<Add>,
    /// What had been added to each node when its cells came here last.
    arrived: BTreeMap<u64, Vec<Add>>,
}

fn slice(node: u64) -> SliceId {
    SliceId::of(node, Writer(node))
}

impl Node {
    fn new(node: u64, top: usize) -> Self {
        let geometry = Geometry::new(1 << 9, 4).unwrap();
        let limits = ReplicaLimits {
            max_peers: 1,
            max_origins: 16,
            max_memory_bytes: u64::MAX,
        };
        let window = WindowPlan::new(WINDOW_MS, Some(STEP_MS), None, geometry, FAMILY);
        let options = ReplicaOptions {
            top,
            windows: vec![window.unwrap()],
            ..ReplicaOptions::of(geometry, FAMILY, slice(node), limits)
        };
        let replica = Arc::new(Replica::try_open(options).unwrap());
        Self {
            batch: Batch::new(Arc::clone(&replica)),
            slices: Slices::try_new(replica).unwrap(),
            counts: Counts::new(),
            adds: Vec::new(),
            arrived: BTreeMap::new(),
        }
    }

    fn add(&mut self, now: Duration, key: &[u8], weight: u64) {
        let weight_of = Weight::new(u32::try_from(weight).unwrap()).unwrap();
        self.batch.add(key, weight_of, &mut |(), _| {}).unwrap();
        *self.counts.entry(key.to_vec()).or_default() += weight;
        self.adds.push((now, key.to_vec(), weight));
    }

    fn round(&mut self, now: Duration) {
        self.batch.finish(&mut |(), _| {});
        self.slices.publish(usize::MAX);
        while self.slices.snapshot(&|| now, usize::MAX).is_some() {}
        self.slices.update_top(now);
        let node = self.slices.own_slice().node;
        self.arrived.insert(node, self.adds.clone());
    }

    /// Takes all cells of another node.
    fn learn(&mut self, other: &Self) {
        let id = other.slices.own_slice();
        let cells = other.slices.cells(&id).unwrap();
        let changed = other
            .slices
            .changed_cells(0, 0)
            .map(|at| (at, cells.get(at)));
        self.slices.merge(&id, changed).unwrap();
        let version = other.slices.own_version();
        assert!(self.slices.complete(&id, 0, version));
        self.arrived.insert(id.node, other.adds.clone());
    }

    /// Asks another node for a slice's list, of which not all datagrams come.
    fn follow(&mut self, other: &Self, id: SliceId, room: usize, random: &mut Random) {
        let ours = self.slices.top_version(&id);
        let Some((mut head, entries)) = other.slices.top_changes(&ours) else {
            return;
        };
        let mut datagrams = Vec::new();
        loop {
            let mut out = Vec::new();
            let from = head.from;
            let rest = entries.iter().copied().filter(|entry| entry.changed > from);
            let told = FrameWriter::new(&mut out, room).top(&id, &head, rest);
            let (to, is_complete) = told.unwrap();
            head.from = to;
            datagrams.push(out);
            if is_complete {
                break;
            }
        }
        if random.below(4) == 0 {
            let last = datagrams.len() - 1;
            datagrams.swap(0, last);
        }
        for datagram in datagrams {
            if random.below(5) == 0 {
                continue;
            }
            for frame in frames(&datagram, |_| Some(1 << 11)) {
                let Frame::Top { slice, list } = frame.unwrap() else {
                    panic!("another frame");
                };
                self.slices.follow_top(&slice, list.head(), list.entries());
            }
        }
    }

    /// Checks what is promised of its lists.
    fn check(&self, now: Duration, everybody: &[&Counts]) {
        let list = self.slices.top(1_000);
        self.check_list(&list, &self.arrived(|_| true));
        let tops = self.slices.tops.as_ref().unwrap();
        let (own, _) = tops.keys.candidates();
        let own: HashMap<KeyHash, u64> = own.into_iter().map(|it| (it.hash, it.certain)).collect();
        let told: HashMap<KeyHash, Vec<(u64, u64)>> = (list.keys.iter())
            .map(|key| {
                (
                    key.hash,
                    self.slices.told_key(tops, &own, key, None).by_node,
                )
            })
            .collect();
        for key in &list.keys {
            let Some(name) = key.name else { continue };
            let of = |counts: &&Counts| counts.get(name).copied().unwrap_or_default();
            let truth: u64 = everybody.iter().map(of).sum();
            assert!(key.certain <= truth, "{name:?}: {} of {truth}", key.certain);
            let by_node = told[&key.hash].clone();
            let sum: u64 = by_node.iter().map(|(_, certain)| certain).sum();
            assert_eq!(sum.min(key.estimate.count), key.certain);
            for (node, certain) in by_node {
                assert!(certain <= of(&everybody[node as usize]));
            }
        }
        let question = WindowQuestion {
            window: self.slices.replica().window(WINDOW_MS).unwrap(),
            reading: Reading::Bound,
            now,
        };
        let from = now.saturating_sub(Duration::from_millis(WINDOW_MS));
        let list = self.slices.top_in(&question, 1_000);
        self.check_list(&list, &self.arrived(|at| at > from));
        let in_window = self.arrived(|at| at >= from);
        for key in &list.keys {
            let truth = key.name.and_then(|name| in_window.get(name));
            assert!(key.name.is_none() || key.certain <= truth.copied().unwrap_or_default());
        }
    }

    /// What was counted of each key at these times, as far as it has arrived.
    fn arrived(&self, is_in: impl Fn(Duration) -> bool) -> Counts {
        let mut counts = Counts::new();
        for (at, key, weight) in self.arrived.values().flatten() {
            let counted = if is_in(*at) { *weight } else { 0 };
            *counts.entry(key.clone()).or_default() += counted;
        }
        counts
    }

    fn check_list(&self, list: &TopList<'_>, arrived: &Counts) {
        let by_hash: HashMap<KeyHash, &TopKey<'_>> =
            list.keys.iter().map(|key| (key.hash, key)).collect();
        for (key, &truth) in arrived {
            let hash = self.slices.replica().own().hash(key).unwrap();
            let listed = by_hash.get(&hash);
            assert!(
                listed.is_some() || truth <= list.complete_above,
                "{:?} has {truth}, above {}",
                String::from_utf8_lossy(&key[key.len() - 8..]),
                list.complete_above
            );
            assert!(listed.is_none_or(|it| it.estimate.count >= truth));
            assert!(listed.and_then(|it| it.name).is_none_or(|name| name == key));
        }
    }
}

fn key_of(random: &mut Random, shift: u64) -> Vec<u8> {
    // Some keys come often, and which ones changes with time.
    let most = 1 << random.below(10);
    let rank = random.below(most);
    let mut key = (rank + 40 * shift).to_be_bytes().to_vec();
    if rank.is_multiple_of(7) {
        key.resize(300, b'x');
    }
    key
}

/// Three nodes add; cells and lists go between them at any time, in any order, in part or not at all.
#[test]
fn lists_are_complete_above_what_they_say_at_every_moment() {
    for seed in 0..4 {
        println!("seed {seed}");
        let mut random = Random(seed);
        // One of them tells fewer keys than others.
        let mut nodes: Vec<Node> = (0..3)
            .map(|node| Node::new(node, TOP - 2 * node as usize))
            .collect();
        for round in 0..60_u64 {
            let now = Duration::from_millis(round * 700);
            let is_quiet = (25..45).contains(&round);
            for node in &mut nodes {
                for _ in 0..(if is_quiet { 0 } else { random.below(150) }) {
                    let key = key_of(&mut random, round / 12);
                    node.add(now, &key, 1 + random.below(3));
                }
                node.round(now);
            }
            for _ in 0..4 {
                let (to, from, of) = (random.below(3), random.below(3), random.below(3));
                let mut to = nodes.remove(to as usize);
                let from = &nodes[from as usize % nodes.len()];
                if random.below(2) == 0 {
                    to.learn(from);
                } else {
                    let room = [400, DATAGRAM_BYTES_MAX][random.below(2) as usize];
                    to.follow(from, slice(of), room, &mut random);
                }
                let at = to.slices.own_slice().node as usize;
                nodes.insert(at, to);
            }
            let counts: Vec<&Counts> = nodes.iter().map(|node| &node.counts).collect();
            nodes.iter().for_each(|node| node.check(now, &counts));
        }
    }
}

/// What everybody has heard is told by everybody alike, and no better than it is.
#[test]
fn nodes_that_have_heard_everything_tell_the_same() {
    let (mut random, now) = (Random(7), Duration::from_secs(60));
    let mut nodes: Vec<Node> = (0..3).map(|node| Node::new(node, TOP)).collect();
    for node in &mut nodes {
        for n in 0..3_000 {
            let key = if n % 2 == 0 {
                b"hot".to_vec()
            } else {
                key_of(&mut random, 0)
            };
            node.add(Duration::from_secs(1), &key, 1);
        }
        // Names are asked for, come, and are told.
        for second in 2..8 {
            for _ in 0..64 {
                node.add(Duration::from_secs(second), b"hot", 1);
            }
            node.round(Duration::from_secs(second));
        }
        (8..12).for_each(|second| node.round(Duration::from_secs(second)));
    }
    for (to, from) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let mut to = nodes.remove(to);
        let from = nodes
            .iter()
            .find(|it| it.slices.own_slice().node == from)
            .unwrap();
        to.learn(from);
        for _ in 0..40 {
            to.follow(
                from,
                from.slices.own_slice(),
                DATAGRAM_BYTES_MAX,
                &mut random,
            );
        }
        let at = to.slices.own_slice().node as usize;
        nodes.insert(at, to);
    }
    // What came without its age came now, and a window later it is over.
    let mut now = now;
    for _ in 0..WINDOW_MS / STEP_MS + 3 {
        now += Duration::from_millis(STEP_MS);
        nodes.iter_mut().for_each(|node| node.round(now));
    }
    let lists: Vec<_> = nodes
        .iter()
        .map(|node| node.slices.told_lists(now))
        .collect();
    let all: Vec<_> = (lists.iter()).map(|lists| &lists.lists[0]).collect();
    assert!(all[0].keys.len() >= TOP);
    for list in &all {
        assert_eq!(
            (&list.keys[0].name, list.complete_above),
            (&all[0].keys[0].name, all[0].complete_above)
        );
        let told = |list: &ToldList| {
            list.keys
                .iter()
                .map(|key| (key.hash, key.certain))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(list), told(all[0]));
    }
    let hot = &all[0].keys[0];
    assert_eq!(hot.name.as_deref(), Some(&b"hot"[..]));
    assert_eq!(hot.by_node.len(), 3);
    let truth: u64 = nodes.iter().map(|node| node.counts[&b"hot"[..]]).sum();
    assert!(hot.certain <= truth && hot.certain > truth * 9 / 10);
    // The window is over, and everything in it.
    assert!(lists[0].lists[1].keys.is_empty());
    assert_eq!(lists[0].lists[1].complete_above, 0);
    // Who has counted nothing himself, and was told nothing, can say nothing.
    let mut stranger = Node::new(3, TOP);
    stranger.learn(&nodes[0]);
    stranger.round(now);
    assert_eq!(
        stranger.slices.top(9).complete_above,
        nodes[0].slices.weight_of(&slice(0))
    );
}

fn named(name: &[u8], place: u16, changed: u64) -> TopEntry<'_> {
    TopEntry {
        place,
        changed,
        key: TopName::Name(name),
        lists: 1,
        certain: u64::MAX,
    }
}

/// What a member tells that nobody would have listed takes bounded memory, and is no list.
#[test]
fn absurd_lists_are_bounded_and_say_nothing() {
    let mut node = Node::new(0, TOP);
    let mut other = Node::new(1, TOP);
    other.add(Duration::from_secs(1), b"key", 9);
    other.round(Duration::from_secs(1));
    node.learn(&other);
    node.round(Duration::from_secs(1));
    let tell = |node: &mut Node, id: SliceId, from: u64, entry: TopEntry<'_>, above: u64| {
        let mut out = Vec::new();
        let head = TopHead {
            from,
            to: from + 1,
            is_complete: true,
            weight: 9,
            bounds: vec![TopBound { span_ms: 0, above }],
        };
        let mut writer = FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX);
        writer.top(&id, &head, std::iter::once(entry)).unwrap();
        let Some(Ok(Frame::Top { slice, list })) = frames(&out, |_| Some(1 << 11)).next() else {
            panic!("another frame");
        };
        node.slices.follow_top(&slice, list.head(), list.entries())
    };
    // Of our own slice, and of one that is not known, nobody tells.
    assert!(!tell(&mut node, slice(0), 0, named(b"a", 0, 1), 0));
    assert!(!tell(&mut node, slice(2), 0, named(b"a", 0, 1), 0));
    // What is certain is not above the estimate.
    assert!(tell(&mut node, slice(1), 0, named(b"key", 0, 1), 0));
    let list = node.slices.top(9);
    assert_eq!((list.complete_above, list.keys[0].certain), (0, 9));
    // A gap.
    assert!(!tell(&mut node, slice(1), 5, named(b"b", 1, 6), 0));
    assert_eq!(node.slices.top_version(&slice(1)).version, 1);
    // A place that no list has: all is asked for again.
    let far = named(b"far", TOP_PLACES_MAX as u16 - 1, 2);
    assert!(tell(&mut node, slice(1), 1, far, 0));
    assert_eq!(
        (
            node.slices.top_version(&slice(1)).version,
            node.slices.top(9).complete_above
        ),
        (0, 9)
    );
    // More names than any list has, again and again.
    let before = node.slices.replica().memory_bytes();
    let (mut from, mut most) = (0, 0);
    for n in 0..3_000_u64 {
        let mut name = vec![b'x'; 1_000];
        name.extend(n.to_be_bytes());
        assert!(tell(
            &mut node,
            slice(1),
            from,
            named(&name, (from % 2_000) as u16, from + 1),
            0
        ));
        from = node.slices.top_version(&slice(1)).version;
        most = most.max(node.slices.replica().memory_bytes() - before);
    }
    assert!(most < 1 << 19, "{most}");
    // A key as before, where there was none, is no list either.
    let mut third = Node::new(2, TOP);
    third.add(Duration::from_secs(1), b"key", 9);
    third.round(Duration::from_secs(1));
    node.learn(&third);
    let as_before = TopEntry {
        key: TopName::AsBefore,
        ..named(b"", 0, 1)
    };
    assert!(tell(&mut node, slice(2), 0, as_before, 0));
    assert!(node.slices.top(9).complete_above >= 9);
}

/// Of many long names the largest keys are told, and the list says what it leaves out.
#[test]
fn a_list_of_long_names_is_cut_and_says_so() {
    let mut node = Node::new(1, 200);
    let now = Duration::from_secs(1);
    let key = |n: u64| {
        let mut key = vec![b'k'; 1_000];
        key.extend(n.to_be_bytes());
        key
    };
    for _ in 0..3 {
        for n in 0..150 {
            node.add(now, &key(n), 10 + n);
        }
        node.round(now);
    }
    (2..5).for_each(|second| node.round(Duration::from_secs(second)));
    let mut other = Node::new(2, 200);
    other.learn(&node);
    for _ in 0..60 {
        other.follow(&node, slice(1), DATAGRAM_BYTES_MAX, &mut Random(3));
    }
    other.round(Duration::from_secs(6));
    let list = other.slices.top(500);
    assert!((50..70).contains(&list.keys.len()), "{}", list.keys.len());
    assert!(list.complete_above >= 3 * 90 && list.complete_above < 3 * 160);
    let (all, _) = node.slices.tops.as_ref().unwrap().keys.candidates();
    assert_eq!(all.len(), 150);
    other.check(Duration::from_secs(6), &[&Counts::new(), &node.counts]);
}
