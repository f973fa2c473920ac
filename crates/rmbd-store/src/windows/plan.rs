//! Which windows a sketch keeps, and what they cost.

use rmbd_sketch::{Geometry, HashFamily};
use thiserror::Error;

/// Shortest step in milliseconds. Each step copies a table, which takes a control thread about a millisecond for
/// 4 x 2^20 cells.
pub const STEP_MS_MIN: u64 = 50;
/// Longest window in milliseconds: 31 days. A covered time fits 32 bits.
pub const SPAN_MS_MAX: u64 = 31 * 24 * 3_600_000;
/// Largest number of steps of a window.
pub const STEPS_MAX: u64 = 1_024;
/// Largest number of windows of a sketch.
pub const WINDOWS_MAX: usize = 32;
/// Number of steps of a window where nothing is said: the most up to this that divide it.
const DEFAULT_STEPS_MAX: u64 = 12;
/// Where nothing is said, a window folds to at most so many columns, and to more than half of them.
const DEFAULT_WIDTH_MAX: u64 = 1 << 17;
/// Snapshots of a ring beyond its steps: one that is being copied, and one that readers may still use.
const SPARE_SNAPSHOTS: u64 = 2;
/// Bytes of a cell of a snapshot.
const CELL_BYTES: u64 = 4;

/// A window of a sketch: the last `span_ms` milliseconds, in steps, from snapshots of `width` columns a row.
///
/// ```
/// use rmbd_sketch::{Geometry, HashFamily};
/// use rmbd_store::WindowPlan;
///
/// let family = HashFamily::Xxh3 { seed: 7 };
/// let minute = WindowPlan::new(60_000, None, None, Geometry::DEFAULT, family)?;
/// assert_eq!((minute.step_ms(), minute.width(), minute.fold()), (5_000, 1 << 17, 8));
/// assert_eq!(minute.memory_bytes(), 28 << 20);
/// # Ok::<(), rmbd_store::WindowPlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowPlan {
    span_ms: u64,
    step_ms: u64,
    /// What the snapshots hold.
    geometry: Geometry,
    fold: usize,
}

/// Why a window is not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WindowPlanError {
    /// It is too short or too long.
    #[error(
        "a window has {STEP_MS_MIN} ms to 31 days, not {span_ms} ms: choose another length, or count without a window"
    )]
    Span {
        /// The length that was asked for.
        span_ms: u64,
    },
    /// Its step is too short, or longer than the window.
    #[error(
        "a step of {step_ms} ms does not fit a window of {span_ms} ms: a step has at least {STEP_MS_MIN} ms, and at \
         most the window"
    )]
    Step {
        /// The step that was asked for.
        step_ms: u64,
        /// The window.
        span_ms: u64,
    },
    /// Its step does not divide it.
    #[error(
        "a window of {span_ms} ms is no multiple of its step of {step_ms} ms: choose a step that divides it"
    )]
    NoMultiple {
        /// The step that was asked for.
        step_ms: u64,
        /// The window.
        span_ms: u64,
    },
    /// It has too many steps.
    #[error("{steps} steps are above the limit of {STEPS_MAX} of a window: choose a longer step")]
    TooManySteps {
        /// The number of steps.
        steps: u64,
    },
    /// Its width does not divide that of the sketch.
    #[error(
        "a window cannot fold {sketch_width} columns to {width}: choose a width that divides {sketch_width}, such as \
         {nearest}"
    )]
    Width {
        /// The width that was asked for.
        width: u64,
        /// Columns of the sketch.
        sketch_width: u64,
        /// The next width below that is possible.
        nearest: u64,
    },
    /// The hash of the sketch has columns that do not fold.
    #[error(
        "the columns of the hash fnv do not fold: leave out the window's width of {width}, or use xxh3"
    )]
    Fnv {
        /// The width that was asked for.
        width: u64,
    },
}

