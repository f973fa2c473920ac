//! What all connections share.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::connections::CONNECTIONS_MAX;
use super::desk::Desk;
use super::question::{Problem, Question};
use crate::engine::LimitsAnswer;
use crate::fronts::datagrams::ClientPort;
use crate::status::{PublishedFront, SpoeStatus, Tally};
use rmbd_io::latency::Histogram;

/// What answers HAProxy.
pub(crate) struct Agent {
    port: Arc<ClientPort>,
    address: SocketAddr,
    /// `None` when it adds no more. The lock is never waited for: one thread answers.
    desk: Mutex<Option<Desk>>,
    published: Arc<PublishedFront>,
    connections: AtomicUsize,
    /// Whether all connections are to end.
    ending: watch::Sender<bool>,
}

impl Agent {
    /// An agent at a bound address. Whoever may use the other `port` may ask.
    pub(crate) fn new(port: Arc<ClientPort>, address: SocketAddr) -> Self {
        let published = Arc::new(PublishedFront::default());
        let desk = Desk::new(port.shared(), Arc::clone(&published));
        Self {
            port,
            address,
            desk: Mutex::new(Some(desk)),
            published,
            connections: AtomicUsize::new(0),
            ending: watch::Sender::new(false),
        }
    }

    /// The real address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was counted, as far as it is published.
    pub(crate) fn tally(&self) -> Tally {
        self.published.read()
    }

    /// How long its questions took.
    pub(crate) fn times(&self) -> &Histogram {
        self.published.times()
    }

    /// The status, without what is counted.
    pub(crate) fn status(&self) -> SpoeStatus {
        SpoeStatus {
            address: Some(self.address.to_string()),
            connections: self.connections.load(Relaxed) as u64,
            connections_max: CONNECTIONS_MAX as u64,
            ..SpoeStatus::default()
        }
    }

    /// Adds no more, and ends all connections. What was added is shown to everybody.
    pub(crate) fn end_adding(&self) {
        // What was added is shown by then.
        drop(self.desk().take());
        self.ending.send_replace(true);
    }

    /// What tells whether connections are to end.
    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// Whether this address may ask at all.
    pub(super) fn may_use(&self, ip: IpAddr) -> bool {
        self.port.may_use(ip)
    }

    /// Tells how many connections there are.
    pub(super) fn set_connections(&self, connections: usize) {
        self.connections.store(connections, Relaxed);
    }

    /// Asks, and adds what is to be added.
    pub(super) fn ask(&self, question: &Question<'_>) -> Result<LimitsAnswer, Problem> {
        let mut desk = self.desk();
        let desk = desk.as_mut().ok_or(Problem::ENDING)?;
        let start = Instant::now();
        let answer = desk.ask(self.port.shared(), question);
        desk.note_time(start);
        // Also where it was refused: then a pass is wanted.
        self.port.shared().call_control_if_due();
        answer
    }

    /// Counts what happened.
    pub(super) fn note(&self, count: impl FnOnce(&mut Tally)) {
        if let Some(desk) = self.desk().as_mut() {
            desk.note(count);
        }
    }

    /// Locks the desk. A panic in it ends the connection, and turns health red; what waited in the session is then
    /// answered to nobody.
    fn desk(&self) -> MutexGuard<'_, Option<Desk>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
