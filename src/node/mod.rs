//! A running node: data threads, the control thread, the thread of HTTP, and their end.
//!
//! ```text
//!  UDP clients ──> socket 0 ── data thread 0 ──┐ relaxed adds, reads
//!   (the kernel    socket 1 ── data thread 1 ──┼──> Replica (sketch + peers' slices)
//!    spreads)      ...                         │        ^
//!                     rare messages, copied    v        │ merges
//!                     into a bounded queue ──> control thread ── the cluster, rows to peers
//!
//!  TCP clients ──> HTTP thread: a session like those of data threads, and what the node tells of itself; beside it
//!                  HAProxy and Envoy's rate limit service, with sessions of their own
//! ```

mod bind;
mod cells;
mod control;
mod crew;
mod drawn;
mod envoy;
mod error;
mod http;
mod keeping;
mod limits;
mod overview;
mod program;
mod reload;
mod resp;
mod room;
mod signals;
mod sketch;
mod spoe;
mod start;
mod supervisor;
#[cfg(test)]
mod tests;
mod threads;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use self::crew::{Crew, Ending};
pub use self::error::NodeError;
use self::error::system;
use self::keeping::Keeper;
use self::overview::Overview;
pub use self::program::run;
pub use self::reload::{Reload, Reread, SetLog};
use self::signals::Signals;
pub use self::sketch::{AddError, AskError, SketchHandle, UnknownSketch};
pub use self::spoe::SpoeError;
use self::start::THE_STOP_SIGNAL;
use self::supervisor::Watchdog;
pub use crate::cluster_io::ClusterError;
use crate::config::{LimitConfig, NodeConfig};
use crate::data_dir::DataDir;
pub use crate::data_dir::DataDirError;
use crate::engine::{Session, Verdict};
use crate::fronts::datagrams::ClientPort;
pub use crate::fronts::envoy::EnvoyError;
use crate::fronts::http::StatusSource;
pub use crate::fronts::resp::RespError;
use crate::shared::LimitsInForce;
pub use crate::snapshots::SnapshotFileFailure;
use crate::status::Status;
use rmbd_store::Estimate;

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
    port: Arc<ClientPort>,
    overview: Arc<Overview>,
    crew: Crew,
    data: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
    /// The thread of HTTP, of HAProxy and of Envoy's rate limit service, if there is anything for it.
    http: Option<JoinHandle<()>>,
    /// The thread of snapshot files, if there is a folder for them and the node has served.
    keeper: Option<Keeper>,
    /// The thread that feeds the watchdog, if a supervisor has one.
    watchdog: Option<Watchdog>,
    /// The signal handling, if this process's signals belong to the node.
    _signals: Option<Signals>,
    /// The lock that keeps other nodes from having this node's id while it runs.
    _data_dir: DataDir,
    /// The session by which the surrounding program adds and counts.
    session: Mutex<Session<()>>,
}

