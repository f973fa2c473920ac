//! The start of a node: resources are taken in an order in which a failure leaves nothing behind.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tracing::warn;

use super::bind::{
    Bound, asked_port, bind, http_hosts, warn_of_an_open_port, warn_of_small_buffers,
};
use super::cells::{Author, make_registry};
use super::control::{ControlThread, Publisher};
use super::crew::{Crew, Ending, Part};
use super::drawn::{Drawn, draw};
use super::envoy::{self, Envoy};
use super::error::{NodeError, system};
use super::http::{HttpThread, ends_of_http};
use super::keeping::{Keeping, KeptClients};
use super::limits::rules;
use super::overview::Overview;
use super::program::ready_line;
use super::reload::Running;
use super::resp::{Resp, RespListeners};
use super::signals::Signals;
use super::spoe::SpoeListener;
use super::{Node, room};
use crate::cluster_io::{self, ClusterSockets, Opened, Participation, Seeds, SharedCluster};
use crate::config::{IoChoice, MAX_THREADS, NodeConfig};
use crate::data_dir::{DataDir, Folder};
use crate::engine::{Engine, EngineOptions, Session};
use crate::fronts::datagrams::ClientPort;
use crate::fronts::envoy::EnvoyFront;
use crate::fronts::http::StatusSource;
use crate::fronts::http::api::Tokens;
use crate::legacy::{LegacyPeers, Rounds};
use crate::shared::{LimitsInForce, LoneSlices, Shared};
use crate::snapshots::{self, Found, Source};
use crate::status::ObservedThread;
use rmbd_cluster::membership::Member;
use rmbd_cluster::{Cluster, ClusterLimits, ClusterOptions, slices_of};
use rmbd_io::cgroup::Groups;
use rmbd_io::limits::spare_address_space;
use rmbd_io::{Backend, DataSocket, RingRefused, cpu};
use rmbd_sketch::Weight;
use rmbd_snapshot::ThisStart;
use rmbd_store::once::{CLIENTS_MAX, OnceTable};
use rmbd_store::{NoMemory, Registry, Replica, SketchIndex, Slices, fingerprint};

/// The error context for the stop signal, which is the first thing that a crew makes.
pub(super) const THE_STOP_SIGNAL: &str = "making the stop signal";

