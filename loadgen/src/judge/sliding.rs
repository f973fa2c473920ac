//! The judgement of windows: answers, and what was admitted, against what was sent in any window of time.
//!
//! A message arrives at some moment between its leaving and its answer. So what has arrived in the window of a
//! question is known within bounds. *At least* that has which left when the window of its answer began or later, and
//! had its answer before the question left. *At most* that has which left before the answer came, unless it had its
//! own answer before the window of the question began.

use std::cmp::Reverse;

use super::diary::{Entry, NEVER_NS, Notebook, What};
use crate::record::{Admitted, AdmittedSecond, WindowTruth};

const SECOND_NS: u64 = 1_000_000_000;
/// Largest number of seconds of a series; of longer phases it has the first ones.
const SECONDS_MAX: u64 = 7200;

/// What is known of a load with windows, and of its server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Circumstances {
    /// Milliseconds of the window that was asked for.
    pub window_ms: u64,
    /// Milliseconds of a step of the server's window, if it tells.
    pub step_ms: Option<u64>,
    /// Epsilon of the server's window, if it tells.
    pub epsilon: Option<f64>,
    /// Milliseconds until what one node was told is at all others; 0 for one server.
    pub delivery_ms: u64,
    /// From when until when a node of the server stood still, if one did. What came meanwhile is at the others later by
    /// that, and windows that reach into it cover that much more.
    pub stopped_ns: Option<(u64, u64)>,
    /// Whether answers are never too low.
    pub bound: bool,
    /// The limit of takes; `None` if the load does not take.
    pub limit: Option<u64>,
    /// The weight of an add, a hit or a take.
    pub weight: u64,
    /// Number of keys of the load.
    pub distinct: u64,
    /// When the measured part began.
    pub measured_ns: u64,
}

/// Judges all keys of a notebook.
#[must_use]
pub fn judge_windows(mut notebook: Notebook, around: &Circumstances) -> WindowTruth {
    let until_ns = notebook.closed_ns.unwrap_or(NEVER_NS);
    notebook.entries.retain(|entry| entry.last_ns < until_ns);
    notebook
        .entries
        .sort_unstable_by_key(|entry| (entry.key, entry.sent_ns));
    let added = Sums::of(notebook.added);
    let mut truth = WindowTruth {
        window_ms: around.window_ms,
        step_ms: around.step_ms,
        epsilon: around.epsilon,
        distinct_keys: around.distinct,
        judged_until_s: (notebook.closed_ns)
            .map(|ns| ns.saturating_sub(around.measured_ns) as f64 / SECOND_NS as f64),
        ..WindowTruth::default()
    };
    let mut most: Option<(u64, u64, &[Entry])> = None;
    let mut admitted = around.limit.map(|allowed| Admitted {
        allowed,
        ..Admitted::default()
    });
    for of_key in notebook.entries.chunk_by(|a, b| a.key == b.key) {
        truth.judged_keys += 1;
        judge_counts(of_key, &added, around, &mut truth);
        if let Some(admitted) = &mut admitted {
            let largest = judge_takes(of_key, around, admitted);
            let rank = (largest, of_key.len() as u64);
            if most.is_none_or(|(a, b, _)| rank > (a, b)) {
                most = Some((rank.0, rank.1, of_key));
            }
        }
    }
    if let (Some(admitted), Some((_, _, of_key))) = (&mut admitted, most) {
        describe(of_key, around, admitted);
    }
    truth.admitted = admitted;
    truth
}

/// Weights at times, with their sums.
#[derive(Debug, Default)]
struct Sums {
    /// The times, ascending.
    at_ns: Vec<u64>,
    /// The sum of all weights up to each time.
    sums: Vec<u64>,
}

impl Sums {
    fn of(mut weights: Vec<(u64, u64)>) -> Self {
        weights.sort_unstable();
        let mut sum = 0;
        let mut sums = Self::default();
        for (ns, weight) in weights {
            sum += weight;
            sums.at_ns.push(ns);
            sums.sums.push(sum);
        }
        sums
    }

