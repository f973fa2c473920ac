//! The view of a node from outside: what its status is made of.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock};

use super::crew::{Crew, Part};
use super::envoy::Envoy;
use super::resp::Resp;
use crate::cluster_io::Participation;
use crate::config::ENVOY_SKETCH;
use crate::fronts::datagrams::ClientPort;
use crate::fronts::http::{PendingOrder, StatusSource};
use crate::fronts::spoe::Agent;
use crate::legacy::LegacyPeers;
use crate::shared::{Asks, Shared};
use crate::snapshots::{Ordered, SnapshotDesk};
use crate::status::{
    CompactStatus, Datagrams, DeniedDocument, DeniedError, DeniedQuestion, Detail, DetailError,
    DetailQuestion, HttpApiStatus, IoStatus, LatencyStatus, LimitStatus, LogStatus, Messages,
    NamedSketchStatus, ObservedThread, PublishedFront, Replies, RespStatus, SketchStatus,
    SnapshotFilesStatus, SpoeStatus, Status, TopDocument, TopError, TopQuestion, tally_of,
};
use rmbd_io::Backend;
use rmbd_proto::compact::Problem;
use rmbd_store::{NamedSketch, OriginEstimate};

/// The parts of a node that its status reads.
pub(super) struct Overview {
    port: Arc<ClientPort>,
    threads: Box<[Arc<ObservedThread>]>,
    http: Option<SocketAddr>,
    resp: Option<Resp>,
    spoe: Option<Arc<Agent>>,
    envoy: Envoy,
    participation: Participation,
    peers: Arc<LegacyPeers>,
    /// `None` where nothing is kept.
    snapshots: Option<Arc<SnapshotDesk>>,
    crew: Crew,
    /// What the API over HTTP has done.
    http_tally: Arc<PublishedFront>,
    /// The back end, which is known when all threads have their resources.
    backend: OnceLock<Backend>,
    ready: AtomicBool,
}

impl Overview {
    /// The overview of a node that is not ready yet. `http` is the real address of HTTP; `resp`, `spoe` and `envoy` are
    /// what serves clients of Redis's protocol, HAProxy, and Envoy.
    pub(super) fn new(
        port: Arc<ClientPort>,
        threads: Box<[Arc<ObservedThread>]>,
        (http, resp, spoe, envoy): (Option<SocketAddr>, Option<Resp>, Option<Arc<Agent>>, Envoy),
        participation: Participation,
        peers: Arc<LegacyPeers>,
        snapshots: Option<Arc<SnapshotDesk>>,
        crew: Crew,
    ) -> Self {
        Self {
            port,
            threads,
            http,
            resp,
            spoe,
            envoy,
            participation,
            peers,
            snapshots,
            crew,
            http_tally: Arc::default(),
            backend: OnceLock::new(),
            ready: AtomicBool::new(false),
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.port.shared()
    }

    pub(super) fn crew(&self) -> &Crew {
        &self.crew
    }

    pub(super) fn threads(&self) -> &[Arc<ObservedThread>] {
        &self.threads
    }

    /// The real address of the HTTP port; `None` when it is off.
    pub(super) fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// How clients of Redis's protocol are served; `None` when they are not.
    pub(super) fn resp(&self) -> Option<&Resp> {
        self.resp.as_ref()
    }

    /// What serves HAProxy; `None` when it is off.
    pub(super) fn spoe(&self) -> Option<&Arc<Agent>> {
        self.spoe.as_ref()
    }

    /// How Envoy is served.
    pub(super) fn envoy(&self) -> &Envoy {
        &self.envoy
    }

    /// Whether the node has started with rules.
    pub(super) fn has_rules(&self) -> bool {
        let registry = self.shared().engine().registry();
        registry.by_name(ENVOY_SKETCH.as_bytes()).is_some()
    }

    /// Whether there is anything for the thread of HTTP.
    pub(super) fn needs_http_thread(&self) -> bool {
        self.http.is_some() || self.spoe.is_some() || self.envoy.address().is_some()
    }

    /// Where the API over HTTP shows what it has done.
    pub(super) fn http_tally(&self) -> &Arc<PublishedFront> {
        &self.http_tally
    }

    pub(super) fn participation(&self) -> &Participation {
        &self.participation
    }

    #[cfg(test)]
    pub(super) fn peers(&self) -> &LegacyPeers {
        &self.peers
    }

    /// Sets the back end, once, before any thread serves.
    pub(super) fn set_backend(&self, backend: Backend) {
        let _ = self.backend.set(backend);
    }

    /// The back end; `None` before any thread serves.
    pub(super) fn backend(&self) -> Option<Backend> {
        self.backend.get().copied()
    }

    /// Says so if it is too long since there was a snapshot file.
    pub(super) fn watch_snapshot_files(&self) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.watch(self.shared().now());
        }
    }

    /// Sets whether the node is ready. Release, read with acquire: a reader that sees it ready sees the threads
    /// running.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Release);
    }

    /// Number of times that data threads refused something for this reason, as far as they have published.
    pub(super) fn refused_for(&self, problem: Problem) -> u64 {
        let threads = self.threads.iter();
        threads.map(|thread| thread.refused_for(problem)).sum()
    }

    /// How long operations take, of all fronts.
    fn latencies(&self) -> Vec<LatencyStatus> {
        let threads = self.threads.iter().map(|thread| thread.times());
        let http = [("http", self.http_tally.times())];
        let envoy = [("envoy", self.envoy.front().times())];
        let spoe = self.spoe.iter().map(|agent| ("spoe", agent.times()));
        LatencyStatus::all(threads, http.into_iter().chain(envoy).chain(spoe))
    }

    /// The counts by origin. They come from the control thread's slices, so that no data thread waits.
    fn estimate_by_origin(&self, sketch: &NamedSketch, key: &[u8]) -> Vec<OriginEstimate> {
        if let Some(cluster) = self.participation.cluster() {
            let cluster = cluster.lock();
            if let Some(slices) = cluster.slices_of(sketch.name.number()) {
                return slices.estimate_by_origin(key);
            }
        }
        sketch.replica.estimate_by_origin(key)
    }
}

