//! A record for tests, as a run could have left it: a flood of adds, and counts at a rate with a stall of the server
//! and a late generator. It is the same every time.

use super::{
    Admitted, AdmittedSecond, Answers, Check, Cost, Environment, Gaps, InWindow, Interval, Latency,
    Load, NodeShare, Outcome, Pace, Phase, Received, Record, SCHEMA, Schedule, Sent, Server, Truth,
    WindowTruth, latency_histogram,
};

pub(crate) fn record() -> Record {
    Record {
        schema: SCHEMA,
        environment: environment(),
        server: server(),
        ended_early: None,
        phases: vec![adds(), counts()],
        truth: Some(truth()),
        lists: Vec::new(),
        checks: checks(),
        notes: vec!["Generator and server share 2 CPUs.".to_owned()],
    }
}

fn environment() -> Environment {
    Environment {
        started: "2026-01-02T03:04:05Z".to_owned(),
        command: "loadgen --rate 50k --keys 'file:my <log>'".to_owned(),
        version: "0.1.0".to_owned(),
        commit: Some("0123456789ab".to_owned()),
        build: "rustc 1.95.0, release".to_owned(),
        processor: Some("A Processor 9000".to_owned()),
        cpus: 2,
        memory_bytes: Some(24 << 30),
        virtual_machine: true,
        kernel: "Linux 6.18.5".to_owned(),
        system: Some("Debian GNU/Linux 12 (bookworm)".to_owned()),
        load_average: Some(1.2),
        receive_buffer_max_bytes: Some(4 << 20),
        cpu_governor: None,
    }
}

fn server() -> Server {
    Server {
        address: "127.0.0.1:40123".to_owned(),
        inside: true,
        status_url: Some("127.0.0.1:40124/status".to_owned()),
        pid: None,
        version: Some("0.1.0".to_owned()),
        width: Some(1 << 20),
        depth: Some(4),
        hash: Some("xxh3".to_owned()),
        io: Some("mmsg".to_owned()),
        threads: Some(1),
        threads_with_traffic: Some(1),
        cpus: vec![0],
    }
}

fn load(count_share: f64, pace: Pace, pack: usize) -> Load {
    Load {
        count_share,
        hit_share: 0.0,
        limit: None,
        window_ms: None,
        takes: false,
        bound: None,
        sketch: Some("default".to_owned()),
        hot_change_s: None,
        weight: 1,
        exactly_once: false,
        pace,
        format: "legacy".to_owned(),
        pack,
        gso: true,
        threads: 1,
        sockets: 4,
        keys: "zipf:1.1:1000000".to_owned(),
        key_bytes: Some(16),
        seed: 1,
        timeout_s: 1.0,
    }
}

fn adds() -> Phase {
    let per_s = |second: usize| 11_800_000 + [0, 310_000, 120_000, 420_000, 180_000][second % 5];
    let interval = |second: usize| Interval {
        end_s: second as f64 + 1.0,
        seconds: 1.0,
        sent: per_s(second),
        received: Some(per_s(second) - 1200),
        ..Interval::default()
    };
    Phase {
        name: "adds, flood".to_owned(),
        load: load(0.0, Pace::Flood, 9),
        warmup_s: 1.0,
        seconds: 5.0,
        sent: Sent {
            adds: 60_030_000,
            datagrams: 6_670_000,
            bytes: 8_464_230_000,
            ..Sent::default()
        },
        answers: None,
        verdicts: None,
        once: None,
        in_window: None,
        window_truth: None,
        nodes: Vec::new(),
        received: Some(Received {
            adds: 60_024_000,
            datagrams: 6_669_334,
            dropped_by_kernel: 11,
            ..Received::default()
        }),
        response_time: None,
        service_time: None,
        schedule: None,
        cost: Some(Cost {
            cpu_s: 4.1,
            cpu_ns_per_message: Some(68.3),
            spinning_s: None,
            work_ns_per_message: None,
            peak_memory_bytes: Some(48 << 20),
        }),
        generator_cpu_s: Some(4.9),
        series: (0..5).map(interval).collect(),
    }
}

