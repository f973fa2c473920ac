//! The HTTP front of a node: health, status, metrics, and a page that shows them live.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page: one file, nothing loaded from elsewhere |
//! | `/status` | [`Status`] as JSON |
//! | `/metrics` | the same in the text format 0.0.4, or as OpenMetrics where `Accept` prefers that, see [`metrics`](crate::status::metrics) |
//! | `/healthz` | 200 while every thread and task of the node runs, else 503 and what has ended |
//! | `/readyz` | 200 while the data threads serve and the first full sync is done or given up, else 503 |
//! | `POST /snapshot` | has a snapshot file written, and answers when it is durable, see [`SnapshotOrder`](crate::status::SnapshotOrder); 500 where that fails, 202 and a number where it takes long, 404 without a folder for it |
//! | `/detail?key=` | a key's count by origin as JSON ([`Detail`]); the key percent-encoded, so that it may be any bytes. `&window=60s` adds its count in a window, and `&sketch=` asks another sketch than `default`. 400 for what is no question, 404 for a sketch or window that there is not |
//! | `/top?` | the largest keys as JSON ([`TopDocument`]), of all time; `sketch=`, `window=60s` and `k=10` ask for others, and `detail=1` for the parts of each node. Names are told to loopback and to the networks of `--show-keys` only, and not by way of a proxy that is not in them. 400 and 404 as above |
//! | `/denied?` | the keys that limits with names denied most often in the last 5 to 10 minutes on this node, as JSON ([`DeniedDocument`]); `limit=api` asks for one limit, and `k=10` for fewer keys. Names are told as by `/top`. 400 for what is no question, 404 for a limit that there is not |
//! | `/v1/`, `/json` | adds, counts, hits and takes as JSON, and Envoy's rate limit service: the table is in `fronts/http/api` |
//!
//! All others answer only `GET` and `HEAD`, and change nothing that a node counts. Orders are taken from loopback and
//! trusted networks only, and neither from the pages of a browser nor by way of a proxy. A request by a name that does
//! not belong to this node ([`Hosts`]) gets only `/healthz`, `/readyz` and `/metrics`. Everything runs on the thread
//! that awaits [`serve`]. The module `connections` limits their number and time, so that a slow or hostile client costs
//! a bounded amount of memory and no more.

mod accept;
pub(crate) mod api;
mod connections;
mod denied;
mod detail;
mod hosts;
mod orders;
mod query;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod top;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use self::api::Api;
pub use self::api::TokenFileError;
use self::connections::{Answers, Limits};
pub use self::hosts::Hosts;
pub use self::orders::PendingOrder;
use crate::status::{
    DeniedDocument, DeniedError, DeniedQuestion, Detail, DetailError, DetailQuestion, Readiness,
    Status, TopDocument, TopError, TopQuestion,
};

/// The source of the picture of the node that [`serve`] needs once for each answer.
pub trait StatusSource: Send + Sync {
    /// The status of the node as it is now. It is called on the thread that serves HTTP, so it must not block.
    fn status(&self) -> Status;

    /// A key's count by origin, and in a window. It is called like [`status`](Self::status).
    ///
    /// # Errors
    /// [`DetailError`] says what the node has not: the sketch, or the window.
    fn detail(&self, question: &DetailQuestion) -> Result<Detail, DetailError>;

    /// The largest keys of a sketch, with their names or without. It is called like [`status`](Self::status).
    ///
    /// # Errors
    /// [`TopError`] says what the node has not: the sketch, the window, or lists of the sketch.
    fn top(&self, question: &TopQuestion, shows_keys: bool) -> Result<TopDocument, TopError>;

    /// The keys that limits denied most often of late, with their names or without. It is called like
    /// [`status`](Self::status). Without an implementation there is no limit.
    ///
    /// # Errors
    /// [`DeniedError`]: there is no limit of the name that was asked for.
    fn denied(
        &self,
        question: &DeniedQuestion,
        shows_keys: bool,
    ) -> Result<DeniedDocument, DeniedError> {
        question.without_limits(shows_keys)
    }

    /// Whether whoever asks from this address may see the names of keys. Who asks by way of a proxy has its address.
    fn may_see_keys(&self, _: IpAddr, _is_by_proxy: bool) -> bool {
        false
    }

    /// The failure of the node in one line, if there is one.
    fn failure(&self) -> Option<String> {
        self.status().failure
    }

    /// Whether whoever asks from this address may add and count at all.
    fn may_use(&self, _: IpAddr) -> bool {
        true
    }

    /// Whether whoever asks from this address may give orders.
    fn is_trusted(&self, _: IpAddr) -> bool {
        false
    }

