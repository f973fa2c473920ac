//! The client for tokio.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{self, Connection, is_about_the_peer};
use super::core::{Core, Failure, Outcome, Reason, Settings, Unsendable};
use super::questions::{FromAnswer, Question};
use super::route::{Asked, Route, Step};
use super::server::Server;
use super::{AddsReport, ClientError, ClientOptions};
use rmbd_names::{Lookup, look_up_on_thread};
use rmbd_proto::SketchNumber;
use rmbd_proto::compact::{self, Answer, Operation};

/// Calls that wait for the task to take them.
const CALLS_WAITING_MAX: usize = 1024;
/// Datagrams that wait to be sent before no more calls are taken.
const WAITING_MAX: usize = 128;
/// What the socket is waited for. Who does not take note of a refusal when it comes is told when the next datagram is
/// sent, in its place.
const REPLIES: Interest = Interest::READABLE;
const REFUSALS: Interest = Interest::ERROR;
/// Operations of one call; more are several calls.
const OPERATIONS_A_CALL: usize = 1024;
/// Such calls under way at once.
const CALLS_AT_ONCE: usize = 16;

/// A client of one server for tokio: clones share one socket, and what many tasks ask for at the same
/// time shares datagrams.
///
/// A call that is dropped before its answer goes on: its weights may still be added. When the last
/// clone is dropped, what was asked for is still sent.
///
/// ```no_run
/// # async fn example() -> Result<(), rmbd_client::ClientError> {
/// use rmbd_client::{AsyncClient, ClientOptions};
///
/// let client = AsyncClient::connect("127.0.0.1:8000", ClientOptions::default()).await?;
/// let hit = client.hit("10.0.0.7", 1, 100).await?;
/// if !hit.allowed {
///     println!("too often: {}", hit.estimate);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AsyncClient {
    calls: mpsc::Sender<Call>,
    asked: Whereabouts,
    timeout: Duration,
}

