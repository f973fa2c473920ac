//! Nodes that go on with what an earlier start of them wrote, and copies of their disks.

use super::*;
use crate::gossip::lifecycle::NAME_LIMIT;
use crate::gossip::{NameTaken, SharedNode};
use rmbd_store::{GroupAges, Published, SavedMarks};

type Spec = (u32, Geometry, HashFamily);

/// All that a node has when it ends in order, as its disk keeps it.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) own: SliceId,
    specs: Vec<Spec>,
    slices: Vec<SavedSlice>,
}

/// A slice, and the version until which it is complete.
#[derive(Debug, Clone)]
struct SavedSlice {
    id: SliceId,
    version: u64,
    cells: Vec<(u32, u64)>,
}

impl Net {
    /// Ends a node, and returns what its disk keeps.
    pub(super) fn stop(&mut self, node: usize) -> Disk {
        let now = self.now;
        self.nodes[node].cluster.leave(now);
        while !self.nodes[node].cluster.is_flushed() {
            self.run(MS * 5);
            assert!(self.now <= now + LEAVE_LIMIT + MS * 10, "it hangs");
        }
        self.run(MS * 5);
        let mut node = self.nodes.remove(node);
        for slices in node.cluster.sketches.iter_mut() {
            assert_eq!(
                slices.publish(usize::MAX),
                Published::Idle,
                "not all is published"
            );
        }
        let all = node.cluster.all_slices();
        let all = all.flat_map(|slices| slices.digests().map(move |line| (slices, line)));
        let all = all.map(|(slices, line)| {
            let cells = slices.cells(&line.slice).unwrap().to_vec();
            SavedSlice {
                id: line.slice,
                version: line.version,
                cells: (0..).zip(cells).filter(|&(_, value)| value > 0).collect(),
            }
        });
        let spec = |replica: &Arc<Replica>| {
            let number = replica.own_slice().sketch.0;
            (number, replica.own().geometry(), replica.own().family())
        };
        Disk {
            own: node.replica.own_slice(),
            specs: node.replicas.iter().map(spec).collect(),
            slices: all.collect(),
        }
    }

    /// Starts a node that goes on with what a disk has.
    pub(super) fn resume(&mut self, disk: &Disk, boot: u64, port: u16) -> usize {
        let mut all = self.slices(disk.own, &disk.specs);
        let ages = GroupAges {
            fold: rmbd_store::Fold::NONE,
            marks: &[],
            increments: &[],
        };
        for slices in &mut all {
            let sketch = slices.own_slice().sketch;
            let now = self.now;
            slices
                .begin_restore(&SavedMarks::default(), now, Some(slices.own_slice().writer))
                .unwrap();
            for saved in disk.slices.iter().filter(|it| it.id.sketch == sketch) {
                for &cell in &saved.cells {
                    let group = cell.0 / rmbd_store::GROUP_CELLS as u32;
                    let cell = [cell].into_iter();
                    slices.restore(&saved.id, group, cell, &ages).unwrap();
                }
                slices.restore_complete(&saved.id, saved.version);
            }
            slices.end_restore();
            assert!(slices.is_resumed());
        }
        self.start_on(all, boot, port)
    }

    pub(super) fn join(&mut self, node: usize, port: u16) {
        let now = self.now;
        self.nodes[node].cluster.join(now, address(port));
    }

    /// Nothing arrives between these ports, or all does again.
    fn cut(&mut self, ones: &[u16], others: &[u16], is_cut: bool) {
        for &one in ones {
            for &other in others {
                let pair = (address(one), address(other));
                if is_cut {
                    self.cut.insert(pair);
                } else {
                    self.cut.remove(&pair);
                }
            }
        }
    }

    fn add(&self, node: usize, key: &[u8], weight: u16) {
        self.nodes[node].replica.add(key, weight.into()).unwrap();
    }

    fn count(&self, node: usize, key: &[u8]) -> u64 {
        self.nodes[node].replica.estimate(key).count
    }

    fn pushed_bytes(&self, node: usize) -> u64 {
        let sent = self.nodes[node].cluster.outbox.sent();
        sent.pushes + sent.urgent + sent.pulls
    }

    pub(super) fn is_open(&self, node: usize) -> bool {
        self.nodes[node].cluster.status(self.now).is_name_open
    }

