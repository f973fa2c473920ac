//! Replies on their way out. Consecutive ones to one address leave in one system call (`UDP_SEGMENT`, udp(7)), which
//! gains more than anything else when answers are short.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use super::counters::{IoCounters, bump};
use super::socket::DataSocket;
use rmbd_udp::{
    CONTROL_BYTES, LocalAddress, NAME_BYTES, RawAddress, SEGMENTS_MAX, SEND_BYTES_MAX,
    empty_message, write_control_messages,
};

/// Number of bursts under way at once. With 64 replies each this is more than a socket's send buffer takes.
pub(super) const BURSTS: usize = 32;

/// Takes a handler's replies to the train that it was given, as whole datagrams. It never blocks and never allocates:
/// replies that the kernel does not take at once are dropped and counted, as UDP may drop them anyway.
pub struct Replies {
    socket: Arc<DataSocket>,
    counters: Arc<IoCounters>,
    to: Destination,
    bursts: Box<[Burst]>,
    free: Vec<usize>,
    /// The burst that is still growing.
    open: Option<usize>,
    /// Complete bursts that wait to be sent, oldest first.
    ready: VecDeque<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Destination {
    name: RawAddress,
    local: Option<LocalAddress>,
}

/// Datagrams of one size (the last may be shorter) to one address, with everything that their `sendmsg` points to.
/// Bursts lie in a boxed slice, so none of them moves.
struct Burst {
    to: Destination,
    bytes: Box<[u8]>,
    len: usize,
    segment_bytes: usize,
    segments: usize,
    name: [u8; NAME_BYTES],
    control: [u8; CONTROL_BYTES],
    slice: libc::iovec,
    message: libc::msghdr,
}

impl Replies {
    pub(super) fn new(socket: Arc<DataSocket>, counters: Arc<IoCounters>) -> Self {
        Self {
            socket,
            counters,
            to: Destination::default(),
            bursts: (0..BURSTS).map(|_| Burst::new()).collect(),
            free: (0..BURSTS).collect(),
            open: None,
            ready: VecDeque::with_capacity(BURSTS),
        }
    }

    /// Sends `datagram` to the sender of the current train, after all that was pushed before. A datagram of more than
    /// 65 507 bytes is dropped and counted.
    pub fn push(&mut self, datagram: &[u8]) {
        if datagram.len() > SEND_BYTES_MAX {
            return bump(&self.counters.replies_dropped, 1);
        }
        let burst = match self.open {
            Some(open) if self.bursts[open].takes(self.to, datagram.len()) => Some(open),
            _ => self.open_another(),
        };
        match burst {
            Some(burst) => self.bursts[burst].append(datagram),
            None => bump(&self.counters.replies_dropped, 1),
        }
    }

    /// Sets the address that the following replies go to.
    pub(super) fn set_destination(&mut self, name: RawAddress, local: Option<LocalAddress>) {
        self.to = Destination { name, local };
    }

    /// Completes the burst that is still growing, if there is one, so that it is ready to be sent.
    pub(super) fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.ready.push_back(open);
        }
    }

    /// The oldest complete burst, which the caller sends and then gives back by [`release`]. It is `None` if nothing
    /// is ready, or if the last burst would go: one always stays, so that [`push`](Self::push) finds room by sending
    /// the oldest itself.
    ///
    /// [`release`]: Self::release
    pub(super) fn take_ready(&mut self) -> Option<usize> {
        let here = self.free.len() + self.ready.len() + usize::from(self.open.is_some());
        (here > 1).then(|| self.ready.pop_front()).flatten()
    }

    /// Whether a complete burst waits that [`take_ready`](Self::take_ready) would hold back.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The message of a burst that [`take_ready`](Self::take_ready) gave. It is valid, like all that it points to,
    /// until the burst is released.
    pub(super) fn message(&mut self, burst: usize) -> &libc::msghdr {
        self.bursts[burst].message()
    }

    /// Takes a burst back that was sent or refused.
    ///
    /// # Safety
    /// - [`take_ready`](Self::take_ready) gave the burst, and it was not released since.
    /// - The kernel reads its message no more.
    #[allow(unsafe_code)]
    pub(super) unsafe fn release(&mut self, burst: usize, result: io::Result<usize>) {
        self.account(burst, result);
        self.free.push(burst);
    }

    /// Sends all bursts, complete or growing, with one system call for each.
    pub(super) fn flush(&mut self) {
        self.close();
        while let Some(burst) = self.ready.pop_front() {
            let result = self.send_now(burst);
            self.account(burst, result);
            self.free.push(burst);
        }
    }

    fn open_another(&mut self) -> Option<usize> {
        self.close();
        let burst = match self.free.pop() {
            Some(free) => free,
            None => self.reclaim()?,
        };
        self.bursts[burst].restart(self.to);
        self.open = Some(burst);
        Some(burst)
    }

    /// Frees a burst when none is free, by sending the oldest one that waits.
    fn reclaim(&mut self) -> Option<usize> {
        let oldest = self.ready.pop_front()?;
        let result = self.send_now(oldest);
        self.account(oldest, result);
        Some(oldest)
    }

    #[allow(unsafe_code)]
    fn send_now(&mut self, burst: usize) -> io::Result<usize> {
        let burst = &mut self.bursts[burst];
        // SAFETY: the message points into `burst`, which is borrowed for the call.
        unsafe { send_message(self.socket.as_fd(), burst.message()) }
    }

    fn account(&mut self, burst: usize, result: io::Result<usize>) {
        let segments = self.bursts[burst].segments as u64;
        match result {
            Ok(_) => bump(&self.counters.replies_sent, segments),
            Err(error) if segments > 1 && refuses_segmentation(&error) => self.send_apart(burst),
            Err(_) => bump(&self.counters.replies_dropped, segments),
        }
    }

    /// Sends the datagrams of a burst one by one, because the way out cannot split them (no checksum offload, a small
    /// MTU).
    #[allow(unsafe_code)]
    fn send_apart(&mut self, burst: usize) {
        let burst = &mut self.bursts[burst];
        for segment in 0..burst.segments {
            // SAFETY: the message points into `burst`, which is borrowed for the call.
            match unsafe { send_message(self.socket.as_fd(), burst.message_of_one(segment)) } {
                Ok(_) => bump(&self.counters.replies_sent, 1),
                Err(_) => bump(&self.counters.replies_dropped, 1),
            }
        }
    }
}

