//! Errors of a client, and what is known of the adds after each.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use thiserror::Error;

use super::core::{Failure, Reason, Unsendable};
use super::route::Asked;
use super::server::ServerError;
use rmbd_names::{AddressError, LookupError};
use rmbd_proto::compact::{Problem, WriteError};

/// The fate of weights whose call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They were not added, and will not be: adding them again counts them once. (Where the node's
    /// table of clients was full this takes for granted that the network did not double the only copy
    /// and keep the other one until there was a place.)
    NotAdded,
    /// They may have been added, or may be within the next two minutes: adding them again may count
    /// them twice.
    Uncertain,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAdded => "nothing was added by this call",
            Self::Uncertain => {
                "whether the weight was added is uncertain, and adding it again may count it twice"
            }
        })
    }
}

/// The outcome of many adds. Positions are those of the call, or of the [`Adder`](super::Adder), from
/// 0; what is not named in the two lists is confirmed up to `taken`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddsReport {
    /// How many are confirmed: the node has said that they are counted.
    pub confirmed: u64,
    /// Which ones [may have been added](Fate::Uncertain), in order.
    pub uncertain: Vec<Range<u64>>,
    /// Which ones [were not added](Fate::NotAdded), in order.
    pub not_added: Vec<Range<u64>>,
    /// How many were taken; those from this position on were not looked at.
    pub taken: u64,
}

impl AddsReport {
    /// How many may have been added.
    #[must_use]
    pub fn uncertain_adds(&self) -> u64 {
        adds(&self.uncertain)
    }

    pub(super) fn fail(&mut self, position: u64, fate: Fate) {
        let ranges = match fate {
            Fate::NotAdded => &mut self.not_added,
            Fate::Uncertain => &mut self.uncertain,
        };
        match ranges.last_mut() {
            Some(last) if last.end == position => last.end += 1,
            _ => ranges.push(position..position + 1),
        }
    }

    /// Datagrams fail in any order.
    pub(super) fn sort(&mut self) {
        for ranges in [&mut self.not_added, &mut self.uncertain] {
            ranges.sort_by_key(|range| range.start);
            ranges.dedup_by(|next, last| {
                let adjoins = last.end == next.start;
                if adjoins {
                    last.end = next.end;
                }
                adjoins
            });
        }
    }
}

fn adds(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

impl fmt::Display for AddsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} adds are confirmed, {} uncertain (adding them again may count them twice), {} were not added",
            self.confirmed,
            self.uncertain_adds(),
            adds(&self.not_added)
        )
    }
}

