//! Accepting connections, and limiting what each may cost.
//!
//! A connection is one task, spawned on the runtime that awaits [`serve`]. A time limit cuts off clients that say
//! nothing, say it slowly, or do not read. When all places are taken a new client is not turned away, since a scrape
//! or a health check must not fail because another client holds sockets open. It waits, and further ones wait in the
//! kernel's backlog. Of the open connections, the one that completed a request longest ago is closed as soon as its
//! patience time is over.

use std::convert::Infallible;
use std::net::IpAddr;
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
use tokio::time::{Instant, sleep_until, timeout};

use super::api::{self, Api};
use rmbd_accept::Acceptor;
use rmbd_io::limits::files_left;

/// Largest number of connections. One node has few dashboards and scrapers, but services that add keep some open from
/// each of their processes; 256 of the largest buffers take about 8 MiB.
const CONNECTIONS_MAX: usize = 256;
/// Time for a request's head, which is a line and a few headers, and takes one round trip. A connection may be idle
/// for as long between two requests, so that services which add seldom need no new one each time. Where others wait
/// for a place, a silent one goes much sooner.
const HEADER_READ_LIMIT: Duration = Duration::from_secs(30);
/// The longest time from one request to the next, with the reading of the answer, so that nobody keeps a place who
/// does not use it.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// How long an answer that is being written may be read after its connection was told to end.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);
/// How long an idle connection keeps its place when others wait. It is longer than a round trip around the world, and
/// even a few of these times are shorter than the time limit of any scraper or prober.
const CROWDED_PATIENCE: Duration = Duration::from_millis(300);
/// Most bytes of headers: they have room for a browser's cookies of other services on the same host. Longer headers
/// get a 431.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Limits of the cost of connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    pub(super) header_read: Duration,
    pub(super) connection_lifetime: Duration,
    pub(super) drain: Duration,
    pub(super) crowded_patience: Duration,
}

impl Limits {
    /// The default limits, but at most half of the files that may still be opened; the others are left to other parts
    /// of the process.
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

/// The address from which a request comes; `None` if its connection is gone already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker(pub(super) Option<IpAddr>);

/// A callback for connections that ended by a panic, which their task would not report.
pub(super) type Panicked = Box<dyn Fn()>;

/// What answers requests.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) router: Router,
    /// Answers below its own paths.
    pub(super) api: Option<Arc<Api>>,
}

/// Serves `answers` on `listener` until `stop` completes.
pub(super) async fn serve(
    listener: TcpListener,
    answers: Answers,
    stop: impl Future<Output = ()>,
    limits: Limits,
    panicked: Panicked,
) {
    let mut stop = pin!(stop);
    let mut house = House::new(answers, limits, panicked);
    let mut acceptor = Acceptor::new(listener, "HTTP");
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut stop => break,
            stream = next(&mut acceptor, &mut house) => stream,
        };
        house.admit(stream);
    }
    drop(acceptor);
    house.close().await;
}

/// Waits for the next connection for which there is a place.
async fn next(acceptor: &mut Acceptor, house: &mut House) -> TcpStream {
    let mut accepting = pin!(acceptor.next());
    let stream = loop {
        tokio::select! {
            (stream, _) = &mut accepting => break stream,
            Some(ended) = house.tasks.join_next() => house.note(Some(ended)),
        }
    };
    house.make_room().await;
    stream
}

/// The open connections.
struct House {
    limits: Limits,
    answers: Answers,
    tasks: JoinSet<()>,
    open: Vec<Guest>,
    shared: Arc<Shared>,
    panicked: Panicked,
    /// A sender that is dropped to tell every connection to end.
    closing: watch::Sender<()>,
}

/// One connection, from the view of the house.
struct Guest {
    task: AbortHandle,
    activity: Arc<Activity>,
}

/// The state of the house that all connections share.
struct Shared {
    start: Instant,
    /// Whether a connection waits for a place: then an answer ends its connection.
    crowded: AtomicBool,
}

