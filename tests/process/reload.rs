//! Tests of SIGHUP to a node that was started with a configuration file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use crate::envoy::take_over_json;
use crate::kept::said;
use crate::nodes::{Node, wait_until};
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
        "SIGHUP: limits, rules and the log filter are as they were",
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
    node.reload(
        &both,
        "SIGHUP: limits, rules and the log filter are as they were",
    );
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
        "SIGHUP: limits, rules and the log filter are as they were",
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
