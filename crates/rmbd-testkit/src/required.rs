//! What tests need of the machine, and what they do without it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The variable that makes all tests run. If it is set (neither empty nor 0), a test that cannot run fails instead of
/// being skipped. `.ci/run` sets it.
const REQUIRE_ALL: &str = "RMBD_TESTS_REQUIRE_ALL";

/// Reports that this test is skipped. The line goes past the test harness, which would not show it.
///
/// # Panics
/// Panics if all tests are required.
pub fn skip(missing: impl std::fmt::Display) {
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test");
    let required = std::env::var_os(REQUIRE_ALL);
    if required.is_some_and(|value| !value.is_empty() && value != "0") {
        panic!("{test} cannot run, and {REQUIRE_ALL} is set: {missing}");
    }
    let line = format!("skipped {test}: {missing}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A copy of a program that any user may run, wherever it was built. The copy is removed when dropped.
pub struct Anybody(PathBuf);

impl Anybody {
    pub fn program(built: &str) -> Self {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let number = NUMBERS.fetch_add(1, Relaxed);
        let name = format!("rmbd-anybody-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // This fails if no other folder is reachable for everybody either. Another process copies the file: a file
        // that this process has open for writing is also open in any process that another thread starts at that
        // moment, and cannot be run then.
        let copied = Command::new("cp").arg(built).arg(&path).status();
        let copied = copied.expect("cp runs").success();
        assert!(copied, "the folder for temporary files takes no program");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Anybody {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
