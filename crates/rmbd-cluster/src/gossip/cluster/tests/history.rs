//! Since when nodes have all that was counted: windows that reach further back are incomplete.

use rmbd_store::KnownSince;

use super::*;
use crate::READY_LIMIT;

/// What a history may lose on its way: a time, and a part of it each time that it is told.
const TRANSIT: Duration = Duration::from_millis(20);
const PARTS: u32 = 1_000;

impl Net {
    /// Starts a node that has nothing of what was counted before, and joins the first one.
    fn start_anew(&mut self, number: u16) -> usize {
        let (node, boot) = (u64::from(number) + 1, u64::from(number) + 101);
        let at = self.start(node, boot, number, geometry());
        self.set_known_since(at, KnownSince::at(self.now));
        if at > 0 {
            let now = self.now;
            self.nodes[at].cluster.join(now, address(0));
        }
        at
    }

    fn set_known_since(&mut self, node: usize, since: KnownSince) {
        let sketches = self.nodes[node].cluster.sketches.iter_mut();
        sketches.for_each(|slices| slices.set_known_since(since));
    }

    fn known(&self, node: usize) -> Duration {
        Duration::from_millis(self.nodes[node].cluster.sketches.known_ms(self.now))
    }

    /// The node is complete, and has all since this time, hardly later.
    fn check_known_since(&self, node: usize, since: Duration) {
        assert!(self.nodes[node].cluster.status(self.now).is_ready);
        let (known, most) = (self.known(node), self.now - since);
        let least = most - TRANSIT - 2 * most / PARTS;
        assert!(
            (least..=most).contains(&known),
            "{node}: {known:?}, not {least:?} to {most:?}"
        );
    }
}

/// All nodes of a cluster that is started as a whole lack what was before, and not only the first one.
#[test]
fn a_cluster_has_what_was_counted_since_its_first_node_started() {
    let mut net = Net::new(0.0);
    let start = net.now;
    for number in 0..3 {
        net.start_anew(number);
        net.run(MS * 100);
    }
    net.run(MS * 5_000);
    (0..3).for_each(|node| net.check_known_since(node, start));
    // Who comes an hour later gets all of it, from whomever he joins.
    net.run(MS * 3_600_000);
    let late = net.start_anew(3);
    assert_eq!(net.known(late), Duration::ZERO);
    net.run(MS * 5_000);
    net.check_known_since(late, start);
}

#[test]
fn who_joins_a_node_that_lacks_nothing_lacks_nothing() {
    let mut net = Net::new(0.0);
    let first = net.start_anew(0);
    net.set_known_since(first, KnownSince::EVER);
    net.run(MS * 100);
    let second = net.start_anew(1);
    net.run(MS * 5_000);
    for node in [first, second] {
        let ever = Duration::from_millis(u64::MAX);
        assert_eq!(net.known(node), ever);
    }
}

/// A node is never complete without the history of those that it has joined, whatever is lost.
#[test]
fn what_is_lost_takes_no_history_with_it() {
    let mut ready = 0;
    for seed in 0..20 {
        let mut net = Net::new(0.3);
        net.random = ChaCha12Rng::seed_from_u64(seed);
        let start = net.now;
        net.start_anew(0);
        net.run(MS * 60_000);
        let late = net.start_anew(1);
        let end = net.now + READY_LIMIT;
        while net.now < end && !net.nodes[late].cluster.status(net.now).is_ready {
            net.run(MS);
        }
        if net.now < end {
            net.check_known_since(late, start);
            ready += 1;
        }
    }
    assert!(ready > 10, "{ready}");
}
