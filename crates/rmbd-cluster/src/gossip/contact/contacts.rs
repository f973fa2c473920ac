//! Asking who is at an address, before anything else is said to it.
//!
//! ```text
//!   we (boot 7)                                     whoever is at the address (boot 9)
//!    -- to boot 0: contact ----------------------->     nothing in it is taken but the question
//!    <---------------------- to boot 7: answered --     it is of now: it names our boot
//!    -- to boot 9: announcement, digests ... ----->
//! ```
//!
//! A datagram that does not name the receiver's boot may have been recorded before the receiver started, and tell of
//! members that are long dead. So it can only be answered, by fewer bytes than came, and to the address that
//! stands in the seal. A message of membership to an earlier process at our address is answered, too: its
//! sender should know of us.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::gossip::transport::Sender;
use rmbd_pace::{Rate, TokenBucket};
use rmbd_proto::Boot;
use rmbd_proto::cluster::{Frame, FrameWriter, Purpose, frames};

/// Questions that wait to go out. More are dropped: they are wanted again.
const ASKS_MAX: usize = 512;
/// A recorded contact can make us send an answer again and again.
const ANSWERS: Rate = Rate {
    burst: 512,
    per_s: 256,
};
/// Boots by which addresses have answered, until something is said to them.
const KNOWN_MAX: usize = 512;

/// Questions who is at an address, and answers to them.
#[derive(Debug)]
pub(crate) struct Contacts {
    asks: VecDeque<(SocketAddr, Purpose)>,
    /// Address and boot of each receiver.
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

/// A question or an answer that goes out alone in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) to: SocketAddr,
    /// 0 where that is asked.
    pub(crate) to_boot: Boot,
    purpose: Purpose,
    is_answer: bool,
}

impl Contact {
    pub(crate) fn write(self, writer: &mut FrameWriter<'_>) -> bool {
        if self.is_answer {
            writer.contact_answered(self.purpose)
        } else {
            writer.contact(self.purpose)
        }
    }
}

impl Contacts {
    /// Asks who is at an address.
    pub(crate) fn ask(&mut self, address: SocketAddr, purpose: Purpose) {
        let ask = (address, purpose);
        if self.asks.len() < ASKS_MAX && !self.asks.contains(&ask) {
            self.asks.push_back(ask);
        }
    }

    /// Takes the boot that has answered from an address; it is told once for each answer.
    pub(crate) fn take_boot(&mut self, address: SocketAddr) -> Option<Boot> {
        self.known.remove(&address)
    }

    /// A start has answered from an address.
    pub(crate) fn note_boot(&mut self, address: SocketAddr, boot: Boot) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&address) {
            self.known.pop_first();
        }
        self.known.insert(address, boot);
    }

    /// Takes a datagram that does not name our boot; whether it is one that is answered.
    pub(crate) fn take(
        &mut self,
        now: Duration,
        sender: Sender,
        to_boot: Boot,
        payload: &[u8],
    ) -> bool {
        let mut known = frames(payload, |_| None).map_while(Result::ok);
        let purpose = known.find_map(|frame| match frame {
            Frame::Contact { purpose } => Some(purpose),
            // Meant for an earlier process at our address.
            Frame::Membership { .. } if to_boot != Boot(0) => Some(Purpose::Membership),
            _ => None,
        });
        purpose.is_some_and(|purpose| self.answer(now, sender.address, sender.boot, purpose))
    }

    /// Takes what goes out next: answers, then questions.
    pub(crate) fn pop(&mut self) -> Option<Contact> {
        let answer = self.answers.pop_front();
        let answer = answer.map(|(to, to_boot, purpose)| Contact {
            to,
            to_boot,
            purpose,
            is_answer: true,
        });
        answer.or_else(|| {
            let (to, purpose) = self.asks.pop_front()?;
            Some(Contact {
                to,
                to_boot: Boot(0),
                purpose,
                is_answer: false,
            })
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn answers_are_rationed_and_go_first() {
        let mut contacts = Contacts::default();
        contacts.ask(address(1), Purpose::OneWay);
        contacts.ask(address(1), Purpose::OneWay);
        let answers = (0..2_000).filter(|&n| {
            let boot = Boot(u64::from(n) + 1);
            contacts.answer(Duration::ZERO, address(n), boot, Purpose::Membership)
        });
        assert_eq!(answers.count(), ANSWERS.burst as usize);
        let gone: Vec<Contact> = std::iter::from_fn(|| contacts.pop()).collect();
        assert_eq!(gone.len(), ANSWERS.burst as usize + 1);
        let question = Contact {
            to: address(1),
            to_boot: Boot(0),
            purpose: Purpose::OneWay,
            is_answer: false,
        };
        assert_eq!(gone.last(), Some(&question));
        assert!(
            gone[..gone.len() - 1]
                .iter()
                .all(|contact| contact.is_answer)
        );
    }

    #[test]
    fn a_boot_that_has_answered_is_told_once_and_so_many_are_remembered() {
        let mut contacts = Contacts::default();
        for n in 0..2_000 {
            contacts.note_boot(address(n), Boot(n.into()));
        }
        let told = (0..2_000).filter(|&n| contacts.take_boot(address(n)).is_some());
        assert_eq!(told.count(), KNOWN_MAX);
        assert_eq!(contacts.take_boot(address(1_999)), None);
    }
}
