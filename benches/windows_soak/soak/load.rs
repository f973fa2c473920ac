//! A client of one node that adds exactly once, as fast as the node takes it, and notes what was acknowledged when.

use std::collections::HashMap;
use std::time::Instant;

use loadgen::judge::{Entry, What};
use rmbd_client::{Client, ClientError};
use rmbd_testkit::random::Random;

use super::Clock;
use super::plan::{Key, NODES, Plan, SketchPlan, WEIGHT_MAX};
use super::support::keys;

/// Number of keys of the stream in one call.
const STREAM_PART: usize = 4_096;
/// Of what a hot key did not get in time, since its node stood still, so many steps' worth is added later.
const OWED_STEPS_MAX: u64 = 1;
/// Not one of the judged keys.
const NOT_JUDGED: u8 = u8::MAX;

/// What a client has added to one sketch of its node. All of it was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Added {
    /// The adds of judged keys, each between the times of its call.
    pub(crate) entries: Vec<Entry>,
    /// Weight of each call, with the time at which it was acknowledged.
    pub(crate) weights: Vec<(u64, u64)>,
    /// Number of adds.
    pub(crate) adds: u64,
    /// Weight of all adds.
    pub(crate) weight: u64,
    /// Weight of each judged key.
    pub(crate) of_judged: Vec<u64>,
}

/// A stream of keys, each with its place among those that are judged.
pub(crate) type Stream = Vec<(Key, u8)>;

/// The stream of a node.
pub(crate) fn stream(plan: &Plan, node: usize) -> Stream {
    let judged = plan.sketches[0].judged();
    let places: HashMap<Key, u8> = judged.into_iter().zip(0..).collect();
    let keys = keys::zipf(plan.seed ^ (node as u64 + 1)).take(plan.stream_keys);
    keys.map(|key| (key, places.get(&key).copied().unwrap_or(NOT_JUDGED)))
        .collect()
}

/// Adds until it is told to stop. Returns what was added to each sketch.
pub(crate) fn run(
    client: &mut Client,
    node: usize,
    plan: &Plan,
    stream: &Stream,
    clock: &Clock,
) -> Result<Vec<Added>, ClientError> {
    let of = |(at, sketch)| Lane::new(sketch, node, plan.seed ^ (at as u64) << 8, stream);
    let mut lanes: Vec<Lane<'_>> = plan.sketches.iter().enumerate().map(of).collect();
    while !clock.is_over() {
        for lane in &mut lanes {
            lane.fill(clock);
            lane.send(client, clock)?;
        }
    }
    Ok(lanes.into_iter().map(|lane| lane.added).collect())
}

/// The adds of one node to one sketch.
struct Lane<'p> {
    sketch: &'p SketchPlan,
    node: u16,
    random: Random,
    judged: Vec<Key>,
    stream: &'p Stream,
    next: usize,
    /// Up to when hot keys have got their weight.
    hot_until: Option<Instant>,
    /// The number of bursts so far.
    bursts: u64,
    batch: Vec<(Key, u64)>,
    /// Weights of judged keys in the batch.
    in_batch: Vec<u64>,
    added: Added,
}

impl<'p> Lane<'p> {
    fn new(sketch: &'p SketchPlan, node: usize, seed: u64, stream: &'p Stream) -> Self {
        let judged = sketch.judged();
        Self {
            sketch,
            node: node as u16,
            random: Random(seed ^ node as u64),
            stream,
            next: 0,
            hot_until: None,
            bursts: 0,
            batch: Vec::new(),
            in_batch: vec![0; judged.len()],
            added: Added {
                of_judged: vec![0; judged.len()],
                ..Added::default()
            },
            judged,
        }
    }

    fn fill(&mut self, clock: &Clock) {
        self.fill_hot();
        self.fill_burst(clock);
        for _ in 0..STREAM_PART * usize::from(self.sketch.has_stream) {
            let (key, place) = self.stream[self.next];
            self.next = (self.next + 1) % self.stream.len();
            self.batch.push((key, 1));
            if place != NOT_JUDGED {
                self.in_batch[usize::from(place)] += 1;
            }
        }
    }

    /// Gives hot keys what is due, in weights up to the largest one.
    fn fill_hot(&mut self) {
        let now = Instant::now();
        let since = now - self.hot_until.replace(now).unwrap_or(now);
        let most_ms = OWED_STEPS_MAX * self.sketch.step_ms;
        let due_us = (since.as_micros() as u64).min(1_000 * most_ms);
        for place in 0..self.sketch.hot_a_second.len() {
            let due = self.sketch.hot_a_second[place] * due_us / 1_000_000 / NODES as u64;
            self.push(place, due, |random| 1 + random.below(WEIGHT_MAX));
        }
    }

    fn fill_burst(&mut self, clock: &Clock) {
        let number = clock.now_ns() / 1_000_000 / self.sketch.burst_every_ms + 1;
        if number > self.bursts {
            self.bursts = number;
            let (place, burst) = (self.sketch.bursts_at(), self.sketch.burst);
            self.push(place, burst, |_| WEIGHT_MAX);
        }
    }

    /// Adds to a judged key, in several adds.
    fn push(&mut self, place: usize, weight: u64, mut part: impl FnMut(&mut Random) -> u64) {
        let mut left = weight;
        while left > 0 {
            let weight = part(&mut self.random).min(left);
            self.batch.push((self.judged[place], weight));
            left -= weight;
        }
        self.in_batch[place] += weight;
    }

    /// Sends the batch, and notes it when all of it is acknowledged.
    fn send(&mut self, client: &mut Client, clock: &Clock) -> Result<(), ClientError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let sent_ns = clock.now_ns();
        let mut sketch = client.sketch(self.sketch.name).unwrap();
        let mut adder = sketch.adder();
        for (key, weight) in &self.batch {
            adder.push(key, *weight)?;
        }
        adder.finish()?;
        self.note(sent_ns, clock.now_ns());
        Ok(())
    }

    fn note(&mut self, sent_ns: u64, ended_ns: u64) {
        let weight = self.batch.iter().map(|(_, weight)| weight).sum();
        self.added.adds += self.batch.len() as u64;
        self.added.weight += weight;
        self.added.weights.push((ended_ns, weight));
        self.batch.clear();
        for (place, in_batch) in self.in_batch.iter_mut().enumerate() {
            self.added.of_judged[place] += *in_batch;
            // An entry holds 32 bits.
            while *in_batch > 0 {
                let times = u32::try_from(*in_batch).unwrap_or(u32::MAX);
                *in_batch -= u64::from(times);
                self.added.entries.push(Entry {
                    key: place as u32,
                    what: What::Add,
                    node: self.node,
                    socket: self.node,
                    times,
                    sent_ns,
                    last_ns: sent_ns,
                    ended_ns,
                });
            }
        }
    }
}
