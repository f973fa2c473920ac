//! The counters of data threads. Each thread counts in plain numbers, and publishes them when it pauses.
//!
//! The table below declares each counter once. The thread's own number, the published one, the sum over the threads,
//! the JSON of `/status`, the metrics and the output of `rmbd status` follow from its line. A counter of a session
//! (`Session`) is the field of the same name of [`engine::Tally`].

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_utils::CachePadded;
use serde::{Deserialize, Serialize};

use super::{CompactStatus, Datagrams, EnvoyStatus, HttpApiStatus, RespStatus, SpoeStatus, Status};
use crate::engine;
use rmbd_proto::compact::Problem;
use rmbd_proto::legacy::Malformed;

/// Lists reasons. Each is a variant with a name for documents, which stays the same for ever.
macro_rules! reasons {
    ($(#[$doc:meta])* $reasons:ident { $($(#[$why:meta])* $reason:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $reasons {
            $($(#[$why])* $reason,)*
        }

        impl $reasons {
            const ALL: &[Self] = &[$(Self::$reason,)*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// Why a data thread did not act on a message that it understood.
    TurnedAway {
        /// The sender is not on the `--allow` list.
        NotAllowed = "not_allowed",
        /// A `peer` or `sync` message came from neither loopback nor the `--trust` list.
        NotTrusted = "not_trusted",
        /// More rare messages came than the control thread keeps up with.
        QueueFull = "queue_full",
        /// The message is a reply that this node did not ask for.
        Unsolicited = "unsolicited_reply",
        /// More weight came than could be taken over while the node ended.
        NodeEnds = "node_ends",
    }
}

/// The part that counts: a session, or the thread itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CountedBy {
    Session,
    Thread,
}

/// A counter with a metric of its own.
pub(super) struct Single {
    pub(super) metric: &'static str,
    pub(super) help: &'static str,
    pub(super) value: u64,
}

/// Generates all forms of the table.
macro_rules! counters {
    (
        $(#[$messages_doc:meta])*
        messages: $messages:ident = $family:literal $family_help:literal {
            $($(#[$meta:meta])* $message:ident: $message_by:ident,)*
        }
        $($part:ident: $document:ident {
            $($single:ident: $single_by:ident = $metric:literal $help:literal,)*
        })*
    ) => {
        $(#[$messages_doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $messages {
            $($(#[$meta])* pub $message: u64,)*
        }

        impl $messages {
            /// The family of metrics.
            pub(super) const METRIC: &str = $family;
            /// The help text of the family.
            pub(super) const HELP: &str = $family_help;

            /// The counters in the order of the table.
            pub(super) fn by_type(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($message), self.$message),)*].into_iter()
            }

            /// The counters of operations of all protocols, then those of the Python program's protocol.
            pub(crate) fn operations_first(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let by = [$(CountedBy::$message_by,)*];
                let mut all: Vec<_> = by.into_iter().zip(self.by_type()).collect();
                // The sort is stable.
                all.sort_by_key(|(by, _)| *by);
                all.into_iter().map(|(_, message)| message)
            }
        }

        /// Counters with a metric of their own, by the part of a status that they are in.
        pub(super) mod singles {
            use super::{Single, $($document,)*};

            $(pub(in crate::status) fn $part(part: &$document) -> impl Iterator<Item = Single> {
                [$(Single { metric: $metric, help: $help, value: part.$single },)*].into_iter()
            })*
        }

        /// One data thread's own counters, which only grow.
        #[derive(Debug, Clone, Default)]
        pub(crate) struct Tally {
            $(pub(crate) $message: u64,)*
            $($(#[doc = $help] pub(crate) $single: u64,)*)*
            malformed: [u64; Malformed::ALL.len()],
            problems: [u64; Problem::ALL.len()],
            turned_away: [u64; TurnedAway::ALL.len()],
        }

        /// The published form of a [`Tally`], with one writer and any number of readers. Access is relaxed: each
        /// counter stands for itself, and nothing else is published through it.
        #[derive(Debug, Default)]
        pub(crate) struct PublishedTally(CachePadded<Published>);

        #[derive(Debug, Default)]
        struct Published {
            $($message: AtomicU64,)*
            $($($single: AtomicU64,)*)*
            malformed: [AtomicU64; Malformed::ALL.len()],
            problems: [AtomicU64; Problem::ALL.len()],
            turned_away: [AtomicU64; TurnedAway::ALL.len()],
        }

        impl PublishedTally {
            pub(crate) fn publish(&self, tally: &Tally) {
                $(self.0.$message.store(tally.$message, Relaxed);)*
                $($(self.0.$single.store(tally.$single, Relaxed);)*)*
                store_all(&self.0.malformed, &tally.malformed);
                store_all(&self.0.problems, &tally.problems);
                store_all(&self.0.turned_away, &tally.turned_away);
            }

            pub(crate) fn read(&self) -> Tally {
                Tally {
                    $($message: self.0.$message.load(Relaxed),)*
                    $($($single: self.0.$single.load(Relaxed),)*)*
                    malformed: load_all(&self.0.malformed),
                    problems: load_all(&self.0.problems),
                    turned_away: load_all(&self.0.turned_away),
                }
            }
        }

        impl std::ops::AddAssign<&Self> for Tally {
            fn add_assign(&mut self, other: &Self) {
                $(self.$message += other.$message;)*
                $($(self.$single += other.$single;)*)*
                add_all(&mut self.malformed, &other.malformed);
                add_all(&mut self.problems, &other.problems);
                add_all(&mut self.turned_away, &other.turned_away);
            }
        }

        impl Tally {
            /// Adds what a session has counted.
            pub(crate) fn take_over(&mut self, done: &engine::Tally) {
                $(take_over!($message_by self done $message);)*
                $($(take_over!($single_by self done $single);)*)*
            }

            /// Adds all counters but those by reason to a status.
            pub(crate) fn tell(&self, status: &mut Status) {
                $(status.messages.$message += self.$message;)*
                $($(status.$part.$single += self.$single;)*)*
            }
        }
    };
}

/// Adds one counter, if it is the session's.
macro_rules! take_over {
    (Session $tally:ident $done:ident $counter:ident) => {
        $tally.$counter = $done.$counter;
    };
    (Thread $tally:ident $done:ident $counter:ident) => {};
}

counters! {
    /// Messages taken, by type.
    messages: Messages = "rmbd_messages" "Messages taken, by type" {
        /// Number of keys added.
        add: Session,
        /// Number of keys counted.
        count: Session,
        /// Number of rows received from legacy peers.
        sync: Thread,
        /// Number of orders to push to a peer.
        peer: Thread,
        /// Number of rows acknowledged by legacy peers.
        ack: Thread,
        /// Number of keys added and counted in one operation.
        #[serde(default)]
        hit: Session,
        /// Number of keys counted with their bounds.
        #[serde(default)]
        bounds: Session,
        /// Number of questions about this node.
        #[serde(default)]
        info: Session,
        /// Number of keys counted in a window.
        #[serde(default)]
        window: Session,
        /// Number of requests to keep limits that stand in the request.
        #[serde(default)]
        limits: Session,
        /// Number of hits by the name of a limit.
        #[serde(default)]
        hit_by_name: Session,
        /// Number of pardons.
        #[serde(default)]
        pardon: Session,
        /// Number of questions for the list of sketches.
        #[serde(default)]
        sketches: Session,
        /// Number of questions for the largest keys.
        #[serde(default)]
        top: Session,
    }
    datagrams: Datagrams {
        received: Thread = "rmbd_datagrams_received" "Datagrams that reached the data threads",
    }
    compact: CompactStatus {
        requests: Thread = "rmbd_compact_requests" "Requests in the compact format, understood or not",
        repeats: Session = "rmbd_compact_repeats" "Exactly-once requests that came again and were not added again",
    }
    resp: RespStatus {
        commands: Thread = "rmbd_resp_commands" "Commands of clients of Redis's protocol, understood or not",
        protocol_errors: Thread = "rmbd_resp_protocol_errors" "Bytes of such clients that were no commands",
        wrong_passwords: Thread = "rmbd_resp_wrong_passwords" "Wrong passwords of such clients",
        connections_accepted: Thread = "rmbd_resp_connections_accepted" "Connections of such clients that were served",
        connections_not_allowed: Thread = "rmbd_resp_connections_not_allowed" "Connections that --allow refused",
        connections_without_place: Thread = "rmbd_resp_connections_without_place" "Connections beyond --resp-connections",
        closed_by_client: Thread = "rmbd_resp_closed_by_client" "Connections that clients closed",
        closed_by_node: Thread = "rmbd_resp_closed_by_node" "Connections that QUIT or a protocol error closed",
        closed_idle: Thread = "rmbd_resp_closed_idle" "Connections that were silent for too long",
        closed_stalled: Thread = "rmbd_resp_closed_stalled" "Connections whose clients did not read",
        closed_no_memory: Thread = "rmbd_resp_closed_no_memory" "Connections that needed too large buffers",
        closed_failed: Thread = "rmbd_resp_closed_failed" "Connections that the network broke",
        closed_at_end: Thread = "rmbd_resp_closed_at_end" "Connections that the node's end closed",
    }
    spoe: SpoeStatus {
        spoe_messages: Thread = "rmbd_spoe_messages" "Messages of HAProxy, understood or not",
        spoe_over: Thread = "rmbd_spoe_over" "Messages of HAProxy that were over a limit",
        spoe_refused: Thread = "rmbd_spoe_refused" "Messages of HAProxy that were refused as they were",
        spoe_failed: Thread = "rmbd_spoe_failed" "Messages of HAProxy that this node could not take then",
        spoe_health_checks: Thread = "rmbd_spoe_health_checks" "Health checks of HAProxy",
        spoe_protocol_errors: Thread = "rmbd_spoe_protocol_errors" "Bytes of HAProxy that were no frames",
        spoe_connections_accepted: Thread = "rmbd_spoe_connections_accepted" "Connections of HAProxy that were served",
        spoe_connections_not_allowed: Thread = "rmbd_spoe_connections_not_allowed" "Connections that --allow refused",
        spoe_connections_without_place: Thread = "rmbd_spoe_connections_without_place" "Connections beyond those there may be",
        spoe_closed_idle: Thread = "rmbd_spoe_closed_idle" "Connections that were silent for too long",
        spoe_closed_stalled: Thread = "rmbd_spoe_closed_stalled" "Connections whose clients did not read",
    }
    envoy: EnvoyStatus {
        envoy_requests: Thread = "rmbd_envoy_requests" "Requests to Envoy's rate limit service that were decided",
        envoy_descriptors: Thread = "rmbd_envoy_descriptors" "Descriptors of such requests",
        envoy_over: Thread = "rmbd_envoy_over" "Such requests that were over a limit",
        envoy_unknown_domains: Thread = "rmbd_envoy_unknown_domains" "Such requests whose domain has no rules",
        envoy_overrides: Thread = "rmbd_envoy_overrides" "Descriptors with a limit of their own",
        envoy_overrides_without_window: Thread = "rmbd_envoy_overrides_without_window" "Descriptors with a limit in a unit that has no window here",
        envoy_refused: Thread = "rmbd_envoy_refused" "Requests to Envoy's service that were refused as they were",
        envoy_failed: Thread = "rmbd_envoy_failed" "Requests to Envoy's service that could not be decided then",
        envoy_connections_accepted: Thread = "rmbd_envoy_connections_accepted" "Connections of proxies that were served",
        envoy_connections_not_allowed: Thread = "rmbd_envoy_connections_not_allowed" "Connections of proxies that --allow refused",
        envoy_connections_without_place: Thread = "rmbd_envoy_connections_without_place" "Connections of proxies beyond the limit",
        envoy_values_left_out: Thread = "rmbd_envoy_values_left_out" "Descriptors of detailed_metric without numbers of their own",
    }
    http_api: HttpApiStatus {
        http_adds: Thread = "rmbd_http_adds" "Requests over HTTP to add",
        http_counts: Thread = "rmbd_http_counts" "Requests over HTTP to count",
        http_hits: Thread = "rmbd_http_hits" "Requests over HTTP to hit",
        http_takes: Thread = "rmbd_http_takes" "Requests over HTTP to take",
        http_tops: Thread = "rmbd_http_tops" "Requests over HTTP for the largest keys",
        http_checks: Thread = "rmbd_http_checks" "Requests over HTTP to check a limit",
        http_over: Thread = "rmbd_http_over" "Requests over HTTP that were over a limit",
        http_refused: Thread = "rmbd_http_refused" "Requests to the API over HTTP that were refused as they were",
        http_failed: Thread = "rmbd_http_failed" "Requests to the API over HTTP that this node could not take then",
    }
}

/// The names of all reasons for which a data thread acts on no datagram, or on a part of one.
#[cfg(test)]
pub(crate) fn loss_reasons() -> Vec<&'static str> {
    let tally = Tally::default();
    let reasons = tally.malformed_by_name().chain(tally.refused_by_name());
    reasons.map(|(name, _)| name).collect()
}

impl PublishedTally {
    /// The counter of one problem.
    pub(crate) fn of_problem(&self, problem: Problem) -> u64 {
        self.0.problems[problem.index()].load(Relaxed)
    }
}

impl Tally {
    pub(crate) fn malformed(&mut self, reason: Malformed) {
        self.malformed[reason.index()] += 1;
    }

    pub(crate) fn problem(&mut self, problem: Problem) {
        self.problems[problem.index()] += 1;
    }

    pub(crate) fn turn_away(&mut self, reason: TurnedAway, datagrams: u64) {
        self.turned_away[reason as usize] += datagrams;
    }

    pub(crate) fn malformed_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Malformed::ALL
            .iter()
            .map(|reason| (reason.name(), self.malformed[reason.index()]))
            .chain(self.problems_by_name(Problem::is_malformed))
    }

    pub(crate) fn refused_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        TurnedAway::ALL
            .iter()
            .map(|&reason| (reason.name(), self.turned_away[reason as usize]))
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
            received: 3,
            add: 2,
            ..Tally::default()
        };
        tally.malformed(Malformed::Length);
        tally.turn_away(TurnedAway::QueueFull, 5);
        tally.problem(Problem::Varint);
        tally.problem(Problem::WrongBoot);
        let published = PublishedTally::default();
        published.publish(&tally);
        let mut sum = published.read();
        sum += &published.read();
        assert_eq!((sum.received, sum.add, sum.count), (6, 4, 0));
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
            Malformed::ALL.len() + TurnedAway::ALL.len() + Problem::ALL.len()
        );
        let total: u64 = sum
            .malformed_by_name()
            .chain(sum.refused_by_name())
            .map(|(_, n)| n)
            .sum();
        assert_eq!(total, 16);
    }

    #[test]
    fn all_that_a_session_counts_is_taken_over() {
        // A new field of this type needs a line in the table, too.
        let done = engine::Tally {
            add: 1,
            count: 2,
            hit: 3,
            bounds: 4,
            info: 5,
            window: 6,
            limits: 7,
            hit_by_name: 8,
            pardon: 9,
            sketches: 10,
            top: 12,
            repeats: 11,
        };
        let mut tally = Tally::default();
        tally.take_over(&done);
        let mut status = crate::status::testing::status();
        (status.messages, status.compact) = Default::default();
        tally.tell(&mut status);
        let messages: Vec<_> = status.messages.operations_first().collect();
        let expected = [
            ("add", 1),
            ("count", 2),
            ("hit", 3),
            ("bounds", 4),
            ("info", 5),
            ("window", 6),
            ("limits", 7),
            ("hit_by_name", 8),
            ("pardon", 9),
            ("sketches", 10),
            ("top", 12),
            ("sync", 0),
            ("peer", 0),
            ("ack", 0),
        ];
        assert_eq!(messages, expected);
        assert_eq!(status.compact.repeats, 11);
    }
}
