//! The Python program's protocol: a blocking client of one server that speaks it.
//!
//! UDP loses datagrams, and the protocol acknowledges no add. So the client keeps little in flight
//! and ends each burst of adds with a count, whose answer shows that the server is alive and has
//! read up to there: nothing is dropped on loopback, and on a network only what the network drops.
//! A count that is not answered is asked again; **an add is never sent again**, since one that did
//! arrive would count twice.

mod adder;
mod error;
mod questions;
#[cfg(test)]
pub(crate) mod tests;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

pub use self::adder::Adder;
pub use self::error::ClientError;
use self::questions::Questions;
use super::connection::connected_socket;
use super::route::{Route, Step};
use super::server::Server;
use rmbd_proto::legacy::{
    Dialect, KEY_BYTES_MAX, MESSAGE_BYTES, REPLY_DATAGRAM_BYTES_MAX, encode_add, encode_count,
    encode_peer, replies,
};

/// Messages in a datagram of 1 400 bytes.
const MESSAGES_PER_DATAGRAM: usize = REPLY_DATAGRAM_BYTES_MAX / MESSAGE_BYTES;

/// Datagrams in flight before an answer is awaited.
///
/// Linux gives a socket 212 992 bytes of receive buffer where nothing else is set
/// (`net.core.rmem_default`), and charges a datagram of 1 269 bytes with the 2 304 bytes that hold
/// it: 92 fit. A third of that leaves room for two more clients like this one.
const WINDOW_DATAGRAMS: usize = 32;

/// Keys that are asked for before an answer is awaited.
const WINDOW_KEYS: usize = WINDOW_DATAGRAMS * MESSAGES_PER_DATAGRAM;

/// Between two looks at whether a look-up is over.
const LOOK_STEP: Duration = Duration::from_millis(5);

/// The times that a client keeps to, and its dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// How long to wait for an answer before it is asked for again; at least 1 ms.
    pub timeout: Duration,
    /// How often a count is sent before the client gives up; at least once.
    pub tries: u32,
    /// Dialect of a peer message's port. Answers tell theirs by their length.
    pub dialect: Dialect,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            tries: 3,
            dialect: Dialect::default(),
        }
    }
}

