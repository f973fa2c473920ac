//! The report (`--report`): one page that needs nothing else, neither a network nor a script. Its parts follow in
//! their order on the page.

#[cfg(test)]
mod tests;

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use thiserror::Error;

use super::figures::{self, Size};
use super::plot::{PlotError, dark_rules};
use crate::machine::Environment;
use crate::output::{OutputError, bytes, exact, seconds, share, thousands, time_ns, write_text};
use crate::record::{
    Check, Gaps, InWindow, Latency, Load, Outcome, Pace, Phase, Record, SCHEMA, Schedule, Server,
    Truth, WindowTruth,
};

const STYLE: &str = include_str!("page/style.css");
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cg fill='%230d9488'%3E%3Crect x='1' y='9' width='4' height='6' rx='1'/%3E%3Crect x='6' y='1' width='4' height='14' rx='1'/%3E%3Crect x='11' y='6' width='4' height='9' rx='1'/%3E%3C/g%3E%3C/svg%3E";

/// Why a report could not be made. The record is unchanged.
#[derive(Debug, Error)]
pub(crate) enum ReportError {
    /// A plot could not be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The page could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Writes the page of a record.
///
/// # Errors
/// Fails with [`ReportError`].
pub(crate) fn write(record: &Record, path: &Path) -> Result<(), ReportError> {
    let html = page_text(record)?;
    write_text("the report", path, html.as_bytes())?;
    Ok(())
}

/// The page of a record.
///
/// # Errors
/// Fails with [`PlotError`].
pub(crate) fn page_text(record: &Record) -> Result<String, PlotError> {
    Ok(page(record)?.into_string())
}

fn page(record: &Record) -> Result<Markup, PlotError> {
    let phases = record.phases.iter().map(phase);
    let phases = phases.collect::<Result<Vec<_>, _>>()?;
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "rmbd under load, " (record.environment.started) }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) (PreEscaped(dark_rules())) }
            }
            body {
                (head(record))
                (warnings(record))
                (summary(record))
                @for phase in phases { (phase) }
                div.pair {
                    (checks(record))
                    @if let Some(truth) = &record.truth { (accuracy(truth)) }
                }
                (notes(record))
                (circumstances(record))
                (how_to_read())
                footer {
                    "Made by loadgen " (record.environment.version) " from a record of schema "
                    (SCHEMA) "; --json writes the figures behind it."
                }
            }
        }
    })
}

fn head(record: &Record) -> Markup {
    let failed = record
        .checks
        .iter()
        .filter(|c| c.outcome == Outcome::Failed);
    let failed = failed.count();
    html! {
        header {
            h1 { "rmbd under load" }
            @if failed > 0 {
                span.pill.bad { (failed) " of " (record.checks.len()) " checks failed" }
            } @else if !record.checks.is_empty() {
                span.pill { "no check failed" }
            }
            span.dim { (server_sentence(&record.server)) }
            span.dim.push { (record.environment.started.replace('T', " ").replace('Z', " UTC")) }
        }
    }
}

fn server_sentence(server: &Server) -> String {
    let place = match server.inside {
        true => "node inside the load generator".to_owned(),
        false => format!("server at {}", server.address),
    };
    match (server.width, server.depth) {
        (Some(width), Some(depth)) => {
            format!("{place}, sketch of {depth} × {} cells", exact(width))
        }
        _ => place,
    }
}

/// What a reader must know before looking at any figure.
fn warnings(record: &Record) -> Markup {
    let late = |phase: &&Phase| phase.schedule.is_some_and(|schedule| !schedule.kept);
    let late: Vec<_> = record.phases.iter().filter(late).collect();
    html! {
        @if let Some(why) = &record.ended_early {
            div.note { b { "Ended early. " } (why) }
        }
        @if !late.is_empty() {
            div.note.bad {
                b { "The generator did not keep its plan" } " in "
                @for (at, phase) in late.iter().enumerate() {
                    @if at > 0 { ", " } "“" (phase.name) "”"
                }
                ": times there are its own and not the server's. By how much it was late stands with "
                "the figures below."
            }
        }
    }
}

/// What a reader must know to judge the figures.
fn notes(record: &Record) -> Markup {
    html! {
        @if !record.notes.is_empty() {
            section {
                header { h2 { "To be known" } }
                ul.notes { @for note in &record.notes { li { (note) } } }
            }
        }
    }
}

fn lateness(schedule: &Schedule) -> String {
    format!(
        "Half of the messages left at most {} late, 99 % {}, the last one {}; {} messages/s were reached.",
        time_ns(schedule.late_p50_ns as f64),
        time_ns(schedule.late_p99_ns as f64),
        time_ns(schedule.late_max_ns as f64),
        thousands(schedule.reached_per_s),
    )
}

