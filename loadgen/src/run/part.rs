//! One part of a phase: threads that send and receive, from the first planned message to the last
//! answer or timeout.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rmbd::io::cpu;
use rmbd::wire::Boot;

use crate::closed::ClosedLoop;
use crate::closed::once::OnceLoop;
use crate::flight::clock::{Clock, nanoseconds};
use crate::flight::progress::{Progress, Totals};
use crate::flight::times::{Times, Window};
use crate::judge::ledger::Ledger;
use crate::plan::load::Load;
use crate::plan::script::Script;
use crate::receive::{self, Answers};
use crate::record::Pace;
use crate::send::outgoing::Link;
use crate::send::sender::{Sender, SenderReport, Shared};

/// From the moment when all threads are ready to the first planned message.
const LEAD: Duration = Duration::from_millis(5);
/// How often whoever watches is told.
const WATCH: Duration = Duration::from_millis(50);

/// Where a load goes, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) server: SocketAddr,
    /// CPUs that the generator's threads are kept on, in turn; empty for where the kernel wants.
    pub(crate) cpus: Vec<usize>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) window: Window,
    pub(crate) report: SenderReport,
    /// `None` where nothing was asked.
    pub(crate) times: Option<Times>,
    /// Messages of each thread's script that were sent.
    pub(crate) scripted: Vec<u64>,
    /// CPU time of all threads.
    pub(crate) cpu: Duration,
}

/// What the threads of one part share.
struct Part {
    links: Vec<Link>,
    progress: Progress,
    /// Release by the sender: what it sent before is seen by its receiver.
    sender_ended: AtomicBool,
}

/// Runs a load; the scripts, one a thread, go on from where they are, and so does the ledger of hits. Adds
/// that count exactly once need the boot of the node.
///
/// # Errors
/// No sockets or no threads. What happens while sending is in the outcome.
pub(crate) fn run(
    load: &Load,
    ledger: Option<&Ledger>,
    boot: Option<Boot>,
    route: &Route,
    scripts: &mut [Script],
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Duration, Totals),
) -> io::Result<Outcome> {
    let parts = open_parts(route.server, load)?;
    let zero = OnceLock::new();
    let shared = Shared {
        load,
        ledger,
        boot,
        clock: Clock(&zero),
        window: Window::new(nanoseconds(LEAD), load),
        stop,
    };
    thread::scope(|scope| {
        let mut team = Team {
            scope,
            shared: &shared,
            route,
            ready: Arc::default(),
            senders: Vec::new(),
            receivers: Vec::new(),
        };
        if let Err(error) = team.start(&parts, scripts) {
            // Those that have started wait for the clock, or for this.
            stop.store(true, Ordering::Relaxed);
            return Err(error);
        }
        let _ = zero.set(Instant::now());
        while !team.is_over() {
            thread::sleep(WATCH);
            let elapsed_ns = shared.clock.now_ns().saturating_sub(shared.window.start_ns);
            watch(
                Duration::from_nanos(elapsed_ns),
                Progress::totals(parts.iter().map(|part| &part.progress)),
            );
        }
        team.collect(scripts)
    })
}

fn open_parts(server: SocketAddr, load: &Load) -> io::Result<Vec<Part>> {
    (0..load.threads)
        .map(|part| {
            let sockets =
                load.sockets / load.threads + usize::from(part < load.sockets % load.threads);
            let links: io::Result<_> = (0..sockets).map(|_| Link::open(server, load)).collect();
            Ok(Part {
                links: links?,
                progress: Progress::default(),
                sender_ended: AtomicBool::new(false),
            })
        })
        .collect()
}

/// The threads of a load.
struct Team<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    shared: &'scope Shared<'scope>,
    route: &'scope Route,
    /// How many have their buffers.
    ready: Arc<AtomicUsize>,
    senders: Vec<ScopedJoinHandle<'scope, (SenderReport, Script, Option<Times>)>>,
    receivers: Vec<ScopedJoinHandle<'scope, (Times, Duration)>>,
}

