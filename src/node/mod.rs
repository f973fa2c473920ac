//! A running node: data threads, the control thread with HTTP, and their end.
//!
//! ```text
//!  UDP clients ──> socket 0 ── data thread 0 ──┐ relaxed adds, reads
//!   (the kernel    socket 1 ── data thread 1 ──┼──> Replica (sketch + peers' slices)
//!    spreads)      ...                         │        ^
//!                     rare messages, copied    v        │ merges
//!                     into a bounded queue ──> control thread ── the cluster, rows to peers, TCP: HTTP
//! ```

mod access;
mod cells;
mod control;
mod crew;
mod data;
mod gossip;
mod hand_off;
pub mod http;
mod lookups;
pub mod metrics;
mod room;
mod shared;
mod signals;
pub mod status;
mod tally;
mod threads;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::rand::GetRandomFlags;
use tokio::sync::mpsc;
use tracing::warn;

use self::cells::make_replica;
use self::control::Control;
use self::crew::{Crew, Part};
pub use self::gossip::{ClusterError, IdentityError};
use self::gossip::{Identity, Link, Presence, Seeds, Side, Start};
use self::http::{Hosts, StatusSource};
use self::lookups::Lookups;
use self::shared::{Random, Shared};
use self::signals::Signals;
use self::status::Status;
use crate::cluster::membership::Member;
use crate::cluster::{Cluster, ClusterLimits, ClusterOptions};
use crate::config::{HostPort, HttpChoice, IoChoice, MAX_THREADS, NodeConfig};
use crate::console;
use crate::engine::{Allowed, Answer, Limit, Session, Turn, Verdict};
use crate::io::cgroup::Groups;
use crate::io::limits::{LimitReached, in_the_way_of_threads, spare_address_space};
use crate::io::{
    Backend, BindError, DataSocket, LoopError, RingRefused, SocketOptions, bind_group, cpu,
};
use crate::replica::once::COOKIE_SECRET_BYTES;
use crate::replica::{Estimate, NoMemory, Replica, SliceId, Slices, fingerprint};
use crate::sketch::{Exhausted, SketchError, WeightError};
use crate::wire::{Boot, Writer};

/// Port 0 with HTTP on the same port: how often to look for a port that is free for both.
const FREE_PORT_TRIES: usize = 32;
/// How long an address that is in use may turn out to be only left over.
const RING_LINGERS: Duration = Duration::from_secs(1);
const BIND_AGAIN: Duration = Duration::from_millis(10);

