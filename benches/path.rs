//! The packet path, measured as CPU time of the receiving thread: what the event loops cost beside a
//! bare `recvmmsg` loop, how many adds a second one core takes through a real node, and what it costs to
//! measure how long adds and counts take. `-- discard`, `-- adds` or `-- times` is one of them alone.
//!
//! `cargo bench --bench path` prints Markdown; `benches/README.md` says how to read it. Two
//! processors are needed: the receiver is pinned to the first, the sender to the second. Everything
//! is sent over loopback. `RMBD_BENCH_ROUNDS` (default 7) sets the number of alternating rounds.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd::config::{HttpChoice, IoChoice, NodeConfig};
use rmbd::engine::{Admitted, Engine, EngineOptions, Session};
use rmbd::node::Node;
use rmbd_io::latency::{Histogram, Stopwatch};
use rmbd_io::{
    Backend, DataSocket, EventLoop, Handler, IoCounters, LoopOptions, Replies, SocketOptions, Stop,
    bind_group, cpu,
};
use rmbd_proto::Boot;
use rmbd_proto::legacy::{
    Dialect, Layout, MESSAGE_BYTES, Message, encode_add, encode_count, messages,
};
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::once::{BootChain, OnceTable};
use rmbd_store::{Registry, Replica, SketchIndex};
use rmbd_udp::Train;

use rmbd_testkit::random::Random;
use support::command_line::{is_chosen_among, is_dry, rounds};
use support::cpu_time;
use support::figures::{median, median_min_max};
use support::flood::flood;

mod support;

/// Time for which each measurement receives.
const MEASURE: Duration = Duration::from_millis(1000);
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Number of messages in the sender's store, so many that keys do not stay in the nearest cache.
const MESSAGES: usize = 1 << 17;

fn main() {
    if is_dry() {
        return;
    }
    let rounds = rounds(7);
    let store = Store::new(encode_add);
    let is_chosen = |name| is_chosen_among(&["discard", "adds", "times"], name);
    if is_chosen("discard") {
        discard(&store, rounds);
    }
    if is_chosen("adds") {
        adds(&store, rounds);
    }
    if is_chosen("times") {
        times(&store, rounds);
    }
}

/// Messages, back to back, with uniform keys of 12 bytes.
struct Store(Vec<u8>);

impl Store {
    fn new(encode: fn(&[u8]) -> [u8; MESSAGE_BYTES]) -> Self {
        let mut random = Random(0x5eed);
        let messages = (0..MESSAGES)
            .flat_map(|_| encode(format!("key {:08x}", random.next() >> 32).as_bytes()));
        Self(messages.collect())
    }
}

