//! Tests of SIGHUP to a node that was started with a configuration file.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use crate::envoy::take_over_json;
use crate::kept::{Scratch, said};
use crate::nodes::{Node, loopback, wait_until};
use rmbd_testkit::streams::{Kind, PATIENCE, Which};

struct Reloaded {
    node: Node,
    path: PathBuf,
    log: Receiver<String>,
}

impl Reloaded {
    fn start(name: &str, text: &str, more: &[&str]) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).unwrap();
        let words = [&["--config", path.to_str().unwrap()], more].concat();
        let mut node = Node::start_with(Which::Out, Kind::Read, &words);
        wait_until("a node that serves", || node.get("/healthz").is_some());
        let log = BufReader::new(node.running.child.stderr.take().unwrap());
        let (send, receive) = channel();
        thread::spawn(move || {
            let mut lines = log.lines().map_while(Result::ok);
            lines.all(|line| send.send(line).is_ok())
        });
        Self {
            node,
            path,
            log: receive,
        }
    }

    /// Sends a SIGHUP, and returns the lines of the log up to one with these words.
    fn reload(&mut self, text: impl AsRef<[u8]>, until: &str) -> String {
        fs::write(&self.path, text).unwrap();
        self.node.signal(libc::SIGHUP);
        self.lines(until)
    }

    fn lines(&mut self, until: &str) -> String {
        let mut lines = String::new();
        while !lines.contains(until) {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {until:?} in {lines}"));
            lines += &format!("{line}\n");
        }
        lines
    }

    fn end(mut self) {
        self.node.terminate();
        assert_eq!(self.node.running.wait("a reload").code(), Some(0));
    }
}

