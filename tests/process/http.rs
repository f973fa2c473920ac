//! Tests of the API over HTTP: with clients of other makers, beside datagrams, behind a proxy, and over an end.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rmbd_testkit::required::skip;
use rmbd_testkit::streams::{Kind, PATIENCE, Which};
use serde_json::{Value, json};

use crate::kept::Scratch;
use crate::nodes::{Node, PROGRAM, wait_until};

/// A Python script that reads headers by a parser of structured fields, and answers by the node's own description. It
/// is given the address of a node.
const JUDGE: &str = r##"
import json, sys, urllib.error, urllib.request
import http_sf, jsonschema
from openapi_spec_validator import validate
node = "http://" + sys.argv[1]
def ask(path, body=None):
    headers = {"Content-Type": "application/json"} if body is not None else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(node + path, data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers, json.loads(answer.read())
api = ask("/v1/openapi.json")[2]
validate(api)
def schema(path, method, status, kind):
    answers = api["paths"][path][method]["responses"]
    answer = answers.get(str(status), answers.get("default"))
    if "$ref" in answer:
        answer = api["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    return answer["content"][kind]["schema"]
def check(part, value):
    jsonschema.Draft202012Validator({**part, "components": api["components"]}).validate(value)
def asked(path, body=None, expected=200):
    method = "get" if body is None else "post"
    status, headers, answer = ask(path.replace("{sketch}", "default"), body)
    assert status == expected, (path, body, status, answer)
    described = path.split("?")[0]
    if method == "post" and status < 400:
        wanted = api["paths"][described][method]["requestBody"]["content"]["application/json"]["schema"]
        check(wanted, body)
    check(schema(described, method, status, headers["Content-Type"]), answer)
    return headers, answer
def field(headers, name):
    return http_sf.parse(headers[name].encode(), tltype="list")
add, count, hit, take = (f"/v1/{{sketch}}/{name}" for name in ("add", "count", "hit", "take"))
asked(add, {"key": "a"})
asked(add, {"items": [{"key": "a", "weight": 2}, {"key": {"base64": "//4="}}]})
_, told = asked(count, {"key": "a"})
assert told["estimate"] == 3, told
asked(count, {"window": "60s", "items": [{"key": "a"}, {"key": {"base64": "//4="}, "reading": "smooth"}]})
minute = {"key": "limited", "limit": 2, "window": "60s"}
for left in (1, 0):
    headers, told = asked(take, minute)
    assert field(headers, "RateLimit-Policy") == [("2/1m", {"q": 2, "w": 60})]
    assert field(headers, "RateLimit") == [("2/1m", {"r": left})]
headers, told = asked(take, minute, 429)
(name, parameters), = field(headers, "RateLimit")
assert (name, parameters["r"]) == ("2/1m", 0) and parameters["t"] == int(headers["Retry-After"]) > 0
assert told["type"].endswith("#quota-exceeded") and told["violated-policies"] == ["2/1m"], told
both = {"key": "both", "limits": [{"limit": 2, "window": "60s"}, {"limit": 1}]}
headers, told = asked(hit, both)
assert field(headers, "RateLimit-Policy") == [("0:2/1m", {"q": 2, "w": 60}), ("1:1", {"q": 1})]
headers, told = asked(hit, both, 429)
assert field(headers, "RateLimit") == [("1:1", {"r": 0})] and "Retry-After" not in headers
asked(hit, {"limit": 9, "items": [{"key": "x"}, {"key": "y", "limits": [{"limit": 0}, {"limit": 1}]}]})
asked("/v1/{sketch}/top?k=3&detail=1")
asked("/v1/{sketch}/top?k=0", expected=400)
asked(add, {"keys": ["a"]}, 400)
asked(count, {"key": "a", "window": "7s"}, 404)
asked("/v1/check?limit=api&key=a", expected=404)
asked_envoy = {"domain": "edge", "descriptors": [{"entries": [{"key": "user", "value": "ann"}]}]}
for _ in range(3):
    asked("/json", asked_envoy)
asked("/json", asked_envoy, 429)
asked("/json", {"domain": "", "descriptors": []}, 400)
print("all well")
"##;
/// The rules for it.
const RULES: &str = "\
domain: edge
descriptors:
  - key: user
    rate_limit: {unit: minute, requests_per_unit: 3}
";

/// What the test of a proxy puts in front of a server that answers everything.
const PROXY: &str = r#"
daemon off;
# One process, so that none is left when it is killed.
master_process off;
pid FOLDER/nginx.pid;
error_log FOLDER/error.log;
events {}
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    scgi_temp_path FOLDER/scgi;
    uwsgi_temp_path FOLDER/uwsgi;
    server {
        listen FRONT;
        location / {
            # A request that is asked before has no arguments of its own.
            set $user $arg_user;
            auth_request /limit;
            auth_request_set $retry $upstream_http_retry_after;
            auth_request_set $policy $upstream_http_ratelimit_policy;
            error_page 403 = @over;
            proxy_pass http://UPSTREAM;
        }
        location = /limit {
            internal;
            proxy_pass http://NODE/v1/check?limit=api&key=$user&over=403;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Authorization "Bearer TOKEN";
        }
        location @over {
            add_header Retry-After $retry always;
            add_header RateLimit-Policy $policy always;
            return 429;
        }
    }
}
"#;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn start(words: &[&str]) -> Node {
    let node = Node::start_by(&[PROGRAM], Which::Out, Kind::Read, words);
    wait_until("a node that serves", || node.get("/readyz").is_some());
    node
}

