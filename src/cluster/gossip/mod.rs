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
//!                   +--> repair: digests, hashes, pulls
//! ```
//!
//! - **Push** (`sweep.rs`): each node sends what changed in its own slice to every live member.
//! - **Repair** (`repair.rs`): each round, a digest of all slices goes to one live member; whoever is
//!   behind pulls. So slices of nodes that are gone, or cannot be reached, come from any neighbour.
//! - **One way** ([`Cluster::push_to`]): a target gets both, and is never pulled from.

mod flight;
mod pacer;
mod peer;
mod received;
mod repair;
mod seeds;
mod state;
mod sweep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::ChaCha12Rng;
use rand::{Rng, RngExt, SeedableRng};

use self::pacer::Pacer;
use self::peer::{DIGEST_LINES, Kind, Peer, Question, Written};
use self::repair::Repair;
use self::seeds::Seeds;
pub use self::state::{ClusterEvent, ClusterState, MemberStatus, OneWayStatus, Traffic};
use super::membership::{Member, MemberState, Membership, MembershipOptions};
use super::seal::{
    Channel, HEADER_BYTES, KeyRing, Openers, OpenersOptions, Refused, SealError, Sealer, TAG_BYTES,
};
use crate::replica::{Published, Replica, SliceRefused, Slices};
use crate::sketch::SketchError;
use crate::wire::cluster::{
    DATAGRAM_BYTES_MAX, Frame, FrameWriter, Head, SECTION_GROUPS, SliceId, frames, head,
};

/// Cells that one call of [`Cluster::wake`] compares: a fraction of a millisecond's work.
const PUBLISH_CELLS: usize = 1 << 18;
/// Peers that are remembered, those that are down included.
const PEERS_MAX: usize = 2_048;
/// Addresses that have a channel.
const CHANNELS_MAX: usize = 4_096;
/// Targets that are pushed to one way.
const TARGETS_MAX: usize = 256;
/// A target that has not answered for this long is given up; so is who pushed to us one way.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// A node that joins is ready after this time at the latest, whatever it lacks.
pub const READY_LIMIT: Duration = Duration::from_secs(10);
/// A node that leaves waits this long for acks at most.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// Lines of a digest in one round; the next round goes on where it ended.
const DIGEST_LINES_A_ROUND: usize = 240;
/// Publishing times that are remembered, for telling a lag in seconds.
const PUBLISHED_MAX: usize = 1_024;
/// Events that wait to be polled; more are dropped, since they are for a log.
const EVENTS_MAX: usize = 256;
/// Strangers who are remembered, so that each is told of once.
const STRANGERS_MAX: usize = 256;

/// What a [`Cluster`] is made of.
#[derive(Debug)]
pub struct ClusterOptions {
    /// This node. Its node and boot are those of the replica's own slice.
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
    /// What both ends compare before all else: [`fingerprint`](crate::replica::fingerprint).
    pub fingerprint: u64,
    /// There are others to join: not ready before everything of theirs is here (or
    /// [`READY_LIMIT`] has passed).
    pub join: bool,
}

/// One node's part in a cluster.
pub struct Cluster {
    own: SliceId,
    cells: u32,
    fingerprint: u64,
    gossip_interval: Duration,
    keys: KeyRing,
    random: ChaCha12Rng,
    membership: Membership,
    openers: Openers,
    channels: BTreeMap<SocketAddr, Outgoing>,
    slices: Slices,
    peers: BTreeMap<u64, Peer>,
    targets: BTreeMap<SocketAddr, Target>,
    seeds: Seeds,
    repair: Repair,
    pacer: Pacer,
    /// Who was served last; the next one's turn is after it.
    turn: u64,
    /// Addresses that get a digest without our knowing who is there.
    hellos: VecDeque<SocketAddr>,
    next_round: Duration,
    rounds: u64,
    is_publishing: bool,
    published: VecDeque<(u64, Duration)>,
    digest_skip: usize,
    started_at: Duration,
    converged_at: Option<Duration>,
    readiness: Readiness,
    leaving: Option<Leaving>,
    sent: Traffic,
    received: Traffic,
    resends: u64,
    refused: BTreeMap<&'static str, u64>,
    missing: BTreeSet<SliceId>,
    strangers: BTreeSet<SocketAddr>,
    events: VecDeque<ClusterEvent>,
    /// Kept for its memory.
    group: Vec<(u32, u32)>,
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
    boot: Option<u64>,
    heard_at: Duration,
}

#[derive(Debug)]
enum Readiness {
    /// For a first digest.
    Waiting {
        since: Duration,
    },
    /// For what the first digest named.
    Syncing {
        since: Duration,
        missing: BTreeMap<SliceId, u64>,
    },
    Ready,
}

#[derive(Debug)]
struct Leaving {
    deadline: Duration,
    /// The last pass over the live cells has been made.
    has_published: bool,
    has_left: bool,
}

