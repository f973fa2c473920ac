//! Tests of what a node keeps in its folder: over ends and crashes, with bad files, and on disks that make trouble.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rmbd::status::SnapshotFilesStatus;
use rmbd_proto::snapshot_file::{FILE_MAGIC, FORMAT, FileHead, Kind, begin_block, end_block};

use crate::nodes::{Node, PROGRAM, wait_until};
use rmbd_testkit::required::{Anybody, skip};
use rmbd_testkit::streams::{self, Which};

/// The number of the user `nobody`, whom every system has.
const NOBODY: u32 = 65_534;

/// A folder for everybody that is removed after the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("rmbd-kept-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn snapshot(&self) -> Vec<u8> {
        fs::read(self.path("snapshot")).unwrap()
    }

    pub(crate) fn words<'a>(&'a self, interval: &'a str) -> [&'a str; 4] {
        let folder = self.0.to_str().unwrap();
        ["--data-dir", folder, "--snapshot-interval", interval]
    }

    fn start(&self, interval: &str) -> Node {
        self.start_by(&[PROGRAM], interval)
    }

    fn start_by(&self, by: &[&str], interval: &str) -> Node {
        let node = Node::start_by(by, Which::Out, streams::Kind::Read, &self.words(interval));
        wait_until("a node that serves", || node.get("/readyz").is_some());
        node
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads the output of a command that ends well.
pub(crate) fn said(node: &Node, words: &[&str]) -> String {
    let output = node.command(words);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn files(node: &Node) -> SnapshotFilesStatus {
    node.status().snapshot_files
}

/// Ends a node in order. Returns its exit code and its log.
fn end(mut node: Node) -> (Option<i32>, String) {
    node.terminate();
    let status = node.running.wait("the end");
    (status.code(), node.running.error())
}

fn kill(mut node: Node) {
    node.signal(libc::SIGKILL);
    node.running.wait("kill -9");
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("only root mounts, and becomes another user");
    }
    is_root
}

#[test]
fn ends_and_crashes_forget_nothing_that_is_on_the_disk() {
    for cluster in [&[][..], &["--cluster", "off"]] {
        let scratch = Scratch::new(if cluster.is_empty() { "alone" } else { "off" });
        let start = || {
            let words = [&scratch.words("0")[..], cluster].concat();
            let node = Node::start_by(&[PROGRAM], Which::Out, streams::Kind::Read, &words);
            wait_until("a node that serves", || node.get("/readyz").is_some());
            node
        };
        let node = start();
        let writer = node.status().cluster.writer;
        node.add(5);
        let text = said(&node, &["snapshot", "now"]);
        assert!(text.starts_with("a snapshot file of "), "{text}");
        let text = said(&node, &["snapshot", "now"]);
        assert!(text.starts_with("nothing new"), "{text}");
        node.add(1);
        kill(node);
        // What came behind the file is lost with the machine; the rest is of an earlier writer now.
        let node = start();
        assert_eq!(node.count(), 5);
        let crashed = node.status().cluster.writer;
        assert_ne!(crashed, writer);
        node.add(3);
        let (code, log) = end(node);
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("goes on from there"), "{log}");
        let node = start();
        assert!(node.count() == 8 && files(&node).loaded.unwrap().is_resumed);
        kill(node);
        // The mark of the clean end was used up.
        let node = start();
        assert!(node.count() == 8 && !files(&node).loaded.unwrap().is_resumed);
        let file = scratch.path("snapshot");
        for (command, begins) in [("check", ""), ("show", "{")] {
            let output = Command::new(PROGRAM)
                .args(["snapshot", command])
                .arg(&file)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(0), "{command}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.starts_with(begins) && !text.is_empty(), "{text}");
        }
    }
}

/// A client that adds exactly once repeats while nobody is there, and is told that its add was made, once.
#[test]
fn a_client_goes_on_through_a_clean_restart() {
    let scratch = Scratch::new("client");
    let mut node = scratch.start("0");
    let udp = node.udp;
    let mut client = node.client();
    for start in 1..4 {
        client.add("k", 1).unwrap();
        assert_eq!(end(node).0, Some(0));
        let words = scratch.words("0");
        node = std::thread::scope(|scope| {
            let add = scope.spawn(|| client.add("k", 1));
            // It is sent into the gap, when there is nobody.
            std::thread::sleep(Duration::from_millis(50));
            let node = Node::start_at(udp, &[PROGRAM], Which::Out, streams::Kind::Read, &words);
            add.join().unwrap().unwrap();
            node
        });
        assert_eq!(node.count(), 2 * start);
    }
}

