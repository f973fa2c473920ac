//! Adds into a node, at the pace of the node's confirmations.
//!
//! A node answers messages from one socket in order. So each train of datagrams ends in a message that is answered,
//! and the reply shows that the train was read. `/status` shows adds that were lost all the same.

mod compact;
mod legacy;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmbd::status::Status;
use rmbd_udp::send_segments;
use ureq::Agent;

use super::adapter::{Adapter, AdapterError, WINDOW};
use crate::plan::{DATAGRAM_BYTES, Format, Stream};
use crate::server::{StatusError, connected_socket, fetch_status, status_url};

const SERVER: &str = "rmbd";
/// Time after which a train's reply counts as lost. On one machine an answer takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Number of trains in a row without a reply after which the node counts as gone.
const LOST_TRAINS_MAX: u32 = 3;

/// One of the two formats, as this connection uses it.
trait Speech {
    /// The form of adds, for the record.
    fn adds_as(&self) -> String;

    /// The form of counts, for the record.
    fn counts_as(&self) -> String;

    /// Fills a train with up to `adds_left` adds, and with a message that is answered and carries the train's number.
    fn fill(&mut self, keys: &mut Stream, adds_left: u64, number: u64) -> Filled<'_>;

    /// The train that this datagram answers; the latest one if it answers several.
    fn confirmed(&self, datagram: &[u8]) -> Option<u64>;

    /// A datagram that counts one key.
    fn question(&mut self, key: &[u8]) -> &[u8];

    /// The count of the key, if this datagram is the answer.
    fn answer(&self, datagram: &[u8], key: &[u8]) -> Option<u64>;
}

/// A train that is ready to leave.
struct Filled<'a> {
    adds: u64,
    bytes: &'a [u8],
    segment_bytes: u16,
}

/// A socket to a node, and the address of its `/status`.
pub(super) struct Ours<'a> {
    address: SocketAddr,
    http: SocketAddr,
    socket: UdpSocket,
    version: String,
    speech: Box<dyn Speech>,
    /// Number of trains sent so far, which is the next train's number.
    trains: u64,
    /// Number of trains whose reply has come or was given up.
    confirmed: u64,
    lost_in_a_row: u32,
    stop: &'a AtomicBool,
}

impl<'a> Ours<'a> {
    pub(super) fn connect(
        address: SocketAddr,
        http: SocketAddr,
        format: Format,
        stop: &'a AtomicBool,
    ) -> Result<Self, AdapterError> {
        let open = || {
            let socket = connected_socket(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| AdapterError::Connect {
            server: SERVER,
            address,
            source,
        })?;
        let mut ours = Self {
            address,
            http,
            socket,
            version: String::new(),
            speech: match format {
                Format::Legacy => Box::new(legacy::Legacy::new()),
                Format::Compact => Box::new(compact::Compact::new()),
            },
            trains: 0,
            confirmed: 0,
            lost_in_a_row: 0,
            stop,
        };
        ours.version = ours.status()?.version;
        Ok(ours)
    }

    fn status(&self) -> Result<Status, AdapterError> {
        let url = status_url(&self.http.to_string());
        fetch_status(&Agent::new_with_defaults(), &url).map_err(|error| match error {
            StatusError::Fetch(error) => self.lost(io::Error::other(error)),
            StatusError::Other(error) => AdapterError::Protocol {
                server: SERVER,
                address: self.http,
                found: error.to_string(),
            },
        })
    }

    fn lost(&self, source: io::Error) -> AdapterError {
        AdapterError::Lost {
            server: SERVER,
            address: self.address,
            source,
        }
    }

    /// Sends up to a train of adds, and returns their number.
    fn send_train(&mut self, keys: &mut Stream, adds_left: u64) -> Result<u64, AdapterError> {
        let Filled {
            adds,
            bytes,
            segment_bytes,
        } = self.speech.fill(keys, adds_left, self.trains);
        self.trains += 1;
        match send_segments(&self.socket, None, bytes, segment_bytes) {
            Ok(_) => Ok(adds),
            Err(source) => Err(self.lost(source)),
        }
    }

    /// Waits until at most `window` trains are without a reply. A train without a reply is given up; `/status` shows
    /// what arrived of it.
    fn await_window(&mut self, window: u64) -> Result<(), AdapterError> {
        let mut buffer = [0; DATAGRAM_BYTES];
        while self.trains - self.confirmed > window {
            match self.socket.recv(&mut buffer) {
                Ok(len) => self.take_replies(&buffer[..len]),
                Err(error) if is_timeout(&error) => {
                    self.confirmed = self.trains;
                    self.lost_in_a_row += 1;
                    if self.lost_in_a_row == LOST_TRAINS_MAX {
                        return Err(self.lost(error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error)),
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(AdapterError::Interrupted);
            }
        }
        Ok(())
    }

    fn take_replies(&mut self, datagram: &[u8]) {
        if let Some(train) = self.speech.confirmed(datagram) {
            self.confirmed = self.confirmed.max(train + 1).min(self.trains);
            self.lost_in_a_row = 0;
        }
    }
}

impl Adapter for Ours<'_> {
    fn name(&self) -> String {
        format!("{SERVER} {}", self.version)
    }

    fn adds_as(&self) -> String {
        format!(
            "{}, each send confirmed by the reply to its end, {WINDOW} sends on their way",
            self.speech.adds_as()
        )
    }

    fn counts_as(&self) -> String {
        self.speech.counts_as()
    }

    fn add(&mut self, keys: &mut Stream, adds: u64) -> Result<u64, AdapterError> {
        let before = self.status()?.messages.add;
        let mut left = adds;
        while left > 0 {
            left -= self.send_train(keys, left)?;
            self.await_window(WINDOW as u64 - 1)?;
        }
        self.await_window(0)?;
        Ok(self.status()?.messages.add - before)
    }

    fn count(&mut self, key: &[u8]) -> Result<u64, AdapterError> {
        let sent = self.socket.send(self.speech.question(key));
        sent.map_err(|source| self.lost(source))?;
        let mut buffer = [0; DATAGRAM_BYTES];
        loop {
            let len = self.socket.recv(&mut buffer);
            let len = len.map_err(|source| self.lost(source))?;
            if let Some(count) = self.speech.answer(&buffer[..len], key) {
                return Ok(count);
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
