//! The body of a request, which may be so large, and take so long.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use tokio::time::timeout;

use super::problem::{Kind, Problem};

/// Bytes of the largest body: a thousand keys of the largest size.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
/// Time for a body, which is short, from the end of its head on.
pub(super) const BODY_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of all bodies that come in several pieces, on all connections together.
const BODIES_BYTES_MAX: usize = 16 << 20;

/// The memory that bodies share which come in pieces.
#[derive(Debug, Default)]
pub(super) struct BodyRoom(AtomicUsize);

/// A part of that memory.
struct Taken<'r> {
    room: &'r BodyRoom,
    bytes: usize,
}

impl BodyRoom {
    /// Reads a body to its end.
    pub(super) async fn read<B>(&self, mut body: B, limit: Duration) -> Result<Bytes, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        // What is announced as too long is not read.
        if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let read = timeout(limit, self.collect(&mut body)).await;
        read.unwrap_or_else(|_| {
            let detail = format!(
                "send the whole body within {} s of the head",
                limit.as_secs()
            );
            Err(Problem::new(Kind::TooSlow, detail))
        })
    }

    async fn collect<B>(&self, body: &mut B) -> Result<Bytes, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let first = next(body).await?.unwrap_or_default();
        if body.is_end_stream() {
            return bounded(first);
        }
        let (mut all, mut taken) = (
            first.to_vec(),
            Taken {
                room: self,
                bytes: 0,
            },
        );
        while let Some(more) = next(body).await? {
            taken.grow(more.len())?;
            all.extend_from_slice(&more);
            if all.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
        }
        bounded(all.into())
    }
}

impl Taken<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let before = self.room.0.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        if before + bytes <= BODIES_BYTES_MAX {
            return Ok(());
        }
        let detail = "too many long bodies are under way: ask again";
        Err(Problem::new(Kind::Busy, detail))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Relaxed);
    }
}

/// Refuses what is not said to be JSON. A page of another site cannot send that without asking first, which it is not
/// answered.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let is_json = matches!((types.next(), types.next()), (Some(it), None) if is_json(it));
    if !is_json {
        let detail = "send Content-Type: application/json";
        return Err(Problem::new(Kind::MediaType, detail));
    }
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    let mut others = codings.filter(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity"));
    match others.next() {
        None => Ok(()),
        Some(_) => {
            let detail = "send the body as it is, without Content-Encoding";
            Err(Problem::new(Kind::MediaType, detail))
        }
    }
}

/// `application/json`, perhaps with the only charset that it can have (RFC 8259, 8.1).
fn is_json(value: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let is_json = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|parameter| {
            let is_utf8 = |charset: &str| charset.trim_matches('"').eq_ignore_ascii_case("utf-8");
            match parameter.split_once('=') {
                Some((name, value)) => name.eq_ignore_ascii_case("charset") && is_utf8(value),
                None => parameter.is_empty(),
            }
        })
}

/// The next piece of a body that is not empty.
async fn next<B>(body: &mut B) -> Result<Option<Bytes>, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            None => return Ok(None),
            // Trailers say nothing here.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            },
            Some(Err(_)) => {
                let detail = "the body broke off, or its chunks are no chunks";
                return Err(Problem::new(Kind::Broken, detail));
            }
        }
    }
}

fn bounded(body: Bytes) -> Result<Bytes, Problem> {
    match body.len() <= BODY_BYTES_MAX {
        true => Ok(body),
        false => Err(too_large()),
    }
}

fn too_large() -> Problem {
    let detail = format!("a body has at most {BODY_BYTES_MAX} bytes: send several requests");
    Problem::new(Kind::TooLarge, detail)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\"", true),
            ("application/json;", true),
            ("application/json; charset=latin1", false),
            ("application/json; profile=x", false),
            ("application/jsonp", false),
            ("text/plain", false),
            ("text/plain; application/json", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            assert_eq!(is_json(&value.parse().unwrap()), expected, "{value}");
        }
        let mut headers = HeaderMap::new();
        assert!(check_type(&headers).is_err());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert_eq!(check_type(&headers), Ok(()));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(check_type(&headers).is_err());
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
        headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(check_type(&headers).is_err(), "two types");
    }
}
