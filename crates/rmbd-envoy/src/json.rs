//! The same messages as JSON, in the way of protobuf (<https://protobuf.dev/programming-guides/json/>).
//!
//! Names are in camel case, and taken as they are in protobuf, too; enumerations are their names or numbers, numbers
//! may be texts, `null` is what is missing, and a field that is not known is an error.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::{
    Code, DescriptorStatus, Entry, HitsAddend, Override, RateLimit, RateLimitDescriptor,
    RateLimitRequest, RateLimitResponse, Span, Unit,
};

/// A text that is no request.
#[derive(Debug, Error)]
#[error("not a RateLimitRequest as JSON: {0}")]
pub struct NoRequest(#[from] serde_json::Error);

/// Reads a request.
///
/// # Errors
/// [`NoRequest`] says where and what is wrong.
pub fn request(json: &[u8]) -> Result<RateLimitRequest, NoRequest> {
    let request: RequestJson = serde_json::from_slice(json)?;
    Ok(RateLimitRequest {
        domain: request.domain.unwrap_or_default(),
        descriptors: or_none(request.descriptors),
        hits_addend: request.hits_addend.map_or(0, |Uint32(hits)| hits),
    })
}

/// Writes an answer.
#[must_use]
pub fn response(answer: &RateLimitResponse) -> String {
    let statuses = answer.statuses.iter().map(StatusJson::of);
    let answer = ResponseJson {
        overall_code: code_name(answer.overall_code()),
        statuses: statuses.collect(),
    };
    // Nothing in it can fail.
    serde_json::to_string(&answer).unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestJson {
    domain: Option<String>,
    descriptors: Option<Vec<DescriptorJson>>,
    #[serde(alias = "hits_addend")]
    hits_addend: Option<Uint32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DescriptorJson {
    entries: Option<Vec<EntryJson>>,
    limit: Option<OverrideJson>,
    #[serde(alias = "hits_addend")]
    hits_addend: Option<Uint64>,
    #[serde(alias = "is_negative_hits")]
    is_negative_hits: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryJson {
    key: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OverrideJson {
    #[serde(alias = "requests_per_unit")]
    requests_per_unit: Option<Uint32>,
    unit: Option<UnitJson>,
}

/// A whole number, as such or as a text.
struct Uint64(u64);

/// The same of 32 bits.
struct Uint32(u32);

/// A unit, by its name or number. A number that is not known stays.
struct UnitJson(i32);

fn or_none<J, T: From<J>>(all: Option<Vec<J>>) -> Vec<T> {
    let all = all.unwrap_or_default().into_iter();
    all.map(T::from).collect()
}

impl From<DescriptorJson> for RateLimitDescriptor {
    fn from(json: DescriptorJson) -> Self {
        Self {
            entries: or_none(json.entries),
            limit: json.limit.map(Override::from),
            hits_addend: json.hits_addend.map(|Uint64(value)| HitsAddend { value }),
            is_negative_hits: json.is_negative_hits.unwrap_or_default(),
        }
    }
}

impl From<EntryJson> for Entry {
    fn from(json: EntryJson) -> Self {
        Self {
            key: json.key.unwrap_or_default(),
            value: json.value.unwrap_or_default(),
        }
    }
}

impl From<OverrideJson> for Override {
    fn from(json: OverrideJson) -> Self {
        Self {
            requests_per_unit: json.requests_per_unit.map_or(0, |Uint32(number)| number),
            unit: json.unit.map_or(0, |UnitJson(unit)| unit),
        }
    }
}

impl<'de> Deserialize<'de> for Uint64 {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Whole).map(Self)
    }
}

impl<'de> Deserialize<'de> for Uint32 {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let number = json.deserialize_any(Whole)?;
        let small = u32::try_from(number);
        small
            .map(Self)
            .map_err(|_| de::Error::custom(format_args!("{number} is above 2^32 - 1")))
    }
}

impl<'de> Deserialize<'de> for UnitJson {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(UnitName).map(Self)
    }
}

/// Takes numbers and texts of numbers that are whole and not below zero.
struct Whole;

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, not below 0")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
        // Above that, not every whole number is there.
        let is_whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
        let wrong = || E::invalid_value(de::Unexpected::Float(number), &self);
        is_whole.then_some(number as u64).ok_or_else(wrong)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        let wrong = |_| E::invalid_value(de::Unexpected::Str(text), &self);
        text.parse().map_err(wrong)
    }
}

struct UnitName;

impl Visitor<'_> for UnitName {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<i32, E> {
        let wrong = |_| E::invalid_value(de::Unexpected::Unsigned(number), &self);
        i32::try_from(number).map_err(wrong)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<i32, E> {
        let wrong = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
        i32::try_from(number).map_err(wrong)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<i32, E> {
        let mut units = UNITS.into_iter();
        let unit = units.find(|unit| unit_name(*unit) == name);
        let wrong = || E::invalid_value(de::Unexpected::Str(name), &self);
        unit.map(i32::from).ok_or_else(wrong)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    overall_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<StatusJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_limit: Option<RateLimitJson<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    limit_remaining: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_until_reset: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RateLimitJson<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    requests_per_unit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
}

impl<'a> StatusJson<'a> {
    fn of(status: &'a DescriptorStatus) -> Self {
        Self {
            code: code_name(status.code()),
            current_limit: status.current_limit.as_ref().map(RateLimitJson::of),
            limit_remaining: status.limit_remaining,
            duration_until_reset: status.duration_until_reset.map(seconds),
        }
    }
}

impl<'a> RateLimitJson<'a> {
    fn of(limit: &'a RateLimit) -> Self {
        Self {
            requests_per_unit: limit.requests_per_unit,
            unit: Some(unit_name(limit.unit())).filter(|_| limit.unit() != Unit::Unknown),
            name: &limit.name,
        }
    }
}

/// What is at its default is left out.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn code_name(code: Code) -> Option<&'static str> {
    match code {
        Code::Unknown => None,
        Code::Ok => Some("OK"),
        Code::OverLimit => Some("OVER_LIMIT"),
    }
}

const UNITS: [Unit; 8] = [
    Unit::Unknown,
    Unit::Second,
    Unit::Minute,
    Unit::Hour,
    Unit::Day,
    Unit::Month,
    Unit::Year,
    Unit::Week,
];

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Unknown => "UNKNOWN",
        Unit::Second => "SECOND",
        Unit::Minute => "MINUTE",
        Unit::Hour => "HOUR",
        Unit::Day => "DAY",
        Unit::Month => "MONTH",
        Unit::Year => "YEAR",
        Unit::Week => "WEEK",
    }
}

/// A span as `37s`, with three, six or nine digits of a second where they are needed.
fn seconds(span: Span) -> String {
    let Span { seconds, nanos } = span;
    match nanos {
        0 => format!("{seconds}s"),
        ms if ms % 1_000_000 == 0 => format!("{seconds}.{:03}s", ms / 1_000_000),
        us if us % 1_000 == 0 => format!("{seconds}.{:06}s", us / 1_000),
        ns => format!("{seconds}.{ns:09}s"),
    }
}
