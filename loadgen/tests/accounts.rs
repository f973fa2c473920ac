//! What was sent is what was received and dropped, and answers are compared with it.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use loadgen::plan::{DEFAULT_KEY_BYTES, Format, KeySet, Load};
use loadgen::record::{Outcome, Pace};
use loadgen::server::ServerUnderLoad;
use rmbd::config::NodeConfig;
use rmbd_sketch::Geometry;
use support::{NodeProcess, assert_all_passed, at_rate, check, load, node, only_phase, run};

/// The least that the kernel gives a socket: a few datagrams.
fn tiny_buffer() -> ServerUnderLoad {
    ServerUnderLoad::inside(NodeConfig {
        receive_buffer_bytes: 1,
        ..node()
    })
    .unwrap()
}

#[test]
fn without_gso_sent_is_received_and_dropped() {
    let target = tiny_buffer();
    let flood = Load {
        gso: false,
        messages: Some(100_000),
        duration: Duration::from_secs(60),
        ..load("add", "uniform:1000")
    };
    let record = run(&target, flood, 100);
    let phase = only_phase(&record);
    let received = phase.received.unwrap();
    assert_eq!(phase.sent.datagrams, 100_000);
    assert!(received.dropped_by_kernel > 0, "nothing was dropped");
    assert_eq!(received.datagrams + received.dropped_by_kernel, 100_000);
    assert_eq!(check(&record, "accounted for").outcome, Outcome::Passed);
    // What was lost is below the truth, and nobody's fault.
    let truth = record.truth.as_ref().unwrap();
    assert_eq!(truth.lost_adds, received.dropped_by_kernel);
    assert_eq!(check(&record, "below").outcome, Outcome::Unknown);
    assert!(record.passed());
}

#[test]
fn with_gso_the_kernel_counts_trains_and_the_report_says_so() {
    let target = tiny_buffer();
    let flood = Load {
        messages: Some(1_000_000),
        duration: Duration::from_secs(60),
        ..load("add", "uniform:1000")
    };
    let record = run(&target, flood, 0);
    let phase = only_phase(&record);
    let received = phase.received.unwrap();
    let lost = phase.sent.datagrams - received.datagrams;
    assert!(lost > 0, "nothing was lost");
    assert!(received.dropped_by_kernel < lost);
    assert!(received.dropped_by_kernel * 64 >= lost);
    let accounts = check(&record, "accounted for");
    assert_eq!(accounts.outcome, Outcome::Passed);
    assert!(accounts.detail.contains("trains"), "{}", accounts.detail);
    assert!(record.notes.iter().any(|note| note.contains("trains")));
}

#[test]
fn what_is_not_lost_is_never_below_the_truth() {
    let target = ServerUnderLoad::inside(NodeConfig {
        geometry: Geometry::new(2000, 3).unwrap(),
        ..node()
    })
    .unwrap();
    // Two threads, several sockets, a warm-up, both kinds of messages, several a datagram; the
    // closed loop loses nothing.
    let closed = |seed| Load {
        pace: Pace::Outstanding { requests: 200 },
        messages: Some(60_000),
        warmup: Duration::from_millis(50),
        duration: Duration::from_secs(60),
        threads: 2,
        sockets: 5,
        pack: 4,
        seed,
        ..load("mix:0.2", "zipf:1.1:5000")
    };
    // The second run meets the keys that the first has left.
    for seed in [1, 2] {
        let record = run(&target, closed(seed), 2000);
        let phase = only_phase(&record);
        assert_all_passed(&record);
        let truth = record.truth.as_ref().unwrap();
        assert_eq!((truth.below_truth, truth.lost_adds), (0, 0));
        assert!(truth.checked_keys > 1000, "{truth:?}");
        assert!(truth.over_max > 0, "so small a sketch has collisions");
        let received = phase.received.unwrap();
        assert_eq!(received.adds, phase.sent.adds);
        assert_eq!(received.counts, phase.sent.counts);
        let answers = phase.answers.unwrap();
        assert_eq!(answers.answered, phase.sent.counts);
        assert_eq!((answers.timed_out, answers.unexpected), (0, 0));
    }
}

#[test]
fn closed_loops_of_adds_lose_nothing() {
    let target = ServerUnderLoad::inside(node()).unwrap();
    let adds = Load {
        pace: Pace::Outstanding { requests: 500 },
        pack: 9,
        messages: Some(200_001),
        duration: Duration::from_secs(60),
        ..load("add", "uniform:10000")
    };
    let record = run(&target, adds, 500);
    let phase = only_phase(&record);
    assert_eq!(phase.sent.adds, 200_001);
    assert!(phase.sent.counts > 0, "counts show that adds were read");
    assert_eq!(phase.answers.unwrap().answered, phase.sent.counts);
    assert_all_passed(&record);
}

