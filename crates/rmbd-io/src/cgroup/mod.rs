//! The limits that control groups set for this process: CPU time, memory and tasks (cgroups(7)).
//!
//! A process is in one group of each hierarchy (`/proc/self/cgroup`), and the limits of that group and of all groups
//! above it apply. `/proc/self/mountinfo` (proc_pid_mountinfo(5)) tells where a hierarchy is mounted. In a container
//! only the part below the container's own group may be mounted, or all of it, with the group's path as the host has
//! it. The kernel's admin-guide/cgroup-v2 describes version 2; admin-guide/cgroup-v1 and scheduler/sched-bwc describe
//! version 1.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

/// The groups of this process.
#[derive(Debug, Clone)]
pub struct Groups {
    root: PathBuf,
    mounted: Vec<Mounted>,
}

/// The process's own group in one hierarchy, as it is seen in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounted {
    hierarchy: Hierarchy,
    /// The folder of the group, or of the nearest group above it that is mounted.
    group: PathBuf,
    /// The folder of the topmost group that is mounted.
    top: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchy {
    /// Version 2 has all controllers that no hierarchy of version 1 has.
    V2,
    /// A hierarchy of version 1 has these controllers.
    V1(Vec<String>),
}

/// A limit, and the file that sets it.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupLimit<T> {
    /// The limit, in the unit of the limited resource.
    pub most: T,
    /// The file of the group that sets the limit.
    pub file: PathBuf,
}

impl Groups {
    /// The groups of the calling process. A file that cannot be read sets no limit.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::seen_from(Path::new("/"))
    }

    /// Like [`of_this_process`](Self::of_this_process), with all files below `root` in place of `/`.
    fn seen_from(root: &Path) -> Self {
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
        let mounts = read("proc/self/mountinfo");
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
        let groups = read("proc/self/cgroup");
        let mounted = groups.lines().filter_map(|line| find(line, &mounts));
        Self {
            root: root.to_owned(),
            mounted: mounted.collect(),
        }
    }

    /// The limit of CPU time in CPUs: 0.5 is half of one. It is the lowest limit of the group and of those above it.
    #[must_use]
    pub fn cpus(&self) -> Option<GroupLimit<f64>> {
        let v1 = |group: &Path| {
            let quota = self.number(&group.join("cpu.cfs_quota_us"))?;
            let period = self.number(&group.join("cpu.cfs_period_us"))?;
            share(quota, period)
        };
        let v2 = |group: &Path| {
            let text = self.text(&group.join("cpu.max"))?;
            let (quota, period) = text.trim().split_once(' ')?;
            share(quota.parse().ok()?, period.parse().ok()?)
        };
        self.least("cpu", ("cpu.cfs_quota_us", &v1), &[("cpu.max", &v2)])
    }

    /// The limit of memory in bytes. It includes `memory.high`, above which the kernel slows a process down to nothing
    /// rather than give it more.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<GroupLimit<u64>> {
        let max = |group: &Path| self.number(&group.join("memory.max"));
        let high = |group: &Path| self.number(&group.join("memory.high"));
        // The largest number of pages means no limit, and is above every machine's memory.
        let v1 = |group: &Path| self.number(&group.join("memory.limit_in_bytes"));
        self.least(
            "memory",
            ("memory.limit_in_bytes", &v1),
            &[("memory.max", &max), ("memory.high", &high)],
        )
    }

    /// Number of tasks that may still be started, in the group with the fewest left.
    #[must_use]
    pub fn tasks_left(&self) -> Option<GroupLimit<u64>> {
        let left = |group: &Path| {
            let most: u64 = self.number(&group.join("pids.max"))?;
            let now = self.number(&group.join("pids.current"))?;
            Some(most.saturating_sub(now))
        };
        self.least("pids", ("pids.max", &left), &[("pids.max", &left)])
    }

    /// The value of `pids.max` in a file that [`tasks_left`](Self::tasks_left) named.
    pub(super) fn tasks_max(&self, file: &Path) -> Option<u64> {
        self.number(file)
    }

    fn least<T: PartialOrd>(
        &self,
        controller: &str,
        v1: Reader<'_, T>,
        v2: &[Reader<'_, T>],
    ) -> Option<GroupLimit<T>> {
        let in_v1 = |mounted: &Mounted| match &mounted.hierarchy {
            Hierarchy::V1(controllers) => controllers.iter().any(|has| has == controller),
            Hierarchy::V2 => false,
        };
        let is_v1 = self.mounted.iter().any(in_v1);
        let has = |mounted: &&Mounted| match mounted.hierarchy {
            Hierarchy::V2 => !is_v1,
            Hierarchy::V1(_) => in_v1(mounted),
        };
        let readers = if is_v1 { &[v1][..] } else { v2 };
        let limits = self.mounted.iter().filter(has).flat_map(|mounted| {
            let groups = mounted
                .group
                .ancestors()
                .take_while(|group| group.starts_with(&mounted.top));
            groups.flat_map(move |group| {
                readers.iter().filter_map(move |(name, read)| {
                    let file = group.join(name);
                    read(group).map(|most| GroupLimit { most, file })
                })
            })
        });
        limits.reduce(|least, next| if next.most < least.most { next } else { least })
    }

    fn text(&self, file: &Path) -> Option<String> {
        fs::read_to_string(self.root.join(file.strip_prefix("/").unwrap_or(file))).ok()
    }

    /// Reads a number. `max` and -1, which mean no limit, give `None`.
    fn number(&self, file: &Path) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }
}

