//! Tests with floods of forged datagrams, of every kind that needs no key, at a member's cluster port. Members are
//! heard all the while, and new nodes get in.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rmbd::status::{QueueStatus, Status};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::support::folder::{Folder, key};
use crate::support::group::Group;
use crate::support::running::{Running, loopback, wait_until};
use crate::support::together::{live, wait_until_one};
use rmbd_testkit::forgery::{Flood, Forgery, Source, of_boot};
use rmbd_testkit::proxy::Harm;
use rmbd_testkit::random::Random;
use rmbd_testkit::required::skip;

const SEED: u64 = 0xf_100d;
/// Datagrams in a second, more than a machine under test reaches: it sends as many as it can.
const A_SECOND: u64 = 200_000;
/// Number of forged datagrams that come to the node before the test asks anything of it.
const UNDER_WAY: u64 = 20_000;
/// Number of adds that must be heard under each flood.
const HEARD: usize = 3;

/// Three nodes with a key. The first one is flooded, and the forger has seen the second one's datagrams.
struct Flooded {
    group: Group,
    random: Random,
    _folder: Folder,
}

impl Flooded {
    fn start() -> Self {
        let folder = Folder::new();
        let keys = format!("--cluster-key-file={}", folder.file("keys", &[&key()]));
        let group = Group::start(3, Harm::NONE, SEED, &["-x=65536", &keys]);
        Self {
            group,
            random: Random(SEED),
            _folder: folder,
        }
    }

    fn target(&self) -> &Running {
        self.group.node(0)
    }

    /// The datagrams that the second node sent to the first one.
    fn seen(&self) -> Vec<Vec<u8>> {
        let boot = self.group.node(1).status().cluster.boot;
        let mut seen = Vec::new();
        wait_until("datagrams of the second node", || {
            let recorded = self.group.network.recorded();
            let to_target = recorded.iter().filter(|(to, _)| *to == 0);
            seen = of_boot(to_target.map(|(_, datagram)| datagram), &boot);
            match seen.len() {
                few if few < 20 => Err(format!("only {few}")),
                _ => Ok(()),
            }
        });
        seen
    }

    /// Begins a flood, and waits until it is under way.
    fn flood(&mut self, forgery: Forgery, bytes: Option<usize>, source: Source) -> Option<Flood> {
        let seen = self.seen();
        let datagrams = forgery.datagrams(&mut self.random, bytes, &seen);
        let before = came(&self.target().status());
        let flood = match Flood::start(datagrams, source, self.target().cluster(), A_SECOND) {
            Ok(flood) => flood,
            Err(missing) => {
                skip(missing);
                return None;
            }
        };
        self.target().wait("a flood", |status| {
            came(status) - before > UNDER_WAY.min(flood.sent()) && flood.sent() > UNDER_WAY
        });
        Some(flood)
    }

    /// Checks that the flooded node hears the counts of the others, and they hear its counts.
    fn members_are_heard(&mut self) {
        for number in 0..HEARD {
            for from in 1..3 {
                let key = format!("{from} {number} {}", self.random.next());
                self.group.node(from).add(&key, 3);
                self.target().wait_for_count(&key, 3);
                self.target().add(&key, 4);
                self.group.node(from).wait_for_count(&key, 7);
            }
        }
    }
}

/// Number of datagrams that came to the cluster port: those read, and those dropped.
fn came(status: &Status) -> u64 {
    let queues = status.cluster.queues.iter();
    queues
        .map(|queue| queue.received + queue.dropped_by_kernel)
        .sum()
}

type Queues = BTreeMap<String, QueueStatus>;

fn queues(status: &Status) -> Queues {
    let queues = status.cluster.queues.iter();
    queues
        .map(|queue| (queue.name.clone(), queue.clone()))
        .collect()
}

/// Numbers of refused and dropped datagrams in all queues but one.
fn others(queues: &Queues, but: &str) -> Vec<(String, u64, u64)> {
    let others = queues.values().filter(|queue| queue.name != but);
    others
        .map(|queue| (queue.name.clone(), queue.refused, queue.dropped_by_kernel))
        .collect()
}

