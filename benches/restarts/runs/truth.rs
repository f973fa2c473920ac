//! What was sent to a node that is alone, and what of it was acknowledged when.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::Writer;
use rmbd_sketch::{Geometry, HashFamily};
use rmbd_snapshot::{
    ClockReading, FILE_NAME, LoadOptions, SnapshotFileSummary, ThisStart, check, load,
};
use rmbd_store::{Replica, ReplicaLimits, SliceId, Slices};

use super::wall_ms;

/// Keys that are added.
pub(super) const KEYS: usize = 300;

/// All adds of a run, by key.
pub(super) struct Truth {
    /// What was sent, acknowledged or not.
    sent: Vec<u64>,
    /// When what was acknowledged, in milliseconds since 1970.
    acknowledged: Vec<(u64, usize, u64)>,
}

impl Truth {
    pub(super) fn new() -> Self {
        Self {
            sent: vec![0; KEYS],
            acknowledged: Vec::new(),
        }
    }

    pub(super) fn key(number: usize) -> [u8; 4] {
        (number as u32).to_be_bytes()
    }

    pub(super) fn note_sent(&mut self, adds: &[(usize, u64)]) {
        for &(key, weight) in adds {
            self.sent[key] += weight;
        }
    }

    pub(super) fn note_acknowledged(&mut self, adds: &[(usize, u64)]) {
        let now = wall_ms();
        let adds = adds.iter().map(|&(key, weight)| (now, key, weight));
        self.acknowledged.extend(adds);
    }

    /// The weight that was sent.
    pub(super) fn sent_weight(&self) -> u64 {
        self.sent.iter().sum()
    }

    /// The node was killed. What it had acknowledged since it began its last file may be gone for ever.
    pub(super) fn note_kill(&mut self, file_ms: u64) {
        self.acknowledged.retain(|&(at, _, _)| at < file_ms);
    }

    /// What had been acknowledged before the last file was begun, by key.
    pub(super) fn kept(&self) -> Vec<u64> {
        let mut of_keys = vec![0; KEYS];
        let all = self.acknowledged.iter();
        all.for_each(|&(_, key, weight)| of_keys[key] += weight);
        of_keys
    }

    /// The cells that all adds that were sent make.
    fn replay(&self, geometry: Geometry, family: HashFamily) -> Vec<u64> {
        let mut cells = vec![0; geometry.cells()];
        for (number, &weight) in self.sent.iter().enumerate() {
            for &cell in family.cells(&Self::key(number), geometry).as_slice() {
                cells[cell as usize] += weight;
            }
        }
        cells
    }

    /// Checks that no cell of a node's file is above what was sent. Returns what the file is; `None` without one.
    pub(super) fn check_file(
        &self,
        folder: &Path,
        (geometry, family): (Geometry, HashFamily),
    ) -> Result<Option<SnapshotFileSummary>, String> {
        let Ok(mut file) = File::open(folder.join(FILE_NAME)) else {
            return Ok(None);
        };
        let checked = check(&mut file).map_err(|error| error.to_string())?;
        let mut slices = empty(geometry, family, checked.node);
        let now = ClockReading {
            time: Duration::ZERO,
            wall: Duration::ZERO,
            since_boot: Duration::ZERO,
            machine_boot: 0,
        };
        let options = LoadOptions {
            checked: &checked,
            node: checked.node,
            now,
            resumes: false,
            renamed: None,
            this_start: ThisStart {
                is_in_cluster: false,
                drawn: Writer(1),
                spare: Writer(2),
            },
        };
        let mut file = File::open(folder.join(FILE_NAME)).unwrap();
        let into = std::slice::from_mut(&mut slices);
        let loaded = load(&mut file, into, &options, &mut |_, _, _| ());
        let loaded = loaded.map_err(|error| error.to_string())?;
        if !loaded.skipped.is_empty() {
            return Err(format!("another sketch than the node's: {loaded:?}"));
        }
        let mut sums = vec![0; geometry.cells()];
        for line in slices.digests() {
            let cells = slices.cells(&line.slice).unwrap().to_vec();
            sums.iter_mut()
                .zip(cells)
                .for_each(|(sum, cell)| *sum += cell);
        }
        let replayed = self.replay(geometry, family);
        let above = sums
            .iter()
            .zip(&replayed)
            .position(|(here, sent)| here > sent);
        match above {
            Some(at) => Err(format!(
                "cell {at} is {}, and {} was sent",
                sums[at], replayed[at]
            )),
            None => Ok(Some(checked)),
        }
    }
}

fn empty(geometry: Geometry, family: HashFamily, node: u64) -> Slices {
    let limits = ReplicaLimits {
        max_peers: 0,
        max_origins: 10_000,
        max_memory_bytes: u64::MAX,
    };
    // Nobody draws this writer.
    let own = SliceId::of(node, Writer(1));
    let replica = Replica::try_with(geometry, family, own, limits).unwrap();
    Slices::try_new(Arc::new(replica)).unwrap()
}
