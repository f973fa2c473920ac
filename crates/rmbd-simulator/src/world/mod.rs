//! Hosts, the processes on them, the network between, and one queue of what happens when.

mod acts;
mod clients;
mod events;
mod life;
mod process;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rmbd_cluster::ClusterLimits;
use rmbd_proto::Boot;
use rmbd_proto::cluster::SliceId;
use rmbd_sketch::{Geometry, HashFamily};

use self::clients::Client;
use self::events::Event;
pub use self::process::{Host, Process};
use self::watch::History;
use super::machine::{Cells, Copies, Machine, is_empty, raise};
use super::network::{Network, Place};
use super::queue::Queue;
use super::random::Random;
use process::CLOCK_START;

/// Everything in a datagram's payload.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;
/// How long one that leaves may take.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(4);

/// What all hosts have in common.
#[derive(Debug, Clone)]
pub struct Terms {
    pub geometry: Geometry,
    pub family: HashFamily,
    pub interval: Duration,
    pub rate_bytes_per_s: u64,
    pub limits: ClusterLimits,
    pub max_origins: usize,
    pub max_memory_bytes: u64,
    /// Datagrams that wait at a process that does not read: a socket's buffer.
    pub socket_datagrams: usize,
    /// Numbers of the cluster's keys.
    pub keys: Vec<u8>,
    /// Datagrams larger than a cluster may send are a fault (the naive one knows no limit).
    pub limits_datagrams: bool,
    /// Whether what happens is printed.
    pub trace: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            geometry: Geometry::new(256, 3).unwrap(),
            family: HashFamily::Xxh3 { seed: 11 },
            interval: Duration::from_millis(500),
            rate_bytes_per_s: 50_000_000,
            limits: ClusterLimits::default(),
            max_origins: 256,
            max_memory_bytes: u64::MAX,
            socket_datagrams: 4_096,
            keys: vec![1],
            limits_datagrams: true,
            trace: false,
        }
    }
}

/// Who starts again on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The same node, in a new start.
    Same,
    /// Another node at the same address.
    Another,
}

pub struct World<M> {
    pub now: Duration,
    pub network: Network,
    pub terms: Terms,
    pub hosts: Vec<Host<M>>,
    /// Where names lead whose process has moved.
    names: BTreeMap<Place, Place>,
    clients: Vec<Client>,
    /// Keys that are looked at all the time.
    pub keys: Vec<Vec<u8>>,
    /// What was added: by slice, by number of the key.
    pub truth: BTreeMap<SliceId, Vec<u64>>,
    /// The fingerprint of each slice's sketch.
    pub fingerprints: BTreeMap<SliceId, u64>,
    /// What writers that are gone had written, in the end.
    pub written: Copies,
    /// Other keys were added, too.
    pub is_filled: bool,
    /// What must not have happened.
    pub violations: Vec<String>,
    history: History,
    /// Hashes of datagrams, by where they came.
    come: BTreeSet<(Place, u64)>,
    queue: Queue<Event>,
    random: Random,
    buffer: Vec<u8>,
    pub events: u64,
}

impl<M: Machine> World<M> {
    pub fn new(seed: u64, terms: Terms) -> Self {
        Self {
            now: Duration::from_secs(1),
            network: Network::new(seed),
            terms,
            hosts: Vec::new(),
            names: BTreeMap::new(),
            clients: Vec::new(),
            keys: (0..16).map(|n| format!("key {n}").into_bytes()).collect(),
            truth: BTreeMap::new(),
            fingerprints: BTreeMap::new(),
            written: BTreeMap::new(),
            is_filled: false,
            violations: Vec::new(),
            history: History::default(),
            come: BTreeSet::new(),
            queue: Queue::new(),
            random: Random::stream(seed, "world"),
            buffer: Vec::new(),
            events: 0,
        }
    }

    /// Hosts that join each other, on which everything is running; their rounds are spread evenly.
    pub fn cluster(seed: u64, nodes: usize, terms: Terms) -> Self {
        let mut world = Self::new(seed, terms);
        for _ in 0..nodes {
            world.host();
        }
        for place in 0..nodes {
            world.hosts[place].seeds = (0..nodes.min(2)).filter(|&seed| seed != place).collect();
            world.start(place);
            world.run_for(world.terms.interval / nodes as u32);
        }
        world
    }

