//! A node that is not there, for tests.

use std::sync::atomic::{AtomicBool, Ordering};

use super::StatusSource;
use crate::node::status::{
    CompactStatus, Datagrams, IoStatus, Messages, PeerOrder, PeerStatus, Replies, SketchStatus,
    Status, ThreadStatus,
};

/// Always says the same, but for its readiness.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) ready: AtomicBool,
}

impl Fake {
    pub(crate) fn new(ready: bool) -> Self {
        Self {
            ready: AtomicBool::new(ready),
        }
    }
}

impl StatusSource for Fake {
    fn status(&self) -> Status {
        Status {
            ready: self.ready.load(Ordering::Relaxed),
            ..status()
        }
    }
}

/// A status in which no number stands twice where a mix-up of fields would be possible.
pub(crate) fn status() -> Status {
    Status {
        version: "1.2.3".into(),
        uptime_s: 93_784.5,
        ready: true,
        udp: "127.0.0.1:8000".into(),
        http: Some("127.0.0.1:8000".into()),
        sketch: SketchStatus {
            width: 1 << 20,
            depth: 4,
            hash: "xxh3".into(),
            epsilon: std::f64::consts::E / f64::from(1 << 20),
            confidence: 1.0 - (-4.0_f64).exp(),
            memory_bytes: 33_554_432,
            total_weight: 48_211_904,
            saturated_cells: 3,
        },
        messages: Messages {
            add: 48_211_904,
            count: 1_204_551,
            sync: 2_040,
            peer: 3,
            ack: 2_012,
            hit: 904_003,
            bounds: 21,
            info: 9,
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

fn thread(cpu: usize, datagrams: u64, dropped_by_kernel: u64) -> ThreadStatus {
    ThreadStatus {
        cpu: Some(cpu),
        datagrams,
        receive_buffer_bytes: 8_388_608,
        dropped_by_kernel,
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
