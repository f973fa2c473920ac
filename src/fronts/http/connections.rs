//! Accepting connections and limiting what each may cost.
//!
//! A connection is one task, spawned on the runtime that awaits [`serve`]. Whoever says nothing,
//! says it slowly, or does not read is cut off by a time limit. When all places are taken a
//! newcomer is not turned away (a scrape or a health check must not fail because somebody else
//! holds sockets open): it waits, further ones wait in the kernel's backlog, and of those inside
//! the one that completed a request longest ago has to leave as soon as its patience time is over.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use rmbd_io::limits::files_left;

/// Dashboards and scrapers of one node are few; 64 of the largest buffers are about 2 MiB.
const CONNECTIONS_MAX: usize = 64;
/// A request here is a line and a few headers: one round trip. Also how long a connection may be
/// idle between two requests.
const HEADER_READ_LIMIT: Duration = Duration::from_secs(5);
/// Nobody keeps a place for ever; who still needs one connects again.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// What is being written when a connection is told to end may be read this long.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);
/// How long an idle connection keeps its place when others wait: longer than a round trip around
/// the world, shorter than any scraper's or prober's time limit even after a few of them.
const CROWDED_PATIENCE: Duration = Duration::from_millis(300);
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// Room for a browser's cookies of other services on the same host; longer headers get a 431.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    pub(super) header_read: Duration,
    pub(super) connection_lifetime: Duration,
    pub(super) drain: Duration,
    pub(super) crowded_patience: Duration,
}

impl Limits {
    /// As the default; but half of the files that may still be opened are left to whatever else needs one.
    pub(super) fn of_this_process() -> Self {
        let usual = Self::default();
        let files = files_left(2 * CONNECTIONS_MAX as u64) as usize;
        Self {
            connections_max: usual.connections_max.min(files / 2).max(1),
            ..usual
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            header_read: HEADER_READ_LIMIT,
            connection_lifetime: CONNECTION_LIFETIME,
            drain: DRAIN_LIMIT,
            crowded_patience: CROWDED_PATIENCE,
        }
    }
}

/// Told when a connection ended by a panic, which its task would keep to itself.
pub(super) type Panicked = Box<dyn Fn()>;

/// Serves `router` on `listener` until `stop` completes.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    limits: Limits,
    panicked: Panicked,
) {
    let mut stop = pin!(stop);
    let mut house = House::new(router, limits, panicked);
    let mut complaint = Complaint::default();
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut stop => break,
            stream = next(&listener, &mut house, &mut complaint) => stream,
        };
        house.admit(stream);
    }
    drop(listener);
    house.close().await;
}

/// The next connection for which there is a place.
async fn next(listener: &TcpListener, house: &mut House, complaint: &mut Complaint) -> TcpStream {
    let mut accepting = pin!(accept(listener, complaint));
    let stream = loop {
        tokio::select! {
            stream = &mut accepting => break stream,
            Some(ended) = house.tasks.join_next() => house.note(Some(ended)),
        }
    };
    house.make_room().await;
    stream
}

async fn accept(listener: &TcpListener, complaint: &mut Complaint) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                complaint.is_over();
                return stream;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                complaint.say(&error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What is said once, however long it lasts.
#[derive(Default)]
struct Complaint {
    is_said: bool,
}

impl Complaint {
    fn say(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_said, true) {
            tracing::warn!(
                "HTTP takes no connections: accept: {error}; counting goes on, and it is tried again every {} ms. If it \
                 lasts, raise the limit of open files (RLIMIT_NOFILE, ulimit -n)",
                ACCEPT_PAUSE.as_millis()
            );
        }
    }

    fn is_over(&mut self) {
        if std::mem::take(&mut self.is_said) {
            tracing::info!("HTTP takes connections again");
        }
    }
}

/// True where only the connection at the head of the queue is broken and the next may be fine.
/// accept(2) passes on the network's errors of that connection.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}

/// The open connections.
struct House {
    limits: Limits,
    router: Router,
    tasks: JoinSet<()>,
    open: Vec<Guest>,
    shared: Arc<Shared>,
    panicked: Panicked,
    /// Dropped to tell every connection to end.
    closing: watch::Sender<()>,
}

/// One connection as the house sees it.
struct Guest {
    task: AbortHandle,
    activity: Arc<Activity>,
}

/// What all connections know of the house.
struct Shared {
    start: Instant,
    /// True while somebody waits for a place: answers then end their connection.
    crowded: AtomicBool,
}

