//! Where a lone node looks for others: the names of `--join`, looked up again and again.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::HostPort;
use crate::node::control::addresses::usable_by;
use crate::node::crew::{Crew, Part};

/// Time from one look to the next, while alone.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Addresses of all names together; a headless service has one for each node, and some are enough.
const ADDRESSES_MAX: usize = 64;

pub(super) struct Seeds {
    crew: Crew,
    names: Vec<HostPort>,
    ours: SocketAddr,
    next: Duration,
    is_looking: bool,
    has_complained: bool,
    lacks_thread: bool,
    send: mpsc::UnboundedSender<Vec<SocketAddr>>,
    found: mpsc::UnboundedReceiver<Vec<SocketAddr>>,
}

impl Seeds {
    /// `ours` is the socket's address: what it cannot send to is no seed.
    pub(super) fn new(crew: Crew, names: Vec<HostPort>, ours: SocketAddr) -> Self {
        let (send, found) = mpsc::unbounded_channel();
        Self {
            crew,
            names,
            ours,
            next: Duration::ZERO,
            is_looking: false,
            has_complained: false,
            lacks_thread: false,
            send,
            found,
        }
    }

    /// When to look next; not while a look is under way.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        let may_look = !self.names.is_empty() && !self.is_looking;
        may_look.then(|| self.next.max(now))
    }

    /// Looks all names up, on a thread of its own: a slow resolver holds up nothing else, and not the
    /// end of the process either.
    pub(super) fn look_up_if_due(&mut self, now: Duration) {
        if self.names.is_empty() || self.is_looking || now < self.next {
            return;
        }
        self.next = now + LOOK_AGAIN;
        let (names, ours, send) = (self.names.clone(), self.ours, self.send.clone());
        let look = move || {
            let _ = send.send(look_up(&names, ours));
        };
        let thread = (self.crew).thread(Part::JoinLookup, "rmbd-join".to_owned(), look);
        match thread {
            Ok(_) => {
                self.is_looking = true;
                self.lacks_thread = false;
            }
            Err(error) if !self.lacks_thread => {
                self.lacks_thread = true;
                warn!(
                    "no thread to look the names of --join up: {error}; tried again every {LOOK_AGAIN:?}. If it lasts, \
                     raise the limit of processes (RLIMIT_NPROC, ulimit -u)"
                );
            }
            Err(_) => {}
        }
    }

    /// Waits for what a look finds.
    pub(super) async fn found(&mut self) -> Vec<SocketAddr> {
        // Never closed: `send` is ours.
        let found = self.found.recv().await.unwrap_or_default();
        self.is_looking = false;
        if found.is_empty() && !self.has_complained {
            info!("no name of --join has an address yet; looked up again every {LOOK_AGAIN:?}");
        }
        self.has_complained = found.is_empty();
        found
    }
}

fn look_up(names: &[HostPort], ours: SocketAddr) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for HostPort { host, port } in names {
        for address in usable_by(ours, (host, *port)).unwrap_or_default() {
            if found.len() < ADDRESSES_MAX && !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_address_of_every_name_is_found_once() {
        let names = [
            "127.0.0.1:7",
            "localhost:7",
            "no.such.host.invalid:7",
            "127.0.0.1:8",
        ];
        let names = names.map(|name| name.parse().unwrap());
        assert_eq!(
            look_up(&names, address("127.0.0.1:1")),
            [address("127.0.0.1:7"), address("127.0.0.1:8")]
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn looks_are_repeated_one_at_a_time() {
        let crew = || Crew::new().unwrap().0;
        let names = vec!["127.0.0.1:7".parse().unwrap()];
        let mut seeds = Seeds::new(crew(), names, address("127.0.0.1:1"));
        let now = Duration::from_secs(100);
        assert_eq!(seeds.next(now), Some(now));
        seeds.look_up_if_due(now);
        assert_eq!(seeds.next(now), None, "one is under way");
        seeds.look_up_if_due(now + LOOK_AGAIN);
        assert_eq!(seeds.found().await, [address("127.0.0.1:7")]);
        assert_eq!(seeds.next(now), Some(now + LOOK_AGAIN));
        assert!(seeds.found.try_recv().is_err(), "there was but one");
        let nobody = Seeds::new(crew(), vec![], address("127.0.0.1:1"));
        assert_eq!(nobody.next(now), None);
    }
}
