//! A test of nodes on hosts of their own: network namespaces whose packet filters lose a fifth of the cluster's
//! datagrams and cut links, and whose cables are pulled. It is skipped if the right or the programs for that are
//! missing.

use crate::support::folder::{Folder, key};
use crate::support::namespace::{Hosts, address};
use crate::support::running::{Running, wait_until};
use crate::support::together::{live, wait_until_equal, wait_until_one};
use rmbd_testkit::required::skip;

const HOSTS: usize = 4;

struct Cluster {
    nodes: Vec<Running>,
    /// The hosts. Their nodes end before the hosts go.
    hosts: Hosts,
    folder: Folder,
    keys: String,
    total: u64,
}

impl Cluster {
    fn start(hosts: Hosts) -> Self {
        let folder = Folder::new();
        let keys = folder.file("keys", &[&key()]);
        let mut cluster = Self {
            nodes: Vec::new(),
            hosts,
            folder,
            keys,
            total: 0,
        };
        for host in 0..HOSTS {
            let node = cluster.start_node(host);
            cluster.nodes.push(node);
        }
        cluster
    }

    fn start_node(&self, host: usize) -> Running {
        let words = [
            format!("{}:8000", address(host)),
            "-x=65536".to_owned(),
            format!("--join={}:8001,{}:8001", address(0), address(1)),
            format!("--cluster-key-file={}", self.keys),
            format!("--data-dir={}", self.folder.path(&host.to_string())),
        ];
        Running::start_at(self.hosts.place(host), &words)
    }

    fn all(&self) -> Vec<&Running> {
        self.nodes.iter().collect()
    }

    /// A thousand to each.
    fn add(&mut self) {
        for (host, node) in self.nodes.iter().enumerate() {
            node.add("all", 900);
            node.add(&format!("at {host}"), 100);
        }
        self.total += 900 * HOSTS as u64;
    }

    fn wait_for_truth(&self) {
        wait_until_equal(&self.all());
        for node in &self.nodes {
            assert_eq!(node.count("all"), self.total);
        }
    }

    fn wait_for_live(&self, node: usize, wanted: usize) {
        wait_until("members that are up", || {
            let status = self.nodes[node].status();
            match live(&status).len() {
                found if found == wanted => Ok(()),
                found => Err(format!("{found}, not {wanted}")),
            }
        });
    }
}

#[test]
fn hosts_that_lose_a_fifth_and_are_parted_end_up_equal() {
    let hosts = match Hosts::new(HOSTS) {
        Ok(hosts) => hosts,
        Err(reason) => {
            return skip(format!(
                "no network namespaces with packet filters here: {reason}"
            ));
        }
    };
    let mut cluster = Cluster::start(hosts);
    wait_until_one(&cluster.all());
    cluster.add();
    cluster.wait_for_truth();
    // Filters separate one half from the other, and one cable is pulled.
    for host in 0..HOSTS {
        let others: &[usize] = if host < 2 { &[2, 3] } else { &[0, 1] };
        cluster.hosts.shut_out(host, others);
    }
    cluster.hosts.unplug(3);
    cluster.add();
    for (node, wanted) in [(0, 1), (1, 1), (2, 0), (3, 0)] {
        cluster.wait_for_live(node, wanted);
    }
    wait_until_equal(&[&cluster.nodes[0], &cluster.nodes[1]]);
    assert_eq!(cluster.nodes[0].count("all"), cluster.total - 1800);
    assert_eq!(cluster.nodes[3].count("all"), cluster.total - 2700);
    // One host crashes meanwhile.
    let crashed = cluster.nodes.remove(3);
    crashed.kill();
    cluster.hosts.plug(3);
    let again = cluster.start_node(3);
    cluster.nodes.push(again);
    for host in 0..HOSTS {
        cluster.hosts.let_in(host);
    }
    wait_until_one(&cluster.all());
    wait_until_equal(&cluster.all());
    // The node's last counts may have left, or may have waited in its kernel until the cable was back.
    let survived = cluster.nodes[0].count("all");
    assert!(
        [cluster.total, cluster.total - 900].contains(&survived),
        "{survived}"
    );
    cluster.total = survived;
    cluster.add();
    cluster.wait_for_truth();
    for host in 0..HOSTS {
        assert!(cluster.hosts.lost(host) > 0, "nothing was lost at {host}");
    }
    assert!(cluster.nodes[0].status().cluster.sealed);
}