    pub(super) fn new_writer(&self, node: usize) -> Option<NameTaken> {
        let state = self.nodes[node].cluster.status(self.now);
        state.new_writer.map(|new_writer| new_writer.reason)
    }

    /// Slices that a node holds of a node, its own included.
    pub(super) fn slices_held(&self, node: usize, of: u64) -> usize {
        self.nodes[node].cluster.slices().held_of(of)
    }

    /// Runs until all that was added is everywhere.
    fn settle(&mut self, at_most: Duration) {
        self.run(ROUND * 2);
        self.until_equal_in(at_most);
    }

    /// Runs until something is so.
    fn until(&mut self, at_most: Duration, is_so: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !is_so(self) {
            assert!(self.now < start + at_most, "not so after {at_most:?}");
            self.run(MS);
        }
        self.now - start
    }
}

/// So many nodes, of which the last one has ended in order, and its disk. All that was added is everywhere, which takes
/// this long at most.
fn with_a_disk(nodes: u16, loss: f64, at_most: Duration) -> (Net, Disk) {
    let mut net = Net::cluster_of(nodes, geometry(), loss);
    let last = nodes as usize - 1;
    net.add(last, b"old", 1);
    net.settle(at_most);
    let disk = net.stop(last);
    (net, disk)
}

/// The events that a log would say of names.
fn told_of_names(cluster: &mut Cluster) -> Vec<ClusterEvent> {
    let told = std::iter::from_fn(|| cluster.poll_event());
    let is_of_names =
        |it: &ClusterEvent| matches!(it, ClusterEvent::NewWriter(_) | ClusterEvent::SharedNode(_));
    told.filter(is_of_names).collect()
}

const KEYS: u32 = 3_000;

fn add_keys(net: &Net, node: usize, first: u32) {
    for key in first..first + KEYS {
        net.add(node, &key.to_le_bytes(), 1);
    }
}

#[test]
fn clean_restarts_in_a_cluster_leave_one_slice_a_node_and_send_only_what_others_lack() {
    let mut net = Net::cluster_of(3, geometry(), 0.1);
    add_keys(&net, 0, 0);
    net.settle(ROUND * 8);
    let mut right = u64::from(KEYS);
    for restart in 0..9_u64 {
        net.add(0, b"before", 2);
        let node = net.nodes[0].replica.own_slice().node;
        let (boot, port) = (1_000 + restart, net.nodes[0].address.port() - 1_000);
        let disk = net.stop(0);
        let there = net.nodes[0].address.port() - 1_000;
        let resumed = net.resume(&disk, boot, port);
        assert_eq!(net.nodes[resumed].replica.own_slice(), disk.own);
        net.add(resumed, b"after", 3);
        right += 5;
        assert!(net.is_open(resumed));
        net.join(resumed, there);
        net.until(ROUND * 8, |net| {
            let has_told = net.pushed_bytes(resumed) > 0;
            assert!(!has_told || !net.is_open(resumed), "it waits for a word");
            has_told
        });
        net.settle(ROUND * 12);
        net.run(ROUND * 2);
        for other in 0..3 {
            assert_eq!(net.nodes[other].replica.total_weight(), right);
            assert_eq!(net.slices_held(other, node), 1);
        }
        // Three thousand keys are 20 KiB at least; what is new takes two datagrams.
        assert!(net.pushed_bytes(resumed) < 4_000);
        assert_eq!(net.new_writer(resumed), None);
        assert_eq!(told_of_names(&mut net.nodes[resumed].cluster), []);
    }
}

#[test]
fn a_member_that_is_behind_gets_the_rest() {
    let mut net = Net::cluster_of(2, geometry(), 0.0);
    net.add(1, b"early", 1);
    net.settle(ROUND * 8);
    net.cut(&[0], &[1], true);
    add_keys(&net, 1, 0);
    net.add(1, b"late", 2);
    let disk = net.stop(1);
    net.cut(&[0], &[1], false);
    let resumed = net.resume(&disk, 900, 1);
    net.add(resumed, b"new", 3);
    net.join(resumed, 0);
    net.settle(ROUND * 8);
    let counts = [&b"early"[..], b"late", b"new"].map(|key| net.count(0, key));
    assert_eq!(counts, [1, 2, 3]);
    assert_eq!(net.slices_held(0, 2), 1);
    assert_eq!(net.new_writer(resumed), None);
}

