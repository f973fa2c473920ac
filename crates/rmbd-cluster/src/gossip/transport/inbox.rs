//! Opens and counts what comes in.

use std::net::SocketAddr;
use std::time::Duration;

use crate::gossip::state::Traffic;
use crate::seal::{KeyRing, KnownChannel, OpenError, Openers, OpenersOptions};
use rmbd_proto::Boot;
use rmbd_proto::cluster::{DATAGRAM_BYTES_MAX, Frame, head};

/// The receiving end of all channels.
#[derive(Debug)]
pub(crate) struct Inbox {
    boot: Boot,
    openers: Openers,
    received: Traffic,
}

/// The sender of a datagram, as it says in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) boot: Boot,
    pub(crate) node: u64,
    pub(crate) address: SocketAddr,
}

/// A datagram that opened: it comes from the cluster, and for the first time.
#[derive(Debug)]
pub(crate) struct Incoming<'d> {
    pub(crate) sender: Sender,
    /// The start that it is for; 0 where the sender does not know it.
    pub(crate) to_boot: Boot,
    pub(crate) channel: u64,
    pub(crate) number: u64,
    pub(crate) frames: &'d [u8],
    /// Bytes of the whole datagram.
    pub(crate) bytes: usize,
}

/// The reason for which a datagram is of no use. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    TooLong,
    NotOpened(OpenError),
    /// It has no head.
    Malformed,
    /// We have sent it ourselves.
    Own,
}

impl NotTaken {
    /// A label for counters.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::NotOpened(why) => why.name(),
            Self::Malformed => "malformed",
            Self::Own => "own_datagram",
        }
    }
}

impl Inbox {
    pub(crate) fn new(boot: Boot, keys: KeyRing) -> Self {
        Self {
            boot,
            openers: Openers::new(keys, OpenersOptions::default()),
            received: Traffic::default(),
        }
    }

    /// This node is another start from now on. What was heard on others' channels stays known, so that nothing of it is
    /// taken twice.
    pub(crate) fn begin_again(&mut self, boot: Boot) {
        self.boot = boot;
    }

    /// Opens with these keys from now on.
    pub(crate) fn set_keys(&mut self, now: Duration, keys: KeyRing) {
        self.openers.set_keys(now, keys);
    }

    /// Opens a datagram in place.
    pub(crate) fn open<'d>(
        &mut self,
        now: Duration,
        datagram: &'d mut [u8],
    ) -> Result<Incoming<'d>, NotTaken> {
        let bytes = datagram.len();
        if bytes > DATAGRAM_BYTES_MAX {
            return Err(NotTaken::TooLong);
        }
        let opened = self.openers.open(now, datagram);
        let opened = opened.map_err(NotTaken::NotOpened)?;
        let (head, frames) = head(opened.payload).ok_or(NotTaken::Malformed)?;
        if opened.channel.boot == self.boot {
            return Err(NotTaken::Own);
        }
        Ok(Incoming {
            sender: Sender {
                boot: opened.channel.boot,
                node: head.node,
                address: head.address,
            },
            to_boot: head.to_boot,
            channel: opened.channel.id,
            number: opened.number,
            frames,
            bytes,
        })
    }

    /// Counts a datagram that is taken. Its frames are counted one by one.
    pub(crate) fn count(&mut self, incoming: &Incoming<'_>) {
        self.received.datagrams += 1;
        self.received.bytes += incoming.bytes as u64;
        self.received.overhead += (incoming.bytes - incoming.frames.len()) as u64;
    }

    pub(crate) fn count_frame(&mut self, frame: &Frame<'_>, bytes: usize) {
        let kind = match frame {
            Frame::Membership { .. }
            | Frame::Contact { .. }
            | Frame::ContactAnswered { .. }
            | Frame::About { .. } => &mut self.received.membership,
            Frame::Ack { .. } => &mut self.received.acks,
            Frame::Cells { .. } | Frame::Complete { .. } => &mut self.received.pushes,
            Frame::Groups { .. } | Frame::AgedGroups { .. } | Frame::Pull { .. } => {
                &mut self.received.pulls
            }
            Frame::Pardons { .. } | Frame::PardonSums { .. } | Frame::PardonsAsked { .. } => {
                &mut self.received.pardons
            }
            Frame::Top { .. }
            | Frame::TopSum { .. }
            | Frame::TopOffered { .. }
            | Frame::TopAsked { .. } => &mut self.received.top,
            _ => &mut self.received.digests,
        };
        *kind += bytes as u64;
    }

    /// Traffic that has come so far.
    pub(crate) fn received(&self) -> Traffic {
        self.received
    }

    pub(crate) fn known_channels(&self, now: Duration) -> impl Iterator<Item = KnownChannel> {
        self.openers.known(now)
    }

    /// Grows whenever a channel becomes known, or contested.
    pub(crate) fn channel_changes(&self) -> u64 {
        self.openers.changes()
    }
}
