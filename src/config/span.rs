//! Lengths of time as people write them: `500ms`, `60s`, `5m`, `1h`, `1d`.

use std::time::Duration;

use thiserror::Error;

/// Why a text is no length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "not a length of time in whole milliseconds: write a number and ms, s, m, h or d, such as 60s"
)]
pub struct SpanError;

/// Parses a length of time to milliseconds.
pub(crate) fn parse(text: &str) -> Result<u64, SpanError> {
    let span = humantime::parse_duration(text).map_err(|_| SpanError)?;
    match u64::try_from(span.as_millis()) {
        Ok(ms) if Duration::from_millis(ms) == span => Ok(ms),
        _ => Err(SpanError),
    }
}

/// Milliseconds in the largest unit that divides them.
pub(crate) fn text(ms: u64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ];
    let unit = units
        .into_iter()
        .find(|&(unit_ms, _)| ms > 0 && ms.is_multiple_of(unit_ms));
    let (unit_ms, unit) = unit.unwrap_or((1, "ms"));
    format!("{}{unit}", ms / unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_round_trip() {
        for (written, ms) in [
            ("500ms", 500),
            ("61s", 61_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("31d", 2_678_400_000),
            ("0ms", 0),
        ] {
            assert_eq!(parse(written), Ok(ms));
            assert_eq!(text(ms), written);
        }
        assert_eq!(parse("1h 30m"), Ok(5_400_000));
        assert_eq!(text(60_000), "1m");
        for wrong in [
            "",
            "60",
            "s",
            "1us",
            "1500us",
            "-1s",
            "1 fortnight",
            "1e3s",
            "99999999999999999999s",
        ] {
            assert_eq!(parse(wrong), Err(SpanError), "{wrong}");
        }
        // The longest that can be written.
        let _ = parse(&format!("{}d", u64::MAX / 86_400));
    }
}
