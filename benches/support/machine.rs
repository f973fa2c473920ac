//! The description of the machine in a record.

use std::process::Command;

/// What stands for what cannot be told.
const UNKNOWN: &str = "unknown";

/// The lines for date, machine, system and commit.
pub(crate) fn lines() -> [(&'static str, String); 4] {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name");
    let memory_kib: u64 = field("/proc/meminfo", "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0);
    let system = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    [
        ("Date", said("date", &["-u", "+%F"])),
        (
            "Machine",
            format!(
                "{model}, {cpus} CPUs, {} GiB memory",
                memory_kib.div_ceil(1 << 20)
            ),
        ),
        (
            "System",
            format!("Linux {}; {}", system.trim(), said("rustc", &["-V"])),
        ),
        ("Commit", commit()),
    ]
}

/// With what it has beside it, if files are not as they are in it. Git notes nothing of this look in its index: builds
/// watch that.
fn commit() -> String {
    let looks = [
        "--no-optional-locks",
        "status",
        "--porcelain",
        "--untracked-files=no",
    ];
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    match said("git", &looks).as_str() {
        "" | UNKNOWN => commit,
        _ => commit + "-dirty",
    }
}

fn field(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| key.trim() == name)
        .map_or_else(|| UNKNOWN.to_owned(), |(_, value)| value.trim().to_owned())
}

fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    output.map_or_else(
        |_| UNKNOWN.to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
