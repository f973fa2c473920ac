//! One other node, as far as data goes: what it has, what it asked for, what it has to be told.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::about::{Ourselves, Told};
use super::flight::{Flight, Outcome, Piece};
use super::limits::ClusterLimits;
use super::received::Received;
use super::siblings::Line;
use super::sweep::Push;
use crate::replica::{CellsRef, Slices};
use crate::wire::cluster::{DIGEST_LINE_BYTES_MAX, FrameWriter, SIBLING_BUCKETS, SliceId};
use crate::wire::{Boot, Writer};

/// Hashes of sections are worth a frame from here on: 32 of them.
const SECTIONS_ROOM_MIN: usize = 300;
/// The sums of all buckets need so much: they are not worked out where they do not fit.
const BUCKETS_ROOM_MIN: usize = 8 * SIBLING_BUCKETS + 32;

/// Why we know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Membership knows it.
    Member {
        /// It is up (though it may be suspected).
        is_live: bool,
    },
    /// We push to it one way.
    Target,
    /// It pushes to us one way.
    Giver,
}

/// What is asked, or answered, in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum Question {
    /// What we tell of ourselves; perhaps it is to tell the same.
    About {
        asks: bool,
    },
    /// These lines of our digest, also where we have nothing of a slice.
    Digest {
        lines: Vec<Line>,
    },
    /// The buckets of its siblings.
    BucketsAsked {
        slice: SliceId,
    },
    /// The buckets of ours.
    Buckets {
        slice: SliceId,
    },
    /// Lines of its siblings.
    LinesAsked {
        slice: SliceId,
        buckets: u64,
        first: Writer,
    },
    /// Its digest.
    DigestAsked,
    /// A page of its catalogue.
    CatalogueAsked {
        first: u32,
    },
    /// A page of ours.
    Catalogue {
        first: u32,
    },
    /// We have no room for this slice.
    NotHeld {
        slice: SliceId,
    },
    /// We had no room for this slice, and have some now.
    Wanted {
        slice: SliceId,
    },
    Sections {
        slice: SliceId,
        first: u32,
    },
    Groups {
        slice: SliceId,
        section: u32,
    },
    Pull {
        slice: SliceId,
        groups: Vec<u32>,
    },
    SectionsAnswer {
        slice: SliceId,
        first: u32,
    },
    GroupsAnswer {
        slice: SliceId,
        section: u32,
    },
}

/// One other start of a node.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: u64,
    pub(super) boot: Boot,
    pub(super) address: SocketAddr,
    pub(super) kind: Kind,
    /// What it has told of itself.
    pub(super) told: Option<Told>,
    pub(super) about_asked_at: Option<Duration>,
    pub(super) received: Received,
    pub(super) flight: Flight,
    pub(super) push: Push,
    pub(super) heard_at: Option<Duration>,
    pub(super) behind_since: Option<Duration>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    limits: ClusterLimits,
    questions: VecDeque<Question>,
    served: BTreeSet<(SliceId, u32)>,
}

impl Peer {
    pub(super) fn new(
        node: u64,
        boot: Boot,
        address: SocketAddr,
        kind: Kind,
        limits: ClusterLimits,
    ) -> Self {
        Self {
            node,
            boot,
            address,
            kind,
            told: None,
            about_asked_at: None,
            received: Received::default(),
            flight: Flight::new(),
            push: Push::default(),
            heard_at: None,
            behind_since: None,
            bytes_sent: 0,
            bytes_received: 0,
            limits,
            questions: VecDeque::new(),
            served: BTreeSet::new(),
        }
    }

