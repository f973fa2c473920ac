//! The world: hosts, the processes on them, the network between them, and one queue of events.

mod acts;
mod clients;
mod disks;
mod events;
mod life;
mod process;
mod watch;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rmbd_cluster::ClusterLimits;
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber};
use rmbd_sketch::{Geometry, HashFamily};

use self::clients::Client;
use self::disks::KeptFile;
pub use self::disks::{DiskFault, DiskTerms, Drive};
use self::events::Event;
pub use self::process::{Host, Process};
use self::watch::History;
use self::windows::Ledger;
pub use self::windows::{Kind, WindowLook};
use super::machine::{Cells, Copies, Machine, SketchSpec, Windows, is_empty, raise};
use super::network::{Network, Place};
use super::queue::Queue;
use super::random::Random;
use process::CLOCK_START;

/// Largest payload of a datagram, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;
/// The longest time that a leaving node may take.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(4);

/// Settings that all hosts have in common.
#[derive(Debug, Clone)]
pub struct Terms {
    pub geometry: Geometry,
    pub family: HashFamily,
    /// The windows of the default sketch.
    pub windows: Windows,
    /// Cells of a piece of a snapshot.
    pub snapshot_cells: usize,
    /// The least time between two pieces.
    pub snapshot_gap: Duration,
    /// Sketches beside the default one.
    pub others: Vec<SketchSpec>,
    pub interval: Duration,
    pub rate_bytes_per_s: u64,
    pub limits: ClusterLimits,
    pub max_origins: usize,
    pub max_memory_bytes: u64,
    /// Number of datagrams that wait at a process that does not read: the size of a socket's buffer.
    pub socket_datagrams: usize,
    /// Numbers of the cluster's keys.
    pub keys: Vec<u8>,
    /// Whether datagrams larger than a cluster may send are a fault; the naive node knows no limit.
    pub limits_datagrams: bool,
    /// How hosts keep what they have counted; `None`: they keep nothing.
    pub disks: Option<DiskTerms>,
    /// Whether what happens is printed.
    pub trace: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            geometry: Geometry::new(256, 3).unwrap(),
            family: HashFamily::Xxh3 { seed: 11 },
            windows: [None; 2],
            snapshot_cells: usize::MAX,
            snapshot_gap: Duration::ZERO,
            others: Vec::new(),
            interval: Duration::from_millis(500),
            rate_bytes_per_s: 50_000_000,
            limits: ClusterLimits::default(),
            max_origins: 256,
            max_memory_bytes: u64::MAX,
            socket_datagrams: 4_096,
            keys: vec![1],
            limits_datagrams: true,
            disks: None,
            trace: false,
        }
    }
}

impl Terms {
    /// All sketches, the default one first.
    pub fn sketches(&self) -> Vec<SketchSpec> {
        let first = SketchSpec {
            number: SketchNumber::DEFAULT,
            geometry: self.geometry,
            family: self.family,
            windows: self.windows,
        };
        [vec![first], self.others.clone()].concat()
    }
}

/// The identity of a process that starts on a host again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The same node starts again.
    Same,
    /// Another node starts at the same address.
    Another,
}

