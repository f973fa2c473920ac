//! Network namespaces (ip-netns(8)), joined by a bridge, with packet filters (nft(8)) in them. They have names of
//! their own, and are removed when dropped.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The network in which a process runs and its clients speak: the test's own one, or a namespace.
#[derive(Clone, Default)]
pub(crate) struct Place(Option<Arc<File>>);

impl Place {
    /// Runs `act` there. Sockets and processes that it makes belong to that network.
    pub(crate) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let Some(namespace) = &self.0 else {
            return act();
        };
        // A thread that has moved to a namespace does not come back.
        let outcome = std::thread::scope(|scope| {
            let moved = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), network).unwrap();
                act()
            });
            moved.join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A namespace, which is removed with everything in it when dropped.
struct Namespace(String);

impl Namespace {
    fn new(name: String) -> Result<Self, String> {
        run("ip", &["netns", "add", &name])?;
        Ok(Self(name))
    }

    fn ip(&self, words: &[&str]) -> Result<(), String> {
        run("ip", &[&["-n", &self.0], words].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "del", &self.0]);
    }
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| format!("{program} (8): {error}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {}: {}", words.join(" "), error.trim())),
    }
}

/// The hosts 10.77.0.1, 10.77.0.2, ... of one network.
pub(crate) struct Hosts {
    hosts: Vec<Namespace>,
    switch: Namespace,
}

const LOSS: &str = "table inet loss { chain input { type filter hook input priority 0; \
    meta l4proto udp udp dport 8001 numgen random mod 100 < 20 counter drop; }\n}";

impl Hosts {
    /// Makes hosts, each of which loses a fifth of the datagrams to its cluster port. `Err` tells what is missing.
    pub(crate) fn new(count: usize) -> Result<Self, String> {
        let hosts = Self::without_loss(count)?;
        for host in 0..count {
            hosts.filter(host, LOSS)?;
        }
        Ok(hosts)
    }

    /// The same on a network that loses nothing.
    pub(crate) fn without_loss(count: usize) -> Result<Self, String> {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let number = NUMBERS.fetch_add(1, Relaxed);
        let name = |host: &str| format!("rmbd-{}-{number}-{host}", std::process::id());
        let switch = Namespace::new(name("switch"))?;
        switch.ip(&["link", "add", "bridge", "type", "bridge"])?;
        switch.ip(&["link", "set", "bridge", "up"])?;
        let mut hosts = Vec::new();
        for host in 0..count {
            let namespace = Namespace::new(name(&host.to_string()))?;
            let port = port(host);
            let peer = ["type", "veth", "peer", "name", &port, "netns", &switch.0];
            namespace.ip(&[&["link", "add", "eth0"], &peer[..]].concat())?;
            switch.ip(&["link", "set", &port, "master", "bridge", "up"])?;
            let address = format!("{}/24", address(host));
            namespace.ip(&["address", "add", &address, "dev", "eth0"])?;
            namespace.ip(&["link", "set", "eth0", "up"])?;
            namespace.ip(&["link", "set", "lo", "up"])?;
            hosts.push(namespace);
        }
        Ok(Self { hosts, switch })
    }

    pub(crate) fn place(&self, host: usize) -> Place {
        let path = format!("/run/netns/{}", self.hosts[host].0);
        Place(Some(Arc::new(File::open(path).unwrap())))
    }

    /// Makes a host drop what comes from some other hosts.
    pub(crate) fn shut_out(&self, host: usize, others: &[usize]) {
        let others: Vec<_> = others.iter().map(|&other| address(other)).collect();
        let rules = format!(
            "table inet cut {{ chain input {{ type filter hook input priority -1; \
             ip saddr {{ {} }} counter drop; }}\n}}",
            others.join(", ")
        );
        self.filter(host, &rules).unwrap();
    }

    pub(crate) fn let_in(&self, host: usize) {
        self.filter(host, "delete table inet cut").unwrap();
    }

    pub(crate) fn unplug(&self, host: usize) {
        let link = ["link", "set", &port(host), "down"];
        self.switch.ip(&link).unwrap();
    }

    pub(crate) fn plug(&self, host: usize) {
        let link = ["link", "set", &port(host), "up"];
        self.switch.ip(&link).unwrap();
    }

    /// Number of datagrams that a host's filter has lost.
    pub(crate) fn lost(&self, host: usize) -> u64 {
        let list = ["list", "table", "inet", "loss"];
        let output = Command::new("ip")
            .args(["netns", "exec", &self.hosts[host].0, "nft"])
            .args(list)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let counter = text.split("counter packets ").nth(1).unwrap();
        counter.split(' ').next().unwrap().parse().unwrap()
    }

    fn filter(&self, host: usize, rules: &str) -> Result<(), String> {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.hosts[host].0, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("ip (8): {error}"))?;
        let fed = nft.stdin.take().unwrap().write_all(rules.as_bytes());
        let output = nft.wait_with_output().unwrap();
        match (fed, output.status.success()) {
            (Ok(()), true) => Ok(()),
            _ => Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }
}

pub(crate) fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

/// The name of the bridge's end of a host's cable.
fn port(host: usize) -> String {
    format!("port{host}")
}
