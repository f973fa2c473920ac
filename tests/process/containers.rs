//! Tests of what is shipped for containers: manifests, and the profile of system calls.

use std::process::Command;

use rmbd_testkit::required::skip;

use crate::nodes::PROGRAM;

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/check.py");

/// What the check of the manifests says; `None` where it cannot run here.
fn checked(words: &[&str]) -> Option<(bool, String)> {
    let output = Command::new("python3").arg(CHECK).args(words).output();
    let output = output.expect("python3: apt-get install python3");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    match output.status.code() {
        Some(2) => {
            skip(said);
            None
        }
        code => Some((code == Some(0), said)),
    }
}

#[test]
fn manifests_are_what_kubernetes_and_the_program_take() {
    if let Some((is_well, said)) = checked(&[PROGRAM]) {
        assert!(is_well, "{said}");
    }
}

/// A misspelled probe, a wrong port, a volume that is missing, and others.
#[test]
fn mistakes_in_manifests_are_found() {
    if let Some((are_found, said)) = checked(&["--mutations", PROGRAM]) {
        assert!(are_found, "{said}");
        assert!(said.lines().count() > 20, "{said}");
    }
}
