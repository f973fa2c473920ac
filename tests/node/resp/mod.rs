//! Tests of Redis's protocol over TCP, on both back ends.

mod clients;
mod hostile;
mod rows;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rmbd::config::{IoChoice, NodeConfig, RespConfig, SketchWish};
use rmbd::node::Node;
use rmbd_sketch::HashFamily;
use rmbd_testkit::redis::command;

use crate::support::{PATIENCE, config};

/// The configuration of a node with the sketches `default`, which lists no keys, and `t`, which lists three.
fn resp_config(io: IoChoice) -> NodeConfig {
    let family = HashFamily::Xxh3 { seed: 7 };
    let listing: SketchWish = "name=t,width=4096,depth=4,top=3".parse().unwrap();
    NodeConfig {
        resp: RespConfig::at("127.0.0.1:0"),
        sketches: vec![listing.plan(family).unwrap()],
        family,
        top: Some(0),
        ..config(io)
    }
}

fn start(io: IoChoice) -> Node {
    Node::start(resp_config(io)).unwrap()
}

/// A connection.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    fn of(node: &Node) -> Self {
        Self::to(node.resp_addr().unwrap())
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn ask(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        self.send(&command(words));
        self.reply()
    }

    /// The reply to a command of words without blanks.
    fn ask_line(&mut self, line: &str) -> String {
        let words: Vec<_> = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        String::from_utf8(self.ask(&words)).unwrap()
    }

    fn more(&mut self) {
        let mut bytes = [0; 1 << 16];
        let length = self.stream.read(&mut bytes).unwrap();
        assert!(
            length > 0,
            "the server has closed: {:?}",
            String::from_utf8_lossy(&self.read)
        );
        self.read.extend(&bytes[..length]);
    }

    /// So many bytes.
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.read.len() < bytes {
            self.more();
        }
        self.read.drain(..bytes).collect()
    }

    fn line(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") {
                return self.take(end + 2);
            }
            self.more();
        }
    }

    /// The bytes of one whole reply.
    fn reply(&mut self) -> Vec<u8> {
        let mut all = self.line();
        let number = || {
            std::str::from_utf8(&all[1..all.len() - 2])
                .unwrap()
                .parse::<i64>()
                .unwrap()
        };
        let more = match all[0] {
            b'*' | b'~' => number(),
            b'%' => 2 * number(),
            b'$' | b'=' if number() >= 0 => {
                let rest = self.take(number() as usize + 2);
                all.extend(rest);
                0
            }
            _ => 0,
        };
        for _ in 0..more {
            all.extend(self.reply());
        }
        all
    }

    /// Whatever comes until the server ends the connection.
    fn rest(mut self) -> Vec<u8> {
        let _ = self.stream.read_to_end(&mut self.read);
        self.read
    }
}
