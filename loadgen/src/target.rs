//! The server under load: inside this process or elsewhere; what it says of itself.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rmbd::client::legacy::{Client, ClientError, ClientOptions};
use rmbd::client::{self, Count};
use rmbd::config::NodeConfig;
use rmbd::io::send_segments;
use rmbd::node::{Node, NodeError};
use rmbd::status::{Datagrams, Status};
use rmbd::wire::Boot;
use rmbd::wire::compact::Problem;
use rmbd::wire::legacy::{MESSAGE_BYTES, encode_count};
use thiserror::Error;
use ureq::Agent;
use ureq::http::header::HOST;

use crate::cost::ServerProcess;
use crate::format::Format;
use crate::record::{Received, Server};

/// Code of a node that is asked by a name which is none of its own.
const MISDIRECTED: u16 = 421;
/// How long HTTP may take: a stopped server must not stop us.
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for the server to read what is in its buffers.
const SETTLE: Duration = Duration::from_secs(3);
/// How often to look, meanwhile.
const SETTLE_STEP: Duration = Duration::from_millis(20);
/// Looks without a change after which nothing more is expected.
const SETTLED_LOOKS: u32 = 10;
/// Counts that leave in one legacy datagram.
const COUNTS_A_DATAGRAM: usize = 9;
/// A key that is counted to see whether somebody answers; it is never added.
const PROBE: &[u8] = b"loadgen: is anybody there?";

/// Why there is no server to send to. Nothing of the load was sent.
#[derive(Debug, Error)]
pub enum TargetError {
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
pub struct Target {
    name: String,
    udp: SocketAddr,
    /// URL of `/status`.
    status_url: Option<String>,
    agent: Agent,
    node: Option<Node>,
    process: Option<ServerProcess>,
}

impl Target {
    /// Starts a node inside this process.
    ///
    /// # Errors
    /// [`TargetError::Node`].
    pub fn inside(config: NodeConfig) -> Result<Self, TargetError> {
        let node = Node::start(config)?;
        Ok(Self {
            name: node.udp_addr().to_string(),
            udp: node.udp_addr(),
            status_url: node.http_addr().map(|http| status_url(&http.to_string())),
            agent: agent(),
            process: Some(ServerProcess::Inside),
            node: Some(node),
        })
    }

    /// A server elsewhere that answers counts. `pid` is its process, where it runs on this machine
    /// and is not found.
    ///
    /// # Errors
    /// [`TargetError`]: nobody there, or no HTTP although it was named.
    pub fn at(server: &str, http: &HttpAt, pid: Option<u32>) -> Result<Self, TargetError> {
        let udp = probe(server)?;
        let mut target = Self {
            name: server.to_owned(),
            udp,
            status_url: None,
            agent: agent(),
            node: None,
            process: pid
                .map(ServerProcess::Pid)
                .or_else(|| ServerProcess::find(udp)),
        };
        let url = match http {
            HttpAt::Off => return Ok(target),
            // The address that answered: of many nodes with one name, the same one.
            HttpAt::SameAsUdp => status_url(&udp.to_string()),
            HttpAt::At(address) => status_url(address),
        };
        target.status_url = Some(url.clone());
        match (target.status(), http) {
            (Err(detail), HttpAt::At(_)) => return Err(TargetError::Status { url, detail }),
            (Err(_), _) => target.status_url = None,
            (Ok(_), _) => {}
        }
        Ok(target)
    }

    /// Address that the load goes to.
    #[must_use]
    pub fn udp(&self) -> SocketAddr {
        self.udp
    }

    /// Whether the node is in this process.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.node.is_some()
    }

    /// Its process, where it is known.
    #[must_use]
    pub fn process(&self) -> Option<ServerProcess> {
        self.process
    }

