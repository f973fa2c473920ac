//! Orders over HTTP, which only those may give who may give orders over UDP, too.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::header::{FORWARDED, ORIGIN, VIA};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Source;
use super::connections::Asker;
use crate::status::{PendingSnapshotOrder, SnapshotOrder};

/// How long an order is waited for: less than the life of a connection.
const ORDER_LIMIT: Duration = Duration::from_secs(45);
/// What proxies add that do not know the standard's header.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What shows that a request came by way of a proxy.
const OF_PROXIES: [HeaderName; 3] = [FORWARDED, VIA, X_FORWARDED_FOR];

/// An order that is being carried out.
#[derive(Debug)]
pub struct PendingOrder {
    /// Its number, see [`PendingSnapshotOrder`].
    pub number: u64,
    /// Gets what became of it; the sender is dropped if the node ends before.
    pub done: oneshot::Receiver<SnapshotOrder>,
}

/// Answers `POST /snapshot`.
pub(super) async fn snapshot(
    State(source): Source,
    Extension(Asker(asker)): Extension<Asker>,
    headers: HeaderMap,
) -> Response {
    if !asker.is_some_and(|ip| source.is_trusted(ip)) {
        return refusal("orders are taken from loopback, and from the networks of --trust");
    }
    if let Some(header) = foreign(&headers) {
        let text = format!("orders are taken neither from a page nor by way of a proxy ({header})");
        return refusal(&text);
    }
    match source.order_snapshot() {
        Some(order) => outcome(order, ORDER_LIMIT).await,
        None => {
            let text = "nothing is kept: start the node with --data-dir\n";
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

/// What shows that somebody else than the asker wants it. A browser that is on this host has loopback's trust, and so
/// has a proxy.
fn foreign(headers: &HeaderMap) -> Option<HeaderName> {
    let names = [ORIGIN].into_iter().chain(OF_PROXIES);
    names.into_iter().find(|name| headers.contains_key(name))
}

/// Whether a proxy asks for somebody else.
pub(super) fn is_by_proxy(headers: &HeaderMap) -> bool {
    OF_PROXIES.iter().any(|name| headers.contains_key(name))
}

fn refusal(why: &str) -> Response {
    (StatusCode::FORBIDDEN, format!("{why}\n")).into_response()
}

async fn outcome(order: PendingOrder, limit: Duration) -> Response {
    let PendingOrder { number, done } = order;
    match timeout(limit, done).await {
        Ok(Ok(done)) if done.failure.is_none() => Json(done).into_response(),
        Ok(Ok(done)) => (StatusCode::INTERNAL_SERVER_ERROR, Json(done)).into_response(),
        Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "the node ends\n").into_response(),
        Err(_) => {
            let pending = Json(PendingSnapshotOrder { order: number });
            (StatusCode::ACCEPTED, pending).into_response()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn order() -> (oneshot::Sender<SnapshotOrder>, PendingOrder) {
        let (sender, done) = oneshot::channel();
        (sender, PendingOrder { number: 7, done })
    }

    fn code_of(order: PendingOrder) -> StatusCode {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().build().unwrap();
        let answer = runtime.block_on(outcome(order, Duration::from_millis(1)));
        answer.status()
    }

    #[test]
    fn an_order_ends_well_or_not_or_takes_long() {
        let (sender, well) = order();
        sender.send(SnapshotOrder::default()).unwrap();
        assert_eq!(code_of(well), StatusCode::OK);
        let (sender, failed) = order();
        let failure = Some("no room".to_owned());
        let told = SnapshotOrder {
            failure,
            ..SnapshotOrder::default()
        };
        sender.send(told).unwrap();
        assert_eq!(code_of(failed), StatusCode::INTERNAL_SERVER_ERROR);
        let (sender, ended) = order();
        drop(sender);
        assert_eq!(code_of(ended), StatusCode::SERVICE_UNAVAILABLE);
        let (_sender, slow) = order();
        assert_eq!(code_of(slow), StatusCode::ACCEPTED);
    }

    #[test]
    fn pages_and_proxies_are_known_by_their_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("curl"));
        assert_eq!(foreign(&headers), None);
        for name in ["origin", "via", "forwarded", "x-forwarded-for"] {
            let mut headers = headers.clone();
            let name: HeaderName = name.parse().unwrap();
            headers.insert(name.clone(), HeaderValue::from_static("null"));
            assert_eq!(is_by_proxy(&headers), name != ORIGIN);
            assert_eq!(foreign(&headers), Some(name));
        }
    }
}
