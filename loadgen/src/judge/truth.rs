//! The comparison of answers with what was sent.
//!
//! A sample of keys is drawn before a phase: the hottest ones, some that the phase will send, and some at random,
//! which it may never send. Afterwards the phase's scripts are run again to find out how often each key was sent. So
//! keeping the truth costs nothing while sending, and a fixed amount of memory however many keys there are.
//!
//! The server may know keys from before. Cells only grow, so its answer after the phase is at least its answer before
//! plus what was sent. That is the truth of the comparison.

use std::collections::HashMap;

use rand::rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rmbd_client::Count;

use super::lists::Replayed;
use super::replay::replay;
use crate::plan::{Load, Script};
use crate::record::Truth;
use crate::server::ServerUnderLoad;

/// Number of the hottest keys, which are always checked.
const HOT_KEYS: usize = 100;

/// The keys of a phase that are checked.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The numbers of the keys, ascending.
    numbers: Vec<u64>,
    hot: usize,
    distinct: u64,
    /// The estimates before the phase.
    estimates_before: Vec<u64>,
    /// The weight that the phase added to each key.
    added: Vec<u64>,
    /// The answers after the run.
    counts_after: Vec<Count>,
    /// Number of adds and hits of the phase that did not arrive; `None` if the server does not tell.
    pub(crate) lost: Option<u64>,
    /// Number of adds and hits of the phase.
    pub(crate) adds: u64,
    /// Weight of these adds and hits.
    pub(crate) weight: u64,
}

impl Sample {
    /// Draws the keys: all hot ones and `others` more.
    pub(crate) fn draw(load: &Load, others: usize) -> Self {
        let distinct = load.keys.distinct();
        let hot = load.hottest(HOT_KEYS);
        let mut script = Script::new(load, 0);
        let sent = (0..others / 2).map(|_| script.next_number().1);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(load.seed ^ 0x7361_6d70_6c65);
        let random = (others / 2..others).map(|_| rng.next_u64() % distinct);
        let mut numbers: Vec<u64> = hot.iter().copied().chain(sent).chain(random).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Self {
            added: vec![0; numbers.len()],
            estimates_before: vec![0; numbers.len()],
            counts_after: Vec::new(),
            hot: hot.len(),
            numbers,
            distinct,
            lost: None,
            adds: 0,
            weight: 0,
        }
    }

    fn keys(&self, load: &Load) -> Vec<Vec<u8>> {
        let numbers = self.numbers.iter();
        numbers.map(|&number| load.keys.key(number)).collect()
    }

    /// Asks for all keys before the phase.
    pub(crate) fn count_before(
        &mut self,
        load: &Load,
        server: &ServerUnderLoad,
    ) -> Result<(), String> {
        let counts = server.count(&self.keys(load), load)?;
        self.estimates_before = counts.into_iter().map(|count| count.estimate).collect();
        Ok(())
    }

    /// Asks for all keys after the run.
    pub(crate) fn count_after(
        &mut self,
        load: &Load,
        server: &ServerUnderLoad,
    ) -> Result<(), String> {
        self.counts_after = server.count(&self.keys(load), load)?;
        Ok(())
    }

    /// Takes what a phase added of its keys.
    pub(crate) fn take(&mut self, load: &Load, replayed: &Replayed) {
        for (sum, &number) in self.added.iter_mut().zip(&self.numbers) {
            *sum += replayed.times(number) * u64::from(load.weight);
        }
    }

    /// Runs the scripts again, as far as `scripted[part]` messages of each, where there are too many keys to count all.
    pub(crate) fn replay(&mut self, load: &Load, scripted: &[u64]) {
        let numbers = &self.numbers;
        let count = |script, messages| times_of(numbers, script, messages);
        let times = replay(load, scripted, numbers.len(), count);
        for (sum, times) in self.added.iter_mut().zip(times) {
            *sum += times * u64::from(load.weight);
        }
    }

