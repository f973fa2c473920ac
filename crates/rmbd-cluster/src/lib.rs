//! A node's part in a cluster, as state machines without a socket, a clock or a thread.
//!
//! The caller passes the time and the datagrams that came, and sends the datagrams that it gets: see [`Cluster`]. This
//! loop passes datagrams between two nodes in virtual time, until the second one knows what the first one counted:
//!
//! ```
//! use std::error::Error;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use rmbd_cluster::membership::Member;
//! use rmbd_cluster::seal::KeyRing;
//! use rmbd_cluster::{Cluster, ClusterLimits, ClusterOptions, slices_of};
//! use rmbd_sketch::{Geometry, HashFamily, Weight};
//! use rmbd_store::{Boot, Replica, ReplicaLimits, SliceId};
//! # use rmbd_proto::Writer;
//!
//! fn node(number: u8) -> Result<(Arc<Replica>, Cluster), Box<dyn Error>> {
//!     let (geometry, family) = (Geometry::new(1024, 4)?, HashFamily::Xxh3 { seed: 7 });
//!     let limits = ReplicaLimits { max_peers: 1, max_origins: 8, max_memory_bytes: u64::MAX };
//!     let own = SliceId::of(number.into(), Writer(number.into()));
//!     let replica = Arc::new(Replica::try_with(geometry, family, own, limits)?);
//!     let options = ClusterOptions {
//!         me: Member {
//!             node: number.into(),
//!             boot: Boot(number.into()),
//!             started_ms: 0,
//!             renewals: 0,
//!             address: ([10, 0, 0, number], 8001).into(),
//!             client_port: 8000,
//!         },
//!         keys: KeyRing::public(),
//!         seed: number.into(),
//!         gossip_interval: Duration::from_millis(500),
//!         gossip_rate_bytes_per_s: 32 << 20,
//!         join: number > 1,
//!         shares_names: true,
//!         limits: ClusterLimits::default(),
//!     };
//!     let slices = slices_of([Arc::clone(&replica)], Duration::ZERO)?;
//!     let cluster = Cluster::try_new(Duration::ZERO, options, slices)?;
//!     Ok((replica, cluster))
//! }
//!
//! let ((first, mut one), (second, mut other)) = (node(1)?, node(2)?);
//! first.add(b"apple", Weight::new(2)?)?;
//! let (mut now, mut datagram) = (Duration::ZERO, Vec::new());
//! other.join(now, one.me().address);
//! while second.estimate(b"apple").count < 2 {
//!     assert!(now < Duration::from_secs(60));
//!     for _ in 0..2 {
//!         one.wake(now);
//!         while one.transmit(now, &mut datagram).is_some() {
//!             other.handle(now, one.me().address, &mut datagram);
//!         }
//!         std::mem::swap(&mut one, &mut other);
//!     }
//!     now += Duration::from_millis(10);
//! }
//! # Ok::<(), Box<dyn Error>>(())
//! ```

mod gossip;
pub mod legacy;
pub mod membership;
pub mod seal;

pub use gossip::{
    Agreement, Cluster, ClusterEvent, ClusterLimits, ClusterOptions, ClusterState, LEAVE_LIMIT,
    MemberView, NAME_LIMIT, NameTaken, NewClusterError, NewWriter, OneWayView, READY_LIMIT,
    ReadyState, SharedNode, Traffic, slices_of,
};
