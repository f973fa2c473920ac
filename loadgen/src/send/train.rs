//! Trains: datagrams one behind the other. They leave together if the kernel can split them (`UDP_SEGMENT`, udp(7)),
//! and else one by one.

use std::io;
use std::net::UdpSocket;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use rmbd_udp::send_segments;
use rustix::io::Errno;

use crate::flight::is_refusal;
use crate::plan::{DATAGRAM_BYTES, Load, SEGMENTS_MAX, TRAIN_BYTES_MAX};

/// Time to wait if the kernel has no room.
const ROOM_WAIT: Duration = Duration::from_micros(50);

/// A train. All its memory is allocated at the start.
pub(crate) struct Train {
    bytes: Box<[u8]>,
    len: usize,
    /// The end of each datagram.
    ends: Vec<usize>,
    datagrams_max: usize,
    /// Bytes of each datagram but the last, if the kernel splits the train.
    segment_bytes: Option<usize>,
}

impl Train {
    /// A train for the datagrams of a load.
    pub(crate) fn of(load: &Load) -> Self {
        let segment_bytes = load.gso.then(|| load.segment_bytes());
        Self::new(segment_bytes, load.datagrams_per_train())
    }

    /// A train for this many datagrams, and one more that ends it.
    pub(crate) fn new(segment_bytes: Option<usize>, datagrams_max: usize) -> Self {
        let bytes = TRAIN_BYTES_MAX.max(DATAGRAM_BYTES * datagrams_max) + DATAGRAM_BYTES;
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            len: 0,
            ends: Vec::with_capacity(SEGMENTS_MAX + 1),
            datagrams_max,
            segment_bytes,
        }
    }

    /// Number of datagrams that the train holds.
    pub(crate) fn datagrams_max(&self) -> usize {
        self.datagrams_max
    }

    /// Whether another whole datagram fits.
    pub(crate) fn has_room(&self) -> bool {
        self.ends.len() < self.datagrams_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The datagrams of the train, padding included.
    pub(crate) fn datagrams(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let all = 0..self.ends.len();
        all.map(|index| &self.bytes[self.bytes_of(index)..self.ends[index]])
    }

    /// Bytes of the whole train.
    pub(crate) fn bytes(&self) -> usize {
        self.len
    }

    /// Bytes of the train's first `datagrams`.
    pub(crate) fn bytes_of(&self, datagrams: usize) -> usize {
        let last = datagrams.checked_sub(1);
        last.map_or(0, |last| self.ends[last])
    }

    /// Room for `N` more bytes in the datagram that is being written.
    pub(crate) fn append<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let slot = self.bytes[self.len..].first_chunk_mut();
        debug_assert!(slot.is_some(), "a train has room for its datagrams");
        self.len += if slot.is_some() { N } else { 0 };
        slot
    }

    /// Ends the datagram that is being written.
    pub(crate) fn end_datagram(&mut self) {
        self.ends.push(self.len);
    }

    /// Opens the last datagram again, to write more into it.
    pub(crate) fn reopen_datagram(&mut self) {
        self.ends.pop();
    }

    /// Adds a whole datagram of at most a segment. If the kernel splits the train, the datagram before it is padded to
    /// a whole segment; padding is no operation.
    pub(crate) fn push(&mut self, datagram: &[u8]) {
        self.pad();
        let end = self.len + datagram.len();
        let Some(slot) = self.bytes.get_mut(self.len..end) else {
            debug_assert!(false, "a train has room for its datagrams");
            return;
        };
        slot.copy_from_slice(datagram);
        self.len = end;
        self.end_datagram();
    }

    fn pad(&mut self) {
        let (Some(segment_bytes), Some(start)) =
            (self.segment_bytes, self.ends.len().checked_sub(1))
        else {
            return;
        };
        let end = self.bytes_of(start) + segment_bytes;
        if let Some(padding) = self.bytes.get_mut(self.len..end) {
            padding.fill(0);
            self.ends[start] = end;
            self.len = end;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.ends.clear();
    }

    /// Sends the train. Returns how many datagrams left, and the error if not all did. `leave` is told which datagrams
    /// are about to leave, since their answers may be here before the system call returns. It waits if the kernel has
    /// no room. It tries again if the kernel reports that an *earlier* datagram found no server, unless `give_up`
    /// returns true (`Interrupted`).
    pub(crate) fn send(
        &self,
        socket: &UdpSocket,
        give_up: impl Fn() -> bool,
        mut leave: impl FnMut(Range<usize>),
    ) -> (usize, io::Result<()>) {
        let datagrams = self.ends.len();
        if let Some(segment_bytes) = self.segment_bytes {
            leave(0..datagrams);
            let sent = patiently(&give_up, || {
                // The length is at most 65 507.
                let segment_bytes = segment_bytes as u16;
                send_segments(socket, None, &self.bytes[..self.len], segment_bytes)
            });
            let left = if sent.is_ok() { datagrams } else { 0 };
            return (left, sent);
        }
        for (left, datagram) in self.datagrams().enumerate() {
            leave(left..left + 1);
            let sent = patiently(&give_up, || socket.send(datagram));
            if sent.is_err() {
                return (left, sent);
            }
        }
        (datagrams, Ok(()))
    }
}

fn patiently(
    give_up: &impl Fn() -> bool,
    mut send: impl FnMut() -> io::Result<usize>,
) -> io::Result<()> {
    loop {
        let Err(error) = send() else {
            return Ok(());
        };
        match Errno::from_io_error(&error) {
            _ if is_refusal(&error) => {}
            // There is no room in a queue of the network card or of the socket.
            Some(Errno::NOBUFS | Errno::AGAIN) => thread::sleep(ROOM_WAIT),
            _ => return Err(error),
        }
        if give_up() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}