#[test]
fn two_processes_are_not_one_node() {
    let scratch = Scratch::new("two");
    let node = scratch.start("1s");
    node.add(5);
    let words = scratch.words("1s");
    let mut other = Node::start_with(Which::Out, streams::Kind::Read, &words);
    assert_eq!(other.running.wait("another").code(), Some(1));
    let error = other.running.error();
    assert!(
        error.contains("another rmbd runs with --data-dir"),
        "{error}"
    );
    wait_until("a file", || files(&node).written > 0);
    assert_eq!(node.count(), 5);
}

/// Makes something in the place of a snapshot file.
type Make<'a> = Box<dyn Fn() + 'a>;

/// What may be in the place of a snapshot file, and the reason that the file's name tells then.
fn bad_files<'a>(scratch: &'a Scratch, whole: &'a [u8]) -> Vec<(&'static str, Make<'a>)> {
    let path = || scratch.path("snapshot");
    let put = move |bytes: Vec<u8>| -> Make<'a> {
        let path = path();
        Box::new(move || fs::write(&path, &bytes).unwrap())
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.to_vec();
        bytes[at] = byte;
        bytes
    };
    let last = whole.len() - 1;
    vec![
        ("cut-off", put(Vec::new())),
        ("cut-off", put(whole[..last / 2].to_vec())),
        ("damaged", put(with(last / 2, whole[last / 2] ^ 1))),
        (
            "other-file",
            put(b"something else, and long enough".to_vec()),
        ),
        ("later-format", put(of_a_later_release())),
        (
            "link",
            Box::new(move || {
                fs::write(scratch.path("elsewhere"), whole).unwrap();
                symlink(scratch.path("elsewhere"), path()).unwrap();
            }),
        ),
        ("no-file", Box::new(move || fs::create_dir(path()).unwrap())),
    ]
}

/// A file of the next format, as far as this release can know it.
fn of_a_later_release() -> Vec<u8> {
    let mut bytes = FILE_MAGIC.to_vec();
    let start = begin_block(Kind::Head, &mut bytes);
    let head = FileHead {
        format: FORMAT + 1,
        ..FileHead::default()
    };
    head.write(&mut bytes);
    end_block(start, 0, &mut bytes);
    bytes
}

#[test]
fn a_file_that_cannot_be_used_is_set_aside_and_the_node_starts() {
    let scratch = Scratch::new("bad");
    let node = scratch.start("0");
    node.add(5);
    assert_eq!(end(node).0, Some(0));
    let whole = scratch.snapshot();
    let mut number = 0;
    for (reason, make) in bad_files(&scratch, &whole) {
        number += 1;
        let case = format!("{number} {reason}");
        fs::remove_file(scratch.path("snapshot")).unwrap();
        make();
        let node = scratch.start("0");
        assert_eq!(node.count(), 0, "{case}");
        let told = files(&node);
        let aside = told.set_aside.last().unwrap();
        let name = aside.file.as_deref().unwrap();
        assert!(
            name.starts_with("snapshot.bad-2") && name.ends_with(reason),
            "{name}"
        );
        assert!(
            told.loaded.is_none() && aside.reason.is_some(),
            "{case}: {told:?}"
        );
        assert_eq!(told.set_aside.len(), number.min(4), "{case}");
        assert!(scratch.path(name).symlink_metadata().is_ok(), "{case}");
        let text = said(&node, &["status"]);
        assert!(text.contains(&format!("set aside  {name}: ")), "{text}");
        node.add(1);
        let (code, log) = end(node);
        assert_eq!(code, Some(0), "{case}: {log}");
        assert_eq!(log.matches("cannot be used").count(), 1, "{case}: {log}");
    }
    assert_eq!(
        fs::read(scratch.path("elsewhere")).unwrap(),
        whole,
        "nobody's file"
    );
    // A file of another node is not ours.
    fs::write(scratch.path("node_id"), "00000000000000ab\n").unwrap();
    let node = scratch.start("0");
    assert_eq!(node.count(), 0);
    let aside = files(&node).set_aside.pop().unwrap();
    assert!(aside.file.is_some_and(|it| it.ends_with("-other-node")));
}

