//! HAProxy's side of its offload protocol: frames that it sends, and how it reads those of an agent. It shares no
//! code with the agent.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A value of an argument.
#[derive(Debug, Clone)]
pub enum Arg {
    Null,
    Bool(bool),
    Number(i64),
    Address(Ipv4Addr),
    Text(Vec<u8>),
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Hello {
        version: String,
        frame_bytes_max: u64,
        capabilities: String,
    },
    Disconnect {
        status: u64,
        message: String,
    },
    Ack {
        stream_id: u64,
        frame_id: u64,
        variables: Variables,
    },
}

/// Variables of the transaction as text; one that is to be forgotten is `-`.
pub type Variables = BTreeMap<String, String>;

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

pub fn hello(frame_bytes_max: u64) -> Vec<u8> {
    frame(1, 1, (0, 0), &hello_items(frame_bytes_max))
}

pub fn health_check() -> Vec<u8> {
    let mut items = hello_items(16_380);
    items.extend(string(b"healthcheck"));
    items.push(0x11);
    frame(1, 1, (0, 0), &items)
}

pub fn disconnect() -> Vec<u8> {
    let mut items = string(b"status-code");
    items.extend([2, 0]);
    items.extend(string(b"message"));
    items.extend(value(&Arg::from("normal")));
    frame(2, 1, (0, 0), &items)
}

pub type Args<'a> = &'a [(&'a str, Arg)];

pub fn notify(ids: (u64, u64), messages: &[(&str, Args<'_>)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, args) in messages {
        payload.extend(string(name.as_bytes()));
        payload.push(args.len() as u8);
        for (name, arg) in *args {
            payload.extend(string(name.as_bytes()));
            payload.extend(value(arg));
        }
    }
    frame(3, 1, ids, &payload)
}

/// A frame with its length before it.
pub fn frame(kind: u8, flags: u32, (stream_id, frame_id): (u64, u64), payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(varint(stream_id));
    frame.extend(varint(frame_id));
    frame.extend(payload);
    [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
}

/// The first frame of an agent's bytes, and what follows it; `None` where it is not whole.
pub fn read(bytes: &[u8]) -> Option<(Said, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (frame, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let mut left = Left(frame);
    let kind = left.byte();
    assert_eq!(left.take(4), [0, 0, 0, 1], "a whole frame");
    let (stream_id, frame_id) = (left.varint(), left.varint());
    if kind == 103 {
        let mut variables = Variables::new();
        while !left.0.is_empty() {
            let (action, args, scope) = (left.byte(), left.byte(), left.byte());
            assert_eq!(scope, 2, "the transaction");
            let name = left.string();
            let value = match (action, args) {
                (1, 3) => left.value(),
                (2, 2) => "-".to_owned(),
                other => panic!("no action: {other:?}"),
            };
            assert_eq!(variables.insert(name, value), None, "set once");
        }
        let said = Said::Ack {
            stream_id,
            frame_id,
            variables,
        };
        return Some((said, rest));
    }
    assert_eq!((stream_id, frame_id), (0, 0));
    let mut items = BTreeMap::new();
    while !left.0.is_empty() {
        let name = left.string();
        items.insert(name, left.value());
    }
    let mut text = |name: &str| items.remove(name).unwrap();
    let said = match kind {
        101 => Said::Hello {
            version: text("version"),
            frame_bytes_max: text("max-frame-size").parse().unwrap(),
            capabilities: text("capabilities"),
        },
        102 => Said::Disconnect {
            status: text("status-code").parse().unwrap(),
            message: text("message"),
        },
        other => panic!("no frame of an agent: {other}"),
    };
    Some((said, rest))
}

fn hello_items(frame_bytes_max: u64) -> Vec<u8> {
    let mut items = string(b"supported-versions");
    items.extend(value(&Arg::from("2.0")));
    items.extend(string(b"max-frame-size"));
    items.push(3);
    items.extend(varint(frame_bytes_max));
    items.extend(string(b"capabilities"));
    items.extend(value(&Arg::from("pipelining,async")));
    items
}

fn value(arg: &Arg) -> Vec<u8> {
    match arg {
        Arg::Null => vec![0],
        Arg::Bool(value) => vec![if *value { 0x11 } else { 0x01 }],
        Arg::Number(number) => [&[4][..], &varint(*number as u64)].concat(),
        Arg::Address(address) => [&[6][..], &address.octets()].concat(),
        Arg::Text(text) => [&[8][..], &string(text)].concat(),
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64)[..], bytes].concat()
}

fn varint(value: u64) -> Vec<u8> {
    if value < 240 {
        return vec![value as u8];
    }
    let mut bytes = vec![240 + (value % 16) as u8];
    let mut left = (value - 240) / 16;
    while left >= 128 {
        bytes.push(128 + (left % 128) as u8);
        left = (left - 128) / 128;
    }
    bytes.push(left as u8);
    bytes
}

/// What is left of a frame. It panics where an agent says nonsense.
struct Left<'a>(&'a [u8]);

impl<'a> Left<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn varint(&mut self) -> u64 {
        let mut value = u128::from(self.byte());
        let (mut has_more, mut place) = (value >= 240, 16);
        while has_more {
            let byte = u128::from(self.byte());
            value += byte * place;
            place *= 128;
            has_more = byte >= 128;
        }
        value.try_into().unwrap()
    }

    fn string(&mut self) -> String {
        let length = self.varint();
        String::from_utf8(self.take(length as usize).to_vec()).unwrap()
    }

    fn value(&mut self) -> String {
        match self.byte() {
            0x01 => "false".to_owned(),
            0x11 => "true".to_owned(),
            3 | 5 => self.varint().to_string(),
            8 => self.string(),
            other => panic!("no value that this agent gives: {other}"),
        }
    }
}
