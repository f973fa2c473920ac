//! Clients of Redis's protocol, as a node serves them: a listener for each data thread, and places that all share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::bind::patiently;
use crate::config::{NodeConfig, RespConfig};
use crate::fronts::datagrams::ClientPort;
use crate::fronts::resp::{RespError, RespPort};
use crate::status::RespStatus;
use rmbd_io::{
    CONNECTION_BYTES, ConnectionPlaces, StreamListener, StreamOptions, Streams, bind_streams,
};
use rmbd_names::resolve;

/// How long a client may leave its replies unread.
const STALL: Duration = Duration::from_secs(30);
/// Bytes of the buffers of all connections of one data thread, beside what those have that say nothing. It is enough
/// for some thousand that send and are answered as usual, or for some tens of the largest commands at once.
const BUSY_BYTES_A_THREAD: usize = 64 << 20;
/// Bytes that a data thread has beside that: the words and the answers of commands, and buffers to receive into.
pub(super) const HEAP_BYTES_A_THREAD: usize = 2 << 20;

/// Bytes of the buffers of all connections of one data thread: all may be on the same one.
pub(super) fn buffers_bytes_a_thread(resp: &RespConfig) -> usize {
    resp.connections * CONNECTION_BYTES + BUSY_BYTES_A_THREAD
}

/// The bound listeners, one for each data thread.
pub(super) struct RespListeners(Vec<StreamListener>);

/// How clients are served.
pub(super) struct Resp {
    port: Arc<RespPort>,
    address: SocketAddr,
    listeners: Box<[Arc<StreamListener>]>,
    places: Arc<ConnectionPlaces>,
    options: StreamOptions,
    connections_max: usize,
}

impl RespListeners {
    /// Binds the address; `None` where it is off.
    pub(super) fn bind(config: &RespConfig, threads: usize) -> Result<Option<Self>, RespError> {
        let Some(address) = &config.address else {
            return Ok(None);
        };
        let address = resolve(address)?;
        let listeners = patiently(|| bind_streams(address, threads))?;
        Ok(Some(Self(listeners)))
    }
}

impl Resp {
    /// Whoever may use `port` may be a client.
    pub(super) fn new(
        config: &NodeConfig,
        RespListeners(listeners): RespListeners,
        port: &Arc<ClientPort>,
    ) -> Result<Self, RespError> {
        let address = listeners.first().map(StreamListener::local_addr);
        // There is at least one data thread.
        let address = address.unwrap_or_else(|| ([0; 4], 0).into());
        let RespConfig {
            connections,
            idle_ms,
            ..
        } = config.resp;
        Ok(Self {
            port: Arc::new(RespPort::new(config, address, Arc::clone(port))?),
            address,
            listeners: listeners.into_iter().map(Arc::new).collect(),
            places: Arc::new(ConnectionPlaces::new(connections)),
            options: StreamOptions {
                idle: (idle_ms > 0).then(|| Duration::from_millis(idle_ms)),
                stall: STALL,
                memory_bytes_max: buffers_bytes_a_thread(&config.resp),
            },
            connections_max: connections,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn port(&self) -> &Arc<RespPort> {
        &self.port
    }

    /// What one data thread serves.
    pub(super) fn streams(&self, thread: usize) -> Option<Streams> {
        Some(Streams {
            listener: Arc::clone(self.listeners.get(thread)?),
            places: Arc::clone(&self.places),
            options: self.options,
        })
    }

    /// The status, without what data threads count.
    pub(super) fn status(&self) -> RespStatus {
        RespStatus {
            address: Some(self.address.to_string()),
            connections: self.places.taken() as u64,
            connections_max: self.connections_max as u64,
            ..RespStatus::default()
        }
    }
}
