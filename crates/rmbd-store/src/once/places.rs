//! The count of places that are held, in all and by each network.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::Admission;

/// Bits of an IPv4 network: the longest prefix that is routed between providers. As a rule one holder has all of it.
const V4_BITS: u32 = 24;
/// Bits of an IPv6 network: the largest that one site is given (RFC 6177, 2).
const V6_BITS: u32 = 48;

/// A network gets a place while it holds less than 1 in this many of the free ones.
const PART_OF_FREE: u32 = 4;

/// Counters of networks in each row. There are two rows, and a network's count is the smaller one of its two
/// counters. So it is never too low, and too high only where other networks share both counters: beside ten heavy
/// networks, one of 40 million others is taken for a heavy one.
const COLUMNS: usize = 1 << 16;
const ROWS: usize = 2;

/// The network of a site or of a provider's customer: an IPv4 /24 or an IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(u64);

/// The bit that marks the number of an IPv6 network, above its bits and those of IPv4.
const IS_V6: u64 = 1 << V6_BITS;
/// The number of the last IPv4 network.
const V4_MAX: u64 = (1 << V4_BITS) - 1;

impl Network {
    /// The network of an address. An IPv4 address has one network, also in its IPv6-mapped form.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => u64::from(ip.to_bits() >> (Ipv4Addr::BITS - V4_BITS)),
            IpAddr::V6(ip) => IS_V6 | (ip.to_bits() >> (Ipv6Addr::BITS - V6_BITS)) as u64,
        })
    }
}

/// The number of a network, as it is saved.
impl Network {
    pub(super) const fn number(self) -> u64 {
        self.0
    }

    /// `None` where no network has this number.
    pub(super) fn of_number(number: u64) -> Option<Self> {
        let is_one = number <= V4_MAX || number >> V6_BITS == 1;
        is_one.then_some(Self(number))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number) = *self;
        if number & IS_V6 != 0 {
            let bits = u128::from(number & !IS_V6) << (Ipv6Addr::BITS - V6_BITS);
            write!(f, "{}/{V6_BITS}", Ipv6Addr::from_bits(bits))
        } else {
            let bits = (number as u32) << (Ipv4Addr::BITS - V4_BITS);
            write!(f, "{}/{V4_BITS}", Ipv4Addr::from_bits(bits))
        }
    }
}

/// Counters of places, shared by all threads. They are relaxed: each stands for itself, and nothing else is published
/// through it. A thread counts first and checks then, so that threads at the same time never take too many places;
/// one of them may be refused the last place while another thread gives one back.
#[derive(Debug)]
pub(super) struct Places {
    max: u32,
    held: AtomicU32,
    by_network: [Box<[AtomicU32]>; ROWS],
    /// The hash is keyed, so that nobody can share another network's counters on purpose.
    hash: RandomState,
    /// The number of the network that was refused last, plus 1; 0 stands for none.
    refused_last: AtomicU64,
}

impl Places {
    pub(super) fn new(max: u32) -> Self {
        let row = || (0..COLUMNS).map(|_| AtomicU32::new(0)).collect();
        Self {
            max,
            held: AtomicU32::new(0),
            by_network: [row(), row()],
            hash: RandomState::new(),
            refused_last: AtomicU64::new(0),
        }
    }

    pub(super) fn max(&self) -> u32 {
        self.max
    }

    pub(super) fn held(&self) -> u32 {
        self.held.load(Relaxed)
    }

    pub(super) fn refused_last(&self) -> Option<Network> {
        self.refused_last.load(Relaxed).checked_sub(1).map(Network)
    }

    /// Takes a place for a client of a network.
    ///
    /// # Errors
    /// Fails with [`Admission::Full`] or [`Admission::NetworkFull`]; nothing is taken then.
    pub(super) fn take(&self, network: Network) -> Result<(), Admission> {
        let held = self.held.fetch_add(1, Relaxed);
        let free = self.max.saturating_sub(held);
        let mut held_by_network = u32::MAX;
        for counter in self.counters(network) {
            held_by_network = held_by_network.min(counter.fetch_add(1, Relaxed));
        }
        let refusal = match free {
            0 => Admission::Full,
            _ if held_by_network >= free.div_ceil(PART_OF_FREE) => Admission::NetworkFull,
            _ => return Ok(()),
        };
        self.give_back(network);
        self.refused_last.store(network.0 + 1, Relaxed);
        Err(refusal)
    }

    /// Takes a place for a client that had one before a restart, however many its network holds; false where there is
    /// none.
    pub(super) fn hold(&self, network: Network) -> bool {
        if self.held.fetch_add(1, Relaxed) >= self.max {
            self.held.fetch_sub(1, Relaxed);
            return false;
        }
        for counter in self.counters(network) {
            counter.fetch_add(1, Relaxed);
        }
        true
    }

    /// Returns a place that was taken.
    pub(super) fn give_back(&self, network: Network) {
        self.held.fetch_sub(1, Relaxed);
        for counter in self.counters(network) {
            counter.fetch_sub(1, Relaxed);
        }
    }

    fn counters(&self, network: Network) -> [&AtomicU32; ROWS] {
        let hash = self.hash.hash_one(network);
        let [first, second] = &self.by_network;
        [
            &first[hash as usize % COLUMNS],
            &second[(hash >> 32) as usize % COLUMNS],
        ]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    #[test]
    fn networks_are_what_one_holder_has() {
        for (one, other, same) in [
            ("192.0.2.0", "192.0.2.255", true),
            ("192.0.2.0", "192.0.3.0", false),
            ("192.0.2.7", "::ffff:192.0.2.9", true),
            ("2001:db8:1::", "2001:db8:1:ffff::1", true),
            ("2001:db8:1::", "2001:db8:2::", false),
            ("0.0.0.0", "::", false),
            ("0.0.0.1", "::1", false),
        ] {
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
        for (ip, text) in [
            ("203.0.113.9", "203.0.113.0/24"),
            ("255.255.255.255", "255.255.255.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
            ("ffff:ffff:ffff:ffff::", "ffff:ffff:ffff::/48"),
            ("::1", "::/48"),
        ] {
            assert_eq!(network(ip).to_string(), text);
        }
    }

    #[test]
    fn a_network_alone_gets_a_fifth_and_each_leaves_more_than_it_takes() {
        let places = Places::new(50_000);
        let mut free = 50_000;
        for n in 0..200 {
            let greedy = Network(n);
            let mut taken = 0;
            while places.take(greedy).is_ok() {
                taken += 1;
            }
            assert!(taken <= free / 5 + 1, "{n}: {taken} of {free}");
            assert!(taken > 0 || free == 0, "a free place is somebody's");
            free -= taken;
            assert_eq!(places.held(), 50_000 - free);
            assert_eq!(places.refused_last(), Some(greedy));
        }
        assert_eq!(free, 0);
        assert_eq!(places.take(Network(777)), Err(Admission::Full));
        // A place that is given back is free for another network.
        places.give_back(Network(0));
        assert_eq!(places.take(Network(0)), Err(Admission::NetworkFull));
        assert_eq!(places.take(Network(777)), Ok(()));
    }

    #[test]
    fn threads_at_once_never_take_more_than_there_is() {
        let places = Places::new(1000);
        let taken: u32 = std::thread::scope(|scope| {
            let take = |thread: u64| {
                let places = &places;
                scope.spawn(move || {
                    let asks = (0..20_000).map(|n| Network(thread * 1000 + n % 1000));
                    asks.filter(|&network| places.take(network).is_ok()).count() as u32
                })
            };
            let threads: Vec<_> = (0..4).map(take).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!((taken, places.held()), (1000, 1000));
    }
}