impl WindowPlan {
    /// A window of `span_ms` milliseconds over a sketch. Without `step_ms` it has the most steps, up to 12, of whole
    /// milliseconds that divide it. Without `width` it folds to the largest width of at most 131 072 columns that
    /// divides the sketch's and is above 65 536, if there is one.
    ///
    /// # Errors
    /// [`WindowPlanError`] says what is not possible and what is.
    pub fn new(
        span_ms: u64,
        step_ms: Option<u64>,
        width: Option<u64>,
        sketch: Geometry,
        family: HashFamily,
    ) -> Result<Self, WindowPlanError> {
        if !(STEP_MS_MIN..=SPAN_MS_MAX).contains(&span_ms) {
            return Err(WindowPlanError::Span { span_ms });
        }
        let step_ms = step_ms.unwrap_or_else(|| default_step_ms(span_ms));
        check_step(span_ms, step_ms)?;
        let fold = fold(width, sketch, family)?;
        let width = sketch.width() / fold;
        // Always possible: a narrower one of the same depth.
        let geometry = Geometry::new(width as u64, sketch.depth() as u64).unwrap_or(sketch);
        Ok(Self {
            span_ms,
            step_ms,
            geometry,
            fold,
        })
    }

    /// Milliseconds that it covers.
    #[must_use]
    pub fn span_ms(&self) -> u64 {
        self.span_ms
    }

    /// Milliseconds between two snapshots.
    #[must_use]
    pub fn step_ms(&self) -> u64 {
        self.step_ms
    }

    /// Number of its steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        (self.span_ms / self.step_ms) as usize
    }

    /// Columns in each row of a snapshot.
    #[must_use]
    pub fn width(&self) -> usize {
        self.geometry.width()
    }

    /// Number of neighbouring cells of the sketch that are one cell of a snapshot.
    #[must_use]
    pub fn fold(&self) -> usize {
        self.fold
    }

    /// Width and depth of a snapshot. What is counted in the window has the error of a sketch of this geometry.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Number of snapshots that are kept.
    #[must_use]
    pub fn snapshots(&self) -> usize {
        self.steps() + SPARE_SNAPSHOTS as usize
    }

    /// Bytes of all its snapshots.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        (self.geometry.cells() as u64 * CELL_BYTES).saturating_mul(self.snapshots() as u64)
    }

    /// Whether a question about the last `span_ms` milliseconds can be answered from it.
    #[must_use]
    pub fn covers(&self, span_ms: u64) -> bool {
        span_ms > 0 && span_ms <= self.span_ms && span_ms.is_multiple_of(self.step_ms)
    }
}

fn default_step_ms(span_ms: u64) -> u64 {
    let steps = (1..=DEFAULT_STEPS_MAX)
        .rev()
        .find(|steps| span_ms.is_multiple_of(*steps) && span_ms / steps >= STEP_MS_MIN);
    span_ms / steps.unwrap_or(1)
}

fn check_step(span_ms: u64, step_ms: u64) -> Result<(), WindowPlanError> {
    if !(STEP_MS_MIN..=span_ms).contains(&step_ms) {
        return Err(WindowPlanError::Step { step_ms, span_ms });
    }
    if !span_ms.is_multiple_of(step_ms) {
        return Err(WindowPlanError::NoMultiple { step_ms, span_ms });
    }
    match span_ms / step_ms {
        steps if steps > STEPS_MAX => Err(WindowPlanError::TooManySteps { steps }),
        _ => Ok(()),
    }
}

/// How many neighbouring cells become one.
fn fold(
    width: Option<u64>,
    sketch: Geometry,
    family: HashFamily,
) -> Result<usize, WindowPlanError> {
    let sketch_width = sketch.width() as u64;
    let folds = matches!(family, HashFamily::Xxh3 { .. });
    let width = match width {
        None if folds => default_width(sketch_width),
        None => sketch_width,
        Some(width) if width != sketch_width && !folds => {
            return Err(WindowPlanError::Fnv { width });
        }
        Some(width) => width,
    };
    if width == 0 || !sketch_width.is_multiple_of(width) {
        return Err(WindowPlanError::Width {
            width,
            sketch_width,
            nearest: largest_divisor(sketch_width, width).unwrap_or(sketch_width),
        });
    }
    Ok((sketch_width / width) as usize)
}

fn default_width(sketch_width: u64) -> u64 {
    largest_divisor(sketch_width, DEFAULT_WIDTH_MAX)
        .filter(|&width| width > DEFAULT_WIDTH_MAX / 2)
        .unwrap_or(sketch_width)
}