fn refuses_segmentation(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP)
    )
}

impl Burst {
    fn new() -> Self {
        Self {
            to: Destination::default(),
            bytes: vec![0; SEND_BYTES_MAX].into_boxed_slice(),
            len: 0,
            segment_bytes: 0,
            segments: 0,
            name: [0; NAME_BYTES],
            control: [0; CONTROL_BYTES],
            slice: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
            message: empty_message(),
        }
    }

    fn restart(&mut self, to: Destination) {
        self.to = to;
        self.len = 0;
        self.segment_bytes = 0;
        self.segments = 0;
    }

    /// Whether a datagram may join the burst: it has the same address, and no shorter one has ended the run.
    fn takes(&self, to: Destination, bytes: usize) -> bool {
        let run_is_open = self.len == self.segments * self.segment_bytes;
        self.to == to
            && self.segments < SEGMENTS_MAX
            && self.len + bytes <= SEND_BYTES_MAX
            && run_is_open
            && (1..=self.segment_bytes).contains(&bytes)
    }

    fn append(&mut self, datagram: &[u8]) {
        if self.segments == 0 {
            self.segment_bytes = datagram.len();
        }
        self.bytes[self.len..self.len + datagram.len()].copy_from_slice(datagram);
        self.len += datagram.len();
        self.segments += 1;
    }

    fn message(&mut self) -> &libc::msghdr {
        let segment_bytes = (self.segments > 1).then_some(self.segment_bytes as u16);
        self.message_of_bytes(0, self.len, segment_bytes)
    }

    fn message_of_one(&mut self, segment: usize) -> &libc::msghdr {
        let start = segment * self.segment_bytes;
        let end = self.len.min(start + self.segment_bytes);
        self.message_of_bytes(start, end, None)
    }

    fn message_of_bytes(
        &mut self,
        start: usize,
        end: usize,
        segment_bytes: Option<u16>,
    ) -> &libc::msghdr {
        let name = self.to.name.bytes();
        self.name[..name.len()].copy_from_slice(name);
        let control_len = write_control_messages(segment_bytes, self.to.local, &mut self.control);
        let bytes = &mut self.bytes[start..end];
        self.slice.iov_base = bytes.as_mut_ptr().cast();
        self.slice.iov_len = bytes.len();
        self.message.msg_name = self.name.as_mut_ptr().cast();
        self.message.msg_namelen = name.len() as libc::socklen_t;
        self.message.msg_iov = &raw mut self.slice;
        self.message.msg_iovlen = 1;
        self.message.msg_control = match control_len {
            0 => std::ptr::null_mut(),
            _ => self.control.as_mut_ptr().cast(),
        };
        self.message.msg_controllen = control_len as _;
        &self.message
    }
}

