//! The judgement of a run, by what was acknowledged.

use loadgen::judge::{Circumstances, Entry, Notebook, judge_windows};
use loadgen::record::WindowTruth;
use rmbd::status::Status;

use super::cluster::{Cluster, Course, named};
use super::findings::OfSketch;
use super::load::Added;
use super::plan::{NODES, Plan, SketchPlan};
use super::questions::Asked;
use super::rest::Rest;

/// The time until what one node was told is at all others: several rounds of gossip.
const DELIVERY_MS: u64 = 2_000;

/// Judges all sketches. Returns what was found, and what must not be.
pub(super) fn of_all(
    cluster: &Cluster,
    plan: &Plan,
    course: Course,
    rest: Rest,
) -> (Vec<OfSketch>, Vec<String>) {
    let statuses = cluster.statuses();
    let mut faults = rest.faults;
    let parts = course.added.into_iter().zip(course.asked);
    let parts = parts.zip(rest.asked.into_iter().zip(rest.empty_s));
    let mut found = Vec::new();
    for (sketch, ((added, asked), (at_rest, empty_s))) in plan.sketches.iter().zip(parts) {
        let weights = added.iter().flat_map(|it| it.weights.iter().copied());
        let case = Case {
            sketch,
            status: &statuses[0],
            entries: added
                .iter()
                .flat_map(|it| it.entries.iter().copied())
                .collect(),
            weights: weights.collect(),
            stopped_ns: course.stopped_ns,
        };
        let judged = case.judge(&asked);
        let settled = case.of_one_node().judge(&at_rest);
        for (truths, when) in [(&judged, "under load"), (&settled, "at rest")] {
            faults.extend(
                truths
                    .iter()
                    .filter_map(|truth| too_low(sketch, truth, when)),
            );
        }
        let of_keys = sums(&added);
        let above_error = check_all_time(cluster, sketch, &added, &of_keys, &mut faults);
        let known = statuses
            .iter()
            .map(|status| named(status, sketch).known_weight);
        found.push(OfSketch {
            name: sketch.name,
            window_ms: sketch.window_ms,
            step_ms: sketch.step_ms,
            adds: added.iter().map(|it| it.adds).sum(),
            truth: added.iter().map(|it| it.weight).sum(),
            known: known.collect(),
            judged,
            settled,
            incomplete: asked.incomplete,
            overflowed: asked.overflowed,
            falls: asked.falls,
            hottest: of_keys.iter().copied().max().unwrap_or(0),
            above_error,
            judged_keys: of_keys.len() as u64,
            empty_s,
        });
    }
    (found, faults)
}

/// What was added to a sketch, to be compared with answers.
#[derive(Clone)]
struct Case<'r> {
    sketch: &'r SketchPlan,
    status: &'r Status,
    entries: Vec<Entry>,
    weights: Vec<(u64, u64)>,
    stopped_ns: Option<(u64, u64)>,
}

impl Case<'_> {
    /// The same, as if one node had been told everything.
    fn of_one_node(&self) -> Self {
        let mut one = self.clone();
        one.entries.iter_mut().for_each(|entry| entry.node = 0);
        one
    }

    /// Judges the answers about each span.
    fn judge(&self, asked: &Asked) -> Vec<WindowTruth> {
        let spans = self.sketch.spans_ms().into_iter().zip(&asked.by_span);
        spans
            .map(|(span_ms, counts)| {
                let entries = [self.entries.as_slice(), counts].concat();
                let notebook = Notebook::new(entries, self.weights.clone());
                judge_windows(notebook, &self.circumstances(span_ms))
            })
            .collect()
    }

    fn circumstances(&self, span_ms: u64) -> Circumstances {
        let windows = &named(self.status, self.sketch).windows;
        Circumstances {
            window_ms: span_ms,
            step_ms: Some(self.sketch.step_ms),
            epsilon: windows.first().map(|window| window.epsilon),
            delivery_ms: DELIVERY_MS,
            stopped_ns: self.stopped_ns,
            bound: true,
            weight: 1,
            ..Circumstances::default()
        }
    }
}

fn too_low(sketch: &SketchPlan, truth: &WindowTruth, when: &str) -> Option<String> {
    let WindowTruth {
        below_truth,
        judged_answers,
        window_ms,
        ..
    } = truth;
    (*below_truth > 0).then(|| {
        let name = sketch.name;
        format!("{below_truth} of {judged_answers} answers of {name} in {window_ms} ms, {when}, are too low")
    })
}

/// The weight of each judged key.
fn sums(added: &[Added]) -> Vec<u64> {
    let keys = added[0].of_judged.len();
    (0..keys)
        .map(|key| added.iter().map(|it| it.of_judged[key]).sum())
        .collect()
}

/// Compares counts of all time with the truth. Returns the number of keys that are too high by more than epsilon N
/// somewhere, which the hot ones must not be.
fn check_all_time(
    cluster: &Cluster,
    sketch: &SketchPlan,
    added: &[Added],
    of_keys: &[u64],
    faults: &mut Vec<String>,
) -> u64 {
    let keys = sketch.judged();
    let status = &cluster.statuses()[0];
    let weight: u64 = added.iter().map(|it| it.weight).sum();
    let error = named(status, sketch).sketch.epsilon * weight as f64;
    let mut is_above = vec![false; keys.len()];
    for node in 0..NODES {
        let mut client = cluster.client(node);
        let mut asked = client.sketch(sketch.name).unwrap();
        let counts = match asked.count_many(&keys) {
            Ok(counts) => counts,
            Err(error) => {
                faults.push(format!("counts of all time at node {node}: {error}"));
                continue;
            }
        };
        for (key, (count, &truth)) in counts.iter().zip(of_keys).enumerate() {
            let (name, estimate) = (sketch.name, count.estimate);
            let is_high = estimate.saturating_sub(truth) as f64 > error;
            is_above[key] |= is_high;
            if estimate < truth || (is_high && key <= sketch.bursts_at()) {
                faults.push(format!(
                    "key {key} of {name} has {truth} of all time, and node {node} says {estimate}"
                ));
            }
        }
    }
    is_above.iter().filter(|&&is_above| is_above).count() as u64
}