/// When a connection began or last completed a request's head, in ms since the house's start.
/// Relaxed is enough, here and for `crowded`: each value is a hint that stands alone, and in
/// practice one thread reads and writes them.
struct Activity(AtomicU64);

impl House {
    fn new(router: Router, limits: Limits, panicked: Panicked) -> Self {
        Self {
            limits,
            router,
            tasks: JoinSet::new(),
            open: Vec::with_capacity(limits.connections_max),
            shared: Arc::new(Shared {
                start: Instant::now(),
                crowded: AtomicBool::new(false),
            }),
            panicked,
            closing: watch::Sender::new(()),
        }
    }

    /// Returns when one more connection may be opened. Cancel safe.
    async fn make_room(&mut self) {
        loop {
            self.forget_finished();
            let crowded = self.open.len() >= self.limits.connections_max;
            self.shared.crowded.store(crowded, Ordering::Relaxed);
            if !crowded {
                return;
            }
            let Some((patience_end, longest_idle)) = self.longest_idle() else {
                return;
            };
            if patience_end <= Instant::now() {
                longest_idle.abort();
                let ended = self.tasks.join_next().await;
                self.note(ended);
            } else {
                tokio::select! {
                    ended = self.tasks.join_next() => self.note(ended),
                    () = sleep_until(patience_end) => {}
                }
            }
        }
    }

    fn forget_finished(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            self.note(Some(ended));
        }
        self.open.retain(|guest| !guest.task.is_finished());
    }

    /// Who did nothing for the longest time, and until when it may stay if others wait.
    fn longest_idle(&self) -> Option<(Instant, &AbortHandle)> {
        let ms = |guest: &Guest| guest.activity.0.load(Ordering::Relaxed);
        let guest = self.open.iter().min_by_key(|guest| ms(guest))?;
        let last = self.shared.start + Duration::from_millis(ms(guest));
        Some((last + self.limits.crowded_patience, &guest.task))
    }

    fn admit(&mut self, stream: TcpStream) {
        let activity = Arc::new(Activity(AtomicU64::new(self.shared.now_ms())));
        let service = Answering {
            router: TowerToHyperService::new(self.router.clone()),
            activity: activity.clone(),
            shared: self.shared.clone(),
        };
        let connection = connection(stream, service, self.limits, self.closing.subscribe());
        self.open.push(Guest {
            task: self.tasks.spawn(connection),
            activity,
        });
    }

    /// Ends all connections; returns when every one is gone.
    async fn close(mut self) {
        self.closing = watch::Sender::new(());
        let drain = self.limits.drain;
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.note(Some(ended));
            }
        };
        // Each connection keeps to the same limit by itself; this one holds for all together.
        if timeout(drain, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }

    /// Looks at how a connection's task ended.
    fn note(&self, ended: Option<Result<(), JoinError>>) {
        if let Some(Err(error)) = ended
            && error.is_panic()
        {
            (self.panicked)();
        }
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The router, for one connection.
struct Answering {
    router: TowerToHyperService<Router>,
    activity: Arc<Activity>,
    shared: Arc<Shared>,
}

impl Answering {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response, Infallible> {
        self.activity
            .0
            .store(self.shared.now_ms(), Ordering::Relaxed);
        let mut response = self.router.call(request).await?;
        if self.shared.crowded.load(Ordering::Relaxed) {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

/// One connection from its first byte to its end. Its errors are its client's alone: a broken
/// request was answered by hyper (400, 431) where it can be answered at all.
async fn connection(
    stream: TcpStream,
    service: Answering,
    limits: Limits,
    mut closing: watch::Receiver<()>,
) {
    let service = Arc::new(service);
    let service = service_fn(move |request| {
        let service = service.clone();
        async move { service.answer(request).await }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_read)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        () = sleep(limits.connection_lifetime) => {}
        _ = closing.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.drain, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_next_accept_can_survive_is_tried_again_at_once() {
        let errno = io::Error::from_raw_os_error;
        for broken in [
            libc::ECONNABORTED,
            libc::ECONNRESET,
            libc::EHOSTUNREACH,
            libc::EINTR,
        ] {
            assert!(is_of_one_connection(&errno(broken)), "{}", errno(broken));
        }
        for lasting in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EINVAL,
        ] {
            assert!(!is_of_one_connection(&errno(lasting)), "{}", errno(lasting));
        }
    }
}
