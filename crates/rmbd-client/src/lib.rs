//! Clients of one server: [`Client`] blocks, [`AsyncClient`] awaits; both speak the
//! [compact format](rmbd_proto::compact), which carries weights and answers, and both share one state
//! machine. [`legacy::Client`] speaks the Python program's protocol.
//!
//! **An add counts exactly once.** Whatever UDP loses is sent again until the node acknowledges it, with
//! the same sequence, which the node applies once. Where nobody can know (no reply came at all, or
//! the node was started again meanwhile), the error says that the add is *uncertain* ([`Fate`]), and
//! nothing is sent twice.
//!
//! **A name is looked up again.** A server is told as [`Server`]: by name, or by address. Where an address
//! refuses, or stays silent for a third of the timeout, the name is looked up again and the next address is
//! tried: for questions that are under way, and for adds that were never sent. Adds that are under way keep
//! the client where it is until they are acknowledged or uncertain; they are never sent to another node.
//!
//! **Sketches and limits.** [`Client::sketch`] and [`AsyncClient::sketch`] give a handle with all questions about one
//! sketch: adds and counts, counts within a [`Window`], and whether something is within its [`Limits`]. The handle
//! takes a deadline, and what holds where nobody answers ([`OnFailure`]). It also tells which keys are the largest
//! ([`TopQuestion`]).
//!
//! Many operations share a datagram, and as many datagrams are under way as the network and the node take.
//!
//! The state machine needs no socket and no clock ([`Detached`]):
//!
//! ```
//! use std::time::Duration;
//!
//! use rmbd_client::{ClientOptions, Detached};
//!
//! let (mut client, mut train) = (Detached::new(ClientOptions::default(), 7, 0), Vec::new());
//! assert!(client.add(Duration::ZERO, b"apple", 2, 42));
//! client.flush();
//! // It first asks the node which start of it this is; the add goes out when that is known.
//! assert!(client.transmit(Duration::ZERO, &mut train).is_some());
//! assert!(!train.is_empty() && !client.is_idle());
//! ```

// What every client needs.
mod connection;
mod core;
mod error;
mod info;
mod limits;
mod options;
mod questions;
mod route;
mod server;
mod sketches;
mod top;

// Adding without a socket, and the client that blocks.
mod adder;
mod blocking;
mod detached;
// One sketch, for both clients.
mod sketch;

// The client for tokio.
#[cfg(feature = "tokio")]
mod asynchronous;

// The client of the Python program's protocol.
#[cfg(feature = "legacy")]
pub mod legacy;

pub use self::adder::Adder;
#[cfg(feature = "tokio")]
pub use self::asynchronous::AsyncClient;
pub use self::blocking::Client;
pub use self::detached::Detached;
pub use self::error::{AddsReport, ClientError, Fate};
pub use self::info::{Hash, Info};
pub use self::limits::{Decided, Limit, Limits, OnFailure, Verdict, Window, WindowCount};
pub use self::options::ClientOptions;
pub use self::questions::{Bounds, Count, Hit};
pub use self::route::Asked;
pub use self::server::Server;
#[cfg(feature = "tokio")]
pub use self::sketch::AsyncSketch;
pub use self::sketch::Sketch;
pub use self::sketches::{SketchInfo, SketchWindow};
pub use self::top::{Top, TopKey, TopQuestion};
pub use rmbd_proto::compact::KEY_BYTES_MAX;
pub use rmbd_proto::{SketchName, SketchNameError};
