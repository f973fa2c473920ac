//! Tallies of what was sent, answered and received, which can be added up.

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
add_up!(InWindow: counted, admitted, refused, unsure, incomplete, overflowed);
add_up!(Once: acknowledged, uncertain, repeated, applied_before);
add_up!(Verdicts: within, over, allowed_above_limit, below_truth, contradictory, refused_early);

/// Numbers of messages and datagrams that left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Number of adds.
    pub adds: u64,
    /// Number of counts, of all time and in windows.
    pub counts: u64,
    /// Number of hits, takes among them.
    #[serde(default)]
    pub hits: u64,
    /// Number of requests without a message. The answer tells that all before them were read.
    #[serde(default)]
    pub acknowledgements: u64,
    /// Number of datagrams. Repeated ones count again, although their messages are counted once above.
    pub datagrams: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// Number of messages that the kernel did not take (a full send buffer, no server). They are not in the other
    /// numbers.
    pub refused_by_kernel: u64,
}

impl Sent {
    /// Number of adds, counts and hits.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.adds + self.counts + self.hits
    }

    /// Number of messages that may add: adds and hits.
    #[must_use]
    pub fn adding(&self) -> u64 {
        self.adds + self.hits
    }

    /// Number of messages that have an answer.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts + self.hits + self.acknowledgements
    }
}

/// Outcomes of requests. `answered + timed_out` are all that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Number of requests answered in time.
    pub answered: u64,
    /// Number of requests without an answer within the timeout. They are in the response times with the timeout.
    pub timed_out: u64,
    /// Number of answers that nothing waited for: they came too late, or were never asked for.
    pub unexpected: u64,
}

/// Outcomes of adds that count exactly once. `acknowledged + uncertain` are all that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// Number of adds whose request the node acknowledged: each counts exactly once.
    pub acknowledged: u64,
    /// Number of adds whose request the node refused, or did not acknowledge within the timeout: each counts at most
    /// once.
    pub uncertain: u64,
    /// Number of datagrams that were repeated, because no acknowledgement had come.
    pub repeated: u64,
    /// Number of acknowledgements which tell that the request had been applied before: a copy was late, or an earlier
    /// acknowledgement was lost.
    pub applied_before: u64,
}

/// Verdicts on hits, and whether they are right.
///
/// For each key two numbers are known: how many hits were answered when another one left (the truth is more), and how
/// many had left when its answer came (the truth is at most that).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Number of hits within the limit.
    pub within: u64,
    /// Number of hits over the limit.
    pub over: u64,
    /// Number of hits that were allowed although the truth is above the limit: must be 0.
    pub allowed_above_limit: u64,
    /// Number of estimates below the truth: must be 0.
    pub below_truth: u64,
    /// Number of verdicts that do not follow from the estimate beside them: must be 0.
    pub contradictory: u64,
    /// Number of hits that were refused although the truth is not above the limit. The estimate may be too high, as
    /// estimates may be, or include weight from before the phase.
    pub refused_early: u64,
}

impl Verdicts {
    /// No verdicts.
    pub const NONE: Self = Self {
        within: 0,
        over: 0,
        allowed_above_limit: 0,
        below_truth: 0,
        contradictory: 0,
        refused_early: 0,
    };

    /// Number of verdicts.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.within + self.over
    }

    /// Number of verdicts that are wrong.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.allowed_above_limit + self.below_truth + self.contradictory
    }
}

/// Answers about windows, to counts and to hits of limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InWindow {
    /// Number of counts.
    pub counted: u64,
    /// Number of hits within their limit.
    pub admitted: u64,
    /// Number of hits over their limit. Takes among them added nothing.
    pub refused: u64,
    /// Number of hits whose verdict may change by what other nodes have not told yet.
    pub unsure: u64,
    /// Number of answers that lack something, or cover less than the window.
    pub incomplete: u64,
    /// Number of answers that may be too low, since more than 2^32 came within the window.
    pub overflowed: u64,
}

impl InWindow {
    /// Number of answers.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.counted + self.decided()
    }

    /// Number of verdicts.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.admitted + self.refused
    }
}

/// What the server reports as received during a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Number of adds.
    pub adds: u64,
    /// Number of counts, of all time and in windows.
    pub counts: u64,
    /// Number of hits, takes among them.
    #[serde(default)]
    pub hits: u64,
    /// Growth of the server's N, the sum of all weights.
    #[serde(default)]
    pub weight: Option<u64>,
    /// Number of datagrams.
    pub datagrams: u64,
    /// Number of drops by the kernel at the server's sockets: datagrams, or trains of them with GSO.
    pub dropped_by_kernel: u64,
    /// Number of datagrams that the server did not understand.
    pub malformed: u64,
    /// Number of datagrams that the server refused, without first contacts that it sent back with a cookie.
    pub refused: u64,
    /// Number of refused requests that came when the window of their client had passed them.
    #[serde(default)]
    pub too_old: u64,
    /// Number of replies, in datagrams, that the server's kernel did not take.
    pub replies_dropped: u64,
}

impl Received {
    /// Zeros, for a server that reports its numbers.
    pub(crate) fn none() -> Self {
        Self {
            weight: Some(0),
            ..Self::default()
        }
    }

    /// Number of messages of all kinds.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.adds + self.counts + self.hits
    }

    /// Number of messages that may add: adds and hits.
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