/// Whom a datagram came from.
#[derive(Debug, Clone, Copy)]
struct From {
    boot: u64,
    node: u64,
    address: SocketAddr,
    /// It knows that it talks to this start of ours.
    knows_us: bool,
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
        replica: &Replica,
    ) -> Result<Self, SketchError> {
        let mut random = ChaCha12Rng::seed_from_u64(options.seed);
        let membership_options = MembershipOptions {
            max_bytes: DATAGRAM_BYTES_MAX - HEADER_BYTES - TAG_BYTES - Head::BYTES_MAX - 3,
            ..MembershipOptions::default()
        };
        let membership = Membership::new(options.me, random.next_u64(), membership_options);
        let openers = OpenersOptions::default();
        Ok(Self {
            own: replica.own_slice(),
            cells: replica.own().geometry().cells() as u32,
            fingerprint: options.fingerprint,
            gossip_interval: options.gossip_interval,
            openers: Openers::new(options.keys.clone(), options.fingerprint, openers),
            keys: options.keys,
            random,
            membership,
            channels: BTreeMap::new(),
            slices: Slices::try_new(replica)?,
            peers: BTreeMap::new(),
            targets: BTreeMap::new(),
            seeds: Seeds::default(),
            repair: Repair::new(options.gossip_interval),
            pacer: Pacer::new(now, options.gossip_rate_bytes_per_s),
            turn: 0,
            hellos: VecDeque::new(),
            next_round: now + options.gossip_interval,
            rounds: 0,
            is_publishing: false,
            published: VecDeque::new(),
            digest_skip: 0,
            started_at: now,
            converged_at: None,
            readiness: if options.join {
                Readiness::Waiting { since: now }
            } else {
                Readiness::Ready
            },
            leaving: None,
            sent: Traffic::default(),
            received: Traffic::default(),
            resends: 0,
            refused: BTreeMap::new(),
            missing: BTreeSet::new(),
            strangers: BTreeSet::new(),
            events: VecDeque::new(),
            group: Vec::new(),
        })
    }

    /// Announces this node to whoever is at `seed`. To be repeated while [`is_alone`](Self::is_alone),
    /// since names may lead elsewhere then; the address itself is tried now and then as long as no live
    /// member has it, so that groups that formed apart find each other.
    pub fn join(&mut self, now: Duration, seed: SocketAddr) {
        self.seeds.note(now, seed);
        self.membership.join(now, seed);
    }

    /// No other member is up.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.membership.is_alone()
    }

    /// Pushes everything that is known here to the node at `target`, its cluster address, and takes
    /// nothing from it. A member is left alone; a target that becomes one is no target any more. One
    /// that does not answer for half a minute is given up.
    pub fn push_to(&mut self, now: Duration, target: SocketAddr) {
        let is_member = self
            .membership
            .members()
            .any(|(member, state)| member.address == target && !matches!(state, MemberState::Down));
        let is_full = self.targets.len() >= TARGETS_MAX;
        if is_member || is_full || target == self.membership.me().address {
            return;
        }
        let heard_at = now;
        let fresh = Target {
            boot: None,
            heard_at,
        };
        self.targets.entry(target).or_insert(fresh).heard_at = heard_at;
        self.greet(target);
    }

    /// Publishes what is left, waits until all live members have it ([`LEAVE_LIMIT`] at most), then
    /// says good-bye. [`is_flushed`](Self::is_flushed) tells when it is over.
    pub fn leave(&mut self, now: Duration) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving {
                deadline: now + LEAVE_LIMIT,
                has_published: false,
                has_left: false,
            });
            self.is_publishing = self.has_audience();
            // At once, not with the next round.
            self.next_round = now;
        }
    }

    /// What [`leave`](Self::leave) began is over, and every datagram of it has gone.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.leaving
            .as_ref()
            .is_some_and(|leaving| leaving.has_left)
    }

    /// Everything of the neighbours is here, or it has taken too long, or there was nobody to join.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.readiness, Readiness::Ready)
    }

    /// The slices that are held.
    #[must_use]
    pub fn slices(&self) -> &Slices {
        &self.slices
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

// What comes in.
impl Cluster {
    /// Takes a datagram; it is decrypted in place. Nothing in it can panic, and what does not come from
    /// the cluster changes nothing but counters.
    pub fn handle(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
        replica: &Replica,
    ) {
        let bytes = datagram.len();
        if bytes > DATAGRAM_BYTES_MAX {
            return self.refuse("too_long");
        }
        // Moved out, since what is opened borrows the datagram only, but `open` borrows all of it.
        let opened = match self.openers.open(now, datagram) {
            Ok(opened) => opened,
            Err(refused) => return self.note_refused(from, refused),
        };
        let (channel, number) = (opened.channel, opened.number);
        let Some((head, rest)) = head(opened.payload) else {
            return self.refuse("malformed");
        };
        if channel.boot == self.own.boot {
            return self.refuse("own_datagram");
        }
        if head.to_boot != 0 && head.to_boot != self.own.boot {
            return self.refuse("other_boot");
        }
        self.received.datagrams += 1;
        self.received.bytes += bytes as u64;
        self.received.overhead += (bytes - rest.len()) as u64;
        let from = From {
            boot: channel.boot,
            node: head.node,
            address: head.address,
            knows_us: head.to_boot != 0,
        };
        if let Some(peer) = self.peers.get_mut(&from.boot) {
            peer.heard_at = Some(now);
            peer.address = from.address;
            peer.bytes_received += bytes as u64;
        }
        self.hear_target(now, from);
        if self.take_frames(now, from, rest, replica)
            && let Some(peer) = self.peer(now, from)
        {
            peer.received.note(now, channel.id, number);
        }
        self.repair_step(now);
        self.leave_step(now);
    }

    /// Takes all frames; says whether they ask for an ack.
    fn take_frames(&mut self, now: Duration, from: From, rest: &[u8], replica: &Replica) -> bool {
        let mut asks_for_ack = false;
        let mut all = frames(rest, self.cells);
        let mut unread = rest.len();
        while let Some(frame) = all.next() {
            let length = (unread - all.unread()) as u64;
            unread = all.unread();
            let Ok(frame) = frame else {
                self.refuse("malformed");
                break;
            };
            let kind = match frame {
                Frame::Membership { .. } => &mut self.received.membership,
                Frame::Ack { .. } => &mut self.received.acks,
                Frame::Cells { .. } | Frame::Complete { .. } => &mut self.received.pushes,
                Frame::Groups { .. } | Frame::Pull { .. } => &mut self.received.pulls,
                _ => &mut self.received.digests,
            };
            *kind += length;
            asks_for_ack |= matches!(
                frame,
                Frame::Cells { .. } | Frame::Groups { .. } | Frame::Complete { .. }
            );
            match frame {
                Frame::Membership { message } => self.take_membership(now, message),
                Frame::Digest { entries } => self.take_digest(now, from, entries),
                Frame::DigestAsked => self.send_digest(now, from),
                // What follows is for somebody who knows us.
                _ if !from.knows_us => self.refuse("unknown_receiver"),
                frame => self.take_data(now, from, frame, replica),
            }
        }
        asks_for_ack && from.knows_us
    }

    fn take_membership(&mut self, now: Duration, message: &[u8]) {
        if self.membership.handle(now, message).is_err() {
            self.refuse("membership");
        }
        self.follow_membership(now);
    }

    fn take_data(&mut self, now: Duration, from: From, frame: Frame<'_>, replica: &Replica) {
        match frame {
            Frame::Ack { channel, ranges } => self.take_ack(now, from, channel, ranges),
            Frame::Cells { slice, cells } => {
                let merged = self.slices.merge(replica, &slice, cells);
                self.note_merged(&slice, merged);
            }
            Frame::Groups { slice, mut groups } => {
                let mut cells = std::mem::take(&mut self.group);
                while let Some(group) = groups.next_group(&mut cells) {
                    let merged = self.slices.merge(replica, &slice, cells.iter().copied());
                    self.note_merged(&slice, merged);
                    self.repair.arrived(now, from.boot, &slice, group);
                }
                self.group = cells;
            }
            Frame::Complete {
                slice,
                base,
                version,
            } => {
                if slice != self.own {
                    self.slices.complete(&slice, base, version);
                }
            }
            Frame::SectionsAsked { slice, first } => {
                self.answer(now, from, Question::SectionsAnswer { slice, first });
            }
            Frame::GroupHashesAsked { slice, section } => {
                self.answer(now, from, Question::GroupsAnswer { slice, section });
            }
            Frame::Pull { slice, groups } => {
                if self.slices.has(&slice)
                    && let Some(peer) = self.peer(now, from)
                {
                    peer.serve(slice, groups.flatten());
                }
            }
            Frame::Sections {
                slice,
                version,
                first,
                hashes,
            } => {
                let sections = self.sections();
                let hashes = (first, hashes);
                let boot = from.boot;
                let slices = &self.slices;
                self.repair
                    .take_sections(now, slices, boot, &slice, version, hashes, sections);
            }
            Frame::GroupHashes {
                slice,
                section,
                hashes,
            } => {
                let slices = &self.slices;
                self.repair
                    .take_groups(now, slices, from.boot, &slice, section, hashes);
            }
            Frame::Membership { .. } | Frame::Digest { .. } | Frame::DigestAsked => {}
        }
    }

    fn take_ack(
        &mut self,
        now: Duration,
        from: From,
        channel: u64,
        ranges: impl Iterator<Item = std::ops::RangeInclusive<u64>>,
    ) {
        let Some(peer) = self.peers.get_mut(&from.boot) else {
            return;
        };
        let ours = self.channels.get(&peer.address);
        if ours.is_none_or(|ours| ours.sealer.channel().id != channel) {
            return;
        }
        let outcome = peer.flight.ack(now, ranges);
        self.resends += peer.settle(outcome);
        peer.push.begin(self.slices.own_version(), self.cells);
        self.note_progress(now, from.boot);
    }

    fn take_digest(
        &mut self,
        now: Duration,
        from: From,
        entries: impl Iterator<Item = crate::wire::cluster::DigestEntry>,
    ) {
        let own_version = self.slices.own_version();
        if self.is_target(from.boot) {
            // It is pushed to one way: what it has is its own business, but for our slice.
            let ours = entries.filter(|entry| entry.slice == self.own);
            let heard = ours.map(|entry| entry.version).max();
            if let (Some(heard), Some(peer)) = (heard, self.peers.get_mut(&from.boot)) {
                peer.push.heard(heard, own_version);
            }
            return;
        }
        // Somebody who is no member pushes one way: it will have to be asked.
        if self.peer(now, from).is_none() {
            return;
        }
        let mut first = BTreeMap::new();
        for entry in entries {
            if entry.slice == self.own {
                if let Some(peer) = self.peers.get_mut(&from.boot) {
                    peer.push.heard(entry.version, own_version);
                }
                continue;
            }
            first.insert(entry.slice, entry.version);
            let writer = self.peers.get(&entry.slice.boot);
            let is_pushed = writer.is_some_and(Peer::is_live_member);
            let sender = self.peers.get(&from.boot);
            let never_asks = sender.is_some_and(|sender| sender.kind == Kind::Giver);
            let relation = (is_pushed, never_asks);
            self.repair
                .compare(now, &mut self.slices, from.boot, entry, relation);
        }
        self.note_first_digest(from, first);
        self.note_progress(now, from.boot);
    }

    fn note_first_digest(&mut self, from: From, first: BTreeMap<SliceId, u64>) {
        let is_member = self.peers.get(&from.boot).is_some_and(Peer::is_live_member);
        if let Readiness::Waiting { since } = self.readiness
            && is_member
        {
            self.readiness = Readiness::Syncing {
                since,
                missing: first,
            };
        }
    }

    fn note_merged(&mut self, slice: &SliceId, merged: Result<u64, SliceRefused>) {
        let Err(refused) = merged else {
            return;
        };
        self.refuse(reason(&refused));
        if self.slices.is_refused(slice) && self.missing.len() < STRANGERS_MAX {
            let is_first = self.missing.insert(*slice);
            if is_first {
                self.report(ClusterEvent::SliceRefused {
                    slice: *slice,
                    reason: refused.to_string(),
                });
            }
        }
    }

    fn note_refused(&mut self, from: SocketAddr, refused: Refused) {
        self.refuse(refused.name());
        let event = match refused {
            Refused::Fingerprint { theirs } => ClusterEvent::FingerprintMismatch { from, theirs },
            Refused::Forged => ClusterEvent::NoKeyOpens { from },
            _ => return,
        };
        if self.strangers.len() < STRANGERS_MAX && self.strangers.insert(from) {
            self.report(event);
        }
    }

    fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    fn report(&mut self, event: ClusterEvent) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
    }

    fn answer(&mut self, now: Duration, from: From, answer: Question) {
        if let Some(peer) = self.peer(now, from) {
            peer.ask(answer);
        }
    }

    /// The peer that a datagram came from; made, where there is room, for one that is no member.
    fn peer(&mut self, now: Duration, from: From) -> Option<&mut Peer> {
        if !self.peers.contains_key(&from.boot) {
            if self.peers.len() >= PEERS_MAX {
                self.refuse("too_many_peers");
                return None;
            }
            let kind = if self.is_target(from.boot) {
                Kind::Target
            } else {
                Kind::Giver
            };
            let mut peer = Peer::new(from.node, from.boot, from.address, kind);
            peer.heard_at = Some(now);
            self.peers.insert(from.boot, peer);
        }
        self.peers.get_mut(&from.boot)
    }

    fn sections(&self) -> u32 {
        let groups = self
            .cells
            .div_ceil(crate::wire::cluster::GROUP_CELLS as u32);
        groups.div_ceil(SECTION_GROUPS as u32)
    }
}