#[test]
fn an_open_loop_sends_what_is_planned_and_gets_it_answered() {
    let server = NodeProcess::start("127.0.0.1:0");
    let target = server.target();
    let mixed = Load {
        pace: at_rate(20_000.0),
        warmup: Duration::from_millis(100),
        threads: 2,
        sockets: 4,
        ..load("mix:0.5", "zipf:1.1:10000")
    };
    let record = run(&target, mixed, 300);
    let phase = only_phase(&record);
    assert_all_passed(&record);
    assert_eq!(phase.sent.messages(), 20_000);
    let answers = phase.answers.unwrap();
    assert_eq!(answers.answered + answers.timed_out, phase.sent.counts);
    let series: u64 = phase.series.iter().map(|interval| interval.sent).sum();
    assert_eq!(series, 20_000);
    // The process was found by its port.
    assert_eq!(record.server.pid, Some(server.id()));
    let cost = phase.cost.unwrap();
    assert!(
        cost.cpu_s > 0.0 && cost.cpu_ns_per_message > Some(0.0),
        "{cost:?}"
    );
    assert!(cost.peak_memory_bytes > Some(1 << 20), "{cost:?}");
    assert_eq!(record.server.threads_with_traffic, Some(1));
}

#[test]
fn sockets_spread_over_the_servers_threads() {
    let target = ServerUnderLoad::inside(NodeConfig {
        threads: Some(2),
        ..node()
    })
    .unwrap();
    let few = Load {
        messages: Some(64),
        gso: false,
        pace: at_rate(10_000.0),
        ..load("add", "uniform:10")
    };
    let one_socket = run(&target, few.clone(), 0);
    assert_eq!(one_socket.server.threads_with_traffic, Some(1));
    let said = |note: &String| note.contains("Only 1 of the server's 2 data threads");
    assert!(one_socket.notes.iter().any(said), "{:?}", one_socket.notes);
    // That all 64 go to one thread has a probability of 2^-63.
    let many_sockets = run(&target, Load { sockets: 64, ..few }, 0);
    assert_eq!(many_sockets.server.threads_with_traffic, Some(2));
}

/// A load in the compact format, with as many messages to a datagram as fit.
fn compact(load: Load) -> Load {
    let mut load = Load {
        format: Format::Compact,
        ..load
    };
    load.pack = load.full_datagram();
    load
}

/// Keys from a file: 3 000 different ones of 2 to 1 024 bytes, most of them longer than legacy ones.
fn keys_of_all_lengths(name: &str) -> KeySet {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let lines: Vec<_> = (0..3000_usize)
        .map(|n| {
            let start = format!("{n:x}-");
            format!("{start}{}", "k".repeat(n * 7 % (1025 - start.len())))
        })
        .collect();
    assert_eq!(lines.iter().map(String::len).max(), Some(1024));
    std::fs::write(&path, lines.join("\n")).unwrap();
    let spec = format!("file:{}", path.display()).parse().unwrap();
    KeySet::open(&spec, DEFAULT_KEY_BYTES, "", Format::Compact).unwrap()
}

#[test]
fn compact_floods_are_received_or_dropped() {
    for gso in [false, true] {
        let flood = Load {
            gso,
            messages: Some(3_000_000),
            duration: Duration::from_secs(60),
            ..load("add", "uniform:1000")
        };
        let record = run(&tiny_buffer(), compact(flood), 100);
        let phase = only_phase(&record);
        assert_eq!((phase.sent.adds, phase.load.pack), (3_000_000, 77));
        assert_eq!(phase.sent.datagrams, 3_000_000_u64.div_ceil(77));
        let received = phase.received.unwrap();
        assert!(
            received.datagrams < phase.sent.datagrams,
            "nothing was lost"
        );
        assert_eq!(check(&record, "accounted for").outcome, Outcome::Passed);
        assert_eq!(check(&record, "understood").outcome, Outcome::Passed);
        // Whole datagrams are lost, of 77, the last one of 3.
        let lost = record.truth.as_ref().unwrap().lost_adds;
        assert!([0, 3].contains(&(lost % 77)), "{lost}");
        assert!(record.passed());
    }
}