    /// Whether it can be asked for its counters.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.status_url.is_some()
    }

    /// What it says of itself, over HTTP.
    ///
    /// # Errors
    /// Why there is nothing, in words.
    pub fn status(&self) -> Result<Status, String> {
        let url = self.status_url.as_deref().ok_or("HTTP is off")?;
        let ask = |host: Option<&str>| {
            let request = self.agent.get(url);
            match host {
                Some(host) => request.header(HOST, host).call(),
                None => request.call(),
            }
        };
        // Names that it does not know are refused, since browsers may be led astray by them. A browser cannot say this.
        let answer = match ask(None) {
            Err(ureq::Error::StatusCode(MISDIRECTED)) => ask(Some("localhost")),
            answer => answer,
        };
        let mut answer = answer.map_err(|e| e.to_string())?;
        let text = answer
            .body_mut()
            .read_to_string()
            .map_err(|e| e.to_string())?;
        serde_json::from_str(&text).map_err(|e| format!("not the status of an rmbd: {e}"))
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
    pub fn takes_trains(&self) -> bool {
        let any: SocketAddr = match self.udp {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let try_it = || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(self.udp)?;
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
    pub fn describe(&self, status: Option<&Status>) -> Server {
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

fn status_url(address: &str) -> String {
    format!("http://{address}/status")
}

fn agent() -> Agent {
    Agent::config_builder()
        .timeout_global(Some(HTTP_TIMEOUT))
        .build()
        .into()
}

/// The first of the server's addresses that answers.
fn probe(server: &str) -> Result<SocketAddr, TargetError> {
    let resolve = |source| TargetError::Resolve {
        server: server.to_owned(),
        source,
    };
    let addresses: Vec<SocketAddr> = server.to_socket_addrs().map_err(resolve)?.collect();
    if addresses.is_empty() {
        return Err(resolve(io::Error::other("the name has no address")));
    }
    let silent = |source| TargetError::Silent {
        server: server.to_owned(),
        source,
    };
    let mut client = Client::connect(&addresses[..], ClientOptions::default()).map_err(silent)?;
    client.count(PROBE).map_err(silent)?;
    Ok(client.server())
}

/// What the server received between two looks.
pub(crate) fn received(before: &Status, after: &Status) -> Received {
    let too_old = |datagrams: &Datagrams| {
        let reason = Problem::SequenceTooOld.name();
        datagrams.refused.get(reason).copied().unwrap_or_default()
    };
    let (b, a) = (&before.datagrams, &after.datagrams);
    let (was, is) = (&before.messages, &after.messages);
    Received {
        adds: is.add.saturating_sub(was.add),
        counts: is.count.saturating_sub(was.count),
        hits: is.hit.saturating_sub(was.hit),
        weight: Some((after.sketch.total_weight).saturating_sub(before.sketch.total_weight)),
        datagrams: a.received.saturating_sub(b.received),
        dropped_by_kernel: a.dropped_by_kernel.saturating_sub(b.dropped_by_kernel),
        malformed: sum(&a.malformed).saturating_sub(sum(&b.malformed)),
        refused: refused(&a.refused).saturating_sub(refused(&b.refused)),
        too_old: too_old(a).saturating_sub(too_old(b)),
        replies_dropped: after.replies.dropped.saturating_sub(before.replies.dropped),
    }
}

fn sum(by_reason: &BTreeMap<String, u64>) -> u64 {
    by_reason.values().sum()
}

/// Datagrams that were not wanted. First contact of clients that count exactly once is refused by design, and so is
/// what a node is too busy for: both come again, and where the second does not, weight is found to be missing.
fn refused(by_reason: &BTreeMap<String, u64>) -> u64 {
    let comes_again = [Problem::AddressUnproven, Problem::Busy];
    let comes_again = comes_again.map(|problem| by_reason.get(problem.name()).copied());
    let comes_again = comes_again.into_iter().flatten().sum();
    sum(by_reason).saturating_sub(comes_again)
}

/// Whether the server was started again between two looks that are `apart`.
pub(crate) fn has_restarted(before: &Status, after: &Status, apart: Duration) -> bool {
    before.compact.boot != after.compact.boot
        || after.uptime_s + 0.5 < before.uptime_s + apart.as_secs_f64()
        || after.datagrams.received < before.datagrams.received
}
