//! Hosts, the processes on them, the network between, and one queue of what happens when.

mod acts;
mod clients;
mod events;
mod life;
mod process;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rmbd::cluster::ClusterLimits;
use rmbd::sketch::{Geometry, HashFamily};
use rmbd::wire::Boot;
use rmbd::wire::cluster::SliceId;

use self::clients::Client;
use self::events::Event;
pub(crate) use self::process::{Host, Process};
use self::watch::History;
use super::machine::{Cells, Copies, Machine, is_empty, raise};
use super::network::{Network, Place};
use super::queue::Queue;
use super::random::Random;
use process::CLOCK_START;

/// Everything in a datagram's payload.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1_200;
/// How long one that leaves may take.
pub(crate) const LEAVE_LIMIT: Duration = Duration::from_secs(4);

/// What all hosts have in common.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) geometry: Geometry,
    pub(crate) family: HashFamily,
    pub(crate) interval: Duration,
    pub(crate) rate_bytes_per_s: u64,
    pub(crate) limits: ClusterLimits,
    pub(crate) max_origins: usize,
    pub(crate) max_memory_bytes: u64,
    /// Datagrams that wait at a process that does not read: a socket's buffer.
    pub(crate) socket_datagrams: usize,
    /// Numbers of the cluster's keys.
    pub(crate) keys: Vec<u8>,
    /// Datagrams larger than a cluster may send are a fault (the naive one knows no limit).
    pub(crate) limits_datagrams: bool,
    /// Whether what happens is printed.
    pub(crate) trace: bool,
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
pub(crate) enum Identity {
    /// The same node, in a new start.
    Same,
    /// Another node at the same address.
    Another,
}

pub(crate) struct World<M> {
    pub(crate) now: Duration,
    pub(crate) network: Network,
    pub(crate) terms: Terms,
    pub(crate) hosts: Vec<Host<M>>,
    /// Where names lead whose process has moved.
    names: BTreeMap<Place, Place>,
    clients: Vec<Client>,
    /// Keys that are looked at all the time.
    pub(crate) keys: Vec<Vec<u8>>,
    /// What was added: by slice, by number of the key.
    pub(crate) truth: BTreeMap<SliceId, Vec<u64>>,
    /// The fingerprint of each slice's sketch.
    pub(crate) fingerprints: BTreeMap<SliceId, u64>,
    /// What writers that are gone had written, in the end.
    pub(crate) written: Copies,
    /// Other keys were added, too.
    pub(crate) is_filled: bool,
    /// What must not have happened.
    pub(crate) violations: Vec<String>,
    history: History,
    /// Hashes of datagrams, by where they came.
    come: BTreeSet<(Place, u64)>,
    queue: Queue<Event>,
    random: Random,
    buffer: Vec<u8>,
    pub(crate) events: u64,
}

impl<M: Machine> World<M> {
    pub(crate) fn new(seed: u64, terms: Terms) -> Self {
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
    pub(crate) fn cluster(seed: u64, nodes: usize, terms: Terms) -> Self {
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
    pub(crate) fn host(&mut self) -> Place {
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
    pub(crate) fn resolve(&self, name: Place) -> Place {
        self.names.get(&name).copied().unwrap_or(name)
    }

    pub(crate) fn machine(&self, place: Place) -> &M {
        &self.process(place).machine
    }

    pub(crate) fn process(&self, place: Place) -> &Process<M> {
        let process = self.hosts[place].process.as_ref();
        process.unwrap_or_else(|| panic!("nothing runs at {place}"))
    }

    pub(crate) fn estimate(&self, place: Place, key: usize) -> u64 {
        self.machine(place).estimate(&self.keys[key]).count
    }

    pub(crate) fn clock(&self, place: Place) -> Duration {
        self.process(place).clock(self.now)
    }

    /// How long it has been running, by its own clock.
    pub(crate) fn age(&self, place: Place) -> Duration {
        self.clock(place).saturating_sub(CLOCK_START)
    }

    /// Places where something runs.
    pub(crate) fn running(&self) -> Vec<Place> {
        let all = self.hosts.iter().enumerate();
        all.filter(|(_, host)| host.process.is_some())
            .map(|(place, _)| place)
            .collect()
    }

    pub(crate) fn runs(&self, place: Place) -> bool {
        self.hosts[place].process.is_some()
    }

    pub(crate) fn is_leaving(&self, place: Place) -> bool {
        self.process(place).leaving.is_some()
    }

    pub(crate) fn is_paused(&self, place: Place) -> bool {
        let process = self.process(place);
        process.paused_until.is_some() || process.flooded_until.is_some()
    }

    /// Where a boot runs.
    pub(crate) fn place_of(&self, boot: Boot) -> Option<Place> {
        let is_it = |host: &Host<M>| {
            let process = host.process.as_ref();
            process.is_some_and(|process| process.setup.boot == boot)
        };
        self.hosts.iter().position(is_it)
    }

    /// Places of those that it takes for live members; nothing where one of them is not up.
    pub(crate) fn live_places(&self, place: Place) -> Option<Vec<Place>> {
        let live = self.machine(place).live(self.clock(place));
        live.iter().map(|&(boot, _)| self.place_of(boot)).collect()
    }

    /// All that was ever written, by whom: what lives as it is now, what is gone as it was at its end.
    pub(crate) fn all_written(&self) -> Copies {
        let mut all = self.written.clone();
        for host in &self.hosts {
            if let Some(process) = &host.process {
                all.insert(process.slice(), process.machine.own_cells());
            }
        }
        all
    }

    /// The best copy of every slice that any of these holds; of those who write, what they have now.
    pub(crate) fn best_copies(&self, places: &[Place]) -> Copies {
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
    pub(crate) fn own_copy(&self, place: Place) -> Option<(SliceId, Cells)> {
        let process = self.process(place);
        let cells = process.machine.own_cells();
        (!is_empty(&cells)).then(|| (process.slice(), cells))
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
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
