//! How many bytes may go out to all peers together.
//!
//! Questions, answers, digests and membership do not wait, and are counted. Where they take all of a low rate, as with
//! many peers, data must go on all the same, or nothing would ever come of them: a part of the rate is its own.

use std::time::Duration;

use rmbd_pace::{Rate, TokenBucket};

/// What may go out at once: this long at the full rate, and no less than some datagrams.
const BURST: Duration = Duration::from_millis(10);
const BURST_MIN_BYTES: u64 = 64 * 1_200;
/// One byte in so many is for data alone.
const DATA_PART: u64 = 4;
/// Timers are no finer: what waits for this is not woken too early.
const TICK: Duration = Duration::from_micros(1);

/// Bytes that may be sent, as time brings them.
#[derive(Debug)]
pub(super) struct Pacer {
    bytes: TokenBucket,
    /// Those that are for data alone.
    of_data: TokenBucket,
    /// The latest moment seen: time that goes back must not bring the same bytes twice.
    now: Duration,
}

impl Pacer {
    pub(super) fn new(now: Duration, bytes_per_s: u64) -> Self {
        let bucket = |per_s: u64| {
            let burst = burst_bytes(per_s);
            TokenBucket::new(Rate { burst, per_s }, now)
        };
        Self {
            bytes: bucket(bytes_per_s),
            of_data: bucket(bytes_per_s / DATA_PART),
            now,
        }
    }

    /// Whether data may be sent now.
    pub(super) fn may_send(&mut self, now: Duration) -> bool {
        self.now = self.now.max(now);
        let buckets = [&mut self.bytes, &mut self.of_data];
        // Each of them is to know the time.
        let has_token = buckets.map(|bucket| bucket.has_token(self.now));
        has_token.contains(&true)
    }

    /// Something went out, whether it was paced or not. Debts end at a second's worth.
    pub(super) fn spend(&mut self, bytes: usize, is_data: bool) {
        self.bytes.spend(bytes as u64);
        if is_data {
            self.of_data.spend(bytes as u64);
        }
    }

    /// When something may be sent again, as of the last [`may_send`](Self::may_send).
    pub(super) fn ready_at(&self) -> Duration {
        let ready_at = self.bytes.ready_at().min(self.of_data.ready_at());
        ready_at.saturating_add(TICK)
    }
}

fn burst_bytes(bytes_per_s: u64) -> u64 {
    let burst = u128::from(bytes_per_s) * BURST.as_micros() / 1_000_000;
    (burst as u64).clamp(BURST_MIN_BYTES, u32::MAX.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_the_rate_and_no_more() {
        for rate in [10_000, 1 << 20, 1 << 26] {
            let mut pacer = Pacer::new(Duration::ZERO, rate);
            let (mut now, mut sent) = (Duration::ZERO, 0);
            while now < Duration::from_secs(20) {
                if pacer.may_send(now) {
                    pacer.spend(1_200, true);
                    sent += 1_200;
                } else {
                    let ready = pacer.ready_at();
                    assert!(ready > now, "it would spin");
                    now = ready;
                }
            }
            let most = rate * 20 + burst_bytes(rate) + burst_bytes(rate / DATA_PART) + 1_200;
            assert!(sent <= most && sent >= rate * 19, "{rate}: {sent}");
        }
    }

    #[test]
    fn what_does_not_wait_leaves_data_its_part() {
        let rate = 40_000;
        let mut pacer = Pacer::new(Duration::ZERO, rate);
        let (mut sent, second) = (0, Duration::from_secs(1));
        for tick in 0..20_000 {
            let now = second * tick / 1_000;
            if tick % 10 == 0 {
                pacer.spend(1_200, false);
            }
            while pacer.may_send(now) {
                pacer.spend(1_200, true);
                sent += 1_200;
            }
        }
        let part = rate / DATA_PART * 20;
        let burst = burst_bytes(rate) + burst_bytes(rate / DATA_PART);
        assert!(
            (part - 1_200..=part + burst + 1_200).contains(&sent),
            "{sent}"
        );
    }

    #[test]
    fn time_that_goes_back_or_jumps_does_no_harm() {
        let mut pacer = Pacer::new(Duration::from_secs(100), 1_000);
        assert!(pacer.may_send(Duration::from_secs(1)));
        pacer.spend(usize::MAX / 4, true);
        assert!(!pacer.may_send(Duration::from_secs(100)));
        assert!(pacer.ready_at() < Duration::from_secs(300));
        assert!(pacer.may_send(Duration::from_secs(u64::MAX / 2)));
    }
}