impl AsyncClient {
    /// A client of a server. Where its name has several addresses, of the first that answers; where there
    /// is only one, nothing is sent yet.
    ///
    /// # Errors
    /// No such name, no address that answers, or no socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub async fn connect(
        server: impl Into<Server>,
        options: ClientOptions,
    ) -> Result<Self, ClientError> {
        let server = server.into();
        let addresses = look_up(&server).await?;
        let timeout = options.timeout;
        if let [address] = *addresses {
            return Self::open(Route::new(server, addresses, address, timeout), options);
        }
        let mut causes = Vec::new();
        for &address in &addresses {
            let probe = Self::open(Route::only(address, timeout), options)?;
            match probe.info().await {
                Ok(_) => {
                    let mut route = Route::new(server, addresses, address, timeout);
                    route.heard();
                    return Self::open(route, options);
                }
                Err(cause) => causes.push((address, cause)),
            }
        }
        let server = server.to_string();
        Err(ClientError::Unreached { server, causes })
    }

    /// The server's address; another one after a call in which the one before did not answer.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.asked.at().0
    }

    /// Adds a weight to a key; 0 changes nothing.
    ///
    /// # Errors
    /// [`ClientError::fate`] tells whether the weight may have been added.
    pub async fn add(&self, key: impl AsRef<[u8]>, weight: u64) -> Result<(), ClientError> {
        let key = key.as_ref();
        self.ask(Operation::Add { key, weight }).await
    }

    /// Adds weights to keys; how many adds there were.
    ///
    /// # Errors
    /// [`ClientError::Adds`] says which adds are confirmed, uncertain and not done.
    pub async fn add_many<K: AsRef<[u8]>>(
        &self,
        adds: impl IntoIterator<Item = (K, u64)>,
    ) -> Result<u64, ClientError> {
        let adds = adds.into_iter().map(|(key, weight)| {
            let key = key.as_ref();
            Owned::from(Operation::Add { key, weight })
        });
        let mut report = AddsReport::default();
        let mut first_error = None;
        let mut position = 0;
        let mut take = |result: OperationResult<()>| {
            match result {
                Ok(()) => report.confirmed += 1,
                Err(failed) => {
                    report.fail(position, failed.fate());
                    first_error.get_or_insert(failed);
                }
            }
            position += 1;
            first_error.is_none()
        };
        report.taken = self.many(adds, &mut take).await;
        match first_error {
            None => Ok(report.confirmed),
            Some(failed) => {
                report.sort();
                Err(ClientError::Adds {
                    report: Box::new(report),
                    source: Box::new(self.error(failed)),
                })
            }
        }
    }

    fn open(route: Route, options: ClientOptions) -> Result<Self, ClientError> {
        let connection = Connection::open(route.at())?;
        let socket = waiting_on(&connection)?;
        let asked = Whereabouts::new(&route);
        let settings = Settings {
            timeout: options.timeout,
            linger: options.linger,
        };
        let (calls, waiting) = mpsc::channel(CALLS_WAITING_MAX);
        let driver = Driver {
            connection,
            socket,
            route,
            asked: asked.clone(),
            heard_at: Duration::ZERO,
            core: Core::new(settings, connection::fresh_id()),
            lingers: !options.linger.is_zero(),
            open: HashMap::new(),
            next_call: 0,
        };
        tokio::spawn(driver.run(waiting));
        Ok(Self {
            calls,
            asked,
            timeout: options.timeout,
        })
    }

    /// Has an operation sent, and waits for its answer.
    pub(super) fn ask<'c, 'q, A: FromAnswer, Q: Into<Question<'q>>>(
        &'c self,
        question: Q,
    ) -> impl Future<Output = Result<A, ClientError>> + use<'c, 'q, A, Q> {
        let question = question.into();
        let (deadline, adds) = (question.deadline, question.operation.weight() > 0);
        let question = Owned::from(question);
        async move {
            let answered = self.answer(question);
            match deadline {
                None => answered.await,
                Some(deadline) => match timeout(deadline, answered).await {
                    Ok(answer) => answer.map_err(|error| error.after(deadline)),
                    Err(_) => Err(self.too_late(deadline, adds)),
                },
            }
        }
    }

    async fn answer<A: FromAnswer>(&self, question: Owned) -> Result<A, ClientError> {
        let results = self.call(vec![question]).await?.await;
        let result = results.ok().and_then(|results| results.into_iter().next());
        match result {
            Some(result) => result.map_err(|failed| self.error(failed)),
            None => Err(ClientError::Closed),
        }
    }

    /// What was asked goes on without its caller.
    fn too_late(&self, deadline: Duration, adds: bool) -> ClientError {
        let uncertain = adds;
        let reason = Reason::Silence;
        let (server, asked) = &*self.asked.at();
        let failure = Failure { reason, uncertain };
        ClientError::of_failure(asked.clone(), *server, deadline, failure)
    }

    /// Has `count` operations sent, and waits for all their answers, which come in the same order.
    pub(super) async fn ask_all<'k, A: FromAnswer>(
        &self,
        count: usize,
        operation: impl Fn(usize) -> Operation<'k>,
    ) -> Result<Vec<A>, ClientError> {
        let operations = (0..count).map(|at| Owned::from(operation(at)));
        let mut answers = Vec::with_capacity(count);
        let mut first_error = None;
        let mut take = |result: OperationResult<A>| {
            match result {
                Ok(answer) => answers.push(answer),
                Err(failed) => {
                    first_error.get_or_insert(failed);
                }
            }
            first_error.is_none()
        };
        self.many(operations, &mut take).await;
        match first_error {
            None => Ok(answers),
            Some(failed) => Err(self.error(failed)),
        }
    }

    /// Hands over operations, some calls at a time, and their results in order; ends early where
    /// `take` says so. How many operations were taken.
    async fn many<A: FromAnswer>(
        &self,
        operations: impl Iterator<Item = Owned>,
        take: &mut impl FnMut(OperationResult<A>) -> bool,
    ) -> u64 {
        let mut operations = operations.peekable();
        let mut under_way = VecDeque::new();
        let (mut taken, mut goes_on) = (0, true);
        loop {
            while goes_on && under_way.len() < CALLS_AT_ONCE && operations.peek().is_some() {
                let part: Vec<_> = operations.by_ref().take(OPERATIONS_A_CALL).collect();
                taken += part.len() as u64;
                let size = part.len();
                under_way.push_back((size, self.call(part).await));
            }
            let Some((size, call)) = under_way.pop_front() else {
                return taken;
            };
            let results = match call {
                Ok(results) => results.await.ok(),
                Err(_) => None,
            };
            for result in results.unwrap_or_else(|| closed(size)) {
                goes_on &= take(result);
            }
        }
    }

    async fn call<A: FromAnswer>(
        &self,
        operations: Vec<Owned>,
    ) -> Result<oneshot::Receiver<Vec<OperationResult<A>>>, ClientError> {
        let (done, receiver) = oneshot::channel();
        let results = closed(operations.len());
        let waiter = Box::new(Waiting { results, done });
        let sent = self.calls.send(Call { operations, waiter }).await;
        sent.map(|()| receiver).map_err(|_| ClientError::Closed)
    }

    fn error(&self, failed: Failed) -> ClientError {
        match failed {
            Failed::Unsendable(unsendable) => unsendable.into(),
            Failed::Failure(failure, place) => {
                let (server, asked) = &*place;
                ClientError::of_failure(asked.clone(), *server, self.timeout, failure)
            }
            Failed::Closed => ClientError::Closed,
        }
    }
}

