//! rmbd counts how often keys happen, approximately, at network speed, in memory that does not
//! depend on the number of keys.
//!
//! The rooms, from the ground up; each uses only the ones above it in this list:
//!
//! | room | what lives there |
//! |---|---|
//! | [`console`] | all that is printed: notes to standard error, results to standard output |
//! | [`pace`] | round trips and the timeouts that follow from them, and token buckets; no clock |
//! | [`names`] | `HOST:PORT`, and the addresses behind it |
//! | [`udp`] | sockets, trains and segments: what clients and event loops share |
//! | [`sketch`] | the count-min sketch: geometry, hashing, cells, update, query |
//! | [`wire`] | byte formats; no input panics |
//! | [`replica`] | the table of slices: our own and those learnt from others; the estimate over all |
//! | [`engine`] | what is asked of the sketches, and decided about it, in any protocol |
//! | [`cluster`] | what goes between nodes, as state machines without I/O |
//! | [`io`] | data threads' event loops, and what the machine gives them; knows no message |
//! | [`config`] | what a node is started with: options, environment, defaults |
//! | `data_dir` | what a node keeps from one start to the next |
//! | [`status`] | what a node says of itself: counters, the JSON of `/status`, metrics |
//! | `shared` | what all threads of a node share |
//! | `cluster_io` | the cluster's sockets, and the task that runs them |
//! | [`fronts`] | the ways by which clients come in: datagrams, HTTP |
//! | `legacy` | rows to and from peers of the Python program, and orders to push |
//! | [`node`] | puts it together: data threads, control thread, start and end |
//! | [`client`] | clients: blocking, async, and of the Python program's protocol |
//! | [`cli`] | the commands |

pub mod cli;
pub mod client;
pub mod cluster;
mod cluster_io;
pub mod config;
pub mod console;
mod data_dir;
pub mod engine;
pub mod fronts;
pub mod io;
mod legacy;
pub mod names;
pub mod node;
pub mod pace;
pub mod replica;
mod shared;
pub mod sketch;
pub mod status;
pub mod udp;
pub mod wire;

pub use client::{AsyncClient, Client, ClientOptions};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
