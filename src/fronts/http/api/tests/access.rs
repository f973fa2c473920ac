//! Who may ask what: from where, with which token, and not from the page of a browser.

use super::*;
use axum::http::header::{AUTHORIZATION, ORIGIN};

/// A request for each thing that may be asked, by what it needs.
const ADDS: [(&str, &str); 4] = [
    ("/v1/default/add", r#"{"key":"a"}"#),
    ("/v1/default/hit", r#"{"key":"a","limit":99}"#),
    ("/v1/default/take", r#"{"key":"a","limit":99}"#),
    (
        "/json",
        r#"{"domain":"edge","descriptors":[{"entries":[{"key":"account"}]}]}"#,
    ),
];
const COUNT: (&str, &str) = ("/v1/default/count", r#"{"key":"a"}"#);

fn with(mut request: Request<Body>, headers: &[(&str, &str)]) -> Request<Body> {
    for &(name, value) in headers {
        let name: axum::http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    request
}

/// The code and, where it is one, the kind of the problem.
fn outcome(api: &Api, request: Request<Body>, from: IpAddr) -> (u16, String) {
    let told = ask(api, request, from);
    let kind = match told.code {
        ..400 => String::new(),
        _ => told.problem(),
    };
    (told.code, kind)
}

#[test]
fn who_is_not_trusted_needs_a_token_to_add() {
    let bearer = &format!("Bearer {TOKEN}");
    let lower = &format!("bearer  {TOKEN}");
    let wrong = "Bearer fedcba9876543210fedcba9876543210";
    let ours = ("authorization", bearer.as_str());
    let proxied = ("x-forwarded-for", "192.0.2.9");
    let (api, without) = (api(), api_with(Tokens::default()));
    for (path, body) in ADDS {
        let told = |api: &Api, headers: &[(&str, &str)], from| {
            let (code, problem) = outcome(api, with(post(path, body), headers), from);
            format!("{code} {problem}").trim().to_owned()
        };
        for (headers, from, expected) in [
            (&[][..], LOOPBACK, "200"),
            (&[], STRANGER, "401 no-token"),
            (&[proxied], LOOPBACK, "401 no-token"),
            (&[proxied, ours], LOOPBACK, "200"),
            (&[ours], STRANGER, "200"),
            (&[("authorization", lower)], STRANGER, "200"),
            (&[("authorization", wrong)], STRANGER, "401 wrong-token"),
            (&[("authorization", wrong)], LOOPBACK, "401 wrong-token"),
            (&[("authorization", TOKEN)], STRANGER, "401 wrong-token"),
            (&[("authorization", "Bearer ")], STRANGER, "401 wrong-token"),
            (
                &[("authorization", "Basic YTpi")],
                LOOPBACK,
                "401 wrong-token",
            ),
            (&[ours, ours], STRANGER, "401 wrong-token"),
        ] {
            assert_eq!(
                told(&api, headers, from),
                expected,
                "{path} {headers:?} {from}"
            );
        }
        assert_eq!(told(&without, &[], LOOPBACK), "200");
        assert_eq!(told(&without, &[], STRANGER), "403 not-trusted");
        assert_eq!(told(&without, &[proxied], LOOPBACK), "403 not-trusted");
        assert_eq!(told(&without, &[ours], STRANGER), "401 wrong-token");
    }
    let refused = ask(&api, post(ADDS[0].0, ADDS[0].1), STRANGER);
    assert_eq!(refused.header("www-authenticate"), r#"Bearer realm="rmbd""#);
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("--http-token-file")
    );
    // A count changes nothing.
    assert_eq!(outcome(&api, post(COUNT.0, COUNT.1), STRANGER).0, 200);
}

#[test]
fn pages_are_not_answered() {
    let api = api();
    let bearer = &format!("Bearer {TOKEN}");
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:8000"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-origin"),
    ] {
        for (path, body) in ADDS.into_iter().chain([COUNT]) {
            for more in [&[][..], &[("authorization", bearer.as_str())]] {
                let request = with(with(post(path, body), &[(name, value)]), more);
                let expected = (403, "page".to_owned());
                assert_eq!(
                    outcome(&api, request, LOOPBACK),
                    expected,
                    "{path} {name}: {value}"
                );
            }
        }
        let top = with(get("/v1/default/top"), &[(name, value)]);
        assert_eq!(outcome(&api, top, LOOPBACK).0, 403);
    }
    let typed = with(get("/v1/openapi.json"), &[("sec-fetch-site", "none")]);
    assert_eq!(
        outcome(&api, typed, LOOPBACK).0,
        200,
        "an address that somebody typed"
    );
    // What a page may send without asking first is no JSON, and a preflight gets no permission.
    let simple = request("POST", "/v1/default/add").header("content-type", "text/plain");
    let simple = simple.body(Body::from(r#"{"key":"a"}"#)).unwrap();
    assert_eq!(outcome(&api, simple, LOOPBACK), (415, "media-type".into()));
    let preflight = request("OPTIONS", "/v1/default/add")
        .body(Body::empty())
        .unwrap();
    let preflight = with(preflight, &[("origin", "https://evil.example")]);
    let told = ask(&api, preflight, LOOPBACK);
    assert_eq!((told.code, told.header("allow")), (405, "POST"));
    assert_eq!(told.header("access-control-allow-origin"), "");
    let count = well(&api, COUNT.0, COUNT.1);
    assert_eq!(count["estimate"], 0);
}

#[test]
fn names_that_are_not_the_nodes_are_refused() {
    let api = api();
    for (host, code, problem) in [
        ("node-1.example:8000", 200, ""),
        ("127.0.0.1:8000", 200, ""),
        ("[::1]", 200, ""),
        ("evil.example", 421, "host"),
        ("a b", 400, "bad-host"),
    ] {
        let mut request = post(COUNT.0, COUNT.1);
        request.headers_mut().insert(HOST, host.parse().unwrap());
        assert_eq!(
            outcome(&api, request, LOOPBACK),
            (code, problem.to_owned()),
            "{host}"
        );
    }
    let mut nameless = post(COUNT.0, COUNT.1);
    nameless.headers_mut().remove(HOST);
    assert_eq!(outcome(&api, nameless, LOOPBACK).0, 400);
}

/// A node that takes clients from one network only.
struct OneNetwork(Fake);

impl StatusSource for OneNetwork {
    fn status(&self) -> crate::status::Status {
        self.0.status()
    }

    fn detail(
        &self,
        question: &crate::status::DetailQuestion,
    ) -> Result<crate::status::Detail, crate::status::DetailError> {
        self.0.detail(question)
    }

    fn top(
        &self,
        question: &crate::status::TopQuestion,
        shows_keys: bool,
    ) -> Result<crate::status::TopDocument, crate::status::TopError> {
        self.0.top(question, shows_keys)
    }

    fn may_use(&self, ip: IpAddr) -> bool {
        ip == STRANGER
    }
}

#[test]
fn the_list_of_who_may_use_the_node_holds_for_all_of_the_api() {
    let options = ApiOptions {
        shared: shared(),
        source: Arc::new(OneNetwork(Fake::new(true))),
        hosts: Hosts::default(),
        tokens: tokens(),
        has_check: true,
        published: Arc::default(),
        envoy: envoy(),
    };
    let api = Api::new(options);
    let bearer = &format!("Bearer {TOKEN}");
    let ours = [(AUTHORIZATION.as_str(), bearer.as_str())];
    let check = "/v1/check?limit=api&key=a";
    let all = ADDS
        .into_iter()
        .chain([COUNT])
        .map(|(path, body)| post(path, body));
    for request in all.chain([get("/v1/default/top"), get(check)]) {
        let path = request.uri().clone();
        let (told, kind) = outcome(&api, with(request, &ours), LOOPBACK);
        assert_eq!((told, kind.as_str()), (403, "not-allowed"), "{path}");
    }
    let listed = with(post(ADDS[0].0, ADDS[0].1), &ours);
    assert_eq!(outcome(&api, listed, STRANGER).0, 200);
    let no_address = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let gone = no_address.block_on(api.answer(get(check), None));
    assert_eq!(gone.status(), 403);
}

#[test]
fn a_check_wants_a_token_and_passes_headers_of_visitors() {
    let api = api();
    let bearer = &format!("Bearer {TOKEN}");
    let check = |headers: &[(&str, &str)]| {
        outcome(
            &api,
            with(get("/v1/check?limit=api&key=%ff&over=403"), headers),
            LOOPBACK,
        )
    };
    assert_eq!(check(&[]), (401, "no-token".to_owned()));
    let ours = (AUTHORIZATION.as_str(), bearer.as_str());
    let of_visitor = (ORIGIN.as_str(), "https://a.example");
    for expected in [204, 204, 204, 403] {
        let (code, problem) = check(&[ours, of_visitor, ("x-forwarded-for", "192.0.2.1")]);
        assert_eq!(code, expected, "{problem}");
    }
    let off = ApiOptions {
        shared: shared(),
        source: Arc::new(Fake::new(true)),
        hosts: Hosts::default(),
        tokens: tokens(),
        has_check: false,
        published: Arc::default(),
        envoy: None,
    };
    let request = with(get("/v1/check?limit=api&key=a"), &[ours]);
    assert_eq!(
        outcome(&Api::new(off), request, LOOPBACK),
        (404, "not-found".into())
    );
}