    /// It is there for something to be sent to it.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.kind, Kind::Member { is_live: true } | Kind::Target)
    }

    /// It gets our slice, or may yet say that it wants it.
    pub(super) fn is_audience(&self) -> bool {
        self.is_up() && self.apart().next().is_none()
    }

    /// It gets our slice.
    fn is_pushed_to(&self) -> bool {
        self.is_audience() && self.told.is_some()
    }

    pub(super) fn is_live_member(&self) -> bool {
        self.kind == Kind::Member { is_live: true }
    }

    pub(super) fn was_heard(&self, now: Duration, within: Duration) -> bool {
        self.heard_at
            .is_some_and(|at| now.saturating_sub(at) <= within)
    }

    pub(super) fn ask(&mut self, question: Question) {
        if self.questions.len() < self.limits.questions && !self.questions.contains(&question) {
            self.questions.push_back(question);
        }
    }

    /// Notes groups that it asked for, of those that a slice has.
    pub(super) fn serve(&mut self, slice: SliceId, groups: impl Iterator<Item = u32>) {
        for group in groups {
            if self.served.len() >= self.limits.groups_served {
                return;
            }
            self.served.insert((slice, group));
        }
    }

    /// Forgets whatever waits or is under way: it is gone. What it has stays known.
    pub(super) fn rest(&mut self) {
        self.questions.clear();
        self.served.clear();
        for piece in self.flight.abandon() {
            self.push.lost(piece);
        }
    }

    /// Takes what the flight tells; returns how many pieces have to be sent again.
    pub(super) fn settle(&mut self, outcome: Outcome) -> u64 {
        for piece in outcome.arrived {
            self.push.arrived(piece);
        }
        let lost = outcome.lost.len() as u64;
        for piece in outcome.lost {
            self.push.lost(piece);
        }
        lost
    }

    /// Something can go out now that no rate limits.
    pub(super) fn has_words(&self, now: Duration) -> bool {
        !self.questions.is_empty() || self.received.deadline().is_some_and(|at| at <= now)
    }

    /// Something can go out now as far as the rate allows.
    pub(super) fn has_data(&self) -> bool {
        let may_push = self.is_pushed_to() && self.flight.has_room() && self.push.has_more();
        may_push || !self.served.is_empty()
    }

    pub(super) fn next_wake(&self) -> Option<Duration> {
        let deadlines = [self.received.deadline(), self.flight.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Writes acks, then questions and answers, as many as fit.
    pub(super) fn write_words(
        &mut self,
        ourselves: &Ourselves,
        slices: &Slices,
        writer: &mut FrameWriter<'_>,
        bytes: &mut Written,
    ) {
        let before = writer.room();
        let unsaid = self.received.unsaid();
        if unsaid.is_some_and(|(channel, ranges)| writer.ack(channel, ranges)) {
            self.received.note_said();
        }
        bytes.acks += before - writer.room();
        while let Some(question) = self.questions.front() {
            let before = writer.room();
            if !question.write(ourselves, slices, self.limits.digest_lines, writer) {
                // One that does not fit an otherwise empty datagram never will.
                if bytes.is_empty() {
                    self.questions.pop_front();
                }
                break;
            }
            let written = before - writer.room();
            match question {
                Question::Pull { .. } => bytes.pulls += written,
                Question::About { .. } => bytes.about += written,
                _ => bytes.digests += written,
            }
            self.questions.pop_front();
        }
    }

    /// Writes a piece of our slice, or else groups that it asked for.
    pub(super) fn write_data(
        &mut self,
        slices: &Slices,
        own: (&SliceId, CellsRef<'_>),
        writer: &mut FrameWriter<'_>,
        bytes: &mut Written,
    ) -> Option<Piece> {
        let before = writer.room();
        if self.is_pushed_to() && self.flight.has_room() && self.push.has_more() {
            let piece = self.push.write(slices, own.0, own.1, writer);
            bytes.pushes += before - writer.room();
            if piece.is_some() {
                return piece;
            }
        }
        self.write_served(slices, writer);
        bytes.pulls += before - writer.room();
        None
    }

    /// Groups of one slice, as many as fit.
    fn write_served(&mut self, slices: &Slices, writer: &mut FrameWriter<'_>) {
        let Some(&(slice, _)) = self.served.first() else {
            return;
        };
        let Some(cells) = slices.cells(&slice) else {
            self.served.retain(|(other, _)| *other != slice);
            return;
        };
        let served = &mut self.served;
        let mut packed = Vec::new();
        // Groups that it does not ask for are still there for the next datagram.
        let _ = writer.groups(&slice, slices.version(&slice), |writer| {
            while let Some(&(next, group)) = served.first() {
                if next != slice {
                    break;
                }
                // One that does not exist is not answered.
                if cells.pack_group(group, &mut packed) && !writer.push_packed(group, &packed) {
                    break;
                }
                served.pop_first();
            }
        });
    }
}

/// Bytes of a datagram by what they are for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) acks: usize,
    pub(super) about: usize,
    pub(super) digests: usize,
    pub(super) pushes: usize,
    pub(super) pulls: usize,
}

impl Written {
    pub(super) fn is_empty(&self) -> bool {
        self.acks + self.about + self.digests + self.pushes + self.pulls == 0
    }
}

impl Question {
    /// The line of our digest that tells of one slice.
    pub(super) fn having(slice: SliceId) -> Self {
        let lines = vec![Line::Slice(slice)];
        Self::Digest { lines }
    }

    fn write(
        &self,
        ourselves: &Ourselves,
        slices: &Slices,
        page_lines: usize,
        writer: &mut FrameWriter<'_>,
    ) -> bool {
        match self {
            Self::About { asks } => ourselves.write(*asks, writer),
            // All of it or nothing: the rest would not be said.
            Self::Digest { lines } => Line::write_all(lines, slices, writer),
            Self::BucketsAsked { slice } => writer.buckets_asked(slice),
            Self::Buckets { slice } => {
                writer.room() >= BUCKETS_ROOM_MIN
                    && writer.buckets(slice, &slices.sibling_buckets(slice))
            }
            Self::LinesAsked {
                slice,
                buckets,
                first,
            } => writer.lines_asked(slice, *buckets, *first),
            Self::DigestAsked => writer.digest_asked(),
            Self::CatalogueAsked { first } => writer.catalogue_asked(*first),
            Self::Catalogue { .. } if writer.room() < page_lines * DIGEST_LINE_BYTES_MAX => false,
            Self::Catalogue { first } => {
                let total = u32::try_from(slices.digest_lines()).unwrap_or(u32::MAX);
                let lines = slices.digests_from(*first as usize).take(page_lines);
                writer.catalogue(*first, total, lines);
                true
            }
            Self::NotHeld { slice } => writer.not_held(slice),
            Self::Wanted { slice } => writer.wanted(slice),
            Self::Sections { slice, first } => writer.sections_asked(slice, *first),
            Self::Groups { slice, section } => writer.group_hashes_asked(slice, *section),
            Self::Pull { slice, groups } => writer.pull(slice, groups.iter().copied()) > 0,
            Self::SectionsAnswer { slice, first } => {
                let hashes = slices.section_hashes(slice).get(*first as usize..);
                let version = slices.version(slice);
                let hashes = hashes.filter(|hashes| !hashes.is_empty());
                // What we do not have is not answered.
                hashes.is_none_or(|hashes| {
                    writer.room() >= SECTIONS_ROOM_MIN
                        && writer.sections(slice, version, *first, hashes)
                })
            }
            Self::GroupsAnswer { slice, section } => {
                let hashes = slices.group_hashes(slice, *section);
                let version = slices.version(slice);
                hashes.is_empty() || writer.group_hashes(slice, version, *section, &hashes)
            }
        }
    }
}