impl Node {
    /// Starts a node. The crew notices parts that end by themselves; signals that it handles end the node.
    pub(super) fn start_with(
        config: &NodeConfig,
        (crew, endings): (Crew, mpsc::UnboundedReceiver<Ending>),
        signals: Option<Signals>,
        limits: Arc<LimitsInForce>,
    ) -> Result<Self, NodeError> {
        let threads = thread_count(config)?;
        spare_address_space();
        let backend = choose_backend(config, threads)?;
        let drawn = draw()?;
        let tokens = config.http_token_file.as_deref().map(Tokens::read);
        let mut tokens = tokens.transpose()?.unwrap_or_default();
        let data_dir = DataDir::open(config.cluster.data_dir.as_deref(), drawn.node)?;
        let Bound { sockets, http } = bind(config, threads)?;
        let resp = RespListeners::bind(&config.resp, threads)?;
        let spoe = SpoeListener::bind(config)?;
        let proxies = envoy::bind(config)?;
        let client = sockets
            .first()
            .map_or_else(unspecified, DataSocket::local_addr);
        let lookups = crew.lookups(Part::SeedLookup, &config.resolver);
        let opened = cluster_io::open(&config.cluster, &lookups, client, asked_port(config)?)?;
        // The node's clock.
        let started = Instant::now();
        let is_in_cluster = matches!(opened, Opened::On(_));
        let folder = data_dir.folder();
        let this_start = ThisStart {
            is_in_cluster,
            drawn: drawn.writer,
            spare: drawn.spare_writer,
        };
        let found = folder.map(|folder| look(config, folder, data_dir.node(), this_start));
        let found = found.transpose()?;
        let resumed = found.as_ref().and_then(Found::writer);
        let author = Author {
            node: data_dir.node(),
            writer: resumed.unwrap_or(drawn.writer),
        };
        let learns_slices = is_in_cluster || folder.is_some();
        let registry = make_registry(config, threads, author, learns_slices)?;
        let replica = Arc::clone(registry.replica(SketchIndex::DEFAULT));
        let mut slices = make_slices(&registry, learns_slices)?;
        let (mut keeping, mut clients) = (None, KeptClients::default());
        if let (Some(folder), Some(found)) = (folder, found) {
            let joins_nobody = !is_in_cluster || config.cluster.join.is_empty();
            let now = (started.elapsed(), joins_nobody);
            let taken = Keeping::take_over(config, folder, found, &mut slices, now)?;
            (keeping, clients) = (Some(taken.0), taken.1);
        }
        let (participation, publisher, source) = match opened {
            Opened::Off(reason) => {
                let slices = Arc::new(LoneSlices::new(slices, folder.is_some()));
                (
                    Participation::Off(reason),
                    Publisher::Alone(Arc::clone(&slices)),
                    Source::Alone(slices),
                )
            }
            Opened::On(sockets) => {
                let now = started.elapsed();
                let options = cluster_options(config, &sockets, client.port(), author, &drawn);
                let cluster = Cluster::try_new(now, options, slices)?;
                let cluster = SharedCluster::new(cluster, &sockets)
                    .map_err(system("sharing the cluster's sockets"))?;
                let cluster = Arc::new(cluster);
                let (join, advertise) = (&config.cluster.join, config.cluster.advertise.as_ref());
                let seeds = Seeds::new(join, advertise, lookups, cluster.bound());
                let publisher = Publisher::Cluster {
                    cluster: Arc::clone(&cluster),
                    sockets,
                    seeds: Box::new(seeds),
                };
                let source = Source::Cluster(Arc::clone(&cluster));
                (Participation::On(cluster), publisher, source)
            }
        };
        let http_addr = http.as_ref().map(TcpListener::local_addr).transpose();
        let http_addr = http_addr.map_err(system("reading the HTTP address"))?;
        warn_of_small_buffers(config, &sockets);
        warn_of_an_open_port(config, client);
        envoy::warn_of_forgetting(config);
        let proxies_addr = proxies.as_ref().map(TcpListener::local_addr).transpose();
        let proxies_addr = proxies_addr.map_err(system("reading the address of --envoy"))?;
        let options = engine_options(config, &drawn, &clients, started.elapsed());
        let engine = Engine::new(registry, &options);
        let followed = Arc::clone(&limits);
        let shared = Shared::since(started, engine, limits, crew.stop().clone());
        apply_limits(&followed, shared.engine());
        if let Some(cluster) = participation.cluster() {
            let pardons = Arc::clone(shared.engine().pardons());
            cluster.lock().share_pardons(pardons);
        }
        let observed = sockets.into_iter().map(ObservedThread::new).map(Arc::new);
        let observed: Box<[_]> = observed.collect();
        let cluster = participation.cluster().cloned();
        let port = Arc::new(ClientPort::new(
            config,
            Arc::new(shared),
            observed.first().map(|thread| thread.socket()),
            cluster.as_ref().map_or(0, |cluster| cluster.bound().port()),
        ));
        let resp = resp.map(|listeners| Resp::new(config, listeners, &port));
        let resp = resp.transpose()?;
        let spoe = spoe.map(|listener| listener.serve_by(&port));
        let agent = spoe.as_ref().map(|(_, agent)| Arc::clone(agent));
        let resp_addr = resp.as_ref().map(Resp::address);
        let needing = [
            resp_addr.filter(|_| config.resp.password_file.is_none()),
            agent.as_ref().map(|agent| agent.address()),
            proxies_addr,
        ];
        let is_beyond = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        let needs_list = needing.iter().flatten().any(is_beyond);
        let envoy = Envoy::new(EnvoyFront::new(Arc::clone(&port)), proxies_addr);
        let peers = Arc::new(LegacyPeers::new(config, replica));
        let overview = Arc::new(Overview::new(
            Arc::clone(&port),
            observed,
            (http_addr, resp, agent, envoy),
            participation,
            Arc::clone(&peers),
            keeping.as_ref().map(|keeping| Arc::clone(keeping.desk())),
            crew.clone(),
        ));
        if let Some(signals) = &signals {
            signals.serve(Running {
                port: Arc::clone(&port),
                cluster: overview.participation().cluster().cloned(),
                needs_list,
            });
        }
        let mut node = Self {
            session: Mutex::new(Session::sharing(Arc::clone(port.shared().engine()))),
            port: Arc::clone(&port),
            overview: Arc::clone(&overview),
            crew: crew.clone(),
            data: Vec::with_capacity(threads),
            control: None,
            http: None,
            keeper: None,
            watchdog: None,
            _signals: signals,
            _data_dir: data_dir,
        };
        // An early return drops `node`, which ends and joins what has been started.
        let supervisor = node._signals.as_ref().map(Signals::supervisor);
        let supervisor = supervisor.cloned().unwrap_or_default();
        let roll_call = supervisor.roll_call(threads)?;
        let (alive, data_ended) = mpsc::channel(1);
        let (serving, serves) = std_mpsc::channel();
        let lookups = crew.lookups(Part::PeerLookup, &config.resolver);
        let (http_hold, http) = (overview.needs_http_thread())
            .then(|| {
                let (hold, ends) = ends_of_http();
                let thread = HttpThread {
                    overview: Arc::clone(&overview),
                    listener: http,
                    spoe,
                    envoy: proxies,
                    hosts: http_hosts(config),
                    tokens: std::mem::take(&mut tokens),
                    has_check: config.http_check,
                    ends,
                    alive: alive.clone(),
                };
                (hold, thread)
            })
            .unzip();
        let control = ControlThread {
            overview,
            http: http_hold,
            publisher,
            rounds: Rounds::new(port, peers, cluster, lookups),
            sampling_seed: drawn.sampling_seed,
            endings,
            serving,
            data_ended,
            supervisor: supervisor.clone(),
            ping: (roll_call.as_ref()).map(|roll_call| Arc::clone(roll_call.control())),
        };
        let waiting = node.make_threads_ready(config, backend, roll_call.as_ref(), alive)?;
        waiting.serve(&mut node, control, http);
        if serves.recv().is_err() {
            // A thread has ended, and the crew knows why.
            node.wait_and_end()?;
            return Err(NodeError::Ended {
                part: Part::Control.to_string(),
                how: "before it served",
            });
        }
        if let Some(keeping) = keeping {
            let backend = node.overview.backend();
            let begun = keeping.begin(&node.crew, node.port.shared(), source, backend);
            node.keeper = Some(begun?);
        }
        if let Some(roll_call) = roll_call {
            let line = ready_line(&node.overview.status());
            node.watchdog = Some(supervisor.watch(&node.crew, roll_call, line)?);
        }
        node.overview.set_ready(true);
        Ok(node)
    }
}

