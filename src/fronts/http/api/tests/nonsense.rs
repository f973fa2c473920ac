//! Requests that mean nothing, or take too long, over real connections.

use std::io::Write;
use std::net::Shutdown;

use super::*;
use crate::fronts::http::connections::Limits;
use crate::fronts::http::tests::{Answer, Server, read_until_closed};

fn server() -> Server {
    let source = Arc::new(Fake::new(true));
    Server::of(Limits::default(), source, Some(api()))
}

/// The answer to these bytes.
fn answer_to(server: &Server, request: &[u8]) -> Answer {
    let mut stream = server.connect();
    // It may be refused before it is read.
    let _ = stream.write_all(request);
    Answer::parse(&read_until_closed(&mut stream))
}

fn head(path: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n{more}\r\n"
    )
}

fn posting(path: &str, body: &str) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n", body.len());
    [head(path, &length).as_bytes(), body.as_bytes()].concat()
}

fn kind(answer: &Answer) -> String {
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    let kind = json["type"].as_str().unwrap();
    kind.rsplit(':').next().unwrap().to_owned()
}

#[test]
fn nonsense_is_answered_and_nothing_is_added() {
    let server = server();
    let nested = |start: &str| format!("{}{}", start.repeat(10_000), "]".repeat(1 << 19));
    let path = "/v1/default/add";
    for (body, words) in [
        (nested("["), "expected"),
        (nested(r#"{"items":["#), "outermost"),
        (nested(r#"{"key":["#), "a key"),
        (
            format!(
                r#"{{"items":[{}]}}"#,
                vec!["{\"key\":\"a\"}"; 1_001].join(",")
            ),
            "more than 1000",
        ),
        ("\u{feff}{}".to_owned(), "expected"),
        ("{\"key\":\"a\"}{}".to_owned(), "trailing"),
        (String::new(), "EOF"),
    ] {
        let answer = answer_to(&server, &posting(path, &body));
        assert_eq!(
            (answer.code, kind(&answer).as_str()),
            (400, "malformed"),
            "{body:.40}"
        );
        assert!(answer.body.contains(words), "{body:.40}: {}", answer.body);
    }
    // JSON is UTF-8.
    let mut bytes = posting(path, r#"{"key":"??"}"#);
    let at = bytes.len() - 4;
    bytes[at] = 0xff;
    assert_eq!(answer_to(&server, &bytes).code, 400);
    let counted = answer_to(&server, &posting("/v1/default/count", r#"{"key":"a"}"#));
    assert!(counted.body.contains(r#""estimate":0"#), "{}", counted.body);
}

#[test]
fn bodies_are_bounded() {
    let server = server();
    let path = "/v1/default/add";
    let announced = head(path, "Content-Length: 1048577\r\n");
    let answer = answer_to(&server, announced.as_bytes());
    assert_eq!((answer.code, kind(&answer).as_str()), (413, "too-large"));
    // A body whose length nobody says is read as far as it may go.
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16)).repeat(17);
    let endless = head(path, "Transfer-Encoding: chunked\r\n") + &chunk;
    let answer = answer_to(&server, endless.as_bytes());
    assert_eq!((answer.code, kind(&answer).as_str()), (413, "too-large"));
    let largest = format!("{}{}", r#"{"key":"a"}"#, " ".repeat((1 << 20) - 11));
    assert_eq!(answer_to(&server, &posting(path, &largest)).code, 200);
    let chunks = "7\r\n{\"key\":\r\n0004;x=y\r\n\"b\"}\r\n0\r\n\r\n";
    let chunked = head(path, "Transfer-Encoding: chunked\r\n") + chunks;
    assert_eq!(answer_to(&server, chunked.as_bytes()).code, 200);
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    let server = server();
    let path = "/v1/default/add";
    for more in [
        "Content-Length: 11\r\nContent-Length: 12\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: x\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip\r\n",
    ] {
        let request = head(path, more) + r#"{"key":"z"}"#;
        let answer = answer_to(&server, request.as_bytes());
        assert_eq!(answer.code, 400, "{more}");
    }
    // A chunked body has no other length, so that no proxy takes another end for the request's.
    let both = head(path, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    let both = both + "B\r\n{\"key\":\"z\"}\r\n0\r\n\r\n";
    let answer = answer_to(&server, both.as_bytes());
    assert!(matches!(answer.code, 200 | 400), "{answer:?}");
    for chunks in ["zz\r\n", "2\r\n{}}\r\n0\r\n\r\n"] {
        let request = head(path, "Transfer-Encoding: chunked\r\n") + chunks;
        let answer = answer_to(&server, request.as_bytes());
        assert_eq!(answer.code, 400, "{chunks}");
    }
    // Who breaks off in the middle may not be there any more.
    let mut stream = server.connect();
    let short = head(path, "Content-Length: 100\r\n") + r#"{"key":"z"}"#;
    stream.write_all(short.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = read_until_closed(&mut stream);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
        "{answer:?}"
    );
    let counted = answer_to(&server, &posting("/v1/default/count", r#"{"key":"z"}"#));
    let estimate: Value = serde_json::from_str(&counted.body).unwrap();
    assert!(
        matches!(estimate["estimate"].as_u64(), Some(0 | 1)),
        "{estimate}"
    );
}

#[test]
fn a_body_must_come_in_time() {
    let mut api = api();
    Arc::get_mut(&mut api).unwrap().body_limit = Duration::from_millis(50);
    let source = Arc::new(Fake::new(true));
    let server = Server::of(Limits::default(), source, Some(api));
    let mut stream = server.connect();
    let request = head("/v1/default/add", "Content-Length: 11\r\n") + "{";
    stream.write_all(request.as_bytes()).unwrap();
    let answer = Answer::parse(&read_until_closed(&mut stream));
    assert_eq!((answer.code, kind(&answer).as_str()), (408, "too-slow"));
}

#[test]
fn paths_and_methods_that_there_are_not_are_named() {
    let server = server();
    for (method, path, code, allow) in [
        ("GET", "/v1/default/add", 405, "POST"),
        ("PUT", "/v1/default/hit", 405, "POST"),
        ("HEAD", "/v1/default/take", 405, "POST"),
        ("POST", "/v1/default/top", 405, "GET, HEAD"),
        ("DELETE", "/v1/openapi.json", 405, "GET, HEAD"),
        ("HEAD", "/v1/check", 405, "GET"),
        ("GET", "/v1/openapi.json", 200, ""),
        ("HEAD", "/v1/openapi.json", 200, ""),
        ("HEAD", "/v1/default/top", 200, ""),
        ("POST", "/v1/default/add/", 404, ""),
        ("POST", "/v1/default/Add", 404, ""),
        ("POST", "/v1//add", 415, ""),
        ("POST", "/v1/a%2fb/add", 415, ""),
        ("GET", "/v1/", 404, ""),
        ("GET", "/v1/default", 404, ""),
        ("GET", "/v2/default/top", 404, ""),
    ] {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = answer_to(&server, request.as_bytes());
        assert_eq!(
            (answer.code, answer.header("allow")),
            (code, allow),
            "{method} {path}"
        );
    }
    let unknown = answer_to(&server, &posting("/v1//add", "{}"));
    assert_eq!(
        (unknown.code, kind(&unknown).as_str()),
        (404, "unknown-sketch")
    );
}

#[test]
fn one_connection_asks_again_and_again() {
    let server = server();
    let mut stream = server.connect();
    let body = r#"{"key":"a","limit":2}"#;
    let request = format!(
        "POST /v1/default/take HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // The first three come at once.
    stream.write_all(request.repeat(3).as_bytes()).unwrap();
    for code in [200, 200, 429] {
        assert_eq!(Answer::read(&mut stream).unwrap().code, code);
    }
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).unwrap().code, 429);
}
