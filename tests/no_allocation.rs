//! A test that the data path allocates nothing once a node has started.
//!
//! The allocator counts for each thread. The counts of data threads must not change while they serve every kind of
//! message.

#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd::config::{IoChoice, LimitConfig, LimitVerdict, NodeConfig, RespConfig};
use rmbd::node::Node;
use rmbd_proto::compact::{Answer, Header, Once, RequestWriter, reply};
use rmbd_proto::legacy::{ACK, Dialect, encode_add, encode_count, encode_sync};
use rmbd_proto::{Boot, SketchName};
use rmbd_sketch::Geometry;
use rmbd_udp::send_segments;

/// The prefix of data threads' names.
const DATA_THREAD: &[u8] = b"rmbd-data-";

/// Number of allocations and deallocations by watched threads.
static OF_DATA_THREADS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[allow(unsafe_code)]
// SAFETY: every call goes to `System` unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The ids of threads whose allocations are counted; 0 stands for none.
static WATCHED: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

fn count() {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    if WATCHED
        .iter()
        .any(|watched| watched.load(Relaxed) == thread)
    {
        OF_DATA_THREADS.fetch_add(1, Relaxed);
    }
}

fn watch_data_threads() -> usize {
    let mut found = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap();
        let name = std::fs::read(task.path().join("comm")).unwrap();
        if name.starts_with(DATA_THREAD) {
            let id = task.file_name().into_string().unwrap().parse().unwrap();
            WATCHED[found].store(id, Relaxed);
            found += 1;
        }
    }
    found
}

fn settle(client: &UdpSocket) {
    client.send(&encode_count(b"are you there?")).unwrap();
    let mut reply = [0; 2048];
    loop {
        let len = client.recv(&mut reply).unwrap();
        if reply[1..len].starts_with(b"are you there?") {
            return;
        }
    }
}

/// Sends every operation: new, repeated, refused, malformed, and longer than its reply may be.
fn every_kind_of_request(client: &UdpSocket, boot: Boot, sender: u64, round: u64, good: &[u8]) {
    let mut writer = RequestWriter::new(1400);
    let once = Once {
        boot,
        client: sender,
        sequence: round / 2,
    };
    let stranger = Once {
        client: !(sender << 32 | round),
        ..once
    };
    let mut forged = good.to_vec();
    forged[15] ^= 1;
    for (once, cookie) in [
        (None, None),
        (Some(once), Some(good)),
        (
            Some(Once {
                boot: Boot(!boot.0),
                ..once
            }),
            None,
        ),
        (Some(stranger), None),
        (Some(stranger), Some(&forged[..])),
    ] {
        let header = Header {
            acknowledge: true,
            once,
            cookie,
            ..Header::default()
        };
        writer.start(&header).unwrap();
        writer.info().unwrap();
        writer.hit(b"limited", 1, 10, 0).unwrap();
        writer.bounds(b"limited").unwrap();
        let key = round.to_string();
        while writer
            .add(key.as_bytes(), round)
            .and_then(|()| writer.count(key.as_bytes()))
            .is_ok()
        {}
        client.send(writer.finish()).unwrap();
    }
    writer.start(&Header::default()).unwrap();
    writer.top(0, 0, 10).unwrap();
    client.send(writer.finish()).unwrap();
    writer.start(&Header::default()).unwrap();
    // Denied hits: of a key that comes again and again, and of others.
    for key in [&b"limited"[..], format!("{sender} {round}").as_bytes()] {
        writer.hit_by_name(b"door", key, 1).unwrap();
    }
    client.send(writer.finish()).unwrap();
    let short = b"\xc1\0\x01\0\0\0\0\x06\x05\0\x06\x05\0";
    for datagram in [
        &short[..],
        &short[..3],
        b"\xc2\0\x01\0\0\0",
        b"\xc1\0\x01\0\0\0\0\x63",
    ] {
        client.send(datagram).unwrap();
    }
}

