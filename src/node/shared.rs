//! What the threads of a node share, and the picture of it that goes outside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::access::Access;
use super::crew::{Crew, Part};
use super::gossip::{self, Presence};
use super::hand_off::HandOff;
use super::lookups::Lookups;
use super::status::{
    CompactStatus, Datagrams, Detail, IoStatus, LogStatus, Messages, OriginDetail, PeerOrder,
    PeerStatus, Replies, SketchStatus, Status, ThreadStatus,
};
use super::tally::{PublishedTally, Tally};
use crate::cluster::legacy::Pushes;
use crate::config::NodeConfig;
use crate::console::{self, Missing};
use crate::engine::{Engine, EngineOptions};
use crate::io::{Backend, DataSocket, IoCounters};
use crate::replica::once::{CLIENTS_MAX, COOKIE_SECRET_BYTES};
use crate::replica::{LegacyRows, OriginEstimate, OriginName, Replica};
use crate::sketch::Weight;
use crate::wire::compact::Problem;
use crate::wire::legacy::{Dialect, Layout, MESSAGE_BYTES};
use crate::wire::{Boot, Writer};

/// The longest `peer` message (native, port as `L`), the longest rare message but for rows.
const PEER_MESSAGE_BYTES_MAX: usize = MESSAGE_BYTES + 12;

/// What the operating system drew for this start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Random {
    pub(super) boot: Boot,
    pub(super) once_secret: [u8; COOKIE_SECRET_BYTES],
}

/// Shared by all threads of a node.
pub(super) struct Shared {
    engine: Arc<Engine>,
    access: Access,
    hand_off: HandOff,
    layout: Layout,
    /// Known when all threads have what it takes.
    backend: OnceLock<Backend>,
    udp: SocketAddr,
    http: Option<SocketAddr>,
    started: Instant,
    ready: AtomicBool,
    threads: Box<[DataThread]>,
    presence: Presence,
    crew: Crew,
    max_peers: usize,
    /// Looks up the names of others.
    lookups: Lookups,
    /// Somebody was asked what they are, so that replies are to be expected.
    awaits_answers: AtomicBool,
    pass_is_due: Notify,
    /// Touched by the control thread and by whoever asks for a status, never by a data thread.
    legacy: Mutex<Legacy>,
}

/// What is known of one data thread from outside.
pub(super) struct DataThread {
    pub(super) socket: Arc<DataSocket>,
    pub(super) io: Arc<IoCounters>,
    pub(super) cpu: OnceLock<Option<usize>>,
    tally: PublishedTally,
    drops: WideCounter,
}

/// The control thread's state of everything legacy.
pub(super) struct Legacy {
    pub(super) pushes: Pushes,
    pub(super) rows: LegacyRows,
    pub(super) received: BTreeMap<SocketAddr, Received>,
    pub(super) orders: Orders,
    /// Rows and orders that were refused, by reason.
    pub(super) refused: BTreeMap<&'static str, u64>,
}

/// Rows that a legacy peer sent us.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    pub(super) last_row: Duration,
    pub(super) rows: u64,
    pub(super) restarts: u64,
    /// The node of ours that it turned out to be, by who writes its slices.
    pub(super) writer: Option<Writer>,
}

/// The latest `peer` orders.
#[derive(Debug, Default)]
pub(super) struct Orders {
    given: u64,
    latest: VecDeque<PeerOrder>,
}

impl Orders {
    const KEPT: usize = 16;

    pub(super) fn record(
        &mut self,
        from: SocketAddr,
        target: String,
        accepted: bool,
        detail: String,
    ) {
        if self.latest.len() == Self::KEPT {
            self.latest.pop_front();
        }
        self.given += 1;
        let from = from.to_string();
        self.latest.push_back(PeerOrder {
            number: self.given,
            from,
            target,
            accepted,
            detail,
        });
    }
}