    /// Has a snapshot file written; `None` where nothing is kept.
    fn order_snapshot(&self) -> Option<PendingOrder> {
        None
    }

    /// Notes that a connection ended by a panic.
    fn connection_panicked(&self) {}
}

/// Answers HTTP/1 on `listener` until `stop` completes. Then it accepts no more connections, gives clients a fifth of
/// a second to read the answers that are under way, and returns with every connection closed.
///
/// No client and no error of a socket ends it: a connection that the system refuses for want of descriptors or memory
/// is logged and tried again. At most 256 connections (fewer if few files can be opened) are served at a time. When
/// others wait, a connection that has been silent for 0.3 s is closed.
///
/// # Panics
///
/// Panics if it is not awaited inside a tokio runtime with time and I/O enabled.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn StatusSource>,
    hosts: Hosts,
    stop: impl Future<Output = ()>,
) {
    serve_with(listener, source, hosts, None, stop).await;
}

/// Like [`serve`], and answers by an API, too.
pub(crate) async fn serve_with(
    listener: TcpListener,
    source: Arc<dyn StatusSource>,
    hosts: Hosts,
    api: Option<Arc<Api>>,
    stop: impl Future<Output = ()>,
) {
    let panicked = {
        let source = Arc::clone(&source);
        Box::new(move || source.connection_panicked())
    };
    let answers = Answers {
        router: router(source, hosts),
        api,
    };
    connections::serve(listener, answers, stop, Limits::of_this_process(), panicked).await;
}

type Source = State<Arc<dyn StatusSource>>;

fn router(source: Arc<dyn StatusSource>, hosts: Hosts) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status", get(status))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/detail", get(detail::detail))
        .route("/top", get(top::top))
        .route("/denied", get(denied::denied))
        .route("/snapshot", post(orders::snapshot))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(hosts, hosts::check))
        .layer(map_response(guard))
        .with_state(source)
}

async fn page() -> impl IntoResponse {
    ([(CONTENT_SECURITY_POLICY, PAGE_POLICY)], Html(PAGE))
}

const PAGE: &str = include_str!("page.html");

/// The policy of the page: it may run its own script, use its own style (both named by the SHA-256 of their text, so
/// that nothing that gets into the page by a trick runs), and ask this node.
const PAGE_POLICY: &str = "default-src 'none'; \
     script-src 'sha256-UQgW5MtIK1WNrlvfEOcchue4FSR+r1V4NFyx0otXiWc='; \
     style-src 'sha256-JN8kAS/oORLq6joTtYB2av5+LKqG12UgnI1zRAaPE+g='; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn status(State(source): Source) -> Json<Status> {
    Json(source.status())
}

async fn metrics_text(State(source): Source, headers: HeaderMap) -> impl IntoResponse {
    let format = accept::format(&headers);
    let text = format.encode(&source.status());
    ([(CONTENT_TYPE, format.content_type())], text)
}

async fn healthz(State(source): Source) -> (StatusCode, String) {
    match source.failure() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(failure) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not healthy: {failure}\n"),
        ),
    }
}

/// Answers `/readyz`. What a ready node lacks is told, and does not make it less ready: if a node was taken away
/// because its memory is full, the others would be taken away after it.
async fn readyz(State(source): Source) -> (StatusCode, String) {
    let status = source.status();
    let Readiness { waits_for, lacks } = &status.readiness;
    let lines = |start: &str, causes: &[String]| -> String {
        causes
            .iter()
            .map(|cause| format!("{start}{cause}\n"))
            .collect()
    };
    if status.is_ready() {
        let text = format!("ready\n{}", lines("but without ", lacks));
        return (StatusCode::OK, text);
    }
    let threads = if status.ready {
        ""
    } else {
        "not ready: the data threads do not serve\n"
    };
    let text = format!("{threads}{}", lines("not ready: ", waits_for));
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn not_found() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "not found: there are / /status /metrics /healthz /readyz /detail?key=&window=&sketch= /top?sketch=&window=&k=&detail= /denied?limit=&k= and POST /snapshot; /v1/openapi.json says what is below /v1/\n",
    )
}

/// Answers other methods; axum adds the `Allow` header.
async fn method_not_allowed() -> (StatusCode, &'static str) {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        "method not allowed: GET and HEAD only, and POST only for /snapshot\n",
    )
}

/// Adds headers to every answer: it must not be cached, and its content type is right.
async fn guard(mut response: Response) -> Response {
    guard_headers(response.headers_mut());
    response
}

fn guard_headers(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}
