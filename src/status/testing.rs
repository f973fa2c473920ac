//! A status for tests.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_sketch::{Geometry, HashFamily, KeyHash, Weight};
use rmbd_store::once::{BootChain, OnceTable};
use rmbd_store::{
    Boot, NamedSketch, Registry, Replica, ReplicaOptions, SketchIndex, ToldKey, ToldList,
    ToldLists, WindowPlan,
};

use super::{
    AmountStatus, AuditErrorsStatus, AuditStatus, ClusterStatus, CompactStatus, Datagrams,
    DeniedDocument, DeniedError, DeniedQuestion, Detail, DetailError, DetailQuestion,
    EnvoyRuleStatus, EnvoyStatus, HttpApiStatus, IoStatus, LastSnapshotFile, LatencyBucket,
    LatencyStatus, LikelyErrorStatus, LimitStatus, LoadedSnapshotFile, LogStatus, MemberStatus,
    Messages, NamedSketchStatus, NewWriterStatus, OneWayStatus, OtherSketch, PeerOrder, PeerStatus,
    QueueStatus, Readiness, Replies, RespStatus, SetAsideFile, SharedNodeStatus, SketchStatus,
    SliceStatus, SnapshotFilesStatus, SpoeStatus, Status, ThreadStatus, TopDocument, TopError,
    TopListStatus, TopQuestion, TopStatus, WindowStatus,
};
use crate::engine::limits::Amount;
use crate::engine::{Admitted, Engine, EngineOptions, Rule, Session};

fn sketch(name: &str, total_weight: u64, weight: u64) -> NamedSketchStatus {
    NamedSketchStatus {
        name: name.into(),
        number: total_weight as u32,
        sketch: SketchStatus {
            width: 1 << 20,
            depth: 4,
            hash: "xxh3".into(),
            epsilon: std::f64::consts::E / f64::from(1 << 20),
            confidence: 1.0 - (-4.0_f64).exp(),
            memory_bytes: 1_000 * total_weight,
            total_weight,
            incomplete: false,
            likely_error: Some(LikelyErrorStatus {
                mean: total_weight as f64 / 4.0,
                median: total_weight / 8,
                quantile: total_weight / 2,
                share: 1.0 - (-4.0_f64).exp(),
            }),
            audit: Some(audit(total_weight)),
        },
        known_weight: total_weight + 1,
        windows: vec![WindowStatus {
            span_ms: 60_000,
            step_ms: 5_000,
            width: 1 << 17,
            epsilon: std::f64::consts::E / f64::from(1 << 17),
            memory_bytes: 29_360_128,
            weight,
            error: weight / 100,
            audit: audit(2 * total_weight).errors,
        }],
        top: TopStatus {
            most: 100,
            memory_bytes: 7 * total_weight,
            age_s: Some(0.25),
            lists: vec![
                top_list(0, total_weight),
                TopListStatus {
                    complete_above: None,
                    ..top_list(60_000, weight)
                },
            ],
        },
    }
}

fn top_list(window_ms: u64, total_weight: u64) -> TopListStatus {
    TopListStatus {
        window_ms,
        keys: total_weight - 11,
        named: total_weight - 13,
        complete_above: Some(total_weight - 17),
        certain: total_weight - 19,
        total_weight: total_weight - 23,
    }
}

fn audit(weight: u64) -> AuditStatus {
    AuditStatus {
        errors: Some(AuditErrorsStatus {
            keys: 400 + 8 * weight,
            sampled: 1.0 / 64.0,
            mean: weight as f64 / 16.0,
            quantile: weight / 6,
            share: 1.0 - (-4.0_f64).exp(),
            largest: weight / 3,
            // A quarter.
            above_epsilon: 100 + 2 * weight,
        }),
        missed_weight: weight + 1_000,
        too_low: weight + 2_000,
        verdicts: weight + 5_000,
        verdicts_over: weight + 4_000,
        verdicts_wrong: weight + 3_000,
    }
}