/// Why a node did not start, or stopped by itself. A node that did not start has left nothing
/// behind: no socket, no thread.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address cannot be looked up.
    #[error(
        "can't resolve {address}: {source}; give HOST:PORT with a name that this machine knows"
    )]
    Resolve {
        /// As it was given.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The UDP address cannot be taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP address cannot be taken.
    #[error(
        "can't serve HTTP on {address} over TCP: {source}; choose another with --http HOST:PORT, or \
         --http off"
    )]
    Http {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The sketch is larger than the machine, or than what its control group may use.
    #[error(
        "the sketch needs {needed_bytes} bytes (with a copy of it, if there is a cluster) and this process may use \
         {usable_bytes} ({bound}): choose a smaller width or depth (-x, -y), or a larger epsilon"
    )]
    TooLarge {
        /// Bytes of cells.
        needed_bytes: u64,
        /// Bytes of memory that there are.
        usable_bytes: u64,
        /// What says so.
        bound: String,
    },
    /// A limit of the system leaves no room for the node.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// The sketch is larger than `--max-memory`.
    #[error(
        "the sketch needs {needed_bytes} bytes (with a copy of it, if there is a cluster) and --max-memory is \
         {max_bytes}: raise it, or choose a smaller width or depth (-x, -y)"
    )]
    MaxMemory {
        /// Bytes of cells.
        needed_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The node has no number.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The cluster cannot be taken part in.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The sketch's memory was refused.
    #[error(transparent)]
    Sketch(#[from] SketchError),
    /// Too many data threads, or none.
    #[error("{0} data threads are not possible: use 1 to {MAX_THREADS}, best one for each core")]
    Threads(usize),
    /// io_uring was asked for and is not to be had.
    #[error(transparent)]
    Ring(#[from] RingRefused),
    /// A loop could not start, or gave up.
    #[error("data thread {thread}: {source}")]
    Loop {
        /// Number of the thread, from 0.
        thread: usize,
        /// Why.
        source: LoopError,
    },
    /// The operating system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or a task ended that nobody had told to, which is a fault of this program. The rest of the node
    /// has ended in order, as far as it could.
    #[error("{part} ended {how}; this is a bug, please report it")]
    Ended {
        /// What it was.
        part: String,
        /// By itself, or by a panic.
        how: &'static str,
    },
}

impl From<NoMemory> for NodeError {
    fn from(error: NoMemory) -> Self {
        match error {
            NoMemory::Limit(limit) => Self::MaxMemory {
                needed_bytes: limit.needed_bytes,
                max_bytes: limit.max_bytes,
            },
            NoMemory::Allocator(error) => Self::Sketch(error),
        }
    }
}

const THE_STOP_SIGNAL: &str = "making the stop signal";

fn system(what: &'static str) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::System { what, source }
}

/// Why a node ends.
#[derive(Debug)]
enum Ending {
    Asked,
    Signal(String),
    /// The crew knows of what.
    Failed,
}

/// How long standard output may take to take the ready line before that is worth a warning.
const READY_LINE_PATIENCE: Duration = Duration::from_secs(1);

/// A node that runs inside this process, until [`stop`](Self::stop) or until it is dropped.
///
/// ```
/// use rmbd::config::NodeConfig;
/// use rmbd::node::Node;
///
/// let node = Node::start(NodeConfig { threads: Some(1), ..NodeConfig::at("127.0.0.1:0") })?;
/// node.add(b"key", 3)?;
/// assert_eq!(node.estimate(b"key").count, 3);
/// println!("serving UDP on {}", node.udp_addr());
/// node.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Node {
    shared: Arc<Shared>,
    crew: Crew,
    data: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
    /// Where this process's signals are ours.
    _signals: Option<Signals>,
    /// No other node has this number while we run.
    _identity: Identity,
    /// By which the program around it adds and counts.
    session: Mutex<Session<()>>,
}

impl Node {
    /// Starts all threads and returns when they serve. Signals are left to the program around it.
    ///
    /// If one of its threads or tasks ends by itself, the node ends: it stops serving, brings the rest of its
    /// counts to the cluster, and says so in its status and by [`failure`](Self::failure),
    /// [`wait`](Self::wait) and [`stop`](Self::stop). The program around it goes on.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left behind.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        Self::start_with(&config, Crew::new().map_err(system(THE_STOP_SIGNAL))?, None)
    }

    fn start_with(
        config: &NodeConfig,
        (crew, endings): (Crew, mpsc::UnboundedReceiver<Ending>),
        signals: Option<Signals>,
    ) -> Result<Self, NodeError> {
        let threads = thread_count(config)?;
        spare_address_space();
        let backend = choose_backend(config, threads)?;
        let drawn = draw()?;
        let identity = Identity::of(config.cluster.data_dir.as_deref(), drawn.node)?;
        let Bound { sockets, http } = bind(config, threads)?;
        let client = sockets
            .first()
            .map_or_else(unspecified, DataSocket::local_addr);
        let lookups = Lookups::new(crew.clone(), config.resolver.clone());
        let cluster = gossip::start(&config.cluster, &lookups, client, asked_port(config)?)?;
        let own = SliceId::of(identity.node, drawn.writer);
        let replica = Arc::new(make_replica(
            config,
            threads,
            own,
            matches!(cluster, Start::On(_)),
        )?);
        let (presence, cluster, slices) = match cluster {
            Start::Off(reason) => {
                let slices = Slices::try_new(Arc::clone(&replica))?;
                (Presence::Off(reason), None, Some(slices))
            }
            Start::On(link) => {
                let side = make_side(config, &link, client, &replica, &drawn)?;
                let seeds = Seeds::new(
                    &config.cluster.join,
                    config.cluster.advertise.as_ref(),
                    lookups.clone(),
                    link.bound,
                );
                let cluster = Some((link.sockets, seeds));
                (Presence::On(Box::new(side)), cluster, None)
            }
        };
        let http_addr = http.as_ref().map(TcpListener::local_addr).transpose();
        let http_addr = http_addr.map_err(system("reading the HTTP address"))?;
        warn_of_small_buffers(config, &sockets);
        warn_of_an_open_port(config, client);
        let shared = Shared::new(
            config,
            replica,
            drawn.shared,
            (sockets, http_addr),
            presence,
            crew.clone(),
        );
        let shared = Arc::new(shared);
        if let Some(signals) = &signals {
            signals.serve();
        }
        let mut node = Self {
            session: Mutex::new(Session::sharing(Arc::clone(shared.engine()))),
            shared: Arc::clone(&shared),
            crew: crew.clone(),
            data: Vec::with_capacity(threads),
            control: None,
            _signals: signals,
            _identity: identity,
        };
        // An early return drops `node`, which ends and joins what has been started.
        let (alive, data_ended) = mpsc::channel(1);
        let (serving, serves) = std_mpsc::channel();
        let control = Control {
            shared,
            http,
            http_hosts: http_hosts(config),
            cluster,
            slices,
            endings,
            serving,
            data_ended,
        };
        let waiting = node.make_threads_ready(config, backend, alive)?;
        waiting.serve(&mut node, control);
        if serves.recv().is_err() {
            // It has ended, and the crew knows why.
            node.wait_and_end()?;
            return Err(NodeError::Ended {
                part: Part::Control.to_string(),
                how: "before it served",
            });
        }
        node.shared.set_ready(true);
        Ok(node)
    }

    /// The real address of the UDP client port.
    pub fn udp_addr(&self) -> SocketAddr {
        self.shared.udp()
    }

    /// The real address of the HTTP port; `None` when it is off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.shared.http()
    }

    /// The real address where other nodes are heard; `None` where the node is in no cluster.
    pub fn cluster_addr(&self) -> Option<SocketAddr> {
        self.shared.presence().side().map(|side| side.bound)
    }

    /// Adds without the network. A thread that adds or counts often does so with a [`session`](Self::session) of its
    /// own: here all threads share one.
    ///
    /// # Errors
    /// A weight above [`max_weight`](NodeConfig::max_weight), or more than can be taken over at once; nothing has
    /// changed then.
    pub fn add(&self, key: &[u8], weight: u32) -> Result<(), AddError> {
        let mut session = self.own_session();
        let weight = weigh(&session, weight)?;
        let added = session.add(Turn::First, key, weight, &mut |(), _| {});
        session.finish(&mut |(), _| {});
        self.shared.ask_for_pass_if_due();
        Ok(added?)
    }

    /// Counts without the network: all that were added in the cluster, as far as it is known here, and
    /// what legacy peers sent.
    pub fn estimate(&self, key: &[u8]) -> Estimate {
        let mut estimate = Estimate::default();
        let mut session = self.own_session();
        let mut answer = |(), answer: Answer| estimate = answer.estimate();
        session.count(key, (), &mut answer);
        session.finish(&mut answer);
        estimate
    }

    /// Adds without the network, and counts: the estimate has the weight in it, and the verdict says whether it is
    /// at most `limit`.
    ///
    /// ```
    /// # use rmbd::config::NodeConfig;
    /// # use rmbd::node::Node;
    /// use rmbd::engine::Verdict;
    ///
    /// let node = Node::start(NodeConfig { threads: Some(1), ..NodeConfig::at("127.0.0.1:0") })?;
    /// for (count, verdict) in [(2, Verdict::Within), (4, Verdict::Over)] {
    ///     let (estimate, told) = node.hit(b"key", 2, 3)?;
    ///     assert_eq!((estimate.count, told), (count, verdict));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn hit(
        &self,
        key: &[u8],
        weight: u32,
        limit: u64,
    ) -> Result<(Estimate, Verdict), AddError> {
        let mut told = (Estimate::default(), Verdict::Over);
        let mut session = self.own_session();
        let weight = weigh(&session, weight)?;
        let mut answer = |(), answer: Answer| {
            if let Answer::Hit { estimate, verdict } = answer {
                told = (estimate, verdict);
            }
        };
        let limit = Limit::total(limit);
        let hit = session.hit(Turn::First, key, weight, limit, (), &mut answer);
        session.finish(&mut answer);
        self.shared.ask_for_pass_if_due();
        hit?;
        Ok(told)
    }

    /// A way into the sketch for one thread, as each data thread has one: nobody is waited for in it. It may
    /// outlive the node, which then neither shows nor replicates what is added. What it has not
    /// [finished](Session::finish) takes from what all others may add.
    pub fn session<T: Copy>(&self) -> Session<T> {
        Session::sharing(Arc::clone(self.shared.engine()))
    }

    /// The node as it is now.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// What has failed, in one line: the node has ended by it, or does, or (a panic in a connection of HTTP)
    /// serves on and should be started again. `None` while all is well.
    pub fn failure(&self) -> Option<String> {
        self.crew.failure()
    }

    /// Waits until the node ends by itself, which it does only where something of it fails.
    ///
    /// # Errors
    /// What failed.
    pub fn wait(mut self) -> Result<Status, NodeError> {
        self.wait_and_end()
    }

    /// Ends all threads and waits for them; what had reached the sockets is still taken, and brought
    /// to the cluster if its live members take it within 3 s. Returns the last status.
    ///
    /// # Errors
    /// Why a thread had ended by itself before.
    pub fn stop(mut self) -> Result<Status, NodeError> {
        self.crew.end(Ending::Asked);
        self.wait_and_end()
    }

    /// Nothing in a session can panic; if it did, what waited in it would at worst be lost.
    fn own_session(&self) -> MutexGuard<'_, Session<()>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a signal or a failure, then ends all threads.
    fn wait_and_end(&mut self) -> Result<Status, NodeError> {
        // The crew knows of panics.
        let _ = self.control.take().map(JoinHandle::join);
        self.shared.set_ready(false);
        self.crew.begin_end();
        for thread in self.data.drain(..) {
            let _ = thread.join();
        }
        match self.crew.take_error() {
            Some(error) => Err(error),
            None => Ok(self.shared.status()),
        }
    }
}

