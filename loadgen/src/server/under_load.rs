//! The server under load.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use rmbd::config::NodeConfig;
use rmbd::node::{Node, NodeError};
use rmbd::status::Status;
use rmbd_client::legacy::{Client, ClientError, ClientOptions};
use rmbd_client::{self as client, Count, Top, TopQuestion, Window};
use rmbd_proto::legacy::{MESSAGE_BYTES, REPLY_DATAGRAM_BYTES_MAX, encode_count};
use rmbd_proto::{Boot, SketchName};
use rmbd_udp::send_segments;
use thiserror::Error;
use ureq::Agent;

use super::cost::{CpuUse, ServerProcess};
use super::socket::connected_socket;
use super::status::{fetch_status, received, status_agent, status_url, total_weight};
use crate::plan::{Format, Load};
use crate::record::Server;

/// The longest time to wait until the server has read what is in its buffers.
const SETTLE: Duration = Duration::from_secs(3);
/// Time between two checks meanwhile.
const SETTLE_STEP: Duration = Duration::from_millis(20);
/// Number of checks without a change after which nothing more is expected.
const SETTLED_LOOKS: u32 = 10;
/// Number of counts in one legacy datagram.
const COUNTS_A_DATAGRAM: usize = REPLY_DATAGRAM_BYTES_MAX / MESSAGE_BYTES;
/// A key that is counted to see whether a server answers; it is never added.
const PROBE: &[u8] = b"loadgen: is anybody there?";

/// Why there is no server to send to. Nothing of the load was sent.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The address cannot be looked up.
    #[error("can't resolve {server}: {source}; give HOST:PORT with a name that this machine knows")]
    Resolve {
        /// The address as it was given.
        server: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// Nobody answers at the address.
    #[error(
        "no rmbd at {server}: {source}. Start one (`rmbd {server}`), or leave out --server to test a node inside this program"
    )]
    Silent {
        /// The address as it was given.
        server: String,
        /// The client's error.
        source: ClientError,
    },
    /// HTTP was asked for and does not answer.
    #[error(
        "no status from {url}: {detail}; give the server's HTTP address with --http HOST:PORT, or --http off"
    )]
    Status {
        /// The URL that was asked.
        url: String,
        /// The reason in words.
        detail: String,
    },
    /// A node inside this process does not start.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// The address of the server's HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HttpAt {
    /// The server's own address, if it has HTTP at all.
    #[default]
    SameAsUdp,
    /// No address: HTTP is not asked.
    Off,
    /// This `HOST:PORT`.
    At(String),
}

/// The server that the load goes to.
#[derive(Debug)]
pub struct ServerUnderLoad {
    name: String,
    udp: SocketAddr,
    /// URL of `/status`, if HTTP is asked.
    status_url: Option<String>,
    agent: Agent,
    node: Option<Node>,
    process: Option<ServerProcess>,
}

impl ServerUnderLoad {
    /// Starts a node inside this process.
    ///
    /// # Errors
    /// Fails with [`ServerError::Node`].
    pub fn inside(config: NodeConfig) -> Result<Self, ServerError> {
        let node = Node::start(config)?;
        Ok(Self {
            name: node.udp_addr().to_string(),
            udp: node.udp_addr(),
            status_url: node.http_addr().map(|http| status_url(&http.to_string())),
            agent: status_agent(),
            process: Some(ServerProcess::Inside),
            node: Some(node),
        })
    }

    /// Finds a server elsewhere that answers counts. `pid` is its process, if it runs on this machine and is not found
    /// by its port.
    ///
    /// # Errors
    /// Fails with [`ServerError`] if nobody answers, or if HTTP was named and does not.
    pub fn at(server: &str, http: &HttpAt, pid: Option<u32>) -> Result<Self, ServerError> {
        let udp = probe(server)?;
        let mut found = Self {
            name: server.to_owned(),
            udp,
            status_url: None,
            agent: status_agent(),
            node: None,
            process: pid
                .map(ServerProcess::Pid)
                .or_else(|| ServerProcess::find(udp)),
        };
        let url = match http {
            HttpAt::Off => return Ok(found),
            // The status is asked at the address that answered: if a name has many nodes, this is the same one.
            HttpAt::SameAsUdp => status_url(&udp.to_string()),
            HttpAt::At(address) => status_url(address),
        };
        found.status_url = Some(url.clone());
        match (found.status(), http) {
            (Err(detail), HttpAt::At(_)) => return Err(ServerError::Status { url, detail }),
            (Err(_), _) => found.status_url = None,
            (Ok(_), _) => {}
        }
        Ok(found)
    }

