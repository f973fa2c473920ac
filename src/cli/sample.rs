//! A status for tests of commands.

use std::collections::BTreeMap;

use crate::status::*;

/// The status of a node without sketches and limits, with these orders.
pub(super) fn status(peer_orders: Vec<PeerOrder>) -> Status {
    Status {
        version: "0.1.0".into(),
        uptime_s: 3_723.0,
        ready: true,
        failure: None,
        log: LogStatus::default(),
        snapshot_files: SnapshotFilesStatus::default(),
        udp: "127.0.0.1:8000".into(),
        http: Some("127.0.0.1:8000".into()),
        readiness: Readiness::default(),
        sketch: SketchStatus {
            width: 1_048_576,
            depth: 4,
            hash: "xxh3".into(),
            epsilon: 0.01,
            confidence: 0.98,
            memory_bytes: 16 << 20,
            total_weight: 1_234,
            incomplete: true,
            likely_error: None,
            audit: None,
        },
        sketches: Vec::new(),
        limits: Vec::new(),
        pardons: 0,
        messages: Messages {
            add: 1,
            count: 2,
            sync: 3,
            peer: 4,
            ack: 5,
            hit: 6,
            bounds: 7,
            info: 8,
            ..Messages::default()
        },
        datagrams: Datagrams {
            received: 20,
            malformed: BTreeMap::from([("empty".into(), 3), ("length".into(), 0)]),
            refused: BTreeMap::new(),
            dropped_by_kernel: 7,
        },
        replies: Replies {
            sent: 2,
            dropped: 1,
        },
        io: IoStatus {
            backend: "uring".into(),
            threads: vec![ThreadStatus {
                cpu: Some(0),
                datagrams: 20,
                receive_buffer_bytes: 425_984,
                dropped_by_kernel: 7,
                spinning_s: 0.0,
            }],
        },
        compact: CompactStatus::default(),
        resp: RespStatus {
            address: Some("127.0.0.1:6379".into()),
            connections: 3,
            connections_max: 1_024,
            commands: 17,
            ..RespStatus::default()
        },
        spoe: SpoeStatus {
            address: Some("127.0.0.1:9001".into()),
            connections: 2,
            connections_max: 256,
            spoe_messages: 9,
            spoe_over: 4,
            ..SpoeStatus::default()
        },
        envoy: EnvoyStatus {
            address: Some("127.0.0.1:8081".into()),
            connections: 2,
            connections_max: 1_024,
            rules: 3,
            envoy_requests: 18,
            envoy_over: 4,
            ..EnvoyStatus::default()
        },
        http_api: HttpApiStatus::default(),
        latencies: vec![
            latency("count", [Some(1e-6), Some(0.000_012_5), Some(0.000_256)]),
            latency("resp", [Some(0.001_024), Some(1.048_576), None]),
        ],
        cluster: ClusterStatus {
            off_because: Some("--cluster off".into()),
            ..ClusterStatus::default()
        },
        peers: vec![PeerStatus {
            address: "127.0.0.1:9000".into(),
            pushing: true,
            last_send_s: Some(0.25),
            last_ack_s: None,
            last_row_s: Some(1.0),
            rows_sent: 10,
            rows_acked: 0,
            rows_received: 4,
            restarts: 1,
        }],
        peer_orders,
    }
}

fn latency(operation: &str, [p50_s, p99_s, p999_s]: [Option<f64>; 3]) -> LatencyStatus {
    LatencyStatus {
        operation: operation.into(),
        count: 17,
        p50_s,
        p99_s,
        p999_s,
        ..LatencyStatus::default()
    }
}

pub(super) fn order(number: u64, target: &str, accepted: bool, detail: &str) -> PeerOrder {
    PeerOrder {
        number,
        from: "127.0.0.1:5".into(),
        target: target.into(),
        accepted,
        detail: detail.into(),
    }
}
