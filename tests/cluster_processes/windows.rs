//! Windows and sketches in clusters of real processes: under load, joined late, stopped for a while, and with members
//! whose sketches or windows are other ones.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd_client::{Client, Window, WindowCount};
use rmbd_proto::SketchName;
use rmbd_testkit::random::Random;
use rustix::process::Signal;

use crate::support::running::{Running, loopback, text, wait_until};
use crate::support::together::wait_until_one;

const SPAN: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(200);
/// Both sketches of most nodes. Their keys here share no cells.
const SKETCHES: [&str; 2] = [
    "--sketch=name=default,width=16384,depth=3,windows=2s/200ms",
    "--sketch=name=logins,width=16384,depth=3,windows=4s/500ms+2s/200ms",
];
const NAMES: [&str; 2] = ["default", "logins"];
const OLD_WEIGHT: u64 = 1_000_000;

/// Starts a node that joins these.
fn start(join: &[&Running], options: &[&str]) -> Running {
    let ip = loopback();
    let mut words = vec![format!("{ip}:0"), format!("--cluster={ip}:0")];
    words.extend(join.iter().map(|node| format!("--join={}", node.cluster())));
    words.extend(options.iter().map(|&option| option.to_owned()));
    Running::start(&words)
}

fn bound_in(client: &mut Client, sketch: &str, key: &str, span: Duration) -> WindowCount {
    let mut sketch = client.sketch(sketch).unwrap();
    sketch.count_in(key, Window::bound(span)).unwrap()
}

fn bound(node: &Running, sketch: &str, key: &str) -> WindowCount {
    node.ask(|client| bound_in(client, sketch, key, SPAN))
}

fn all_time(node: &Running, sketch: &str, key: &str) -> u64 {
    node.ask(|client| client.sketch(sketch).unwrap().count(key).unwrap().estimate)
}

fn add(node: &Running, sketch: &str, key: &str, weight: u64) {
    node.ask(|client| client.sketch(sketch).unwrap().add(key, weight).unwrap());
}

/// Weights that nodes took, each between two moments.
#[derive(Default)]
struct Truth(Mutex<Vec<(Instant, Instant, u64)>>);

impl Truth {
    fn add(&self, weight: u64, add: impl FnOnce()) {
        let sent = Instant::now();
        add();
        let added = (sent, Instant::now(), weight);
        self.0.lock().unwrap().push(added);
    }

    fn total(&self) -> u64 {
        self.0.lock().unwrap().iter().map(|add| add.2).sum()
    }

    /// What was taken for certain since a moment, and what may have been.
    fn since(&self, from: Option<Instant>) -> (u64, u64) {
        let adds = self.0.lock().unwrap();
        let sum = |counts: fn(&(Instant, Instant, u64)) -> Instant| {
            let later = adds
                .iter()
                .filter(|add| from.is_none_or(|from| counts(add) >= from));
            later.map(|add| add.2).sum()
        };
        (sum(|add| add.0), sum(|add| add.1))
    }

    /// Checks that a window of a node which has all adds is not below those of that time.
    fn check_not_below(&self, node: &Running, sketch: &str, key: &str) {
        assert_eq!(all_time(node, sketch, key), self.total());
        let told = bound(node, sketch, key);
        let (least, _) = self.since(Instant::now().checked_sub(SPAN));
        assert!(
            told.estimate >= least && told.covered >= SPAN,
            "{least} came: {told:?}"
        );
    }
}

/// Adds to each node until it is told to stop, in both sketches.
fn load(node: &Running, truth: &Truth, seed: u64, done: &AtomicBool) {
    let mut random = Random(seed);
    node.ask(|client| {
        while !done.load(Relaxed) {
            let weight = 1 + random.below(5);
            truth.add(weight, || client.add("load", weight).unwrap());
            let other = format!("other {}", random.below(100));
            let mut logins = client.sketch("logins").unwrap();
            logins.add(&other, 1).unwrap();
            std::thread::sleep(Duration::from_millis(random.below(20)));
        }
    });
}

/// Whether all nodes say the same of the key under load, to two steps.
fn agree(nodes: &[&Running], truth: &Truth) -> Result<(), String> {
    for node in nodes {
        let began = Instant::now();
        let told = bound(node, "default", "load");
        let ended = Instant::now();
        let (least, _) = truth.since((ended + STEP).checked_sub(SPAN));
        let (_, most) = truth.since(began.checked_sub(SPAN + 2 * STEP));
        let is_right = (least..=most).contains(&told.estimate) && least > 0 && !told.incomplete;
        if !is_right {
            return Err(format!("{told:?}, not {least} to {most}"));
        }
    }
    Ok(())
}

