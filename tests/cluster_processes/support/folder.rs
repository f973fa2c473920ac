//! Folders and key files that are removed after the test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::running::program;

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let number = NUMBERS.fetch_add(1, Relaxed);
        let name = format!("rmbd-processes-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A path in the folder, for the value of an option.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file with these lines into the folder. Only its owner can read it.
    pub(crate) fn file(&self, name: &str, lines: &[&str]) -> String {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.path(name);
        let mut options = std::fs::OpenOptions::new();
        let mut file = (options.write(true).create(true).truncate(true).mode(0o600))
            .open(&path)
            .unwrap();
        file.write_all(lines.join("\n").as_bytes()).unwrap();
        path
    }

    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A key as `rmbd keygen` makes it.
pub(crate) fn key() -> String {
    let output = program().arg("keygen").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let is_key = |line: &&str| !line.starts_with('#');
    text.lines().find(is_key).unwrap().to_owned()
}
