//! What a test needs of the machine, and does without it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Set (to anything but nothing and 0) where all tests have to run: a test that cannot fails then, in place of
/// being skipped. `.ci/run` sets it.
const REQUIRE_ALL: &str = "RMBD_TESTS_REQUIRE_ALL";

/// Says that this test is skipped, past the harness, which would keep that to itself.
///
/// # Panics
/// Where all tests are required.
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

/// A program where any user may run it, wherever it was built. It goes when dropped.
pub struct Anybody(PathBuf);

impl Anybody {
    pub fn program(built: &str) -> Self {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let number = NUMBERS.fetch_add(1, Relaxed);
        let name = format!("rmbd-anybody-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Fails where no other folder may be on the way to it, too. By another process: a file that this one has
        // open to write is also open in whatever another thread starts at that moment, and cannot be run then.
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
