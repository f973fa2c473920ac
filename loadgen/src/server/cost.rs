//! The server's CPU time and memory are read from `/proc` (proc(5)), and CPU time is divided into work and
//! spinning.
//!
//! A data thread that polls busily uses its CPU even while nothing is there. The node tells how long it spun in this
//! way, and the rest is work.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rmbd::status::Status;

use super::status::spinning_s;
use crate::machine::{memory_bytes, task_cpu_time, tasks};
use crate::record::Cost;

/// The prefix of the names of a node's data threads.
const DATA_THREADS: &str = "rmbd-data";

/// A server's process on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerProcess {
    /// This process: its data threads are known by their names.
    Inside,
    /// Another process with this id.
    Pid(u32),
}

impl ServerProcess {
    /// The process that has a UDP socket at this address, if it is on this machine, in this network namespace, and may
    /// be examined.
    #[must_use]
    pub(crate) fn find(address: SocketAddr) -> Option<Self> {
        // Only an address of this machine can be bound.
        UdpSocket::bind((address.ip(), 0)).ok()?;
        let sockets = sockets_at(address);
        let processes = fs::read_dir("/proc").ok()?.flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find(|&pid: &u32| has_any_socket(pid, &sockets))
            .map(Self::Pid)
    }

    /// The id of the process; `None` for this process.
    #[must_use]
    pub(crate) fn pid(self) -> Option<u32> {
        match self {
            Self::Inside => None,
            Self::Pid(pid) => Some(pid),
        }
    }

    /// CPU time so far: of the data threads if there are threads of that name, and else of the whole process. `None`
    /// if it has ended or may not be examined.
    #[must_use]
    pub(crate) fn cpu(self) -> Option<Duration> {
        let tasks = tasks(&self.directory())?;
        let of_data: Vec<_> = tasks.iter().filter(|path| is_data_thread(path)).collect();
        match (self, of_data.is_empty()) {
            (_, false) => of_data.into_iter().map(|task| task_cpu_time(task)).sum(),
            (Self::Pid(_), true) => tasks.iter().map(|task| task_cpu_time(task)).sum(),
            // The time of the whole process would be the generator's own.
            (Self::Inside, true) => None,
        }
    }

    /// The most memory that the process ever had in use (`VmHWM`), in bytes. It includes the generator's if the server
    /// is inside.
    #[must_use]
    pub(crate) fn peak_memory_bytes(self) -> Option<u64> {
        memory_bytes(&self.directory(), "VmHWM")
    }

    fn directory(self) -> PathBuf {
        match self {
            Self::Inside => "/proc/self".into(),
            Self::Pid(pid) => format!("/proc/{pid}").into(),
        }
    }
}

/// CPU time of a server up to some moment, or between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuUse {
    all: Duration,
    /// Seconds of it in which data threads spun while nothing was there; `None` if they never did, or the server does
    /// not tell.
    spinning_s: Option<f64>,
}

impl CpuUse {
    /// The CPU use so far, from a process and its latest status.
    pub(crate) fn so_far(process: ServerProcess, status: Option<&Status>) -> Option<Self> {
        Some(Self {
            all: process.cpu()?,
            spinning_s: status.map(spinning_s),
        })
    }

    /// The difference to an earlier moment. `None` if the process was restarted meanwhile, since its times then began
    /// at zero.
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        let both = self.spinning_s.zip(before.spinning_s);
        let spinning_s = both.map(|(now, before)| now - before);
        Some(Self {
            all: self.all.checked_sub(before.all)?,
            // An old node does not tell this and reports 0, like one that does not poll busily.
            spinning_s: spinning_s.filter(|&spinning_s| spinning_s > 0.0),
        })
    }

    /// The cost for the record, with the cost per message if the number of received messages is known.
    pub(crate) fn cost(&self, messages: Option<u64>, peak_memory_bytes: Option<u64>) -> Cost {
        let messages = messages.filter(|&messages| messages > 0);
        let per_message = |ns: f64| messages.map(|messages| ns / messages as f64);
        let work_s = |spinning_s: f64| (self.all.as_secs_f64() - spinning_s).max(0.0);
        Cost {
            cpu_s: self.all.as_secs_f64(),
            cpu_ns_per_message: per_message(self.all.as_nanos() as f64),
            spinning_s: self.spinning_s,
            work_ns_per_message: (self.spinning_s)
                .and_then(|spinning_s| per_message(work_s(spinning_s) * 1e9)),
            peak_memory_bytes,
        }
    }
}

