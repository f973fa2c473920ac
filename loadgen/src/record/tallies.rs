//! What was sent, answered and received, in numbers that add up.

use serde::{Deserialize, Serialize};

/// Lets a tally be added to another, number by number.
macro_rules! add_up {
    ($tally:ty: $($number:ident),+) => {
        impl $tally {
            pub(crate) fn add(&mut self, more: &Self) {
                $(self.$number += more.$number;)+
            }
        }
    };
}

add_up!(Sent: adds, counts, hits, acknowledgements, datagrams, bytes, refused_by_kernel);
add_up!(Answers: answered, timed_out, unexpected);
add_up!(Once: acknowledged, uncertain, repeated, applied_before);
add_up!(Verdicts: within, over, allowed_above_limit, below_truth, contradictory, refused_early);

/// What left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Adds.
    pub adds: u64,
    /// Counts.
    pub counts: u64,
    /// Hits.
    #[serde(default)]
    pub hits: u64,
    /// Requests without a message, whose answer says that all before them were read.
    #[serde(default)]
    pub acknowledgements: u64,
    /// Datagrams; those that were sent again, too, while their messages stand above once.
    pub datagrams: u64,
    /// Payload.
    pub bytes: u64,
    /// Messages that the kernel did not take (a full send buffer, no server); not in the above.
    pub refused_by_kernel: u64,
}

impl Sent {
    /// Adds, counts and hits.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.adds + self.counts + self.hits
    }

    /// Those that add: adds and hits.
    #[must_use]
    pub fn adding(&self) -> u64 {
        self.adds + self.hits
    }

    /// All that have an answer.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts + self.hits + self.acknowledgements
    }
}

/// What became of requests. `answered + timed_out` are all that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// In time.
    pub answered: u64,
    /// Not within the timeout; they stand in the response time at the timeout.
    pub timed_out: u64,
    /// Answers to nothing that was waited for: too late, or never asked.
    pub unexpected: u64,
}

/// What became of adds that count exactly once. `acknowledged + uncertain` are all that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// Adds of requests that the node acknowledged: each counts, and no more than once.
    pub acknowledged: u64,
    /// Adds of requests that it did not acknowledge within the timeout, or refused: each may count, and
    /// no more than once.
    pub uncertain: u64,
    /// Datagrams that were sent again, as no acknowledgement had come.
    pub repeated: u64,
    /// Acknowledgements that say that the request had been applied before: a copy of it was late, or an
    /// earlier acknowledgement was lost.
    pub applied_before: u64,
}

/// What hits were answered, and whether that is right.
///
/// Of each key it is known how many hits were answered when another one left (the truth is more), and
/// how many had left when its answer came (the truth is at most that).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Within the limit.
    pub within: u64,
    /// Over it.
    pub over: u64,
    /// Of those within, above the limit by the truth: must be 0.
    pub allowed_above_limit: u64,
    /// Estimates below the truth: must be 0.
    pub below_truth: u64,
    /// Verdicts that do not follow from the estimate beside them: must be 0.
    pub contradictory: u64,
    /// Of those over it, not above the limit by the truth: of an estimate that is too high, as estimates
    /// may be, or of weight from before the phase.
    pub refused_early: u64,
}

impl Verdicts {
    /// None.
    pub const NONE: Self = Self {
        within: 0,
        over: 0,
        allowed_above_limit: 0,
        below_truth: 0,
        contradictory: 0,
        refused_early: 0,
    };

    /// How many.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.within + self.over
    }

    /// How many cannot be.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.allowed_above_limit + self.below_truth + self.contradictory
    }
}

/// What the server says that it got during a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Adds.
    pub adds: u64,
    /// Counts.
    pub counts: u64,
    /// Hits.
    #[serde(default)]
    pub hits: u64,
    /// By how much its N, the sum of all weights, grew.
    #[serde(default)]
    pub weight: Option<u64>,
    /// Datagrams.
    pub datagrams: u64,
    /// Dropped by the kernel at the server's sockets: datagrams, or trains of them with GSO.
    pub dropped_by_kernel: u64,
    /// Datagrams that the server did not understand.
    pub malformed: u64,
    /// Datagrams that the server did not want; first contacts that it sent back with a cookie are none.
    pub refused: u64,
    /// Of those, requests that came when the window of their client had passed them.
    #[serde(default)]
    pub too_old: u64,
    /// Replies, in datagrams, that the server's kernel did not take.
    pub replies_dropped: u64,
}

impl Received {
    /// Nothing yet, of a server that says so.
    pub(crate) fn none() -> Self {
        Self {
            weight: Some(0),
            ..Self::default()
        }
    }

    /// Of all kinds.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.adds + self.counts + self.hits
    }

    /// Those that add: adds and hits.
    #[must_use]
    pub fn adding(&self) -> u64 {
        self.adds + self.hits
    }

    pub(crate) fn plus(self, more: &Self) -> Self {
        Self {
            adds: self.adds + more.adds,
            counts: self.counts + more.counts,
            hits: self.hits + more.hits,
            weight: self.weight.zip(more.weight).map(|(a, b)| a + b),
            datagrams: self.datagrams + more.datagrams,
            dropped_by_kernel: self.dropped_by_kernel + more.dropped_by_kernel,
            malformed: self.malformed + more.malformed,
            refused: self.refused + more.refused,
            too_old: self.too_old + more.too_old,
            replies_dropped: self.replies_dropped + more.replies_dropped,
        }
    }
}
