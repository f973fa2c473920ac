//! HAProxy asks a node before it lets requests pass, by its offload protocol.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use rmbd_testkit::required::skip;
use rmbd_testkit::spoe::{self, Arg, Said};
use rmbd_testkit::streams::{Kind, PATIENCE, Which};

use crate::http::{Proxy, get, start, start_upstream};
use crate::kept::Scratch;
use crate::nodes::{Node, PROGRAM, wait_until};

/// HAProxy in front of a server that answers everything. Below `/closed` nothing passes without a verdict, and
/// `/agents` tells whether there is a node.
const HAPROXY: &str = r#"
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s

frontend web
    bind FRONT
    monitor-uri /agents
    monitor fail if { nbsrv(rmbd) lt 1 }
    filter spoe engine rmbd config FOLDER/rmbd.spoe
    http-request deny deny_status 503 if { var(txn.rmbd.error) -m found }
    http-request deny deny_status 429 hdr Retry-After "%[var(txn.rmbd.retry_after_ms),add(999),div(1000)]" if { var(txn.rmbd.allowed) -m int 0 }
    http-request deny deny_status 500 if { path_beg /closed } !{ var(txn.rmbd.allowed) -m found }
    http-response set-header Address-Remaining "%[var(txn.rmbd.address.remaining)]"
    default_backend servers

backend servers
    server one UPSTREAM

backend rmbd
    mode tcp
    option spop-check
    timeout connect 5s
    timeout server 3m
    server node NODE check inter 100ms
"#;

/// What it asks.
const SPOE: &str = r"
[rmbd]
spoe-agent rmbd
    messages rmbd-check rmbd-take-address
    option var-prefix rmbd
    timeout hello      2s
    timeout idle       2m
    timeout processing 30s
    use-backend rmbd

spoe-message rmbd-check
    args limit=str(api) key=url_param(user)
    event on-frontend-http-request

spoe-message rmbd-take-address
    args key=src limit=int(100) window=str(60s) as=str(address)
    event on-frontend-http-request
";

fn start_haproxy(folder: &Path, node: SocketAddr, front: SocketAddr) -> Option<Proxy> {
    let config = HAPROXY
        .replace("FOLDER", folder.to_str().unwrap())
        .replace("FRONT", &front.to_string())
        .replace("UPSTREAM", &start_upstream().to_string())
        .replace("NODE", &node.to_string());
    let path = folder.join("haproxy.cfg");
    fs::write(&path, config).unwrap();
    fs::write(folder.join("rmbd.spoe"), SPOE).unwrap();
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let haproxy = Command::new("haproxy")
        .env("PATH", paths)
        // In the foreground, as one process.
        .args(["-db", "-f", path.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn();
    Some(Proxy(haproxy.ok()?))
}

/// Where a node serves HAProxy.
fn address(node: &Node) -> SocketAddr {
    node.status().spoe.address.unwrap().parse().unwrap()
}

#[test]
fn haproxy_asks_before_each_request() {
    let scratch = Scratch::new("haproxy");
    let config = scratch.path("rmbd.toml");
    fs::write(&config, "[[limit]]\nname = 'api'\namounts = ['2/60s']\n").unwrap();
    let mut node = start(&[
        "--config",
        config.to_str().unwrap(),
        "--spoe",
        "127.0.0.1:0",
    ]);
    // Nobody else uses the node's address.
    let front = SocketAddr::new(node.udp.ip(), 8_080);
    let Some(_haproxy) = start_haproxy(&scratch.path(""), address(&node), front) else {
        return skip("HAProxy: apt-get install haproxy");
    };
    wait_until("HAProxy", || TcpStream::connect(front).is_ok());
    wait_until("a health check", || {
        node.status().spoe.spoe_health_checks > 0
    });
    let mut left = 100;
    for user in ["ann", "bob"] {
        for code in [200, 200, 429, 429] {
            let (told, head) = get(front, &format!("/?user={user}"));
            let head = head.to_lowercase();
            assert_eq!(told, code, "{user}: {head}");
            left -= 1;
            if code == 200 {
                assert!(
                    head.contains(&format!("address-remaining: {left}\r\n")),
                    "{head}"
                );
            } else {
                assert!(head.contains("retry-after: "), "{head}");
            }
        }
    }
    // Without a user there is no key, and no verdict.
    assert_eq!(get(front, "/").0, 503);
    let status = node.status().spoe;
    assert_eq!(
        (status.spoe_messages, status.spoe_over, status.spoe_refused),
        (18, 4, 1)
    );
    assert_eq!((status.spoe_failed, status.spoe_protocol_errors), (0, 0));
    assert_eq!(status.connections_max, 256);
    node.terminate();
    assert!(node.running.wait("the end").success());
    // A request that comes before HAProxy has noticed waits for as long as it may.
    wait_until("HAProxy's look", || get(front, "/agents").0 == 503);
    // Without the node HAProxy does as it is configured.
    assert_eq!(get(front, "/?user=ann").0, 200);
    assert_eq!(get(front, "/closed?user=ann").0, 500);
}

/// The node's thread serves HAProxy without HTTP as well, and tells it of the end.
#[test]
fn haproxy_is_served_without_http() {
    let words = ["--http", "off", "--spoe", "127.0.0.1:0"];
    let mut node = Node::start_by(&[PROGRAM], Which::Out, Kind::Read, &words);
    let mut output = BufReader::new(node.running.child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains(" http=off "), "{line}");
    let mut words = line.split_whitespace();
    let address = words.find_map(|word| word.strip_prefix("spoe=")).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let args = [("key", Arg::from("k")), ("limit", 1.into())];
    let asked = spoe::notify((7, 1), &[("rmbd-take", &args), ("rmbd-take-more", &args)]);
    stream
        .write_all(&[spoe::hello(16_380), asked].concat())
        .unwrap();
    let mut received = Vec::new();
    let mut chunk = [0; 4_096];
    let mut said = Vec::new();
    while said.len() < 2 {
        let bytes = stream.read(&mut chunk).unwrap();
        assert!(bytes > 0, "{said:?}");
        received.extend(&chunk[..bytes]);
        while let Some((one, rest)) = spoe::read(&received) {
            said.push(one);
            received = rest.to_vec();
        }
    }
    let Some(Said::Ack { variables, .. }) = said.pop() else {
        panic!("{said:?}");
    };
    assert_eq!(
        (&*variables["allowed"], &*variables["over"]),
        ("false", "true")
    );
    // It counts like any other way to add.
    assert_eq!(node.count(), 1);
    node.terminate();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let (said, _) = spoe::read(&rest).unwrap();
    let message = "the node ends".to_owned();
    assert_eq!(said, Said::Disconnect { status: 0, message });
    drop(stream);
    assert!(node.running.wait("the end").success());
}

#[test]
fn a_node_does_not_start_where_anybody_could_count() {
    let start = |words: &[&str]| {
        let output = Command::new(PROGRAM)
            .arg("127.0.0.1:0")
            .args(words)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), error)
    };
    for (words, said) in [
        (
            &["--spoe", "0.0.0.0:0"][..],
            "is not loopback, so that anybody may count there",
        ),
        (
            &["--spoe", "192.0.2.1:9"],
            "can't serve HAProxy on 192.0.2.1:9",
        ),
        (&["--spoe", "nothing"], "--spoe"),
    ] {
        let (success, error) = start(words);
        assert!(!success && error.contains(said), "{words:?}: {error}");
    }
}