pub struct World<M> {
    pub now: Duration,
    pub network: Network,
    pub terms: Terms,
    pub hosts: Vec<Host<M>>,
    /// The places that names lead to after their process has moved.
    names: BTreeMap<Place, Place>,
    clients: Vec<Client>,
    /// Keys whose answers are checked all the time.
    pub keys: Vec<Vec<u8>>,
    /// The weights that were added, by slice and by number of the key; where two processes have gone on with one
    /// slice, the larger ones.
    pub truth: BTreeMap<SliceId, Vec<u64>>,
    /// All weights that were ever added, by sketch and by number of the key, ...
    pub added: BTreeMap<SketchNumber, Vec<u64>>,
    /// ... and those of them that may count twice, since disks were copied.
    pub twice: BTreeMap<SketchNumber, Vec<u64>>,
    /// The fingerprint of each slice's sketch.
    pub fingerprints: BTreeMap<SliceId, u64>,
    /// The final cells of writers that are gone.
    pub written: Copies,
    /// What processes that are gone had counted, whatever became of it, by the fingerprint of the sketch.
    counted: BTreeMap<u64, Cells>,
    kept: BTreeMap<u64, KeptFile>,
    /// Whether keys outside of `keys` were added, too.
    pub is_filled: bool,
    /// Descriptions of what must not have happened.
    pub violations: Vec<String>,
    history: History,
    ledger: Ledger,
    /// What was found when windows were looked at.
    pub window_looks: Vec<WindowLook>,
    /// Hashes of datagrams, by the place where they came.
    come: BTreeSet<(Place, u64)>,
    queue: Queue<Event>,
    random: Random,
    disk_random: Random,
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
            added: BTreeMap::new(),
            twice: BTreeMap::new(),
            fingerprints: BTreeMap::new(),
            written: BTreeMap::new(),
            counted: BTreeMap::new(),
            kept: BTreeMap::new(),
            is_filled: false,
            violations: Vec::new(),
            history: History::default(),
            ledger: Ledger::default(),
            window_looks: Vec::new(),
            come: BTreeSet::new(),
            queue: Queue::new(),
            random: Random::stream(seed, "world"),
            disk_random: Random::stream(seed, "disks of the world"),
            buffer: Vec::new(),
            events: 0,
        }
    }

    /// A world with hosts that join each other, all of them running; their rounds are spread evenly.
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

    /// Adds a host on which nothing runs yet, and returns its place.
    pub fn host(&mut self) -> Place {
        self.hosts.push(Host {
            node: self.random.next(),
            seeds: Vec::new(),
            claims: None,
            keys: self.terms.keys.clone(),
            sketches: self.terms.sketches(),
            max_origins: self.terms.max_origins,
            max_memory_bytes: self.terms.max_memory_bytes,
            wall_behind: Duration::ZERO,
            clock_rate: 1.0,
            owed_when_ready: None,
            starts_after: None,
            is_to_start: false,
            drive: self.terms.disks.map(|_| Drive::default()),
            process: None,
        });
        self.hosts.len() - 1
    }

    /// The place that a name leads to.
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
        self.estimate_of(place, SketchNumber::DEFAULT, key)
    }

    pub fn estimate_of(&self, place: Place, sketch: SketchNumber, key: usize) -> u64 {
        self.machine(place).estimate(sketch, &self.keys[key]).count
    }

    pub fn clock(&self, place: Place) -> Duration {
        self.process(place).clock(self.now)
    }

    /// The time for which a node has been running, by its own clock.
    pub fn age(&self, place: Place) -> Duration {
        self.clock(place).saturating_sub(CLOCK_START)
    }

    /// Places where a process runs.
    pub fn running(&self) -> Vec<Place> {
        let all = self.hosts.iter().enumerate();
        all.filter(|(_, host)| host.process.is_some())
            .map(|(place, _)| place)
            .collect()
    }

    pub fn runs(&self, place: Place) -> bool {
        self.hosts[place].process.is_some()
    }

    /// Whether a process is about to start anywhere.
    pub fn is_any_to_start(&self) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.any(|host| host.is_to_start || host.starts_after.is_some())
    }

    pub fn is_leaving(&self, place: Place) -> bool {
        self.process(place).leaving.is_some()
    }

    pub fn is_paused(&self, place: Place) -> bool {
        let process = self.process(place);
        process.paused_until.is_some() || process.flooded_until.is_some()
    }

    /// The place where a boot runs.
    pub fn place_of(&self, boot: Boot) -> Option<Place> {
        let is_it = |host: &Host<M>| {
            let process = host.process.as_ref();
            process.is_some_and(|process| process.boot_now == boot)
        };
        self.hosts.iter().position(is_it)
    }

    /// Places of the members that a node takes for live; `None` if one of them is not running.
    pub fn live_places(&self, place: Place) -> Option<Vec<Place>> {
        let live = self.machine(place).live(self.clock(place));
        live.iter().map(|&(boot, _)| self.place_of(boot)).collect()
    }

    /// All cells that were ever written, by writer: those of live writers as they are now, and those of others as they
    /// were at their end.
    pub fn all_written(&self) -> Copies {
        let mut all = self.written.clone();
        for host in &self.hosts {
            if let Some(process) = &host.process {
                for (slice, cells) in process.all_own_cells() {
                    raise_or_insert(&mut all, slice, cells);
                }
            }
        }
        all
    }

    /// What all processes have counted in sketches of a fingerprint, each once, whatever became of it.
    pub fn all_counted(&self, fingerprint: u64) -> Cells {
        let gone = self.counted.get(&fingerprint).cloned();
        let mut sum = gone.unwrap_or_default();
        for process in self.hosts.iter().filter_map(|host| host.process.as_ref()) {
            for (_, cells) in process.counted_in(fingerprint) {
                add_cells(&mut sum, &cells);
            }
        }
        sum
    }

    /// What was added to a key of a sketch, and may be counted.
    pub fn most_of(&self, sketch: SketchNumber, key: usize) -> u64 {
        let of = |sums: &BTreeMap<SketchNumber, Vec<u64>>| {
            let sums = sums.get(&sketch);
            sums.and_then(|sums| sums.get(key)).copied().unwrap_or(0)
        };
        of(&self.added) + of(&self.twice)
    }

    /// The best copy of every slice that any of these nodes holds; for live writers among them, their own cells.
    pub fn best_copies(&self, places: &[Place]) -> Copies {
        let held = |&place: &Place| {
            let held = self.copies_that_it_refuses(place, false);
            held.chain(self.own_copies(place))
        };
        best(places.iter().flat_map(held))
    }

    /// The best parts of slices that these nodes hold and refuse for want of room. A node that gets room takes such a
    /// slice again, with the part that it has.
    pub fn refused_parts(&self, places: &[Place]) -> Copies {
        best(
            places
                .iter()
                .flat_map(|&place| self.copies_that_it_refuses(place, true)),
        )
    }

    /// The copies that a node holds of slices that it refuses, or of all others.
    fn copies_that_it_refuses(
        &self,
        place: Place,
        refuses: bool,
    ) -> impl Iterator<Item = (SliceId, Cells)> {
        let machine = self.machine(place);
        let copies = machine.copies().into_iter();
        copies.filter(move |(slice, _)| machine.refuses(slice) == refuses)
    }

    /// The cells of a node's own slice in the default sketch as they would be if they were published now; `None` if
    /// nothing was added.
    pub fn own_copy(&self, place: Place) -> Option<(SliceId, Cells)> {
        let slice = self.process(place).slice();
        self.own_copies(place).find(|(own, _)| *own == slice)
    }

    /// The same of all sketches to which something was added.
    pub fn own_copies(&self, place: Place) -> impl Iterator<Item = (SliceId, Cells)> + '_ {
        let all = self.process(place).all_own_cells();
        all.filter(|(_, cells)| !is_empty(cells))
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.terms.trace {
            println!("{:>12.6} {}", self.now.as_secs_f64(), what());
        }
    }
}

/// The highest of all cells for each slice.
pub(crate) fn best(copies: impl Iterator<Item = (SliceId, Cells)>) -> Copies {
    let mut best = Copies::new();
    for (slice, cells) in copies {
        raise_or_insert(&mut best, slice, cells);
    }
    best
}

fn add_cells(sum: &mut Cells, cells: &[u64]) {
    sum.resize(sum.len().max(cells.len()), 0);
    sum.iter_mut()
        .zip(cells)
        .for_each(|(sum, cell)| *sum += cell);
}

fn raise_or_insert(copies: &mut Copies, slice: SliceId, cells: Cells) {
    match copies.get_mut(&slice) {
        Some(known) => raise(known, &cells),
        None => {
            copies.insert(slice, cells);
        }
    }
}
