//! The command `rmbd status`.

mod audit;
mod sketches;
mod snapshot_files;

use std::fmt::Write as _;
use std::io::Write as _;

use super::http::StatusSource;
use super::{CliError, StatusOptions, Streams};
use crate::status::{
    EnvoyStatus, LatencyStatus, LogStatus, PeerStatus, RespStatus, SketchStatus, SpoeStatus, Status,
};

/// What has to happen before a node tells others of slices that an earlier start of it began.
pub(super) const NAME_WAITS_FOR: &str = "another node to say what it has of what was counted before the start: no node is told more of it until then";

/// Prints the status of a node.
pub(super) fn run(options: &StatusOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let source = StatusSource::new(&options.server.server, options.server.timeout());
    let (document, status) = source.document()?;
    if options.json {
        writeln!(streams.output, "{}", document.trim_end())
    } else {
        streams.output.write_all(render(&status).as_bytes())
    }
    .map_err(CliError::Output)
}

/// A view for people, with a line for each subject, and one for each peer and order.
pub(super) fn render(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_status(status, &mut text);
    text
}

/// How long operations take inside of the node, by kind.
fn write_latencies(kinds: &[LatencyStatus], out: &mut String) -> std::fmt::Result {
    for kind in kinds {
        writeln!(
            out,
            "latency    {}: half of {} {}, 99 % {}, 99.9 % {}",
            printable(&kind.operation),
            kind.count,
            within(kind.p50_s),
            within(kind.p99_s),
            within(kind.p999_s)
        )?;
    }
    Ok(())
}

/// Clients of Redis's protocol, where they are served.
fn write_resp(resp: &RespStatus, out: &mut String) -> std::fmt::Result {
    let Some(address) = &resp.address else {
        return Ok(());
    };
    writeln!(
        out,
        "resp       {}, connections {} of {}, commands {}, no commands {}, wrong passwords {}, without a place {}",
        printable(address),
        resp.connections,
        resp.connections_max,
        resp.commands,
        resp.protocol_errors,
        resp.wrong_passwords,
        resp.connections_without_place
    )
}

/// HAProxy's offload protocol, where it is served.
fn write_spoe(spoe: &SpoeStatus, out: &mut String) -> std::fmt::Result {
    let Some(address) = &spoe.address else {
        return Ok(());
    };
    writeln!(
        out,
        "spoe       {}, connections {} of {}, messages {}, over {}, refused {}, failed {}, no frames {}, without a place {}",
        printable(address),
        spoe.connections,
        spoe.connections_max,
        spoe.spoe_messages,
        spoe.spoe_over,
        spoe.spoe_refused,
        spoe.spoe_failed,
        spoe.spoe_protocol_errors,
        spoe.spoe_connections_without_place
    )
}

/// Envoy's rate limit service, where there are rules.
fn write_envoy(envoy: &EnvoyStatus, out: &mut String) -> std::fmt::Result {
    if envoy.address.is_none() && envoy.rules == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "envoy      {}, connections {} of {}, rules {}, requests {}, over {}, refused {}, failed {}",
        printable(envoy.address.as_deref().unwrap_or("/json only")),
        envoy.connections,
        envoy.connections_max,
        envoy.rules,
        envoy.envoy_requests,
        envoy.envoy_over,
        envoy.envoy_refused,
        envoy.envoy_failed
    )
}

fn write_status(status: &Status, out: &mut String) -> std::fmt::Result {
    let Status {
        sketch,
        messages,
        datagrams,
        replies,
        io,
        compact,
        ..
    } = status;
    writeln!(
        out,
        "rmbd {} at {}, {}, up {}, http {}",
        printable(&status.version),
        printable(&status.udp),
        if status.is_ready() {
            "ready"
        } else {
            "not ready"
        },
        duration(status.uptime_s),
        printable(status.http.as_deref().unwrap_or("off")),
    )?;
    writeln!(
        out,
        "sketch     {}x{} {}, {}",
        sketch.depth,
        sketch.width,
        printable(&sketch.hash),
        bytes(sketch.memory_bytes)
    )?;
    writeln!(
        out,
        "content    total weight {}{}",
        sketch.total_weight,
        if sketch.incomplete {
            ", incomplete: no room for something that others counted"
        } else {
            ""
        }
    )?;
    writeln!(
        out,
        "error      at most {:.1} too high with probability {:.4}{}",
        sketch.epsilon * counted_weight(status) as f64,
        sketch.confidence,
        sampled(sketch)
    )?;
    sketches::write(status, out)?;
    let messages: Vec<_> = messages
        .operations_first()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    writeln!(out, "messages   {}", messages.join(", "))?;
    writeln!(
        out,
        "datagrams  received {}, malformed {}, refused {}, dropped by the kernel {}",
        datagrams.received,
        reasons(&datagrams.malformed),
        reasons(&datagrams.refused),
        datagrams.dropped_by_kernel
    )?;
    writeln!(
        out,
        "replies    sent {}, dropped {}",
        replies.sent, replies.dropped
    )?;
    writeln!(
        out,
        "once       clients {} of {}, repeats {}",
        compact.once_clients, compact.once_clients_max, compact.repeats
    )?;
    write_latencies(&status.latencies, out)?;
    write_resp(&status.resp, out)?;
    write_spoe(&status.spoe, out)?;
    write_envoy(&status.envoy, out)?;
    let buffer = io.threads.iter().map(|thread| thread.receive_buffer_bytes);
    write!(
        out,
        "io         {}, threads {}, receive buffer {} each",
        printable(&io.backend),
        io.threads.len(),
        bytes(buffer.min().unwrap_or_default())
    )?;
    let spinning_s: f64 = io.threads.iter().map(|thread| thread.spinning_s).sum();
    if spinning_s > 0.0 {
        write!(out, ", spinning {spinning_s:.1} s in all")?;
    }
    writeln!(out)?;
    snapshot_files::write(&status.snapshot_files, out)?;
    write_log(status, out)?;
    write_cluster(status, out)?;
    for peer in &status.peers {
        write_peer(peer, out)?;
    }
    for order in &status.peer_orders {
        writeln!(
            out,
            "order      {} {} {}: {}",
            order.number,
            if order.accepted {
                "accepted"
            } else {
                "refused"
            },
            printable(&order.target),
            printable(&order.detail)
        )?;
    }
    Ok(())
}