/// Why something was not added without the network. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// A weight above the limit.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// More than can be taken over at once.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

fn weigh(session: &Session<()>, weight: u32) -> Result<Allowed, WeightError> {
    let limit = session.max_weight().get();
    let allowed = session.weigh(weight.into());
    allowed.map_err(|_| WeightError { weight, limit })
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("udp", &self.udp_addr())
            .finish_non_exhaustive()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.crew.end(Ending::Asked);
        let _ = self.wait_and_end();
    }
}

fn thread_count(config: &NodeConfig) -> Result<usize, NodeError> {
    match config.threads.unwrap_or_else(default_threads) {
        threads if (1..=MAX_THREADS).contains(&threads) => Ok(threads),
        threads => Err(NodeError::Threads(threads)),
    }
}

/// One for each CPU that the process may run on, and no more than it may use in full: a thread that is busy takes one,
/// and a group that has used up its time stands still as a whole, the control thread with it. So half a CPU has
/// one thread, and the half of one and a half is left to the others. At most [`MAX_THREADS`].
fn default_threads() -> usize {
    let allowed = cpu::allowed().len();
    let quota = Groups::of_this_process().cpus();
    let whole = quota.map_or(usize::MAX, |quota| quota.most as usize);
    allowed.min(whole).clamp(1, MAX_THREADS)
}

