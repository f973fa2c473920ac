//! The back end that works everywhere: `recvmmsg(2)`, `poll(2)`, and one `sendmsg(2)` for each
//! burst of replies.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::address::{NAME_BYTES, RawAddress};
use super::control::{self, CONTROL_BYTES};
use super::{Handler, LoopError, Parts, ReceivedTrain, TRAIN_BYTES_MAX, Train};

/// Trains taken by one system call. Each has a buffer of 64 KiB; 32 of them stay in the L2 cache's
/// neighbourhood, and more gained nothing.
const TRAINS: usize = 32;

pub(super) struct Loop {
    parts: Parts,
    receiver: Receiver,
}

impl Loop {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            receiver: Receiver::new(TRAINS, TRAIN_BYTES_MAX),
        }
    }

    pub(super) fn run(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        let mut idle_since = None;
        while !self.parts.stop.is_given() {
            match take(&mut self.parts, &mut self.receiver, handler)? {
                Taken { trains: 0, .. } => self.wait(&mut idle_since)?,
                Taken { trains: TRAINS, .. } => idle_since = None,
                // The socket was emptied: waiting at once saves asking in vain.
                _ => {
                    idle_since = None;
                    self.wait(&mut idle_since)?;
                }
            }
        }
        drain(&mut self.parts, &mut self.receiver, handler)
    }

    /// Sleeps until there is something to do, unless it is still time to look again at once.
    fn wait(&mut self, idle_since: &mut Option<Instant>) -> Result<(), LoopError> {
        let busy_poll = self.parts.options.busy_poll;
        if !busy_poll.is_zero() && idle_since.get_or_insert_with(Instant::now).elapsed() < busy_poll
        {
            std::hint::spin_loop();
            return Ok(());
        }
        *idle_since = None;
        let mut fds = [
            PollFd::new(&*self.parts.socket, PollFlags::IN),
            PollFd::new(&self.parts.stop, PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(LoopError::System {
                call: "poll",
                source: error.into(),
            }),
        }
    }
}

/// Hands over what is in the receive buffer, but does not keep up with a sender that goes on: no
/// more than the buffer can hold.
pub(super) fn drain(
    parts: &mut Parts,
    receiver: &mut Receiver,
    handler: &mut impl Handler,
) -> Result<(), LoopError> {
    let mut left = parts.socket.receive_buffer_bytes();
    while left > 0 {
        match take(parts, receiver, handler)? {
            Taken { trains: 0, .. } => break,
            // The buffer is charged at least one byte for each datagram.
            taken => left = left.saturating_sub(taken.bytes + taken.trains),
        }
    }
    Ok(())
}

/// What one system call brought.
struct Taken {
    trains: usize,
    bytes: usize,
}