/// Sends a message without waiting.
///
/// # Safety
/// - What `message` points to is valid, and nobody writes to it during the call.
#[allow(unsafe_code)]
unsafe fn send_message(fd: BorrowedFd<'_>, message: &libc::msghdr) -> io::Result<usize> {
    // SAFETY: `fd` is open while it is borrowed; the message is as the caller promises, and the kernel only reads it.
    let result = unsafe { libc::sendmsg(fd.as_raw_fd(), message, libc::MSG_DONTWAIT) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::sync::atomic::Ordering::Relaxed;

    use super::super::{SocketOptions, bind_group};
    use super::*;

    struct Fixture {
        replies: Replies,
        counters: Arc<IoCounters>,
        client: UdpSocket,
    }

    fn fixture() -> Fixture {
        let options = SocketOptions {
            receive_buffer_bytes: 1 << 20,
        };
        let mut group = bind_group("127.0.0.1:0".parse().unwrap(), 1, options).unwrap();
        let counters = Arc::new(IoCounters::default());
        let mut replies = Replies::new(Arc::new(group.remove(0)), Arc::clone(&counters));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        replies.set_destination(client.local_addr().unwrap().into(), None);
        Fixture {
            replies,
            counters,
            client,
        }
    }

    fn received(client: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        let mut one = || client.recv(&mut buffer).map(|n| buffer[..n].to_vec());
        (0..count).map(|_| one().unwrap()).collect()
    }

    #[test]
    fn order_and_boundaries_are_kept() {
        let mut f = fixture();
        // Datagrams of equal size join, a shorter one ends a run, and a longer or empty one starts another.
        let sizes = [152, 152, 7, 152, 1368, 1368, 152, 0, 0, 5];
        let sent: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(i, &n)| vec![i as u8; n])
            .collect();
        for datagram in &sent {
            f.replies.push(datagram);
        }
        f.replies.flush();
        assert_eq!(received(&f.client, sent.len()), sent);
        assert_eq!(f.counters.replies_sent.load(Relaxed), sent.len() as u64);
        assert_eq!(f.counters.replies_dropped.load(Relaxed), 0);
    }

    #[test]
    fn two_addresses_in_turn_both_get_theirs() {
        let mut f = fixture();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        for i in 0..20u8 {
            let to = if i % 2 == 0 { &f.client } else { &other };
            f.replies
                .set_destination(to.local_addr().unwrap().into(), None);
            f.replies.push(&[i; 152]);
        }
        f.replies.flush();
        for (client, first) in [(&f.client, 0), (&other, 1)] {
            let firsts: Vec<u8> = received(client, 10).iter().map(|d| d[0]).collect();
            assert_eq!(firsts, (first..20).step_by(2).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn more_than_all_bursts_hold_goes_out_in_order() {
        let mut f = fixture();
        let count = BURSTS * 3;
        for i in 0..count {
            // Each datagram is longer than the one before, so none joins.
            f.replies.push(&vec![1; 10 + i]);
        }
        f.replies.flush();
        let sizes: Vec<usize> = received(&f.client, count).iter().map(Vec::len).collect();
        assert_eq!(sizes, (10..10 + count).collect::<Vec<_>>());
    }

    #[test]
    fn a_burst_always_stays_for_the_next_push() {
        let mut f = fixture();
        let mut taken = 0;
        for i in 0..BURSTS * 2 {
            f.replies.push(&vec![1; 10 + i]);
            f.replies.close();
            taken += usize::from(f.replies.take_ready().is_some());
        }
        assert_eq!(taken, BURSTS - 1);
        f.replies.flush();
        assert_eq!(f.counters.replies_dropped.load(Relaxed), 0);
    }

    #[test]
    fn what_the_kernel_refuses_is_counted() {
        let mut f = fixture();
        f.replies.push(&vec![0; 65_508]);
        let nowhere: SocketAddr = "255.255.255.255:1".parse().unwrap();
        f.replies.set_destination(nowhere.into(), None);
        f.replies
            .push(b"broadcast needs a right that was not asked for");
        f.replies.flush();
        assert_eq!(f.counters.replies_dropped.load(Relaxed), 2);
    }

    #[test]
    #[allow(unsafe_code)]
    fn refused_segmentation_falls_back_to_single_sends() {
        let mut f = fixture();
        for i in 0..5u8 {
            f.replies.push(&[i; 100]);
        }
        f.replies.close();
        let burst = f.replies.take_ready().unwrap();
        let refused = Err(io::Error::from_raw_os_error(libc::EIO));
        // SAFETY: the burst was taken above and never sent.
        unsafe { f.replies.release(burst, refused) };
        let firsts: Vec<u8> = received(&f.client, 5).iter().map(|d| d[0]).collect();
        assert_eq!(firsts, [0, 1, 2, 3, 4]);
        assert_eq!(f.counters.replies_sent.load(Relaxed), 5);
    }
}
