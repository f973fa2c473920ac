//! Receiving with `recvmmsg(2)`: many trains by one system call.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::address::{NAME_BYTES, RawAddress};
use super::control_messages::{CONTROL_BYTES, ControlMessages};
use super::send::empty_message;
use super::train::{RawTrain, Train};

/// Buffers for `recvmmsg(2)`, and the trains that the latest call left in them.
pub struct Receiver {
    slots: Box<[Slot]>,
    /// The headers, each of which points to its slot for its whole life.
    headers: Box<[libc::mmsghdr]>,
    /// How many headers the kernel wrote to with the latest call.
    written: usize,
}

/// The buffers that one header points to. Slots lie in a boxed slice, so none of them moves.
struct Slot {
    bytes: Box<[u8]>,
    name: [u8; NAME_BYTES],
    control: [u8; CONTROL_BYTES],
    slice: libc::iovec,
}

// SAFETY: the pointers in `slots` and `headers` are null or lead into the boxes of `slots`
// (`Slot::header`, once, when it is made), which this value owns alone and which stay where they
// are when it moves; nothing in it belongs to a thread.
#[allow(unsafe_code)]
unsafe impl Send for Receiver {}

impl Receiver {
    /// A receiver with room for `trains` trains of at most `bytes` bytes each.
    pub fn new(trains: usize, bytes: usize) -> Self {
        let mut slots: Box<[Slot]> = (0..trains).map(|_| Slot::new(bytes)).collect();
        Self {
            headers: slots.iter_mut().map(Slot::header).collect(),
            slots,
            written: 0,
        }
    }

    /// Takes what is waiting at `socket`, without waiting itself. Returns the number of trains.
    ///
    /// # Errors
    /// The error of the system call; `WouldBlock` if nothing is waiting.
    #[allow(unsafe_code)]
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        for header in &mut self.headers[..self.written] {
            make_ready(&mut header.msg_hdr);
        }
        self.written = 0;
        // SAFETY: the descriptor is open while it is borrowed; `headers` has as many entries as is
        // said, each of which `Slot::header` has pointed at its own slot's buffers; the slots are boxed,
        // so they have not moved since, are borrowed exclusively, and outlive the call. The lengths,
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

    /// Train `index` of the latest [`receive`](Self::receive). It is `None` past the last train, for a train that was
    /// cut for want of room, and for a sender without an IP address.
    pub fn train(&self, index: usize) -> Option<Train<'_>> {
        let header = self.headers[..self.written].get(index)?;
        let raw = raw(header, &self.slots[index]);
        let from = RawAddress::from_kernel(raw.name).filter(|_| !raw.truncated)?;
        let segment_bytes = ControlMessages::parse(raw.control).segment_bytes;
        Some(Train::new(
            raw.payload,
            segment_bytes,
            from.to_socket_addr(),
        ))
    }

    /// The trains of the latest [`receive`](Self::receive), as the kernel delivered them.
    pub fn raw_trains(&self) -> impl ExactSizeIterator<Item = RawTrain<'_>> {
        let written = self.headers[..self.written].iter();
        written
            .zip(&self.slots)
            .map(|(header, slot)| raw(header, slot))
    }
}

// The length's type differs between C libraries.
#[allow(clippy::unnecessary_cast)]
fn raw<'a>(header: &libc::mmsghdr, slot: &'a Slot) -> RawTrain<'a> {
    let message = &header.msg_hdr;
    RawTrain {
        name: cut(&slot.name, message.msg_namelen as usize),
        control: cut(&slot.control, message.msg_controllen as usize),
        payload: cut(&slot.bytes, header.msg_len as usize),
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
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

    /// Returns a header that points to this slot and is ready to receive.
    fn header(&mut self) -> libc::mmsghdr {
        self.slice.iov_base = self.bytes.as_mut_ptr().cast();
        self.slice.iov_len = self.bytes.len();
        let mut message = empty_message();
        message.msg_name = self.name.as_mut_ptr().cast();
        message.msg_iov = &raw mut self.slice;
        message.msg_iovlen = 1;
        message.msg_control = self.control.as_mut_ptr().cast();
        make_ready(&mut message);
        libc::mmsghdr {
            msg_hdr: message,
            msg_len: 0,
        }
    }
}

/// Resets the lengths of a slot's buffers, which the kernel has overwritten with the lengths of what it delivered.
fn make_ready(message: &mut libc::msghdr) {
    message.msg_namelen = NAME_BYTES as libc::socklen_t;
    message.msg_controllen = CONTROL_BYTES as _;
    message.msg_flags = 0;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::UdpSocket;

    use super::super::{TRAIN_BYTES_MAX, enable_gro, send_segments};
    use super::*;

    #[test]
    fn a_train_receiver_and_segmented_sends_fit_each_other() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        enable_gro(&server).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bytes: Vec<u8> = (0..64 * 100).map(|i| (i / 100) as u8).collect();
        send_segments(&client, Some(server.local_addr().unwrap()), &bytes, 100).unwrap();
        let mut receiver = Receiver::new(4, TRAIN_BYTES_MAX);
        let mut datagrams = Vec::new();
        while datagrams.len() < 64 {
            let Ok(trains) = receiver.receive(&server) else {
                continue;
            };
            for index in 0..trains {
                let train = receiver.train(index).unwrap();
                assert_eq!(train.from(), client.local_addr().unwrap());
                datagrams.extend(train.datagrams().map(<[u8]>::to_vec));
            }
        }
        assert!(datagrams.concat() == bytes);
        assert!(receiver.train(4).is_none());
    }
}
