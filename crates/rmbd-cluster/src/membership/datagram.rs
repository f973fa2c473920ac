//! A datagram of membership, read before foca sees it: foca trusts whoever could send it one.

use foca::{Codec, Header, Message, PostcardCodec, State};

use super::{Member, MembershipError};

/// An update as foca sends it: a member and its state.
pub(super) type Update = foca::Member<Member>;

/// foca's format: the header; then, unless it is an announcement, how many updates (u16, big-endian)
/// and the updates. What stands behind them is read over.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) header: Header<Member>,
    pub(super) updates: Vec<Update>,
}

impl Datagram {
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self, MembershipError> {
        let header = PostcardCodec
            .decode_header(&mut bytes)
            .map_err(|_| MembershipError::Malformed)?;
        let updates = read_updates(bytes)?;
        let datagram = Self { header, updates };
        if datagram.is_plausible() {
            Ok(datagram)
        } else {
            Err(MembershipError::Malformed)
        }
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, MembershipError> {
        let mut bytes = Vec::new();
        PostcardCodec
            .encode_header(&self.header, &mut bytes)
            .map_err(|_| MembershipError::Malformed)?;
        if !self.updates.is_empty() {
            // They came out of a datagram with as many or more.
            bytes.extend((self.updates.len() as u16).to_be_bytes());
        }
        for update in &self.updates {
            PostcardCodec
                .encode_member(update, &mut bytes)
                .map_err(|_| MembershipError::Malformed)?;
        }
        Ok(bytes)
    }

    /// Everybody who is named as sender, receiver, or in an update.
    pub(super) fn named(&self) -> impl Iterator<Item = &Member> {
        let updates = self.updates.iter().map(foca::Member::id);
        [&self.header.src, &self.header.dst]
            .into_iter()
            .chain(updates)
    }

    /// Whether it says that `me` is down.
    pub(super) fn declares_down(&self, me: &Member) -> bool {
        let is_told = self.header.message == Message::TurnUndead && self.header.dst == *me;
        is_told
            || self
                .updates
                .iter()
                .any(|update| update.id() == me && update.state() == State::Down)
    }

    fn is_plausible(&self) -> bool {
        let dst = &self.header.dst;
        let is_dst_plausible =
            dst.is_plausible() || (dst.is_anyone() && self.header.message == Message::Announce);
        let is_message_plausible = match &self.header.message {
            Message::PingReq { target, .. } | Message::IndirectAck { target, .. } => {
                target.is_plausible()
            }
            Message::IndirectPing { origin, .. } | Message::ForwardedAck { origin, .. } => {
                origin.is_plausible()
            }
            Message::Announce | Message::TurnUndead => self.updates.is_empty(),
            // Nobody sends it.
            Message::Broadcast => false,
            Message::Ping(_) | Message::Ack(_) | Message::Feed | Message::Gossip => true,
        };
        is_dst_plausible
            && is_message_plausible
            && self.header.src.is_plausible()
            && self.updates.iter().all(|update| update.id().is_plausible())
    }
}

fn read_updates(mut bytes: &[u8]) -> Result<Vec<Update>, MembershipError> {
    let Some((count, rest)) = bytes.split_first_chunk() else {
        return if bytes.is_empty() {
            Ok(Vec::new())
        } else {
            Err(MembershipError::Malformed)
        };
    };
    bytes = rest;
    // The count is only believed as far as there are bytes.
    let mut updates = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let update = PostcardCodec
            .decode_member(&mut bytes)
            .map_err(|_| MembershipError::Malformed)?;
        updates.push(update);
    }
    // What is left was added by a later release.
    Ok(updates)
}