/// A cookie, which proves that the sockets of this test receive at their address.
fn cookie(client: &UdpSocket) -> Vec<u8> {
    let mut writer = RequestWriter::new(1400);
    writer.start(&Header::default()).unwrap();
    writer.info().unwrap();
    client.send(writer.finish()).unwrap();
    let mut buffer = [0; 2048];
    let len = client.recv(&mut buffer).unwrap();
    match reply(&buffer[..len]).unwrap().answers().next() {
        Some(Ok(Answer::Info(info))) => info.cookie.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Sends adds and counts (alone, packed and in trains), rows, orders, acks, and nonsense.
fn every_kind_of_message(client: &UdpSocket, round: u64) {
    let key = round.to_string().into_bytes();
    let packed = [encode_add(&key), encode_count(&key)].concat().repeat(4);
    let mut row = Vec::new();
    encode_sync(0, &[round; 100], Dialect::Native, &mut row);
    let mut order = [3; 143];
    order[1] = 255;
    for datagram in [
        &encode_add(&key)[..],
        &packed,
        &row,
        &order,
        &ACK,
        &[],
        &[9; 77],
        &[0; 150],
    ] {
        client.send(datagram).unwrap();
    }
    let train = encode_add(&key).repeat(60);
    send_segments(client, None, &train, 141).unwrap();
    settle(client);
}

/// A limit that admits nobody.
fn door() -> LimitConfig {
    LimitConfig {
        name: "door".parse().unwrap(),
        sketch: SketchName::default(),
        keys: "*".parse().unwrap(),
        amounts: vec!["0/60s".parse().unwrap()],
        cost: 1,
        verdict: LimitVerdict::Take,
        overrides: Vec::new(),
        exempt: Vec::new(),
        shadow: false,
    }
}

/// Lets the buffers of a connection grow, which keeps them, beyond what the commands here and their replies can need:
/// half of a command waits in its input, and then comes back whole.
fn grow(client: &mut TcpStream) {
    const BYTES: usize = 60_000;
    let text = "x".repeat(BYTES);
    let (first, rest) = text.split_at(BYTES / 2);
    write!(client, "*2\r\n$4\r\nECHO\r\n${BYTES}\r\n{first}").unwrap();
    while unread_bytes(client) > 0 {
        std::thread::yield_now();
    }
    write!(client, "{rest}\r\n").unwrap();
    assert_eq!(line(client), format!("${BYTES}"));
    assert_eq!(line(client), text);
}

/// Bytes from this client that are under way, or that the node has not taken from the kernel: `tx_queue` of its socket
/// and `rx_queue` of the node's, of proc(5).
fn unread_bytes(client: &TcpStream) -> u64 {
    let port = |address: std::net::SocketAddr| format!(":{:04X}", address.port());
    let ours = port(client.local_addr().unwrap());
    let theirs = port(client.peer_addr().unwrap());
    let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let queues = sockets.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let [at, from, _, queues] = [(); 4].map(|()| words.next().unwrap());
        let (sending, received) = queues.split_once(':')?;
        match (&at[at.len() - 5..], &from[from.len() - 5..]) {
            (at, from) if at == ours && from == theirs => Some(sending),
            (at, from) if at == theirs && from == ours => Some(received),
            _ => None,
        }
        .map(|bytes| u64::from_str_radix(bytes, 16).unwrap())
    });
    queues.sum()
}

