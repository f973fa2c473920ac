//! One other start of a node.

use std::net::SocketAddr;
use std::time::Duration;

use super::MemberChange;
use super::about::{AboutPart, AboutPeer, Ourselves};
use super::digest_line::DigestLine;
use super::queue::{Queue, QueuedFrame, Telling};
use super::received::Received;
use crate::gossip::limits::ClusterLimits;
use crate::gossip::pardons::PardonQueue;
use crate::gossip::push::{Progress, SentPiece, UrgentCells};
use crate::gossip::sketches::Sketches;
use crate::gossip::state::{Agreement, Traffic};
use crate::gossip::top::TopQueue;
use crate::gossip::transport::Sender;
use crate::membership::Member;
use rmbd_proto::cluster::{FrameWriter, SliceId};
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_sketch::CellIndex;

/// A peer that was asked what it is is not asked again within this time.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The reason for which we know a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerKind {
    /// Membership knows it.
    Member {
        /// It is up (though it may be suspected).
        is_live: bool,
    },
    /// We push to it one way.
    Target,
    /// It pushes to us one way, or nothing is known of it any more.
    Source,
}

/// One other start of a node: all that we know of it, and the queue of what is to go to it.
#[derive(Debug)]
pub(crate) struct Peer {
    boot: Boot,
    node: u64,
    address: SocketAddr,
    kind: PeerKind,
    /// `None` until it has told something.
    about: Option<AboutPeer>,
    about_asked_at: Option<Duration>,
    heard_at: Option<Duration>,
    /// When it last came up as a member.
    up_at: Option<Duration>,
    received: Received,
    progress: Progress,
    urgent: UrgentCells,
    queue: Queue,
    pardons: PardonQueue,
    top: TopQueue,
    /// The last data that went out to it was of our slices; groups that it asked for take turns with them.
    was_pushed: bool,
    bytes_sent: u64,
    bytes_received: u64,
}

