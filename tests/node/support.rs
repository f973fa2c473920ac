//! Support for tests: nodes on free ports, sockets for raw bytes, and waiting for states.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use rmbd::config::{IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd::status::Status;
use rmbd_proto::Boot;
use rmbd_proto::compact::{Answer, Header, Once, Problem, RequestWriter, reply};
use rmbd_sketch::{Geometry, HashFamily};

/// The longest time that anything may take on a busy machine. Nothing waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Both back ends. Every test of behaviour runs on each.
pub(crate) const BACKENDS: [IoChoice; 2] = [IoChoice::Uring, IoChoice::Mmsg];

/// The configuration of a small node on a free port of 127.0.0.1.
pub(crate) fn config(io: IoChoice) -> NodeConfig {
    NodeConfig {
        geometry: Geometry::new(1 << 12, 4).unwrap(),
        threads: Some(1),
        io,
        ..NodeConfig::at("127.0.0.1:0")
    }
}

/// The same configuration as `--compat` makes it.
pub(crate) fn compat(io: IoChoice) -> NodeConfig {
    NodeConfig {
        geometry: Geometry::new(100, 10).unwrap(),
        family: HashFamily::Fnv,
        ..config(io)
    }
}

/// A client's socket for raw bytes.
pub(crate) fn client_of(node: &Node) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(node.udp_addr()).unwrap();
    client
}

/// Introduces a client: returns the cookie that the node sends to an unknown client. It also checks the node's reply
/// to the same request with the cookie (sequence 0 of the client, without operations).
pub(crate) fn introduce(socket: &UdpSocket, boot: Boot, client: u64) -> Vec<u8> {
    let once = Some(Once {
        boot,
        client,
        sequence: 0,
    });
    let ask = |cookie: Option<&[u8]>| {
        let mut writer = RequestWriter::new(1400);
        let header = Header {
            once,
            cookie,
            ..Header::default()
        };
        writer.start(&header).unwrap();
        socket.send(writer.finish()).unwrap();
        receive(socket)
    };
    let asked = ask(None);
    let asked = reply(&asked).unwrap();
    assert_eq!(asked.head.code, Problem::AddressUnproven.code());
    let Some(Ok(Answer::Cookie(cookie))) = asked.answers().next() else {
        panic!("{asked:?}");
    };
    assert_eq!(reply(&ask(Some(cookie))).unwrap().head.code, 0);
    cookie.to_vec()
}

pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    receive_from(socket).0
}

pub(crate) fn receive_from(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(len);
    (buffer, from)
}

/// Whether no other test runs in this process. If others may, the test of this name runs in one of its own, and its
/// caller has nothing to do.
pub(crate) fn runs_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", test, "--nocapture"]);
    let output = process.env(ALONE, "yes").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let has_run = output.status.success() && said.contains(" 1 passed;");
    assert!(has_run, "{test}: {output:?}");
    false
}

/// Set in a process that runs one test.
const ALONE: &str = "RMBD_TEST_ALONE";

/// Waits until the node's status is as `wanted`, and returns it.
pub(crate) fn wait_for(node: &Node, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let start = Instant::now();
    loop {
        let status = node.status();
        if wanted(&status) {
            return status;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain for {what}: {status:#?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The committed bytes and answers of the Python program.
pub(crate) fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../data/legacy_vectors.json")).unwrap()
}

pub(crate) fn hex(value: &serde_json::Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}
