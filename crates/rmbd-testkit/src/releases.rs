//! Recordings of what releases said and wrote: a folder of texts for each one, below `tests/data/releases`.
//!
//! In these texts a line that begins with `#` is a comment.

use std::fs;
use std::path::{Path, PathBuf};

/// The variable with which tests write the recordings of this version anew (neither empty nor 0).
const RECORD: &str = "RMBD_RECORD_RELEASE";
const FOLDERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/releases");

/// A recording.
#[derive(Debug)]
pub struct Recording {
    /// The release that was recorded.
    pub version: String,
    pub text: String,
}

/// The recordings of this name of all releases. Each release has one.
///
/// # Panics
/// Panics where a release lacks it, or this version has no folder.
pub fn all(name: &str) -> Vec<Recording> {
    let this = Path::new(FOLDERS).join(env!("CARGO_PKG_VERSION"));
    assert!(
        this.is_dir(),
        "this version is not recorded: docs/release.md says how it is done"
    );
    let folders = fs::read_dir(FOLDERS).expect("there are recordings");
    let recording = |folder: PathBuf| Recording {
        version: folder.file_name().unwrap().to_string_lossy().into_owned(),
        text: fs::read_to_string(folder.join(name))
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", folder.display())),
    };
    folders
        .map(|folder| recording(folder.unwrap().path()))
        .collect()
}

/// What was just recorded of this version. It becomes the version's recording if the variable is set.
pub fn keep(name: &str, text: String) -> Recording {
    let record = std::env::var_os(RECORD);
    if record.is_some_and(|value| !value.is_empty() && value != "0") {
        let folder = Path::new(FOLDERS).join(env!("CARGO_PKG_VERSION"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), &text).unwrap();
    }
    Recording {
        version: "just recorded".to_owned(),
        text,
    }
}

/// The lines that are no comments and not empty.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}
