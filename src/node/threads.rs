//! Starting a node's threads. Each gets the resources that it needs and reports that; when all have, they serve. If
//! one thread cannot have its ring, all start again without rings.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;

use super::control::{ControlThread, Runtime};
use super::crew::{Crew, Part};
use super::http::{self, HttpThread};
use super::start::warn_of_fallback;
use super::supervisor::RollCall;
use super::{Node, NodeError, system};
use crate::config::{IoChoice, NodeConfig};
use crate::fronts::datagrams::{ClientPort, DataHandler};
use crate::fronts::resp::{RespHandler, RespPort};
use crate::status::{ObservedThread, THREAD_KINDS, operations_done};
use rmbd_io::latency::Stopwatch;
use rmbd_io::limits::in_the_way_of_threads;
use rmbd_io::{
    Backend, Closed, EventLoop, Handler, LoopError, LoopOptions, Ping, Replies, StreamReplies,
    Streams, Taken, Then, cpu,
};
use rmbd_udp::Train;

/// Number of threads to spare: those that look names up, and one that writes the log.
const THREADS_TO_SPARE: usize = 3;

/// The report of a thread: that it has all it needs, or the error.
type Report = Result<(), NodeError>;

/// Threads that have all they need, and wait. Dropping this ends them.
pub(super) struct Waiting {
    backend: Backend,
    control: Option<Waiter<ControlThread>>,
    /// The thread of HTTP, if there is anything for it.
    http: Option<Waiter<HttpThread>>,
    data: Vec<Waiter<()>>,
}

/// A thread that waits for its work, and ends if the work cannot come any more.
struct Waiter<T> {
    begin: Sender<T>,
    thread: JoinHandle<()>,
}

impl Node {
    /// Makes all threads ready with `backend`, or all without rings if one ring is refused and the configuration
    /// leaves the choice.
    pub(super) fn make_threads_ready(
        &self,
        config: &NodeConfig,
        backend: Backend,
        roll_call: Option<&RollCall>,
        alive: mpsc::Sender<Infallible>,
    ) -> Result<Waiting, NodeError> {
        match Waiting::new(self, config, backend, roll_call, &alive) {
            Err(NodeError::Ring(refused)) => {
                let refused = refused.of_data_threads(self.overview.threads().len() as u64);
                if config.io != IoChoice::Auto {
                    return Err(refused.into());
                }
                warn_of_fallback(&refused);
                Waiting::new(self, config, Backend::Mmsg, roll_call, &alive)
            }
            outcome => outcome,
        }
    }
}

impl Waiting {
    fn new(
        node: &Node,
        config: &NodeConfig,
        backend: Backend,
        roll_call: Option<&RollCall>,
        alive: &mpsc::Sender<Infallible>,
    ) -> Result<Self, NodeError> {
        let threads = node.overview.threads().len();
        let mut waiting = Self {
            backend,
            control: None,
            http: None,
            data: Vec::with_capacity(threads),
        };
        let others = 1 + usize::from(node.overview.needs_http_thread());
        let (report, reports) = channel();
        let missing = |started: usize| (others + threads - started + THREADS_TO_SPARE) as u64;
        waiting.control = Some(start_control(
            &node.crew,
            backend,
            report.clone(),
            missing(0),
        )?);
        if node.overview.needs_http_thread() {
            let http = start_http(&node.crew, report.clone(), missing(1))?;
            waiting.http = Some(http);
        }
        let cpus = cpu::allowed();
        for (thread, observed) in node.overview.threads().iter().enumerate() {
            let data = DataThreadStart {
                port: Arc::clone(&node.port),
                resp: node.overview.resp().and_then(|resp| {
                    let streams = resp.streams(thread)?;
                    Some((streams, Arc::clone(resp.port())))
                }),
                observed: Arc::clone(observed),
                crew: node.crew.clone(),
                cpu: cpus.get(thread % cpus.len().max(1)).copied(),
                options: LoopOptions {
                    busy_poll: Duration::from_micros(config.busy_poll_us.into()),
                },
                ping: roll_call.and_then(|roll_call| roll_call.data(thread).cloned()),
                thread,
                _alive: alive.clone(),
            };
            let data = start_data(data, backend, report.clone(), missing(thread + others))?;
            waiting.data.push(data);
        }
        drop(report);
        for _ in 0..threads + others {
            let report = reports.recv();
            report.map_err(|_| NodeError::Ended {
                part: "a thread that was to start".to_owned(),
                how: "by a panic",
            })??;
        }
        Ok(waiting)
    }