impl Node {
    /// Starts all threads, and returns when they serve. Signals are left to the program around the node.
    ///
    /// If one of the node's threads or tasks ends by itself, the node ends: it stops serving, brings the rest of its
    /// counts to the cluster, and reports the failure in its status and by [`failure`](Self::failure),
    /// [`wait`](Self::wait) and [`stop`](Self::stop). The program around it goes on.
    ///
    /// # Errors
    /// Fails with [`NodeError`]; nothing is left behind.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let crew = Crew::new().map_err(system(THE_STOP_SIGNAL))?;
        let limits = LimitsInForce::new(&config.limits).with_rules(&config.envoy.rules);
        let limits = Arc::new(limits);
        Self::start_with(&config, crew, None, limits)
    }

    /// The real address of the UDP client port.
    pub fn udp_addr(&self) -> SocketAddr {
        self.port.address()
    }

    /// The real address of the HTTP port; `None` when it is off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.overview.http()
    }

    /// The real address for clients of Redis's protocol; `None` when it is off.
    pub fn resp_addr(&self) -> Option<SocketAddr> {
        self.overview.resp().map(resp::Resp::address)
    }

    /// The real address for HAProxy; `None` when it is off.
    pub fn spoe_addr(&self) -> Option<SocketAddr> {
        self.overview.spoe().map(|agent| agent.address())
    }

    /// The real address of Envoy's rate limit service; `None` when it is off.
    pub fn envoy_addr(&self) -> Option<SocketAddr> {
        self.overview.envoy().address()
    }

    /// The real address on which other nodes reach this one; `None` if the node is in no cluster.
    pub fn cluster_addr(&self) -> Option<SocketAddr> {
        let cluster = self.overview.participation().cluster();
        cluster.map(|cluster| cluster.bound())
    }

    /// Adds to the sketch `default` without the network; [`sketch`](Self::sketch) gives the others. All threads share
    /// one session here; a thread that adds or counts often uses a [`session`](Self::session) of its own.
    ///
    /// # Errors
    /// Fails if the weight is above [`max_weight`](NodeConfig::max_weight), or if more was added than can be taken
    /// over at once; nothing has changed then.
    pub fn add(&self, key: &[u8], weight: u32) -> Result<(), AddError> {
        self.default_sketch().add(key, weight)
    }

    /// Counts in the sketch `default` without the network. The estimate includes everything that was added in the
    /// cluster, as far as it is known here, and what legacy peers sent.
    pub fn estimate(&self, key: &[u8]) -> Estimate {
        self.default_sketch().estimate(key)
    }

    /// Adds to the sketch `default` without the network, and counts. The estimate includes the weight, and the verdict
    /// says whether it is at most `limit`.
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
    /// Fails like [`add`](Self::add).
    pub fn hit(
        &self,
        key: &[u8],
        weight: u32,
        limit: u64,
    ) -> Result<(Estimate, Verdict), AddError> {
        self.default_sketch().hit(key, weight, limit)
    }

    /// A session for one thread, like each data thread has one; it waits for no other thread. It may outlive the node,
    /// which then neither shows nor replicates what is added. Weight that it has not [finished](Session::finish)
    /// reduces what all others may add.
    pub fn session<T: Copy>(&self) -> Session<T> {
        Session::sharing(Arc::clone(self.port.shared().engine()))
    }

    /// The limits in force, which a reload replaces.
    pub fn limits(&self) -> Arc<[LimitConfig]> {
        self.port.shared().limits().get()
    }

    /// The status of the node as it is now.
    pub fn status(&self) -> Status {
        self.overview.status()
    }

    /// The failure in one line, or `None` while all is well. After a failure the node ends; only after a panic in a
    /// connection of HTTP it serves on and should be started again.
    pub fn failure(&self) -> Option<String> {
        self.crew.failure()
    }

    /// Waits until the node ends by itself, which happens only if a part of it fails.
    ///
    /// # Errors
    /// The failure.
    pub fn wait(mut self) -> Result<Status, NodeError> {
        self.wait_and_end()
    }

    /// Ends all threads and waits for them. Datagrams that had reached the sockets are still taken, the counts brought
    /// to the cluster if its live members take them within 3 s, and written to the data folder if there is one. Returns
    /// the last status.
    ///
    /// # Errors
    /// The failure, if a thread had ended by itself before, or the last snapshot file was not written.
    pub fn stop(mut self) -> Result<Status, NodeError> {
        self.crew.end(Ending::Asked);
        self.wait_and_end()
    }

    /// Locks the session. Nothing in it can panic; if something did, at worst the adds that waited in it would be
    /// lost.
    fn own_session(&self) -> MutexGuard<'_, Session<()>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a signal or a failure, then ends all threads.
    fn wait_and_end(&mut self) -> Result<Status, NodeError> {
        // The crew knows about panics.
        let _ = self.control.take().map(JoinHandle::join);
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.end();
        }
        self.overview.set_ready(false);
        self.crew.begin_end();
        let _ = self.http.take().map(JoinHandle::join);
        for thread in self.data.drain(..) {
            let _ = thread.join();
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.end(&self.crew);
        }
        match self.crew.take_error() {
            Some(error) => Err(error),
            None => Ok(self.overview.status()),
        }
    }
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