/// Looks for what an earlier start has left.
fn look(
    config: &NodeConfig,
    folder: &Arc<Folder>,
    node: u64,
    this_start: ThisStart,
) -> Result<Found, NodeError> {
    let sketches = config.all_sketches()?;
    let sketches = sketches.iter().map(|sketch| {
        let fingerprint = fingerprint(sketch.geometry, config.family);
        (sketch.name.number(), fingerprint)
    });
    let found = snapshots::look(folder, node, sketches, this_start);
    found.map_err(system("looking for a snapshot file"))
}

/// The slices of all sketches, which tell how old they are where others, or later starts, are to know.
fn make_slices(registry: &Registry, keeps_ages: bool) -> Result<Vec<Slices>, NoMemory> {
    match keeps_ages {
        true => slices_of(replicas(registry), Duration::ZERO),
        false => replicas(registry).map(Slices::try_new).collect(),
    }
}

/// The tables of all sketches.
fn replicas(registry: &Registry) -> impl Iterator<Item = Arc<Replica>> + '_ {
    let sketches = registry.sketches().iter();
    sketches.map(|sketch| Arc::clone(&sketch.replica))
}

/// Lets the engine apply the limits that are in force, now and whenever they change.
fn apply_limits(limits: &LimitsInForce, engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    limits.follow(move |limits| engine.set_limits(rules(limits, engine.registry())));
}