#[test]
fn a_whole_cluster_goes_on_where_all_its_nodes_have_ended() {
    let mut net = Net::cluster_of(3, geometry(), 0.0);
    for node in 0..3 {
        net.add(node, b"key", 1 + node as u16);
    }
    net.settle(ROUND * 8);
    let disks = [net.stop(0), net.stop(0), net.stop(0)];
    for (port, disk) in disks.iter().enumerate() {
        let resumed = net.resume(disk, 900 + port as u64, port as u16);
        net.add(resumed, b"key", 10);
        if port > 0 {
            net.join(resumed, 0);
        }
    }
    net.settle(ROUND * 12);
    for node in 0..3 {
        assert_eq!(net.count(node, b"key"), 36);
        assert!(!net.is_open(node));
        assert_eq!(net.new_writer(node), None);
        assert_eq!(net.nodes[node].cluster.slices().digest_lines(), 3);
    }
}

#[test]
fn who_is_alone_goes_on_and_its_name_stays_open_until_somebody_comes() {
    let mut net = Net::new(0.0);
    let alone = net.start(7, 700, 7, geometry());
    net.add(alone, b"key", 1);
    let mut disk = net.stop(alone);
    for restart in 1..4 {
        let alone = net.resume(&disk, 700 + restart, 7);
        net.add(alone, b"key", 1);
        net.run(NAME_LIMIT * 2);
        assert_eq!(net.count(alone, b"key"), 1 + restart);
        assert!(net.is_open(alone) && net.new_writer(alone).is_none());
        let before = net.now;
        disk = net.stop(alone);
        assert!(
            net.now - before < MS * 50,
            "there is nobody to be waited for"
        );
    }
    assert_eq!(disk.slices.len(), 1);
    let alone = net.resume(&disk, 800, 7);
    net.add(alone, b"key", 1);
    net.run(ROUND * 8);
    let other = net.start(8, 801, 8, geometry());
    net.join(other, 7);
    net.until(ROUND * 4, |net| net.count(other, b"key") == 5);
    assert!(!net.is_open(alone));
    assert_eq!(net.slices_held(other, 7), 1);
}

/// Two copies of a disk count while nobody is there, and are stopped and started once more: what they added has names
/// of their own by then, so that neither hides what the other one has.
#[test]
fn what_copies_have_added_alone_is_kept_apart() {
    let (mut net, copied) = with_a_disk(2, 0.0, ROUND * 8);
    let mut disks = Vec::new();
    for (boot, weight) in [(900, 10), (901, 20)] {
        let copy = net.resume(&copied, boot, 1);
        net.add(copy, b"alone", weight);
        let now = net.now;
        let cluster = &mut net.nodes[copy].cluster;
        assert!(cluster.is_name_told(), "the earlier start has told it");
        cluster.settle_name(now);
        assert!(net.new_writer(copy).is_none(), "nothing is published yet");
        let passes: Vec<u64> = (net.nodes[copy].cluster.all_slices())
            .map(Slices::passes_until_now)
            .collect();
        while !net.nodes[copy].cluster.publish_until(now, &passes) {}
        net.nodes[copy].cluster.settle_name(now);
        assert_eq!(net.new_writer(copy), Some(NameTaken::Unasked));
        assert!(!net.nodes[copy].cluster.is_name_told());
        disks.push(net.stop(copy));
    }
    for (disk, port) in disks.iter().zip([1, 2]) {
        let copy = net.resume(disk, 910 + u64::from(port), port);
        net.join(copy, 0);
    }
    net.until(ROUND * 40, |net| net.count(0, b"alone") == 30);
    net.settle(ROUND * 40);
    for node in 0..3 {
        assert_eq!(
            (net.count(node, b"old"), net.count(node, b"alone")),
            (1, 30)
        );
    }
}

/// A node, its disk, and a later state of the cluster that the disk knows nothing of.
fn with_an_old_disk() -> (Net, Disk) {
    let (mut net, old) = with_a_disk(2, 0.0, ROUND * 8);
    let resumed = net.resume(&old, 900, 1);
    net.add(resumed, b"later", 2);
    net.join(resumed, 0);
    net.settle(ROUND * 8);
    net.stop(resumed);
    (net, old)
}

