//! Nodes of earlier releases, as recordings of what they sent: a node of today that takes the place of any of them
//! hears what the one in its place heard, and comes to know the same.
//!
//! A recording has lines of three kinds, each with a time in milliseconds:
//!
//! ```text
//!   5000 1 does adds default apple 60        what happened to a node besides datagrams
//!   5000.25 1 -> 2 0100...                   a datagram that a node sent to another one
//!   9000 2 knows count default apple 60      what a node knew
//! ```
//!
//! Who takes a place does what was done there, hears the datagrams at their times, and may say what it likes: nobody
//! listens. So nothing rests on a node of today answering as one of then did.

use rmbd_sketch::Weight;
use rmbd_store::{
    Batch, LimitNumber, PardonBook, PardonView, Reading, ReplicaOptions, WindowPlan, WindowQuestion,
};
use rmbd_testkit::hex::{hex, unhex};
use rmbd_testkit::releases::{self, Recording, lines};

use super::*;

/// What happens where nodes are recorded. Recordings hold it with what came of it, so this may change.
const MEMBERS: &str = "
    0 1 does start
    300 2 does start joining 1
    2000 1 does adds default apple 400
    2000 2 does adds default pear 300
    2100 2 does adds logins anna 5
    2500 1 does pardon door 7
    3100 1 does adds default apple 400
    4100 1 does adds default apple 200
    4100 2 does adds default pear 200
    7000 all knows
    7100 1 does adds default plum 30
    7200 2 does adds default plum 4
    8000 2 does leave
    13000 4 does start joining 1
    16000 4 does adds default pear 20
    16000 3 does start joining 1
    18500 3 does adds default fig 6
    18500 3 does adds logins anna 1
    21500 all knows
";
const SEALED_MEMBERS: &str = "
    0 1 does start
    300 2 does start joining 1
    1500 1 does adds default apple 400
    2600 2 does adds logins anna 5
    2600 1 does adds default apple 10
    4600 all knows
";
const KEYS: [&str; 5] = ["apple", "pear", "plum", "fig", "anna"];
/// The key of recordings with a key. It is no secret.
const SECRET: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// What recordings rest on, so that these stay as they are: the nodes by their names, with number and start of each.
const NODES: [(&str, u64, u64); 4] = [("1", 1, 101), ("2", 2, 102), ("3", 3, 103), ("4", 2, 104)];
const SKETCHES: [(&str, u32); 2] = [("default", 0), ("logins", 77)];
const WINDOW_MS: u64 = 10_000;
const DOOR: (LimitNumber, &[u8]) = (LimitNumber(5), b"door");
const PARDON_FOR: Duration = Duration::from_secs(600);

/// The address of a node by its name.
fn address_of(name: &str) -> SocketAddr {
    address(name.parse().unwrap())
}

/// Nodes by their names, and when time began.
struct Stage {
    net: Net,
    began: Duration,
    books: BTreeMap<SocketAddr, Arc<PardonBook>>,
}

impl Stage {
    fn new(is_sealed: bool) -> Self {
        let mut net = Net::new(0.0);
        if is_sealed {
            net.keys = KeyRing::parse(SECRET).unwrap();
        }
        Self {
            began: net.now,
            net,
            books: BTreeMap::new(),
        }
    }

    /// Runs until a time in milliseconds.
    fn run_until(&mut self, at: &str) {
        let at = self.began + time(at);
        let span = at.saturating_sub(self.net.now);
        self.net.run(span);
    }

    fn node(&self, name: &str) -> &Node {
        let found = (self.net.nodes.iter()).find(|node| node.address == address_of(name));
        found.unwrap()
    }

    /// Does what a line says that a node does.
    fn act(&mut self, name: &str, act: &str) {
        let now = self.net.now;
        let words: Vec<&str> = act.split(' ').collect();
        match words[..] {
            ["start", ref joining @ ..] => self.start(name, joining.last().copied()),
            ["adds", sketch, key, times] => self.add(name, sketch, key, times.parse().unwrap()),
            ["pardon", "door", credit] => {
                let mut credits = [0; _];
                credits[0] = credit.parse().unwrap();
                let book = &self.books[&address_of(name)];
                book.give(DOOR, credits, PARDON_FOR, now).unwrap();
            }
            ["leave"] => self.leave(name),
            _ => panic!("nobody can {act}"),
        }
    }

