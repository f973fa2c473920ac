//! How often, how long, how many.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

/// Room for a header that names three members, and some updates, whatever their addresses.
pub(super) const BYTES_MIN: usize = 400;
/// Probes faster than this are no use on any network.
const PERIOD_MIN: Duration = Duration::from_millis(20);
/// A failure that is found hours later is not found.
const PROBE_PERIOD_MAX: Duration = Duration::from_hours(1);
/// Whom to ask to probe somebody who does not answer us.
const INDIRECT_PROBES: usize = 3;
/// How many of those that are down are asked whether they are back, each time.
pub(super) const ANNOUNCE_DOWN_MEMBERS: usize = 3;
/// A datagram that is lost is made good by the next of this many.
const GOSSIP_MEMBERS: usize = 3;
/// Suspicion lasts this many probe periods, times log10 of the members: SWIM, section 4.2; the
/// figures of this and of [`TRANSMISSIONS`] are memberlist's for a LAN.
const SUSPICION_PERIODS: f64 = 4.0;
/// Each piece of news is sent this often, times log10 of the members.
const TRANSMISSIONS: f64 = 4.0;

/// Settings of membership. The defaults suit 2 to 100 nodes on a LAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipOptions {
    /// Longest message sent or taken, in bytes. At least 400.
    pub max_bytes: usize,
    /// How many others are known at a time, those that are down included.
    pub max_members: usize,
    /// Time between probes, each of another member in turn. 20 ms to 1 h.
    pub probe_period: Duration,
    /// How long the answer to a probe may take before others are asked to try; at most half of
    /// `probe_period`.
    pub probe_rtt: Duration,
    /// How often three random members that are down are asked whether they are back: heals partitions.
    pub announce_down_period: Duration,
    /// How often a random member is asked whom it knows.
    pub announce_period: Duration,
    /// How often news is passed on to three random members, while there is any.
    pub gossip_period: Duration,
    /// How long a member that is down is remembered (and asked whether it is back).
    pub forget_after: Duration,
}

impl Default for MembershipOptions {
    fn default() -> Self {
        Self {
            max_bytes: 1_050,
            max_members: 1_024,
            probe_period: Duration::from_secs(1),
            probe_rtt: Duration::from_millis(300),
            announce_down_period: Duration::from_secs(3),
            announce_period: Duration::from_secs(15),
            gossip_period: Duration::from_millis(200),
            forget_after: Duration::from_hours(24),
        }
    }
}

impl MembershipOptions {
    /// With every value in its range.
    pub(super) fn in_range(mut self) -> Self {
        self.max_bytes = self.max_bytes.max(BYTES_MIN);
        self.max_members = self.max_members.max(1);
        self.probe_period = self.probe_period.clamp(PERIOD_MIN, PROBE_PERIOD_MAX);
        self.probe_rtt = self.probe_rtt.clamp(PERIOD_MIN / 2, self.probe_period / 2);
        for period in [
            &mut self.announce_down_period,
            &mut self.announce_period,
            &mut self.gossip_period,
            &mut self.forget_after,
        ] {
            *period = (*period).max(PERIOD_MIN);
        }
        self
    }

    /// foca's configuration for a cluster of `nodes`, ourselves included.
    pub(super) fn config(&self, nodes: usize) -> Config {
        let members = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        let periodic = |frequency, count| {
            Some(PeriodicParams {
                frequency,
                num_members: members(count),
            })
        };
        Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: members(INDIRECT_PROBES),
            max_transmissions: transmissions(nodes),
            suspect_to_down_after: self.suspicion(nodes),
            remove_down_after: Some(self.forget_after),
            max_packet_size: members(self.max_bytes),
            notify_down_members: true,
            periodic_announce: periodic(self.announce_period, 1),
            periodic_announce_to_down_members: periodic(
                self.announce_down_period,
                ANNOUNCE_DOWN_MEMBERS,
            ),
            periodic_gossip: periodic(self.gossip_period, GOSSIP_MEMBERS),
        }
    }

    /// The last one: what we say of ourselves must not run out.
    pub(super) fn config_leaving(&self, nodes: usize) -> Config {
        Config {
            max_transmissions: NonZeroU8::MAX,
            ..self.config(nodes)
        }
    }

    fn suspicion(&self, nodes: usize) -> Duration {
        let factor = (nodes as f64).log10().max(1.0);
        self.probe_period.mul_f64(SUSPICION_PERIODS * factor)
    }
}

/// 4 for 2 nodes, 8 for 10, 12 for 100.
fn transmissions(nodes: usize) -> NonZeroU8 {
    let times = TRANSMISSIONS * (nodes as f64 + 1.0).log10().ceil();
    NonZeroU8::new(times as u8).unwrap_or(NonZeroU8::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_nodes_more_patience() {
        let options = MembershipOptions::default();
        let told =
            [1, 2, 9, 10, 99, 100, 1024].map(|nodes| options.config(nodes).max_transmissions.get());
        assert_eq!(told, [4, 4, 4, 8, 8, 12, 16]);
        let suspicion =
            [1, 2, 10, 100].map(|nodes| options.config(nodes).suspect_to_down_after.as_secs());
        assert_eq!(suspicion, [4, 4, 4, 8]);
    }

    #[test]
    fn what_is_out_of_range_is_moved_into_it() {
        let zero = MembershipOptions {
            max_bytes: 0,
            max_members: 0,
            probe_period: Duration::ZERO,
            probe_rtt: Duration::ZERO,
            announce_down_period: Duration::ZERO,
            announce_period: Duration::ZERO,
            gossip_period: Duration::ZERO,
            forget_after: Duration::ZERO,
        }
        .in_range();
        assert!(zero.probe_rtt < zero.probe_period && !zero.probe_rtt.is_zero());
        assert!(!zero.gossip_period.is_zero() && !zero.forget_after.is_zero());
        assert_eq!((zero.max_bytes, zero.max_members), (BYTES_MIN, 1));
        let default = MembershipOptions::default();
        assert_eq!(default.clone().in_range(), default);
    }
}