/// The name of a file that sets a limit, and a function that reads the file of a group.
type Reader<'a, T> = (&'static str, &'a dyn Fn(&Path) -> Option<T>);

fn share(quota_us: u64, period_us: u64) -> Option<f64> {
    (period_us > 0).then(|| quota_us as f64 / period_us as f64)
}

/// A mount of a hierarchy.
struct Mount {
    hierarchy: Hierarchy,
    /// The part of the hierarchy that is mounted.
    root: String,
    /// The folder where it is mounted.
    point: PathBuf,
}

impl Mount {
    /// Parses a line such as `36 35 98:0 /root /point options optional... - type source superoptions`.
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let hierarchy = match (kind.next()?, kind.nth(1)) {
            ("cgroup2", _) => Hierarchy::V2,
            ("cgroup", Some(options)) => {
                Hierarchy::V1(options.split(',').map(str::to_owned).collect())
            }
            _ => return None,
        };
        Some(Self {
            hierarchy,
            root: unescaped(root),
            point: unescaped(point).into(),
        })
    }

    /// The folder of a group of this hierarchy. If the group's path leads out of the mounted part, it is the folder of
    /// the mount, which is the nearest group.
    fn place(&self, path: &str) -> PathBuf {
        let relative = Path::new(path).strip_prefix(&self.root);
        let is_inside = |path: &&Path| !path.components().any(|part| part.as_os_str() == "..");
        match relative.ok().filter(is_inside) {
            Some(relative) => self.point.join(relative),
            None => self.point.clone(),
        }
    }
}

/// Replaces escapes such as `\040` (three octal digits), which stand for spaces and the like.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                all.push(code.into());
                all.push_str(&part[3..]);
            }
            None => {
                all.push('\\');
                all.push_str(part);
            }
        }
    }
    all
}

/// Finds the mounted group for a line such as `4:cpu,cpuacct:/a/group`, or `0::/a/group` for version 2.
fn find(line: &str, mounts: &[Mount]) -> Option<Mounted> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let is_of = |mount: &&Mount| match &mount.hierarchy {
        Hierarchy::V2 => controllers.is_empty(),
        // The mount's options hold more than the controllers.
        Hierarchy::V1(options) => {
            !controllers.is_empty()
                && controllers
                    .split(',')
                    .all(|controller| options.iter().any(|option| option == controller))
        }
    };
    let mount = mounts.iter().find(is_of)?;
    Some(Mounted {
        hierarchy: match &mount.hierarchy {
            Hierarchy::V2 => Hierarchy::V2,
            Hierarchy::V1(_) => Hierarchy::V1(controllers.split(',').map(str::to_owned).collect()),
        },
        group: mount.place(path),
        top: mount.point.clone(),
    })
}
