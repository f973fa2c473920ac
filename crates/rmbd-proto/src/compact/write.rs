//! Writing requests.

use thiserror::Error;

use super::{
    AMPLIFICATION_MAX, COOKIE_BYTES_MAX, FLAG_ACKNOWLEDGE, FLAG_COOKIE, FLAG_ONCE, FLAG_TOKEN,
    Limits, Once, Operation, PADDING, PREFIX_BYTES, REPLY_BYTES_MAX, REPLY_HEAD_BYTES, REQUEST,
    TOKEN_BYTES_MAX, VERSION, flag, request,
};
use crate::{SketchNumber, varint};

/// The fields before the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header<'a> {
    /// Echoed by the reply.
    pub id: u32,
    /// Ask for a reply even where no operation does.
    pub acknowledge: bool,
    /// Which sketch; 0 is the one that every node has. The parts of [`Limits`](super::Limits) name their own.
    pub sketch: SketchNumber,
    /// At most 255 bytes.
    pub token: Option<&'a [u8]>,
    /// Make the weights count once.
    pub once: Option<Once>,
    /// What the node has sent to this address lately; at most 16 bytes.
    pub cookie: Option<&'a [u8]>,
}

/// A part that does not fit. The request is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The request, or its reply, would be too long: send it, and start another.
    #[error("the request is full: nothing was added to it, send it and start another")]
    Full,
    /// A key above [`KEY_BYTES_MAX`](super::KEY_BYTES_MAX).
    #[error("a key of {bytes} bytes was not written: at most 1024 are possible, send a hash of it")]
    KeyTooLong {
        /// Bytes of the key.
        bytes: usize,
    },
    /// The name of a limit of more than 255 bytes.
    #[error("a limit's name of {bytes} bytes was not written: at most 255 are possible")]
    NameTooLong {
        /// Bytes of the name.
        bytes: usize,
    },
    /// No limit in one operation, or more than [`LIMIT_PARTS_MAX`](super::LIMIT_PARTS_MAX).
    #[error(
        "{parts} limits were not written: one operation has 1 to 8, ask for others in another one"
    )]
    LimitParts {
        /// How many there are.
        parts: usize,
    },
    /// A token above [`TOKEN_BYTES_MAX`].
    #[error("a token of {bytes} bytes is not possible: at most 255 are")]
    TokenTooLong {
        /// Bytes of the token.
        bytes: usize,
    },
    /// A cookie above [`COOKIE_BYTES_MAX`].
    #[error("a cookie of {bytes} bytes is not possible: nodes give at most 16")]
    CookieTooLong {
        /// Bytes of the cookie.
        bytes: usize,
    },
}

/// Appends a request that was written without a cookie to `out`, with one: the same request, of the same
/// sequence, as a node asks for it ([`Problem::AddressUnproven`](super::Problem::AddressUnproven)). What is no
/// request, or has a cookie already, and a cookie above [`COOKIE_BYTES_MAX`], is appended as it is, without.
///
/// ```
/// use rmbd_proto::Boot;
/// use rmbd_proto::compact::{Header, Once, RequestWriter, request, write_with_cookie};
///
/// let mut writer = RequestWriter::new(1400);
/// let once = Some(Once { boot: Boot(1), client: 2, sequence: 3 });
/// writer.start(&Header { once, ..Header::default() })?;
/// writer.add(b"abc", 1)?;
/// let mut out = Vec::new();
/// write_with_cookie(writer.finish(), b"proof", &mut out);
/// let written = request(&out).unwrap();
/// assert_eq!((written.once, written.cookie), (once, Some(&b"proof"[..])));
/// # Ok::<(), rmbd_proto::compact::WriteError>(())
/// ```
pub fn write_with_cookie(datagram: &[u8], cookie: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let takes_one = |request: &super::Request<'_>| request.cookie.is_none();
    match request(datagram).ok().filter(takes_one) {
        Some(request) if cookie.len() <= COOKIE_BYTES_MAX => {
            let (header, operations) = datagram.split_at(datagram.len() - request.operations.len());
            out.extend_from_slice(header);
            out[start + FLAGS_AT] |= FLAG_COOKIE;
            out.push(cookie.len() as u8);
            out.extend_from_slice(cookie);
            out.extend_from_slice(operations);
        }
        _ => out.extend_from_slice(datagram),
    }
}

