//! A soak test: three nodes run as processes for ten minutes, under load, on a network that loses, doubles and
//! reorders. They are ended, killed, stopped and parted at random. The bench checks whether anything was counted
//! wrongly, leaked, or was complained of.
//!
//! `cargo bench --bench soak -- --minutes 10` prints a record in Markdown, and its seed. `--seed N` draws the same
//! events again; processes take their own time, so the run goes on alike and not the same. The conditions are checked
//! whenever all faults have healed, and a violated one ends the run.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rmbd_client::{Client, ClientOptions};
use rmbd_client::{ClientError, Fate};
use rmbd_cluster::seal::generate_key_text;
use rustix::process::Signal;

use ledger::{Held, Ledger, Settled};
use node::{PATIENCE, Place, Usage};
use rmbd_testkit::proxy::{Counts, Harm};
use rmbd_testkit::random::Random;
use support::command_line::is_dry;
use support::fates::fate;
use support::figures::median_max;

mod ledger;
// Another bench uses the rest of this module.
#[allow(dead_code)]
mod node;
#[path = "../support/mod.rs"]
mod support;

const NODES: usize = 3;
/// Number of keys. On 4 x 65 536 cells no two of them share all rows.
const KEYS: usize = 300;
const OPTIONS: [&str; 6] = [
    "-x=65536",
    "--threads=1",
    "--gossip-interval=200",
    "--max-origins=8192",
    "--log=warn",
    "--http=127.0.0.1:0",
];
/// The clients' timeout, longer than any pause.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that a process may need beyond its slices and its first use.
const RESIDENT_GROWTH_MAX: u64 = 16 << 20;
/// Number of descriptors that may be added: a connection that asks for a status, and a look-up.
const DESCRIPTORS_GROWTH_MAX: usize = 4;

#[derive(Clone)]
struct Start {
    writer: String,
    /// Whether the node is being ended, and its next start is not known yet.
    is_ending: bool,
}

/// The adds of one call: keys and weights.
struct Batch {
    adds: Vec<(usize, u64)>,
    outcome: Result<u64, ClientError>,
    /// The node's start when the call began.
    before: String,
}

/// The starts of the nodes, whether clients rest, and what they were told.
struct Load {
    starts: Mutex<[Start; NODES]>,
    ledger: Mutex<Ledger>,
    rests: AtomicBool,
    resting: AtomicU64,
    is_over: AtomicBool,
    adds: AtomicU64,
}

impl Load {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn start_of(&self, node: usize) -> Start {
        self.starts.lock().unwrap()[node].clone()
    }

    /// Runs a client of one node: batches of adds, each of which counts exactly once.
    fn run(&self, node: usize, server: SocketAddr, mut random: Random) {
        let options = ClientOptions {
            timeout: CLIENT_TIMEOUT,
            ..ClientOptions::default()
        };
        let mut client = Client::connect(server, options).unwrap();
        // Batches that ended while the node's next start was not known yet.
        let mut unnoted: Vec<Batch> = Vec::new();
        while !self.is_over.load(SeqCst) {
            let start = self.start_of(node);
            if !start.is_ending {
                for batch in unnoted.drain(..) {
                    self.note(&batch, &start.writer);
                }
                if self.rests.load(SeqCst) {
                    self.rest();
                    continue;
                }
            }
            let adds: Vec<(usize, u64)> = (0..1 + random.below(300))
                .map(|_| (random.below(KEYS as u64) as usize, 1 + random.below(1_000)))
                .collect();
            let outcome = client.add_many(adds.iter().map(|&(key, weight)| (name(key), weight)));
            self.adds.fetch_add(adds.len() as u64, SeqCst);
            if outcome.is_err() {
                // A node that is gone answers at once, by an ICMP refusal.
                std::thread::sleep(Duration::from_millis(50));
                client = Client::connect(server, options).unwrap();
            }
            unnoted.push(Batch {
                adds,
                outcome,
                before: start.writer,
            });
            std::thread::sleep(Duration::from_millis(random.below(20)));
        }
    }

    fn rest(&self) {
        self.resting.fetch_add(1, SeqCst);
        while self.rests.load(SeqCst) && !self.is_over.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.resting.fetch_sub(1, SeqCst);
    }

    /// Enters a batch that began with one start of a node and was over before the end of `after`.
    fn note(&self, batch: &Batch, after: &str) {
        let Batch {
            adds,
            outcome,
            before,
        } = batch;
        let mut ledger = self.ledger();
        for (position, &(key, weight)) in (0..).zip(adds) {
            match fate(outcome, position) {
                Some(Fate::NotAdded) => {}
                None if before == after => ledger.confirmed(before, key, weight),
                Some(_) if before == after => ledger.uncertain(before, key, weight),
                fate => ledger.straddling([before, after], key, weight, fate.is_none()),
            }
        }
    }
}