/// Who is denied is told by name, and forgotten with the limit.
#[test]
fn denied_keys_go_with_their_limits() {
    let limit = |name: &str| format!("[[limit]]\nname = '{name}'\namounts = ['1/60s']\n");
    let mut node = Reloaded::start("denied.toml", &(limit("api") + &limit("b")), &[]);
    for (key, times) in [("alice", 4), ("bob", 2), ("carol", 1)] {
        for _ in 0..times {
            node.node.command(&["hit", key, "--limit-name", "api"]);
        }
    }
    let told = said(&node.node, &["limits", "denied", "api"]);
    let table = "RANK  DENIED  KEY\n1     3       alice\n2     1       bob\napi: 4 hits denied in ";
    assert!(told.starts_with(table), "{told}");
    assert!(told.ends_with(", complete above 0: every key with more is in this list\n"));
    let first = |node: &Reloaded| -> Value {
        let told = said(&node.node, &["limits", "denied", "-k", "1", "--json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        told["limits"][0].clone()
    };
    assert_eq!(first(&node)["keys"][0]["key"], "alice");
    node.reload(limit("api"), "SIGHUP: limits that are gone: b");
    assert_eq!(first(&node)["denied"], 4);
    node.reload(
        limit("b"),
        "SIGHUP: new limits: b; limits that are gone: api",
    );
    assert_eq!(
        (&first(&node)["limit"], &first(&node)["denied"]),
        (&"b".into(), &0.into())
    );
    let gone = node.node.command(&["limits", "denied", "api"]);
    let error = String::from_utf8(gone.stderr).unwrap();
    assert_eq!(gone.status.code(), Some(1), "{error}");
    assert!(
        error.contains("refuses: there is no limit \"api\" here"),
        "{error}"
    );
    node.end();
}

#[test]
fn limits_and_the_log_filter_are_taken_over() {
    let limit =
        |name: &str, count: u32| format!("[[limit]]\nname = '{name}'\namounts = ['{count}/60s']\n");
    let mut node = Reloaded::start("reload.toml", &limit("a", 1), &[]);
    node.reload(
        limit("a", 1),
        "SIGHUP: all that a reload changes is as it was",
    );
    node.reload(limit("a", 2), "SIGHUP: changed limits: a");
    let both = limit("b", 1) + &limit("c", 1);
    node.reload(&both, "SIGHUP: new limits: b, c; limits that are gone: a");
    // A bad file changes nothing, and the next good one is compared with the last good one.
    let wrong: [(&[u8], &str); 4] = [
        (
            b"widht = 5",
            "reload.toml:1:1: the configuration has no key \"widht\"",
        ),
        (b"log = '\xff'", "not UTF-8"),
        (b"io = 'x'", "`io` at "),
        (
            b"[[limit]]\nname = 'x'\namounts = ['1/61s']",
            "no window of sketch default covers 61s",
        ),
    ];
    for (text, told) in wrong {
        let lines = node.reload(text, told);
        assert!(
            lines.contains("WARN") && lines.contains("everything stays as it is"),
            "{lines}"
        );
        assert_eq!(lines.lines().count(), 1, "{lines}");
    }
    node.reload(&both, "SIGHUP: all that a reload changes is as it was");
    let changed =
        format!("threads = 2\nio = 'mmsg'\nmax-peers = 3\n{both}[[sketch]]\nname = 's'\n");
    // A flag gives the number of threads.
    node.reload(
        &changed,
        "SIGHUP: these changes need a restart: io, max-peers, sketch",
    );
    let of_new = format!("{both}sketch = 's'\n[[sketch]]\nname = 's'\n");
    node.reload(of_new, "limit c: there is no sketch s; there are default");
    // Debug lines come from now on, and then only warnings.
    node.reload(
        format!("log = 'debug'\n{both}"),
        "SIGHUP: the log filter is \"debug\"",
    );
    node.reload(
        format!("log = 'warn'\n{both}"),
        "the log filter is \"warn\"",
    );
    let lines = node.reload(
        format!("log = 'warn'\nio = 'mmsg'\n{both}"),
        "need a restart: io",
    );
    assert!(!lines.contains("INFO"), "{lines}");
    fs::remove_file(&node.path).unwrap();
    node.node.signal(libc::SIGHUP);
    node.lines("cannot read the configuration file");
    fs::create_dir(&node.path).unwrap();
    node.node.signal(libc::SIGHUP);
    node.lines("is no regular file");
    fs::remove_dir(&node.path).unwrap();
    node.node.add(1);
    assert_eq!(node.node.count(), 1);
    node.end();
}

/// A flag stays in force over what the file says.
#[test]
fn a_flag_is_not_reloaded() {
    let mut node = Reloaded::start("flag.toml", "log = 'error'\n", &["--log", "info"]);
    node.reload(
        "log = 'warn'\n",
        "SIGHUP: all that a reload changes is as it was",
    );
    node.end();
}

#[test]
fn rules_are_taken_over_or_stay_as_they_are() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("reload-rules.yaml");
    let write = |text: &str| fs::write(&path, text).unwrap();
    let rule = |unit: &str, limit: u32| {
        format!(
            "domain: edge\ndescriptors:\n  - key: user\n    rate_limit: {{ unit: {unit}, \
             requests_per_unit: {limit} }}\n"
        )
    };
    let passes = |node: &Reloaded| take_over_json(&node.node, 0);
    write(&rule("minute", 1));
    let config = format!("limits = ['{}']\n", path.display());
    let mut node = Reloaded::start("rules.toml", &config, &[]);
    assert!(passes(&node) && !passes(&node));
    write(&rule("minute", 2));
    node.reload(&config, "SIGHUP: rules: 1 in domains: 1");
    assert!(passes(&node), "what was counted before counts on");
    // A file that is wrong, and rules that need another window.
    write("domain: [");
    let lines = node.reload(&config, "everything stays as it is");
    assert!(lines.contains("reload-rules.yaml:1"), "{lines}");
    write(&rule("day", 9));
    let lines = node.reload(&config, "by the day");
    assert!(
        lines.contains("all rules stay as they are, these need a restart"),
        "{lines}"
    );
    assert!(!passes(&node));
    node.end();
}

/// One way in for each front that has a list, and a connection that was there before.
#[test]
fn a_network_that_is_taken_off_the_list_is_refused_from_then_on() {
    let resp = SocketAddr::from((loopback(), 6_380)).to_string();
    let lists = |allow: &str| format!("allow = ['{allow}']\n");
    let here = lists("127.0.0.0/8");
    let mut node = Reloaded::start("allow.toml", &here, &["--resp", &resp]);
    let mut connection = TcpStream::connect(&resp).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let ping = |connection: &mut TcpStream| {
        let mut reply = [0; 7];
        let _ = connection.write_all(b"PING\r\n");
        connection.read(&mut reply).unwrap_or_default()
    };
    let posted = |node: &Reloaded| node.node.get("/v1/default/top?k=3").is_some();
    node.node.add(1);
    assert!(ping(&mut connection) == 7 && posted(&node));

    node.reload(lists("10.0.0.0/8"), "SIGHUP: lists of allow");
    let refused = |node: &Reloaded| {
        let refused = node.node.status().datagrams.refused;
        refused.get("not_allowed").copied().unwrap_or_default()
    };
    let before = refused(&node);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    wait_until("a datagram that is refused", || {
        socket.send_to(&[0; 13], node.node.udp).unwrap();
        refused(&node) > before
    });
    assert_eq!(ping(&mut connection), 0, "the connection is closed");
    let mut another = TcpStream::connect(&resp).unwrap();
    assert_eq!(ping(&mut another), 0);
    assert!(!posted(&node));

    node.reload(&here, "SIGHUP: lists of allow");
    node.node.add(1);
    assert_eq!(node.node.count(), 2);
    let mut another = TcpStream::connect(&resp).unwrap();
    assert!(ping(&mut another) == 7 && posted(&node));
    node.reload(
        format!("{here}trust = ['10.0.0.0/8']\nshow-keys = ['10.0.0.0/8']\nmax-peers = 9\n"),
        "these changes need a restart: max-peers",
    );
    node.end();
}

/// What is not on loopback, and has no password, keeps a list.
#[test]
fn a_list_that_guards_an_open_port_is_not_taken_away() {
    let resp = SocketAddr::from(([0, 0, 0, 0], 0)).to_string();
    let list = "allow = ['127.0.0.0/8']\n";
    let mut node = Reloaded::start("open.toml", list, &["--resp", &resp]);
    node.reload("", "lists of allow stay as they are: --spoe, --envoy");
    node.reload(list, "SIGHUP: all that a reload changes is as it was");
    node.end();
}

/// As the help of `keygen` says: the new key behind the old one on all nodes, then in front, then alone.
#[test]
fn keys_of_a_cluster_are_rotated_while_its_nodes_run() {
    let scratch = Scratch::new("rotated");
    let key = || String::from_utf8(Node::run(&["keygen"]).stdout).unwrap();
    let (old, new) = (key(), key());
    let files = ["a", "b"].map(|name| scratch.path(name));
    let give = |of: &PathBuf, text: &str| fs::write(of, text).unwrap();
    let words = |file: &PathBuf| ["--cluster-key-file", file.to_str().unwrap()].map(str::to_owned);
    files.iter().for_each(|file| give(file, &old));
    let mut nodes = Vec::new();
    for file in &files {
        let [option, file] = words(file);
        let seed = nodes.first().map(|first: &Reloaded| first.node.udp.ip());
        let seed = seed.map(|ip| SocketAddr::new(ip, 8_001).to_string());
        let seed: Vec<_> = seed.iter().flat_map(|seed| ["--join", seed]).collect();
        let more = [&[&*option, &*file], &seed[..]].concat();
        nodes.push(Reloaded::start("rotated.toml", "", &more));
    }
    nodes[0].node.wait_for_members(1);
    let mut count = 0;
    let mut all_hear_all = |nodes: &[Reloaded]| {
        for node in nodes {
            node.node.add(1);
            count += 1;
            nodes
                .iter()
                .for_each(|other| other.node.wait_for_count(count));
        }
    };
    for (text, told) in [
        (
            format!("{old}{new}"),
            "the cluster's keys: 2, the first as before",
        ),
        (
            format!("{new}{old}"),
            "the cluster's keys: 2, another one first",
        ),
        (new.clone(), "the cluster's keys: 1, the first as before"),
    ] {
        for at in 0..nodes.len() {
            give(&files[at], &text);
            nodes[at].reload("", told);
            all_hear_all(&nodes);
        }
    }
    for (text, told) in [
        ("", "the key file has no key"),
        ("xyz", "line 1 of the key file has 3 characters"),
    ] {
        give(&files[0], text);
        let lines = nodes[0].reload("", "the cluster's keys stay as they are");
        assert!(lines.contains(told), "{lines}");
        all_hear_all(&nodes);
    }
    // Who is given another key is a stranger from then on, and whoever gets the right one again is not.
    give(&files[0], &old);
    nodes[0].reload("", "the cluster's keys: 1, another one first");
    let forged = |node: &Reloaded| {
        let refused = node.node.status().cluster.refused;
        refused.get("forged").copied().unwrap_or_default()
    };
    let before = forged(&nodes[1]);
    wait_until("datagrams of a stranger", || forged(&nodes[1]) > before);
    give(&files[0], &new);
    nodes[0].reload("", "the cluster's keys: 1, another one first");
    all_hear_all(&nodes);
    nodes.into_iter().for_each(Reloaded::end);
}
