//! Why a node does not start, or ends by itself.

use std::io;
use std::net::SocketAddr;

use crate::cluster_io::ClusterError;
use crate::config::MAX_THREADS;
use crate::data_dir::DataDirError;
use rmbd_io::limits::LimitReached;
use rmbd_io::{BindError, LoopError, RingRefused};
use rmbd_names::Unresolved;
use rmbd_sketch::SketchError;
use rmbd_store::NoMemory;

/// Why a node did not start, or stopped by itself. A node that did not start has left nothing
/// behind: no socket, no thread.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address cannot be looked up.
    #[error(transparent)]
    Resolve(#[from] Unresolved),
    /// The UDP address cannot be taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP address cannot be taken.
    #[error(
        "can't serve HTTP on {address} over TCP: {source}; choose another with --http HOST:PORT, or \
         --http off"
    )]
    Http {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The sketch is larger than the machine, or than what its control group may use.
    #[error(
        "the sketch needs {needed_bytes} bytes (with a copy of it, if there is a cluster) and this process may use \
         {usable_bytes} ({bound}): choose a smaller width or depth (-x, -y), or a larger epsilon"
    )]
    TooLarge {
        /// Bytes of cells.
        needed_bytes: u64,
        /// Bytes of memory that there are.
        usable_bytes: u64,
        /// What says so.
        bound: String,
    },
    /// A limit of the system leaves no room for the node.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// The sketch is larger than `--max-memory`.
    #[error(
        "the sketch needs {needed_bytes} bytes (with a copy of it, if there is a cluster) and --max-memory is \
         {max_bytes}: raise it, or choose a smaller width or depth (-x, -y)"
    )]
    MaxMemory {
        /// Bytes of cells.
        needed_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The node has no number.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The cluster cannot be taken part in.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The sketch's memory was refused.
    #[error(transparent)]
    Sketch(#[from] SketchError),
    /// Too many data threads, or none.
    #[error("{0} data threads are not possible: use 1 to {MAX_THREADS}, best one for each core")]
    Threads(usize),
    /// io_uring was asked for and is not to be had.
    #[error(transparent)]
    Ring(#[from] RingRefused),
    /// A loop could not start, or gave up.
    #[error("data thread {thread}: {source}")]
    Loop {
        /// Number of the thread, from 0.
        thread: usize,
        /// Why.
        source: LoopError,
    },
    /// The operating system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or a task ended that nobody had told to, which is a fault of this program. The rest of the node
    /// has ended in order, as far as it could.
    #[error("{part} ended {how}; this is a bug, please report it")]
    Ended {
        /// What it was.
        part: String,
        /// By itself, or by a panic.
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
        }
    }
}

/// What the system refused, with what was tried.
pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::System { what, source }
}
