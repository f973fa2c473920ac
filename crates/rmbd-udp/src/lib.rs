//! UDP sockets on Linux, with trains of joined datagrams (GRO) and segmented sends (GSO).
//!
//! The kernel joins the datagrams that one sender sends in a row to one receiver (`UDP_GRO`), and splits one large
//! send into datagrams of one size (`UDP_SEGMENT`; both udp(7)). Joined datagrams are a [`Train`]. A [`Receiver`]
//! takes many trains by one system call, and [`send_segments`] sends one. A program that talks to the kernel in
//! another way, for instance by a ring, uses [`RawAddress`] and [`ControlMessages`] to read and write the kernel's
//! messages.
//!
//! ```
//! use std::net::UdpSocket;
//! use std::time::Duration;
//!
//! use rmbd_udp::{Receiver, TRAIN_BYTES_MAX, enable_gro, send_segments};
//!
//! let server = UdpSocket::bind("127.0.0.1:0")?;
//! enable_gro(&server)?; // the kernel may join datagrams, and need not
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! send_segments(&client, Some(server.local_addr()?), b"aabbc", 2)?;
//!
//! let mut receiver = Receiver::new(4, TRAIN_BYTES_MAX);
//! let mut received: Vec<Vec<u8>> = Vec::new();
//! while received.len() < 3 {
//!     server.set_read_timeout(Some(Duration::from_secs(10)))?;
//!     server.peek(&mut [0; 8])?; // waits, which `receive` does not
//!     for index in 0..receiver.receive(&server)? {
//!         let train = receiver.train(index).expect("a whole train of an IP address");
//!         received.extend(train.datagrams().map(<[u8]>::to_vec));
//!     }
//! }
//! assert_eq!(received, [b"aa".to_vec(), b"bb".to_vec(), b"c".to_vec()]);
//! # Ok::<(), std::io::Error>(())
//! ```

mod address;
mod control_messages;
mod receiver;
mod send;
mod socket_options;
mod train;

pub use address::{NAME_BYTES, RawAddress};
pub use control_messages::{CONTROL_BYTES, ControlMessages, LocalAddress, write_control_messages};
pub use receiver::Receiver;
pub use send::{SEGMENTS_MAX, SEND_BYTES_MAX, empty_message, send_segments};
pub use socket_options::{enable_drop_counts, enable_gro, enable_local_addresses, kernel_drops};
pub use train::{RawTrain, Train};

/// Bytes of the largest train: the largest UDP payload over IPv4 that a receiver has to expect.
pub const TRAIN_BYTES_MAX: usize = 65_535;
