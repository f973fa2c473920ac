//! What a cluster tells of itself: plain data for status pages, metrics and tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::membership::{Member, MemberState};
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_store::SliceRefused;

/// Bytes, counted by what they were for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sealed datagrams.
    pub datagrams: u64,
    /// All their bytes: the sum of what follows.
    pub bytes: u64,
    /// Seals and addresses.
    pub overhead: u64,
    /// Messages that tell who is there: membership, contacts, and what nodes tell of themselves.
    pub membership: u64,
    /// Acknowledgements.
    pub acks: u64,
    /// Cells and groups that a writer pushes because they have changed, and its word that all of them have arrived.
    /// Of what comes in, groups are counted with `pulls`.
    pub pushes: u64,
    /// Cells that a writer sends ahead of a version, so that others keep a limit. What comes in is counted with
    /// `pushes`.
    pub urgent: u64,
    /// Digests and hashes.
    pub digests: u64,
    /// Requests for groups, and groups that were asked for.
    pub pulls: u64,
    /// Pardons, and what is told to find out who lacks some.
    pub pardons: u64,
    /// Lists of the largest keys, and what is told to find out who lacks some.
    pub top: u64,
}

impl Traffic {
    /// The kinds by name.
    #[must_use]
    pub fn by_kind(&self) -> [(&'static str, u64); 9] {
        [
            ("overhead", self.overhead),
            ("membership", self.membership),
            ("acks", self.acks),
            ("pushes", self.pushes),
            ("urgent", self.urgent),
            ("digests", self.digests),
            ("pulls", self.pulls),
            ("pardons", self.pardons),
            ("top", self.top),
        ]
    }

    /// Adds what frames were for: datagrams, their bytes and their overhead are counted where they are sealed.
    pub(crate) fn add_kinds(&mut self, other: Self) {
        self.membership += other.membership;
        self.acks += other.acks;
        self.pushes += other.pushes;
        self.urgent += other.urgent;
        self.digests += other.digests;
        self.pulls += other.pulls;
        self.pardons += other.pardons;
        self.top += other.top;
    }

    /// Something was counted that waits for the rate, or that asks for it.
    pub(crate) fn has_data(&self) -> bool {
        self.pushes + self.urgent + self.pulls + self.pardons + self.top > 0
    }

    /// Nothing of any kind was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_kind().iter().all(|&(_, bytes)| bytes == 0)
    }
}

/// A cluster as one of its nodes sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterState {
    /// This node.
    pub me: Member,
    /// All others that membership knows.
    pub members: Vec<MemberView>,
    /// Targets that are pushed to one way.
    pub one_way: Vec<OneWayView>,
    /// Gossip rounds so far.
    pub rounds: u64,
    /// Versions that this node has published of its own slices, of all sketches.
    pub version: u64,
    /// Traffic that went out.
    pub sent: Traffic,
    /// Traffic that came in and was opened.
    pub received: Traffic,
    /// Pieces that were sent again because they were lost.
    pub resends: u64,
    /// Rounds in which as many urgent keys were told as a round may tell; limits may have been passed by others.
    pub urgent_full_rounds: u64,
    /// Datagrams and frames that were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Slices that exist elsewhere, or were in a snapshot file, and are not held or not held completely, for want of
    /// room: 256 of all sketches together, and at least 16 of each, if there are more.
    pub slices_missing: Vec<SliceId>,
    /// Addresses from which something came that none of our keys opens, and not of members.
    pub not_opened: Vec<SocketAddr>,
    /// Addresses of members, and of others who were heard lately, that have a sketch of ours otherwise or not at all:
    /// nothing of it is exchanged with them. Which one it is says [`MemberView::apart`].
    pub other_sketch: Vec<SocketAddr>,
    /// Slices that are being pulled.
    pub pulls: usize,
    /// How long ago all live members had everything that this node had published, of the sketch that is behind the
    /// longest; `None` where there is no other member.
    pub converged_age: Option<Duration>,
    /// All that the cluster had at the join is here, or it has taken too long.
    pub is_ready: bool,
    /// How much is here of what the cluster had at the join.
    pub readiness: ReadyState,
    /// Our own slices have the name that an earlier start gave them, and nobody who gets them has told yet what it has
    /// of them. Until then nothing of them goes out.
    pub is_name_open: bool,
    /// The new writer that was taken in this start, since the name of our slices was not ours alone.
    pub new_writer: Option<NewWriter>,
    /// Node numbers that several live members have, this one included: some run on copies of one disk. All of them
    /// count in full.
    pub shared_nodes: Vec<SharedNode>,
}

/// A node number that several live members have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedNode {
    /// The number.
    pub node: u64,
    /// The cluster addresses of these members, ascending.
    pub addresses: Vec<SocketAddr>,
}