/// The code, the head and the body of an answer.
pub(crate) fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_owned(), body.to_owned())
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (code, _, body) = ask(address, &request);
    (code, serde_json::from_str(&body).expect(&body))
}

pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let (code, head, _) = ask(address, &request);
    (code, head)
}

#[test]
fn other_makers_read_headers_and_answers_as_they_are_described() {
    let modules = ["-c", "import http_sf, jsonschema, openapi_spec_validator"];
    let found = Command::new("python3")
        .args(modules)
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        return skip(
            "Python's http_sf and openapi_spec_validator: pip install http-sf openapi-spec-validator",
        );
    }
    let scratch = Scratch::new("described");
    let rules = scratch.path("rules.yaml");
    fs::write(&rules, RULES).unwrap();
    let node = start(&["--limits", rules.to_str().unwrap()]);
    let judge = Command::new("python3")
        .args(["-c", JUDGE, &node.udp.to_string()])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&judge.stderr);
    assert_eq!(
        String::from_utf8_lossy(&judge.stdout),
        "all well\n",
        "{error}"
    );
}

/// Adds over both count for both, before the end and behind the next start.
#[test]
fn http_and_datagrams_count_the_same_and_no_end_forgets_it() {
    let scratch = Scratch::new("http");
    let words = scratch.words("0");
    let mut node = start(&words);
    for round in 1..=3 {
        node.add(2);
        let (code, _) = post(
            node.udp,
            "/v1/default/add",
            &json!({"key": "k", "weight": 3}),
        );
        assert_eq!(code, 200);
        let (_, count) = post(node.udp, "/v1/default/count", &json!({"key": "k"}));
        assert_eq!(
            (count["estimate"].as_u64(), node.count()),
            (Some(5 * round), 5 * round)
        );
    }
    let status = node.status();
    assert_eq!((status.messages.add, status.http_api.http_adds), (6, 3));
    // Somebody adds until the very end.
    let address = node.udp;
    let adder = std::thread::spawn(move || {
        let mut added = 0;
        while add_one(address) {
            added += 1;
        }
        added
    });
    wait_until("adds", || node.count() > 20);
    node.terminate();
    assert!(node.running.wait("the end").success());
    let added: u64 = adder.join().unwrap();
    let node = Node::start_at(address, &[PROGRAM], Which::Out, Kind::Read, &words);
    wait_until("a node that serves", || node.get("/readyz").is_some());
    let count = node.count();
    // The answer to the last one may not have come.
    assert!(
        (15 + added..=16 + added).contains(&count),
        "{count} of {added}"
    );
}

