//! Who may use whom: crates by their manifests, rooms of `src/` by their `use` lines.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Crates from the ground up, and which of the others each uses. Those of tests are used by tests only.
const CRATES: [(&str, &[&str]); 12] = [
    ("sketch", &[]),
    ("proto", &[]),
    ("pace", &[]),
    ("names", &[]),
    ("console", &[]),
    ("udp", &[]),
    ("testkit", &["proto"]),
    ("store", &["sketch", "proto"]),
    ("cluster", &["sketch", "proto", "pace", "store"]),
    ("io", &["udp"]),
    ("client", &["proto", "pace", "names", "udp"]),
    (
        "simulator",
        &["sketch", "proto", "store", "cluster", "client"],
    ),
];

/// Crates that only tests and benches use.
const OF_TESTS: [&str; 2] = ["testkit", "simulator"];

/// What a program that counts does not want to pull in.
const NOT_FOR_CLIENTS: [&str; 7] = [
    "axum",
    "clap",
    "foca",
    "hyper",
    "io-uring",
    "rmbd-io",
    "tokio-uring",
];

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of the folders in a folder.
fn folders(path: &Path) -> BTreeSet<String> {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// All sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found
}

/// Our crates in one table of a manifest, without `rmbd-`.
fn ours(manifest: &str, table: &str) -> BTreeSet<String> {
    let header = format!("[{table}]");
    let lines = manifest.lines().skip_while(|line| *line != header).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.strip_prefix("rmbd-"))
        .map(|line| line.split(['.', ' ']).next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_crate_uses_only_what_the_table_says() {
    let there: BTreeSet<_> = folders(&Path::new(ROOT).join("crates"));
    let named: BTreeSet<_> = CRATES
        .iter()
        .map(|(name, _)| format!("rmbd-{name}"))
        .collect();
    assert_eq!(
        there, named,
        "a crate moved, or is new: the table has to say whom it may use"
    );
    for (place, (name, uses)) in CRATES.iter().enumerate() {
        let folder = Path::new(ROOT).join(format!("crates/rmbd-{name}"));
        assert!(folder.join("src/lib.rs").exists(), "rmbd-{name} is empty");
        let manifest = read(folder.join("Cargo.toml"));
        let uses: BTreeSet<_> = uses.iter().map(|&it| it.to_owned()).collect();
        assert_eq!(ours(&manifest, "dependencies"), uses, "rmbd-{name}");
        let below: BTreeSet<_> = CRATES[..place]
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        assert!(
            uses.is_subset(&below),
            "rmbd-{name} uses what stands above it"
        );
        let for_tests = ours(&manifest, "dev-dependencies");
        assert!(
            for_tests.is_subset(&below),
            "the tests of rmbd-{name} use what stands above it"
        );
        let is_of_tests = OF_TESTS.contains(name);
        assert_eq!(
            manifest.contains("\npublish = false\n"),
            is_of_tests,
            "rmbd-{name}: published or not"
        );
    }
    for program in ["Cargo.toml", "loadgen/Cargo.toml"] {
        let used = ours(&read(Path::new(ROOT).join(program)), "dependencies");
        assert!(!used.is_empty(), "{program}");
        assert!(
            OF_TESTS.iter().all(|it| !used.contains(*it)),
            "{program} uses a crate of tests"
        );
    }
}

#[test]
fn a_client_pulls_in_no_server() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            "rmbd-client",
            "--all-features",
        ])
        .args(["--edges", "normal,build", "--prefix", "none"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let tree = String::from_utf8(tree.stdout).unwrap();
    let used: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(
        used.contains("rmbd-proto") && used.contains("tokio"),
        "{used:?}"
    );
    for unwanted in NOT_FOR_CLIENTS {
        assert!(
            !used.contains(unwanted),
            "{unwanted} comes with rmbd-client"
        );
    }
}

/// The rooms of `src/` that a room of it may use: those above it in the table of `src/lib.rs`.
#[test]
fn a_room_uses_only_rooms_below_it() {
    let library = read(Path::new(ROOT).join("src/lib.rs"));
    let order: Vec<_> = library
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`")?.split('`').next())
        .collect();
    let place: BTreeMap<_, _> = order
        .iter()
        .enumerate()
        .map(|(place, &room)| (room, place))
        .collect();
    let there = folders(&Path::new(ROOT).join("src"));
    let named: BTreeSet<_> = order.iter().map(|&room| room.to_owned()).collect();
    assert_eq!(there, named, "the table of rooms in src/lib.rs is not true");
    for room in &order {
        let files = sources(&Path::new(ROOT).join("src").join(room));
        assert!(!files.is_empty(), "src/{room} is empty");
        for path in files
            .iter()
            .filter(|path| !path.to_string_lossy().contains("test"))
        {
            let text = read(path);
            let code = text
                .lines()
                .take_while(|line| !line.starts_with("mod tests {"));
            for line in code.filter(|line| !line.trim_start().starts_with("//")) {
                let used = line.split("crate::").skip(1);
                let used = used.map(|rest| {
                    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                        .next()
                        .unwrap()
                });
                for other in used.filter(|other| place.contains_key(other)) {
                    let name = path.display();
                    assert!(
                        place[other] <= place[room],
                        "{name} uses {other}, which stands above {room}: {line}"
                    );
                }
            }
        }
    }
}

/// Whoever looks for a room in ARCHITECTURE.md finds it.
#[test]
fn the_map_names_every_crate_and_every_room() {
    let map = read(Path::new(ROOT).join("ARCHITECTURE.md"));
    for (name, _) in CRATES {
        assert!(
            map.contains(&format!("`rmbd-{name}`")),
            "ARCHITECTURE.md lacks rmbd-{name}"
        );
    }
    for room in folders(&Path::new(ROOT).join("src")) {
        assert!(
            map.contains(&format!("`src/{room}`")),
            "ARCHITECTURE.md lacks src/{room}"
        );
    }
}