#[test]
fn a_node_that_joins_under_load_tells_the_same_and_takes_nothing_old_for_new() {
    let (truth, done) = (Truth::default(), AtomicBool::new(false));
    let a = start(&[], &SKETCHES);
    let [b, c] = [(); 2].map(|()| start(&[&a], &SKETCHES));
    wait_until_one(&[&a, &b, &c]);
    let joined = std::thread::scope(|scope| {
        for (seed, node) in (7..).zip([&a, &b, &c]) {
            let (truth, done) = (&truth, &done);
            scope.spawn(move || load(node, truth, seed, done));
        }
        // Whatever fails below, the load ends.
        let _end = End(&done);
        let began = Instant::now();
        for sketch in NAMES {
            add(&a, sketch, "old", OLD_WEIGHT);
        }
        wait_until("three that agree", || agree(&[&a, &b, &c], &truth));
        for (sketch, node) in NAMES
            .iter()
            .flat_map(|name| [&a, &b, &c].map(|it| (name, it)))
        {
            wait_until("all of the weight", || {
                match all_time(node, sketch, "old") {
                    OLD_WEIGHT => Ok(()),
                    other => Err(other.to_string()),
                }
            });
            wait_until("the old weight's end", || {
                match bound(node, sketch, "old") {
                    WindowCount { estimate: 0, .. } => Ok(()),
                    told => Err(format!("{told:?}")),
                }
            });
        }
        // Whoever passes it on knows its age to a quarter of the window.
        std::thread::sleep((2 * SPAN).saturating_sub(began.elapsed()));
        let joined = start(&[&b, &c], &SKETCHES);
        let mut arrived = [false; 2];
        wait_until("four that agree", || {
            for (sketch, arrived) in NAMES.iter().zip(&mut arrived) {
                let told = bound(&joined, sketch, "old");
                assert_eq!(told.estimate, 0, "{sketch}: what is old came as new");
                *arrived = all_time(&joined, sketch, "old") == OLD_WEIGHT;
            }
            if arrived != [true; 2] {
                return Err(format!("{arrived:?}"));
            }
            agree(&[&a, &b, &c, &joined], &truth)
        });
        joined
    });
    let nodes = [&a, &b, &c, &joined];
    for node in nodes {
        wait_for_all(node, &truth, "load");
        truth.check_not_below(node, "default", "load");
    }
    for node in nodes {
        wait_until("an empty window", || match bound(node, "default", "load") {
            WindowCount { estimate: 0, .. } => Ok(()),
            told => Err(format!("{told:?}")),
        });
        assert_eq!(all_time(node, "default", "load"), truth.total());
    }
}

