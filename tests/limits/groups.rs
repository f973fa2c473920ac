//! Tests of nodes in real control groups of version 1: half a CPU, little memory, few tasks.
//!
//! If the groups cannot be made (no root, or version 2 only) the tests report that on standard error, past the
//! harness. Version 2 is tested with a made-up root in `io::cgroup`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::running::{Outcome, Program, is_root, judge};

/// A group below this process's own, which is removed when dropped.
struct Group(PathBuf);

impl Group {
    /// Makes a group. If it cannot be made, this reports that, and returns `None`.
    fn new(controller: &str, name: &str) -> Option<Self> {
        let made = own_group(controller).and_then(|own| {
            let group = own.join(format!("rmbd-test-{}-{name}", std::process::id()));
            fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
            Ok(Self(group))
        });
        made.map_err(|reason| {
            let text = format!("NOT TRIED: a real control group with {controller} ({reason})");
            // The line does not go by the macro, whose output the harness hides.
            let _ = writeln!(std::io::stderr(), "\n{text}");
        })
        .ok()
    }

    fn set(&self, file: &str, value: &str) {
        let path = self.0.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// A command for a node inside the group, with all CPUs of the machine.
    fn node(&self, program: &Program, more: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let enter = "echo $$ > \"$0\" && exec \"$@\"";
        command.args(["-c", enter]).arg(self.0.join("cgroup.procs"));
        command.arg(program.path()).arg("127.0.0.1:0").args(more);
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The group's processes are gone, and the kernel may take a moment to notice.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// The folder of this process's group in the hierarchy of version 1 that has this controller, if all of it is
/// mounted.
fn own_group(controller: &str) -> Result<PathBuf, String> {
    if !is_root() {
        return Err("needs root".to_owned());
    }
    let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let has = fields.next()?.split(',').any(|it| it == controller);
        has.then(|| fields.next())?
    });
    let path = path.ok_or("no hierarchy of version 1 has it: mount one, such as with systemd.unified_cgroup_hierarchy=0")?;
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
    let point = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let is_it = fields[2] == "cgroup" && fields[3].split(',').any(|it| it == controller);
        is_it.then(|| fields[1].to_owned())
    });
    let point = point.ok_or("it is not mounted")?;
    Ok(Path::new(&point).join(path.trim_start_matches('/')))
}

#[test]
fn a_node_has_a_data_thread_for_each_whole_cpu_of_its_quota() {
    let Some(group) = Group::new("cpu", "quota") else {
        return;
    };
    let program = Program::for_user(0);
    let machine = std::thread::available_parallelism().unwrap().get();
    // The limit is in the group itself, and then in one above it.
    let below = Group(group.0.join("below"));
    fs::create_dir(&below.0).unwrap();
    for (quota_us, expected) in [(50_000, 1), (150_000, 1), (200_000, 2), (100_000 * 64, 64)] {
        group.set("cpu.cfs_quota_us", &quota_us.to_string());
        for place in [&group, &below] {
            let outcome = judge(
                &format!("{quota_us} us"),
                &mut place.node(&program, &["-x", "4096"]),
            );
            let Outcome::Lived { threads, .. } = outcome else {
                panic!("{quota_us} us: {outcome:?}");
            };
            assert_eq!(threads, expected.min(machine), "{quota_us} us of 100 000");
        }
    }
    // A number that is asked for is used.
    group.set("cpu.cfs_quota_us", "50000");
    let outcome = judge(
        "asked",
        &mut group.node(&program, &["-x", "4096", "--threads", "2"]),
    );
    assert!(
        matches!(outcome, Outcome::Lived { threads: 2, .. }),
        "{outcome:?}"
    );
    drop(below);
}

#[test]
fn a_sketch_that_its_group_has_no_memory_for_is_refused() {
    let Some(group) = Group::new("memory", "bytes") else {
        return;
    };
    let program = Program::for_user(1);
    group.set("memory.limit_in_bytes", "100000000");
    let outcome = judge(
        "memory",
        &mut group.node(&program, &["-x", "16777216", "-y", "4"]),
    );
    let Outcome::Refused(line) = outcome else {
        panic!("{outcome:?}");
    };
    for word in [
        "99999744",
        "memory.limit_in_bytes",
        group.0.to_str().unwrap(),
        "-x, -y",
    ] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let outcome = judge("memory", &mut group.node(&program, &["-x", "4096"]));
    assert!(matches!(outcome, Outcome::Lived { .. }), "{outcome:?}");
}

/// A container with 64 MiB: the line that refuses the usual width names one with which the node lives.
#[test]
fn a_group_with_little_memory_is_told_which_width_fits() {
    let Some(group) = Group::new("memory", "little") else {
        return;
    };
    let program = Program::for_user(3);
    group.set("memory.limit_in_bytes", &(64 << 20).to_string());
    let outcome = judge("64 MiB", &mut group.node(&program, &["--threads", "1"]));
    let Outcome::Refused(line) = outcome else {
        panic!("{outcome:?}");
    };
    let (before, _) = line.split_once(" fits").expect(&line);
    let width = before.rsplit("-x ").next().unwrap();
    let outcome = judge(
        "the width that fits",
        &mut group.node(&program, &["--threads", "1", "-x", width]),
    );
    assert!(matches!(outcome, Outcome::Lived { .. }), "{outcome:?}");
    let too_little = (24 << 20).to_string();
    group.set("memory.limit_in_bytes", &too_little);
    let outcome = judge("24 MiB", &mut group.node(&program, &["--threads", "1"]));
    let Outcome::Refused(line) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(line.contains("no width fits"), "{line}");
}

#[test]
fn a_group_that_has_no_room_for_its_threads_is_named() {
    let Some(group) = Group::new("pids", "tasks") else {
        return;
    };
    let program = Program::for_user(2);
    let run = |most: u64| {
        group.set("pids.max", &most.to_string());
        judge(
            &format!("{most} tasks"),
            &mut group.node(&program, &["-x", "4096", "--threads", "4"]),
        )
    };
    for most in 1..6 {
        let outcome = run(most);
        let Outcome::Refused(line) = outcome else {
            panic!("{most}: {outcome:?}");
        };
        assert!(
            line.contains("pids.max") && line.contains("TasksMax="),
            "{line}"
        );
        let outcome = run(crate::needed(&line));
        assert!(
            matches!(outcome, Outcome::Lived { .. }),
            "{most}: {outcome:?}"
        );
    }
}
