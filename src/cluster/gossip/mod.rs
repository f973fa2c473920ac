//! Replication between nodes, without a socket, a clock or a thread.
//!
//! Time comes in as an argument, a [`Duration`] since any fixed moment; datagrams come in through
//! [`Cluster::handle`] and go out through [`Cluster::transmit`]; [`Cluster::next_wake`] says when
//! [`Cluster::wake`] wants to be called. The only randomness is a seed.
//!
//! ```text
//!             handle(datagram)                      transmit() -> datagram, address
//!                   |                                     ^
//!   Openers ------->+--> membership (foca)                |  paced, one peer after the other
//!                   |                              +------+-------+
//!                   +--> peers: acks, questions -->| per peer:    |
//!                   |                              | acks, words, |<-- push: our slice, what changed
//!                   +--> slices.merge              | pieces       |<-- served: groups asked for
//!                   |                              +--------------+
//!                   +--> siblings, repair: digests, hashes, pulls
//! ```
//!
//! - **About** (`about.rs`): who writes a peer's slices, and which sketches it has; before that, nothing else.
//! - **Push** (`sweep.rs`): each node sends what changed in its own slice to every live member.
//! - **Repair** (`siblings.rs`, `repair.rs`): each round, a digest of all slices goes to one live member; whoever is
//!   behind pulls. So slices of nodes that are gone, or cannot be reached, come from any neighbour.
//! - **One way** ([`Cluster::push_to`]): a target gets both, and is never pulled from.

mod about;
mod claims;
mod contact;
mod flight;
mod incoming;
mod leaving;
mod limits;
mod outgoing;
mod pacer;
mod peer;
mod readiness;
mod received;
mod repair;
mod rounds;
mod seeds;
mod siblings;
mod state;
mod status;
mod sweep;
mod targets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::ChaCha12Rng;
use rand::{Rng, SeedableRng};

use self::about::Ourselves;
use self::contact::Contacts;
use self::leaving::Leaving;
pub use self::limits::ClusterLimits;
use self::pacer::Pacer;
use self::peer::Peer;
use self::readiness::Readiness;
use self::repair::Repair;
use self::seeds::Seeds;
use self::siblings::{Compared, Place};
pub use self::state::{
    Agreement, ClusterEvent, ClusterState, MemberStatus, OneWayStatus, ReadyState, Traffic,
};
use super::membership::{Member, Membership, MembershipOptions};
use super::seal::{
    HEADER_BYTES, KeyRing, KnownChannel, Openers, OpenersOptions, Sealer, TAG_BYTES,
};
use crate::replica::{NoMemory, Replica, Slices};
use crate::wire::cluster::{DATAGRAM_BYTES_MAX, Head, SliceId};
use crate::wire::{Boot, SketchNumber};

/// Cells that one call of [`Cluster::wake`] compares: a fraction of a millisecond's work.
const PUBLISH_CELLS: usize = 1 << 18;
/// A target that has not answered for this long is given up; so is who pushed to us one way.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// A node that joins is ready after this time at the latest, whatever it lacks.
pub const READY_LIMIT: Duration = Duration::from_secs(10);
/// A node that leaves waits this long for acks at most.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// A member that was heard within so many rounds is probably still there.
const HEARD_LATELY_ROUNDS: u32 = 10;
/// Publishing times that are remembered, for telling a lag in seconds.
const PUBLISHED_MAX: usize = 1_024;
/// Events that wait to be polled; more are dropped, since they are for a log.
const EVENTS_MAX: usize = 256;
/// Strangers who are remembered, so that each is told of once.
const STRANGERS_MAX: usize = 256;

/// What a [`Cluster`] is made of.
#[derive(Debug)]
pub struct ClusterOptions {
    /// This node. Its node is that of the replica's own slice.
    pub me: Member,
    /// The cluster's keys.
    pub keys: KeyRing,
    /// Of all that is random in here.
    pub seed: u64,
    /// Time between rounds.
    pub gossip_interval: Duration,
    /// Bytes that go out to all peers together, in a second. Membership and acks are counted, but do
    /// not wait.
    pub gossip_rate_bytes_per_s: u64,
    /// What both ends compare before they exchange anything of the sketch:
    /// [`fingerprint`](crate::replica::fingerprint).
    pub fingerprint: u64,
    /// There are others to join: not ready before everything of theirs is here (or
    /// [`READY_LIMIT`] has passed), and at the end there is somebody to be told.
    pub join: bool,
    /// How much of everything.
    pub limits: ClusterLimits,
}

