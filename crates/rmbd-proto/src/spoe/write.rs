//! Frames of an agent (3.2.5, 3.2.7, 3.2.9). Each is written with its length before it.

use super::value::{UINT32, Value, write_string};
use super::{FIN, LENGTH_BYTES, StatusCode, kind, varint};

/// The version that is spoken here.
const VERSION: &[u8] = b"2.0";
/// What this agent is capable of: it neither takes fragments, nor answers by another connection (`async`).
const CAPABILITIES: &[u8] = b"pipelining";

const SET_VAR: u8 = 1;
const UNSET_VAR: u8 = 2;

/// How long a variable lives (3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// As long as HAProxy.
    Process = 0,
    /// As long as a client's connection.
    Session = 1,
    /// From a request to the end of its response.
    Transaction = 2,
    /// As long as a request is processed.
    Request = 3,
    /// As long as a response is processed.
    Response = 4,
}

/// Appends the answer to a hello: frames have at most so many bytes.
pub fn write_hello(frame_bytes_max: u32, out: &mut Vec<u8>) {
    let frame = OpenFrame::begin(kind::AGENT_HELLO, (0, 0), out);
    write_text(b"version", VERSION, out);
    write_number(b"max-frame-size", frame_bytes_max, out);
    write_text(b"capabilities", CAPABILITIES, out);
    frame.end(out);
}

/// Appends the end of a connection, and a text for people that says why.
pub fn write_disconnect(status: StatusCode, message: &str, out: &mut Vec<u8>) {
    let frame = OpenFrame::begin(kind::AGENT_DISCONNECT, (0, 0), out);
    write_number(b"status-code", status as u32, out);
    write_text(b"message", message.as_bytes(), out);
    frame.end(out);
}

/// Appends an acknowledgement: variables to set, or to forget. HAProxy puts a prefix of its own before their names,
/// and leaves those out that its configuration does not mention.
#[derive(Debug)]
pub struct AckWriter<'o> {
    out: &'o mut Vec<u8>,
    frame: OpenFrame,
}

impl<'o> AckWriter<'o> {
    /// The acknowledgement of this frame.
    pub fn new(out: &'o mut Vec<u8>, stream_id: u64, frame_id: u64) -> Self {
        let frame = OpenFrame::begin(kind::ACK, (stream_id, frame_id), out);
        Self { out, frame }
    }

    /// Sets a variable. Its name is all of these parts.
    pub fn set(&mut self, scope: Scope, name: &[&str], value: Value<'_>) {
        self.action((SET_VAR, 3), scope, name);
        value.write(self.out);
    }

    /// Forgets a variable.
    pub fn unset(&mut self, scope: Scope, name: &[&str]) {
        self.action((UNSET_VAR, 2), scope, name);
    }

    /// Ends the frame.
    pub fn finish(self) {
        self.frame.end(self.out);
    }

    fn action(&mut self, (kind, args): (u8, u8), scope: Scope, name: &[&str]) {
        self.out.extend([kind, args, scope as u8]);
        write_string(name, self.out);
    }
}

/// A frame whose end is not written yet.
#[derive(Debug)]
struct OpenFrame {
    /// Where its length stands.
    start: usize,
}

impl OpenFrame {
    fn begin(kind: u8, (stream_id, frame_id): (u64, u64), out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend([0; LENGTH_BYTES]);
        out.push(kind);
        out.extend(FIN.to_be_bytes());
        varint::write(stream_id, out);
        varint::write(frame_id, out);
        Self { start }
    }

    /// Writes the length of what was appended since.
    fn end(self, out: &mut [u8]) {
        let content = self.start + LENGTH_BYTES;
        // A frame has far less than 4 GiB.
        let length = out.len().saturating_sub(content) as u32;
        if let Some(place) = out.get_mut(self.start..content) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

fn write_text(name: &[u8], text: &[u8], out: &mut Vec<u8>) {
    write_string(&[name], out);
    Value::Text(text).write(out);
}

/// Appends a number of 32 bits, as hellos and disconnects have them.
fn write_number(name: &[u8], number: u32, out: &mut Vec<u8>) {
    write_string(&[name], out);
    out.push(UINT32);
    varint::write(number.into(), out);
}