fn summary(record: &Record) -> Markup {
    html! {
        section {
            header { h2 { "At a glance" } }
            table.stack {
                thead { tr {
                    th { "Phase" }
                    th { "Sent" } th { "Received" } th { "Not received" }
                    th { "Server CPU" br; "per message" }
                    th { "Response" br; "50 %" } th { "Response" br; "99 %" }
                    th { "Longest" } th { "Unanswered" }
                } }
                tbody { @for phase in &record.phases { (summary_row(phase)) } }
            }
        }
    }
}

fn summary_row(phase: &Phase) -> Markup {
    let rate = |messages: u64| format!("{}/s", thousands(messages as f64 / phase.seconds));
    let time = |value: fn(&Latency) -> u64| {
        let latency = phase.response_time.as_ref();
        latency.map_or_else(absent, |latency| time_ns(value(latency) as f64))
    };
    let lost = lost(phase);
    let cost = phase.cost.and_then(|cost| cost.cpu_ns_per_message);
    let unanswered = phase.answers.map(|answers| answers.timed_out);
    html! {
        tr {
            td { b { (phase.name) } small { (load_sentence(&phase.load)) } }
            td data-name="Sent" { (rate(phase.sent.messages())) }
            td data-name="Received" {
                (received(phase).map_or_else(absent, rate))
            }
            td data-name="Not received" .bad[lost.is_some_and(|(lost, _)| unexpected(phase, lost))] {
                (lost.map_or_else(absent, |(_, part)| share(part)))
            }
            td data-name="Server CPU per message" { (cost.map_or_else(absent, time_ns)) }
            td data-name="Response 50 %" { (time(|latency| latency.p50_ns)) }
            td data-name="Response 99 %" { (time(|latency| latency.p99_ns)) }
            td data-name="Longest" { (time(|latency| latency.max_ns)) }
            td data-name="Unanswered" .bad[unanswered.is_some_and(|n| n > 0)] {
                (unanswered.map_or_else(absent, exact))
            }
        }
    }
}

fn absent() -> String {
    "–".to_owned()
}

fn received(phase: &Phase) -> Option<u64> {
    phase.received.map(|received| received.messages())
}

/// Number of messages that the server did not get, and their share of those sent.
fn lost(phase: &Phase) -> Option<(u64, f64)> {
    let sent = phase.sent.messages();
    let lost = sent.saturating_sub(received(phase)?);
    Some((lost, lost as f64 / sent.max(1) as f64))
}

/// Whether lost messages are unexpected. A flood is meant to be more than a server takes; other loads are not.
fn unexpected(phase: &Phase, lost: u64) -> bool {
    lost > 0 && phase.load.pace != Pace::Flood
}

fn messages(adds: u64, counts: u64, hits: u64) -> String {
    let kinds = [(adds, "adds"), (counts, "counts"), (hits, "hits")];
    let sent: Vec<_> = kinds
        .into_iter()
        .filter(|&(messages, _)| messages > 0)
        .map(|(messages, kind)| format!("{} {kind}", exact(messages)))
        .collect();
    match sent.is_empty() {
        true => "nothing".to_owned(),
        false => sent.join(", "),
    }
}