#[test]
fn who_comes_back_from_an_old_copy_takes_a_new_writer_before_it_tells_anything() {
    let (mut net, old) = with_an_old_disk();
    let resumed = net.resume(&old, 901, 1);
    let boot = net.nodes[resumed].cluster.me().boot;
    net.add(resumed, b"new", 3);
    net.run(ROUND * 3);
    net.join(resumed, 0);
    let later = net.until(ROUND * 8, |net| {
        assert!(net.new_writer(resumed).is_some() || net.pushed_bytes(resumed) == 0);
        net.new_writer(resumed).is_some()
    });
    println!("after {later:?}");
    let Some(NameTaken::LaterVersion { version, .. }) = net.new_writer(resumed) else {
        panic!("{:?}", net.new_writer(resumed));
    };
    assert!(version > 1);
    net.settle(ROUND * 12);
    for node in 0..2 {
        let counts = [&b"old"[..], b"later", b"new"].map(|key| net.count(node, key));
        assert_eq!(
            counts,
            [1, 2, 3],
            "nothing is hidden, and nothing counts twice"
        );
        assert_eq!(net.slices_held(node, 2), 2);
        assert_eq!(net.nodes[node].replica.total_weight(), 6);
    }
    let now = net.now;
    let cluster = &mut net.nodes[resumed].cluster;
    let state = cluster.status(now);
    let new = state.new_writer.unwrap();
    assert_eq!((new.before, new.by), (old.own.writer, Some(address(0))));
    assert_eq!(cluster.slices().own_slice().writer, new.writer);
    assert_ne!(cluster.me().boot, boot);
    assert!(state.is_ready && !state.is_name_open);
    assert_eq!(told_of_names(cluster), [ClusterEvent::NewWriter(new)]);
    // It goes on as every other node does, and so does its next start.
    let disk = net.stop(resumed);
    let resumed = net.resume(&disk, 902, 1);
    net.add(resumed, b"newer", 4);
    net.join(resumed, 0);
    net.settle(ROUND * 8);
    assert_eq!(net.count(0, b"newer"), 4);
    assert_eq!(net.new_writer(resumed), None);
    assert_eq!(net.slices_held(0, 2), 2);
}

#[test]
fn other_cells_in_the_same_version_show_another_writer_too() {
    let mut net = Net::cluster_of(2, geometry(), 0.0);
    add_keys(&net, 1, 0);
    net.settle(ROUND * 8);
    let disk = net.stop(1);
    // What another one had told in part before it died.
    let cells = [(5, 1_000)].into_iter();
    let slices = &mut net.nodes[0].cluster.sketches;
    slices.merge(&disk.own, cells).unwrap();
    let resumed = net.resume(&disk, 900, 1);
    net.add(resumed, b"new", 3);
    net.join(resumed, 0);
    net.until(ROUND * 8, |net| net.new_writer(resumed).is_some());
    assert_eq!(net.pushed_bytes(resumed), 0);
    let reason = net.new_writer(resumed);
    assert!(
        matches!(reason, Some(NameTaken::OtherCells { .. })),
        "{reason:?}"
    );
    net.settle(ROUND * 12);
    assert_eq!(net.count(0, b"new"), 3);
}

/// In a sketch that is new to us, or that we had left out, the name goes on from nothing; others may know it.
#[test]
fn a_sketch_that_goes_on_from_nothing_counts_as_older_too() {
    let sketches = [(0, geometry(), FAMILY), (9, geometry(), FAMILY)];
    let mut net = Net::new(0.0);
    for n in 0..2 {
        net.start_with(n + 1, n + 101, n as u16, &sketches);
    }
    net.join(1, 0);
    net.nodes[1].replicas[1].add(b"key", 2.into()).unwrap();
    net.run(ROUND * 8);
    let mut disk = net.stop(1);
    disk.slices.retain(|slice| slice.id.sketch.0 == 0);
    let resumed = net.resume(&disk, 900, 1);
    net.nodes[resumed].replicas[1]
        .add(b"key", 3.into())
        .unwrap();
    net.join(resumed, 0);
    net.until(ROUND * 8, |net| net.new_writer(resumed).is_some());
    net.settle(ROUND * 12);
    let counts = [0, 1].map(|node: usize| net.nodes[node].replicas[1].estimate(b"key").count);
    assert_eq!(counts, [5, 5]);
}

