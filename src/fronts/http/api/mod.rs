//! The API: adds, counts, hits and takes as JSON.
//!
//! | path | what it does |
//! |---|---|
//! | `POST /v1/{sketch}/add` | adds to keys |
//! | `POST /v1/{sketch}/count` | counts keys, of all time or in a window |
//! | `POST /v1/{sketch}/hit` | adds, and says whether that is within limits; 429 where it is not |
//! | `POST /v1/{sketch}/take` | adds where that is within limits; 429 where it is not |
//! | `GET /v1/{sketch}/top` | the largest keys |
//! | `GET /v1/check` | a hit for proxies, by the name of a limit; 204, or 429 |
//! | `GET /v1/openapi.json` | all of that, as OpenAPI says it |
//! | `POST /json` | the question of Envoy's rate limit service as JSON, where the node has rules; 429 where it is over |
//!
//! A request is checked as a whole before anything of it is done, and then done as a whole. Errors are documents of
//! RFC 9457. Who may ask what is said in [`access`].

mod access;
mod answer;
mod body;
mod check;
mod desk;
mod problem;
mod question;
mod request;
#[cfg(test)]
mod tests;
mod tokens;
mod top;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::response::Response;

use self::access::Asks;
use self::answer::Verdict;
use self::body::{BODY_LIMIT, BodyRoom};
use self::desk::Desk;
use self::problem::{Kind, Problem};
use self::question::{Operation, Reader, malformed};
pub use self::tokens::TokenFileError;
pub(crate) use self::tokens::Tokens;
use super::hosts::{self, Hosts};
use super::{StatusSource, guard_headers};
use crate::fronts::envoy::EnvoyFront;
use crate::shared::Shared;
use crate::status::{PublishedFront, Tally};
use rmbd_envoy::Undecided;

/// What all its paths begin with.
const START: &str = "/v1/";
/// The path of Envoy's rate limit service.
const JSON: &str = "/json";
const OPENAPI: &str = include_str!("openapi.json");

/// What the API of a node starts with.
pub(crate) struct ApiOptions {
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: Arc<dyn StatusSource>,
    /// The names by which it may be asked.
    pub(crate) hosts: Hosts,
    pub(crate) tokens: Tokens,
    /// Whether it answers checks.
    pub(crate) has_check: bool,
    /// Where it shows what it has done.
    pub(crate) published: Arc<PublishedFront>,
    /// Envoy's rate limit service, if the node has rules.
    pub(crate) envoy: Option<Arc<EnvoyFront>>,
}

/// Whether the API answers at this path.
pub(super) fn has_path(path: &str) -> bool {
    path.starts_with(START) || path == JSON
}

