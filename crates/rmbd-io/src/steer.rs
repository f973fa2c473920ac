//! Several sockets on one address, with a program in the kernel that chooses one for each datagram.
//!
//! Each kind of sender gets a queue of its own. A flood of one kind overflows only its own queue, and the kernel
//! drops what does not fit there before any program has read it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::BindError;
use super::socket::{explain, set_receive_buffer};

/// An instruction of classic BPF: operation, jumps if true and if false, and a value
/// (linux/filter.h; <https://docs.kernel.org/networking/filter.html>).
pub type Instruction = libc::sock_filter;

/// Largest number of instructions of a program: `BPF_MAXINSNS` of linux/bpf_common.h.
pub const INSTRUCTIONS_MAX: usize = 4_096;

/// Non-blocking sockets that share an address.
#[derive(Debug)]
pub struct Steered {
    /// The sockets, in the order of the numbers that a program returns. There is only one if the kernel takes no
    /// program.
    pub sockets: Vec<UdpSocket>,
    /// The kernel's error, if it took no program, so that there is only one socket.
    pub refused: Option<io::Error>,
}

/// Binds a socket for each of `receive_buffers_bytes`, with a send buffer of `send_buffer_bytes` for the first one.
/// For each datagram the kernel runs `program`, which returns the number of the socket that gets it; [`steer`]
/// changes the program. It fails if any other program has the address: like in [`bind_group`](super::bind_group), the
/// first socket is bound alone.
///
/// # Errors
/// [`BindError`]; nothing stays bound. It is no error if the kernel takes no program.
pub fn bind_steered(
    address: SocketAddr,
    receive_buffers_bytes: &[usize],
    send_buffer_bytes: usize,
    program: &[Instruction],
) -> Result<Steered, BindError> {
    let (&first_bytes, others) = receive_buffers_bytes
        .split_first()
        .unwrap_or((&send_buffer_bytes, &[]));
    let open_first = || {
        let first = open(address, first_bytes)?;
        rustix::net::sockopt::set_socket_send_buffer_size_force(&first, send_buffer_bytes)
            .map_err(io::Error::from)
            .or_else(|_| first.set_send_buffer_size(send_buffer_bytes))?;
        first.bind(&address.into())?;
        Ok(first)
    };
    let first: Socket = open_first().map_err(|error| explain(address, error))?;
    let (sockets, refused) = match join(&first, others, program) {
        Ok(others) => (others, None),
        Err(error) => {
            // A single socket lets no other socket share its address.
            let _ = first.set_reuse_port(false);
            (Vec::new(), Some(error))
        }
    };
    let mut all = vec![UdpSocket::from(first)];
    all.extend(sockets);
    Ok(Steered {
        sockets: all,
        refused,
    })
}

fn open(address: SocketAddr, receive_buffer_bytes: usize) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    set_receive_buffer(&socket, receive_buffer_bytes)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds the other sockets of `first`'s group, and attaches the program to them all.
fn join(
    first: &Socket,
    receive_buffers_bytes: &[usize],
    program: &[Instruction],
) -> io::Result<Vec<UdpSocket>> {
    let unnamed = || io::Error::other("the kernel named no IP address for a UDP socket");
    let address = first.local_addr()?.as_socket().ok_or_else(unnamed)?;
    first.set_reuse_port(true)?;
    let mut others = Vec::with_capacity(receive_buffers_bytes.len());
    for &bytes in receive_buffers_bytes {
        let socket = open(address, bytes)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        others.push(UdpSocket::from(socket));
    }
    if !others.is_empty() {
        steer(first, program)?;
    }
    Ok(others)
}

/// Makes the kernel choose by `program` from now on, for the whole group of `socket` (`SO_ATTACH_REUSEPORT_CBPF`,
/// socket(7)). The program sees the UDP payload from its first byte on. If it returns a number that no socket has,
/// the kernel chooses as it likes. Reading beyond the end of the payload returns 0.
///
/// # Errors
/// The error of the system call; `ENOMEM` if the program is longer than `net.core.optmem_max` allows. The previous
/// program stays in use.
#[allow(unsafe_code)]
pub fn steer(socket: &impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the descriptor is open while it is borrowed; pointer and length describe `program`, whose own
    // pointer and length describe the slice; both live across the call, and the kernel only reads them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A return instruction (`BPF_RET | BPF_K`).
    const fn answer(number: u32) -> Instruction {
        Instruction {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: number,
        }
    }

    fn bind(address: &str, program: &[Instruction]) -> Steered {
        bind_steered(
            address.parse().unwrap(),
            &[1 << 16, 1 << 12],
            1 << 16,
            program,
        )
        .unwrap()
    }

    fn receives(socket: &UdpSocket) -> bool {
        socket.recv_from(&mut [0; 8]).is_ok()
    }

    #[test]
    fn the_program_chooses_the_socket_until_another_one_does() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let group = bind(address, &[answer(1)]);
            assert!(group.refused.is_none(), "{:?}", group.refused);
            let [first, second] = &group.sockets[..] else {
                panic!("{group:?}");
            };
            let bound = first.local_addr().unwrap();
            assert_eq!(second.local_addr().unwrap(), bound);
            let (ip, local) = match bound.ip() {
                ip if ip.is_unspecified() => ("127.0.0.1".parse().unwrap(), "127.0.0.1:0"),
                ip => (ip, address),
            };
            let sender = UdpSocket::bind(local).unwrap();
            let send = || sender.send_to(&[1], (ip, bound.port())).unwrap();
            send();
            assert!(!receives(first) && receives(second));
            steer(first, &[answer(0)]).unwrap();
            send();
            assert!(receives(first) && !receives(second));
        }
    }

    #[test]
    fn a_program_that_the_kernel_refuses_leaves_one_socket_that_nobody_can_join() {
        // This program has no return.
        let no_program = Instruction {
            code: 0,
            jt: 0,
            jf: 0,
            k: 0,
        };
        let alone = bind("127.0.0.1:0", &[no_program]);
        assert!(alone.refused.is_some());
        assert_eq!(alone.sockets.len(), 1);
        let address = alone.sockets[0].local_addr().unwrap();
        let second = bind_steered(address, &[1 << 12], 1 << 12, &[]);
        assert!(matches!(second, Err(BindError::InUse(_))));
        let other = open(address, 1 << 12).unwrap();
        other.set_reuse_port(true).unwrap();
        assert!(other.bind(&address.into()).is_err());
        // The group keeps the program that it had.
        let group = bind("127.0.0.1:0", &[answer(1)]);
        steer(&group.sockets[0], &[no_program]).unwrap_err();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = group.sockets[0].local_addr().unwrap();
        sender.send_to(&[1], address).unwrap();
        assert!(receives(&group.sockets[1]));
    }

    #[test]
    fn a_group_is_alone_on_its_address() {
        let group = bind("127.0.0.1:0", &[answer(0)]);
        let address = group.sockets[0].local_addr().unwrap();
        let second = bind_steered(address, &[1 << 12; 2], 1 << 12, &[answer(0)]);
        assert!(matches!(second, Err(BindError::InUse(taken)) if taken == address));
    }
}
