//! Options of UDP sockets: joined datagrams, local addresses, and counts of drops.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Asks the kernel to join consecutive datagrams of one sender on this socket (`UDP_GRO`, udp(7)).
///
/// # Errors
/// The error of the system call (before Linux 5.0: unknown option).
pub fn enable_gro(socket: impl AsFd) -> io::Result<()> {
    set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Asks the kernel to deliver its count of drops with all that is received on this socket (`SO_RXQ_OVFL`, socket(7)).
///
/// # Errors
/// The error of the system call.
pub fn enable_drop_counts(socket: impl AsFd) -> io::Result<()> {
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
}

/// Asks the kernel to deliver the address of this machine that each sender sent to (`IP_PKTINFO`, ip(7);
/// `IPV6_RECVPKTINFO`, ipv6(7)), on a socket that is or will be bound to `bound_to`. Does nothing if that is a single
/// address, which is known.
///
/// # Errors
/// The error of the system call, for instance if the socket is of the other family.
pub fn enable_local_addresses(socket: impl AsFd, bound_to: SocketAddr) -> io::Result<()> {
    let (level, name) = match bound_to {
        _ if !bound_to.ip().is_unspecified() => return Ok(()),
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    set_option(socket.as_fd(), level, name, 1)
}

/// Number of datagrams that the kernel dropped at a socket so far, modulo 2^32; a train that was joined counts as
/// one.
///
/// # Errors
/// The error of the system call.
pub fn kernel_drops(socket: &impl AsFd) -> io::Result<u32> {
    /// `SK_MEMINFO_DROPS` and `SK_MEMINFO_VARS` of linux/sock_diag.h.
    const DROPS: usize = 8;
    const VARS: usize = 9;
    let mut info = [0u32; VARS];
    get_option(
        socket.as_fd(),
        libc::SOL_SOCKET,
        libc::SO_MEMINFO,
        &mut info,
    )?;
    Ok(info[DROPS])
}

#[allow(unsafe_code)]
fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: `fd` is open while it is borrowed; the pointer and the length describe `value`,
    // which lives across the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[allow(unsafe_code)]
fn get_option(fd: BorrowedFd<'_>, level: i32, name: i32, out: &mut [u32]) -> io::Result<()> {
    let mut len = size_of_val(out) as libc::socklen_t;
    // SAFETY: `fd` is open while it is borrowed; pointer and length describe `out`, of which the
    // kernel writes at most `len` bytes; every bit pattern is a valid u32.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            out.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