/// What the sketch really errs by, behind what is promised; empty where it was not sampled.
fn sampled(sketch: &SketchStatus) -> String {
    sketch.likely_error.map_or_else(String::new, |error| {
        format!(
            "; sampled: at most {} for half of the keys, at most {} for {:.4} of them",
            error.median, error.quantile, error.share
        )
    })
}

/// Writes a line about the log if lines are missing.
fn write_log(status: &Status, out: &mut String) -> std::fmt::Result {
    let LogStatus {
        lines_dropped,
        lines_refused,
    } = status.log;
    if lines_dropped + lines_refused > 0 {
        writeln!(
            out,
            "log        lines missing {} (too fast for its reader {lines_dropped}, refused {lines_refused})",
            lines_dropped + lines_refused
        )?;
    }
    match &status.failure {
        Some(failure) => writeln!(out, "not well   {}", printable(failure)),
        None => Ok(()),
    }
}

/// N of the answers: the sum over all slices, ours and others'.
fn counted_weight(status: &Status) -> u64 {
    let all = status.cluster.slices_weight;
    all.max(status.sketch.total_weight)
}

fn write_cluster(status: &Status, out: &mut String) -> std::fmt::Result {
    let cluster = &status.cluster;
    let text = |text: &Option<String>| printable(text.as_deref().unwrap_or("-"));
    if !cluster.enabled {
        return writeln!(out, "cluster    off: {}", text(&cluster.off_because));
    }
    let in_state = |state| {
        let members = cluster.members.iter();
        members.filter(|member| member.state == state).count()
    };
    writeln!(
        out,
        "cluster    {} as {}, members alive {}, suspect {}, down {}, slices {}, total weight {}, refused {}",
        text(&cluster.address),
        text(&cluster.advertised),
        in_state("alive"),
        in_state("suspect"),
        in_state("down"),
        cluster.slices_held,
        counted_weight(status),
        reasons(&cluster.refused)
    )?;
    write_notes(status, out)
}

/// Writes a line for each thing that is to be known of the cluster, or is missing.
fn write_notes(status: &Status, out: &mut String) -> std::fmt::Result {
    let Status {
        cluster, readiness, ..
    } = status;
    let shared = cluster.shared_nodes.iter().map(|shared| &shared.detail);
    let new_writer = cluster.new_writer.iter().map(|new| &new.detail);
    let waits_for = readiness.waits_for.iter();
    let notes = shared
        .map(|text| ("one number ", text))
        .chain(new_writer.map(|text| ("new writer ", text)))
        .chain(waits_for.map(|text| ("waits for  ", text)))
        .chain(readiness.lacks.iter().map(|text| ("without    ", text)));
    for (head, text) in notes {
        writeln!(out, "{head}{}", printable(text))?;
    }
    if cluster.waits_for_name() {
        writeln!(out, "waits for  {NAME_WAITS_FOR}")?;
    }
    Ok(())
}

fn write_peer(peer: &PeerStatus, out: &mut String) -> std::fmt::Result {
    let ago = |seconds: Option<f64>| {
        seconds.map_or_else(|| "never".to_owned(), |s| format!("{s:.1} s ago"))
    };
    write!(out, "peer       {}", printable(&peer.address))?;
    if peer.pushing {
        write!(
            out,
            ", push: rows {} (acknowledged {}), last sent {}, last ack {}",
            peer.rows_sent,
            peer.rows_acked,
            ago(peer.last_send_s),
            ago(peer.last_ack_s)
        )?;
    }
    if peer.rows_received > 0 {
        write!(
            out,
            ", received: rows {}, last {}, restarts {}",
            peer.rows_received,
            ago(peer.last_row_s),
            peer.restarts
        )?;
    }
    writeln!(out)
}

/// The sum, and in brackets the reasons that occurred.
fn reasons(by_reason: &std::collections::BTreeMap<String, u64>) -> String {
    let sum = by_reason
        .values()
        .fold(0, |sum: u64, &n| sum.saturating_add(n));
    let occurred: Vec<_> = (by_reason.iter())
        .filter(|&(_, &n)| n > 0)
        .map(|(reason, n)| format!("{} {n}", printable(reason)))
        .collect();
    match occurred.is_empty() {
        true => sum.to_string(),
        false => format!("{sum} ({})", occurred.join(", ")),
    }
}

/// Text from another machine, without characters that would control a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let digits = usize::from(unit != "bytes" && value.fract() != 0.0);
    format!("{value:.digits$} {unit}")
}

/// What a quantile says; without a time it is above all that are told apart.
fn within(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return "above 1 s".to_owned();
    };
    let (value, unit) = match seconds {
        ..1e-3 => (seconds * 1e6, "us"),
        1e-3..1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    // Three digits, of which none is a zero behind the point.
    let digits = usize::from(value < 100.0) + usize::from(value < 10.0);
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("within {text} {unit}")
}

pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{minutes} min {} s", whole % 60),
        3_600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
