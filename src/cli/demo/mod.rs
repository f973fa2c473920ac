//! The command `rmbd demo`: three nodes in this process, traffic, somebody who floods, and a limit.

mod nodes;
mod traffic;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::nodes::Nodes;
use self::traffic::{ABUSER, ABUSES, Traffic};
use super::asked::Span;
use super::{CliError, Streams};

/// The name of the limit.
const LIMIT: &str = "api";
/// How much of it a key may have in a minute: the others ask a few times, and the abuser some thousand times.
const LIMIT_COUNT: u64 = 300;
/// The sketch that counts views of pages, beside the one that counts clients.
const PAGES: &str = "pages";
/// Time between two steps of the traffic, which is also how soon a signal is seen.
const STEP: Duration = Duration::from_millis(50);
/// Signals that end it in order.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// `rmbd demo`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Everything is in this one process and on loopback, on free ports. Nothing is written anywhere, and nothing is left when it ends."
)]
pub struct DemoOptions {
    /// End after this time, such as 30s [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", env = "RMBD_FOR")]
    span: Option<Span>,
}

/// Runs it until a signal, or its time, ends it.
pub(super) fn run(options: &DemoOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let is_asked_to_end = Arc::new(AtomicBool::new(false));
    for signal in ENDING {
        let flag = Arc::clone(&is_asked_to_end);
        signal_hook::flag::register(signal, flag).map_err(CliError::Output)?;
    }
    let start = Instant::now();
    let is_over = || {
        let is_late = options
            .span
            .is_some_and(|span| start.elapsed() >= span.duration());
        is_late || is_asked_to_end.load(Ordering::Relaxed)
    };
    let nodes = Nodes::start()?;
    if nodes.wait_for_each_other(is_over)? {
        let addresses = nodes.addresses();
        let text = what_to_look_at(&addresses, options.span.is_some());
        write(streams, &text)?;
        let mut traffic = Traffic::new(addresses)?;
        while !is_over() {
            // What the nodes do not answer is part of the picture, which the page shows.
            traffic.step();
            nodes.check()?;
            sleep(STEP);
        }
        write(streams, &traffic.sum())?;
    }
    nodes.stop()
}

fn write(streams: &mut Streams<'_>, text: &str) -> Result<(), CliError> {
    let written = streams.output.write_all(text.as_bytes());
    written
        .and_then(|()| streams.output.flush())
        .map_err(CliError::Output)
}

/// What there is to see, with commands that can be copied.
fn what_to_look_at([first, second, third]: &[SocketAddr; 3], has_end: bool) -> String {
    let end = if has_end {
        "it ends by itself"
    } else {
        "Ctrl-C ends it"
    };
    format!(
        "\
Three nodes count together, and {end}:

  node 1  {first}
  node 2  {second}
  node 3  {third}

{clients} clients ask all of them. One of them, {ABUSER}, floods node 3 only. The limit \"{LIMIT}\" lets each client ask
{LIMIT_COUNT} times a minute.

The page of node 3, which is alive: rates, largest keys, whom the limit denies, the cluster. Look {ABUSER} up there:

  http://{third}/

Who floods, as node 1 knows it, to which the abuser never sends:

  rmbd top --server {first}
  rmbd top --once --window 60s -k 3 --server {first}

From which nodes its count comes:

  rmbd count --detail {ABUSER} --server {first}

It is over the limit at node 2, too (exit code 3), and others are not:

  rmbd hit {ABUSER} --limit-name {LIMIT} --server {second}
  rmbd hit somebody --limit-name {LIMIT} --server {second}

Whom the limit denied most often at node 3, and the cluster:

  rmbd limits denied {LIMIT} --server {third}
  rmbd members --server {first}
  rmbd status --server {first}

The views of pages are counted in a sketch of their own:

  rmbd top --once --sketch {PAGES} -k 5 --server {second}
",
        clients = traffic::CLIENTS + ABUSES.min(1),
    )
}
