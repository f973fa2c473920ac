//! Windows: what was counted in the last seconds, minutes or days.

mod plan;

pub use plan::{SPAN_MS_MAX, STEP_MS_MIN, STEPS_MAX, WINDOWS_MAX, WindowPlan, WindowPlanError};