/// One node's part in a cluster.
pub struct Cluster {
    boot: Boot,
    own: SliceId,
    cells: u32,
    ourselves: Arc<Ourselves>,
    limits: ClusterLimits,
    gossip_interval: Duration,
    keys: KeyRing,
    random: ChaCha12Rng,
    membership: Membership,
    openers: Openers,
    channels: BTreeMap<SocketAddr, Outgoing>,
    slices: Slices,
    peers: BTreeMap<Boot, Peer>,
    targets: BTreeMap<SocketAddr, Target>,
    seeds: Seeds,
    repair: Repair,
    pacer: Pacer,
    /// Who was served last; the next one's turn is after it.
    turn: Boot,
    contacts: Contacts,
    next_round: Duration,
    rounds: u64,
    is_publishing: bool,
    published: VecDeque<(u64, Duration)>,
    /// Where the next round's part of the digest begins.
    digest_from: Place,
    compared: Compared,
    started_at: Duration,
    converged_at: Option<Duration>,
    /// There are others to join.
    joins: bool,
    readiness: Readiness,
    /// The highest version of our slice that anybody had completely.
    told_max: u64,
    leaving: Option<Leaving>,
    sent: Traffic,
    received: Traffic,
    resends: u64,
    refused: BTreeMap<&'static str, u64>,
    missing: BTreeSet<SliceId>,
    /// Addresses from which something came that no key opens.
    strangers: BTreeSet<SocketAddr>,
    /// Sketches that others have otherwise, of which it was told.
    apart: BTreeSet<(SocketAddr, SketchNumber)>,
    events: VecDeque<ClusterEvent>,
    /// Kept for its memory.
    group: Vec<(u32, u64)>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("own", &self.own)
            .field("rounds", &self.rounds)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Outgoing {
    sealer: Sealer,
    used_at: Duration,
}

/// Whom we push to one way.
#[derive(Debug)]
struct Target {
    boot: Option<Boot>,
    heard_at: Duration,
}

/// Whom a datagram came from.
#[derive(Debug, Clone, Copy)]
struct From {
    boot: Boot,
    node: u64,
    address: SocketAddr,
}

impl Cluster {
    /// A node that knows nobody yet. What `replica` holds already is published with the first round
    /// in which there is somebody to tell.
    ///
    /// # Errors
    /// No memory for the copy of the own slice and its hashes.
    pub fn try_new(
        now: Duration,
        options: ClusterOptions,
        replica: Arc<Replica>,
    ) -> Result<Self, NoMemory> {
        let mut random = ChaCha12Rng::seed_from_u64(options.seed);
        let membership_options = MembershipOptions {
            max_bytes: DATAGRAM_BYTES_MAX - HEADER_BYTES - TAG_BYTES - Head::BYTES_MAX - 3,
            ..MembershipOptions::default()
        };
        let membership = Membership::new(options.me, random.next_u64(), membership_options);
        let openers = OpenersOptions::default();
        let limits = options.limits.in_range();
        let own = replica.own_slice();
        let cells = replica.own().geometry().cells() as u32;
        Ok(Self {
            boot: options.me.boot,
            own,
            cells,
            ourselves: Arc::new(Ourselves::new(&own, options.fingerprint, cells)),
            limits,
            gossip_interval: options.gossip_interval,
            openers: Openers::new(options.keys.clone(), openers),
            keys: options.keys,
            random,
            membership,
            channels: BTreeMap::new(),
            slices: Slices::try_new(replica)?,
            peers: BTreeMap::new(),
            targets: BTreeMap::new(),
            seeds: Seeds::default(),
            repair: Repair::new(options.gossip_interval, limits),
            pacer: Pacer::new(now, options.gossip_rate_bytes_per_s),
            turn: Boot(0),
            contacts: Contacts::default(),
            next_round: now + options.gossip_interval,
            rounds: 0,
            is_publishing: false,
            published: VecDeque::new(),
            digest_from: Place::default(),
            compared: Compared::new(limits.claims),
            started_at: now,
            converged_at: None,
            joins: options.join,
            readiness: Readiness::new(now, options.join),
            told_max: 0,
            leaving: None,
            sent: Traffic::default(),
            received: Traffic::default(),
            resends: 0,
            refused: BTreeMap::new(),
            missing: BTreeSet::new(),
            strangers: BTreeSet::new(),
            apart: BTreeSet::new(),
            events: VecDeque::new(),
            group: Vec::new(),
        })
    }

    /// Announces this node to whoever is at `seed`. To be called at any time, with whatever a name leads to
    /// then, as long as nobody there [is met](Self::is_met); the last 64 addresses are tried now and then by
    /// themselves as long as no live member has them, so that groups that formed apart find each other.
    pub fn join(&mut self, now: Duration, seed: SocketAddr) {
        self.seeds.note(now, seed);
        self.membership.join(now, seed);
    }

    /// No other member is up.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.membership.is_alone()
    }

    /// Everything that the cluster had at the join is here, or [`READY_LIMIT`] has passed, or there was
    /// nobody to join.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// The slices that are held.
    #[must_use]
    pub fn slices(&self) -> &Slices {
        &self.slices
    }

    /// The channels that members are heard on, for whoever reads the socket: what comes on others is a stranger's,
    /// or a newcomer's. [`channel_changes`](Self::channel_changes) grows when it changes.
    pub fn known_channels(&self, now: Duration) -> impl Iterator<Item = KnownChannel> {
        self.openers.known(now)
    }

    /// Grows whenever a channel becomes known, or contested.
    #[must_use]
    pub fn channel_changes(&self) -> u64 {
        self.openers.changes()
    }

    /// Datagrams that came from the cluster; what [`handle`](Self::handle) refuses is not among them.
    #[must_use]
    pub fn datagrams_taken(&self) -> u64 {
        self.received.datagrams
    }

    /// What a log should say next.
    pub fn poll_event(&mut self) -> Option<ClusterEvent> {
        self.events.pop_front()
    }
}
#[cfg(test)]
mod tests;
