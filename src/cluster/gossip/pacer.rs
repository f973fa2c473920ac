//! How much may go out: a token bucket over all peers together.

use std::time::Duration;

/// What may go out at once: this long at the full rate, and no less than some datagrams.
const BURST: Duration = Duration::from_millis(10);
const BURST_MIN_BYTES: u64 = 64 * 1_200;

/// Bytes that may be sent, as time brings them.
#[derive(Debug)]
pub(super) struct Pacer {
    bytes_per_s: u64,
    burst_bytes: u64,
    /// Negative where something unpaced has gone beyond.
    bytes: i64,
    at: Duration,
}

impl Pacer {
    pub(super) fn new(now: Duration, bytes_per_s: u64) -> Self {
        let bytes_per_s = bytes_per_s.max(1);
        let burst_bytes = (u128::from(bytes_per_s) * BURST.as_micros() / 1_000_000) as u64;
        let burst_bytes = burst_bytes.clamp(BURST_MIN_BYTES, u64::from(u32::MAX));
        Self {
            bytes_per_s,
            burst_bytes,
            bytes: burst_bytes.cast_signed(),
            at: now,
        }
    }

    pub(super) fn may_send(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_micros();
        let earned = passed * u128::from(self.bytes_per_s) / 1_000_000;
        if earned > 0 {
            let earned = earned.min(u128::from(self.burst_bytes) * 2) as i64;
            self.bytes = (self.bytes + earned).min(self.burst_bytes.cast_signed());
            self.at = now;
        }
        self.bytes > 0
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        // Debts end at a second's worth: whatever went unpaced, sending goes on.
        let least = -(self.bytes_per_s.min(1 << 40).cast_signed());
        self.bytes = (self.bytes - bytes as i64).max(least);
    }

    /// When something may be sent again, as of the last [`may_send`](Self::may_send).
    pub(super) fn ready_at(&self) -> Duration {
        let missing = u64::try_from(1 - self.bytes).unwrap_or(0);
        let micros = u128::from(missing) * 1_000_000 / u128::from(self.bytes_per_s);
        self.at + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX) + 1)
    }
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
            let most = rate * 20 + pacer.burst_bytes + 1_200;
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