    /// The weight before a time.
    fn before(&self, ns: u64) -> u64 {
        let after = self.at_ns.partition_point(|&at| at < ns);
        after.checked_sub(1).map_or(0, |last| self.sums[last])
    }

    /// The weight until a time, and at it.
    fn until(&self, ns: u64) -> u64 {
        self.before(ns.saturating_add(1))
    }
}

/// Sums of weights by rank, of which those from some rank on are asked for (a Fenwick tree).
#[derive(Debug)]
struct Ranks(Vec<u64>);

impl Ranks {
    fn new(ranks: usize) -> Self {
        Self(vec![0; ranks + 1])
    }

    fn add(&mut self, rank: usize, weight: u64) {
        let mut at = self.0.len() - 1 - rank;
        while at < self.0.len() {
            self.0[at] += weight;
            at += at & at.wrapping_neg();
        }
    }

    fn from(&self, rank: usize) -> u64 {
        let (mut at, mut sum) = (self.0.len() - 1 - rank, 0);
        while at > 0 {
            sum += self.0[at];
            at &= at - 1;
        }
        sum
    }
}

impl Circumstances {
    fn window_ns(&self) -> u64 {
        self.window_ms * 1_000_000
    }

    fn weight_of(&self, entry: &Entry) -> u64 {
        u64::from(entry.times) * self.weight
    }

    /// The span in which lies what the answer to a question may have in it.
    fn span_ns(&self, count: &Entry, step_ms: u64) -> u64 {
        let span_ns = (self.window_ms + 2 * step_ms + self.delivery_ms) * 1_000_000;
        let Some((from_ns, to_ns)) = self.stopped_ns else {
            return span_ns;
        };
        let longer_ns = span_ns + to_ns.saturating_sub(from_ns);
        let reaches_it = count.sent_ns <= to_ns.saturating_add(longer_ns);
        match count.ended_ns >= from_ns && reaches_it {
            true => longer_ns,
            false => span_ns,
        }
    }

    /// When what a node had acknowledged at a time is at all others.
    fn delivered_ns(&self, ended_ns: u64) -> u64 {
        let delivery_ns = self.delivery_ms * 1_000_000;
        let until_ns = match self.stopped_ns {
            Some((from_ns, to_ns)) if ended_ns.saturating_add(delivery_ns) >= from_ns => {
                to_ns.max(ended_ns)
            }
            _ => ended_ns,
        };
        until_ns.saturating_add(delivery_ns)
    }

    fn told(&self, entry: &Entry, arrived_ns: u64) -> Told {
        Told {
            sent_ns: entry.sent_ns,
            arrived_ns,
            weight: self.weight_of(entry),
        }
    }

    /// Whether an entry has added, or may have.
    fn adds(&self, entry: &Entry) -> bool {
        match entry.what {
            What::Add | What::Admitted | What::Unanswered => true,
            What::Refused => self.limit.is_none(),
            What::Counted { .. } => false,
        }
    }
}

