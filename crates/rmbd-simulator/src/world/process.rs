//! Hosts, and the processes on them.

use std::collections::BTreeMap;
use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber};

use super::super::machine::{Cells, Copies, Machine, Setup, SketchSpec};
use super::super::network::{Datagram, Place};
use super::disks::Drive;
use super::windows::Ledger;

/// The time that a node's clock shows when it starts. It is not 0, so that it can go back.
pub(crate) const CLOCK_START: Duration = Duration::from_secs(1_000);

/// A place where a process can run, with what its operator has configured.
pub struct Host<M> {
    pub node: u64,
    /// Names of places. A name leads to its own place until a node has moved.
    pub seeds: Vec<Place>,
    /// The place whose address the node advertises as its own, by mistake.
    pub claims: Option<Place>,
    pub keys: Vec<u8>,
    /// The sketches, of which the first is the default one.
    pub sketches: Vec<SketchSpec>,
    pub max_origins: usize,
    pub max_memory_bytes: u64,
    /// The time by which the host's wall clock is behind.
    pub wall_behind: Duration,
    /// Seconds that the host's clock shows for each second that passes.
    pub clock_rate: f64,
    pub(super) owed_when_ready: Option<Copies>,
    /// Its disk.
    pub(super) drive: Option<Drive>,
    /// It starts again so long after a clean end, ...
    pub(super) starts_after: Option<Duration>,
    /// ... and waits for that.
    pub(super) is_to_start: bool,
    pub process: Option<Process<M>>,
}

impl<M> Host<M> {
    /// Whether the node may have to refuse slices.
    pub fn is_limited(&self) -> bool {
        self.max_memory_bytes != u64::MAX || self.max_origins < 100
    }
}

pub struct Process<M> {
    pub machine: M,
    /// The settings that it has started with, and the writer that it is now.
    pub setup: Setup,
    /// The boot that others know it by.
    pub boot_now: Boot,
    /// What an earlier process had counted in the slices with which this one goes on.
    pub(super) resumed: Option<Copies>,
    /// What was added to its own slices, by sketch and by number of the key, ...
    pub truth: BTreeMap<SketchNumber, Vec<u64>>,
    /// ... and what of it was added since the start, and when.
    pub(super) since: BTreeMap<SketchNumber, Vec<u64>>,
    pub(super) ledger: Ledger,
    pub(super) clock: Clock,
    pub(super) wake_at: Option<Duration>,
    /// No piece of a snapshot is taken before.
    pub(super) next_piece: Duration,
    pub(super) idle_wakes: usize,
    pub(super) paused_until: Option<Duration>,
    /// The end of a flood, during which the node reads only now and then.
    pub(super) flooded_until: Option<Duration>,
    pub(super) is_deaf: bool,
    pub(super) waiting: Vec<Datagram>,
    pub(super) leaving: Option<Leaving>,
    pub(super) has_met: bool,
    /// Copies that the node must hold at the moment when it reports that it is ready.
    pub(super) owed_when_ready: Option<Copies>,
    /// The time when the node first reported that it is ready.
    pub ready_at: Option<Duration>,
    pub(super) noted_versions: BTreeMap<SketchNumber, u64>,
    /// The last answers, by sketch and key; no answer may fall below them.
    pub(super) floor: BTreeMap<(SketchNumber, usize), u64>,
    pub bytes_out: u64,
    pub datagrams_out: u64,
    pub bytes_in: u64,
}

/// The state of a node that was told to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) until: Duration,
    /// The time on the node's clock when it was told.
    pub(super) since_clock: Duration,
}

impl<M> Process<M> {
    pub(super) fn new(machine: M, setup: Setup, now: Duration, clock_rate: f64) -> Self {
        Self {
            machine,
            boot_now: setup.boot,
            setup,
            resumed: None,
            truth: BTreeMap::new(),
            since: BTreeMap::new(),
            ledger: Ledger::default(),
            clock: Clock {
                born: now,
                rate: clock_rate,
                ahead: Duration::ZERO,
                behind: Duration::ZERO,
            },
            wake_at: None,
            next_piece: Duration::ZERO,
            idle_wakes: 0,
            paused_until: None,
            flooded_until: None,
            is_deaf: false,
            waiting: Vec::new(),
            leaving: None,
            has_met: false,
            owed_when_ready: None,
            ready_at: None,
            noted_versions: BTreeMap::new(),
            floor: BTreeMap::new(),
            bytes_out: 0,
            datagrams_out: 0,
            bytes_in: 0,
        }
    }

    pub fn slice(&self) -> SliceId {
        self.setup.slice()
    }

    /// The time that the node's clock shows.
    pub(super) fn clock(&self, now: Duration) -> Duration {
        self.clock.at(now)
    }
}

impl<M: Machine> Process<M> {
    /// The cells of what was added here, of all sketches.
    pub(super) fn all_own_cells(&self) -> impl Iterator<Item = (SliceId, Cells)> + '_ {
        let slices = self.setup.slices();
        slices.map(|slice| (slice, self.machine.own_cells(slice.sketch)))
    }

    /// What this process itself has counted in sketches of a fingerprint.
    pub(super) fn counted_in(&self, fingerprint: u64) -> impl Iterator<Item = (SliceId, Cells)> {
        let is_it = move |slice: &SliceId| {
            let spec = self.setup.spec(slice.sketch);
            spec.is_some_and(|spec| spec.fingerprint() == fingerprint)
        };
        let own = self.all_own_cells().filter(move |(slice, _)| is_it(slice));
        own.map(|(slice, mut cells)| {
            let base = self.resumed.as_ref().and_then(|base| base.get(&slice));
            let base = base.into_iter().flatten();
            cells
                .iter_mut()
                .zip(base)
                .for_each(|(cell, base)| *cell -= base);
            (slice, cells)
        })
    }
}

/// A clock that may run fast or slow, and jump.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) born: Duration,
    pub(super) rate: f64,
    pub(super) ahead: Duration,
    pub(super) behind: Duration,
}

impl Clock {
    fn at(&self, now: Duration) -> Duration {
        let age = self.shown(now - self.born);
        (CLOCK_START + age + self.ahead).saturating_sub(self.behind)
    }

    fn shown(&self, passed: Duration) -> Duration {
        if self.rate == 1.0 {
            return passed;
        }
        passed.mul_f64(self.rate)
    }

    /// The real time in which the clock advances by `shown`.
    pub(super) fn takes(&self, shown: Duration) -> Duration {
        if self.rate == 1.0 {
            return shown;
        }
        shown.div_f64(self.rate)
    }
}
