//! The options that name a server.

use clap::Args;
use rmbd::config::{IoChoice, NodeConfig};
use rmbd_io::cpu;
use rmbd_sketch::{Geometry, GeometryError};
use thiserror::Error;

use super::under_load::{HttpAt, ServerError, ServerUnderLoad};

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Server to send to; without it a node is started inside this program
    #[arg(long, value_name = "HOST:PORT", help_heading = "Server")]
    pub server: Option<String>,
    /// HTTP address of the server, or off; without it the server's own address
    #[arg(long, value_name = "HOST:PORT", requires = "server", value_parser = http_at, help_heading = "Server")]
    pub http: Option<HttpAt>,
    /// Process of the server, for its CPU and memory, where it is not found by its port
    #[arg(long, requires = "server", help_heading = "Server")]
    pub pid: Option<u32>,
    /// Columns of the sketch of the node inside
    #[arg(long, conflicts_with = "server", default_value_t = Geometry::DEFAULT.width() as u64, help_heading = "Server")]
    pub node_width: u64,
    /// Rows of the sketch of the node inside
    #[arg(long, conflicts_with = "server", default_value_t = Geometry::DEFAULT.depth() as u64, help_heading = "Server")]
    pub node_depth: u64,
    /// Data threads of the node inside; without it one for every two CPUs
    #[arg(long, conflicts_with = "server", help_heading = "Server")]
    pub node_threads: Option<usize>,
    /// Packet path of the node inside: auto, uring or mmsg
    #[arg(long, conflicts_with = "server", default_value_t = IoChoice::Auto, help_heading = "Server")]
    pub node_io: IoChoice,
    /// Microseconds that the data threads of the node inside spin before they sleep
    #[arg(
        long,
        conflicts_with = "server",
        default_value_t = 0,
        help_heading = "Server"
    )]
    pub node_busy_poll_us: u32,
}

/// The error for a named server that is not available.
#[derive(Debug, Error)]
pub(crate) enum NoServer {
    /// The server does not answer, or does not start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The sketch's size is not possible.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
}

impl ServerArgs {
    /// Finds or starts the server.
    ///
    /// # Errors
    /// Fails with [`NoServer`].
    pub(crate) fn find(&self) -> Result<ServerUnderLoad, NoServer> {
        if let Some(server) = &self.server {
            let http = self.http.clone().unwrap_or_default();
            return Ok(ServerUnderLoad::at(server, &http, self.pid)?);
        }
        let threads = self.node_threads.unwrap_or_else(default_node_threads);
        Ok(ServerUnderLoad::inside(NodeConfig {
            geometry: Geometry::new(self.node_width, self.node_depth)?,
            threads: Some(threads),
            io: self.node_io,
            busy_poll_us: self.node_busy_poll_us,
            ..NodeConfig::at("127.0.0.1:0")
        })?)
    }
}

/// Default number of data threads of a node inside: half of the CPUs, at least one. The other half is the
/// generator's.
fn default_node_threads() -> usize {
    (cpu::allowed().len() / 2).max(1)
}

fn http_at(text: &str) -> Result<HttpAt, &'static str> {
    match text {
        "off" => Ok(HttpAt::Off),
        address if address.contains(':') => Ok(HttpAt::At(address.to_owned())),
        _ => Err("neither HOST:PORT nor off"),
    }
}
