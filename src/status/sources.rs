//! Parts of a status, and how they are made from the node's parts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::counters::Tally;
use super::latency::PublishedFront;
use super::thread::ObservedThread;
use super::{
    AuditStatus, CompactStatus, Datagrams, LikelyErrorStatus, LogStatus, Replies, SketchStatus,
};
use crate::engine::Engine;
use rmbd_console::{self as console, Missing};
use rmbd_io::IoCounters;
use rmbd_store::{Replica, SketchIndex, likely_share};

/// An identifying number as all documents show it: 16 hexadecimal digits.
pub(crate) fn hex(number: u64) -> String {
    format!("{number:016x}")
}

/// The sum of the counters of all data threads and of HTTP, as far as they have published.
pub(crate) fn tally_of(threads: &[Arc<ObservedThread>], http: &PublishedFront) -> Tally {
    let mut sum = http.read();
    for thread in threads {
        sum += &thread.tally();
    }
    sum
}

impl SketchStatus {
    pub(crate) fn of(replica: &Replica) -> Self {
        let own = replica.own();
        let geometry = own.geometry();
        Self {
            width: geometry.width() as u64,
            depth: geometry.depth() as u64,
            hash: own.family().name().to_owned(),
            epsilon: geometry.epsilon(),
            confidence: geometry.confidence(),
            memory_bytes: replica.memory_bytes(),
            total_weight: own.total_weight(),
            incomplete: replica.is_incomplete(),
            likely_error: LikelyErrorStatus::of(replica),
            audit: AuditStatus::of(replica),
        }
    }
}

impl LikelyErrorStatus {
    fn of(replica: &Replica) -> Option<Self> {
        let likely = replica.likely_error(replica.total_weight())?;
        Some(Self {
            mean: likely.mean,
            median: likely.median,
            quantile: likely.quantile,
            share: likely_share(replica.own().geometry()),
        })
    }
}

impl CompactStatus {
    /// The status of the engine, without what data threads count.
    pub(crate) fn of(engine: &Engine) -> Self {
        let (info, once) = (engine.info(SketchIndex::DEFAULT), engine.once());
        Self {
            boot: info.boot.to_string(),
            fingerprint: hex(info.fingerprint),
            max_weight: info.max_weight.get(),
            once_clients: once.clients() as u64,
            once_clients_max: once.clients_max() as u64,
            ..Self::default()
        }
    }
}

impl Datagrams {
    /// The status of datagrams, without what `tally` [adds](Tally::tell) itself. `also_refused` counts refusals by
    /// others than the data threads.
    pub(crate) fn of(
        threads: &[Arc<ObservedThread>],
        tally: &Tally,
        also_refused: impl Iterator<Item = (&'static str, u64)>,
    ) -> Self {
        let truncated = sum(threads, |io| &io.truncated);
        let by_name = |(name, count): (&str, u64)| (name.to_owned(), count);
        Self {
            received: truncated,
            malformed: tally
                .malformed_by_name()
                .chain([("truncated", truncated)])
                .map(by_name)
                .collect(),
            refused: tally
                .refused_by_name()
                .chain(also_refused)
                .map(by_name)
                .collect(),
            dropped_by_kernel: threads.iter().map(|thread| thread.drops()).sum(),
        }
    }
}

impl Replies {
    pub(crate) fn of(threads: &[Arc<ObservedThread>]) -> Self {
        Self {
            sent: sum(threads, |io| &io.replies_sent),
            dropped: sum(threads, |io| &io.replies_dropped),
        }
    }
}

fn sum(threads: &[Arc<ObservedThread>], counter: impl Fn(&IoCounters) -> &AtomicU64) -> u64 {
    let threads = threads.iter();
    threads
        .map(|thread| counter(thread.io()).load(Relaxed))
        .sum()
}

impl LogStatus {
    pub(crate) fn now() -> Self {
        let Missing { dropped, refused } = console::missing();
        Self {
            lines_dropped: dropped,
            lines_refused: refused,
        }
    }
}
