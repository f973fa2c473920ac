//! The reasons why a node takes no part in a cluster.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use rmbd_cluster::seal::KeyFileError;
use rmbd_io::BindError;
use rmbd_names::Unresolved;

/// Why a node takes no part in the cluster that it was told to join. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The cluster's address cannot be looked up.
    #[error(transparent)]
    Resolve(#[from] Unresolved),
    /// The cluster's address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The key file cannot be read.
    #[error("can't read the key file {}: {source}; `rmbd keygen -o FILE` makes one", path.display())]
    KeyFile {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The key file is malformed.
    #[error("{}: {source}", path.display())]
    Key {
        /// The path of the file.
        path: PathBuf,
        /// The error in the file.
        source: KeyFileError,
    },
    /// Other hosts could reach the address, and there is no key.
    #[error(
        "the cluster address {0} is not loopback and there is no key, so whoever reaches it could change counts: \
         give --cluster-key-file FILE (`rmbd keygen -o FILE` makes one; every node gets the same), or \
         --insecure-cluster where nobody else reaches it, or --cluster off"
    )]
    NoKey(SocketAddr),
    /// The socket is bound to all addresses, and it is not known which one other nodes reach.
    #[error(
        "nobody can be told to reach {0}, which stands for all addresses of this machine: give --advertise HOST:PORT with \
         the one at which other nodes reach this one (port 0 for the same port), or --cluster HOST:PORT with one address"
    )]
    NoAdvertise(SocketAddr),
    /// The address is none that other nodes could send to.
    #[error(
        "{0} cannot be told to others as this node's address: give --advertise a unicast address"
    )]
    Advertise(SocketAddr),
    /// The address is of another family than the socket, which could not answer nodes that send to it.
    #[error(
        "{told} cannot be told to others as this node's address, since its socket at {bound} speaks the other of IPv4 and \
         IPv6: give --advertise an address of the same kind, or --cluster [::]:PORT for both"
    )]
    AdvertiseFamily {
        /// The address that was to be told to other nodes.
        told: SocketAddr,
        /// The address that the socket is bound to.
        bound: SocketAddr,
    },
}