impl StatusSource for Overview {
    fn status(&self) -> Status {
        let (engine, replica) = (self.shared().engine(), self.shared().replica());
        let (boot, now) = (engine.boot(), self.shared().now());
        let mut tally = tally_of(&self.threads, &self.http_tally);
        if let Some(spoe) = &self.spoe {
            tally += &spoe.tally();
        }
        tally += &self.envoy.front().tally();
        let (cluster, readiness) = self.participation.status(boot, engine.registry(), now);
        let peers = self.peers.lock();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.shared().now().as_secs_f64(),
            ready: self.ready.load(Acquire) && !self.crew.is_ending(),
            failure: self.crew.failure(),
            udp: self.port.address().to_string(),
            http: self.http.map(|address| address.to_string()),
            readiness,
            sketch: SketchStatus::of(replica),
            sketches: NamedSketchStatus::all(engine, now),
            limits: LimitStatus::all(engine, now),
            pardons: engine.pardons().pardons().in_force(now) as u64,
            messages: Messages::default(),
            datagrams: Datagrams::of(&self.threads, &tally, peers.refused()),
            replies: Replies::of(&self.threads),
            io: IoStatus {
                backend: self.backend.get().map_or("", |it| it.name()).to_owned(),
                threads: self.threads.iter().map(|thread| thread.status()).collect(),
            },
            compact: CompactStatus::of(engine),
            resp: self
                .resp
                .as_ref()
                .map_or_else(RespStatus::default, Resp::status),
            spoe: self
                .spoe
                .as_ref()
                .map_or_else(SpoeStatus::default, |agent| agent.status()),
            envoy: self.envoy.status(),
            http_api: HttpApiStatus::default(),
            latencies: self.latencies(),
            snapshot_files: self
                .snapshots
                .as_ref()
                .map_or_else(SnapshotFilesStatus::default, |desk| desk.status(now)),
            log: LogStatus::now(),
            cluster,
            peers: peers.status(self.shared().now()),
            peer_orders: peers.latest_orders(),
        };
        tally.tell(&mut status);
        status
    }

    fn failure(&self) -> Option<String> {
        self.crew.failure()
    }

    fn may_use(&self, ip: IpAddr) -> bool {
        self.port.may_use(ip)
    }

    fn is_trusted(&self, ip: IpAddr) -> bool {
        self.port.is_trusted(ip)
    }

    fn may_see_keys(&self, ip: IpAddr, is_by_proxy: bool) -> bool {
        let asks = if is_by_proxy {
            Asks::ByProxy
        } else {
            Asks::Himself
        };
        self.port.may_see_keys(ip, asks)
    }

    fn top(&self, question: &TopQuestion, shows_keys: bool) -> Result<TopDocument, TopError> {
        let shared = self.shared();
        question.answer(shared.engine(), shows_keys, shared.now())
    }

    fn denied(
        &self,
        question: &DeniedQuestion,
        shows_keys: bool,
    ) -> Result<DeniedDocument, DeniedError> {
        let shared = self.shared();
        question.answer(shared.engine(), shows_keys, shared.now())
    }

    fn order_snapshot(&self) -> Option<PendingOrder> {
        let Ordered { number, done } = self.snapshots.as_ref()?.order();
        Some(PendingOrder { number, done })
    }

    fn connection_panicked(&self) {
        self.crew.redden(Part::Connection);
    }

    fn detail(&self, question: &DetailQuestion) -> Result<Detail, DetailError> {
        #[cfg(test)]
        self.crew.strikes_thread(Part::Connection);
        let sketch = question.find(self.shared().engine().registry())?;
        let origins = self.estimate_by_origin(sketch, &question.key);
        Detail::of(question, &sketch.replica, &origins, self.shared().now())
    }
}
