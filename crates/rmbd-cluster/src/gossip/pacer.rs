//! How many bytes may go out to all peers together.

use std::time::Duration;

use rmbd_pace::{Rate, TokenBucket};

/// What may go out at once: this long at the full rate, and no less than some datagrams.
const BURST: Duration = Duration::from_millis(10);
const BURST_MIN_BYTES: u64 = 64 * 1_200;
/// Timers are no finer: what waits for this is not woken too early.
const TICK: Duration = Duration::from_micros(1);

/// Bytes that may be sent, as time brings them.
#[derive(Debug)]
pub(super) struct Pacer {
    bytes: TokenBucket,
    /// The latest moment seen: time that goes back must not bring the same bytes twice.
    now: Duration,
}

impl Pacer {
    pub(super) fn new(now: Duration, bytes_per_s: u64) -> Self {
        let rate = Rate {
            burst: burst_bytes(bytes_per_s),
            per_s: bytes_per_s,
        };
        Self {
            bytes: TokenBucket::new(rate, now),
            now,
        }
    }

    pub(super) fn may_send(&mut self, now: Duration) -> bool {
        self.now = self.now.max(now);
        self.bytes.has_token(self.now)
    }

    /// Something went out, whether it was paced or not. Debts end at a second's worth.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.bytes.spend(bytes as u64);
    }

    /// When something may be sent again, as of the last [`may_send`](Self::may_send).
    pub(super) fn ready_at(&self) -> Duration {
        self.bytes.ready_at().saturating_add(TICK)
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
                    pacer.spend(1_200);
                    sent += 1_200;
                } else {
                    let ready = pacer.ready_at();
                    assert!(ready > now, "it would spin");
                    now = ready;
                }
            }
            let most = rate * 20 + burst_bytes(rate) + 1_200;
            assert!(sent <= most && sent >= rate * 19, "{rate}: {sent}");
        }
    }

    #[test]
    fn time_that_goes_back_or_jumps_does_no_harm() {
        let mut pacer = Pacer::new(Duration::from_secs(100), 1_000);
        assert!(pacer.may_send(Duration::from_secs(1)));
        pacer.spend(usize::MAX / 4);
        assert!(!pacer.may_send(Duration::from_secs(100)));
        assert!(pacer.ready_at() < Duration::from_secs(300));
        assert!(pacer.may_send(Duration::from_secs(u64::MAX / 2)));
    }
}
