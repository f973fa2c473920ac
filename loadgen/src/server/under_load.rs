//! The server under load.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use rmbd::config::NodeConfig;
use rmbd::node::{Node, NodeError};
use rmbd::status::Status;
use rmbd_client::legacy::{Client, ClientError, ClientOptions};
use rmbd_client::{self as client, Count};
use rmbd_proto::Boot;
use rmbd_proto::legacy::{MESSAGE_BYTES, REPLY_DATAGRAM_BYTES_MAX, encode_count};
use rmbd_udp::send_segments;
use thiserror::Error;
use ureq::Agent;

use super::cost::{CpuUse, ServerProcess};
use super::socket::connected_socket;
use super::status::{fetch_status, received, status_agent, status_url};
use crate::plan::Format;
use crate::record::Server;

/// How long to wait for the server to read what is in its buffers.
const SETTLE: Duration = Duration::from_secs(3);
/// How often to look, meanwhile.
const SETTLE_STEP: Duration = Duration::from_millis(20);
/// Looks without a change after which nothing more is expected.
const SETTLED_LOOKS: u32 = 10;
/// Counts that leave in one legacy datagram.
const COUNTS_A_DATAGRAM: usize = REPLY_DATAGRAM_BYTES_MAX / MESSAGE_BYTES;
/// A key that is counted to see whether somebody answers; it is never added.
const PROBE: &[u8] = b"loadgen: is anybody there?";

/// Why there is no server to send to. Nothing of the load was sent.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The address cannot be looked up.
    #[error("can't resolve {server}: {source}; give HOST:PORT with a name that this machine knows")]
    Resolve {
        /// As it was given.
        server: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No answer.
    #[error(
        "no rmbd at {server}: {source}. Start one (`rmbd {server}`), or leave out --server to test a node inside this program"
    )]
    Silent {
        /// As it was given.
        server: String,
        /// What the client said.
        source: ClientError,
    },
    /// HTTP that was asked for does not answer.
    #[error(
        "no status from {url}: {detail}; give the server's HTTP address with --http HOST:PORT, or --http off"
    )]
    Status {
        /// Where.
        url: String,
        /// Why.
        detail: String,
    },
    /// A node inside that does not start.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Where the server's HTTP is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HttpAt {
    /// At the server's own address, if at all.
    #[default]
    SameAsUdp,
    /// Nowhere.
    Off,
    /// At another `HOST:PORT`.
    At(String),
}

/// A server.
#[derive(Debug)]
pub struct ServerUnderLoad {
    name: String,
    udp: SocketAddr,
    /// URL of `/status`.
    status_url: Option<String>,
    agent: Agent,
    node: Option<Node>,
    process: Option<ServerProcess>,
}

impl ServerUnderLoad {
    /// Starts a node inside this process.
    ///
    /// # Errors
    /// [`ServerError::Node`].
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

    /// A server elsewhere that answers counts. `pid` is its process, where it runs on this machine
    /// and is not found.
    ///
    /// # Errors
    /// [`ServerError`]: nobody there, or no HTTP although it was named.
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
            // The address that answered: of many nodes with one name, the same one.
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

    /// Whether it is on this machine, and its process is known.
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_some()
    }

    /// The CPU time that it has used so far, where that can be read. `status` is what it has just said of itself.
    pub(crate) fn cpu_use(&self, status: Option<&Status>) -> Option<CpuUse> {
        CpuUse::so_far(self.process?, status)
    }

    /// Most memory that it ever had in use.
    pub(crate) fn peak_memory_bytes(&self) -> Option<u64> {
        self.process?.peak_memory_bytes()
    }

    /// Whether it can be asked for its counters.
    #[must_use]
    pub(crate) fn has_status(&self) -> bool {
        self.status_url.is_some()
    }

    /// What it says of itself, over HTTP.
    ///
    /// # Errors
    /// Why there is nothing, in words.
    pub fn status(&self) -> Result<Status, String> {
        let url = self.status_url.as_deref().ok_or("HTTP is off")?;
        fetch_status(&self.agent, url).map_err(|error| error.to_string())
    }

    /// Waits until the server has read what was sent: until it has `datagrams` more than in
    /// `before`, and in N the `weight` of each message that adds, or nothing changes any more.
    pub(crate) fn settle(
        &self,
        before: &Status,
        datagrams: u64,
        weight: u32,
    ) -> Result<Status, String> {
        let has_it_all = |latest: &Status| {
            let received = received(before, latest);
            let weight = received.adding() * u64::from(weight);
            received.datagrams >= datagrams && received.weight >= Some(weight)
        };
        let deadline = Instant::now() + SETTLE;
        let mut latest = self.status()?;
        let mut looks_alike = 0;
        while !has_it_all(&latest) && looks_alike < SETTLED_LOOKS && Instant::now() < deadline {
            thread::sleep(SETTLE_STEP);
            let now = self.status()?;
            let alike = now.datagrams == latest.datagrams
                && now.sketch.total_weight == latest.sketch.total_weight;
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
            // So that it is read before anything is counted; an answer is not needed.
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            let _ = socket.recv(&mut [0; 2048]);
            io::Result::Ok(())
        };
        try_it().is_ok()
    }

    /// For the record: what it is before the run.
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

    /// Asks for estimates in a format; whether each rests on full cells, too.
    ///
    /// # Errors
    /// No socket or no answer, in words.
    pub(crate) fn count(&self, keys: &[Vec<u8>], format: Format) -> Result<Vec<Count>, String> {
        match format {
            Format::Legacy => self.legacy_count(keys).map_err(|e| e.to_string()),
            Format::Compact => self.compact_count(keys).map_err(|e| e.to_string()),
        }
    }

    /// A datagram at a time: that fits any receive buffer, and a server that drops what it can't
    /// take is one that needs to be checked.
    fn legacy_count(&self, keys: &[Vec<u8>]) -> Result<Vec<Count>, ClientError> {
        let mut client = Client::connect(self.udp, ClientOptions::default())?;
        let mut counts = Vec::with_capacity(keys.len());
        for datagram in keys.chunks(COUNTS_A_DATAGRAM) {
            let estimates = client.count_many(datagram)?;
            counts.extend(estimates.into_iter().map(|estimate| Count {
                estimate,
                // An answer does not say it.
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

    /// The random number of its present start, which adds that count exactly once have to name.
    ///
    /// # Errors
    /// No answer, in words.
    pub(crate) fn boot(&self) -> Result<Boot, String> {
        let info = self.compact_client().and_then(|mut client| client.info());
        info.map(|info| info.boot).map_err(|e| e.to_string())
    }

    /// The largest weight that it takes, where it says so.
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
