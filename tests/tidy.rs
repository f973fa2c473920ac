//! Style that no other tool checks, and a README that stays true.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Characters a line; rustfmt's own width, which it does not apply to strings and comments.
const LINE_MAX: usize = 120;
/// Lines of a source file: beyond that it is more than one subject.
const FILE_LINES_MAX: usize = 900;

/// Files of the repository, by what their name ends in; without what is built or fetched.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                walk(&path, found);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(ROOT), &mut found);
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    assert!(!found.is_empty(), "no {ending} files below {ROOT}");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Characters of a line without what stands in its strings: messages are one line, and rustfmt does
/// not break them.
fn code_width(line: &str) -> usize {
    line.split('"')
        .step_by(2)
        .map(|code| code.chars().count())
        .sum()
}

/// Bytes of keys become text in one place only (`JsonKey`), where two keys never become the same text.
#[test]
fn no_command_and_no_document_makes_text_of_bytes_with_a_loss() {
    let of_keys = [
        "src/cli/",
        "src/fronts/http/",
        "src/status/",
        "src/node/overview.rs",
    ];
    let sources = files(".rs").into_iter().filter(|path| {
        let name = path
            .strip_prefix(ROOT)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        of_keys.iter().any(|room| name.starts_with(room))
    });
    for path in sources {
        let loses = read(&path).contains("from_utf8_lossy");
        assert!(
            !loses,
            "{}: print keys as bytes, or as JsonKey",
            path.display()
        );
    }
}

#[test]
fn sources_have_no_leftovers() {
    // Put together, so that this file does not find itself.
    let leftovers = ["TO", "FIX", "XX"].map(|start| match start {
        "TO" => format!("{start}DO"),
        "FIX" => format!("{start}ME"),
        _ => format!("{start}X:"),
    });
    for path in files(".rs") {
        let text = read(&path);
        let name = path.display();
        assert!(
            text.lines().count() <= FILE_LINES_MAX,
            "{name} is longer than one subject"
        );
        assert!(
            text.ends_with('\n') && !text.ends_with("\n\n"),
            "{name} ends badly"
        );
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            let is_table = line.trim_start().starts_with("//") && line.contains('|');
            let fits = code_width(line) <= LINE_MAX || is_table || line.contains("://");
            assert!(fits, "{place}: long");
            assert!(
                !line.ends_with(' ') && !line.contains('\t'),
                "{place}: white space"
            );
            for leftover in &leftovers {
                assert!(!line.contains(leftover), "{place}: {leftover}");
            }
        }
    }
}

#[test]
fn unsafe_code_lives_in_its_rooms_only() {
    for path in files(".rs") {
        let relative = path
            .strip_prefix(ROOT)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let may = [
            "src/udp/",
            "src/io/",
            "src/sketch/prefetch.rs",
            "tests/",
            "benches/",
            "loadgen/tests/",
            "loadgen/benches/",
        ];
        let allows = read(&path)
            .lines()
            .any(|line| line.contains("allow(unsafe_code"));
        assert!(
            !allows || may.iter().any(|start| relative.starts_with(start)),
            "{relative}"
        );
    }
}

/// Code of the product: `(path, line number, line)` of what is compiled into its programs. Modules of tests are
/// the last thing in a file.
fn product_lines() -> Vec<(String, usize, String)> {
    let mut lines = Vec::new();
    for path in files(".rs") {
        let name = path.strip_prefix(ROOT).unwrap().to_string_lossy();
        let is_product = name.starts_with("src/") || name.starts_with("loadgen/src/");
        if !is_product || name.contains("test") {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            if line.starts_with("mod tests {") {
                break;
            }
            if !line.trim_start().starts_with("//") {
                lines.push((name.clone().into_owned(), number + 1, line.to_owned()));
            }
        }
    }
    lines
}

/// Clippy forbids the macros. What is printed otherwise could be waited for, or fail unseen, too.
#[test]
fn only_console_touches_standard_output_and_error() {
    for (name, number, line) in product_lines() {
        let touches = ["stdout()", "stderr()"].iter().any(|it| line.contains(it));
        // How another program is started, and what it wrote.
        let is_of_child = line.contains(".stdout(") || line.contains(".stderr(");
        // One line before there is memory for a queue.
        let is_before_all = name == "src/io/limits.rs" && line.contains("rustix::io::write(");
        assert!(
            !touches || is_of_child || is_before_all || name.starts_with("src/console/"),
            "{name}:{number}: print with `console`: {line}"
        );
    }
}

/// What is started elsewhere could end and not be missed.
#[test]
fn only_the_crew_starts_threads_and_tasks_of_a_node() {
    let starts = [
        "spawn(",
        "spawn_local(",
        "spawn_blocking(",
        "thread::Builder",
        // Of `names`: a node's look-ups go by `Lookups`, which its crew makes.
        "look_up_on_thread(",
        "look_up_within(",
    ];
    // Rooms whose code runs on a node's threads, and may start more of them.
    let rooms = [
        "src/node/",
        "src/fronts/",
        "src/cluster_io/",
        "src/legacy/",
        "src/shared/",
        "src/status/",
        "src/data_dir/",
        "src/engine/",
    ];
    for (name, number, line) in product_lines() {
        let starts = starts.iter().any(|start| line.contains(start));
        // Connections: their house looks at how each ended.
        let is_connection =
            name == "src/fronts/http/connections.rs" && line.contains("self.tasks.spawn(");
        assert!(
            !starts
                || !rooms.iter().any(|room| name.starts_with(room))
                || is_connection
                || name == "src/node/crew/mod.rs",
            "{name}:{number}: start it with `Crew`: {line}"
        );
    }
}

