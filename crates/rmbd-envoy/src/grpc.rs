//! The services over gRPC: Envoy's rate limit, and gRPC's own health.

use std::future::{Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use prost::{Enumeration, Message};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code as GrpcCode, Status};
use tonic_prost::ProstCodec;

use crate::bounds::{MESSAGE_BYTES_MAX, REQUEST_LIMIT};
use crate::room::Room;
use crate::{Decide, Event, RateLimitRequest, RateLimitResponse, Undecided, ask};

/// The path of the rate limit service's only call.
pub const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// The path of the health service's call.
pub const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// The services whose health is known; the empty name is the node's.
const SERVICES: [&str; 3] = [
    "",
    "envoy.service.ratelimit.v3.RateLimitService",
    "ratelimit",
];

/// The services of a node.
pub(crate) struct Services<D> {
    pub(crate) decide: Arc<D>,
    pub(crate) room: Arc<Room>,
}

/// A question for the health of a service (`grpc.health.v1`).
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct HealthRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// The health of a service.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct HealthResponse {
    #[prost(enumeration = "Health", tag = "1")]
    pub(crate) status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum Health {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
}

impl<D: Decide> Services<D> {
    /// Answers a request within its time.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.method() != Method::POST || !is_grpc(request.headers()) {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let response = timeout(REQUEST_LIMIT, self.route(request)).await;
        response.unwrap_or_else(|_| {
            self.decide.note(Event::Broken);
            let text = format!(
                "send the whole request within {} s",
                REQUEST_LIMIT.as_secs()
            );
            Status::deadline_exceeded(text).into_http()
        })
    }

    async fn route<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.map(|body| self.room.bounded(body));
        let decide = Arc::clone(&self.decide);
        match request.uri().path() {
            SHOULD_RATE_LIMIT => {
                let codec = ProstCodec::<RateLimitResponse, RateLimitRequest>::default();
                let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX);
                grpc.unary(ShouldRateLimit(decide), request).await
            }
            HEALTH_CHECK => {
                let codec = ProstCodec::<HealthResponse, HealthRequest>::default();
                let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX);
                grpc.unary(CheckHealth(decide), request).await
            }
            _ => {
                let text = "there are ShouldRateLimit of envoy.service.ratelimit.v3 and Check of grpc.health.v1";
                Status::unimplemented(text).into_http()
            }
        }
    }
}

/// `application/grpc`, perhaps with `+proto`; other codings of messages are not understood.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind == Some(b"application/grpc") || kind == Some(b"application/grpc+proto")
}

struct ShouldRateLimit<D>(Arc<D>);

impl<D: Decide> UnaryService<RateLimitRequest> for ShouldRateLimit<D> {
    type Response = RateLimitResponse;
    type Future = Ready<Result<tonic::Response<RateLimitResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<RateLimitRequest>) -> Self::Future {
        let decide = &*self.0;
        // A panic here would end a task that nobody waits for.
        let asked = catch_unwind(AssertUnwindSafe(|| ask(decide, request.get_ref())));
        let answer = asked.unwrap_or_else(|_| {
            decide.note(Event::Panicked);
            let text = "the node has a fault, which its log names: ask another node";
            Err(Undecided::Unavailable(text.to_owned()))
        });
        ready(answer.map(tonic::Response::new).map_err(Status::from))
    }
}

struct CheckHealth<D>(Arc<D>);

impl<D: Decide> UnaryService<HealthRequest> for CheckHealth<D> {
    type Response = HealthResponse;
    type Future = Ready<Result<tonic::Response<HealthResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<HealthRequest>) -> Self::Future {
        let service = request.get_ref().service.as_str();
        if !SERVICES.contains(&service) {
            return ready(Err(Status::not_found("unknown service")));
        }
        let status = match self.0.is_ready() {
            true => Health::Serving,
            false => Health::NotServing,
        };
        let status = status.into();
        ready(Ok(tonic::Response::new(HealthResponse { status })))
    }
}

impl From<Undecided> for Status {
    fn from(why: Undecided) -> Self {
        let code = match why {
            Undecided::Unavailable(_) => GrpcCode::Unavailable,
            Undecided::Invalid(_) => GrpcCode::InvalidArgument,
            // These two are answered so by the service that proxies know.
            Undecided::NoDomain | Undecided::NoDescriptors => GrpcCode::Unknown,
        };
        Self::new(code, why.to_string())
    }
}
