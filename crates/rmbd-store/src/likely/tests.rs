//! Samples against exact counts, on streams of known kinds.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{LegacyRows, ReplicaLimits, SliceId};
use rmbd_sketch::{HashFamily, Weight};
use rmbd_testkit::random::Random;

const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };
/// What a share of that many keys may be off by: four standard deviations of a count of some ten thousand.
const SLACK: f64 = 0.006;

/// A sketch, and what was really added to it.
struct Exact {
    replica: Replica,
    truth: HashMap<u32, u64>,
}

/// How often keys come.
#[derive(Debug, Clone, Copy)]
enum Stream {
    /// By Zipf with exponent 1.1, out of so many.
    Zipf(u32),
    /// All alike, out of so many.
    Uniform(u32),
}

impl Stream {
    fn keys(self, seed: u64) -> impl Iterator<Item = u32> {
        let exponent = match self {
            Self::Zipf(_) => -1.1,
            Self::Uniform(_) => 0.0,
        };
        let (Self::Zipf(keys) | Self::Uniform(keys)) = self;
        let mut sum = 0.0;
        let upto: Vec<f64> = (1..=keys)
            .map(|rank| {
                sum += f64::from(rank).powf(exponent);
                sum
            })
            .collect();
        let mut random = Random(seed);
        std::iter::repeat_with(move || {
            let at = random.next() as f64 / 2_f64.powi(64) * sum;
            upto.partition_point(|&upto| upto < at) as u32
        })
    }
}

impl Exact {
    fn new(width: u64, depth: u64) -> Self {
        let geometry = Geometry::new(width, depth).unwrap();
        Self {
            replica: Replica::try_new(geometry, FAMILY, 1).unwrap(),
            truth: HashMap::new(),
        }
    }

    fn add(&mut self, keys: impl Iterator<Item = u32>) {
        for key in keys {
            self.replica.add(&key.to_le_bytes(), Weight::ONE).unwrap();
            *self.truth.entry(key).or_default() += 1;
        }
    }

    fn sample(&self) {
        sample(&self.replica);
    }

    fn likely(&self) -> LikelyError {
        let total_weight = self.replica.total_weight();
        self.replica.likely_error(total_weight).unwrap()
    }

    /// By how much the estimate of each key that was added exceeds the truth.
    fn errors(&self) -> Vec<u64> {
        let truth = self.truth.iter();
        truth
            .map(|(key, truth)| self.replica.estimate(&key.to_le_bytes()).count - truth)
            .collect()
    }

    fn share_above(&self, error: u64) -> f64 {
        let errors = self.errors();
        let above = errors.iter().filter(|&&it| it > error).count();
        above as f64 / errors.len() as f64
    }
}

fn sample(replica: &Replica) {
    let mut sampler = ErrorSampler::new(0xE44);
    let mut sample = sampler.begin(replica);
    let pieces = 1 + std::iter::from_fn(|| sample.read_piece().then_some(())).count();
    assert_eq!(pieces, SAMPLE_KEYS / PIECE_KEYS);
}

const STREAMS: [Stream; 4] = [
    Stream::Zipf(100_000),
    Stream::Zipf(2_000),
    Stream::Uniform(50_000),
    Stream::Uniform(5_000),
];

#[test]
fn few_keys_have_a_larger_error_than_the_quantile() {
    for (seed, stream) in STREAMS.into_iter().enumerate() {
        for width in [256, 2_048, 16_384] {
            for depth in [1, 3, 4, 6] {
                let mut exact = Exact::new(width, depth);
                exact.add(stream.keys(seed as u64).take(60_000));
                exact.sample();
                let (likely, promised) = (exact.likely(), exact.replica.error());
                let left = 1.0 - likely_share(exact.replica.own.geometry());
                let what =
                    format!("{stream:?}, {depth} x {width}: {likely:?}, promised {promised}");
                let above = exact.share_above(likely.quantile);
                assert!(above <= left + SLACK, "{what}: {above}");
                let above = exact.share_above(promised);
                assert!(above <= left, "{what}: {above}");
                let above = exact.share_above(likely.median);
                assert!(above <= 0.5 + 5.0 * SLACK, "{what}: {above}");
                assert!(likely.quantile < promised, "{what}");
            }
        }
    }
}

#[test]
fn an_estimate_less_the_median_is_twice_as_close() {
    let mut exact = Exact::new(4_096, 4);
    exact.add(Stream::Zipf(100_000).keys(7).take(200_000));
    exact.sample();
    let (mut plain, mut likely) = (0, 0);
    for (key, &truth) in &exact.truth {
        let estimate = exact.replica.estimate(&key.to_le_bytes()).count;
        let less = estimate.saturating_sub(exact.likely().median);
        plain += estimate - truth;
        likely += less.abs_diff(truth);
    }
    assert!(likely <= plain / 2, "{likely} of {plain}");
}

