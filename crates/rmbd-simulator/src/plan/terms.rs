//! The settings that all nodes of a plan have in common: their sketch, and the bounds of what they do.

use std::time::Duration;

use rmbd_cluster::ClusterLimits;
use rmbd_proto::SketchNumber;
use rmbd_sketch::{Geometry, HashFamily};

use super::super::machine::{SketchSpec, WindowSpec, Windows};
use super::super::random::Random;
use super::super::world::{DiskTerms, Terms};

/// Bytes that a node must be able to send in a round; with fewer it could not even send its few digests.
const ROUND_BYTES_MIN: f64 = 4_000.0;

pub(super) fn draw(random: &mut Random, nodes: usize, may_be_large: bool) -> Terms {
    let interval = Duration::from_millis(random.between(100, 1000) as u64);
    Terms {
        geometry: geometry(random, nodes, may_be_large),
        family: HashFamily::Xxh3 { seed: 11 },
        others: if may_be_large && random.chance(0.5) {
            others(random, nodes)
        } else {
            Vec::new()
        },
        interval,
        rate_bytes_per_s: if random.chance(0.15) {
            rate(random, interval, nodes)
        } else {
            50_000_000
        },
        limits: if random.chance(0.4) {
            bounds(random)
        } else {
            ClusterLimits::default()
        },
        socket_datagrams: if random.chance(0.3) {
            random.between(16, 400)
        } else {
            4_096
        },
        keys: if random.chance(0.1) {
            Vec::new()
        } else {
            vec![1]
        },
        ..Terms::default()
    }
}

/// Gives most sketches windows, and says in how many pieces snapshots are taken, and how slowly.
pub(super) fn draw_windows(random: &mut Random, terms: &mut Terms) {
    terms.windows = windows(random);
    for spec in &mut terms.others {
        spec.windows = windows(random);
    }
    let pieces = random.between(1, 4);
    terms.snapshot_cells = terms.geometry.cells().div_ceil(pieces);
    terms.snapshot_gap = if random.chance(0.5) {
        Duration::ZERO
    } else {
        random.time(Duration::ZERO, Duration::from_millis(20))
    };
}

/// Lets half of all clusters keep what they count, half of them on disks that are copied now and then.
pub(super) fn draw_disks(random: &mut Random) -> Option<DiskTerms> {
    let interval = random.time(Duration::from_millis(300), Duration::from_secs(10));
    let are_copied = random.chance(0.5);
    random.chance(0.5).then_some(DiskTerms {
        interval,
        are_copied,
    })
}

fn windows(random: &mut Random) -> Windows {
    let mut window = |seconds: u64, step_ms: u64| {
        let fold = random.pick(&[1, 2, 8]).unwrap_or(1);
        let is_there = random.chance(0.7);
        is_there.then_some(WindowSpec {
            span_ms: seconds * 1_000,
            step_ms,
            fold,
        })
    };
    [window(10, 1_000), window(40, 5_000)]
}

/// A random geometry. Some have several sections of 16 384 cells; comparing them is much work, so there are few nodes
/// then.
fn geometry(random: &mut Random, nodes: usize, may_be_large: bool) -> Geometry {
    if may_be_large && nodes <= 4 && random.chance(0.03) {
        return Geometry::new(random.between(10_000, 25_000) as u64, 4).unwrap();
    }
    let widths: &[u64] = if nodes > 14 {
        &[64, 100]
    } else {
        &[1, 64, 100, 300, 700, 2048]
    };
    let width = random.pick(widths).unwrap_or(64);
    Geometry::new(width, random.between(1, 4) as u64).unwrap()
}

/// One to three further sketches.
fn others(random: &mut Random, nodes: usize) -> Vec<SketchSpec> {
    let numbers = [7, 1 << 20, u32::MAX];
    let count = if nodes > 14 { 1 } else { random.between(1, 3) };
    let others = numbers.into_iter().take(count).map(|number| SketchSpec {
        number: SketchNumber(number),
        geometry: geometry(random, nodes.max(5), false),
        family: HashFamily::Xxh3 {
            seed: number.into(),
        },
        windows: [None; 2],
    });
    others.collect()
}

/// A random rate, from the lowest one that allows a digest a round.
fn rate(random: &mut Random, interval: Duration, nodes: usize) -> u64 {
    let round_bytes = (ROUND_BYTES_MIN + 300.0 * nodes as f64) * (1.0 + 9.0 * random.share());
    (round_bytes / interval.as_secs_f64()) as u64
}

/// Random small bounds, so that each of them is met. A round's digest must fit what may wait for a peer, as with the
/// bounds of real nodes; the rest would never be told.
fn bounds(random: &mut Random) -> ClusterLimits {
    let digest_lines = random.between(1, 6);
    let frames = random.between(1, 3);
    ClusterLimits {
        digest_lines,
        digest_lines_a_round: digest_lines * frames,
        sketch_sums_a_round: random.between(1, 2),
        // Sums of sketches take two frames at most.
        questions: frames + 2 + random.between(1, 4),
        groups_served: random.between(1, 8),
        pulls: random.between(1, 3),
        sections_asked: random.between(1, 2),
        groups_asked: random.between(1, 8),
        groups_wanted: random.between(1, 8),
        claims: random.between(1, 6),
        urgent_keys_a_round: random.between(0, 4),
        urgent_cells: random.between(0, 9),
        ..ClusterLimits::default()
    }
}
