//! The options that name a server.

use clap::Args;
use rmbd::config::{IoChoice, NodeConfig};
use rmbd_io::cpu;
use rmbd_sketch::{Geometry, GeometryError};
use thiserror::Error;

use super::under_load::{HttpAt, ServerError, ServerUnderLoad};

/// Largest number of servers of a load. Each has a socket of each thread.
const SERVERS_MAX: usize = 256;

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Server to send to, again for each node of a cluster, which get equal shares; without it a node is started
    /// inside this program
    #[arg(long, value_name = "HOST:PORT", help_heading = "Server")]
    pub server: Vec<String>,
    /// HTTP address of the server, or off; again for each server in their order, or off once for all. Without it the
    /// server's own address
    #[arg(long, value_name = "HOST:PORT", requires = "server", value_parser = http_at, help_heading = "Server")]
    pub http: Vec<HttpAt>,
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
    /// HTTP addresses are not given for all servers.
    #[error("{http} times --http for {servers} servers: give one for each, or off once for all")]
    HttpOfEach {
        /// Number of HTTP addresses.
        http: usize,
        /// Number of servers.
        servers: usize,
    },
    /// A process is named, and there are several servers.
    #[error(
        "--pid is for one server: leave it out, processes on this machine are found by their ports"
    )]
    PidOfSeveral,
    /// There are more servers than a load is spread over.
    #[error("{0} servers are too many: use at most {SERVERS_MAX}")]
    TooMany(usize),
    /// The sketch's size is not possible.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
}

impl ServerArgs {
    /// Finds the servers, or starts one.
    ///
    /// # Errors
    /// Fails with [`NoServer`].
    pub(crate) fn find(&self) -> Result<Vec<ServerUnderLoad>, NoServer> {
        match self.server.len() {
            0 => Ok(vec![self.start()?]),
            servers if servers > SERVERS_MAX => Err(NoServer::TooMany(servers)),
            2.. if self.pid.is_some() => Err(NoServer::PidOfSeveral),
            servers => {
                let places = (0..servers).map(|place| Ok((place, self.http_of(place)?)));
                let places = places.collect::<Result<Vec<_>, NoServer>>()?;
                let found = places.into_iter().map(|(place, http)| {
                    Ok(ServerUnderLoad::at(&self.server[place], &http, self.pid)?)
                });
                found.collect()
            }
        }
    }

    fn http_of(&self, place: usize) -> Result<HttpAt, NoServer> {
        match &self.http[..] {
            [] => Ok(HttpAt::default()),
            [HttpAt::Off] => Ok(HttpAt::Off),
            each if each.len() == self.server.len() => Ok(each[place].clone()),
            each => Err(NoServer::HttpOfEach {
                http: each.len(),
                servers: self.server.len(),
            }),
        }
    }

    fn start(&self) -> Result<ServerUnderLoad, NoServer> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        server: ServerArgs,
    }

    fn args(line: &str) -> ServerArgs {
        let words = std::iter::once("loadgen").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().server
    }

    #[test]
    fn each_server_has_its_http_address_or_all_have_none() {
        let of_second = |line: &str| args(line).http_of(1);
        let two = "--server a:1 --server b:1";
        assert_eq!(of_second(two).unwrap(), HttpAt::SameAsUdp);
        assert_eq!(
            of_second(&format!("{two} --http off")).unwrap(),
            HttpAt::Off
        );
        let both = format!("{two} --http a:2 --http b:2");
        assert_eq!(of_second(&both).unwrap(), HttpAt::At("b:2".to_owned()));
        for wrong in ["--http a:2", "--http a:2 --http b:2 --http c:2"] {
            let refused = of_second(&format!("{two} {wrong}")).unwrap_err();
            assert!(
                matches!(refused, NoServer::HttpOfEach { servers: 2, .. }),
                "{refused}"
            );
        }
    }

    #[test]
    fn what_belongs_to_one_server_and_too_many_are_refused_before_any_is_asked() {
        let two = args("--server a:1 --server b:1 --pid 5").find();
        assert!(matches!(two, Err(NoServer::PidOfSeveral)), "{two:?}");
        let many = args(&"--server a:1 ".repeat(SERVERS_MAX + 1)).find();
        assert!(matches!(many, Err(NoServer::TooMany(257))), "{many:?}");
    }
}