/// An address, and whom an error names with it.
type Place = (SocketAddr, Asked);

/// Where the task is with its server.
#[derive(Debug, Clone)]
struct Whereabouts(Arc<Mutex<Arc<Place>>>);

impl Whereabouts {
    fn new(route: &Route) -> Self {
        let place = (route.at(), route.asked());
        Self(Arc::new(Mutex::new(Arc::new(place))))
    }

    fn at(&self) -> Arc<Place> {
        Arc::clone(&self.lock())
    }

    fn follow(&self, route: &Route) {
        *self.lock() = Arc::new((route.at(), route.asked()));
    }

    /// Nothing that is done while it is locked can panic.
    fn lock(&self) -> MutexGuard<'_, Arc<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks up without holding up the runtime, nor its end.
async fn look_up(server: &Server) -> Result<Vec<SocketAddr>, ClientError> {
    let Some((name, resolver)) = server.name() else {
        return Ok(server.addresses()?);
    };
    let (send, found) = oneshot::channel();
    let done = |found: Vec<Lookup>| {
        let _ = send.send(found);
    };
    let looking = look_up_on_thread(resolver, vec![name.clone()], done);
    let failed = |source| ClientError::Resolve(name.failed(source));
    looking.map_err(failed)?;
    let found = found.await.ok();
    let found = found.and_then(|found| found.into_iter().next());
    match found {
        Some(Ok(addresses)) => Ok(server.in_order(addresses)),
        Some(Err(error)) => Err(error.into()),
        None => Err(failed(io::ErrorKind::BrokenPipe.into())),
    }
}

/// The connection's socket, for waiting.
fn waiting_on(connection: &Connection) -> Result<UdpSocket, ClientError> {
    let socket = connection.udp.try_clone().and_then(UdpSocket::from_std);
    socket.map_err(|error| ClientError::of_socket(connection.server, "open a socket to", error))
}

/// Operations that are answered together.
struct Call {
    operations: Vec<Owned>,
    waiter: Box<dyn Waiter>,
}

/// An operation on its way to the task, as it stands in a datagram; one that cannot be written is told by the task.
struct Owned {
    written: Result<Box<[u8]>, Unsendable>,
    sketch: SketchNumber,
    once: bool,
}

impl<'q, Q: Into<Question<'q>>> From<Q> for Owned {
    fn from(question: Q) -> Self {
        let Question {
            operation,
            sketch,
            once,
            ..
        } = question.into();
        let mut written = Vec::new();
        let result = operation.write(&mut written);
        Self {
            written: result.map(|_| written.into()).map_err(Unsendable::from),
            sketch,
            once,
        }
    }
}

impl Owned {
    fn borrow(&self) -> Result<Question<'_>, Unsendable> {
        let written = self.written.as_deref().map_err(|&unsendable| unsendable)?;
        let operation = compact::operations(written).next().and_then(Result::ok);
        // What was written is read.
        let operation = operation.ok_or(Unsendable::TooLong)?;
        Ok(Question {
            sketch: self.sketch,
            once: self.once,
            ..operation.into()
        })
    }
}

