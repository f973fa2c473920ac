//! Errors of a node that does not start, or that ends by itself.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::spoe::SpoeError;
use crate::cluster_io::ClusterError;
use crate::config::{self, MAX_THREADS};
use crate::data_dir::DataDirError;
use crate::fronts::envoy::EnvoyError;
use crate::fronts::http::TokenFileError;
use crate::fronts::resp::RespError;
use crate::snapshots::SnapshotFileFailure;
use rmbd_cluster::NewClusterError;
use rmbd_io::limits::LimitReached;
use rmbd_io::{BindError, LoopError, RingRefused};
use rmbd_names::Unresolved;
use rmbd_sketch::SketchError;
use rmbd_snapshot::SnapshotFileError;
use rmbd_store::{NoMemory, RegistryError};

/// Why a node did not start, or stopped by itself. A node that did not start has left nothing behind: no socket and
/// no thread.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address cannot be looked up.
    #[error(transparent)]
    Resolve(#[from] Unresolved),
    /// The UDP address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP address cannot be bound.
    #[error(
        "can't serve HTTP on {address} over TCP: {source}; choose another with --http HOST:PORT, or \
         --http off"
    )]
    Http {
        /// The address that was asked for.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Clients of Redis's protocol cannot be served.
    #[error(transparent)]
    Resp(#[from] RespError),
    /// HAProxy cannot be served.
    #[error(transparent)]
    Spoe(#[from] SpoeError),
    /// Envoy's rate limit service cannot be served.
    #[error(transparent)]
    Envoy(#[from] EnvoyError),
    /// The file of tokens for HTTP gives none.
    #[error(transparent)]
    HttpTokens(#[from] TokenFileError),
    /// The sketch needs more memory than the machine has, or than its control group may use.
    #[error(
        "the sketch needs {needed_bytes} bytes (with a copy of it, if there is a cluster), the rest of the node \
         {rest_bytes}, and this process may use {usable_bytes} ({bound}): {}",
        what_fits(*fitting_width)
    )]
    TooLarge {
        /// Bytes of the cells.
        needed_bytes: u64,
        /// Bytes of all else.
        rest_bytes: u64,
        /// Bytes of usable memory.
        usable_bytes: u64,
        /// The limit that says so.
        bound: String,
        /// The largest power of two as the width of the sketch `default` with which all fits, if there is one.
        fitting_width: Option<u64>,
    },
    /// A limit of the system leaves no room for the node.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// The sketch needs more memory than `--max-memory`.
    #[error(
        "the sketch needs {needed_bytes} bytes (with a copy of it, if there is a cluster) and --max-memory is \
         {max_bytes}: raise it, or choose a smaller width or depth (-x, -y) or a smaller --top"
    )]
    MaxMemory {
        /// Bytes of the cells.
        needed_bytes: u64,
        /// The limit in bytes.
        max_bytes: u64,
    },
    /// Sketches or windows that do not go together.
    #[error(transparent)]
    Sketches(#[from] config::SketchError),
    /// Sketches whose names do not go together.
    #[error(transparent)]
    Names(#[from] RegistryError),
    /// The sketches do not make a cluster.
    #[error(transparent)]
    NewCluster(#[from] NewClusterError),
    /// The node's id cannot be read or kept.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A snapshot file was whole, and cannot be taken over.
    #[error(
        "the snapshot file in --data-dir {} was whole a moment ago, and cannot be taken over: {source}; nothing of it \
         is lost, start again",
        folder.display()
    )]
    SnapshotFile {
        /// The path of the folder.
        folder: PathBuf,
        /// What is wrong.
        source: SnapshotFileError,
    },
    /// The node has ended without a snapshot file of what it counted last.
    #[error(
        "the last snapshot file was not written: {0}; what was counted since the one before it is lost, unless other \
         nodes have it"
    )]
    LastSnapshotFile(SnapshotFileFailure),
    /// The node cannot take part in the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The allocator refused the sketch's memory.
    #[error(transparent)]
    Sketch(#[from] SketchError),
    /// There is no memory for a window, or there are too many windows.
    #[error(transparent)]
    Windows(NoMemory),
    /// The number of data threads is zero or too large.
    #[error("{0} data threads are not possible: use 1 to {MAX_THREADS}, best one for each core")]
    Threads(usize),
    /// io_uring was asked for and is not available.
    #[error(transparent)]
    Ring(#[from] RingRefused),
    /// An event loop could not start, or gave up.
    #[error("data thread {thread}: {source}")]
    Loop {
        /// Number of the thread, from 0.
        thread: usize,
        /// The error of the loop.
        source: LoopError,
    },
    /// The operating system refused another request.
    #[error("{what}: {source}")]
    System {
        /// The operation that was tried.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A thread or a task ended without having been told to, which is a fault of this program. The rest of the node
    /// has ended in order, as far as it could.
    #[error("{part} ended {how}; this is a bug, please report it")]
    Ended {
        /// The name of the part.
        part: String,
        /// The way in which it ended: by itself, or by a panic.
        how: &'static str,
    },
}

impl From<NoMemory> for NodeError {
    fn from(error: NoMemory) -> Self {
        match error {
            NoMemory::Limit(limit) => Self::MaxMemory {
                needed_bytes: limit.needed_bytes,
                max_bytes: limit.max_bytes,
            },
            NoMemory::Allocator(error) => Self::Sketch(error),
            other => Self::Windows(other),
        }
    }
}

/// Makes the error for something that the system refused.
pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::System { what, source }
}

/// What to do where there is too little memory.
fn what_fits(fitting_width: Option<u64>) -> String {
    let smaller = "choose a smaller width or depth (-x, -y), a larger epsilon, or a smaller --top";
    match fitting_width {
        Some(width) => format!("-x {width} fits; or {smaller}"),
        None => format!("no width fits; give it more memory, fewer --threads, or {smaller}"),
    }
}
