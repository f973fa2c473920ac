//! Envoy's rate limit service, as a node serves it: on the thread of HTTP, so that it delays neither data threads nor
//! replication.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use tracing::warn;

use super::bind::listen;
use super::overview::Overview;
use crate::config::{NodeConfig, span_text};
use crate::fronts::envoy::{EnvoyError, EnvoyFront};
use crate::fronts::http::StatusSource;
use crate::status::EnvoyStatus;
use rmbd_envoy::bounds::CONNECTIONS_MAX;
use rmbd_envoy::{Decide, Event, RateLimitRequest, RateLimitResponse, Undecided};
use rmbd_names::resolve;

/// Windows from this length on outlast many a restart, so that they want a folder.
const LONG_WINDOW_MS: u64 = 3_600_000;

/// How proxies are served.
pub(super) struct Envoy {
    front: Arc<EnvoyFront>,
    /// Its real address; `None` where only `POST /json` is answered.
    address: Option<SocketAddr>,
}

/// The front, as a listener asks it.
pub(super) struct EnvoyService {
    pub(super) front: Arc<EnvoyFront>,
    pub(super) overview: Arc<Overview>,
}

/// Binds the address; `None` where it is off.
///
/// # Errors
/// Fails if it cannot be looked up or bound, and if everybody could count there.
pub(super) fn bind(config: &NodeConfig) -> Result<Option<TcpListener>, EnvoyError> {
    let Some(address) = &config.envoy.address else {
        return Ok(None);
    };
    let address = resolve(address)?;
    if config.allow.is_empty() && !address.ip().to_canonical().is_loopback() {
        return Err(EnvoyError::Open(address));
    }
    let listener = listen(address).map_err(|source| EnvoyError::Bind { address, source })?;
    Ok(Some(listener))
}

/// Number of files for connections of proxies, and for the listener.
pub(super) fn files(config: &NodeConfig) -> u64 {
    match config.envoy.address {
        Some(_) => CONNECTIONS_MAX as u64 + 1,
        None => 0,
    }
}

/// Warns of windows that a restart would make forget, once at the start.
pub(super) fn warn_of_forgetting(config: &NodeConfig) {
    let units = config.envoy.rules.rules().units();
    let long = units.filter(|unit| unit.window_ms() >= LONG_WINDOW_MS);
    let long: Vec<_> = long.map(|unit| span_text(unit.window_ms())).collect();
    if !long.is_empty() && config.cluster.data_dir.is_none() {
        warn!(
            "rules of --limits count for {}, which a restart makes this node forget: keep it with --data-dir",
            long.join(", ")
        );
    }
}

impl Envoy {
    /// `address` is where its listener is bound to.
    pub(super) fn new(front: EnvoyFront, address: Option<SocketAddr>) -> Self {
        Self {
            front: Arc::new(front),
            address,
        }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    pub(super) fn front(&self) -> &Arc<EnvoyFront> {
        &self.front
    }

    /// The status, without what is counted in a tally.
    pub(super) fn status(&self) -> EnvoyStatus {
        EnvoyStatus {
            address: self.address.map(|address| address.to_string()),
            connections_max: self.address.map_or(0, |_| CONNECTIONS_MAX as u64),
            ..self.front.status()
        }
    }
}

impl Decide for EnvoyService {
    fn decide(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Undecided> {
        self.front.decide(request)
    }

    /// Whether the node is ready, as `/readyz` tells it.
    fn is_ready(&self) -> bool {
        self.front.is_ready() && self.overview.status().is_ready()
    }

    fn may_ask(&self, from: IpAddr) -> bool {
        self.front.may_ask(from)
    }

    fn note(&self, event: Event) {
        if event == Event::Panicked {
            self.overview.connection_panicked();
        }
        self.front.note(event);
    }
}
