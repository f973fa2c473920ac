//! The traffic of one part of a phase: threads send and receive, from the first planned message to the last answer or
//! timeout.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rmbd_io::cpu;
use rmbd_proto::Boot;

use crate::closed::{AnsweredLoop, OnceLoop};
use crate::flight::{Clock, Connection, Part, Progress, Times, Totals};
use crate::judge::{Chosen, Diary, Ledger, Notebook};
use crate::plan::{Load, Script, Window, nanoseconds};
use crate::receive::{self, Answers};
use crate::record::Pace;
use crate::send::{Errand, Sender, SenderReport};

/// Time from the moment when all threads are ready to the first planned message.
const LEAD: Duration = Duration::from_millis(5);
/// Time between two reports of progress.
const WATCH: Duration = Duration::from_millis(50);

/// The way of a load: its servers, and the CPUs that it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// The servers, at least one. Each has as many sockets of each thread as the others.
    pub(crate) servers: Vec<SocketAddr>,
    /// The CPUs that the generator's threads are pinned to in turn. If there are none, the kernel decides.
    pub(crate) cpus: Vec<usize>,
}

/// All that was sent and answered in a part, by all threads.
pub(crate) struct Traffic {
    pub(crate) window: Window,
    pub(crate) report: SenderReport,
    /// The times of answers; `None` if nothing was asked.
    pub(crate) times: Option<Times>,
    /// Number of messages of each thread's script that were sent.
    pub(crate) scripted: Vec<u64>,
    /// CPU time of all threads.
    pub(crate) cpu: Duration,
    /// What happened to chosen keys.
    pub(crate) notebook: Notebook,
    /// The moment at which the part's clock shows 0.
    pub(crate) zero: Instant,
}

/// The connections and counters of one sending thread and its receiver.
struct Post {
    connections: Vec<Connection>,
    progress: Progress,
    /// Whether the sender has ended. It is set with Release, so that the receiver sees all that was sent before.
    sender_ended: AtomicBool,
}

/// What a load is judged by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Judged<'a> {
    /// The ledger of a load of hits of all time.
    pub(crate) ledger: Option<&'a Ledger>,
    /// The keys of which diaries are kept, in a load with windows.
    pub(crate) chosen: Option<&'a Chosen>,
}

/// Runs a load. The scripts, one for each thread, go on from where they are, and so does the ledger of hits. Adds
/// that count exactly once need the boot of the node.
///
/// # Errors
/// Fails if there are no sockets or no threads. Errors while sending are in the traffic.
pub(crate) fn run(
    load: &Load,
    judged: Judged<'_>,
    boot: Option<Boot>,
    route: &Route,
    scripts: &mut [Script],
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Duration, Totals),
) -> io::Result<Traffic> {
    let posts = open_posts(&route.servers, load)?;
    let zero = OnceLock::new();
    let part = Part {
        load,
        ledger: judged.ledger,
        chosen: judged.chosen,
        nodes: route.servers.len(),
        boot,
        clock: Clock(&zero),
        window: Window::new(nanoseconds(LEAD), load),
        stop,
    };
    thread::scope(|scope| {
        let mut team = Team {
            scope,
            part: &part,
            route,
            ready: Arc::default(),
            senders: Vec::new(),
            receivers: Vec::new(),
        };
        if let Err(error) = team.start(&posts, scripts) {
            // Threads that have started wait for the clock, or for this.
            stop.store(true, Ordering::Relaxed);
            return Err(error);
        }
        let _ = zero.set(Instant::now());
        while !team.is_over() {
            thread::sleep(WATCH);
            let elapsed_ns = part.now_ns().saturating_sub(part.window.start_ns);
            watch(
                Duration::from_nanos(elapsed_ns),
                Progress::totals(posts.iter().map(|post| &post.progress)),
            );
        }
        team.collect(scripts)
    })
}

fn open_posts(servers: &[SocketAddr], load: &Load) -> io::Result<Vec<Post>> {
    let mut numbers = 0..;
    (0..load.threads)
        .map(|thread| {
            let sockets =
                load.sockets / load.threads + usize::from(thread < load.sockets % load.threads);
            let numbers = numbers.by_ref().take(sockets);
            let connections = numbers.map(|number| Connection::open(servers, number, load));
            Ok(Post {
                connections: connections.collect::<io::Result<_>>()?,
                progress: Progress::default(),
                sender_ended: AtomicBool::new(false),
            })
        })
        .collect()
}

impl Post {
    fn errand<'a>(&'a self, part: &'a Part<'a>, thread: usize, script: Script) -> Errand<'a> {
        Errand::new(part, thread, &self.connections, script, &self.progress)
    }
}

/// The results of a sending thread. A closed loop has times, too.
type Sending<'a> = (SenderReport, Script, Option<Times>, Vec<Diary<'a>>);

/// The threads of a load.
struct Team<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    part: &'scope Part<'scope>,
    route: &'scope Route,
    /// Number of threads that have their buffers.
    ready: Arc<AtomicUsize>,
    senders: Vec<ScopedJoinHandle<'scope, Sending<'scope>>>,
    receivers: Vec<ScopedJoinHandle<'scope, (Times, Duration, Option<Diary<'scope>>)>>,
}