/// A sender that floods an address from the second processor until it is dropped.
struct Sender {
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sender {
    /// Starts a sender with `messages` to a datagram, and `datagrams` to a system call.
    fn start(store: &Store, to: std::net::SocketAddr, messages: usize, datagrams: usize) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (bytes, over) = (store.0.clone(), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let segment_bytes = messages * MESSAGE_BYTES;
            let trains = bytes.chunks_exact(segment_bytes * datagrams);
            flood(to, trains.map(|train| (train, segment_bytes as u16)), &over);
        });
        Self {
            done,
            thread: Some(thread),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.done.store(true, Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// A way to receive until the stop. It returns bytes, and CPU time of the thread.
type Way = fn(Arc<DataSocket>, Stop) -> (u64, Duration);

/// Measures CPU nanoseconds per message.
fn discard(store: &Store, rounds: usize) {
    let ways: [(&str, Way); 3] = [
        ("bare recvmmsg + GRO", bare),
        ("io room, mmsg", |socket, stop| {
            event_loop(Backend::Mmsg, socket, stop)
        }),
        ("io room, uring", |socket, stop| {
            event_loop(Backend::Uring, socket, stop)
        }),
    ];
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for ((_, way), figures) in ways.iter().zip(&mut figures) {
            figures.push(nanoseconds_a_message(store, *way));
        }
    }
    println!("### Receiving and discarding 141-byte messages, GSO of 64 segments\n");
    println!("| way | CPU ns a message, median [min-max] of {rounds} | ratio to bare, median |");
    println!("|---|---|---|");
    let bare = figures[0].clone();
    for ((name, _), figures) in ways.iter().zip(figures) {
        let pairs = figures.iter().zip(&bare);
        let ratios: Vec<f64> = pairs.map(|(one, bare)| one / bare).collect();
        let (figures, ratio) = (median_min_max(&figures, 1), median(&ratios));
        println!("| {name} | {figures} | {ratio:.2} |");
    }
    println!();
}

fn nanoseconds_a_message(store: &Store, way: Way) -> f64 {
    let options = SocketOptions {
        receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
    };
    let socket = bind_group(([127, 0, 0, 1], 0).into(), 1, options)
        .unwrap()
        .remove(0);
    let (socket, stop) = (Arc::new(socket), Stop::new().unwrap());
    let receiver = std::thread::spawn({
        let (socket, stop) = (Arc::clone(&socket), stop.clone());
        move || {
            let _ = cpu::pin_to(cpu::allowed()[0]);
            way(socket, stop)
        }
    });
    let sender = Sender::start(store, socket.local_addr(), 1, 64);
    std::thread::sleep(MEASURE);
    stop.give();
    drop(sender);
    // The bare loop checks the stop signal only when a datagram comes.
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .send_to(&[0], socket.local_addr())
        .unwrap();
    let (bytes, cpu) = receiver.join().unwrap();
    cpu.as_nanos() as f64 / (bytes / MESSAGE_BYTES as u64) as f64
}

struct Discard(u64);

impl Handler for Discard {
    fn train(&mut self, train: &Train<'_>, _: &mut Replies) {
        self.0 += train
            .datagrams()
            .map(|datagram| datagram.len() as u64)
            .sum::<u64>();
    }
}

fn event_loop(backend: Backend, socket: Arc<DataSocket>, stop: Stop) -> (u64, Duration) {
    let counters = Arc::new(IoCounters::default());
    let mut event_loop =
        EventLoop::new(backend, socket, stop, LoopOptions::default(), counters).unwrap();
    let mut discard = Discard(0);
    let before = cpu_time::of_this_thread();
    event_loop.run(&mut discard).unwrap();
    (discard.0, cpu_time::of_this_thread() - before)
}

/// The yardstick: only the system call, into buffers that are set up once.
#[allow(unsafe_code)]
fn bare(socket: Arc<DataSocket>, stop: Stop) -> (u64, Duration) {
    use std::os::fd::{AsFd, AsRawFd};
    const TRAINS: usize = 64;
    let mut buffers = vec![vec![0u8; 65_536]; TRAINS];
    let mut control = vec![[0u64; 16]; TRAINS];
    let mut slices: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        })
        .collect();
    // SAFETY: mmsghdr is plain data for which all zeroes is valid.
    let mut headers: Vec<libc::mmsghdr> = vec![unsafe { std::mem::zeroed() }; TRAINS];
    for ((header, slice), control) in headers.iter_mut().zip(&mut slices).zip(&mut control) {
        header.msg_hdr.msg_iov = slice;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = control.as_mut_ptr().cast();
    }
    let mut bytes = 0;
    let before = cpu_time::of_this_thread();
    while !stop.is_given() {
        for header in &mut headers {
            header.msg_hdr.msg_controllen = size_of::<[u64; 16]>();
        }
        // SAFETY: `headers` has TRAINS entries, each pointing to buffers of the stated sizes that
        // live until this function returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                TRAINS as u32,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).unwrap_or(0);
        bytes += headers[..received]
            .iter()
            .map(|header| u64::from(header.msg_len))
            .sum::<u64>();
    }
    (bytes, cpu_time::of_this_thread() - before)
}

/// Measures million adds a second, and CPU nanoseconds per add, through a node with one data thread.
fn adds(store: &Store, rounds: usize) {
    println!(
        "### Adds through a node, one data thread, sketch 4 x 2^20, keys of 12 bytes, uniform\n"
    );
    println!(
        "| datagram | io | million adds/s, median [min-max] of {rounds} | data thread's CPU ns an \
         add, median [min-max] |"
    );
    println!("|---|---|---|---|");
    let datagrams = [
        ("9 messages, 1 269 bytes", 9, 51),
        ("1 message, 141 bytes", 1, 64),
    ];
    for (name, messages, segments) in datagrams {
        let ways = [IoChoice::Uring, IoChoice::Mmsg];
        let mut figures = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        for _ in 0..rounds {
            for (io, figures) in ways.into_iter().zip(&mut figures) {
                let (rate, cost) = add_rate(store, io, messages, segments);
                figures.0.push(rate);
                figures.1.push(cost);
            }
        }
        for (io, (rates, costs)) in ways.into_iter().zip(figures) {
            let (rates, costs) = (median_min_max(&rates, 1), median_min_max(&costs, 1));
            println!("| {name} | {io} | {rates} | {costs} |");
        }
    }
    println!();
}