    /// A host on which nothing runs yet.
    pub fn host(&mut self) -> Place {
        self.hosts.push(Host {
            node: self.random.next(),
            seeds: Vec::new(),
            claims: None,
            keys: self.terms.keys.clone(),
            fingerprint: None,
            geometry: self.terms.geometry,
            max_origins: self.terms.max_origins,
            max_memory_bytes: self.terms.max_memory_bytes,
            wall_behind: Duration::ZERO,
            clock_rate: 1.0,
            owed_when_ready: None,
            process: None,
        });
        self.hosts.len() - 1
    }

    /// Where a name leads.
    pub fn resolve(&self, name: Place) -> Place {
        self.names.get(&name).copied().unwrap_or(name)
    }

    pub fn machine(&self, place: Place) -> &M {
        &self.process(place).machine
    }

    pub fn process(&self, place: Place) -> &Process<M> {
        let process = self.hosts[place].process.as_ref();
        process.unwrap_or_else(|| panic!("nothing runs at {place}"))
    }

    pub fn estimate(&self, place: Place, key: usize) -> u64 {
        self.machine(place).estimate(&self.keys[key]).count
    }

    pub fn clock(&self, place: Place) -> Duration {
        self.process(place).clock(self.now)
    }

    /// How long it has been running, by its own clock.
    pub fn age(&self, place: Place) -> Duration {
        self.clock(place).saturating_sub(CLOCK_START)
    }

    /// Places where something runs.
    pub fn running(&self) -> Vec<Place> {
        let all = self.hosts.iter().enumerate();
        all.filter(|(_, host)| host.process.is_some())
            .map(|(place, _)| place)
            .collect()
    }

    pub fn runs(&self, place: Place) -> bool {
        self.hosts[place].process.is_some()
    }

    pub fn is_leaving(&self, place: Place) -> bool {
        self.process(place).leaving.is_some()
    }

    pub fn is_paused(&self, place: Place) -> bool {
        let process = self.process(place);
        process.paused_until.is_some() || process.flooded_until.is_some()
    }

    /// Where a boot runs.
    pub fn place_of(&self, boot: Boot) -> Option<Place> {
        let is_it = |host: &Host<M>| {
            let process = host.process.as_ref();
            process.is_some_and(|process| process.setup.boot == boot)
        };
        self.hosts.iter().position(is_it)
    }

    /// Places of those that it takes for live members; nothing where one of them is not up.
    pub fn live_places(&self, place: Place) -> Option<Vec<Place>> {
        let live = self.machine(place).live(self.clock(place));
        live.iter().map(|&(boot, _)| self.place_of(boot)).collect()
    }

    /// All that was ever written, by whom: what lives as it is now, what is gone as it was at its end.
    pub fn all_written(&self) -> Copies {
        let mut all = self.written.clone();
        for host in &self.hosts {
            if let Some(process) = &host.process {
                all.insert(process.slice(), process.machine.own_cells());
            }
        }
        all
    }

    /// The best copy of every slice that any of these holds; of those who write, what they have now.
    pub fn best_copies(&self, places: &[Place]) -> Copies {
        let mut best = Copies::new();
        for &place in places {
            let mut copies = self.machine(place).copies();
            copies.retain(|slice, _| !self.machine(place).refuses(slice));
            copies.extend(self.own_copy(place));
            for (slice, cells) in copies {
                raise_or_insert(&mut best, slice, cells);
            }
        }
        best
    }

    /// What a node's own slice would be if it were published now; none where nothing was added.
    pub fn own_copy(&self, place: Place) -> Option<(SliceId, Cells)> {
        let process = self.process(place);
        let cells = process.machine.own_cells();
        (!is_empty(&cells)).then(|| (process.slice(), cells))
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.terms.trace {
            println!("{:>12.6} {}", self.now.as_secs_f64(), what());
        }
    }
}

fn raise_or_insert(copies: &mut Copies, slice: SliceId, cells: Cells) {
    match copies.get_mut(&slice) {
        Some(known) => raise(known, &cells),
        None => {
            copies.insert(slice, cells);
        }
    }
}
