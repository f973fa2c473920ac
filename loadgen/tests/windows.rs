//! Counts and limits in windows, at nodes and at what pretends to be one.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use loadgen::plan::{Format, Load, LoadError, Reading};
use loadgen::record::{Outcome, Pace, Record};
use loadgen::report::table;
use loadgen::run::Session;
use loadgen::server::{HttpAt, ServerUnderLoad};
use rmbd::config::{NodeConfig, SketchWish, WindowConfig};
use rmbd_proto::compact::{
    LIMITS_ANSWER_BYTES, Operation, ReplyHead, Verdict, WINDOW_ANSWER_BYTES, WindowAnswer, request,
    write_count_answer, write_limits_answer, write_reply_head, write_window_answer,
};
use rmbd_proto::legacy;
use support::proxy::{Proxy, Way};
use support::{NodeProcess, assert_all_passed, at_rate, check, load, node, only_phase, run};

/// Answers every datagram as it is told, and counts the answers.
struct Pretender {
    address: String,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Pretender {
    /// The n-th verdict is `verdict(n)`, and each count in a window `estimate`.
    fn start(verdict: impl Fn(usize) -> Verdict + Send + 'static, estimate: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while !stopped.load(Relaxed) {
                let Ok((bytes, from)) = socket.recv_from(&mut datagram) else {
                    continue;
                };
                let reply = answer(&datagram[..bytes], &verdict, estimate, &counter);
                if !reply.is_empty() {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Self {
            address,
            stop,
            answered,
            thread: Some(thread),
        }
    }

    fn target(&self) -> ServerUnderLoad {
        ServerUnderLoad::at(&self.address, &HttpAt::Off, None).unwrap()
    }
}

impl Drop for Pretender {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The answer to a legacy count, by which a server is looked for: none.
fn none(datagram: &[u8]) -> Vec<u8> {
    let mut reply = [0; 152];
    let length = usize::from(datagram[1]);
    legacy::write_reply_key(
        &datagram[2..2 + length],
        legacy::Dialect::Native,
        &mut reply,
    );
    reply.to_vec()
}

fn answer(
    datagram: &[u8],
    verdict: &impl Fn(usize) -> Verdict,
    estimate: u64,
    answered: &AtomicUsize,
) -> Vec<u8> {
    let Ok(asked) = request(datagram) else {
        return none(datagram);
    };
    let (mut answers, mut done) = (Vec::new(), 0);
    for operation in asked.operations() {
        done += 1;
        match operation.unwrap() {
            Operation::Limits(_) => {
                let mut out = [0; LIMITS_ANSWER_BYTES];
                write_limits_answer(&verdict(answered.fetch_add(1, Relaxed)), &mut out);
                answers.extend(out);
            }
            Operation::Window { window_ms, .. } => {
                let mut out = [0; WINDOW_ANSWER_BYTES];
                let said = WindowAnswer {
                    estimate,
                    incomplete: false,
                    overflowed: false,
                    covered_ms: window_ms as u32,
                };
                write_window_answer(&said, &mut out);
                answers.extend(out);
            }
            Operation::Count { .. } => {
                let mut out = [0; 9];
                write_count_answer(0, false, &mut out);
                answers.extend(out);
            }
            _ => {}
        }
    }
    if answers.is_empty() && !asked.acknowledge {
        return Vec::new();
    }
    let mut reply = [0; 9];
    let head = ReplyHead {
        id: asked.id,
        done,
        ..ReplyHead::default()
    };
    write_reply_head(head, &mut reply);
    [&reply[..], &answers].concat()
}

fn over(over: bool) -> Verdict {
    Verdict {
        over,
        unsure: true,
        ..Verdict::default()
    }
}

fn takes(mode: &str, messages: u64) -> Load {
    Load {
        format: Format::Compact,
        pace: Pace::Outstanding { requests: 8 },
        messages: Some(messages),
        duration: Duration::from_secs(60),
        ..load(mode, "uniform:1")
    }
}

fn window_node(windows: &[(u64, u64)], threads: usize) -> NodeConfig {
    let windows = windows.iter().map(|&(span_ms, step_ms)| WindowConfig {
        span_ms,
        step_ms: Some(step_ms),
        width: None,
    });
    NodeConfig {
        windows: windows.collect(),
        threads: Some(threads),
        ..node()
    }
}

#[test]
fn a_node_admits_no_more_than_the_limit_and_the_report_says_how_much() {
    let target = ServerUnderLoad::inside(window_node(&[(60_000, 5000)], 1)).unwrap();
    let load = Load {
        reading: Some(Reading::Bound),
        ..takes("take:100/60s", 3000)
    };
    let record = run(&target, load, 10);
    assert_all_passed(&record);
    let phase = only_phase(&record);
    let found = phase.in_window.unwrap();
    assert_eq!((found.admitted, found.refused), (100, 2900));
    assert_eq!(
        found.incomplete, 3000,
        "the node is younger than the window"
    );
    assert_eq!(phase.sent.hits, 3000);
    assert_eq!(phase.received.unwrap().hits, 3000);
    assert_eq!(phase.received.unwrap().weight, Some(100));
    assert_eq!(phase.answers.unwrap().answered, 3000);
    assert_eq!(phase.response_time.as_ref().unwrap().count, 3000);
    let truth = phase.window_truth.as_ref().unwrap();
    let admitted = truth.admitted.as_ref().unwrap();
    assert_eq!((admitted.largest, admitted.allowed), (100, 100));
    assert_eq!(admitted.series.iter().map(|s| s.admitted).sum::<u64>(), 100);
    assert_eq!(admitted.series.iter().map(|s| s.asked).sum::<u64>(), 3000);
    assert_eq!((truth.judged_keys, truth.step_ms), (1, Some(5000)));
    let text = table::text(&record);
    assert!(text.contains("100 of 100"), "{text}");
}

#[test]
fn weights_and_a_sketch_with_a_name_are_judged_as_well() {
    let wish: SketchWish = "name=logins,width=4096,windows=10s/1s".parse().unwrap();
    let config = node();
    let config = NodeConfig {
        sketches: vec![wish.plan(config.family).unwrap()],
        ..config
    };
    let target = ServerUnderLoad::inside(config).unwrap();
    let load = Load {
        sketch: "logins".parse().unwrap(),
        weight: 7,
        reading: Some(Reading::Bound),
        warmup: Duration::from_millis(50),
        threads: 2,
        sockets: 2,
        ..takes("take:100/10s", 2000)
    };
    let record = run(&target, load.clone(), 10);
    assert_all_passed(&record);
    // 14 times 7 is the largest weight within 100; the warm-up may have taken it.
    let truth = only_phase(&record).window_truth.as_ref().unwrap();
    assert_eq!(truth.admitted.as_ref().unwrap().largest, 98);
    // Adds and counts of all time in that sketch, too.
    let adds = Load {
        mode: "add".parse().unwrap(),
        ..load
    };
    let record = run(&target, adds, 10);
    assert_all_passed(&record);
    assert_eq!(only_phase(&record).received.unwrap().weight, Some(7 * 2000));
}

#[test]
fn hits_of_a_limit_always_add() {
    let target = ServerUnderLoad::inside(window_node(&[(60_000, 5000)], 1)).unwrap();
    let record = run(&target, takes("hit:100/60s", 1000), 10);
    assert_all_passed(&record);
    let found = only_phase(&record).in_window.unwrap();
    assert_eq!((found.admitted, found.refused), (100, 900));
    assert_eq!(only_phase(&record).received.unwrap().weight, Some(1000));
    assert_eq!(record.truth.as_ref().unwrap().below_truth, 0);
}

/// Short windows, so that what was counted leaves them while the load goes on.
#[test]
fn bound_counts_are_never_below_the_last_window_while_hot_keys_change() {
    let target = ServerUnderLoad::inside(window_node(&[(400, 100)], 2)).unwrap();
    for pace in [at_rate(4000.0), Pace::Outstanding { requests: 50 }] {
        let is_open = pace != Pace::Outstanding { requests: 50 };
        let load = Load {
            format: Format::Compact,
            pace,
            duration: Duration::from_millis(1500),
            warmup: Duration::from_millis(200),
            threads: 2,
            sockets: 4,
            pack: 3,
            hot_change: is_open.then_some(Duration::from_millis(300)),
            ..load("mix:0.3/400ms", "zipf:1.1:10000")
        };
        let record = run(&target, load, 100);
        let phase = only_phase(&record);
        let truth = phase.window_truth.as_ref().unwrap();
        assert_eq!(truth.below_truth, 0);
        assert!(
            truth.judged_answers > 50 && truth.judged_keys > 10,
            "{truth:?}"
        );
        assert_eq!(truth.compared_answers, truth.judged_answers);
        assert_eq!(phase.in_window.unwrap().counted, phase.sent.counts);
        let windows = check(&record, "window");
        assert_eq!(windows.outcome, Outcome::Passed, "{windows:?}");
    }
}

#[test]
fn counts_alone_and_smooth_ones_are_no_failure() {
    let target = ServerUnderLoad::inside(node()).unwrap();
    let record = run(&target, takes("count:60s", 500), 10);
    assert_all_passed(&record);
    assert_eq!(only_phase(&record).in_window.unwrap().counted, 500);
    let smooth = Load {
        reading: Some(Reading::Smooth),
        ..takes("mix:0.5/60s", 500)
    };
    let record = run(&target, smooth, 10);
    assert!(record.passed());
    assert_eq!(check(&record, "window").outcome, Outcome::Unknown);
}

fn admitted(record: &Record) -> (u64, u64) {
    let truth = only_phase(record).window_truth.as_ref().unwrap();
    let admitted = truth.admitted.as_ref().unwrap();
    (admitted.largest, admitted.largest_for_sure)
}

#[test]
fn a_server_that_admits_too_much_is_found_out() {
    let server = Pretender::start(|_| over(false), 0);
    let load = Load {
        reading: Some(Reading::Bound),
        ..takes("take:100/60s", 150)
    };
    let record = run(&server.target(), load, 10);
    assert_eq!(admitted(&record), (150, 150));
    let said = check(&record, "no more than the limit");
    // A server that does not tell its threads may have many.
    assert_eq!(said.outcome, Outcome::Unknown);
    assert!(said.detail.contains("at most 150 of a key"), "{said:?}");
    let found = only_phase(&record).in_window.unwrap();
    assert_eq!((found.admitted, found.unsure), (150, 150));
    assert!(server.answered.load(Relaxed) >= 150);
}

/// Where the first answer of a reply has its flags: behind the head, the code and the length.
const FLAGS: usize = 9 + 2;

/// A node whose replies about windows are changed on their way.
fn run_changed(change: impl Fn(&mut [u8]) + Clone + Send + 'static, load: Load) -> Record {
    let node = NodeProcess::start("127.0.0.1:0");
    let proxy = Proxy::to(&node.udp, move |_| {
        let change = change.clone();
        Box::new(move |way, datagram| {
            let mut datagram = datagram.to_vec();
            let is_about_windows = datagram.get(9).is_some_and(|code| matches!(code, 8 | 9));
            if way == Way::ToClient && is_about_windows {
                change(&mut datagram[FLAGS..]);
            }
            vec![(way, datagram)]
        })
    });
    let http = HttpAt::At(node.udp.clone());
    let target = ServerUnderLoad::at(&proxy.address.to_string(), &http, None).unwrap();
    run(&target, load, 100)
}

#[test]
fn a_node_that_forgets_or_admits_too_much_fails_the_run() {
    let right = run_changed(|_| (), takes("mix:0.5/60s", 2000));
    assert_eq!(check(&right, "in a window").outcome, Outcome::Passed);
    let forgetful = run_changed(|answer| answer[1..9].fill(0), takes("mix:0.5/60s", 2000));
    let said = check(&forgetful, "in a window");
    assert_eq!(said.outcome, Outcome::Failed, "{said:?}");
    assert!(!forgetful.passed());
    let load = Load {
        reading: Some(Reading::Bound),
        ..takes("take:100/60s", 150)
    };
    let generous = run_changed(|answer| answer[0] &= !1, load);
    assert_eq!(admitted(&generous), (150, 150));
    for name in ["no more than the limit", "N grew"] {
        assert_eq!(check(&generous, name).outcome, Outcome::Failed);
    }
}

#[test]
fn nodes_get_equal_shares_and_are_judged_together() {
    let servers: Vec<_> = (0..3)
        .map(|node| Pretender::start(move |n| over(n >= 40 * (node + 1)), 0))
        .collect();
    let targets: Vec<_> = servers.iter().map(Pretender::target).collect();
    let load = Load {
        threads: 2,
        sockets: 6,
        gso: false,
        pace: at_rate(3000.0),
        messages: Some(1200),
        ..takes("take:100/60s", 1200)
    };
    let session = Session {
        loads: vec![load.clone()],
        checked_keys: 10,
    };
    let stop = AtomicBool::new(false);
    let record = session.run_over(&targets, &stop, &mut |_| {}).unwrap();
    let phase = only_phase(&record);
    let found = phase.in_window.unwrap();
    assert_eq!(found.admitted + found.refused, 1200);
    assert_eq!(found.admitted, 40 + 80 + 120);
    assert_eq!(admitted(&record).0, 240);
    let shares: Vec<_> = phase.nodes.iter().map(|n| n.in_window.admitted).collect();
    assert_eq!(shares, [40, 80, 120]);
    for node in &phase.nodes {
        assert_eq!(
            (node.sent.hits, node.answered, node.timed_out),
            (400, 400, 0)
        );
    }
    let text = table::text(&record);
    assert!(
        servers.iter().all(|server| text.contains(&server.address)),
        "{text}"
    );
    // Sockets that do not spread are refused, and so is what names one server's start.
    let uneven = Session {
        loads: vec![Load {
            sockets: 4,
            ..load.clone()
        }],
        checked_keys: 0,
    };
    let refused = uneven.run_over(&targets, &stop, &mut |_| {}).unwrap_err();
    assert!(
        matches!(refused, LoadError::SocketsOfServers { .. }),
        "{refused}"
    );
    let once = Session {
        loads: vec![Load {
            exactly_once: true,
            pace: Pace::Outstanding { requests: 60 },
            mode: "add".parse().unwrap(),
            ..load
        }],
        checked_keys: 0,
    };
    let refused = once.run_over(&targets, &stop, &mut |_| {}).unwrap_err();
    assert_eq!(refused, LoadError::OnceServer);
}

#[test]
fn takes_without_an_answer_may_have_been_admitted() {
    // The reply to anything but the legacy probe is lost.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let mut datagram = [0; 2048];
        let (bytes, from) = socket.recv_from(&mut datagram).unwrap();
        socket.send_to(&none(&datagram[..bytes]), from).unwrap();
        socket
    });
    let target = ServerUnderLoad::at(&address, &HttpAt::Off, None).unwrap();
    let _silent = answering.join().unwrap();
    let load = Load {
        timeout: Duration::from_millis(100),
        ..takes("take:100/60s", 50)
    };
    let record = run(&target, load, 10);
    let truth = only_phase(&record).window_truth.as_ref().unwrap();
    let found = truth.admitted.as_ref().unwrap();
    assert_eq!((found.largest, found.unanswered), (0, 50));
}

#[test]
fn a_window_or_a_sketch_that_a_node_lacks_is_refused_before_anything_is_sent() {
    let target = ServerUnderLoad::inside(node()).unwrap();
    for load in [
        takes("take:100/61s", 10),
        Load {
            sketch: "nobody".parse().unwrap(),
            ..takes("add", 10)
        },
    ] {
        let session = Session {
            loads: vec![load],
            checked_keys: 0,
        };
        let stop = AtomicBool::new(false);
        let refused = session.run(&target, &stop, &mut |_| {}).unwrap_err();
        assert!(
            matches!(refused, LoadError::RefusedByServer { .. }),
            "{refused}"
        );
    }
    assert_eq!(target.status().unwrap().messages.limits, 0);
}

#[test]
fn what_the_legacy_format_lacks_and_hot_keys_without_a_plan_are_refused() {
    let windows = Load {
        format: Format::Legacy,
        ..takes("count:60s", 10)
    };
    assert_eq!(windows.check(), Err(LoadError::WindowsAreCompact));
    let hot_change = Some(Duration::from_secs(1));
    for (pace, keys) in [
        (at_rate(10.0), "uniform:10"),
        (Pace::Outstanding { requests: 8 }, "zipf:1:10"),
        (Pace::Flood, "zipf:1:10"),
    ] {
        let load = Load {
            hot_change,
            pace,
            ..load("add", keys)
        };
        assert_eq!(load.check(), Err(LoadError::HotChange));
    }
}
