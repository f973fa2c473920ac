//! A comparison for people: a table for the terminal, a page of Markdown for the record.

use std::fmt::Write;

use super::record::{Checked, Comparison, Score, Spread};
use crate::output::{bytes, digits, exact, share, thousands, time_ns};
use crate::record::Latency;

/// A row: the figure's name, ours, theirs, and how they compare.
type Row = [String; 4];

/// The comparison as a table with columns of equal width.
#[must_use]
pub(super) fn table(comparison: &Comparison) -> String {
    let rows = rows(comparison);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2, 3].map(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let mut line = pad(&row[0], widths[0], false);
        for column in 1..row.len() {
            line += "  ";
            line += &pad(&row[column], widths[column], true);
        }
        text += line.trim_end();
        text.push('\n');
    }
    for sentence in limits(comparison) {
        push(&mut text, format_args!("{sentence}\n"));
    }
    text
}

fn pad(text: &str, width: usize, to_the_right: bool) -> String {
    match to_the_right {
        true => format!("{text:>width$}"),
        false => format!("{text:<width$}"),
    }
}

/// The comparison as a page.
#[must_use]
pub(super) fn markdown(comparison: &Comparison) -> String {
    let Comparison {
        environment,
        ours,
        theirs,
        ..
    } = comparison;
    let mut page = format!(
        "# {} against {}\n\n\
         The same keys, in turns, on one machine: what each server needed for the same adds.\n\n",
        ours.name, theirs.name
    );
    if let Some(why) = &comparison.ended_early {
        push(
            &mut page,
            format_args!("**Ended early**: {why}. What there was by then:\n\n"),
        );
    }
    let mut rows = rows(comparison).into_iter();
    let head = rows.next().unwrap_or_default();
    push(
        &mut page,
        format_args!("| {} |\n|---|--:|--:|--:|\n", head.join(" | ")),
    );
    for row in rows {
        push(&mut page, format_args!("| {} |\n", row.join(" | ")));
    }
    page += "\nMedians over the turns, with the least and the most in brackets. \
             **Server CPU per add** compares servers; adds/s depends on the generator as well \
             (its share of one CPU says how much). On loopback the kernel does a part of the \
             receiving in the sender's system call: it is in the CPU time of the generator, on both \
             sides. Memory is that of the whole process after a \
             fresh start.\n";
    for sentence in limits(comparison) {
        push(&mut page, format_args!("\n{sentence}\n"));
    }
    if let Some(checked) = checks(comparison) {
        push(&mut page, format_args!("\n{checked}\n"));
    }
    page += "\n## How\n\n";
    push(
        &mut page,
        format_args!("```sh\n{}\n```\n\n", environment.command),
    );
    push(
        &mut page,
        format_args!(
            "- Keys: `{}`{}, seed {}; {} adds a turn, the same in each.\n",
            comparison.keys,
            comparison
                .key_bytes
                .map_or_else(String::new, |bytes| format!(" of {bytes} bytes")),
            comparison.seed,
            exact(comparison.adds_per_turn),
        ),
    );
    push(&mut page, format_args!("- {}\n\n", placement(comparison)));
    for score in [ours, theirs] {
        push(&mut page, format_args!("### {}\n\n", score.name));
        match &score.server_command {
            Some(command) => push(&mut page, format_args!("```sh\n{command}\n```\n\n")),
            None => push(
                &mut page,
                format_args!("It ran already, at {}.\n\n", score.address),
            ),
        }
        push(
            &mut page,
            format_args!(
                "- Adds: {}.\n- Counts: {}.\n\n",
                score.adds_as, score.counts_as
            ),
        );
    }
    page += "## Where\n\n";
    for (name, value) in [
        ("Date", environment.started.clone()),
        ("Machine", environment.machine()),
        ("System", environment.kernel_and_system()),
        ("loadgen", environment.version_and_commit()),
        (
            "Load average before",
            environment.load_average.map_or_else(absent, digits),
        ),
    ] {
        push(&mut page, format_args!("- {name}: {value}\n"));
    }
    page
}

/// Appends to the page. Writing into a string does not fail.
fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}

fn placement(comparison: &Comparison) -> String {
    let server = |score: &Score| match score.cpu {
        Some(cpu) => format!("{} on CPU {cpu} with all of its threads", score.name),
        None => format!("{} where the system put it", score.name),
    };
    let generator = comparison.generator_cpu;
    let generator = generator.map_or_else(
        || "the generator where the system put it".to_owned(),
        |cpu| format!("the generator on CPU {cpu}"),
    );
    format!(
        "{}, {}; {generator}.",
        server(&comparison.ours),
        server(&comparison.theirs)
    )
}

