//! Random numbers by a seed. Every part of a run draws from its own stream, so that a change in one part does not
//! shift the others.

use std::time::Duration;

use rmbd_testkit::random::random;

/// A random stream (splitmix64, Steele, Lea & Flood 2014). It is small, seeded, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream of a part, by the part's name.
    pub fn stream(seed: u64, part: &str) -> Self {
        let mut state = Self(seed);
        for byte in part.bytes() {
            state.0 = state.next() ^ u64::from(byte);
        }
        Self(state.next())
    }

    pub fn next(&mut self) -> u64 {
        random(&mut self.0)
    }

    /// A number in `0..end`; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// A number in `from..=to`.
    pub fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    /// A number in [0, 1).
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    pub fn time(&mut self, from: Duration, to: Duration) -> Duration {
        from + to.saturating_sub(from).mul_f64(self.share())
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        of.get(self.below(of.len())).copied()
    }

    /// A rank from 0 to `end - 1`. Small ones are far more frequent (a power of a uniform number).
    pub fn skewed(&mut self, end: usize) -> usize {
        (self.share().powi(3) * end as f64) as usize
    }
}
