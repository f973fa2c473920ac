//! The question, whoever answers it, and what is refused before.

use std::net::IpAddr;

use thiserror::Error;

use crate::bounds::{DESCRIPTORS_MAX, ENTRIES_MAX, PART_BYTES_MAX};
use crate::{RateLimitDescriptor, RateLimitRequest, RateLimitResponse};

/// Whoever decides. Its calls come from the thread that serves, and must not block.
pub trait Decide: Send + Sync + 'static {
    /// Decides about each descriptor of a request that [`ask`] has found good. All of it is done, or nothing.
    ///
    /// # Errors
    /// [`Undecided`]: nothing was counted.
    fn decide(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Undecided>;

    /// Whether it decides at this moment, as the health service tells.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether whoever connects from this address may ask.
    fn may_ask(&self, _from: IpAddr) -> bool {
        true
    }

    /// Something happened that may be counted.
    fn note(&self, _event: Event) {}
}

/// What happens between a listener and [`Decide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A connection is served.
    Accepted,
    /// A connection that was served is gone.
    Closed,
    /// A connection was refused for its address.
    NotAllowed,
    /// A connection was refused, since there are as many as there may be.
    NoPlace,
    /// A request was refused as it was.
    Refused,
    /// A request broke off, or took too long to come.
    Broken,
    /// [`Decide`] panicked. The request was answered as an error.
    Panicked,
}

/// Why there is no decision. Nothing was counted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Undecided {
    /// The node cannot decide at this moment.
    #[error("{0}")]
    Unavailable(String),
    /// Nobody can decide about such a request.
    #[error("{0}")]
    Invalid(String),
    /// The request names no domain.
    #[error("rate limit domain must not be empty")]
    NoDomain,
    /// The request has no descriptors.
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
}

/// Asks whoever decides, unless a request is refused as it is.
///
/// # Errors
/// [`Undecided`]: nothing was counted.
pub fn ask(
    decide: &impl Decide,
    request: &RateLimitRequest,
) -> Result<RateLimitResponse, Undecided> {
    check(request).inspect_err(|_| decide.note(Event::Refused))?;
    decide.decide(request)
}

/// Refuses what is out of bounds, and what is not done here.
fn check(request: &RateLimitRequest) -> Result<(), Undecided> {
    if request.domain.is_empty() {
        return Err(Undecided::NoDomain);
    }
    let descriptors = &request.descriptors;
    if descriptors.is_empty() {
        return Err(Undecided::NoDescriptors);
    }
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(invalid(format_args!(
            "{} descriptors are above the limit of {DESCRIPTORS_MAX}: send several requests",
            descriptors.len()
        )));
    }
    let entries: usize = descriptors.iter().map(|it| it.entries.len()).sum();
    if entries > ENTRIES_MAX {
        return Err(invalid(format_args!(
            "{entries} entries of descriptors are above the limit of {ENTRIES_MAX}: send several requests"
        )));
    }
    check_part("the domain", &request.domain)?;
    descriptors.iter().try_for_each(check_descriptor)
}

fn check_descriptor(descriptor: &RateLimitDescriptor) -> Result<(), Undecided> {
    if descriptor.is_negative_hits {
        return Err(invalid(format_args!(
            "is_negative_hits is not possible: counts only grow here, and windows forget; leave it out"
        )));
    }
    descriptor.entries.iter().try_for_each(|entry| {
        check_part("the key of an entry", &entry.key)?;
        check_part("the value of an entry", &entry.value)
    })
}

fn check_part(what: &str, part: &str) -> Result<(), Undecided> {
    match part.len() {
        0..=PART_BYTES_MAX => Ok(()),
        bytes => Err(invalid(format_args!(
            "{what} has {bytes} bytes, above the limit of {PART_BYTES_MAX}"
        ))),
    }
}

fn invalid(text: std::fmt::Arguments<'_>) -> Undecided {
    Undecided::Invalid(text.to_string())
}