/// The label of a refused slice.
fn reason(refused: &SliceRefused) -> &'static str {
    match refused {
        SliceRefused::OwnSlice => "own_slice",
        SliceRefused::TooManyOrigins { .. } => "too_many_origins",
        SliceRefused::Memory { .. } => "memory_limit",
        SliceRefused::OutOfMemory(_) => "out_of_memory",
        SliceRefused::Unsupported { .. } => "unsupported_slice",
        SliceRefused::IndexRange { .. } => "cell_out_of_range",
    }
}

// One-way targets.
impl Cluster {
    fn is_target(&self, boot: u64) -> bool {
        self.targets
            .values()
            .any(|target| target.boot == Some(boot))
    }

    /// Somebody has answered; it may be a target, whose boot is known from now on.
    fn hear_target(&mut self, now: Duration, from: From) {
        let Some(target) = self.targets.get_mut(&from.address) else {
            return;
        };
        target.heard_at = now;
        if target.boot == Some(from.boot) {
            return;
        }
        if self.peers.get(&from.boot).is_some_and(Peer::is_live_member) {
            self.end_target(from.address, true);
            return;
        }
        let before = target.boot.replace(from.boot);
        if let Some(before) = before {
            self.peers.remove(&before);
        }
        let (version, cells) = (self.slices.own_version(), self.cells);
        if let Some(peer) = self.peer(now, from) {
            peer.kind = Kind::Target;
            peer.push.begin(version, cells);
        }
    }