/// Two nodes on copies of one disk, as they meet for the first time.
#[test]
fn two_on_copies_of_one_disk_both_take_new_writers_and_count_in_full() {
    for loss in [0.0, 0.3] {
        let (mut net, disk) = with_a_disk(3, loss, ROUND * 20);
        let first = net.resume(&disk, 900, 2);
        let second = net.resume(&disk, 901, 3);
        // Each is on one side of a cut, and goes on under the common name.
        net.cut(&[0, 2], &[1, 3], true);
        net.join(first, 0);
        net.join(second, 1);
        net.add(first, b"one", 10);
        net.add(second, b"two", 20);
        net.until(ROUND * 40, |net| {
            net.count(0, b"one") == 10 && net.count(1, b"two") == 20
        });
        assert!(!net.is_open(first) && !net.is_open(second));
        net.cut(&[0, 2], &[1, 3], false);
        net.until(ROUND * 80, |net| {
            [first, second]
                .iter()
                .all(|&it| net.new_writer(it).is_some())
        });
        net.add(first, b"one", 1);
        net.add(second, b"two", 1);
        net.settle(ROUND * 80);
        let own = [first, second].map(|it| net.nodes[it].replica.own_slice());
        assert!(own[0].node == own[1].node && own[0].writer != own[1].writer);
        assert!(!own.contains(&disk.own));
        for node in 0..4 {
            let counts = [&b"old"[..], b"one", b"two"].map(|key| net.count(node, key));
            assert!(
                counts[0] == 1 && counts[1] >= 11 && counts[2] >= 21,
                "{counts:?}"
            );
            // No more than what had gone out under the common name.
            assert!(counts[1] <= 21 && counts[2] <= 41, "{counts:?}");
            assert_eq!(net.slices_held(node, disk.own.node), 3);
        }
    }
}

#[test]
fn who_meets_its_twin_before_anything_has_gone_out_counts_everything_once() {
    let (mut net, disk) = with_a_disk(2, 0.0, ROUND * 8);
    let first = net.resume(&disk, 900, 2);
    let second = net.resume(&disk, 901, 3);
    net.add(first, b"one", 10);
    net.add(second, b"two", 20);
    // They hear of each other first, and then of the third.
    net.cut(&[0], &[2, 3], true);
    net.join(second, 2);
    let waits = net.until(ROUND * 8, |net| {
        assert!(net.pushed_bytes(first) + net.pushed_bytes(second) == 0);
        [first, second]
            .iter()
            .all(|&it| net.new_writer(it).is_some())
    });
    assert!(waits < ROUND * 4, "{waits:?}");
    net.cut(&[0], &[2, 3], false);
    net.join(first, 0);
    net.settle(ROUND * 20);
    let boots: BTreeSet<Boot> = net
        .nodes
        .iter()
        .map(|node| node.cluster.me().boot)
        .collect();
    assert!(boots.len() == 3 && !boots.contains(&Boot(900)) && !boots.contains(&Boot(901)));
    for node in 0..3 {
        let counts = [&b"old"[..], b"one", b"two"].map(|key| net.count(node, key));
        assert_eq!(counts, [1, 10, 20]);
    }
    assert_eq!(net.new_writer(first), Some(NameTaken::SameWriter));
    // All see that two members have one number, and keep seeing it.
    net.run(ROUND * 40);
    let shared = SharedNode {
        node: 2,
        addresses: vec![address(2), address(3)],
    };
    let now = net.now;
    for node in &mut net.nodes {
        let state = node.cluster.status(now);
        assert_eq!(state.shared_nodes, std::slice::from_ref(&shared));
        let live = state
            .members
            .iter()
            .filter(|it| it.state == MemberState::Alive);
        assert_eq!(live.count(), 2, "{:?}", state.members);
        let told = told_of_names(&mut node.cluster);
        let shared = ClusterEvent::SharedNode(shared.clone());
        assert_eq!(told.iter().filter(|it| **it == shared).count(), 1);
    }
    // Everything that two live nodes of one number count goes on to arrive, and slices of both are repaired.
    for round in 1..20 {
        net.add(first, b"one", 1);
        net.add(second, b"two", 1);
        net.run(ROUND);
        let counts = [0, first, second].map(|it| (net.count(it, b"one"), net.count(it, b"two")));
        assert!(
            counts.iter().all(|it| *it >= (9 + round, 19 + round)),
            "{counts:?}"
        );
    }
    net.settle(ROUND * 8);
    // One of them goes; nobody shares a number any more.
    net.stop(second);
    net.run(ROUND * 4);
    let state = net.nodes[0].cluster.status(net.now);
    assert_eq!(state.shared_nodes, []);
}

