//! What goes out: the next datagram that may go now.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;

use super::peer::Written;
use super::{Cluster, Outgoing};
use crate::cluster::membership::MembershipDatagram;
use crate::cluster::seal::{Channel, HEADER_BYTES, SealError, Sealer, TAG_BYTES};
use crate::wire::Boot;
use crate::wire::cluster::{DATAGRAM_BYTES_MAX, FrameWriter, Head, Purpose};

impl Cluster {
    /// Puts the next datagram that may go now into `buffer`, whose content it replaces, and says where
    /// to. `None`: nothing for now. To be called until then after every [`wake`](Self::wake) and
    /// [`handle`](Self::handle).
    pub fn transmit(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        self.transmit_membership(now, buffer)
            .or_else(|| self.transmit_contact(now, buffer))
            .or_else(|| self.transmit_to_peer(now, buffer))
    }

    fn transmit_membership(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        while let Some(MembershipDatagram {
            to,
            to_boot,
            message,
        }) = self.membership.poll_transmit()
        {
            // Who has just answered may be another start than who is said to be there.
            let boot = self.contacts.take_boot(to).or(to_boot);
            let Some(boot) = boot else {
                // It is said again when somebody has answered.
                self.contacts.ask(to, Purpose::Membership);
                continue;
            };
            let write = |writer: &mut FrameWriter<'_>| writer.membership(&message);
            if let Some(bytes) = self.write_single(now, to, boot, write, buffer) {
                self.sent.membership += bytes;
                return Some(to);
            }
        }
        None
    }

    /// A datagram of one frame, that goes at once; the bytes of the frame.
    pub(super) fn write_single(
        &mut self,
        now: Duration,
        to: SocketAddr,
        boot: Boot,
        write: impl FnOnce(&mut FrameWriter<'_>) -> bool,
        buffer: &mut Vec<u8>,
    ) -> Option<u64> {
        self.start(boot, buffer);
        let overhead = buffer.len();
        let fits = write(&mut FrameWriter::new(
            buffer,
            DATAGRAM_BYTES_MAX - TAG_BYTES,
        ));
        let bytes = buffer.len() - overhead;
        if !fits || self.seal(now, to, buffer).is_none() {
            return None;
        }
        self.count_sent(buffer.len(), overhead + TAG_BYTES);
        Some(bytes as u64)
    }

    fn transmit_to_peer(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        let may_send_data = self.pacer.may_send(now);
        // What seems to be there may turn out to be nothing, such as a sweep without changes: then it
        // is the next one's turn, and nobody's twice.
        for _ in 0..=self.peers.len() {
            let boot = self.next_in_turn(now, may_send_data)?;
            self.turn = boot;
            let sent = self.write_to_peer(now, boot, may_send_data, buffer);
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
        boot: Boot,
        may_send_data: bool,
        buffer: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        self.start(boot, buffer);
        let overhead = buffer.len();
        let peer = self.peers.get_mut(&boot)?;
        let mut written = Written::default();
        let mut writer = FrameWriter::new(buffer, DATAGRAM_BYTES_MAX - TAG_BYTES);
        peer.write_words(&self.ourselves, &self.slices, &mut writer, &mut written);
        let mut piece = None;
        if may_send_data && let Some(cells) = self.slices.cells(&self.own) {
            let own = (&self.own, cells);
            piece = peer.write_data(&self.slices, own, &mut writer, &mut written);
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
        self.sent.membership += written.about as u64;
        self.sent.acks += written.acks as u64;
        self.sent.digests += written.digests as u64;
        self.sent.pushes += written.pushes as u64;
        self.sent.pulls += written.pulls as u64;
        self.count_sent(buffer.len(), overhead + TAG_BYTES);
        number.map(|_| to)
    }

    /// The next peer, in a circle, to which something may go.
    fn next_in_turn(&self, now: Duration, may_send_data: bool) -> Option<Boot> {
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
    fn start(&self, to_boot: Boot, buffer: &mut Vec<u8>) {
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
            if self.channels.len() >= self.limits.channels {
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
            boot: self.boot,
            id: self.random.next_u64(),
        };
        let sealer = Sealer::new(&self.keys, channel);
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