    fn end_target(&mut self, target: SocketAddr, is_member: bool) {
        if let Some(Target {
            boot: Some(boot), ..
        }) = self.targets.remove(&target)
            && let Some(peer) = self.peers.get_mut(&boot)
            && peer.kind == Kind::Target
        {
            peer.kind = Kind::Giver;
            peer.rest();
        }
        self.report(ClusterEvent::OneWayEnded { target, is_member });
    }

    /// A digest to an address, whoever is there.
    fn greet(&mut self, address: SocketAddr) {
        if self.hellos.len() < TARGETS_MAX && !self.hellos.contains(&address) {
            self.hellos.push_back(address);
        }
    }
}

// What time brings.
impl Cluster {
    /// When [`wake`](Self::wake), and then [`transmit`](Self::transmit), want to be called next; not
    /// after `now` where it is at once.
    #[must_use]
    pub fn next_wake(&self, now: Duration) -> Duration {
        if self.is_publishing {
            return now;
        }
        let mut next = self.next_round;
        let mut at = |time: Option<Duration>| next = next.min(time.unwrap_or(next));
        at(self.membership.next_wake());
        at(self.repair.next_wake());
        at(self.leaving.as_ref().map(|leaving| leaving.deadline));
        for peer in self.peers.values() {
            at(peer.next_wake());
            if peer.has_data() {
                at(Some(self.pacer.ready_at().max(now)));
            }
            if peer.has_words(now) {
                at(Some(now));
            }
        }
        next
    }