    fn start(&mut self, name: &str, seed: Option<&str>) {
        let (_, node, boot) = NODES.into_iter().find(|(of, ..)| *of == name).unwrap();
        let (now, limits) = (self.net.now, self.net.limits);
        let small = Geometry::new(512, 2).unwrap();
        let window = WindowPlan::new(WINDOW_MS, Some(1_000), None, small, FAMILY).unwrap();
        let slices = SKETCHES.map(|(_, number)| {
            let own = SliceId {
                sketch: SketchNumber(number),
                ..SliceId::of(node, Writer(boot + WRITER))
            };
            let options = ReplicaOptions {
                top: 10,
                windows: (number == 0).then_some(window).into_iter().collect(),
                started: now,
                ..ReplicaOptions::of(small, FAMILY, own, limits)
            };
            Arc::new(Replica::try_open(options).unwrap())
        });
        let mut slices = slices_of(slices, now).unwrap();
        for slices in &mut slices {
            slices.keep_ages(&[window], now).unwrap();
        }
        let port = name.parse().unwrap();
        let at = self.net.start_on(slices, boot, port);
        let cluster = &mut self.net.nodes[at].cluster;
        let book = Arc::new(PardonBook::new(Boot(boot)));
        cluster.share_pardons(Arc::clone(&book));
        self.books.insert(address_of(name), book);
        if let Some(seed) = seed {
            cluster.join(now, address_of(seed));
        }
    }

    /// Leaves, and is gone when that is over.
    fn leave(&mut self, name: &str) {
        let now = self.net.now;
        let at = (self.net.nodes.iter()).position(|node| node.address == address_of(name));
        let at = at.unwrap();
        self.net.nodes[at].cluster.leave(now);
        while !self.net.nodes[at].cluster.is_flushed() {
            self.net.run(MS);
        }
        self.net.nodes.remove(at);
    }

    /// One at a time, so that some are looked at, and names are met.
    fn add(&mut self, name: &str, sketch: &str, key: &str, times: u32) {
        let at = SKETCHES.iter().position(|(of, _)| *of == sketch).unwrap();
        let mut batch = Batch::<()>::new(Arc::clone(&self.node(name).replicas[at]));
        for _ in 0..times {
            let added = batch.add(key.as_bytes(), Weight::ONE, &mut |(), _| {});
            added.unwrap();
        }
        batch.finish(&mut |(), _| {});
    }

    /// What a node knows, in lines.
    fn known(&self, name: &str) -> Vec<String> {
        let (node, now) = (self.node(name), self.net.now);
        let members = node.cluster.membership.members();
        let live = members.filter(|(_, state)| !matches!(state, MemberState::Down));
        let mut live: Vec<u16> = live.map(|(it, _)| it.address.port() - 1_000).collect();
        live.sort_unstable();
        let mut known = vec![format!("members {live:?}")];
        for ((sketch, number), replica) in SKETCHES.into_iter().zip(&node.replicas) {
            for key in KEYS {
                let count = replica.estimate(key.as_bytes()).count;
                known.push(format!("count {sketch} {key} {count}"));
            }
            let lists = node.cluster.told_lists(SketchNumber(number), now).lists;
            let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            let names = lists[0].keys.iter().map(|key| {
                let name = key.name.as_deref().map(text);
                format!("{}={}", name.unwrap_or_default(), key.estimate)
            });
            let names: BTreeSet<String> = names.collect();
            known.push(format!("list {sketch} {names:?}"));
        }
        let question = WindowQuestion {
            window: node.replica.find_window(WINDOW_MS).unwrap(),
            reading: Reading::Bound,
            now,
        };
        for key in KEYS {
            let estimate = node.replica.estimate_in(key.as_bytes(), &question);
            known.push(format!("recent {key} {}", estimate.count));
        }
        let book = &self.books[&address_of(name)];
        let credits = PardonView::default().credits(book, DOOR, now);
        known.push(format!("pardon door {}", credits[0]));
        known
    }
}

