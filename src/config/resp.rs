//! The part of a configuration for clients of Redis's protocol ([`RespConfig`]), and the options that it comes from.

use std::path::PathBuf;

use clap::Args;
use thiserror::Error;

use super::span::{self, SpanError};
use super::{AddressError, ConfigError, HostPort, number};

/// Default number of connections.
pub const DEFAULT_RESP_CONNECTIONS: usize = 1_024;
/// Default milliseconds for which a connection may be silent. Pools of clients hold connections for minutes.
pub const DEFAULT_RESP_IDLE_MS: u64 = 3_600_000;

/// Largest number of connections: more than a process may usually have open files.
const RESP_CONNECTIONS_MAX: u64 = 65_536;
/// Milliseconds for which a connection may be silent. Less would close those that only wait.
const RESP_IDLE_MS: std::ops::RangeInclusive<u64> = 1_000..=30 * 86_400_000;

/// The configuration of a node for clients of Redis's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RespConfig {
    /// The address as `HOST:PORT`; port 0 takes a free port. `None` is off.
    pub address: Option<String>,
    /// File whose first line is the password that clients have to show.
    pub password_file: Option<PathBuf>,
    /// Largest number of connections of all threads together, at least 1.
    pub connections: usize,
    /// Milliseconds for which a connection may be silent, 1000 to 2 592 000 000 (30 days); 0 is for ever.
    pub idle_ms: u64,
}

impl Default for RespConfig {
    fn default() -> Self {
        Self {
            address: None,
            password_file: None,
            connections: DEFAULT_RESP_CONNECTIONS,
            idle_ms: DEFAULT_RESP_IDLE_MS,
        }
    }
}

impl RespConfig {
    /// The default for clients that connect to this address.
    #[must_use]
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: Some(address.into()),
            ..Self::default()
        }
    }

    pub(super) fn from_options(options: RespOptions) -> Result<Self, ConfigError> {
        if options.resp.is_none() && options.resp_password_file.is_some() {
            return Err(ConfigError::PasswordWithoutResp);
        }
        Ok(Self {
            address: options.resp,
            password_file: options.resp_password_file,
            connections: options.resp_connections,
            idle_ms: options.resp_idle_ms,
        })
    }
}

/// A node's options for clients of Redis's protocol.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RespOptions {
    /// Where to serve clients of Redis's protocol, RESP, over TCP [default: nowhere]; beyond loopback it takes
    /// --resp-password-file or --allow
    #[arg(long, value_name = "HOST:PORT", env = "RMBD_RESP", value_parser = address)]
    pub resp: Option<String>,

    /// File whose first line is the password that these clients have to show
    #[arg(long, value_name = "FILE", env = "RMBD_RESP_PASSWORD_FILE")]
    pub resp_password_file: Option<PathBuf>,

    /// Connections of these clients at most, on all threads together; each takes 12 KiB, and more while it is busy
    #[arg(
        long, value_name = "N", env = "RMBD_RESP_CONNECTIONS", default_value_t = DEFAULT_RESP_CONNECTIONS,
        value_parser = number::whole::<usize>(1..=RESP_CONNECTIONS_MAX)
    )]
    pub resp_connections: usize,

    /// How long a connection of these clients may be silent before it is closed, such as 1h; 0 is for ever
    #[arg(
        long = "resp-idle", value_name = "TIME", env = "RMBD_RESP_IDLE", default_value = "1h",
        value_parser = idle
    )]
    pub resp_idle_ms: u64,
}

pub(super) fn address(text: &str) -> Result<String, AddressError> {
    text.parse::<HostPort>().map(|_| text.to_owned())
}

/// Parses the time for which a connection may be silent to milliseconds.
fn idle(text: &str) -> Result<u64, IdleError> {
    let ms = match text {
        "0" => 0,
        text => span::parse(text)?,
    };
    let is_possible = ms == 0 || RESP_IDLE_MS.contains(&ms);
    is_possible.then_some(ms).ok_or(IdleError::Range)
}

#[derive(Debug, Error)]
enum IdleError {
    #[error(transparent)]
    Span(#[from] SpanError),
    #[error("a connection may be silent for 1s to 30d, or for ever with 0")]
    Range,
}