/// Judges the counts of one key.
fn judge_counts(of_key: &[Entry], added: &Sums, around: &Circumstances, truth: &mut WindowTruth) {
    let is_count = |entry: &&Entry| matches!(entry.what, What::Counted { .. });
    let counts: Vec<&Entry> = of_key.iter().filter(is_count).collect();
    if counts.is_empty() {
        return;
    }
    truth.judged_answers += counts.len() as u64;
    let adding = || of_key.iter().filter(|entry| around.adds(entry));
    if around.bound {
        let mut nodes: Vec<u16> = counts.iter().map(|count| count.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            let asked = counts.iter().copied().filter(|count| count.node == node);
            let asked: Vec<&Entry> = asked.collect();
            let here = adding().filter(|entry| entry.node == node);
            let here: Vec<Told> = here.map(|e| around.told(e, e.ended_ns)).collect();
            let elsewhere = adding().filter(|entry| entry.node != node);
            let elsewhere = elsewhere.map(|e| around.told(e, around.delivered_ns(e.ended_ns)));
            let all = here.iter().copied().chain(elsewhere).collect();
            truth.below_delivered += below(asked.clone(), all, around);
            truth.below_truth += below(asked, here, around);
        }
    }
    let (Some(step_ms), Some(epsilon)) = (around.step_ms, around.epsilon) else {
        return;
    };
    let left = Sums::of(adding().map(|e| (e.sent_ns, around.weight_of(e))).collect());
    let ended = Sums::of(
        adding()
            .map(|e| (e.ended_ns, around.weight_of(e)))
            .collect(),
    );
    for count in counts {
        let What::Counted { estimate, .. } = count.what else {
            continue;
        };
        let began_ns = count.sent_ns.saturating_sub(around.span_ns(count, step_ms));
        let most = left
            .until(count.ended_ns)
            .saturating_sub(ended.before(began_ns));
        let weight = added
            .until(count.ended_ns + SECOND_NS)
            .saturating_sub(added.before(began_ns));
        let over = estimate.saturating_sub(most);
        truth.compared_answers += 1;
        truth.above_bound += u64::from(over as f64 > epsilon * weight as f64);
        truth.over_max = truth.over_max.max(over);
    }
}

/// A weight that a node was told.
#[derive(Debug, Clone, Copy)]
struct Told {
    sent_ns: u64,
    /// From when on an answer must have it in it.
    arrived_ns: u64,
    weight: u64,
}

/// How many estimates are below what had arrived for sure.
fn below(mut counts: Vec<&Entry>, mut told: Vec<Told>, around: &Circumstances) -> u64 {
    let mut left: Vec<u64> = told.iter().map(|it| it.sent_ns).collect();
    left.sort_unstable();
    told.sort_unstable_by_key(|it| it.arrived_ns);
    counts.sort_unstable_by_key(|count| count.sent_ns);
    let mut ranks = Ranks::new(left.len());
    let mut arriving = told.into_iter().peekable();
    let mut below = 0;
    for count in counts {
        while let Some(it) = arriving.next_if(|it| it.arrived_ns <= count.sent_ns) {
            let rank = left.partition_point(|&ns| ns < it.sent_ns);
            ranks.add(rank, it.weight);
        }
        let began_ns = count.ended_ns.saturating_sub(around.window_ns());
        let least = ranks.from(left.partition_point(|&ns| ns < began_ns));
        let What::Counted {
            estimate,
            overflowed,
        } = count.what
        else {
            continue;
        };
        below += u64::from(estimate < least && !overflowed);
    }
    below
}

/// Judges the takes of one key. Returns the largest weight that was admitted in any window.
fn judge_takes(of_key: &[Entry], around: &Circumstances, found: &mut Admitted) -> u64 {
    let weigh = |what: What| {
        let entries = of_key.iter().filter(move |entry| entry.what == what);
        entries.map(|entry| (entry, around.weight_of(entry)))
    };
    found.unanswered += weigh(What::Unanswered)
        .map(|(_, weight)| weight)
        .sum::<u64>();
    let left = Sums::of(weigh(What::Admitted).map(|(e, w)| (e.sent_ns, w)).collect());
    let ended = Sums::of(
        weigh(What::Admitted)
            .map(|(e, w)| (e.ended_ns, w))
            .collect(),
    );
    let window_ns = around.window_ns();
    let ends = left.at_ns.iter();
    let largest = ends
        .map(|&end_ns| in_window(&left, end_ns, window_ns))
        .max();
    let largest = largest.unwrap_or(0);
    // What left before the first one's leaving was answered within a window from there, too, or is too much here.
    let for_sure = left.at_ns.iter().map(|&first_ns| {
        let answered = ended.until(first_ns.saturating_add(window_ns));
        answered.saturating_sub(left.before(first_ns))
    });
    found.largest = found.largest.max(largest);
    found.largest_for_sure = found.largest_for_sure.max(for_sure.max().unwrap_or(0));
    found.keys_above += u64::from(largest > found.allowed);
    largest
}