/// The phase of counts; the server stands still in the fifth second.
fn counts() -> Phase {
    let mut response = latency_histogram();
    let mut service = latency_histogram();
    for request in 0..400_000_u64 {
        // The times have a long tail, without a random number.
        let rank = (request * 7919 % 400_000 + 1) as f64 / 400_000.0;
        let ns = 34_000.0 * (1.0 - rank + 2e-6).powf(-0.35);
        let stall = if (200_000..240_000).contains(&request) {
            (240_000 - request) * 25_000
        } else {
            0
        };
        response.saturating_record(ns as u64 + stall);
        service.saturating_record(ns as u64 * 9 / 10 + stall / 2);
    }
    let interval = |second: u64| {
        let stalled = second == 4;
        let ns = |usual: u64, stall: u64| Some(if stalled { stall } else { usual + second * 900 });
        Interval {
            end_s: second as f64 + 1.0,
            seconds: 1.0,
            sent: 50_000,
            received: Some(if stalled { 8000 } else { 50_000 }),
            answered: if stalled { 8000 } else { 50_000 },
            timed_out: if stalled { 1200 } else { 0 },
            response_p50_ns: ns(43_000, 480_000_000),
            response_p99_ns: ns(190_000, 990_000_000),
            response_max_ns: ns(4_100_000, 1_000_000_000),
            service_p99_ns: ns(150_000, 500_000_000),
        }
    };
    Phase {
        name: "counts while adds run".to_owned(),
        load: load(
            1.0,
            Pace::Rate {
                per_s: 50_000.0,
                gaps: Gaps::Exponential,
            },
            1,
        ),
        warmup_s: 0.0,
        seconds: 8.0,
        sent: Sent {
            counts: 400_000,
            datagrams: 400_000,
            bytes: 56_400_000,
            ..Sent::default()
        },
        answers: Some(Answers {
            answered: 398_800,
            timed_out: 1200,
            unexpected: 3,
        }),
        verdicts: None,
        once: None,
        in_window: None,
        window_truth: None,
        nodes: Vec::new(),
        received: Some(Received {
            counts: 400_000,
            datagrams: 400_000,
            ..Received::default()
        }),
        response_time: Latency::of(&response),
        service_time: Latency::of(&service),
        schedule: Some(Schedule {
            planned: 400_000,
            late_p50_ns: 800,
            late_p99_ns: 1_900_000,
            late_max_ns: 12_000_000,
            reached_per_s: 49_990.0,
            kept: false,
        }),
        cost: Some(Cost {
            cpu_s: 0.9,
            cpu_ns_per_message: Some(2250.0),
            spinning_s: Some(0.6),
            work_ns_per_message: Some(750.0),
            peak_memory_bytes: Some(48 << 20),
        }),
        generator_cpu_s: Some(7.9),
        series: (0..8).map(interval).collect(),
    }
}

/// The phase of counts as if it had been one of takes at two nodes, which admit a few too many.
pub(crate) fn takes() -> Phase {
    let in_window = InWindow {
        admitted: 119,
        refused: 399_881,
        unsure: 12,
        incomplete: 400_000,
        ..InWindow::default()
    };
    let node = |address: &str| NodeShare {
        address: address.to_owned(),
        sent: Sent {
            hits: 200_000,
            ..Sent::default()
        },
        answered: 200_000,
        timed_out: 0,
        in_window,
        received: None,
    };
    let second = |second: u64| AdmittedSecond {
        end_s: second as f64 + 1.0,
        asked: 50_000,
        admitted: if second == 0 { 104 } else { second },
        in_window: 104 - second,
    };
    let load = Load {
        hit_share: 1.0,
        limit: Some(100),
        window_ms: Some(5000),
        takes: true,
        bound: Some(false),
        ..load(0.0, Pace::Outstanding { requests: 9 }, 1)
    };
    Phase {
        name: "takes of 100 in 5s".to_owned(),
        load,
        in_window: Some(in_window),
        nodes: vec![node("10.0.0.1:1"), node("10.0.0.2:1")],
        window_truth: Some(WindowTruth {
            window_ms: 5000,
            judged_keys: 1,
            distinct_keys: 1,
            admitted: Some(Admitted {
                allowed: 100,
                largest: 104,
                largest_for_sure: 103,
                least: Some(97),
                keys_above: 1,
                unanswered: 0,
                series: (0..8).map(second).collect(),
            }),
            ..WindowTruth::default()
        }),
        ..counts()
    }
}

fn truth() -> Truth {
    Truth {
        total_adds: 72_000_000,
        total_weight: Some(72_000_000),
        lost_adds: 6000,
        distinct_keys: 981_233,
        kept_share: 1.0,
        checked_keys: 11_000,
        checked_hot_keys: 1000,
        below_truth: 0,
        over_mean: 1.4,
        over_p50: 0,
        over_p99: 21,
        over_max: 131,
        bound: 186.7,
        over_bound_share: 0.0,
        delta: 0.018_315_6,
    }
}

fn checks() -> Vec<Check> {
    let check = |name: &str, outcome, detail: &str| Check {
        name: name.to_owned(),
        outcome,
        detail: detail.to_owned(),
    };
    vec![
        check(
            "No estimate is below the truth",
            Outcome::Passed,
            "11 000 keys were compared.",
        ),
        check(
            "Few estimates are above the bound",
            Outcome::Passed,
            "0 % of the keys, 1.83 % are allowed.",
        ),
        check(
            "The plan was kept",
            Outcome::Failed,
            "99 % of the messages left up to 1.90 ms late.",
        ),
        check(
            "Every datagram is accounted for",
            Outcome::Unknown,
            "With GSO the kernel counts trains.",
        ),
    ]
}
