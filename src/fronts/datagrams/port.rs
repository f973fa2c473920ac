//! The client port, as all threads of a node share it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use super::hand_off::HandOff;
use crate::config::NodeConfig;
use crate::shared::{Access, AccessInForce, Asks, Shared};
use rmbd_io::DataSocket;
use rmbd_proto::legacy::{Dialect, Layout, MESSAGE_BYTES};

/// The longest `peer` message (native, port as `L`), the longest rare message but for rows.
const PEER_MESSAGE_BYTES_MAX: usize = MESSAGE_BYTES + 12;

/// Where clients send to. Data threads take what comes, and hand over what is rare; the control thread takes that, and
/// sends from the same address.
pub(crate) struct ClientPort {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Any of its sockets.
    sender: Option<Arc<DataSocket>>,
    access: AccessInForce,
    layout: Layout,
    rare: HandOff,
    /// Somebody was asked what they are, so that replies are to be expected.
    awaits_answers: AtomicBool,
    /// The UDP port where other nodes are heard, 0 where there is none.
    cluster_port: u16,
}

impl ClientPort {
    /// `socket` is one of the port's; a port without is for tests.
    pub(crate) fn new(
        config: &NodeConfig,
        shared: Arc<Shared>,
        socket: Option<&Arc<DataSocket>>,
        cluster_port: u16,
    ) -> Self {
        let layout = Layout {
            dialect: config.dialect,
            width: config.geometry.width(),
            depth: config.geometry.depth(),
        };
        let access = AccessInForce::default();
        Access::of(config).replace(&access);
        Self {
            shared,
            address: socket.map_or_else(|| ([0; 4], 0).into(), |socket| socket.local_addr()),
            sender: socket.cloned(),
            access,
            layout,
            rare: HandOff::new(rare_message_bytes(layout)),
            awaits_answers: AtomicBool::new(false),
            cluster_port,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Its real address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Who may do what. Data threads keep what they have seen of it; the questions below are for all others, who may
    /// wait for an instant.
    pub(crate) fn access(&self) -> &AccessInForce {
        &self.access
    }

    /// Whether this address may use it at all.
    pub(crate) fn may_use(&self, ip: IpAddr) -> bool {
        self.access.get().may_use(ip)
    }

    /// Whether this address may give orders, such as `peer` and `sync`.
    pub(crate) fn is_trusted(&self, ip: IpAddr) -> bool {
        self.access.get().is_trusted(ip)
    }

    /// Whether whoever asks from this address may see the names of keys.
    pub(crate) fn may_see_keys(&self, ip: IpAddr, asks: Asks) -> bool {
        self.access.get().may_see_keys(ip, asks)
    }

    /// The rare messages' way from the data threads to the control thread.
    pub(crate) fn rare(&self) -> &HandOff {
        &self.rare
    }

    pub(super) fn cluster_port(&self) -> u16 {
        self.cluster_port
    }

    /// Relaxed: a reply that comes before a data thread sees it is lost, and asked for again.
    pub(crate) fn await_answers(&self, await_them: bool) {
        self.awaits_answers.store(await_them, Relaxed);
    }

    pub(super) fn awaits_answers(&self) -> bool {
        self.awaits_answers.load(Relaxed)
    }

    /// Sends a datagram from the port. What the kernel does not take now is lost.
    pub(crate) fn send_to(&self, datagram: &[u8], to: SocketAddr) {
        if let Some(socket) = &self.sender {
            let _ = socket.send_to(datagram, to);
        }
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
