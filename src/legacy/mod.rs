//! Peers that speak the Python program's protocol, and orders to push to them. Rows come in and go out, and each peer
//! is asked whether it is a node of ours, to which everything is pushed in better ways.
//!
//! One task of the control thread ([`Rounds`]) does all of this. It takes the rare messages that data threads hand
//! over, and sends from the client port.

mod addresses;
mod challenge;
mod members;
mod orders;
mod peers;
mod rounds;

pub(crate) use self::peers::LegacyPeers;
pub(crate) use self::rounds::Rounds;