/// One system call's worth of trains.
fn take(
    parts: &mut Parts,
    receiver: &mut Receiver,
    handler: &mut impl Handler,
) -> Result<Taken, LoopError> {
    let trains = match receiver.receive(&*parts.socket) {
        Ok(trains) => trains,
        Err(error) if is_transient(&error) => 0,
        Err(source) => {
            return Err(LoopError::System {
                call: "recvmmsg",
                source,
            });
        }
    };
    let mut bytes = 0;
    for index in 0..trains {
        let raw = receiver.raw(index);
        bytes += raw.payload.len();
        parts.hand_over(raw, handler);
    }
    handler.pause();
    parts.replies.flush();
    Ok(Taken { trains, bytes })
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Buffers for `recvmmsg(2)` and the trains that the latest call left in them.
pub struct Receiver {
    slots: Box<[Slot]>,
    /// Each points to its slot, from the start and for ever.
    headers: Box<[libc::mmsghdr]>,
    /// How many headers the kernel has written to since they were last made ready.
    written: usize,
}

/// What one header points to. In a boxed slice, so none of it moves.
struct Slot {
    bytes: Box<[u8]>,
    name: [u8; NAME_BYTES],
    control: [u8; CONTROL_BYTES],
    slice: libc::iovec,
}

// SAFETY: the pointers in `slots` and `headers` are null or lead into the boxes of `slots`
// (`Slot::attach`, once, when it is made), which this value owns alone and which stay where they
// are when it moves; nothing in it belongs to a thread.
#[allow(unsafe_code)]
unsafe impl Send for Receiver {}

impl Receiver {
    /// Room for `trains` trains of at most `bytes` bytes each.
    pub fn new(trains: usize, bytes: usize) -> Self {
        let mut slots: Box<[Slot]> = (0..trains).map(|_| Slot::new(bytes)).collect();
        let attached = slots.iter_mut().map(|slot| {
            let mut header = empty_header();
            slot.attach(&mut header.msg_hdr);
            header
        });
        Self {
            headers: attached.collect(),
            slots,
            written: trains,
        }
    }

    /// Takes what is waiting at `socket`, without waiting itself; returns how many trains.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock` where nothing is waiting.
    #[allow(unsafe_code)]
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        for header in &mut self.headers[..self.written] {
            header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            header.msg_hdr.msg_flags = 0;
        }
        self.written = 0;
        // SAFETY: the descriptor is open while it is borrowed; `headers` has as many entries as is
        // said, each of which `attach` has pointed at its own slot's buffers; the slots are boxed, so
        // they have not moved since, are borrowed exclusively, and outlive the call. The lengths,
        // which the kernel overwrites, are those of the buffers again.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let trains = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
        self.written = trains;
        Ok(trains)
    }

    /// Train `index` of the latest [`receive`](Self::receive); `None` past its end, where it was
    /// cut for want of room, or where its sender has no IP address.
    pub fn train(&self, index: usize) -> Option<Train<'_>> {
        if index >= self.slots.len() {
            return None;
        }
        let raw = self.raw(index);
        let from = RawAddress::from_kernel(raw.name).filter(|_| !raw.truncated)?;
        let segment_bytes = control::parse(raw.control).segment_bytes;
        Some(Train::new(
            raw.payload,
            segment_bytes,
            from.to_socket_addr(),
        ))
    }

    // The length's type differs between C libraries.
    #[allow(clippy::unnecessary_cast)]
    fn raw(&self, index: usize) -> ReceivedTrain<'_> {
        let (slot, header) = (&self.slots[index], &self.headers[index]);
        let message = &header.msg_hdr;
        ReceivedTrain {
            name: cut(&slot.name, message.msg_namelen as usize),
            control: cut(&slot.control, message.msg_controllen as usize),
            payload: cut(&slot.bytes, header.msg_len as usize),
            truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        }
    }
}

fn cut(bytes: &[u8], len: usize) -> &[u8] {
    &bytes[..len.min(bytes.len())]
}

impl Slot {
    fn new(bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            name: [0; NAME_BYTES],
            control: [0; CONTROL_BYTES],
            slice: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
        }
    }

    fn attach(&mut self, message: &mut libc::msghdr) {
        self.slice.iov_base = self.bytes.as_mut_ptr().cast();
        self.slice.iov_len = self.bytes.len();
        message.msg_name = self.name.as_mut_ptr().cast();
        message.msg_iov = &raw mut self.slice;
        message.msg_iovlen = 1;
        message.msg_control = self.control.as_mut_ptr().cast();
    }
}

#[allow(unsafe_code)]
pub(super) fn empty_header() -> libc::mmsghdr {
    // SAFETY: mmsghdr is plain data for which all zeroes is valid: null pointers, lengths 0.
    unsafe { std::mem::zeroed() }
}

/// Sends `bytes` as datagrams of `segment_bytes` each (the last may be shorter) with one system
/// call (`UDP_SEGMENT`, udp(7)); at most 64 datagrams and 65 507 bytes. Waits for room in the send
/// buffer where the socket is blocking. `to` is `None` on a connected socket.
///
/// # Errors
/// What the kernel says; nothing was sent then.
#[allow(unsafe_code)]
pub fn send_segments(
    socket: &UdpSocket,
    to: Option<SocketAddr>,
    bytes: &[u8],
    segment_bytes: u16,
) -> io::Result<usize> {
    let name = to.map(RawAddress::from).unwrap_or_default();
    let mut control = [0; CONTROL_BYTES];
    let several = (bytes.len() > segment_bytes.into()).then_some(segment_bytes);
    let control_len = control::build(several, None, &mut control);
    let mut slice = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut message = empty_header().msg_hdr;
    if to.is_some() {
        message.msg_name = name.bytes().as_ptr().cast_mut().cast();
        message.msg_namelen = name.bytes().len() as libc::socklen_t;
    }
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    if control_len > 0 {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control_len as _;
    }
    let fd: BorrowedFd<'_> = socket.as_fd();
    // SAFETY: `fd` is open while it is borrowed; name, bytes and control outlive the call, with the
    // lengths given; sendmsg only reads through these pointers, so the casts to mutable ones, which
    // the structure's type asks for, are never used to write.
    let result = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, 0) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