/// The one that was asked for, if the limits of this process have room for it.
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

fn warn_of_fallback(refused: &RingRefused) {
    warn!("{refused}; serving with recvmmsg instead");
}

fn make_side(
    config: &NodeConfig,
    link: &Link,
    client: SocketAddr,
    replica: &Arc<Replica>,
    drawn: &Drawn,
) -> Result<Side, NodeError> {
    let own = replica.own_slice();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let options = ClusterOptions {
        me: Member {
            node: own.node,
            boot: drawn.shared.boot,
            // Millions of years fit.
            started_ms: since_1970.map_or(0, |since| since.as_millis() as u64),
            renewals: 0,
            // Nobody can be told the second one.
            address: link.advertised.unwrap_or_else(unspecified),
            client_port: client.port(),
        },
        keys: link.keys.clone(),
        seed: drawn.cluster_seed,
        gossip_interval: Duration::from_millis(config.cluster.gossip_interval_ms.into()),
        gossip_rate_bytes_per_s: config.cluster.gossip_rate_bytes_per_s,
        fingerprint: fingerprint(config.geometry, config.family),
        join: !config.cluster.join.is_empty(),
        limits: ClusterLimits::default(),
    };
    // The node's clock begins with it.
    let cluster = Cluster::try_new(Duration::ZERO, options, Arc::clone(replica))?;
    Side::new(cluster, link).map_err(system("sharing the cluster's sockets"))
}

/// The port that the client address names; 0 leaves it to the kernel.
fn asked_port(config: &NodeConfig) -> Result<u16, NodeError> {
    let parsed = config.address.parse::<HostPort>();
    parsed
        .map(|address| address.port)
        .map_err(|error| NodeError::Resolve {
            address: config.address.clone(),
            source: io::Error::other(error),
        })
}

/// Every group has a first socket, so that nobody sees it.
fn unspecified() -> SocketAddr {
    ([0; 4], 0).into()
}

/// All that is drawn for a start.
struct Drawn {
    shared: Random,
    writer: Writer,
    /// The node's number, where it has none yet.
    node: u64,
    cluster_seed: u64,
}

