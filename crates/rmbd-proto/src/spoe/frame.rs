//! Frames of HAProxy (3.2), one at a time.

use super::hello::Hello;
use super::value::Value;
use super::{FIN, FrameError, LENGTH_BYTES, kind};
use crate::reader::{ReadError, Reader};

/// Bytes of the shortest frame: a type, flags, and two numbers.
const FRAME_BYTES_LEAST: usize = 1 + 4 + 2;

/// A frame that HAProxy sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The first of a connection.
    Hello(Hello),
    /// The last: HAProxy ends the connection, and waits to be told so, too.
    Disconnect,
    /// Messages that want an acknowledgement.
    Notify(Notify<'a>),
    /// Something of a type that is not known, which may be left out (3.2.2).
    Unknown,
}

/// Messages of a stream of HAProxy, all of them well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify<'a> {
    /// HAProxy's number of its stream, which the acknowledgement repeats.
    pub stream_id: u64,
    /// The number of the frame in the stream, which the acknowledgement repeats.
    pub frame_id: u64,
    messages: &'a [u8],
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The name, as HAProxy's configuration has it.
    pub name: &'a [u8],
    /// The arguments.
    args: Args<'a>,
}

/// The messages of a notification, in their order.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a>(Reader<'a>);

/// The arguments of a message, in their order: name and value. An argument that was given no name has an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Args<'a> {
    reader: Reader<'a>,
    left: u8,
}

/// The first frame of what has come of a stream, without its length, and where it ends; `None` where more has to
/// come.
///
/// # Errors
/// [`FrameError::TooBig`] for one of more than `frame_bytes_max` bytes, as soon as its length is there, and
/// [`FrameError::Malformed`] for one that is too short.
pub fn next_frame(
    stream: &[u8],
    frame_bytes_max: usize,
) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((length, rest)) = stream.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    match length {
        _ if length > frame_bytes_max => Err(FrameError::TooBig),
        0..FRAME_BYTES_LEAST => Err(FrameError::Malformed),
        _ => Ok(rest
            .get(..length)
            .map(|frame| (frame, LENGTH_BYTES + length))),
    }
}

impl<'a> Frame<'a> {
    /// Reads the bytes of a frame. Flags that are not known are left out, and so is the one of a frame that is to be
    /// aborted: it is about fragments.
    ///
    /// # Errors
    /// [`FrameError`], but for [`FrameError::TooBig`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.byte()?;
        match kind {
            kind::HAPROXY_HELLO | kind::HAPROXY_DISCONNECT | kind::NOTIFY => {}
            // All fragments but the first are of this type.
            kind::UNSET => return Err(FrameError::Fragmented),
            _ => return Ok(Self::Unknown),
        }
        let flags = reader.array().map(u32::from_be_bytes)?;
        if flags & FIN == 0 {
            return Err(FrameError::Fragmented);
        }
        let (stream_id, frame_id) = (reader.spoe_varint()?, reader.spoe_varint()?);
        if kind == kind::NOTIFY {
            let messages = reader.rest();
            Messages(reader).check()?;
            return Ok(Self::Notify(Notify {
                stream_id,
                frame_id,
                messages,
            }));
        }
        if (stream_id, frame_id) != (0, 0) {
            return Err(FrameError::Malformed);
        }
        let items = Items(reader);
        if kind == kind::HAPROXY_HELLO {
            return Hello::of(items).map(Self::Hello);
        }
        // What it says is for people, who read it in HAProxy's log.
        items.into_iter().try_for_each(|item| item.map(|_| ()))?;
        Ok(Self::Disconnect)
    }
}

impl<'a> Notify<'a> {
    /// The messages, in their order.
    #[must_use]
    pub fn messages(&self) -> Messages<'a> {
        Messages(Reader::new(self.messages))
    }
}

impl<'a> Message<'a> {
    /// The arguments, in their order.
    #[must_use]
    pub fn args(&self) -> Args<'a> {
        self.args
    }
}

impl<'a> Messages<'a> {
    /// Goes over all of them.
    fn check(mut self) -> Result<(), ReadError> {
        while !self.0.rest().is_empty() {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Message<'a>, ReadError> {
        let name = self.0.spoe_string()?;
        let left = self.0.byte()?;
        let args = Args {
            reader: self.0,
            left,
        };
        for _ in 0..left {
            self.0.spoe_item()?;
        }
        Ok(Message { name, args })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        // They were read before; where one cannot be, there are no more.
        self.read().ok()
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.reader.spoe_item().ok()
    }
}

/// Names and values up to the end of a frame.
pub(super) struct Items<'a>(Reader<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = Result<(&'a [u8], Value<'a>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.rest().is_empty() {
            return None;
        }
        let item = self.0.spoe_item();
        if item.is_err() {
            self.0.end();
        }
        Some(item)
    }
}

impl<'a> Reader<'a> {
    /// Takes a name and a value.
    fn spoe_item(&mut self) -> Result<(&'a [u8], Value<'a>), ReadError> {
        Ok((self.spoe_string()?, self.spoe_value()?))
    }
}
