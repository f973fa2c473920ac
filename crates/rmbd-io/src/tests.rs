//! Tests of both back ends, which must behave alike.

#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::*;
use rmbd_udp::send_segments;

const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Mmsg];
const SOME_TIME: Duration = Duration::from_secs(20);

/// A handler that sends everything back, and counts.
#[derive(Default)]
struct Echo {
    datagrams: u64,
    bytes: u64,
    silent: bool,
    /// Who is told of a train, and what it waits for then.
    held: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
    /// Number of trains since the last pause.
    gathered: usize,
}

impl Handler for Echo {
    fn train(&mut self, train: &Train<'_>, replies: &mut Replies) {
        self.gathered += 1;
        assert!(self.gathered <= TRAINS_TO_PAUSE_MAX);
        if let Some((told, let_go)) = &self.held {
            told.send(()).unwrap();
            let _ = let_go.recv();
        }
        for datagram in train.datagrams() {
            self.datagrams += 1;
            self.bytes += datagram.len() as u64;
            if !self.silent {
                replies.push(datagram);
            }
        }
    }

    fn pause(&mut self) {
        self.gathered = 0;
    }
}

struct Server {
    socket: Arc<DataSocket>,
    counters: Arc<IoCounters>,
    stop: Stop,
    ping: Ping,
    thread: Option<JoinHandle<Echo>>,
}

impl Server {
    fn start(backend: Backend, address: &str) -> Self {
        Self::start_with(
            backend,
            address,
            8 << 20,
            LoopOptions::default(),
            Echo::default(),
        )
    }

    fn start_with(
        backend: Backend,
        address: &str,
        receive_buffer_bytes: usize,
        options: LoopOptions,
        mut echo: Echo,
    ) -> Self {
        let address = address.parse().unwrap();
        let mut group = bind_group(
            address,
            1,
            SocketOptions {
                receive_buffer_bytes,
            },
        )
        .unwrap();
        let socket = Arc::new(group.remove(0));
        let counters = Arc::new(IoCounters::default());
        let stop = Stop::new().unwrap();
        let ping = Ping::new().unwrap();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn({
            let (socket, stop, counters) =
                (Arc::clone(&socket), stop.clone(), Arc::clone(&counters));
            let ping = ping.clone();
            move || {
                let mut event_loop =
                    EventLoop::new(backend, socket, stop, options, counters).unwrap();
                event_loop.answer(ping);
                ready.send(()).unwrap();
                event_loop.run(&mut echo).unwrap();
                echo
            }
        });
        is_ready.recv_timeout(SOME_TIME).unwrap();
        Self {
            socket,
            counters,
            stop,
            ping,
            thread: Some(thread),
        }
    }

    fn client(&self) -> UdpSocket {
        let host = if self.socket.local_addr().is_ipv4() {
            "127.0.0.1"
        } else {
            "::1"
        };
        let client = UdpSocket::bind((host, 0)).unwrap();
        client.set_read_timeout(Some(SOME_TIME)).unwrap();
        client
            .connect((host, self.socket.local_addr().port()))
            .unwrap();
        client
    }

    fn wait_for_answer(&self) {
        let started = Instant::now();
        while !self.ping.is_answered() {
            assert!(started.elapsed() < SOME_TIME, "a question in vain");
            std::thread::yield_now();
        }
    }

    fn finish(mut self) -> Echo {
        self.stop.give();
        let echo = self.thread.take().unwrap().join().unwrap();
        assert_eq!(echo.gathered, 0, "no pause at the end");
        echo
    }
}

fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let len = client.recv(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

#[test]
fn every_size_comes_back() {
    for backend in BACKENDS {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"] {
            let server = Server::start(backend, address);
            let client = server.client();
            for size in [0, 1, 141, 1400, 9000, 65_000, 65_507, 0, 3] {
                let sent: Vec<u8> = (0..size).map(|i| i as u8).collect();
                client.send(&sent).unwrap();
                assert!(receive(&client) == sent, "{backend:?} {address} {size}");
            }
            assert_eq!(server.finish().datagrams, 9);
        }
    }
}