/// The largest divisor of a width that is at most `max`. Of two divisors whose product is the width, one is at most
/// the root.
fn largest_divisor(width: u64, max: u64) -> Option<u64> {
    (1..=width.isqrt())
        .filter(|&divisor| width.is_multiple_of(divisor))
        .flat_map(|divisor| [divisor, width / divisor])
        .filter(|&divisor| divisor <= max)
        .max()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const XXH3: HashFamily = HashFamily::Xxh3 { seed: 7 };

    fn plan(
        span_ms: u64,
        step_ms: Option<u64>,
        width: Option<u64>,
    ) -> Result<WindowPlan, WindowPlanError> {
        WindowPlan::new(span_ms, step_ms, width, Geometry::DEFAULT, XXH3)
    }

    #[test]
    fn steps_are_chosen_where_none_are_given() {
        for (span_ms, step_ms) in [
            (60_000, 5_000),
            (1_000, 100),
            (50, 50),
            (700, 70),
            (3_600_000, 300_000),
            (86_400_000, 7_200_000),
            (7_001, 7_001),
        ] {
            assert_eq!(
                plan(span_ms, None, None).unwrap().step_ms(),
                step_ms,
                "{span_ms}"
            );
        }
    }

    #[test]
    fn lengths_and_steps_that_are_not_possible_are_refused() {
        for span_ms in [0, 1, 49, SPAN_MS_MAX + 1, u64::MAX] {
            let refused = plan(span_ms, None, None);
            assert_eq!(refused, Err(WindowPlanError::Span { span_ms }));
        }
        let year = 365 * 24 * 3_600_000;
        for step_ms in [0, 1, 49, 60_001, year, u64::MAX] {
            let span_ms = 60_000;
            let refused = plan(span_ms, Some(step_ms), None);
            assert_eq!(refused, Err(WindowPlanError::Step { step_ms, span_ms }));
        }
        let (span_ms, step_ms) = (60_000, 7_000);
        let refused = plan(span_ms, Some(step_ms), None);
        assert_eq!(
            refused,
            Err(WindowPlanError::NoMultiple { step_ms, span_ms })
        );
        let refused = plan(60_000 * 50, Some(50), None);
        assert_eq!(
            refused,
            Err(WindowPlanError::TooManySteps { steps: 60_000 })
        );
    }

    #[test]
    fn widths_divide_that_of_the_sketch() {
        let window = plan(60_000, None, Some(1 << 16)).unwrap();
        assert_eq!((window.width(), window.fold()), (1 << 16, 16));
        assert_eq!(plan(60_000, None, Some(1 << 20)).unwrap().fold(), 1);
        for (width, nearest) in [(0, 1 << 20), (65_537, 1 << 16), (u64::MAX, 1 << 20)] {
            let sketch_width = 1 << 20;
            let refused = plan(60_000, None, Some(width));
            let expected = WindowPlanError::Width {
                width,
                sketch_width,
                nearest,
            };
            assert_eq!(refused, Err(expected));
        }
        for (sketch_width, width) in [
            (100, 100),
            (271_829, 271_829),
            (3 << 17, 1 << 17),
            (1 << 17, 1 << 17),
            (200_000, 100_000),
        ] {
            let sketch = Geometry::new(sketch_width, 4).unwrap();
            let window = WindowPlan::new(60_000, None, None, sketch, XXH3).unwrap();
            assert_eq!(window.width(), width, "{sketch_width}");
        }
    }

    /// A width that nothing divides is refused as quickly as another.
    #[test]
    fn divisors_are_those_of_a_naive_search() {
        for width in 1..300 {
            for max in 0..310 {
                let naive = (1..=max).rfind(|&it| it <= width && width % it == 0);
                assert_eq!(largest_divisor(width, max), naive, "{width} {max}");
            }
        }
        assert_eq!(largest_divisor((1 << 32) - 5, 1 << 31), Some(1));
    }

    #[test]
    fn columns_of_fnv_do_not_fold() {
        let sketch = Geometry::DEFAULT;
        let of = |width| WindowPlan::new(60_000, None, width, sketch, HashFamily::Fnv);
        assert_eq!(of(None).unwrap().fold(), 1);
        assert_eq!(of(Some(1 << 20)).unwrap().fold(), 1);
        assert_eq!(
            of(Some(1 << 17)),
            Err(WindowPlanError::Fnv { width: 1 << 17 })
        );
    }

    #[test]
    fn what_is_covered_is_a_multiple_of_the_step() {
        let window = plan(60_000, None, None).unwrap();
        for span_ms in [5_000, 10_000, 60_000] {
            assert!(window.covers(span_ms));
        }
        for span_ms in [0, 1, 4_999, 61_000, 65_000, u64::MAX] {
            assert!(!window.covers(span_ms));
        }
        assert_eq!((window.steps(), window.snapshots()), (12, 14));
    }
}