/// A status in which no number stands twice where a mix-up of fields would be possible.
pub(crate) fn status() -> Status {
    Status {
        version: "1.2.3".into(),
        uptime_s: 93_784.5,
        ready: true,
        failure: None,
        udp: "127.0.0.1:8000".into(),
        http: Some("127.0.0.1:8000".into()),
        readiness: Readiness::default(),
        sketch: SketchStatus {
            width: 1 << 20,
            depth: 4,
            hash: "xxh3".into(),
            epsilon: std::f64::consts::E / f64::from(1 << 20),
            confidence: 1.0 - (-4.0_f64).exp(),
            memory_bytes: 33_554_432,
            total_weight: 48_211_904,
            incomplete: true,
            likely_error: None,
            audit: None,
        },
        sketches: vec![sketch("default", 71, 500), sketch("logins", 73, 7_000)],
        pardons: 50_003,
        limits: vec![LimitStatus {
            name: "api".into(),
            sketch: "logins".into(),
            amounts: vec![AmountStatus {
                limit: 100,
                window_ms: 60_000,
                error: 3,
                error_is_large: false,
            }],
            takes: true,
            shadow_mode: false,
            asked: 101,
            over: 103,
            near: 107,
            unsure: 109,
            shadow: 113,
        }],
        messages: Messages {
            add: 48_211_904,
            count: 1_204_551,
            sync: 2_040,
            peer: 3,
            ack: 2_012,
            hit: 904_003,
            bounds: 21,
            info: 9,
            window: 77_003,
            limits: 40_010,
            hit_by_name: 5_002,
            pardon: 1,
            sketches: 4,
            top: 6,
        },
        datagrams: Datagrams {
            received: 5_511_002,
            malformed: [("length".into(), 17), ("unknown_type".into(), 4)].into(),
            refused: [("untrusted".into(), 2)].into(),
            dropped_by_kernel: 128,
        },
        replies: Replies {
            sent: 133_839,
            dropped: 5,
        },
        io: IoStatus {
            backend: "uring".into(),
            threads: vec![thread(0, 2_755_000, 128), thread(1, 2_756_002, 0)],
        },
        compact: CompactStatus {
            boot: "0123456789abcdef".into(),
            fingerprint: "fedcba9876543210".into(),
            max_weight: 1_000,
            requests: 2_500_017,
            repeats: 44,
            once_clients: 12,
            once_clients_max: 65_536,
        },
        resp: RespStatus {
            address: Some("127.0.0.1:6379".into()),
            connections: 51,
            connections_max: 1_024,
            commands: 700_001,
            protocol_errors: 52,
            wrong_passwords: 53,
            connections_accepted: 1_054,
            connections_not_allowed: 55,
            connections_without_place: 56,
            closed_by_client: 957,
            closed_by_node: 58,
            closed_idle: 59,
            closed_stalled: 60,
            closed_no_memory: 61,
            closed_failed: 62,
            closed_at_end: 63,
        },
        spoe: SpoeStatus {
            address: Some("127.0.0.1:9001".into()),
            connections: 12,
            connections_max: 256,
            spoe_messages: 600_001,
            spoe_over: 71,
            spoe_refused: 72,
            spoe_failed: 73,
            spoe_health_checks: 74,
            spoe_protocol_errors: 75,
            spoe_connections_accepted: 76,
            spoe_connections_not_allowed: 77,
            spoe_connections_without_place: 78,
            spoe_closed_idle: 79,
            spoe_closed_stalled: 80,
        },
        envoy: EnvoyStatus {
            address: Some("127.0.0.1:8081".into()),
            connections: 71,
            connections_max: 1_024,
            domains: 1,
            rules: 2,
            envoy_requests: 800_001,
            envoy_descriptors: 800_072,
            envoy_over: 73,
            envoy_unknown_domains: 74,
            envoy_overrides: 75,
            envoy_overrides_without_window: 76,
            envoy_refused: 77,
            envoy_failed: 78,
            envoy_connections_accepted: 79,
            envoy_connections_not_allowed: 80,
            envoy_connections_without_place: 81,
            envoy_values_left_out: 82,
            by_rule: vec![EnvoyRuleStatus {
                rule: "edge.user".into(),
                hits: 800_003,
                over: 83,
                near: 84,
                shadow: 85,
            }],
        },
        http_api: HttpApiStatus {
            http_adds: 51,
            http_counts: 52,
            http_hits: 53,
            http_takes: 54,
            http_tops: 55,
            http_checks: 56,
            http_over: 57,
            http_refused: 58,
            http_failed: 59,
        },
        latencies: vec![
            latency(
                "count",
                &[(Some(1e-6), 5), (Some(1.5e-6), 7), (Some(0.000_256), 11)],
            ),
            latency("resp", &[(Some(0.000_002), 3), (None, 2)]),
        ],
        snapshot_files: snapshot_files(),
        log: LogStatus {
            lines_dropped: 31,
            lines_refused: 37,
        },
        cluster: cluster(),
        peers: vec![pushed_to(), heard_from()],
        peer_orders: vec![
            order(2, "10.0.0.7:8000", true, "pushing"),
            order(
                3,
                "nowhere.example:70000",
                false,
                "the port is not within 1..=65535",
            ),
        ],
    }
}

