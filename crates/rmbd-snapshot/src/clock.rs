//! Time that passes between two starts.

use std::time::Duration;

use rmbd_proto::snapshot_file::FileHead;

/// What all clocks of a machine showed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The node's own clock, by which all ages are measured.
    pub time: Duration,
    /// The wall clock, since 1970.
    pub wall: Duration,
    /// Time since the machine booted, suspended time included (`CLOCK_BOOTTIME`, clock_gettime(2)).
    pub since_boot: Duration,
    /// The id of this boot of the machine (random(4), `boot_id`); 0 if it is not known.
    pub machine_boot: u128,
}

impl ClockReading {
    /// How long ago a file was begun, or less. In one boot of the machine this is exact. Else the wall clock tells,
    /// which may have been set meanwhile; but the machine has certainly run for as long as it is up.
    #[must_use]
    pub fn since(&self, head: &FileHead) -> Duration {
        if self.machine_boot != 0 && self.machine_boot == head.machine_boot {
            return (self.since_boot).saturating_sub(Duration::from_nanos(head.since_boot_ns));
        }
        let by_wall = (self.wall).saturating_sub(Duration::from_millis(head.wall_ms));
        by_wall.min(self.since_boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::head;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_clock_that_was_set_makes_nothing_older_than_it_is() {
        let head = FileHead {
            wall_ms: (HOUR * 1_000).as_millis() as u64,
            since_boot_ns: HOUR.as_nanos() as u64,
            machine_boot: 7,
            ..head()
        };
        let now = |wall, since_boot, machine_boot| ClockReading {
            time: Duration::ZERO,
            wall,
            since_boot,
            machine_boot,
        };
        let cases = [
            (
                now(HOUR * 1_000, HOUR * 3, 7),
                HOUR * 2,
                "one boot, whatever the wall clock says",
            ),
            (now(Duration::ZERO, HOUR * 3, 7), HOUR * 2, "a year back"),
            (
                now(HOUR * 1_005, HOUR * 2, 8),
                HOUR * 2,
                "up for less than the wall clock says",
            ),
            (
                now(HOUR * 1_001, HOUR * 2, 8),
                HOUR,
                "the wall clock says less",
            ),
            (
                now(HOUR * 900, HOUR * 2, 8),
                Duration::ZERO,
                "the wall clock went back",
            ),
            (
                now(HOUR * 1_001, HOUR * 2, 0),
                HOUR,
                "nobody knows which boot it is",
            ),
        ];
        for (now, elapsed, why) in cases {
            assert_eq!(now.since(&head), elapsed, "{why}");
        }
        let nobody_knows = FileHead {
            machine_boot: 0,
            ..head
        };
        assert_eq!(now(HOUR * 1_001, HOUR * 5, 0).since(&nobody_knows), HOUR);
    }
}