impl<'scope> Team<'scope, '_> {
    /// Starts all threads and waits until they are ready.
    fn start(&mut self, parts: &'scope [Part], scripts: &[Script]) -> io::Result<()> {
        let closed = matches!(self.shared.load.pace, Pace::Outstanding { .. });
        for (index, (part, script)) in parts.iter().zip(scripts).enumerate() {
            if closed {
                self.start_closed(index, part, script.clone())?;
            } else {
                self.start_sender(index, part, script.clone())?;
            }
            if self.shared.load.asks() && !closed {
                self.start_receiver(index, part)?;
            }
        }
        let threads = self.senders.len() + self.receivers.len();
        // Acquire: their work before it is done.
        while self.ready.load(Ordering::Acquire) < threads {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn start_sender(&mut self, index: usize, part: &'scope Part, script: Script) -> io::Result<()> {
        let (shared, seat) = (self.shared, self.seat(index));
        let send = move || {
            seat.take();
            let sender = Sender::new(shared, index, &part.links, script, &part.progress);
            seat.ready();
            let (report, script) = sender.run();
            part.sender_ended.store(true, Ordering::Release);
            (report, script, None)
        };
        let name = format!("loadgen-send-{index}");
        self.senders.push(spawn(self.scope, name, send)?);
        Ok(())
    }

    fn start_receiver(&mut self, index: usize, part: &'scope Part) -> io::Result<()> {
        let (shared, seat) = (self.shared, self.seat(index + 1));
        let receive = move || {
            seat.take();
            let answers = Answers::new(shared, &part.links);
            seat.ready();
            receive::run(answers, shared, &part.sender_ended, &part.progress)
        };
        let name = format!("loadgen-recv-{index}");
        self.receivers.push(spawn(self.scope, name, receive)?);
        Ok(())
    }

    fn start_closed(&mut self, index: usize, part: &'scope Part, script: Script) -> io::Result<()> {
        let (shared, seat) = (self.shared, self.seat(index));
        let work = move || {
            seat.take();
            let (report, script, times) = match shared.boot {
                None => {
                    let closed =
                        ClosedLoop::new(shared, index, &part.links, script, &part.progress);
                    seat.ready();
                    closed.run()
                }
                Some(boot) => {
                    let once =
                        OnceLoop::new(shared, index, &part.links, script, &part.progress, boot);
                    seat.ready();
                    once.run()
                }
            };
            (report, script, Some(times))
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

    /// Waits for all threads and puts together what they did.
    fn collect(self, scripts: &mut [Script]) -> io::Result<Outcome> {
        let mut outcome = Outcome {
            window: self.shared.window,
            report: SenderReport::new(&self.shared.window),
            times: None,
            scripted: Vec::new(),
            cpu: Duration::ZERO,
        };
        for (handle, script) in self.senders.into_iter().zip(scripts) {
            let (report, script_then, times) = handle.join().map_err(|_| panicked())?;
            *script = script_then;
            outcome.scripted.push(report.scripted);
            outcome.cpu += report.cpu;
            outcome.report.merge(report);
            outcome.merge_times(times);
        }
        for handle in self.receivers {
            let (times, cpu) = handle.join().map_err(|_| panicked())?;
            outcome.cpu += cpu;
            outcome.merge_times(Some(times));
        }
        Ok(outcome)
    }
}

impl Outcome {
    fn merge_times(&mut self, times: Option<Times>) {
        match (&mut self.times, times) {
            (Some(ours), Some(theirs)) => ours.merge(&theirs),
            (ours @ None, theirs) => *ours = theirs,
            (Some(_), None) => {}
        }
    }
}

/// Where a thread sits, and how it says that it is ready.
struct Seat {
    cpu: Option<usize>,
    ready: Arc<AtomicUsize>,
}

impl Seat {
    /// Before buffers are made, so that their memory is near.
    fn take(&self) {
        if let Some(cpu) = self.cpu {
            // A favour: elsewhere it runs as well, only less evenly.
            let _ = cpu::pin_to(cpu);
        }
    }

    fn ready(&self) {
        // Release: buffers are made before it.
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
