//! The environment of a run: what a reader needs to repeat the run and to judge its figures.

use std::fs;
use std::time::SystemTime;

use rmbd_io::cpu;
use serde::{Deserialize, Serialize};

/// Machine, system, versions and command. It names no host and no user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Time at which the run began, RFC 3339, UTC.
    pub started: String,
    /// The command line, quoted for a shell.
    pub command: String,
    /// Version of this load generator.
    pub version: String,
    /// Commit that it was built from, with `-dirty` if the sources differed from it.
    pub commit: Option<String>,
    /// Compiler, and whether this was a release build.
    pub build: String,
    /// Model of the processor.
    pub processor: Option<String>,
    /// Number of logical CPUs that this process may use.
    pub cpus: usize,
    /// Memory of the machine in bytes.
    pub memory_bytes: Option<u64>,
    /// Whether the machine reports that it is a virtual one.
    pub virtual_machine: bool,
    /// Name and version of the kernel.
    pub kernel: String,
    /// Name of the distribution.
    pub system: Option<String>,
    /// Load average of the last minute before the run. Above 0, other processes were at work, too.
    pub load_average: Option<f64>,
    /// Largest receive buffer that a socket may ask for, in bytes (`net.core.rmem_max`).
    pub receive_buffer_max_bytes: Option<u64>,
    /// Frequency governor of CPU 0, if there is one.
    pub cpu_governor: Option<String>,
}

impl Environment {
    /// The environment of this process as it is now.
    #[must_use]
    pub fn capture() -> Self {
        let processor_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: command(std::env::args()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("LOADGEN_COMMIT").map(str::to_owned),
            build: build(),
            processor: field(&processor_info, "model name"),
            cpus: cpu::allowed().len(),
            memory_bytes: memory_bytes(),
            virtual_machine: flags(&processor_info).any(|flag| flag == "hypervisor"),
            kernel: kernel(),
            system: system(),
            load_average: load_average(),
            receive_buffer_max_bytes: read("/proc/sys/net/core/rmem_max")
                .and_then(|text| text.parse().ok()),
            cpu_governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        }
    }

    /// The machine in one line.
    #[must_use]
    pub fn machine(&self) -> String {
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        let memory = self.memory_bytes.map_or_else(String::new, |bytes| {
            format!(", {:.0} GiB memory", bytes as f64 / f64::from(1 << 30))
        });
        let kind = if self.virtual_machine { " (VM)" } else { "" };
        let plural = if self.cpus == 1 { "" } else { "s" };
        format!("{processor}{kind}, {} CPU{plural}{memory}", self.cpus)
    }

    /// Kernel and distribution in one line.
    #[must_use]
    pub fn kernel_and_system(&self) -> String {
        match &self.system {
            Some(system) => format!("{}, {system}", self.kernel),
            None => self.kernel.clone(),
        }
    }

    /// Version, commit and build in one line.
    #[must_use]
    pub fn version_and_commit(&self) -> String {
        let commit = self.commit.as_deref().unwrap_or("unknown commit");
        format!("{} ({commit}), {}", self.version, self.build)
    }
}

/// A command line for a shell: the program by its name alone, and quoted arguments.
fn command(mut args: impl Iterator<Item = String>) -> String {
    let program = args.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(name)
        .chain(args.map(|arg| quoted(&arg)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word quoted for a POSIX shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn build() -> String {
    let profile = if cfg!(debug_assertions) {
        "with debug assertions: too slow to measure with"
    } else {
        "release"
    };
    match option_env!("LOADGEN_RUSTC") {
        Some(compiler) => format!("{compiler}, {profile}"),
        None => profile.to_owned(),
    }
}

fn kernel() -> String {
    let name = rustix::system::uname();
    format!(
        "{} {}",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy()
    )
}

fn system() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

fn memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = field(&text, "MemTotal")?;
    let kib: u64 = kib.strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn load_average() -> Option<f64> {
    read("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// The value of a line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn flags(processor_info: &str) -> impl Iterator<Item = &str> {
    processor_info
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default()
        .split_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        let args = ["/usr/bin/loadgen", "--keys", "file:my log", "it's", ""];
        assert_eq!(
            command(args.into_iter().map(str::to_owned)),
            r"loadgen --keys 'file:my log' 'it'\''s' ''"
        );
    }

    #[test]
    fn this_machine_is_described() {
        let environment = Environment::capture();
        assert!(environment.kernel.starts_with("Linux "));
        assert!(environment.cpus >= 1);
        assert!(environment.memory_bytes.unwrap() > 1 << 20);
        assert!(humantime::parse_rfc3339(&environment.started).is_ok());
    }

    #[test]
    fn fields_and_flags_are_found_by_name() {
        let text = "model name\t: A CPU @ 3 GHz\nflags\t\t: fpu hypervisor\n";
        assert_eq!(field(text, "model name").unwrap(), "A CPU @ 3 GHz");
        assert_eq!(field(text, "model"), None);
        assert!(flags(text).any(|flag| flag == "hypervisor"));
    }
}