/// Two that have told others under one name, and find that out: from then on nothing more goes out under it.
#[test]
fn while_the_other_writer_is_told_nothing_goes_out() {
    let (mut net, disk) = with_a_disk(3, 0.0, ROUND * 20);
    let copies = [net.resume(&disk, 900, 2), net.resume(&disk, 901, 3)];
    net.cut(&[0, 2], &[1, 3], true);
    net.join(copies[0], 0);
    net.join(copies[1], 1);
    net.until(ROUND * 40, |net| copies.iter().all(|&it| !net.is_open(it)));
    net.cut(&[0, 2], &[1, 3], false);
    let (mut bytes_at, mut shut) = ([None; 2], 0);
    for step in 0..20_000_u32 {
        for (copy, bytes_at) in copies.into_iter().zip(&mut bytes_at) {
            net.add(copy, &step.to_le_bytes(), 1);
            if net.nodes[copy].cluster.naming.shut_until().is_some() {
                let bytes = net.pushed_bytes(copy);
                assert_eq!(*bytes_at.get_or_insert(bytes), bytes);
                shut += 1;
            }
        }
        if copies.iter().all(|&it| net.new_writer(it).is_some()) {
            break;
        }
        net.run(MS * 5);
    }
    assert!(shut > 200, "{shut}");
    net.settle(ROUND * 20);
}

/// Cells that go ahead of a version are no sign of another writer.
#[test]
fn what_is_urgent_makes_no_node_give_up_its_name() {
    let mut net = Net::cluster_of(3, geometry(), 0.1);
    let mut node = 2;
    for restart in 0..4_u64 {
        for step in 0..400_u64 {
            for replica in net.nodes.iter().map(|node| &node.replica) {
                let mut batch = rmbd_store::Batch::sharing(Arc::clone(replica));
                let (key, limit) = ((restart * 100 + step / 20).to_le_bytes(), 40);
                let hit = batch.hit(&key, (1.into(), limit), (), &mut |(), _| {});
                hit.unwrap();
                batch.finish(&mut |(), _| {});
            }
            net.run(MS * 20);
            for node in 0..3 {
                assert_eq!(net.new_writer(node), None, "step {step} of {restart}");
            }
        }
        assert!(net.nodes[node].cluster.status(net.now).sent.urgent > 0);
        let port = net.nodes[node].address.port() - 1_000;
        let disk = net.stop(node);
        node = net.resume(&disk, 900 + restart, port);
        net.join(node, [0, 1, 2].into_iter().find(|it| *it != port).unwrap());
    }
    net.settle(ROUND * 20);
}

/// The other one is dead, and only what it had told is there.
#[test]
fn what_a_dead_twin_has_told_is_found_later_too() {
    let (mut net, disk) = with_a_disk(3, 0.0, ROUND * 8);
    let first = net.resume(&disk, 900, 2);
    net.cut(&[0, 2], &[1, 3], true);
    net.join(first, 0);
    net.add(first, b"one", 10);
    let second = net.resume(&disk, 901, 3);
    net.join(second, 1);
    net.add(second, b"two", 20);
    net.until(ROUND * 40, |net| {
        net.count(0, b"one") == 10 && net.count(1, b"two") == 20
    });
    net.nodes.remove(second);
    net.cut(&[0, 2], &[1, 3], false);
    // Both told the same version: the cells show it.
    net.until(ROUND * 60, |net| net.new_writer(first).is_some());
    let reason = net.new_writer(first);
    assert!(
        matches!(reason, Some(NameTaken::OtherCells { .. })),
        "{reason:?}"
    );
    net.settle(ROUND * 40);
    for node in 0..3 {
        let counts = [&b"old"[..], b"one", b"two"].map(|key| net.count(node, key));
        assert!(
            counts[0] == 1 && counts[1] >= 10 && counts[2] == 20,
            "{counts:?}"
        );
    }
}

