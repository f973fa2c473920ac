//! The packet path, measured as CPU time of the receiving thread: what the event loops cost beside a
//! bare `recvmmsg` loop, and how many adds a second one core takes through a real node.
//!
//! `cargo bench --bench path` prints Markdown; `benches/README.md` says how to read it. Two
//! processors are needed: the receiver is pinned to the first, the sender to the second. Everything
//! is sent over loopback. `RMBD_BENCH_ROUNDS` (default 7) sets the number of alternating rounds.

#![allow(missing_docs, clippy::unwrap_used)]

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd::config::{HttpChoice, IoChoice, NodeConfig};
use rmbd::io::{
    Backend, DataSocket, EventLoop, Handler, IoCounters, LoopOptions, Replies, SocketOptions, Stop,
    Train, bind_group, cpu, send_segments,
};
use rmbd::node::Node;
use rmbd::wire::legacy::{MESSAGE_BYTES, encode_add};
use rustix::time::{ClockId, clock_gettime};

/// How long each measurement receives.
const MEASURE: Duration = Duration::from_millis(1000);
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Messages in the sender's store: enough that keys do not stay in the nearest cache.
const MESSAGES: usize = 1 << 17;

fn main() {
    // `cargo test --benches` and `cargo bench -- --list` call this too.
    if std::env::args().any(|arg| arg == "--list" || arg == "--test") {
        return;
    }
    let rounds = std::env::var("RMBD_BENCH_ROUNDS").map_or(7, |text| text.parse().unwrap());
    let store = Store::new();
    discard(&store, rounds);
    adds(&store, rounds);
}

/// Add messages, back to back, with keys of 12 bytes, uniform.
struct Store(Vec<u8>);

impl Store {
    fn new() -> Self {
        let mut state = 0x5eed_u64;
        let messages = (0..MESSAGES).flat_map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            encode_add(format!("key {:08x}", state >> 32).as_bytes())
        });
        Self(messages.collect())
    }
}

/// Floods an address from the second processor until dropped.
struct Sender {
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sender {
    /// `messages` to a datagram, `datagrams` to a system call.
    fn start(store: &Store, to: std::net::SocketAddr, messages: usize, datagrams: usize) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (bytes, over) = (store.0.clone(), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let _ = cpu::pin_to(*cpu::allowed().last().unwrap());
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(to).unwrap();
            let segment = messages * MESSAGE_BYTES;
            let trains: Vec<&[u8]> = bytes.chunks_exact(segment * datagrams).collect();
            for train in trains.iter().cycle() {
                if over.load(Relaxed) {
                    return;
                }
                let _ = send_segments(&socket, None, train, segment as u16);
            }
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

/// Receives until it is stopped; bytes, and CPU time of the thread.
type Way = fn(Arc<DataSocket>, Stop) -> (u64, Duration);

/// CPU nanoseconds a message.
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
        let ratios = figures
            .iter()
            .zip(&bare)
            .map(|(one, bare)| one / bare)
            .collect();
        println!("| {name} | {} | {:.2} |", spread(figures), median(ratios));
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
    // The bare loop looks at the signal only when something comes.
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .send_to(&[0], socket.local_addr())
        .unwrap();
    let (bytes, cpu) = receiver.join().unwrap();
    cpu.as_nanos() as f64 / (bytes / MESSAGE_BYTES as u64) as f64
}

/// CPU time that this thread has used.
fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
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
    let before = thread_cpu();
    event_loop.run(&mut discard).unwrap();
    (discard.0, thread_cpu() - before)
}

/// The yardstick: nothing but the system call, into buffers that are set up once.
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
    let before = thread_cpu();
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
    (bytes, thread_cpu() - before)
}

/// Million adds a second, and CPU nanoseconds an add, through a node with one data thread.
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
            println!("| {name} | {io} | {} | {} |", spread(rates), spread(costs));
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
    let data_thread = task_named("rmbd-data-0");
    let sender = Sender::start(store, node.udp_addr(), messages, segments);
    // Until the sketch's pages are there and the flow is steady.
    while node.status().messages.add < 4_000_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (adds, cpu, start) = (
        node.status().messages.add,
        on_cpu(&data_thread),
        Instant::now(),
    );
    std::thread::sleep(MEASURE);
    let (adds, cpu) = (
        node.status().messages.add - adds,
        on_cpu(&data_thread) - cpu,
    );
    let seconds = start.elapsed().as_secs_f64();
    drop(sender);
    node.stop().unwrap();
    (adds as f64 / seconds / 1e6, cpu / adds as f64)
}

fn task_named(name: &str) -> std::path::PathBuf {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .map(|task| task.unwrap().path())
        .find(|task| std::fs::read_to_string(task.join("comm")).unwrap().trim() == name)
        .unwrap()
}

/// Nanoseconds that a thread has run (`schedstat`, Documentation/scheduler/sched-stats.rst).
fn on_cpu(task: &std::path::Path) -> f64 {
    let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(values: Vec<f64>) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:.1} [{least:.1}-{most:.1}]", median(values))
}