fn several(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

fn load_sentence(load: &Load) -> String {
    let what = match (load.limit, load.count_share) {
        (Some(limit), _) => {
            let what = if load.takes { "takes" } else { "hits" };
            format!("{what}, limit {}", exact(limit))
        }
        (None, 0.0) => "adds".to_owned(),
        (None, 1.0) => "counts".to_owned(),
        (None, part) => format!("{} counts, the rest adds", share(part)),
    };
    let what = match (load.window_ms, load.bound) {
        (Some(ms), bound) => {
            let reading = if bound == Some(true) {
                "bound"
            } else {
                "smooth"
            };
            format!("{what}, in {} ({reading})", seconds(ms as f64 / 1e3))
        }
        (None, _) => what,
    };
    let what = match load.sketch.as_deref() {
        None | Some("default") => what,
        Some(sketch) => format!("{what}, sketch {sketch}"),
    };
    let what = match load.weight {
        1 => what,
        weight => format!("{what}, each of weight {}", exact(weight.into())),
    };
    let what = match load.exactly_once {
        false => what,
        true => format!("{what}, exactly once"),
    };
    let pace = match load.pace {
        Pace::Flood => "as fast as they leave".to_owned(),
        Pace::Rate { per_s, gaps } => {
            let gaps = match gaps {
                Gaps::Constant => "evenly spaced",
                Gaps::Exponential => "exponential gaps",
            };
            format!("{}/s planned, {gaps}", thousands(per_s))
        }
        Pace::Outstanding { requests } => format!("{requests} outstanding"),
    };
    let gso = if load.gso { ", GSO" } else { "" };
    format!(
        "{what}, {}, {pace}, {} a datagram{gso}",
        load.format, load.pack
    )
}

fn phase(phase: &Phase) -> Result<Markup, PlotError> {
    let wide = figures::of(phase, Size::Wide);
    let narrow = figures::of(phase, Size::Narrow);
    let mut plots = Vec::with_capacity(wide.len());
    for (wide, narrow) in wide.iter().zip(&narrow) {
        let wide_svg = wide.plot.element(Size::Wide.px())?;
        let narrow_svg = narrow.plot.element(Size::Narrow.px())?;
        plots.push(html! {
            figure {
                h3 { (capital(&wide.plot.title)) }
                div.wide { (PreEscaped(wide_svg)) }
                div.narrow { (PreEscaped(narrow_svg)) }
            }
        });
    }
    Ok(html! {
        section {
            header {
                h2 { (phase.name) }
                span.dim { (load_sentence(&phase.load)) "; keys " (phase.load.keys) }
                span.dim.push { (seconds(phase.seconds)) @if phase.warmup_s > 0.0 { " after " (seconds(phase.warmup_s)) " of warm-up" } }
            }
            (tiles(phase))
            (nodes(phase))
            div.plots {
                @for plot in plots { (plot) }
                @if phase.response_time.is_some() { (latency_table(phase)) } @else { (cost_list(phase)) }
            }
        }
    })
}

fn tiles(phase: &Phase) -> Markup {
    let rate = |messages: u64| format!("{}/s", thousands(messages as f64 / phase.seconds));
    let tile = |name: &str, value: String, bad: bool| {
        html! { div.tile.bad[bad] { b { (value) } span { (name) } } }
    };
    html! {
        div.tiles {
            @match received(phase) {
                Some(received) => (tile("messages received", rate(received), false)),
                None => (tile("messages sent", rate(phase.sent.messages()), false)),
            }
            @if let Some((lost, part)) = lost(phase) {
                (tile("not received", share(part), unexpected(phase, lost)))
            }
            @if let Some(ns) = phase.cost.and_then(|cost| cost.cpu_ns_per_message) {
                (tile("server CPU per message", time_ns(ns), false))
            }
            @if let Some(ns) = phase.cost.and_then(|cost| cost.work_ns_per_message) {
                (tile("of it work, not spinning", time_ns(ns), false))
            }
            @if let Some(latency) = &phase.response_time {
                (tile("response time, 50 %", time_ns(latency.p50_ns as f64), false))
                (tile("response time, 99 %", time_ns(latency.p99_ns as f64), false))
                (tile("response time, longest", time_ns(latency.max_ns as f64), false))
            }
            @if let Some(memory) = phase.cost.and_then(|cost| cost.peak_memory_bytes) {
                (tile("most memory in use", bytes(memory), false))
            }
        }
    }
}

fn latency_table(phase: &Phase) -> Markup {
    let row = |name: &str, other: bool, latency: &Option<Latency>| {
        html! {
            td { span.key.other[other] {} (name) }
            @match latency {
                Some(l) => @for ns in [l.p50_ns, l.p90_ns, l.p99_ns, l.p99_9_ns, l.p99_99_ns, l.max_ns] {
                    td { (time_ns(ns as f64)) }
                },
                None => td colspan="6" { (absent()) },
            }
        }
    };
    html! {
        div {
            h3 { "Times" }
            div.scroll { table {
                thead { tr {
                    th { } th { "50 %" } th { "90 %" } th { "99 %" } th { "99.9 %" } th { "99.99 %" } th { "longest" }
                } }
                tbody {
                    tr { (row("response", false, &phase.response_time)) }
                    tr { (row("service", true, &phase.service_time)) }
                }
            } }
            br;
            (cost_list(phase))
        }
    }
}

fn cost_list(phase: &Phase) -> Markup {
    html! {
        div {
            h3 { "What it took" }
            dl {
                dt { "Sent" }
                dd {
                    (messages(phase.sent.adds, phase.sent.counts, phase.sent.hits)) " in "
                    (exact(phase.sent.datagrams)) " datagrams, " (bytes(phase.sent.bytes))
                }
                @if let Some(received) = phase.received {
                    dt { "Received" }
                    dd { (messages(received.adds, received.counts, received.hits)) " in " (exact(received.datagrams)) " datagrams" }
                    @if let Some(weight) = received.weight {
                        dt { "N grew by" }
                        dd { (exact(weight)) }
                    }
                    dt { "Dropped by the kernel" }
                    dd { (exact(received.dropped_by_kernel)) @if phase.load.gso { " (with GSO these are trains of datagrams)" } }
                    dt { "Malformed, refused" }
                    dd { (exact(received.malformed)) ", " (exact(received.refused)) }
                }
                @if let Some(once) = phase.once {
                    dt { "Acknowledged, uncertain" }
                    dd {
                        (exact(once.acknowledged)) ", " (exact(once.uncertain)) " adds; "
                        (exact(once.repeated)) " datagrams were sent again"
                    }
                }
                @if let Some(found) = phase.in_window { (in_window(found)) }
                @if let Some(truth) = &phase.window_truth { (window_truth(truth)) }
                @if let Some(answers) = phase.answers {
                    dt { "Answered" }
                    dd {
                        (exact(answers.answered)) "; " (exact(answers.timed_out))
                        " not within " (seconds(phase.load.timeout_s)) "; "
                        (exact(answers.unexpected)) " not waited for"
                    }
                }
                @if let Some(schedule) = &phase.schedule {
                    dt { "Plan" }
                    dd { @if schedule.kept { "Kept. " } @else { b { "Not kept. " } } (lateness(schedule)) }
                }
                @if let Some(cost) = phase.cost {
                    dt { "Server CPU" }
                    dd {
                        (seconds(cost.cpu_s)) " over " (seconds(phase.seconds))
                        @if let Some(spinning_s) = cost.spinning_s {
                            ", of which its threads spun " (seconds(spinning_s)) " while nothing was there"
                        }
                    }
                    @if let (Some(work), Some(spinning)) = (cost.work_ns_per_message, cost.spinning_ns_per_message()) {
                        dt { "Per message" }
                        dd { (time_ns(work)) " work, " (time_ns(spinning)) " spinning" }
                    }
                }
                @if let Some(cpu) = phase.generator_cpu_s {
                    dt { "Generator CPU" }
                    dd {
                        (seconds(cpu)) " with "
                        (several(phase.load.threads, "sending thread")) ", " (several(phase.load.sockets, "socket"))
                    }
                }
            }
        }
    }
}

fn in_window(found: InWindow) -> Markup {
    html! {
        @if found.decided() > 0 {
            dt { "Admitted, refused" }
            dd { (exact(found.admitted)) ", " (exact(found.refused)) "; " (exact(found.unsure)) " unsure" }
        }
        @if found.counted > 0 {
            dt { "Counts in a window" }
            dd { (exact(found.counted)) }
        }
        dt { "Incomplete answers" }
        dd { (exact(found.incomplete)) @if found.overflowed > 0 { ", " (exact(found.overflowed)) " of an overflowed window" } }
    }
}

fn window_truth(truth: &WindowTruth) -> Markup {
    html! {
        @if let Some(admitted) = &truth.admitted {
            dt { "Most admitted in a window" }
            dd {
                (exact(admitted.largest)) " of a key, " (exact(admitted.allowed)) " allowed"
                @if let Some(least) = admitted.least { "; at least " (exact(least)) " in any full window after the first" }
            }
        }
        @if truth.judged_answers > 0 {
            dt { "Windows against the truth" }
            dd {
                (exact(truth.judged_answers)) " counts, " (exact(truth.below_truth)) " below, "
                (exact(truth.above_bound)) " above by more than epsilon * N"
            }
        }
        dt { "Judged" }
        dd {
            (exact(truth.judged_keys)) " of " (exact(truth.distinct_keys)) " keys"
            @if let Some(until) = truth.judged_until_s { ", the first " (seconds(until)) }
        }
    }
}

/// The share of each node of a cluster.
fn nodes(phase: &Phase) -> Markup {
    let all = phase.sent.messages().max(1) as f64;
    html! {
        @if !phase.nodes.is_empty() {
            h3 { "Nodes" }
            div.scroll { table {
                thead { tr {
                    th { } th { "Sent" } th { "Share" } th { "Received" } th { "Answered" } th { "Unanswered" }
                    th { "Admitted" } th { "Refused" } th { "Unsure" } th { "Incomplete" }
                } }
                tbody { @for node in &phase.nodes { tr {
                    td { (node.address) }
                    td { (exact(node.sent.messages())) }
                    td { (share(node.sent.messages() as f64 / all)) }
                    td { (node.received.map_or_else(absent, |received| exact(received.messages()))) }
                    td { (exact(node.answered)) }
                    td { (exact(node.timed_out)) }
                    td { (exact(node.in_window.admitted)) }
                    td { (exact(node.in_window.refused)) }
                    td { (exact(node.in_window.unsure)) }
                    td { (exact(node.in_window.incomplete)) }
                } } }
            } }
        }
    }
}

fn checks(record: &Record) -> Markup {
    let row = |check: &Check| {
        let (class, mark) = match check.outcome {
            Outcome::Passed => ("passed", "✓"),
            Outcome::Failed => ("failed", "✗"),
            Outcome::Unknown => ("unknown", "?"),
        };
        html! {
            li class=(class) {
                i title=(class) { (mark) }
                div { b { (check.name) } " " span.dim { (check.detail) } }
            }
        }
    };
    html! {
        section {
            header { h2 { "Checked" } }
            @if record.checks.is_empty() { p.dim { "Nothing." } }
            ul.checks { @for check in &record.checks { (row(check)) } }
        }
    }
}

fn accuracy(truth: &Truth) -> Markup {
    html! {
        section {
            header { h2 { "Answers against the truth" } }
            dl {
                dt { "Adds" } dd { (exact(truth.total_adds)) " sent, " (exact(truth.lost_adds)) " of them not received" }
                dt { "Distinct keys" } dd {
                    (exact(truth.distinct_keys))
                    @if truth.kept_share < 1.0 { " (the truth of " (share(truth.kept_share)) " of all keys was kept)" }
                }
                dt { "Compared" } dd { (exact(truth.checked_keys)) " keys, the " (exact(truth.checked_hot_keys)) " hottest among them" }
                dt { "Below the truth" } dd.bad[truth.below_truth > 0] { (exact(truth.below_truth)) }
                dt { "Above the truth by" } dd {
                    (thousands(truth.over_mean)) " on average; at most " (exact(truth.over_p50)) " for half, "
                    (exact(truth.over_p99)) " for 99 %, " (exact(truth.over_max)) " for all"
                }
                dt { "Promised (ε·N)" } dd { "at most " (thousands(truth.bound)) " for " (share(1.0 - truth.delta)) }
                dt { "Beyond that" } dd { (share(truth.over_bound_share)) " of the keys; " (share(truth.delta)) " are allowed" }
            }
        }
    }
}

fn circumstances(record: &Record) -> Markup {
    let Environment { command, .. } = &record.environment;
    html! {
        section {
            header { h2 { "How it was run" } }
            pre { (command) }
            div.pair {
                dl {
                    dt { "Machine" } dd { (record.environment.machine()) }
                    dt { "System" } dd { (record.environment.kernel_and_system()) }
                    @if let Some(load) = record.environment.load_average {
                        dt { "Load average before" } dd { (format!("{load:.2}")) @if load > 0.5 { " – others were at work too" } }
                    }
                    @if let Some(governor) = &record.environment.cpu_governor {
                        dt { "Frequency governor" } dd { (governor) }
                    }
                    @if let Some(limit) = record.environment.receive_buffer_max_bytes {
                        dt { "net.core.rmem_max" } dd { (bytes(limit)) }
                    }
                }
                dl {
                    dt { "loadgen" } dd { (record.environment.version_and_commit()) }
                    (server_list(&record.server))
                }
            }
        }
    }
}

fn server_list(server: &Server) -> Markup {
    let cpus: Vec<_> = server.cpus.iter().map(ToString::to_string).collect();
    html! {
        dt { "Server" } dd { (server.address) @if let Some(version) = &server.version { ", rmbd " (version) } }
        @if let (Some(hash), Some(io)) = (&server.hash, &server.io) {
            dt { "Hash, packet path" } dd { (hash) ", " (io) }
        }
        @if let Some(threads) = server.threads {
            dt { "Data threads" } dd {
                (threads)
                @if !cpus.is_empty() { " on CPU " (cpus.join(", ")) }
                @if let Some(busy) = server.threads_with_traffic { "; " (busy) " got traffic" }
            }
        }
    }
}

fn how_to_read() -> Markup {
    html! {
        section.read {
            header { h2 { "How to read this" } }
            p { b { "Response time" } " runs from the moment a request was " b { "planned" } " to leave, " b { "service time" } " from the moment it left. Where the server stalls, both show it; where only the generator was held up, the response time alone does. A request without an answer stands in the response time at the timeout." }
            p { b { "Server CPU per message" } " is what the server's threads used, divided by the messages that they received. On a small machine, where generator and server share few cores, it compares servers more fairly than messages per second." }
            p { b { "Not received" } " is what was sent less what the server counted. With GSO the kernel drops whole trains of datagrams and counts each as one, so its own number is lower." }
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next();
    first
        .map(|c| c.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