/// What has shown that the name of our own slices is not ours alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameTaken {
    /// Somebody has a version of our slice that nobody has from us.
    LaterVersion {
        /// The sketch that the slice is of.
        sketch: SketchNumber,
        /// The version.
        version: u64,
    },
    /// Somebody has a version of our slice with other cells.
    OtherCells {
        /// The sketch that the slice is of.
        sketch: SketchNumber,
        /// The version.
        version: u64,
    },
    /// Another live node has our number, and writes our slices.
    SameWriter,
    /// Nobody of those who are there has told what it has of our slices, for [`NAME_LIMIT`](super::NAME_LIMIT).
    Unanswered,
    /// Nobody was there to be asked, and what was added since the start is to be kept: under the old name it could
    /// never be told apart from what somebody else may have added.
    Unasked,
}

/// A new writer that a node has taken. What it added since its start is a slice of its own, and so nothing is hidden;
/// what had gone out under the name before may count twice. To all others the node is another start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewWriter {
    /// What has shown that it was necessary.
    pub reason: NameTaken,
    /// The address of whoever has shown it.
    pub by: Option<SocketAddr>,
    /// The writer before.
    pub before: Writer,
    /// The new one.
    pub writer: Writer,
}

/// How much is here of what the cluster had when this node joined it. What there was no room for is told of
/// elsewhere ([`ClusterState::slices_missing`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyState {
    /// All of it, or there was nobody to join.
    Complete,
    /// There is somebody to join, and nobody has answered yet.
    Alone,
    /// Not all.
    Syncing {
        /// Members that were asked what they hold ...
        members_asked: usize,
        /// ... and those that have told all.
        members_heard: usize,
        /// Slices that some of them named, and that are not here up to the version that they named.
        slices_missing: usize,
    },
}

/// Another node, as this one sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberView {
    /// Its name and address.
    pub member: Member,
    /// As membership sees it.
    pub state: MemberState,
    /// Slices of it that are held here, of all sketches.
    pub slices: usize,
    /// Versions of our slices that it does not have yet, of all sketches.
    pub lag_versions: u64,
    /// How long it has been behind, in the sketch in which it has been the longest.
    pub lag: Duration,
    /// Bytes sent to it, membership's not included.
    pub bytes_sent: u64,
    /// Bytes received from it.
    pub bytes_received: u64,
    /// When it was last heard.
    pub heard_ago: Option<Duration>,
    /// It has no room for our slice of some sketch.
    pub refuses_ours: bool,
    /// The writer of its slices; `None` until it has told.
    pub writer: Option<Writer>,
    /// Our sketches that it has otherwise, or not at all: nothing of them is exchanged.
    pub apart: Vec<(SketchNumber, Agreement)>,
}

/// How another node's sketch of a number stands to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// It has not told yet.
    Untold,
    /// It is the same.
    Same,
    /// It has another width, depth, hash or hash seed.
    Other {
        /// Its fingerprint.
        theirs: u64,
    },
    /// It has no such sketch.
    Lacks,
}

/// A target that is pushed to one way, as this node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct OneWayView {
    /// Its cluster address.
    pub address: SocketAddr,
    /// The node that answered from there, and its boot.
    pub peer: Option<(u64, Boot)>,
    /// When it last answered.
    pub heard_ago: Option<Duration>,
    /// Versions of our slices that it does not have yet, of all sketches.
    pub lag_versions: u64,
    /// Our sketches that it has otherwise, or not at all: nothing of them is exchanged.
    pub apart: Vec<(SketchNumber, Agreement)>,
}

/// Something that a log should say.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterEvent {
    /// Membership saw a change.
    Member(crate::membership::MembershipEvent),
    /// Somebody has another sketch of this number, or none: nothing of it is exchanged. Told once an address and
    /// sketch.
    OtherSketch {
        /// Its address.
        from: SocketAddr,
        /// The number of the sketch.
        sketch: SketchNumber,
        /// The fingerprint of ours.
        ours: u64,
        /// The fingerprint of its own, if it has one.
        theirs: Option<u64>,
    },
    /// No key opens what somebody sends. Told once an address.
    NoKeyOpens {
        /// The address that it came from.
        from: SocketAddr,
    },
    /// A slice is not held. Told once a slice.
    SliceRefused {
        /// The slice.
        slice: SliceId,
        /// Why.
        reason: SliceRefused,
    },
    /// The name of our own slices was not ours alone: they have a new writer now. Told once at most.
    NewWriter(NewWriter),
    /// Several live members have one node number. Told once a number.
    SharedNode(SharedNode),
    /// A target that was pushed to one way is a member now, or did not answer any more.
    OneWayEnded {
        /// Its cluster address.
        target: SocketAddr,
        /// It has become a member.
        is_member: bool,
    },
    /// Everything that the cluster had at the join is here.
    Synced {
        /// How long it took.
        after: Duration,
    },
    /// The time is over in which everything should have come; it is waited for no longer.
    NotSynced {
        /// How much is here.
        state: ReadyState,
    },
}