    /// Does whatever is due.
    pub fn wake(&mut self, now: Duration, replica: &Replica) {
        self.membership.wake(now);
        self.follow_membership(now);
        if now >= self.next_round {
            self.round(now);
        }
        self.publish_some(now, replica);
        for peer in self.peers.values_mut() {
            let outcome = peer.flight.expire(now);
            self.resends += peer.settle(outcome);
        }
        self.repair_step(now);
        self.leave_step(now);
        self.ready_step(now);
    }

    fn round(&mut self, now: Duration) {
        self.rounds += 1;
        // From now on, not from when it was due: a process that was stopped does not hurry after.
        self.next_round = now + self.gossip_interval;
        self.forget_silent(now);
        self.look_for_seeds(now);
        if self.has_audience() {
            self.is_publishing = true;
        }
        let live: Vec<u64> = self
            .peers
            .values()
            .filter(|peer| peer.is_live_member())
            .map(|peer| peer.boot)
            .collect();
        if !live.is_empty() {
            let chosen = live[self.random.random_range(0..live.len())];
            self.tell_digest(chosen);
        }
        let targets: Vec<(SocketAddr, Option<u64>)> = self
            .targets
            .iter()
            .map(|(&address, target)| (address, target.boot))
            .collect();
        for (address, boot) in targets {
            match boot {
                Some(boot) => {
                    self.tell_digest(boot);
                    if let Some(peer) = self.peers.get_mut(&boot) {
                        peer.ask(Question::DigestAsked);
                    }
                }
                None => self.greet(address),
            }
        }
        let lines = self.slices.digests().count();
        self.digest_skip += DIGEST_LINES_A_ROUND;
        if self.digest_skip >= lines {
            self.digest_skip = 0;
        }
    }

    fn look_for_seeds(&mut self, now: Duration) {
        let me = self.membership.me().address;
        let live = self.peers.values().filter(|peer| peer.is_live_member());
        let known: BTreeSet<SocketAddr> = live.map(|peer| peer.address).chain([me]).collect();
        for seed in self.seeds.due(now, |seed| known.contains(&seed)) {
            self.membership.join(now, seed);
        }
    }

    fn forget_silent(&mut self, now: Duration) {
        let silent: Vec<SocketAddr> = self
            .targets
            .iter()
            .filter(|(_, target)| now.saturating_sub(target.heard_at) > SILENT_MAX)
            .map(|(&address, _)| address)
            .collect();
        for target in silent {
            self.end_target(target, false);
        }
        // A target that restarted has another boot; so ask who is there when it falls silent.
        let patience = self.gossip_interval * 6;
        for target in self.targets.values_mut() {
            if now.saturating_sub(target.heard_at) > patience
                && let Some(boot) = target.boot.take()
                && let Some(peer) = self.peers.get_mut(&boot)
            {
                peer.kind = Kind::Giver;
                peer.rest();
            }
        }
        let is_kept = |peer: &Peer| {
            let heard_ago = now.saturating_sub(peer.heard_at.unwrap_or_default());
            peer.kind != Kind::Giver || heard_ago <= SILENT_MAX
        };
        let repair = &mut self.repair;
        self.peers.retain(|&boot, peer| {
            let keep = is_kept(peer);
            if !keep {
                repair.forget(boot);
            }
            keep
        });
        self.channels
            .retain(|_, channel| now.saturating_sub(channel.used_at) <= SILENT_MAX * 4);
    }

