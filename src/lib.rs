//! rmbd counts approximately how often keys happen, at network speed, in memory that does not depend on the number of
//! keys.
//!
//! The rooms, from the ground up; each uses only the ones above it in this list:
//!
//! | room | what lives there |
//! |---|---|
//! | [`engine`] | what is asked of the sketches, and decided about it, in any protocol |
//! | [`config`] | what a node is started with: options, environment, a file, defaults; sketches and limits |
//! | `data_dir` | what a node keeps from one start to the next |
//! | [`status`] | what a node says of itself: counters, the JSON of `/status`, metrics |
//! | `shared` | what all threads of a node share |
//! | `cluster_io` | the cluster's sockets, and the task that runs them |
//! | [`fronts`] | the ways by which clients come in: datagrams, HTTP |
//! | `snapshots` | the thread that writes snapshot files, and what a start takes over of one |
//! | `legacy` | rows to and from peers of the Python program, and orders to push |
//! | [`node`] | puts it together: data threads, control thread, start and end |
//! | [`cli`] | the commands |
//!
//! What stands by itself is a crate of its own, `rmbd-sketch` the lowest of them; clients are in `rmbd-client`.
//!
//! ```
//! use rmbd::config::NodeConfig;
//! use rmbd::node::Node;
//!
//! let config = NodeConfig { threads: Some(1), ..NodeConfig::at("127.0.0.1:0") };
//! let node = Node::start(config)?;
//! node.add(b"apple", 3)?;
//! assert_eq!(node.estimate(b"apple").count, 3);
//! node.stop()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cli;
mod cluster_io;
pub mod config;
mod data_dir;
pub mod engine;
pub mod fronts;
mod legacy;
pub mod node;
mod shared;
mod snapshots;
pub mod status;

/// The documentation's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/from-your-program.md")]
struct FromYourProgram;
