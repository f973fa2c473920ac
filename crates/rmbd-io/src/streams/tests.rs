//! Tests of streams over both back ends, which must behave alike.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;

use super::*;
use crate::{
    Backend, EventLoop, IoCounters, LoopOptions, Replies, SocketOptions, Stop, bind_group,
};
use rmbd_udp::Train;

const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Mmsg];
const SOME_TIME: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(40);
const OPTIONS: StreamOptions = StreamOptions {
    idle: None,
    stall: SOME_TIME,
    memory_bytes_max: 64 << 20,
};

/// What was seen of connections.
#[derive(Default)]
struct Seen {
    closed: Mutex<Vec<Closed>>,
    turned_away: AtomicUsize,
    /// The most bytes that one call has shown.
    shown: AtomicUsize,
}

/// A handler that sends lines back: whole ones only, and not while replies are too many. `end` ends.
struct Lines {
    seen: Arc<Seen>,
    is_open: bool,
}

impl Handler for Lines {
    fn train(&mut self, train: &Train<'_>, replies: &mut Replies) {
        train
            .datagrams()
            .for_each(|datagram| replies.push(datagram));
    }

    fn opened(&mut self, _: usize, _: SocketAddr) -> bool {
        self.is_open
    }

    fn received(&mut self, _: usize, bytes: &[u8], replies: &mut StreamReplies<'_>) -> Taken {
        self.seen.shown.fetch_max(bytes.len(), Relaxed);
        let mut taken = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let then = match line {
                b"end\n" => Then::End,
                line if !line.ends_with(b"\n") => break,
                _ if replies.are_full_with(0) => Then::Room,
                _ => Then::More,
            };
            if then != Then::More {
                return Taken { bytes: taken, then };
            }
            replies.bytes().extend_from_slice(line);
            taken += line.len();
        }
        Taken {
            bytes: taken,
            then: Then::More,
        }
    }

    fn closed(&mut self, _: usize, why: Closed) {
        self.seen.closed.lock().unwrap().push(why);
    }

    fn turned_away(&mut self, _: SocketAddr) -> &'static [u8] {
        self.seen.turned_away.fetch_add(1, Relaxed);
        b"full\n"
    }
}

struct Server {
    address: SocketAddr,
    udp: SocketAddr,
    places: Arc<ConnectionPlaces>,
    seen: Arc<Seen>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(backend: Backend, places: usize, options: StreamOptions) -> Self {
        Self::start_with(backend, places, options, true)
    }

