//! Adds into memcached: the binary protocol's quiet increment, which answers only when something is
//! wrong and makes a key that is not there (memcached, doc/protocol-binary.txt).
//!
//! ```text
//! magic opcode key-length extras-length type status/vbucket body-length opaque cas | extras key value
//!   1     1        2            1         1        2             4         4     8
//! ```

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::adapter::{Adapter, AdapterError, WINDOW};
use crate::plan::Stream;

const SERVER: &str = "memcached";
/// Number of keys in a batch, which an answered operation closes.
const BATCH_KEYS: u64 = 1024;
/// Silence after which the server counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Length of the longest answer that is read, in bytes. Usual ones have at most 20 digits, or a line of text.
const BODY_BYTES_MAX: usize = 64 << 10;

const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;
const GET: u8 = 0x00;
const NOOP: u8 = 0x0a;
const STAT: u8 = 0x10;
const INCREMENT_QUIETLY: u8 = 0x15;
const OK: u16 = 0;
const KEY_NOT_FOUND: u16 = 1;
const HEADER_BYTES: usize = 24;
/// The extras of an increment: amount 1, initial value 1, no expiry.
const INCREMENT_EXTRAS: [u8; 20] = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

/// A connection to memcached.
pub(super) struct Memcached<'a> {
    address: SocketAddr,
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    version: String,
    /// The id that the server gives for its process, which may be on another machine.
    pub(super) pid: Option<u32>,
    batch: Vec<u8>,
    body: Vec<u8>,
    stop: &'a AtomicBool,
}

/// The head of an answer; its body is in [`Memcached::body`].
struct Answer {
    opcode: u8,
    status: u16,
    extras: usize,
    key: usize,
}

impl<'a> Memcached<'a> {
    pub(super) fn connect(address: SocketAddr, stop: &'a AtomicBool) -> Result<Self, AdapterError> {
        let open = || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let reader = BufReader::with_capacity(64 << 10, stream.try_clone()?);
            Ok((stream, reader))
        };
        let (stream, reader) = open().map_err(|source| AdapterError::Connect {
            server: SERVER,
            address,
            source,
        })?;
        let mut memcached = Self {
            address,
            stream,
            reader,
            version: String::new(),
            pid: None,
            batch: Vec::new(),
            body: Vec::new(),
            stop,
        };
        memcached.introduce()?;
        Ok(memcached)
    }

    /// Whether a server that has just been started answers.
    pub(super) fn is_ready(address: SocketAddr) -> bool {
        Memcached::connect(address, &AtomicBool::new(false)).is_ok()
    }

    /// Reads the server's description. `STAT` answers with one pair in each message, and the last one is empty.
    fn introduce(&mut self) -> Result<(), AdapterError> {
        self.batch.clear();
        write_request(STAT, &[], &[], &mut self.batch);
        self.send()?;
        loop {
            let Answer {
                key: name_bytes,
                extras,
                ..
            } = self.answer("stats")?;
            if name_bytes == 0 {
                return Ok(());
            }
            let (name, value) = self.body[extras..].split_at(name_bytes);
            let value = String::from_utf8_lossy(value).into_owned();
            match name {
                b"version" => self.version = value,
                b"pid" => self.pid = value.parse().ok(),
                _ => {}
            }
        }
    }

    fn send(&mut self) -> Result<(), AdapterError> {
        let sent = self.stream.write_all(&self.batch);
        sent.map_err(|source| self.lost(source))
    }

    /// The next answer. It is an error if it refuses something, except for a missing key.
    fn answer(&mut self, what: &'static str) -> Result<Answer, AdapterError> {
        let mut header = [0; HEADER_BYTES];
        let read = self.reader.read_exact(&mut header);
        read.map_err(|source| self.lost(source))?;
        let [magic, opcode, k0, k1, extras, _, s0, s1, b0, b1, b2, b3, ..] = header;
        let body = u32::from_be_bytes([b0, b1, b2, b3]) as usize;
        let key = usize::from(u16::from_be_bytes([k0, k1]));
        let extras = usize::from(extras);
        if magic != RESPONSE || body > BODY_BYTES_MAX || extras + key > body {
            return Err(AdapterError::Protocol {
                server: SERVER,
                address: self.address,
                found: format!(
                    "an answer beginning with \"{}\"",
                    header[..8].escape_ascii()
                ),
            });
        }
        self.body.resize(body, 0);
        let read = self.reader.read_exact(&mut self.body);
        read.map_err(|source| self.lost(source))?;
        let status = u16::from_be_bytes([s0, s1]);
        match status {
            OK | KEY_NOT_FOUND => Ok(Answer {
                opcode,
                status,
                extras,
                key,
            }),
            _ => Err(AdapterError::Refused {
                server: SERVER,
                what,
                answer: format!(
                    "{} (status {status})",
                    String::from_utf8_lossy(&self.body[extras + key..])
                ),
            }),
        }
    }

    fn lost(&self, source: io::Error) -> AdapterError {
        AdapterError::Lost {
            server: SERVER,
            address: self.address,
            source,
        }
    }

    /// Sends up to a batch, followed by an operation that is answered. Returns the number of keys.
    fn send_batch(&mut self, keys: &mut Stream, left: u64) -> Result<u64, AdapterError> {
        self.batch.clear();
        let adds = left.min(BATCH_KEYS);
        for _ in 0..adds {
            let key = keys.next_key();
            write_request(INCREMENT_QUIETLY, &INCREMENT_EXTRAS, key, &mut self.batch);
        }
        write_request(NOOP, &[], &[], &mut self.batch);
        self.send()?;
        Ok(adds)
    }

    /// Waits for the end of a batch. Quiet operations answer only if they fail, so the first answer is the end.
    fn await_batch(&mut self) -> Result<(), AdapterError> {
        while self.answer("adds")?.opcode != NOOP {}
        match self.stop.load(Ordering::Relaxed) {
            true => Err(AdapterError::Interrupted),
            false => Ok(()),
        }
    }
}