/// A time in milliseconds.
fn time(text: &str) -> Duration {
    let (ms, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanos: u64 = format!("{fraction:0<6}").parse().unwrap();
    MS * ms.parse().unwrap() + Duration::from_nanos(nanos)
}

/// Splits a line: time, who, what, and the rest.
fn parts(line: &str) -> [&str; 4] {
    let mut parts = line.splitn(4, ' ');
    [(); 4].map(|()| parts.next().unwrap_or_default())
}

/// Plays what happens with nodes of today, and writes down what they send and know.
fn record(scene: &str, is_sealed: bool) -> String {
    let mut stage = Stage::new(is_sealed);
    stage.net.log = Some(Vec::new());
    let mut text = format!(
        "# Nodes of rmbd {}: the datagrams between them, what happened to them, and what they knew.\n\
         # Each line has a time in ms. crates/rmbd-cluster/src/gossip/cluster/tests/releases.rs wrote this, and\n\
         # puts nodes of today in the place of each. The datagrams are sealed by {} key.\n",
        env!("CARGO_PKG_VERSION"),
        if is_sealed { "a" } else { "the public" },
    );
    for line in lines(scene).map(str::trim).filter(|line| !line.is_empty()) {
        let [at, name, verb, act] = parts(line);
        stage.run_until(at);
        stage.write_sent(&mut text);
        if verb == "does" {
            stage.act(name, act);
            text += &format!("{line}\n");
            continue;
        }
        for (name, ..) in NODES {
            let is_here = |node: &&Node| node.address == address_of(name);
            if stage.net.nodes.iter().any(|node| is_here(&node)) {
                for known in stage.known(name) {
                    text += &format!("{at} {name} knows {known}\n");
                }
            }
        }
    }
    text
}

impl Stage {
    /// Appends what was sent since the last call.
    fn write_sent(&mut self, text: &mut String) {
        for (at, to, from, bytes) in self.net.log.iter_mut().flat_map(|log| log.drain(..)) {
            let at = at - self.began;
            let (ms, ns) = (at.as_millis(), at.as_nanos() % 1_000_000);
            let [from, to] = [from, to].map(|address| address.port() - 1_000);
            *text += &format!("{ms}.{ns:06} {from} -> {to} {}\n", hex(&bytes));
        }
    }
}

/// Puts a node of today in the place of the one with this name; says what it does not know as that one did.
fn replay(recording: &Recording, is_sealed: bool, place: &str) -> Vec<String> {
    let mut stage = Stage::new(is_sealed);
    for (number, line) in (1..).zip(lines(&recording.text)) {
        let [at, from, verb, what] = parts(line);
        if verb == "->"
            && let Some((to, datagram)) = what.split_once(' ')
            && to == place
        {
            let datagram = (address_of(to), address_of(from), unhex(datagram));
            let arrives = stage.began + time(at) + DELAY;
            stage.net.under_way.insert((arrives, number), datagram);
        }
    }
    let mut differences = Vec::new();
    let lines = lines(&recording.text).map(parts);
    for [at, _, verb, what] in lines.filter(|[_, name, ..]| *name == place) {
        match verb {
            "does" => {
                stage.run_until(at);
                stage.act(place, what);
            }
            "knows" => {
                stage.run_until(at);
                differences.extend(stage.differences(place, what));
            }
            _ => {}
        }
    }
    differences
}

impl Stage {
    /// What a node does not know that the one in its place did, and what it has not understood.
    fn differences(&self, place: &str, what: &str) -> Vec<String> {
        let mut differences = Vec::new();
        let known = self.known(place);
        if !known.iter().any(|it| it == what) {
            differences.push(format!("{place}: {what}, it was; now: {known:?}"));
        }
        let refused = self.node(place).cluster.status(self.net.now).refused;
        if !refused.keys().all(|why| HARMLESS.contains(why)) {
            differences.push(format!("{place}: {refused:?}"));
        }
        differences
    }
}

/// Why what was read is refused all the same: it comes from a node that says good-bye.
const HARMLESS: [&str; 2] = ["pardon_of_no_member", "top_of_no_member"];

fn replay_all(name: &str, scene: &str, is_sealed: bool) {
    let mut recordings = vec![releases::keep(name, record(scene, is_sealed))];
    recordings.extend(releases::all(name));
    for recording in &recordings {
        let starts = |line| parts(line)[3].starts_with("start");
        let starts = lines(&recording.text).filter(|line| starts(line));
        let places: Vec<&str> = starts.map(|line| parts(line)[1]).collect();
        assert!(places.len() > 1);
        let differences = places.into_iter();
        let differences = differences.flat_map(|place| replay(recording, is_sealed, place));
        let differences: Vec<String> = differences.collect();
        assert!(
            differences.is_empty(),
            "{}: {differences:#?}",
            recording.version
        );
    }
}

#[test]
fn a_node_is_a_member_among_nodes_of_earlier_releases() {
    replay_all("members.txt", MEMBERS, false);
}

#[test]
fn a_node_is_a_member_among_nodes_of_earlier_releases_with_a_key() {
    replay_all("members_with_a_key.txt", SEALED_MEMBERS, true);
}
