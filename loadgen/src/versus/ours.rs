//! Adds into a node, at the pace of what it confirms.
//!
//! No add of the legacy protocol is acknowledged. But a node answers what comes from one socket in
//! order, so each train of datagrams ends with a count of a key that nobody adds, and its reply
//! shows that the train was read. What is lost all the same is seen in `/status`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmbd::io::send_segments;
use rmbd::node::status::Status;
use rmbd::wire::legacy::{
    MESSAGE_BYTES, REPLY_DATAGRAM_BYTES_MAX, encode_count, replies, write_add, write_count,
};

use super::target::{Target, TargetError, WINDOW};
use crate::keys::Stream;

const SERVER: &str = "rmbd";
/// Messages in a datagram of 1 400 bytes.
const PACK: usize = REPLY_DATAGRAM_BYTES_MAX / MESSAGE_BYTES;
const DATAGRAM_BYTES: usize = PACK * MESSAGE_BYTES;
/// Datagrams that leave in one system call, in at most 65 507 bytes.
const TRAIN_DATAGRAMS: usize = 65_507 / DATAGRAM_BYTES;
const TRAIN_MESSAGES: usize = TRAIN_DATAGRAMS * PACK;
/// After which a train's reply counts as lost. On one machine an answer takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Trains in a row without a reply after which nobody is there.
const LOST_TRAINS_MAX: u32 = 3;

/// A socket to a node, and the address of its `/status`.
pub(super) struct Ours<'a> {
    address: SocketAddr,
    http: SocketAddr,
    socket: UdpSocket,
    version: String,
    train: Box<[u8]>,
    /// Trains sent so far; the next train's number.
    trains: u64,
    /// Trains whose reply has come, or was given up.
    confirmed: u64,
    lost_in_a_row: u32,
    stop: &'a AtomicBool,
}

impl<'a> Ours<'a> {
    pub(super) fn connect(
        address: SocketAddr,
        http: SocketAddr,
        stop: &'a AtomicBool,
    ) -> Result<Self, TargetError> {
        let open = || {
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| TargetError::Connect {
            server: SERVER,
            address,
            source,
        })?;
        let mut ours = Self {
            address,
            http,
            socket,
            version: String::new(),
            train: vec![0; TRAIN_DATAGRAMS * DATAGRAM_BYTES].into(),
            trains: 0,
            confirmed: 0,
            lost_in_a_row: 0,
            stop,
        };
        ours.version = ours.status()?.version;
        Ok(ours)
    }

    fn status(&self) -> Result<Status, TargetError> {
        let url = format!("http://{}/status", self.http);
        let fetch = || {
            let mut response = ureq::get(&url).call()?;
            response.body_mut().read_to_string()
        };
        let text = fetch().map_err(|error| self.lost(io::Error::other(error)))?;
        serde_json::from_str(&text).map_err(|error| TargetError::Protocol {
            server: SERVER,
            address: self.http,
            found: error.to_string(),
        })
    }

    fn lost(&self, source: io::Error) -> TargetError {
        TargetError::Lost {
            server: SERVER,
            address: self.address,
            source,
        }
    }

    /// Sends up to a train of adds; how many.
    fn send_train(&mut self, keys: &mut Stream, adds_left: u64) -> Result<u64, TargetError> {
        let (messages, _) = self.train.as_chunks_mut::<MESSAGE_BYTES>();
        let adds = adds_left.min(TRAIN_MESSAGES as u64 - 1) as usize;
        for message in &mut messages[..adds] {
            write_add(keys.next_key(), message);
        }
        write_count(&marker(self.trains), &mut messages[adds]);
        self.trains += 1;
        let bytes = &self.train[..(adds + 1) * MESSAGE_BYTES];
        match send_segments(&self.socket, None, bytes, DATAGRAM_BYTES as u16) {
            Ok(_) => Ok(adds as u64),
            Err(source) => Err(self.lost(source)),
        }
    }

    /// Waits until at most `window` trains are without a reply. A train that gets none is given up;
    /// `/status` tells what arrived of it.
    fn await_window(&mut self, window: u64) -> Result<(), TargetError> {
        let mut buffer = [0; REPLY_DATAGRAM_BYTES_MAX];
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
                return Err(TargetError::Interrupted);
            }
        }
        Ok(())
    }

    fn take_replies(&mut self, datagram: &[u8]) {
        for (key, _) in replies(datagram) {
            if let Some(train) = train_of(key) {
                self.confirmed = self.confirmed.max(train + 1).min(self.trains);
                self.lost_in_a_row = 0;
            }
        }
    }
}

impl Target for Ours<'_> {
    fn name(&self) -> String {
        format!("{SERVER} {}", self.version)
    }

    fn adds_as(&self) -> String {
        format!(
            "legacy ADD, {PACK} in a datagram of {DATAGRAM_BYTES} bytes, {TRAIN_DATAGRAMS} datagrams \
             in one send (UDP_SEGMENT), each send confirmed by the reply to a COUNT in its end, \
             {WINDOW} sends on their way"
        )
    }

    fn counts_as(&self) -> String {
        "legacy COUNT, one in a datagram".to_owned()
    }

    fn add(&mut self, keys: &mut Stream, adds: u64) -> Result<u64, TargetError> {
        let before = self.status()?.messages.add;
        let mut left = adds;
        while left > 0 {
            left -= self.send_train(keys, left)?;
            self.await_window(WINDOW as u64 - 1)?;
        }
        self.await_window(0)?;
        Ok(self.status()?.messages.add - before)
    }

    fn count(&mut self, key: &[u8]) -> Result<u64, TargetError> {
        let sent = self.socket.send(&encode_count(key));
        sent.map_err(|source| self.lost(source))?;
        let mut buffer = [0; REPLY_DATAGRAM_BYTES_MAX];
        loop {
            let len = self.socket.recv(&mut buffer);
            let len = len.map_err(|source| self.lost(source))?;
            let answer = replies(&buffer[..len]).find(|(found, _)| *found == key);
            if let Some((_, count)) = answer {
                return Ok(count);
            }
        }
    }
}

const MARKER: &[u8] = b"\0versus train ";

/// A key that no stream has (no line holds a 0 byte, no made key begins with one), with a number.
fn marker(train: u64) -> [u8; MARKER.len() + 8] {
    let mut key = [0; MARKER.len() + 8];
    let (text, number) = key.split_at_mut(MARKER.len());
    text.copy_from_slice(MARKER);
    number.copy_from_slice(&train.to_le_bytes());
    key
}

fn train_of(key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(MARKER)?.try_into().ok()?;
    Some(u64::from_le_bytes(number))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
