//! The command `rmbd peer`.

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::http::StatusSource;
use super::status::printable;
use super::{CliError, PeerOptions, Streams};
use crate::config::HostPort;
use crate::status::{PeerOrder, Status};

/// How long the server may take to look up a name and decide.
const DECISION_WAIT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Sends the order, which has no answer, and reads its outcome from the server's status.
pub(super) fn run(options: &PeerOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    run_within(DECISION_WAIT, options, streams)
}

pub(super) fn run_within(
    decision_wait: Duration,
    options: &PeerOptions,
    streams: &mut Streams<'_>,
) -> Result<(), CliError> {
    let target = &options.target;
    let mut client = options.server.legacy(options.dialect)?;
    // Any count will do. Its answer shows that a server is there, and at which of the name's addresses. After the
    // order, it shows that the server has read the order.
    client.count("")?;
    let source =
        StatusSource::new(&options.server.server, options.server.timeout()).at(client.server());
    let before = source.status();
    client.peer(&target.host, target.port)?;
    client.count("")?;
    let before = match before {
        Ok(status) => newest(&status, target).map_or(0, |order| order.number),
        Err(error) => {
            let _ = writeln!(
                streams.notes,
                "the order to push to {target} was sent, but it cannot be confirmed: {error}"
            );
            return Ok(());
        }
    };
    let order = await_order(&source, target, before, decision_wait)?;
    let detail = printable(&order.detail);
    if !order.accepted {
        return Err(CliError::OrderRefused {
            target: target.clone(),
            detail,
        });
    }
    writeln!(streams.output, "accepted {target}: {detail}").map_err(CliError::Output)
}

fn await_order(
    source: &StatusSource,
    target: &HostPort,
    before: u64,
    decision_wait: Duration,
) -> Result<PeerOrder, CliError> {
    let started = Instant::now();
    loop {
        let status = source.status()?;
        if let Some(order) = newest(&status, target).filter(|order| order.number > before) {
            return Ok(order.clone());
        }
        if started.elapsed() >= decision_wait {
            return Err(CliError::OrderUnseen {
                target: target.clone(),
            });
        }
        sleep(POLL_INTERVAL);
    }
}

/// The newest order for a target. The status shows the target as it is in the message, where an IPv6 address has no
/// brackets.
fn newest<'s>(status: &'s Status, target: &HostPort) -> Option<&'s PeerOrder> {
    let bare = format!("{}:{}", target.host, target.port);
    let with_brackets = target.to_string();
    (status.peer_orders.iter())
        .filter(|order| order.target == bare || order.target == with_brackets)
        .max_by_key(|order| order.number)
}