    fn publish_some(&mut self, now: Duration, replica: &Replica) {
        if !self.is_publishing {
            return;
        }
        match self.slices.publish(replica, PUBLISH_CELLS) {
            Published::Partly => return,
            Published::Idle => {}
            Published::Done { version, .. } => {
                if self
                    .published
                    .back()
                    .is_none_or(|&(last, _)| last < version)
                {
                    self.published.push_back((version, now));
                    if self.published.len() > PUBLISHED_MAX {
                        self.published.pop_front();
                    }
                }
            }
        }
        self.is_publishing = false;
        if let Some(leaving) = &mut self.leaving {
            leaving.has_published = true;
        }
        let version = self.slices.own_version();
        for peer in self.peers.values_mut().filter(|peer| peer.is_audience()) {
            peer.push.begin(version, self.cells);
            if !peer.push.is_done(version) {
                peer.behind_since.get_or_insert(now);
            }
        }
        self.note_converged(now);
    }

    fn note_progress(&mut self, now: Duration, boot: u64) {
        let version = self.slices.own_version();
        if let Some(peer) = self.peers.get_mut(&boot)
            && peer.push.is_done(version)
        {
            peer.behind_since = None;
            self.note_converged(now);
        }
    }

    fn note_converged(&mut self, now: Duration) {
        let version = self.slices.own_version();
        let mut live = self.peers.values().filter(|peer| peer.is_live_member());
        if live.all(|peer| peer.push.is_done(version)) {
            self.converged_at = Some(now);
        }
    }

    fn repair_step(&mut self, now: Duration) {
        let peers = &mut self.peers;
        self.repair.ask(now, &mut self.slices, |boot, question| {
            if let Some(peer) = peers.get_mut(&boot) {
                peer.ask(question);
            }
        });
    }

    fn leave_step(&mut self, now: Duration) {
        let has_audience = self.has_audience();
        let version = self.slices.own_version();
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        let mut audience = self.peers.values().filter(|peer| peer.is_audience());
        let is_heard = audience.all(|peer| peer.push.is_done(version));
        let is_over = !has_audience || (leaving.has_published && is_heard);
        if !leaving.has_left && (is_over || now >= leaving.deadline) {
            leaving.has_left = true;
            // It would wake for this again and again.
            leaving.deadline = Duration::MAX;
            self.membership.leave(now);
        }
    }

    fn ready_step(&mut self, now: Duration) {
        let since = match &mut self.readiness {
            Readiness::Ready => return,
            Readiness::Waiting { since } => *since,
            Readiness::Syncing { since, missing } => {
                let slices = &self.slices;
                missing.retain(|slice, version| {
                    slices.version(slice) < *version && !slices.is_refused(slice)
                });
                if missing.is_empty() {
                    let after = now.saturating_sub(*since);
                    self.readiness = Readiness::Ready;
                    self.report(ClusterEvent::Synced { after });
                    return;
                }
                *since
            }
        };
        if now.saturating_sub(since) >= READY_LIMIT {
            self.readiness = Readiness::Ready;
        }
    }

    /// Takes over what membership has learnt.
    fn follow_membership(&mut self, now: Duration) {
        let mut has_changed = false;
        while let Some(event) = self.membership.poll_event() {
            has_changed = true;
            self.report(ClusterEvent::Member(event));
        }
        if !has_changed {
            return;
        }
        let members: Vec<(Member, bool)> = self
            .membership
            .members()
            .map(|(member, state)| (member.clone(), !matches!(state, MemberState::Down)))
            .collect();
        let known: BTreeSet<u64> = members.iter().map(|(member, _)| member.boot).collect();
        for (member, is_live) in members {
            self.follow_member(now, &member, is_live);
        }
        // One that membership has forgotten, or whose place another start has taken.
        for (boot, peer) in &mut self.peers {
            if matches!(peer.kind, Kind::Member { .. }) && !known.contains(boot) {
                peer.kind = Kind::Giver;
                peer.rest();
            }
        }
    }

    fn follow_member(&mut self, now: Duration, member: &Member, is_live: bool) {
        let own_boot = self.own.boot;
        if member.boot == own_boot {
            return;
        }
        if is_live && self.targets.contains_key(&member.address) {
            self.end_target(member.address, true);
        }
        let is_full = self.peers.len() >= PEERS_MAX;
        let (version, cells) = (self.slices.own_version(), self.cells);
        let peer = match self.peers.get_mut(&member.boot) {
            Some(peer) => peer,
            None if !is_live || is_full => return,
            None => {
                let kind = Kind::Member { is_live: false };
                let peer = Peer::new(member.node, member.boot, member.address, kind);
                self.peers.entry(member.boot).or_insert(peer)
            }
        };
        let was_live = peer.is_live_member();
        peer.kind = Kind::Member { is_live };
        peer.address = member.address;
        if is_live && !was_live {
            peer.push.begin(version, cells);
            // Both sides learn at once what the other one has.
            peer.ask(Question::DigestAsked);
            self.is_publishing = true;
            self.tell_digest(member.boot);
        } else if !is_live && was_live {
            peer.rest();
            peer.behind_since = None;
            self.repair.forget(member.boot);
            self.note_converged(now);
        }
    }

    fn has_audience(&self) -> bool {
        self.peers.values().any(Peer::is_audience)
    }