pub(super) fn thread_count(config: &NodeConfig) -> Result<usize, NodeError> {
    match config.threads.unwrap_or_else(default_threads) {
        threads if (1..=MAX_THREADS).contains(&threads) => Ok(threads),
        threads => Err(NodeError::Threads(threads)),
    }
}

/// Default number of data threads: one for each CPU that the process may run on, and no more than it may use in full.
/// A busy thread takes one CPU, and a control group that has used up its time stands still as a whole, including the
/// control thread. So a quota of half a CPU gives one thread, and with one and a half the half is left to the other
/// threads. There are at most [`MAX_THREADS`].
fn default_threads() -> usize {
    let allowed = cpu::allowed().len();
    let quota = Groups::of_this_process().cpus();
    let whole = quota.map_or(usize::MAX, |quota| quota.most as usize);
    allowed.min(whole).clamp(1, MAX_THREADS)
}

/// The back end that was asked for, if the limits of this process have room for it.
fn choose_backend(config: &NodeConfig, threads: usize) -> Result<Backend, NodeError> {
    if config.io == IoChoice::Mmsg {
        room::check(config, threads, Backend::Mmsg)?;
        return Ok(Backend::Mmsg);
    }
    match room::check(config, threads, Backend::Uring) {
        Ok(()) => Ok(Backend::Uring),
        Err(limit)
            if config.io == IoChoice::Auto
                && room::check(config, threads, Backend::Mmsg).is_ok() =>
        {
            warn_of_fallback(&RingRefused::by_limit(&limit));
            Ok(Backend::Mmsg)
        }
        Err(limit) => Err(limit.into()),
    }
}

pub(super) fn warn_of_fallback(refused: &RingRefused) {
    warn!("{refused}; serving with recvmmsg instead");
}

/// A placeholder address. Every group has a first socket, so nobody sees it.
fn unspecified() -> SocketAddr {
    ([0; 4], 0).into()
}

fn engine_options(
    config: &NodeConfig,
    drawn: &Drawn,
    clients: &KeptClients,
    now: Duration,
) -> EngineOptions {
    let once = OnceTable::new(CLIENTS_MAX, &drawn.once_secret);
    EngineOptions {
        boot: drawn.boot,
        earlier: clients.take_back(&once, now),
        max_weight: Weight::new(config.max_weight).unwrap_or(Weight::MAX),
        once: Arc::new(once),
    }
}

fn cluster_options(
    config: &NodeConfig,
    sockets: &ClusterSockets,
    client_port: u16,
    author: Author,
    drawn: &Drawn,
) -> ClusterOptions {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    ClusterOptions {
        me: Member {
            node: author.node,
            boot: drawn.boot,
            // The number of milliseconds lasts for millions of years.
            started_ms: since_1970.map_or(0, |since| since.as_millis() as u64),
            renewals: 0,
            // The placeholder is never told to other nodes.
            address: sockets.advertised().unwrap_or_else(unspecified),
            client_port,
        },
        keys: sockets.keys().clone(),
        seed: drawn.cluster_seed,
        gossip_interval: Duration::from_millis(config.cluster.gossip_interval_ms.into()),
        gossip_rate_bytes_per_s: config.cluster.gossip_rate_bytes_per_s,
        join: !config.cluster.join.is_empty(),
        shares_names: sockets.shares_names(),
        limits: ClusterLimits::default(),
    }
}
