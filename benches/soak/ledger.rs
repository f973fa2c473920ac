//! A ledger of what must have been counted, to the last unit, by start of a node and by key.
//!
//! At a *settling*, when all nodes are equal, the ledger is compared with what they hold. From then on it is exact.

use std::collections::{BTreeMap, BTreeSet};

/// A range from the least to the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// Weights since the last settling.
#[derive(Debug)]
struct Since {
    keys: Vec<Range>,
    /// For a start that was killed: what another node was seen to hold, which replaces the keys' lows.
    floor: Option<u64>,
}

/// A weight that was under way while its node was restarted. Either the start before or the one after has counted it.
#[derive(Debug)]
struct Straddling {
    starts: [String; 2],
    key: usize,
    weight: u64,
    /// Whether it was acknowledged. If not, perhaps neither start has counted it.
    is_confirmed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    keys: usize,
    /// For each start, what all nodes held at the last settling.
    starts: BTreeMap<String, u64>,
    counts: Vec<u64>,
    /// Counts that another node was seen to have when a node was killed.
    seen: Vec<u64>,
    since: BTreeMap<String, Since>,
    straddling: Vec<Straddling>,
    pub(crate) acknowledged: u64,
    pub(crate) uncertain: u64,
}

/// The content of nodes: weights by start, and counts by key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) starts: BTreeMap<String, u64>,
    pub(crate) counts: Vec<u64>,
}

/// The result of a settling.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Acknowledged weight that was lost with killed processes.
    pub(crate) lost: u64,
    /// Number of starts whose weight had to be one number, and was.
    pub(crate) exact: u64,
}

impl Ledger {
    pub(crate) fn new(keys: usize) -> Self {
        Self {
            keys,
            counts: vec![0; keys],
            seen: vec![0; keys],
            ..Self::default()
        }
    }

    /// Enters a weight that this start has acknowledged.
    pub(crate) fn confirmed(&mut self, start: &str, key: usize, weight: u64) {
        self.acknowledged += weight;
        let range = &mut self.since(start).keys[key];
        range.low += weight;
        range.high += weight;
    }

    /// Enters a weight that this start may have counted.
    pub(crate) fn uncertain(&mut self, start: &str, key: usize, weight: u64) {
        self.uncertain += weight;
        self.since(start).keys[key].high += weight;
    }

    /// Enters a weight that one of two starts has acknowledged, or may have counted.
    pub(crate) fn straddling(
        &mut self,
        starts: [&str; 2],
        key: usize,
        weight: u64,
        is_confirmed: bool,
    ) {
        let sum = if is_confirmed {
            &mut self.acknowledged
        } else {
            &mut self.uncertain
        };
        *sum += weight;
        for start in starts {
            self.since(start);
        }
        self.straddling.push(Straddling {
            starts: starts.map(str::to_owned),
            key,
            weight,
            is_confirmed,
        });
    }

    /// Weights that this start or another one may have counted.
    fn straddling_at(&self, start: &str) -> u64 {
        let here = self.straddling.iter();
        let here = here.filter(|weight| weight.starts.iter().any(|one| one == start));
        here.map(|weight| weight.weight).sum()
    }

    /// The range of a key's straddling weights. Nothing is sure if one of the starts was killed.
    fn straddling_of(&self, key: usize) -> Range {
        let mut range = Range::default();
        for weight in self.straddling.iter().filter(|weight| weight.key == key) {
            let is_killed = |start: &String| self.since[start].floor.is_some();
            if weight.is_confirmed && !weight.starts.iter().any(is_killed) {
                range.low += weight.weight;
            }
            range.high += weight.weight;
        }
        range
    }

    fn since(&mut self, start: &str) -> &mut Since {
        let keys = self.keys;
        let new = || Since {
            keys: vec![Range::default(); keys],
            floor: None,
        };
        self.since.entry(start.to_owned()).or_insert_with(new)
    }

    /// Notes that a start is killed, when others were just seen to hold this. Weight that no other node had may be
    /// lost, and so may that of starts that were killed since the last settling.
    pub(crate) fn killed(&mut self, start: &str, others_hold: &Held) {
        let _ = self.since(start);
        for (seen, &count) in self.seen.iter_mut().zip(&others_hold.counts) {
            *seen = count.max(*seen);
        }
        let others_hold = &others_hold.starts;
        for (name, since) in &mut self.since {
            if name == start || since.floor.is_some() {
                let held = others_hold.get(name).copied().unwrap_or(0);
                let settled = self.starts.get(name).copied().unwrap_or(0);
                since.floor = Some(held.saturating_sub(settled));
            }
        }
    }

    /// Compares the ledger with what is held, and takes that over.
    pub(crate) fn settle(&mut self, held: Held) -> Result<Settled, String> {
        let mut settled = Settled::default();
        let mut grown = 0;
        let known: BTreeSet<&String> = self.starts.keys().chain(self.since.keys()).collect();
        if let Some(stranger) = held.starts.keys().find(|start| !known.contains(start)) {
            return Err(format!("nobody knows of start {stranger}"));
        }
        for start in known {
            let before = self.starts.get(start).copied().unwrap_or(0);
            let now = held.starts.get(start).copied().unwrap_or(0);
            let since = self.since.get(start);
            let sum =
                |of: fn(&Range) -> u64| since.map_or(0, |since| since.keys.iter().map(of).sum());
            let acknowledged: u64 = sum(|range| range.low);
            let floor = since.and_then(|since| since.floor);
            let allowed = Range {
                low: before + floor.unwrap_or(acknowledged),
                high: before + sum(|range| range.high) + self.straddling_at(start),
            };
            if !(allowed.low..=allowed.high).contains(&now) {
                return Err(format!(
                    "start {start} has {now}, not {allowed:?} (before {before}, killed: {floor:?})"
                ));
            }
            settled.lost += (before + acknowledged).saturating_sub(now);
            settled.exact += u64::from(allowed.low == allowed.high);
            grown += now - before;
        }
        self.check_counts(&held, grown)?;
        self.starts.extend(held.starts);
        self.counts = held.counts;
        self.since.clear();
        self.straddling.clear();
        self.seen = vec![0; self.keys];
        Ok(settled)
    }

    fn check_counts(&self, held: &Held, grown: u64) -> Result<(), String> {
        for (key, (&before, &now)) in self.counts.iter().zip(&held.counts).enumerate() {
            let since = self.since.values();
            let (mut low, mut high) = (before, before);
            for since in since {
                low += if since.floor.is_some() {
                    0
                } else {
                    since.keys[key].low
                };
                high += since.keys[key].high;
            }
            let straddling = self.straddling_of(key);
            low = (low + straddling.low).max(self.seen[key]);
            high += straddling.high;
            if !(low..=high).contains(&now) {
                return Err(format!("key {key} is counted {now}, not {low} to {high}"));
            }
        }
        let counted: u64 = held.counts.iter().sum::<u64>() - self.counts.iter().sum::<u64>();
        // Data of a killed writer may have arrived in some rows of the sketch only. Such weight is in the slice, and
        // in no count.
        let is_whole = self.since.values().all(|since| since.floor.is_none());
        if counted > grown || (is_whole && counted < grown) {
            return Err(format!("keys grew by {counted}, slices by {grown}"));
        }
        Ok(())
    }
}
