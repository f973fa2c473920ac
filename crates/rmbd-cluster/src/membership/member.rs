//! A member's identity, and which of two claims to one address stands.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use foca::Identity;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use rmbd_proto::Boot;
use rmbd_proto::cluster::{MemberEntry, member_entry};

/// Start times beyond this (in the year 287 396) are nonsense; refusing them leaves room to outbid
/// whatever is claimed.
const STARTED_MS_MAX: u64 = 1 << 53;

/// A process that takes part in the cluster, as the others know it.
///
/// There is one member at an address. Of two claims to it the greater one stands, compared by
/// `started_ms`, `renewals`, `boot`, `node`, `client_port`, in this order: usually the process that was
/// started last. Where the clock had jumped back in between, the new process learns of the dead
/// one's claim and outbids it (see [`Membership`](super::Membership)): it takes over the claim's
/// `started_ms` and raises `renewals`. So both fields are a rank, not a record of when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    /// The node's stable name.
    pub node: u64,
    /// This run of it; random, never 0.
    pub boot: Boot,
    /// When it was started, in ms of Unix time.
    pub started_ms: u64,
    /// How often it came back after the others had declared it down.
    pub renewals: u32,
    /// Where the others reach it: its advertised cluster address.
    pub address: SocketAddr,
    /// The UDP port for clients, on the same host.
    pub client_port: u16,
}

impl Member {
    /// Whether the claim to the address that `self` makes stands against that of `other`.
    pub fn beats(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// Whether this can be a member: it has a boot, an address that can be sent to, and a start
    /// time. Everybody refuses all else.
    pub fn is_plausible(&self) -> bool {
        let ip = self.address.ip();
        self.boot != Boot(0)
            && self.address.port() != 0
            && !ip.is_unspecified()
            && !ip.is_multicast()
            && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
            && self.started_ms <= STARTED_MS_MAX
    }

    /// Stands for whoever is at `address`.
    pub(super) fn anyone(address: SocketAddr) -> Self {
        Self {
            node: 0,
            boot: Boot(0),
            started_ms: 0,
            renewals: 0,
            address,
            client_port: 0,
        }
    }

    pub(super) fn is_anyone(&self) -> bool {
        self.boot == Boot(0)
    }

    /// The same process with the lowest rank that beats `claim`; itself where there is none.
    pub(super) fn outbidding(self, claim: &Self) -> Self {
        let (started_ms, renewals) = match claim.renewals.checked_add(1) {
            Some(renewals) => (claim.started_ms, renewals),
            None => (claim.started_ms.saturating_add(1), 0),
        };
        let outbid = Self {
            started_ms,
            renewals,
            ..self
        };
        if outbid.is_plausible() { outbid } else { self }
    }

    /// As it is after a way over the wire, which has no flow label and no scope.
    pub(super) fn as_on_the_wire(mut self) -> Self {
        if let SocketAddr::V6(address) = &mut self.address {
            address.set_flowinfo(0);
            address.set_scope_id(0);
        }
        self
    }

    fn rank(&self) -> (u64, u32, Boot, u64, u16) {
        (
            self.started_ms,
            self.renewals,
            self.boot,
            self.node,
            self.client_port,
        )
    }
}

/// As bytes with their length, so that later releases may tell more of a member.
impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = MemberEntry {
            node: self.node,
            boot: self.boot,
            started_ms: self.started_ms,
            renewals: self.renewals,
            address: self.address,
            client_port: self.client_port,
        };
        let mut bytes = Vec::with_capacity(MemberEntry::BYTES_MAX);
        entry.write(&mut bytes);
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(EntryVisitor)
    }
}

struct EntryVisitor;

impl Visitor<'_> for EntryVisitor {
    type Value = Member;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a member's entry")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Member, E> {
        let entry = member_entry(bytes).ok_or_else(|| E::custom("a malformed member"))?;
        Ok(Member {
            node: entry.node,
            boot: entry.boot,
            started_ms: entry.started_ms,
            renewals: entry.renewals,
            address: entry.address,
            client_port: entry.client_port,
        })
    }
}

impl Identity for Member {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        let renewed = self.outbidding(self);
        (renewed != *self).then_some(renewed)
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.beats(adversary)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn member() -> impl Strategy<Value = Member> {
        // Few values, so that ties in each field happen.
        (0u64..3, 1u64..4, 0u64..3, 0u32..3, 1u16..3).prop_map(
            |(node, boot, started_ms, renewals, client_port)| Member {
                node,
                boot: Boot(boot),
                started_ms,
                renewals,
                address: SocketAddr::from(([10, 0, 0, 1], 8001)),
                client_port,
            },
        )
    }

    proptest! {
        #[test]
        fn of_two_claims_exactly_one_stands(one in member(), other in member(), third in member()) {
            prop_assert_eq!(one.beats(&other) ^ other.beats(&one), one != other);
            if one.beats(&other) && other.beats(&third) {
                prop_assert!(one.beats(&third));
            }
        }

        #[test]
        fn outbidding_beats_and_keeps_the_process(mine in member(), mut claim in member(), is_last in any::<bool>()) {
            if is_last {
                claim.renewals = u32::MAX;
            }
            let outbid = mine.outbidding(&claim);
            prop_assert!(outbid.beats(&claim));
            prop_assert!(mine.renew().unwrap().beats(&mine));
            prop_assert_eq!(
                (outbid.node, outbid.boot, outbid.address, outbid.client_port),
                (mine.node, mine.boot, mine.address, mine.client_port)
            );
        }
    }

    #[test]
    fn the_highest_claim_of_all_is_not_outbid_by_nonsense() {
        let mut claim = Member::anyone(SocketAddr::from(([10, 0, 0, 1], 1)));
        claim.boot = Boot(1);
        (claim.started_ms, claim.renewals) = (STARTED_MS_MAX, u32::MAX);
        assert!(claim.is_plausible());
        assert_eq!(claim.outbidding(&claim), claim);
        assert_eq!(claim.renew(), None);
    }

    #[test]
    fn what_cannot_be_sent_to_is_no_member() {
        let member = |address: &str| Member {
            boot: Boot(1),
            ..Member::anyone(address.parse().unwrap())
        };
        for address in [
            "127.0.0.1:1",
            "10.1.2.3:65535",
            "[::1]:1",
            "[2001:db8::1]:8001",
        ] {
            assert!(member(address).is_plausible(), "{address}");
        }
        for address in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:0",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
        ] {
            assert!(!member(address).is_plausible(), "{address}");
        }
        assert!(!Member::anyone("10.0.0.1:1".parse().unwrap()).is_plausible());
    }
}
