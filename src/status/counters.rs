//! What the data threads count: each for itself in plain numbers, published when it pauses.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_utils::CachePadded;

use crate::engine;
use crate::wire::compact::Problem;
use crate::wire::legacy::Malformed;

/// Why an understood message was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The sender is not on the `--allow` list.
    NotAllowed,
    /// `peer` or `sync` from neither loopback nor the `--trust` list.
    NotTrusted,
    /// More rare messages than the control thread keeps up with.
    QueueFull,
    /// A reply that nobody here asked for.
    Unsolicited,
    /// More weight than could be taken over while the node ended.
    NodeEnds,
}

impl Refused {
    const ALL: [Self; 5] = [
        Self::NotAllowed,
        Self::NotTrusted,
        Self::QueueFull,
        Self::Unsolicited,
        Self::NodeEnds,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::NotTrusted => "not_trusted",
            Self::QueueFull => "queue_full",
            Self::Unsolicited => "unsolicited_reply",
            Self::NodeEnds => "node_ends",
        }
    }
}

/// Generates the plain and the shared form of the same list of counters.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One data thread's own counters; only ever grow.
        #[derive(Debug, Clone, Default)]
        pub(crate) struct Tally {
            $($(#[$doc])* pub(crate) $name: u64,)*
            malformed: [u64; Malformed::ALL.len()],
            problems: [u64; Problem::ALL.len()],
            refused: [u64; Refused::ALL.len()],
        }

        /// The published form of a [`Tally`]: one writer, any readers. Relaxed: each counter stands
        /// for itself, nothing else is published through it.
        #[derive(Debug, Default)]
        pub(crate) struct PublishedTally(CachePadded<Published>);

        #[derive(Debug, Default)]
        struct Published {
            $($name: AtomicU64,)*
            malformed: [AtomicU64; Malformed::ALL.len()],
            problems: [AtomicU64; Problem::ALL.len()],
            refused: [AtomicU64; Refused::ALL.len()],
        }

        impl PublishedTally {
            pub(crate) fn publish(&self, tally: &Tally) {
                $(self.0.$name.store(tally.$name, Relaxed);)*
                store_all(&self.0.malformed, &tally.malformed);
                store_all(&self.0.problems, &tally.problems);
                store_all(&self.0.refused, &tally.refused);
            }

            pub(crate) fn read(&self) -> Tally {
                Tally {
                    $($name: self.0.$name.load(Relaxed),)*
                    malformed: load_all(&self.0.malformed),
                    problems: load_all(&self.0.problems),
                    refused: load_all(&self.0.refused),
                }
            }
        }

        impl std::ops::AddAssign<&Self> for Tally {
            fn add_assign(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                add_all(&mut self.malformed, &other.malformed);
                add_all(&mut self.problems, &other.problems);
                add_all(&mut self.refused, &other.refused);
            }
        }
    };
}

counters! {
    /// Datagrams of any content.
    datagrams,
    /// Keys added.
    add,
    /// Keys counted.
    count,
    /// Rows of legacy peers.
    sync,
    /// Orders to push.
    peer,
    /// Acks of rows.
    ack,
    /// Keys added and counted.
    hit,
    /// Keys counted with bounds.
    bounds,
    /// Questions what this node is.
    info,
    /// Compact requests of any content.
    compact,
    /// Requests that had been applied before.
    repeats,
}

impl PublishedTally {
    /// One of its counters.
    pub(crate) fn of_problem(&self, problem: Problem) -> u64 {
        self.0.problems[problem.index()].load(Relaxed)
    }
}

impl Tally {
    /// Takes over what a session has counted.
    pub(crate) fn take_over(&mut self, done: &engine::Tally) {
        let engine::Tally {
            add,
            count,
            hit,
            bounds,
            info,
            repeats,
        } = *done;
        (self.add, self.count, self.hit) = (add, count, hit);
        (self.bounds, self.info, self.repeats) = (bounds, info, repeats);
    }

    pub(crate) fn malformed(&mut self, reason: Malformed) {
        self.malformed[reason.index()] += 1;
    }

    pub(crate) fn problem(&mut self, problem: Problem) {
        self.problems[problem.index()] += 1;
    }

    pub(crate) fn refused(&mut self, reason: Refused, datagrams: u64) {
        self.refused[reason as usize] += datagrams;
    }

    pub(crate) fn malformed_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Malformed::ALL
            .iter()
            .map(|reason| (reason.name(), self.malformed[reason.index()]))
            .chain(self.problems_by_name(Problem::is_malformed))
    }

    pub(crate) fn refused_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Refused::ALL
            .iter()
            .map(|&reason| (reason.name(), self.refused[reason as usize]))
            .chain(self.problems_by_name(|problem| !problem.is_malformed()))
    }

    fn problems_by_name(
        &self,
        which: fn(Problem) -> bool,
    ) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Problem::ALL
            .into_iter()
            .filter(move |&problem| which(problem))
            .map(|problem| (problem.name(), self.problems[problem.index()]))
    }
}

fn store_all(shared: &[AtomicU64], plain: &[u64]) {
    shared
        .iter()
        .zip(plain)
        .for_each(|(shared, &plain)| shared.store(plain, Relaxed));
}

fn load_all<const N: usize>(shared: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|i| shared[i].load(Relaxed))
}

fn add_all(sums: &mut [u64], more: &[u64]) {
    sums.iter_mut()
        .zip(more)
        .for_each(|(sum, more)| *sum += more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read_and_summed() {
        let mut tally = Tally {
            datagrams: 3,
            add: 2,
            ..Tally::default()
        };
        tally.malformed(Malformed::Length);
        tally.refused(Refused::QueueFull, 5);
        tally.problem(Problem::Varint);
        tally.problem(Problem::WrongBoot);
        let published = PublishedTally::default();
        published.publish(&tally);
        let mut sum = published.read();
        sum += &published.read();
        assert_eq!((sum.datagrams, sum.add, sum.count), (6, 4, 0));
        assert!(sum.malformed_by_name().any(|entry| entry == ("length", 2)));
        assert!(
            sum.refused_by_name()
                .any(|entry| entry == ("queue_full", 10))
        );
        assert!(sum.malformed_by_name().any(|entry| entry == ("varint", 2)));
        assert!(
            sum.refused_by_name()
                .any(|entry| entry == ("wrong_boot", 2))
        );
        let names = sum.malformed_by_name().chain(sum.refused_by_name());
        let names: std::collections::BTreeSet<_> = names.map(|(name, _)| name).collect();
        assert_eq!(
            names.len(),
            Malformed::ALL.len() + Refused::ALL.len() + Problem::ALL.len()
        );
        let total: u64 = sum
            .malformed_by_name()
            .chain(sum.refused_by_name())
            .map(|(_, n)| n)
            .sum();
        assert_eq!(total, 16);
    }
}
