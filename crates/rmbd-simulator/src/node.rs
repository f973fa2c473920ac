//! The real node. The simulator calls the product only in this file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rmbd_cluster::membership::{Member, MemberState};
use rmbd_cluster::seal::{KeyRing, generate_key_text};
use rmbd_cluster::{
    Cluster, ClusterEvent, ClusterOptions, ClusterState, NameTaken, ReadyState, slices_of,
};
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_sketch::{Geometry, Weight};
use rmbd_snapshot::ClockReading;
use rmbd_store::{
    Batch, CellsRef, Estimate, GROUP_CELLS, PardonBook, Reading, Replica, ReplicaLimits,
    ReplicaOptions, Slices, Terms, WindowQuestion,
};

use super::desk::Desk;
use super::disk::Disk;
use super::keeping::{Finding, Keeper, Kept, Occasion};
use super::machine::{Cells, Copies, Found, Keep, Machine, SaveProgress, Setup, Top, is_empty};

/// Largest number of legacy peers, which another test covers.
const MAX_PEERS: usize = 1;
/// The smallest limit of hits; keys of other lengths have larger ones.
const HIT_LIMIT: u64 = 50;
/// Largest number of other members that membership may know.
const MEMBERS_MAX: usize = 1_024;

/// A node without sockets: a replica for each sketch, and its part in a cluster.
pub struct Node {
    /// The replica of the default sketch.
    pub replica: Arc<Replica>,
    replicas: BTreeMap<SketchNumber, Arc<Replica>>,
    pub cluster: Cluster,
    /// What is forgiven, on this node and all others.
    pub pardons: Arc<PardonBook>,
    desk: Desk,
    keeper: Keeper,
    /// What an earlier process had counted in the slices with which this one goes on, and their writer.
    base: (Writer, BTreeMap<SketchNumber, Cells>),
    /// All events of its log.
    pub log: Vec<ClusterEvent>,
}

impl Node {
    /// Starts, and takes over what there is to be taken over before anything else.
    fn start_as<T>(
        setup: &Setup,
        now: Duration,
        take_over: impl FnOnce(&mut [Slices]) -> (T, Kept),
    ) -> (Self, T) {
        let replicas = setup.sketches.iter().map(|spec| {
            let limits = ReplicaLimits {
                max_peers: MAX_PEERS,
                max_origins: setup.max_origins,
                max_memory_bytes: setup.max_memory_bytes_of(spec),
            };
            let own = setup.slice_of(spec.number);
            let options = ReplicaOptions {
                windows: spec.plans().collect(),
                top: top_of(setup),
                started: now,
                ..ReplicaOptions::of(spec.geometry, spec.family, own, limits)
            };
            Arc::new(Replica::try_open(options).unwrap())
        });
        let replicas: Vec<Arc<Replica>> = replicas.collect();
        let replica = Arc::clone(&replicas[0]);
        let me = Member {
            node: setup.node,
            boot: setup.boot,
            started_ms: setup.started_ms,
            renewals: 0,
            address: setup.address,
            client_port: 8000,
        };
        let options = ClusterOptions {
            me,
            keys: key_ring(&setup.keys),
            seed: setup.seed,
            gossip_interval: setup.gossip_interval,
            gossip_rate_bytes_per_s: setup.gossip_rate_bytes_per_s,
            join: setup.joins,
            shares_names: true,
            limits: setup.limits,
        };
        let mut slices = slices_of(replicas.clone(), now).unwrap();
        let (found, kept) = take_over(&mut slices);
        let base = slices.iter().map(|slices| {
            let own = slices.own_slice();
            let cells = slices.cells(&own).map(|held| all_cells(&held));
            (own.sketch, cells.unwrap_or_default())
        });
        let base = (setup.writer, base.collect());
        let mut cluster = Cluster::try_new(now, options, slices).unwrap();
        let pardons = Arc::new(PardonBook::new(setup.boot));
        cluster.share_pardons(Arc::clone(&pardons));
        let node = Self {
            desk: Desk::new(Arc::clone(&replica), setup, &kept, now),
            replica,
            replicas: (replicas.into_iter())
                .map(|replica| (replica.own_slice().sketch, replica))
                .collect(),
            cluster,
            pardons,
            keeper: Keeper::default(),
            base,
            log: Vec::new(),
        };
        (node, found)
    }

    fn slices_of(&self, sketch: SketchNumber) -> &Slices {
        self.cluster.slices_of(sketch).unwrap()
    }

    pub fn state(&self, now: Duration) -> ClusterState {
        self.cluster.status(now)
    }

