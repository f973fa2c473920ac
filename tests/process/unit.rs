//! Tests of the command line and the environment of the unit for systemd, as they stand in its file.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Stdio;

use rmbd_testkit::required::{Anybody, skip};
use rmbd_testkit::streams::{Kind, Running, Which};

use crate::kept::Scratch;
use crate::nodes::{Node, PROGRAM, loopback, wait_until};

const UNIT: &str = include_str!("../../deploy/systemd/rmbd.service");
const CONFIG: &str = include_str!("../../deploy/debian/rmbd.toml");
/// The number of the user `nobody`, whom every system has.
const NOBODY: u32 = 65_534;

/// The values of a key of the unit.
fn values(key: &str) -> Vec<&'static str> {
    let lines = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(|line| line.split(' ')).collect()
}

/// What systemd has made when it runs the command: folders, and perhaps the credential.
struct Made {
    scratch: Scratch,
    /// A copy of the program that everybody may run.
    program: Anybody,
}

impl Made {
    fn new(name: &str, has_credential: bool) -> Self {
        let scratch = Scratch::new(name);
        let made = Self {
            program: Anybody::program(PROGRAM),
            scratch,
        };
        fs::create_dir_all(made.scratch.path("etc/rmbd")).unwrap();
        fs::write(made.scratch.path("etc/rmbd/rmbd.toml"), CONFIG).unwrap();
        fs::create_dir_all(made.credentials()).unwrap();
        for folder in values("StateDirectory") {
            let folder = made.scratch.path("state").join(folder);
            fs::create_dir_all(&folder).unwrap();
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        if has_credential {
            for credential in values("LoadCredential") {
                let (name, _) = credential.split_once(':').unwrap();
                let path = made.credentials().join(name);
                fs::write(&path, Node::run(&["keygen"]).stdout).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        made
    }

    fn credentials(&self) -> PathBuf {
        self.scratch.path("credentials")
    }

    /// Runs the unit's command as its user would, at this address.
    fn run(&self, address: SocketAddr) -> Running {
        let path = |path: PathBuf| path.into_os_string().into_string().unwrap();
        let (credentials, state) = (path(self.credentials()), path(self.scratch.path("state")));
        let mut words: Vec<String> = format!(
            "--reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs env -i RMBD_ADDRESS={address}"
        )
        .split(' ')
        .map(str::to_owned)
        .collect();
        for variable in values("Environment") {
            words.push(variable.replace("%d", &credentials).replace("%S", &state));
        }
        for word in values("ExecStart") {
            words.push(match word {
                "/usr/bin/rmbd" => path(self.program.path().to_owned()),
                word => word.replace("/etc/", &format!("{}/", path(self.scratch.path("etc")))),
            });
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Running::start("setpriv", &words, Which::Out, Kind::Read, Stdio::null())
    }
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("only root becomes the user of the unit");
    }
    is_root
}

#[test]
fn the_units_command_serves_and_keeps_its_counts() {
    if !is_root() {
        return;
    }
    let made = Made::new("unit", true);
    let udp = SocketAddr::from((loopback(), 8_000));
    for count in 1..3 {
        let running = made.run(udp);
        let mut node = Node { running, udp };
        wait_until("a node that serves", || node.get("/readyz").is_some());
        assert!(node.status().cluster.sealed, "it has the unit's key");
        node.add(1);
        assert_eq!(node.count(), count);
        node.terminate();
        let status = node.running.wait("the unit");
        assert_eq!(status.code(), Some(0), "{}", node.running.error());
    }
    assert!(made.scratch.path("state/rmbd/snapshot").exists());
}

#[test]
fn a_unit_without_its_credential_says_what_it_lacks_and_how_to_make_it() {
    if !is_root() {
        return;
    }
    let made = Made::new("unit-without", false);
    let mut running = made.run(SocketAddr::from((loopback(), 8_000)));
    assert_eq!(running.wait("a unit without a key").code(), Some(1));
    let error = running.error();
    let missing = made.credentials().join("cluster.key");
    let told = format!("can't read the key file {}", missing.display());
    assert!(error.contains(&told), "{error}");
    assert!(error.contains("`rmbd keygen -o FILE` makes one"), "{error}");
    assert_eq!(
        error
            .lines()
            .filter(|line| line.starts_with("error:"))
            .count(),
        1
    );
}