/// The API of a node.
pub(crate) struct Api {
    shared: Arc<Shared>,
    source: Arc<dyn StatusSource>,
    hosts: Hosts,
    tokens: Tokens,
    has_check: bool,
    envoy: Option<Arc<EnvoyFront>>,
    bodies: BodyRoom,
    body_limit: Duration,
    /// `None` when it adds no more. The lock is never waited for: one thread answers.
    desk: Mutex<Option<Desk>>,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'p> {
    Ask(Operation, &'p str),
    Top(&'p str),
    Check,
    OpenApi,
    Json,
}

impl Api {
    pub(crate) fn new(options: ApiOptions) -> Self {
        let ApiOptions {
            shared,
            source,
            hosts,
            tokens,
            has_check,
            published,
            envoy,
        } = options;
        Self {
            desk: Mutex::new(Some(Desk::new(&shared, published))),
            shared,
            source,
            hosts,
            tokens,
            has_check,
            envoy,
            bodies: BodyRoom::default(),
            body_limit: BODY_LIMIT,
        }
    }

    /// Adds no more, and answers no question that would. What was added is shown to everybody.
    pub(crate) fn end_adding(&self) {
        if let Some(mut desk) = self.desk().take() {
            desk.finish();
        }
    }

    /// Answers a request at one of its [paths](has_path).
    pub(super) async fn answer<B>(&self, request: Request<B>, asker: Option<IpAddr>) -> Response
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        let answered = self.try_answer(&head, body, asker).await;
        let mut response = match answered {
            Ok(response) => response,
            Err(problem) => {
                self.note(|tally| match problem.kind.status().is_server_error() {
                    true => tally.http_failed += 1,
                    false => tally.http_refused += 1,
                });
                problem.response()
            }
        };
        guard_headers(response.headers_mut());
        response
    }

    async fn try_answer<B>(
        &self,
        head: &Parts,
        body: B,
        asker: Option<IpAddr>,
    ) -> Result<Response, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        self.check_host(head)?;
        let route = self.route(head)?;
        let asks = Asks::new(&*self.source, &self.tokens, asker, &head.headers)?;
        if route != Route::Check {
            asks.check_page()?;
        }
        let query = head.uri.query().unwrap_or_default();
        match route {
            Route::Ask(operation, sketch) => {
                if operation.adds() {
                    asks.check_adds(&*self.source, &self.tokens)?;
                }
                body::check_type(&head.headers)?;
                let bytes = self.bodies.read(body, self.body_limit).await?;
                self.ask(operation, sketch, &bytes)
            }
            Route::Top(sketch) => {
                let shows_keys = asks.may_see_keys(&*self.source);
                let answer = top::answer(&*self.source, sketch, query, shows_keys)?;
                self.note(|tally| tally.http_tops += 1);
                Ok(answer)
            }
            Route::Check => {
                asks.check_token(&self.tokens)?;
                self.check(query)
            }
            Route::Json => {
                asks.check_adds(&*self.source, &self.tokens)?;
                body::check_type(&head.headers)?;
                let bytes = self.bodies.read(body, self.body_limit).await?;
                self.json(&bytes)
            }
            Route::OpenApi => {
                let mut response = Response::new(Body::from(OPENAPI));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                Ok(response)
            }
        }
    }

    fn check_host(&self, head: &Parts) -> Result<(), Problem> {
        let host = hosts::asked_host(&head.headers, head.version, &head.uri);
        let host = host.map_err(|why| Problem::new(Kind::BadHost, why.trim_end()))?;
        match host {
            Some(host) if !self.hosts.has(&host) => {
                Err(Problem::new(Kind::Host, hosts::advice(&host)))
            }
            _ => Ok(()),
        }
    }

