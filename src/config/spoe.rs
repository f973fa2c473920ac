//! The option for HAProxy's offload protocol.

use clap::Args;

use super::resp::address;

/// A node's option for HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SpoeOptions {
    /// Where to serve HAProxy's offload protocol, SPOE, over TCP [default: nowhere]; beyond loopback it takes --allow
    #[arg(long, value_name = "HOST:PORT", env = "RMBD_SPOE", value_parser = address)]
    pub spoe: Option<String>,
}
