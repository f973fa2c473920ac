//! Who is at an address: asked before anything else is said to it.
//!
//! ```text
//!   we (boot 7)                                     whoever is at the address (boot 9)
//!    -- to boot 0: contact ----------------------->     nothing in it is taken but the question
//!    <---------------------- to boot 7: answered --     it is of now: it names our boot
//!    -- to boot 9: announcement, digests ... ----->
//! ```
//!
//! What does not name the receiver's boot may have been recorded before the receiver started, and tell of
//! members that are long dead. So it can only be answered, by fewer bytes than came, and to the address that
//! stands in the seal. A message of membership to an earlier process at our address is answered, too: its
//! sender should know of us.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Cluster, From};
use crate::pace::{Rate, TokenBucket};
use crate::wire::Boot;
use crate::wire::cluster::{Frame, FrameWriter, Purpose, frames};

/// Questions that wait to go out; more are dropped, whoever wanted them wants them again.
const ASKS_MAX: usize = 512;
/// A recorded contact can make us send an answer again and again.
const ANSWERS: Rate = Rate {
    burst: 512,
    per_s: 256,
};
/// Boots by which addresses have answered, until something is said to them.
const KNOWN_MAX: usize = 512;

#[derive(Debug)]
pub(super) struct Contacts {
    asks: VecDeque<(SocketAddr, Purpose)>,
    /// To which start at which address.
    answers: VecDeque<(SocketAddr, Boot, Purpose)>,
    known: BTreeMap<SocketAddr, Boot>,
    budget: TokenBucket,
}

impl Default for Contacts {
    fn default() -> Self {
        Self {
            asks: VecDeque::new(),
            answers: VecDeque::new(),
            known: BTreeMap::new(),
            budget: TokenBucket::new(ANSWERS, Duration::ZERO),
        }
    }
}

impl Contacts {
    /// Asks who is at an address.
    pub(super) fn ask(&mut self, address: SocketAddr, purpose: Purpose) {
        let ask = (address, purpose);
        if self.asks.len() < ASKS_MAX && !self.asks.contains(&ask) {
            self.asks.push_back(ask);
        }
    }

    /// Which start has answered from an address, once for each answer.
    pub(super) fn take_boot(&mut self, address: SocketAddr) -> Option<Boot> {
        self.known.remove(&address)
    }

    fn note_boot(&mut self, address: SocketAddr, boot: Boot) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&address) {
            self.known.pop_first();
        }
        self.known.insert(address, boot);
    }

    /// Whether there may be an answer now.
    fn answer(&mut self, now: Duration, to: SocketAddr, boot: Boot, purpose: Purpose) -> bool {
        let answer = (to, boot, purpose);
        if self.answers.contains(&answer) {
            return true;
        }
        let may_answer = self.budget.take(now);
        if may_answer {
            self.answers.push_back(answer);
        }
        may_answer
    }
}

impl Cluster {
    /// Takes a datagram that does not name our boot; whether it is one that is answered.
    pub(super) fn take_contact(
        &mut self,
        now: Duration,
        from: From,
        to_boot: Boot,
        rest: &[u8],
    ) -> bool {
        let mut known = frames(rest, |_| None).map_while(Result::ok);
        let purpose = known.find_map(|frame| match frame {
            Frame::Contact { purpose } => Some(purpose),
            // Meant for an earlier process at our address.
            Frame::Membership { .. } if to_boot != Boot(0) => Some(Purpose::Membership),
            _ => None,
        });
        purpose.is_some_and(|purpose| self.contacts.answer(now, from.address, from.boot, purpose))
    }

    /// Somebody has answered a contact of ours.
    pub(super) fn take_contact_answered(&mut self, now: Duration, from: From, purpose: Purpose) {
        match purpose {
            Purpose::Membership => {
                let peer = self.peers.get(&from.boot);
                if !peer.is_some_and(|peer| peer.is_live_member()) {
                    self.contacts.note_boot(from.address, from.boot);
                    self.membership.meet(now, from.address);
                }
            }
            // Its boot is known since this datagram came.
            Purpose::OneWay if self.is_target(from.boot) => {
                let part = self.digest_part();
                self.tell_target(from.boot, &part);
            }
            Purpose::OneWay => {}
        }
    }

    /// Questions and answers.
    pub(super) fn transmit_contact(
        &mut self,
        now: Duration,
        buffer: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        while let Some((to, boot, purpose)) = self.contacts.answers.pop_front() {
            let write = |writer: &mut FrameWriter<'_>| writer.contact_answered(purpose);
            if self.write_contact(now, to, boot, write, buffer) {
                return Some(to);
            }
        }
        while let Some((to, purpose)) = self.contacts.asks.pop_front() {
            let write = |writer: &mut FrameWriter<'_>| writer.contact(purpose);
            if self.write_contact(now, to, Boot(0), write, buffer) {
                return Some(to);
            }
        }
        None
    }

    fn write_contact(
        &mut self,
        now: Duration,
        to: SocketAddr,
        boot: Boot,
        write: impl FnOnce(&mut FrameWriter<'_>) -> bool,
        buffer: &mut Vec<u8>,
    ) -> bool {
        let bytes = self.write_single(now, to, boot, write, buffer);
        self.sent.membership += bytes.unwrap_or(0);
        bytes.is_some()
    }
}
