//! The servers of a load: one, or the nodes of a cluster.

use std::net::SocketAddr;

use rmbd::status::Status;

use super::status::received;
use super::under_load::ServerUnderLoad;
use crate::plan::Load;
use crate::record::{Received, Sent, Server};

/// The servers that a load is spread over, at least one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers<'a>(&'a [ServerUnderLoad]);

impl<'a> Servers<'a> {
    pub(crate) fn new(servers: &'a [ServerUnderLoad]) -> Self {
        assert!(!servers.is_empty(), "a load goes to a server");
        Self(servers)
    }

    pub(crate) fn first(self) -> &'a ServerUnderLoad {
        &self.0[0]
    }

    /// The server, if it is only one.
    pub(crate) fn only(self) -> Option<&'a ServerUnderLoad> {
        match self.0 {
            [only] => Some(only),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a ServerUnderLoad> {
        self.0.iter()
    }

    pub(crate) fn addresses(self) -> Vec<SocketAddr> {
        self.iter().map(ServerUnderLoad::udp).collect()
    }

    /// Whether all servers are on this machine, and their processes are known.
    pub(crate) fn are_here(self) -> bool {
        self.iter().all(ServerUnderLoad::is_here)
    }

    /// Whether the counters of all servers can be asked for.
    pub(crate) fn have_status(self) -> bool {
        self.iter().all(ServerUnderLoad::has_status)
    }

    /// The statuses of all servers.
    ///
    /// # Errors
    /// The reason in words, if one has none.
    pub(crate) fn statuses(self) -> Result<Vec<Status>, String> {
        self.iter().map(ServerUnderLoad::status).collect()
    }

    /// Waits until all servers have read what was sent to each.
    pub(crate) fn settle(
        self,
        before: &[Status],
        sent: &[Sent],
        load: &Load,
    ) -> Result<Vec<Status>, String> {
        let each = self.iter().zip(before).zip(sent);
        each.map(|((server, before), sent)| server.settle(before, sent.datagrams, load))
            .collect()
    }

    /// The description of the servers before the run: that of the first one, with all addresses.
    pub(crate) fn describe(self, status: Option<&Status>) -> Server {
        let addresses: Vec<_> = self.iter().map(ServerUnderLoad::name).collect();
        Server {
            address: addresses.join(", "),
            ..self.first().describe(status)
        }
    }
}

/// What each server received between two statuses.
pub(crate) fn received_of_each(before: &[Status], after: &[Status], load: &Load) -> Vec<Received> {
    let each = before.iter().zip(after);
    each.map(|(before, after)| received(before, after, load.sketch.number()))
        .collect()
}

/// The sum of what each server received.
pub(crate) fn received_together(each: &[Received]) -> Received {
    let each = each.iter();
    each.fold(Received::none(), |sum, received| sum.plus(received))
}
