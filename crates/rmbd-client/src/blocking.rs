//! The blocking client.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::event::PollFlags;

use super::connection::{self, Connection, is_about_the_peer};
use super::core::{Core, Failure, Outcome, Reason, Settings, Sink};
use super::questions::{FromAnswer, Question};
use super::route::{Route, Step};
use super::server::Server;
use super::{Adder, ClientError, ClientOptions};
use rmbd_proto::SketchNumber;
use rmbd_proto::compact::Operation;

/// Datagrams of the largest train.
const TRAIN_DATAGRAMS: usize = 46;
/// Datagrams that wait to be sent before a caller waits, too: the next train, while one is on its way.
const WAITING_MAX: usize = 2 * TRAIN_DATAGRAMS;
/// How long an operation of an [`Adder`] waits for others at least.
const ADDER_LINGER_MIN: Duration = Duration::from_millis(1);

/// A blocking client of one server. Every call waits for the answers; an [`Adder`] does not.
///
/// ```no_run
/// use rmbd_client::{Client, ClientOptions};
///
/// let mut client = Client::connect("127.0.0.1:8000", ClientOptions::default())?;
/// client.add("apple", 1)?;
/// client.add_many([("apple", 2), ("pear", 10)])?;
/// assert_eq!(client.count("apple")?.estimate, 3);
/// let hit = client.hit("10.0.0.7", 1, 100)?; // adds 1, and asks: is that more than 100?
/// assert!(hit.allowed);
/// # Ok::<(), rmbd_client::ClientError>(())
/// ```
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    route: Route,
    core: Core<u64>,
    /// The latest reply that the route knows of.
    heard_at: Duration,
    /// When the caller stops waiting, if that is before the timeout.
    until: Option<Duration>,
    options: ClientOptions,
}

impl Client {
    /// A client of a server. Where its name has several addresses, of the first that answers; where there
    /// is only one, nothing is sent yet.
    ///
    /// # Errors
    /// No such name, no address that answers, or no socket.
    pub fn connect(server: impl Into<Server>, options: ClientOptions) -> Result<Self, ClientError> {
        let server = server.into();
        let addresses = server.addresses()?;
        let timeout = options.timeout;
        if let [address] = *addresses {
            return Self::open(Route::new(server, addresses, address, timeout), options);
        }
        let mut causes = Vec::new();
        for &address in &addresses {
            let answering = Self::open(Route::only(address, timeout), options);
            let answering = answering.and_then(|mut client| {
                client.info()?;
                Ok(client)
            });
            match answering {
                Ok(mut client) => {
                    client.route = Route::new(server, addresses, address, timeout);
                    client.route.heard();
                    return Ok(client);
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
        self.connection.server
    }

    /// Adds a weight to a key; 0 changes nothing.
    ///
    /// # Errors
    /// [`ClientError::fate`] tells whether the weight may have been added.
    pub fn add(&mut self, key: impl AsRef<[u8]>, weight: u64) -> Result<(), ClientError> {
        let key = key.as_ref();
        self.ask(Operation::Add { key, weight })
    }

    /// Adds weights to keys as fast as the server takes them; how many adds there were. See [`Adder`].
    ///
    /// # Errors
    /// [`ClientError::Adds`] says which adds are confirmed, uncertain and not done.
    pub fn add_many<K: AsRef<[u8]>>(
        &mut self,
        adds: impl IntoIterator<Item = (K, u64)>,
    ) -> Result<u64, ClientError> {
        let mut adder = self.adder();
        for (key, weight) in adds {
            match adder.push(key.as_ref(), weight) {
                Err(error @ ClientError::Adds { .. }) => return Err(error),
                Err(source) => return Err(adder.stop(source)),
                Ok(()) => {}
            }
        }
        adder.finish()
    }

    /// Something to add many keys with, without waiting for each.
    pub fn adder(&mut self) -> Adder<'_> {
        Adder::new(self, SketchNumber::DEFAULT)
    }

    fn open(route: Route, options: ClientOptions) -> Result<Self, ClientError> {
        let settings = Settings {
            timeout: options.timeout,
            linger: options.linger.max(ADDER_LINGER_MIN),
        };
        Ok(Self {
            connection: Connection::open(route.at())?,
            route,
            core: Core::new(settings, connection::fresh_id()),
            heard_at: Duration::ZERO,
            until: None,
            options,
        })
    }

    /// Sends an operation and waits for its answer.
    pub(super) fn ask<'q, A: FromAnswer>(
        &mut self,
        question: impl Into<Question<'q>>,
    ) -> Result<A, ClientError> {
        let question = question.into();
        let answers = self.ask_all_within(question.deadline, 1, |_| question)?;
        // The core lets no other kind of answer through.
        answers.into_iter().next().ok_or(ClientError::Closed)
    }

    /// [`Self::ask_all`], for a caller that waits only so long for all of them.
    pub(super) fn ask_all_within<'k, A: FromAnswer, Q: Into<Question<'k>>>(
        &mut self,
        deadline: Option<Duration>,
        count: usize,
        operation: impl Fn(usize) -> Q,
    ) -> Result<Vec<A>, ClientError> {
        let now = self.connection.now();
        self.until = deadline.map(|deadline| now + deadline);
        let answers = self.ask_all(count, operation);
        self.until = None;
        answers.map_err(|error| match deadline {
            Some(deadline) => error.after(deadline),
            None => error,
        })
    }

    /// Sends `count` operations and waits for all their answers, which come in the same order.
    pub(super) fn ask_all<'k, A: FromAnswer, Q: Into<Question<'k>>>(
        &mut self,
        count: usize,
        operation: impl Fn(usize) -> Q,
    ) -> Result<Vec<A>, ClientError> {
        let mut answers: Vec<Option<A>> = std::iter::repeat_with(|| None).take(count).collect();
        let mut failed = None;
        let mut sink = |token: u64, outcome: Outcome<'_>| match outcome {
            Ok(answer) => answers[token as usize] = A::from_answer(answer),
            Err(failure) => failed = failed.or(Some(failure)),
        };
        let asked = self.ask_into(count, operation, &mut sink);
        self.core.abandon(Reason::Abandoned, &mut |_, _| {});
        asked?;
        match failed {
            None => Ok(answers.into_iter().flatten().collect()),
            Some(failure) => Err(self.failed(failure)),
        }
    }

