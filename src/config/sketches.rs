//! The sketches of a node, and their windows.

use std::collections::BTreeMap;
use std::str::FromStr;

use thiserror::Error;

use super::nearest::advice;
use super::span::{self, SpanError};
pub use rmbd_proto::cluster::SKETCHES_MAX;
use rmbd_proto::{SketchName, SketchNameError};
use rmbd_sketch::{Geometry, GeometryError, HashFamily, lanes_of};
use rmbd_store::{
    AuditPlan, TOP_DEFAULT, TOP_MAX, TopPlan, WINDOWS_MAX, WindowPlan, WindowPlanError,
    ages_memory_bytes,
};

/// Length of the window that a sketch has where nothing is said of windows.
pub const DEFAULT_WINDOW_MS: u64 = 60_000;
/// Confidence of a sketch of which only epsilon is given: it makes 4 rows.
const DEFAULT_CONFIDENCE: f64 = 0.98;
/// Keys of a sketch.
pub(super) const SKETCH_KEYS: [&str; 7] = [
    "name",
    "width",
    "depth",
    "epsilon",
    "confidence",
    "windows",
    "top",
];

/// A sketch as a node keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct SketchConfig {
    /// Its name.
    pub name: SketchName,
    /// Its width and depth.
    pub geometry: Geometry,
    /// Its windows, at most [`WINDOWS_MAX`], no two of the same length.
    pub windows: Vec<WindowPlan>,
    /// Number of its largest keys that are listed, of all time and in each window, at most [`TOP_MAX`]; 0 is no lists.
    pub top: usize,
}

/// Number of the arrays of cells of a sketch, of 4 bytes a cell each: the cell itself, its published copy, and the
/// parts of totals that these do not hold. Where slices are learnt, of others or of earlier starts, there are also the
/// cell of these beside it and a wide one for later.
#[must_use]
pub const fn copies_of_cells(learns_slices: bool) -> u64 {
    if learns_slices { 3 + 1 + 2 } else { 3 }
}

impl SketchConfig {
    /// Bytes of its cells without its windows.
    #[must_use]
    pub fn cells_memory_bytes(&self, learns_slices: bool) -> u64 {
        let cells = self.geometry.memory_bytes();
        cells
            .saturating_mul(copies_of_cells(learns_slices))
            .saturating_add(self.ages_memory_bytes(learns_slices))
    }

    /// Bytes of what tells how old counts are, for others and for later starts.
    #[must_use]
    pub fn ages_memory_bytes(&self, learns_slices: bool) -> u64 {
        match learns_slices {
            true => ages_memory_bytes(self.geometry, &self.windows),
            false => 0,
        }
    }

    /// Its lists of the largest keys, on a node of this hash and with so many data threads.
    #[must_use]
    pub fn top_plan(&self, family: HashFamily, threads: usize) -> TopPlan<'_> {
        TopPlan {
            top: self.top,
            geometry: self.geometry,
            family,
            threads,
            windows: &self.windows,
        }
    }

    /// Bytes of each table that a node of this hash, with so many data threads, reserves for it at its start: those
    /// that have a number for each cell, the snapshots of its windows, the sums of growth that ages need, the lists of
    /// its largest keys, and what is counted exactly.
    pub fn tables_bytes(
        &self,
        family: HashFamily,
        threads: usize,
        learns_slices: bool,
    ) -> impl Iterator<Item = u64> {
        let copies = copies_of_cells(learns_slices) + lanes_of(self.geometry, threads) as u64;
        let cells = std::iter::repeat_n(self.geometry.memory_bytes(), copies as usize);
        let snapshots = self.windows.iter().flat_map(|window| {
            let snapshots = window.snapshots();
            std::iter::repeat_n(window.memory_bytes() / snapshots as u64, snapshots)
        });
        let ages = self.ages_memory_bytes(learns_slices);
        let top = self.top_plan(family, threads).memory_bytes();
        let audit = AuditPlan {
            geometry: self.geometry,
            family,
            threads,
        };
        let audit = audit.memory_bytes();
        cells.chain(snapshots).chain([ages, top, audit])
    }

    /// Bytes of [all of them](Self::tables_bytes).
    #[must_use]
    pub fn planned_memory_bytes(
        &self,
        family: HashFamily,
        threads: usize,
        learns_slices: bool,
    ) -> u64 {
        let tables = self.tables_bytes(family, threads, learns_slices);
        tables.fold(0, u64::saturating_add)
    }

    /// Bytes of its cells and of all its windows.
    #[must_use]
    pub fn memory_bytes(&self, learns_slices: bool) -> u64 {
        let windows = self.windows.iter().map(WindowPlan::memory_bytes);
        windows.fold(self.cells_memory_bytes(learns_slices), u64::saturating_add)
    }
}

