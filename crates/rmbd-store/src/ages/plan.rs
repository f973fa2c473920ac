//! Which marks are kept, and for how long.

use rmbd_proto::cluster::Fold;

use crate::windows::WindowPlan;

/// Gaps between marks of our own slice in the span of a window: as many as it has steps, up to this.
const OWN_GAPS_MAX: u64 = 32;
/// Gaps between marks of learnt slices in the span of a window. With four the excess of what is passed on is as good as
/// with a mark for each step (`tests/ages`).
const LEARNT_GAPS_MAX: u64 = 4;
/// Marks are kept for so many steps beyond the window, like snapshots.
const SPARE_STEPS: u64 = 2;

/// What the windows of a sketch need of marks.
#[derive(Debug, Clone)]
pub(crate) struct AgePlan {
    fold: Fold,
    /// Least time between two marks.
    step_ms: u64,
    /// For each window the age up to which it needs marks, and how far apart they may be.
    reaches: Box<[Reach]>,
}

#[derive(Debug, Clone, Copy)]
struct Reach {
    age_ms: u64,
    gap_ms: u64,
}

impl AgePlan {
    /// The plan for marks of our own slice; `None` without windows.
    pub(crate) fn own(windows: &[WindowPlan]) -> Option<Self> {
        Self::with_gaps(windows, OWN_GAPS_MAX)
    }

    /// The plan for marks of learnt slices; `None` without windows.
    pub(crate) fn learnt(windows: &[WindowPlan]) -> Option<Self> {
        Self::with_gaps(windows, LEARNT_GAPS_MAX)
    }

    fn with_gaps(windows: &[WindowPlan], gaps_max: u64) -> Option<Self> {
        // A fold that divides those of all windows, so that no folded cell is in two cells of a snapshot.
        let fold = windows
            .iter()
            .map(|plan| Fold::dividing(plan.fold()))
            .min()?;
        let step_ms = windows.iter().map(WindowPlan::step_ms).min()?;
        let reach = |plan: &WindowPlan| Reach {
            age_ms: plan.span_ms() + SPARE_STEPS * plan.step_ms(),
            gap_ms: plan.step_ms().max(plan.span_ms() / gaps_max),
        };
        Some(Self {
            fold,
            step_ms,
            reaches: windows.iter().map(reach).collect(),
        })
    }

    pub(crate) fn fold(&self) -> Fold {
        self.fold
    }

    pub(crate) fn step_ms(&self) -> u64 {
        self.step_ms
    }

    /// No window needs a mark that is older.
    pub(super) fn kept_ms(&self) -> u64 {
        let ages = self.reaches.iter().map(|reach| reach.age_ms);
        ages.max().unwrap_or_default()
    }

    /// How far apart two marks may be of which the younger one has this age.
    pub(super) fn gap_ms(&self, age_ms: u64) -> u64 {
        let reach = self.reaches.iter().filter(|reach| reach.age_ms >= age_ms);
        reach.map(|reach| reach.gap_ms).min().unwrap_or(u64::MAX)
    }
}