    fn route<'h>(&self, head: &'h Parts) -> Result<Route<'h>, Problem> {
        let route = route(head.uri.path()).filter(|route| match route {
            Route::Check => self.has_check,
            Route::Json => self.envoy.is_some(),
            _ => true,
        });
        let route = route.ok_or_else(|| {
            let detail = "there are POST /v1/{sketch}/add, count, hit and take, GET /v1/{sketch}/top, GET \
                          /v1/openapi.json, GET /v1/check where the node has --http-check, and POST /json where \
                          it has --limits";
            Problem::new(Kind::NotFound, detail)
        })?;
        let is_of_path = match route {
            Route::Ask(..) | Route::Json => head.method == Method::POST,
            Route::Check => head.method == Method::GET,
            Route::Top(_) | Route::OpenApi => [Method::GET, Method::HEAD].contains(&head.method),
        };
        match is_of_path {
            true => Ok(route),
            false => Err(Problem::method(methods(route))),
        }
    }

    /// Does what a body asks for.
    fn ask(&self, operation: Operation, sketch: &str, bytes: &[u8]) -> Result<Response, Problem> {
        let start = Instant::now();
        let request: request::Request<'_> =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let engine = self.shared.engine();
        let sketch = question::find(engine, sketch)?;
        let (limits, now) = (engine.limits(), self.shared.now());
        let mut desk = self.desk();
        let desk = desk.as_mut().ok_or_else(ending)?;
        let reader = Reader {
            engine,
            session: &desk.own.session,
            limits: &limits,
            operation,
            sketch,
            now,
        };
        let questions = reader.questions(&request)?;
        let performed = desk.perform(operation, sketch, &questions, now);
        // Also where it was refused: then a pass is wanted.
        self.shared.call_control_if_due();
        let has_items = request.items.is_some();
        let response = answer::response(operation, &questions, performed?, has_items);
        let is_over = response.status() == StatusCode::TOO_MANY_REQUESTS;
        desk.note(|tally| {
            *place_of(operation, tally) += 1;
            tally.http_over += u64::from(is_over);
        });
        desk.own.note_time(start);
        Ok(response)
    }

    /// Asks the limit that a query names.
    fn check(&self, query: &str) -> Result<Response, Problem> {
        let start = Instant::now();
        let check = check::check(query)?;
        let engine = self.shared.engine();
        let (limits, now) = (engine.limits(), self.shared.now());
        let mut desk = self.desk();
        let desk = desk.as_mut().ok_or_else(ending)?;
        let sketch = rmbd_store::SketchIndex::DEFAULT;
        let reader = Reader {
            engine,
            session: &desk.own.session,
            limits: &limits,
            operation: Operation::Hit,
            sketch,
            now,
        };
        let question = reader.hit_by_name(&check.limit, &check.key, check.weight)?;
        let questions = [question];
        let performed = desk.perform(Operation::Hit, sketch, &questions, now);
        self.shared.call_control_if_due();
        let answers = performed?;
        let mut verdicts = questions.iter().zip(answers).filter_map(Verdict::of);
        let verdict = verdicts.next().ok_or_else(ending)?;
        let (response, is_over) = (verdict.bare_response(check.over), !verdict.is_allowed());
        desk.note(|tally| {
            tally.http_checks += 1;
            tally.http_over += u64::from(is_over);
        });
        desk.own.note_time(start);
        Ok(response)
    }

    /// Asks Envoy's rate limit service.
    fn json(&self, bytes: &[u8]) -> Result<Response, Problem> {
        let front = self.envoy.as_ref().ok_or_else(ending)?;
        let request =
            rmbd_envoy::json::request(bytes).map_err(|error| malformed(error.to_string()))?;
        let answer = rmbd_envoy::ask(&**front, &request).map_err(|why| match why {
            Undecided::Unavailable(detail) => Problem::new(Kind::Busy, detail),
            why => malformed(why.to_string()),
        })?;
        let mut response = Response::new(Body::from(rmbd_envoy::json::response(&answer)));
        if answer.is_over() {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        }
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok(response)
    }

    fn note(&self, count: impl FnOnce(&mut Tally)) {
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

/// Where a path leads.
fn route(path: &str) -> Option<Route<'_>> {
    if path == JSON {
        return Some(Route::Json);
    }
    let rest = path.strip_prefix(START)?;
    let Some((sketch, last)) = rest.split_once('/') else {
        return match rest {
            "check" => Some(Route::Check),
            "openapi.json" => Some(Route::OpenApi),
            _ => None,
        };
    };
    if last == "top" {
        return Some(Route::Top(sketch));
    }
    let mut all = Operation::ALL.into_iter();
    let operation = all.find(|operation| operation.name() == last)?;
    Some(Route::Ask(operation, sketch))
}

fn methods(route: Route<'_>) -> &'static str {
    match route {
        Route::Ask(..) | Route::Json => "POST",
        Route::Check => "GET",
        Route::Top(_) | Route::OpenApi => "GET, HEAD",
    }
}

fn place_of(operation: Operation, tally: &mut Tally) -> &mut u64 {
    match operation {
        Operation::Add => &mut tally.http_adds,
        Operation::Count => &mut tally.http_counts,
        Operation::Hit => &mut tally.http_hits,
        Operation::Take => &mut tally.http_takes,
    }
}

fn ending() -> Problem {
    Problem::new(
        Kind::Ending,
        "the node ends: ask another, or this one when it is back",
    )
}
