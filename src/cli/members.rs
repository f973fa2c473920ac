//! The command `rmbd members`.

use std::io::Write;

use super::http::StatusSource;
use super::status::{NAME_WAITS_FOR, bytes, printable};
use super::{CliError, MembersOptions, Streams};
use crate::status::{ClusterStatus, MemberStatus, OneWayStatus, OtherSketch};

/// Number of digits of an id that people are shown.
const SHORT_DIGITS: usize = 8;
const COLUMNS: usize = 9;
const HEAD: [&str; COLUMNS] = [
    "node",
    "address",
    "state",
    "boot",
    "slices",
    "behind by",
    "for",
    "sent",
    "received",
];

/// Prints the cluster as a node sees it.
pub(super) fn run(options: &MembersOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let source = StatusSource::new(&options.server.server, options.server.timeout());
    let cluster = source.status()?.cluster;
    if options.json {
        // The values are numbers and texts in memory, so nothing can fail.
        let document = serde_json::to_string(&cluster).unwrap_or_default();
        writeln!(streams.output, "{document}")
    } else {
        streams.output.write_all(render(&cluster).as_bytes())
    }
    .map_err(CliError::Output)
}

/// A line for each node, the asked one first. What is to be known of their names follows, and what it lacks.
pub(super) fn render(cluster: &ClusterStatus) -> String {
    if !cluster.enabled {
        let reason = cluster.off_because.as_deref().unwrap_or("no reason given");
        return format!("in no cluster: {}\n", printable(reason));
    }
    let mut rows = vec![HEAD.map(str::to_owned), ourselves(cluster)];
    rows.extend(cluster.members.iter().map(member));
    rows.extend(cluster.one_way.iter().map(one_way));
    let mut text = table(&rows);
    text.push_str(&names(cluster));
    let members = cluster.members.iter();
    let targets = cluster.one_way.iter();
    let apart = members
        .map(|member| (&member.address, &member.other_sketches))
        .chain(targets.map(|target| (&target.address, &target.other_sketches)));
    for (address, others) in apart {
        for other in others {
            text.push_str(&not_exchanged(address, other));
        }
    }
    for slice in &cluster.slices_refused {
        text.push_str(&format!("not held: {}\n", printable(slice)));
    }
    text
}

/// Lines about nodes that have one number, and about the name of the asked node's own slices.
fn names(cluster: &ClusterStatus) -> String {
    let shared = cluster.shared_nodes.iter();
    let shared = shared.map(|shared| {
        let (node, detail) = (printable(&shared.node), printable(&shared.detail));
        format!("one number {node}: {detail}\n")
    });
    let new_writer = cluster.new_writer.iter().map(|new| {
        let (writer, before) = (printable(&cluster.writer), printable(&new.before));
        let detail = printable(&new.detail);
        format!("new writer {writer} in place of {before}: {detail}\n")
    });
    let open = cluster.waits_for_name();
    let open = open.then(|| format!("waits for {NAME_WAITS_FOR}\n"));
    shared.chain(new_writer).chain(open).collect()
}

fn not_exchanged(address: &str, other: &OtherSketch) -> String {
    let (address, sketch) = (printable(address), other.sketch);
    match &other.fingerprint {
        Some(_) => format!(
            "not exchanged with {address}: sketch {sketch}, of which it has another width, depth, hash or seed\n"
        ),
        None => format!("not exchanged with {address}: sketch {sketch}, which it does not have\n"),
    }
}

fn ourselves(cluster: &ClusterStatus) -> [String; COLUMNS] {
    let nothing = || "-".to_owned();
    [
        short(&cluster.node),
        printable(cluster.advertised.as_deref().unwrap_or("-")),
        "asked".to_owned(),
        short(&cluster.boot),
        cluster.slices_of_this_node.to_string(),
        nothing(),
        nothing(),
        bytes(sum(cluster.bytes_sent.values())),
        bytes(sum(cluster.bytes_received.values())),
    ]
}

fn member(member: &MemberStatus) -> [String; COLUMNS] {
    [
        short(&member.node),
        printable(&member.address),
        printable(&member.state),
        short(&member.boot),
        member.slices.to_string(),
        if !member.other_sketches.is_empty() {
            "other sketch".to_owned()
        } else if member.refuses_ours {
            "no room".to_owned()
        } else {
            member.lag_versions.to_string()
        },
        format!("{:.1} s", member.lag_s),
        bytes(member.bytes_sent),
        bytes(member.bytes_received),
    ]
}

fn one_way(target: &OneWayStatus) -> [String; COLUMNS] {
    let number = |number: &Option<String>| short(number.as_deref().unwrap_or("-"));
    let nothing = || "-".to_owned();
    [
        number(&target.node),
        printable(&target.address),
        "one way".to_owned(),
        number(&target.boot),
        nothing(),
        target.lag_versions.to_string(),
        nothing(),
        nothing(),
        nothing(),
    ]
}

fn short(digits: &str) -> String {
    printable(digits).chars().take(SHORT_DIGITS).collect()
}

fn sum<'n>(numbers: impl Iterator<Item = &'n u64>) -> u64 {
    numbers.fold(0, |sum, &n| sum.saturating_add(n))
}

/// A table whose columns are as wide as their widest cell. No line ends with white space.
fn table(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths);
        let padded: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
