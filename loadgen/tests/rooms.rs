//! The rooms of the load generator are those of the table in `lib.rs`, from the ground up, and each uses only
//! rooms that stand above it there.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rmbd_testkit::tree::files_below;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// Rooms as the table has them: `| [`record`] | what a run found |`.
fn rooms() -> Vec<String> {
    let text = fs::read_to_string(format!("{SOURCES}/lib.rs")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    let names = rows.filter_map(|row| row.trim_start_matches('[').strip_prefix('`'));
    names
        .map(|rest| rest.split('`').next().unwrap().to_owned())
        .collect()
}

/// Sources of a room: a folder, or a file of that name.
fn files(room: &str) -> Vec<PathBuf> {
    let (file, folder) = (format!("{SOURCES}/{room}.rs"), format!("{SOURCES}/{room}"));
    let mut found = Vec::new();
    if Path::new(&file).is_file() {
        found.push(file.into());
    }
    if Path::new(&folder).is_dir() {
        found.extend(files_below(Path::new(&folder), ".rs"));
    }
    found
}

/// Rooms that a text names: `crate::room::`.
fn used(text: &str) -> BTreeSet<&str> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let paths = code.flat_map(|line| line.split("crate::").skip(1));
    paths
        .map(|rest| {
            rest.split(|c: char| !c.is_ascii_lowercase())
                .next()
                .unwrap()
        })
        .collect()
}

#[test]
fn the_table_names_all_rooms_and_no_other() {
    let listed: BTreeSet<String> = rooms().into_iter().collect();
    let there: BTreeSet<String> = fs::read_dir(SOURCES)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "lib" && name != "main")
        .collect();
    assert_eq!(listed, there);
    for room in &listed {
        let has_code = |path: &PathBuf| !fs::read_to_string(path).unwrap().trim().is_empty();
        assert!(files(room).iter().any(has_code), "{room} is empty");
    }
}

#[test]
fn a_room_uses_only_rooms_below_it() {
    let rooms = rooms();
    assert!(rooms.len() > 10, "{rooms:?}");
    for (floor, room) in rooms.iter().enumerate() {
        let at_most = &rooms[..=floor];
        for path in files(room) {
            let text = fs::read_to_string(&path).unwrap();
            for other in used(&text) {
                let is_room = at_most.iter().any(|below| below == other);
                assert!(is_room, "{}: {room} uses {other}", path.display());
            }
        }
    }
}

#[test]
fn the_check_sees_what_it_should() {
    let text = "use crate::record::{A, B};\n// crate::versus::C\nlet x = crate::output::exact(1);";
    assert_eq!(used(text), BTreeSet::from(["output", "record"]));
}
