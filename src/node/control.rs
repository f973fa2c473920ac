//! The control thread: rare messages, rounds to legacy peers, HTTP, signals. Nothing that it waits
//! for (names, slow HTTP clients) holds up a data thread.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::hand_off::Parcel;
use super::shared::{Legacy, Shared};
use super::{Ending, http};
use crate::cluster::legacy::{Added, ROUND};
use crate::io::Backend;
use crate::replica::{MergeError, RowMerged};
use crate::wire::legacy::{self, Dialect, Message, PeerOrder, SyncRow};

/// Parcels taken before others get their turn on this thread.
const PARCELS_A_TURN: usize = 256;
/// Names looked up at once; a resolver may take half a minute for each.
const LOOKUPS_MAX: usize = 8;

/// What the control thread starts with.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) http: Option<TcpListener>,
    pub(super) endings: mpsc::UnboundedReceiver<Ending>,
    /// The same channel's other end, for signals.
    pub(super) ended: mpsc::UnboundedSender<Ending>,
    pub(super) handle_signals: bool,
}

/// Runs until an [`Ending`] comes, and returns it. The runtime is tokio-uring's where the data
/// threads have io_uring, and tokio's own elsewhere, since tokio-uring cannot do without.
///
/// No operation of tokio-uring's own is ever in flight when its runtime goes: sockets are tokio's.
pub(super) fn run(control: Control) -> std::io::Result<Ending> {
    match control.shared.backend() {
        Backend::Uring => tokio_uring::start(serve(control)),
        Backend::Mmsg => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            tokio::task::LocalSet::new().block_on(&runtime, serve(control))
        }
    }
}