    fn send_digest(&mut self, now: Duration, from: From) {
        let asker = SliceId::of(from.node, from.boot);
        let Some(peer) = self.peer(now, from) else {
            return;
        };
        if peer.is_live_member() {
            self.tell_digest(from.boot);
        } else {
            // Who pushes to us one way learns what has arrived, and that we are there; no more.
            peer.ask(Question::Having { slice: asker });
        }
    }

    /// A digest of all slices, or of this round's part of them.
    fn tell_digest(&mut self, boot: u64) {
        let lines = self.slices.digests().count();
        let end = (self.digest_skip + DIGEST_LINES_A_ROUND).min(lines);
        if let Some(peer) = self.peers.get_mut(&boot) {
            for skip in (self.digest_skip..end).step_by(DIGEST_LINES) {
                let lines = DIGEST_LINES.min(end - skip);
                peer.ask(Question::Digest { skip, lines });
            }
        }
    }
}

// What goes out.
impl Cluster {
    /// Puts the next datagram that may go now into `buffer`, whose content it replaces, and says where
    /// to. `None`: nothing for now. To be called until then after every [`wake`](Self::wake) and
    /// [`handle`](Self::handle).
    pub fn transmit(
        &mut self,
        now: Duration,
        replica: &Replica,
        buffer: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        self.transmit_membership(now, buffer)
            .or_else(|| self.transmit_hello(now, buffer))
            .or_else(|| self.transmit_to_peer(now, replica, buffer))
    }

    fn transmit_membership(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        while let Some((to, message)) = self.membership.poll_transmit() {
            self.start(0, buffer);
            let overhead = buffer.len();
            let mut writer = FrameWriter::new(buffer, DATAGRAM_BYTES_MAX - TAG_BYTES);
            let fits = writer.membership(&message);
            if fits && self.seal(now, to, buffer).is_some() {
                self.sent.membership += (buffer.len() - TAG_BYTES - overhead) as u64;
                self.count_sent(buffer.len(), overhead + TAG_BYTES);
                return Some(to);
            }
        }
        None
    }

    fn transmit_hello(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        while let Some(to) = self.hellos.pop_front() {
            self.start(0, buffer);
            let overhead = buffer.len();
            let mut writer = FrameWriter::new(buffer, DATAGRAM_BYTES_MAX - TAG_BYTES);
            let entries = self.slices.digests().take(DIGEST_LINES);
            writer.digest(entries.map(|digest| crate::wire::cluster::DigestEntry {
                slice: digest.slice,
                version: digest.version,
                root: digest.root,
            }));
            writer.digest_asked();
            if self.seal(now, to, buffer).is_some() {
                self.sent.digests += (buffer.len() - TAG_BYTES - overhead) as u64;
                self.count_sent(buffer.len(), overhead + TAG_BYTES);
                return Some(to);
            }
        }
        None
    }

    fn transmit_to_peer(
        &mut self,
        now: Duration,
        replica: &Replica,
        buffer: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let may_send_data = self.pacer.may_send(now);
        // What seems to be there may turn out to be nothing, such as a sweep without changes: then it
        // is the next one's turn, and nobody's twice.
        for _ in 0..=self.peers.len() {
            let boot = self.next_in_turn(now, may_send_data)?;
            self.turn = boot;
            let sent = self.write_to_peer(now, boot, may_send_data, replica, buffer);
            if sent.is_some() {
                return sent;
            }
            self.note_progress(now, boot);
        }
        None
    }

    fn write_to_peer(
        &mut self,
        now: Duration,
        boot: u64,
        may_send_data: bool,
        replica: &Replica,
        buffer: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        self.start(boot, buffer);
        let overhead = buffer.len();
        let peer = self.peers.get_mut(&boot)?;
        let mut written = Written::default();
        let mut writer = FrameWriter::new(buffer, DATAGRAM_BYTES_MAX - TAG_BYTES);
        peer.write_words(&self.slices, &mut writer, &mut written);
        let mut piece = None;
        if may_send_data && let Some(cells) = self.slices.cells(replica, &self.own) {
            let own = (&self.own, cells);
            piece = peer.write_data(&self.slices, replica, own, &mut writer, &mut written);
        }
        if written.is_empty() {
            return None;
        }
        let to = peer.address;
        let number = self.seal(now, to, buffer);
        if let Some(peer) = self.peers.get_mut(&boot) {
            peer.bytes_sent += buffer.len() as u64;
            match (piece, number) {
                (Some(piece), Some(number)) => peer.flight.note_sent(number, now, piece),
                (Some(piece), None) => peer.push.lost(piece),
                (None, _) => {}
            }
        }
        self.sent.acks += written.acks as u64;
        self.sent.digests += written.digests as u64;
        self.sent.pushes += written.pushes as u64;
        self.sent.pulls += written.pulls as u64;
        self.count_sent(buffer.len(), overhead + TAG_BYTES);
        number.map(|_| to)
    }

    /// The next peer, in a circle, to which something may go.
    fn next_in_turn(&self, now: Duration, may_send_data: bool) -> Option<u64> {
        let after = (
            std::ops::Bound::Excluded(self.turn),
            std::ops::Bound::Unbounded,
        );
        let behind = self.peers.range(after);
        let before = self.peers.range(..=self.turn);
        behind
            .chain(before)
            .find(|(_, peer)| peer.has_words(now) || (may_send_data && peer.has_data()))
            .map(|(&boot, _)| boot)
    }

