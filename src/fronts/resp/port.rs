//! The port, as all threads of a node share it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::client::Client;
use super::password::{Password, RespError};
use crate::config::NodeConfig;
use crate::fronts::datagrams::ClientPort;
use crate::shared::{AccessInForce, Shared};
use rmbd_store::{NamedSketch, SketchIndex};

/// Where clients of Redis's protocol connect to.
pub(crate) struct RespPort {
    port: Arc<ClientPort>,
    password: Option<Password>,
    /// Number of clients that there were.
    clients: AtomicU64,
}

impl RespPort {
    /// The port at a bound address. Whoever may use the other `port` may use this one.
    ///
    /// # Errors
    /// [`RespError`]: everybody could use it, or there is no password where there should be one.
    pub(crate) fn new(
        config: &NodeConfig,
        bound: SocketAddr,
        port: Arc<ClientPort>,
    ) -> Result<Self, RespError> {
        let password = config.resp.password_file.as_deref();
        let password = password.map(Password::read).transpose()?;
        let is_open = password.is_none() && config.allow.is_empty();
        if is_open && !bound.ip().to_canonical().is_loopback() {
            return Err(RespError::Open(bound));
        }
        Ok(Self {
            password,
            port,
            clients: AtomicU64::new(0),
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.port.shared()
    }

    /// Who may do what.
    pub(super) fn access(&self) -> &AccessInForce {
        self.port.access()
    }

    /// A client that has said nothing yet.
    pub(super) fn new_client(&self, from: IpAddr) -> Client {
        let id = 1 + self.clients.fetch_add(1, Relaxed);
        Client::new(id, from, self.password.is_none())
    }

    /// The password, if there is one.
    pub(super) fn password(&self) -> Option<&Password> {
        self.password.as_ref()
    }

    /// The sketch of this name.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Option<SketchIndex> {
        self.shared().engine().registry().by_name(name)
    }

    /// A sketch.
    pub(super) fn sketch(&self, index: SketchIndex) -> &NamedSketch {
        self.shared().engine().registry().named(index)
    }

    /// Number of sketches.
    pub(super) fn sketches(&self) -> usize {
        self.shared().engine().registry().sketches().len()
    }
}
