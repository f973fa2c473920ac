//! Tests of requests and their answers.

use super::*;

#[test]
fn every_path_answers_with_its_type() {
    let server = Server::start();
    let types = [
        ("/", "text/html; charset=utf-8"),
        ("/status", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
    ];
    assert_eq!(types.map(|(path, _)| path), PATHS);
    for (path, content_type) in types {
        let answer = server.get(path);
        assert_eq!(answer.code, 200, "{path}");
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(
            answer.header("content-length"),
            answer.body.len().to_string(),
            "{path}"
        );
    }
    assert_eq!(server.get("/healthz").body, "ok\n");
    assert_eq!(server.get("/").body, PAGE);
}

#[test]
fn status_is_the_status_in_the_order_of_its_fields() {
    let body = Server::start().get("/status").body;
    assert_eq!(body, serde_json::to_string(&fake_status()).unwrap());
    assert!(
        body.starts_with(r#"{"version":"1.2.3","uptime_s":93784.5,"ready":true,"udp":"#),
        "{body}"
    );
}

#[test]
fn readiness_follows_the_status() {
    let source = Arc::new(Fake::new(false));
    let server = Server::with(Limits::default(), source.clone());
    let answer = server.get("/readyz");
    assert_eq!(
        (answer.code, answer.body.starts_with("not ready")),
        (503, true)
    );
    assert_eq!(server.get("/healthz").code, 200, "alive, though not ready");
    assert_eq!(server.get("/status").code, 200);
    *source.failure.lock().unwrap() = Some("a data thread ended by a panic".to_owned());
    let red = server.get("/healthz");
    let expected = "not healthy: a data thread ended by a panic\n";
    assert_eq!((red.code, red.body.as_str()), (503, expected));
    *source.failure.lock().unwrap() = None;
    assert_eq!(server.get("/healthz").code, 200);
    source
        .ready
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let ready = server.get("/readyz");
    assert_eq!((ready.code, &*ready.body), (200, "ready\n"));
    source.readiness.lock().unwrap().lacks = vec!["a slice".into()];
    let lacking = server.get("/readyz");
    assert_eq!(
        (lacking.code, &*lacking.body),
        (200, "ready\nbut without a slice\n")
    );
    source.readiness.lock().unwrap().waits_for = vec!["the first full sync".into()];
    let waiting = server.get("/readyz");
    assert_eq!(
        (waiting.code, &*waiting.body),
        (503, "not ready: the first full sync\n")
    );
}

#[test]
fn a_keys_detail_is_asked_for_with_any_bytes() {
    let server = Server::start();
    let answer = server.get("/detail?key=a%00%ff%20b");
    assert_eq!(answer.code, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    let detail: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let own = serde_json::json!(
        {"node": "00000000000000aa", "slices": 1, "count": 5, "own": true}
    );
    let expected = serde_json::json!(
        {"key_base64": "YQD/IGI=", "count": 5, "incomplete": false, "origins": [own]}
    );
    assert_eq!(detail, expected);
    let longest = "%61".repeat(1024);
    assert_eq!(server.get(&format!("/detail?key={longest}")).code, 200);
}

#[test]
fn a_keys_detail_has_its_count_in_a_window_of_a_sketch() {
    let server = Server::start();
    let window_of = |query: &str| -> serde_json::Value {
        let answer = server.get(&format!("/detail?key=abc&{query}"));
        assert_eq!(answer.code, 200, "{query}: {}", answer.body);
        let detail: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(detail["count"], 3, "{query}");
        serde_json::json!([detail["sketch"], detail["window"]])
    };
    // The node began a second ago, as if there had been a window without counts before.
    let window = |span_ms: u64| {
        serde_json::json!({
            "span_ms": span_ms, "bound": 3, "smooth": 3, "error": 0, "covered_ms": span_ms + 1_000,
            "incomplete": true, "overflowed": false,
        })
    };
    let json = |sketch: Option<&str>, window| serde_json::json!([sketch, window]);
    assert_eq!(window_of("window=60s"), json(None, window(60_000)));
    let hour = json(Some("logins"), window(3_600_000));
    assert_eq!(window_of("sketch=logins&window=1h"), hour);
    let all_time = json(Some("default"), serde_json::Value::Null);
    assert_eq!(window_of("sketch=default"), all_time);
}

#[test]
fn a_detail_that_there_is_not_is_refused_with_its_reason() {
    let server = Server::start();
    for (query, code, words) in [
        ("", 400, "ask for /detail?key="),
        ("?key=%f", 400, "two hexadecimal digits"),
        ("?name=a", 400, "key, window and sketch"),
        ("?key=a&window=60", 400, "such as 60s"),
        ("?key=a&sketch=Logins", 400, "no 'L'"),
        (
            "?key=a&window=61s",
            404,
            "multiples of 5000 ms up to 60000 ms",
        ),
        ("?key=a&window=0s", 404, "there is no window of 0 ms"),
        ("?key=a&window=1h", 404, "there is no window of 3600000 ms"),
        ("?key=a&sketch=none", 404, "there is no sketch none"),
        ("?key=a&sketch=none&window=60", 400, "such as 60s"),
    ] {
        let answer = server.get(&format!("/detail{query}"));
        assert_eq!(answer.code, code, "{query}: {}", answer.body);
        assert!(answer.body.contains(words), "{query}: {}", answer.body);
        assert!(answer.body.ends_with('\n'));
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
}

#[test]
fn head_is_get_without_the_body() {
    // /metrics holds the CPU time, so it differs from one answer to the next.
    let server = Server::start();
    for path in PATHS
        .into_iter()
        .filter(|path| *path != "/metrics")
        .chain(["/nowhere"])
    {
        let (mut get, mut head) = (server.get(path), server.ask("HEAD", path));
        assert!(!get.body.is_empty());
        get.body.clear();
        get.headers.remove("date");
        head.headers.remove("date");
        assert_eq!(head, get, "{path}");
    }
    let head = server.ask("HEAD", "/metrics");
    assert_eq!((head.code, head.body.as_str()), (200, ""));
}

#[test]
fn a_snapshot_is_written_for_whom_the_node_trusts() {
    let server = Server::start();
    let answer = server.ask("POST", "/snapshot");
    assert_eq!(answer.code, 200, "{}", answer.body);
    let told: crate::status::SnapshotOrder = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(told.bytes, 4_711);
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let answer = server.ask(method, "/snapshot");
        assert_eq!((answer.code, answer.header("allow")), (405, "POST"));
    }
    // A page in a browser that runs on this host asks from loopback, too.
    for (header, code) in [
        ("Origin: null\r\n", 403),
        ("Via: 1.1 a\r\n", 403),
        ("", 200),
    ] {
        let mut stream = server.connect();
        let head = "POST /snapshot HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n";
        write!(stream, "{head}{header}\r\n").unwrap();
        assert_eq!(Answer::read(&mut stream).unwrap().code, code, "{header}");
    }
    let nobody = Fake {
        trusted: None,
        ..Fake::new(true)
    };
    let server = Server::with(Limits::default(), Arc::new(nobody));
    let answer = server.ask("POST", "/snapshot");
    assert!(answer.code == 403 && answer.body.contains("--trust"));
}

#[test]
fn other_methods_and_paths_are_refused() {
    let server = Server::start();
    for path in PATHS {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = server.ask(method, path);
            assert_eq!(answer.code, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), "GET,HEAD", "{method} {path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert!(answer.body.contains("GET and HEAD only"), "{method} {path}");
        }
    }
    for path in [
        "/nowhere",
        "/status/",
        "//",
        "/..",
        "/%2e%2e/",
        "/STATUS",
        "http://localhost/x",
        "*",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.code, 404, "{path}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert!(answer.body.contains("/metrics"), "says what there is");
    }
    assert_eq!(
        server.get("/status?x=y").code,
        200,
        "a query is not part of the path"
    );
}

#[test]
fn a_connection_is_kept_for_more_requests() {
    let server = Server::start();
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(KEEP).unwrap();
        assert_eq!(Answer::read(&mut stream).unwrap().code, 200);
    }
}

#[test]
fn metrics_come_in_the_format_that_is_preferred() {
    let server = Server::start();
    let of = |accept: &str| {
        let mut stream = server.connect();
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: scrape.me\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    };
    let text = of("*/*");
    assert_eq!(
        text.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(text.body.contains("# TYPE rmbd_messages_total counter\n"));
    assert!(!text.body.contains("# EOF"));
    let openmetrics = of("application/openmetrics-text");
    assert_eq!(
        openmetrics.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(openmetrics.body.ends_with("\n# EOF\n"));
}

#[test]
fn only_what_machines_ask_for_is_answered_by_every_name() {
    let server = Server::start();
    let code = |path: &str, fields: &str, version: &str| {
        let mut stream = server.connect();
        let request = format!("GET {path} {version}\r\n{fields}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    };
    for path in PATHS.into_iter().chain(["/detail?key=a", "/nowhere"]) {
        let is_for_all = ["/healthz", "/readyz", "/metrics"].contains(&path);
        let usual = server.get(path).code;
        let own = code(path, "Host: NODE-1.example:80\r\n", "HTTP/1.1");
        assert_eq!(own.code, usual, "{path}");
        let foreign = code(path, "Host: evil.example\r\n", "HTTP/1.1");
        assert_eq!(foreign.code, if is_for_all { usual } else { 421 }, "{path}");
        assert_eq!(foreign.header("x-content-type-options"), "nosniff");
        if !is_for_all {
            assert!(
                foreign.body.contains("--http-host evil.example"),
                "{}",
                foreign.body
            );
        }
        // The host in the target is the one that counts.
        let target = format!("http://evil.example{path}");
        let absolute = code(&target, "Host: localhost\r\n", "HTTP/1.1");
        assert_eq!(absolute.code, foreign.code, "{path}");
        let target = format!("http://127.0.0.1:9{path}");
        let absolute = code(&target, "Host: evil.example\r\n", "HTTP/1.1");
        assert_eq!(absolute.code, usual, "{path}");
        for fields in [
            "",
            "Host: localhost\r\nHost: localhost\r\n",
            "Host: a b\r\n",
        ] {
            assert_eq!(code(path, fields, "HTTP/1.1").code, 400, "{path} {fields}");
        }
        assert_eq!(code(path, "", "HTTP/1.0").code, usual, "{path}");
    }
}

#[test]
fn the_largest_keys_are_told_with_any_bytes() {
    let server = Server::start();
    let answer = server.get("/top?detail=1&k=2");
    assert_eq!(
        (answer.code, answer.header("content-type")),
        (200, "application/json")
    );
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let parts = |own: u64| {
        serde_json::json!([
            {"node": "00000000000000aa", "certain": 50}, {"node": "00000000000000bb", "certain": own},
        ])
    };
    let expected = serde_json::json!({
        "sketch": "default", "window_ms": 0, "age_s": 0.5, "complete_above": 98, "total_weight": 1_000,
        "listed": 3, "incomplete": false, "redacted": false,
        "keys": [
            {"rank": 1, "key": "<b>apple</b>", "count": 99, "certain": 89, "by_node": parts(39)},
            {"rank": 2, "key_base64": "/wA=", "count": 98, "certain": 88, "by_node": parts(38)},
        ],
    });
    assert_eq!(told, expected);
    let minute = server.get("/top?window=60s&sketch=default");
    let minute: serde_json::Value = serde_json::from_str(&minute.body).unwrap();
    assert_eq!(
        (&minute["window_ms"], &minute["incomplete"]),
        (&60_000.into(), &true.into())
    );
    // The name of the third is not known. As the list is as long as it may be, others may have as much.
    let nameless = serde_json::json!({"rank": 3, "count": 97, "certain": 87});
    assert_eq!(
        (&minute["keys"][2], &minute["complete_above"]),
        (&nameless, &97.into())
    );
    for (query, code, words) in [
        ("?k=0", 400, "k=1 to k=1000"),
        ("?k=1001", 400, "k=1 to k=1000"),
        ("?key=a", 400, "sketch, window, k and detail"),
        ("?window=60", 400, "such as 60s"),
        ("?window=5s", 404, "there is one of all time, 60000 ms"),
        ("?sketch=none", 404, "there is no sketch none"),
        ("?sketch=logins", 404, "start the node with --top 100"),
    ] {
        let answer = server.get(&format!("/top{query}"));
        assert_eq!(answer.code, code, "{query}: {}", answer.body);
        assert!(answer.body.contains(words), "{query}: {}", answer.body);
    }
}

#[test]
fn denied_keys_are_told_with_any_bytes() {
    let server = Server::start();
    let told = server.get("/denied?limit=api&k=2");
    assert_eq!(
        (told.code, told.header("content-type")),
        (200, "application/json")
    );
    let told: serde_json::Value = serde_json::from_str(&told.body).unwrap();
    let expected = serde_json::json!({
        "redacted": false,
        "limits": [{
            "limit": "api", "shadow_mode": false, "covered_s": 400.0, "denied": 6, "complete_above": 1, "listed": 3,
            "keys": [
                {"rank": 1, "key": "<b>apple</b>", "at_least": 3, "at_most": 3},
                {"rank": 2, "key_base64": "/wA=", "at_least": 2, "at_most": 2},
            ],
        }],
    });
    assert_eq!(told, expected);
    let all = server.get("/denied");
    let all: serde_json::Value = serde_json::from_str(&all.body).unwrap();
    assert_eq!(all["limits"][0]["keys"][2]["key"], "");
    let shadow = serde_json::json!({
        "limit": "shadow", "shadow_mode": true, "covered_s": 400.0, "denied": 0, "complete_above": 0, "listed": 0,
        "keys": [],
    });
    assert_eq!(all["limits"][1], shadow);
    for (query, code, words) in [
        ("?k=0", 400, "k=1 to k=100"),
        ("?key=a", 400, "limit and k"),
        ("?limit=no%0a", 404, "there is no limit \"no\\n\" here"),
    ] {
        let answer = server.get(&format!("/denied{query}"));
        assert_eq!(answer.code, code, "{query}: {}", answer.body);
        assert!(answer.body.contains(words), "{query}: {}", answer.body);
    }
}

#[test]
fn names_are_told_to_nobody_else() {
    let nobody = Fake {
        trusted: None,
        ..Fake::new(true)
    };
    let strange = Server::with(Limits::default(), Arc::new(nobody));
    let server = Server::start();
    for (server, header) in [
        (&strange, ""),
        (&server, "Via: 1.1 a\r\n"),
        (&server, "X-Forwarded-For: 127.0.0.1\r\n"),
        (&server, "Forwarded: for=127.0.0.1\r\n"),
    ] {
        for (path, first) in [
            ("/top", r#"{"rank":1,"count":99,"certain":89}"#),
            ("/denied", r#"{"rank":1,"at_least":3,"at_most":3}"#),
        ] {
            let mut stream = server.connect();
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
            write!(stream, "{head}{header}\r\n").unwrap();
            let answer = Answer::read(&mut stream).unwrap();
            assert_eq!(answer.code, 200, "{path} {header}");
            for words in [r#""redacted":true"#, first] {
                assert!(answer.body.contains(words), "{words}: {}", answer.body);
            }
            assert!(!answer.body.contains("key\""), "{}", answer.body);
        }
    }
}