    pub fn refused(&self, now: Duration, reason: &str) -> u64 {
        let refused = self.state(now).refused;
        refused.get(reason).copied().unwrap_or_default()
    }

    /// Boots of other members that are up.
    pub fn live_members(&self, now: Duration) -> Vec<Boot> {
        let members = self.state(now).members.into_iter();
        let live = members.filter(|member| member.state != MemberState::Down);
        let mut boots: Vec<Boot> = live.map(|member| member.member.boot).collect();
        boots.sort_unstable();
        boots
    }
}

/// The text of a key ring with these numbers of keys.
pub fn key_ring(keys: &[u8]) -> KeyRing {
    if keys.is_empty() {
        return KeyRing::public();
    }
    let lines: Vec<String> = keys
        .iter()
        .map(|&key| generate_key_text([key; 32]))
        .collect();
    KeyRing::parse(&lines.join("\n")).unwrap()
}

/// Keys that a node lists. Where memory is short it lists none, and some nodes never do.
fn top_of(setup: &Setup) -> usize {
    let is_limited = setup.max_memory_bytes < u64::MAX;
    match setup.node % 4 {
        0 => 0,
        _ if is_limited => 0,
        by => 4 * by as usize,
    }
}

fn all_cells(held: &CellsRef<'_>) -> Cells {
    held.to_vec()
}

/// Most bytes that a learnt slice takes: it is full of cells that 32 bits do not hold.
pub fn slice_bytes_max(geometry: Geometry) -> u64 {
    let groups = geometry.cells().div_ceil(GROUP_CELLS) as u64;
    geometry.memory_bytes() * 2 + groups * 80 + 1_000
}

/// Number of tables that a node has for its own cells, with 32 bits a cell: two of cells, one and two for totals that
/// these do not hold, and the published copy.
pub const OWN_TABLES: u64 = 6;

impl Machine for Node {
    const ONE_WAY: bool = true;
    const SEEDS_ALL: bool = false;
    const LIMITS_DATAGRAMS: bool = true;
    const PACED: bool = true;
    const QUIET_LIMIT: Duration = Duration::from_secs(300);

    fn start(setup: &Setup, now: Duration) -> Self {
        Self::start_as(setup, now, |_| ((), Kept::default())).0
    }

    fn start_on(setup: &Setup, disk: &mut Disk, now: ClockReading) -> (Self, Found) {
        let finding = Finding::look(disk, setup);
        let setup = Setup {
            writer: finding.writer(setup),
            ..setup.clone()
        };
        Self::start_as(&setup, now.time, |slices| {
            finding.take_over(&setup, now, slices)
        })
    }

    fn save(&mut self, to: Keep<'_>, disk: &mut Disk) -> Option<SaveProgress> {
        let occasion = Occasion {
            setup: to.setup,
            file: to.file,
            now: to.now,
            last: to.is_last.then(|| self.desk.clients()),
        };
        Some(self.keeper.step(&mut self.cluster, disk, &occasion))
    }

    fn give_up_saving(&mut self, disk: &mut Disk) {
        self.keeper.give_up(disk);
    }

    fn name(&self) -> Option<(Boot, Writer)> {
        let own = self.slices_of(self.replica.own_slice().sketch).own_slice();
        Some((self.cluster.me().boot, own.writer))
    }

    fn reason_of_name(&self, now: Duration) -> Option<NameTaken> {
        let new_writer = self.state(now).new_writer;
        new_writer.map(|new_writer| new_writer.reason)
    }

    fn add(&mut self, sketch: SketchNumber, key: &[u8], weight: u32) -> bool {
        // Each add is a hit with a limit, so that others are told ahead of time what is near it.
        let limit = HIT_LIMIT << (key.len() % 3 * 4);
        let mut batch = Batch::sharing(Arc::clone(&self.replicas[&sketch]));
        let weight = Weight::new(weight).unwrap();
        batch.hit(key, (weight, limit), (), &mut |(), _| {}).is_ok()
    }

    fn estimate(&self, sketch: SketchNumber, key: &[u8]) -> Estimate {
        self.replicas[&sketch].estimate(key)
    }

    fn own_cells(&self, sketch: SketchNumber) -> Cells {
        let own = self.replicas[&sketch].own();
        let rows = 0..own.geometry().depth();
        let mut cells: Cells = rows.flat_map(|row| own.own_row(row)).collect();
        let (writer, base) = &self.base;
        if self.replicas[&sketch].own_slice().writer == *writer {
            let base = base.get(&sketch).into_iter().flatten();
            cells
                .iter_mut()
                .zip(base)
                .for_each(|(cell, base)| *cell += base);
        }
        cells
    }