/// A blocking client of one server.
///
/// What it added before, by itself and without an error, is in what it counts after.
///
/// ```no_run
/// use rmbd_client::legacy::{Client, ClientOptions};
///
/// let mut client = Client::connect("127.0.0.1:8000", ClientOptions::default())?;
/// client.add_many(["apple", "pear", "apple"])?;
/// assert_eq!(client.count_many(&["apple", "pear"])?, [2, 1]);
/// # Ok::<(), rmbd_client::legacy::ClientError>(())
/// ```
#[derive(Debug)]
pub struct Client {
    route: Route,
    /// The time is counted from here.
    started: Instant,
    socket: UdpSocket,
    options: ClientOptions,
    /// Answers that nobody waits for any more may still arrive at this socket.
    stale: bool,
    /// Tells this client's closing counts from those of another one before it on the same port.
    nonce: u64,
    /// Closing counts so far.
    closings: u64,
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
            let probe = Self::open(Route::only(address, timeout), options);
            let answering = probe.and_then(|mut client| {
                client.close_burst()?;
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
        self.route.at()
    }

    /// Sends one add and waits for nothing: whether it arrived is not known. Many of these in a
    /// row can be more than the server's buffer holds; use [`Self::add_many`] for many.
    ///
    /// # Errors
    /// A key of more than 139 bytes, or a socket that does not send.
    pub fn add(&mut self, key: impl AsRef<[u8]>) -> Result<(), ClientError> {
        self.renew()?;
        self.send_anywhere(&encode_add(checked(key.as_ref())?))
    }

    /// Adds keys as fast as the server takes them; how many there were. See [`Adder`].
    ///
    /// # Errors
    /// [`ClientError::Adds`] says how many adds are confirmed, uncertain, and not sent.
    pub fn add_many<K: AsRef<[u8]>>(
        &mut self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<u64, ClientError> {
        let mut adder = self.adder()?;
        for key in keys {
            match adder.push(key.as_ref()) {
                Err(source @ ClientError::KeyTooLong { .. }) => {
                    return Err(ClientError::Adds {
                        confirmed: adder.finish()?,
                        uncertain: 0,
                        source: Box::new(source),
                    });
                }
                other => other?,
            }
        }
        adder.finish()
    }

    /// Something to add many keys with, one after the other.
    ///
    /// # Errors
    /// No socket.
    pub fn adder(&mut self) -> Result<Adder<'_>, ClientError> {
        self.renew()?;
        Ok(Adder::new(self))
    }

    /// How often a key was added, approximately and never too low for what arrived. Asks again
    /// where no answer comes.
    ///
    /// # Errors
    /// A key of more than 139 bytes, no answer, or no server.
    pub fn count(&mut self, key: impl AsRef<[u8]>) -> Result<u64, ClientError> {
        let counts = self.count_many(&[key])?;
        Ok(counts.first().copied().unwrap_or_default())
    }

    /// [`Self::count`] of many keys, in their order. All are checked before the first is sent.
    ///
    /// # Errors
    /// A key of more than 139 bytes, no answer, or no server. Counting changes nothing, so it can
    /// be repeated.
    pub fn count_many<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<Vec<u64>, ClientError> {
        for key in keys {
            checked(key.as_ref())?;
        }
        let mut counts = Vec::with_capacity(keys.len());
        for window in keys.chunks(WINDOW_KEYS) {
            let mut questions = Questions::new(window);
            self.ask(&mut questions)?;
            if questions.answered() < questions.len() {
                let answered = counts.len() + questions.answered();
                return Err(self.timed_out(answered, keys.len()));
            }
            counts.extend(questions.counts());
        }
        Ok(counts)
    }

    /// Orders the server to push its rows to a legacy peer. There is no answer; the server's
    /// `/status` shows what became of it.
    ///
    /// # Errors
    /// A host of more than 139 bytes, or a socket that does not send.
    pub fn peer(&mut self, host: &str, port: u16) -> Result<(), ClientError> {
        self.renew()?;
        let order = encode_peer(host, port, self.options.dialect)?;
        self.send_anywhere(&order)
    }

    fn open(route: Route, options: ClientOptions) -> Result<Self, ClientError> {
        Ok(Self {
            socket: open_socket(route.at(), options.timeout)?,
            route,
            started: Instant::now(),
            options,
            stale: false,
            nonce: RandomState::new().build_hasher().finish(),
            closings: 0,
        })
    }

    /// Starts anew at another port where answers that nobody waits for may still arrive: such an
    /// answer to an earlier count of the same key would be too low.
    fn renew(&mut self) -> Result<(), ClientError> {
        if self.route.is_in_trouble() {
            // Since the call before; where there is no other address, this one may be back.
            self.route.hurry();
            self.move_on();
        }
        if self.stale {
            self.socket = open_socket(self.route.at(), self.options.timeout)?;
            self.stale = false;
        }
        Ok(())
    }

    /// Leaves an address that is in trouble, after a look-up; whether there is another. What was sent and
    /// may have arrived is never sent again by this.
    fn move_on(&mut self) -> bool {
        let give_up = Instant::now() + self.options.timeout;
        while self.route.is_in_trouble() {
            match self.route.step(self.started.elapsed(), true) {
                Step::Move(address) => match open_socket(address, self.options.timeout) {
                    Ok(socket) => {
                        self.socket = socket;
                        self.stale = false;
                        return true;
                    }
                    Err(_) => self.route.is_unusable(),
                },
                Step::Await if Instant::now() < give_up => std::thread::sleep(LOOK_STEP),
                Step::Await | Step::Stay | Step::GiveUp => return false,
            }
        }
        false
    }

    /// Goes to another address if the error says that nobody listens at this one.
    fn is_elsewhere(&mut self, error: &ClientError) -> bool {
        let is_refused = matches!(error, ClientError::Refused { .. });
        if is_refused {
            self.route.refused();
        }
        is_refused && self.move_on()
    }

    /// Sends what was never sent before, to the first address that does not refuse: that it does is said of
    /// what was sent before, and this did not go.
    fn send_anywhere(&mut self, datagram: &[u8]) -> Result<(), ClientError> {
        loop {
            match self.send(datagram) {
                Err(error) if self.is_elsewhere(&error) => {}
                Err(error) => return Err(error.asked(self.route.asked())),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Asks until all is answered or the tries are used up.
    fn ask<K: AsRef<[u8]>>(&mut self, questions: &mut Questions<'_, K>) -> Result<(), ClientError> {
        self.renew()?;
        // Until the one answer to each of them is here.
        self.stale = true;
        let mut attempt = 0;
        while attempt < self.options.tries.max(1) {
            let before = questions.answered();
            match self.ask_once(questions) {
                Err(error) if self.is_elsewhere(&error) => {
                    attempt = 0;
                    continue;
                }
                Err(error) => return Err(error.asked(self.route.asked())),
                Ok(()) => {}
            }
            if questions.answered() > before {
                self.route.heard();
            }
            if questions.answered() == questions.len() {
                // What was asked twice may be answered twice.
                self.stale = attempt > 0;
                break;
            }
            self.route.silent();
            self.move_on();
            attempt += 1;
            self.stale = true;
        }
        Ok(())
    }

    fn ask_once<K: AsRef<[u8]>>(
        &self,
        questions: &mut Questions<'_, K>,
    ) -> Result<(), ClientError> {
        for datagram in questions.datagrams() {
            self.send(&datagram)?;
        }
        self.listen(|key, count| {
            questions.answer(key, count);
            questions.answered() == questions.len()
        })?;
        Ok(())
    }

    /// Waits until the server has read all that this socket sent: it answers in order. Another one could
    /// not say that, so the address stays until the next call.
    fn close_burst(&mut self) -> Result<(), ClientError> {
        self.closings += 1;
        // Not a key that anybody counts, so an answer to it cannot be another question's.
        let key = [&self.nonce.to_le_bytes()[..], &self.closings.to_le_bytes()].concat();
        let question = encode_count(&key);
        for _ in 0..self.options.tries.max(1) {
            let sent = self.send(&question);
            let heard = sent.and_then(|()| self.listen(|answered, _| answered == key));
            match heard {
                Ok(true) => {
                    self.route.heard();
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) => {
                    self.route.refused();
                    return Err(error);
                }
            }
        }
        self.route.silent();
        Err(self.timed_out(0, 1))
    }

    /// Hands over answers until there are enough (true), or none has come for the timeout.
    fn listen(&self, mut enough: impl FnMut(&[u8], u64) -> bool) -> Result<bool, ClientError> {
        let mut datagram = [0; REPLY_DATAGRAM_BYTES_MAX + 1];
        let started = Instant::now();
        // What nobody asked for cannot hold us longer than the answers that are due.
        let longest = self.options.timeout * WINDOW_DATAGRAMS as u32;
        while started.elapsed() < longest {
            let Some(length) = self.receive(&mut datagram)? else {
                return Ok(false);
            };
            let mut done = false;
            for (key, count) in replies(&datagram[..length]) {
                done |= enough(key, count);
            }
            if done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn send(&self, datagram: &[u8]) -> Result<(), ClientError> {
        loop {
            match self.socket.send(datagram) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.of_socket("send to", error)),
            }
        }
    }

    /// Bytes of a datagram, or `None` where none came for the timeout.
    fn receive(&self, datagram: &mut [u8]) -> Result<Option<usize>, ClientError> {
        loop {
            match self.socket.recv(datagram) {
                Ok(length) => return Ok(Some(length)),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    _ => return Err(self.of_socket("receive from", error)),
                },
            }
        }
    }

    fn of_socket(&self, doing: &'static str, error: io::Error) -> ClientError {
        ClientError::of_socket(self.route.at(), doing, error).asked(self.route.asked())
    }

    fn timed_out(&self, answered: usize, asked: usize) -> ClientError {
        ClientError::Timeout {
            server: Box::new(self.route.asked()),
            tries: self.options.tries.max(1),
            timeout_ms: self.options.timeout.as_millis(),
            answered,
            asked,
        }
    }
}

/// A key that the protocol can carry: a longer one would be cut to another key.
fn checked(key: &[u8]) -> Result<&[u8], ClientError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(ClientError::KeyTooLong { bytes: key.len() });
    }
    Ok(key)
}

fn open_socket(server: SocketAddr, timeout: Duration) -> Result<UdpSocket, ClientError> {
    let open = || {
        let socket = connected_socket(server)?;
        socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        Ok(socket)
    };
    open().map_err(|error| ClientError::of_socket(server, "open a socket to", error))
}
