//! What a run has found, and its table.

use std::fmt::{self, Display, Formatter};

use loadgen::record::WindowTruth;

/// What a run has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What must not be: each ends the bench with an error.
    pub(crate) faults: Vec<String>,
    pub(crate) took_s: f64,
    pub(crate) stopped_s: Option<f64>,
    /// From the last acknowledgement until all nodes held the same.
    pub(crate) settled_s: f64,
    pub(crate) sketches: Vec<OfSketch>,
}

/// What was found about one sketch.
#[derive(Debug)]
pub(crate) struct OfSketch {
    pub(crate) name: &'static str,
    pub(crate) window_ms: u64,
    pub(crate) step_ms: u64,
    pub(crate) adds: u64,
    /// All weight that was acknowledged.
    pub(crate) truth: u64,
    /// The weight that each node says it knows.
    pub(crate) known: Vec<u64>,
    /// Judgement of each window that was asked for.
    pub(crate) judged: Vec<WindowTruth>,
    /// The same for what was asked after all nodes held the same, of what all of them were told.
    pub(crate) settled: Vec<WindowTruth>,
    pub(crate) incomplete: u64,
    pub(crate) overflowed: u64,
    pub(crate) falls: u64,
    /// Weight of the hottest key.
    pub(crate) hottest: u64,
    /// Keys whose count of all time is above the truth by more than epsilon N, of so many.
    pub(crate) above_error: u64,
    pub(crate) judged_keys: u64,
    /// From the last acknowledgement until all windows were empty.
    pub(crate) empty_s: f64,
}

impl Findings {
    /// A run that came to nothing.
    pub(super) fn of_fault(fault: String) -> Self {
        Self {
            faults: vec![fault],
            ..Self::default()
        }
    }

    fn adds(&self) -> u64 {
        self.sketches.iter().map(|sketch| sketch.adds).sum()
    }
}

impl OfSketch {
    fn steps(&self, took_s: f64) -> u64 {
        (took_s * 1_000.0) as u64 / self.step_ms
    }
}

fn percent(part: u64, all: u64) -> String {
    format!("{:.3} %", part as f64 / all.max(1) as f64 * 100.0)
}

impl Display for Findings {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            to,
            "| sketch, window asked for | answers | too low | of them at rest, of all nodes' adds | below what others \
             were told 2 s before | too high by more than epsilon N |\n|---|---|---|---|---|---|"
        )?;
        for sketch in &self.sketches {
            for (judged, settled) in sketch.judged.iter().zip(&sketch.settled) {
                writeln!(
                    to,
                    "| {}, {} ms | {} | {} | {} of {} | {} | {} |",
                    sketch.name,
                    judged.window_ms,
                    judged.judged_answers,
                    judged.below_truth,
                    settled.below_truth,
                    settled.judged_answers,
                    percent(judged.below_delivered, judged.judged_answers),
                    percent(judged.above_bound, judged.compared_answers)
                )?;
            }
        }
        writeln!(
            to,
            "\n| sketch | window | steps | adds a second | wraps of the hottest cell | bursts seen to end | may have \
             passed 2^32, so not judged | incomplete | all-time counts above the truth by more than epsilon N | \
             empty after, s |\n|---|---|---|---|---|---|---|---|---|---|"
        )?;
        for sketch in &self.sketches {
            let answers: u64 = sketch.judged.iter().map(|it| it.judged_answers).sum();
            writeln!(
                to,
                "| {} | {} ms by {} ms | {} | {:.0} | {:.1} | {} | {} | {} | {} of {} keys | {:.1} |",
                sketch.name,
                sketch.window_ms,
                sketch.step_ms,
                sketch.steps(self.took_s),
                sketch.adds as f64 / self.took_s,
                sketch.hottest as f64 / 2_f64.powi(32),
                sketch.falls,
                percent(sketch.overflowed, answers),
                percent(sketch.incomplete, answers),
                sketch.above_error,
                sketch.judged_keys,
                sketch.empty_s
            )?;
        }
        writeln!(
            to,
            "\n| sketch | weight acknowledged | N of each node |\n|---|---|---|"
        )?;
        for sketch in &self.sketches {
            let known: Vec<String> = sketch.known.iter().map(u64::to_string).collect();
            let known = known.join(", ");
            writeln!(to, "| {} | {} | {known} |", sketch.name, sketch.truth)?;
        }
        writeln!(to, "\n| | |\n|---|---|")?;
        writeln!(to, "| ran | {:.1} s |", self.took_s)?;
        let stopped = self.stopped_s.map(|seconds| format!("{seconds:.1} s"));
        writeln!(
            to,
            "| one node stopped for | {} |",
            stopped.unwrap_or_else(|| "-".to_owned())
        )?;
        let adds = self.adds();
        let a_second = adds as f64 / self.took_s;
        writeln!(to, "| adds, a second | {adds}, {a_second:.0} |")?;
        writeln!(
            to,
            "| last add until all nodes held the same | {:.2} s |",
            self.settled_s
        )?;
        writeln!(to, "| faults | {} |", self.faults.len())
    }
}