fn rows(comparison: &Comparison) -> Vec<Row> {
    let Comparison { ours, theirs, .. } = comparison;
    let scores = [ours, theirs];
    let mut rows = vec![
        ["", &ours.name, &theirs.name, "ratio"].map(str::to_owned),
        spread_row(
            "adds/s",
            scores.map(Score::adds_per_s),
            thousands,
            Better::More,
        ),
        spread_row(
            "server CPU per add",
            scores.map(Score::cpu_ns_per_add),
            time_ns,
            Better::Less,
        ),
        spread_row(
            "CPU per add, generator included",
            scores.map(Score::both_cpu_ns_per_add),
            time_ns,
            Better::Less,
        ),
        spread_row(
            "server's share of its CPU",
            scores.map(Score::cpu_share),
            share,
            Better::Neither,
        ),
        spread_row(
            "generator's share of its CPU",
            scores.map(Score::generator_share),
            share,
            Better::Neither,
        ),
        ["adds lost", &exact(ours.lost()), &exact(theirs.lost()), ""].map(str::to_owned),
        latency_row("count, 50 %", scores, |latency| latency.p50_ns),
        latency_row("count, 99 %", scores, |latency| latency.p99_ns),
    ];
    rows.extend(memory_rows(ours, theirs));
    rows
}

fn spread_row(
    name: &str,
    [ours, theirs]: [Option<Spread>; 2],
    unit: fn(f64) -> String,
    better: Better,
) -> Row {
    let middle = |spread: Option<Spread>| spread.map(|s| s.median);
    [
        name.to_owned(),
        spread_text(ours, unit),
        spread_text(theirs, unit),
        ratio(middle(ours), middle(theirs), better),
    ]
}

fn latency_row(name: &str, scores: [&Score; 2], value: fn(&Latency) -> u64) -> Row {
    let of = |score: &Score| score.counts.as_ref().map(|latency| value(latency) as f64);
    let text = |ns: Option<f64>| ns.map_or_else(absent, time_ns);
    let [ours, theirs] = scores.map(of);
    [
        name.to_owned(),
        text(ours),
        text(theirs),
        ratio(ours, theirs, Better::Less),
    ]
}

fn memory_rows(ours: &Score, theirs: &Score) -> impl Iterator<Item = Row> {
    ours.memory.iter().map(|memory| {
        let keys = memory.distinct_keys;
        let a = Some(memory.resident_bytes);
        let theirs = theirs.memory.iter().find(|m| m.distinct_keys == keys);
        let b = theirs.map(|memory| memory.resident_bytes);
        let text = |size: Option<u64>| size.map_or_else(absent, bytes);
        let float = |size: Option<u64>| size.map(|size| size as f64);
        [
            format!("memory after {} keys", thousands(keys as f64)),
            text(a),
            text(b),
            ratio(float(a), float(b), Better::Less),
        ]
    })
}

fn absent() -> String {
    "–".to_owned()
}

fn spread_text(spread: Option<Spread>, unit: fn(f64) -> String) -> String {
    let Some(Spread { min, median, max }) = spread else {
        return absent();
    };
    format!("{} [{}–{}]", unit(median), unit(min), unit(max))
}

#[derive(Clone, Copy, PartialEq)]
enum Better {
    More,
    Less,
    Neither,
}

/// The factor by which ours is better; below 1 it is worse.
fn ratio(ours: Option<f64>, theirs: Option<f64>, better: Better) -> String {
    match (ours, theirs, better) {
        (Some(ours), Some(theirs), Better::More) if theirs > 0.0 => {
            format!("{}×", digits(ours / theirs))
        }
        (Some(ours), Some(theirs), Better::Less) if ours > 0.0 => {
            format!("{}×", digits(theirs / ours))
        }
        _ => String::new(),
    }
}

/// Share of its CPU above which the generator could not have sent more.
const GENERATOR_LIMIT: f64 = 0.95;
/// Share of its CPU: if neither side reaches it, another process used the CPU.
const DISTURBED: f64 = 0.8;

/// Notes that the reader of a ratio must know, one sentence each.
fn limits(comparison: &Comparison) -> Vec<String> {
    let scores = [&comparison.ours, &comparison.theirs];
    let named = |is: fn(f64, f64) -> bool| {
        let shares =
            |score: &Score| Some((score.generator_share()?.median, score.cpu_share()?.median));
        let named = scores
            .into_iter()
            .filter(|score| shares(score).is_some_and(|(g, s)| is(g, s)));
        let names: Vec<_> = named.map(|score| score.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(" and "))
    };
    let limited =
        named(|generator, server| generator > GENERATOR_LIMIT && server < GENERATOR_LIMIT);
    let disturbed = named(|generator, server| generator.max(server) < DISTURBED);
    let limited = limited
        .map(|names| format!("The generator was the limit for {names}: more adds/s are possible."));
    let disturbed = disturbed.map(|names| {
        format!(
            "In the turns of {names} neither the server nor the generator had its CPU to itself: \
             adds/s and the tail of the counts say little, CPU per add somewhat more."
        )
    });
    limited.into_iter().chain(disturbed).collect()
}

fn checks(comparison: &Comparison) -> Option<String> {
    let sentence = |score: &Score| {
        let Checked {
            keys,
            exact: right,
            below,
            over_max,
        } = score.checked?;
        let name = &score.name;
        let keys = exact(keys);
        Some(match (below, over_max) {
            (0, 0) => format!("{name} answered the truth for all {keys}."),
            _ => format!(
                "{name} answered the truth for {} of {keys}, less for {}, and at most {} more.",
                exact(right),
                exact(below),
                exact(over_max),
            ),
        })
    };
    let scores = [&comparison.ours, &comparison.theirs];
    let sentences: Option<Vec<_>> = scores.into_iter().map(sentence).collect();
    Some(format!(
        "Afterwards the first keys of the stream were counted. {}",
        sentences?.join(" ")
    ))
}