/// Appends a once-request that was written with another sequence to `out`, with this one. What is no once-request is
/// appended as it is.
pub fn write_with_sequence(datagram: &[u8], sequence: u64, out: &mut Vec<u8>) {
    let parsed = request(datagram).ok();
    let sequence_at = parsed.and_then(|request| {
        let once = request.once?;
        let token = request.token.map_or(0, |token| 1 + token.len());
        let at = boot_at(request.sketch) + token + ONCE_FIXED_BYTES;
        Some((at, at + varint::bytes(once.sequence)))
    });
    let (before, behind) = match sequence_at {
        Some((start, end)) => (&datagram[..start], &datagram[end..]),
        None => return out.extend_from_slice(datagram),
    };
    out.extend_from_slice(before);
    varint::write(sequence, out);
    out.extend_from_slice(behind);
}

/// Boot and client, before the sequence.
const ONCE_FIXED_BYTES: usize = 8 + 8;

/// Where the boot stands in a request with once, without a token.
#[must_use]
pub fn boot_at(sketch: SketchNumber) -> usize {
    PREFIX_BYTES + varint::bytes(sketch.0.into())
}

/// Where the flags stand in every request.
const FLAGS_AT: usize = 1;

/// One request after the other in the same memory. It keeps the request, and the reply that the
/// operations ask for, within their limits.
///
/// ```
/// use rmbd_proto::compact::{Header, RequestWriter};
///
/// let mut writer = RequestWriter::new(1400);
/// writer.start(&Header { id: 42, acknowledge: true, ..Header::default() })?;
/// writer.add(b"abc", 1)?;
/// writer.add(b"x", 1000)?;
/// assert_eq!(writer.finish(), b"\xc1\x01\x2a\0\0\0\0\x01\x03abc\x02\x01x\xe8\x07");
/// # Ok::<(), rmbd_proto::compact::WriteError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RequestWriter {
    bytes: Vec<u8>,
    bytes_max: usize,
    operations: usize,
    /// Of the reply, head and answers.
    reply_bytes: usize,
}

impl RequestWriter {
    /// For requests of at most `bytes_max` bytes; 1 400 stay whole on their way through nearly all
    /// networks.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes_max),
            bytes_max,
            operations: 0,
            reply_bytes: REPLY_HEAD_BYTES,
        }
    }

    /// Forgets the request so far and begins another.
    ///
    /// # Errors
    /// [`WriteError::TokenTooLong`], [`WriteError::CookieTooLong`]; [`WriteError::Full`] where the header alone
    /// is too long.
    pub fn start(&mut self, header: &Header<'_>) -> Result<(), WriteError> {
        self.bytes.clear();
        self.operations = 0;
        self.reply_bytes = REPLY_HEAD_BYTES;
        let flags = flag(FLAG_ACKNOWLEDGE, header.acknowledge)
            | flag(FLAG_ONCE, header.once.is_some())
            | flag(FLAG_TOKEN, header.token.is_some())
            | flag(FLAG_COOKIE, header.cookie.is_some());
        self.bytes.extend([REQUEST | VERSION, flags]);
        self.bytes.extend(header.id.to_le_bytes());
        self.varint(header.sketch.0.into());
        if let Some(token) = header.token {
            let bytes = token.len();
            let length = u8::try_from(bytes).map_err(|_| WriteError::TokenTooLong { bytes })?;
            const { assert!(TOKEN_BYTES_MAX == u8::MAX as usize) };
            self.bytes.push(length);
            self.bytes.extend(token);
        }
        if let Some(once) = header.once {
            self.bytes.extend(once.boot.0.to_le_bytes());
            self.bytes.extend(once.client.to_le_bytes());
            self.varint(once.sequence);
        }
        if let Some(cookie) = header.cookie {
            let bytes = cookie.len();
            if bytes > COOKIE_BYTES_MAX {
                return Err(WriteError::CookieTooLong { bytes });
            }
            self.bytes.push(bytes as u8);
            self.bytes.extend(cookie);
        }
        match self.bytes.len() <= self.bytes_max {
            true => Ok(()),
            false => Err(WriteError::Full),
        }
    }

    /// How many operations the request has.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// Pads the request so that its reply is not too long for it, and returns it. Call
    /// [`start`](Self::start) for the next one.
    pub fn finish(&mut self) -> &[u8] {
        let asks = self.reply_bytes > REPLY_HEAD_BYTES;
        if asks {
            let bytes = self.reply_bytes.div_ceil(AMPLIFICATION_MAX);
            self.bytes.resize(self.bytes.len().max(bytes), PADDING);
        }
        &self.bytes
    }

    /// Writes an operation.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`], [`WriteError::NameTooLong`].
    #[inline]
    pub fn operation(&mut self, operation: Operation<'_>) -> Result<(), WriteError> {
        let start = self.bytes.len();
        let answer_bytes_max = operation.write(&mut self.bytes)?;
        self.keep_if_it_fits(start, answer_bytes_max)
    }

    #[inline]
    fn keep_if_it_fits(&mut self, start: usize, answer_bytes_max: usize) -> Result<(), WriteError> {
        let reply_bytes = self.reply_bytes + answer_bytes_max;
        let padded = self
            .bytes
            .len()
            .max(reply_bytes.div_ceil(AMPLIFICATION_MAX));
        if padded > self.bytes_max || reply_bytes > REPLY_BYTES_MAX {
            self.bytes.truncate(start);
            return Err(WriteError::Full);
        }
        self.reply_bytes = reply_bytes;
        self.operations += 1;
        Ok(())
    }

    #[inline]
    fn varint(&mut self, value: u64) {
        varint::write(value, &mut self.bytes);
    }
}

