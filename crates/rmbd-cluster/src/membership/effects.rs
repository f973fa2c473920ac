//! The seam between foca and us: it keeps what foca wants done until somebody does it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Notification, Runtime, Timer};

use super::timers::{Task, Timers};
use super::{Member, MembershipDatagram, MembershipEvent};

/// Messages kept for sending; older ones make room, as if the network had lost them.
const TRANSMITS_MAX: usize = 1_024;
/// Events kept; older ones make room.
const EVENTS_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Effects {
    /// Membership's own time.
    pub(super) now: Duration,
    pub(super) timers: Timers,
    pub(super) transmits: VecDeque<MembershipDatagram>,
    pub(super) events: VecDeque<MembershipEvent>,
    pub(super) own_address: SocketAddr,
}

impl Effects {
    pub(super) fn new(own_address: SocketAddr) -> Self {
        Self {
            now: Duration::ZERO,
            timers: Timers::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            own_address,
        }
    }

    pub(super) fn report(&mut self, event: MembershipEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(super) fn set_timer(&mut self, task: Task, after: Duration) {
        self.timers.set(self.now.saturating_add(after), task);
    }
}

impl Runtime<Member> for Effects {
    fn notify(&mut self, notification: Notification<'_, Member>) {
        match notification {
            Notification::MemberUp(member) => self.report(MembershipEvent::Up(*member)),
            Notification::MemberDown(member) => self.report(MembershipEvent::Down(*member)),
            Notification::Rename(old, new) => {
                self.report(MembershipEvent::Renamed {
                    old: *old,
                    new: *new,
                });
            }
            Notification::Rejoin(me) => self.report(MembershipEvent::Rejoined(*me)),
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: Member, data: &[u8]) {
        if to.address == self.own_address {
            return;
        }
        if self.transmits.len() == TRANSMITS_MAX {
            self.transmits.pop_front();
        }
        self.transmits.push_back(MembershipDatagram {
            to: to.address,
            to_boot: (!to.is_anyone()).then_some(to.boot),
            message: data.to_vec(),
        });
    }

    fn submit_after(&mut self, event: Timer<Member>, after: Duration) {
        self.set_timer(Task::Foca(event), after);
    }
}
