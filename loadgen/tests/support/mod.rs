//! What the tests of whole runs share.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod proxy;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use loadgen::plan::{DEFAULT_KEY_BYTES, Format, KeySet, Load};
use loadgen::record::{Check, Gaps, Outcome, Pace, Phase, Record};
use loadgen::run::{Event, Session};
use loadgen::server::ServerUnderLoad;
use rmbd::config::NodeConfig;
use rustix::process::{Pid, Signal, kill_process};

/// A flood of adds by one thread, for a second at most.
pub(crate) fn load(mode: &str, keys: &str) -> Load {
    let (spec, format) = (keys.parse().unwrap(), Format::Legacy);
    let keys_of = KeySet::open(&spec, DEFAULT_KEY_BYTES, "", format).unwrap();
    Load {
        name: format!("{mode} {keys}"),
        mode: mode.parse().unwrap(),
        duration: Duration::from_secs(1),
        warmup: Duration::ZERO,
        timeout: Duration::from_secs(5),
        ..Load::new(keys_of, format)
    }
}

/// An open loop with constant gaps.
pub(crate) fn at_rate(per_s: f64) -> Pace {
    Pace::Rate {
        per_s,
        gaps: Gaps::Constant,
    }
}

pub(crate) fn node() -> NodeConfig {
    NodeConfig {
        threads: Some(1),
        ..NodeConfig::at("127.0.0.1:0")
    }
}

/// Runs one load to its end.
pub(crate) fn run(target: &ServerUnderLoad, load: Load, checked_keys: usize) -> Record {
    run_watched(target, load, checked_keys, &mut |_| {})
}

pub(crate) fn run_watched(
    target: &ServerUnderLoad,
    load: Load,
    checked_keys: usize,
    observe: &mut dyn FnMut(Event<'_>),
) -> Record {
    let session = Session {
        loads: vec![load],
        checked_keys,
    };
    session
        .run(target, &AtomicBool::new(false), observe)
        .unwrap()
}

pub(crate) fn only_phase(record: &Record) -> &Phase {
    assert_eq!(record.ended_early, None);
    let [phase] = &record.phases[..] else {
        panic!("not one phase: {record:#?}");
    };
    phase
}

/// The check whose name contains `name`.
pub(crate) fn check<'a>(record: &'a Record, name: &str) -> &'a Check {
    let mut checks = record.checks.iter();
    checks
        .find(|check| check.name.contains(name))
        .unwrap_or_else(|| panic!("no check about {name}: {:#?}", record.checks))
}

pub(crate) fn assert_all_passed(record: &Record) {
    let all = |check: &Check| check.outcome == Outcome::Passed;
    assert!(record.checks.iter().all(all), "{:#?}", record.checks);
    assert!(!record.checks.is_empty());
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A node in a process of its own, ended by its id when dropped.
pub(crate) struct NodeProcess {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) udp: String,
}

impl NodeProcess {
    /// On a free port.
    pub(crate) fn start(address: &str) -> Self {
        Self::try_start(address).unwrap_or_else(|said| panic!("no ready line: {said:?}"))
    }

    /// On the address of another that has ended. Somebody else may have taken it for a moment.
    pub(crate) fn start_again(address: &str) -> Self {
        for _ in 0..50 {
            if let Ok(process) = Self::try_start(address) {
                return process;
            }
        }
        panic!("{address} stays taken");
    }

    fn try_start(address: &str) -> Result<Self, String> {
        let mut child = program()
            .args(["node", address, "--threads", "1"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        let mut fields = ready.split_whitespace();
        let Some(udp) = fields.find_map(|field| field.strip_prefix("udp=")) else {
            let _ = child.wait();
            return Err(ready);
        };
        let udp = udp.to_owned();
        Ok(Self { child, stdout, udp })
    }

    pub(crate) fn target(&self) -> ServerUnderLoad {
        ServerUnderLoad::at(&self.udp, &loadgen::server::HttpAt::SameAsUdp, None).unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = self.stdout.read_to_string(&mut String::new());
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
