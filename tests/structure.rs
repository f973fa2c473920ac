//! Checks of who may use whom: crates by their manifests, rooms of `src/` by their `use` lines.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rmbd_testkit::tree::files_below;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The crates from the ground up, and the other crates that each uses. Crates for tests are used by tests only.
const CRATES: [(&str, &[&str]); 16] = [
    ("proto", &[]),
    ("testkit", &["proto"]),
    ("sketch", &[]),
    ("pace", &[]),
    ("accept", &[]),
    ("names", &[]),
    ("rules", &[]),
    ("console", &[]),
    ("udp", &[]),
    ("store", &["sketch", "proto"]),
    ("snapshot", &["proto", "store"]),
    ("cluster", &["proto", "pace", "sketch", "store"]),
    ("envoy", &["accept"]),
    ("io", &["udp"]),
    ("client", &["proto", "pace", "names", "udp"]),
    (
        "simulator",
        &[
            "sketch", "proto", "testkit", "store", "cluster", "snapshot", "client",
        ],
    ),
];

/// Rooms of `src/` from the ground up, with the rooms and the crates that each uses.
const ROOMS: &[(&str, &[&str], &[&str])] = &[
    ("engine", &[], &["sketch", "store"]),
    (
        "config",
        &["engine"],
        &["names", "proto", "rules", "sketch", "store"],
    ),
    ("data_dir", &[], &["snapshot"]),
    ("shared", &["engine", "config"], &["io", "rules", "store"]),
    ("status", &["engine"], &["console", "io", "proto", "store"]),
    (
        "cluster_io",
        &["config", "shared", "status"],
        &["cluster", "io", "names", "proto", "store", "udp"],
    ),
    (
        "fronts/datagrams",
        &["engine", "config", "shared", "status"],
        &["io", "proto", "sketch", "store", "udp"],
    ),
    (
        "fronts/envoy",
        &["engine", "config", "shared", "status", "fronts/datagrams"],
        &["envoy", "io", "names", "rules", "store"],
    ),
    (
        "fronts/http",
        &["engine", "config", "shared", "status", "fronts/envoy"],
        &["accept", "envoy", "io", "proto", "store"],
    ),
    (
        "fronts/resp",
        &["engine", "config", "shared", "status", "fronts/datagrams"],
        &["io", "names", "proto", "store"],
    ),
    (
        "fronts/spoe",
        &["engine", "config", "shared", "status", "fronts/datagrams"],
        &["accept", "io", "proto", "store"],
    ),
    (
        "snapshots",
        &["data_dir", "shared", "status", "cluster_io"],
        &["pace", "proto", "snapshot", "store"],
    ),
    (
        "legacy",
        &[
            "config",
            "shared",
            "status",
            "cluster_io",
            "fronts/datagrams",
        ],
        &["cluster", "names", "proto", "store"],
    ),
    (
        "node",
        &[
            "engine",
            "config",
            "data_dir",
            "shared",
            "status",
            "cluster_io",
            "fronts/datagrams",
            "fronts/envoy",
            "fronts/http",
            "fronts/resp",
            "fronts/spoe",
            "snapshots",
            "legacy",
        ],
        &[
            "cluster", "console", "envoy", "io", "names", "proto", "sketch", "snapshot", "store",
            "udp",
        ],
    ),
    (
        "cli",
        &["config", "status", "node"],
        &[
            "client", "cluster", "console", "names", "proto", "rules", "sketch", "snapshot",
            "store",
        ],
    ),
];

/// Crates that only tests and benches use.
const OF_TESTS: [&str; 2] = ["testkit", "simulator"];

/// Crates that a program with a client must not pull in.
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

/// Our crates in one table of a manifest, without the prefix `rmbd-`.
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

/// Lines of code of a room without comments, with the names of their files. Tests are left out, since they may use
/// anything.
fn lines_of_room(room: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for path in files_below(&Path::new(ROOT).join("src").join(room), ".rs") {
        let name = path
            .strip_prefix(ROOT)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        if name.contains("test") {
            continue;
        }
        let text = read(&path);
        let code = text
            .lines()
            .take_while(|line| !line.starts_with("mod tests {"));
        let code = code.filter(|line| !line.trim_start().starts_with("//"));
        lines.extend(code.map(|line| (name.clone(), line.to_owned())));
    }
    lines
}

/// An empty or missing room fails here; otherwise it would pass whatever it did.
#[test]
fn a_room_uses_only_what_the_table_says() {
    for (place, (room, rooms, crates)) in ROOMS.iter().enumerate() {
        for other in *rooms {
            let is_below = ROOMS[..place].iter().any(|(below, ..)| below == other);
            assert!(is_below, "{room} stands below {other}");
        }
        let lines = lines_of_room(room);
        assert!(!lines.is_empty(), "there is nothing in src/{room}/");
        let mut used = BTreeSet::new();
        for (file, line) in lines {
            for (other, ..) in ROOMS.iter().filter(|(other, ..)| other != room) {
                if line.contains(&format!("crate::{}::", other.replace('/', "::"))) {
                    assert!(rooms.contains(other), "{file} uses {other}: {line}");
                    used.insert(*other);
                }
            }
            for (other, _) in CRATES {
                if line.contains(&format!("rmbd_{other}::"))
                    || line.contains(&format!("rmbd_{other} as"))
                {
                    assert!(crates.contains(&other), "{file} uses rmbd-{other}: {line}");
                    used.insert(other);
                }
            }
        }
        for named in rooms.iter().chain(*crates) {
            assert!(
                used.contains(named),
                "{room} does not use {named} any more: take it out of the table"
            );
        }
    }
}

/// Every folder of the program is in the list of rooms, and in the table for readers.
#[test]
fn every_folder_is_a_room() {
    let table = read(Path::new(ROOT).join("src/lib.rs"));
    for name in folders(&Path::new(ROOT).join("src")) {
        let is_known = ROOMS
            .iter()
            .any(|(room, ..)| room.split('/').next() == Some(&name));
        assert!(is_known, "src/{name}/ is no room");
        let is_told = ["`", "[`"]
            .iter()
            .any(|start| table.contains(&format!("//! | {start}{name}`")));
        assert!(is_told, "src/{name}/ is not in the table of src/lib.rs");
    }
}

/// ARCHITECTURE.md names every crate and every room.
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
