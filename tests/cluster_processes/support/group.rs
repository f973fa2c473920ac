//! Nodes behind the gates of a network, which can be killed and started again, and the true counts.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use rmbd_testkit::proxy::Harm;
use rmbd_testkit::random::Random;

use super::folder::Folder;
use super::network::Network;
use super::running::{Running, loopback, wait_until};
use super::together::{Content, wait_until_equal, wait_until_one};

/// Number of keys that are added to. Few of them share a cell, and none shares all of its cells.
const KEYS: u64 = 500;
/// Number of adds in one [`Group::add_some`].
const ADDS: u64 = 400;

pub(crate) struct Group {
    pub(crate) network: Network,
    nodes: Vec<Option<Running>>,
    /// The client addresses of the nodes, which stay the same from one start to the next.
    addresses: Vec<String>,
    ips: Vec<Ipv4Addr>,
    folder: Folder,
    options: Vec<String>,
    random: Random,
    truth: BTreeMap<String, u64>,
}

impl Group {
    /// Starts one cluster of `count` nodes with wide sketches and a folder each.
    pub(crate) fn start(count: usize, harm: Harm, seed: u64, options: &[&str]) -> Self {
        eprintln!("seed {seed:#x}");
        let ips: Vec<_> = (0..count).map(|_| loopback()).collect();
        let mut group = Self {
            network: Network::new(&ips, harm, seed),
            nodes: (0..count).map(|_| None).collect(),
            addresses: ips.iter().map(|ip| format!("{ip}:0")).collect(),
            ips,
            folder: Folder::new(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            random: Random(seed),
            truth: BTreeMap::new(),
        };
        for node in 0..count {
            group.start_node(node);
        }
        wait_until_one(&group.all());
        group
    }

    /// Starts a node, perhaps again.
    pub(crate) fn start_node(&mut self, node: usize) {
        let ip = self.ips[node];
        let mut words = vec![
            self.addresses[node].clone(),
            format!("--cluster={ip}:0"),
            format!("--advertise={}", self.network.gate(node)),
            format!("--data-dir={}", self.folder.path(&node.to_string())),
        ];
        let others = (0..self.ips.len()).filter(|&other| other != node);
        words.extend(others.map(|other| format!("--join={}", self.network.gate(other))));
        words.extend_from_slice(&self.options);
        let running = Running::start(&words);
        self.network.lead_to(node, running.cluster());
        self.addresses[node] = running.udp().to_string();
        self.nodes[node] = Some(running);
    }

    pub(crate) fn node(&self, node: usize) -> &Running {
        self.nodes[node].as_ref().unwrap()
    }

    /// Takes a node out of the group, to end it.
    pub(crate) fn take(&mut self, node: usize) -> Running {
        self.nodes[node].take().unwrap()
    }

    /// The nodes that run.
    pub(crate) fn all(&self) -> Vec<&Running> {
        self.nodes.iter().flatten().collect()
    }

    /// Adds random weights to random keys.
    pub(crate) fn add_some(&mut self, node: usize) {
        let mut adds = Vec::new();
        for _ in 0..ADDS {
            let key = format!("key {}", self.random.below(KEYS));
            let weight = 1 + self.random.below(9);
            *self.truth.entry(key.clone()).or_default() += weight;
            adds.push((key, weight));
        }
        self.node(node).ask(|client| {
            let mut adder = client.adder();
            for (key, weight) in &adds {
                adder.push(key.as_bytes(), *weight).unwrap();
            }
            adder.finish().unwrap();
        });
    }

    /// The counts of all keys at a node that are below the truth, and those above it.
    pub(crate) fn wrong(&self, node: usize) -> (Vec<String>, Vec<String>) {
        let keys: Vec<_> = self.truth.keys().collect();
        let counts = self.node(node).counts(&keys);
        let (mut below, mut above) = (Vec::new(), Vec::new());
        for ((key, &truth), count) in self.truth.iter().zip(counts) {
            let wrong = || format!("{key}: {count}, not {truth}");
            if count < truth {
                below.push(wrong());
            } else if count > truth {
                above.push(wrong());
            }
        }
        (below, above)
    }

    /// Waits until the running nodes hold the same, and checks that every count is the truth.
    pub(crate) fn wait_for_truth(&self) -> Content {
        let content = wait_until_equal(&self.all());
        for node in (0..self.nodes.len()).filter(|&node| self.nodes[node].is_some()) {
            assert_eq!(self.wrong(node), (vec![], vec![]), "at node {node}");
        }
        content
    }

    /// Waits until `node` sees `live` other nodes as alive, and calls `meanwhile` again and again.
    pub(crate) fn wait_for_live(&self, node: usize, live: usize, mut meanwhile: impl FnMut()) {
        let running = self.node(node);
        wait_until("members that are up", || {
            meanwhile();
            let status = running.status();
            match super::together::live(&status).len() {
                found if found == live => Ok(()),
                found => Err(format!("{found}, not {live}")),
            }
        });
    }
}