#[test]
fn compact_messages_are_never_below_the_truth() {
    let target = ServerUnderLoad::inside(NodeConfig {
        geometry: Geometry::new(2000, 3).unwrap(),
        ..node()
    })
    .unwrap();
    let file = keys_of_all_lengths("keys-of-all-lengths");
    for (mode, keys, gso, weight) in [
        ("mix:0.2", None, true, 1),
        ("mix:0.2", None, true, 1000),
        ("mix:0.2", Some(&file), true, 1),
        ("mix:0.2", Some(&file), false, 9),
        ("hit:20", Some(&file), true, 1),
        ("hit:20", Some(&file), false, 3),
        ("count", Some(&file), true, 1),
    ] {
        let mut closed = Load {
            pace: Pace::Outstanding { requests: 2000 },
            messages: Some(60_000),
            warmup: Duration::from_millis(50),
            duration: Duration::from_secs(60),
            threads: 2,
            sockets: 5,
            gso,
            weight,
            ..load(mode, "zipf:1.1:5000")
        };
        if let Some(keys) = keys {
            closed.keys = keys.clone();
        }
        let record = run(&target, compact(closed), 2000);
        let phase = only_phase(&record);
        assert_all_passed(&record);
        let (sent, received) = (phase.sent, phase.received.unwrap());
        assert_eq!(sent.messages(), 60_000, "{mode}");
        assert_eq!(
            (received.adds, received.counts, received.hits),
            (sent.adds, sent.counts, sent.hits)
        );
        assert_eq!(received.datagrams, sent.datagrams);
        let answers = phase.answers.unwrap();
        assert_eq!(answers.answered, sent.requests(), "{mode}");
        assert_eq!((answers.timed_out, answers.unexpected), (0, 0));
        if mode != "count" {
            let truth = record.truth.as_ref().unwrap();
            assert_eq!((truth.below_truth, truth.lost_adds), (0, 0));
            assert!(truth.checked_keys > 1000, "{truth:?}");
        }
        assert!(sent.bytes <= sent.datagrams * 1400);
    }
}

#[test]
fn compact_closed_loops_of_adds_lose_nothing() {
    let target = ServerUnderLoad::inside(node()).unwrap();
    let adds = Load {
        pace: Pace::Outstanding { requests: 5000 },
        messages: Some(1_000_001),
        duration: Duration::from_secs(60),
        ..load("add", "uniform:10000")
    };
    for gso in [true, false] {
        let record = run(
            &target,
            compact(Load {
                gso,
                ..adds.clone()
            }),
            500,
        );
        let phase = only_phase(&record);
        assert_eq!(phase.sent.adds, 1_000_001);
        let acknowledgements = phase.sent.acknowledgements;
        assert!(acknowledgements > 0, "adds alone are not answered");
        assert_eq!(phase.answers.unwrap().answered, acknowledgements);
        assert_all_passed(&record);
    }
}

/// 100 keys that are hit equally often: most of the hits are above the limit, and in a sketch so wide
/// none is refused that is not.
#[test]
fn hits_are_judged() {
    for (pace, threads) in [
        (at_rate(20_000.0), 2),
        (Pace::Outstanding { requests: 256 }, 2),
        (Pace::Outstanding { requests: 1 }, 1),
    ] {
        let target = ServerUnderLoad::inside(node()).unwrap();
        let hits = Load {
            format: Format::Compact,
            pace,
            warmup: Duration::from_millis(50),
            messages: Some(8_000),
            duration: Duration::from_secs(60),
            threads,
            sockets: threads,
            ..load("hit:50", "sequential:100")
        };
        let record = run(&target, hits, 100);
        let phase = only_phase(&record);
        assert_all_passed(&record);
        assert_eq!(check(&record, "above its limit").outcome, Outcome::Passed);
        assert_eq!((phase.sent.hits, phase.load.limit), (8_000, Some(50)));
        assert_eq!(phase.response_time.as_ref().unwrap().count, 8_000);
        let verdicts = phase.verdicts.unwrap();
        assert_eq!(verdicts.judged(), 8_000);
        assert_eq!(verdicts.refused_early, 0, "{verdicts:?}");
        // With what the warm-up had hit, at most the first 50 of each key are within the limit.
        assert!(
            verdicts.within <= 5_000 && verdicts.over >= 3_000,
            "{verdicts:?}"
        );
        let truth = record.truth.as_ref().unwrap();
        assert_eq!(truth.over_max, 0, "{truth:?}");
    }
}

/// N, as the node's own client hears it.
fn total_weight(target: &ServerUnderLoad) -> u64 {
    let mut client =
        rmbd_client::Client::connect(target.udp(), rmbd_client::ClientOptions::default()).unwrap();
    client.count_bounds("no such key").unwrap().total_weight
}