async fn serve(control: Control) -> std::io::Result<Ending> {
    let Control {
        shared,
        http,
        mut endings,
        ended,
        handle_signals,
    } = control;
    if handle_signals {
        forward(signal(SignalKind::interrupt())?, "SIGINT", ended.clone());
        forward(signal(SignalKind::terminate())?, "SIGTERM", ended);
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let http = match http {
        Some(listener) => Some(tokio::task::spawn_local(http::serve(
            tokio::net::TcpListener::from_std(listener)?,
            Arc::clone(&shared) as Arc<dyn http::StatusSource>,
            async {
                let _ = stopped.await;
            },
        ))),
        None => None,
    };
    let ending = Rounds::new(shared).until(&mut endings).await;
    drop(stop);
    if let Some(http) = http {
        let _ = http.await;
    }
    Ok(ending)
}

fn forward(mut signal: Signal, name: &'static str, ended: mpsc::UnboundedSender<Ending>) {
    tokio::task::spawn_local(async move {
        if signal.recv().await.is_some() {
            let _ = ended.send(Ending::Signal(name));
        }
    });
}

/// The legacy protocol's part that is not the data threads'.
struct Rounds {
    shared: Arc<Shared>,
    /// The row being sent, kept for its memory.
    row: Vec<u32>,
    datagram: Vec<u8>,
    lookups: usize,
    found: mpsc::UnboundedSender<Lookup>,
    lookups_done: mpsc::UnboundedReceiver<Lookup>,
}

/// A `peer` order whose name has been looked up.
struct Lookup {
    from: SocketAddr,
    target: String,
    result: Result<SocketAddr, String>,
}

impl Rounds {
    fn new(shared: Arc<Shared>) -> Self {
        let (found, lookups_done) = mpsc::unbounded_channel();
        Self {
            shared,
            row: Vec::new(),
            datagram: Vec::new(),
            lookups: 0,
            found,
            lookups_done,
        }
    }

    async fn until(mut self, endings: &mut mpsc::UnboundedReceiver<Ending>) -> Ending {
        let shared = Arc::clone(&self.shared);
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ending = endings.recv() => return ending.unwrap_or(Ending::Asked),
                () = shared.hand_off().arrived() => self.take_parcels().await,
                Some(lookup) = self.lookups_done.recv() => {
                    self.lookups -= 1;
                    self.note_order(lookup);
                }
                _ = rounds.tick() => self.round(),
            }
        }
    }

    async fn take_parcels(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut taken = 0;
        while let Some(parcel) = shared.hand_off().take() {
            self.take(&parcel);
            shared.hand_off().put_back(parcel);
            taken += 1;
            if taken % PARCELS_A_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(&mut self, parcel: &Parcel) {
        let from = parcel.from();
        // A data thread has understood it already, so there is one message, and no error.
        match legacy::messages(parcel.datagram(), self.shared.layout()).next() {
            Some(Ok(Message::Sync(row))) => self.merge(from, row),
            Some(Ok(Message::Peer(order))) => self.order(from, order),
            Some(Ok(Message::Ack)) => {
                let now = self.shared.now();
                let mut legacy = self.shared.legacy();
                if !legacy.pushes.ack(from, now) {
                    legacy.refuse("ack_of_nobody");
                }
            }
            _ => {}
        }
    }

    fn merge(&mut self, from: SocketAddr, row: SyncRow<'_>) {
        let now = self.shared.now();
        let mut legacy = self.shared.legacy();
        let merged = legacy
            .rows
            .merge(self.shared.replica(), from, row.row, row.counters());
        match merged {
            Ok(outcome) => legacy.note_row(from, outcome, now),
            Err(error) => return legacy.note_refused_row(from, &error),
        }
        drop(legacy);
        self.send(&legacy::ACK, from);
    }

    fn order(&mut self, from: SocketAddr, order: PeerOrder<'_>) {
        let target = format!("{}:{}", String::from_utf8_lossy(order.host), order.port);
        let result = match self.judge(order) {
            Ok(host_and_port) => return self.look_up(from, target, host_and_port),
            Err(reason) => Err(reason),
        };
        self.note_order(Lookup {
            from,
            target,
            result,
        });
    }

    /// What can be said of an order before its name is looked up.
    fn judge(&self, order: PeerOrder<'_>) -> Result<(String, u16), String> {
        let dialect = self.shared.layout().dialect;
        let (width, width_max) = (self.shared.layout().width, dialect.max_sync_width());
        if width > width_max {
            return Err(format!(
                "a row of {width} counters does not fit a datagram: legacy peers need a width of at \
                 most {width_max} (start both ends with --compat or a smaller -x)"
            ));
        }
        let host =
            std::str::from_utf8(order.host).map_err(|_| "the host is not UTF-8".to_owned())?;
        if host.is_empty() {
            return Err("the host is empty".to_owned());
        }
        let port = u16::try_from(order.port).ok().filter(|&port| port > 0);
        let port = port.ok_or_else(|| format!("{} is not a port (1 to 65535)", order.port))?;
        Ok((host.to_owned(), port))
    }

    /// Names are looked up on a thread of their own: a slow resolver holds up nothing else, and
    /// not the end of the process either.
    fn look_up(&mut self, from: SocketAddr, target: String, host_and_port: (String, u16)) {
        if self.lookups >= LOOKUPS_MAX {
            let result = Err(format!(
                "{LOOKUPS_MAX} names are being looked up already; try again"
            ));
            return self.note_order(Lookup {
                from,
                target,
                result,
            });
        }
        let (found, ours) = (self.found.clone(), self.shared.udp());
        let lookup = {
            let target = target.clone();
            move || {
                let result = resolve(&host_and_port, ours);
                let _ = found.send(Lookup {
                    from,
                    target,
                    result,
                });
            }
        };
        match std::thread::Builder::new()
            .name("rmbd-lookup".to_owned())
            .spawn(lookup)
        {
            Ok(_) => self.lookups += 1,
            Err(error) => {
                let result = Err(format!("no thread to look the name up: {error}"));
                self.note_order(Lookup {
                    from,
                    target,
                    result,
                });
            }
        }
    }

    fn note_order(&self, lookup: Lookup) {
        let Lookup {
            from,
            target,
            result,
        } = lookup;
        let mut legacy = self.shared.legacy();
        let result = result.and_then(|peer| {
            if is_ourselves(peer, self.shared.udp()) {
                return Err("that is this node's own address".to_owned());
            }
            if !self.shared.access().may_use(peer.ip()) {
                return Err("its acks would be refused: it is not on the --allow list".to_owned());
            }
            match legacy.pushes.add(peer) {
                Ok(Added::New) => Ok(format!("pushing to {peer} from now on")),
                Ok(Added::Known) => Ok(format!("pushing to {peer} already")),
                Err(error) => Err(error.to_string()),
            }
        });
        match &result {
            Ok(detail) => info!(%from, %target, "peer: {detail}"),
            Err(reason) => {
                legacy.refuse("peer_order");
                warn!(%from, %target, "peer refused: {reason}");
            }
        }
        let accepted = result.is_ok();
        legacy.orders.record(
            from,
            target,
            accepted,
            result.unwrap_or_else(|reason| reason),
        );
    }

    fn round(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut due = Vec::new();
        let silent = shared
            .legacy()
            .pushes
            .round(shared.now(), |to, row| due.push((row, to)));
        for peer in silent {
            info!(%peer, "no ack for too long; not pushing to it any more");
        }
        // By row: each is read and encoded once, however many peers get it.
        due.sort_unstable();
        let mut encoded = None;
        for (row, to) in due {
            if encoded != Some(row) {
                self.encode(row, shared.layout().dialect);
                encoded = Some(row);
            }
            self.send(&self.datagram, to);
        }
    }

    fn encode(&mut self, row: usize, dialect: Dialect) {
        self.shared.replica().read_own_row(row, &mut self.row);
        // The depth is far below 2^16.
        legacy::encode_sync(row as u16, &self.row, dialect, &mut self.datagram);
    }

    /// What the kernel does not take now is sent again with the next round.
    fn send(&self, datagram: &[u8], to: SocketAddr) {
        if let Some(thread) = self.shared.threads().first() {
            let _ = thread.socket.send_to(datagram, to);
        }
    }
}

impl Legacy {
    fn note_row(&mut self, from: SocketAddr, outcome: RowMerged, now: Duration) {
        let received = self.received.entry(from).or_default();
        if received.rows == 0 {
            info!(peer = %from, "first row of a legacy peer");
        }
        received.rows += 1;
        received.last_row = now;
        if outcome == RowMerged::Restarted {
            received.restarts += 1;
            info!(peer = %from, "a legacy peer restarted; what it had counted before stays");
        }
    }

    fn note_refused_row(&mut self, from: SocketAddr, error: &MergeError) {
        let reason = match error {
            MergeError::PeerTableFull { .. } => "peer_table_full",
            MergeError::Memory(_) => "no_memory_for_peer",
            MergeError::NoSuchRow { .. } | MergeError::Length { .. } => "row_of_another_geometry",
        };
        if !self.refused.contains_key(reason) {
            warn!(peer = %from, "{error} (said once; /status counts on)");
        }
        self.refuse(reason);
    }
}

/// The first address that our socket can send to; for a name, IPv4 before IPv6, as the Python
/// program has only that.
fn resolve((host, port): &(String, u16), ours: SocketAddr) -> Result<SocketAddr, String> {
    let addresses: Vec<SocketAddr> = (host.as_str(), *port)
        .to_socket_addrs()
        .map_err(|error| format!("{host} can't be resolved: {error}"))?
        .collect();
    let v4 = addresses.iter().find(|address| address.is_ipv4()).copied();
    let v6 = addresses.iter().find(|address| address.is_ipv6()).copied();
    let usable = match ours {
        SocketAddr::V4(_) => v4,
        SocketAddr::V6(ours) if ours.ip().is_unspecified() => v4.map(mapped).or(v6),
        SocketAddr::V6(_) => v6,
    };
    usable.ok_or_else(|| format!("{host} has no address that {ours} can send to"))
}

/// An IPv4 address as a dual-stack socket knows it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        v6 @ SocketAddr::V6(_) => v6,
    }
}

