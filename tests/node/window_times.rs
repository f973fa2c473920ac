//! Windows of a whole node, against an exact list of adds with the times between which they came.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rmbd::config::{IoChoice, NodeConfig, WindowConfig};
use rmbd::node::Node;
use rmbd::status::Status;
use rmbd_proto::compact::{Answer, Header, RequestWriter, WindowAnswer, WriteError, reply};
use rmbd_testkit::random::Random;

use crate::support::{BACKENDS, PATIENCE, client_of, config, receive, wait_for};

const SPAN_MS: u64 = 2_000;
const STEP_MS: u64 = 200;
const STEP: Duration = Duration::from_millis(STEP_MS);
/// Few keys, none of which shares its cells with another.
const KEYS: [&[u8]; 3] = [b"apple", b"pear", b"plum"];
/// Windows that one ring answers, the shortest first.
const ASKED_MS: [u64; 4] = [STEP_MS, 2 * STEP_MS, SPAN_MS - STEP_MS, SPAN_MS];
const SEED: u64 = 0x0057_1d03;

/// A node that keeps one window.
fn with_window(io: IoChoice) -> Node {
    let window = WindowConfig {
        span_ms: SPAN_MS,
        step_ms: Some(STEP_MS),
        width: None,
    };
    Node::start(NodeConfig {
        windows: vec![window],
        ..config(io)
    })
    .unwrap()
}