#[test]
fn nobody_tells_what_it_has_and_so_the_name_is_given_up_in_time() {
    let (mut net, disk) = with_a_disk(2, 0.0, ROUND * 8);
    net.mute.insert(address(0));
    let resumed = net.resume(&disk, 900, 1);
    net.add(resumed, b"new", 3);
    net.join(resumed, 0);
    let waits = net.until(NAME_LIMIT + ROUND * 4, |net| {
        assert!(net.new_writer(resumed).is_some() || net.pushed_bytes(resumed) == 0);
        net.new_writer(resumed).is_some()
    });
    assert!(waits >= NAME_LIMIT, "{waits:?}");
    assert_eq!(net.new_writer(resumed), Some(NameTaken::Unanswered));
    // It says nothing all the same; that does not keep anything from being told to it.
    net.until(ROUND * 8, |net| net.count(0, b"new") == 3);
    assert_eq!(net.count(0, b"old"), 1);
}

#[test]
fn one_that_does_not_tell_gets_everything_after_a_while_where_another_one_has_told() {
    let (mut net, disk) = with_a_disk(3, 0.0, ROUND * 8);
    net.mute.insert(address(0));
    let resumed = net.resume(&disk, 900, 2);
    net.add(resumed, b"new", 3);
    net.join(resumed, 1);
    net.until(ROUND * 4, |net| net.count(1, b"new") == 3);
    assert!(!net.is_open(resumed));
    net.until(NAME_LIMIT + ROUND * 4, |net| net.count(0, b"new") == 3);
    assert_eq!(net.new_writer(resumed), None);
}

#[test]
fn the_end_does_not_wait_for_a_word_about_the_name() {
    let (mut net, disk) = with_a_disk(2, 0.0, ROUND * 8);
    net.mute.insert(address(0));
    let resumed = net.resume(&disk, 900, 1);
    net.add(resumed, b"new", 3);
    net.join(resumed, 0);
    net.run(ROUND * 2);
    assert!(net.is_open(resumed));
    let disk = net.stop(resumed);
    assert_eq!(net.count(0, b"new"), 0, "nothing goes out");
    assert_eq!(disk.slices.iter().filter(|it| it.id == disk.own).count(), 1);
    // The next start has it, and tells it.
    net.mute.clear();
    let resumed = net.resume(&disk, 901, 1);
    net.join(resumed, 0);
    net.until(ROUND * 8, |net| net.count(0, b"new") == 3);
    assert_eq!(net.new_writer(resumed), None);
}

#[test]
fn a_target_is_told_nothing_before_it_has_said_what_it_has() {
    let mut net = Net::new(0.0);
    net.start(1, 101, 0, geometry());
    net.add(0, b"old", 1);
    let disk = net.stop(0);
    let resumed = net.resume(&disk, 900, 0);
    net.add(resumed, b"new", 3);
    let target = net.start(7, 707, 7, geometry());
    net.mute.insert(address(7));
    let now = net.now;
    net.nodes[resumed].cluster.push_to(now, address(7));
    net.run(ROUND * 8);
    assert!(net.is_open(resumed) && net.pushed_bytes(resumed) == 0);
    net.mute.clear();
    net.until(ROUND * 4, |net| net.count(target, b"new") == 3);
    assert!(!net.is_open(resumed) && net.new_writer(resumed).is_none());
    assert_eq!(net.count(target, b"old"), 1);
}

#[test]
fn a_target_is_pushed_to_again_after_a_new_writer_was_taken() {
    let (mut net, old) = with_an_old_disk();
    let target = net.start(7, 707, 7, geometry());
    let resumed = net.resume(&old, 901, 1);
    let now = net.now;
    net.nodes[resumed].cluster.push_to(now, address(7));
    net.run(ROUND * 8);
    assert!(!net.is_open(resumed), "the target has nothing of it");
    net.join(resumed, 0);
    net.until(ROUND * 8, |net| net.new_writer(resumed).is_some());
    net.add(resumed, b"new", 3);
    net.until(ROUND * 12, |net| net.count(target, b"new") == 3);
    assert_eq!(net.nodes[resumed].cluster.status(net.now).one_way.len(), 1);
}

