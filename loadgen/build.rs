//! Tells the program which commit and which compiler it was built from. Without git it knows no
//! commit and says so.

// This is how it speaks to cargo.
#![allow(clippy::print_stdout)]

use std::process::Command;

fn main() {
    for path in ["src", "../src", "../Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for file in ["HEAD", "index"] {
        if let Some(path) = output("git", &["rev-parse", "--git-path", file]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    if let Some(commit) = output("git", &["rev-parse", "--short=12", "HEAD"]) {
        let dirty = if is_changed() { "-dirty" } else { "" };
        println!("cargo:rustc-env=LOADGEN_COMMIT={commit}{dirty}");
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    if let Some(version) = output(&rustc, &["--version"]) {
        println!("cargo:rustc-env=LOADGEN_RUSTC={version}");
    }
}

/// Whether files of the commit are not as they are in it.
fn is_changed() -> bool {
    // Where git may, it notes in its index what it has looked at. The index is watched above: all would be built again.
    let looks = [
        "--no-optional-locks",
        "status",
        "--porcelain",
        "--untracked-files=no",
    ];
    output("git", &looks).is_some()
}

/// The first line that a command prints, if it succeeds and the line is not empty.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}
