//! The messages of one thread, in order: the key of each, and whether it is added, counted or hit. A second run of
//! the script tells what was sent.

use rand::rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::keys::Stream;
use super::load::Load;
use super::mode::Mode;

/// The request of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Add,
    Count,
    Hit,
}

impl Kind {
    /// Whether the message adds to the key.
    pub(crate) fn adds(self) -> bool {
        self != Self::Count
    }
}

/// The kinds of messages of a script.
#[derive(Debug, Clone, Copy)]
enum Kinds {
    Only(Kind),
    /// A message is a count if the next random number is below this, and else an add.
    CountsBelow(u64),
}

/// An endless, repeatable sequence of messages.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    stream: Stream,
    kinds: Kinds,
    rng: Xoshiro256PlusPlus,
    /// The kind of the latest message.
    latest: Kind,
    /// Whether the latest message comes again.
    again: bool,
}

impl Script {
    /// The script of thread `part` of a load.
    pub(crate) fn new(load: &Load, part: usize) -> Self {
        let kinds = match load.mode {
            Mode::Add => Kinds::Only(Kind::Add),
            Mode::Count | Mode::CountIn { .. } => Kinds::Only(Kind::Count),
            Mode::Hit { .. } | Mode::Limit { .. } => Kinds::Only(Kind::Hit),
            Mode::Mix(share) | Mode::MixIn { share, .. } => {
                Kinds::CountsBelow((share * 2f64.powi(64)) as u64)
            }
        };
        let seed = load.seed ^ 0x6b69_6e64_0000_0000 ^ part as u64;
        Self {
            stream: (load.keys.stream(load.seed, part, load.threads))
                .changing_every(load.messages_between_changes()),
            kinds,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            latest: Kind::Add,
            again: false,
        }
    }

    /// The next message.
    #[inline]
    pub(crate) fn next(&mut self) -> (Kind, &[u8]) {
        if std::mem::take(&mut self.again) {
            return (self.latest, self.stream.latest_key());
        }
        self.latest = self.kind();
        (self.latest, self.stream.next_key())
    }

    /// Returns the latest message, which becomes the next one again.
    pub(crate) fn put_back(&mut self) {
        self.again = true;
    }

    /// The number of the latest message's key.
    #[inline]
    pub(crate) fn latest_number(&self) -> u64 {
        self.stream.latest_number()
    }

    /// The key of the latest message.
    pub(crate) fn latest_key(&self) -> &[u8] {
        self.stream.latest_key()
    }

    /// The next message, with its key's number in place of the key. It is for a script that is run again, to which no
    /// message is returned.
    #[inline]
    pub(crate) fn next_number(&mut self) -> (Kind, u64) {
        debug_assert!(!self.again);
        (self.kind(), self.stream.next_number())
    }

    #[inline]
    fn kind(&mut self) -> Kind {
        match self.kinds {
            Kinds::Only(kind) => kind,
            Kinds::CountsBelow(below) if self.rng.next_u64() < below => Kind::Count,
            Kinds::CountsBelow(_) => Kind::Add,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::plan::testing::load;
    use crate::record::{Gaps, Pace};

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
    fn what_is_put_back_comes_again() {
        let load = load("mix:0.5", "uniform:1000");
        let (mut script, mut other) = (Script::new(&load, 0), Script::new(&load, 0));
        for message in 0..1000 {
            let (kind, key) = script.next();
            let (kind, key) = (kind, key.to_vec());
            if message % 3 == 0 {
                script.put_back();
                assert_eq!(script.next(), (kind, &*key));
            }
            assert_eq!(other.next(), (kind, &*key));
            assert_eq!(load.keys.key(script.latest_number()), key);
        }
    }

    #[test]
    fn hot_ranks_go_to_other_keys_by_the_plan() {
        let per_s = 20_000.0;
        let load = Load {
            pace: Pace::Rate {
                per_s,
                gaps: Gaps::Constant,
            },
            duration: Duration::from_secs(3),
            hot_change: Some(Duration::from_secs(1)),
            threads: 2,
            sockets: 2,
            ..load("mix:0.3", "zipf:1.2:100000")
        };
        load.check().unwrap();
        let (mut sent, mut again) = (Script::new(&load, 1), Script::new(&load, 1));
        let mut hottest = Vec::new();
        for _ in 0..3 {
            let mut times: HashMap<u64, u32> = HashMap::new();
            for _ in 0..per_s as usize / load.threads {
                let kind = sent.next().0;
                let number = sent.latest_number();
                assert_eq!(again.next_number(), (kind, number));
                *times.entry(number).or_default() += 1;
            }
            hottest.push(*times.iter().max_by_key(|(_, times)| **times).unwrap().0);
        }
        assert_eq!(hottest, [0, 61_803, 23_606]);
        let sampled = load.hottest(30);
        assert!(hottest.iter().all(|number| sampled.contains(number)));
        assert_eq!(sampled.len(), 30);
    }

    #[test]
    fn adds_counts_and_hits_alone_are_alone() {
        for (mode, kind) in [
            ("add", Kind::Add),
            ("count", Kind::Count),
            ("count:60s", Kind::Count),
            ("hit", Kind::Hit),
            ("hit:1/60s", Kind::Hit),
            ("take:1/60s", Kind::Hit),
        ] {
            let mut script = Script::new(&load(mode, "uniform:10"), 0);
            assert!((0..1000).all(|_| script.next().0 == kind), "{mode}");
        }
    }
}
