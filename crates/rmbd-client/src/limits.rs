//! Limits and windows: what is asked, what a node says to it, and what holds where no node says anything.

use std::time::Duration;

use super::ClientError;
use super::questions::FromAnswer;
use rmbd_proto::compact::{self, Answer, LimitPart, RETRY_NEVER_MS};
use rmbd_proto::{SketchName, SketchNumber};

/// How far back a count looks, and how it treats the step of time that the window's beginning falls into.
///
/// A node answers windows that are a multiple of the step of one that its sketch keeps, up to that one's span
/// ([`sketches`](super::Client::sketches) tells both).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub(super) span: Duration,
    pub(super) smooth: bool,
}

impl Window {
    /// All that was ever counted.
    pub const ALL_TIME: Self = Self::bound(Duration::ZERO);

    /// Never too low: what was received within the window counts, and so may what came up to a step before.
    #[must_use]
    pub const fn bound(span: Duration) -> Self {
        let smooth = false;
        Self { span, smooth }
    }

    /// The oldest step counts by the part of it that is left in the window. This is what limits are usually asked
    /// with.
    #[must_use]
    pub const fn smooth(span: Duration) -> Self {
        let smooth = true;
        Self { span, smooth }
    }
}

/// Whole milliseconds, at least 1 where it is more than nothing: 0 is all time.
pub(super) fn window_ms(span: Duration) -> u64 {
    let ms = span.as_nanos().div_ceil(1_000_000);
    u64::try_from(ms).unwrap_or(u64::MAX)
}

/// One limit: of which key how much may come within which time.
///
/// ```
/// use std::time::Duration;
/// use rmbd_client::Limit;
///
/// let minute = Duration::from_secs(60);
/// let by_address = Limit::new("10.0.0.7", 5, minute).of(&"logins".parse()?);
/// let by_network = Limit::new("10.0.0.0/24", 100, minute).of(&"logins".parse()?).weight(2);
/// # let _ = (by_address, by_network);
/// # Ok::<(), rmbd_client::SketchNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit<'k> {
    sketch: Option<SketchNumber>,
    key: &'k [u8],
    weight: u64,
    limit: u64,
    span: Duration,
}

impl<'k> Limit<'k> {
    /// At most `limit` of this key within `span` (zero is all time), of which this call adds 1.
    #[must_use]
    pub fn new<K: AsRef<[u8]> + ?Sized>(key: &'k K, limit: u64, span: Duration) -> Self {
        Self {
            sketch: None,
            key: key.as_ref(),
            weight: 1,
            limit,
            span,
        }
    }

    /// Adds another weight; 0 only looks.
    #[must_use]
    pub fn weight(self, weight: u64) -> Self {
        Self { weight, ..self }
    }

    /// Counts in another sketch than that of the call.
    #[must_use]
    pub fn of(self, sketch: &SketchName) -> Self {
        Self {
            sketch: Some(sketch.number()),
            ..self
        }
    }
}

/// Some limits that are asked about together: 1 to 8.
///
/// A key that several limits name is added once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits<'k> {
    limits: Vec<Limit<'k>>,
    take: bool,
    bound: bool,
    once: bool,
}

impl<'k> Limits<'k> {
    /// Adds the weights whatever the verdict: who is over stays over for as long as it goes on.
    #[must_use]
    pub fn count(limits: impl Into<Vec<Limit<'k>>>) -> Self {
        Self {
            limits: limits.into(),
            take: false,
            bound: false,
            once: true,
        }
    }

    /// Adds the weights only if all of them are within their limits: what is refused consumes nothing.
    #[must_use]
    pub fn take(limits: impl Into<Vec<Limit<'k>>>) -> Self {
        Self {
            take: true,
            ..Self::count(limits)
        }
    }

    /// Counts as [`Window::bound`] does, instead of as [`Window::smooth`].
    #[must_use]
    pub fn bound(self) -> Self {
        Self {
            bound: true,
            ..self
        }
    }

    /// Lets the weights count twice where a reply is lost. Otherwise they count exactly once, which needs a place in
    /// the node's table of clients, and lets each datagram carry one call that takes.
    #[must_use]
    pub fn repeatable(self) -> Self {
        Self {
            once: false,
            ..self
        }
    }

    pub(super) fn and_takes(self) -> Self {
        Self { take: true, ..self }
    }

    pub(super) const fn is_once(&self) -> bool {
        self.once
    }

    /// As they stand in a datagram; `sketch` is that of limits that name none.
    pub(super) fn write<'w>(
        &self,
        sketch: SketchNumber,
        out: &'w mut Vec<u8>,
    ) -> Result<compact::Limits<'w>, compact::WriteError> {
        let parts = self.limits.iter().map(|limit| LimitPart {
            sketch: limit.sketch.unwrap_or(sketch),
            key: limit.key,
            weight: limit.weight,
            limit: limit.limit,
            window_ms: window_ms(limit.span),
        });
        let parts: Vec<_> = parts.collect();
        compact::Limits::write(self.take, self.bound, &parts, out)
    }
}

/// A key's count in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowCount {
    /// Never more than the estimate over all time.
    pub estimate: u64,
    /// How much time the estimate covers.
    pub covered: Duration,
    /// Something that others counted is not at the node, or it has not been there for the whole window: all together
    /// may have more.
    pub incomplete: bool,
    /// More than 2^32 came within the window: the estimate may be too low.
    pub overflowed: bool,
}

