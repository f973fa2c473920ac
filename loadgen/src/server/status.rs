//! A node's `/status` over HTTP, and differences between two of them.

use std::collections::BTreeMap;
use std::time::Duration;

use rmbd::status::{Datagrams, Status, WindowStatus};
use rmbd_proto::SketchNumber;
use rmbd_proto::compact::Problem;
use thiserror::Error;
use ureq::Agent;
use ureq::http::header::HOST;

use crate::record::Received;

/// The HTTP code of a node that is asked by a name that does not belong to it.
const MISDIRECTED: u16 = 421;
/// The longest time that HTTP may take: a stopped server must not stop the generator.
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);

/// The URL of the status of a node with HTTP at this address.
pub(crate) fn status_url(address: &str) -> String {
    format!("http://{address}/status")
}

/// An HTTP client with a short timeout.
pub(crate) fn status_agent() -> Agent {
    Agent::config_builder()
        .timeout_global(Some(HTTP_TIMEOUT))
        .build()
        .into()
}

/// The error if there is no status. The node is unchanged.
#[derive(Debug, Error)]
pub(crate) enum StatusError {
    /// There is no answer, or an error code.
    #[error(transparent)]
    Fetch(#[from] ureq::Error),
    /// The answer is something else.
    #[error("not the status of an rmbd: {0}")]
    Other(#[from] serde_json::Error),
}

/// Asks a node for its status.
///
/// # Errors
/// Fails with [`StatusError`].
pub(crate) fn fetch_status(agent: &Agent, url: &str) -> Result<Status, StatusError> {
    let ask = |host: Option<&str>| {
        let request = agent.get(url);
        match host {
            Some(host) => request.header(HOST, host).call(),
            None => request.call(),
        }
    };
    // The node refuses unknown names, since an attacker may lead a browser astray by them. A browser could not set
    // this header.
    let answer = match ask(None) {
        Err(ureq::Error::StatusCode(MISDIRECTED)) => ask(Some("localhost")),
        answer => answer,
    };
    let text = answer?.body_mut().read_to_string()?;
    Ok(serde_json::from_str(&text)?)
}

/// CPU seconds that the data threads have spun so far while nothing was there.
pub(super) fn spinning_s(status: &Status) -> f64 {
    status
        .io
        .threads
        .iter()
        .map(|thread| thread.spinning_s)
        .sum()
}

/// N of a sketch: the sum of all weights that were added to it at this node. A sketch that the node does not know has
/// none.
pub(crate) fn total_weight(status: &Status, sketch: SketchNumber) -> u64 {
    if sketch == SketchNumber::DEFAULT {
        return status.sketch.total_weight;
    }
    let mut named = status.sketches.iter();
    let named = named.find(|named| named.number == sketch.0);
    named.map_or(0, |named| named.sketch.total_weight)
}

/// The window of a sketch that answers questions about its last `span_ms` milliseconds.
pub(crate) fn window_for(
    status: &Status,
    sketch: SketchNumber,
    span_ms: u64,
) -> Option<&WindowStatus> {
    let mut named = status.sketches.iter();
    let named = named.find(|named| named.number == sketch.0)?;
    let covers = |window: &&WindowStatus| {
        span_ms <= window.span_ms && window.step_ms > 0 && span_ms.is_multiple_of(window.step_ms)
    };
    let windows = named.windows.iter().filter(covers);
    windows.min_by_key(|window| window.span_ms)
}

/// What the server received between two statuses. The weight is that of one sketch.
pub(crate) fn received(before: &Status, after: &Status, sketch: SketchNumber) -> Received {
    let too_old = |datagrams: &Datagrams| {
        let reason = Problem::SequenceTooOld.name();
        datagrams.refused.get(reason).copied().unwrap_or_default()
    };
    let (b, a) = (&before.datagrams, &after.datagrams);
    let (was, is) = (&before.messages, &after.messages);
    Received {
        adds: is.add.saturating_sub(was.add),
        counts: (is.count + is.window).saturating_sub(was.count + was.window),
        hits: (is.hit + is.limits).saturating_sub(was.hit + was.limits),
        weight: Some(total_weight(after, sketch).saturating_sub(total_weight(before, sketch))),
        datagrams: a.received.saturating_sub(b.received),
        dropped_by_kernel: a.dropped_by_kernel.saturating_sub(b.dropped_by_kernel),
        malformed: sum(&a.malformed).saturating_sub(sum(&b.malformed)),
        refused: refused(&a.refused).saturating_sub(refused(&b.refused)),
        too_old: too_old(a).saturating_sub(too_old(b)),
        replies_dropped: after.replies.dropped.saturating_sub(before.replies.dropped),
    }
}

fn sum(by_reason: &BTreeMap<String, u64>) -> u64 {
    by_reason.values().sum()
}

/// Number of refused datagrams. Two reasons are left out. The first contact of a client that counts exactly once is
/// refused by design, and comes again. A request for which the node is too busy comes again, too; if it does not, the
/// weight is found missing.
fn refused(by_reason: &BTreeMap<String, u64>) -> u64 {
    let comes_again = [Problem::AddressUnproven, Problem::Busy];
    let comes_again = comes_again.map(|problem| by_reason.get(problem.name()).copied());
    let comes_again = comes_again.into_iter().flatten().sum();
    sum(by_reason).saturating_sub(comes_again)
}

/// Whether the server was restarted between two statuses that are `apart`.
pub(crate) fn has_restarted(before: &Status, after: &Status, apart: Duration) -> bool {
    before.compact.boot != after.compact.boot
        || after.uptime_s + 0.5 < before.uptime_s + apart.as_secs_f64()
        || after.datagrams.received < before.datagrams.received
}
