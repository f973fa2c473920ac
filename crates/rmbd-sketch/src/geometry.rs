//! Width and depth of a sketch, and the error bounds that follow from them.

use std::f64::consts::E;

/// Largest number of rows of a sketch. Nobody can tell e^-32 from never, and with a limit, hashing, buffers and the
/// cost of an update stay bounded.
pub const MAX_DEPTH: usize = 32;

/// Largest number of cells of a sketch (16 GiB of cells): a cell's index fits a `u32`.
pub const MAX_CELLS: u64 = 1 << 32;

/// Bytes of one cell.
const CELL_BYTES: u64 = 4;

// `MAX_CELLS` times its bytes must be a size that memory can have.
const _: () = assert!(usize::BITS >= 64, "rmbd needs a 64-bit target");

/// Why a width, depth, epsilon or confidence is refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// The width is 0.
    #[error("a sketch needs a width of at least 1, not 0: choose the number of columns in a row")]
    ZeroWidth,
    /// The depth is 0.
    #[error("a sketch needs a depth of at least 1, not 0: choose the number of rows, 4 is usual")]
    ZeroDepth,
    /// There are more than [`MAX_DEPTH`] rows.
    #[error(
        "a depth of {depth} is above the limit of {MAX_DEPTH} rows: ask for fewer rows or less confidence"
    )]
    TooDeep {
        /// The depth that was asked for.
        depth: u64,
    },
    /// There are more than [`MAX_CELLS`] cells.
    #[error(
        "{depth} rows of {width} columns are more than the limit of {MAX_CELLS} cells: choose a smaller width or depth, or a larger epsilon"
    )]
    TooManyCells {
        /// Columns that were asked for; `u64::MAX` stands for any larger number.
        width: u64,
        /// Rows that were asked for.
        depth: u64,
    },
    /// Epsilon is not in (0, 1).
    #[error(
        "epsilon must lie between 0 and 1, both excluded, not {epsilon}: 0.00001 makes a width of 271829"
    )]
    Epsilon {
        /// The epsilon that was asked for.
        epsilon: f64,
    },
    /// Confidence is not in (0, 1).
    #[error(
        "confidence must lie between 0 and 1, both excluded, not {confidence}: 0.98 makes a depth of 4"
    )]
    Confidence {
        /// The confidence that was asked for.
        confidence: f64,
    },
}

/// Width (columns a row) and depth (rows) of a sketch, within the limits.
///
/// With N the total weight added, an estimate exceeds the truth by at most `epsilon * N` with a
/// probability of at least `confidence` (Cormode & Muthukrishnan 2005, theorem 1):
///
/// | from | to |
/// |---|---|
/// | epsilon, confidence | width = ceil(e / epsilon), depth = ceil(ln(1 / (1 - confidence))) |
/// | width, depth | epsilon = e / width, confidence = 1 - e^-depth |
///
/// ```
/// use rmbd_sketch::Geometry;
///
/// let geometry = Geometry::from_error(0.001, 0.99)?;
/// assert_eq!((geometry.width(), geometry.depth()), (2719, 5));
/// assert!(geometry.epsilon() <= 0.001 && geometry.confidence() >= 0.99);
/// # Ok::<(), rmbd_sketch::GeometryError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    width: usize,
    depth: usize,
}

impl Geometry {
    /// The default of a node: 4 rows of 2^20 columns, which take 16 MiB. In 98.2 % of the answers the error is at most
    /// 2.6 in a million of all that was added.
    pub const DEFAULT: Self = Self {
        width: 1_048_576,
        depth: 4,
    };

    /// A geometry of `width` columns in each of `depth` rows.
    ///
    /// # Errors
    ///
    /// Fails for a zero, for more than [`MAX_DEPTH`] rows, and for more than [`MAX_CELLS`] cells.
    pub fn new(width: u64, depth: u64) -> Result<Self, GeometryError> {
        if width == 0 {
            return Err(GeometryError::ZeroWidth);
        }
        if depth == 0 {
            return Err(GeometryError::ZeroDepth);
        }
        if depth > MAX_DEPTH as u64 {
            return Err(GeometryError::TooDeep { depth });
        }
        if width > MAX_CELLS / depth {
            return Err(GeometryError::TooManyCells { width, depth });
        }
        Ok(Self {
            width: width as usize,
            depth: depth as usize,
        })
    }