/// The time when a connection began or last completed a request's head, in ms since the house's start. Relaxed is
/// enough, here and for `crowded`: each value is a hint that stands alone, and in practice one thread reads and
/// writes them.
struct Activity(AtomicU64);

impl House {
    fn new(answers: Answers, limits: Limits, panicked: Panicked) -> Self {
        Self {
            limits,
            answers,
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

    /// Waits until one more connection may be opened. Cancel safe.
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

    /// The connection that has been idle for the longest time, and the time until which it may stay if others wait.
    fn longest_idle(&self) -> Option<(Instant, &AbortHandle)> {
        let ms = |guest: &Guest| guest.activity.0.load(Ordering::Relaxed);
        let guest = self.open.iter().min_by_key(|guest| ms(guest))?;
        let last = self.shared.start + Duration::from_millis(ms(guest));
        Some((last + self.limits.crowded_patience, &guest.task))
    }

    fn admit(&mut self, stream: TcpStream) {
        // An answer is written at once, and nothing is gained by waiting for more of it.
        let _ = stream.set_nodelay(true);
        let activity = Arc::new(Activity(AtomicU64::new(self.shared.now_ms())));
        let service = Answering {
            asker: Asker(stream.peer_addr().ok().map(|from| from.ip())),
            router: TowerToHyperService::new(self.answers.router.clone()),
            api: self.answers.api.clone(),
            activity: activity.clone(),
            shared: self.shared.clone(),
        };
        let connection = connection(stream, service, self.limits, self.closing.subscribe());
        self.open.push(Guest {
            task: self.tasks.spawn(connection),
            activity,
        });
    }

    /// Ends all connections, and returns when every one is gone.
    async fn close(mut self) {
        self.closing = watch::Sender::new(());
        let drain = self.limits.drain;
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.note(Some(ended));
            }
        };
        // Each connection keeps to the same limit by itself; this one is for all together.
        if timeout(drain, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }

    /// Checks how a connection's task ended.
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

/// All answers as a service for one connection.
struct Answering {
    asker: Asker,
    router: TowerToHyperService<Router>,
    api: Option<Arc<Api>>,
    activity: Arc<Activity>,
    shared: Arc<Shared>,
}

impl Answering {
    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        self.activity
            .0
            .store(self.shared.now_ms(), Ordering::Relaxed);
        let api = self.api.as_ref();
        let mut response = match api.filter(|_| api::has_path(request.uri().path())) {
            Some(api) => api.answer(request, self.asker.0).await,
            None => {
                request.extensions_mut().insert(self.asker);
                self.router.call(request).await?
            }
        };
        if self.shared.crowded.load(Ordering::Relaxed) {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

/// Serves one connection from its first byte to its end. Its errors concern its client alone: hyper has answered a
/// broken request (400, 431) if that was possible.
async fn connection(
    stream: TcpStream,
    service: Answering,
    limits: Limits,
    mut closing: watch::Receiver<()>,
) {
    let service = Arc::new(service);
    let (activity, start) = (Arc::clone(&service.activity), service.shared.start);
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
        () = unused(&activity, start, limits.connection_lifetime) => {}
        _ = closing.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.drain, connection).await;
}

/// Waits until there was no request for so long. A connection that is used is not ended by us: its client could not
/// know whether a request that was under way then has come.
async fn unused(activity: &Activity, start: Instant, limit: Duration) {
    loop {
        let last = Duration::from_millis(activity.0.load(Ordering::Relaxed));
        let end = start + last + limit;
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_unused_when_its_last_request_is_long_ago() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            let (start, hour) = (Instant::now(), Duration::from_secs(3600));
            let activity = Activity(AtomicU64::new(1));
            unused(&activity, start, Duration::from_millis(1)).await;
            let used = unused(&activity, start, hour);
            assert!(timeout(Duration::from_millis(1), used).await.is_err());
        });
    }
}
