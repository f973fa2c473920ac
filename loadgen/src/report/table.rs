//! The table at the end of a run: a column for each phase, then what was checked.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::output::{bytes, digits, exact, seconds, share, thousands, time_ns};
use crate::record::{Check, InWindow, Latency, Outcome, Pace, Phase, Record, Server};

/// The text for a figure that was not measured.
const NOTHING: &str = "-";

/// The whole table as text.
#[must_use]
pub fn text(record: &Record) -> String {
    let mut text = format!("{}\n", server(&record.server));
    if !record.phases.is_empty() {
        let _ = writeln!(text, "\n{}", phases(&record.phases));
    }
    for phase in record.phases.iter().filter(|phase| !phase.nodes.is_empty()) {
        let _ = writeln!(text, "\n{}", nodes(phase));
    }
    if !record.checks.is_empty() {
        text.push('\n');
    }
    for check in &record.checks {
        let _ = writeln!(text, "{} {}: {}", mark(check), check.name, check.detail);
    }
    if !record.notes.is_empty() {
        text.push('\n');
    }
    for note in &record.notes {
        let _ = writeln!(text, "note: {note}");
    }
    if let Some(why) = &record.ended_early {
        let _ = writeln!(text, "\nended early: {why}");
    }
    text
}

fn server(server: &Server) -> String {
    let mut text = format!("server {}", server.address);
    if server.inside {
        text.push_str(" (inside this process)");
    }
    if let Some(version) = &server.version {
        let _ = write!(text, ", rmbd {version}");
    }
    if let (Some(width), Some(depth), Some(hash)) = (server.width, server.depth, &server.hash) {
        let _ = write!(text, ", sketch {width} x {depth} {hash}");
    }
    if let (Some(io), Some(threads)) = (&server.io, server.threads) {
        let plural = if threads == 1 { "" } else { "s" };
        let _ = write!(text, ", {io}, {threads} data thread{plural}");
    }
    if let (Some(threads), Some(with_traffic)) = (server.threads, server.threads_with_traffic)
        && threads > 1
    {
        let _ = write!(text, " ({with_traffic} with traffic)");
    }
    text
}

fn mark(check: &Check) -> &'static str {
    match check.outcome {
        Outcome::Passed => "ok     ",
        Outcome::Failed => "FAILED ",
        Outcome::Unknown => "unknown",
    }
}