    /// For each key, the least answer of a right server now, and the server's answer.
    fn pairs(&self) -> impl Iterator<Item = (u64, Count)> {
        let least = self.estimates_before.iter().zip(&self.added);
        let least = least.map(|(before, added)| before + added);
        least.zip(self.counts_after.iter().copied())
    }
}

/// How often the next `messages` messages add each of `numbers`, which ascend.
fn times_of(numbers: &[u64], mut script: Script, messages: u64) -> Vec<u64> {
    // Most messages are for keys outside of the sample, which a small bitmap shows.
    let mut seen = [0u64; 1 << 10];
    let bit = |number: u64| {
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        ((hash >> 6) as usize, 1 << (hash & 63))
    };
    let mut places = HashMap::new();
    for (place, &number) in numbers.iter().enumerate() {
        let (word, mask) = bit(number);
        seen[word] |= mask;
        places.insert(number, place);
    }
    let mut added = vec![0; numbers.len()];
    for _ in 0..messages {
        let (kind, number) = script.next_number();
        let (word, mask) = bit(number);
        if kind.adds()
            && seen[word] & mask != 0
            && let Some(&place) = places.get(&number)
        {
            added[place] += 1;
        }
    }
    added
}

/// The promise of the sketch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    pub(crate) epsilon: f64,
    pub(crate) delta: f64,
    /// N: all weight that was added to the server.
    pub(crate) total_weight: u64,
}

/// Compares. Samples of phases that lost adds mean nothing and are left out, unless all phases did.
pub(crate) fn compare(samples: &[Sample], promise: Promise) -> Truth {
    let lossless = |sample: &&Sample| sample.lost == Some(0);
    let mut chosen: Vec<&Sample> = samples.iter().filter(lossless).collect();
    if chosen.is_empty() {
        chosen = samples.iter().collect();
    }
    let bound = promise.epsilon * promise.total_weight as f64;
    let (mut below, mut above_bound, mut over) = (0, 0, Vec::new());
    for (least, count) in chosen.iter().flat_map(|sample| sample.pairs()) {
        let estimate = count.estimate;
        below += u64::from(estimate < least);
        let excess = estimate.saturating_sub(least);
        above_bound += u64::from(excess as f64 > bound);
        over.push(excess);
    }
    over.sort_unstable();
    let checked = over.len() as u64;
    let share = |part: u64| part as f64 / checked.max(1) as f64;
    Truth {
        total_adds: samples.iter().map(|sample| sample.adds).sum(),
        total_weight: Some(samples.iter().map(|sample| sample.weight).sum()),
        lost_adds: samples.iter().filter_map(|sample| sample.lost).sum(),
        distinct_keys: chosen.iter().map(|sample| sample.distinct).sum(),
        kept_share: 1.0,
        checked_keys: checked,
        checked_hot_keys: chosen.iter().map(|sample| sample.hot as u64).sum(),
        below_truth: below,
        over_mean: over.iter().sum::<u64>() as f64 / checked.max(1) as f64,
        over_p50: quantile(&over, 0.5),
        over_p99: quantile(&over, 0.99),
        over_max: quantile(&over, 1.0),
        bound,
        over_bound_share: share(above_bound),
        delta: promise.delta,
    }
}

