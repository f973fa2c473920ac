//! Nodes as processes. Each is behind two proxies: one at its cluster port, and one at its client port.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rmbd::status::Status;
use rustix::process::{Pid, Signal, kill_process};

use rmbd_testkit::proxy::{Counts, Harm, Proxy};

/// The longest time that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The place of a node, which stays when the node's process ends.
pub(crate) struct Place {
    ip: IpAddr,
    gate: Proxy,
    clients: Proxy,
    words: Vec<String>,
    udp: Option<SocketAddr>,
    cluster: Option<SocketAddr>,
    process: Option<Process>,
    pub(crate) log: Arc<Mutex<String>>,
}

struct Process {
    child: Child,
    writer: String,
    is_stopped: bool,
    http: String,
    /// The process's first use of resources, when all was quiet for the first time.
    first: Option<Usage>,
}

/// The resources that a process uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
    pub(crate) resident_bytes: u64,
    pub(crate) sketch_bytes: u64,
}

impl Place {
    pub(crate) fn new(number: u8, harm: Harm, seed: u64) -> Self {
        let ip = Ipv4Addr::new(127, 77, 0, number + 1);
        // The address of the clients' proxy is known with the first start.
        let nowhere = SocketAddr::new(ip.into(), 9);
        Self {
            ip: ip.into(),
            gate: Proxy::one_way(harm, seed),
            clients: Proxy::both_ways(nowhere, harm, seed + 100),
            words: Vec::new(),
            udp: None,
            cluster: None,
            process: None,
            log: Arc::default(),
        }
    }

    /// Says how the node is started: others reach it through the gate.
    pub(crate) fn is_to(
        &mut self,
        folder: &Path,
        keys: &str,
        others: &[SocketAddr],
        options: &[&str],
    ) {
        self.is_to_directly(folder, keys, others, options);
        let advertise = format!("--advertise={}", self.gate.address());
        self.words.push(advertise);
    }

    /// Says how the node is started: others reach it without a proxy.
    pub(crate) fn is_to_directly(
        &mut self,
        folder: &Path,
        keys: &str,
        others: &[SocketAddr],
        options: &[&str],
    ) {
        let words = [
            format!("--cluster={}:0", self.ip),
            format!("--cluster-key-file={keys}"),
            self.data_dir_option(folder),
        ];
        let joins = others.iter().map(|other| format!("--join={other}"));
        let options = options.iter().map(|&option| option.to_owned());
        self.words = words.into_iter().chain(joins).chain(options).collect();
    }

    /// Says how a node without a cluster is started.
    pub(crate) fn is_to_be_alone(&mut self, folder: &Path, options: &[&str]) {
        let words = ["--cluster=off".to_owned(), self.data_dir_option(folder)];
        let options = options.iter().map(|&option| option.to_owned());
        self.words = words.into_iter().chain(options).collect();
    }

    /// From its next start on the node has the cluster address that it has now, and joins these others.
    pub(crate) fn is_to_stay(&mut self, others: &[SocketAddr]) {
        let (own, port) = (format!("--cluster={}", self.cluster()), "--cluster=");
        self.words
            .retain(|word| !word.starts_with(port) && !word.starts_with("--join="));
        self.words.push(own);
        self.words
            .extend(others.iter().map(|other| format!("--join={other}")));
    }

    /// Where the node keeps what it knows.
    pub(crate) fn data_dir(&self, folder: &Path) -> PathBuf {
        folder.join(self.ip.to_string())
    }

    fn data_dir_option(&self, folder: &Path) -> String {
        format!("--data-dir={}", self.data_dir(folder).display())
    }

    pub(crate) fn gate(&self) -> SocketAddr {
        self.gate.address()
    }

    /// The address at which clients find the node, in all of its starts.
    pub(crate) fn for_clients(&self) -> SocketAddr {
        self.clients.address()
    }

    /// The writer of this start, if the node runs.
    pub(crate) fn writer(&self) -> Option<&str> {
        self.process.as_ref().map(|process| process.writer.as_str())
    }

