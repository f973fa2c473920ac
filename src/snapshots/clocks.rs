//! All clocks of the machine at one moment, so that ages go on over a restart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rmbd_snapshot::ClockReading;
use rustix::time::{ClockId, clock_gettime};

/// The number of this start of the machine, as a UUID in text.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reads all clocks, given what the node's own shows.
pub(super) fn read(time: Duration) -> ClockReading {
    ClockReading {
        time,
        wall: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
        since_boot: since_boot(),
        machine_boot: machine_boot(),
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // It begins at 0 and never goes back.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The number of this start of the machine; 0 stands for an unknown one.
fn machine_boot() -> u128 {
    let text = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    parse_uuid(&text).unwrap_or_default()
}

fn parse_uuid(text: &str) -> Option<u128> {
    let digits: String = text.trim_end().split('-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (digits.len() == 32).then_some(number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_clocks_go_on() {
        let first = read(Duration::from_secs(7));
        let second = read(Duration::from_secs(7));
        assert_eq!(
            (first.time, first.machine_boot),
            (second.time, second.machine_boot)
        );
        assert!(first.since_boot > Duration::ZERO && first.since_boot <= second.since_boot);
        assert!(first.wall > Duration::from_secs(1_600_000_000));
        assert_ne!(first.machine_boot, 0);
    }

    #[test]
    fn a_boot_id_is_a_uuid() {
        let id = parse_uuid("01020304-0506-0708-090a-0b0c0d0e0f10\n").unwrap();
        assert_eq!(id, 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        for wrong in ["", "0", "zz020304-0506-0708-090a-0b0c0d0e0f10", "00-01"] {
            assert_eq!(parse_uuid(wrong), None, "{wrong}");
        }
    }
}