/// A window that is wished for; what is `None` follows from the sketch ([`WindowPlan::new`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowConfig {
    /// Milliseconds that it covers.
    pub span_ms: u64,
    /// Milliseconds between two snapshots.
    pub step_ms: Option<u64>,
    /// Columns of a row of a snapshot.
    pub width: Option<u64>,
}

/// The window of a sketch of which nothing is said of windows.
pub(super) const DEFAULT_WINDOW: WindowConfig = WindowConfig {
    span_ms: DEFAULT_WINDOW_MS,
    step_ms: None,
    width: None,
};

/// A sketch as it stands in a configuration file, or on the command line as `name=logins,windows=60s/5s+1h@65536`.
///
/// ```
/// use rmbd::config::SketchWish;
///
/// let wish: SketchWish = "name=logins,windows=60s/5s+1h/5m@65536,epsilon=1e-5".parse()?;
/// assert_eq!(wish.name.as_str(), "logins");
/// assert_eq!(wish.windows.as_ref().map(Vec::len), Some(2));
/// # Ok::<(), rmbd::config::SketchError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SketchWish {
    /// Its name.
    pub name: SketchName,
    /// Columns of each row.
    pub width: Option<u64>,
    /// Rows.
    pub depth: Option<u64>,
    /// The error in place of the width.
    pub epsilon: Option<f64>,
    /// The confidence in place of the depth.
    pub confidence: Option<f64>,
    /// Its windows; `None` is one of [`DEFAULT_WINDOW_MS`].
    pub windows: Option<Vec<WindowConfig>>,
    /// Number of its largest keys that are listed; `None` is what the node's own option says.
    pub top: Option<usize>,
}

/// Why sketches are not possible. Nothing was started.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SketchError {
    /// A part of `--sketch` has no `=`.
    #[error(
        "{part:?} is not KEY=VALUE: write such as name=logins,windows=60s/5s+1h/5m,width=262144"
    )]
    NoValue {
        /// The part.
        part: String,
    },
    /// A key is not known.
    #[error("a sketch has no key {key:?}: {advice}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The known key that may be meant.
        advice: String,
    },
    /// A key is given twice.
    #[error("{key} is given twice: leave out one of them")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// It has no name.
    #[error("a sketch needs a name: write name=logins")]
    NoName,
    /// Its name is not possible.
    #[error(transparent)]
    Name(#[from] SketchNameError),
    /// A number cannot be parsed.
    #[error("{key}={value:?} is not a number")]
    Number {
        /// Its key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A length of time cannot be parsed.
    #[error(
        "window {window:?}: {source}; a window is SPAN, SPAN/STEP or SPAN/STEP@WIDTH, windows stand between +"
    )]
    Span {
        /// The window.
        window: String,
        /// What is wrong.
        source: SpanError,
    },
    /// The width of a window cannot be parsed.
    #[error(
        "window {window:?}: {width:?} is not a number of columns: write SPAN/STEP@WIDTH, such as 1h/5m@65536"
    )]
    WindowWidth {
        /// The window.
        window: String,
        /// The width.
        width: String,
    },
    /// The size is given in both ways.
    #[error(
        "the size of sketch {name} is given twice: leave out either width and depth or epsilon and confidence"
    )]
    SizeTwice {
        /// The sketch.
        name: SketchName,
    },
    /// The size of `default` is given by the node's own options, too.
    #[error(
        "the size of sketch default is given twice: leave it out either of the sketch or of -x, -y, --epsilon, --confidence and --compat"
    )]
    DefaultTwice,
    /// The size is not possible.
    #[error("sketch {name}: {source}")]
    Geometry {
        /// The sketch.
        name: SketchName,
        /// What is wrong.
        source: GeometryError,
    },
    /// A window is not possible.
    #[error("sketch {name}: {source}")]
    Window {
        /// The sketch.
        name: SketchName,
        /// What is wrong.
        source: WindowPlanError,
    },
    /// There are too many windows.
    #[error(
        "sketch {name} has {windows} windows, above the limit of {WINDOWS_MAX}: leave some out"
    )]
    TooManyWindows {
        /// The sketch.
        name: SketchName,
        /// The number of its windows.
        windows: usize,
    },
    /// Two windows have the same length.
    #[error("sketch {name} has two windows of {}: leave out one of them", span::text(*span_ms))]
    WindowTwice {
        /// The sketch.
        name: SketchName,
        /// Their length.
        span_ms: u64,
    },
    /// More keys are to be listed than can be.
    #[error(
        "sketch {name}: {top} largest keys are above the limit of {TOP_MAX} of a list: choose 0 to {TOP_MAX}, 0 is no \
         list"
    )]
    TopTooLarge {
        /// The sketch.
        name: SketchName,
        /// The number that was asked for.
        top: usize,
    },
    /// There are too many sketches.
    #[error(
        "{sketches} sketches are above the limit of {SKETCHES_MAX} of a node, `default` included: leave some out"
    )]
    TooMany {
        /// The number of sketches.
        sketches: usize,
    },
    /// Two sketches have the same name.
    #[error("there are two sketches of the name {name}: give one of them another name")]
    NameTwice {
        /// The name.
        name: SketchName,
    },
    /// Two sketches have the same number in messages.
    #[error("the sketches {name} and {other} have the same number in messages, {:#x}: give one of them another name", name.number().0)]
    SameNumber {
        /// The one.
        name: SketchName,
        /// The other.
        other: SketchName,
    },
}

