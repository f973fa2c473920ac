//! Timers, and what is to be done when they are due. They are bounded: there is one slot for each kind of timer, or
//! for each kind and address, whatever is asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use foca::Timer;

use super::Member;

/// A task that is due when its timer is.
#[derive(Debug, Clone)]
pub(super) enum Task {
    /// Hand it back to foca.
    Foca(Timer<Member>),
    /// Nobody is up: ask those that are down.
    AnnounceAlone,
    /// There are new members: ask somebody whether there are more.
    Ask,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Probe,
    IndirectProbe,
    Announce,
    AnnounceDown,
    Gossip,
    AnnounceAlone,
    Ask,
    Suspicion(SocketAddr),
    Forget(SocketAddr),
}

/// A moment, and a sequence number that orders what falls on the same one.
type Moment = (Duration, u64);

#[derive(Debug, Default)]
pub(super) struct Timers {
    tasks: BTreeMap<Moment, (Slot, Task)>,
    slots: BTreeMap<Slot, Moment>,
    sequence: u64,
}

impl Timers {
    /// Takes the place of what is in the task's slot: foca asks for a second one of a kind only when
    /// the first has become void. A suspicion that is raised again keeps its first end.
    pub(super) fn set(&mut self, at: Duration, task: Task) {
        let slot = task.slot();
        if let Some(moment) = self.slots.get(&slot) {
            if matches!(slot, Slot::Suspicion(_)) && self.tasks[moment].1.is_same(&task) {
                return;
            }
            self.tasks.remove(moment);
        }
        let moment = (at, self.sequence);
        self.sequence += 1;
        self.slots.insert(slot, moment);
        self.tasks.insert(moment, (slot, task));
    }

    /// Whether there is a timer in the task's slot.
    pub(super) fn is_set(&self, task: &Task) -> bool {
        self.slots.contains_key(&task.slot())
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.tasks.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Task> {
        let first = self.tasks.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let (slot, task) = first.remove();
        self.slots.remove(&slot);
        Some(task)
    }

    /// The timer that would forget a member that is down, of the one that would be forgotten first,
    /// without those at the addresses `spared`.
    pub(super) fn pop_oldest_forget(&mut self, spared: &[SocketAddr]) -> Option<Task> {
        let moment = self
            .tasks
            .iter()
            .find(
                |(_, (slot, _))| matches!(slot, Slot::Forget(address) if !spared.contains(address)),
            )
            .map(|(moment, _)| *moment)?;
        let (slot, task) = self.tasks.remove(&moment)?;
        self.slots.remove(&slot);
        Some(task)
    }

    pub(super) fn clear(&mut self) {
        self.tasks.clear();
        self.slots.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.tasks.len(), self.slots.len());
        self.tasks.len()
    }
}

impl Task {
    fn slot(&self) -> Slot {
        match self {
            Self::AnnounceAlone => Slot::AnnounceAlone,
            Self::Ask => Slot::Ask,
            Self::Foca(timer) => match timer {
                Timer::ProbeRandomMember(_) => Slot::Probe,
                Timer::SendIndirectProbe { .. } => Slot::IndirectProbe,
                Timer::PeriodicAnnounce(_) => Slot::Announce,
                Timer::PeriodicAnnounceDown(_) => Slot::AnnounceDown,
                Timer::PeriodicGossip(_) => Slot::Gossip,
                Timer::ChangeSuspectToDown { member_id, .. } => Slot::Suspicion(member_id.address),
                Timer::RemoveDown(member) => Slot::Forget(member.address),
            },
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Foca(one), Self::Foca(other)) => one == other,
            (Self::AnnounceAlone, Self::AnnounceAlone) | (Self::Ask, Self::Ask) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rmbd_proto::Boot;

    fn member(port: u16) -> Member {
        Member {
            boot: Boot(1),
            ..Member::anyone(SocketAddr::from(([10, 0, 0, 1], port)))
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn suspicion(port: u16, incarnation: u16) -> Task {
        Task::Foca(Timer::ChangeSuspectToDown {
            member_id: member(port),
            incarnation,
            token: 0,
        })
    }

    #[test]
    fn due_in_order_and_ties_as_they_were_set() {
        let mut timers = Timers::default();
        timers.set(ms(2), suspicion(3, 0));
        timers.set(ms(1), suspicion(2, 0));
        timers.set(ms(1), suspicion(1, 0));
        assert_eq!(timers.next(), Some(ms(1)));
        assert!(timers.pop_due(ms(0)).is_none());
        for port in [2, 1, 3] {
            assert!(timers.pop_due(ms(5)).unwrap().is_same(&suspicion(port, 0)));
        }
        assert!(timers.pop_due(ms(5)).is_none());
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn one_slot_a_kind() {
        let mut timers = Timers::default();
        for token in 0..100 {
            timers.set(ms(100), Task::Foca(Timer::ProbeRandomMember(token)));
            timers.set(ms(100), Task::Foca(Timer::RemoveDown(member(1))));
            timers.set(ms(100), Task::AnnounceAlone);
        }
        assert_eq!(timers.len(), 3);
        assert!(timers.is_set(&Task::AnnounceAlone) && !timers.is_set(&Task::Ask));
    }

    #[test]
    fn a_suspicion_keeps_its_first_end_until_it_is_another_one() {
        let mut timers = Timers::default();
        timers.set(ms(1), suspicion(1, 0));
        timers.set(ms(2), suspicion(1, 0));
        assert_eq!((timers.len(), timers.next()), (1, Some(ms(1))));
        timers.set(ms(3), suspicion(1, 1));
        assert_eq!((timers.len(), timers.next()), (1, Some(ms(3))));
    }

    #[test]
    fn the_oldest_of_the_dead_goes_first() {
        let mut timers = Timers::default();
        timers.set(ms(1), Task::AnnounceAlone);
        timers.set(ms(3), Task::Foca(Timer::RemoveDown(member(3))));
        timers.set(ms(2), Task::Foca(Timer::RemoveDown(member(2))));
        timers.set(ms(1), Task::Foca(Timer::RemoveDown(member(1))));
        let spared = [member(1).address];
        for port in [2, 3] {
            let oldest = timers.pop_oldest_forget(&spared).unwrap();
            assert!(oldest.is_same(&Task::Foca(Timer::RemoveDown(member(port)))));
        }
        assert!(timers.pop_oldest_forget(&spared).is_none());
        timers.pop_oldest_forget(&[]).unwrap();
        assert_eq!(timers.len(), 1);
    }
}
