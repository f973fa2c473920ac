//! Sockets, trains and segments: what clients and event loops share of UDP on Linux.
//!
//! The kernel joins the datagrams that one sender sends in a row to one receiver (`UDP_GRO`), and
//! splits one large send into datagrams of one size (`UDP_SEGMENT`; both udp(7)). What was joined is a
//! [`Train`]; a [`Receiver`] takes many of them by one system call, and [`send_segments`] sends one.
//! Whoever talks to the kernel in another way, as a ring does, finds here what the kernel's messages
//! are made of: [`RawAddress`] and [`ControlMessages`].

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

/// The largest UDP payload over IPv4 that a receiver has to expect, and so the largest train.
pub const TRAIN_BYTES_MAX: usize = 65_535;