/// The weight within the window that ends at a time, with what was at it and without what was a whole window earlier.
fn in_window(left: &Sums, end_ns: u64, window_ns: u64) -> u64 {
    let before = (end_ns + 1)
        .checked_sub(window_ns)
        .map_or(0, |ns| left.before(ns));
    left.until(end_ns) - before
}

/// Describes one key over time.
fn describe(of_key: &[Entry], around: &Circumstances, found: &mut Admitted) {
    let requests = || of_key.iter().map(|entry| (entry, around.weight_of(entry)));
    let admitted = requests().filter(|(entry, _)| entry.what == What::Admitted);
    let left = Sums::of(
        admitted
            .map(|(entry, weight)| (entry.sent_ns, weight))
            .collect(),
    );
    let begin_ns = of_key.first().map_or(0, |entry| entry.sent_ns);
    let end_ns = of_key.iter().map(|entry| entry.last_ns).max().unwrap_or(0);
    let window_ns = around.window_ns();
    found.least = least(&left, begin_ns + window_ns, end_ns, window_ns);
    let seconds = ((end_ns - begin_ns) / SECOND_NS + 1).min(SECONDS_MAX);
    let mut series: Vec<AdmittedSecond> = (0..seconds)
        .map(|second| {
            let (from_ns, to_ns) = (second * SECOND_NS, (second + 1) * SECOND_NS);
            let (from_ns, to_ns) = (begin_ns + from_ns, begin_ns + to_ns);
            let ends = left.at_ns.iter().copied();
            let first = left.at_ns.partition_point(|&ns| ns < from_ns);
            let ends = ends.skip(first).take_while(|&ns| ns < to_ns);
            let windows = std::iter::once(from_ns).chain(ends);
            AdmittedSecond {
                end_s: (second + 1) as f64,
                asked: 0,
                admitted: left.before(to_ns) - left.before(from_ns),
                in_window: (windows.map(|ns| in_window(&left, ns, window_ns)).max()).unwrap_or(0),
            }
        })
        .collect();
    for (entry, weight) in requests() {
        let second = ((entry.sent_ns - begin_ns) / SECOND_NS) as usize;
        if let Some(second) = series.get_mut(second) {
            second.asked += weight;
        }
    }
    found.series = series;
}