/// Adds 1, and returns whether that was acknowledged.
fn add_one(address: SocketAddr) -> bool {
    let body = r#"{"key":"k"}"#;
    let request = format!(
        "POST /v1/default/add HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut answer = String::new();
    let sent = stream.write_all(request.as_bytes());
    sent.and_then(|()| stream.read_to_string(&mut answer))
        .is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

/// A process that is killed when the test ends.
pub(crate) struct Proxy(pub(crate) Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_proxy(
    folder: &Path,
    node: SocketAddr,
    upstream: SocketAddr,
) -> Option<(Proxy, SocketAddr)> {
    // Nobody else uses the node's address.
    let front = SocketAddr::new(node.ip(), 8_080);
    let config = PROXY
        .replace("FOLDER", folder.to_str().unwrap())
        .replace("FRONT", &front.to_string())
        .replace("UPSTREAM", &upstream.to_string())
        .replace("NODE", &node.to_string())
        .replace("TOKEN", TOKEN);
    let path = folder.join("nginx.conf");
    fs::write(&path, config).unwrap();
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let nginx = Command::new("nginx")
        .env("PATH", paths)
        .args(["-e", "stderr", "-c", path.to_str().unwrap()])
        .spawn();
    Some((Proxy(nginx.ok()?), front))
}

/// Answers everything with 200, as long as the process runs.
pub(crate) fn start_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1)
            {
                head.push(byte[0]);
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        }
    });
    address
}

#[test]
fn a_proxy_asks_before_each_request() {
    let scratch = Scratch::new("proxy");
    let (tokens, config) = (scratch.path("tokens"), scratch.path("rmbd.toml"));
    fs::write(&tokens, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&config, "[[limit]]\nname = 'api'\namounts = ['2/60s']\n").unwrap();
    let node = start(&[
        "--config",
        config.to_str().unwrap(),
        "--http-token-file",
        tokens.to_str().unwrap(),
        "--http-check",
    ]);
    let Some((_proxy, front)) = start_proxy(&scratch.path(""), node.udp, start_upstream()) else {
        return skip("nginx: apt-get install nginx-light");
    };
    wait_until("nginx", || TcpStream::connect(front).is_ok());
    for user in ["ann", "bob"] {
        for code in [200, 200, 429, 429] {
            let (told, head) = get(front, &format!("/?user={user}"));
            assert_eq!(told, code, "{user}: {head}");
            if code == 429 {
                let head = head.to_lowercase();
                assert!(
                    head.contains("ratelimit-policy: \"api\";q=2;w=60"),
                    "{head}"
                );
                assert!(head.contains("retry-after: "), "{head}");
            }
        }
    }
    let status = node.status().http_api;
    assert_eq!((status.http_checks, status.http_over), (8, 4));
    // Without the token nobody gets so far.
    assert_eq!(get(node.udp, "/v1/check?limit=api&key=ann").0, 401);
}

#[test]
fn a_node_does_not_start_without_its_tokens() {
    let scratch = Scratch::new("tokens");
    let tokens = scratch.path("tokens");
    fs::write(&tokens, "too short\n").unwrap();
    let start = |words: &[&str]| {
        let output = Command::new(PROGRAM)
            .arg("127.0.0.1:0")
            .args(words)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), error)
    };
    let path = tokens.to_str().unwrap();
    for (words, said) in [
        (
            &["--http-token-file", "/nowhere"][..],
            "can't read --http-token-file /nowhere",
        ),
        (&["--http-token-file", path], "line 1 is no token"),
        (&["--http-check"], "give --http-token-file"),
    ] {
        let (success, error) = start(words);
        assert!(!success && error.contains(said), "{words:?}: {error}");
    }
}
