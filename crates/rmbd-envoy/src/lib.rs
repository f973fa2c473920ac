//! Envoy's rate limit service: its messages, its way over gRPC and over JSON, around one question.
//!
//! A proxy asks [`SHOULD_RATE_LIMIT`] with a domain and descriptors, and is told of each of them whether it is over
//! its limit. Whoever implements [`Decide`] answers; nothing here knows rules or counts. [`serve`] does all between a
//! listener and that trait: HTTP/2, gRPC, gRPC's health service, and the bounds of what strangers may cost
//! ([`bounds`]). [`json`] reads and writes the same messages as proto3 JSON.
//!
//! ```
//! use rmbd_envoy::{Code, Decide, DescriptorStatus, RateLimitRequest, RateLimitResponse, Undecided, ask};
//!
//! /// Lets everybody pass.
//! struct Open;
//!
//! impl Decide for Open {
//!     fn decide(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Undecided> {
//!         let statuses = request.descriptors.iter().map(|_| DescriptorStatus::of(Code::Ok));
//!         Ok(RateLimitResponse::of(statuses.collect()))
//!     }
//! }
//!
//! let request = rmbd_envoy::json::request(br#"{"domain":"edge","descriptors":[{"entries":[{"key":"user"}]}]}"#)?;
//! let answer = ask(&Open, &request)?;
//! assert_eq!(rmbd_envoy::json::response(&answer), r#"{"overallCode":"OK","statuses":[{"code":"OK"}]}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bounds;
mod connection;
mod decide;
mod grpc;
pub mod json;
mod listen;
mod messages;
mod room;
#[cfg(test)]
mod tests;

pub use self::decide::{Decide, Event, Undecided, ask};
pub use self::grpc::{HEALTH_CHECK, SHOULD_RATE_LIMIT};
pub use self::listen::{Bounds, serve};
pub use self::messages::{
    Code, DescriptorStatus, Entry, HitsAddend, Override, RateLimit, RateLimitDescriptor,
    RateLimitRequest, RateLimitResponse, Span, Unit,
};
