//! Operations on their way into datagrams.

use std::collections::VecDeque;
use std::time::Duration;

use rmbd_proto::compact::{
    COOKIE_FIELD_BYTES_MAX, Header, Once, Operation, RequestWriter, WriteError, boot_at,
    write_with_sequence,
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
    /// Whether operations add.
    pub(super) adds: bool,
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

/// Operations of one kind: those that add, once, or those that only ask. Each sketch has a lane of its own, since a
/// datagram is for one; sealed batches of all of them stand in one line.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    /// Which client, where they add.
    client: Option<u64>,
    lanes: Vec<Lane<T>>,
    /// Of the lane that was used last.
    at: usize,
    /// Of the next batch that is sealed, in all lanes.
    sequence: u64,
    /// Not sent yet.
    pub(super) sealed: VecDeque<Batch<T>>,
}

/// Lanes that are kept where nothing waits in them: nodes have few sketches.
const LANES_KEPT: usize = 16;

impl<T> Lanes<T> {
    /// For operations that add (with the client's number), or that only ask.
    pub(super) fn new(client: Option<u64>) -> Self {
        Self {
            client,
            lanes: vec![Lane::new(client, SketchNumber::DEFAULT)],
            at: 0,
            sequence: 0,
            sealed: VecDeque::new(),
        }
    }

    /// Writes an operation, whose token is to follow. The time is asked for where a batch begins.
    #[inline]
    pub(super) fn place(
        &mut self,
        sketch: SketchNumber,
        operation: Operation<'_>,
        now: impl Fn() -> Duration,
    ) -> Result<(), WriteError> {
        if self
            .lanes
            .get(self.at)
            .is_none_or(|lane| lane.sketch != sketch)
        {
            self.turn_to(sketch);
        }
        let Some(lane) = self.lanes.get_mut(self.at) else {
            return Err(WriteError::Full);
        };
        // One verdict is remembered for a request.
        if lane.takes && self.client.is_some() && operation.may_take() {
            self.sealed.extend(lane.seal(&mut self.sequence, false));
        }
        if lane.tokens.is_empty() {
            lane.open(self.sequence, now())?;
        }
        if let Err(error) = lane.write(operation) {
            if error != WriteError::Full {
                return Err(error);
            }
            self.sealed.extend(lane.seal(&mut self.sequence, true));
            lane.open(self.sequence, now())?;
            lane.write(operation)?;
        }
        Ok(())
    }

    /// Of the operation that was just placed.
    #[inline]
    pub(super) fn push_token(&mut self, token: T) {
        if let Some(lane) = self.lanes.get_mut(self.at) {
            lane.tokens.push(token);
        }
    }

    /// Closes the open batches, so that they can be sent.
    pub(super) fn flush(&mut self) {
        for lane in &mut self.lanes {
            self.sealed.extend(lane.seal(&mut self.sequence, false));
        }
        self.lanes.truncate(LANES_KEPT);
    }

    /// When the first of the open batches was opened.
    pub(super) fn opened_at(&self) -> Option<Duration> {
        let open = self.lanes.iter().filter(|lane| !lane.tokens.is_empty());
        open.map(|lane| lane.opened_at).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.lanes.iter().all(|lane| lane.tokens.is_empty())
    }

    #[cold]
    fn turn_to(&mut self, sketch: SketchNumber) {
        let known = self.lanes.iter().position(|lane| lane.sketch == sketch);
        self.at = known.unwrap_or_else(|| {
            self.lanes.push(Lane::new(self.client, sketch));
            self.lanes.len() - 1
        });
    }
}

/// The open batch of one sketch.
#[derive(Debug)]
struct Lane<T> {
    client: Option<u64>,
    sketch: SketchNumber,
    /// Bytes of a full datagram. They are padded to it, since datagrams of one size go to the kernel together.
    full_bytes: usize,
    writer: RequestWriter,
    /// Stands in the open batch until it is sealed, since batches of other sketches may be sealed before.
    expected: u64,
    tokens: Vec<T>,
    asks: bool,
    adds: bool,
    takes: bool,
    opened_at: Duration,
}

/// Batches of other sketches that may be sealed while one is open without its sequence becoming longer than its place.
const OVERTAKEN_MAX: u64 = 1 << 12;

impl<T> Lane<T> {
    fn new(client: Option<u64>, sketch: SketchNumber) -> Self {
        let full_bytes = match client {
            Some(_) => ADDING_BYTES,
            None => DATAGRAM_BYTES,
        };
        Self {
            client,
            sketch,
            full_bytes,
            writer: RequestWriter::new(full_bytes),
            expected: 0,
            tokens: Vec::new(),
            asks: false,
            adds: false,
            takes: false,
            opened_at: Duration::ZERO,
        }
    }