    /// An empty datagram: room for the seal's header, and who sends to whom.
    fn start(&self, to_boot: u64, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        let me = self.membership.me();
        let head = Head {
            to_boot,
            node: me.node,
            address: me.address,
        };
        head.write(buffer);
    }

    /// Seals with the channel of an address. `None` where that cannot be, which nobody can help.
    fn seal(&mut self, now: Duration, to: SocketAddr, buffer: &mut Vec<u8>) -> Option<u64> {
        if !self.channels.contains_key(&to) {
            if self.channels.len() >= CHANNELS_MAX {
                self.refuse("too_many_channels_out");
                return None;
            }
            self.open_channel(now, to);
        }
        let outgoing = self.channels.get_mut(&to)?;
        outgoing.used_at = now;
        match outgoing.sealer.seal(buffer) {
            Ok(number) => Some(number),
            Err(SealError::Exhausted) => {
                // What was under way on the old channel counts as lost when its acks do not fit.
                self.open_channel(now, to);
                self.channels.get_mut(&to)?.sealer.seal(buffer).ok()
            }
            Err(_) => None,
        }
    }

    fn open_channel(&mut self, now: Duration, to: SocketAddr) {
        let channel = Channel {
            boot: self.own.boot,
            id: self.random.next_u64(),
        };
        let sealer = Sealer::new(&self.keys, self.fingerprint, channel);
        let outgoing = Outgoing {
            sealer,
            used_at: now,
        };
        self.channels.insert(to, outgoing);
    }

    fn count_sent(&mut self, bytes: usize, overhead: usize) {
        self.sent.datagrams += 1;
        self.sent.bytes += bytes as u64;
        self.sent.overhead += overhead as u64;
        self.pacer.spend(bytes);
    }
}

// What it tells of itself.
impl Cluster {
    /// Everything at once.
    #[must_use]
    pub fn status(&self, now: Duration) -> ClusterState {
        ClusterState {
            me: self.membership.me().clone(),
            members: self
                .membership
                .members()
                .map(|(member, state)| self.member_status(now, member, state))
                .collect(),
            one_way: self
                .targets
                .iter()
                .map(|(&address, target)| self.target_status(now, address, target))
                .collect(),
            rounds: self.rounds,
            version: self.slices.own_version(),
            sent: self.sent,
            received: self.received,
            resends: self.resends,
            refused: self.refused.clone(),
            slices_missing: self.missing.iter().copied().collect(),
            pulls: self.repair.pulls(),
            converged_age: self.converged_age(now),
            is_ready: self.is_ready(),
        }
    }

    fn converged_age(&self, now: Duration) -> Option<Duration> {
        let version = self.slices.own_version();
        let mut live = self.peers.values().filter(|peer| peer.is_live_member());
        let first = live.next()?;
        if first.push.is_done(version) && live.all(|peer| peer.push.is_done(version)) {
            return Some(Duration::ZERO);
        }
        // Not once yet: since the node came up.
        Some(now.saturating_sub(self.converged_at.unwrap_or(self.started_at)))
    }

    fn member_status(&self, now: Duration, member: &Member, state: MemberState) -> MemberStatus {
        let peer = self.peers.get(&member.boot);
        let ago = |at: Duration| now.saturating_sub(at);
        let held = self.slices.learnt();
        MemberStatus {
            member: member.clone(),
            state,
            slices: held.filter(|held| held.slice.node == member.node).count(),
            lag_versions: peer.map_or(0, |peer| self.lag_versions(peer)),
            lag: peer
                .and_then(|peer| peer.behind_since)
                .map_or(Duration::ZERO, |since| self.lag(now, peer, since)),
            bytes_sent: peer.map_or(0, |peer| peer.bytes_sent),
            bytes_received: peer.map_or(0, |peer| peer.bytes_received),
            heard_ago: peer.and_then(|peer| peer.heard_at).map(ago),
        }
    }

    fn lag_versions(&self, peer: &Peer) -> u64 {
        self.slices.own_version().saturating_sub(peer.push.base)
    }

    /// Since the oldest version that it lacks was published; or, where that is not known any more,
    /// since it fell behind.
    fn lag(&self, now: Duration, peer: Option<&Peer>, since: Duration) -> Duration {
        let base = peer.map_or(0, |peer| peer.push.base);
        let missing = self.published.iter().find(|&&(version, _)| version > base);
        let published_at = missing.map_or(since, |&(_, at)| at.max(since));
        now.saturating_sub(published_at)
    }

    fn target_status(&self, now: Duration, address: SocketAddr, target: &Target) -> OneWayStatus {
        let peer = target.boot.and_then(|boot| self.peers.get(&boot));
        OneWayStatus {
            address,
            peer: peer.map(|peer| (peer.node, peer.boot)),
            heard_ago: target.boot.map(|_| now.saturating_sub(target.heard_at)),
            lag_versions: peer.map_or(0, |peer| self.lag_versions(peer)),
        }
    }
}

#[cfg(test)]
mod tests;
