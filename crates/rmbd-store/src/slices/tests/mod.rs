//! Tests of slices against naive ones: plain vectors in a map, and plain loops over them.
#![allow(clippy::unwrap_used)]

mod limits;
mod merging;
mod publishing;
mod restoring;
mod siblings;
mod wrapping;

use std::collections::BTreeMap;

use super::*;
use crate::ReplicaLimits;
use rmbd_proto::{SketchNumber, Writer};
use rmbd_sketch::{Geometry, HashFamily};

const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };
const OWN: SliceId = SliceId::of(1, Writer(9));
const NO_LIMITS: ReplicaLimits = ReplicaLimits {
    max_peers: 2,
    max_origins: 8,
    max_memory_bytes: u64::MAX,
};

fn replica(width: u64, depth: u64, limits: ReplicaLimits) -> (Arc<Replica>, Slices) {
    let geometry = Geometry::new(width, depth).unwrap();
    let replica = Arc::new(Replica::try_with(geometry, FAMILY, OWN, limits).unwrap());
    let slices = Slices::try_new(Arc::clone(&replica)).unwrap();
    (replica, slices)
}

/// Makes whole passes until there is nothing left to publish.
fn publish_all(slices: &mut Slices) {
    while slices.publish(usize::MAX) != Published::Idle {}
}

fn all_cells(slices: &Slices, slice: &SliceId) -> Vec<u64> {
    let cells = slices.cells(slice).unwrap();
    let all = cells.to_vec();
    for at in [0, all.len() / 3, all.len() - 1] {
        assert_eq!(cells.get(at as u32), all[at]);
    }
    assert_eq!(cells.get(all.len() as u32), 0);
    all
}

/// The hashes of cells by the definition of each level: groups, sections, root.
fn naive_hashes(cells: &[u64]) -> (Vec<u64>, Vec<u64>, u64) {
    let sum_of = |from: usize, to: usize| {
        (from..to.min(cells.len())).fold(0_u64, |sum, at| {
            sum.wrapping_add(cell_hash(at as u32, cells[at]))
        })
    };
    let by = |size: usize| {
        (0..cells.len())
            .step_by(size)
            .map(|from| sum_of(from, from + size))
            .collect()
    };
    let sections = by(GROUP_CELLS * SECTION_GROUPS);
    (by(GROUP_CELLS), sections, sum_of(0, cells.len()))
}

/// The same hashes as a node has them.
fn hashes(slices: &Slices, slice: &SliceId) -> (Vec<u64>, Vec<u64>, u64) {
    let sections = slices.section_hashes(slice).to_vec();
    let groups = 0..sections.len() as u32;
    let groups = groups.flat_map(|section| slices.group_hashes(slice, section).to_vec());
    (groups.collect(), sections, slices.root(slice))
}

/// The second rule as the documentation says it: nodes by name, each with the cells of its slices.
fn naive_estimate(replica: &Replica, nodes: &BTreeMap<u64, Vec<Vec<u64>>>, key: &[u8]) -> u64 {
    let at = replica.own().cells_of(key);
    let least_row = |slices: &Vec<Vec<u64>>| {
        let row = |&cell: &u32| {
            let cells = slices.iter().map(|cells| cells[cell as usize]);
            cells.fold(0, u64::saturating_add)
        };
        at.as_slice().iter().map(row).min().unwrap()
    };
    nodes.values().map(least_row).fold(0, u64::saturating_add)
}

#[test]
fn hashes_of_cells_are_what_they_were() {
    // Hashes are exchanged, so they are the same on all machines and releases (computed with Python's integers).
    for (index, value, hash) in HASHES {
        assert_eq!(cell_hash(index, value), hash, "{index} {value}");
    }
}

const HASHES: [(u32, u64, u64); 6] = [
    (0, 0, 0),
    (7, 0, 0),
    (0, 1, 0xd522_b5d8_20b5_e72f),
    (1, 1, 0x91df_cba4_29ed_c5f2),
    (4_194_303, 1_000, 0x9764_fff7_569e_3106),
    (u32::MAX, u64::MAX >> 1, 0x2f5a_11c3_73d3_7065),
];