/// An error of a client; [`fate`](Self::fate) tells what is known of its weight.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The name cannot be looked up, or has no address.
    #[error("{0}; nothing was sent: check the server's name, or use an address")]
    Resolve(#[from] LookupError),
    /// Not `HOST:PORT`.
    #[error("{text:?} is no server, nothing was sent: {source}")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// An empty list of addresses.
    #[error("no address of a server was given, nothing was sent")]
    NoAddress,
    /// None of several addresses answers.
    #[error("nobody answers at any address of {server}{}", listed(causes))]
    Unreached {
        /// As it was given.
        server: String,
        /// Each address that was tried, and why it will not do.
        causes: Vec<(SocketAddr, Self)>,
    },
    /// The server's machine says that nobody listens there, and nobody ever answered.
    #[error("no server at {server}; start one with `rmbd`")]
    Refused {
        /// Where it was looked for.
        server: Box<Asked>,
    },
    /// No reply in time, however often it was asked for.
    #[error(
        "no answer from {server} for {timeout_ms} ms; {fate}: is the server up, does --allow there admit this machine, does a firewall drop UDP? (A server that speaks only the Python program's protocol stays silent, too.)"
    )]
    Timeout {
        /// Who did not answer.
        server: Box<Asked>,
        /// For how long it was asked.
        timeout_ms: u128,
        /// What is known of the call's weight.
        fate: Fate,
    },
    /// The node was started again while a request was under way, and does not know what it had applied before: it
    /// did not end cleanly, or keeps nothing over its end.
    #[error(
        "{server} was started again and does not know what it had applied before: what it had counted may be gone unless its peers know it; whether the weights under way had been added is uncertain, and they were not sent again"
    )]
    Restarted {
        /// Which one.
        server: SocketAddr,
    },
    /// The node refused.
    #[error("{server} refused: {problem}; {fate}")]
    Problem {
        /// Who.
        server: SocketAddr,
        /// Why.
        problem: Problem,
        /// What is known of the call's weight.
        fate: Fate,
    },
    /// The node refused, for a reason that this client does not know.
    #[error(
        "{server} refused with code {code}, which this version does not know; {fate}: use a client of the server's version"
    )]
    UnknownProblem {
        /// Who.
        server: SocketAddr,
        /// The code.
        code: u8,
        /// What is known of the call's weight.
        fate: Fate,
    },
    /// A key that the format does not carry.
    #[error("a key of {bytes} bytes was not sent: at most 1024 are possible, send a hash of it")]
    KeyTooLong {
        /// Bytes of the key.
        bytes: usize,
    },
    /// The name of a limit that the format does not carry.
    #[error("a limit's name of {bytes} bytes was not sent: at most 255 are possible")]
    NameTooLong {
        /// Bytes of the name.
        bytes: usize,
    },
    /// No limit in a question, or too many.
    #[error(
        "{parts} limits were not sent: one question has 1 to 8, ask another one for the others"
    )]
    LimitParts {
        /// How many there are.
        parts: usize,
    },
    /// Limits whose keys do not fit a datagram together.
    #[error(
        "limits that do not fit a datagram together were not sent: send hashes of the long keys, or ask two questions"
    )]
    TooLong,
    /// A weight that the node would refuse.
    #[error(
        "a weight of {weight} was not sent: the server takes at most {weight_max} at once, split it"
    )]
    WeightTooLarge {
        /// The weight.
        weight: u64,
        /// The largest one.
        weight_max: u32,
    },
    /// The node's list of sketches ends before all are listed.
    #[error(
        "the server lists {listed} of {total} sketches: its list changes, or one has more windows than a reply can name; ask again"
    )]
    SketchesCutOff {
        /// How many were listed.
        listed: usize,
        /// How many there are, as it says.
        total: u64,
    },
    /// Adding many ended early.
    #[error("{source}; of all: {report}")]
    Adds {
        /// What became of each of them.
        report: Box<AddsReport>,
        /// Why.
        source: Box<Self>,
    },
    /// The call was given up together with another one that failed.
    #[error("given up because an earlier call failed; {fate}")]
    Abandoned {
        /// What is known of the call's weight.
        fate: Fate,
    },
    /// The system refused.
    #[error("cannot {doing} {server}: {source}")]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// With whom.
        server: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The task behind an [`AsyncClient`](super::AsyncClient) is gone, with its runtime.
    #[error(
        "the client's runtime has ended: whether a weight under way was added is uncertain, and adding it again may count it twice"
    )]
    Closed,
}

impl ClientError {
    /// What is known of the weight that the call was to add. Of many adds, whether any is uncertain;
    /// [`AddsReport`] says which.
    #[must_use]
    pub fn fate(&self) -> Fate {
        match self {
            Self::Timeout { fate, .. }
            | Self::Problem { fate, .. }
            | Self::UnknownProblem { fate, .. }
            | Self::Abandoned { fate } => *fate,
            Self::Restarted { .. } | Self::Closed => Fate::Uncertain,
            Self::Adds { report, .. } if !report.uncertain.is_empty() => Fate::Uncertain,
            _ => Fate::NotAdded,
        }
    }