fn latency(operation: &str, buckets: &[(Option<f64>, u64)]) -> LatencyStatus {
    let count = buckets.iter().map(|(_, count)| count).sum();
    let buckets = buckets.iter();
    LatencyStatus {
        operation: operation.into(),
        count,
        sum_s: count as f64 / 1024.0,
        p50_s: Some(0.000_012_5),
        p99_s: Some(0.003_584),
        p999_s: None,
        buckets: buckets
            .map(|&(le_s, count)| LatencyBucket { le_s, count })
            .collect(),
    }
}

fn snapshot_files() -> SnapshotFilesStatus {
    SnapshotFilesStatus {
        enabled: true,
        folder: Some("/var/lib/rmbd".into()),
        interval_ms: 20_000,
        age_s: Some(61.5),
        overdue: true,
        writing: true,
        orders_done: 3,
        last: Some(LastSnapshotFile {
            age_s: 81.5,
            bytes: 9_437_184,
            slices: 5,
            duration_s: 0.75,
        }),
        written: 127,
        unchanged: 131,
        failures: 137,
        failure: Some("writing fails: No space left on device".into()),
        loaded: Some(LoadedSnapshotFile {
            age_s: 2.5,
            slices: 4,
            weight: 139_001,
            is_resumed: true,
            refused: 2,
            skipped: vec!["logins: its size is another".into()],
        }),
        set_aside: vec![
            SetAsideFile {
                file: Some("snapshot.bad-20270115T080000.000Z-torn".into()),
                reason: None,
            },
            SetAsideFile {
                file: None,
                reason: Some("it is a symbolic link".into()),
            },
        ],
    }
}

/// The detail of a node that has counted the key as often as it has bytes, in the sketches `default` and `logins`.
/// Both have the window of a minute, and the latter one of an hour too.
pub(crate) fn detail(question: &DetailQuestion) -> Result<Detail, DetailError> {
    let sketches = [("default", &[60_000][..]), ("logins", &[60_000, 3_600_000])];
    let sketches = sketches.map(|(name, spans_ms)| sketch_of(name, spans_ms, &question.key));
    let registry = Registry::new(sketches.into()).unwrap();
    let replica = &question.find(&registry)?.replica;
    let origins = replica.estimate_by_origin(&question.key);
    Detail::of(question, replica, &origins, Duration::from_secs(1))
}

/// The largest keys of a node with the sketches `default` and `logins`, of which the former lists at most 3 keys and
/// the latter none. It is one second old, and its lists half a second.
pub(crate) fn top(question: &TopQuestion, shows_keys: bool) -> Result<TopDocument, TopError> {
    let default = named_sketch("default", &[60_000], b"", 3);
    let logins = named_sketch("logins", &[60_000], b"", 0);
    let engine = engine(vec![default, logins]);
    let told = ToldLists {
        made: Duration::from_millis(500),
        lists: vec![told_list(None), told_list(Some(60_000))],
    };
    engine.top().tell(SketchIndex::DEFAULT, told);
    question.answer(&engine, shows_keys, Duration::from_secs(1))
}