/// Who waits for the results of a call, of whatever kind its answers are.
trait Waiter: Send {
    /// Takes the result of one of its operations.
    fn take(&mut self, index: usize, result: Result<Option<Answer<'_>>, Failed>);

    /// Takes note that all results are there.
    fn done(self: Box<Self>);
}

struct Waiting<A> {
    results: Vec<OperationResult<A>>,
    done: oneshot::Sender<Vec<OperationResult<A>>>,
}

impl<A: FromAnswer> Waiter for Waiting<A> {
    fn take(&mut self, index: usize, result: Result<Option<Answer<'_>>, Failed>) {
        if let Some(place) = self.results.get_mut(index) {
            // The core lets no other kind of answer through.
            *place = result.and_then(|answer| A::from_answer(answer).ok_or(Failed::Closed));
        }
    }

    fn done(self: Box<Self>) {
        // Nobody may wait any more: the caller was dropped.
        let _ = self.done.send(self.results);
    }
}

type OperationResult<A> = Result<A, Failed>;

/// The results of so many operations where the task is gone.
fn closed<A>(operations: usize) -> Vec<OperationResult<A>> {
    std::iter::repeat_with(|| Err(Failed::Closed))
        .take(operations)
        .collect()
}

#[derive(Debug, Clone)]
enum Failed {
    Unsendable(Unsendable),
    /// And where the task was then.
    Failure(Failure, Arc<Place>),
    Closed,
}

impl Failed {
    fn fate(&self) -> super::Fate {
        match self {
            Self::Unsendable(_) => super::Fate::NotAdded,
            Self::Failure(failure, _) => failure.fate(),
            Self::Closed => super::Fate::Uncertain,
        }
    }
}

/// The task behind all clones.
struct Driver {
    connection: Connection,
    /// The connection's, for waiting.
    socket: UdpSocket,
    route: Route,
    asked: Whereabouts,
    /// The latest reply that the route knows of.
    heard_at: Duration,
    core: Core<Token>,
    lingers: bool,
    open: HashMap<u64, OpenCall>,
    next_call: u64,
}

/// Which operation of which call.
#[derive(Debug, Clone, Copy)]
struct Token {
    call: u64,
    index: usize,
}

struct OpenCall {
    waiter: Box<dyn Waiter>,
    left: usize,
}

impl Driver {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let mut is_open = true;
        while is_open || !self.core.is_idle() {
            // What has been asked for by now shares datagrams.
            while self.has_room()
                && let Ok(call) = calls.try_recv()
            {
                self.begin(call);
            }
            if !self.lingers || !is_open {
                self.core.flush();
            }
            self.send().await;
            let now = self.connection.now();
            let step = self.route.next_step(now, self.core.silent_since());
            let until = self.core.next_tick().into_iter().chain(step).min();
            let until = until.map(|at| self.instant(at));
            let has_room = self.has_room();
            tokio::select! {
                call = calls.recv(), if is_open && has_room => match call {
                    Some(call) => self.begin(call),
                    None => is_open = false,
                },
                _ = self.socket.ready(REPLIES | REFUSALS) => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
            }
            self.receive(REPLIES);
            self.receive(REFUSALS);
            // First: what fails now was asked where we have been until now.
            self.follow_route();
            let now = self.connection.now();
            let (open, at) = (&mut self.open, &self.asked);
            self.core.tick(now, &mut |token, outcome| {
                settle(open, token, result(outcome, at));
            });
        }
    }