impl SketchWish {
    /// A sketch of which nothing but the name is said.
    #[must_use]
    pub fn named(name: SketchName) -> Self {
        Self {
            name,
            width: None,
            depth: None,
            epsilon: None,
            confidence: None,
            windows: None,
            top: None,
        }
    }

    /// Whether it is the sketch that every node has.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.name.as_str() == SketchName::DEFAULT
    }

    /// Whether anything is said of its size.
    #[must_use]
    pub fn has_size(&self) -> bool {
        self.width.is_some() || self.depth.is_some() || self.has_error()
    }

    /// Leaves out what is said of its size.
    pub(super) fn forget_size(&mut self) {
        (self.width, self.depth) = (None, None);
        (self.epsilon, self.confidence) = (None, None);
    }

    fn has_error(&self) -> bool {
        self.epsilon.is_some() || self.confidence.is_some()
    }

    /// Its width and depth. What is not given is as in the sketch that a node has without configuration: a width of
    /// 1 048 576 or the epsilon of that, a depth of 4 or a confidence of 98 %.
    ///
    /// # Errors
    /// Fails for a size that is given in both ways, and for one that is not possible.
    pub fn geometry(&self) -> Result<Geometry, SketchError> {
        let name = || self.name.clone();
        if self.has_error() && (self.width.is_some() || self.depth.is_some()) {
            return Err(SketchError::SizeTwice { name: name() });
        }
        let default = Geometry::DEFAULT;
        let or = |given: Option<u64>, default: usize| given.unwrap_or(default as u64);
        let geometry = if self.has_error() {
            Geometry::from_error(
                self.epsilon.unwrap_or_else(|| default.epsilon()),
                self.confidence.unwrap_or(DEFAULT_CONFIDENCE),
            )
        } else {
            Geometry::new(
                or(self.width, default.width()),
                or(self.depth, default.depth()),
            )
        };
        geometry.map_err(|source| SketchError::Geometry {
            name: name(),
            source,
        })
    }

    /// The sketch with its windows. Where nothing is said of largest keys, it lists [`TOP_DEFAULT`] if the hash can.
    ///
    /// # Errors
    /// Fails for a size, windows and lists that are not possible.
    pub fn plan(&self, family: HashFamily) -> Result<SketchConfig, SketchError> {
        let windows = self.windows.as_deref().unwrap_or(&[DEFAULT_WINDOW]);
        plan(&self.name, self.geometry()?, windows, family, self.top)
    }
}