/// The answers to one request.
fn ask<T>(
    client: &UdpSocket,
    fill: impl FnOnce(&mut RequestWriter) -> Result<(), WriteError>,
    of: impl Fn(Answer<'_>) -> T,
) -> Vec<T> {
    let mut writer = RequestWriter::new(1_400);
    let header = Header {
        acknowledge: true,
        ..Header::default()
    };
    writer.start(&header).unwrap();
    fill(&mut writer).unwrap();
    let operations = writer.operations();
    client.send(writer.finish()).unwrap();
    let received = receive(client);
    let reply = reply(&received).unwrap();
    assert_eq!(
        (usize::from(reply.head.done), reply.head.code),
        (operations, 0)
    );
    reply.answers().map(|answer| of(answer.unwrap())).collect()
}

/// An add, which the node took between two moments.
struct Add {
    key: usize,
    weight: u64,
    sent: Instant,
    acknowledged: Instant,
}

/// All adds so far.
#[derive(Default)]
struct Truth(Vec<Add>);

impl Truth {
    fn add(&mut self, client: &UdpSocket, key: usize, weight: u64) {
        let sent = Instant::now();
        ask(client, |writer| writer.add(KEYS[key], weight), drop_answer);
        self.0.push(Add {
            key,
            weight,
            sent,
            acknowledged: Instant::now(),
        });
    }

    fn sum(&self, key: usize, counts: impl Fn(&Add) -> bool) -> u64 {
        let adds = self.0.iter().filter(|add| add.key == key && counts(add));
        adds.map(|add| add.weight).sum()
    }

    /// What the node took for certain from this moment on.
    fn at_least_since(&self, key: usize, from: Option<Instant>) -> u64 {
        self.sum(key, |add| from.is_none_or(|from| add.sent >= from))
    }

    /// What it may have taken from this moment on.
    fn at_most_since(&self, key: usize, from: Option<Instant>) -> u64 {
        self.sum(key, |add| from.is_none_or(|from| add.acknowledged >= from))
    }
}

fn drop_answer(_: Answer<'_>) {}

/// A question about all windows of a key at one moment, each as bound and as smooth, and about all time.
struct Asked {
    key: usize,
    began: Instant,
    ended: Instant,
    /// Bound and smooth, by window.
    windows: Vec<[WindowAnswer; 2]>,
    all_time: u64,
}

impl Asked {
    fn ask(client: &UdpSocket, key: usize) -> Self {
        let began = Instant::now();
        let fill = |writer: &mut RequestWriter| {
            for window_ms in ASKED_MS {
                writer.window(KEYS[key], window_ms, false)?;
                writer.window(KEYS[key], window_ms, true)?;
            }
            writer.window(KEYS[key], 0, false)
        };
        let answers = ask(client, fill, |answer| match answer {
            Answer::Window(window) => window,
            other => panic!("{other:?}"),
        });
        let (windows, all_time) = answers.as_chunks::<2>();
        Self {
            key,
            began,
            ended: Instant::now(),
            windows: windows.to_vec(),
            all_time: all_time[0].estimate,
        }
    }

    /// Checks everything that holds at any speed. `started` are the moments between which the node started.
    fn check(&self, truth: &Truth, started: (Instant, Instant)) {
        let mut shorter: Option<[WindowAnswer; 2]> = None;
        assert_eq!(self.all_time, truth.sum(self.key, |_| true));
        for (&window_ms, &[bound, smooth]) in ASKED_MS.iter().zip(&self.windows) {
            let span = Duration::from_millis(window_ms);
            let what = || format!("{window_ms} ms: {bound:?} {smooth:?}");
            // Never too low, by our clock.
            let least = truth.at_least_since(self.key, self.ended.checked_sub(span));
            assert!(
                bound.estimate >= least,
                "{} instead of {least}: {}",
                bound.estimate,
                what()
            );
            // Never higher than what came since the snapshot; while that was copied adds may have come.
            let covered = Duration::from_millis(bound.covered_ms.into());
            let from = self.began.checked_sub(covered + STEP);
            let most = truth.at_most_since(self.key, from);
            assert!(
                bound.estimate <= most,
                "{} instead of {most}: {}",
                bound.estimate,
                what()
            );
            assert!(smooth.estimate <= bound.estimate, "{}", what());
            assert!(u64::from(bound.covered_ms) >= window_ms, "{}", what());
            assert_eq!(smooth.covered_ms, bound.covered_ms);
            assert!(!bound.overflowed && !smooth.overflowed);
            // A shorter window that begins at a younger snapshot has nothing of the step that is weighted.
            if let Some([less, _]) = shorter {
                assert!(less.estimate <= bound.estimate, "{less:?} {}", what());
                if less.covered_ms < bound.covered_ms {
                    assert!(less.estimate <= smooth.estimate, "{less:?} {}", what());
                }
            }
            shorter = Some([bound, smooth]);
            self.check_completeness(span, bound, started);
        }
    }

    /// A node knows of nothing before its start.
    fn check_completeness(&self, span: Duration, bound: WindowAnswer, started: (Instant, Instant)) {
        if self.ended.duration_since(started.0) < span {
            assert!(bound.incomplete, "{span:?}");
        }
        if self.began.duration_since(started.1) > span {
            assert!(!bound.incomplete, "{span:?}");
        }
    }
}

/// Adds in bursts and silences for some windows, with a question behind every one.
fn add_and_ask(node: &Node, started: (Instant, Instant), seed: u64) {
    let (client, mut truth, mut random) = (client_of(node), Truth::default(), Random(seed));
    let mut covered_within_two_steps = 0;
    while started.1.elapsed() < Duration::from_millis(2 * SPAN_MS) {
        for _ in 0..random.below(20) {
            let (key, weight) = (random.below(3) as usize, random.below(50));
            truth.add(&client, key, weight);
        }
        let asked = Asked::ask(&client, random.below(3) as usize);
        asked.check(&truth, started);
        for (window_ms, [bound, _]) in ASKED_MS.iter().zip(&asked.windows) {
            let is_close = u64::from(bound.covered_ms) <= window_ms + 2 * STEP_MS;
            covered_within_two_steps += u64::from(is_close);
        }
        std::thread::sleep(Duration::from_millis(random.below(120)));
    }
    assert!(covered_within_two_steps > 0, "every snapshot came late");
    // What nobody adds to any more leaves all windows, and stays in the count of all time.
    for key in 0..KEYS.len() {
        let start = Instant::now();
        loop {
            let asked = Asked::ask(&client, key);
            asked.check(&truth, started);
            if asked.windows.iter().flatten().all(|it| it.estimate == 0) {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "it does not leave the window");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn windows_are_never_below_the_truth_nor_above_what_they_say_to_cover() {
    println!("seed {SEED:#x}");
    std::thread::scope(|scope| {
        for (seed, io) in (SEED..).zip(BACKENDS) {
            scope.spawn(move || {
                let before = Instant::now();
                let node = with_window(io);
                add_and_ask(&node, (before, Instant::now()), seed);
                node.stop().unwrap();
            });
        }
    });
}

/// The surrounding program's adds, those of datagrams and those of hits count in one window.
#[test]
fn whatever_adds_is_in_the_window_until_it_leaves_it() {
    for io in BACKENDS {
        let node = with_window(io);
        let (client, began) = (client_of(&node), Instant::now());
        node.add(b"apple", 3).unwrap();
        let answers = ask(
            &client,
            |writer| {
                writer.add(b"apple", 4)?;
                writer.hit(b"apple", 5, 12, SPAN_MS)?;
                writer.window(b"apple", SPAN_MS, false)
            },
            |answer| match answer {
                Answer::Hit {
                    estimate, within, ..
                } => (estimate, within),
                Answer::Window(window) => (window.estimate, true),
                other => panic!("{other:?}"),
            },
        );
        let weight_of = |status: &Status| status.sketches[0].windows[0].weight;
        let weight = weight_of(&node.status());
        // Nothing can have left it earlier.
        if began.elapsed() < Duration::from_millis(SPAN_MS) {
            assert_eq!((&answers[..], weight), (&[(12, true); 2][..], 12), "{io}");
        }
        wait_for(&node, "an empty window", |it| weight_of(it) == 0);
        assert_eq!(node.stop().unwrap().sketch.total_weight, 12);
    }
}
