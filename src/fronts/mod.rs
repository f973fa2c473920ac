//! The fronts, through which clients come in. A front parses requests and writes answers. Decisions about requests
//! are made in [`engine`](crate::engine), so that they are the same in all fronts.

pub(crate) mod datagrams;
pub(crate) mod envoy;
pub mod http;
mod own_session;
pub(crate) mod resp;
pub(crate) mod spoe;
