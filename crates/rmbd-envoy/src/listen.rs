//! Accepting connections, as many as there may be.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rmbd_accept::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::bounds::{
    AGE_LIMIT, CONNECTIONS_MAX, DRAIN_LIMIT, FIRST_REQUEST_LIMIT, IDLE_LIMIT, STREAMS_MAX,
};
use crate::connection::connection;
use crate::grpc::Services;
use crate::room::Room;
use crate::{Decide, Event};

/// Bounds of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Largest number of connections, at least 1.
    pub connections_max: usize,
    /// Largest number of requests under way on one connection.
    pub streams_max: u32,
    /// Time to the first request.
    pub first_request: Duration,
    /// Time from one request to the next.
    pub idle: Duration,
    /// Age at which a connection is told to end.
    pub age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            streams_max: STREAMS_MAX,
            first_request: FIRST_REQUEST_LIMIT,
            idle: IDLE_LIMIT,
            age: AGE_LIMIT,
        }
    }
}

/// Answers on `listener` until `stop` completes. Then it accepts no more connections, gives requests that are under
/// way a fifth of a second, and returns with every connection closed.
///
/// No client and no error of a socket ends it: what the system refuses for want of descriptors or memory is logged
/// and tried again. A connection beyond [`Bounds::connections_max`] is closed at once.
///
/// # Panics
///
/// Panics if it is not awaited inside a tokio runtime with time and I/O enabled.
pub async fn serve<D: Decide>(
    listener: TcpListener,
    decide: Arc<D>,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let mut connections = Connections {
        services: Arc::new(Services {
            decide,
            room: Arc::new(Room::default()),
        }),
        bounds,
        tasks: JoinSet::new(),
        closing: watch::Sender::new(()),
    };
    let mut acceptor = Acceptor::new(listener, "--envoy");
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            (stream, from) = acceptor.next() => connections.admit(stream, from.ip()),
            Some(ended) = connections.tasks.join_next() => connections.note_end(ended),
        }
    }
    drop(acceptor);
    connections.close().await;
}

/// The connections that there are.
struct Connections<D> {
    services: Arc<Services<D>>,
    bounds: Bounds,
    tasks: JoinSet<()>,
    /// Its drop tells all connections to end.
    closing: watch::Sender<()>,
}

impl<D: Decide> Connections<D> {
    fn admit(&mut self, stream: TcpStream, from: IpAddr) {
        let decide = &*self.services.decide;
        if !decide.may_ask(from) {
            return decide.note(Event::NotAllowed);
        }
        if self.tasks.len() >= self.bounds.connections_max {
            return decide.note(Event::NoPlace);
        }
        decide.note(Event::Accepted);
        // An answer is written at once, and nothing is gained by waiting for more of it.
        let _ = stream.set_nodelay(true);
        let services = Arc::clone(&self.services);
        let connection = connection(stream, services, self.bounds, self.closing.subscribe());
        self.tasks.spawn(connection);
    }

    fn note_end(&self, ended: Result<(), JoinError>) {
        let decide = &*self.services.decide;
        decide.note(Event::Closed);
        if ended.is_err_and(|error| error.is_panic()) {
            decide.note(Event::Panicked);
        }
    }

    /// Ends all connections, and returns when every one is gone.
    async fn close(mut self) {
        self.closing = watch::Sender::new(());
        let mut tasks = std::mem::take(&mut self.tasks);
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                self.note_end(ended);
            }
        };
        // Each connection keeps to the same limit by itself; this one is for all together.
        if timeout(DRAIN_LIMIT, all).await.is_err() {
            tasks.shutdown().await;
        }
    }
}
