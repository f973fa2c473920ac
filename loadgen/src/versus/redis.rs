//! Adds into Redis: `INCR`, or `CMS.INCRBY` of a count-min sketch of the same size, pipelined.
//!
//! Where the server knows `CLIENT REPLY`, a batch is sent with replies off, which saves it about a
//! tenth of its CPU time; turning them on again is answered and closes the batch. An error in a
//! batch then shows in the counts that are checked afterwards.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{
    Client, Cmd, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError, Value, cmd,
};
use rmbd_sketch::Geometry;

use super::adapter::{Adapter, AdapterError, WINDOW};
use crate::plan::Stream;

const SERVER: &str = "redis";
/// Number of keys in a batch.
const BATCH_KEYS: u64 = 1024;
/// Keys in one `CMS.INCRBY`.
const CMS_KEYS: u64 = 64;
/// Name of the sketch.
const SKETCH: &str = "loadgen:versus";
/// Silence after which the server counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to Redis.
pub(super) struct Redis<'a> {
    address: SocketAddr,
    connection: Connection,
    version: String,
    /// The id that the server gives for its process, which may be on another machine.
    pub(super) pid: Option<u32>,
    /// The size of the sketch that keys go into, if they do.
    sketch: Option<Geometry>,
    /// Whether the server can be told not to reply.
    quiet: bool,
    batch: Vec<u8>,
    stop: &'a AtomicBool,
}

impl<'a> Redis<'a> {
    pub(super) fn connect(
        address: SocketAddr,
        sketch: Option<Geometry>,
        stop: &'a AtomicBool,
    ) -> Result<Self, AdapterError> {
        let connection = open(address).map_err(|error| failed(address, "a connection", &error))?;
        let mut redis = Self {
            address,
            connection,
            version: String::new(),
            pid: None,
            sketch,
            quiet: false,
            batch: Vec::new(),
            stop,
        };
        redis.introduce()?;
        if let Some(geometry) = sketch {
            redis.make_sketch(geometry)?;
        }
        Ok(redis)
    }

    /// Whether a server that has just been started answers.
    pub(super) fn is_ready(address: SocketAddr) -> bool {
        open(address).is_ok_and(|mut c| cmd("PING").exec(&mut c).is_ok())
    }

    fn introduce(&mut self) -> Result<(), AdapterError> {
        let asked = cmd("INFO").arg("server").query(&mut self.connection);
        let info: String = asked.map_err(|error| self.failed("INFO", &error))?;
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name));
            value.map(|value| value.trim().to_owned())
        };
        self.version = field("redis_version:").unwrap_or_default();
        self.pid = field("process_id:").and_then(|pid| pid.parse().ok());
        self.quiet = client_reply("ON").exec(&mut self.connection).is_ok();
        Ok(())
    }

    fn make_sketch(&mut self, geometry: Geometry) -> Result<(), AdapterError> {
        let delete = cmd("DEL").arg(SKETCH).exec(&mut self.connection);
        delete.map_err(|error| self.failed("DEL", &error))?;
        let made = cmd("CMS.INITBYDIM")
            .arg(SKETCH)
            .arg(geometry.width())
            .arg(geometry.depth())
            .exec(&mut self.connection);
        made.map_err(|error| AdapterError::Refused {
            server: SERVER,
            what: "CMS.INITBYDIM",
            answer: format!(
                "{error}; --cms needs Redis 8, or RedisBloom: with --start, \
                 --server-arg=--loadmodule --server-arg=/path/to/redisbloom.so"
            ),
        })
    }

    fn failed(&self, what: &'static str, error: &RedisError) -> AdapterError {
        failed(self.address, what, error)
    }

    /// Sends up to a batch. Returns the number of keys, and of replies to expect.
    fn send_batch(&mut self, keys: &mut Stream, left: u64) -> Result<(u64, usize), AdapterError> {
        let adds = left.min(BATCH_KEYS);
        self.batch.clear();
        if self.quiet {
            client_reply("OFF").write_packed_command(&mut self.batch);
        }
        let mut replies = self.write_adds(keys, adds);
        if self.quiet {
            client_reply("ON").write_packed_command(&mut self.batch);
            replies = 1;
        }
        let sent = self.connection.send_packed_command(&self.batch);
        sent.map_err(|error| self.failed("adds", &error))?;
        Ok((adds, replies))
    }

    /// Writes the commands of a batch, and returns their number.
    fn write_adds(&mut self, keys: &mut Stream, adds: u64) -> usize {
        let keys_each = if self.sketch.is_some() { CMS_KEYS } else { 1 };
        let mut written = 0;
        let mut commands = 0;
        while written < adds {
            let count = keys_each.min(adds - written);
            let command = match self.sketch {
                None => increment(keys.next_key()),
                Some(_) => increment_sketch(keys, count),
            };
            command.write_packed_command(&mut self.batch);
            written += count;
            commands += 1;
        }
        commands
    }

    fn take_replies(&mut self, replies: usize) -> Result<(), AdapterError> {
        for _ in 0..replies {
            let reply = self.connection.recv_response();
            let reply = reply.and_then(Value::extract_error);
            reply.map_err(|error| self.failed("adds", &error))?;
        }
        match self.stop.load(Ordering::Relaxed) {
            true => Err(AdapterError::Interrupted),
            false => Ok(()),
        }
    }
}