/// A sketch of this size with these windows, which lists so many keys.
pub(super) fn plan(
    name: &SketchName,
    geometry: Geometry,
    windows: &[WindowConfig],
    family: HashFamily,
    top: Option<usize>,
) -> Result<SketchConfig, SketchError> {
    if windows.len() > WINDOWS_MAX {
        return Err(SketchError::TooManyWindows {
            name: name.clone(),
            windows: windows.len(),
        });
    }
    let mut plans: Vec<WindowPlan> = Vec::with_capacity(windows.len());
    for window in windows {
        let plan = WindowPlan::new(
            window.span_ms,
            window.step_ms,
            window.width,
            geometry,
            family,
        );
        let plan = plan.map_err(|source| SketchError::Window {
            name: name.clone(),
            source,
        })?;
        if plans.iter().any(|other| other.span_ms() == plan.span_ms()) {
            return Err(SketchError::WindowTwice {
                name: name.clone(),
                span_ms: plan.span_ms(),
            });
        }
        plans.push(plan);
    }
    let top = top.unwrap_or_else(|| default_top(family, geometry));
    if top > TOP_MAX {
        let name = name.clone();
        return Err(SketchError::TopTooLarge { name, top });
    }
    Ok(SketchConfig {
        name: name.clone(),
        geometry,
        windows: plans,
        top,
    })
}

/// How many keys are listed where nothing is said: none where the hash does not let it.
pub(super) fn default_top(family: HashFamily, geometry: Geometry) -> usize {
    match TopPlan::can_list(family, geometry) {
        true => TOP_DEFAULT,
        false => 0,
    }
}

/// Checks the names of all sketches of a node, `default` included.
pub(super) fn check_names(names: &[&SketchName]) -> Result<(), SketchError> {
    if names.len() > SKETCHES_MAX {
        return Err(SketchError::TooMany {
            sketches: names.len(),
        });
    }
    let mut numbers = BTreeMap::new();
    for name in names {
        match numbers.insert(name.number().0, name) {
            None => {}
            Some(other) if other == name => {
                let name = (*name).clone();
                return Err(SketchError::NameTwice { name });
            }
            Some(other) => {
                return Err(SketchError::SameNumber {
                    name: (*name).clone(),
                    other: (*other).clone(),
                });
            }
        }
    }
    Ok(())
}

impl FromStr for SketchWish {
    type Err = SketchError;

    fn from_str(text: &str) -> Result<Self, SketchError> {
        let mut values = BTreeMap::new();
        for part in text.split(',') {
            let part = part.trim();
            let Some((key, value)) = part.split_once('=') else {
                return Err(SketchError::NoValue { part: part.into() });
            };
            if !SKETCH_KEYS.contains(&key) {
                return Err(SketchError::UnknownKey {
                    key: key.into(),
                    advice: advice(key, SKETCH_KEYS.into_iter()),
                });
            }
            if values.insert(key, value).is_some() {
                return Err(SketchError::KeyTwice { key: key.into() });
            }
        }
        let name = values.get("name").ok_or(SketchError::NoName)?;
        Ok(Self {
            name: name.parse()?,
            width: number(&values, "width")?,
            depth: number(&values, "depth")?,
            epsilon: number(&values, "epsilon")?,
            confidence: number(&values, "confidence")?,
            windows: values.get("windows").map(|it| windows(it)).transpose()?,
            top: number(&values, "top")?,
        })
    }
}

fn number<T: FromStr>(
    values: &BTreeMap<&str, &str>,
    key: &'static str,
) -> Result<Option<T>, SketchError> {
    let parse = |value: &&str| {
        value.parse().map_err(|_| SketchError::Number {
            key,
            value: (*value).into(),
        })
    };
    values.get(key).map(parse).transpose()
}

/// Parses windows with `+` between them, or `none`.
fn windows(text: &str) -> Result<Vec<WindowConfig>, SketchError> {
    match text {
        "none" => Ok(Vec::new()),
        text => text.split('+').map(window).collect(),
    }
}

/// Parses `SPAN`, `SPAN/STEP`, `SPAN@WIDTH` or `SPAN/STEP@WIDTH`.
fn window(text: &str) -> Result<WindowConfig, SketchError> {
    let span = |part: &str| {
        span::parse(part).map_err(|source| SketchError::Span {
            window: text.into(),
            source,
        })
    };
    let columns = |width: &str| {
        width.parse().map_err(|_| SketchError::WindowWidth {
            window: text.into(),
            width: width.into(),
        })
    };
    let (times, width) = match text.split_once('@') {
        Some((times, width)) => (times, Some(columns(width)?)),
        None => (text, None),
    };
    let (whole, step) = match times.split_once('/') {
        Some((whole, step)) => (whole, Some(span(step)?)),
        None => (times, None),
    };
    Ok(WindowConfig {
        span_ms: span(whole)?,
        step_ms: step,
        width,
    })
}
