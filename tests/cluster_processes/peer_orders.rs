//! Tests of `rmbd peer` with another node of ours as the target, which is then pushed to one way. In whatever order
//! two nodes get such orders, become one cluster, and are restarted, nothing is counted twice, and nothing is lost
//! that both had.

use crate::support::folder::Folder;
use crate::support::network::Network;
use crate::support::running::{Running, loopback};
use crate::support::together::{wait_until_equal, wait_until_one};
use rmbd_testkit::proxy::Harm;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Peer,
    Join,
    Restart,
}

use Event::{Join, Peer, Restart};

const ORDERS: [[Event; 3]; 6] = [
    [Peer, Join, Restart],
    [Peer, Restart, Join],
    [Join, Peer, Restart],
    [Join, Restart, Peer],
    [Restart, Peer, Join],
    [Restart, Join, Peer],
];

/// Node 0, the giver, is told to push to node 1, the taker. They can join once the network between their `--join`s
/// heals.
struct Pair {
    network: Network,
    nodes: Vec<Running>,
    words: [Vec<String>; 2],
    /// The part of what was added at each node that still counts.
    truth: [u64; 2],
    /// The weight that each node has added since its start.
    own: [u64; 2],
    is_pushed: bool,
    is_joined: bool,
    _folder: Folder,
}

const KEYS: [&str; 2] = ["at the giver", "at the taker"];

impl Pair {
    fn start() -> Self {
        let folder = Folder::new();
        let ips = [loopback(), loopback()];
        let network = Network::new(&ips, Harm::NONE, 0);
        network.part(&[&[0], &[1]]);
        let mut words = [0, 1].map(|node: usize| {
            vec![
                format!("{}:0", ips[node]),
                "-x=4096".to_owned(),
                format!("--cluster={}:9001", ips[node]),
                format!("--join={}", network.gate(1 - node)),
                format!("--data-dir={}", folder.path(&node.to_string())),
            ]
        });
        let nodes: Vec<_> = words.iter().map(|words| Running::start(words)).collect();
        for (number, node) in nodes.iter().enumerate() {
            network.lead_to(number, node.cluster());
            words[number][0] = node.udp().to_string();
        }
        Self {
            network,
            nodes,
            words,
            truth: [0, 0],
            own: [0, 0],
            is_pushed: false,
            is_joined: false,
            _folder: folder,
        }
    }

    fn all(&self) -> [&Running; 2] {
        [&self.nodes[0], &self.nodes[1]]
    }

    fn add(&mut self, weight: u64) {
        for (node, key) in KEYS.iter().enumerate() {
            self.nodes[node].add(key, weight);
            self.truth[node] += weight;
            self.own[node] += weight;
        }
    }

    fn happens(&mut self, event: Event, restarted: usize) {
        match event {
            Peer => {
                let target = self.nodes[1].udp().to_string();
                let output = self.nodes[0].command(&["peer", &target]);
                assert!(output.status.success());
                let status = self.nodes[0].wait("the order", |s| !s.peer_orders.is_empty());
                assert!(status.peer_orders[0].accepted, "{:?}", status.peer_orders);
                self.is_pushed = true;
            }
            Join => {
                self.network.heal();
                wait_until_one(&self.all());
                self.is_joined = true;
            }
            Restart => self.restart(restarted),
        }
    }

    fn restart(&mut self, restarted: usize) {
        self.nodes.remove(restarted).kill();
        let again = Running::start(&self.words[restarted]);
        self.nodes.insert(restarted, again);
        let is_kept = self.is_joined || (self.is_pushed && restarted == 0);
        if !is_kept {
            self.truth[restarted] = 0;
        }
        self.own[restarted] = 0;
        // An order holds until the node is restarted.
        self.is_pushed &= restarted != 0;
        if self.is_joined {
            wait_until_one(&self.all());
        }
    }

    /// Checks that counts are as they must be by now, and stay so for some rounds.
    fn check(&self) {
        let taker = &self.nodes[1];
        if self.is_joined {
            wait_until_equal(&self.all());
        }
        if self.is_joined || self.is_pushed {
            taker.wait_for_count(KEYS[0], self.truth[0]);
        }
        let rounds = self.all().map(|node| node.status().cluster.rounds);
        for (node, rounds) in self.all().iter().zip(rounds) {
            node.wait("some rounds", |status| status.cluster.rounds > rounds + 5);
        }
        for (index, node) in self.all().iter().enumerate() {
            let counts = node.counts(&KEYS);
            let knows_both = self.is_joined || (index == 1 && self.is_pushed);
            if knows_both {
                assert_eq!(counts, self.truth, "node {index}");
                continue;
            }
            assert_eq!(counts[index], self.own[index], "node {index}");
            // The taker may still have what the giver pushed before the taker was restarted.
            assert!(index == 1 || counts[1] == 0, "what was pushed came back");
        }
    }
}

fn run(order: [Event; 3], restarted: usize) {
    let mut pair = Pair::start();
    pair.add(1);
    for (number, &event) in order.iter().enumerate() {
        pair.happens(event, restarted);
        pair.check();
        pair.add(10_u64.pow(1 + number as u32));
        pair.check();
    }
    let status = pair.nodes[0].status();
    assert!(status.cluster.one_way.is_empty() && status.peers.is_empty());
}

#[test]
fn no_order_of_peer_join_and_restart_counts_twice() {
    let orders = ORDERS.iter().flat_map(|&order| [(order, 0), (order, 1)]);
    // The cases run at once, since they wait most of the time.
    std::thread::scope(|scope| {
        let runs = orders.map(|(order, restarted)| {
            let handle = scope.spawn(move || run(order, restarted));
            (order, restarted, handle)
        });
        let runs: Vec<_> = runs.collect();
        for (order, restarted, handle) in runs {
            let is_fine = handle.join().is_ok();
            assert!(is_fine, "{order:?}, where {restarted} is restarted");
        }
    });
}

/// A push also has what the giver knows of others, and nothing comes back.
#[test]
fn a_push_is_one_way_and_of_everything() {
    let start = |seed: Option<&Running>| {
        let mut words = vec![format!("{}:0", loopback()), "-x=4096".to_owned()];
        words.extend(seed.map(|seed| format!("--join={}", seed.cluster())));
        Running::start(&words)
    };
    let giver = start(None);
    let neighbour = start(Some(&giver));
    wait_until_one(&[&giver, &neighbour]);
    let taker = start(None);
    giver.add("k", 1);
    neighbour.add("k", 10);
    taker.add("k", 100);
    let output = giver.command(&["peer", &taker.udp().to_string()]);
    assert!(output.status.success());
    taker.wait_for_count("k", 111);
    neighbour.add("k", 20);
    taker.wait_for_count("k", 131);
    for node in [&giver, &neighbour] {
        assert_eq!(node.count("k"), 31);
    }
    let members = giver.command(&["members"]);
    let table = String::from_utf8(members.stdout).unwrap();
    assert!(table.contains("one way"), "{table}");
    // An order for a member changes nothing.
    let output = giver.command(&["peer", &neighbour.udp().to_string()]);
    assert!(output.status.success());
    let status = giver.wait("the second order", |status| status.peer_orders.len() == 2);
    assert!(status.peer_orders[1].detail.contains("member"));
    assert_eq!((status.cluster.one_way.len(), status.peers.len()), (1, 0));
}
