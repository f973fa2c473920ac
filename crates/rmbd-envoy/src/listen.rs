//! Accepting connections, as many as there may be.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::bounds::{
    AGE_LIMIT, CONNECTIONS_MAX, DRAIN_LIMIT, FIRST_REQUEST_LIMIT, IDLE_LIMIT, STREAMS_MAX,
};
use crate::connection::connection;
use crate::grpc::Services;
use crate::room::Room;
use crate::{Decide, Event};

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

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
    let mut has_complained = false;
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &mut has_complained) => {
                let (stream, from) = accepted;
                connections.admit(stream, from);
            }
            Some(ended) = connections.tasks.join_next() => connections.note_end(ended),
        }
    }
    drop(listener);
    connections.close().await;
}

/// The next connection. Cancel safe.
async fn accept(listener: &TcpListener, has_complained: &mut bool) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if std::mem::take(has_complained) {
                    tracing::info!("--envoy takes connections again");
                }
                return (stream, from.ip());
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !std::mem::replace(has_complained, true) {
                    tracing::warn!(
                        "--envoy takes no connections: accept: {error}; counting goes on, and it is tried again every \
                         {} ms. If it lasts, raise the limit of open files (RLIMIT_NOFILE, ulimit -n)",
                        ACCEPT_PAUSE.as_millis()
                    );
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the next connection may be accepted all the same.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, TimedOut,
    };
    [
        ConnectionAborted,
        ConnectionReset,
        HostUnreachable,
        Interrupted,
        NetworkDown,
        NetworkUnreachable,
        TimedOut,
    ]
    .contains(&error.kind())
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
