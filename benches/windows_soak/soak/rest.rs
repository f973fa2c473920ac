//! What nodes say when they all hold the same and nobody adds any more: their windows empty.

use std::time::Duration;

use rmbd_client::{Client, ClientError};

use super::Clock;
use super::cluster::{Cluster, Course};
use super::node::PATIENCE;
use super::plan::{NODES, Plan, SketchPlan};
use super::questions::Asked;

/// So often in a step each node is asked.
const LOOKS_A_STEP: u32 = 5;

/// What nodes said at rest.
pub(super) struct Rest {
    /// Answers by sketch. Each node knows all adds, so that all answers are those of one node.
    pub(super) asked: Vec<Asked>,
    /// By sketch, the seconds from the last acknowledgement until all windows were empty.
    pub(super) empty_s: Vec<f64>,
    pub(super) faults: Vec<String>,
}

impl Rest {
    /// Asks until all windows of all nodes are empty.
    pub(super) fn watch(cluster: &Cluster, plan: &Plan, course: &Course, clock: &Clock) -> Self {
        let mut clients: Vec<Client> = (0..NODES).map(|node| cluster.client(node)).collect();
        let mut rest = Self {
            asked: plan.sketches.iter().map(|_| Asked::default()).collect(),
            empty_s: vec![0.0; plan.sketches.len()],
            faults: Vec::new(),
        };
        // The shortest first: the others' windows are longer, and go on to be full meanwhile.
        let mut order: Vec<usize> = (0..plan.sketches.len()).collect();
        while !order.is_empty() {
            let mut left = Vec::new();
            for at in order {
                let sketch = &plan.sketches[at];
                let waited_s = clock.seconds_since(course.ended_ns);
                match rest.look(&mut clients, at, sketch, clock) {
                    Ok(true) => rest.empty_s[at] = waited_s,
                    Ok(false) if waited_s < longest_s(sketch) => left.push(at),
                    Ok(false) => rest.faults.push(format!(
                        "windows of {} are not empty after {waited_s:.1} s",
                        sketch.name
                    )),
                    Err(error) => rest.faults.push(format!("at rest: {error}")),
                }
            }
            let steps_ms = left.iter().map(|&at| plan.sketches[at].step_ms);
            let pause_ms = steps_ms.min().unwrap_or(0);
            std::thread::sleep(Duration::from_millis(pause_ms) / LOOKS_A_STEP);
            order = left;
        }
        rest
    }

    /// Whether all windows of this sketch are empty, at all nodes.
    fn look(
        &mut self,
        clients: &mut [Client],
        at: usize,
        sketch: &SketchPlan,
        clock: &Clock,
    ) -> Result<bool, ClientError> {
        let keys = sketch.judged();
        let mut all_empty = true;
        for client in clients {
            for span in 0..sketch.spans_ms().len() {
                let counts = self.asked[at].ask(client, 0, sketch, &keys, span, clock)?;
                all_empty &= counts.iter().all(|count| count.estimate == 0);
            }
        }
        Ok(all_empty)
    }
}

/// A time in which a sketch's windows must become empty, on the slowest machine, too.
fn longest_s(sketch: &SketchPlan) -> f64 {
    let window = Duration::from_millis(sketch.window_ms + 2 * sketch.step_ms);
    (window + PATIENCE).as_secs_f64()
}
