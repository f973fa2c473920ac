//! Adds that count exactly once: over paths that lose and repeat, and against what does not keep to it.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use loadgen::plan::{Format, Load};
use loadgen::record::{Check, Outcome, Pace, Record};
use loadgen::report::table;
use loadgen::run::Event;
use loadgen::server::{HttpAt, ServerUnderLoad};
use rmbd_proto::compact::{ONCE_WINDOW, ReplyHead, request, write_reply_head};
use support::proxy::{Fate, Proxy, Way, is_acknowledgement, is_once, lossy};
use support::{NodeProcess, assert_all_passed, check, load, node, only_phase, run, run_watched};

/// A closed loop of so many adds of weight 7, four a datagram.
fn adds(messages: u64) -> Load {
    Load {
        format: Format::Compact,
        weight: 7,
        exactly_once: true,
        pace: Pace::Outstanding { requests: 200 },
        pack: 4,
        messages: Some(messages),
        duration: Duration::from_secs(120),
        timeout: Duration::from_secs(60),
        ..load("add", "uniform:1000")
    }
}

/// Runs over a path to a node of its own; also how much N is then.
fn run_over(fate: impl Fn(u64) -> Fate + Send + 'static, load: Load) -> (Record, u64) {
    let node = NodeProcess::start("127.0.0.1:0");
    let proxy = Proxy::to(&node.udp, fate);
    let target = ServerUnderLoad::at(
        &proxy.address.to_string(),
        &HttpAt::At(node.udp.clone()),
        None,
    )
    .unwrap();
    let record = run(&target, load, 200);
    let mut client =
        rmbd_client::Client::connect(&*node.udp, rmbd_client::ClientOptions::default()).unwrap();
    let total_weight = client.count_bounds("no such key").unwrap().total_weight;
    (record, total_weight)
}

fn verdict(record: &Record) -> &Check {
    check(record, "exactly once")
}

#[test]
fn without_losses_nothing_is_uncertain_and_every_request_has_a_time() {
    let target = ServerUnderLoad::inside(node()).unwrap();
    for (gso, pack) in [(true, 4), (false, 1), (true, 70)] {
        let load = Load {
            gso,
            pack,
            threads: 2,
            sockets: 3,
            warmup: Duration::from_millis(50),
            ..adds(20_001)
        };
        let record = run(&target, load, 200);
        assert_all_passed(&record);
        let phase = only_phase(&record);
        let once = phase.once.unwrap();
        assert_eq!((once.acknowledged, once.uncertain), (20_001, 0));
        assert_eq!(phase.sent.adds, 20_001);
        assert_eq!(phase.received.unwrap().weight, Some(7 * 20_001));
        let answers = phase.answers.unwrap();
        assert_eq!(answers.answered + once.repeated, phase.sent.datagrams);
        assert_eq!((answers.timed_out, answers.unexpected), (0, 0));
        let times = phase.response_time.as_ref().unwrap();
        assert_eq!(times.count, answers.answered);
        assert_eq!(phase.service_time.as_ref().unwrap().count, answers.answered);
        assert!(table::text(&record).contains("uncertain adds"));
    }
}

#[test]
fn a_path_that_loses_doubles_and_reorders_changes_no_count() {
    let load = Load {
        threads: 2,
        sockets: 3,
        ..adds(20_000)
    };
    let (record, total_weight) = run_over(lossy, load);
    let phase = only_phase(&record);
    let once = phase.once.unwrap();
    assert_eq!((once.acknowledged, once.uncertain), (20_000, 0));
    assert_eq!(total_weight, 7 * 20_000);
    // A tenth is lost each way.
    assert!(once.repeated > 500 && once.applied_before > 100, "{once:?}");
    assert_eq!(phase.sent.adds, 20_000);
    let answers = phase.answers.unwrap();
    assert_eq!(answers.answered, 5_000);
    assert_eq!(
        answers.unexpected, 0,
        "a second acknowledgement is no surprise"
    );
    for name in ["exactly once", "N grew", "understood", "below", "promise"] {
        let check = check(&record, name);
        assert_eq!(check.outcome, Outcome::Passed, "{check:?}");
    }
    let truth = record.truth.as_ref().unwrap();
    assert_eq!(
        (truth.lost_adds, truth.below_truth, truth.over_max),
        (0, 0, 0)
    );
    // What was lost on the way is in the times: at least one had to be sent again.
    assert!(phase.service_time.as_ref().unwrap().max_ns >= 10_000_000);
}

/// Loses all copies of one request until the window behind it is full; then lets one through, and the same
/// once more when the window has moved on.
fn doubles_one_late(sequence: u64) -> Fate {
    let (mut newest, mut late) = (0, None);
    let mut is_through = false;
    Box::new(move |way, datagram| {
        let this = (way, datagram.to_vec());
        let once = match request(datagram).ok().and_then(|request| request.once) {
            Some(once) if way == Way::ToNode => once,
            _ => return vec![this],
        };
        newest = newest.max(once.sequence);
        let is_full = newest >= sequence + ONCE_WINDOW - 1;
        if once.sequence == sequence && !is_through {
            is_through = is_full;
            late = is_full.then(|| this.clone());
            return late.iter().cloned().collect();
        }
        let has_moved_on = newest >= sequence + ONCE_WINDOW;
        let late = if has_moved_on { late.take() } else { None };
        std::iter::once(this).chain(late).collect()
    })
}