impl Adapter for Redis<'_> {
    fn name(&self) -> String {
        let what = if self.sketch.is_some() { " CMS" } else { "" };
        format!("{SERVER} {}{what}", self.version)
    }

    fn adds_as(&self) -> String {
        let command = match self.sketch {
            None => "INCR key".to_owned(),
            Some(geometry) => format!(
                "CMS.INCRBY with {CMS_KEYS} keys a command into a sketch of {} x {} (CMS.INITBYDIM)",
                geometry.depth(),
                geometry.width()
            ),
        };
        let replies = match self.quiet {
            true => " between CLIENT REPLY OFF and ON, whose answer confirms them",
            false => ", each command answered",
        };
        format!(
            "{command}, pipelined: {BATCH_KEYS} keys a batch{replies}, {WINDOW} batches on their way"
        )
    }

    fn counts_as(&self) -> String {
        match self.sketch {
            None => "GET key".to_owned(),
            Some(_) => "CMS.QUERY of one key".to_owned(),
        }
    }

    fn add(&mut self, keys: &mut Stream, adds: u64) -> Result<u64, AdapterError> {
        let mut left = adds;
        let mut waiting = VecDeque::with_capacity(WINDOW);
        while left > 0 {
            let (sent, replies) = self.send_batch(keys, left)?;
            left -= sent;
            waiting.push_back(replies);
            if waiting.len() == WINDOW {
                self.take_replies(waiting.pop_front().unwrap_or_default())?;
            }
        }
        for replies in waiting {
            self.take_replies(replies)?;
        }
        // The server has read all commands.
        Ok(adds)
    }

    fn count(&mut self, key: &[u8]) -> Result<u64, AdapterError> {
        let connection = &mut self.connection;
        let counted: Result<Option<u64>, _> = match self.sketch {
            None => cmd("GET").arg(key).query(connection),
            Some(_) => cmd("CMS.QUERY")
                .arg(SKETCH)
                .arg(key)
                .query(connection)
                .map(|counts: Vec<u64>| counts.first().copied()),
        };
        let count = counted.map_err(|error| self.failed("a count", &error))?;
        Ok(count.unwrap_or(0))
    }
}

fn client_reply(what: &str) -> Cmd {
    let mut command = cmd("CLIENT");
    command.arg("REPLY").arg(what);
    command
}

fn increment(key: &[u8]) -> Cmd {
    let mut command = Cmd::with_capacity(2, 4 + key.len());
    command.arg("INCR").arg(key);
    command
}

fn increment_sketch(keys: &mut Stream, count: u64) -> Cmd {
    let mut command = cmd("CMS.INCRBY");
    command.arg(SKETCH);
    for _ in 0..count {
        command.arg(keys.next_key()).arg(1);
    }
    command
}

fn open(address: SocketAddr) -> Result<Connection, RedisError> {
    let to = ConnectionAddr::Tcp(address.ip().to_string(), address.port());
    let client = Client::open(to.into_connection_info()?)?;
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// Translates an error of the client crate.
fn failed(address: SocketAddr, what: &'static str, error: &RedisError) -> AdapterError {
    let source = || std::io::Error::other(error.to_string());
    match error.kind() {
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => AdapterError::Protocol {
            server: SERVER,
            address,
            found: error.to_string(),
        },
        ErrorKind::Io if what == "a connection" => AdapterError::Connect {
            server: SERVER,
            address,
            source: source(),
        },
        ErrorKind::Io => AdapterError::Lost {
            server: SERVER,
            address,
            source: source(),
        },
        _ => AdapterError::Refused {
            server: SERVER,
            what,
            answer: error.to_string(),
        },
    }
}
