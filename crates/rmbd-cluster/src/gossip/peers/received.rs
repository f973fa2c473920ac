//! Remembers which of a peer's datagrams have arrived, and says when that is to be told.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::gossip::push::ACK_DELAY;

/// So many ranges are remembered and told, the newest ones. Older ones have been told before.
const RANGES_MAX: usize = 32;
/// Datagrams that are acknowledged at once, without waiting for more.
const AT_ONCE_FROM: u32 = 4;

/// Numbers received on one channel.
#[derive(Debug, Default)]
pub(super) struct Received {
    channel: u64,
    /// Newest first; neither touching nor overlapping.
    ranges: VecDeque<RangeInclusive<u64>>,
    unsaid: u32,
    unsaid_since: Option<Duration>,
}

impl Received {
    /// Notes a datagram that asks for an ack. Those of another channel begin anew.
    pub(super) fn note(&mut self, now: Duration, channel: u64, number: u64) {
        if channel != self.channel {
            *self = Self {
                channel,
                ..Self::default()
            };
        }
        self.insert(number);
        self.unsaid += 1;
        self.unsaid_since.get_or_insert(now);
    }

    /// The channel and its ranges, newest first, if there is anything to be told.
    pub(super) fn unsaid(&self) -> Option<(u64, impl Iterator<Item = RangeInclusive<u64>>)> {
        (self.unsaid > 0).then(|| (self.channel, self.ranges.iter().cloned()))
    }

    /// When it has to be said.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let since = self.unsaid_since?;
        Some(if self.unsaid >= AT_ONCE_FROM {
            since
        } else {
            since + ACK_DELAY
        })
    }

    pub(super) fn note_said(&mut self) {
        self.unsaid = 0;
        self.unsaid_since = None;
    }

    fn insert(&mut self, number: u64) {
        let at = self
            .ranges
            .iter()
            .position(|range| *range.end() <= number)
            .unwrap_or(self.ranges.len());
        // It may be the end of the range behind (older), lengthen it, or that before, or both.
        let below = self.ranges.get(at).cloned();
        let above = at
            .checked_sub(1)
            .and_then(|at| self.ranges.get(at))
            .cloned();
        let touches_below = below
            .as_ref()
            .is_some_and(|below| *below.end() + 1 >= number);
        let touches_above = above
            .as_ref()
            .is_some_and(|above| *above.start() <= number.saturating_add(1));
        match (above, below) {
            (Some(above), _) if *above.start() <= number => {}
            (_, Some(below)) if *below.end() == number => {}
            (Some(above), Some(below)) if touches_above && touches_below => {
                self.ranges[at - 1] = *below.start()..=*above.end();
                self.ranges.remove(at);
            }
            (Some(above), _) if touches_above => self.ranges[at - 1] = number..=*above.end(),
            (_, Some(below)) if touches_below => self.ranges[at] = *below.start()..=number,
            _ => self.ranges.insert(at, number..=number),
        }
        self.ranges.truncate(RANGES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_the_newest_of_what_came(numbers in prop::collection::vec(1u64..120, 0..90)) {
            let mut received = Received::default();
            let mut all = BTreeSet::new();
            let mut is_cut = false;
            for &number in &numbers {
                received.note(Duration::ZERO, 7, number);
                all.insert(number);
                let ranges: Vec<_> = received.ranges.iter().cloned().collect();
                for pair in ranges.windows(2) {
                    prop_assert!(*pair[1].end() + 1 < *pair[0].start());
                }
                let held: BTreeSet<u64> = ranges.iter().cloned().flatten().collect();
                prop_assert!(held.is_subset(&all));
                is_cut |= ranges.len() == RANGES_MAX;
                if !is_cut {
                    prop_assert_eq!(&held, &all);
                }
            }
        }
    }

    #[test]
    fn says_soon_and_at_once_where_many_came() {
        let ms = Duration::from_millis;
        let mut received = Received::default();
        assert!(received.unsaid().is_none() && received.deadline().is_none());
        received.note(ms(5), 1, 1);
        assert_eq!(received.deadline(), Some(ms(5) + ACK_DELAY));
        for number in 2..=4 {
            received.note(ms(6), 1, number);
        }
        assert_eq!(received.deadline(), Some(ms(5)));
        received.note_said();
        assert!(received.unsaid().is_none());
        received.note(ms(9), 2, 70);
        let (channel, ranges) = received.unsaid().expect("another channel");
        assert_eq!((channel, ranges.collect::<Vec<_>>()), (2, vec![70..=70]));
    }
}
