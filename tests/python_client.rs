//! Runs the Python client's own tests against this build's node.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use rmbd_testkit::required;

#[test]
fn the_python_clients_tests_pass() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let recent = "import sys; sys.exit(sys.version_info < (3, 9))";
    let probe = Command::new("python3").args(["-c", recent]).status();
    match probe {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return required::skip("there is no python3 on this machine");
        }
        Ok(status) if !status.success() => {
            return required::skip("python3 is older than 3.9, which the client needs");
        }
        other => assert!(other.unwrap().success()),
    }
    let output = Command::new("python3")
        .args(["-W", "error::ResourceWarning", "-m", "unittest"])
        .args(["discover", "-s", "tests", "-t", "."])
        .current_dir(package)
        .env("PYTHONPATH", "src")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("RMBD_BIN", env!("CARGO_BIN_EXE_rmbd"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // All tests ran, and none was skipped.
    assert!(said.contains("Ran ") && !said.contains("skipped"), "{said}");
}