impl Shared {
    /// With the client port's sockets, and HTTP's address.
    pub(super) fn new(
        config: &NodeConfig,
        replica: Arc<Replica>,
        random: Random,
        (sockets, http): (Vec<DataSocket>, Option<SocketAddr>),
        presence: Presence,
        crew: Crew,
    ) -> Self {
        let layout = layout(config);
        let options = EngineOptions {
            boot: random.boot,
            max_weight: Weight::new(config.max_weight).unwrap_or(Weight::MAX),
            once_clients: CLIENTS_MAX,
            once_secret: random.once_secret,
        };
        Self {
            engine: Arc::new(Engine::new(Arc::clone(&replica), &options)),
            access: Access::new(config.allow.clone(), config.trust.clone()),
            hand_off: HandOff::new(rare_message_bytes(layout)),
            layout,
            backend: OnceLock::new(),
            // Every group has a first socket; the unspecified address is never seen.
            udp: sockets
                .first()
                .map_or_else(|| ([0; 4], 0).into(), DataSocket::local_addr),
            http,
            started: Instant::now(),
            ready: AtomicBool::new(false),
            threads: sockets.into_iter().map(DataThread::new).collect(),
            presence,
            lookups: Lookups::new(crew.clone(), config.resolver.clone()),
            crew,
            max_peers: config.max_peers,
            awaits_answers: AtomicBool::new(false),
            pass_is_due: Notify::new(),
            legacy: Mutex::new(Legacy {
                pushes: Pushes::new(layout.depth, config.peer_grace_rounds, config.max_peers),
                rows: LegacyRows::new(replica, config.max_peers),
                received: BTreeMap::new(),
                orders: Orders::default(),
                refused: BTreeMap::new(),
            }),
        }
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(super) fn replica(&self) -> &Replica {
        self.engine.replica()
    }

    pub(super) fn boot(&self) -> Boot {
        self.engine.info().boot
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.engine.info().fingerprint
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    pub(super) fn hand_off(&self) -> &HandOff {
        &self.hand_off
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Once, before any thread serves.
    pub(super) fn set_backend(&self, backend: Backend) {
        let _ = self.backend.set(backend);
    }

    pub(super) fn udp(&self) -> SocketAddr {
        self.udp
    }

    pub(super) fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    pub(super) fn threads(&self) -> &[DataThread] {
        &self.threads
    }

    /// A row of what this node has counted, earlier starts included; empty where there is no such row.
    pub(super) fn read_own_row(&self, row: usize, out: &mut Vec<u64>) {
        match self.presence.side() {
            Some(side) => side.cluster().slices().read_own_row(row, out),
            None => self.replica().read_own_row(row, out),
        }
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }

    pub(super) fn crew(&self) -> &Crew {
        &self.crew
    }

    /// The UDP port where other nodes are heard, 0 where there is none.
    pub(super) fn cluster_port(&self) -> u16 {
        self.presence.side().map_or(0, |side| side.bound.port())
    }

    pub(super) fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    pub(super) fn max_peers(&self) -> usize {
        self.max_peers
    }

    /// Relaxed: a reply that comes before a data thread sees it is lost, and asked for again.
    pub(super) fn await_answers(&self, await_them: bool) {
        self.awaits_answers.store(await_them, Relaxed);
    }

    pub(super) fn awaits_answers(&self) -> bool {
        self.awaits_answers.load(Relaxed)
    }

    /// Has the control thread go over the cells, where so much was added that it should. By data threads, often.
    #[inline]
    pub(super) fn ask_for_pass_if_due(&self) {
        if self.replica().own().wants_pass() {
            self.pass_is_due.notify_one();
        }
    }

    /// Waits until a pass is due, or was since the last wait.
    pub(super) async fn pass_is_due(&self) {
        self.pass_is_due.notified().await;
    }

    pub(super) fn tally(&self, thread: usize) -> &PublishedTally {
        &self.threads[thread].tally
    }

    /// How often data threads refused something for this reason, as they have said so far.
    pub(super) fn refused_for(&self, problem: Problem) -> u64 {
        let threads = self.threads.iter();
        threads.map(|thread| thread.tally.of_problem(problem)).sum()
    }

    /// Time since the node was made.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Release, read with acquire: who sees it ready sees the threads running.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Release);
    }

    /// A panic while it was held cannot have left more than a counter behind, so poison is ignored.
    pub(super) fn legacy(&self) -> MutexGuard<'_, Legacy> {
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn layout(config: &NodeConfig) -> Layout {
    Layout {
        dialect: config.dialect,
        width: config.geometry.width(),
        depth: config.geometry.depth(),
    }
}

/// Rows take part only where they fit a datagram.
fn rare_message_bytes(layout: Layout) -> usize {
    [Dialect::Native, Dialect::Network]
        .into_iter()
        .filter(|dialect| layout.width <= dialect.max_sync_width())
        .map(|dialect| dialect.sync_bytes(layout.width))
        .fold(PEER_MESSAGE_BYTES_MAX, usize::max)
}

impl DataThread {
    fn new(socket: DataSocket) -> Self {
        Self {
            socket: Arc::new(socket),
            io: Arc::new(IoCounters::default()),
            cpu: OnceLock::new(),
            tally: PublishedTally::default(),
            drops: WideCounter::default(),
        }
    }

    fn status(&self) -> ThreadStatus {
        ThreadStatus {
            cpu: self.cpu.get().copied().flatten(),
            datagrams: self.tally.read().datagrams + self.io.truncated.load(Relaxed),
            receive_buffer_bytes: self.socket.receive_buffer_bytes() as u64,
            dropped_by_kernel: self.drops(),
            spinning_s: Duration::from_nanos(self.io.spinning_ns.load(Relaxed)).as_secs_f64(),
        }
    }

    /// What came with the data may be late (nothing tells of drops after the last datagram), so the
    /// socket is asked, too.
    fn drops(&self) -> u64 {
        self.drops.observe(self.io.drops_seen.load(Relaxed) as u32);
        if let Ok(now) = self.socket.kernel_drops() {
            self.drops.observe(now);
        }
        self.drops.total()
    }
}

/// A counter of 32 bits that wraps, made one of 64 bits by looking at it often enough.
#[derive(Debug, Default)]
struct WideCounter(AtomicU64);

impl WideCounter {
    /// Takes a reading; one that is older than the latest changes nothing.
    fn observe(&self, reading: u32) {
        // Relaxed: the counter stands for itself.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |total| {
            let ahead = reading.wrapping_sub(total as u32);
            (ahead.cast_signed() > 0).then(|| total + u64::from(ahead))
        });
    }

    fn total(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl super::http::StatusSource for Shared {
    fn status(&self) -> Status {
        let mut tally = Tally::default();
        for thread in &self.threads {
            tally += &thread.tally.read();
        }
        let (cluster, readiness) = self
            .presence
            .status(self.boot(), self.replica(), self.now());
        let legacy = self.legacy();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.now().as_secs_f64(),
            ready: self.ready.load(Acquire) && !self.crew.is_ending(),
            failure: self.crew.failure(),
            udp: self.udp.to_string(),
            http: self.http.map(|address| address.to_string()),
            readiness,
            sketch: self.sketch_status(),
            messages: Messages {
                add: tally.add,
                count: tally.count,
                sync: tally.sync,
                peer: tally.peer,
                ack: tally.ack,
                hit: tally.hit,
                bounds: tally.bounds,
                info: tally.info,
            },
            datagrams: self.datagrams_status(&tally, &legacy),
            replies: Replies {
                sent: self.sum(|io| &io.replies_sent),
                dropped: self.sum(|io| &io.replies_dropped),
            },
            io: IoStatus {
                backend: self.backend.get().map_or("", |it| it.name()).to_owned(),
                threads: self.threads.iter().map(DataThread::status).collect(),
            },
            compact: self.compact_status(&tally),
            log: log_status(),
            cluster,
            peers: legacy.peers_status(self.now()),
            peer_orders: legacy.orders.latest.iter().cloned().collect(),
        }
    }

    fn failure(&self) -> Option<String> {
        self.crew.failure()
    }

    fn connection_panicked(&self) {
        self.crew.redden(Part::Connection);
    }

    fn detail(&self, key: &[u8]) -> Detail {
        #[cfg(test)]
        self.crew.strikes_thread(Part::Connection);
        let origins = self.estimate_by_origin(key);
        let sum = self.replica().estimate(key);
        Detail {
            key: key.to_vec().into(),
            // What a count answers: at least the sum of what is shown.
            count: sum.count,
            incomplete: sum.incomplete,
            origins: origins.iter().map(origin_detail).collect(),
        }
    }
}

impl Shared {
    /// Slices of others are the control thread's, so that no data thread waits.
    fn estimate_by_origin(&self, key: &[u8]) -> Vec<OriginEstimate> {
        match self.presence.side() {
            Some(side) => side.cluster().slices().estimate_by_origin(key),
            None => self.replica().estimate_by_origin(key),
        }
    }
}

fn log_status() -> LogStatus {
    let Missing { dropped, refused } = console::missing();
    LogStatus {
        lines_dropped: dropped,
        lines_refused: refused,
    }
}

fn origin_detail(origin: &OriginEstimate) -> OriginDetail {
    let (node, legacy) = match origin.origin {
        OriginName::Node(node) => (Some(gossip::hex(node)), None),
        OriginName::Legacy(address) => (None, Some(address.to_string())),
    };
    OriginDetail {
        node,
        legacy,
        slices: origin.slices as u64,
        count: origin.count,
        own: origin.is_own,
    }
}

impl Shared {
    fn sketch_status(&self) -> SketchStatus {
        let own = self.replica().own();
        let geometry = own.geometry();
        SketchStatus {
            width: geometry.width() as u64,
            depth: geometry.depth() as u64,
            hash: own.family().name().to_owned(),
            epsilon: geometry.epsilon(),
            confidence: geometry.confidence(),
            memory_bytes: self.replica().memory_bytes(),
            total_weight: own.total_weight(),
            incomplete: self.replica().is_incomplete(),
        }
    }

    fn compact_status(&self, tally: &Tally) -> CompactStatus {
        let (info, once) = (self.engine.info(), self.engine.once());
        CompactStatus {
            boot: info.boot.to_string(),
            fingerprint: format!("{:016x}", info.fingerprint),
            max_weight: info.max_weight.get(),
            requests: tally.compact,
            repeats: tally.repeats,
            once_clients: once.clients() as u64,
            once_clients_max: once.clients_max() as u64,
        }
    }

    fn datagrams_status(&self, tally: &Tally, legacy: &Legacy) -> Datagrams {
        let truncated = self.sum(|io| &io.truncated);
        let by_name = |(name, count): (&str, u64)| (name.to_owned(), count);
        Datagrams {
            received: tally.datagrams + truncated,
            malformed: tally
                .malformed_by_name()
                .chain([("truncated", truncated)])
                .map(by_name)
                .collect(),
            refused: tally
                .refused_by_name()
                .chain(legacy.refused.iter().map(|(&name, &count)| (name, count)))
                .map(by_name)
                .collect(),
            dropped_by_kernel: self.threads.iter().map(DataThread::drops).sum(),
        }
    }

    fn sum(&self, counter: impl Fn(&IoCounters) -> &AtomicU64) -> u64 {
        self.threads
            .iter()
            .map(|thread| counter(&thread.io).load(Relaxed))
            .sum()
    }
}

impl Legacy {
    pub(super) fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    fn peers_status(&self, now: Duration) -> Vec<PeerStatus> {
        let pushes: BTreeMap<_, _> = self.pushes.peers().collect();
        let addresses: BTreeSet<_> = pushes.keys().chain(self.received.keys()).copied().collect();
        let ago = |then: Duration| now.saturating_sub(then).as_secs_f64();
        addresses
            .into_iter()
            .map(|address| {
                let push = pushes.get(&address).copied().copied();
                let received = self.received.get(&address);
                PeerStatus {
                    address: address.to_string(),
                    pushing: push.is_some(),
                    last_send_s: push.and_then(|push| push.last_send).map(ago),
                    last_ack_s: push.and_then(|push| push.last_ack).map(ago),
                    last_row_s: received.map(|received| ago(received.last_row)),
                    rows_sent: push.map_or(0, |push| push.rows_sent),
                    rows_acked: push.map_or(0, |push| push.rows_acked),
                    rows_received: received.map_or(0, |received| received.rows),
                    restarts: received.map_or(0, |received| received.restarts),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_counter_follows_a_narrow_one_round_its_end() {
        let wide = WideCounter::default();
        for (reading, total) in [
            (0, 0),
            (7, 7),
            (5, 7),
            (0x7000_0000, 0x7000_0000),
            (0xe000_0000, 0xe000_0000),
            (3, 0x1_0000_0003),
            (0xffff_ffff, 0x1_0000_0003),
            (4, 0x1_0000_0004),
        ] {
            wide.observe(reading);
            assert_eq!(wide.total(), total, "{reading:#x}");
        }
    }

    #[test]
    fn the_latest_orders_are_kept_with_their_numbers() {
        let mut orders = Orders::default();
        for n in 0..20 {
            orders.record(
                ([127, 0, 0, 1], 1).into(),
                format!("host:{n}"),
                true,
                String::new(),
            );
        }
        let numbers: Vec<u64> = orders.latest.iter().map(|order| order.number).collect();
        assert_eq!(numbers, (5..=20).collect::<Vec<_>>());
    }
}