/// The least value that `share` of all values do not exceed; values ascend.
fn quantile(ascending: &[u64], share: f64) -> u64 {
    let rank = (ascending.len() as f64 * share).ceil() as usize;
    let place = rank.clamp(1, ascending.len().max(1)) - 1;
    ascending.get(place).copied().unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::testing::load;

    #[test]
    fn a_replay_counts_what_a_hash_map_counts() {
        for (mode, keys, weight) in [
            ("add", "zipf:1.1:1000", 1),
            ("mix:0.4", "uniform:300", 1000),
            ("add", "sequential:100000", 1 << 20),
            ("hit", "zipf:1.1:300", 7),
        ] {
            let mut load = load(mode, keys);
            (load.threads, load.weight) = (2, weight);
            let mut truth: HashMap<u64, u64> = HashMap::new();
            let scripted = [5_000, 7_000];
            for (part, &messages) in scripted.iter().enumerate() {
                let mut script = Script::new(&load, part);
                for _ in 0..messages {
                    let (kind, number) = script.next_number();
                    *truth.entry(number).or_default() += u64::from(kind.adds()) * u64::from(weight);
                }
            }
            let mut sample = Sample::draw(&load, 400);
            sample.replay(&load, &scripted);
            for (number, &added) in sample.numbers.iter().zip(&sample.added) {
                let expected = truth.get(number).copied().unwrap_or(0);
                assert_eq!(added, expected, "{mode} {keys}: key {number}");
            }
            assert!(sample.added.iter().sum::<u64>() > 0);
            let mut taken = Sample::draw(&load, 400);
            taken.take(&load, &Replayed::of(&load, &scripted).unwrap());
            assert_eq!(taken.added, sample.added, "{mode} {keys}");
        }
    }

    #[test]
    fn a_sample_has_the_hot_keys() {
        let sample = Sample::draw(&load("add", "zipf:1.2:100000"), 50);
        assert!((0..100).all(|number| sample.numbers.contains(&number)));
        assert!(sample.numbers.len() > 110);
        let sample = Sample::draw(&load("add", "uniform:3"), 50);
        assert_eq!(sample.numbers, [0, 1, 2]);
    }

    /// A sample with one key for each triple of before, added, after.
    fn sample(keys: &[(u64, u64, u64)], lost: Option<u64>) -> Sample {
        Sample {
            numbers: (0..keys.len() as u64).collect(),
            hot: 0,
            distinct: keys.len() as u64,
            estimates_before: keys.iter().map(|key| key.0).collect(),
            added: keys.iter().map(|key| key.1).collect(),
            counts_after: keys
                .iter()
                .map(|key| Count {
                    estimate: key.2,
                    incomplete: false,
                })
                .collect(),
            lost,
            adds: keys.iter().map(|key| key.1).sum(),
            weight: keys.iter().map(|key| key.1).sum(),
        }
    }

    const PROMISE: Promise = Promise {
        epsilon: 0.1,
        delta: 0.02,
        total_weight: 50,
    };

    #[test]
    fn estimates_are_compared_with_what_was_there_and_what_was_added() {
        let truth = compare(
            &[sample(
                &[(0, 5, 5), (3, 5, 8), (3, 5, 10), (0, 1, 9), (2, 2, 3)],
                Some(0),
            )],
            PROMISE,
        );
        assert_eq!((truth.checked_keys, truth.below_truth), (5, 1));
        assert_eq!((truth.over_p50, truth.over_max), (0, 8));
        assert!((truth.over_mean - 2.0).abs() < 1e-9);
        // Here 8 is above 0.1 * 50.
        assert!((truth.over_bound_share - 0.2).abs() < 1e-9);
    }

    #[test]
    fn phases_that_lost_adds_are_left_out_if_any_did_not() {
        let lossy = || sample(&[(0, 5, 1)], Some(4));
        let whole = sample(&[(0, 5, 5)], Some(0));
        let truth = compare(&[lossy(), whole], PROMISE);
        assert_eq!((truth.below_truth, truth.checked_keys), (0, 1));
        assert_eq!((truth.total_adds, truth.lost_adds), (10, 4));
        let truth = compare(&[lossy()], PROMISE);
        assert_eq!((truth.below_truth, truth.checked_keys), (1, 1));
    }

    #[test]
    fn quantiles_are_the_textbooks() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&values, 0.5), 50);
        assert_eq!(quantile(&values, 0.99), 99);
        assert_eq!(quantile(&values, 1.0), 100);
        assert_eq!(quantile(&[], 0.5), 0);
        assert_eq!(quantile(&[7], 0.99), 7);
    }
}
