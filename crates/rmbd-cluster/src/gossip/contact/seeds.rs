//! Addresses at which others are said to be.
//!
//! Membership finds again whom it has met. Two groups that formed on either side of a broken network have
//! never met: they find each other by these addresses only.

use std::net::SocketAddr;
use std::time::Duration;

/// How often addresses are tried at which nobody is known.
const PERIOD: Duration = Duration::from_secs(15);
/// A node that is alone tries them this often: a first contact takes a few datagrams, of which any may get lost.
const PERIOD_ALONE: Duration = Duration::from_secs(1);
/// Addresses that are remembered, the last ones named.
const SEEDS_MAX: usize = 64;

/// Addresses that are tried now and then.
#[derive(Debug, Default)]
pub(crate) struct SeedAddresses {
    /// The one named last is at the end.
    all: Vec<SocketAddr>,
    next: Duration,
}

impl SeedAddresses {
    /// An address that is being tried right now.
    pub(crate) fn note(&mut self, now: Duration, seed: SocketAddr) {
        if self.all.is_empty() {
            self.next = now + PERIOD_ALONE;
        }
        self.all.retain(|&known| known != seed);
        if self.all.len() == SEEDS_MAX {
            self.all.remove(0);
        }
        self.all.push(seed);
    }

    /// All of them, the one named last at the end.
    pub(crate) fn all(&self) -> Vec<SocketAddr> {
        self.all.clone()
    }

    /// Addresses to be tried now: those at which nobody is known.
    pub(crate) fn due(
        &mut self,
        now: Duration,
        is_alone: bool,
        is_known: impl Fn(SocketAddr) -> bool,
    ) -> Vec<SocketAddr> {
        if now < self.next || self.all.is_empty() {
            return Vec::new();
        }
        self.next = now + if is_alone { PERIOD_ALONE } else { PERIOD };
        let unknown = self.all.iter().copied().filter(|&seed| !is_known(seed));
        unknown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn addresses_at_which_nobody_is_known_are_tried_now_and_then() {
        let mut seeds = SeedAddresses::default();
        assert_eq!(seeds.due(PERIOD, true, |_| false), []);
        for port in [1, 2, 1] {
            seeds.note(PERIOD, seed(port));
        }
        let known = |address| address == seed(2);
        assert_eq!(seeds.due(PERIOD, false, known), []);
        assert_eq!(seeds.due(PERIOD * 2, false, known), [seed(1)]);
        assert_eq!(seeds.due(PERIOD * 2, false, known), []);
        assert_eq!(seeds.due(PERIOD * 9, true, |_| false), [seed(2), seed(1)]);
        let soon = PERIOD * 9 + PERIOD_ALONE;
        assert_eq!(
            seeds.due(soon, true, known),
            [seed(1)],
            "sooner while alone"
        );
    }

    #[test]
    fn the_last_ones_named_are_remembered() {
        let mut seeds = SeedAddresses::default();
        for port in 1..=100 {
            seeds.note(Duration::ZERO, seed(port));
        }
        let due = seeds.due(PERIOD, false, |_| false);
        assert_eq!(due.len(), SEEDS_MAX);
        assert_eq!((due[0], due[63]), (seed(37), seed(100)));
    }
}