    /// Whether somebody may be there who does not speak the compact format: of some address nothing was heard,
    /// not even that nobody listens.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Unreached { causes, .. } => causes.iter().any(|(_, cause)| cause.is_silence()),
            _ => false,
        }
    }

    /// Whether nobody has answered, for whatever reason: not the node, which would have refused, and not this client,
    /// which would not have asked.
    #[must_use]
    pub fn is_no_answer(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Refused { .. }
            | Self::Restarted { .. }
            | Self::Abandoned { .. }
            | Self::Socket { .. }
            | Self::Unreached { .. }
            | Self::Closed => true,
            // It goes again until the timeout.
            Self::Problem { problem, .. } => *problem == Problem::Busy,
            _ => false,
        }
    }

    /// A caller has waited only so long.
    pub(super) fn after(self, deadline: Duration) -> Self {
        match self {
            Self::Timeout {
                server,
                timeout_ms,
                fate,
            } => Self::Timeout {
                server,
                timeout_ms: timeout_ms.min(deadline.as_millis()),
                fate,
            },
            other => other,
        }
    }

    /// Tells "nobody listens" (ICMP port unreachable) from the rest.
    pub(super) fn of_socket(server: SocketAddr, doing: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused {
                server: Box::new(server.into()),
            },
            _ => Self::Socket {
                doing,
                server,
                source,
            },
        }
    }

    pub(super) fn of_failure(
        asked: Asked,
        server: SocketAddr,
        timeout: Duration,
        failure: Failure,
    ) -> Self {
        let fate = failure.fate();
        match failure.reason {
            Reason::Silence => Self::Timeout {
                server: Box::new(asked),
                timeout_ms: timeout.as_millis(),
                fate,
            },
            Reason::Unreachable => Self::Refused {
                server: Box::new(asked),
            },
            Reason::Abandoned => Self::Abandoned { fate },
            Reason::Code(code) => match Problem::from_code(code) {
                None => Self::UnknownProblem { server, code, fate },
                Some(Problem::WrongBoot) => Self::Restarted { server },
                Some(problem) => Self::Problem {
                    server,
                    problem,
                    fate,
                },
            },
        }
    }
}

fn listed(causes: &[(SocketAddr, ClientError)]) -> String {
    let cause = |(address, cause): &(SocketAddr, ClientError)| format!("; {address}: {cause}");
    causes.iter().map(cause).collect()
}

impl From<ServerError> for ClientError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Lookup(error) => Self::Resolve(error),
            ServerError::NoAddress => Self::NoAddress,
            ServerError::Address(text, source) => Self::Address { text, source },
        }
    }
}

impl Failure {
    pub(super) fn fate(self) -> Fate {
        match self.uncertain {
            true => Fate::Uncertain,
            false => Fate::NotAdded,
        }
    }
}

impl From<WriteError> for ClientError {
    fn from(error: WriteError) -> Self {
        Unsendable::from(error).into()
    }
}

impl From<Unsendable> for ClientError {
    fn from(unsendable: Unsendable) -> Self {
        match unsendable {
            Unsendable::KeyTooLong { bytes } => Self::KeyTooLong { bytes },
            Unsendable::NameTooLong { bytes } => Self::NameTooLong { bytes },
            Unsendable::LimitParts { parts } => Self::LimitParts { parts },
            Unsendable::TooLong => Self::TooLong,
            Unsendable::WeightTooLarge { weight, weight_max } => {
                Self::WeightTooLarge { weight, weight_max }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_joins_what_adjoins() {
        let mut report = AddsReport::default();
        for position in [7, 8, 2, 3, 9, 4, 0] {
            report.fail(position, Fate::Uncertain);
        }
        report.fail(1, Fate::NotAdded);
        report.sort();
        assert_eq!(report.uncertain, [0..1, 2..5, 7..10]);
        assert_eq!(report.not_added.first(), Some(&(1..2)));
        assert_eq!(report.uncertain_adds(), 7);
    }
}
