//! Tests of what an orchestrator of containers does to nodes (`deploy/kubernetes`), with a network namespace for each
//! start of a pod: its name is known late, its address is another one at each start, its volume comes with it or is
//! lost. They are skipped if the right or the programs for that are missing.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::support::folder::{Folder, key};
use crate::support::namespace::{Hosts, Place, address};
use crate::support::running::{PATIENCE, Running, program_with_names, wait_until};
use crate::support::together::{wait_until_equal, wait_until_one};
use rmbd_client::{Client, ClientOptions};
use rmbd_testkit::required::skip;

/// The name of all pods, as the headless service gives it.
const SERVICE: &str = "rmbd-cluster";

/// Pods of one service. Nodes end before the hosts go.
struct Pods {
    pods: Vec<Option<Pod>>,
    folder: Folder,
    keys: String,
    /// The file from which all look names up.
    names: String,
    hosts: Hosts,
    starts: usize,
}

struct Pod {
    node: Running,
    host: usize,
}

impl Pods {
    /// Places for so many pods, of which none runs, and so many starts in all. `None` where that cannot be here.
    fn new(pods: usize, starts: usize) -> Option<Self> {
        let hosts = Hosts::without_loss(starts);
        let hosts = hosts.map_err(|why| skip(format!("no network namespaces here: {why}")));
        let folder = Folder::new();
        let keys = folder.file("keys", &[&key()]);
        let names = folder.file("names", &["127.0.0.1 localhost"]);
        Some(Self {
            pods: (0..pods).map(|_| None).collect(),
            folder,
            keys,
            names,
            hosts: hosts.ok()?,
            starts: 0,
        })
    }

    fn volume(&self, pod: usize) -> String {
        self.folder.path(&format!("volume-{pod}"))
    }

    /// Starts a pod with its volume at an address that no pod had before.
    fn start(&mut self, pod: usize) {
        let host = self.starts;
        self.starts += 1;
        let words = [
            format!("{}:8000", address(host)),
            "-x=4096".to_owned(),
            "--allow=10.77.0.0/16".to_owned(),
            format!("--advertise={}:8001", address(host)),
            format!("--join={SERVICE}:8001"),
            format!("--cluster-key-file={}", self.keys),
            format!("--data-dir={}", self.volume(pod)),
        ];
        let command = program_with_names(&self.names);
        let node = Running::start_by(self.hosts.place(host), command, &words);
        self.pods[pod] = Some(Pod { node, host });
    }

    /// Tells everybody the addresses of all pods that run, ready or not.
    fn publish(&self) {
        let pods = self.pods.iter().flatten();
        let lines = pods.map(|pod| format!("{} {SERVICE}\n", address(pod.host)));
        let text = format!("127.0.0.1 localhost\n{}", lines.collect::<String>());
        // Into the file that is there: it is what their mounts show.
        fs::write(&self.names, text).unwrap();
    }

    /// Ends a pod in order.
    fn end(&mut self, pod: usize) {
        let ended = self.pods[pod].take().unwrap().node.end();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }

    fn node(&self, pod: usize) -> &Running {
        &self.pods[pod].as_ref().unwrap().node
    }

    fn all(&self) -> Vec<&Running> {
        self.pods.iter().flatten().map(|pod| &pod.node).collect()
    }

    fn wait_for_counts(&self, expected: u64) {
        for node in self.all() {
            node.wait_for_count("all", expected);
        }
    }

    /// The numbers of the nodes of all pods.
    fn numbers(&self) -> Vec<String> {
        let nodes = self.all().into_iter();
        nodes.map(|node| node.status().cluster.node).collect()
    }

    fn wait_until_ready(&self, pod: usize) {
        self.node(pod).wait("a pod that is ready", |status| {
            status.ready && status.readiness.waits_for.is_empty()
        });
    }
}

