//! Committed vectors, cuts at every place, and edges. What is generated is in `tests/fuzz`, with a naive reader
//! beside this one.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::*;

/// Vectors that a program of its own has made, with frames that HAProxy 2.6 sent.
fn vectors() -> Json {
    serde_json::from_str(include_str!("../../../../tests/data/spoe_vectors.json")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(hex: &Json) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn described(value: Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Signed(value) => format!("signed {value}"),
        Value::Unsigned(value) => format!("unsigned {value}"),
        Value::Ipv4(address) => address.to_string(),
        Value::Ipv6(address) => hex(&address.octets()),
        Value::Text(bytes) => format!("text {}", hex(bytes)),
        Value::Binary(bytes) => format!("binary {}", hex(bytes)),
    }
}

/// A frame in the words of the vectors.
fn describe(frame: Frame<'_>) -> String {
    let notify = match frame {
        Frame::Hello(Hello {
            frame_bytes_max,
            has_pipelining,
            is_health_check,
        }) => return format!("hello {frame_bytes_max} {has_pipelining} {is_health_check}"),
        Frame::Disconnect => return "disconnect".to_owned(),
        Frame::Unknown => return "unknown".to_owned(),
        Frame::Notify(notify) => notify,
    };
    let mut text = format!("notify {} {}", notify.stream_id, notify.frame_id);
    for message in notify.messages() {
        let args = message.args();
        let args = args.map(|(name, value)| format!("{}={}", hex(name), described(value)));
        let args: Vec<_> = args.collect();
        let _ = write!(text, " {}({})", hex(message.name), args.join(","));
    }
    text
}

type Seen = (Vec<String>, Option<FrameError>);

/// The frames of a stream that comes in these pieces.
fn frames<'p>(pieces: impl IntoIterator<Item = &'p [u8]>, frame_bytes_max: usize) -> Seen {
    let (mut waiting, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            match next_frame(&waiting, frame_bytes_max) {
                Ok(None) => break,
                Ok(Some((bytes, end))) => match Frame::parse(bytes) {
                    Ok(frame) => {
                        seen.push(describe(frame));
                        waiting.drain(..end);
                    }
                    Err(error) => return (seen, Some(error)),
                },
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

/// The first byte of a stream in the vectors says how large its frames may be.
fn frame_bytes_max(how: u8) -> usize {
    FRAME_BYTES_MIN << (how & 7)
}

#[test]
fn vectors_are_read_however_they_are_cut() {
    let vectors = vectors();
    let streams = vectors["streams"].as_array().unwrap();
    assert!(streams.len() > 50);
    for vector in streams {
        let stream = bytes(&vector["stream"]);
        let (max, stream) = (frame_bytes_max(stream[0]), &stream[1..]);
        let note = vector["note"].as_str().unwrap();
        let expected = vector["frames"].as_array().unwrap();
        let expected: Vec<_> = expected.iter().map(|it| it.as_str().unwrap()).collect();
        let (seen, error) = frames([stream], max);
        assert_eq!(seen, expected, "{note}");
        let code = error.map(|error| error.status_code() as u64);
        assert_eq!(code, vector["error"].as_u64(), "{note}");
        let whole = (seen, error);
        for cut in 0..=stream.len() {
            let (first, rest) = stream.split_at(cut);
            assert_eq!(frames([first, rest], max), whole, "{note}, cut at {cut}");
        }
        assert_eq!(frames(stream.chunks(1), max), whole, "{note}");
    }
}

#[test]
fn vectors_of_answers_are_written() {
    let vectors = vectors();
    let answers = &vectors["answers"];
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = b"before".to_vec();
        write(&mut out);
        hex(&out[6..])
    };
    let hello = written(&|out| write_hello(16_384, out));
    assert_eq!(answers["hello"], hello);
    let disconnect = written(&|out| {
        let error = FrameError::Fragmented;
        write_disconnect(error.status_code(), &error.to_string(), out);
    });
    assert_eq!(answers["disconnect"], disconnect);
    let ack = written(&|out| {
        let mut ack = AckWriter::new(out, 5_000_000_000, 300);
        let scope = Scope::Transaction;
        ack.set(scope, &["allowed"], Value::Bool(true));
        ack.set(scope, &["ip", ".", "over"], Value::Bool(false));
        ack.unset(scope, &["error"]);
        ack.set(Scope::Process, &["n"], Value::Null);
        ack.set(Scope::Session, &["i"], Value::Signed(-3));
        ack.set(Scope::Request, &["u"], Value::Unsigned(i64::MAX as u64));
        ack.set(Scope::Response, &["4"], Value::Ipv4([192, 0, 2, 7].into()));
        ack.set(scope, &["6"], Value::Ipv6(std::net::Ipv6Addr::LOCALHOST));
        ack.set(scope, &["t"], Value::Text(&[b'x'; 300]));
        ack.set(scope, &["b"], Value::Binary(b"\0\xff"));
        ack.finish();
    });
    assert_eq!(answers["ack"], ack);
    let empty = written(&|out| AckWriter::new(out, 0, 1).finish());
    assert_eq!(answers["empty ack"], empty);
}

#[test]
fn values_come_back() {
    for value in [
        Value::Null,
        Value::Bool(true),
        Value::Bool(false),
        Value::Signed(i64::MIN),
        Value::Signed(-1),
        Value::Signed(i64::MAX),
        Value::Unsigned(u64::MAX),
        Value::Ipv4([1, 2, 3, 4].into()),
        Value::Ipv6([7; 16].into()),
        Value::Text(b""),
        Value::Binary(&[9; 3_000]),
    ] {
        let mut out = Vec::new();
        value.write(&mut out);
        let mut reader = crate::reader::Reader::new(&out);
        assert_eq!(reader.spoe_value(), Ok(value));
        assert!(reader.rest().is_empty());
        assert!(
            crate::reader::Reader::new(&out[..out.len() - 1])
                .spoe_value()
                .is_err()
        );
    }
    for (value, number) in [
        (Value::Signed(7), Some(7)),
        (Value::Signed(-7), None),
        (Value::Unsigned(u64::MAX), Some(u64::MAX)),
        (Value::Text(b"7"), None),
    ] {
        assert_eq!(value.unsigned(), number);
    }
}

/// A length is refused when it is there, and not when all that it promises has come.
#[test]
fn a_length_that_is_too_large_waits_for_nothing() {
    for (length, expected) in [
        (256_u32, Ok(None)),
        (257, Err(FrameError::TooBig)),
        (u32::MAX, Err(FrameError::TooBig)),
        (7, Ok(None)),
        (6, Err(FrameError::Malformed)),
        (0, Err(FrameError::Malformed)),
    ] {
        assert_eq!(next_frame(&length.to_be_bytes(), FRAME_BYTES_MIN), expected);
    }
}
