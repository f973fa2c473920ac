//! Checks of style that no other tool makes, and of the documentation.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use rmbd::cli::Cli;
use rmbd_testkit::tree::files_below;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Largest number of characters in a line: rustfmt's own width, which it does not apply to strings and comments.
const LINE_MAX: usize = 120;
/// Largest number of lines in a source file. A longer one has more than one subject.
const FILE_LINES_MAX: usize = 900;

/// Files of the repository whose names end in this, without what is built or fetched.
fn files(ending: &str) -> Vec<PathBuf> {
    let found = files_below(Path::new(ROOT), ending);
    assert!(!found.is_empty(), "no {ending} files below {ROOT}");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Number of characters of a line without the content of its strings: a message is one line, and rustfmt does not
/// break it.
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
    // The words are put together here, so that this file does not find itself.
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
            "crates/rmbd-udp/src/",
            "crates/rmbd-io/src/",
            "crates/rmbd-sketch/src/prefetch.rs",
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

/// The code of the product as `(path, line number, line)`: all lines that are compiled into its programs. Modules of
/// tests come last in a file.
fn product_lines() -> Vec<(String, usize, String)> {
    let mut lines = Vec::new();
    for path in files(".rs") {
        let name = path.strip_prefix(ROOT).unwrap().to_string_lossy();
        let is_product = ["src/", "loadgen/src/", "crates/"]
            .iter()
            .any(|room| name.starts_with(room));
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

/// Clippy forbids the macros. Any other output could be waited for, or fail unseen, too.
#[test]
fn only_console_touches_standard_output_and_error() {
    for (name, number, line) in product_lines() {
        let touches = ["stdout()", "stderr()"].iter().any(|it| line.contains(it));
        // These lines are about how another program is started, and what it wrote.
        let is_of_child = line.contains(".stdout(") || line.contains(".stderr(");
        // This one line is printed before there is memory for a queue.
        let is_before_all =
            name == "crates/rmbd-io/src/limits.rs" && line.contains("rustix::io::write(");
        assert!(
            !touches
                || is_of_child
                || is_before_all
                || name.starts_with("crates/rmbd-console/src/"),
            "{name}:{number}: print with `console`: {line}"
        );
    }
}

/// A thread or task that is started elsewhere could end without being noticed.
#[test]
fn only_the_crew_starts_threads_and_tasks_of_a_node() {
    let starts = [
        "spawn(",
        "spawn_local(",
        "spawn_blocking(",
        "thread::Builder",
        // This is a function of `names`: a node's look-ups use `Lookups`, which its crew makes.
        "look_up_on_thread(",
        "look_up_within(",
    ];
    // These are rooms whose code runs on a node's threads, and may start more of them.
    let rooms = [
        "src/node/",
        "src/fronts/",
        "src/cluster_io/",
        "src/legacy/",
        "src/shared/",
        "src/status/",
        "src/data_dir/",
        "src/snapshots/",
        "src/engine/",
        "crates/rmbd-sketch/",
        "crates/rmbd-proto/",
        "crates/rmbd-pace/",
        "crates/rmbd-udp/",
        "crates/rmbd-store/",
        "crates/rmbd-cluster/",
        "crates/rmbd-io/",
    ];
    for (name, number, line) in product_lines() {
        let starts = starts.iter().any(|start| line.contains(start));
        // These are connections: their house checks how each ended.
        let is_connection = ["http", "spoe"]
            .iter()
            .any(|front| name == format!("src/fronts/{front}/connections.rs"))
            && line.contains("self.tasks.spawn(");
        assert!(
            !starts
                || !rooms.iter().any(|room| name.starts_with(room))
                || is_connection
                || name == "src/node/crew/mod.rs",
            "{name}:{number}: start it with `Crew`: {line}"
        );
    }
}

/// A mutation that does not fit its code any more tells nothing of the tests that are to catch it.
#[test]
fn mutations_of_the_cluster_fit_the_code() {
    for patch in files(".patch") {
        let check = Command::new("git")
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(ROOT)
            .output()
            .unwrap();
        let name = patch.display();
        let said = String::from_utf8_lossy(&check.stderr);
        assert!(check.status.success(), "{name}: make it anew: {said}");
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

/// The long options of a command, and of all below it.
fn known_options(command: &clap::Command, known: &mut BTreeSet<String>) {
    let longs = command.get_arguments().filter_map(clap::Arg::get_long);
    known.extend(longs.map(|long| format!("--{long}")));
    for inner in command.get_subcommands() {
        known_options(inner, known);
    }
}

#[test]
fn every_option_that_the_documentation_names_exists() {
    // These are of other programs: cargo and curl, podman and kubectl.
    let mut known = options(
        "--release --workspace --lib --test --bench --all-targets --help --version --path --dry-run --list --no-verify \
         --read-only --security-opt --from-file",
    );
    known_options(&Cli::command(), &mut known);
    let root = Path::new(ROOT);
    let mut pages = files_below(&root.join("docs"), ".md");
    pages.push(root.join("README.md"));
    for page in pages {
        let text = read(&page);
        // Sections about other programs may mention their options.
        let ours = text.split("<!-- loadgen -->").next().unwrap();
        let unknown: Vec<_> = options(ours).difference(&known).cloned().collect();
        let name = page.display();
        assert!(
            unknown.is_empty(),
            "{name} names options that do not exist: {unknown:?}"
        );
    }
}

/// Without these a registry refuses a crate, or warns of it; `publish` is a decision.
#[test]
fn every_crate_says_what_it_is_and_whether_it_is_published() {
    for path in files("Cargo.toml") {
        let text = read(&path);
        let Some((_, package)) = text.split_once("[package]\n") else {
            continue;
        };
        let package = package.split("\n[").next().unwrap();
        let has = |key: &str| package.lines().any(|line| line.starts_with(key));
        let name = path.display();
        assert!(has("publish = "), "{name}: publish = true or false");
        assert!(has("license"), "{name}: it needs a license");
        let is_private = has("publish = false");
        assert!(is_private || has("description = "), "{name}: describe it");
        // What a package has beside its manifest: whoever gets only that reads it there.
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            let file = path.with_file_name(file);
            assert!(is_private || file.exists(), "{} lacks", file.display());
        }
    }
}
