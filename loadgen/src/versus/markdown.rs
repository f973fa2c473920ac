//! A comparison for people: a table for the terminal, a page of Markdown for the record.

use std::fmt::Write;

use super::record::{Comparison, Side, Spread};
use crate::record::Latency;
use crate::units::{bytes, digits, exact, share, thousands, time_ns};

/// A row: what, ours, theirs, how they compare.
type Row = [String; 4];

/// The table, in columns of equal width.
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
    text
}

fn pad(text: &str, width: usize, to_the_right: bool) -> String {
    match to_the_right {
        true => format!("{text:>width$}"),
        false => format!("{text:<width$}"),
    }
}

/// The page.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
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
             (its share of one CPU says how much). Memory is that of the whole process after a \
             fresh start.\n";
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
    for side in [ours, theirs] {
        push(&mut page, format_args!("### {}\n\n", side.name));
        match &side.server_command {
            Some(command) => push(&mut page, format_args!("```sh\n{command}\n```\n\n")),
            None => push(
                &mut page,
                format_args!("It ran already, at {}.\n\n", side.address),
            ),
        }
        push(
            &mut page,
            format_args!(
                "- Adds: {}.\n- Counts: {}.\n\n",
                side.adds_as, side.counts_as
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

/// Writing into a string does not fail.
fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}

fn placement(comparison: &Comparison) -> String {
    let server = |side: &Side| match side.cpu {
        Some(cpu) => format!("{} on CPU {cpu} with all of its threads", side.name),
        None => format!("{} where the system put it", side.name),
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
    let mut rows = vec![[
        String::new(),
        ours.name.clone(),
        theirs.name.clone(),
        "ratio".to_owned(),
    ]];
    let spreads: [(&str, fn(&Side) -> Option<Spread>, fn(f64) -> String, Better); 4] = [
        ("adds/s", Side::adds_per_s, thousands, Better::More),
        (
            "server CPU per add",
            Side::cpu_ns_per_add,
            time_ns,
            Better::Less,
        ),
        (
            "server's share of its CPU",
            Side::cpu_share,
            share,
            Better::Neither,
        ),
        (
            "generator's share of its CPU",
            Side::generator_share,
            share,
            Better::Neither,
        ),
    ];
    for (name, figure, unit, better) in spreads {
        let (a, b) = (figure(ours), figure(theirs));
        let middle = |spread: Option<Spread>| spread.map(|s| s.median);
        rows.push([
            name.to_owned(),
            spread_text(a, unit),
            spread_text(b, unit),
            ratio(middle(a), middle(b), better),
        ]);
    }
    rows.push([
        "adds lost".to_owned(),
        exact(ours.lost()),
        exact(theirs.lost()),
        String::new(),
    ]);
    let quantiles: [(&str, fn(&Latency) -> u64); 2] =
        [("count, 50 %", |l| l.p50_ns), ("count, 99 %", |l| l.p99_ns)];
    for (name, value) in quantiles {
        let of = |side: &Side| side.counts.as_ref().map(|latency| value(latency) as f64);
        let (a, b) = (of(ours), of(theirs));
        let text = |ns: Option<f64>| ns.map_or_else(absent, time_ns);
        rows.push([name.to_owned(), text(a), text(b), ratio(a, b, Better::Less)]);
    }
    rows.extend(memory_rows(ours, theirs));
    rows
}

fn memory_rows(ours: &Side, theirs: &Side) -> impl Iterator<Item = Row> {
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

/// How many times better ours is; below 1 it is worse.
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

fn checks(comparison: &Comparison) -> Option<String> {
    let sentence = |side: &Side| {
        let checked = side.checked?;
        Some(format!(
            "{}: {} of {} answers are the truth, {} below it, the others at most {} above",
            side.name,
            exact(checked.exact),
            exact(checked.keys),
            exact(checked.below),
            exact(checked.over_max),
        ))
    };
    let sides = [&comparison.ours, &comparison.theirs];
    let sentences: Option<Vec<_>> = sides.into_iter().map(sentence).collect();
    Some(format!(
        "Afterwards the first keys of the stream were counted. {}.",
        sentences?.join(". ")
    ))
}