/// Our own port on one of our addresses. Which those are tells the kernel: only they can be bound.
fn is_ourselves(peer: SocketAddr, ours: SocketAddr) -> bool {
    if peer.port() != ours.port() {
        return false;
    }
    let (ip, our_ip) = (peer.ip().to_canonical(), ours.ip().to_canonical());
    ip == our_ip || (our_ip.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn targets_are_resolved_to_what_our_socket_can_send_to() {
        let of = |host: &str, ours: &str| resolve(&(host.to_owned(), 9), address(ours));
        assert_eq!(of("127.0.0.1", "127.0.0.1:1"), Ok(address("127.0.0.1:9")));
        assert_eq!(
            of("127.0.0.1", "[::]:1"),
            Ok(address("[::ffff:127.0.0.1]:9"))
        );
        assert_eq!(of("::1", "[::1]:1"), Ok(address("[::1]:9")));
        assert_eq!(of("localhost", "0.0.0.0:1"), Ok(address("127.0.0.1:9")));
        assert!(
            of("::1", "127.0.0.1:1")
                .unwrap_err()
                .contains("can send to")
        );
        assert!(
            of("no such host", "127.0.0.1:1")
                .unwrap_err()
                .contains("resolved")
        );
    }

    #[test]
    fn our_own_address_is_known_in_all_its_forms() {
        for (peer, ours, expected) in [
            ("127.0.0.1:8000", "127.0.0.1:8000", true),
            ("127.0.0.1:8001", "127.0.0.1:8000", false),
            ("127.0.0.2:8000", "127.0.0.1:8000", false),
            ("127.0.0.2:8000", "0.0.0.0:8000", true),
            ("192.0.2.7:8000", "0.0.0.0:8000", false),
            ("[::ffff:127.0.0.1]:8000", "[::]:8000", true),
            ("[::1]:8000", "[::]:8000", true),
        ] {
            assert_eq!(
                is_ourselves(address(peer), address(ours)),
                expected,
                "{peer} {ours}"
            );
        }
    }
}