#[test]
fn many_sketches_go_on_each_by_itself() {
    let small = Geometry::new(64, 2).unwrap();
    let specs: Vec<Spec> = (0..200).map(|number| (number, small, FAMILY)).collect();
    let mut net = Net::new(0.2);
    for n in 0..2 {
        net.start_with(n + 1, n + 101, n as u16, &specs);
    }
    net.join(1, 0);
    for replica in &net.nodes[1].replicas {
        replica.add(b"key", 1.into()).unwrap();
    }
    net.settle(ROUND * 40);
    let mut disk = net.stop(1);
    // One that the other has not.
    disk.specs.push((999, small, FAMILY));
    let resumed = net.resume(&disk, 900, 1);
    for replica in &net.nodes[resumed].replicas {
        replica.add(b"key", 1.into()).unwrap();
    }
    net.join(resumed, 0);
    net.until(ROUND * 40, |net| {
        let all = net.nodes[0].replicas.iter();
        all.filter(|it| it.estimate(b"key").count == 2).count() == 200
    });
    assert!(net.is_open(resumed), "nobody can tell of what it has not");
    // What has gone out of the others would count twice under a new name.
    let now = net.now;
    net.nodes[resumed].cluster.settle_name(now);
    assert_eq!(net.new_writer(resumed), None);
    net.run(ROUND * 8);
    let all = net.nodes[0].replicas.iter();
    assert!(all.clone().all(|it| it.estimate(b"key").count == 2));
}

/// Copies of a disk that go on at any time, on any side of cuts that come and go, with what the network loses.
#[test]
fn whatever_copies_of_a_disk_do_nothing_that_was_counted_is_hidden() {
    for seed in 0..24 {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut net = Net::cluster_of(3, geometry(), [0.0, 0.2][seed as usize % 2]);
        net.random = ChaCha12Rng::seed_from_u64(seed ^ 77);
        net.add(2, b"old", 1);
        net.settle(ROUND * 40);
        let disk = net.stop(2);
        let copies = random.random_range(1..4);
        let mut added: Vec<(Vec<u8>, u64)> = vec![(b"old".to_vec(), 1)];
        let ports: Vec<u16> = (0..2).chain((0..copies).map(|copy| 2 + copy)).collect();
        let mut started = 0;
        for step in 0..30_u32 {
            if started < copies && random.random_bool(0.3) {
                let node = net.resume(&disk, 900 + u64::from(started), 2 + started);
                net.join(node, random.random_range(0..2));
                started += 1;
            }
            let node = random.random_range(0..net.nodes.len());
            let key = step.to_le_bytes().to_vec();
            net.add(node, &key, 5);
            added.push((key, 5));
            // The same cells, too, so that one hides the other where both have one name.
            net.add(random.random_range(0..net.nodes.len()), b"common", 1);
            let (one, other) = (
                random.random_range(0..ports.len()),
                random.random_range(0..ports.len()),
            );
            let is_cut = random.random_bool(0.4);
            net.cut(&ports[one..=one], &ports[other..=other], is_cut);
            net.run(MS * random.random_range(1..3_000));
        }
        added.push((b"common".to_vec(), 30));
        net.cut.clear();
        let seeds: Vec<SocketAddr> = net.nodes.iter().map(|node| node.address).collect();
        let now = net.now;
        for (node, seed) in net.nodes.iter_mut().zip(seeds.iter().cycle().skip(1)) {
            node.cluster.join(now, *seed);
        }
        net.run(ROUND * 60);
        net.settle(ROUND * 60);
        for node in 0..net.nodes.len() {
            for (key, weight) in &added {
                let count = net.count(node, key);
                assert!(
                    count >= *weight,
                    "seed {seed}: {count} of {weight} at {node}"
                );
                if copies == 1 {
                    assert_eq!(count, *weight, "seed {seed}: there is no other copy");
                }
            }
        }
        let writers: BTreeSet<SliceId> =
            net.nodes.iter().map(|it| it.replica.own_slice()).collect();
        assert_eq!(writers.len(), net.nodes.len(), "seed {seed}");
    }
}