    /// The smallest sketch that errs by at most `epsilon * N` with a probability of at least `confidence`. The
    /// [`epsilon`](Self::epsilon) and [`confidence`](Self::confidence) of a sketch lead back to that sketch.
    ///
    /// # Errors
    ///
    /// Fails where either number is outside of (0, 1), or where the sketch would be above the limits of
    /// [`new`](Self::new).
    pub fn from_error(epsilon: f64, confidence: f64) -> Result<Self, GeometryError> {
        if !is_fraction(epsilon) {
            return Err(GeometryError::Epsilon { epsilon });
        }
        if !is_fraction(confidence) {
            return Err(GeometryError::Confidence { confidence });
        }
        // The formula is lowered by a hair, so that rounding never costs a column or a row too many: some ulps of the
        // quotient, and for delta the ulp that `confidence` was rounded to.
        let width = (E / epsilon * (1.0 - 4.0 * f64::EPSILON)).ceil();
        let delta = 1.0 - confidence + f64::EPSILON;
        let depth = (1.0 / delta).ln().ceil().max(1.0);
        // `as` clamps: a value too large for a u64 becomes `u64::MAX`, which `new` refuses.
        Self::new(width as u64, depth as u64)
    }

    /// Columns in each row.
    #[inline]
    #[must_use]
    pub const fn width(self) -> usize {
        self.width
    }

    /// Number of rows.
    #[inline]
    #[must_use]
    pub const fn depth(self) -> usize {
        self.depth
    }

    /// Cells in all rows together.
    #[inline]
    #[must_use]
    pub const fn cells(self) -> usize {
        self.width * self.depth
    }

    /// Memory of all cells, in bytes.
    #[inline]
    #[must_use]
    pub const fn memory_bytes(self) -> u64 {
        self.cells() as u64 * CELL_BYTES
    }

    /// The error bound as a share of N: e / width. It is above 1 for widths of 1 and 2, which promise nothing.
    #[must_use]
    pub fn epsilon(self) -> f64 {
        E / self.width as f64
    }

    /// The probability that an estimate keeps the error bound: 1 - e^-depth.
    #[must_use]
    pub fn confidence(self) -> f64 {
        1.0 - (-(self.depth as f64)).exp()
    }
}

impl Default for Geometry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

fn is_fraction(value: f64) -> bool {
    // Written so that NaN fails.
    value > 0.0 && value < 1.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_at_the_limits() {
        assert_eq!(Geometry::new(0, 4), Err(GeometryError::ZeroWidth));
        assert_eq!(Geometry::new(4, 0), Err(GeometryError::ZeroDepth));
        assert_eq!(
            Geometry::new(1, 33),
            Err(GeometryError::TooDeep { depth: 33 })
        );
        assert_eq!(Geometry::new(1 << 32, 1).unwrap().cells(), 1 << 32);
        assert_eq!(Geometry::new(1 << 27, 32).unwrap().memory_bytes(), 1 << 34);
        for (width, depth) in [((1 << 32) + 1, 1), ((1 << 27) + 1, 32), (u64::MAX, 2)] {
            assert_eq!(
                Geometry::new(width, depth),
                Err(GeometryError::TooManyCells { width, depth })
            );
        }
        let default = Geometry::default();
        assert_eq!(Geometry::new(1 << 20, 4), Ok(default));
        assert_eq!(default.memory_bytes(), 16 << 20);
    }

    #[test]
    fn error_bounds_make_the_published_sizes() {
        // Expected values of ceil(e / epsilon) and ceil(ln(1 / (1 - confidence))), worked out by hand.
        for (epsilon, confidence, width, depth) in [
            (0.001, 0.99, 2719, 5),
            (0.00001, 0.98, 271_829, 4),
            (0.5, 0.5, 6, 1),
            (0.999, 0.001, 3, 1),
        ] {
            let geometry = Geometry::from_error(epsilon, confidence).unwrap();
            assert_eq!((geometry.width(), geometry.depth()), (width, depth));
        }
    }

    #[test]
    fn what_a_sketch_promises_makes_that_sketch_again() {
        let widths = (3..5000).chain((0..17).flat_map(|i| [(1 << i) * 1000 - 1, (1 << i) * 1000]));
        for width in widths.chain([(1 << 27) - 1, 1 << 27]) {
            for depth in 1..=MAX_DEPTH as u64 {
                let geometry = Geometry::new(width, depth).unwrap();
                let again = Geometry::from_error(geometry.epsilon(), geometry.confidence());
                assert_eq!(again, Ok(geometry));
            }
        }
    }

    #[test]
    fn bounds_that_no_sketch_can_keep_are_refused() {
        for value in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                Geometry::from_error(value, 0.5),
                Err(GeometryError::Epsilon { .. })
            ));
            assert!(matches!(
                Geometry::from_error(0.5, value),
                Err(GeometryError::Confidence { .. })
            ));
        }
        assert_eq!(
            Geometry::from_error(1e-300, 0.5),
            Err(GeometryError::TooManyCells {
                width: u64::MAX,
                depth: 1
            })
        );
        let surest = 1.0 - f64::EPSILON / 2.0;
        assert!(matches!(
            Geometry::from_error(0.5, surest),
            Err(GeometryError::TooDeep { .. })
        ));
    }
}
