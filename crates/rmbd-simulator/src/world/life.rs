//! Starts and ends of processes.

use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, Writer};

use super::super::machine::{Found, Machine, Setup};
use super::super::network::{Place, address};
use super::events::{Event, LOOK_FOR_SEEDS};
use super::process::{Leaving, Process};
use super::{Drive, Identity, LEAVE_LIMIT, World};

/// Unix time of the start of virtual time, in milliseconds.
pub(super) const EPOCH_MS: u64 = 1_800_000_000_000;

impl<M: Machine> World<M> {
    pub fn start(&mut self, place: Place) {
        assert!(self.hosts[place].process.is_none(), "{place} runs");
        let mut setup = self.setup(place);
        let (machine, found) = self.begin(place, &setup);
        if let Some((_, writer)) = machine.name() {
            setup.writer = writer;
        }
        self.tell(|| {
            format!(
                "{place} starts: node {:x}, boot {}, writer {}, {} origins, {} bytes, {found:?}",
                setup.node, setup.boot, setup.writer, setup.max_origins, setup.max_memory_bytes
            )
        });
        for spec in &setup.sketches {
            let slice = setup.slice_of(spec.number);
            let truth = self.truth.entry(slice);
            truth.or_insert_with(|| vec![0; self.keys.len()]);
            self.fingerprints.insert(slice, spec.fingerprint());
        }
        self.note_renamed(&setup, found);
        let boot = setup.boot;
        let rate = self.hosts[place].clock_rate;
        let mut process = Process::new(machine, setup, self.now, rate);
        process.owed_when_ready = self.hosts[place].owed_when_ready.take();
        let clock = process.clock(self.now);
        for &seed in &self.hosts[place].seeds {
            process.machine.join(clock, address(self.resolve(seed)));
        }
        self.hosts[place].process = Some(process);
        self.note_resumed(place, found);
        if let Some(disks) = self.terms.disks {
            let at = self.now + self.disk_random.time(Duration::ZERO, disks.interval);
            self.queue.push(at, Event::Save { place, boot });
        }
        self.queue.push(
            self.now + LOOK_FOR_SEEDS,
            Event::LookForSeeds { place, boot },
        );
        self.settle(place);
    }

    /// What an earlier process had counted in its own slices may be here under another name, as slices of which the
    /// process is no writer.
    fn note_renamed(&mut self, setup: &Setup, found: Found) {
        let renamed = found.renamed.filter(|_| !found.is_resumed);
        let Some(writer) = renamed.filter(|writer| *writer != setup.writer) else {
            return;
        };
        for spec in &setup.sketches {
            let [old, new] = [found.writer_before, writer].map(|writer| SliceId {
                writer,
                ..setup.slice_of(spec.number)
            });
            let Some(cells) = self.written.get(&old).cloned() else {
                continue;
            };
            super::raise_or_insert(&mut self.written, new, cells);
            let truth = self.truth.get(&old).cloned();
            self.truth.insert(new, truth.unwrap_or_default());
            self.fingerprints.insert(new, spec.fingerprint());
            self.history.name_anew(old, new);
        }
    }

    fn setup(&mut self, place: Place) -> Setup {
        let host = &self.hosts[place];
        let wall = Duration::from_millis(EPOCH_MS) + self.now - host.wall_behind;
        Setup {
            sketches: host.sketches.clone(),
            node: host.node,
            boot: Boot(self.random.next()),
            writer: Writer(self.random.next()),
            started_ms: wall.as_millis() as u64,
            address: address(host.claims.unwrap_or(place)),
            seed: self.random.next(),
            keys: host.keys.clone(),
            max_origins: host.max_origins,
            max_memory_bytes: host.max_memory_bytes,
            joins: !host.seeds.is_empty(),
            gossip_interval: self.terms.interval,
            gossip_rate_bytes_per_s: self.terms.rate_bytes_per_s,
            limits: self.terms.limits,
        }
    }

    /// Ends a process without warning; its memory is lost.
    pub fn crash(&mut self, place: Place) {
        let Some(process) = self.hosts[place].process.take() else {
            return;
        };
        self.tell(|| format!("{place} crashes"));
        self.network.faults.crashes += 1;
        self.bury(process);
        self.may_lose_power(place);
    }

