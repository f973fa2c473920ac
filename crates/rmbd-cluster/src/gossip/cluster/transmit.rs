//! Making the next datagram that may go out now.

use std::net::SocketAddr;
use std::time::Duration;

use super::Cluster;
use crate::gossip::state::Traffic;
use crate::gossip::transport::{NotSealed, Outbox, PAYLOAD_END};
use crate::membership::MembershipDatagram;
use crate::seal::TAG_BYTES;
use rmbd_proto::Boot;
use rmbd_proto::cluster::{FrameWriter, Purpose};

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
        while let Some(datagram) = self.membership.poll_transmit() {
            let MembershipDatagram {
                to,
                to_boot,
                message,
            } = datagram;
            // Who has just answered may be another start than who is said to be there.
            let Some(boot) = self.contacts.take_boot(to).or(to_boot) else {
                // It is said again when somebody has answered.
                self.contacts.ask(to, Purpose::Membership);
                continue;
            };
            let write = |writer: &mut FrameWriter<'_>| writer.membership(&message);
            if self.write_single(now, to, boot, write, buffer) {
                return Some(to);
            }
        }
        None
    }

    fn transmit_contact(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        while let Some(contact) = self.contacts.pop() {
            let write = |writer: &mut FrameWriter<'_>| contact.write(writer);
            if self.write_single(now, contact.to, contact.to_boot, write, buffer) {
                return Some(contact.to);
            }
        }
        None
    }

    /// Writes a datagram of one frame that tells who is there, and waits for no rate; false where it cannot be sent.
    fn write_single(
        &mut self,
        now: Duration,
        to: SocketAddr,
        boot: Boot,
        write: impl FnOnce(&mut FrameWriter<'_>) -> bool,
        buffer: &mut Vec<u8>,
    ) -> bool {
        let overhead = Outbox::start(self.membership.me(), boot, buffer);
        let fits = write(&mut FrameWriter::new(buffer, PAYLOAD_END));
        let membership = (buffer.len() - overhead) as u64;
        let is_sealed = fits && self.seal(now, to, buffer).is_some();
        if is_sealed {
            let written = Traffic {
                membership,
                ..Traffic::default()
            };
            self.outbox.count(buffer, overhead + TAG_BYTES, written);
        }
        is_sealed
    }

    fn transmit_to_peer(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        let is_shut = self.naming.shut_until().is_some();
        let may_send_data = !is_shut && self.outbox.may_send_data(now);
        // What seems to be there may turn out to be nothing, such as a sweep without changes: then it
        // is the next one's turn, and nobody's twice.
        for _ in 0..=self.peers.len() {
            let boot = self.peers.take_turn(now, may_send_data)?;
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
        let overhead = Outbox::start(self.membership.me(), boot, buffer);
        let peer = self.peers.get_mut(boot)?;
        let to = peer.address();
        let mut written = Traffic::default();
        let mut writer = FrameWriter::new(buffer, PAYLOAD_END);
        let (ourselves, sketches) = (&self.ourselves, &self.sketches);
        peer.write_frames(now, ourselves, sketches, &mut writer, &mut written);
        let pieces = if may_send_data {
            written.pardons += peer.pardons_mut().write(now, &mut writer) as u64;
            written.top += peer.top_mut().write(&self.sketches, &mut writer) as u64;
            peer.write_data(now, &self.sketches, &mut writer, &mut written)
        } else {
            Vec::new()
        };
        if written.is_empty() {
            return None;
        }
        if written.urgent > 0 {
            self.naming.note_urgent(&self.sketches);
        }
        let number = self.seal(now, to, buffer);
        if let Some(peer) = self.peers.get_mut(boot) {
            peer.note_sent(now, buffer.len(), number, pieces);
        }
        self.outbox.count(buffer, overhead + TAG_BYTES, written);
        number.map(|_| to)
    }

    /// Seals with the channel of an address; the datagram's number there. `None` where that cannot be.
    fn seal(&mut self, now: Duration, to: SocketAddr, buffer: &mut Vec<u8>) -> Option<u64> {
        let sealed = self.outbox.seal(now, to, buffer, &mut self.random);
        if sealed == Err(NotSealed::TooManyChannels) {
            self.refusals.count("too_many_channels_out");
        }
        sealed.ok()
    }
}
