//! Targets that are pushed to one way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::gossip::transport::Sender;
use rmbd_proto::Boot;

/// A target that has not answered for this long is given up.
const SILENT_MAX: Duration = Duration::from_secs(30);

/// All targets, by their addresses.
#[derive(Debug)]
pub(crate) struct OneWayTargets {
    max: usize,
    all: BTreeMap<SocketAddr, OneWayTarget>,
}

#[derive(Debug)]
struct OneWayTarget {
    /// The start that has answered from there, once one has.
    boot: Option<Boot>,
    heard_at: Duration,
}

/// The meaning of a datagram for the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetAnswer {
    /// It is not from a target's address.
    NoTargets,
    /// It is from the start that has answered there before.
    Known,
    /// It is from another start, or the first one.
    New,
}

impl OneWayTargets {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            all: BTreeMap::new(),
        }
    }

    /// Adds a target, or gives it time again; false where there is no room.
    pub(crate) fn add(&mut self, now: Duration, address: SocketAddr) -> bool {
        let has_room = self.all.len() < self.max;
        if has_room {
            let fresh = OneWayTarget {
                boot: None,
                heard_at: now,
            };
            self.all.entry(address).or_insert(fresh).heard_at = now;
        }
        has_room
    }

    /// Ends a target, and returns the start that has answered there, if any has. `None` where there is no such target.
    pub(crate) fn remove(&mut self, address: SocketAddr) -> Option<Option<Boot>> {
        self.all.remove(&address).map(|target| target.boot)
    }

    pub(crate) fn has_address(&self, address: SocketAddr) -> bool {
        self.all.contains_key(&address)
    }

    /// Whether this start has answered as a target.
    pub(crate) fn has_boot(&self, boot: Boot) -> bool {
        self.all.values().any(|target| target.boot == Some(boot))
    }

    /// Takes note of a datagram.
    pub(crate) fn hear(&mut self, now: Duration, sender: Sender) -> TargetAnswer {
        let Some(target) = self.all.get_mut(&sender.address) else {
            return TargetAnswer::NoTargets;
        };
        target.heard_at = now;
        if target.boot == Some(sender.boot) {
            TargetAnswer::Known
        } else {
            TargetAnswer::New
        }
    }

    /// The start at a target's address is this one from now on; returns the one before.
    pub(crate) fn set_boot(&mut self, address: SocketAddr, boot: Boot) -> Option<Boot> {
        self.all.get_mut(&address)?.boot.replace(boot)
    }

    /// Forgets the starts of all targets, which have to answer again; returns the targets.
    pub(crate) fn forget_all_boots(&mut self) -> Vec<SocketAddr> {
        self.all.values_mut().for_each(|target| target.boot = None);
        self.all.keys().copied().collect()
    }

    /// All targets, with the starts that have answered.
    pub(crate) fn all(&self) -> impl Iterator<Item = (SocketAddr, Option<Boot>)> + '_ {
        let all = self.all.iter();
        all.map(|(&address, target)| (address, target.boot))
    }

    /// When a target was last heard; `None` where it never answered.
    pub(crate) fn heard_at(&self, address: SocketAddr) -> Option<Duration> {
        let target = self.all.get(&address)?;
        target.boot.map(|_| target.heard_at)
    }

    /// Targets that have been silent for so long that they are to be given up.
    pub(crate) fn silent(&self, now: Duration) -> Vec<SocketAddr> {
        let silent = self.all.iter();
        let silent = silent.filter(|(_, target)| target.silence(now) > SILENT_MAX);
        silent.map(|(&address, _)| address).collect()
    }

    /// Forgets the starts that have been silent for longer than `patience`: a target that restarted has another one, so
    /// that it is asked again who is there. Returns the starts that were forgotten.
    pub(crate) fn forget_boots(&mut self, now: Duration, patience: Duration) -> Vec<Boot> {
        let quiet = self.all.values_mut();
        let quiet = quiet.filter(|target| target.silence(now) > patience);
        quiet.filter_map(|target| target.boot.take()).collect()
    }
}

impl OneWayTarget {
    fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sender(port: u16, boot: u64) -> Sender {
        Sender {
            boot: Boot(boot),
            node: 1,
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    #[test]
    fn a_silent_target_is_asked_who_is_there_and_then_given_up() {
        let mut targets = OneWayTargets::new(1);
        let first = sender(1, 10);
        assert_eq!(targets.hear(SECOND, first), TargetAnswer::NoTargets);
        assert!(targets.add(SECOND, first.address));
        assert!(!targets.add(SECOND, sender(2, 20).address), "no room");
        assert_eq!(targets.heard_at(first.address), None);
        assert_eq!(targets.hear(SECOND * 2, first), TargetAnswer::New);
        assert_eq!(targets.set_boot(first.address, first.boot), None);
        assert_eq!(targets.hear(SECOND * 3, first), TargetAnswer::Known);
        assert!(targets.has_boot(first.boot));
        assert_eq!(targets.forget_boots(SECOND * 5, SECOND * 3), []);
        assert_eq!(targets.forget_boots(SECOND * 7, SECOND * 3), [first.boot]);
        assert!(!targets.has_boot(first.boot) && targets.has_address(first.address));
        assert_eq!(targets.silent(SECOND * 33), []);
        assert_eq!(targets.silent(SECOND * 34), [first.address]);
        assert_eq!(targets.remove(first.address), Some(None));
    }
}