#[test]
fn a_sample_holds_until_n_has_grown_by_an_eighth() {
    for stream in STREAMS {
        let (before, after) = (80_000, 90_000);
        let mut exact = Exact::new(4_096, 4);
        let mut keys = stream.keys(3);
        exact.add(keys.by_ref().take(before));
        exact.sample();
        let younger = exact.likely();
        exact.add(keys.take(after - before));
        let likely = exact.likely();
        assert!(likely.quantile >= younger.quantile && likely.mean > younger.mean);
        let (above, left) = (exact.share_above(likely.quantile), (-4.0_f64).exp());
        assert!(above <= left + SLACK, "{stream:?}: {likely:?}, {above}");
        exact.add([0].into_iter());
        assert_eq!(exact.replica.likely_error(after as u64 + 1), None);
        exact.sample();
        assert!(exact.likely().quantile >= younger.quantile);
    }
}

#[test]
fn what_is_empty_or_at_rest_is_not_sampled() {
    let mut exact = Exact::new(64, 4);
    assert!(!exact.replica.wants_sample());
    assert_eq!(exact.replica.likely_error(0), None);
    exact.add(0..1);
    assert!(exact.replica.wants_sample());
    exact.sample();
    assert!(!exact.replica.wants_sample());
    exact.add(1..640);
    exact.sample();
    exact.add(0..10);
    assert!(!exact.replica.wants_sample(), "a sixty-fourth");
    exact.add(0..1);
    assert!(exact.replica.wants_sample(), "more than that");
}

#[test]
fn a_sample_that_is_dropped_changes_nothing() {
    let mut exact = Exact::new(64, 4);
    exact.add(0..1_000);
    let mut sampler = ErrorSampler::new(1);
    let mut dropped = sampler.begin(&exact.replica);
    while dropped.sampler.errors.len() < SAMPLE_KEYS - PIECE_KEYS {
        assert!(dropped.read_piece());
    }
    assert_eq!(exact.replica.likely_error(1_000), None);
    let mut whole = sampler.begin(&exact.replica);
    while whole.read_piece() {}
    assert!(exact.replica.likely_error(1_000).is_some());
}

/// In a sketch of one column every key has all of N.
#[test]
fn a_sample_has_all_that_a_count_is_made_of() {
    let geometry = Geometry::new(1, 2).unwrap();
    let limits = ReplicaLimits {
        max_peers: 1,
        max_origins: 1,
        max_memory_bytes: u64::MAX,
    };
    let replica = Replica::try_with(geometry, FAMILY, SliceId::default(), limits).unwrap();
    let replica = Arc::new(replica);
    let all_is = |weight: u64| {
        sample(&replica);
        let likely = replica.likely_error(replica.total_weight()).unwrap();
        assert_eq!((likely.median, likely.quantile), (weight, weight));
        assert!((likely.mean - weight as f64).abs() < 1e-3);
    };
    replica.add(b"a", Weight::new(5).unwrap()).unwrap();
    all_is(5);
    // More than a cell holds.
    let of_others = 1 << 40;
    for cell in replica.own.cells_of(b"a").iter() {
        replica.own.add_of_others(cell, of_others);
    }
    all_is(5 + of_others);
    let mut rows = LegacyRows::new(Arc::clone(&replica), 1);
    let peer = (Ipv4Addr::LOCALHOST, 8000).into();
    for row in 0..2 {
        rows.merge(peer, row, [7].into_iter()).unwrap();
    }
    all_is(5 + of_others + 7);
}

#[test]
fn a_sample_can_tell_no_smaller_share_than_it_has_keys() {
    let left = |depth| 1.0 - likely_share(Geometry::new(64, depth).unwrap());
    let of = |depth: f64| larger(SAMPLE_KEYS, 1.0 - (-depth).exp());
    assert_eq!([of(1.0), of(4.0), of(6.0)], [1_429, 57, 3]);
    for depth in [7.0, 9.0, 32.0] {
        assert_eq!(of(depth), 0);
    }
    assert!((left(4) - (-4.0_f64).exp()).abs() < 1e-9);
    assert!((left(32) - 1.0 / 4_096.0).abs() < 1e-9);
}

proptest! {
    /// The oracle sorts.
    #[test]
    fn a_sample_is_its_mean_and_its_ranks(
        mut errors in prop::collection::vec(prop_oneof![0..9_u64, any::<u64>()], 1..300),
        share in 0.0..=1.0,
    ) {
        let likely = LikelyError::of(&mut errors.clone(), share);
        errors.sort_unstable();
        let mean = errors.iter().map(|&it| it as f64).sum::<f64>() / errors.len() as f64;
        prop_assert!((likely.mean - mean).abs() <= mean * 1e-9);
        prop_assert_eq!(likely.median, errors[(errors.len() - 1) / 2]);
        let above = errors.iter().filter(|&&it| it > likely.quantile).count();
        prop_assert!(above as f64 <= errors.len() as f64 * (1.0 - share));
        prop_assert!(likely.quantile >= likely.median && errors.contains(&likely.quantile));
    }

    #[test]
    fn growth_is_to_the_nearest(error: u64, from in 1..1_u64 << 40, growth in 0..1_u64 << 40) {
        let likely = LikelyError { mean: error as f64, median: error, quantile: error };
        let grown = likely.grown(from, from + growth);
        let wanted = error as f64 * ((from + growth) as f64 / from as f64);
        prop_assert!((grown.quantile as f64 - wanted).abs() <= 1.0 + wanted * 1e-9 || grown.quantile == u64::MAX);
        prop_assert_eq!(likely.grown(from, from), likely);
    }
}