    /// Address of the server, as it was given.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Address that the load goes to.
    #[must_use]
    pub fn udp(&self) -> SocketAddr {
        self.udp
    }

    /// Whether the node is in this process.
    #[must_use]
    pub(crate) fn is_inside(&self) -> bool {
        self.node.is_some()
    }

    /// Whether the server is on this machine and its process is known.
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_some()
    }

    /// The CPU time that the server has used so far, if that can be read. `status` is its latest status.
    pub(crate) fn cpu_use(&self, status: Option<&Status>) -> Option<CpuUse> {
        CpuUse::so_far(self.process?, status)
    }

    /// The most memory that the server ever had in use, in bytes.
    pub(crate) fn peak_memory_bytes(&self) -> Option<u64> {
        self.process?.peak_memory_bytes()
    }

    /// Whether the server's counters can be asked for.
    #[must_use]
    pub(crate) fn has_status(&self) -> bool {
        self.status_url.is_some()
    }

    /// The server's status, over HTTP.
    ///
    /// # Errors
    /// The reason in words, if there is no status.
    pub fn status(&self) -> Result<Status, String> {
        let url = self.status_url.as_deref().ok_or("HTTP is off")?;
        fetch_status(&self.agent, url).map_err(|error| error.to_string())
    }

    /// Waits until the server has read what was sent: until it has received `datagrams` more than in `before`, and its
    /// N has grown by the weight of each message that adds, or until nothing changes any more. Of takes nobody knows
    /// before how much they add.
    pub(crate) fn settle(
        &self,
        before: &Status,
        datagrams: u64,
        load: &Load,
    ) -> Result<Status, String> {
        let sketch = load.sketch.number();
        let has_it_all = |latest: &Status| {
            let received = received(before, latest, sketch);
            let weight = match load.mode.takes() {
                true => 0,
                false => received.adding() * u64::from(load.weight),
            };
            received.datagrams >= datagrams && received.weight >= Some(weight)
        };
        let deadline = Instant::now() + SETTLE;
        let mut latest = self.status()?;
        let mut looks_alike = 0;
        while !has_it_all(&latest) && looks_alike < SETTLED_LOOKS && Instant::now() < deadline {
            thread::sleep(SETTLE_STEP);
            let now = self.status()?;
            let alike = now.datagrams == latest.datagrams
                && total_weight(&now, sketch) == total_weight(&latest, sketch);
            looks_alike = if alike { looks_alike + 1 } else { 0 };
            latest = now;
        }
        Ok(latest)
    }

    /// Whether the kernel splits trains on the way to this server (`UDP_SEGMENT`).
    #[must_use]
    pub(crate) fn takes_trains(&self) -> bool {
        let try_it = || {
            let socket = connected_socket(self.udp)?;
            let question = encode_count(PROBE);
            send_segments(
                &socket,
                None,
                &[question, question].concat(),
                MESSAGE_BYTES as u16,
            )?;
            // The datagram is read before anything is counted; an answer is not needed.
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            let _ = socket.recv(&mut [0; 2048]);
            io::Result::Ok(())
        };
        try_it().is_ok()
    }

    /// The description of the server before the run, for the record.
    #[must_use]
    pub(crate) fn describe(&self, status: Option<&Status>) -> Server {
        Server {
            address: self.name.clone(),
            inside: self.is_inside(),
            status_url: self.status_url.clone(),
            pid: self.process.and_then(ServerProcess::pid),
            version: status.map(|s| s.version.clone()),
            width: status.map(|s| s.sketch.width),
            depth: status.map(|s| s.sketch.depth),
            hash: status.map(|s| s.sketch.hash.clone()),
            io: status.map(|s| s.io.backend.clone()),
            threads: status.map(|s| s.io.threads.len()),
            threads_with_traffic: None,
            cpus: status.map_or_else(Vec::new, |s| {
                s.io.threads.iter().filter_map(|t| t.cpu).collect()
            }),
        }
    }

    /// Asks for estimates of all time in the format and the sketch of a load, each with whether cells were full.
    ///
    /// # Errors
    /// Fails, in words, if there is no socket or no answer.
    pub(crate) fn count(&self, keys: &[Vec<u8>], load: &Load) -> Result<Vec<Count>, String> {
        match load.format {
            Format::Legacy => self.legacy_count(keys).map_err(|e| e.to_string()),
            Format::Compact if load.sketch == SketchName::default() => {
                self.compact_count(keys).map_err(|e| e.to_string())
            }
            Format::Compact => self.named_count(keys, load),
        }
    }

    /// The list of the largest keys of all time of the sketch of a load, at most so many.
    ///
    /// # Errors
    /// Fails, in words, if there is no answer, or the sketch has no lists.
    pub(crate) fn top(&self, sketch: &SketchName, most: usize) -> Result<Top, String> {
        let mut client = self.compact_client().map_err(|e| e.to_string())?;
        let mut sketch = client.sketch(sketch.as_str()).map_err(|e| e.to_string())?;
        let top = sketch.top(TopQuestion::first(most));
        top.map_err(|e| e.to_string())
    }

    fn named_count(&self, keys: &[Vec<u8>], load: &Load) -> Result<Vec<Count>, String> {
        let mut client = self.compact_client().map_err(|e| e.to_string())?;
        let mut sketch = client
            .sketch(load.sketch.as_str())
            .map_err(|e| e.to_string())?;
        let counts = keys.iter().map(|key| sketch.count(key));
        counts.collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    /// Why the server refuses the sketch or the window of a load, in words; `None` if it does not, or says nothing.
    pub(crate) fn refusal(&self, load: &Load) -> Option<String> {
        let mut client = self.compact_client().ok()?;
        let mut sketch = client.sketch(load.sketch.as_str()).ok()?;
        let window = Window::bound(Duration::from_millis(load.mode.window_ms().unwrap_or(0)));
        match sketch.count_in(PROBE, window) {
            Err(error @ client::ClientError::Problem { .. }) => Some(error.to_string()),
            _ => None,
        }
    }

    /// Counts one datagram at a time: that fits any receive buffer, and a server that drops even that must be checked.
    fn legacy_count(&self, keys: &[Vec<u8>]) -> Result<Vec<Count>, ClientError> {
        let mut client = Client::connect(self.udp, ClientOptions::default())?;
        let mut counts = Vec::with_capacity(keys.len());
        for datagram in keys.chunks(COUNTS_A_DATAGRAM) {
            let estimates = client.count_many(datagram)?;
            counts.extend(estimates.into_iter().map(|estimate| Count {
                estimate,
                // A legacy answer does not tell this.
                incomplete: false,
            }));
        }
        Ok(counts)
    }

    fn compact_count(&self, keys: &[Vec<u8>]) -> Result<Vec<Count>, client::ClientError> {
        self.compact_client()?.count_many(keys)
    }

    fn compact_client(&self) -> Result<client::Client, client::ClientError> {
        client::Client::connect(self.udp, client::ClientOptions::default())
    }

    /// The boot of the server's present start, which adds that count exactly once have to name.
    ///
    /// # Errors
    /// Fails, in words, if there is no answer.
    pub(crate) fn boot(&self) -> Result<Boot, String> {
        let info = self.compact_client().and_then(|mut client| client.info());
        info.map(|info| info.boot).map_err(|e| e.to_string())
    }

    /// The largest weight that the server takes, if it tells.
    pub(crate) fn weight_max(&self) -> Option<u32> {
        let info = self.compact_client().and_then(|mut client| client.info());
        info.ok().map(|info| info.weight_max)
    }
}

/// The first of the server's addresses that answers.
fn probe(server: &str) -> Result<SocketAddr, ServerError> {
    let resolve = |source| ServerError::Resolve {
        server: server.to_owned(),
        source,
    };
    let addresses: Vec<SocketAddr> = server.to_socket_addrs().map_err(resolve)?.collect();
    if addresses.is_empty() {
        return Err(resolve(io::Error::other("the name has no address")));
    }
    let silent = |source| ServerError::Silent {
        server: server.to_owned(),
        source,
    };
    let mut client = Client::connect(&addresses[..], ClientOptions::default()).map_err(silent)?;
    client.count(PROBE).map_err(silent)?;
    Ok(client.server())
}