#[test]
fn pods_find_each_other_by_a_late_name_and_go_on_with_their_volumes_or_without() {
    let Some(mut pods) = Pods::new(3, 5) else {
        return;
    };
    (0..3).for_each(|pod| pods.start(pod));
    // Nobody has a name yet, and each counts for itself.
    for (pod, weight) in [(0, 1), (1, 20), (2, 300)] {
        pods.node(pod).add("all", weight);
        assert!(pods.node(pod).status().cluster.members.is_empty());
    }
    pods.publish();
    wait_until_one(&pods.all());
    pods.wait_for_counts(321);
    let before = pods.numbers();
    // One goes, and comes back with its volume elsewhere.
    pods.end(1);
    pods.node(0).add("all", 4_000);
    pods.start(1);
    pods.publish();
    wait_until_one(&pods.all());
    pods.node(1).add("all", 50_000);
    pods.wait_for_counts(54_321);
    assert_eq!(pods.numbers(), before, "with the volume goes the number");
    // One loses its volume: it is a new node, and what the old one had counted is at the others.
    pods.end(2);
    fs::remove_dir_all(pods.volume(2)).unwrap();
    pods.start(2);
    pods.publish();
    wait_until_one(&pods.all());
    pods.node(2).add("all", 600_000);
    pods.wait_for_counts(654_321);
    let now = pods.numbers();
    assert_eq!(now[..2], before[..2]);
    assert_ne!(now[2], before[2]);
    let slices = wait_until_equal(&pods.all());
    assert_eq!(
        slices.len(),
        4,
        "one of each node, and that of the lost volume"
    );
}

/// Clients that add.
struct Load {
    /// The host of the pod that they are to turn to.
    wanted: AtomicUsize,
    /// That of the pod that they ask now.
    asked: AtomicUsize,
    is_over: AtomicBool,
}

#[test]
fn a_rolling_update_of_five_pods_under_load_loses_nothing() {
    const PODS: usize = 5;
    let Some(mut pods) = Pods::new(PODS, 2 * PODS) else {
        return;
    };
    (0..PODS).for_each(|pod| pods.start(pod));
    pods.publish();
    wait_until_one(&pods.all());
    let load = Load {
        wanted: AtomicUsize::new(1),
        asked: AtomicUsize::new(usize::MAX),
        is_over: AtomicBool::new(false),
    };
    // Clients are in the network of the pods, and turn to the service: to some pod that is ready.
    let places: Vec<(Place, String)> = (0..2 * PODS)
        .map(|host| (pods.hosts.place(host), format!("{}:8000", address(host))))
        .collect();
    let added = thread::scope(|scope| {
        let (load, places) = (&load, &places);
        let adds = scope.spawn(move || add_until_over(load, places));
        let ends = AtEnd(load);
        for pod in 0..PODS {
            // The next is ready: none is updated before the one before it is.
            let next = pods.pods[(pod + 1) % PODS].as_ref().unwrap();
            let next = next.host;
            load.wanted.store(next, Relaxed);
            wait_until("clients that have turned to it", || {
                match load.asked.load(Relaxed) {
                    asked if asked == next => Ok(()),
                    asked => Err(format!("{asked}")),
                }
            });
            pods.end(pod);
            pods.start(pod);
            pods.publish();
            pods.wait_until_ready(pod);
            wait_until_one(&pods.all());
        }
        drop(ends);
        adds.join().unwrap()
    });
    assert!(added > 0);
    pods.wait_for_counts(added);
    assert_eq!(
        wait_until_equal(&pods.all())
            .values()
            .map(|it| it.2)
            .sum::<u64>(),
        added
    );
}

/// Adds exactly once, at the pod that is named. Returns how often that was acknowledged.
fn add_until_over(load: &Load, places: &[(Place, String)]) -> u64 {
    let mut added = 0;
    while !load.is_over.load(Relaxed) {
        let host = load.wanted.load(Relaxed);
        load.asked.store(host, Relaxed);
        let (place, server) = &places[host];
        added += place.within(|| {
            let options = ClientOptions {
                timeout: PATIENCE,
                ..ClientOptions::default()
            };
            let mut client = Client::connect(server.as_str(), options).unwrap();
            let mut added = 0;
            while load.wanted.load(Relaxed) == host && !load.is_over.load(Relaxed) {
                client.add("all", 1).unwrap();
                added += 1;
                thread::sleep(Duration::from_millis(1));
            }
            added
        });
    }
    added
}

/// Ends the load also where an assertion fails.
struct AtEnd<'l>(&'l Load);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Relaxed);
    }
}
