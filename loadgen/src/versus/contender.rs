//! Contenders: servers that are started if that is wanted, and connected to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rmbd_sketch::Geometry;

use super::adapter::Adapter;
use super::error::VersusError;
use super::memcached::Memcached;
use super::options::VersusOptions;
use super::ours::Ours;
use super::process::{Server, StartError, free_address};
use super::recipes::{addresses, memcached_arguments, redis_arguments};
use super::record::Score;
use super::redis::Redis;
use super::rival::{Rival, RivalKind};

/// Number of attempts to start a server, each at another port: another program may take a port first.
const START_TRIES: usize = 3;

/// A server with a connection to it.
pub(super) struct Contender<'a> {
    pub(super) adapter: Box<dyn Adapter + 'a>,
    address: SocketAddr,
    /// The process whose CPU time and memory can be read.
    pub(super) pid: Option<u32>,
    /// The server, if it was started here. It ends when dropped, after the connection.
    server: Option<Server>,
    /// The CPU that the server is pinned to.
    cpu: Option<usize>,
}

impl Contender<'_> {
    /// Writes the server's description into the score.
    pub(super) fn introduce(&self, score: &mut Score) {
        let server = self.server.as_ref();
        score.name = self.adapter.name();
        score.address = self.address.to_string();
        score.server_command = server.map(|server| server.command().to_owned());
        score.adds_as = self.adapter.adds_as();
        score.counts_as = self.adapter.counts_as();
        score.cpu = server.and(self.cpu);
    }
}

/// The way in which contenders are started.
pub(super) struct Starter<'a> {
    pub(super) options: &'a VersusOptions,
    /// This program, which runs our node.
    pub(super) program: &'a Path,
    pub(super) stop: &'a AtomicBool,
    pub(super) geometry: Geometry,
    /// The CPU that they are pinned to.
    pub(super) cpu: Option<usize>,
}

impl<'a> Starter<'a> {
    pub(super) fn start_ours(&self) -> Result<Contender<'a>, VersusError> {
        let (width, depth) = (self.geometry.width(), self.geometry.depth());
        let (width, depth) = (width.to_string(), depth.to_string());
        let words = [
            "node",
            "127.0.0.1:0",
            "--threads",
            "1",
            "--width",
            &width,
            "--depth",
            &depth,
        ];
        let arguments = words.map(str::to_owned);
        let mut server = Server::start(self.program, "", &arguments, self.cpu)?;
        let (address, http) = server.await_ready(addresses)?;
        let adapter = Ours::connect(address, http, self.options.format, self.stop)?;
        Ok(Contender {
            adapter: Box::new(adapter),
            address,
            pid: Some(server.pid()),
            server: Some(server),
            cpu: self.cpu,
        })
    }

    pub(super) fn start_theirs(&self) -> Result<Contender<'a>, VersusError> {
        if !self.options.start {
            return self.connect(self.options.rival.resolve()?, None);
        }
        let mut tries = 1;
        loop {
            match self.start_rival() {
                Err(StartError::Failed { .. }) if tries < START_TRIES => tries += 1,
                Err(error) => return Err(error.into()),
                Ok((server, address)) => return self.connect(address, Some(server)),
            }
        }
    }

    fn start_rival(&self) -> Result<(Server, SocketAddr), StartError> {
        let Rival { kind, .. } = self.options.rival;
        let address = free_address().map_err(|source| StartError::System {
            program: "a server on a free port".to_owned(),
            source,
        })?;
        // Debian's packages have the names of their programs.
        let (package, arguments) = match kind {
            RivalKind::Redis => ("redis-server", redis_arguments(address)),
            RivalKind::Memcached => ("memcached", memcached_arguments(address)),
        };
        let program = self.options.server_program.clone();
        let program = program.unwrap_or_else(|| PathBuf::from(package));
        let arguments: Vec<_> = arguments
            .into_iter()
            .chain(self.options.server_arg.iter().cloned())
            .collect();
        let mut server = Server::start(&program, package, &arguments, self.cpu)?;
        server.await_ready(|_| {
            let ready = match kind {
                RivalKind::Redis => Redis::is_ready(address),
                RivalKind::Memcached => Memcached::is_ready(address),
            };
            ready.then_some(())
        })?;
        Ok((server, address))
    }

    fn connect(
        &self,
        address: SocketAddr,
        server: Option<Server>,
    ) -> Result<Contender<'a>, VersusError> {
        let sketch = self.options.cms.then_some(self.geometry);
        let (adapter, said): (Box<dyn Adapter + 'a>, _) = match self.options.rival.kind {
            RivalKind::Redis => {
                let redis = Redis::connect(address, sketch, self.stop)?;
                let pid = redis.pid;
                (Box::new(redis), pid)
            }
            RivalKind::Memcached => {
                let memcached = Memcached::connect(address, self.stop)?;
                let pid = memcached.pid;
                (Box::new(memcached), pid)
            }
        };
        // The process id of a server elsewhere does not belong to this machine.
        let said = said.filter(|_| address.ip().is_loopback());
        Ok(Contender {
            adapter,
            address,
            pid: server.as_ref().map(Server::pid).or(said),
            server,
            cpu: self.cpu,
        })
    }
}
