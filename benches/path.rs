//! The packet path, measured as CPU time of the receiving thread: what the event loops cost beside a
//! bare `recvmmsg` loop, and how many adds a second one core takes through a real node.
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
use rmbd::node::Node;
use rmbd_io::{
    Backend, DataSocket, EventLoop, Handler, IoCounters, LoopOptions, Replies, SocketOptions, Stop,
    bind_group, cpu,
};
use rmbd_proto::legacy::{MESSAGE_BYTES, encode_add};
use rmbd_udp::Train;

use rmbd_testkit::random::Random;
use support::command_line::{is_dry, rounds};
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
    let store = Store::new();
    discard(&store, rounds);
    adds(&store, rounds);
}

/// Add messages, back to back, with uniform keys of 12 bytes.
struct Store(Vec<u8>);

impl Store {
    fn new() -> Self {
        let mut random = Random(0x5eed);
        let messages = (0..MESSAGES)
            .flat_map(|_| encode_add(format!("key {:08x}", random.next() >> 32).as_bytes()));
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
