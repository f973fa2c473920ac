//! HAProxy, as a node serves it: one listener, on the thread of HTTP.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::bind::listen;
use crate::config::NodeConfig;
use crate::fronts::datagrams::ClientPort;
use crate::fronts::spoe::Agent;
use rmbd_names::{Unresolved, resolve};

/// Why a node cannot serve HAProxy as it was told to. It has not started.
#[derive(Debug, thiserror::Error)]
pub enum SpoeError {
    /// The address cannot be looked up.
    #[error("--spoe: {0}")]
    Resolve(#[from] Unresolved),
    /// The address cannot be bound.
    #[error(
        "can't serve HAProxy on {address} over TCP: {source}; choose another with --spoe HOST:PORT, or leave it out"
    )]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Everybody could reach the address and count.
    #[error(
        "--spoe {0} is not loopback, so that anybody may count there: name those who may with --allow ADDRESS/BITS"
    )]
    Open(SocketAddr),
}

/// The bound listener.
pub(super) struct SpoeListener(TcpListener, SocketAddr);

impl SpoeListener {
    /// Binds the address; `None` where it is off.
    pub(super) fn bind(config: &NodeConfig) -> Result<Option<Self>, SpoeError> {
        let Some(address) = &config.spoe else {
            return Ok(None);
        };
        let address = resolve(address)?;
        let bound = listen(address).and_then(|it| it.local_addr().map(|bound| Self(it, bound)));
        let listener = bound.map_err(|source| SpoeError::Bind { address, source })?;
        if config.allow.is_empty() && !listener.1.ip().to_canonical().is_loopback() {
            return Err(SpoeError::Open(listener.1));
        }
        Ok(Some(listener))
    }

    /// What serves it: whoever may use `port` may ask.
    pub(super) fn serve_by(self, port: &Arc<ClientPort>) -> (TcpListener, Arc<Agent>) {
        (self.0, Arc::new(Agent::new(Arc::clone(port), self.1)))
    }
}
