//! A node as a program of its own.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::crew::Crew;
use super::error::{NodeError, system};
use super::reload::{Reload, Reloader};
use super::signals::Signals;
use super::start::{THE_STOP_SIGNAL, thread_count};
use super::supervisor::Supervisor;
use super::{Node, room};
use crate::config::NodeConfig;
use crate::shared::LimitsInForce;
use crate::status::{NamedSketchStatus, Status};
use rmbd_console as console;
use rmbd_io::Backend;
use rmbd_io::limits::in_the_way_of_threads;

/// Time that standard output may take to accept the ready line before a warning.
const READY_LINE_PATIENCE: Duration = Duration::from_secs(1);
/// Number of threads besides data threads: signals, control, HTTP, snapshot files, the watchdog, and some for looking
/// names up and for the log.
const THREADS_OF_PROGRAM: u64 = 8;

/// Runs a node as a program until a signal ends it (SIGINT, SIGTERM; the table is in `node/signals.rs`). It prints
/// one line to standard output when it is ready, and a summary to standard error at the end. It runs whether or not
/// anybody reads these. A supervisor that the environment names is told of both, and of reloads, and its watchdog is
/// fed (sd_notify(3)).
///
/// With `reload` it reads its configuration again on SIGHUP.
///
/// # Errors
/// Fails with [`NodeError`] if the node does not start, or if it stopped by itself.
pub fn run(config: &NodeConfig, reload: Option<Reload>) -> Result<(), NodeError> {
    let threads = thread_count(config)?;
    // The check comes before anything is taken, so that an error tells what the whole node needs.
    room::check(config, threads, Backend::Mmsg)?;
    let (crew, endings) = Crew::new().map_err(system(THE_STOP_SIGNAL))?;
    let limits = LimitsInForce::new(&config.limits).with_rules(&config.envoy.rules);
    let limits = Arc::new(limits);
    let reloader = reload.map(|how| Reloader::new(how, config, Arc::clone(&limits)));
    let supervisor = Supervisor::of_environment();
    let signals = Signals::start(&crew, reloader, supervisor.clone()).map_err(|error| {
        match in_the_way_of_threads(&error, threads as u64 + THREADS_OF_PROGRAM) {
            Some(limit) => limit.into(),
            None => system("taking signals")(error),
        }
    })?;
    let mut node = Node::start_with(config, (crew, endings), Some(signals), limits)?;
    let line = ready_line(&node.status());
    announce(&line, &node);
    supervisor.ready(&line);
    let status = node.wait_and_end()?;
    console::note(&summary(&status));
    Ok(())
}

/// Prints the ready line. A node serves also if nobody reads it.
fn announce(line: &str, node: &Node) {
    if let Err(unsaid) = console::announce(line, READY_LINE_PATIENCE) {
        warn!(
            "the node serves at {}, but its ready line is not read: {unsaid}",
            node.udp_addr()
        );
    }
}

pub(super) fn ready_line(status: &Status) -> String {
    let (sketch, memory) = (&status.sketch, MemoryOfAll::of(status));
    format!(
        "rmbd ready udp={} http={} cluster={} io={} threads={} sketch={}x{} hash={} memory={} cells={} windows={} lists={} sketches={} resp={} spoe={} envoy={}",
        status.udp,
        status.http.as_deref().unwrap_or("off"),
        status.cluster.address.as_deref().unwrap_or("off"),
        status.io.backend,
        status.io.threads.len(),
        sketch.depth,
        sketch.width,
        sketch.hash,
        binary_size(memory.all_bytes()),
        binary_size(memory.cells_bytes),
        binary_size(memory.windows_bytes),
        binary_size(memory.lists_bytes),
        status.sketches.len(),
        status.resp.address.as_deref().unwrap_or("off"),
        status.spoe.address.as_deref().unwrap_or("off"),
        status.envoy.address.as_deref().unwrap_or("off"),
    )
}

/// The memory of all sketches.
struct MemoryOfAll {
    /// Bytes of cells, with those of others.
    cells_bytes: u64,
    /// Bytes of the snapshots of windows.
    windows_bytes: u64,
    /// Bytes of the lists of the largest keys.
    lists_bytes: u64,
}

impl MemoryOfAll {
    fn of(status: &Status) -> Self {
        let sum = |bytes: &dyn Fn(&NamedSketchStatus) -> u64| {
            let sketches = status.sketches.iter().map(bytes);
            sketches.fold(0, u64::saturating_add)
        };
        Self {
            cells_bytes: sum(&NamedSketchStatus::cells_memory_bytes),
            windows_bytes: sum(&NamedSketchStatus::windows_memory_bytes),
            lists_bytes: sum(&|sketch| sketch.top.memory_bytes),
        }
    }

    fn all_bytes(&self) -> u64 {
        let all = [self.cells_bytes, self.windows_bytes, self.lists_bytes];
        all.into_iter().fold(0, u64::saturating_add)
    }
}

/// A size such as `16MiB`, without a fraction if there is none.
fn binary_size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let power = (bytes.max(1).ilog2() / 10).min(3);
    let value = bytes as f64 / f64::from(1u32 << (10 * power));
    let digits = usize::from(value.fract() != 0.0);
    format!("{value:.digits$}{}", units[power as usize])
}

fn summary(status: &Status) -> String {
    let malformed: u64 = status.datagrams.malformed.values().sum();
    let refused: u64 = status.datagrams.refused.values().sum();
    format!(
        "rmbd stopped after {:.1} s: {} datagrams received, {} dropped by the kernel, {malformed} \
         malformed, {refused} refused; {} adds, {} counts, total weight {}",
        status.uptime_s,
        status.datagrams.received,
        status.datagrams.dropped_by_kernel,
        status.messages.add,
        status.messages.count,
        status.sketch.total_weight,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0B"),
            (4000, "3.9KiB"),
            (16 << 20, "16MiB"),
            (3 << 29, "1.5GiB"),
            (1 << 44, "16384GiB"),
        ] {
            assert_eq!(binary_size(bytes), text);
        }
    }
}
