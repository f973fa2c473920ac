//! `/detail`: a key's count by origin.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};

use super::Source;
use rmbd_proto::compact::KEY_BYTES_MAX;

pub(super) async fn detail(State(source): Source, uri: Uri) -> Response {
    match key(uri.query().unwrap_or_default()) {
        Ok(key) => Json(source.detail(&key)).into_response(),
        Err(reason) => (StatusCode::BAD_REQUEST, reason).into_response(),
    }
}

/// Parses a query of `key=` and percent-encoded bytes (RFC 3986, 2.1). A plus is a plus.
fn key(query: &str) -> Result<Vec<u8>, &'static str> {
    let encoded = query.strip_prefix("key=");
    let encoded = encoded.ok_or("ask for /detail?key= and the key, percent-encoded\n")?;
    if encoded.contains('&') {
        return Err("one key a question; an ampersand in a key is %26\n");
    }
    let key = percent_decoded(encoded).ok_or("a % stands before two hexadecimal digits\n")?;
    match key.len() {
        0..=KEY_BYTES_MAX => Ok(key),
        _ => Err("the key is longer than 1024 bytes\n"),
    }
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let ([high, low], after) = rest.split_first_chunk()?;
        // Both digits are at most 15.
        decoded.push((digit(high)? * 16 + digit(low)?) as u8);
        rest = after;
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_any_bytes() {
        for (query, expected) in [
            ("key=", &b""[..]),
            ("key=abc", b"abc"),
            ("key=a+b%2Bc%20d", b"a+b+c d"),
            ("key=%00%ff%FF%26%3d=", b"\0\xff\xff&=="),
        ] {
            assert_eq!(key(query).as_deref(), Ok(expected), "{query}");
        }
        let longest = "%61".repeat(KEY_BYTES_MAX);
        assert_eq!(
            key(&format!("key={longest}")).as_deref(),
            Ok(&[b'a'; KEY_BYTES_MAX][..])
        );
    }

    #[test]
    fn what_is_no_key_is_said() {
        let too_long = format!("key={}", "a".repeat(KEY_BYTES_MAX + 1));
        for (query, word) in [
            ("", "key="),
            ("name=a", "key="),
            ("key=a&key=b", "one key"),
            ("key=%", "two hexadecimal digits"),
            ("key=%1", "two hexadecimal digits"),
            ("key=%1g", "two hexadecimal digits"),
            ("key=%+1", "two hexadecimal digits"),
            (&too_long, "1024"),
        ] {
            assert!(
                key(query).is_err_and(|reason| reason.contains(word)),
                "{query}"
            );
        }
    }
}
