//! What `rmbd hit` prints of a verdict.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::cli::asked::{AskedLimit, time};
use crate::status::JsonKey;
use rmbd_client::Verdict;

/// Milliseconds of a wait that is said in tenths of seconds.
const EXACT_WAIT_MS: u64 = 60_000;

/// By what it was decided.
pub(super) enum By<'o> {
    /// By a limit of the server's own.
    Name(&'o str),
    /// By limits that were asked for.
    Limits(Vec<AskedLimit>),
}

/// A verdict, and what it is about.
pub(super) struct Printed<'p> {
    pub(super) key: &'p [u8],
    pub(super) by: &'p By<'p>,
    pub(super) verdict: Verdict,
}

#[derive(Serialize)]
struct Document<'p> {
    #[serde(flatten)]
    key: JsonKey<'p>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_name: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_ms: Option<u64>,
    estimate: u64,
    verdict: &'static str,
    /// `None` where no limit holds for the key.
    remaining: Option<u64>,
    retry_after_ms: Option<u64>,
    covered_ms: u64,
    incomplete: bool,
    unsure: bool,
    overflowed: bool,
    shadow: bool,
    part: usize,
}

impl Printed<'_> {
    /// Writes a line.
    pub(super) fn write(&self, is_json: bool, output: &mut dyn Write) -> io::Result<()> {
        if is_json {
            serde_json::to_writer(&mut *output, &self.document())?;
        } else {
            output.write_all(self.key)?;
            write!(output, ": {}", self.words())?;
        }
        output.write_all(b"\n")
    }

    /// The limit that decided, where this side knows it.
    fn limit(&self) -> Option<AskedLimit> {
        match self.by {
            By::Name(_) => None,
            By::Limits(limits) => limits.get(self.verdict.part).copied(),
        }
    }

    /// No limit holds for the key: it is exempt, or the limit is about other keys.
    fn is_unlimited(&self) -> bool {
        !self.verdict.over && self.verdict.remaining == u64::MAX
    }

    fn words(&self) -> String {
        let verdict = &self.verdict;
        let mut words = format!("{}, {}", self.counted(), self.said());
        let notes = [
            (
                verdict.unsure,
                "unsure: other keys, or nodes, may have made it so",
            ),
            (
                verdict.incomplete,
                "incomplete: something that others counted, or of the time before the node's start, is missing",
            ),
            (
                verdict.overflowed,
                "overflowed: more came in the window than it can tell apart",
            ),
        ];
        for (_, note) in notes.into_iter().filter(|(applies, _)| *applies) {
            words.push_str("; ");
            words.push_str(note);
        }
        words
    }

    fn counted(&self) -> String {
        let Verdict {
            estimate,
            remaining,
            over,
            ..
        } = self.verdict;
        match (self.by, self.limit()) {
            (_, Some(AskedLimit { count, span })) if span.ms > 0 => {
                format!("{estimate} of {count} in {}", time(span.ms))
            }
            (_, Some(AskedLimit { count, .. })) => format!("{estimate} of {count} in all"),
            (By::Name(name), _) if self.is_unlimited() => {
                format!("not limited by {name}")
            }
            (By::Name(name), _) if !over => {
                let limit = estimate.saturating_add(remaining);
                format!("{estimate} of {limit} by {name}")
            }
            (By::Name(name), _) => format!("{estimate} by {name}"),
            (By::Limits(_), None) => estimate.to_string(),
        }
    }

    fn said(&self) -> String {
        let verdict = &self.verdict;
        match (verdict.over, verdict.retry_after) {
            (false, _) if self.is_unlimited() => "within".to_owned(),
            (false, _) => format!("within, {} left", verdict.remaining),
            (true, _) if verdict.shadow => "over, and admitted in shadow mode".to_owned(),
            (true, Some(wait)) => format!("over, try again in {}", wait_words(wait)),
            (true, None) => "over, and no waiting helps".to_owned(),
        }
    }

    fn document(&self) -> Document<'_> {
        let (verdict, limit) = (&self.verdict, self.limit());
        Document {
            key: self.key.into(),
            limit_name: match self.by {
                By::Name(name) => Some(name),
                By::Limits(_) => None,
            },
            limit: limit.map(|limit| limit.count),
            window_ms: limit.map(|limit| limit.span.ms),
            estimate: verdict.estimate,
            verdict: if verdict.over { "over" } else { "within" },
            remaining: (!self.is_unlimited()).then_some(verdict.remaining),
            retry_after_ms: verdict.retry_after.map(ms),
            covered_ms: ms(verdict.covered),
            incomplete: verdict.incomplete,
            unsure: verdict.unsure,
            overflowed: verdict.overflowed,
            shadow: verdict.shadow,
            part: verdict.part,
        }
    }
}

/// A wait, rounded up: who comes then is not early.
fn wait_words(wait: Duration) -> String {
    let ms = ms(wait);
    if ms < EXACT_WAIT_MS {
        let tenths = ms.div_ceil(100);
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let seconds = ms.div_ceil(1_000);
    let minutes = seconds.div_ceil(60);
    match minutes {
        0..60 => format!("{} min {} s", seconds / 60, seconds % 60),
        60..1_440 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!(
            "{} d {} h",
            minutes.div_ceil(60) / 24,
            minutes.div_ceil(60) % 24
        ),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_never_said_too_short() {
        for (wait_ms, words) in [
            (1, "0.1 s"),
            (4_200, "4.2 s"),
            (4_201, "4.3 s"),
            (59_999, "60.0 s"),
            (60_000, "1 min 0 s"),
            (119_001, "2 min 0 s"),
            (3_600_001, "1 h 1 min"),
            (86_400_000, "1 d 0 h"),
            (86_400_001, "1 d 1 h"),
        ] {
            assert_eq!(wait_words(Duration::from_millis(wait_ms)), words);
        }
    }
}
