//! Hosts, the processes on them, the network between, and one queue of what happens when.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rmbd::cluster::ClusterLimits;
use rmbd::sketch::{Geometry, HashFamily};
use rmbd::wire::cluster::SliceId;

use super::machine::{Cells, Copies, Machine, Setup, is_empty, raise};
use super::network::{Datagram, Network, Place, Weather, address, place};
use super::queue::Queue;
use super::random::Random;

/// Everything in a datagram's payload.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1_200;
/// A node looks again for its seeds while it is alone.
const LOOK_FOR_SEEDS: Duration = Duration::from_secs(2);
/// Datagrams that wait at a process that is stopped: a socket's buffer.
const SOCKET_DATAGRAMS: usize = 4_096;
/// A timer's grain: who asks to be woken at once sleeps so long.
const GRAIN: Duration = Duration::from_micros(100);
/// Datagrams that one may send in one go, and wakes in a row that did nothing: more is a fault.
const BURST_MAX: usize = 100_000;
const IDLE_WAKES_MAX: usize = 200;
/// How long one that leaves may take.
pub(crate) const LEAVE_LIMIT: Duration = Duration::from_secs(4);
/// What a node's clock shows when it starts: not 0, so that it can go back.
const CLOCK_START: Duration = Duration::from_secs(1_000);
/// Unix time of the start of virtual time, in milliseconds.
const EPOCH_MS: u64 = 1_800_000_000_000;

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
            keys: vec![1],
            limits_datagrams: true,
            trace: false,
        }
    }
}

/// Where a process can run, and what its operator has written down for it.
pub(crate) struct Host<M> {
    pub(crate) node: u64,
    pub(crate) seeds: Vec<Place>,
    pub(crate) keys: Vec<u8>,
    /// Replaces what follows from the geometry.
    pub(crate) fingerprint: Option<u64>,
    pub(crate) geometry: Geometry,
    pub(crate) max_origins: usize,
    pub(crate) max_memory_bytes: u64,
    /// How far its wall clock is behind.
    pub(crate) wall_behind: Duration,
    pub(crate) process: Option<Process<M>>,
}

pub(crate) struct Process<M> {
    pub(crate) machine: M,
    pub(crate) setup: Setup,
    born: Duration,
    clock_ahead: Duration,
    clock_behind: Duration,
    wake_at: Option<Duration>,
    idle_wakes: usize,
    paused_until: Option<Duration>,
    waiting: Vec<(SocketAddr, Vec<u8>)>,
    leaving_until: Option<Duration>,
    /// The last answers, below which none may fall.
    floor: Vec<u64>,
    pub(crate) bytes_out: u64,
    pub(crate) datagrams_out: u64,
    pub(crate) bytes_in: u64,
}

impl<M> Process<M> {
    pub(crate) fn slice(&self) -> SliceId {
        SliceId::of(self.setup.node, self.setup.boot)
    }

    /// What its clock shows.
    fn clock(&self, now: Duration) -> Duration {
        let age = CLOCK_START + now - self.born + self.clock_ahead;
        age.saturating_sub(self.clock_behind)
    }
}

