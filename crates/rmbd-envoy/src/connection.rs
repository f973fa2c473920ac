//! One connection, and when it ends.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::bounds::{
    CONNECTION_WINDOW_BYTES, DRAIN_LIMIT, HEAD_BYTES_MAX, PROBE, REQUEST_LIMIT, STREAM_WINDOW_BYTES,
};
use crate::grpc::Services;
use crate::{Bounds, Decide, Event};

/// When a connection was used last, in milliseconds since its beginning; 0 is never. Relaxed: it stands for itself.
#[derive(Debug, Default)]
struct Used(AtomicU64);

/// Serves one connection from its first byte to its end. Its errors concern its client alone.
pub(crate) async fn connection<D: Decide>(
    (stream, from): (TcpStream, IpAddr),
    services: Arc<Services<D>>,
    bounds: Bounds,
    mut closing: watch::Receiver<()>,
) {
    let (begin, used) = (Instant::now(), Arc::new(Used::default()));
    let last = Arc::clone(&used);
    let service = service_fn(move |request| {
        let services = Arc::clone(&services);
        last.note(begin);
        async move {
            // It may have been taken off the list since it connected.
            if !services.decide.may_ask(from) {
                services.decide.note(Event::NotAllowed);
                return Err(io::Error::from(io::ErrorKind::PermissionDenied));
            }
            Ok(services.answer(request).await)
        }
    });
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(bounds.streams_max)
            // Proxies take back what waits for too long, perhaps all of it at once.
            .max_pending_accept_reset_streams(bounds.streams_max as usize)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX)
            .keep_alive_interval(PROBE.0)
            .keep_alive_timeout(PROBE.1)
            .serve_connection(TokioIo::new(stream), service)
    );
    let is_over = tokio::select! {
        _ = connection.as_mut() => return,
        () = used.is_over(begin, &bounds) => true,
        _ = closing.changed() => false,
    };
    connection.as_mut().graceful_shutdown();
    if is_over {
        // What the client sends before it hears of the end is still answered.
        tokio::select! {
            _ = timeout(REQUEST_LIMIT, connection.as_mut()) => return,
            _ = closing.changed() => {}
        }
    }
    let _ = timeout(DRAIN_LIMIT, connection).await;
}

impl Used {
    fn note(&self, begin: Instant) {
        let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.store(ms.max(1), Relaxed);
    }

    /// Waits until the connection is too old, or was not used for so long.
    async fn is_over(&self, begin: Instant, bounds: &Bounds) {
        loop {
            let idle = match self.0.load(Relaxed) {
                0 => bounds.first_request,
                ms => Duration::from_millis(ms).saturating_add(bounds.idle),
            };
            let end = begin + idle.min(bounds.age);
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}
