//! `loadgen versus` as a person runs it, with real servers; without them a line says so, or the tests fail where
//! all are required.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use loadgen::versus::Comparison;
use rustix::process::{Pid, Signal, kill_process};

const NOT_INSTALLED: &str = "is not installed";

fn versus(peer: &str, rounds: &str, directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args([
        "versus",
        peer,
        "--start",
        "--keys",
        "zipf:1.1:2000",
        "--counts",
        "50",
    ]);
    command.args([
        "--adds",
        "20000",
        "--rounds",
        rounds,
        "--distinct",
        "1000,5000",
    ]);
    command
        .args(["--width", "65536", "--record"])
        .arg(directory);
    command
}

fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    directory
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The only record in a directory.
fn record(directory: &Path) -> (Comparison, String) {
    let files = fs::read_dir(directory).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let [json, page] = &paths[..] else {
        panic!("{paths:?}");
    };
    let json = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    (json, fs::read_to_string(page).unwrap())
}

#[test]
fn a_record_is_left_of_each_server() {
    for (peer, name) in [("redis://", "redis"), ("memcached://", "memcached")] {
        let directory = directory(&format!("versus-{name}"));
        let output = versus(peer, "2", &directory).output().unwrap();
        let said = said(&output);
        if said.contains(NOT_INSTALLED) {
            rmbd_testkit::required::skip(format!("{name}: {said}"));
            continue;
        }
        assert!(output.status.success(), "{said}");
        let table = String::from_utf8(output.stdout).unwrap();
        let (comparison, page) = record(&directory);
        for row in [
            "adds/s",
            "server CPU per add",
            "adds lost",
            "count, 99 %",
            "memory after 5.00 k keys",
        ] {
            assert!(
                table.contains(row) && page.contains(row),
                "{row}\n{table}\n{page}"
            );
        }
        let Comparison { ours, theirs, .. } = &comparison;
        assert!(theirs.name.starts_with(name));
        for side in [ours, theirs] {
            assert_eq!(side.turns.len(), 2);
            assert_eq!(side.lost(), 0);
            assert!(side.cpu_ns_per_add().unwrap().min > 0.0);
            assert_eq!(side.counts.as_ref().unwrap().count, 50);
            assert_eq!(
                side.memory
                    .iter()
                    .map(|m| m.distinct_keys)
                    .collect::<Vec<_>>(),
                [1000, 5000]
            );
            let checked = side.checked.unwrap();
            assert_eq!((checked.keys, checked.below), (1000, 0));
            assert!(page.contains(side.server_command.as_ref().unwrap()));
        }
        assert_eq!(theirs.checked.unwrap().exact, 1000);
    }
}

#[test]
fn ctrl_c_leaves_what_there_is_and_no_server() {
    let directory = directory("versus-interrupted");
    let log = directory.with_extension("log");
    let mut command = versus("redis://", "1000000", &directory);
    command
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let said = || fs::read_to_string(&log).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut interrupted = false;
    while child.try_wait().unwrap().is_none() {
        if !interrupted && said().contains("round 2") {
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
            interrupted = true;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it goes on: {}", said());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if said().contains(NOT_INSTALLED) {
        return rmbd_testkit::required::skip(said());
    }
    assert!(said().contains("ended early: interrupted"), "{}", said());
    let (comparison, page) = record(&directory);
    assert_eq!(comparison.ended_early.as_deref(), Some("interrupted"));
    assert!(page.contains("**Ended early**: interrupted"));
    for side in [&comparison.ours, &comparison.theirs] {
        assert!(nobody_runs(side.server_command.as_ref().unwrap()));
    }
}

#[test]
fn a_node_ends_with_a_generator_that_is_killed() {
    let directory = directory("versus-killed");
    let mut child = versus("redis://", "1000000", &directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    // The node is started first, then the other server, which has our name until it runs its own program.
    let is_other = |(_, name): &(i32, String)| !name.starts_with("loadgen");
    while !children(child.id()).iter().any(is_other) && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "no servers");
        std::thread::sleep(Duration::from_millis(10));
    }
    let servers = children(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    let (others, nodes): (Vec<_>, Vec<_>) = servers.into_iter().partition(is_other);
    // Redis knows nothing of us.
    for (id, _) in &others {
        let _ = kill_process(Pid::from_raw(*id).unwrap(), Signal::KILL);
    }
    if others.is_empty() {
        return rmbd_testkit::required::skip("no redis-server");
    }
    assert_eq!(nodes.len(), 1);
    // A zombie is one that has ended, too: who inherits it may not wait for it.
    let runs = |id: i32| stat(id).is_some_and(|(_, state, _)| state != "Z");
    while runs(nodes[0].0) {
        assert!(Instant::now() < deadline, "the node goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Name, state and parent of a process.
fn stat(id: i32) -> Option<(String, String, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.split_once('(')?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.to_owned();
    Some((name.to_owned(), state, fields.next()?.parse().ok()?))
}

/// Ids and names.
fn children(parent: u32) -> Vec<(i32, String)> {
    let processes = fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(|id| {
        let (name, _, of) = stat(id)?;
        (of == parent).then_some((id, name))
    })
    .collect()
}

/// Ports are in the commands, so no two are the same.
fn nobody_runs(command: &str) -> bool {
    let port = command
        .split(' ')
        .skip_while(|word| *word != "--port")
        .nth(1);
    let Some(port) = port else { return true };
    std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err()
}
