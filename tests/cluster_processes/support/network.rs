//! A network of UDP proxies: a gate before each node loses, doubles, delays and cuts datagrams.
//!
//! The network knows a node by the IP address that it sends from, before and after a restart.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rmbd_testkit::proxy::{Counts, Harm, Proxy};

/// Number of datagrams to each node that are kept for replays.
const RECORD_MAX: usize = 2_000;

pub(crate) struct Network {
    ips: Vec<IpAddr>,
    gates: Vec<Proxy>,
}

impl Network {
    /// A network with a gate before each of the nodes that will send from `ips`.
    pub(crate) fn new(ips: &[Ipv4Addr], harm: Harm, seed: u64) -> Self {
        let gates = (seed..).zip(ips).map(|(seed, _)| {
            let gate = Proxy::one_way(harm, seed);
            gate.record(RECORD_MAX);
            gate
        });
        Self {
            gates: gates.collect(),
            ips: ips.iter().map(|&ip| ip.into()).collect(),
        }
    }

    pub(crate) fn gate(&self, node: usize) -> SocketAddr {
        self.gates[node].address()
    }

    pub(crate) fn lead_to(&self, node: usize, address: SocketAddr) {
        self.gates[node].lead_to(address);
    }

    /// Lets nothing through between the groups, in both directions.
    pub(crate) fn part(&self, groups: &[&[usize]]) {
        for from in groups {
            for to in groups.iter().filter(|to| *to != from) {
                for gate in to.iter().map(|&to| &self.gates[to]) {
                    from.iter().for_each(|&from| gate.close_to(self.ips[from]));
                }
            }
        }
    }

    /// Lets datagrams from one node arrive at one other node only.
    pub(crate) fn let_only_hear(&self, from: usize, neighbour: usize) {
        for (node, gate) in self.gates.iter().enumerate() {
            if node != from && node != neighbour {
                gate.close_to(self.ips[from]);
            }
        }
    }

    pub(crate) fn heal(&self) {
        self.gates.iter().for_each(Proxy::open);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.gates.iter().map(Proxy::counts).sum()
    }

    /// Datagrams that went to nodes so far, with the receiving node. If there were many, some are missing.
    pub(crate) fn recorded(&self) -> Vec<(usize, Vec<u8>)> {
        let mut recorded = Vec::new();
        for (node, gate) in self.gates.iter().enumerate() {
            let datagrams = gate.recorded().into_iter();
            recorded.extend(datagrams.map(|datagram| (node, datagram)));
        }
        recorded
    }
}