impl Peer {
    /// One that has told nothing.
    pub(super) fn new(sender: Sender, kind: PeerKind, limits: ClusterLimits) -> Self {
        Self {
            boot: sender.boot,
            node: sender.node,
            address: sender.address,
            kind,
            about: None,
            about_asked_at: None,
            heard_at: None,
            up_at: None,
            received: Received::default(),
            progress: Progress::new(),
            urgent: UrgentCells::new(limits.urgent_cells),
            queue: Queue::new(limits),
            pardons: PardonQueue::default(),
            top: TopQueue::default(),
            was_pushed: false,
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    pub(crate) fn boot(&self) -> Boot {
        self.boot
    }

    pub(crate) fn node(&self) -> u64 {
        self.node
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn kind(&self) -> PeerKind {
        self.kind
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    pub(crate) fn heard_at(&self) -> Option<Duration> {
        self.heard_at
    }

    /// When it last came up as a member.
    pub(crate) fn up_at(&self) -> Option<Duration> {
        self.up_at
    }

    /// How much it has of our own slices.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(crate) fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }

    pub(crate) fn is_member(&self) -> bool {
        matches!(self.kind, PeerKind::Member { .. })
    }

    pub(crate) fn is_live_member(&self) -> bool {
        self.kind == PeerKind::Member { is_live: true }
    }

    pub(crate) fn is_target(&self) -> bool {
        self.kind == PeerKind::Target
    }

    pub(crate) fn is_source(&self) -> bool {
        self.kind == PeerKind::Source
    }

    /// It is there for something to be sent to it.
    pub(crate) fn is_up(&self) -> bool {
        matches!(
            self.kind,
            PeerKind::Member { is_live: true } | PeerKind::Target
        )
    }

    /// It gets our slice in some sketch, or may yet say that it wants it.
    pub(crate) fn is_audience(&self) -> bool {
        self.is_up() && self.about().is_none_or(|about| about.same() > 0)
    }

    /// It gets our slice in this sketch, or may yet say that it wants it.
    pub(crate) fn is_audience_of(&self, sketch: SketchNumber) -> bool {
        let agreement = self.agreement(sketch);
        self.is_up() && matches!(agreement, Agreement::Untold | Agreement::Same)
    }

    /// It sends us what it counts.
    pub(crate) fn pushes_to_us(&self) -> bool {
        self.is_live_member() || self.is_source()
    }

    pub(crate) fn was_heard(&self, now: Duration, within: Duration) -> bool {
        self.heard_at
            .is_some_and(|at| now.saturating_sub(at) <= within)
    }
}

/// Changes of where it is and of why we know it.
impl Peer {
    /// It is there.
    pub(crate) fn note_alive(&mut self, now: Duration) {
        self.heard_at = Some(now);
    }

    /// It has come up as a member.
    pub(crate) fn note_up(&mut self, now: Duration) {
        self.up_at = Some(now);
    }

    /// A datagram has come from it.
    pub(crate) fn note_datagram(&mut self, now: Duration, from: SocketAddr, bytes: usize) {
        self.note_alive(now);
        self.address = from;
        self.bytes_received += bytes as u64;
    }

    /// Takes over what membership says of it.
    pub(super) fn follow(&mut self, member: &Member, is_live: bool) -> Option<MemberChange> {
        let was_live = self.is_live_member();
        self.kind = PeerKind::Member { is_live };
        self.address = member.address;
        if self.node != member.node {
            // What was told was told in another one's name.
            self.node = member.node;
            self.about = None;
        }
        match (was_live, is_live) {
            (false, true) => Some(MemberChange::CameUp),
            (true, false) => {
                self.rest();
                self.progress.note_nobody_waits();
                Some(MemberChange::WentDown)
            }
            _ => None,
        }
    }

    pub(crate) fn become_target(&mut self) {
        self.kind = PeerKind::Target;
    }

    /// It is neither a member nor a target any more: nothing is sent to it but answers.
    pub(crate) fn become_source(&mut self) {
        self.kind = PeerKind::Source;
        self.rest();
    }

    /// Forgets whatever waits or is under way: it is gone. What it has stays known.
    fn rest(&mut self) {
        self.queue.clear();
        self.urgent.clear();
        self.pardons.clear();
        self.top.clear();
        self.progress.abandon();
    }
}

/// The sketches and the writer that it has told of.
impl Peer {
    /// What it has told of itself; `None` until that is all.
    pub(crate) fn about(&self) -> Option<&AboutPeer> {
        self.about.as_ref().filter(|about| about.is_whole())
    }

    /// The writer of its slices; `None` until it has told all of itself.
    pub(crate) fn writer(&self) -> Option<Writer> {
        self.about().map(AboutPeer::writer)
    }

    /// Takes a part of what it tells of itself, and says whether all is known now that was not before. A start of a
    /// node says the same each time, so that what came first stands.
    pub(crate) fn take_about(&mut self, ourselves: &Ourselves, part: AboutPart<'_>) -> bool {
        let was_whole = self.about().is_some();
        let fresh = || AboutPeer::new(part.writer, part.total);
        self.about.get_or_insert_with(fresh).hear(ourselves, part);
        !was_whole && self.about().is_some()
    }

    /// Asks it what it is, where that is not known, and tells it what we are.
    pub(crate) fn ask_about(&mut self, now: Duration, ourselves: &Ourselves) {
        let is_early =
            |asked_at: Duration| now >= asked_at && now.saturating_sub(asked_at) < ASK_AGAIN;
        if self.about().is_none() && !self.about_asked_at.is_some_and(is_early) {
            self.about_asked_at = Some(now);
            self.tell_about(ourselves, true);
        }
    }

    /// Tells it what we are; where that `asks`, it is to tell the same.
    pub(crate) fn tell_about(&mut self, ourselves: &Ourselves, asks: bool) {
        for first in ourselves.parts() {
            let asks = asks && first == 0;
            self.queue(QueuedFrame::About { asks, first });
        }
    }

    /// How its sketch of this number stands to ours.
    pub(crate) fn agreement(&self, sketch: SketchNumber) -> Agreement {
        let about = self.about();
        about.map_or(Agreement::Untold, |about| about.agreement(sketch))
    }

    /// It has the same sketch of this number as we.
    pub(crate) fn exchanges(&self, sketch: SketchNumber) -> bool {
        self.agreement(sketch) == Agreement::Same
    }

    /// It has one of our sketches at least.
    pub(crate) fn exchanges_any(&self) -> bool {
        self.about().is_some_and(|about| about.same() > 0)
    }

    /// Our sketches that it has, too.
    pub(crate) fn same_sketches(&self) -> impl Iterator<Item = SketchNumber> + '_ {
        self.about().into_iter().flat_map(AboutPeer::same_sketches)
    }

    /// Our sketches of which it has none, or others.
    pub(crate) fn apart(&self) -> impl Iterator<Item = (SketchNumber, Agreement)> {
        self.about().into_iter().flat_map(AboutPeer::apart)
    }

    /// There is a sketch of ours of which it has none, or another one.
    pub(crate) fn is_apart(&self) -> bool {
        self.apart().next().is_some()
    }

    /// The slice that it writes in a sketch, where it has told so.
    pub(crate) fn present_slice(&self, sketch: SketchNumber) -> Option<SliceId> {
        Some(SliceId {
            sketch,
            node: self.node,
            writer: self.writer()?,
        })
    }

    /// It writes this slice itself.
    pub(crate) fn writes(&self, slice: &SliceId) -> bool {
        self.node == slice.node && self.writer() == Some(slice.writer)
    }

    #[cfg(test)]
    pub(crate) fn was_asked_about(&self) -> bool {
        self.about_asked_at.is_some()
    }
}

/// Sending to it.
impl Peer {
    /// Nothing of a sketch goes to it.
    pub(crate) fn leave_out(&mut self, sketch: SketchNumber) {
        self.progress.leave_out(sketch);
    }

    /// Adds a question or an answer to what waits.
    pub(crate) fn queue(&mut self, frame: QueuedFrame) {
        self.queue.push(frame);
    }

    /// Adds lines of our digest to what waits.
    pub(crate) fn queue_digest(&mut self, lines: &[DigestLine]) {
        self.queue.push_digest(lines);
    }

    /// Adds groups that it asked for to what waits.
    pub(crate) fn serve(&mut self, slice: SliceId, groups: impl Iterator<Item = u32>) {
        self.queue.serve(slice, groups);
    }

    /// Cells of our slice in a sketch are to go to it ahead of the next version, if it has that sketch.
    pub(crate) fn note_urgent(&mut self, sketch: SketchNumber, cells: &[CellIndex]) {
        if self.is_live_member() && self.exchanges(sketch) {
            self.urgent.note(sketch, cells);
        }
    }

    /// Pardons that wait to go to it.
    pub(crate) fn pardons_mut(&mut self) -> &mut PardonQueue {
        &mut self.pardons
    }

    /// Lists of the largest keys that wait to go to it.
    pub(crate) fn top_mut(&mut self) -> &mut TopQueue {
        &mut self.top
    }

    /// Something has come that it wants to be acknowledged.
    pub(crate) fn note_received(&mut self, now: Duration, channel: u64, number: u64) {
        self.received.note(now, channel, number);
    }

    /// Something can go out now that no rate limits: acks, questions and answers.
    pub(crate) fn has_frames(&self, now: Duration) -> bool {
        self.queue.has_frames() || self.received.deadline().is_some_and(|at| at <= now)
    }

    /// Something can go out now as far as the rate allows: our slice, groups that it asked for, pardons and lists.
    pub(crate) fn has_data(&self) -> bool {
        let is_data = !self.urgent.is_empty() || self.may_push() || self.queue.has_groups();
        is_data || self.pardons.has_some() || self.top.has_some()
    }

    /// When an ack or a loss is due.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let deadlines = [self.received.deadline(), self.progress.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Writes acks, then questions and answers, as many as fit.
    pub(crate) fn write_frames(
        &mut self,
        now: Duration,
        ourselves: &Ourselves,
        sketches: &Sketches,
        writer: &mut FrameWriter<'_>,
        written: &mut Traffic,
    ) {
        let before = writer.room();
        let unsaid = self.received.unsaid();
        if unsaid.is_some_and(|(channel, ranges)| writer.ack(channel, ranges)) {
            self.received.note_said();
        }
        written.acks += (before - writer.room()) as u64;
        let telling = Telling {
            now,
            ourselves,
            sketches,
            about: self.about.as_ref().filter(|about| about.is_whole()),
        };
        self.queue.write_frames(&telling, writer, written);
    }

    /// Writes what is urgent, then pieces of our slices, or else groups that it asked for, in turns where both wait.
    /// [`note_sent`](Self::note_sent) comes after it.
    pub(crate) fn write_data(
        &mut self,
        now: Duration,
        sketches: &Sketches,
        writer: &mut FrameWriter<'_>,
        written: &mut Traffic,
    ) -> Vec<SentPiece> {
        let before = writer.room();
        (self.urgent).write(now, sketches, &self.progress, writer);
        written.urgent += (before - writer.room()) as u64;
        let before = writer.room();
        let is_turn_of_groups = std::mem::take(&mut self.was_pushed);
        if is_turn_of_groups {
            self.queue.write_groups(now, sketches, writer, written);
        }
        if self.may_push() && writer.room() == before {
            let pieces = self.progress.write(now, sketches, writer);
            written.pushes += (before - writer.room()) as u64;
            if !pieces.is_empty() {
                self.was_pushed = true;
                return pieces;
            }
        }
        if !is_turn_of_groups {
            self.queue.write_groups(now, sketches, writer, written);
        }
        Vec::new()
    }

    /// A datagram has gone out to it, perhaps with pieces of our slices; `number` is `None` where it could not be
    /// sealed.
    pub(crate) fn note_sent(
        &mut self,
        now: Duration,
        bytes: usize,
        number: Option<u64>,
        pieces: Vec<SentPiece>,
    ) {
        self.bytes_sent += bytes as u64;
        self.progress.note_sent(now, number, pieces);
    }

    fn may_push(&self) -> bool {
        self.is_up() && self.about().is_some() && self.progress.has_data()
    }

    #[cfg(test)]
    pub(crate) fn keep_abouts(&mut self) {
        self.queue.keep_abouts();
    }

    #[cfg(test)]
    pub(crate) fn owes_ack(&self) -> bool {
        self.received.unsaid().is_some()
    }
}