    fn start_with(backend: Backend, places: usize, options: StreamOptions, is_open: bool) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let receive_buffer_bytes = 1 << 20;
        let socket_options = SocketOptions {
            receive_buffer_bytes,
        };
        let socket = Arc::new(bind_group(any, 1, socket_options).unwrap().remove(0));
        let listener = Arc::new(bind_streams(any, 1).unwrap().remove(0));
        let (address, udp) = (listener.local_addr(), socket.local_addr());
        let places = Arc::new(ConnectionPlaces::new(places));
        let streams = Streams {
            listener,
            places: Arc::clone(&places),
            options,
        };
        let (seen, stop) = (Arc::new(Seen::default()), Stop::new().unwrap());
        let mut lines = Lines {
            seen: Arc::clone(&seen),
            is_open,
        };
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let (options, counters) = (LoopOptions::default(), Arc::new(IoCounters::default()));
                let event_loop = EventLoop::new(backend, socket, stop, options, counters);
                let mut event_loop = event_loop.unwrap();
                event_loop.serve_streams(streams).unwrap();
                ready.send(()).unwrap();
                event_loop.run(&mut lines).unwrap();
            }
        });
        is_ready.recv_timeout(SOME_TIME).unwrap();
        Self {
            address,
            udp,
            places,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(SOME_TIME)).unwrap();
        client.set_write_timeout(Some(SOME_TIME)).unwrap();
        client
    }

    fn wait_for_places(&self, taken: usize) {
        while self.places.taken() < taken {
            std::thread::yield_now();
        }
    }

    /// Waits until so many connections are gone, and says why they are.
    fn wait_for_closed(&self, count: usize) -> Vec<Closed> {
        loop {
            let closed = self.seen.closed.lock().unwrap().clone();
            if closed.len() >= count {
                return closed;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(mut self) {
        self.stop.give();
        self.thread.take().unwrap().join().unwrap();
        assert_eq!(self.places.taken(), 0);
    }
}

fn read(client: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    client.read_exact(&mut all).unwrap();
    all
}

fn read_to_end(client: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = client.read_to_end(&mut all);
    all
}

#[test]
fn lines_come_back_however_they_are_cut() {
    for backend in BACKENDS {
        let server = Server::start(backend, 100, OPTIONS);
        let mut clients: Vec<_> = (0..30).map(|_| server.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let text = format!(
                "first {number}\nsecond\nthird{}\n",
                "x".repeat(number * 2_000)
            );
            for piece in text.as_bytes().chunks(1 + number * 777) {
                client.write_all(piece).unwrap();
            }
            assert_eq!(read(client, text.len()), text.as_bytes(), "{backend:?}");
        }
        // Datagrams are served beside them.
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_read_timeout(Some(SOME_TIME)).unwrap();
        udp.send_to(b"x", server.udp).unwrap();
        assert_eq!(udp.recv(&mut [0; 9]).unwrap(), 1);
        assert_eq!(server.places.taken(), 30);
        drop(clients);
        assert_eq!(server.wait_for_closed(30), vec![Closed::ByClient; 30]);
        server.finish();
    }
}

/// A client writes far more than sockets keep, and reads only then: all comes back, and the server never has more at
/// hand than it should.
#[test]
fn who_reads_late_gets_everything_in_order() {
    for backend in BACKENDS {
        let server = Server::start(backend, 10, OPTIONS);
        let client = server.client();
        let text: Vec<u8> = (0..1_500_000_u32)
            .flat_map(|line| format!("{line:015}\n").into_bytes())
            .collect();
        std::thread::scope(|scope| {
            let mut writer = client.try_clone().unwrap();
            let text = &text;
            scope.spawn(move || writer.write_all(text).unwrap());
            std::thread::sleep(SHORT);
            assert!(read(&mut client.try_clone().unwrap(), text.len()) == *text);
        });
        let shown = server.seen.shown.load(Relaxed);
        assert!(shown <= 4 << 20, "{backend:?}: {shown}");
        drop(client);
        assert_eq!(server.wait_for_closed(1), [Closed::ByClient]);
        server.finish();
    }
}

#[test]
fn who_never_reads_is_closed_and_nobody_else_waits() {
    for backend in BACKENDS {
        let options = StreamOptions {
            stall: SHORT,
            ..OPTIONS
        };
        let server = Server::start(backend, 10, options);
        let mut deaf = server.client();
        let mut other = server.client();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        server.wait_for_places(2);
        while deaf.write_all(&line).is_ok() && server.places.taken() == 2 {}
        assert_eq!(server.wait_for_closed(1), [Closed::Stalled], "{backend:?}");
        other.write_all(b"still here\n").unwrap();
        assert_eq!(read(&mut other, 11), b"still here\n");
        server.finish();
    }
}

#[test]
fn the_silent_are_closed_and_the_others_stay() {
    for backend in BACKENDS {
        let options = StreamOptions {
            idle: Some(SHORT),
            ..OPTIONS
        };
        let server = Server::start(backend, 10, options);
        let mut silent = server.client();
        let mut other = server.client();
        while server.seen.closed.lock().unwrap().is_empty() {
            other.write_all(b"x\n").unwrap();
            assert_eq!(read(&mut other, 2), b"x\n", "{backend:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(read_to_end(&mut silent), b"");
        assert_eq!(server.wait_for_closed(1)[0], Closed::Idle);
        server.finish();
    }
}

#[test]
fn who_finds_no_place_is_told_so_and_places_come_back() {
    for backend in BACKENDS {
        let server = Server::start(backend, 2, OPTIONS);
        let mut first = server.client();
        let mut second = server.client();
        for client in [&mut first, &mut second] {
            client.write_all(b"a\n").unwrap();
            assert_eq!(read(client, 2), b"a\n");
        }
        assert_eq!(read_to_end(&mut server.client()), b"full\n", "{backend:?}");
        drop(first);
        server.wait_for_closed(1);
        let mut third = server.client();
        third.write_all(b"b\n").unwrap();
        assert_eq!(read(&mut third, 2), b"b\n");
        assert_eq!(server.seen.turned_away.load(Relaxed), 1);
        server.finish();

        let closed = Server::start_with(backend, 2, OPTIONS, false);
        assert_eq!(read_to_end(&mut closed.client()), b"");
        closed.finish();
    }
}

#[test]
fn the_last_reply_arrives_before_the_end() {
    for backend in BACKENDS {
        let server = Server::start(backend, 10, OPTIONS);
        // We end it, while the client goes on.
        let mut client = server.client();
        client.write_all(b"last\nend\nmore\n").unwrap();
        let _ = client.write_all(&vec![b'y'; 100_000]);
        assert_eq!(read_to_end(&mut client), b"last\n", "{backend:?}");
        drop(client);
        // The client ends, and still reads.
        let mut client = server.client();
        let text = b"0123456789\n".repeat(100_000);
        std::thread::scope(|scope| {
            let mut writer = client.try_clone().unwrap();
            let text = &text;
            scope.spawn(move || {
                writer.write_all(text).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            assert!(read_to_end(&mut client) == *text);
        });
        let closed = server.wait_for_closed(2);
        assert_eq!(closed, [Closed::ByHandler, Closed::ByClient]);
        server.finish();
    }
}

#[test]
fn who_needs_too_much_memory_is_closed() {
    for backend in BACKENDS {
        let options = StreamOptions {
            memory_bytes_max: 1 << 20,
            ..OPTIONS
        };
        let server = Server::start(backend, 1_000, options);
        let mut large = server.client();
        server.wait_for_places(1);
        while large.write_all(&[b'x'; 10_000]).is_ok() && server.places.taken() == 1 {}
        assert_eq!(server.wait_for_closed(1), [Closed::NoMemory], "{backend:?}");
        // Some fit, and the others are told.
        let mut clients: Vec<_> = (0..120).map(|_| server.client()).collect();
        assert_eq!(read_to_end(clients.last_mut().unwrap()), b"full\n");
        clients[0].write_all(b"x\n").unwrap();
        assert_eq!(read(&mut clients[0], 2), b"x\n");
        server.finish();
    }
}

#[test]
fn an_end_of_the_loop_ends_connections() {
    for backend in BACKENDS {
        let server = Server::start(backend, 10, OPTIONS);
        let mut clients = [server.client(), server.client()];
        clients[0].write_all(b"x\n").unwrap();
        assert_eq!(read(&mut clients[0], 2), b"x\n");
        let seen = Arc::clone(&server.seen);
        server.wait_for_places(2);
        server.finish();
        assert_eq!(*seen.closed.lock().unwrap(), [Closed::AtEnd; 2]);
        for mut client in clients {
            assert_eq!(read_to_end(&mut client), b"");
        }
    }
}