/// A row's name, and its cell for a phase.
type Row = (&'static str, fn(&Phase) -> Option<String>);

/// The rows. A row that is empty for all phases is left out.
const ROWS: &[Row] = &[
    ("time", |p| {
        Some(seconds((p.seconds * 1000.0).round() / 1000.0))
    }),
    ("planned", |p| match p.load.pace {
        Pace::Rate { per_s, .. } => Some(format!("{}/s", thousands(per_s))),
        Pace::Outstanding { requests } => Some(format!("{requests} outstanding")),
        Pace::Flood => Some("flood".to_owned()),
    }),
    ("format", |p| Some(p.load.format.clone())),
    ("weight of each", |p| {
        (p.load.weight != 1).then(|| exact(p.load.weight.into()))
    }),
    ("messages a datagram", |p| Some(p.load.pack.to_string())),
    ("sent", |p| {
        Some(format!(
            "{}/s",
            thousands(p.sent.messages() as f64 / p.seconds)
        ))
    }),
    ("received by the server", |p| {
        let received = p.received?;
        let messages = received.messages() as f64;
        Some(format!("{}/s", thousands(messages / p.seconds)))
    }),
    ("lost", |p| {
        let received = p.received?;
        let sent = p.sent.messages();
        let lost = sent.saturating_sub(received.messages());
        Some(share(lost as f64 / sent.max(1) as f64))
    }),
    ("server CPU a message", |p| {
        let ns = p.cost?.cpu_ns_per_message?;
        Some(format!("{} ns", digits(ns)))
    }),
    ("  work", |p| {
        let ns = p.cost?.work_ns_per_message?;
        Some(format!("{} ns", digits(ns)))
    }),
    ("  spinning", |p| {
        let ns = p.cost?.spinning_ns_per_message()?;
        Some(format!("{} ns", digits(ns)))
    }),
    ("server CPU", |p| Some(share(p.cost?.cpu_s / p.seconds))),
    ("  spinning ", |p| {
        Some(share(p.cost?.spinning_s? / p.seconds))
    }),
    ("server memory, peak", |p| {
        p.cost?.peak_memory_bytes.map(bytes)
    }),
    ("generator CPU", |p| {
        Some(share(p.generator_cpu_s? / p.seconds))
    }),
    ("response time p50", |p| {
        time(p.response_time.as_ref(), |l| l.p50_ns)
    }),
    ("  p99", |p| time(p.response_time.as_ref(), |l| l.p99_ns)),
    ("  p99.9", |p| {
        time(p.response_time.as_ref(), |l| l.p99_9_ns)
    }),
    ("  max", |p| time(p.response_time.as_ref(), |l| l.max_ns)),
    ("service time p50", |p| {
        time(p.service_time.as_ref(), |l| l.p50_ns)
    }),
    ("  p99 ", |p| time(p.service_time.as_ref(), |l| l.p99_ns)),
    ("  p99.9 ", |p| {
        time(p.service_time.as_ref(), |l| l.p99_9_ns)
    }),
    ("  max ", |p| time(p.service_time.as_ref(), |l| l.max_ns)),
    ("over the limit", |p| {
        let verdicts = p.verdicts?;
        Some(share(
            verdicts.over as f64 / verdicts.judged().max(1) as f64,
        ))
    }),
    ("counts in a window", |p| {
        let counted = p.in_window?.counted;
        (counted > 0).then(|| exact(counted))
    }),
    ("admitted", |p| {
        decided(p).map(|found| exact(found.admitted))
    }),
    ("refused", |p| decided(p).map(|found| exact(found.refused))),
    ("  unsure", |p| decided(p).map(|found| exact(found.unsure))),
    ("incomplete answers", |p| {
        p.in_window.map(|found| exact(found.incomplete))
    }),
    ("most admitted in a window", |p| {
        let admitted = p.window_truth.as_ref()?.admitted.as_ref()?;
        Some(format!(
            "{} of {}",
            exact(admitted.largest),
            exact(admitted.allowed)
        ))
    }),
    ("  least in a full one", |p| {
        let admitted = p.window_truth.as_ref()?.admitted.as_ref()?;
        admitted.least.map(exact)
    }),
    ("sent again", |p| {
        Some(format!("{} datagrams", exact(p.once?.repeated)))
    }),
    ("acknowledged adds", |p| Some(exact(p.once?.acknowledged))),
    ("uncertain adds", |p| Some(exact(p.once?.uncertain))),
    ("answered", |p| Some(exact(p.answers?.answered))),
    ("timed out", |p| Some(exact(p.answers?.timed_out))),
    ("unexpected answers", |p| {
        let unexpected = p.answers?.unexpected;
        (unexpected > 0).then(|| exact(unexpected))
    }),
    ("generator late p50", |p| {
        Some(time_ns(p.schedule?.late_p50_ns as f64))
    }),
    ("  p99  ", |p| Some(time_ns(p.schedule?.late_p99_ns as f64))),
    ("  max  ", |p| Some(time_ns(p.schedule?.late_max_ns as f64))),
    ("schedule kept", |p| {
        let kept = p.schedule?.kept;
        Some(if kept { "yes" } else { "NO" }.to_owned())
    }),
];

/// Answers about windows, if there are verdicts among them.
fn decided(phase: &Phase) -> Option<InWindow> {
    phase.in_window.filter(|found| found.decided() > 0)
}

/// A row for each node of a phase.
fn nodes(phase: &Phase) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            phase.name.as_str(),
            "sent",
            "share",
            "received",
            "answered",
            "timed out",
            "admitted",
            "refused",
            "unsure",
            "incomplete",
        ]);
    for node in &phase.nodes {
        let (sent, all) = (node.sent.messages(), phase.sent.messages().max(1));
        let received = node.received.map(|received| exact(received.messages()));
        let found = node.in_window;
        let numbers = [
            node.answered,
            node.timed_out,
            found.admitted,
            found.refused,
            found.unsure,
            found.incomplete,
        ];
        let first = [
            node.address.clone(),
            exact(sent),
            share(sent as f64 / all as f64),
            received.unwrap_or_else(|| NOTHING.to_owned()),
        ];
        table.add_row(first.into_iter().chain(numbers.map(exact)));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn time(latency: Option<&Latency>, of: fn(&Latency) -> u64) -> Option<String> {
    latency.map(|latency| time_ns(of(latency) as f64))
}

fn phases(phases: &[Phase]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled);
    let names = phases.iter().map(|phase| phase.name.as_str());
    table.set_header(std::iter::once("").chain(names));
    for (name, cell) in ROWS {
        let cells: Vec<_> = phases.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells
                .into_iter()
                .map(|cell| cell.unwrap_or_else(|| NOTHING.to_owned()));
            table.add_row(std::iter::once((*name).to_owned()).chain(cells));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn the_table_has_what_the_record_has() {
        let record = sample::record();
        let text = text(&record);
        for phase in &record.phases {
            assert!(text.contains(&phase.name), "{text}");
        }
        for check in &record.checks {
            assert!(text.contains(&check.detail), "{text}");
        }
        let latency = record.phases.iter().find_map(|p| p.response_time.as_ref());
        let p99 = time_ns(latency.unwrap().p99_ns as f64);
        assert!(text.contains(&p99), "{p99} in {text}");
    }

    #[test]
    fn weights_are_told_where_they_are_not_1() {
        let mut record = sample::record();
        assert!(!text(&record).contains("weight of each"));
        record.phases[0].load.weight = 1_048_576;
        let text = text(&record);
        assert!(text.contains("weight of each"), "{text}");
        assert!(text.contains(&exact(1_048_576)), "{text}");
    }

    #[test]
    fn work_and_spinning_of_the_server_are_told_apart_where_it_tells() {
        let mut record = sample::record();
        let told = text(&record);
        let row = |name: &str| told.lines().find(|line| line.contains(name));
        assert!(row("  work").unwrap().contains("750 ns"), "{told}");
        // All of it is 2250 ns.
        assert!(row("  spinning").unwrap().contains("1500 ns"), "{told}");
        for phase in &mut record.phases {
            let cost = phase.cost.as_mut().unwrap();
            (cost.spinning_s, cost.work_ns_per_message) = (None, None);
        }
        let untold = text(&record);
        assert!(!untold.contains("spinning"), "{untold}");
        assert!(untold.contains("server CPU a message"), "{untold}");
    }

    #[test]
    fn nodes_and_what_was_admitted_are_told() {
        let mut record = sample::record();
        record.phases[1] = sample::takes();
        let text = text(&record);
        for part in [
            "10.0.0.1:1",
            "10.0.0.2:1",
            "most admitted in a window",
            "104 of 100",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_was_not_measured_has_no_row() {
        let mut record = sample::record();
        for phase in &mut record.phases {
            phase.response_time = None;
            phase.cost = None;
        }
        record.ended_early = Some("the plug was pulled".to_owned());
        let text = text(&record);
        assert!(!text.contains("response time"), "{text}");
        assert!(!text.contains("server CPU"), "{text}");
        assert!(text.contains("ended early: the plug was pulled"), "{text}");
    }
}