    /// Lets the threads serve. `node` owns them from now on.
    pub(super) fn serve(
        mut self,
        node: &mut Node,
        control: ControlThread,
        http: Option<HttpThread>,
    ) {
        node.overview.set_backend(self.backend);
        if let (Some(waiter), Some(http)) = (self.http.take(), http) {
            let _ = waiter.begin.send(http);
            node.http = Some(waiter.thread);
        }
        if let Some(waiter) = self.control.take() {
            let _ = waiter.begin.send(control);
            node.control = Some(waiter.thread);
        }
        for waiter in self.data.drain(..) {
            let _ = waiter.begin.send(());
            node.data.push(waiter.thread);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let control = self.control.take().map(Waiter::dismissed);
        let http = self.http.take().map(Waiter::dismissed);
        let data: Vec<_> = self.data.drain(..).map(Waiter::dismissed).collect();
        // The threads have reported their errors.
        let _ = control.map(JoinHandle::join);
        let _ = http.map(JoinHandle::join);
        for thread in data {
            let _ = thread.join();
        }
    }
}

impl<T> Waiter<T> {
    /// Drops the sender of the work, so that the thread ends.
    fn dismissed(self) -> JoinHandle<()> {
        self.thread
    }
}

fn start_control(
    crew: &Crew,
    backend: Backend,
    report: Sender<Report>,
    missing: u64,
) -> Result<Waiter<ControlThread>, NodeError> {
    let watcher = crew.clone();
    let name = "rmbd-control".to_owned();
    let watched_as = name.clone();
    let run = move |begin: Receiver<ControlThread>| {
        let runtime = Runtime::new(backend);
        let runtime = tell(report, runtime);
        if let (Some(runtime), Ok(control)) = (runtime, begin.recv()) {
            let _watch = watcher.watch_thread(Part::Control, watched_as);
            if let Err(error) = runtime.run(control) {
                watcher.fail(system("running the control thread")(error));
            }
        }
    };
    start(crew, name, run, missing)
}

fn start_http(
    crew: &Crew,
    report: Sender<Report>,
    missing: u64,
) -> Result<Waiter<HttpThread>, NodeError> {
    let watcher = crew.clone();
    let name = "rmbd-http".to_owned();
    let watched_as = name.clone();
    let run = move |begin: Receiver<HttpThread>| {
        let runtime = tell(report, http::runtime());
        if let (Some(runtime), Ok(http)) = (runtime, begin.recv()) {
            let _watch = watcher.watch_thread(Part::Http, watched_as);
            if let Err(error) = http.run(&runtime) {
                watcher.fail(error);
            }
        }
    };
    start(crew, name, run, missing)
}

fn start_data(
    data: DataThreadStart,
    backend: Backend,
    report: Sender<Report>,
    missing: u64,
) -> Result<Waiter<()>, NodeError> {
    let name = format!("rmbd-data-{}", data.thread);
    let (crew, watched_as) = (data.crew.clone(), name.clone());
    let run = move |begin: Receiver<()>| {
        data.pin();
        let ready = data.event_loop(backend).map(|event_loop| {
            let handler = data.handler();
            (event_loop, handler)
        });
        if let (Some((event_loop, handler)), Ok(())) = (tell(report, ready), begin.recv()) {
            let _watch = data.crew.watch_thread(Part::Data, watched_as);
            data.run(event_loop, handler);
        }
    };
    start(&crew, name, run, missing)
}

/// Reports an outcome, and returns its value. The report's sender is dropped, so that a thread that ends without a
/// report is noticed.
fn tell<T>(report: Sender<Report>, outcome: Result<T, NodeError>) -> Option<T> {
    let (report_of_it, value) = match outcome {
        Ok(value) => (Ok(()), Some(value)),
        Err(error) => (Err(error), None),
    };
    let _ = report.send(report_of_it);
    value
}

/// Starts a waiting thread. `missing` is the number of threads that are still to be started, this one included.
fn start<T: Send + 'static>(
    crew: &Crew,
    name: String,
    run: impl FnOnce(Receiver<T>) + Send + 'static,
    missing: u64,
) -> Result<Waiter<T>, NodeError> {
    let (begin, begins) = channel();
    let started = crew.waiting_thread(name, move || run(begins));
    let thread = started.map_err(|error| match in_the_way_of_threads(&error, missing) {
        Some(limit) => limit.into(),
        None => system("starting a thread")(error),
    })?;
    Ok(Waiter { begin, thread })
}