impl Adapter for Memcached<'_> {
    fn name(&self) -> String {
        format!("{SERVER} {}", self.version)
    }

    fn adds_as(&self) -> String {
        format!(
            "binary INCREMENTQ (quiet, initial value 1), {BATCH_KEYS} and a NOOP a batch, {WINDOW} \
             batches on their way"
        )
    }

    fn counts_as(&self) -> String {
        "binary GET".to_owned()
    }

    fn add(&mut self, keys: &mut Stream, adds: u64) -> Result<u64, AdapterError> {
        let (mut left, mut waiting) = (adds, 0);
        while left > 0 {
            left -= self.send_batch(keys, left)?;
            waiting += 1;
            if waiting == WINDOW {
                self.await_batch()?;
                waiting -= 1;
            }
        }
        for _ in 0..waiting {
            self.await_batch()?;
        }
        // No operation failed, or there would have been an error.
        Ok(adds)
    }

    fn count(&mut self, key: &[u8]) -> Result<u64, AdapterError> {
        self.batch.clear();
        write_request(GET, &[], key, &mut self.batch);
        self.send()?;
        let Answer {
            status,
            extras,
            key,
            ..
        } = self.answer("a count")?;
        if status == KEY_NOT_FOUND {
            return Ok(0);
        }
        let text = self.body[extras + key..].trim_ascii();
        let number = std::str::from_utf8(text).ok().and_then(|n| n.parse().ok());
        number.ok_or_else(|| AdapterError::Protocol {
            server: SERVER,
            address: self.address,
            found: format!("a count of \"{}\"", text.escape_ascii()),
        })
    }
}

fn write_request(opcode: u8, extras: &[u8], key: &[u8], out: &mut Vec<u8>) {
    // Keys have at most 139 bytes, extras at most 20.
    let (key_bytes, body_bytes) = (key.len() as u16, (extras.len() + key.len()) as u32);
    let mut header = [0; HEADER_BYTES];
    header[0] = REQUEST;
    header[1] = opcode;
    header[2..4].copy_from_slice(&key_bytes.to_be_bytes());
    header[4] = extras.len() as u8;
    header[8..12].copy_from_slice(&body_bytes.to_be_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(extras);
    out.extend_from_slice(key);
}