#[test]
fn a_double_that_comes_when_the_window_has_moved_on_is_refused_and_no_fault() {
    let (record, total_weight) = run_over(|_| doubles_one_late(5), adds(8_000));
    let once = only_phase(&record).once.unwrap();
    assert_eq!((once.acknowledged, once.uncertain), (8_000, 0));
    assert_eq!(total_weight, 7 * 8_000);
    let received = only_phase(&record).received.unwrap();
    assert_eq!((received.refused, received.too_old), (1, 1));
    let understood = check(&record, "understood");
    assert_eq!(understood.outcome, Outcome::Passed, "{understood:?}");
    assert!(understood.detail.contains("late copies"), "{understood:?}");
    assert_eq!(verdict(&record).outcome, Outcome::Passed);
}

#[test]
fn what_nobody_acknowledges_is_uncertain_and_bounds_the_check() {
    let load = || Load {
        timeout: Duration::from_millis(1500),
        // All at once, so that this is waited for once.
        pace: Pace::Outstanding { requests: 400 },
        ..adds(400)
    };
    // Every tenth request loses all its acknowledgements, so that it is applied; ...
    let (record, total_weight) = run_over(
        |_| {
            Box::new(|way, datagram| {
                let is_lost = is_acknowledgement(datagram) && datagram[2].is_multiple_of(10);
                match way {
                    Way::ToClient if is_lost => vec![],
                    _ => vec![(way, datagram.to_vec())],
                }
            })
        },
        load(),
    );
    let once = only_phase(&record).once.unwrap();
    assert_eq!((once.acknowledged, once.uncertain), (360, 40));
    assert_eq!(total_weight, 7 * 400);
    let said = verdict(&record);
    assert_eq!(said.outcome, Outcome::Passed);
    assert!(said.detail.contains("40 uncertain"), "{}", said.detail);
    assert_eq!(only_phase(&record).answers.unwrap().timed_out, 10);
    // ... or never arrives.
    let (record, total_weight) = run_over(
        |_| {
            Box::new(|way, datagram| {
                let is_lost = is_once(datagram) && datagram[2].is_multiple_of(10);
                match way {
                    Way::ToNode if is_lost => vec![],
                    _ => vec![(way, datagram.to_vec())],
                }
            })
        },
        load(),
    );
    let once = only_phase(&record).once.unwrap();
    assert_eq!((once.acknowledged, once.uncertain), (360, 40));
    assert_eq!(total_weight, 7 * 360);
    assert_eq!(verdict(&record).outcome, Outcome::Passed);
    assert_eq!(record.truth.as_ref().unwrap().lost_adds, 40);
}

#[test]
fn a_server_that_counts_repeats_is_found_out() {
    // Every tenth request comes twice, as if of two clients.
    let (record, total_weight) = run_over(
        |_| {
            Box::new(|way, datagram| {
                let mut out = vec![(way, datagram.to_vec())];
                if way == Way::ToNode && is_once(datagram) && datagram[2].is_multiple_of(10) {
                    let mut other = datagram.to_vec();
                    other[15] ^= 0xff;
                    out.push((way, other));
                }
                out
            })
        },
        adds(400),
    );
    assert_eq!(total_weight, 7 * 440);
    let said = verdict(&record);
    assert_eq!(said.outcome, Outcome::Failed);
    assert!(said.detail.contains("counted twice"), "{}", said.detail);
    assert!(!record.passed());
}

#[test]
fn a_server_that_acknowledges_what_it_does_not_add_is_found_out() {
    let (record, total_weight) = run_over(
        |_| {
            Box::new(|way, datagram| {
                if way == Way::ToClient || !is_once(datagram) || !datagram[2].is_multiple_of(10) {
                    return vec![(way, datagram.to_vec())];
                }
                let request = request(datagram).unwrap();
                let mut reply = [0; 9];
                let head = ReplyHead {
                    id: request.id,
                    done: request.operations().count() as u16,
                    ..ReplyHead::default()
                };
                write_reply_head(head, &mut reply);
                vec![(Way::ToClient, reply.to_vec())]
            })
        },
        adds(400),
    );
    assert_eq!(total_weight, 7 * 360);
    let said = verdict(&record);
    assert_eq!(said.outcome, Outcome::Failed);
    assert!(said.detail.contains("are missing"), "{}", said.detail);
}

#[test]
fn a_node_that_was_started_again_refuses_and_the_run_ends() {
    // An address that no other test's sockets take a port of.
    let mut first = NodeProcess::start("127.0.0.2:0");
    let target = first.target();
    let mut second = None;
    let load = Load {
        messages: None,
        ..adds(0)
    };
    let record = run_watched(&target, load, 0, &mut |event| {
        // At most 800 messages are under way, so that many more than 1 000 are acknowledged then.
        if let Event::Progress { totals, .. } = event
            && totals.messages > 2000
            && second.is_none()
        {
            first.kill();
            second = Some(NodeProcess::start_again(&first.udp));
        }
    });
    let why = record.ended_early.as_deref().unwrap();
    assert!(
        why.contains("refused a request: the node was started again"),
        "{why}"
    );
    let phase = &record.phases[0];
    let once = phase.once.unwrap();
    assert!(once.acknowledged > 1000 && once.uncertain > 0, "{once:?}");
    assert_eq!(once.acknowledged + once.uncertain, phase.sent.adds);
    assert_eq!(verdict(&record).outcome, Outcome::Unknown);
}