fn add_rate(store: &Store, io: IoChoice, messages: usize, segments: usize) -> (f64, f64) {
    let node = Node::start(NodeConfig {
        threads: Some(1),
        io,
        http: HttpChoice::Off,
        receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap();
    let data_thread_ns = || cpu_time::of_threads(std::process::id(), "rmbd-data-0");
    let sender = Sender::start(store, node.udp_addr(), messages, segments);
    // This waits until the sketch's pages are there and the flow is steady.
    while node.status().messages.add < 4_000_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (adds, cpu, start) = (node.status().messages.add, data_thread_ns(), Instant::now());
    std::thread::sleep(MEASURE);
    let (adds, cpu) = (node.status().messages.add - adds, data_thread_ns() - cpu);
    let seconds = start.elapsed().as_secs_f64();
    drop(sender);
    node.stop().unwrap();
    (adds as f64 / seconds / 1e6, cpu / adds as f64)
}

/// What measuring times costs: a stopwatch around the operations of a batch, beside the same without.
fn times(adds: &Store, rounds: usize) {
    println!("### Measuring how long operations take, sketch 4 x 2^20, uniform keys\n");
    println!("In memory, by the number of operations that one batch of completions brings:\n");
    println!("| operation | a batch | ns each without | with | difference, median of {rounds} |");
    println!("|---|---|---|---|---|");
    let mut session = session();
    for (name, asks) in [("add", false), ("count", true)] {
        for batch in [1, 16, 64, 1024] {
            compare(name, &batch.to_string(), rounds, &mut |is_timed| {
                in_memory(&mut session, adds, batch, asks, is_timed)
            });
        }
    }
    println!("\nThrough the loop, CPU ns a message of 141 bytes, GSO of 64 segments:\n");
    println!("| operation | io | ns each without | with | difference, median of {rounds} |");
    println!("|---|---|---|---|---|");
    let counts = Store::new(encode_count);
    for (name, store) in [("add", adds), ("count", &counts)] {
        for (io, ways) in [
            ("uring", [untimed_uring as Way, timed_uring]),
            ("mmsg", [untimed_mmsg, timed_mmsg]),
        ] {
            compare(name, io, rounds, &mut |is_timed| {
                nanoseconds_a_message(store, ways[usize::from(is_timed)])
            });
        }
    }
    println!();
}

/// Prints a line of both ways, which take turns, and begin in turns.
fn compare(name: &str, of: &str, rounds: usize, measure: &mut dyn FnMut(bool) -> f64) {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for is_timed in [round % 2 == 1, round % 2 == 0] {
            let figures = if is_timed { &mut with } else { &mut without };
            figures.push(measure(is_timed));
        }
    }
    let pairs = with.iter().zip(&without);
    let differences: Vec<f64> = pairs.map(|(with, without)| with - without).collect();
    let (without, with) = (median_min_max(&without, 1), median_min_max(&with, 1));
    let difference = median_min_max(&differences, 2);
    println!("| {name} | {of} | {without} | {with} | {difference} |");
}

fn session() -> Session<()> {
    let replica = Replica::try_new(Geometry::DEFAULT, HashFamily::Xxh3 { seed: 7 }, 8).unwrap();
    let options = EngineOptions {
        boot: Boot(1),
        earlier: BootChain::default(),
        max_weight: Weight::MAX,
        once: Arc::new(OnceTable::new(1000, &[7; 32])),
    };
    let registry = Registry::of_default(Arc::new(replica));
    Session::new(Arc::new(Engine::new(registry, &options)))
}

/// Nanoseconds of an operation, in batches of so many.
fn in_memory(
    session: &mut Session<()>,
    store: &Store,
    batch: usize,
    asks: bool,
    is_timed: bool,
) -> f64 {
    let mut stopwatch = Stopwatch::new(Arc::new([Histogram::default(), Histogram::default()]));
    let start = cpu_time::of_this_thread();
    for datagrams in store.0.chunks_exact(batch * MESSAGE_BYTES) {
        if is_timed {
            stopwatch.taken();
        }
        // The keys of both kinds of messages are the same.
        apply(session, datagrams, asks);
        session.finish(&mut |(), answer| {
            std::hint::black_box(answer.estimate());
        });
        if is_timed {
            stopwatch.replied(&[session.tally().add, session.tally().count]);
        }
    }
    (cpu_time::of_this_thread() - start).as_nanos() as f64 / MESSAGES as f64
}

/// Adds or counts the keys of add messages.
fn apply(session: &mut Session<()>, bytes: &[u8], asks: bool) {
    let weight = session.weigh(1).unwrap();
    let geometry = Geometry::DEFAULT;
    let layout = Layout {
        dialect: Dialect::Native,
        width: geometry.width(),
        depth: geometry.depth(),
    };
    let room = bytes.len() as u64;
    // A pass would take it over; here cells may fill.
    let _ = session.provide(SketchIndex::DEFAULT, room, || room);
    let mut answer = |(), answer: rmbd::engine::Answer| {
        std::hint::black_box(answer.estimate());
    };
    for message in messages(bytes, layout).flatten() {
        match message {
            Message::Add { key } if !asks => {
                let admitted = Admitted::to(SketchIndex::DEFAULT);
                let _ = session.add(admitted, key, weight, &mut answer);
            }
            Message::Add { key } | Message::Count { key } => {
                session.count(SketchIndex::DEFAULT, key, (), &mut answer);
            }
            _ => {}
        }
    }
}

fn timed_uring(socket: Arc<DataSocket>, stop: Stop) -> (u64, Duration) {
    serving(Backend::Uring, socket, stop, true)
}

fn untimed_uring(socket: Arc<DataSocket>, stop: Stop) -> (u64, Duration) {
    serving(Backend::Uring, socket, stop, false)
}

fn timed_mmsg(socket: Arc<DataSocket>, stop: Stop) -> (u64, Duration) {
    serving(Backend::Mmsg, socket, stop, true)
}

fn untimed_mmsg(socket: Arc<DataSocket>, stop: Stop) -> (u64, Duration) {
    serving(Backend::Mmsg, socket, stop, false)
}

fn serving(
    backend: Backend,
    socket: Arc<DataSocket>,
    stop: Stop,
    is_timed: bool,
) -> (u64, Duration) {
    let counters = Arc::new(IoCounters::default());
    let mut event_loop =
        EventLoop::new(backend, socket, stop, LoopOptions::default(), counters).unwrap();
    let stopwatch = Stopwatch::new(Arc::new([Histogram::default(), Histogram::default()]));
    let mut serving = Serving {
        session: session(),
        stopwatch: is_timed.then_some(stopwatch),
        bytes: 0,
    };
    let before = cpu_time::of_this_thread();
    event_loop.run(&mut serving).unwrap();
    (serving.bytes, cpu_time::of_this_thread() - before)
}

/// Adds and counts as a data thread does, and replies to each count with the bytes of the question.
struct Serving {
    session: Session<()>,
    stopwatch: Option<Stopwatch<2>>,
    bytes: u64,
}

impl Handler for Serving {
    fn taken(&mut self) {
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch.taken();
        }
    }

    fn train(&mut self, train: &Train<'_>, replies: &mut Replies) {
        let before = self.session.tally().count;
        for datagram in train.datagrams() {
            self.bytes += datagram.len() as u64;
            apply(&mut self.session, datagram, false);
        }
        if self.session.tally().count > before {
            self.pause();
            train
                .datagrams()
                .for_each(|datagram| replies.push(datagram));
        }
    }

    fn pause(&mut self) {
        self.session.finish(&mut |(), answer| {
            std::hint::black_box(answer.estimate());
        });
    }

    fn replied(&mut self) {
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch.replied(&[self.session.tally().add, self.session.tally().count]);
        }
    }
}
