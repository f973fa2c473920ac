//! Reading a request.

use std::iter::FusedIterator;

use super::operation::{Operation, may_have_answer};
use super::{
    FLAG_ACKNOWLEDGE, FLAG_COOKIE, FLAG_ONCE, FLAG_TOKEN, FLAGS_KNOWN, PADDING, Problem, REQUEST,
    VERSION,
};
use crate::reader::{ReadError, Reader};
use crate::{Boot, SketchNumber};

/// A request whose header has been read, borrowed from its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The client's own number of it.
    pub id: u32,
    /// Reply even where no operation asks.
    pub acknowledge: bool,
    /// Which sketch it is for.
    pub sketch: SketchNumber,
    /// 0 to 255 bytes.
    pub token: Option<&'a [u8]>,
    /// Present where its weights shall count once.
    pub once: Option<Once>,
    /// 0 to 255 bytes: what shows that the client receives at its address.
    pub cookie: Option<&'a [u8]>,
    pub(super) operations: &'a [u8],
}

impl<'a> Request<'a> {
    /// The operations, in order. At most one `Err`, as the last item.
    #[inline]
    #[must_use]
    pub fn operations(&self) -> Operations<'a> {
        Operations {
            rest: self.operations,
        }
    }
}

/// Which request of which client this is, for which start of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// The start of the node that the client speaks to.
    pub boot: Boot,
    /// The client's random number.
    pub client: u64,
    /// Number of the request, going up by one.
    pub sequence: u64,
}

/// A datagram that is no request. Nothing of it may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub problem: Problem,
    /// For the reply; `None` where nothing can be replied to.
    pub id: Option<u32>,
}

/// The end of a request before its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Why.
    pub problem: Problem,
    /// Whether the operation at fault may have had an answer.
    pub asks: bool,
}

/// Reads a request's header. The first byte is to be one of [`is_request`](super::is_request).
///
/// ```
/// use rmbd_proto::compact::{Operation, Problem, request};
///
/// let datagram = b"\xc1\x01\x2a\0\0\0\0\x01\x03abc\x02\x01x\xe8\x07\x03";
/// let request = request(datagram).unwrap();
/// assert_eq!((request.id, request.acknowledge), (42, true));
/// let mut operations = request.operations();
/// assert_eq!(operations.next(), Some(Ok(Operation::Add { key: b"abc", weight: 1 })));
/// assert_eq!(operations.next(), Some(Ok(Operation::Add { key: b"x", weight: 1000 })));
/// let stopped = operations.next().unwrap().unwrap_err(); // a count without a key
/// assert_eq!(stopped.problem, Problem::CutOff);
/// assert_eq!(operations.next(), None);
/// ```
///
/// # Errors
/// [`Rejected`]: the header is not understood.
#[inline]
pub fn request(datagram: &[u8]) -> Result<Request<'_>, Rejected> {
    let &[first, flags, a, b, c, d, ref rest @ ..] = datagram else {
        return Err(Rejected {
            problem: Problem::Short,
            id: None,
        });
    };
    let id = u32::from_le_bytes([a, b, c, d]);
    let rejected = |problem| Rejected {
        problem,
        id: Some(id),
    };
    if first != REQUEST | VERSION {
        return Err(rejected(Problem::UnknownVersion));
    }
    if flags & !FLAGS_KNOWN != 0 {
        return Err(rejected(Problem::UnknownFlags));
    }
    header(id, flags, Reader::new(rest)).map_err(rejected)
}

#[inline]
fn header(id: u32, flags: u8, reader: Reader<'_>) -> Result<Request<'_>, Problem> {
    let (sketch, request) = header_of_any(id, flags, reader).map_err(|_| Problem::Header)?;
    let sketch = u32::try_from(sketch).map_err(|_| Problem::UnknownSketch)?;
    Ok(Request {
        sketch: SketchNumber(sketch),
        ..request
    })
}

/// The number of the sketch, which may be larger than one can be, and all else.
#[inline]
fn header_of_any(
    id: u32,
    flags: u8,
    mut reader: Reader<'_>,
) -> Result<(u64, Request<'_>), ReadError> {
    let sketch = reader.varint()?;
    let mut token = None;
    if flags & FLAG_TOKEN != 0 {
        token = Some(reader.field()?);
    }
    let mut once = None;
    if flags & FLAG_ONCE != 0 {
        once = Some(Once {
            boot: Boot(reader.u64()?),
            client: reader.u64()?,
            sequence: reader.varint()?,
        });
    }
    let mut cookie = None;
    if flags & FLAG_COOKIE != 0 {
        cookie = Some(reader.field()?);
    }
    let request = Request {
        id,
        acknowledge: flags & FLAG_ACKNOWLEDGE != 0,
        sketch: SketchNumber::DEFAULT,
        token,
        once,
        cookie,
        operations: reader.rest(),
    };
    Ok((sketch, request))
}

/// Operations back to back, as [`Operation::write`] appends them.
///
/// ```
/// use rmbd_proto::compact::{Operation, operations};
///
/// let (count, mut out) = (Operation::Count { key: b"abc" }, Vec::new());
/// count.write(&mut out)?;
/// assert!(operations(&out).eq([Ok(count)]));
/// # Ok::<(), rmbd_proto::compact::WriteError>(())
/// ```
#[must_use]
pub fn operations(bytes: &[u8]) -> Operations<'_> {
    Operations { rest: bytes }
}

/// Iterator of [`Request::operations`].
#[derive(Debug, Clone)]
pub struct Operations<'a> {
    /// Not read yet.
    rest: &'a [u8],
}

impl<'a> Iterator for Operations<'a> {
    type Item = Result<Operation<'a>, Stopped>;

    // In a call of its own it takes a node a tenth of what it adds.
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        // Nearly all: whole, and with a key of less than 128 bytes.
        if let &[code, length @ 0..0x80, ref rest @ ..] = self.rest
            && let Some((key, rest)) = rest.split_at_checked(length.into())
        {
            let mut reader = Reader::new(rest);
            if let Ok(operation) = Operation::read_behind_key(code, Ok(key), &mut reader) {
                self.rest = reader.rest();
                return Some(Ok(operation));
            }
        }
        self.other()
    }
}

impl FusedIterator for Operations<'_> {}

impl<'a> Operations<'a> {
    /// The way for everything, errors included.
    #[inline(never)]
    fn other(&mut self) -> Option<Result<Operation<'a>, Stopped>> {
        let start = self.rest.iter().position(|&byte| byte != PADDING);
        let (&code, rest) = self.rest.get(start?..)?.split_first()?;
        let mut reader = Reader::new(rest);
        let operation = Operation::read(code, &mut reader).map_err(|problem| Stopped {
            problem,
            asks: may_have_answer(code),
        });
        // After an error nobody knows where the next operation begins.
        self.rest = operation.map_or(&[], |_| reader.rest());
        Some(operation)
    }
}