    pub(super) fn bury(&mut self, process: Process<M>) {
        self.network.faults.adds_repeated += process.machine.repeats();
        for (slice, cells) in process.all_own_cells() {
            super::raise_or_insert(&mut self.written, slice, cells);
        }
        let specs = process.setup.sketches.iter();
        let mut fingerprints: Vec<u64> = specs.map(|spec| spec.fingerprint()).collect();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        for fingerprint in fingerprints {
            for (_, cells) in process.counted_in(fingerprint) {
                super::add_cells(self.counted.entry(fingerprint).or_default(), &cells);
            }
        }
    }

    pub fn restart(&mut self, place: Place, identity: Identity) {
        if self.runs(place) {
            self.crash(place);
        }
        self.network.faults.restarts += 1;
        if identity == Identity::Another {
            self.network.faults.restarts_as_another += 1;
            self.hosts[place].node = self.random.next();
            self.put_disk(place, Drive::default());
        }
        self.start(place);
    }

    /// Starts a node again at another address; its name follows.
    pub fn move_to(&mut self, from: Place, to: Place) {
        self.crash(from);
        self.network.faults.moves += 1;
        self.hosts[to].node = self.hosts[from].node;
        self.hosts[from].node = self.random.next();
        let drive = self.hosts[from].drive.take();
        self.hosts[from].drive = drive.as_ref().map(|_| Drive::default());
        self.hosts[to].drive = drive;
        let all = 0..self.hosts.len();
        let names: Vec<Place> = all.filter(|&name| self.resolve(name) == from).collect();
        for name in names {
            let is_seed = self.hosts.iter().any(|host| host.seeds.contains(&name));
            self.network.faults.seed_moves += u64::from(is_seed);
            self.names.insert(name, to);
            // A node that takes the old place is not called by the moved node's name.
            if is_seed && !self.hosts[from].seeds.contains(&name) {
                self.hosts[from].seeds.push(name);
            }
        }
        self.start(to);
    }

    /// Starts another process with a copy of a node's data directory: the same node at another address.
    pub fn twin(&mut self, of: Place, at: Place) {
        self.network.faults.twins += 1;
        self.hosts[at].node = self.hosts[of].node;
        let copies = self.terms.disks.filter(|disks| disks.are_copied);
        let copy = copies.and_then(|_| self.hosts[of].drive.clone());
        self.put_disk(at, copy.unwrap_or_default());
        self.start(at);
    }

    /// Starts a process that advertises another node's address as its own, so that its answers go to the other node.
    pub fn shadow(&mut self, of: Place, at: Place) {
        self.network.faults.shadows += 1;
        self.hosts[at].claims = Some(of);
        self.start(at);
    }

    /// Ends all shadows.
    pub fn end_shadows(&mut self) {
        for place in 0..self.hosts.len() {
            if self.hosts[place].claims.take().is_some() {
                self.crash(place);
            }
        }
    }

    /// Makes a node leave as at SIGTERM. Nothing is added any more, and it ends when all is flushed, or after a while.
    pub fn leave(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        let clock = process.clock(now);
        process.machine.leave(clock);
        process.leaving.get_or_insert_with(|| Leaving {
            until: now + process.clock.takes(LEAVE_LIMIT),
            since_clock: clock,
        });
        self.network.faults.leaves += 1;
        self.tell(|| format!("{place} leaves"));
        self.settle(place);
    }

    pub(super) fn end_where_flushed(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = &self.hosts[place].process else {
            return;
        };
        let Some(leaving) = process.leaving else {
            return;
        };
        let is_flushed = process.machine.is_flushed();
        if now < leaving.until && !is_flushed {
            return;
        }
        self.tell(|| {
            let what = process.machine.describe(process.clock(now));
            format!("{place} has left, flushed: {is_flushed}: {what}")
        });
        self.look_at_hand_over(place);
        self.save_last(place);
        if let Some(process) = self.hosts[place].process.take() {
            self.bury(process);
        }
        if let Some(down) = self.hosts[place].starts_after.take() {
            self.hosts[place].is_to_start = true;
            self.queue.push(now + down, Event::Start { place });
        }
    }

    /// Makes a node leave, and start again after this time.
    pub fn restart_cleanly(&mut self, place: Place, down: Duration) {
        if self.runs(place) {
            self.hosts[place].starts_after = Some(down);
            self.leave(place);
        }
    }
}
