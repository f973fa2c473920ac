//! The adds of a client without its socket and its clock, for whoever brings their own: a program with an
//! event loop, or a simulator.

use std::time::Duration;

use super::core::{ClientId, Core, Outcome, Settings};
use super::{ClientOptions, Fate};
use rmbd_proto::compact::Operation;

/// The state machine behind [`Client`](super::Client), as far as adding goes. Adds go in by
/// [`add`](Self::add), each with a token; trains of datagrams come out of [`transmit`](Self::transmit)
/// and go to one node; its replies go into [`receive`](Self::receive). [`tick`](Self::tick) wants to be
/// called at [`next_tick`](Self::next_tick). What became of an add comes back with its token: `Ok` says
/// that it is counted, once.
///
/// Times are durations since any fixed moment, and must not go back.
#[derive(Debug)]
pub struct Detached {
    core: Core<u64>,
}

impl Detached {
    /// A client that no other one's number equals; `first_id` may be any number.
    #[must_use]
    pub fn new(options: ClientOptions, client: u64, first_id: u32) -> Self {
        let settings = Settings {
            timeout: options.timeout,
            linger: options.linger,
        };
        Self {
            core: Core::new(settings, ClientId { client, first_id }),
        }
    }

    /// Takes an add: false where its key is too long, or its weight too large for the node.
    pub fn add(&mut self, now: Duration, key: &[u8], weight: u32, token: u64) -> bool {
        let weight = weight.into();
        let add = Operation::Add { key, weight };
        self.core.push(add, token, || now).is_ok()
    }

    /// Makes what was added ready to be sent.
    pub fn flush(&mut self) {
        self.core.flush();
    }

    /// Puts what may be sent now into `train`, whose content it replaces: datagrams of the size that is
    /// returned, the last one of what is left. To be called until there is nothing.
    pub fn transmit(&mut self, now: Duration, train: &mut Vec<u8>) -> Option<u16> {
        self.core.transmit(now, train)
    }

    /// Takes a datagram from the node.
    pub fn receive(
        &mut self,
        now: Duration,
        datagram: &[u8],
        mut told: impl FnMut(u64, Result<(), Fate>),
    ) {
        let mut sink = |token: u64, outcome: Outcome<'_>| told(token, fate(outcome));
        self.core.receive(datagram, now, &mut sink);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration, mut told: impl FnMut(u64, Result<(), Fate>)) {
        let mut sink = |token: u64, outcome: Outcome<'_>| told(token, fate(outcome));
        self.core.tick(now, &mut sink);
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        self.core.next_tick()
    }

    /// No add is left without an outcome.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.core.is_idle()
    }
}

fn fate(outcome: Outcome<'_>) -> Result<(), Fate> {
    match outcome {
        Ok(_) => Ok(()),
        Err(failure) if failure.uncertain => Err(Fate::Uncertain),
        Err(_) => Err(Fate::NotAdded),
    }
}