/// The keys that a node with the limits `api` and `shadow` denied in the last 400 seconds: three of the former, none of
/// the latter.
pub(crate) fn denied(
    question: &DeniedQuestion,
    shows_keys: bool,
) -> Result<DeniedDocument, DeniedError> {
    let engine = Arc::new(engine(vec![named_sketch("default", &[], b"", 0)]));
    let rule = |name: &str, is_shadow| Rule {
        name: name.into(),
        sketch: SketchIndex::DEFAULT,
        keys: "*".parse().unwrap(),
        amounts: [Amount {
            limit: 0,
            window_ms: 0,
        }]
        .into(),
        cost: 1,
        takes: true,
        overrides: Box::default(),
        exempt: Box::default(),
        is_shadow,
    };
    engine.set_limits(vec![rule("api", false), rule("shadow", true)]);
    let (now, admitted) = (Duration::from_secs(400), Admitted::to(SketchIndex::DEFAULT));
    let mut session = Session::new(Arc::clone(&engine));
    for (key, times) in [(&b"<b>apple</b>"[..], 3), (b"\xff\0", 2), (b"", 1)] {
        for _ in 0..times {
            let hit = session.hit_by_name(admitted, (b"api", key), 1, || now, (), &mut |(), _| {});
            hit.unwrap();
        }
    }
    session.finish(&mut |(), _| {});
    question.answer(&engine, shows_keys, now)
}

fn engine(sketches: Vec<NamedSketch>) -> Engine {
    let options = EngineOptions {
        boot: Boot(1),
        earlier: BootChain::default(),
        max_weight: Weight::MAX,
        once: Arc::new(OnceTable::new(1, &[7; 32])),
    };
    Engine::new(Registry::new(sketches).unwrap(), &options)
}

fn told_list(span_ms: Option<u64>) -> ToldList {
    let names = [Some(&b"<b>apple</b>"[..]), Some(b"\xff\0"), None];
    let key = |(name, n): (Option<&[u8]>, u64)| ToldKey {
        hash: KeyHash::of_halves([n; 2]),
        name: name.map(Box::from),
        estimate: 100 - n,
        certain: 90 - n,
        by_node: vec![(0xaa, 50), (0xbb, 40 - n)],
    };
    ToldList {
        span_ms,
        keys: names.into_iter().zip(1..).map(key).collect(),
        total_weight: 1_000,
        complete_above: 7,
        is_incomplete: span_ms.is_some(),
    }
}

fn sketch_of(name: &str, spans_ms: &[u64], key: &[u8]) -> NamedSketch {
    named_sketch(name, spans_ms, key, 0)
}

fn named_sketch(name: &str, spans_ms: &[u64], key: &[u8], top: usize) -> NamedSketch {
    let (geometry, family) = (Geometry::new(1024, 4).unwrap(), HashFamily::Fnv);
    let plan = |&span_ms| WindowPlan::new(span_ms, None, None, geometry, family).unwrap();
    let own = SliceId {
        node: 0xaa,
        ..SliceId::default()
    };
    let replica = Replica::try_open(ReplicaOptions {
        own,
        windows: spans_ms.iter().map(plan).collect(),
        top,
        ..ReplicaOptions::new(geometry, family)
    });
    let replica = replica.unwrap();
    if !key.is_empty() {
        let weight = Weight::new(key.len() as u32).unwrap();
        replica.add(key, weight).unwrap();
    }
    NamedSketch::new(name.parse().unwrap(), Arc::new(replica))
}