#[test]
fn members_are_heard_whatever_is_forged() {
    let mut flooded = Flooded::start();
    let member = flooded.group.node(1).cluster();
    for source in [Source::Stranger, Source::Many, Source::Spoofed(member)] {
        for forgery in Forgery::ALL {
            let boots = boots(&flooded.group);
            let Some(flood) = flooded.flood(forgery, None, source) else {
                continue;
            };
            flooded.members_are_heard();
            let sent = flood.stop();
            assert!(sent > UNDER_WAY);
            // No node was taken for dead and met anew, and none is suspected for long.
            wait_until_one(&flooded.group.all());
            assert_eq!(self::boots(&flooded.group), boots, "{forgery:?} {source:?}");
        }
    }
    flooded.group.wait_for_truth();
    // Every datagram that came is counted.
    let status = flooded.target().status();
    let queues = queues(&status);
    let names: Vec<_> = status
        .cluster
        .queues
        .iter()
        .map(|queue| &queue.name[..])
        .collect();
    assert_eq!(names, ["members", "contested", "strangers", "others"]);
    assert_eq!(queues["members"].dropped_by_kernel, 0, "{queues:#?}");
    for flooded in ["contested", "strangers", "others"] {
        assert!(queues[flooded].refused > 0, "{queues:#?}");
    }
    let log = flooded.target().log();
    for lost in ["is down", "declared this node down"] {
        assert!(!log.contains(lost), "{log}");
    }
}

fn boots(group: &Group) -> Vec<String> {
    let status = group.node(0).status();
    live(&status).into_iter().map(str::to_owned).collect()
}

/// Each flood goes to the queue of senders who know as much as its forger.
#[test]
fn a_flood_fills_no_queue_but_its_own() {
    let mut flooded = Flooded::start();
    for (forgery, queue) in [
        (Forgery::Noise, "others"),
        (Forgery::Version, "strangers"),
        (Forgery::Boot, "strangers"),
        (Forgery::Channel, "contested"),
        (Forgery::Replay, "contested"),
    ] {
        let flood = flooded.flood(forgery, Some(100), Source::Stranger).unwrap();
        // A channel must first be found to be contested. Datagrams that waited elsewhere until then are read.
        let before = RefCell::new(Queues::new());
        flooded.target().wait(queue, |status| {
            let last = before.replace(queues(status));
            let before = before.borrow();
            before[queue].refused > 0 && others(&last, queue) == others(&before, queue)
        });
        let before = before.into_inner();
        let more = flood.sent() + UNDER_WAY;
        flooded.target().wait("more of it", |_| flood.sent() > more);
        let status = flooded.target().wait("all of it", |status| {
            let queues = queues(status);
            let came = |of: &Queues| of[queue].refused + of[queue].dropped_by_kernel;
            came(&queues) - came(&before) > UNDER_WAY / 2
        });
        assert_eq!(
            others(&queues(&status), queue),
            others(&before, queue),
            "{forgery:?}"
        );
        flood.stop();
    }
}

/// A node that is new or was started again is among strangers until one of its datagrams was read.
#[test]
fn who_is_new_gets_in_during_a_flood() {
    let mut flooded = Flooded::start();
    let flood = flooded
        .flood(Forgery::Boot, Some(100), Source::Many)
        .unwrap();
    flooded.group.take(2).kill();
    flooded.group.start_node(2);
    wait_until_one(&flooded.group.all());
    flooded.members_are_heard();
    assert!(flood.stop() > UNDER_WAY);
    flooded.group.wait_for_truth();
}

/// Starts something for which the kernel takes no program that chooses among sockets.
fn without_filter<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    let optname = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        libc::SO_ATTACH_REUSEPORT_CBPF as u64,
    );
    let rule = SeccompRule::new(vec![optname.unwrap()]).unwrap();
    let filter = SeccompFilter::new(
        [(libc::SYS_setsockopt, vec![rule])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOPROTOOPT as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let filter: BpfProgram = filter.unwrap().try_into().unwrap();
    std::thread::scope(|scope| {
        let filtered = scope.spawn(|| {
            seccompiler::apply_filter(&filter).unwrap();
            start()
        });
        filtered.join().unwrap()
    })
}

#[test]
fn where_the_kernel_takes_no_filter_a_node_says_so_and_works_all_the_same() {
    let words = || [format!("{}:0", loopback()), "-x=4096".to_owned()];
    let first = without_filter(|| Running::start(&words()));
    let join = format!("--join={}", first.cluster());
    let second = without_filter(|| Running::start(&[&words()[..], &[join]].concat()));
    wait_until_one(&[&first, &second]);
    second.add("key", 3);
    first.wait_for_count("key", 3);
    let status = first.status();
    let names: Vec<_> = (status.cluster.queues.iter())
        .map(|queue| &queue.name[..])
        .collect();
    assert_eq!(names, ["all"]);
    let log = first.end().log;
    let warned = log.lines().filter(|line| line.contains("takes no filter"));
    assert_eq!(warned.count(), 1, "{log}");
}
