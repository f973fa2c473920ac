//! The state machine that holds all parts, and says in which order things happen.

mod exchange;
mod frames;
mod handle;
mod leave;
mod members;
mod name;
mod one_way;
mod pardons;
mod rounds;
mod saving;
mod snapshots;
mod status;
mod top;
mod transmit;
mod wake;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::ChaCha12Rng;
use rand::{Rng, SeedableRng};

use self::rounds::Rounds;
use super::contact::{Contacts, OneWayTargets, SeedAddresses};
use super::lifecycle::{Leaving, Naming, Readiness};
use super::limits::ClusterLimits;
use super::pacer::Pacer;
use super::pardons::PardonGossip;
use super::peers::{Ourselves, Peers};
use super::push::{Publishing, UrgentKeys};
use super::repair::Repair;
use super::reports::{Events, Refusals};
use super::sketches::{NewClusterError, Sketches};
use super::state::ClusterEvent;
use super::transport::{Inbox, Outbox};
use crate::membership::{Member, Membership, MembershipOptions};
use crate::seal::{HEADER_BYTES, KeyRing, KnownChannel, TAG_BYTES};
use rmbd_proto::SketchNumber;
use rmbd_proto::cluster::{DATAGRAM_BYTES_MAX, FRAME_HEAD_BYTES, Head};
use rmbd_store::Slices;

/// The settings of a [`Cluster`].
#[derive(Debug)]
pub struct ClusterOptions {
    /// This node. Its node is that of the own slices.
    pub me: Member,
    /// The cluster's keys.
    pub keys: KeyRing,
    /// The seed of all that is random in here.
    pub seed: u64,
    /// Time between rounds.
    pub gossip_interval: Duration,
    /// Bytes that go out to all peers together, in a second. Membership and acks are counted, but do
    /// not wait.
    pub gossip_rate_bytes_per_s: u64,
    /// There are others to join: not ready before everything of theirs is here (or
    /// [`READY_LIMIT`](super::READY_LIMIT) has passed), and at the end there is somebody to be told.
    pub join: bool,
    /// The names of the largest keys are told to members, and heard. They are private data: not where others can read
    /// them.
    pub shares_names: bool,
    /// Bounds of memory and work.
    pub limits: ClusterLimits,
}

/// One node's part in a cluster, as a state machine. It opens no socket, reads no clock and starts no thread; the same
/// seed and the same calls give the same datagrams.
///
/// Time is an argument of its calls: a [`Duration`] since any fixed moment, the same for all. It should not go back;
/// where it does, things happen later, and nothing else. The calls are of four kinds:
///
/// - *Input*: [`handle`](Self::handle) takes a datagram that came, and [`wake`](Self::wake) does what time has made
///   due.
/// - *Output*: [`transmit`](Self::transmit) gives datagrams that are to go out, [`poll_event`](Self::poll_event) gives
///   what a log should say, and [`next_wake`](Self::next_wake) says when [`wake`](Self::wake) wants to be called.
/// - *Orders*: [`join`](Self::join) meets others, [`push_to`](Self::push_to) sends everything to somebody who is no
///   member, [`move_to`](Self::move_to) says that we are reached elsewhere,
///   [`share_pardons`](Self::share_pardons) says of which pardons others are told, and
///   [`leave`](Self::leave) ends our part.
/// - *Questions*, which change nothing: [`status`](Self::status), [`slices`](Self::slices),
///   [`slices_of`](Self::slices_of), [`is_ready`](Self::is_ready), [`is_flushed`](Self::is_flushed) and others.
///
/// Its caller does this, again and again:
///
/// 1. Wait until a datagram comes or [`next_wake`](Self::next_wake) is there, whichever is first. That time may change
///    with every call but questions, so it is asked each time.
/// 2. Call [`handle`](Self::handle) for each datagram that has come, then [`wake`](Self::wake), which may also be
///    called early.
/// 3. Call [`transmit`](Self::transmit) until it says `None`, and send what it gives. Then call
///    [`poll_event`](Self::poll_event) until it says `None`.
///
/// Orders may be given at any time between these. After [`leave`](Self::leave) it goes on like this until
/// [`is_flushed`](Self::is_flushed); then what is left to [`transmit`](Self::transmit) is good-bye, and the cluster can
/// be dropped. A datagram that is lost, doubled, late or made up does no harm, whether it was to come or to go out.
pub struct Cluster {
    ourselves: Arc<Ourselves>,
    random: ChaCha12Rng,
    rounds: Rounds,
    membership: Membership,
    seeds: SeedAddresses,
    contacts: Contacts,
    one_way: OneWayTargets,
    inbox: Inbox,
    outbox: Outbox,
    sketches: Sketches,
    publishing: Publishing,
    urgent: UrgentKeys,
    peers: Peers,
    repair: Repair,
    pardons: PardonGossip,
    shares_names: bool,
    readiness: Readiness,
    naming: Naming,
    /// Somebody may have heard of our slices under their present name.
    has_met_anybody: bool,
    leaving: Leaving,
    limits: ClusterLimits,
    events: Events,
    refusals: Refusals,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("own", &self.sketches.first().own_slice())
            .field("rounds", &self.rounds)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A node that knows nobody yet, with the slices of these sketches (see [`slices_of`](super::slices_of)): 1 to 256,
    /// each with its own number, in all of which the same writer of the same node writes. Others are told of them in
    /// this order. What was added to them already is published with the first round in which there is somebody to tell.
    ///
    /// Where our own slices go on from an earlier start ([`Slices::is_resumed`]), nothing of them goes out before
    /// somebody who is to get it has told what it has of them; and where they turn out to be written by another node,
    /// too, they get a new writer, which a [`ClusterEvent::NewWriter`] says. Then this node has another boot, too.
    ///
    /// # Errors
    /// Fails as [`NewClusterError`] says.
    pub fn try_new(
        now: Duration,
        options: ClusterOptions,
        sketches: Vec<Slices>,
    ) -> Result<Self, NewClusterError> {
        let mut random = ChaCha12Rng::seed_from_u64(options.seed);
        let membership_options = MembershipOptions {
            max_bytes: MEMBERSHIP_BYTES_MAX,
            ..MembershipOptions::default()
        };
        let membership = Membership::new(options.me, random.next_u64(), membership_options);
        let limits = options.limits.in_range();
        let boot = options.me.boot;
        let (sketches, told) = Sketches::try_new(sketches)?;
        let naming = Naming::new(&sketches);
        let mut publishing = Publishing::new(now);
        // It was at rest when the earlier start ended, and is kept elsewhere than here.
        let ours = sketches.our_slices();
        ours.for_each(|ours| publishing.note_told(ours.sketch, ours.version));
        let pacer = Pacer::new(now, options.gossip_rate_bytes_per_s);
        Ok(Self {
            ourselves: Arc::new(Ourselves::new(boot, &told)),
            random,
            rounds: Rounds::new(now, options.gossip_interval),
            membership,
            seeds: SeedAddresses::default(),
            contacts: Contacts::default(),
            one_way: OneWayTargets::new(limits.targets),
            inbox: Inbox::new(boot, options.keys.clone()),
            outbox: Outbox::new(boot, options.keys, limits.channels, pacer),
            sketches,
            publishing,
            urgent: UrgentKeys::new(limits.urgent_keys_a_round),
            peers: Peers::new(limits),
            repair: Repair::new(options.gossip_interval, limits),
            pardons: PardonGossip::new(boot),
            shares_names: options.shares_names,
            readiness: Readiness::new(now, options.join),
            naming,
            limits,
            has_met_anybody: false,
            leaving: Leaving::new(options.join),
            events: Events::default(),
            refusals: Refusals::default(),
        })
    }