#[test]
fn trains_keep_boundaries_and_order() {
    for backend in BACKENDS {
        let server = Server::start(backend, "127.0.0.1:0");
        let client = server.client();
        // One system call sends 40 datagrams of 141 bytes and a shorter one.
        let bytes: Vec<u8> = (0..40 * 141 + 17).map(|i| (i / 141) as u8).collect();
        assert_eq!(
            send_segments(&client, None, &bytes, 141).unwrap(),
            bytes.len()
        );
        for expected in bytes.chunks(141) {
            assert_eq!(receive(&client), expected, "{backend:?}");
        }
        assert_eq!(server.finish().datagrams, 41);
    }
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_asked() {
    for backend in BACKENDS {
        for (wildcard, asked) in [
            ("0.0.0.0:0", "127.0.0.7"),
            ("[::]:0", "127.0.0.7"),
            ("[::]:0", "::1"),
        ] {
            let server = Server::start(backend, wildcard);
            let asked: SocketAddr =
                SocketAddr::new(asked.parse().unwrap(), server.socket.local_addr().port());
            let host = if asked.is_ipv4() { "127.0.0.1" } else { "::1" };
            let client = UdpSocket::bind((host, 0)).unwrap();
            client.set_read_timeout(Some(SOME_TIME)).unwrap();
            client.send_to(b"who?", asked).unwrap();
            let (len, from) = client.recv_from(&mut [0; 16]).unwrap();
            assert_eq!((len, from), (4, asked), "{backend:?} {wildcard}");
        }
    }
}

#[test]
fn stop_wakes_an_idle_loop_and_ends_a_busy_one() {
    for backend in BACKENDS {
        Server::start(backend, "127.0.0.1:0").finish();

        let server = Server::start(backend, "127.0.0.1:0");
        let client = server.client();
        let done = Stop::new().unwrap();
        let flood = std::thread::spawn({
            let done = done.clone();
            move || {
                while !done.is_given() {
                    let _ = client.send(&[0; 141]);
                }
            }
        });
        while server.counters.replies_sent.load(Relaxed) == 0 {
            std::thread::yield_now();
        }
        server.finish();
        done.give();
        flood.join().unwrap();
    }
}

#[test]
fn what_came_before_the_stop_is_handed_over() {
    for backend in BACKENDS {
        let silent = Echo {
            silent: true,
            ..Echo::default()
        };
        let server = Server::start_with(
            backend,
            "127.0.0.1:0",
            64 << 20,
            LoopOptions::default(),
            silent,
        );
        let client = server.client();
        for _ in 0..5_000 {
            client.send(&[0; 141]).unwrap();
        }
        let socket = Arc::clone(&server.socket);
        let echo = server.finish();
        let drops = u64::from(socket.kernel_drops().unwrap());
        assert_eq!(echo.datagrams + drops, 5_000, "{backend:?}");
    }
}

/// A flood of more datagrams than there are receive buffers goes into a small socket buffer. Multishot receives end
/// for want of buffers, and every datagram is handed over, or counted as dropped by the kernel.
#[test]
fn shots_are_armed_again_and_the_accounting_closes() {
    for backend in BACKENDS {
        let silent = Echo {
            silent: true,
            ..Echo::default()
        };
        let server = Server::start_with(
            backend,
            "127.0.0.1:0",
            1 << 18,
            LoopOptions::default(),
            silent,
        );
        let client = server.client();
        let sent = 50_000;
        for i in 0..sent {
            // Alternating sizes are not joined into trains, so drops are counted one by one.
            client.send(&[0; 300][..100 + i % 2]).unwrap();
        }
        let socket = Arc::clone(&server.socket);
        let counters = Arc::clone(&server.counters);
        let echo = server.finish();
        let drops = u64::from(socket.kernel_drops().unwrap());
        assert_eq!(
            echo.datagrams + drops,
            sent as u64,
            "{backend:?}, {drops} dropped"
        );
        assert_eq!(counters.truncated.load(Relaxed), 0);
    }
}

#[test]
fn busy_polling_serves_and_stops_too() {
    for backend in BACKENDS {
        let options = LoopOptions {
            busy_poll: Duration::from_micros(200),
        };
        let server = Server::start_with(backend, "127.0.0.1:0", 1 << 20, options, Echo::default());
        let client = server.client();
        for i in 0..200u8 {
            client.send(&[i; 10]).unwrap();
            assert_eq!(receive(&client), [i; 10]);
        }
        assert_eq!(server.finish().datagrams, 200);
    }
}

/// Many questions each, so that one that comes while another is answered is among them.
#[test]
fn a_question_is_answered_by_an_idle_loop_by_a_spinning_one_and_under_load() {
    for backend in BACKENDS {
        for busy_poll in [Duration::ZERO, Duration::from_secs(1)] {
            let options = LoopOptions { busy_poll };
            let server =
                Server::start_with(backend, "127.0.0.1:0", 1 << 20, options, Echo::default());
            for questions in 1..200 {
                (0..questions % 3).for_each(|_| server.ping.ask());
                server.wait_for_answer();
            }
            let (client, done) = (server.client(), Stop::new().unwrap());
            let flood = std::thread::spawn({
                let done = done.clone();
                move || {
                    while !done.is_given() {
                        let _ = client.send(&[0; 141]);
                    }
                }
            });
            for _ in 0..100 {
                server.ping.ask();
                server.wait_for_answer();
            }
            done.give();
            flood.join().unwrap();
            // It sleeps again, and is woken as before.
            server.ping.ask();
            server.wait_for_answer();
            server.finish();
        }
    }
}

#[test]
fn a_loop_that_is_held_does_not_answer_until_it_is_let_go() {
    for backend in BACKENDS {
        let (told, is_held) = mpsc::channel();
        let (let_go, goes) = mpsc::channel();
        let echo = Echo {
            held: Some((told, goes)),
            ..Echo::default()
        };
        let options = LoopOptions::default();
        let server = Server::start_with(backend, "127.0.0.1:0", 1 << 20, options, echo);
        server.ping.ask();
        server.wait_for_answer();
        let client = server.client();
        client.send(&[1; 10]).unwrap();
        is_held.recv_timeout(SOME_TIME).unwrap();
        server.ping.ask();
        std::thread::sleep(Duration::from_millis(50));
        assert!(!server.ping.is_answered(), "{backend:?}");
        let_go.send(()).unwrap();
        server.wait_for_answer();
        drop(let_go);
        server.finish();
    }
}

/// A datagram comes every now and then, and then none.
#[test]
fn time_of_spinning_is_counted_and_only_with_busy_poll() {
    for backend in BACKENDS {
        for busy_poll in [Duration::from_micros(200), Duration::ZERO] {
            let options = LoopOptions { busy_poll };
            let started = Instant::now();
            let server =
                Server::start_with(backend, "127.0.0.1:0", 1 << 20, options, Echo::default());
            let spinning_ns = || server.counters.spinning_ns.load(Relaxed);
            let client = server.client();
            for i in 0..20u8 {
                client.send(&[i; 10]).unwrap();
                assert_eq!(receive(&client), [i; 10]);
                std::thread::sleep(Duration::from_micros(u64::from(i) * 20));
            }
            while !busy_poll.is_zero() && spinning_ns() == 0 {
                std::thread::yield_now();
            }
            let counters = Arc::clone(&server.counters);
            server.finish();
            let spinning_ns = counters.spinning_ns.load(Relaxed);
            assert_eq!(spinning_ns > 0, !busy_poll.is_zero(), "{backend:?}");
            assert!(u128::from(spinning_ns) < started.elapsed().as_nanos());
        }
    }
}