    fn open(&mut self, sequence: u64, now: Duration) -> Result<(), WriteError> {
        self.opened_at = now;
        self.expected = sequence + OVERTAKEN_MAX;
        self.writer.start(&Header {
            acknowledge: true,
            sketch: self.sketch,
            // The boot may not be known yet.
            once: self.client.map(|client| Once {
                boot: Boot(0),
                client,
                sequence: self.expected,
            }),
            ..Header::default()
        })
    }

    #[inline]
    fn write(&mut self, operation: Operation<'_>) -> Result<(), WriteError> {
        self.writer.operation(operation)?;
        if operation.has_answer() {
            self.asks = true;
            self.adds |= operation.weight() > 0;
            self.takes |= operation.may_take();
        }
        Ok(())
    }

    /// The open batch, as the next one of all.
    fn seal(&mut self, sequence: &mut u64, full: bool) -> Option<Batch<T>> {
        if self.tokens.is_empty() {
            return None;
        }
        let mut datagram = Vec::with_capacity(self.full_bytes);
        let written = self.writer.finish();
        let sequence = self.client.map(|_| {
            let this = *sequence;
            *sequence += 1;
            this
        });
        match sequence {
            Some(sequence) => write_with_sequence(written, sequence, &mut datagram),
            None => datagram.extend_from_slice(written),
        }
        // A shorter sequence must not make the reply too long for it.
        let bytes = if full { self.full_bytes } else { written.len() };
        datagram.resize(bytes.max(datagram.len()), 0);
        let capacity = self.tokens.len();
        self.takes = false;
        Some(Batch {
            datagram,
            tokens: std::mem::replace(&mut self.tokens, Vec::with_capacity(capacity)),
            asks: std::mem::take(&mut self.asks),
            adds: std::mem::take(&mut self.adds) || sequence.is_some(),
            sequence,
            sketch: self.sketch,
            queued_at: self.opened_at,
            first_sent: None,
        })
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
        let mut lanes = Lanes::new(Some(7));
        for n in 0..200 {
            let key = b"a key of 16 byte";
            let add = Operation::Add { key, weight: 1 };
            lanes.place(sketch, add, || Duration::ZERO).unwrap();
            lanes.push_token(n);
        }
        lanes.flush();
        assert!(lanes.opened_at().is_none());
        let lengths: Vec<_> = lanes.sealed.iter().map(|b| b.datagram.len()).collect();
        assert_eq!(lengths[..2], [1383, 1383]);
        for (number, mut batch) in lanes.sealed.into_iter().enumerate() {
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

    #[test]
    fn sketches_have_lanes_of_their_own_and_one_line_of_sequences() {
        let mut lanes = Lanes::new(Some(7));
        for n in 0..3_000_u32 {
            let key = b"a key of 16 byte";
            let add = Operation::Add { key, weight: 1 };
            let sketch = SketchNumber(n % 30);
            lanes.place(sketch, add, || Duration::ZERO).unwrap();
            lanes.push_token(n);
            if n % 1_000 == 999 {
                lanes.flush();
                assert_eq!(lanes.lanes.len(), LANES_KEPT);
            }
        }
        assert_eq!(lanes.sealed.len(), 90);
        for (number, batch) in lanes.sealed.into_iter().enumerate() {
            let request = request(&batch.datagram).unwrap();
            assert_eq!(request.once.unwrap().sequence, number as u64);
            assert_eq!(request.operations().count(), batch.tokens.len());
            let sketch = request.sketch.0;
            assert!(batch.tokens.iter().all(|token| token % 30 == sketch));
        }
    }

    #[test]
    fn one_that_takes_is_in_a_request_that_counts_once() {
        for (client, batches) in [(Some(7), 5), (None, 1)] {
            let mut lanes = Lanes::new(client);
            for n in 0..10 {
                let add = Operation::Add {
                    key: b"a",
                    weight: 1,
                };
                let take = Operation::HitByName {
                    name: b"n",
                    key: b"a",
                    weight: 1,
                };
                let operation = if n % 2 == 0 { add } else { take };
                lanes
                    .place(SketchNumber::DEFAULT, operation, || Duration::ZERO)
                    .unwrap();
                lanes.push_token(n);
            }
            lanes.flush();
            assert_eq!(lanes.sealed.len(), batches);
        }
    }
}
