//! Tests of clusters of real processes: on a network that loses, doubles, reorders and parts, among strangers, beside
//! a Python instance, and with nodes that are killed, restarted and told to end.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod copies;
mod endings;
mod flood;
mod legacy;
mod lossy;
mod misled;
mod namespaces;
mod options;
mod peer_orders;
mod pods;
mod refusals;
mod strangers;
mod support;
mod windows;
