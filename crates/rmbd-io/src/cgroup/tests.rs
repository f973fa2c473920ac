//! Tests with control groups of both versions in a made-up root folder.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

/// A folder of made-up files, which is removed when dropped.
struct Root(PathBuf);

impl Root {
    fn new(cgroup: &str, mountinfo: &str, files: &[(String, String)]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rmbd-cgroup-{}-{number}", std::process::id());
        let root = Self(std::env::temp_dir().join(name));
        let _ = fs::remove_dir_all(&root.0);
        root.write("/proc/self/cgroup", cgroup);
        root.write("/proc/self/mountinfo", mountinfo);
        for (path, text) in files {
            root.write(path, text);
        }
        root
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn groups(&self) -> Groups {
        Groups::seen_from(&self.0)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), format!("{text}\n"));
    files.iter().map(owned).collect()
}

fn cpus(root: &Root) -> Option<f64> {
    root.groups().cpus().map(|limit| limit.most)
}

fn memory(root: &Root) -> Option<(u64, String)> {
    let limit = root.groups().memory_bytes()?;
    Some((limit.most, limit.file.to_str().unwrap().to_owned()))
}

const V2: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

#[test]
fn every_group_above_counts_in_version_2() {
    let root = Root::new(
        "0::/system.slice/rmbd.service\n",
        V2,
        &files(&[
            ("/sys/fs/cgroup/cpu.stat", "usage_usec 1"),
            ("/sys/fs/cgroup/system.slice/cpu.max", "150000 100000"),
            ("/sys/fs/cgroup/system.slice/memory.max", "max"),
            ("/sys/fs/cgroup/system.slice/memory.high", "90000000"),
            (
                "/sys/fs/cgroup/system.slice/rmbd.service/cpu.max",
                "max 100000",
            ),
            (
                "/sys/fs/cgroup/system.slice/rmbd.service/memory.max",
                "100000000",
            ),
            ("/sys/fs/cgroup/system.slice/rmbd.service/pids.max", "20"),
            (
                "/sys/fs/cgroup/system.slice/rmbd.service/pids.current",
                "18",
            ),
            ("/sys/fs/cgroup/other/cpu.max", "1000 100000"),
        ]),
    );
    assert_eq!(cpus(&root), Some(1.5));
    let high = "/sys/fs/cgroup/system.slice/memory.high".to_owned();
    assert_eq!(memory(&root), Some((90_000_000, high)));
    assert_eq!(root.groups().tasks_left().unwrap().most, 2);
}

#[test]
fn a_container_sees_its_own_group_at_the_top() {
    let limits = files(&[
        ("/sys/fs/cgroup/cpu.max", "50000 100000"),
        ("/sys/fs/cgroup/memory.max", "64000000"),
    ]);
    // Three cases: a namespace of its own; the host's namespace, where only the own part is mounted; and a namespace
    // that was made in another group than the current one.
    let mounts = |root: &str| V2.replace("0:26 /", &format!("0:26 {root}"));
    for (path, mount) in [
        ("/", "/"),
        ("/docker/7f", "/docker/7f"),
        ("/../7f", "/"),
        ("/a", "/../b"),
    ] {
        let root = Root::new(&format!("0::{path}\n"), &mounts(mount), &limits);
        assert_eq!(cpus(&root), Some(0.5), "{path} {mount}");
        assert_eq!(memory(&root).unwrap().0, 64_000_000, "{path} {mount}");
    }
}

#[test]
fn version_1_has_a_hierarchy_for_each_controller() {
    let cgroup = "12:memory:/user/a\n4:cpuacct,cpu:/user\n1:name=systemd:/user/a/b\n0::/user\n";
    let mountinfo = "\
        31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/with\\040space rw master:1 - cgroup cgroup rw,memory\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    let unlimited = "9223372036854771712";
    let root = Root::new(
        cgroup,
        mountinfo,
        &files(&[
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000"),
            ("/sys/fs/cgroup/cpu,cpuacct/user/cpu.cfs_quota_us", "25000"),
            ("/sys/fs/cgroup/cpu,cpuacct/user/cpu.cfs_period_us", "50000"),
            ("/sys/fs/cgroup/with space/memory.limit_in_bytes", unlimited),
            (
                "/sys/fs/cgroup/with space/user/memory.limit_in_bytes",
                "70000000",
            ),
            (
                "/sys/fs/cgroup/with space/user/a/memory.limit_in_bytes",
                unlimited,
            ),
            // This file is not read if version 1 has the controller.
            ("/sys/fs/cgroup/unified/user/cpu.max", "1000 100000"),
        ]),
    );
    assert_eq!(cpus(&root), Some(0.5));
    let file = "/sys/fs/cgroup/with space/user/memory.limit_in_bytes".to_owned();
    assert_eq!(memory(&root), Some((70_000_000, file)));
}

