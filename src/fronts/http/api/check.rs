//! A verdict for proxies that ask before each request, by a GET without a body.

use axum::http::StatusCode;

use super::problem::Problem;
use super::question::{checked_key, malformed};
use crate::fronts::http::query::parameters;

/// What a check asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// The name of the limit.
    pub(super) limit: String,
    pub(super) key: Vec<u8>,
    pub(super) weight: u64,
    /// The status of a verdict that is over.
    pub(super) over: StatusCode,
}

/// Parses a query of `limit=` and `key=`, and perhaps `weight=` and `over=`.
pub(super) fn check(query: &str) -> Result<Check, Problem> {
    let values = parameters(query, ["limit", "key", "weight", "over"]);
    let [limit, key, weight, over] = values.map_err(|error| {
        malformed(format!(
            "{error}: a check has limit and key, and may have weight and over"
        ))
    })?;
    let limit = limit.and_then(|name| String::from_utf8(name).ok());
    let key = key.ok_or_else(|| malformed("no key: ask for /v1/check?limit=NAME&key=KEY"))?;
    if checked_key(&key)?.is_empty() {
        // All visitors would share it.
        return Err(malformed(
            "the key is empty: the proxy's variable has no value",
        ));
    }
    let weight = weight.map_or(Some(1), |text| number(&text));
    let over = match over.as_deref() {
        None | Some(b"429") => StatusCode::TOO_MANY_REQUESTS,
        Some(b"403") => StatusCode::FORBIDDEN,
        Some(_) => return Err(malformed("over is 429 or 403")),
    };
    Ok(Check {
        limit: limit.ok_or_else(|| malformed("no limit: ask for /v1/check?limit=NAME&key=KEY"))?,
        key,
        weight: weight.ok_or_else(|| malformed("weight is a number from 0 on"))?,
        over,
    })
}

fn number(text: &[u8]) -> Option<u64> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(text).ok().filter(|_| is_number)?;
    text.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_check_names_limit_and_key() {
        let expected = |key: &[u8], weight, over| Check {
            limit: "api".to_owned(),
            key: key.to_vec(),
            weight,
            over,
        };
        for (query, key, weight, over) in [
            (
                "limit=api&key=a",
                &b"a"[..],
                1,
                StatusCode::TOO_MANY_REQUESTS,
            ),
            (
                "key=%ff%26&limit=api&over=403",
                b"\xff&",
                1,
                StatusCode::FORBIDDEN,
            ),
            (
                "limit=api&key=+&weight=7&over=429",
                b"+",
                7,
                StatusCode::TOO_MANY_REQUESTS,
            ),
        ] {
            assert_eq!(check(query), Ok(expected(key, weight, over)), "{query}");
        }
        let long = format!("limit=api&key={}", "a".repeat(1025));
        for (query, words) in [
            ("", "no key"),
            ("key=a", "no limit"),
            ("limit=%ff&key=a", "no limit"),
            ("limit=api", "no key"),
            ("limit=api&key=", "empty"),
            ("limit=api&key=a&key=b", "twice"),
            ("limit=api&key=%f", "hexadecimal"),
            ("limit=api&key=a&weight=-1", "weight is"),
            ("limit=api&key=a&weight=+1", "weight is"),
            ("limit=api&key=a&over=500", "over is"),
            ("limit=api&key=a&user=b", "limit and key"),
            (&long, "1024"),
        ] {
            let detail = check(query).unwrap_err().detail;
            assert!(detail.contains(words), "{query}: {detail}");
        }
    }
}
