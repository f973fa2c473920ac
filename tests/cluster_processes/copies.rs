//! Tests of nodes that run on copies of one data folder: nothing is hidden, and every way of looking at them says so.

use std::process::Command;

use rmbd::status::{ClusterStatus, Status};

use crate::support::folder::Folder;
use crate::support::running::{Running, loopback, text, wait_until};
use crate::support::together::wait_until_one;

/// A node on a folder, with further words.
fn start(folder: &str, more: &[&str]) -> Running {
    let address = format!("{}:0", loopback());
    let words = [&address, "-x=4096", "--data-dir", folder];
    Running::start(&[&words, more].concat())
}

/// What a command says of a node.
fn said(node: &Running, words: &[&str]) -> String {
    let output = node.command(words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// A node without a folder.
fn start_witness(seeds: &[String]) -> Running {
    let address = format!("{}:0", loopback());
    let seeds = seeds.iter().map(|seed| format!("--join={seed}"));
    let words: Vec<String> = [address, "-x=4096".to_owned()]
        .into_iter()
        .chain(seeds)
        .collect();
    Running::start(&words)
}

/// Two copies of a folder whose node ended in order, and whose slice others have heard of.
fn copies(folder: &Folder) -> [String; 2] {
    let [first, second] = ["first", "second"].map(|name| folder.path(name));
    let witness = start_witness(&[]);
    let node = start(&first, &["--join", &witness.cluster().to_string()]);
    node.add("before", 5);
    witness.wait_for_count("before", 5);
    let ended = node.end();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let copied = Command::new("cp").args(["-r", &first, &second]).status();
    assert!(copied.unwrap().success());
    [first, second]
}

#[test]
fn two_nodes_on_copies_of_one_folder_count_in_full_and_everything_says_so() {
    let folder = Folder::new();
    let nodes = copies(&folder).map(|folder| start(&folder, &[]));
    let before = nodes.each_ref().map(go_on_alone);
    assert_eq!(before[0], before[1]);
    let [node_number, writer] = &before[0];

    let mut seeds = nodes.each_ref().map(|node| node.cluster().to_string());
    let witness = start_witness(&seeds);
    // Usually both notice it. One that is held up until the other has another name keeps its own.
    wait_until("a new writer", || {
        let mut all = nodes.iter().map(|node| node.status().cluster.new_writer);
        all.any(|it| it.is_some())
            .then_some(())
            .ok_or_else(|| witness.log())
    });
    seeds.sort_unstable();
    let [first, second] = &nodes;
    for node in [first, second, &witness] {
        node.wait("one number of two nodes", |status| {
            let [shared] = &status.cluster.shared_nodes[..] else {
                return false;
            };
            let mut addresses = shared.addresses.clone();
            addresses.sort_unstable();
            let is_told = shared.node == *node_number && addresses == seeds;
            is_told && !status.cluster.name_open
        });
        let faces = Faces::of(node);
        faces.check(writer);
        wait_until("what people are told in the log", || {
            let log = node.log();
            let is_said = faces.details().all(|it| log.contains(it));
            is_said.then_some(()).ok_or(log)
        });
    }
    // To all others a node with a new writer is another start, and it says the same of itself.
    wait_until_one(&[first, second, &witness]);
    count_in_full(first, second, &witness);

    let [first, second] = nodes;
    assert_eq!(second.end().code, Some(0));
    for node in [&first, &witness] {
        let is_over = |status: &Status| status.cluster.shared_nodes.is_empty();
        node.wait("one node of a number", is_over);
        assert_metric(&node.get("/metrics"), "rmbd_cluster_shared_nodes 0");
    }
}

/// The number and the writer of a node that goes on with its slice. As long as nobody is there who has the slice, its
/// name stays open, and nobody waits for that.
fn go_on_alone(node: &Running) -> [String; 2] {
    let cluster = node.status().cluster;
    assert!(
        cluster.name_open && cluster.new_writer.is_none(),
        "{cluster:?}"
    );
    assert_metric(&node.get("/metrics"), "rmbd_cluster_name_open 1");
    for words in [["members"], ["status"]] {
        let output = said(node, &words);
        assert!(!output.contains("waits for"), "{output}");
    }
    [cluster.node, cluster.writer]
}

/// Nothing that one of them counts is hidden by the other.
fn count_in_full(first: &Running, second: &Running, witness: &Running) {
    first.add("first", 7);
    second.add("second", 7);
    for node in [first, second, witness] {
        wait_until("all that was counted", || {
            let counts = node.counts(&["first", "second", "before"]);
            let mut each = counts.iter().zip([7, 7, 5]);
            let is_all = each.all(|(count, truth)| *count >= truth);
            is_all.then_some(()).ok_or_else(|| format!("{counts:?}"))
        });
    }
}

/// All that shows the state of a node, at one moment.
struct Faces {
    cluster: ClusterStatus,
    members: String,
    status: String,
    json: ClusterStatus,
    metrics: String,
}

impl Faces {
    /// Looks until nothing changes meanwhile.
    fn of(node: &Running) -> Self {
        let mut seen = None;
        wait_until("a look at a node without a change", || {
            let before = node.status().cluster;
            let faces = Self {
                members: said(node, &["members"]),
                status: said(node, &["status"]),
                json: serde_json::from_str(&said(node, &["members", "--json"])).unwrap(),
                metrics: node.get("/metrics"),
                cluster: node.status().cluster,
            };
            let is_steady = names(&faces.cluster) == names(&before);
            seen = Some(faces);
            is_steady
                .then_some(())
                .ok_or_else(|| format!("{before:#?}"))
        });
        seen.unwrap()
    }

    /// What people are told of names.
    fn details(&self) -> impl Iterator<Item = &str> {
        let shared = self.cluster.shared_nodes.iter().map(|it| &*it.detail);
        let new_writer = self.cluster.new_writer.iter().map(|it| &*it.detail);
        shared.chain(new_writer)
    }

    /// Each of them shows what the status says of names.
    fn check(&self, before: &str) {
        let cluster = &self.cluster;
        assert_eq!(names(&self.json), names(cluster));
        assert_metric(&self.metrics, "rmbd_cluster_name_open 0");
        assert_metric(&self.metrics, "rmbd_cluster_shared_nodes 1");
        if let Some(new) = &cluster.new_writer {
            assert!(
                new.before == before && cluster.writer != before,
                "{cluster:#?}"
            );
            let reason = &new.reason;
            let metric = format!("rmbd_cluster_new_writer{{reason=\"{reason}\"}} 1");
            assert_metric(&self.metrics, &metric);
        }
        for text in [&self.members, &self.status] {
            for detail in self.details() {
                assert!(detail.contains("may count twice"), "{detail}");
                assert!(text.contains(detail), "{detail}: {text}");
            }
            let is_new = text.contains("new writer ");
            assert_eq!(is_new, cluster.new_writer.is_some(), "{text}");
            assert!(!text.contains("waits for"), "{text}");
        }
    }
}

/// The part of a status that is about names.
fn names(cluster: &ClusterStatus) -> impl PartialEq + std::fmt::Debug + '_ {
    let ClusterStatus {
        writer,
        name_open,
        new_writer,
        shared_nodes,
        ..
    } = cluster;
    (writer, name_open, new_writer, shared_nodes)
}

fn assert_metric(metrics: &str, line: &str) {
    assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
}