    /// Goes to another address where this one does not answer.
    fn follow_route(&mut self) {
        let now = self.connection.now();
        if self.core.heard_at() > self.heard_at {
            self.heard_at = self.core.heard_at();
            if self.route.is_in_trouble() {
                self.route.heard();
                self.asked.follow(&self.route);
            }
            self.route.heard();
        }
        let patience = self.route.patience();
        if (self.core.silent_since()).is_some_and(|since| since + patience <= now) {
            self.route.silent();
        }
        if !self.route.is_in_trouble() {
            return;
        }
        self.core.distrust();
        loop {
            let step = self.route.step(now, self.core.may_move());
            self.asked.follow(&self.route);
            match step {
                Step::Stay | Step::Await => return,
                Step::Move(address) => match self.move_to(address) {
                    Ok(()) => return self.core.relocate(now),
                    Err(_) => self.route.is_unusable(),
                },
                Step::GiveUp => {
                    let (open, at) = (&mut self.open, &self.asked);
                    let mut sink = |token: Token, outcome: Outcome<'_>| {
                        settle(open, token, result(outcome, at));
                    };
                    return self.core.abandon(Reason::Unreachable, &mut sink);
                }
            }
        }
    }

    fn move_to(&mut self, address: SocketAddr) -> Result<(), ClientError> {
        self.connection.reopen(address)?;
        self.socket = waiting_on(&self.connection)?;
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.core.waiting() < WAITING_MAX
    }

    fn instant(&self, at: Duration) -> Instant {
        Instant::now() + at.saturating_sub(self.connection.now())
    }

    fn begin(&mut self, call: Call) {
        let Call { operations, waiter } = call;
        let number = self.next_call;
        self.next_call += 1;
        let left = operations.len();
        self.open.insert(number, OpenCall { waiter, left });
        for (index, operation) in operations.iter().enumerate() {
            let token = Token {
                call: number,
                index,
            };
            let now = || self.connection.now();
            let pushed = operation.borrow();
            let pushed = pushed.and_then(|question| self.core.push(question, token, now));
            if let Err(unsendable) = pushed {
                settle(&mut self.open, token, Err(Failed::Unsendable(unsendable)));
            }
        }
    }

    async fn send(&mut self) {
        while let Some(segment_bytes) =
            (self.core).transmit(self.connection.now(), &mut self.connection.train)
        {
            let Self {
                connection, socket, ..
            } = self;
            let sent = socket.async_io(Interest::WRITABLE, || connection.send(segment_bytes));
            if let Err(error) = sent.await {
                self.excuse(&error);
            }
        }
    }

    fn receive(&mut self, arrivals: Interest) {
        loop {
            let Self {
                connection, socket, ..
            } = self;
            let received = socket.try_io(arrivals, || match connection.receive()? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                trains => Ok(trains),
            });
            match received {
                Ok(trains) => {
                    let now = self.connection.now();
                    let (open, at) = (&mut self.open, &self.asked);
                    for datagram in self.connection.datagrams(trains) {
                        self.core.receive(datagram, now, &mut |token, outcome| {
                            settle(open, token, result(outcome, at));
                        });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.excuse(&error),
            }
        }
    }

    /// Where nobody has ever answered, "nobody listens" ends all calls. Any other trouble may pass:
    /// what was not sent counts as lost.
    fn excuse(&mut self, error: &io::Error) {
        if self.route.may_change() && is_about_the_peer(error) {
            return self.route.refused();
        }
        if error.kind() == io::ErrorKind::ConnectionRefused && !self.core.has_heard() {
            let (open, at) = (&mut self.open, &self.asked);
            self.core
                .abandon(Reason::Unreachable, &mut |token, outcome| {
                    settle(open, token, result(outcome, at));
                });
        }
    }
}

fn result<'a>(outcome: Outcome<'a>, at: &Whereabouts) -> Result<Option<Answer<'a>>, Failed> {
    outcome.map_err(|failure| Failed::Failure(failure, at.at()))
}

fn settle(
    open: &mut HashMap<u64, OpenCall>,
    token: Token,
    result: Result<Option<Answer<'_>>, Failed>,
) {
    let Some(call) = open.get_mut(&token.call) else {
        return;
    };
    call.waiter.take(token.index, result);
    call.left -= 1;
    if call.left == 0
        && let Some(call) = open.remove(&token.call)
    {
        call.waiter.done();
    }
}
