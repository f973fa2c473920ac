//! Peers that speak the Python program's protocol, and orders to push: rows in, rows out, and the question whether a
//! peer is not a node of ours, for which there are better ways.
//!
//! One task of the control thread ([`Rounds`]) does it all. It takes the rare messages that data threads hand over, and
//! sends from the client port.

mod addresses;
mod challenge;
mod members;
mod orders;
mod peers;
mod rounds;

pub(crate) use self::peers::LegacyPeers;
pub(crate) use self::rounds::Rounds;