#[test]
fn every_add_carries_its_weight() {
    for (mode, weight, pace) in [
        ("add", 1, Pace::Outstanding { requests: 2000 }),
        ("add", 2, at_rate(10_000.0)),
        ("add", 1000, Pace::Outstanding { requests: 2000 }),
        // All together less than a node takes over at once.
        ("mix:0.5", 1 << 18, Pace::Outstanding { requests: 2000 }),
        ("hit:5000", 999, Pace::Outstanding { requests: 2000 }),
    ] {
        let target = ServerUnderLoad::inside(node()).unwrap();
        let weighty = Load {
            pace,
            weight,
            messages: Some(5_000),
            duration: Duration::from_secs(60),
            threads: 2,
            sockets: 3,
            ..load(mode, "uniform:1000")
        };
        let record = run(&target, compact(weighty), 500);
        assert_all_passed(&record);
        let phase = only_phase(&record);
        let weighed = phase.sent.adding() * u64::from(weight);
        assert!(phase.sent.adding() > 2000, "{mode}");
        assert_eq!(total_weight(&target), weighed, "{mode} {weight}");
        assert_eq!(phase.load.weight, weight);
        assert_eq!(phase.received.unwrap().weight, Some(weighed));
        let truth = record.truth.as_ref().unwrap();
        assert_eq!(truth.total_weight, Some(weighed));
        // The sketch is so wide that no key shares all its cells: weights that are ignored, or added
        // twice, would be seen in each of them.
        assert_eq!((truth.below_truth, truth.over_max), (0, 0), "{mode}");
    }
}

/// 100 keys of which each is hit 80 times, one after the other: 7 of weight 7 are within 50.
#[test]
fn weights_of_hits_are_judged_exactly() {
    let target = ServerUnderLoad::inside(node()).unwrap();
    let hits = Load {
        format: Format::Compact,
        pace: Pace::Outstanding { requests: 1 },
        messages: Some(8_000),
        weight: 7,
        duration: Duration::from_secs(60),
        ..load("hit:50", "sequential:100")
    };
    let record = run(&target, hits, 100);
    assert_all_passed(&record);
    let verdicts = only_phase(&record).verdicts.unwrap();
    assert_eq!((verdicts.within, verdicts.over), (700, 7300));
    assert_eq!((verdicts.wrong(), verdicts.refused_early), (0, 0));
}

/// Totals that 32 bits do not hold, with more weight at a time than a node takes over at once: what it is too busy for
/// goes again.
#[test]
fn totals_have_no_end() {
    let target = ServerUnderLoad::inside(node()).unwrap();
    let adds = Load {
        pace: Pace::Outstanding { requests: 500 },
        messages: Some(50_000),
        weight: 1 << 20,
        exactly_once: true,
        duration: Duration::from_secs(60),
        ..load("add", "sequential:10")
    };
    let record = run(&target, compact(adds), 100);
    assert_all_passed(&record);
    let truth = record.truth.as_ref().unwrap();
    assert_eq!(
        (truth.checked_keys, truth.below_truth, truth.over_max),
        (10, 0, 0)
    );
    assert_eq!(total_weight(&target), 50_000 << 20);
    // What comes after it in the other format meets the same cells.
    let legacy = Load {
        pace: Pace::Outstanding { requests: 50 },
        messages: Some(1_000),
        ..load("add", "sequential:10")
    };
    let record = run(&target, legacy, 100);
    assert_all_passed(&record);
    assert_eq!(record.truth.as_ref().unwrap().below_truth, 0);
}

/// Lists are compared with all that was sent: in one node, in whichever format, and in each node of a cluster.
#[test]
fn lists_of_the_largest_keys_are_judged() {
    for keys in ["zipf:1.1:20000", "uniform:50"] {
        let load = Load {
            messages: Some(60_000),
            pace: at_rate(200_000.0),
            duration: Duration::from_secs(60),
            ..load("add", keys)
        };
        let record = run(&ServerUnderLoad::inside(node()).unwrap(), load, 50);
        assert_all_passed(&record);
        let [list] = &record.lists[..] else {
            panic!("{:?}", record.lists)
        };
        assert!(
            check(&record, "has all that it says")
                .detail
                .contains("largest keys")
        );
        assert_eq!(list.certain_above_truth, 0);
        assert!(list.recall > 0.9 && list.named > 45, "{list:?}");
    }
}

/// What cannot be judged is said: counts that were there before, and sketches without lists.
#[test]
fn lists_that_cannot_be_judged_are_said() {
    let target = ServerUnderLoad::inside(node()).unwrap();
    let adds = || Load {
        messages: Some(1_000),
        pace: at_rate(100_000.0),
        duration: Duration::from_secs(60),
        ..load("add", "uniform:50")
    };
    assert_eq!(run(&target, adds(), 50).lists.len(), 1);
    let record = run(&target, adds(), 50);
    let says = |record: &loadgen::record::Record, why: &str| {
        let mut notes = record.notes.iter();
        notes.any(|note| note.contains("not judged") && note.contains(why))
    };
    assert!(
        record.lists.is_empty() && says(&record, "not empty"),
        "{:?}",
        record.notes
    );
    let without = ServerUnderLoad::inside(NodeConfig {
        top: Some(0),
        ..node()
    })
    .unwrap();
    let record = run(&without, adds(), 50);
    assert!(
        record.lists.is_empty() && says(&record, "no list of"),
        "{:?}",
        record.notes
    );
}