/// Whether something is within its limits. The numbers are those of one limit, which [`part`](Self::part) names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// It is within all limits. In shadow mode it is allowed all the same; where nobody has decided, it is what
    /// [`OnFailure`] says.
    pub allowed: bool,
    /// At least one of the limits is passed: what takes has added nothing.
    pub over: bool,
    /// Who says so.
    pub decided: Decided,
    /// Position of the limit that decided: the one that is over with the longest retry-after, else the one with the
    /// least remaining.
    pub part: usize,
    /// Of its key within its window, with what this call has added.
    pub estimate: u64,
    /// How much more would be within it; `u64::MAX` where no limit holds for the key.
    pub remaining: u64,
    /// When the same weight would be within: zero where it is, `None` where no waiting helps.
    pub retry_after: Option<Duration>,
    /// How much time the estimate covers.
    pub covered: Duration,
    /// All nodes together may have more.
    pub incomplete: bool,
    /// What other nodes have not told yet may change the verdict.
    pub unsure: bool,
    /// More than 2^32 came within the window: the estimate may be too low.
    pub overflowed: bool,
    /// The limit is in shadow mode: this was over, and admitted all the same.
    pub shadow: bool,
}

/// Who has decided a [`Verdict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// The node.
    ByNode,
    /// Nobody: no answer came in time. Whether anything was added is not known.
    ByNobody,
}

/// What a caller gets where no node answers in time.
///
/// It is for silence only: a refusal, such as of a limit that the node does not have, is an error in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Fail open: it is allowed.
    Open,
    /// Fail closed: it is not.
    Closed,
}

impl OnFailure {
    /// The verdict of nobody.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        Verdict {
            allowed: matches!(self, Self::Open),
            over: false,
            decided: Decided::ByNobody,
            part: 0,
            estimate: 0,
            remaining: 0,
            retry_after: None,
            covered: Duration::ZERO,
            incomplete: true,
            unsure: true,
            overflowed: false,
            shadow: false,
        }
    }

    /// Puts its verdict in the place of an error that [is nobody's answer](ClientError::is_no_answer).
    ///
    /// # Errors
    /// All other errors.
    pub fn decide(self, result: Result<Verdict, ClientError>) -> Result<Verdict, ClientError> {
        match result {
            Err(error) if error.is_no_answer() => Ok(self.verdict()),
            other => other,
        }
    }
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

impl From<compact::Verdict> for Verdict {
    fn from(verdict: compact::Verdict) -> Self {
        let retry_after_ms = verdict.retry_after_ms;
        Self {
            allowed: !verdict.over || verdict.shadow,
            over: verdict.over,
            decided: Decided::ByNode,
            part: verdict.part.into(),
            estimate: verdict.estimate,
            remaining: verdict.remaining,
            retry_after: (retry_after_ms != RETRY_NEVER_MS).then(|| ms(retry_after_ms)),
            covered: ms(verdict.covered_ms),
            incomplete: verdict.incomplete,
            unsure: verdict.unsure,
            overflowed: verdict.overflowed,
            shadow: verdict.shadow,
        }
    }
}

impl FromAnswer for Verdict {
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self> {
        match answer? {
            Answer::Limits(verdict) | Answer::HitByName(verdict) => Some(verdict.into()),
            _ => None,
        }
    }
}

impl FromAnswer for WindowCount {
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self> {
        match answer? {
            Answer::Window(window) => Some(Self {
                estimate: window.estimate,
                covered: ms(window.covered_ms),
                incomplete: window.incomplete,
                overflowed: window.overflowed,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_whole_milliseconds_and_none_becomes_all_time() {
        for (span, ms) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_micros(1_001), 2),
            (Duration::from_secs(60), 60_000),
            (Duration::MAX, u64::MAX),
        ] {
            assert_eq!(window_ms(span), ms);
        }
    }

    #[test]
    fn only_silence_is_decided_by_nobody() {
        let silence = || {
            Err(ClientError::Abandoned {
                fate: crate::Fate::Uncertain,
            })
        };
        for (on_failure, allowed) in [(OnFailure::Open, true), (OnFailure::Closed, false)] {
            let verdict = on_failure.decide(silence()).unwrap();
            assert_eq!(
                (verdict.allowed, verdict.decided),
                (allowed, Decided::ByNobody)
            );
            let refused = Err(ClientError::KeyTooLong { bytes: 1025 });
            assert!(on_failure.decide(refused).is_err());
            let within = Verdict::from(compact::Verdict::default());
            assert_eq!(on_failure.decide(Ok(within)).unwrap(), within);
        }
    }

    #[test]
    fn a_limit_in_shadow_mode_allows() {
        let over = compact::Verdict {
            over: true,
            retry_after_ms: RETRY_NEVER_MS,
            ..compact::Verdict::default()
        };
        let verdict = Verdict::from(over);
        assert_eq!((verdict.allowed, verdict.retry_after), (false, None));
        let verdict = Verdict::from(compact::Verdict {
            shadow: true,
            retry_after_ms: 1_500,
            ..over
        });
        assert_eq!((verdict.allowed, verdict.over), (true, true));
        assert_eq!(verdict.retry_after, Some(Duration::from_millis(1_500)));
    }
}
