//! Peers that speak the Python program's protocol, and orders to push: rows in, rows out, and the question whether a
//! peer is not a node of ours, for which there are better ways.

pub(crate) mod addresses;
mod challenge;
mod orders;
mod rounds;

pub(crate) use self::challenge::is_probe_answer;
pub(crate) use self::rounds::Rounds;
