//! Questions about windows.

use std::fmt::Write;
use std::time::Duration;

use thiserror::Error;

use super::plan::WindowPlan;
use super::{ns, ns_of_ms};

/// A window of one replica: a length, and the ring that answers. Only [`Replica::window`](crate::Replica::window)
/// makes it. Where another replica has no such ring, it answers with the count of all time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    ring: u16,
    steps: u16,
    span_ms: u32,
}

/// How a window is read where its beginning lies between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// What was counted between the two is weighted by the part of that time that is in the window. This is the
    /// best guess, and may be too low.
    Smooth,
    /// All of it counts: the answer is never below what was counted here in the window. It may have in it what came up
    /// to a step earlier.
    Bound,
}

/// A question about a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowQuestion {
    /// The window.
    pub window: Window,
    /// How it is read.
    pub reading: Reading,
    /// The time at which the window ends, read from the clock before the question is asked. Times count from any
    /// fixed moment, the same for all of a replica.
    pub now: Duration,
}

/// There is no window of this length.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no window of {span_ms} ms: possible are {possible}")]
pub struct UnknownWindow {
    /// The length that was asked for.
    pub span_ms: u64,
    /// The windows that the sketch has, in words.
    possible: String,
}

impl Window {
    /// The window of a place where no question is.
    pub(super) const NONE: Self = Self {
        ring: u16::MAX,
        steps: 0,
        span_ms: 0,
    };

    pub(super) fn new(ring: usize, plan: &WindowPlan, span_ms: u64) -> Self {
        // All fit: there are few rings, no window has many steps, and none is longer than 31 days.
        Self {
            ring: ring as u16,
            steps: (span_ms / plan.step_ms()) as u16,
            span_ms: span_ms as u32,
        }
    }

    /// Its length in milliseconds.
    #[inline]
    #[must_use]
    pub fn span_ms(self) -> u64 {
        self.span_ms.into()
    }

    /// The number of its ring among those of the replica.
    #[inline]
    pub(crate) fn ring(self) -> usize {
        self.ring.into()
    }

    /// Its length in steps of the ring.
    #[inline]
    pub(super) fn steps(self) -> u64 {
        self.steps.into()
    }
}

impl WindowQuestion {
    /// The beginning of the window.
    #[inline]
    pub(crate) fn begins_ns(&self) -> i64 {
        ns(self.now).saturating_sub(ns_of_ms(self.window.span_ms()))
    }
}

impl UnknownWindow {
    pub(super) fn new<'p>(span_ms: u64, plans: impl Iterator<Item = &'p WindowPlan>) -> Self {
        let mut possible = String::new();
        for plan in plans {
            let separator = if possible.is_empty() { "" } else { "; " };
            let (step_ms, longest_ms) = (plan.step_ms(), plan.span_ms());
            // Writing to a string cannot fail.
            let _ = write!(
                possible,
                "{separator}multiples of {step_ms} ms up to {longest_ms} ms"
            );
        }
        if possible.is_empty() {
            possible.push_str("only counts of all time, since this sketch has no windows");
        }
        Self { span_ms, possible }
    }
}
