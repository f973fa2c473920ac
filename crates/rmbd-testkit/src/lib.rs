//! Tools that rmbd's tests and benches share. There is a network between real processes that loses, doubles and
//! delays datagrams by a seed; there are floods of forged datagrams, standard streams that are broken in every way,
//! a browser without a window, a terminal, and checks of what a test needs of the machine.
//!
//! ```
//! use std::net::UdpSocket;
//!
//! use rmbd_proto::legacy::{Dialect, encode_add};
//! use rmbd_testkit::legacy_server::{Fake, Fate};
//!
//! let server = Fake::start(Dialect::Native, |_| Fate::Deliver);
//! let client = UdpSocket::bind("127.0.0.1:0").unwrap();
//! client.send_to(&encode_add(b"apple"), server.address).unwrap();
//! assert_eq!(server.stop().counts[&b"apple"[..]], 1);
//! ```

// Names say what they are for; nobody outside of the project uses them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::should_implement_trait
)]

pub mod browser;
pub mod forgery;
pub mod grpc;
pub mod held_port;
pub mod hex;
pub mod legacy_server;
pub mod proxy;
pub mod random;
pub mod redis;
pub mod releases;
pub mod required;
pub mod spoe;
pub mod streams;
pub mod terminal;
pub mod terminal_picture;
pub mod tree;
