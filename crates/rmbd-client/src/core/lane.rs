//! Operations on their way into datagrams.

use std::collections::VecDeque;
use std::time::Duration;

use rmbd_proto::compact::{
    COOKIE_FIELD_BYTES_MAX, Header, Once, Operation, RequestWriter, WriteError, boot_at,
};
use rmbd_proto::{Boot, SketchNumber};

/// Bytes of the longest datagram: stays whole on its way through nearly all networks.
pub(crate) const DATAGRAM_BYTES: usize = 1400;
/// Bytes of a datagram that adds when it is full: it may have to go again with a cookie, and is the same
/// request then.
const ADDING_BYTES: usize = DATAGRAM_BYTES - COOKIE_FIELD_BYTES_MAX;

/// Where the id stands in every request.
const ID_AT: usize = 2;

/// A datagram's worth of operations.
#[derive(Debug)]
pub(super) struct Batch<T> {
    /// As it was when the first copy was sent, but for the id, and without a cookie.
    pub(super) datagram: Vec<u8>,
    /// One for each operation.
    pub(super) tokens: Vec<T>,
    /// Whether operations have answers.
    pub(super) asks: bool,
    /// Present where weights shall count once.
    pub(super) sequence: Option<u64>,
    pub(super) sketch: SketchNumber,
    pub(super) queued_at: Duration,
    /// When the first copy went out, if that was to another address.
    pub(super) first_sent: Option<Duration>,
}

impl<T> Batch<T> {
    pub(super) fn set_id(&mut self, id: u32) {
        self.datagram[ID_AT..][..4].copy_from_slice(&id.to_le_bytes());
    }

    /// Of a batch with a sequence.
    pub(super) fn set_boot(&mut self, boot: Boot) {
        self.datagram[boot_at(self.sketch)..][..8].copy_from_slice(&boot.0.to_le_bytes());
    }
}

/// Operations of one kind: those that add, once, or those that only ask.
#[derive(Debug)]
pub(super) struct Lane<T> {
    /// Which client, in the lane of those that add.
    client: Option<u64>,
    sketch: SketchNumber,
    /// Of the open batch.
    sequence: u64,
    /// Bytes of a full datagram. They are padded to it, since datagrams of one size go to the kernel together.
    full_bytes: usize,
    writer: RequestWriter,
    tokens: Vec<T>,
    asks: bool,
    opened_at: Duration,
    /// Not sent yet.
    pub(super) sealed: VecDeque<Batch<T>>,
}

impl<T> Lane<T> {
    /// For operations that add (with the client's number), or that only ask.
    pub(super) fn new(client: Option<u64>) -> Self {
        let full_bytes = match client {
            Some(_) => ADDING_BYTES,
            None => DATAGRAM_BYTES,
        };
        Self {
            client,
            sketch: SketchNumber::DEFAULT,
            sequence: 0,
            full_bytes,
            writer: RequestWriter::new(full_bytes),
            tokens: Vec::new(),
            asks: false,
            opened_at: Duration::ZERO,
            sealed: VecDeque::new(),
        }
    }

    /// Writes an operation, whose token is to follow. The time is asked for where a batch begins.
    #[inline]
    pub(super) fn place(
        &mut self,
        operation: Operation<'_>,
        now: impl Fn() -> Duration,
    ) -> Result<(), WriteError> {
        if self.tokens.is_empty() {
            self.open(now())?;
        }
        if let Err(error) = self.write(operation) {
            if error != WriteError::Full {
                return Err(error);
            }
            self.seal(true);
            self.open(now())?;
            self.write(operation)?;
        }
        Ok(())
    }

    /// Of the operation that was just placed.
    #[inline]
    pub(super) fn push_token(&mut self, token: T) {
        self.tokens.push(token);
    }

    /// Closes the open batch, so that it can be sent.
    pub(super) fn flush(&mut self) {
        self.seal(false);
    }

    /// When the open batch was opened.
    pub(super) fn opened_at(&self) -> Option<Duration> {
        (!self.tokens.is_empty()).then_some(self.opened_at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.sealed.is_empty()
    }

    fn open(&mut self, now: Duration) -> Result<(), WriteError> {
        self.opened_at = now;
        self.writer.start(&Header {
            acknowledge: true,
            sketch: self.sketch,
            // The boot may not be known yet.
            once: self.client.map(|client| Once {
                boot: Boot(0),
                client,
                sequence: self.sequence,
            }),
            ..Header::default()
        })
    }

    #[inline]
    fn write(&mut self, operation: Operation<'_>) -> Result<(), WriteError> {
        self.writer.operation(operation)?;
        if operation.has_answer() {
            self.asks = true;
        }
        Ok(())
    }

    fn seal(&mut self, full: bool) {
        if self.tokens.is_empty() {
            return;
        }
        let mut datagram = self.writer.finish().to_vec();
        if full {
            datagram.resize(self.full_bytes, 0);
        }
        let capacity = self.tokens.len();
        self.sealed.push_back(Batch {
            datagram,
            tokens: std::mem::replace(&mut self.tokens, Vec::with_capacity(capacity)),
            asks: std::mem::take(&mut self.asks),
            sequence: self.client.map(|_| self.sequence),
            sketch: self.sketch,
            queued_at: self.opened_at,
            first_sent: None,
        });
        self.sequence += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rmbd_proto::compact::request;

    #[test]
    fn id_and_boot_are_patched_where_they_stand() {
        for sketch in [0, 1, 127, 128, 1 << 21, u32::MAX] {
            are_patched(SketchNumber(sketch));
        }
    }

    fn are_patched(sketch: SketchNumber) {
        let mut lane = Lane::new(Some(7));
        lane.sketch = sketch;
        for n in 0..200 {
            let key = b"a key of 16 byte";
            let add = Operation::Add { key, weight: 1 };
            lane.place(add, || Duration::ZERO).unwrap();
            lane.push_token(n);
        }
        lane.flush();
        assert!(lane.is_empty() || lane.opened_at().is_none());
        let lengths: Vec<_> = lane.sealed.iter().map(|b| b.datagram.len()).collect();
        assert_eq!(lengths[..2], [1383, 1383]);
        for (number, mut batch) in lane.sealed.into_iter().enumerate() {
            batch.set_id(0x0102_0304);
            batch.set_boot(Boot(u64::MAX - 1));
            let request = request(&batch.datagram).unwrap();
            let once = request.once.unwrap();
            assert_eq!((request.id, request.sketch), (0x0102_0304, sketch));
            assert_eq!((once.boot, once.client), (Boot(u64::MAX - 1), 7));
            assert_eq!(Some(once.sequence), batch.sequence);
            assert_eq!(once.sequence, number as u64);
            assert_eq!(request.operations().count(), batch.tokens.len());
        }
    }
}
