//! The protocol of HAProxy's *Stream Processing Offload Engine*: what HAProxy sends to an agent ([`Frame`]), and what
//! the agent answers ([`write_hello`], [`AckWriter`], [`write_disconnect`]). HAProxy's `doc/SPOE.txt` specifies it,
//! in section 3, as version 2.0.
//!
//! Each frame has its length before it. A connection begins with a hello of both, which agree on the largest frame;
//! then HAProxy notifies of messages, each with named arguments, and each notification is acknowledged with variables
//! to set. Any number of notifications may be under way. Frames that are cut into fragments are refused, which an
//! agent may do (3.2.1): what is asked here is small.
//!
//! ```
//! use rmbd_proto::spoe::{AckWriter, FRAME_BYTES_MIN, Frame, Scope, Value, next_frame};
//!
//! let stream = b"\0\0\0\x18\x03\0\0\0\x01\x07\x01\x04take\x01\x03key\x08\x05apple...";
//! let Some((bytes, end)) = next_frame(stream, FRAME_BYTES_MIN)? else {
//!     panic!("it is all there")
//! };
//! assert_eq!(end, 28);
//! let Frame::Notify(notify) = Frame::parse(bytes)? else {
//!     panic!("it is a notification")
//! };
//! let message = notify.messages().next().expect("one message");
//! assert_eq!(message.name, b"take");
//! assert!(message.args().eq([(&b"key"[..], Value::Text(b"apple"))]));
//!
//! let mut out = Vec::new();
//! let mut ack = AckWriter::new(&mut out, notify.stream_id, notify.frame_id);
//! ack.set(Scope::Transaction, &["allowed"], Value::Bool(true));
//! ack.finish();
//! assert_eq!(out, b"\0\0\0\x13\x67\0\0\0\x01\x07\x01\x01\x03\x02\x07allowed\x11");
//! # Ok::<(), rmbd_proto::spoe::FrameError>(())
//! ```

mod frame;
mod hello;
#[cfg(test)]
mod tests;
mod value;
mod varint;
mod write;

pub use self::frame::{Args, Frame, Message, Messages, Notify, next_frame};
pub use self::hello::Hello;
pub use self::value::Value;
pub use self::write::{AckWriter, Scope, write_disconnect, write_hello};

/// Bytes of the length before each frame, which does not count itself.
pub const LENGTH_BYTES: usize = 4;
/// Bytes that both sides take in a frame at least (3.2).
pub const FRAME_BYTES_MIN: usize = 256;

/// The types of frames (3.2.2).
mod kind {
    pub(super) const UNSET: u8 = 0;
    pub(super) const HAPROXY_HELLO: u8 = 1;
    pub(super) const HAPROXY_DISCONNECT: u8 = 2;
    pub(super) const NOTIFY: u8 = 3;
    pub(super) const AGENT_HELLO: u8 = 101;
    pub(super) const AGENT_DISCONNECT: u8 = 102;
    pub(super) const ACK: u8 = 103;
}

/// The flag of a frame that is whole, or the last fragment of one.
const FIN: u32 = 1;

/// Why a connection ends, as the protocol numbers it (3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    /// Nothing is wrong.
    Normal = 0,
    /// A time is over.
    Timeout = 2,
    /// A frame is too large.
    TooBig = 3,
    /// A frame is none.
    Invalid = 4,
    /// A hello lacks `supported-versions`.
    NoVersion = 5,
    /// A hello lacks `max-frame-size`.
    NoFrameSize = 6,
    /// A hello lacks `capabilities`.
    NoCapabilities = 7,
    /// There is no version that both know.
    UnsupportedVersion = 8,
    /// The largest frame is too small or too large.
    FrameSize = 9,
    /// Fragments are not taken.
    Fragmented = 10,
    /// There is no room.
    Resources = 13,
}

/// Why bytes are no frame that an agent takes. Nothing behind it can be understood, so the connection has to end,
/// with this [status code](Self::status_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame is longer than was agreed.
    #[error("the frame is above the max-frame-size that was agreed")]
    TooBig,
    /// A frame ends before its content does, or has what the protocol does not know.
    #[error("the frame is malformed")]
    Malformed,
    /// A hello says no versions.
    #[error("the hello has no supported-versions")]
    NoVersion,
    /// A hello does not say how large frames may be.
    #[error("the hello has no max-frame-size")]
    NoFrameSize,
    /// A hello does not say what HAProxy is capable of.
    #[error("the hello has no capabilities")]
    NoCapabilities,
    /// HAProxy speaks other versions.
    #[error("the version is not supported: this agent speaks 2.0")]
    UnsupportedVersion,
    /// HAProxy takes less than [`FRAME_BYTES_MIN`] in a frame, or more than there can be.
    #[error("the max-frame-size is no number from {FRAME_BYTES_MIN} to 2^32 - 1")]
    FrameSize,
    /// A frame is a fragment.
    #[error("payload fragmentation is not supported")]
    Fragmented,
}

impl FrameError {
    /// Its number in the protocol.
    #[must_use]
    pub fn status_code(self) -> StatusCode {
        match self {
            Self::TooBig => StatusCode::TooBig,
            Self::Malformed => StatusCode::Invalid,
            Self::NoVersion => StatusCode::NoVersion,
            Self::NoFrameSize => StatusCode::NoFrameSize,
            Self::NoCapabilities => StatusCode::NoCapabilities,
            Self::UnsupportedVersion => StatusCode::UnsupportedVersion,
            Self::FrameSize => StatusCode::FrameSize,
            Self::Fragmented => StatusCode::Fragmented,
        }
    }
}

/// What cannot be read is malformed, whatever is wrong with it: a frame is whole when it is read.
impl From<crate::varint::ReadError> for FrameError {
    fn from(_: crate::varint::ReadError) -> Self {
        Self::Malformed
    }
}
