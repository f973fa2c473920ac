//! Tests of the audit against exact counts of all keys.
#![allow(clippy::unwrap_used)]

mod errors;
mod missed;
mod samples;
mod threads;
mod verdicts;
mod windows;

use std::collections::HashMap;
use std::sync::Arc;

use rmbd_proto::Writer;
use rmbd_sketch::{Geometry, HashFamily, KeyHash, Weight};
use rmbd_testkit::random::Random;

use super::*;
use crate::{Batch, Estimate, ReplicaLimits, ReplicaOptions, SliceId, Slices, Terms, Way};

const XXH3: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };
const OWN: SliceId = SliceId::of(1, Writer(9));

/// What a sketch is made of.
#[derive(Debug, Clone, Copy)]
struct Shape {
    width: u64,
    depth: u64,
    family: HashFamily,
    threads: usize,
    /// Keys that lists tell.
    top: usize,
}

const SHAPE: Shape = Shape {
    width: 1 << 6,
    depth: 2,
    family: XXH3,
    threads: 1,
    top: 0,
};

fn replica(shape: Shape) -> Arc<Replica> {
    let limits = ReplicaLimits {
        max_peers: 0,
        max_origins: 1,
        max_memory_bytes: u64::MAX,
    };
    let options = ReplicaOptions {
        threads: shape.threads,
        top: shape.top,
        audit: true,
        ..ReplicaOptions::of(
            Geometry::new(shape.width, shape.depth).unwrap(),
            shape.family,
            OWN,
            limits,
        )
    };
    Arc::new(Replica::try_open(options).unwrap())
}

/// Looks at all audited keys.
fn look(replica: &Replica) -> Option<AuditFigures> {
    let mut reader = AuditReader::new();
    let mut look = reader.begin(replica).unwrap();
    while look.read_piece() {}
    replica.audit().unwrap().figures
}

/// How much was added to each key, and to the cells by then.
#[derive(Debug, Default)]
struct Truth(HashMap<Vec<u8>, u64>);

impl Truth {
    fn add(&mut self, key: &[u8], weight: u64) {
        *self.0.entry(key.to_vec()).or_default() += weight;
    }

    fn of(&self, key: &[u8]) -> u64 {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// The figures are those of the keys in the sample, each of which is counted exactly, and no other one.
    fn check(&self, replica: &Replica, figures: &AuditFigures) {
        let audit = replica.audit.as_ref().unwrap();
        let below = audit.sample.below();
        let hash_of = |key: &[u8]| replica.own.hash(key).unwrap();
        let is_in = |key: &[u8]| tag_of(hash_of(key).halves()) < below;
        let mut errors = Vec::new();
        for (key, &count) in &self.0 {
            if !is_in(key) || count == 0 {
                continue;
            }
            let hash = hash_of(key).halves();
            assert_eq!(audit.sum(|table| table.done(hash)), Some(count), "{key:?}");
            assert_eq!(audit.sum(|table| table.begun(hash)), Some(count), "{key:?}");
            let estimate = replica.own.own_estimate_at(&replica.own.cells_of(key));
            errors.push(estimate.checked_sub(count).unwrap());
        }
        errors.sort_unstable();
        let geometry = replica.own.geometry();
        let (keys, most) = (
            errors.len(),
            replica.own.total_weight() as f64 * geometry.epsilon(),
        );
        assert_eq!(figures.keys, keys as u64);
        assert_eq!(figures.share, below as f64 / 2_f64.powi(64));
        assert_eq!(figures.total_weight, replica.own.total_weight());
        assert_eq!(replica.audit().unwrap().too_low, 0);
        if keys == 0 {
            return;
        }
        let mean = errors.iter().sum::<u64>() as f64 / keys as f64;
        assert!((figures.mean - mean).abs() <= 1e-9 * mean, "{figures:?}");
        assert_eq!(figures.largest, errors[keys - 1]);
        let above = |most: f64| errors.iter().filter(|&&error| error as f64 > most).count();
        assert_eq!(figures.above_epsilon, above(most) as u64);
        // The least error that is large enough.
        let allowed = keys as f64 * (1.0 - geometry.confidence());
        let is_enough = |error: &&u64| above(**error as f64) as f64 <= allowed;
        assert_eq!(errors.iter().find(is_enough), Some(&figures.quantile));
    }
}

fn no_answer((): (), _: Estimate) {}

/// What an add is part of: each way in which weight comes to cells.
fn add(batch: &mut Batch<()>, key: &[u8], weight: u32, how: u64) {
    let weight = Weight::new(weight).unwrap();
    let terms = Terms {
        limit: u64::MAX,
        credit: 0,
        takes: true,
    };
    match how % 8 {
        0 => batch.hit(key, (weight, 9), (), &mut no_answer).unwrap(),
        1 => batch
            .take(key, (weight, &terms), None, (), &mut no_answer)
            .unwrap(),
        2 => {
            let looked = batch.look(key, &mut no_answer);
            batch.add_looked(&looked, weight).unwrap();
        }
        _ => batch.add(key, weight, &mut no_answer).unwrap(),
    }
}