    fn cells(&self, slice: &SliceId) -> Option<Cells> {
        let slices = self.cluster.slices_of(slice.sketch)?;
        let held = slices.cells(slice);
        held.map(|held| all_cells(&held))
    }

    fn copies(&self) -> Copies {
        let mut copies = Copies::new();
        for slices in self.cluster.all_slices() {
            for digest in slices.digests() {
                if let Some(held) = slices.cells(&digest.slice) {
                    let cells = all_cells(&held);
                    if !is_empty(&cells) {
                        copies.insert(digest.slice, cells);
                    }
                }
            }
        }
        copies
    }

    fn roots(&self) -> BTreeMap<SliceId, u64> {
        let digests = self.cluster.all_slices().flat_map(Slices::digests);
        let written = digests.filter(|digest| digest.root != 0);
        written.map(|digest| (digest.slice, digest.root)).collect()
    }

    fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8]) {
        self.cluster.handle(now, from, datagram);
    }

    fn wake(&mut self, now: Duration) {
        self.cluster.wake(now);
    }

    fn next_wake(&self, now: Duration) -> Duration {
        self.cluster.next_wake(now)
    }

    fn transmit(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        self.cluster.transmit(now, buffer)
    }

    fn join(&mut self, now: Duration, seed: SocketAddr) {
        self.cluster.join(now, seed);
    }

    fn is_alone(&self) -> bool {
        self.cluster.is_alone()
    }

    fn live(&self, now: Duration) -> Vec<(Boot, SocketAddr)> {
        let members = self.state(now).members.into_iter();
        members
            .filter(|member| member.state != MemberState::Down)
            .map(|member| (member.member.boot, member.member.address))
            .collect()
    }

    fn push_to(&mut self, now: Duration, target: SocketAddr) {
        self.cluster.push_to(now, target);
    }

    fn set_keys(&mut self, now: Duration, keys: &[u8]) {
        self.cluster.set_keys(now, key_ring(keys));
    }

    fn leave(&mut self, now: Duration) {
        self.cluster.leave(now);
    }

    fn is_flushed(&self) -> bool {
        self.cluster.is_flushed()
    }

    fn is_ready(&self) -> bool {
        self.cluster.is_ready()
    }

    fn is_complete(&self, now: Duration) -> bool {
        self.state(now).readiness == ReadyState::Complete
    }

    fn vouched(&self) -> Vec<(SliceId, u64)> {
        let all = self.cluster.all_slices();
        let learnt = all.flat_map(|slices| slices.digests().skip(1));
        learnt
            .filter(|digest| digest.version > 0)
            .map(|digest| (digest.slice, digest.version))
            .collect()
    }

    fn published(&self, sketch: SketchNumber) -> (u64, Cells) {
        let slices = self.slices_of(sketch);
        let held = slices.cells(&slices.own_slice());
        let cells = held.map_or(Vec::new(), |held| all_cells(&held));
        (slices.own_version(), cells)
    }

    fn own_version(&self, sketch: SketchNumber) -> u64 {
        self.slices_of(sketch).own_version()
    }

    fn has_room(&self, setup: &Setup, sketch: SketchNumber, slices: usize) -> bool {
        let known = self.slices_of(sketch).learnt().count();
        let spec = setup.spec(sketch).unwrap();
        let table_bytes = spec.geometry.memory_bytes();
        let bytes = table_bytes * OWN_TABLES + slice_bytes_max(spec.geometry) * slices as u64;
        known < setup.max_origins && bytes <= setup.max_memory_bytes_of(spec)
    }

    fn refuses(&self, slice: &SliceId) -> bool {
        let slices = self.cluster.slices_of(slice.sketch);
        slices.is_some_and(|slices| slices.is_refused(slice))
    }

    fn missing(&self, now: Duration) -> Vec<SliceId> {
        self.state(now).slices_missing
    }

    fn serve(&mut self, now: Duration, datagram: &[u8]) -> Option<Vec<u8>> {
        self.desk.serve(now, datagram)
    }

    fn repeats(&self) -> u64 {
        self.desk.repeats
    }

    fn snapshot(&mut self, clock: &dyn Fn() -> Duration, cells_max: usize) {
        self.cluster.snapshot(clock, cells_max);
    }

    fn next_snapshot(&self) -> Option<Duration> {
        self.cluster.next_snapshot()
    }

    fn take(&mut self, now: Duration, key: &[u8], limit: u64, reading: Reading) -> bool {
        let plan = self.replica.window_plans().next();
        let question = plan.map(|plan| WindowQuestion {
            window: self.replica.find_window(plan.span_ms()).unwrap(),
            reading,
            now,
        });
        let mut batch = Batch::sharing(Arc::clone(&self.replica));
        let mut takes = false;
        let mut answer = |(), estimate: Estimate| takes = estimate.passed.is_none();
        let terms = Terms {
            limit,
            credit: 0,
            takes: true,
        };
        let question = question.as_ref();
        let taken = batch.take(key, (Weight::ONE, &terms), question, (), &mut answer);
        batch.finish(&mut answer);
        taken.is_ok() && takes
    }

    fn bound_in(
        &self,
        now: Duration,
        sketch: SketchNumber,
        span_ms: u64,
        key: &[u8],
    ) -> Option<Estimate> {
        let replica = &self.replicas[&sketch];
        let question = WindowQuestion {
            window: replica.find_window(span_ms)?,
            reading: Reading::Bound,
            now,
        };
        Some(replica.estimate_in(key, &question))
    }

    fn top(&self, sketch: SketchNumber) -> Option<Top> {
        let slices = self.slices_of(sketch);
        let list = slices.has_top().then(|| slices.top(usize::MAX))?;
        let keys = list.keys.iter();
        Some(Top {
            keys: keys
                .map(|key| (key.hash, (key.name.map(Into::into), key.certain)))
                .collect(),
            complete_above: list.complete_above,
        })
    }

    fn some_cells(&self, slice: &SliceId, cells: &[u32]) -> Vec<u64> {
        let slices = self.cluster.slices_of(slice.sketch);
        let Some(held) = slices.and_then(|slices| slices.cells(slice)) else {
            return vec![0; cells.len()];
        };
        let (mut read, mut group) = (None, Vec::new());
        let values = cells.iter().map(|&cell| {
            let number = cell / GROUP_CELLS as u32;
            if read.replace(number) != Some(number) {
                held.read_group(number, &mut group);
            }
            let value = group.get(cell as usize % GROUP_CELLS);
            value.copied().unwrap_or_default()
        });
        values.collect()
    }

    fn broken_bound(&self, now: Duration, setup: &Setup) -> Option<String> {
        for spec in &setup.sketches {
            let bytes = self.replicas[&spec.number].memory_bytes();
            let max_bytes = setup.max_memory_bytes_of(spec);
            if bytes > max_bytes {
                return Some(format!("{bytes} bytes, of {max_bytes}"));
            }
            let learnt = self.slices_of(spec.number).learnt();
            let held = learnt.filter(|learnt| learnt.memory_bytes > 0).count();
            // What an earlier process had counted is one more where it is not gone on with.
            let is_base_apart = self.base.0 != self.replicas[&spec.number].own_slice().writer;
            if held > setup.max_origins + usize::from(is_base_apart) {
                return Some(format!("{held} slices, of {}", setup.max_origins));
            }
        }
        let members = self.state(now).members.len();
        (members > MEMBERS_MAX).then(|| format!("{members} members, of {MEMBERS_MAX}"))
    }

    fn take_log(&mut self) -> Vec<String> {
        let mut new = Vec::new();
        while let Some(event) = self.cluster.poll_event() {
            new.push(format!("{event:?}"));
            self.log.push(event);
        }
        new
    }

    fn describe(&self, now: Duration) -> String {
        let state = self.state(now);
        let mut text = format!(
            "version {}, {} rounds, {} pulls, {} resends, refused {:?}\n",
            state.version, state.rounds, state.pulls, state.resends, state.refused
        );
        for member in &state.members {
            text += &format!(
                "    {} {:?} {:x}/{}, lags {}, heard {:?} ago, apart {:?}\n",
                member.member.address,
                member.state,
                member.member.node,
                member.member.boot,
                member.lag_versions,
                member.heard_ago,
                member.apart
            );
        }
        text += &format!("    {:?}\n", state.readiness);
        for slice in &state.slices_missing {
            text += &format!("    missing {slice:?}\n");
        }
        for digest in self.cluster.all_slices().flat_map(Slices::digests) {
            let slice = digest.slice;
            text += &format!(
                "    slice {}:{:x}/{}: version {}, root {:x}\n",
                slice.sketch.0, slice.node, slice.writer, digest.version, digest.root
            );
        }
        for target in &state.one_way {
            text += &format!("    {target:?}\n");
        }
        for event in self.log.iter().rev().take(8).rev() {
            text += &format!("    {event:?}\n");
        }
        text
    }
}