fn is_data_thread(task: &Path) -> bool {
    fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(DATA_THREADS))
}

/// Inodes of the sockets bound to an address, or to its port on all addresses.
fn sockets_at(address: SocketAddr) -> Vec<String> {
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| {
            let lines = table.lines().skip(1);
            let inodes = lines.filter_map(|line| socket_at(line, address));
            inodes.collect::<Vec<_>>()
        })
        .collect()
}

fn socket_at(line: &str, address: SocketAddr) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
    let ip = parse_ip(ip)?;
    let same_ip = ip.is_unspecified() || ip.to_canonical() == address.ip().to_canonical();
    (same_port && same_ip).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

/// Parses words of 32 bits in hexadecimal, each in the byte order of this machine.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let mut bytes = [0u8; 16];
    let (words, rest) = hex.as_bytes().as_chunks::<8>();
    if !rest.is_empty() || words.len() > 4 {
        return None;
    }
    for (word, out) in words.iter().zip(bytes.as_chunks_mut::<4>().0) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        *out = word.to_ne_bytes();
    }
    match words.len() {
        1 => Some(IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])),
        4 => Some(IpAddr::from(bytes)),
        _ => None,
    }
}

fn has_any_socket(pid: u32, inodes: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| {
            let link = link.to_string_lossy();
            let inode = link
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.iter().any(|known| known == inode))
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_socket_is_found() {
        for host in ["127.0.0.1", "0.0.0.0"] {
            let socket = UdpSocket::bind((host, 0)).unwrap();
            let port = socket.local_addr().unwrap().port();
            let found = ServerProcess::find(([127, 0, 0, 1], port).into());
            assert_eq!(
                found,
                Some(ServerProcess::Pid(std::process::id())),
                "{host}"
            );
        }
    }

    #[test]
    fn nobody_has_a_port_that_is_free_or_elsewhere() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        assert_eq!(ServerProcess::find(address), None);
        assert_eq!(ServerProcess::find(([192, 0, 2, 1], 53).into()), None);
    }

    #[test]
    fn work_shows_as_cpu_time_of_the_thread_by_that_name() {
        let before = ServerProcess::Inside.cpu().unwrap_or_default();
        let (give_back, hold) = std::sync::mpsc::channel::<()>();
        let (worked, work) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("rmbd-data-9".to_owned())
            .spawn(move || {
                let cpu = crate::machine::CpuTime::from_now();
                while cpu.spent() < Duration::from_millis(50) {}
                worked.send(()).unwrap();
                let _ = hold.recv();
            })
            .unwrap();
        work.recv().unwrap();
        let spent = ServerProcess::Inside.cpu().unwrap() - before;
        assert!(spent >= Duration::from_millis(40), "{spent:?}");
        assert!(ServerProcess::Inside.peak_memory_bytes().unwrap() > 1 << 20);
        drop(give_back);
        thread.join().unwrap();
    }

    #[test]
    fn spinning_is_taken_away_where_it_is_told() {
        let used = |seconds, spinning_s| CpuUse {
            all: Duration::from_secs(seconds),
            spinning_s,
        };
        let phase = used(13, Some(9.5)).since(&used(3, Some(2.5))).unwrap();
        let cost = phase.cost(Some(1_000_000_000), None);
        assert_eq!((cost.cpu_s, cost.spinning_s), (10.0, Some(7.0)));
        assert_eq!(cost.cpu_ns_per_message, Some(10.0));
        assert_eq!(cost.work_ns_per_message, Some(3.0));
        // The two clocks are read one after the other, so spinning may exceed CPU time.
        let busy = used(2, Some(2.25)).cost(Some(1), None);
        assert_eq!(busy.work_ns_per_message, Some(0.0));
        let untold = used(13, Some(9.5)).since(&used(3, None)).unwrap();
        let cost = untold.cost(Some(1_000_000_000), None);
        assert_eq!((cost.spinning_s, cost.work_ns_per_message), (None, None));
        let never = used(13, Some(2.5)).since(&used(3, Some(2.5))).unwrap();
        assert_eq!(never.cost(Some(1), None).spinning_s, None);
        assert_eq!(phase.cost(Some(0), None).work_ns_per_message, None);
        assert!(used(3, None).since(&used(13, None)).is_none());
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_ip("0100007F"), Some([127, 0, 0, 1].into()));
        let loopback = "00000000000000000000000001000000";
        assert_eq!(parse_ip(loopback), "::1".parse().ok());
        assert_eq!(parse_ip("xyz"), None);
    }
}