/// The rooms, and which others each uses. They stand in an order: a room uses only rooms above it in this list.
const ROOMS: &[(&str, &[&str])] = &[
    ("console", &[]),
    ("names", &[]),
    ("sketch", &[]),
    ("wire", &[]),
    ("io", &[]),
    ("replica", &["sketch", "wire"]),
    ("engine", &["sketch", "replica"]),
    ("cluster", &["sketch", "wire", "replica"]),
    ("config", &["names", "sketch", "wire"]),
    ("data_dir", &[]),
    ("shared", &["io", "replica", "engine"]),
    ("status", &["console", "wire", "io", "replica", "engine"]),
    (
        "cluster_io",
        &[
            "names", "wire", "io", "replica", "cluster", "config", "shared", "status",
        ],
    ),
    (
        "fronts/datagrams",
        &[
            "sketch", "wire", "io", "replica", "engine", "config", "shared", "status",
        ],
    ),
    ("fronts/http", &["wire", "io", "status"]),
    (
        "legacy",
        &[
            "names",
            "wire",
            "replica",
            "cluster",
            "config",
            "shared",
            "status",
            "cluster_io",
            "fronts/datagrams",
        ],
    ),
    (
        "node",
        &[
            "console",
            "names",
            "sketch",
            "wire",
            "io",
            "replica",
            "engine",
            "cluster",
            "config",
            "data_dir",
            "shared",
            "status",
            "cluster_io",
            "fronts/datagrams",
            "fronts/http",
            "legacy",
        ],
    ),
    ("client", &["names", "wire", "io"]),
    (
        "cli",
        &[
            "console", "names", "sketch", "wire", "cluster", "client", "config", "status",
        ],
    ),
];

/// Lines of a room's code that are no comments, with the names of their files.
fn lines_of_room(room: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for path in files(".rs") {
        let name = path.strip_prefix(ROOT).unwrap().to_string_lossy();
        if !name.starts_with(&format!("src/{room}/")) || name.contains("test") {
            continue;
        }
        for line in read(&path).lines() {
            if !line.trim_start().starts_with("//") {
                lines.push((name.clone().into_owned(), line.to_owned()));
            }
        }
    }
    lines
}

/// A room uses only rooms below it. One that is empty or gone would pass whatever it did.
#[test]
fn rooms_use_only_rooms_below_them() {
    for (at, (room, below)) in ROOMS.iter().enumerate() {
        for other in *below {
            let is_above = ROOMS[..at].iter().any(|(above, _)| above == other);
            assert!(is_above, "{room} comes before {other}");
        }
        let lines = lines_of_room(room);
        assert!(!lines.is_empty(), "there is nothing in src/{room}/");
        let others = || ROOMS.iter().map(|(other, _)| other);
        for (file, line) in lines {
            for other in others().filter(|other| *other != room) {
                let uses = line.contains(&format!("crate::{}::", other.replace('/', "::")));
                assert!(
                    !uses || below.contains(other),
                    "{file} uses {other}: {line}"
                );
            }
        }
    }
}

/// No folder of the program stands beside the list of rooms, nor beside the table for readers.
#[test]
fn every_folder_is_a_room() {
    let table = read(&Path::new(ROOT).join("src/lib.rs"));
    let folders = std::fs::read_dir(Path::new(ROOT).join("src")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let is_known = ROOMS
            .iter()
            .any(|(room, _)| room.split('/').next() == Some(&name));
        assert!(is_known, "src/{name}/ is no room");
        let is_told =
            table.contains(&format!("//! | `{name}` |")) || table.contains(&format!("[`{name}`]"));
        assert!(is_told, "src/{name}/ is not in the table of src/lib.rs");
    }
}

/// Options that a text mentions: `--word`.
fn options(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit();
    text.split(|c: char| !is_part(c))
        .filter(|word| word.starts_with("--") && word.len() > 3)
        .map(|word| word.trim_end_matches('-').to_owned())
        .collect()
}

#[test]
fn every_option_that_the_readme_names_exists() {
    let mut known = options("--release --workspace --bench --all-targets --help --path");
    for words in [
        &["--help"][..],
        &["add", "--help"],
        &["count", "--help"],
        &["hit", "--help"],
        &["peer", "--help"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_rmbd"))
            .args(words)
            .output()
            .unwrap();
        known.extend(options(std::str::from_utf8(&output.stdout).unwrap()));
    }
    let readme = read(&Path::new(ROOT).join("README.md"));
    // What stands in sections about other programs is theirs.
    let ours = readme.split("<!-- loadgen -->").next().unwrap();
    let unknown: Vec<_> = options(ours).difference(&known).cloned().collect();
    assert!(
        unknown.is_empty(),
        "the README names options that do not exist: {unknown:?}"
    );
}

#[test]
fn links_to_files_lead_somewhere() {
    for path in files(".md") {
        let text = read(&path);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let there = path.parent().unwrap().join(file);
            assert!(there.exists(), "{} links to {target}", path.display());
        }
    }
}
