//! Tests of strangers who reach the cluster port and have no key: everything that they send is counted as refused,
//! and nothing else changes.

use std::net::UdpSocket;
use std::time::Duration;

use rmbd::status::Status;

use crate::support::folder::{Folder, key};
use crate::support::group::Group;
use crate::support::running::{Running, wait_until};
use crate::support::together::{content, live, wait_until_one};
use rmbd_testkit::proxy::Harm;
use rmbd_testkit::random::Random;

const SEED: u64 = 0x57_2a6e;
/// Number of datagrams that a stranger sends before waiting for them to be read: far fewer than pause the reading.
const BURST: usize = 50;
const RECORDED_MIN: usize = 40;

/// A socket of a stranger, who knows how many of its datagrams were refused.
struct Stranger<'n> {
    socket: UdpSocket,
    node: &'n Running,
    before: u64,
    sent: u64,
}

fn refused(status: &Status) -> u64 {
    status.cluster.refused.values().sum()
}

impl<'n> Stranger<'n> {
    fn of(node: &'n Running) -> Self {
        Self {
            socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
            node,
            before: refused(&node.status()),
            sent: 0,
        }
    }

    fn send(&mut self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.node.cluster()).unwrap();
        self.sent += 1;
        if self.sent.is_multiple_of(BURST as u64) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Checks that every datagram has been refused, unless the kernel dropped it.
    fn is_refused(&self) {
        wait_until("refusals", || {
            let status = self.node.status();
            let dropped = status.cluster.dropped_by_kernel;
            let refused = refused(&status) - self.before;
            match refused + dropped >= self.sent {
                true => Ok(()),
                false => Err(format!(
                    "{refused} of {}: {:?}",
                    self.sent, status.cluster.refused
                )),
            }
        });
    }
}

/// Two nodes of one cluster with a key, which have something to send to each other all the time.
fn pair(folder: &Folder) -> Group {
    let keys = format!("--cluster-key-file={}", folder.file("keys", &[&key()]));
    let mut group = Group::start(2, Harm::NONE, SEED, &["-x=65536", &keys]);
    wait_until("genuine datagrams", || {
        group.add_some(0);
        group.add_some(1);
        group.wait_for_truth();
        let recorded = group.network.recorded();
        let to = |node| recorded.iter().filter(|(to, _)| *to == node).count();
        match to(0).min(to(1)) {
            fewest if fewest >= RECORDED_MIN => Ok(()),
            fewest => Err(format!("only {fewest}")),
        }
    });
    group
}

#[test]
fn noise_is_refused() {
    let folder = Folder::new();
    let group = pair(&folder);
    let before = group.wait_for_truth();
    let mut random = Random(SEED);
    let mut stranger = Stranger::of(group.node(0));
    for length in 0..1_500 {
        stranger.send(&random.bytes(length));
    }
    stranger.send(&vec![1; 60_000]);
    stranger.is_refused();
    // These datagrams are right in all that is not secret, and in nothing else.
    let mut stranger = Stranger::of(group.node(0));
    let recorded = group.network.recorded();
    let (_, genuine) = recorded.iter().find(|(to, _)| *to == 0).unwrap();
    for length in (0..1_500).step_by(5) {
        let mut forged = genuine[..26.min(length)].to_vec();
        forged.extend(random.bytes(length - forged.len()));
        stranger.send(&forged);
    }
    stranger.is_refused();
    unchanged(&group, &before);
}

fn unchanged(group: &Group, before: &crate::support::together::Content) {
    for node in group.all() {
        let status = node.status();
        assert_eq!(&content(&status), before);
        assert_eq!(live(&status).len(), group.all().len() - 1);
    }
    assert_eq!(&group.wait_for_truth(), before);
}

#[test]
fn genuine_datagrams_that_were_changed_are_refused() {
    let folder = Folder::new();
    let mut group = pair(&folder);
    let before = group.wait_for_truth();
    let mut random = Random(SEED);
    let recorded = group.network.recorded();
    for node in 0..2 {
        let mut stranger = Stranger::of(group.node(node));
        let theirs = recorded.iter().filter(|(to, _)| *to == node);
        for (_, genuine) in theirs.cycle().take(500) {
            let cut = random.below(genuine.len() as u64) as usize;
            stranger.send(&genuine[..cut]);
            let mut flipped = genuine.clone();
            let bit = random.below(8 * genuine.len() as u64) as usize;
            flipped[bit / 8] ^= 1 << (bit % 8);
            stranger.send(&flipped);
            let longer = [&genuine[..], &random.bytes(1 + cut % 7)].concat();
            stranger.send(&longer);
        }
        stranger.is_refused();
    }
    unchanged(&group, &before);
    group.add_some(0);
    group.wait_for_truth();
}

/// Everything that was ever sent comes again: at once, at the other node, and after a restart.
#[test]
fn replays_change_nothing() {
    let folder = Folder::new();
    let mut group = pair(&folder);
    let before = group.wait_for_truth();
    let replay = |group: &Group, turned: bool| {
        let recorded = group.network.recorded();
        for node in 0..2 {
            let mut stranger = Stranger::of(group.node(node));
            let theirs = recorded.iter().filter(|(to, _)| (*to == node) != turned);
            for (_, genuine) in theirs {
                stranger.send(genuine);
            }
            if !turned {
                stranger.is_refused();
            }
        }
    };
    replay(&group, false);
    unchanged(&group, &before);
    // A datagram that was not for this node alone (such as "who is there?") is genuine for it, too, and does no harm.
    replay(&group, true);
    unchanged(&group, &before);
    group.take(1).kill();
    group.start_node(1);
    wait_until_one(&group.all());
    group.wait_for_truth();
    replay(&group, true);
    let recorded = group.network.recorded();
    let mut stranger = Stranger::of(group.node(1));
    for (_, genuine) in &recorded {
        stranger.send(genuine);
    }
    group.wait_for_truth();
    wait_until_one(&group.all());
    group.add_some(1);
    group.wait_for_truth();
    unchanged(&group, &group.wait_for_truth());
}
