//! Accepting connections, and limiting what each may cost.
//!
//! A connection is one task, spawned on the runtime that awaits [`serve`]. HAProxy keeps connections open, and sends
//! many notifications over each.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use rmbd_accept::Acceptor;

use super::FRAME_BYTES_MAX;
use super::agent::Agent;
use super::dialogue::{ANSWERS_FULL_BYTES, Dialogue, Then};
use rmbd_proto::spoe::{LENGTH_BYTES, StatusCode, write_disconnect};

/// Largest number of connections. HAProxy has about one for each of its threads, and more where it is told not to
/// send one notification behind the other.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Bytes of the largest frame with its length, which have to be there before anything of it is done.
const RECEIVED_BYTES_MAX: usize = LENGTH_BYTES + FRAME_BYTES_MAX;
/// Bytes that a connection may take: a frame, answers, and one more of the largest. Twice the answers, since they
/// grow.
pub(crate) const CONNECTION_BYTES_MAX: usize =
    RECEIVED_BYTES_MAX + 2 * (ANSWERS_FULL_BYTES + RECEIVED_BYTES_MAX);

/// Time for the hello, which HAProxy sends at once.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// Time from the first byte of a frame to its last: it is sent as a whole.
const FRAME_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may be silent. HAProxy closes its own after some minutes (`timeout idle`), and should be the
/// first, since what it sends at that moment would be lost.
const IDLE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long answers may be unread. HAProxy waits for them for some milliseconds.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// How long the last words of a connection may take to be read. If it were closed with bytes unread, the kernel would
/// take them back.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);

/// Limits of the cost of connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    pub(super) hello: Duration,
    pub(super) frame: Duration,
    pub(super) idle: Duration,
    pub(super) stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            hello: HELLO_LIMIT,
            frame: FRAME_LIMIT,
            idle: IDLE_LIMIT,
            stall: STALL_LIMIT,
        }
    }
}

/// Serves HAProxies until the agent adds no more. Then it tells them so, and returns with every connection closed.
pub(crate) async fn serve(listener: TcpListener, agent: Arc<Agent>, panicked: impl Fn()) {
    serve_within(Limits::default(), listener, agent, panicked).await;
}

/// Like [`serve`], with other limits.
pub(super) async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    agent: Arc<Agent>,
    panicked: impl Fn(),
) {
    let mut ending = agent.ending();
    let mut acceptor = Acceptor::new(listener, "--spoe");
    let mut house = House {
        limits,
        agent,
        tasks: JoinSet::new(),
        panicked,
    };
    loop {
        let (stream, from) = tokio::select! {
            biased;
            _ = ending.wait_for(|ends| *ends) => break,
            Some(ended) = house.tasks.join_next() => {
                house.note(&ended);
                continue;
            }
            accepted = acceptor.next() => accepted,
        };
        house.admit(stream, from);
    }
    drop(acceptor);
    house.close().await;
}

/// The open connections.
struct House<P> {
    limits: Limits,
    agent: Arc<Agent>,
    tasks: JoinSet<()>,
    panicked: P,
}

impl<P: Fn()> House<P> {
    fn admit(&mut self, stream: TcpStream, from: SocketAddr) {
        if !self.agent.may_use(from.ip()) {
            return (self.agent).note(|tally| tally.spoe_connections_not_allowed += 1);
        }
        if self.tasks.len() >= self.limits.connections_max {
            let mut out = Vec::new();
            let most = self.limits.connections_max;
            let text = format!("there are {most} connections, as many as there may be");
            write_disconnect(StatusCode::Resources, &text, &mut out);
            // Whoever does not take it at once sees the end only.
            let _ = stream.try_write(&out);
            return (self.agent).note(|tally| tally.spoe_connections_without_place += 1);
        }
        (self.agent).note(|tally| tally.spoe_connections_accepted += 1);
        // An answer is written at once, and nothing is gained by waiting for more of it.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            stream,
            agent: Arc::clone(&self.agent),
            limits: self.limits,
            ending: self.agent.ending(),
        };
        self.tasks.spawn(connection.serve());
        self.agent.set_connections(self.tasks.len());
    }

    /// Checks how a connection's task ended.
    fn note(&self, ended: &Result<(), JoinError>) {
        self.agent.set_connections(self.tasks.len());
        if ended.as_ref().is_err_and(JoinError::is_panic) {
            (self.panicked)();
        }
    }

    /// Waits until all connections have ended, which know that they are to.
    async fn close(mut self) {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.note(&ended);
            }
        };
        if timeout(2 * DRAIN_LIMIT, all).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.agent.set_connections(0);
    }
}