/// The parts that one data thread starts with.
struct DataThreadStart {
    port: Arc<ClientPort>,
    resp: Option<(Streams, Arc<RespPort>)>,
    observed: Arc<ObservedThread>,
    crew: Crew,
    cpu: Option<usize>,
    options: LoopOptions,
    /// The watchdog's questions to this thread, if there is one.
    ping: Option<Ping>,
    thread: usize,
    /// A sender that is dropped last, when the thread has ended.
    _alive: mpsc::Sender<Infallible>,
}

impl DataThreadStart {
    fn run(&self, mut event_loop: EventLoop, mut handler: Fronts) {
        #[cfg(test)]
        if self.crew.strikes_thread(Part::Data) {
            return;
        }
        if let Err(source) = event_loop.run(&mut handler) {
            self.crew.fail(NodeError::Loop {
                thread: self.thread,
                source,
            });
        }
    }

    fn pin(&self) {
        let pinned = self.cpu.filter(|&cpu| match cpu::pin_to(cpu) {
            Ok(()) => true,
            Err(error) => {
                warn!(thread = self.thread, cpu, "not pinned: {error}");
                false
            }
        });
        self.observed.set_cpu(pinned);
    }

    fn handler(&self) -> Fronts {
        let observed = || Arc::clone(&self.observed);
        let resp = self.resp.as_ref();
        Fronts {
            datagrams: DataHandler::new(Arc::clone(&self.port), observed()),
            resp: resp.map(|(_, port)| Box::new(RespHandler::new(Arc::clone(port), observed()))),
            stopwatch: Stopwatch::new(Arc::clone(self.observed.times())),
        }
    }

    fn event_loop(&self, backend: Backend) -> Result<EventLoop, NodeError> {
        let event_loop = EventLoop::new(
            backend,
            Arc::clone(self.observed.socket()),
            self.crew.stop().clone(),
            self.options,
            Arc::clone(self.observed.io()),
        );
        let event_loop = event_loop.and_then(|mut event_loop| {
            if let Some((streams, _)) = &self.resp {
                event_loop.serve_streams(streams.clone())?;
            }
            if let Some(ping) = &self.ping {
                event_loop.answer(ping.clone());
            }
            Ok(event_loop)
        });
        event_loop.map_err(|source| match source {
            LoopError::Ring(refused) => refused.into(),
            source => NodeError::Loop {
                thread: self.thread,
                source,
            },
        })
    }
}

/// All that one data thread serves.
struct Fronts {
    datagrams: DataHandler,
    resp: Option<Box<RespHandler>>,
    stopwatch: Stopwatch<THREAD_KINDS>,
}

impl Handler for Fronts {
    #[inline]
    fn taken(&mut self) {
        self.stopwatch.taken();
    }

    #[inline]
    fn replied(&mut self) {
        let commands = self.resp.as_ref().map_or(0, |resp| resp.commands());
        self.stopwatch
            .replied(&operations_done(self.datagrams.done(), commands));
    }

    #[inline]
    fn train(&mut self, train: &Train<'_>, replies: &mut Replies) {
        self.datagrams.train(train, replies);
    }

    #[inline]
    fn pause(&mut self) {
        if let Some(resp) = &mut self.resp {
            resp.pause();
        }
        self.datagrams.pause();
    }

    fn opened(&mut self, connection: usize, from: SocketAddr) -> bool {
        let resp = self.resp.as_mut();
        resp.is_some_and(|resp| resp.opened(connection, from))
    }

    #[inline]
    fn received(
        &mut self,
        connection: usize,
        bytes: &[u8],
        replies: &mut StreamReplies<'_>,
    ) -> Taken {
        match &mut self.resp {
            Some(resp) => resp.received(connection, bytes, replies),
            None => Taken {
                bytes: 0,
                then: Then::End,
            },
        }
    }

    fn closed(&mut self, connection: usize, why: Closed) {
        if let Some(resp) = &mut self.resp {
            resp.closed(connection, why);
        }
    }

    fn turned_away(&mut self, from: SocketAddr) -> &'static [u8] {
        let resp = self.resp.as_mut();
        resp.map_or(b"", |resp| resp.turned_away(from))
    }
}
