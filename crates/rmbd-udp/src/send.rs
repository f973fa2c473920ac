//! Sending many datagrams by one system call.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::address::RawAddress;
use super::control_messages::{CONTROL_BYTES, write_control_messages};

/// Largest number of datagrams in one send: the kernel's `UDP_MAX_SEGMENTS`, 64 before Linux 6.9.
pub const SEGMENTS_MAX: usize = 64;
/// Most bytes of one send, which is the largest UDP payload over IPv4: 65 535 - 20 (IP) - 8 (UDP).
pub const SEND_BYTES_MAX: usize = 65_507;

/// Sends `bytes` as datagrams of `segment_bytes` each (the last may be shorter) with one system call (`UDP_SEGMENT`,
/// udp(7)). At most [`SEGMENTS_MAX`] datagrams and [`SEND_BYTES_MAX`] bytes are possible. A blocking socket waits for
/// room in the send buffer. `to` is `None` on a connected socket. Returns the number of bytes sent.
///
/// # Errors
/// The error of the system call; nothing was sent then.
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
    let control_len = write_control_messages(several, None, &mut control);
    let mut slice = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut message = empty_message();
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

/// A message without name, data and control messages, to be filled in.
#[allow(unsafe_code)]
pub fn empty_message() -> libc::msghdr {
    // SAFETY: msghdr is plain data for which all zeroes is valid: null pointers, lengths 0.
    unsafe { std::mem::zeroed() }
}