/// One connection.
struct Connection {
    stream: TcpStream,
    agent: Arc<Agent>,
    limits: Limits,
    ending: watch::Receiver<bool>,
}

/// Why a connection ends.
enum Ended {
    /// All that was to be said is said.
    Said,
    /// HAProxy is to be told this first.
    Told(StatusCode, &'static str),
    /// The network broke it, or HAProxy closed it.
    Gone,
    /// Answers were not read.
    Stalled,
}

impl Connection {
    async fn serve(mut self) {
        let mut out = Vec::new();
        let ended = self.converse(&mut out).await;
        match ended {
            Ended::Gone => return,
            Ended::Stalled => {
                return (self.agent).note(|tally| tally.spoe_closed_stalled += 1);
            }
            Ended::Told(status, text) => {
                if status == StatusCode::Timeout {
                    (self.agent).note(|tally| tally.spoe_closed_idle += 1);
                }
                write_disconnect(status, text, &mut out);
                let sent = timeout(DRAIN_LIMIT, send(&self.stream, &out)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
            Ended::Said => {}
        }
        let _ = timeout(DRAIN_LIMIT, drain(self.stream)).await;
    }

    /// Answers frames until the connection ends; `out` is empty then.
    async fn converse(&mut self, out: &mut Vec<u8>) -> Ended {
        let mut dialogue = Dialogue::new();
        let mut received = vec![0; RECEIVED_BYTES_MAX];
        let mut filled = 0;
        // When the connection began, the last frame was done, or the first byte of the next one came.
        let mut since = Instant::now();
        loop {
            let taken = dialogue.received(&self.agent, &received[..filled], out);
            if taken.bytes > 0 {
                received.copy_within(taken.bytes..filled, 0);
                filled -= taken.bytes;
                since = Instant::now();
            }
            match timeout(self.limits.stall, send(&self.stream, out)).await {
                Ok(Ok(())) => out.clear(),
                Ok(Err(_)) => return Ended::Gone,
                Err(_) => return Ended::Stalled,
            }
            match taken.then {
                Then::More => {}
                Then::Send => continue,
                Then::End => return Ended::Said,
            }
            let (limit, text) = match (dialogue.is_open(), filled) {
                (false, _) => (self.limits.hello, "the hello has not come in time"),
                (true, 0) => (self.limits.idle, "the connection was silent for too long"),
                (true, _) => (
                    self.limits.frame,
                    "the rest of a frame has not come in time",
                ),
            };
            let room = received.get_mut(filled..).unwrap_or_default();
            let read = tokio::select! {
                biased;
                _ = self.ending.wait_for(|ends| *ends) => {
                    return Ended::Told(StatusCode::Normal, "the node ends");
                }
                read = timeout_at(since + limit, receive(&self.stream, room)) => read,
            };
            match read {
                Ok(Ok(bytes @ 1..)) => {
                    if filled == 0 && dialogue.is_open() {
                        since = Instant::now();
                    }
                    filled += bytes;
                }
                Ok(_) => return Ended::Gone,
                Err(_) => return Ended::Told(StatusCode::Timeout, text),
            }
        }
    }
}

/// Sends all of it.
async fn send(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Receives what there is; 0 bytes are the end.
async fn receive(stream: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
}

/// Says that nothing more comes, and waits until the other side has read it and closed.
async fn drain(stream: TcpStream) -> io::Result<()> {
    let stream = stream.into_std()?;
    stream.shutdown(Shutdown::Write)?;
    let stream = TcpStream::from_std(stream)?;
    let mut rest = [0; 1024];
    while receive(&stream, &mut rest).await? > 0 {}
    Ok(())
}
