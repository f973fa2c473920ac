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
    if let Some(commit) = output(
        "git",
        &[
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ],
    ) {
        println!("cargo:rustc-env=LOADGEN_COMMIT={commit}");
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    if let Some(version) = output(&rustc, &["--version"]) {
        println!("cargo:rustc-env=LOADGEN_RUSTC={version}");
    }
}

/// The first line that a command prints, if it succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}