fn line(client: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

/// Sends commands of Redis's protocol in one pipeline, cut somewhere, and takes all replies.
fn every_kind_of_command(client: &mut TcpStream, round: u64) {
    let mut bytes = Vec::new();
    for line in [
        "CMS.QUERY default a b c",
        "CMS.INFO default",
        "PING",
        "RMBD.HIT default limited 1 10 60s",
        "RMBD.TAKE default limited 1 10 60s",
        "CL.THROTTLE limited 15 30 60",
        "TOPK.ADD default a b",
        "TOPK.LIST default WITHCOUNT",
        "TOPK.QUERY default a",
        "EXISTS default",
        "CLIENT GETNAME",
    ] {
        writeln!(bytes, "{line}").unwrap();
    }
    write!(bytes, "*130\r\n$10\r\nCMS.INCRBY\r\n$7\r\ndefault\r\n").unwrap();
    for key in 0..64 {
        write!(bytes, "$8\r\n{:08}\r\n$1\r\n1\r\n", round * 64 + key).unwrap();
    }
    bytes.extend(b"CMS.INCRBY default key 1\n".repeat(500));
    bytes.extend(b"ECHO the-end\n");
    let (first, rest) = bytes.split_at(round as usize * 37 % bytes.len());
    client.write_all(first).unwrap();
    client.write_all(rest).unwrap();
    let (mut replies, mut buffer) = (Vec::new(), [0; 1 << 16]);
    while !replies.ends_with(b"the-end\r\n") {
        let length = client.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&replies));
        replies.extend(&buffer[..length]);
    }
    let mut lines = replies.split(|&byte| byte == b'\n');
    let error = lines.find(|line| line.starts_with(b"-"));
    assert!(error.is_none(), "{:?}", error.map(String::from_utf8_lossy));
}

#[test]
fn data_threads_allocate_nothing_after_the_start() {
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        let node = Node::start(NodeConfig {
            geometry: Geometry::new(100, 4).unwrap(),
            threads: Some(2),
            io,
            limits: vec![door()],
            resp: RespConfig::at("127.0.0.1:0"),
            ..NodeConfig::at("127.0.0.1:0")
        })
        .unwrap();
        assert_eq!(watch_data_threads(), 2);
        // There are several sockets, so that both threads have work.
        let clients: Vec<UdpSocket> = (0..16)
            .map(|_| {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client
                    .set_read_timeout(Some(Duration::from_secs(30)))
                    .unwrap();
                client.connect(node.udp_addr()).unwrap();
                client
            })
            .collect();
        let boot = Boot(u64::from_str_radix(&node.status().compact.boot, 16).unwrap());
        let cookie = cookie(&clients[0]);
        let mut connections: Vec<TcpStream> = (0..8)
            .map(|_| TcpStream::connect(node.resp_addr().unwrap()).unwrap())
            .collect();
        connections.iter_mut().for_each(grow);
        let before = OF_DATA_THREADS.load(Relaxed);
        for round in 0..200 {
            let all = connections.iter_mut().filter(|_| round % 8 == 0);
            all.for_each(|connection| every_kind_of_command(connection, round));
            for (sender, client) in clients.iter().enumerate() {
                every_kind_of_request(client, boot, sender as u64, round, &cookie);
                every_kind_of_message(client, round);
            }
        }
        let allocated = OF_DATA_THREADS.load(Relaxed) - before;
        let status = node.status();
        assert!(
            status
                .io
                .threads
                .iter()
                .all(|thread| thread.datagrams > 1000),
            "{:?}",
            status.io
        );
        assert!(status.messages.sync > 0 && status.messages.peer > 0 && status.messages.ack > 0);
        assert!(status.limits[0].over > 1000, "{:?}", status.limits);
        assert!(status.messages.top > 1000, "lists are made anew meanwhile");
        assert!(status.messages.hit > 0 && status.messages.bounds > 0 && status.messages.info > 0);
        assert!(status.compact.repeats > 1000, "{:?}", status.compact);
        for refused in ["wrong_boot", "reply_too_large", "address_unproven"] {
            assert!(status.datagrams.refused[refused] > 1000, "{refused}");
        }
        assert!(status.resp.commands > 8 * 25 * 500, "{:?}", status.resp);
        assert_eq!(allocated, 0, "{io}");
        // The count itself works: stopping does allocate on these threads.
        let started = Instant::now();
        node.stop().unwrap();
        assert!(
            OF_DATA_THREADS.load(Relaxed) > before,
            "after {:?}",
            started.elapsed()
        );
    }
}