#[test]
fn a_folder_that_is_removed_is_said_and_counting_goes_on() {
    let scratch = Scratch::new("removed");
    let node = scratch.start("1s");
    node.add(5);
    wait_until("a file", || files(&node).written > 0);
    fs::remove_dir_all(&scratch.0).unwrap();
    node.add(5);
    wait_until("failures", || files(&node).failures > 1);
    assert_eq!(node.count(), 10);
    assert_eq!(node.get("/healthz").as_deref(), Some("ok\n"));
    let output = node.command(&["snapshot", "now"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("No such file or directory"), "{error}");
    let (code, log) = end(node);
    assert_eq!(code, Some(1), "{log}");
    let once = log.matches("no snapshot file was written").count();
    assert!(
        once == 1 && log.contains("the last snapshot file was not written"),
        "{log}"
    );
}

/// The disk is a small one of the node's own. Others see it by way of the process.
#[test]
fn a_full_disk_is_said_and_the_file_before_stands() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new("full");
    let folder = scratch.0.to_str().unwrap();
    let mount = format!("mount -t tmpfs -o size=20k,mode=700 tmpfs {folder} && exec \"$0\" \"$@\"");
    let node = scratch.start_by(&["unshare", "--mount", "sh", "-c", &mount, PROGRAM], "0");
    node.add(5);
    said(&node, &["snapshot", "now"]);
    let seen = PathBuf::from(format!("/proc/{}/root{folder}", node.running.child.id()));
    let before = fs::read(seen.join("snapshot")).unwrap();
    let keys: Vec<String> = (0..9_000).map(|key| format!("{key}-some-key")).collect();
    for keys in keys.chunks(1_000) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        said(&node, &[&["add"], &keys[..]].concat());
    }
    let output = node.command(&["snapshot", "now"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(fs::read(seen.join("snapshot")).unwrap(), before);
    assert!(!seen.join("snapshot.new").exists());
    let metrics = node.get("/metrics").unwrap();
    assert!(
        metrics.contains("\nrmbd_snapshot_files_failed_total 1\n"),
        "{metrics}"
    );
    // Where there is room again, it is written.
    let bigger = format!("mount -o remount,size=20m {folder}");
    let pid = node.running.child.id().to_string();
    let nsenter = ["--target", &pid, "--mount", "sh", "-c", &bigger];
    let mounted = Command::new("nsenter").args(nsenter).status().unwrap();
    assert!(mounted.success());
    said(&node, &["snapshot", "now"]);
    assert_eq!(files(&node).failure, None);
    let (code, log) = end(node);
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_disk_that_is_only_read_is_refused_at_the_start() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new("read-only");
    let node = scratch.start("0");
    node.add(5);
    assert_eq!(end(node).0, Some(0));
    let before = scratch.snapshot();
    let folder = scratch.0.to_str().unwrap();
    let mount = format!(
        "mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} && exec \"$0\" \"$@\""
    );
    let by = ["unshare", "--mount", "sh", "-c", &mount, PROGRAM];
    let mut node = Node::start_by(&by, Which::Out, streams::Kind::Read, &scratch.words("0"));
    assert_eq!(node.running.wait("read-only").code(), Some(1));
    let error = node.running.error();
    assert!(error.contains("Read-only file system"), "{error}");
    assert_eq!(scratch.snapshot(), before);
    let node = scratch.start("0");
    assert_eq!(node.count(), 5);
    assert!(files(&node).loaded.unwrap().is_resumed);
}

/// Another user's program, in a folder whose rights change under it.
#[test]
fn without_permission_it_is_said_and_counting_goes_on() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new("permission");
    let set_mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&scratch.0, mode).unwrap();
    };
    chown(&scratch.0, Some(NOBODY), Some(NOBODY)).unwrap();
    set_mode(0o700);
    let copy = Anybody::program(PROGRAM);
    let copy = copy.path().to_str().unwrap();
    let id = NOBODY.to_string();
    let by = [
        "setpriv",
        "--reuid",
        &id,
        "--regid",
        &id,
        "--clear-groups",
        copy,
    ];
    let node = scratch.start_by(&by, "0");
    node.add(5);
    said(&node, &["snapshot", "now"]);
    set_mode(0o500);
    node.add(1);
    let output = node.command(&["snapshot", "now"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("Permission denied"), "{error}");
    set_mode(0o700);
    assert_eq!(end(node).0, Some(0));
    // In a folder with the sticky bit, what others have made cannot be removed: not the mark, and so this start begins
    // as another writer.
    let mark = scratch.path("clean_end");
    chown(&scratch.0, Some(0), Some(0)).unwrap();
    set_mode(0o1777);
    chown(&mark, Some(0), Some(0)).unwrap();
    fs::set_permissions(&mark, fs::Permissions::from_mode(0o644)).unwrap();
    let node = scratch.start_by(&by, "0");
    assert_eq!(node.count(), 6);
    assert!(mark.exists() && !files(&node).loaded.unwrap().is_resumed);
    kill(node);
    set_mode(0o700);
}