#[test]
fn what_cannot_be_read_limits_nothing() {
    for (cgroup, mountinfo) in [
        ("", ""),
        ("0::/a\n", ""),
        ("0::/a\n", V2),
        (
            "nonsense\n::\n0:\n",
            "x\n - \n1 2 3 - cgroup2\n1 2 3 /\\9 /\\400 rw - cgroup2 a b\n",
        ),
    ] {
        let broken = files(&[
            ("/sys/fs/cgroup/a/cpu.max", "0x1 0"),
            ("/sys/fs/cgroup/a/memory.max", "-5"),
        ]);
        let root = Root::new(cgroup, mountinfo, &broken);
        assert_eq!(
            (cpus(&root), memory(&root)),
            (None, None),
            "{cgroup} {mountinfo}"
        );
    }
}

/// The limits of one group: quota and period, and bytes.
type Said = (Option<(u64, u64)>, Option<u64>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_least_of_what_is_seen_counts(
        chain in proptest::collection::vec(
            (proptest::option::of((1000u64..400_000, 1000u64..200_000)), proptest::option::of(1u64..1 << 40)),
            1..6,
        ),
        mounted_from in 0usize..6,
        is_v2 in any::<bool>(),
    ) {
        let mounted_from = mounted_from.min(chain.len() - 1);
        let path = |depth: usize| (1..=depth).map(|at| format!("/g{at}")).collect::<String>();
        let whole = |depth: usize| Some(path(depth)).filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        let point = "/mnt/groups";
        let mut all = Vec::new();
        for (depth, said) in chain.iter().enumerate().skip(mounted_from) {
            let group = format!("{point}{}", &path(depth)[path(mounted_from).len()..]);
            all.extend(written(said, &group, is_v2));
        }
        let (controllers, kind) = if is_v2 { ("0:", "cgroup2 cgroup2 rw") } else { ("3:cpu,memory", "cgroup cgroup rw,cpu,memory") };
        let cgroup = format!("{controllers}:{}\n", whole(chain.len() - 1));
        let mountinfo = format!("7 1 0:3 {} {point} rw - {kind}\n", whole(mounted_from));
        let root = Root::new(&cgroup, &mountinfo, &all);
        let seen = || chain[mounted_from..].iter();
        let quota = seen().filter_map(|said| said.0).map(|(quota, period)| quota as f64 / period as f64);
        prop_assert_eq!(cpus(&root), quota.reduce(f64::min));
        prop_assert_eq!(memory(&root).map(|it| it.0), seen().filter_map(|said| said.1).min());
    }
}

fn written((quota, bytes): &Said, group: &str, is_v2: bool) -> Vec<(String, String)> {
    let file = |name: &str, text: String| (format!("{group}/{name}"), format!("{text}\n"));
    if is_v2 {
        let (quota, period) = quota.map_or(("max".to_owned(), 100_000), |(quota, period)| {
            (quota.to_string(), period)
        });
        let bytes = bytes.map_or("max".to_owned(), |bytes| bytes.to_string());
        return vec![
            file("cpu.max", format!("{quota} {period}")),
            file("memory.max", bytes),
        ];
    }
    let mut files = vec![
        file(
            "cpu.cfs_quota_us",
            quota.map_or("-1".to_owned(), |it| it.0.to_string()),
        ),
        file(
            "cpu.cfs_period_us",
            quota.map_or(100_000, |it| it.1).to_string(),
        ),
    ];
    files.extend(bytes.map(|bytes| file("memory.limit_in_bytes", bytes.to_string())));
    files
}
