//! Support for tests.

use std::path::PathBuf;

/// An empty directory for one test.
pub(crate) fn directory(name: &str) -> PathBuf {
    let name = format!("loadgen-test-{name}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the directory for temporary files can be written");
    path
}
