//! The messages of `envoy.service.ratelimit.v3`, as far as they are asked and answered here. Unknown fields are left
//! out, as protobuf wants.
//!
//! Numbers: `envoy/service/ratelimit/v3/rls.proto` and `envoy/extensions/common/ratelimit/v3/ratelimit.proto`.

use prost::{Enumeration, Message};

/// A question about some descriptors.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RateLimitRequest {
    /// Whose rules are meant.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// What is asked about, each for itself.
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<RateLimitDescriptor>,
    /// How much each of them is to be counted that says nothing itself; 0 is 1.
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

/// What is asked about: pairs, from the most general to the most special.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RateLimitDescriptor {
    /// The pairs.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// A limit in place of the rule's.
    #[prost(message, optional, tag = "2")]
    pub limit: Option<Override>,
    /// How much it is to be counted; 0 only looks.
    #[prost(message, optional, tag = "3")]
    pub hits_addend: Option<HitsAddend>,
    /// Whether that is to be given back.
    #[prost(bool, tag = "4")]
    pub is_negative_hits: bool,
}

/// A pair of a descriptor.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Entry {
    /// What it is.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Which one.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A limit in a request.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Override {
    /// How many pass in each unit.
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// The unit of time.
    #[prost(enumeration = "Unit", tag = "2")]
    pub unit: i32,
}

/// A number that may be missing (`google.protobuf.UInt64Value`).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HitsAddend {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RateLimitResponse {
    /// Whether any of them is over.
    #[prost(enumeration = "Code", tag = "1")]
    pub overall_code: i32,
    /// The answer to each descriptor, in the order of the request.
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<DescriptorStatus>,
}

/// The answer to a descriptor.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DescriptorStatus {
    /// Whether it is over.
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// The limit that it has; `None` is none.
    #[prost(message, optional, tag = "2")]
    pub current_limit: Option<RateLimit>,
    /// How much may still be counted.
    #[prost(uint32, tag = "3")]
    pub limit_remaining: u32,
    /// When it is within the limit again.
    #[prost(message, optional, tag = "4")]
    pub duration_until_reset: Option<Span>,
}

/// A limit.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RateLimit {
    /// How many pass in each unit.
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// The unit of time.
    #[prost(enumeration = "Unit", tag = "2")]
    pub unit: i32,
    /// The name of the rule, if it has one.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// A span of time (`google.protobuf.Duration`).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Span {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// Whether something is over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Code {
    /// Nothing is said. It is never answered here: proxies let pass whatever it is said of.
    Unknown = 0,
    /// It is within its limit, or has none.
    Ok = 1,
    /// It is over it.
    OverLimit = 2,
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Unit {
    /// None is said.
    Unknown = 0,
    /// A second.
    Second = 1,
    /// A minute.
    Minute = 2,
    /// An hour.
    Hour = 3,
    /// A day.
    Day = 4,
    /// A month.
    Month = 5,
    /// A year.
    Year = 6,
    /// A week.
    Week = 7,
}

impl RateLimitResponse {
    /// The answer of these statuses: over where any of them is.
    #[must_use]
    pub fn of(statuses: Vec<DescriptorStatus>) -> Self {
        let is_over = statuses.iter().any(DescriptorStatus::is_over);
        let overall_code = if is_over { Code::OverLimit } else { Code::Ok };
        Self {
            overall_code: overall_code.into(),
            statuses,
        }
    }

    /// Whether any descriptor is over its limit.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.overall_code() == Code::OverLimit
    }
}

impl DescriptorStatus {
    /// A status that says only this.
    #[must_use]
    pub fn of(code: Code) -> Self {
        Self {
            code: code.into(),
            ..Self::default()
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.code() == Code::OverLimit
    }
}

impl From<std::time::Duration> for Span {
    fn from(span: std::time::Duration) -> Self {
        Self {
            seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
            // It is below 10^9.
            nanos: span.subsec_nanos() as i32,
        }
    }
}