fn cluster() -> ClusterStatus {
    ClusterStatus {
        enabled: true,
        off_because: None,
        node: "00000000000000aa".into(),
        boot: "0123456789abcdef".into(),
        writer: "aa00000000000000".into(),
        name_open: true,
        new_writer: Some(NewWriterStatus {
            reason: "other_cells".into(),
            detail: "others have more of it (10.0.0.4:8001): it may count twice".into(),
            may_count_twice: true,
            by: Some("10.0.0.4:8001".into()),
            before: "aa00000000000001".into(),
        }),
        shared_nodes: vec![SharedNodeStatus {
            node: "00000000000000cc".into(),
            addresses: vec!["10.0.0.12:8001".into(), "10.0.0.17:8001".into()],
            detail: "10.0.0.12:8001 and 10.0.0.17:8001 are one node by its number".into(),
        }],
        address: Some("0.0.0.0:8001".into()),
        advertised: Some("10.0.0.1:8001".into()),
        sealed: true,
        members: vec![
            member(0xbb, "alive", 0, 0.0),
            MemberStatus {
                other_sketches: vec![OtherSketch::default()],
                ..member(0xcc, "alive", 6, 1.25)
            },
            member(0xdd, "down", 99, 777.0),
        ],
        one_way: vec![OneWayStatus {
            address: "10.1.0.1:8001".into(),
            node: Some("0000000000000099".into()),
            boot: Some("0000009900000000".into()),
            heard_s: Some(0.4),
            lag_versions: 2,
            other_sketches: vec![],
        }],
        slices: vec![
            slice(0xaa, true, 910),
            slice(0xbb, false, 820),
            slice(0xcc, false, 730),
        ],
        slices_held: 3,
        slices_of_this_node: 1,
        slices_weight: 910 + 820 + 730,
        slices_refused: vec!["sketch 0, node 00000000000000ee, writer 00000000000000ff".into()],
        rounds: 70_001,
        datagrams_sent: 140_002,
        datagrams_received: 150_003,
        bytes_sent: [("cells".into(), 5_000_001), ("digest".into(), 70_007)].into(),
        bytes_received: [("cells".into(), 6_000_002)].into(),
        resends: 31,
        urgent_full_rounds: 32,
        refused: [("forged".into(), 19)].into(),
        dropped_by_kernel: 23,
        flood_pauses: 29,
        queues: vec![
            QueueStatus {
                name: "members".into(),
                received: 150_003,
                ..QueueStatus::default()
            },
            QueueStatus {
                name: "strangers".into(),
                received: 19,
                refused: 18,
                dropped_by_kernel: 23,
                pauses: 29,
            },
        ],
        convergence_age_s: Some(1.5),
    }
}

fn member(node: u64, state: &str, lag_versions: u64, lag_s: f64) -> MemberStatus {
    MemberStatus {
        node: format!("{node:016x}"),
        boot: format!("{:016x}", node << 32),
        address: format!("10.0.0.{}:8001", node & 0xf),
        client_port: 8000,
        state: state.into(),
        slices: 1,
        lag_versions,
        lag_s,
        heard_s: Some(0.2),
        bytes_sent: node * 10_000,
        bytes_received: node * 7_000,
        refuses_ours: false,
        writer: Some(format!("{:016x}", node << 56)),
        other_sketches: vec![],
    }
}

fn slice(node: u64, own: bool, version: u64) -> SliceStatus {
    SliceStatus {
        sketch: 0,
        node: format!("{node:016x}"),
        writer: format!("{:016x}", node << 56),
        own,
        version,
        root: Some(format!("{:016x}", version ^ node)),
        weight: version * 1_000,
        memory_bytes: 16_777_216,
    }
}

fn thread(cpu: usize, datagrams: u64, dropped_by_kernel: u64) -> ThreadStatus {
    ThreadStatus {
        cpu: Some(cpu),
        datagrams,
        receive_buffer_bytes: 8_388_608,
        dropped_by_kernel,
        spinning_s: 0.25,
    }
}

fn pushed_to() -> PeerStatus {
    PeerStatus {
        address: "10.0.0.7:8000".into(),
        pushing: true,
        last_send_s: Some(0.31),
        last_ack_s: Some(0.307),
        last_row_s: Some(0.1),
        rows_sent: 2_016,
        rows_acked: 2_012,
        rows_received: 2_000,
        restarts: 1,
    }
}

fn heard_from() -> PeerStatus {
    PeerStatus {
        address: "[2001:db8::17]:8000".into(),
        pushing: false,
        last_send_s: None,
        last_ack_s: None,
        last_row_s: Some(4.2),
        rows_sent: 0,
        rows_acked: 0,
        rows_received: 40,
        restarts: 0,
    }
}

fn order(number: u64, target: &str, accepted: bool, detail: &str) -> PeerOrder {
    PeerOrder {
        number,
        from: "127.0.0.1:40404".into(),
        target: target.into(),
        accepted,
        detail: detail.into(),
    }
}
