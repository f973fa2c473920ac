//! The messages of one thread, in order: which key, and whether it is added or counted. The same
//! script, run again, says what was sent.

use rand::rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::keys::Stream;
use crate::load::Load;

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Add,
    Count,
}

/// An endless, repeatable sequence of messages.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    stream: Stream,
    /// A message is a count where the next random number is below this; `None` for counts only.
    counts_below: Option<u64>,
    rng: Xoshiro256PlusPlus,
}

impl Script {
    /// That of thread `part` of a load.
    pub(crate) fn new(load: &Load, part: usize) -> Self {
        let share = load.mode.count_share();
        let seed = load.seed ^ 0x6b69_6e64_0000_0000 ^ part as u64;
        Self {
            stream: load.keys.stream(load.seed, part, load.threads),
            counts_below: (share < 1.0).then_some((share * 2f64.powi(64)) as u64),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    /// The next message.
    #[inline]
    pub(crate) fn next(&mut self) -> (Kind, &[u8]) {
        (self.kind(), self.stream.next_key())
    }

    /// The key of the latest message.
    pub(crate) fn latest_key(&self) -> &[u8] {
        self.stream.latest_key()
    }

    /// The next message, with its key's number in place of the key.
    #[inline]
    pub(crate) fn next_number(&mut self) -> (Kind, u64) {
        (self.kind(), self.stream.next_number())
    }

    #[inline]
    fn kind(&mut self) -> Kind {
        match self.counts_below {
            Some(0) => Kind::Add,
            Some(below) if self.rng.next_u64() >= below => Kind::Add,
            _ => Kind::Count,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::load;

    #[test]
    fn a_script_repeats_itself() {
        let load = load("mix:0.3", "uniform:1000");
        let mut sent = Script::new(&load, 0);
        let mut again = Script::new(&load, 0);
        let mut counts = 0;
        for _ in 0..10_000 {
            let (kind, key) = sent.next();
            let key = key.to_vec();
            let (kind_again, number) = again.next_number();
            assert_eq!((kind, key), (kind_again, load.keys.key(number)));
            counts += usize::from(kind == Kind::Count);
        }
        assert!((2800..3200).contains(&counts), "{counts}");
    }

    #[test]
    fn adds_and_counts_alone_are_alone() {
        for (mode, kind) in [("add", Kind::Add), ("count", Kind::Count)] {
            let mut script = Script::new(&load(mode, "uniform:10"), 0);
            assert!((0..1000).all(|_| script.next().0 == kind), "{mode}");
        }
    }
}
