//! Hosts, and the processes on them.

use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_sketch::Geometry;

use super::super::machine::{Copies, Setup};
use super::super::network::{Datagram, Place};

/// What a node's clock shows when it starts: not 0, so that it can go back.
pub(crate) const CLOCK_START: Duration = Duration::from_secs(1_000);

/// Where a process can run, and what its operator has written down for it.
pub struct Host<M> {
    pub node: u64,
    /// Names of places; a name leads to its own place until something has moved.
    pub seeds: Vec<Place>,
    /// The place whose address it gives for its own, by mistake.
    pub claims: Option<Place>,
    pub keys: Vec<u8>,
    /// Replaces what follows from the geometry.
    pub fingerprint: Option<u64>,
    pub geometry: Geometry,
    pub max_origins: usize,
    pub max_memory_bytes: u64,
    /// How far its wall clock is behind.
    pub wall_behind: Duration,
    /// Seconds that its clock shows for one that passes.
    pub clock_rate: f64,
    pub(super) owed_when_ready: Option<Copies>,
    pub process: Option<Process<M>>,
}

impl<M> Host<M> {
    /// It may have to refuse slices.
    pub fn is_limited(&self) -> bool {
        self.max_memory_bytes != u64::MAX || self.max_origins < 100
    }
}

pub struct Process<M> {
    pub machine: M,
    pub setup: Setup,
    pub(super) clock: Clock,
    pub(super) wake_at: Option<Duration>,
    pub(super) idle_wakes: usize,
    pub(super) paused_until: Option<Duration>,
    /// It reads now and then only, because of what strangers send.
    pub(super) flooded_until: Option<Duration>,
    pub(super) is_deaf: bool,
    pub(super) waiting: Vec<Datagram>,
    pub(super) leaving: Option<Leaving>,
    pub(super) has_met: bool,
    /// What it must hold at the moment when it says that it is ready.
    pub(super) owed_when_ready: Option<Copies>,
    /// When it said so first.
    pub ready_at: Option<Duration>,
    pub(super) noted_version: u64,
    /// The last answers, below which none may fall.
    pub(super) floor: Vec<u64>,
    pub bytes_out: u64,
    pub datagrams_out: u64,
    pub bytes_in: u64,
}

/// It was told to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) until: Duration,
    /// What its clock showed.
    pub(super) since_clock: Duration,
}

impl<M> Process<M> {
    pub(super) fn new(
        machine: M,
        setup: Setup,
        now: Duration,
        clock_rate: f64,
        keys: usize,
    ) -> Self {
        Self {
            machine,
            setup,
            clock: Clock {
                born: now,
                rate: clock_rate,
                ahead: Duration::ZERO,
                behind: Duration::ZERO,
            },
            wake_at: None,
            idle_wakes: 0,
            paused_until: None,
            flooded_until: None,
            is_deaf: false,
            waiting: Vec::new(),
            leaving: None,
            has_met: false,
            owed_when_ready: None,
            ready_at: None,
            noted_version: 0,
            floor: vec![0; keys],
            bytes_out: 0,
            datagrams_out: 0,
            bytes_in: 0,
        }
    }

    pub fn slice(&self) -> SliceId {
        self.setup.slice()
    }

    /// What its clock shows.
    pub(super) fn clock(&self, now: Duration) -> Duration {
        self.clock.at(now)
    }
}

/// A clock that may run fast or slow, and jump.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    born: Duration,
    rate: f64,
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

    /// How long it takes until it shows so much more.
    pub(super) fn takes(&self, shown: Duration) -> Duration {
        if self.rate == 1.0 {
            return shown;
        }
        shown.div_f64(self.rate)
    }
}
