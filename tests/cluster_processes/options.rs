//! Tests that impossible options are refused in one line, before anything is started.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::support::folder::{Folder, key};
use crate::support::running::{
    Running, loopback, program, program_for_anybody, run_to_its_end, text, wait_until,
};
use rmbd_testkit::required::skip;

/// The one line with which a start with these options ends.
fn refusal(options: &[&str]) -> String {
    let mut command = program();
    command.args(["127.0.0.1:0", "--http", "off", "-x", "64"]);
    let output = run_to_its_end(command.args(options));
    let error = text(&output.stderr).to_owned();
    assert_eq!(output.status.code(), Some(1), "{options:?}: {error}");
    assert_eq!(text(&output.stdout), "", "{options:?}");
    let is_one_line = error.starts_with("error: ") && error.lines().count() == 1;
    assert!(is_one_line, "{options:?}: {error}");
    error
}

#[test]
fn key_files_that_are_none() {
    let folder = Folder::new();
    let short = folder.file("short", &["abcd"]);
    let nine: Vec<_> = (0..9).map(|_| key()).collect();
    let nine: Vec<_> = nine.iter().map(String::as_str).collect();
    let long = folder.file("long", &nine);
    let twice = folder.file("twice", &[nine[0], nine[0]]);
    let empty = folder.file("empty", &["# nothing", ""]);
    let huge = folder.file("huge", &["0".repeat(3 << 20).as_str()]);
    let binary = folder.path("binary");
    std::fs::write(folder.file("binary", &[]), [0xff; 64]).unwrap();
    let missing = folder.path("missing");
    let directory = folder.path("");
    for (path, word) in [
        (&short, "line 1"),
        (&long, "number 9"),
        (&twice, "repeats"),
        (&empty, "key"),
        (&huge, "key"),
        (&binary, "key"),
        (&missing, "rmbd keygen"),
        (&directory, "key"),
        (&"/dev/zero".to_owned(), "key"),
    ] {
        let error = refusal(&["--cluster-key-file", path]);
        assert!(
            error.contains(word) && error.contains(path.as_str()),
            "{error}"
        );
        // A key is a secret, even a bad one.
        assert!(!error.contains("abcd"), "{error}");
    }
}

#[test]
fn a_key_file_that_others_can_read_is_used_and_warned_of() {
    let folder = Folder::new();
    let keys = folder.file("keys", &[&key()]);
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
    let options = [
        &format!("{}:0", loopback()),
        "-x=64",
        "--cluster-key-file",
        &keys,
    ];
    let node = Running::start(&options);
    assert!(node.status().cluster.sealed);
    let log = node.end().log;
    let warned = log.lines().filter(|line| line.contains("chmod 600"));
    assert_eq!(warned.count(), 1, "{log}");
}

#[test]
fn a_key_file_that_may_not_be_read_is_said_so() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return skip("only root can start it as somebody else");
    }
    let folder = Folder::new();
    let keys = folder.file("keys", &[&key()]);
    std::fs::set_permissions(folder.as_path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (_copy, mut command) = program_for_anybody();
    command.args(["127.0.0.1:0", "--cluster-key-file", &keys]);
    command.uid(NOBODY).gid(NOBODY);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return skip(format!("{NOBODY} may not run the program: {error}")),
    };
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("ermission denied") && error.lines().count() == 1,
        "{error}"
    );
}

#[test]
fn a_folder_is_one_nodes() {
    let folder = Folder::new();
    let path = folder.path("node");
    let address = format!("{}:0", loopback());
    let first = Running::start(&[&address, "-x=64", "--data-dir", &path]);
    let error = refusal(&["--data-dir", &path]);
    assert!(
        error.contains("another rmbd") && error.contains(&path),
        "{error}"
    );
    let number = first.status().cluster.node;
    // This leaves the folder as a killed node leaves it.
    first.kill();
    let second = Running::start(&[&address, "-x=64", "--data-dir", &path]);
    assert_eq!(second.status().cluster.node, number);
    drop(second);
    for content in ["", "no number", "0000000000000000", "1234\n5678"] {
        std::fs::write(folder.path("node/node_id"), content).unwrap();
        let error = refusal(&["--data-dir", &path]);
        assert!(error.contains("node_id"), "{error}");
    }
    let file = folder.file("file", &["x"]);
    for path in [file.as_str(), "/proc/rmbd", "/dev/null"] {
        let error = refusal(&["--data-dir", path]);
        assert!(error.contains("--data-dir"), "{error}");
    }
}

#[test]
fn addresses_that_nobody_can_be_told() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (options, word) in [
        (&["--cluster", &taken][..], "in use"),
        (
            &["--cluster", "192.0.2.1:0", "--insecure-cluster"],
            "192.0.2.1",
        ),
        (&["--cluster", "0.0.0.0:0"], "--cluster-key-file"),
        (
            &["--cluster", "0.0.0.0:0", "--insecure-cluster"],
            "--advertise",
        ),
        (&["--advertise", "0.0.0.0:1"], "unicast"),
        (&["--advertise", "239.1.1.1:1"], "unicast"),
        (&["--max-memory", "1"], "--max-memory"),
    ] {
        let error = refusal(options);
        assert!(error.contains(word), "{options:?}: {error}");
    }
}

/// The name may be known later: the node serves, and logs which look-up failed.
#[test]
fn an_advertised_name_that_nobody_knows_yet_is_looked_up_again() {
    let address = format!("{}:9000", loopback());
    let node = Running::start(&[&address, "-x=64", "--advertise=no.such.host.invalid:1"]);
    node.add("k", 1);
    wait_until("the failed look-up in the log", || {
        let log = node.log();
        let is_said = log.contains("no.such.host.invalid");
        is_said.then_some(()).ok_or(log)
    });
    assert_eq!(node.count("k"), 1);
    assert_eq!(node.end().code, Some(0));
}

/// Neither of these names is an error: the node serves, and tries again.
#[test]
fn seeds_that_lead_nowhere_are_tried_on() {
    let address = format!("{}:9000", loopback());
    let ours = address.replace("9000", "9001");
    let dead = format!("{}:9001", loopback());
    let join = format!("--join=no.such.host.invalid:1,{dead},{ours}");
    let node = Running::start(&[&address, "-x=64", &join]);
    node.add("k", 1);
    node.wait("rounds", |status| status.cluster.rounds > 3);
    let status = node.status();
    assert!(status.cluster.members.is_empty(), "{:?}", status.cluster);
    assert_eq!(node.count("k"), 1);
    assert_eq!(node.end().code, Some(0));
}