/// One method for each operation.
impl RequestWriter {
    /// Adds `weight` to `key`.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    #[inline]
    pub fn add(&mut self, key: &[u8], weight: u64) -> Result<(), WriteError> {
        self.operation(Operation::Add { key, weight })
    }

    /// Asks for the estimate of `key`.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    #[inline]
    pub fn count(&mut self, key: &[u8]) -> Result<(), WriteError> {
        self.operation(Operation::Count { key })
    }

    /// Adds `weight` to `key` and asks whether its estimate is then within `limit`; `window_ms` 0 is
    /// all time.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    #[inline]
    pub fn hit(
        &mut self,
        key: &[u8],
        weight: u64,
        limit: u64,
        window_ms: u64,
    ) -> Result<(), WriteError> {
        self.operation(Operation::Hit {
            key,
            weight,
            limit,
            window_ms,
        })
    }

    /// Asks for the estimate of `key`, its lower bound, and N.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    #[inline]
    pub fn bounds(&mut self, key: &[u8]) -> Result<(), WriteError> {
        self.operation(Operation::Bounds { key })
    }

    /// Asks what the node is.
    ///
    /// # Errors
    /// [`WriteError::Full`].
    pub fn info(&mut self) -> Result<(), WriteError> {
        self.operation(Operation::Info)
    }

    /// Asks for the count of `key` within the last `window_ms`, 0 being all time, as *smooth* or as *bound*.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    pub fn window(&mut self, key: &[u8], window_ms: u64, smooth: bool) -> Result<(), WriteError> {
        self.operation(Operation::Window {
            key,
            window_ms,
            smooth,
        })
    }

    /// Adds to keys, and asks whether all are within their limits; see [`Limits::write`].
    ///
    /// # Errors
    /// [`WriteError::Full`].
    pub fn limits(&mut self, limits: Limits<'_>) -> Result<(), WriteError> {
        self.operation(Operation::Limits(limits))
    }

    /// Asks which sketches the node has, from the position `first` of its list on.
    ///
    /// # Errors
    /// [`WriteError::Full`], as in every request that asks for something else, too.
    pub fn sketches(&mut self, first: u64) -> Result<(), WriteError> {
        self.operation(Operation::Sketches { first })
    }

    /// Adds `weight` to `key` as the limit of this name says, and asks whether that is within it.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`], [`WriteError::NameTooLong`].
    pub fn hit_by_name(&mut self, name: &[u8], key: &[u8], weight: u64) -> Result<(), WriteError> {
        self.operation(Operation::HitByName { name, key, weight })
    }

    /// Forgives `key` for `for_ms` what it has in the window of the limit of this name.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`], [`WriteError::NameTooLong`].
    pub fn pardon(&mut self, name: &[u8], key: &[u8], for_ms: u64) -> Result<(), WriteError> {
        self.operation(Operation::Pardon { name, key, for_ms })
    }

    /// Asks for at most `most` of the largest keys, of all time (`window_ms` 0) or in a window, from the position
    /// `first` of their list on.
    ///
    /// # Errors
    /// [`WriteError::Full`], as in every request that asks for something else, too.
    pub fn top(&mut self, window_ms: u64, first: u64, most: u64) -> Result<(), WriteError> {
        self.operation(Operation::Top {
            window_ms,
            first,
            most,
        })
    }
}