/// The least weight in any window that lies between two times; `None` if none does.
fn least(left: &Sums, from_ns: u64, to_ns: u64, window_ns: u64) -> Option<u64> {
    let last_ns = to_ns
        .checked_sub(window_ns)
        .filter(|&last_ns| last_ns >= from_ns)?;
    // The least is in a window that begins just behind something, or is the first one.
    let behind = left.at_ns.iter().copied();
    let behind = behind
        .filter(|&ns| (from_ns..last_ns).contains(&ns))
        .map(|ns| ns + 1);
    let begins = std::iter::once(from_ns).chain(behind);
    let weights = begins.map(|ns| Reverse(left.before(ns + window_ns) - left.before(ns)));
    weights.max().map(|Reverse(weight)| weight)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::rand_core::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    const MS: u64 = 1_000_000;

    fn entry(key: u32, what: What, sent_ms: u64, ended_ms: u64) -> Entry {
        Entry {
            key,
            what,
            node: 0,
            socket: 0,
            times: 1,
            sent_ns: sent_ms * MS,
            last_ns: sent_ms * MS,
            ended_ns: ended_ms * MS,
        }
    }

    fn counted(estimate: u64, sent_ms: u64, ended_ms: u64) -> Entry {
        let what = What::Counted {
            estimate,
            overflowed: false,
        };
        entry(7, what, sent_ms, ended_ms)
    }

    const AROUND: Circumstances = Circumstances {
        window_ms: 1000,
        step_ms: Some(100),
        epsilon: Some(0.0),
        delivery_ms: 0,
        stopped_ns: None,
        bound: true,
        limit: None,
        weight: 1,
        distinct: 10,
        measured_ns: 0,
    };

    fn judged(entries: Vec<Entry>, around: &Circumstances) -> WindowTruth {
        let notebook = Notebook {
            entries,
            ..Notebook::default()
        };
        judge_windows(notebook, around)
    }

    #[test]
    fn an_estimate_is_held_to_what_arrived_for_sure() {
        let add = |sent, ended| entry(7, What::Add, sent, ended);
        // One is in the window of any moment, one may be before it, one may be later, one has no answer.
        let adds = [
            add(1005, 1010),
            add(900, 1004),
            add(1990, 2002),
            add(1500, NEVER_NS / MS),
        ];
        let with = |count: Entry| judged([&adds[..], &[count]].concat(), &AROUND);
        assert_eq!(with(counted(0, 2000, 2004)).below_truth, 1);
        assert_eq!(with(counted(1, 2000, 2004)).below_truth, 0);
        // At another node nothing arrived for sure.
        let elsewhere = Entry {
            node: 1,
            ..counted(0, 2000, 2004)
        };
        assert_eq!(with(elsewhere).below_truth, 0);
        let smooth = Circumstances {
            bound: false,
            ..AROUND
        };
        let entries = [&adds[..], &[counted(0, 2000, 2004)]].concat();
        assert_eq!(judged(entries, &smooth).below_truth, 0);
        // All four may be in the window and two steps, a fifth is not.
        let truth = with(counted(4, 2000, 2004));
        assert_eq!(
            (truth.compared_answers, truth.above_bound, truth.over_max),
            (1, 0, 0)
        );
        let truth = with(counted(5, 2000, 2004));
        assert_eq!((truth.above_bound, truth.over_max), (1, 1));
        let truth = with(counted(5, 2300, 2304));
        assert_eq!(
            (truth.above_bound, truth.over_max),
            (1, 3),
            "two are too old then"
        );
    }

    #[test]
    fn a_window_that_reaches_into_a_stop_covers_more_by_it() {
        let around = Circumstances {
            stopped_ns: Some((2000 * MS, 2500 * MS)),
            ..AROUND
        };
        // A window and two steps are 1200 ms, and 1700 with the stop.
        for (sent, added, over) in [
            (1900, 650, 1),
            (2100, 650, 0),
            (4200, 2550, 0),
            (4200, 2450, 1),
            (4250, 2600, 1),
        ] {
            let entries = vec![
                entry(7, What::Add, added, added),
                counted(1, sent, sent + 1),
            ];
            let truth = judged(entries, &around);
            assert_eq!(truth.above_bound, over, "asked at {sent}, added at {added}");
        }
    }

    /// The oracle looks at all adds for each count.
    #[test]
    fn a_naive_judge_agrees() {
        for seed in 0..20 {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut below = |most: u64| rng.next_u64() % most;
            let mut entries = Vec::new();
            for _ in 0..400 {
                let sent = below(10_000);
                let (ended, node) = (sent + below(50), below(2) as u16);
                let mut new = match below(3) {
                    0 => counted(below(30), sent, ended),
                    _ => entry(7, What::Add, sent, ended),
                };
                (new.node, new.times) = (node, 1 + below(3) as u32);
                entries.push(new);
            }
            let around = Circumstances {
                delivery_ms: 100,
                stopped_ns: Some((3000 * MS, 4000 * MS)),
                ..AROUND
            };
            let mut expected = (0, 0);
            for count in &entries {
                let What::Counted { estimate, .. } = count.what else {
                    continue;
                };
                let least = |arrived: &dyn Fn(&Entry) -> bool| -> u64 {
                    let adds = entries.iter().filter(|e| e.what == What::Add && arrived(e));
                    let adds = adds.filter(|e| e.sent_ns + 1000 * MS >= count.ended_ns);
                    adds.map(|e| u64::from(e.times)).sum()
                };
                let here = |e: &Entry| e.node == count.node && e.ended_ns <= count.sent_ns;
                let delivered = |e: &Entry| {
                    let is_held_up = (2900 * MS..4000 * MS).contains(&e.ended_ns);
                    let told_ns = if is_held_up { 4000 * MS } else { e.ended_ns };
                    told_ns + 100 * MS <= count.sent_ns
                };
                expected.0 += u64::from(estimate < least(&here));
                expected.1 += u64::from(estimate < least(&|e| here(e) || delivered(e)));
            }
            assert!(0 < expected.0 && expected.0 < expected.1, "seed {seed}");
            let truth = judged(entries, &around);
            let found = (truth.below_truth, truth.below_delivered);
            assert_eq!(found, expected, "seed {seed}");
        }
    }

    const TAKES: Circumstances = Circumstances {
        limit: Some(3),
        ..AROUND
    };

    #[test]
    fn the_largest_number_in_any_window_is_found_with_the_least() {
        let taken = |sent| entry(7, What::Admitted, sent, sent + 1);
        let mut entries: Vec<Entry> = [0, 100, 200, 1000, 1100, 1150, 2100, 3500]
            .map(taken)
            .into();
        entries.push(entry(7, What::Refused, 5000, 5001));
        entries.push(entry(8, What::Admitted, 0, 1));
        entries.push(entry(8, What::Unanswered, 0, NEVER_NS / MS));
        let truth = judged(entries, &TAKES);
        let found = truth.admitted.unwrap();
        assert_eq!((found.allowed, found.largest, found.keys_above), (3, 4, 1));
        // 200, 1000, 1100 and 1150; the answer to the last is within a second of the first one's leaving.
        assert_eq!(found.largest_for_sure, 4);
        // Nothing came between 3500 and 5000.
        assert_eq!((found.least, found.unanswered), (Some(0), 1));
        assert_eq!(truth.judged_keys, 2);
        let admitted: Vec<u64> = found.series.iter().map(|second| second.admitted).collect();
        assert_eq!(admitted, [3, 3, 1, 1, 0, 0]);
        let in_window: Vec<u64> = found.series.iter().map(|second| second.in_window).collect();
        assert_eq!(in_window, [3, 4, 2, 1, 1, 0]);
        assert_eq!(found.series[5].asked, 1);
    }

    #[test]
    fn the_largest_and_the_least_are_those_of_all_windows() {
        for seed in 0..20 {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let times: Vec<u64> = (0..60).map(|_| rng.next_u64() % 6000).collect();
            let mut entries: Vec<Entry> = (times.iter())
                .map(|&sent| entry(7, What::Admitted, sent, sent + 2))
                .collect();
            entries.push(entry(7, What::Refused, 0, 1));
            entries.push(entry(7, What::Refused, 6000, 6001));
            let found = judged(entries, &TAKES).admitted.unwrap();
            let within = |from: u64| {
                let inside = times
                    .iter()
                    .filter(|&&at| (from..from + 1000).contains(&at));
                inside.count() as u64
            };
            assert_eq!(
                Some(found.largest),
                (0..6000).map(within).max(),
                "seed {seed}"
            );
            // Between two milliseconds is nothing, so the window from 5000 on is one of 5000 to 6000.
            assert_eq!(found.least, (1000..=5000).map(within).min(), "seed {seed}");
            assert!(found.largest_for_sure <= found.largest);
            assert!(found.largest_for_sure + 3 >= found.largest, "seed {seed}");
        }
    }

    #[test]
    fn nothing_after_the_end_of_a_notebook_is_judged() {
        let notebook = Notebook {
            entries: vec![counted(5, 100, 101), counted(5, 3000, 3001)],
            closed_ns: Some(2000 * MS),
            ..Notebook::default()
        };
        let truth = judge_windows(notebook, &AROUND);
        assert_eq!((truth.judged_answers, truth.judged_until_s), (1, Some(2.0)));
    }
}
