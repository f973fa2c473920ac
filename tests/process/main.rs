//! Tests of the program's behaviour towards the process that starts it: streams that fail or block, and signals.

#![allow(missing_docs, clippy::unwrap_used)]

mod commands;
mod containers;
mod documents;
mod envoy;
mod haproxy;
mod http;
mod kept;
mod nodes;
mod prometheus;
mod reload;
mod resp;
mod servers;
mod signals;
