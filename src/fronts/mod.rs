//! The ways by which clients come in. A front parses what they send and writes what they are answered; what is decided
//! about it is [`engine`](crate::engine)'s, so that it is one thing in all of them.

pub(crate) mod datagrams;
pub mod http;