enum Event {
    Deliver(Datagram),
    Wake { place: Place, boot: u64 },
    LookForSeeds { place: Place, boot: u64 },
    Resume { place: Place, boot: u64 },
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
    /// Keys that are looked at all the time.
    pub(crate) keys: Vec<Vec<u8>>,
    /// What was added: by slice, by number of the key.
    pub(crate) truth: BTreeMap<SliceId, Vec<u64>>,
    /// What writers that are gone had written, in the end.
    pub(crate) written: Copies,
    /// Other keys were added, too.
    pub(crate) is_filled: bool,
    /// What must not have happened.
    pub(crate) violations: Vec<String>,
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
            keys: (0..16).map(|n| format!("key {n}").into_bytes()).collect(),
            truth: BTreeMap::new(),
            written: BTreeMap::new(),
            is_filled: false,
            violations: Vec::new(),
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
            keys: self.terms.keys.clone(),
            fingerprint: None,
            geometry: self.terms.geometry,
            max_origins: self.terms.max_origins,
            max_memory_bytes: self.terms.max_memory_bytes,
            wall_behind: Duration::ZERO,
            process: None,
        });
        self.hosts.len() - 1
    }

    pub(crate) fn start(&mut self, place: Place) {
        assert!(self.hosts[place].process.is_none(), "{place} runs");
        let setup = self.setup(place);
        self.tell(|| {
            format!(
                "{place} starts: node {:x}, boot {:x}",
                setup.node, setup.boot
            )
        });
        self.truth.insert(
            SliceId::of(setup.node, setup.boot),
            vec![0; self.keys.len()],
        );
        let mut process = Process {
            machine: M::start(&setup, CLOCK_START),
            setup,
            born: self.now,
            clock_ahead: Duration::ZERO,
            clock_behind: Duration::ZERO,
            wake_at: None,
            idle_wakes: 0,
            paused_until: None,
            waiting: Vec::new(),
            leaving_until: None,
            floor: vec![0; self.keys.len()],
            bytes_out: 0,
            datagrams_out: 0,
            bytes_in: 0,
        };
        let clock = process.clock(self.now);
        for &seed in &self.hosts[place].seeds {
            process.machine.join(clock, address(seed));
        }
        let boot = process.setup.boot;
        self.hosts[place].process = Some(process);
        self.queue.push(
            self.now + LOOK_FOR_SEEDS,
            Event::LookForSeeds { place, boot },
        );
        self.settle(place);
    }

    fn setup(&mut self, place: Place) -> Setup {
        let host = &self.hosts[place];
        let wall = Duration::from_millis(EPOCH_MS) + self.now - host.wall_behind;
        let family = self.terms.family;
        Setup {
            geometry: host.geometry,
            family,
            node: host.node,
            boot: self.random.next(),
            started_ms: wall.as_millis() as u64,
            address: address(place),
            seed: self.random.next(),
            keys: host.keys.clone(),
            fingerprint: host
                .fingerprint
                .unwrap_or_else(|| rmbd::replica::fingerprint(host.geometry, family)),
            max_origins: host.max_origins,
            max_memory_bytes: host.max_memory_bytes,
            joins: !host.seeds.is_empty(),
            gossip_interval: self.terms.interval,
            gossip_rate_bytes_per_s: self.terms.rate_bytes_per_s,
            limits: self.terms.limits,
        }
    }

    /// Memory is gone, without a word to anybody.
    pub(crate) fn crash(&mut self, place: Place) {
        let Some(process) = self.hosts[place].process.take() else {
            return;
        };
        self.tell(|| format!("{place} crashes"));
        self.network.faults.crashes += 1;
        self.bury(process);
    }

    fn bury(&mut self, process: Process<M>) {
        self.written
            .insert(process.slice(), process.machine.own_cells());
    }

    pub(crate) fn restart(&mut self, place: Place, identity: Identity) {
        if self.hosts[place].process.is_some() {
            self.crash(place);
        }
        self.network.faults.restarts += 1;
        if identity == Identity::Another {
            self.network.faults.restarts_as_another += 1;
            self.hosts[place].node = self.random.next();
        }
        self.start(place);
    }

    /// A node comes up again at another address.
    pub(crate) fn move_to(&mut self, from: Place, to: Place) {
        self.crash(from);
        self.network.faults.moves += 1;
        self.hosts[to].node = self.hosts[from].node;
        self.hosts[from].node = self.random.next();
        self.start(to);
    }

    /// Leaves as at SIGTERM: nothing is added any more; it ends when all is flushed, or after a while.
    pub(crate) fn leave(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        let clock = process.clock(now);
        process.machine.leave(clock);
        process.leaving_until = Some(now + LEAVE_LIMIT);
        self.network.faults.leaves += 1;
        self.tell(|| format!("{place} leaves"));
        self.settle(place);
    }

    /// It stands still; what comes meanwhile waits in its socket.
    pub(crate) fn pause(&mut self, place: Place, time: Duration) {
        let until = self.now + time;
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        process.paused_until = Some(until);
        let boot = process.setup.boot;
        self.network.faults.pauses += 1;
        self.tell(|| format!("{place} pauses for {time:?}"));
        self.queue.push(until, Event::Resume { place, boot });
    }

    pub(crate) fn jump_clock(&mut self, place: Place, ahead: Duration, behind: Duration) {
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        process.clock_ahead += ahead;
        process.clock_behind += behind;
        // What it sleeps for is measured by the clock that jumped.
        process.wake_at = None;
        self.network.faults.clock_jumps += 1;
        self.tell(|| format!("{place}'s clock jumps ahead {ahead:?}, back {behind:?}"));
        self.settle(place);
    }

    pub(crate) fn jump_wall_clock(&mut self, place: Place, behind: Duration) {
        self.hosts[place].wall_behind += behind;
        self.network.faults.wall_clock_jumps += 1;
    }

    pub(crate) fn push_to(&mut self, place: Place, target: Place) {
        self.network.faults.one_way_peers += 1;
        self.tell(|| format!("{place} is told to push to {target}"));
        self.with(place, |machine, clock| {
            machine.push_to(clock, address(target));
        });
    }

    pub(crate) fn join(&mut self, place: Place, seed: Place) {
        self.tell(|| format!("{place} is told to join {seed}"));
        if !self.hosts[place].seeds.contains(&seed) {
            self.hosts[place].seeds.push(seed);
        }
        self.with(place, |machine, clock| machine.join(clock, address(seed)));
    }

    fn with(&mut self, place: Place, act: impl FnOnce(&mut M, Duration)) {
        let now = self.now;
        if let Some(process) = &mut self.hosts[place].process {
            let clock = process.clock(now);
            act(&mut process.machine, clock);
            self.settle(place);
        }
    }

    /// Adds to one of the keys that are looked at; nothing where nothing runs or takes any more.
    pub(crate) fn add(&mut self, place: Place, key: usize, weight: u32) {
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        if process.leaving_until.is_some() || process.paused_until.is_some() {
            return;
        }
        process.machine.add(&self.keys[key], weight);
        let slice = process.slice();
        if let Some(truth) = self.truth.get_mut(&slice) {
            truth[key] += u64::from(weight);
        }
    }

    /// Adds keys that nobody asks for.
    pub(crate) fn fill(&mut self, place: Place, keys: impl Iterator<Item = u64>) {
        self.is_filled = true;
        if let Some(process) = &mut self.hosts[place].process {
            for key in keys {
                process.machine.add(&key.to_le_bytes(), 1);
            }
        }
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

    pub(crate) fn is_leaving(&self, place: Place) -> bool {
        self.process(place).leaving_until.is_some()
    }

    pub(crate) fn is_paused(&self, place: Place) -> bool {
        self.process(place).paused_until.is_some()
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((at, event)) = self.queue.pop_until(until) {
            self.now = at;
            self.events += 1;
            self.happen(event);
        }
        self.now = until;
    }

    /// Runs until `done`, which is asked every `step`; how long that took, or none after `limit`.
    pub(crate) fn run_until(
        &mut self,
        step: Duration,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if self.now - start >= limit {
                return None;
            }
            self.run_for(step);
        }
        Some(self.now - start)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(datagram) => self.deliver(datagram),
            Event::Wake { place, boot } => self.wake(place, boot),
            Event::Resume { place, boot } => self.resume(place, boot),
            Event::LookForSeeds { place, boot } => self.look_for_seeds(place, boot),
        }
    }

    fn process_of(&mut self, place: Place, boot: u64) -> Option<&mut Process<M>> {
        let process = self.hosts.get_mut(place)?.process.as_mut()?;
        (process.setup.boot == boot).then_some(process)
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram {
            from, to, bytes, ..
        } = datagram;
        let now = self.now;
        let Some(process) = self
            .hosts
            .get_mut(to)
            .and_then(|host| host.process.as_mut())
        else {
            return;
        };
        if process.paused_until.is_some() {
            if process.waiting.len() < SOCKET_DATAGRAMS {
                process.waiting.push((address(from), bytes));
            }
            return;
        }
        process.bytes_in += bytes.len() as u64;
        let clock = process.clock(now);
        let mut bytes = bytes;
        process.machine.handle(clock, address(from), &mut bytes);
        self.settle(to);
    }

    fn wake(&mut self, place: Place, boot: u64) {
        let now = self.now;
        let Some(process) = self.process_of(place, boot) else {
            return;
        };
        if process.wake_at != Some(now) || process.paused_until.is_some() {
            return;
        }
        process.wake_at = None;
        let clock = process.clock(now);
        let sent = process.datagrams_out;
        process.machine.wake(clock);
        self.settle(place);
        let Some(process) = self.process_of(place, boot) else {
            return;
        };
        let is_due = process.machine.next_wake(clock) <= clock;
        if is_due && sent == process.datagrams_out {
            process.idle_wakes += 1;
        } else {
            process.idle_wakes = 0;
        }
        if process.idle_wakes == IDLE_WAKES_MAX {
            let what = format!("{place} spins: wakes at once, and sends nothing");
            self.violations.push(what);
        }
    }

    fn resume(&mut self, place: Place, boot: u64) {
        let now = self.now;
        let Some(process) = self.process_of(place, boot) else {
            return;
        };
        if process.paused_until != Some(now) {
            return;
        }
        process.paused_until = None;
        let clock = process.clock(now);
        process.machine.wake(clock);
        for (from, mut bytes) in std::mem::take(&mut process.waiting) {
            process.bytes_in += bytes.len() as u64;
            process.machine.handle(clock, from, &mut bytes);
        }
        process.wake_at = None;
        self.settle(place);
    }

    fn look_for_seeds(&mut self, place: Place, boot: u64) {
        let now = self.now;
        let seeds = self.hosts[place].seeds.clone();
        let Some(process) = self.process_of(place, boot) else {
            return;
        };
        if process.leaving_until.is_none() && process.machine.is_alone() {
            let clock = process.clock(now);
            for seed in seeds {
                process.machine.join(clock, address(seed));
            }
            self.settle(place);
        }
        self.queue
            .push(now + LOOK_FOR_SEEDS, Event::LookForSeeds { place, boot });
    }

    /// Sends what is to go, and sees to the next wake.
    fn settle(&mut self, place: Place) {
        let now = self.now;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut burst = 0;
        while let Some(process) = &mut self.hosts[place].process {
            if process.paused_until.is_some() {
                break;
            }
            let clock = process.clock(now);
            let Some(to) = process.machine.transmit(clock, &mut buffer) else {
                break;
            };
            process.bytes_out += buffer.len() as u64;
            process.datagrams_out += 1;
            let sender = process.setup.boot;
            self.post(place, to, sender, &buffer);
            burst += 1;
            assert!(burst < BURST_MAX, "{place} does not stop sending");
        }
        self.buffer = buffer;
        self.read_log(place);
        self.end_where_flushed(place);
        self.see_to_wake(place);
    }

    fn read_log(&mut self, place: Place) {
        if let Some(process) = &mut self.hosts[place].process {
            for line in process.machine.take_log() {
                self.tell(|| format!("{place} says {line}"));
            }
        }
    }

    fn post(&mut self, from: Place, to: SocketAddr, sender: u64, bytes: &[u8]) {
        if self.terms.limits_datagrams && bytes.len() > DATAGRAM_BYTES_MAX {
            let what = format!("{from} sends a datagram of {} bytes", bytes.len());
            self.violations.push(what);
        }
        let Some(to) = place(to) else {
            self.violations.push(format!("{from} sends to {to}"));
            return;
        };
        let (now, queue) = (self.now, &mut self.queue);
        let datagram = Datagram {
            from,
            to,
            sender,
            bytes: bytes.to_vec(),
        };
        self.network.send(datagram, |delay, datagram| {
            queue.push(now + delay, Event::Deliver(datagram));
        });
    }

    fn end_where_flushed(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = &self.hosts[place].process else {
            return;
        };
        let Some(until) = process.leaving_until else {
            return;
        };
        if now >= until || process.machine.is_flushed() {
            self.tell(|| format!("{place} has left, flushed: {}", now < until));
            if let Some(process) = self.hosts[place].process.take() {
                self.bury(process);
            }
        }
    }

    fn see_to_wake(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        if process.paused_until.is_some() {
            return;
        }
        let clock = process.clock(now);
        let sleep = process.machine.next_wake(clock).saturating_sub(clock);
        let mut at = now + sleep.max(GRAIN);
        if let Some(until) = process.leaving_until {
            at = at.min(until.max(now));
        }
        if process
            .wake_at
            .is_none_or(|known| known <= now || at < known)
        {
            process.wake_at = Some(at);
            let boot = process.setup.boot;
            self.queue.push(at, Event::Wake { place, boot });
        }
    }

    /// Puts bytes before a node that nobody of the hosts sent.
    pub(crate) fn forge(&mut self, from: Place, to: Place, bytes: Vec<u8>) {
        let datagram = Datagram {
            from,
            to,
            sender: 0,
            bytes,
        };
        let at = self.now + Weather::CLEAR.delay.0;
        self.queue.push(at, Event::Deliver(datagram));
    }

    /// What those who are gone have sent does not arrive any more, nor what is under way where there is
    /// no way.
    pub(crate) fn lose_what_cannot_be_under_way(&mut self) {
        let alive: Vec<u64> = self
            .hosts
            .iter()
            .filter_map(|host| host.process.as_ref().map(|process| process.setup.boot))
            .collect();
        self.network.forget_others(&alive);
        let network = &self.network;
        self.queue.retain(|event| match event {
            Event::Deliver(datagram) => {
                alive.contains(&datagram.sender) && !network.is_cut(datagram.from, datagram.to)
            }
            _ => true,
        });
    }

    /// No answer may ever be smaller than an earlier one.
    pub(crate) fn look_at_counts(&mut self) {
        for (place, host) in self.hosts.iter_mut().enumerate() {
            let Some(process) = &mut host.process else {
                continue;
            };
            for (number, key) in self.keys.iter().enumerate() {
                let count = process.machine.estimate(key).count;
                let floor = &mut process.floor[number];
                if count < *floor {
                    let what = format!("{place}: key {number} fell from {floor} to {count}");
                    self.violations.push(what);
                }
                *floor = count;
            }
        }
    }

    /// No bound may be broken.
    pub(crate) fn look_at_bounds(&mut self) {
        for (place, host) in self.hosts.iter().enumerate() {
            let Some(process) = &host.process else {
                continue;
            };
            let clock = process.clock(self.now);
            if let Some(what) = process.machine.broken_bound(clock, &process.setup) {
                self.violations.push(format!("{place}: {what}"));
            }
        }
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
