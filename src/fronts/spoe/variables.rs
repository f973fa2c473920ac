//! The variables of an answer.

use std::time::Duration;

use super::question::{ERROR_BYTES_MAX, Manner, Problem};
use crate::engine::LimitsAnswer;
use rmbd_proto::spoe::{AckWriter, Scope, Value};

const ALLOWED: &str = "allowed";
const OVER: &str = "over";
const ESTIMATE: &str = "estimate";
const REMAINING: &str = "remaining";
const RETRY_AFTER_MS: &str = "retry_after_ms";
const ERROR: &str = "error";
/// All of them. Each answer sets or forgets each, so that none is left of an answer before.
const ALL: [&str; 6] = [ALLOWED, OVER, ESTIMATE, REMAINING, RETRY_AFTER_MS, ERROR];

/// They live from a request to the end of its response.
const SCOPE: Scope = Scope::Transaction;
/// Bytes before the name of each: an action, how many arguments it has, a scope, and the length of the name, which is
/// below 240.
const HEAD_BYTES: usize = 4;
/// Bytes of the values of an answer at most: two booleans, and three numbers of 64 bits or a text and its length.
const VALUES_BYTES_MAX: usize = 2 + 1 + 1 + ERROR_BYTES_MAX;
/// The largest number that HAProxy has.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Bytes of the answer to a message at most.
pub(super) fn bytes_max(manner: Manner<'_>) -> usize {
    let before = match manner.prefix.len() {
        0 => 0,
        length => length + 1,
    };
    let names = ALL.map(|name| HEAD_BYTES + before + name.len());
    names.iter().sum::<usize>() + VALUES_BYTES_MAX
}

/// Whether a request may pass.
pub(super) fn is_allowed(manner: Manner<'_>, outcome: &Result<LimitsAnswer, Problem>) -> bool {
    match outcome {
        Ok(told) => !told.is_over || told.is_shadow,
        Err(_) => manner.fails_open,
    }
}

/// Writes the answer to a message.
pub(super) fn write(
    ack: &mut AckWriter<'_>,
    manner: Manner<'_>,
    outcome: &Result<LimitsAnswer, Problem>,
) {
    let told = outcome.as_ref().ok();
    let is_allowed = is_allowed(manner, outcome);
    let number = |number: u64| Value::Unsigned(number.min(NUMBER_MAX));
    let has_limit = told.is_some_and(|told| *told != LimitsAnswer::NO_LIMIT);
    let remaining = told
        .filter(|_| has_limit)
        .map(|told| number(told.remaining));
    let wait = match (told, is_allowed) {
        (None, _) => None,
        (Some(_), true) => Some(0),
        (Some(told), false) => told.retry_after.map(ms_rounded_up),
    };
    let error = outcome.as_ref().err();
    let values = [
        (ALLOWED, Some(Value::Bool(is_allowed))),
        (
            OVER,
            Some(Value::Bool(told.is_some_and(|told| told.is_over))),
        ),
        (ESTIMATE, told.map(|told| number(told.estimate))),
        (REMAINING, remaining),
        (RETRY_AFTER_MS, wait.map(number)),
        (
            ERROR,
            error.map(|error| Value::Text(error.text().as_bytes())),
        ),
    ];
    let point = if manner.prefix.is_empty() { "" } else { "." };
    for (name, value) in values {
        let name = [manner.prefix, point, name];
        match value {
            Some(value) => ack.set(SCOPE, &name, value),
            None => ack.unset(SCOPE, &name),
        }
    }
}

fn ms_rounded_up(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
