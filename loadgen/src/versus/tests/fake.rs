//! Servers that understand just enough of a protocol. They are written from the protocol's documentation, and not
//! from the client beside them.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A function that takes what it understands from the front of the input and writes answers to the output. It returns
/// whether the connection stays open.
pub(super) type Behaviour = Box<dyn FnMut(&mut Vec<u8>, &mut Vec<u8>) -> bool + Send>;

/// A thread that serves one connection after the other until it is dropped.
pub(super) struct Fake {
    address: SocketAddr,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(super) fn start(mut behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                serve(connection.unwrap(), &mut behaviour);
            }
        });
        Self {
            address,
            ending,
            thread: Some(thread),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Serves one connection until the client closes it.
fn serve(mut connection: TcpStream, behaviour: &mut Behaviour) {
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = connection.read(&mut buffer) {
        input.extend_from_slice(&buffer[..len]);
        let stays = behaviour(&mut input, &mut output);
        if connection.write_all(&output).is_err() || !stays {
            return;
        }
        output.clear();
    }
}

/// A server of RESP 2: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.
pub(super) fn redis_behaviour(knows_client_reply: bool, has_sketches: bool) -> Behaviour {
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut replies = true;
    Box::new(move |input, output| {
        while let Some(words) = take_command(input) {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let answer = match *words {
                [b"CLIENT", b"REPLY", on] if knows_client_reply => {
                    replies = on == b"ON";
                    "+OK\r\n".to_owned()
                }
                [b"INFO", b"server"] => {
                    bulk("# Server\r\nredis_version:7.9.9\r\nprocess_id:42\r\n")
                }
                [b"INCR", key] => {
                    let count = counts.entry(key.to_vec()).or_default();
                    *count += 1;
                    format!(":{count}\r\n")
                }
                [b"GET", key] => match counts.get(key) {
                    Some(count) => bulk(&count.to_string()),
                    None => "$-1\r\n".to_owned(),
                },
                [b"DEL", _] => ":0\r\n".to_owned(),
                [b"CMS.INITBYDIM", _, b"1000", b"3"] if has_sketches => "+OK\r\n".to_owned(),
                [b"CMS.INCRBY", _, ref pairs @ ..] if has_sketches => {
                    let mut answer = format!("*{}\r\n", pairs.len() / 2);
                    for pair in pairs.chunks_exact(2) {
                        assert_eq!(pair[1], b"1");
                        let count = counts.entry(pair[0].to_vec()).or_default();
                        *count += 1;
                        answer += &format!(":{count}\r\n");
                    }
                    answer
                }
                [b"CMS.QUERY", _, key] if has_sketches => {
                    format!("*1\r\n:{}\r\n", counts.get(key).copied().unwrap_or(0))
                }
                _ => "-ERR unknown command\r\n".to_owned(),
            };
            if replies {
                output.extend_from_slice(answer.as_bytes());
            }
        }
        true
    })
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Takes an array of bulk strings, if a whole one is there.
fn take_command(input: &mut Vec<u8>) -> Option<Vec<Vec<u8>>> {
    let mut at = 0;
    let words = take_number(input, &mut at, b'*')?;
    let mut command = Vec::new();
    for _ in 0..words {
        let len = take_number(input, &mut at, b'$')?;
        command.push(input.get(at..at + len)?.to_vec());
        input.get(at + len..at + len + 2)?;
        at += len + 2;
    }
    input.drain(..at);
    Some(command)
}

fn take_number(input: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let rest = input.get(*at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    assert_eq!(rest[0], kind);
    *at += end + 2;
    std::str::from_utf8(&rest[1..end]).unwrap().parse().ok()
}

/// A server of the binary protocol (memcached, doc/protocol-binary.txt). The increment with number `fails_at` finds
/// no memory.
pub(super) fn memcached_behaviour(fails_at: Option<u64>) -> Behaviour {
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut increments = 0;
    Box::new(move |input, output| {
        while let Some((opcode, extras, key)) = take_request(input) {
            match opcode {
                0x00 => match counts.get(&key) {
                    Some(count) => {
                        let value = format!("{count}  ");
                        respond(opcode, 0, &[0; 4], b"", value.as_bytes(), output);
                    }
                    None => respond(opcode, 1, b"", b"", b"Not found", output),
                },
                0x0a => respond(opcode, 0, b"", b"", b"", output),
                0x10 => {
                    respond(opcode, 0, b"", b"pid", b"42", output);
                    respond(opcode, 0, b"", b"version", b"1.9.9", output);
                    respond(opcode, 0, b"", b"", b"", output);
                }
                0x15 => {
                    increments += 1;
                    if fails_at == Some(increments) {
                        respond(opcode, 0x82, b"", b"", b"Out of memory", output);
                        continue;
                    }
                    let amount = u64::from_be_bytes(extras[..8].try_into().unwrap());
                    let initial = u64::from_be_bytes(extras[8..16].try_into().unwrap());
                    let expiry = &extras[16..];
                    assert_eq!(expiry, [0; 4], "0xffffffff would make no key");
                    let count = counts.entry(key).and_modify(|count| *count += amount);
                    count.or_insert(initial);
                }
                _ => respond(opcode, 0x81, b"", b"", b"Unknown command", output),
            }
        }
        true
    })
}

/// Takes the opcode, extras and key of a request, if a whole one is there.
fn take_request(input: &mut Vec<u8>) -> Option<(u8, Vec<u8>, Vec<u8>)> {
    let header = input.get(..24)?;
    assert_eq!(header[0], 0x80);
    let key = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let extras = usize::from(header[4]);
    let body = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
    let opcode = header[1];
    let body = input.get(24..24 + body)?.to_vec();
    assert_eq!(body.len(), extras + key, "no request of ours has a value");
    input.drain(..24 + body.len());
    Some((opcode, body[..extras].to_vec(), body[extras..].to_vec()))
}

fn respond(opcode: u8, status: u16, extras: &[u8], key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let body = extras.len() + key.len() + value.len();
    out.extend_from_slice(&[0x81, opcode]);
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(&[extras.len() as u8, 0]);
    out.extend_from_slice(&status.to_be_bytes());
    out.extend_from_slice(&(body as u32).to_be_bytes());
    out.extend_from_slice(&[0; 12]);
    for part in [extras, key, value] {
        out.extend_from_slice(part);
    }
}