fn name(key: usize) -> String {
    format!("key {key}")
}

/// An event that happens to nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Calm,
    /// A node gets SIGTERM, and is started again.
    End,
    /// A node gets SIGKILL, and is started again.
    Kill,
    /// A node gets SIGSTOP and later SIGCONT.
    Pause,
    /// Two nodes are on one side of a cut, and one on the other.
    Part,
    /// One node is killed while another is stopped.
    KillDuringPause,
    /// One node is killed while another is cut off.
    KillDuringPart,
}

const EVENTS: [Event; 7] = [
    Event::Calm,
    Event::End,
    Event::Kill,
    Event::Pause,
    Event::Part,
    Event::KillDuringPause,
    Event::KillDuringPart,
];

struct Soak {
    random: Random,
    /// Events that are still to come before any comes again.
    events: Vec<Event>,
    places: Vec<Place>,
    load: Arc<Load>,
    /// Seconds of each recovery.
    recoveries: BTreeMap<Event, Vec<f64>>,
    ends: Vec<f64>,
    settled: Settled,
    growth_max: Usage,
    folder: PathBuf,
}

fn main() {
    if is_dry() {
        return;
    }
    let minutes = option("--minutes").map_or(10.0, |text| text.parse().unwrap());
    let seed = option("--seed").map_or_else(
        || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |text| text.parse().unwrap(),
    );
    eprintln!("seed {seed}");
    let mut soak = Soak::start(seed);
    let load = Arc::clone(&soak.load);
    let start = Instant::now();
    std::thread::scope(|scope| {
        // Whatever happens, clients end.
        let over = Over(&load);
        for (node, place) in soak.places.iter().enumerate() {
            let (load, server) = (&load, place.for_clients());
            scope.spawn(move || load.run(node, server, Random(seed ^ (node as u64 + 1))));
        }
        while start.elapsed().as_secs_f64() < minutes * 60.0 {
            soak.episode();
        }
        drop(over);
    });
    soak.print(seed, minutes, start.elapsed());
    let _ = std::fs::remove_dir_all(&soak.folder);
}

struct Over<'l>(&'l Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, SeqCst);
    }
}

/// The maximum of each number over all nodes.
fn most(all: impl Iterator<Item = Held>) -> Held {
    let mut most = Held {
        starts: BTreeMap::new(),
        counts: vec![0; KEYS],
    };
    for held in all {
        for (start, weight) in held.starts {
            let known = most.starts.entry(start).or_default();
            *known = weight.max(*known);
        }
        for (known, count) in most.counts.iter_mut().zip(held.counts) {
            *known = count.max(*known);
        }
    }
    most
}

fn option(name: &str) -> Option<String> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1)
}

