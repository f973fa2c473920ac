//! Tests in which the control thread stands still, so that no pass is made.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::{ClusterChoice, IoChoice, NodeConfig};
use crate::node::Node;
use rmbd_proto::compact::{Header, Problem, RequestWriter, reply};
use rmbd_proto::legacy::encode_add;
use rmbd_sketch::{Geometry, MAX_WEIGHT};

/// Time for which no pass is made.
const HELD: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(60);
const LEGACY_ADDS: u64 = 50;

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(1));
    }
}

/// The control thread stands still, with a cluster and without. Adds beyond what may be added are told to come again or
/// wait in the socket. Afterwards all of them are added, once.
#[test]
fn nothing_is_lost_or_added_twice_while_no_pass_comes() {
    std::thread::scope(|scope| {
        scope.spawn(|| hold(IoChoice::Uring, ClusterChoice::NextPort));
        scope.spawn(|| hold(IoChoice::Mmsg, ClusterChoice::Off));
    });
}

/// Repeats each add until it is acknowledged, since a busy node asks for that.
fn add_the_most(socket: &UdpSocket) {
    let mut writer = RequestWriter::new(100);
    let header = Header {
        acknowledge: true,
        ..Header::default()
    };
    writer.start(&header).unwrap();
    writer.add(b"key", MAX_WEIGHT.into()).unwrap();
    let request = writer.finish();
    let mut answer = [0; 100];
    loop {
        socket.send(request).unwrap();
        let bytes = socket.recv(&mut answer).unwrap();
        let head = reply(&answer[..bytes]).unwrap().head;
        match head.code {
            0 => return assert_eq!(head.done, 1),
            code => assert_eq!((code, head.done), (Problem::Busy.code(), 0)),
        }
        sleep(Duration::from_millis(1));
    }
}

fn hold(io: IoChoice, cluster: ClusterChoice) {
    let mut config = NodeConfig {
        geometry: Geometry::new(1 << 10, 4).unwrap(),
        threads: Some(1),
        io,
        ..NodeConfig::at("127.0.0.1:0")
    };
    config.cluster.address = cluster;
    let node = Node::start(config).unwrap();
    let server = node.udp_addr();
    let own = node.port.shared().replica().own();
    let is_over = &AtomicBool::new(false);
    let adds: u64 = std::thread::scope(|scope| {
        // The lock that the control thread needs for its next round.
        let held = node.overview.peers().lock();
        let client = scope.spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut adds = 0;
            while !is_over.load(Relaxed) {
                add_the_most(&socket);
                adds += 1;
            }
            adds
        });
        // Passes may come until the next round begins.
        wait_for("a busy node", || {
            node.overview.refused_for(Problem::Busy) > 0
        });
        let legacy = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..LEGACY_ADDS {
            legacy.send_to(&encode_add(b"legacy"), server).unwrap();
        }
        sleep(HELD);
        let added = own.total_weight();
        assert!(own.wants_pass());
        sleep(HELD / 10);
        assert_eq!(own.total_weight(), added, "nothing more is added");
        is_over.store(true, Relaxed);
        drop(held);
        client.join().unwrap()
    });
    wait_for("what waited in the socket", || {
        node.estimate(b"legacy").count == LEGACY_ADDS
    });
    assert_eq!(node.estimate(b"key").count, adds << 20);
    assert_eq!(own.total_weight(), (adds << 20) + LEGACY_ADDS);
    node.stop().unwrap();
}