/// Ends a load when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Waits until a node has all that was added to a key.
fn wait_for_all(node: &Running, truth: &Truth, key: &str) {
    wait_until("all adds", || {
        match (all_time(node, "default", key), truth.total()) {
            (here, all) if here == all => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn the_windows_of_a_process_that_was_stopped_cover_more_and_never_less() {
    const SEED: u64 = 0x0005_7095;
    println!("seed {SEED:#x}");
    let mut random = Random(SEED);
    let truths = ["to a", "to b", "to a while it stands"].map(|key| (key, Truth::default()));
    let [(to_a, of_a), (to_b, of_b), (to_a_late, of_late)] = &truths;
    let a = start(&[], &SKETCHES);
    let b = start(&[&a], &SKETCHES);
    wait_until_one(&[&a, &b]);
    for _ in 0..5 {
        for _ in 0..1 + random.below(5) {
            let weight = 1 + random.below(100);
            of_a.add(weight, || add(&a, "default", to_a, weight));
            of_b.add(weight, || add(&b, "default", to_b, weight));
            std::thread::sleep(Duration::from_millis(random.below(60)));
        }
        a.signal(Signal::STOP);
        std::thread::scope(|scope| {
            // It waits in the socket, and is answered later.
            scope.spawn(|| of_late.add(9, || add(&a, "default", to_a_late, 9)));
            let stopped = Duration::from_millis(100 + random.below(900));
            of_b.add(7, || add(&b, "default", to_b, 7));
            std::thread::sleep(stopped);
            a.signal(Signal::CONT);
            // As early as it can answer.
            of_a.check_not_below(&a, "default", to_a);
        });
        of_late.check_not_below(&a, "default", to_a_late);
        for node in [&a, &b] {
            for (key, truth) in &truths {
                wait_for_all(node, truth, key);
                truth.check_not_below(node, "default", key);
            }
        }
    }
    for node in [&a, &b] {
        for (key, _) in &truths {
            wait_until("an empty window", || match bound(node, "default", key) {
                WindowCount { estimate: 0, .. } => Ok(()),
                told => Err(format!("{told:?}")),
            });
        }
    }
}

fn number(name: &str) -> u32 {
    name.parse::<SketchName>().unwrap().number().0
}

/// What `members` says that is not exchanged, by the number of the sketch.
fn not_exchanged(node: &Running) -> Vec<(u32, String)> {
    let output = node.command(&["members"]);
    let lines = text(&output.stdout).lines();
    let apart = lines.filter_map(|line| {
        let line = line.strip_prefix("not exchanged with ")?;
        let (_, sketch) = line.split_once(": sketch ")?;
        let (number, why) = sketch.split_once(", ")?;
        Some((number.parse().unwrap(), why.to_owned()))
    });
    let mut apart: Vec<_> = apart.collect();
    apart.sort_unstable();
    apart
}

#[test]
fn a_sketch_of_another_geometry_is_not_exchanged_and_all_others_are() {
    let same = "--sketch=name=default,width=16384,depth=3";
    let a = start(
        &[],
        &[
            &format!("{same},windows=2s/200ms"),
            "--sketch=name=logins,width=16384,windows=2s/200ms",
            "--sketch=name=mails,width=4096,windows=2s/200ms",
            "--sketch=name=only-here,width=4096",
        ],
    );
    let b = start(
        &[&a],
        &[
            &format!("{same},windows=3s/500ms+10s/1s"),
            "--sketch=name=logins,width=8192,windows=2s/200ms",
            "--sketch=name=mails,width=4096,windows=none",
        ],
    );
    wait_until_one(&[&a, &b]);
    let mut expected = vec![
        (
            number("logins"),
            "of which it has another width, depth, hash or seed".to_owned(),
        ),
        (number("only-here"), "which it does not have".to_owned()),
    ];
    expected.sort_unstable();
    wait_until("what is not exchanged", || match not_exchanged(&a) {
        apart if apart == expected => Ok(()),
        apart => Err(format!("{apart:?}")),
    });
    let apart = b.wait("the other sketch", |status| {
        let members = status.cluster.members.iter();
        members
            .flat_map(|member| &member.other_sketches)
            .any(|other| other.sketch == number("logins"))
    });
    let apart = &apart.cluster.members[0].other_sketches;
    let fingerprints = a.ask(|client| client.sketches().unwrap());
    let theirs = fingerprints.iter().find(|it| it.name == "logins").unwrap();
    let of_logins = apart.iter().find(|it| it.sketch == number("logins"));
    let told = of_logins.unwrap().fingerprint.clone();
    assert_eq!(told, Some(format!("{:016x}", theirs.fingerprint)));

    for (node, weight) in [(&a, 3), (&b, 40)] {
        for sketch in ["default", "logins", "mails"] {
            add(node, sketch, "key", weight);
        }
    }
    for (node, own) in [(&a, 3), (&b, 40)] {
        for sketch in ["default", "mails"] {
            wait_until("what is exchanged", || {
                match all_time(node, sketch, "key") {
                    43 => Ok(()),
                    other => Err(format!("{sketch}: {other}")),
                }
            });
        }
        assert_eq!(all_time(node, "logins", "key"), own);
    }
    // Each has windows of its own over the same counts, though the other one keeps others, or none.
    for (node, other, sketch, span) in [
        (&a, &b, "default", 2),
        (&b, &a, "default", 3),
        (&b, &a, "default", 10),
        (&a, &b, "mails", 2),
    ] {
        let (key, span) = (format!("{sketch} {span}"), Duration::from_secs(span));
        wait_until("the other's adds in the window", || {
            add(other, sketch, &key, 1);
            match node.ask(|client| bound_in(client, sketch, &key, span).estimate) {
                0 => Err(sketch.to_owned()),
                _ => Ok(()),
            }
        });
    }
}