impl Soak {
    fn start(seed: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("rmbd-soak-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let keys = folder.join("keys");
        std::fs::write(&keys, generate_key_text(std::array::from_fn(|at| at as u8))).unwrap();
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
        let harm = Harm::A_TENTH_LOST;
        let mut places: Vec<Place> = (0..NODES as u8)
            .map(|number| Place::new(number, harm, seed + u64::from(number)))
            .collect();
        let gates: Vec<SocketAddr> = places.iter().map(Place::gate).collect();
        for (number, place) in places.iter_mut().enumerate() {
            let others: Vec<SocketAddr> = (0..NODES)
                .filter(|&other| other != number)
                .map(|other| gates[other])
                .collect();
            place.is_to(&folder, keys.to_str().unwrap(), &others, &OPTIONS);
            place.start();
        }
        let starts = std::array::from_fn(|node| Start {
            writer: places[node].writer().unwrap().to_owned(),
            is_ending: false,
        });
        let load = Load {
            starts: Mutex::new(starts),
            ledger: Mutex::new(Ledger::new(KEYS)),
            rests: AtomicBool::new(false),
            resting: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            adds: AtomicU64::new(0),
        };
        Self {
            random: Random(seed),
            events: Vec::new(),
            places,
            load: Arc::new(load),
            recoveries: BTreeMap::new(),
            ends: Vec::new(),
            settled: Settled::default(),
            growth_max: Usage {
                threads: 0,
                descriptors: 0,
                resident_bytes: 0,
                sketch_bytes: 0,
            },
            folder,
        }
    }

    /// Makes an event under load. Then all faults heal, clients rest, and all nodes must become equal and right.
    fn episode(&mut self) {
        let event = self.draw();
        let one = self.random.below(NODES as u64) as usize;
        let other = (one + 1 + self.random.below(NODES as u64 - 1) as usize) % NODES;
        self.sleep_ms(300, 2_000);
        match event {
            Event::Calm => self.sleep_ms(500, 3_000),
            Event::End => self.restart(one, Signal::TERM),
            Event::Kill => self.restart(one, Signal::KILL),
            Event::Pause | Event::KillDuringPause => {
                self.places[one].signal(Signal::STOP);
                self.sleep_ms(50, 2_000);
                if event == Event::KillDuringPause {
                    self.restart(other, Signal::KILL);
                }
                self.sleep_ms(50, 4_000);
                self.places[one].signal(Signal::CONT);
            }
            Event::Part | Event::KillDuringPart => {
                for place in (0..NODES).filter(|&place| place != one) {
                    self.places[one].part(&self.places[place]);
                }
                self.sleep_ms(50, 3_000);
                if event == Event::KillDuringPart {
                    self.restart(other, Signal::KILL);
                }
                self.sleep_ms(50, 5_000);
                self.places.iter().for_each(Place::heal);
            }
        }
        let healed = Instant::now();
        self.sleep_ms(0, 1_000);
        self.settle(event, healed);
    }

    /// Draws the next event. Each comes in turn, in an order that changes.
    fn draw(&mut self) -> Event {
        if self.events.is_empty() {
            self.events = EVENTS.to_vec();
        }
        let chosen = self.random.below(self.events.len() as u64) as usize;
        self.events.swap_remove(chosen)
    }

    fn sleep_ms(&mut self, min: u64, max: u64) {
        std::thread::sleep(Duration::from_millis(min + self.random.below(max - min)));
    }

    fn note_ending(&self, node: usize) {
        self.load.starts.lock().unwrap()[node].is_ending = true;
    }

    /// Ends a node and starts it again. Its latest counts may be lost if it is killed, so the others are asked before.
    fn restart(&mut self, node: usize, signal: Signal) {
        let writer = self.places[node].writer().unwrap().to_owned();
        if signal == Signal::KILL {
            let others = (0..NODES).filter(|&other| other != node);
            let others = others.filter(|&other| self.places[other].is_running());
            let others_hold = most(others.map(|other| self.held(other)));
            self.load.ledger().killed(&writer, &others_hold);
            self.note_ending(node);
            self.places[node].end(signal);
        } else {
            self.note_ending(node);
            let (code, took) = self.places[node].end(signal);
            assert_eq!(code, Some(0), "{}", self.places[node].log.lock().unwrap());
            self.ends.push(took.as_secs_f64());
        }
        self.sleep_ms(0, 3_000);
        self.places[node].start();
        self.load.starts.lock().unwrap()[node] = Start {
            writer: self.places[node].writer().unwrap().to_owned(),
            is_ending: false,
        };
    }

    fn settle(&mut self, event: Event, healed: Instant) {
        self.load.rests.store(true, SeqCst);
        self.wait("clients rest", |soak| {
            let resting = soak.load.resting.load(SeqCst);
            (resting == NODES as u64)
                .then_some(())
                .ok_or_else(|| format!("{resting} do"))
        });
        self.wait("all are one, ready, and equal", Self::is_whole);
        self.recoveries
            .entry(event)
            .or_default()
            .push(healed.elapsed().as_secs_f64());
        let held = self.held(0);
        let settled = self.load.ledger().settle(held);
        let settled = settled.unwrap_or_else(|wrong| panic!("{event:?}: {wrong}"));
        self.settled.lost += settled.lost;
        self.settled.exact += settled.exact;
        self.check_usage();
        self.check_logs();
        self.load.rests.store(false, SeqCst);
        self.wait("clients go on", |soak| {
            let resting = soak.load.resting.load(SeqCst);
            (resting == 0)
                .then_some(())
                .ok_or_else(|| format!("{resting} rest"))
        });
    }

    fn wait(&mut self, what: &str, look: impl Fn(&Self) -> Result<(), String>) {
        let start = Instant::now();
        while let Err(complaint) = look(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}: {complaint}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_whole(&self) -> Result<(), String> {
        let all: Vec<_> = self.places.iter().filter_map(Place::status).collect();
        let slices = |at: usize| {
            let slices = all[at]
                .cluster
                .slices
                .iter()
                .filter(|slice| slice.weight > 0);
            let mut slices: Vec<_> = slices
                .map(|slice| (&slice.writer, slice.version, &slice.root, slice.weight))
                .collect();
            slices.sort();
            slices
        };
        for (at, status) in all.iter().enumerate() {
            let alive = status
                .cluster
                .members
                .iter()
                .filter(|member| member.state == "alive");
            let alive = alive.count();
            if alive != NODES - 1 || !status.is_ready() {
                return Err(format!(
                    "{alive} alive at {at}, ready: {}",
                    status.is_ready()
                ));
            }
            if slices(at) != slices(0) {
                return Err(format!("{:#?}\n{:#?}", slices(0), slices(at)));
            }
        }
        // A data thread adds before it raises the total, so equal slices may still be those from before.
        let first = self.held(0);
        match (1..NODES).find(|&node| self.held(node) != first) {
            Some(node) => Err(format!("{node} counts otherwise than 0")),
            None => Ok(()),
        }
    }

    fn held(&self, node: usize) -> Held {
        let options = ClientOptions {
            timeout: CLIENT_TIMEOUT,
            ..ClientOptions::default()
        };
        // This does not use the node's proxy, whose answers go to one client.
        let mut client = Client::connect(self.places[node].udp(), options).unwrap();
        let names: Vec<String> = (0..KEYS).map(name).collect();
        let counts = client.count_many(&names).unwrap();
        Held {
            starts: self.places[node].held(),
            counts: counts.iter().map(|count| count.estimate).collect(),
        }
    }

    fn check_usage(&mut self) {
        for place in &mut self.places {
            let (now, first) = place.usage().unwrap();
            let slices = now.sketch_bytes.saturating_sub(first.sketch_bytes);
            let resident = now
                .resident_bytes
                .saturating_sub(first.resident_bytes)
                .saturating_sub(slices);
            let (threads, descriptors) = (
                now.threads.saturating_sub(first.threads),
                now.descriptors.saturating_sub(first.descriptors),
            );
            let is_flat = threads == 0
                && descriptors <= DESCRIPTORS_GROWTH_MAX
                && resident <= RESIDENT_GROWTH_MAX;
            assert!(is_flat, "{first:?} became {now:?}");
            let max = &mut self.growth_max;
            max.threads = max.threads.max(threads);
            max.descriptors = max.descriptors.max(descriptors);
            max.resident_bytes = max.resident_bytes.max(resident);
            max.sketch_bytes = max.sketch_bytes.max(now.sketch_bytes);
        }
    }

    fn check_logs(&self) {
        for place in &self.places {
            let log = place.log.lock().unwrap();
            let bad = log
                .lines()
                .find(|line| line.contains("panicked") || line.contains(" ERROR "));
            assert_eq!(bad, None, "{log}");
        }
    }

    fn print(&self, seed: u64, minutes: f64, took: Duration) {
        let ledger = self.load.ledger();
        println!("# A soak of three processes\n");
        println!("Command: `cargo bench --bench soak -- --minutes {minutes} --seed {seed}`\n");
        for (what, value) in support::machine::lines() {
            println!("- {what}: {value}");
        }
        println!(
            "\nThree nodes, 4 x 65 536 cells, rounds of 200 ms, a key. Of a thousand datagrams, of nodes and of \
             clients, 100 are lost, 50 doubled and 50 late. Three clients add exactly once. In between one thing \
             happens, all is healed, clients rest, and as soon as all nodes hold the same, it is compared with \
             what was acknowledged: to the last unit, but for what a process that was killed had told nobody.\n"
        );
        println!(
            "| what happened | times | until all were one and equal, s: median and worst |\n|---|---|---|"
        );
        for (event, times) in &self.recoveries {
            println!("| {event:?} | {} | {} |", times.len(), median_max(times, 2));
        }
        let counts: Counts = self.places.iter().map(Place::counts).sum();
        println!("\n| | |\n|---|---|");
        println!("| ran | {:.0} s |", took.as_secs_f64());
        println!("| adds | {} |", self.load.adds.load(SeqCst));
        println!(
            "| weight acknowledged, uncertain | {}, {} |",
            ledger.acknowledged, ledger.uncertain
        );
        println!(
            "| acknowledged weight that went with killed processes | {} |",
            self.settled.lost
        );
        println!(
            "| slices compared whose weight had to be one number, and was | {} |",
            self.settled.exact
        );
        println!(
            "| SIGTERM until the end, s: median and worst | {} |",
            median_max(&self.ends, 2)
        );
        println!(
            "| datagrams taken by the proxies, harmed, cut | {}, {}, {} |",
            counts.taken(),
            counts.harmed(),
            counts.cut
        );
        println!(
            "| growth of a process beyond its slices, at most | {:.1} MiB, {} threads, {} descriptors |",
            self.growth_max.resident_bytes as f64 / f64::from(1 << 20),
            self.growth_max.threads,
            self.growth_max.descriptors
        );
        let mut warnings: BTreeMap<String, usize> = BTreeMap::new();
        for place in &self.places {
            for line in place
                .log
                .lock()
                .unwrap()
                .lines()
                .filter(|line| line.contains(" WARN "))
            {
                let what: String = line
                    .split(" WARN ")
                    .nth(1)
                    .unwrap()
                    .chars()
                    .take(90)
                    .collect();
                *warnings.entry(what).or_default() += 1;
            }
        }
        println!("| panics, error lines | 0 |");
        for (warning, times) in warnings {
            println!("| warned: {warning} | {times} |");
        }
    }
}