    pub(crate) fn start(&mut self) {
        let address = self
            .udp
            .map_or_else(|| format!("{}:0", self.ip), |udp| udp.to_string());
        let mut child = Command::new(env!("CARGO_BIN_EXE_rmbd"))
            .arg(address)
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut ready).unwrap();
        let field = |name: &str| {
            let mut words = ready.split_whitespace();
            let word = words.find_map(|word| word.strip_prefix(name));
            word.unwrap_or_else(|| panic!("not ready: {ready:?} {}", self.log.lock().unwrap()))
                .to_owned()
        };
        let udp = field("udp=").parse().unwrap();
        self.udp = Some(udp);
        // Not of a node that is alone.
        self.cluster = field("cluster=").parse().ok();
        if let Some(cluster) = self.cluster {
            self.gate.lead_to(cluster);
        }
        self.clients.lead_to(udp);
        let mut process = Process {
            child,
            writer: String::new(),
            is_stopped: false,
            http: field("http="),
            first: None,
        };
        process.writer = process.status().cluster.writer;
        self.process = Some(process);
    }

    /// The id of the process that runs.
    pub(crate) fn process_id(&self) -> u32 {
        self.process
            .as_ref()
            .map_or(0, |process| process.child.id())
    }

    pub(crate) fn status(&self) -> Option<Status> {
        self.process.as_ref().map(Process::status)
    }

    /// Weights of slices by start.
    pub(crate) fn held(&self) -> BTreeMap<String, u64> {
        let contents = self.contents().into_iter();
        contents
            .map(|(writer, (weight, _))| (writer, weight))
            .collect()
    }

    /// Weights and hashes of slices by start. For a node's own slice, the weight is that of all adds, and the hash is
    /// that of the published cells. For a copy, the weight is that of its fullest row, and the hash is that of all
    /// cells. So a copy is whole if both are equal.
    pub(crate) fn contents(&self) -> BTreeMap<String, (u64, Option<String>)> {
        let slices = self.status().map(|status| status.cluster.slices);
        let filled = slices
            .into_iter()
            .flatten()
            .filter(|slice| slice.weight > 0);
        let content = filled.map(|slice| (slice.writer, (slice.weight, slice.root)));
        content.collect()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.is_stopped = signal == Signal::STOP;
            kill_process(Pid::from_child(&process.child), signal).unwrap();
        }
    }

    /// Whether the node answers, which a stopped process does not.
    pub(crate) fn is_running(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| !process.is_stopped)
    }

    /// The address at which clients find this start of the node.
    pub(crate) fn udp(&self) -> SocketAddr {
        self.udp.unwrap()
    }

    /// The address at which other nodes find this start of the node without a proxy.
    pub(crate) fn cluster(&self) -> SocketAddr {
        self.cluster.unwrap()
    }

    /// Ends the node by this signal. Returns its exit code, if it has one, and the time that it took.
    pub(crate) fn end(&mut self, signal: Signal) -> (Option<i32>, Duration) {
        let start = Instant::now();
        self.signal(signal);
        let Some(mut process) = self.process.take() else {
            return (None, Duration::ZERO);
        };
        while process.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "{signal:?} does not end it");
            std::thread::sleep(Duration::from_millis(5));
        }
        let code = process.child.wait().unwrap().code();
        (code, start.elapsed())
    }

    /// Lets nothing through between this node and another one, or lets everything through again.
    pub(crate) fn part(&self, other: &Self) {
        self.gate.close_to(other.ip);
        other.gate.close_to(self.ip);
    }

    pub(crate) fn heal(&self) {
        self.gate.open();
    }

    pub(crate) fn counts(&self) -> Counts {
        [self.gate.counts(), self.clients.counts()]
            .into_iter()
            .sum()
    }

    /// The resources that the process uses now, and those that it used when first asked.
    pub(crate) fn usage(&mut self) -> Option<(Usage, Usage)> {
        let process = self.process.as_mut()?;
        let now = process.usage();
        Some((now, *process.first.get_or_insert(now)))
    }
}

impl Process {
    fn status(&self) -> Status {
        let start = Instant::now();
        loop {
            let config = ureq::Agent::config_builder();
            let config = config.timeout_global(Some(Duration::from_secs(10))).build();
            let url = format!("http://{}/status", self.http);
            match config.new_agent().get(url).call() {
                Ok(mut answer) => {
                    return serde_json::from_reader(answer.body_mut().as_reader()).unwrap();
                }
                Err(error) => assert!(start.elapsed() < PATIENCE, "no status: {error}"),
            }
        }
    }

    fn usage(&self) -> Usage {
        let path = |what: &str| format!("/proc/{}/{what}", self.child.id());
        let count = |what: &str| std::fs::read_dir(path(what)).unwrap().count();
        let statm = std::fs::read_to_string(path("statm")).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        Usage {
            threads: count("task"),
            descriptors: count("fd"),
            resident_bytes: pages * rustix::param::page_size() as u64,
            sketch_bytes: self.status().sketch.memory_bytes,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}