    /// Announces this node to whoever is at `seed`. To be called at any time, with whatever a name leads to
    /// then, as long as nobody there [is met](Self::is_met); the last 64 addresses are tried now and then by
    /// themselves as long as no live member has them, so that groups that formed apart find each other.
    pub fn join(&mut self, now: Duration, seed: SocketAddr) {
        self.seeds.note(now, seed);
        self.membership.join(now, seed);
    }

    /// We are reached at another address from now on, or for the first time, where `me` had none: all
    /// members learn of it. Nothing of what was counted changes.
    pub fn move_to(&mut self, now: Duration, address: SocketAddr) {
        self.membership.move_to(now, address);
        self.follow_membership(now);
    }

    /// Opens with these keys from now on, and seals with the first of them. Members go on without a break, as long as
    /// each opens with the key by which the other seals.
    pub fn set_keys(&mut self, now: Duration, keys: KeyRing) {
        self.inbox.set_keys(now, keys.clone());
        self.outbox.set_keys(keys, &mut self.random);
    }

    /// The next thing that a log should say.
    pub fn poll_event(&mut self) -> Option<ClusterEvent> {
        self.events.pop()
    }

    /// Our own member as it is now.
    #[must_use]
    pub fn me(&self) -> &Member {
        self.membership.me()
    }

    /// No other member is up.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.membership.is_alone()
    }

    /// Whether a live member has this address, or we have it. A name that leads to another one should be
    /// looked up again, and what it gives be [joined](Self::join): it may be in a group that formed apart.
    #[must_use]
    pub fn is_met(&self, address: SocketAddr) -> bool {
        address == self.membership.me().address || self.peers.is_live_address(address)
    }

    /// Everything that the cluster had at the join is here, or [`READY_LIMIT`](super::READY_LIMIT) has passed, or
    /// there was nobody to join.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// The slices that are held of the first sketch.
    #[must_use]
    pub fn slices(&self) -> &Slices {
        self.sketches.first()
    }

    /// The slices that are held of one sketch; `None` if it is not here.
    #[must_use]
    pub fn slices_of(&self, sketch: SketchNumber) -> Option<&Slices> {
        self.sketches.get(sketch)
    }

    /// The slices that are held, of all sketches in the order of their numbers.
    pub fn all_slices(&self) -> impl ExactSizeIterator<Item = &Slices> {
        self.sketches.iter()
    }

    /// The channels that members are heard on, for whoever reads the socket: what comes on others is a stranger's,
    /// or a newcomer's. [`channel_changes`](Self::channel_changes) grows when it changes.
    pub fn known_channels(&self, now: Duration) -> impl Iterator<Item = KnownChannel> {
        self.inbox.known_channels(now)
    }

    /// Grows whenever a channel becomes known, or contested.
    #[must_use]
    pub fn channel_changes(&self) -> u64 {
        self.inbox.channel_changes()
    }

    /// Datagrams that came from the cluster; what [`handle`](Self::handle) refuses is not among them.
    #[must_use]
    pub fn datagrams_taken(&self) -> u64 {
        self.inbox.received().datagrams
    }
}

/// The longest message of membership: alone in a datagram, it fits.
const MEMBERSHIP_BYTES_MAX: usize =
    DATAGRAM_BYTES_MAX - HEADER_BYTES - TAG_BYTES - Head::BYTES_MAX - FRAME_HEAD_BYTES;

#[cfg(test)]
mod tests;