    fn ask_into<'k, Q: Into<Question<'k>>>(
        &mut self,
        count: usize,
        operation: impl Fn(usize) -> Q,
        sink: &mut Sink<'_, u64>,
    ) -> Result<(), ClientError> {
        for at in 0..count {
            self.push(operation(at), at as u64)?;
            if self.core.waiting() >= WAITING_MAX {
                self.turn(true, sink)?;
            }
        }
        self.drain(sink)
    }
}

/// What the [`Adder`] uses, too.
impl Client {
    #[inline]
    pub(super) fn push<'q>(
        &mut self,
        question: impl Into<Question<'q>>,
        token: u64,
    ) -> Result<(), ClientError> {
        Ok((self.core).push(question, token, || self.connection.now())?)
    }

    /// Sends what fills a train, and takes what has come; waits only where too much is under way.
    pub(super) fn pump(&mut self, sink: &mut Sink<'_, u64>) -> Result<(), ClientError> {
        if self.core.waiting() >= TRAIN_DATAGRAMS {
            self.turn(self.core.waiting() >= WAITING_MAX, sink)?;
        }
        Ok(())
    }

    /// Waits until nothing is left without an outcome.
    pub(super) fn drain(&mut self, sink: &mut Sink<'_, u64>) -> Result<(), ClientError> {
        self.core.flush();
        while !self.core.is_idle() {
            self.turn(true, sink)?;
            if (self.until).is_some_and(|until| until <= self.connection.now()) {
                self.core.abandon(Reason::Silence, sink);
            }
        }
        Ok(())
    }

    /// Sends, receives, and does what is due; waits for something to happen if it may.
    pub(super) fn turn(
        &mut self,
        may_wait: bool,
        sink: &mut Sink<'_, u64>,
    ) -> Result<(), ClientError> {
        let server = self.connection.server;
        let failed = |doing| move |error| ClientError::of_socket(server, doing, error);
        self.send().map_err(failed("send to"))?;
        if may_wait {
            let now = self.connection.now();
            let step = self.route.next_step(now, self.core.silent_since());
            let ticks = self.core.next_tick().into_iter();
            let until = ticks.chain(step).chain(self.until).min();
            (self.connection.wait(PollFlags::IN, until)).map_err(failed("wait for"))?;
        }
        self.receive(sink).map_err(failed("receive from"))?;
        // First: what fails now was asked where we have been until now.
        self.follow_route()?;
        self.core.tick(self.connection.now(), sink);
        Ok(())
    }

    /// Goes to another address where this one does not answer.
    fn follow_route(&mut self) -> Result<(), ClientError> {
        let now = self.connection.now();
        if self.core.heard_at() > self.heard_at {
            self.heard_at = self.core.heard_at();
            self.route.heard();
        }
        let patience = self.route.patience();
        if (self.core.silent_since()).is_some_and(|since| since + patience <= now) {
            self.route.silent();
        }
        if !self.route.is_in_trouble() {
            return Ok(());
        }
        self.core.distrust();
        loop {
            match self.route.step(now, self.core.may_move()) {
                Step::Stay | Step::Await => return Ok(()),
                Step::Move(address) => match self.connection.reopen(address) {
                    Ok(()) => {
                        self.core.relocate(now);
                        return Ok(());
                    }
                    Err(_) => self.route.is_unusable(),
                },
                Step::GiveUp => {
                    let server = Box::new(self.route.asked());
                    return Err(ClientError::Refused { server });
                }
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while let Some(segment_bytes) =
            (self.core).transmit(self.connection.now(), &mut self.connection.train)
        {
            while let Err(error) = self.connection.send(segment_bytes) {
                match error.kind() {
                    io::ErrorKind::WouldBlock => self.connection.wait(PollFlags::OUT, None)?,
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        self.excuse(error)?;
                        // It counts as lost.
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, sink: &mut Sink<'_, u64>) -> io::Result<()> {
        loop {
            match self.connection.receive() {
                Ok(0) => return Ok(()),
                Ok(trains) => {
                    let now = self.connection.now();
                    for datagram in self.connection.datagrams(trains) {
                        self.core.receive(datagram, now, sink);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.excuse(error)?,
            }
        }
    }

    /// A server that answered before may be on its way back, and one with a name may be elsewhere: what says that it
    /// is not there is no more than silence.
    fn excuse(&mut self, error: io::Error) -> io::Result<()> {
        if !is_about_the_peer(&error) {
            return Err(error);
        }
        if self.route.may_change() {
            self.route.refused();
            return Ok(());
        }
        match self.core.has_heard() {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// Gives up on everything that is under way.
    pub(super) fn abandon(&mut self, sink: &mut Sink<'_, u64>) {
        self.core.abandon(Reason::Abandoned, sink);
    }

    pub(super) fn failed(&self, failure: Failure) -> ClientError {
        ClientError::of_failure(
            self.route.asked(),
            self.connection.server,
            self.options.timeout,
            failure,
        )
    }

    pub(super) fn repeated(&self) -> u64 {
        self.core.repeated()
    }

    pub(super) fn is_due(&self) -> bool {
        (self.core.next_tick()).is_some_and(|at| at <= self.connection.now())
    }
}