/// Random numbers of the operating system (getrandom(2), which gives as few bytes as these whole).
fn draw() -> Result<Drawn, NodeError> {
    let mut bytes = [[0; 8]; 4];
    let mut once_secret = [0; COOKIE_SECRET_BYTES];
    for bytes in [bytes.as_flattened_mut(), &mut once_secret] {
        rustix::rand::getrandom(bytes, GetRandomFlags::empty())
            .map_err(io::Error::from)
            .map_err(system("drawing random numbers"))?;
    }
    let [boot, writer, node, cluster_seed] = bytes.map(u64::from_le_bytes);
    Ok(Drawn {
        // 0 stands for nobody.
        shared: Random {
            boot: Boot(boot.max(1)),
            once_secret,
        },
        writer: Writer(writer.max(1)),
        node: node.max(1),
        cluster_seed,
    })
}

struct Bound {
    sockets: Vec<DataSocket>,
    http: Option<TcpListener>,
}

fn bind(config: &NodeConfig, threads: usize) -> Result<Bound, NodeError> {
    let address = resolve(&config.address)?;
    let options = SocketOptions {
        receive_buffer_bytes: config.receive_buffer_bytes,
    };
    let mut tries = 0;
    loop {
        let sockets = bind_patiently(address, threads, options)?;
        let Some(http) = http_address(config, sockets[0].local_addr())? else {
            return Ok(Bound {
                sockets,
                http: None,
            });
        };
        tries += 1;
        match listen(http) {
            Ok(listener) => {
                return Ok(Bound {
                    sockets,
                    http: Some(listener),
                });
            }
            // The kernel chose a port that is free for UDP; for TCP somebody has it.
            Err(_) if address.port() == 0 && http.port() != 0 && tries < FREE_PORT_TRIES => {}
            Err(source) => {
                return Err(NodeError::Http {
                    address: http,
                    source,
                });
            }
        }
    }
}

/// A ring holds its sockets until the kernel has taken it down, tens of milliseconds after its process
/// was killed: a node that is started again at once finds its own address in use.
fn bind_patiently(
    address: SocketAddr,
    threads: usize,
    options: SocketOptions,
) -> Result<Vec<DataSocket>, BindError> {
    let start = Instant::now();
    loop {
        match bind_group(address, threads, options) {
            Err(BindError::InUse(_)) if start.elapsed() < RING_LINGERS => {
                std::thread::sleep(BIND_AGAIN);
            }
            outcome => return outcome,
        }
    }
}

fn http_address(config: &NodeConfig, udp: SocketAddr) -> Result<Option<SocketAddr>, NodeError> {
    match &config.http {
        HttpChoice::Off => Ok(None),
        HttpChoice::SameAsUdp => Ok(Some(udp)),
        HttpChoice::At(address) => resolve(address).map(Some),
    }
}

