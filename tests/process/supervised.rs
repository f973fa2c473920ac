//! Tests of what a node tells the supervisor that started it.

use std::fs;
use std::os::unix::net::UnixDatagram;

use rmbd_testkit::streams::{Kind, PATIENCE, Which};

use crate::kept::Scratch;
use crate::nodes::{Node, PROGRAM};

/// A node, and the socket on which its supervisor hears it.
struct Supervised {
    node: Node,
    socket: UnixDatagram,
}

impl Supervised {
    fn start(scratch: &Scratch, watchdog_us: &str, more: &[&str]) -> Self {
        let path = scratch.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (told, watchdog) = (
            format!("NOTIFY_SOCKET={}", path.display()),
            format!("WATCHDOG_USEC={watchdog_us}"),
        );
        let by = ["env", &told, &watchdog, PROGRAM];
        let node = Node::start_by(&by, Which::Out, Kind::Read, more);
        Self { node, socket }
    }

    /// The next message: assignments, a line each.
    fn hear(&self) -> String {
        let mut message = [0; 4_096];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// The first message with this assignment, of all that come.
    fn hear_of(&self, assignment: &str) -> String {
        loop {
            let message = self.hear();
            if message.lines().any(|line| line == assignment) {
                return message;
            }
        }
    }
}

/// Both back ends, asleep and spinning.
#[test]
fn a_supervisor_hears_of_the_start_of_food_of_reloads_and_of_the_end() {
    for words in [
        ["--io", "uring", "--busy-poll", "0"],
        ["--io", "mmsg", "--busy-poll", "0"],
        ["--io", "uring", "--busy-poll", "1000000"],
        ["--io", "mmsg", "--busy-poll", "1000000"],
    ] {
        let scratch = Scratch::new("supervised");
        let config = scratch.path("rmbd.toml");
        fs::write(&config, "").unwrap();
        let config = ["--config", config.to_str().unwrap()];
        let mut supervised = Supervised::start(&scratch, "800000", &[&words[..], &config].concat());
        let ready = supervised.hear_of("READY=1");
        let status = ready.lines().find(|line| line.starts_with("STATUS="));
        let address = format!("STATUS=rmbd ready udp={}", supervised.node.udp);
        assert!(status.unwrap().starts_with(&address), "{ready}");
        supervised.hear_of("WATCHDOG=1");
        supervised.node.signal(libc::SIGHUP);
        let reloading = supervised.hear_of("RELOADING=1");
        assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
        supervised.hear_of("READY=1");
        supervised.hear_of("WATCHDOG=1");
        supervised.node.terminate();
        let stopping = supervised.hear_of("STOPPING=1");
        assert!(stopping.contains("STATUS=the node ends"), "{stopping}");
        let status = supervised.node.running.wait("a supervised node");
        assert_eq!(status.code(), Some(0), "{words:?}");
    }
}

/// Without a watchdog nobody is asked, and a supervisor that is gone ends nothing.
#[test]
fn a_supervisor_without_a_watchdog_is_told_and_one_that_is_gone_is_not_missed() {
    let scratch = Scratch::new("unsupervised");
    let mut supervised = Supervised::start(&scratch, "", &[]);
    assert!(supervised.hear().starts_with("READY=1\n"));
    drop(supervised.socket);
    fs::remove_file(scratch.path("notify")).unwrap();
    supervised.node.add(1);
    assert_eq!(supervised.node.count(), 1);
    supervised.node.terminate();
    let status = supervised.node.running.wait("an end that nobody hears of");
    assert_eq!(status.code(), Some(0));
}