impl<'scope> Team<'scope, '_> {
    /// Starts all threads and waits until they are ready.
    fn start(&mut self, posts: &'scope [Post], scripts: &[Script]) -> io::Result<()> {
        let is_closed = matches!(self.part.load.pace, Pace::Outstanding { .. });
        for (index, (post, script)) in posts.iter().zip(scripts).enumerate() {
            if is_closed {
                self.start_closed(index, post, script.clone())?;
            } else {
                self.start_sender(index, post, script.clone())?;
            }
            if self.part.load.asks() && !is_closed {
                self.start_receiver(index, post)?;
            }
        }
        let threads = self.senders.len() + self.receivers.len();
        // Acquire: the threads' work happened before.
        while self.ready.load(Ordering::Acquire) < threads {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn start_sender(&mut self, index: usize, post: &'scope Post, script: Script) -> io::Result<()> {
        let (part, seat) = (self.part, self.seat(index));
        let send = move || {
            seat.take();
            let sender = Sender::new(post.errand(part, index, script), index);
            seat.ready();
            let (report, script, diary) = sender.run();
            post.sender_ended.store(true, Ordering::Release);
            (report, script, None, diary.into_iter().collect())
        };
        let name = format!("loadgen-send-{index}");
        self.senders.push(spawn(self.scope, name, send)?);
        Ok(())
    }

    fn start_receiver(&mut self, index: usize, post: &'scope Post) -> io::Result<()> {
        let (part, seat) = (self.part, self.seat(index + 1));
        let receive = move || {
            seat.take();
            let answers = Answers::new(part, &post.connections);
            seat.ready();
            receive::run(answers, part, &post.sender_ended, &post.progress)
        };
        let name = format!("loadgen-recv-{index}");
        self.receivers.push(spawn(self.scope, name, receive)?);
        Ok(())
    }

    fn start_closed(&mut self, index: usize, post: &'scope Post, script: Script) -> io::Result<()> {
        let (part, seat) = (self.part, self.seat(index));
        let work = move || {
            seat.take();
            let errand = post.errand(part, index, script);
            let (report, script, times, diaries) = match part.boot {
                None => {
                    let closed = AnsweredLoop::new(errand, index);
                    seat.ready();
                    closed.run()
                }
                Some(boot) => {
                    let once = OnceLoop::new(errand, index, boot);
                    seat.ready();
                    let (report, script, times) = once.run();
                    (report, script, times, Vec::new())
                }
            };
            (report, script, Some(times), diaries)
        };
        let name = format!("loadgen-loop-{index}");
        self.senders.push(spawn(self.scope, name, work)?);
        Ok(())
    }

    fn seat(&self, index: usize) -> Seat {
        let cpus = &self.route.cpus;
        Seat {
            cpu: cpus.get(index % cpus.len().max(1)).copied(),
            ready: Arc::clone(&self.ready),
        }
    }

    fn is_over(&self) -> bool {
        self.senders.iter().all(ScopedJoinHandle::is_finished)
            && self.receivers.iter().all(ScopedJoinHandle::is_finished)
    }

    /// Waits for all threads, and adds up their results.
    fn collect(self, scripts: &mut [Script]) -> io::Result<Traffic> {
        let mut diaries = Vec::new();
        let mut traffic = Traffic {
            notebook: Notebook::default(),
            zero: self
                .part
                .clock
                .0
                .get()
                .copied()
                .unwrap_or_else(Instant::now),
            window: self.part.window,
            report: SenderReport::new(&self.part.window, self.part.nodes),
            times: None,
            scripted: Vec::new(),
            cpu: Duration::ZERO,
        };
        for (handle, script) in self.senders.into_iter().zip(scripts) {
            let (report, script_then, times, kept) = handle.join().map_err(|_| panicked())?;
            *script = script_then;
            diaries.extend(kept);
            traffic.scripted.push(report.scripted);
            traffic.cpu += report.cpu;
            traffic.report.merge(report);
            traffic.merge_times(times);
        }
        for handle in self.receivers {
            let (times, cpu, kept) = handle.join().map_err(|_| panicked())?;
            traffic.cpu += cpu;
            diaries.extend(kept);
            traffic.merge_times(Some(times));
        }
        traffic.notebook = Notebook::of(diaries);
        Ok(traffic)
    }
}

impl Traffic {
    fn merge_times(&mut self, times: Option<Times>) {
        match (&mut self.times, times) {
            (Some(ours), Some(theirs)) => ours.merge(&theirs),
            (ours @ None, theirs) => *ours = theirs,
            (Some(_), None) => {}
        }
    }
}

/// The CPU of a thread, and the means by which it reports that it is ready.
struct Seat {
    cpu: Option<usize>,
    ready: Arc<AtomicUsize>,
}

impl Seat {
    /// Pins the thread. This comes before buffers are made, so that their memory is near.
    fn take(&self) {
        if let Some(cpu) = self.cpu {
            // An error is ignored: elsewhere the thread runs as well, only less evenly.
            let _ = cpu::pin_to(cpu);
        }
    }

    fn ready(&self) {
        // Release: the buffers were made before.
        self.ready.fetch_add(1, Ordering::Release);
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new().name(name).spawn_scoped(scope, work)
}

fn panicked() -> io::Error {
    io::Error::other(
        "a thread of the load generator ended by a panic; this is a bug, please report it",
    )
}