/// The names that the configuration gives to this node, and the host's own.
fn http_hosts(config: &NodeConfig) -> Hosts {
    let http = match &config.http {
        HttpChoice::At(address) => address.parse::<HostPort>().ok(),
        _ => None,
    };
    let client = config.address.parse::<HostPort>().ok();
    let named = [config.cluster.advertise.clone(), http, client];
    let named = named.into_iter().flatten().map(|address| address.host);
    Hosts::of_this_host(named.chain(config.http_hosts.iter().cloned()))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// IPv4 before IPv6, as the Python program has only that.
fn resolve(address: &str) -> Result<SocketAddr, NodeError> {
    let failed = |source| NodeError::Resolve {
        address: address.to_owned(),
        source,
    };
    let all: Vec<SocketAddr> = address.to_socket_addrs().map_err(failed)?.collect();
    let v4 = all.iter().find(|address| address.is_ipv4());
    let none = || failed(io::Error::other("the name has no address"));
    v4.or_else(|| all.first()).copied().ok_or_else(none)
}

fn warn_of_small_buffers(config: &NodeConfig, sockets: &[DataSocket]) {
    let got = sockets
        .iter()
        .map(DataSocket::receive_buffer_bytes)
        .min()
        .unwrap_or(0);
    let asked = config.receive_buffer_bytes;
    // The kernel reports twice what it grants.
    if got / 2 < asked {
        warn!(
            "receive buffer of {} bytes instead of {asked}: raise net.core.rmem_max to {asked}, or \
             grant CAP_NET_ADMIN, to lose less under bursts",
            got / 2
        );
    }
}

/// Once, at the start: it is a decision, and easily an oversight.
fn warn_of_an_open_port(config: &NodeConfig, client: SocketAddr) {
    if is_open(config, client) {
        warn!(
            "whoever reaches {client} over UDP can add, count, and take places of exactly-once clients: name \
             those who may with --allow ADDRESS/BITS"
        );
    }
}

/// Whether anybody may use the client port.
fn is_open(config: &NodeConfig, client: SocketAddr) -> bool {
    config.allow.is_empty() && !client.ip().to_canonical().is_loopback()
}

/// Besides data threads: signals, control, and some for looking names up and for the log.
const THREADS_OF_PROGRAM: u64 = 5;

/// Runs a node as a program: one line to standard output when it is ready, until a signal ends it (SIGINT,
/// SIGTERM; the table is in `node/signals.rs`), and a summary to standard error. Nobody has to read either.
///
/// # Errors
/// [`NodeError`] where it does not start, or where it stopped by itself.
pub fn run(config: &NodeConfig) -> Result<(), NodeError> {
    let threads = thread_count(config)?;
    // Before anything is taken: what is short is named by what a node needs.
    room::check(config, threads, Backend::Mmsg)?;
    let (crew, endings) = Crew::new().map_err(system(THE_STOP_SIGNAL))?;
    let signals = Signals::start(&crew).map_err(|error| {
        match in_the_way_of_threads(&error, threads as u64 + THREADS_OF_PROGRAM) {
            Some(limit) => limit.into(),
            None => system("taking signals")(error),
        }
    })?;
    let mut node = Node::start_with(config, (crew, endings), Some(signals))?;
    announce(&node.status());
    let status = node.wait_and_end()?;
    console::note(&summary(&status));
    Ok(())
}

/// Nobody reading is no reason not to serve.
fn announce(status: &Status) {
    if let Err(unsaid) = console::announce(&ready_line(status), READY_LINE_PATIENCE) {
        warn!(
            "the node serves at {}, but its ready line is not read: {unsaid}",
            status.udp
        );
    }
}

fn ready_line(status: &Status) -> String {
    let sketch = &status.sketch;
    format!(
        "rmbd ready udp={} http={} cluster={} io={} threads={} sketch={}x{} hash={} memory={}",
        status.udp,
        status.http.as_deref().unwrap_or("off"),
        status.cluster.address.as_deref().unwrap_or("off"),
        status.io.backend,
        status.io.threads.len(),
        sketch.depth,
        sketch.width,
        sketch.hash,
        binary_size(sketch.memory_bytes),
    )
}

/// `16MiB`, without a fraction where there is none.
fn binary_size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let power = (bytes.max(1).ilog2() / 10).min(3);
    let value = bytes as f64 / f64::from(1u32 << (10 * power));
    let digits = usize::from(value.fract() != 0.0);
    format!("{value:.digits$}{}", units[power as usize])
}

fn summary(status: &Status) -> String {
    let malformed: u64 = status.datagrams.malformed.values().sum();
    let refused: u64 = status.datagrams.refused.values().sum();
    format!(
        "rmbd stopped after {:.1} s: {} datagrams received, {} dropped by the kernel, {malformed} \
         malformed, {refused} refused; {} adds, {} counts, total weight {}",
        status.uptime_s,
        status.datagrams.received,
        status.datagrams.dropped_by_kernel,
        status.messages.add,
        status.messages.count,
        status.sketch.total_weight,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_open_unless_it_is_loopbacks_or_has_a_list() {
        let listed = NodeConfig {
            allow: vec![ipnet::Ipv4Net::new_assert([10, 0, 0, 0].into(), 8).into()],
            ..NodeConfig::at("127.0.0.1:0")
        };
        for (ip, open) in [
            ([127, 0, 0, 1].into(), false),
            ([127, 9, 0, 1].into(), false),
            (std::net::Ipv6Addr::LOCALHOST.into(), false),
            ([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1].into(), false),
            ([0; 4].into(), true),
            ([0_u16; 8].into(), true),
            ([192, 0, 2, 7].into(), true),
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), true),
        ] {
            let client = SocketAddr::new(ip, 8000);
            assert_eq!(
                is_open(&NodeConfig::at("127.0.0.1:0"), client),
                open,
                "{ip}"
            );
            assert!(!is_open(&listed, client), "{ip}");
        }
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0B"),
            (4000, "3.9KiB"),
            (16 << 20, "16MiB"),
            (3 << 29, "1.5GiB"),
            (1 << 44, "16384GiB"),
        ] {
            assert_eq!(binary_size(bytes), text);
        }
    }
}
