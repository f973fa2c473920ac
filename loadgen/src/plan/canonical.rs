//! The default workload: about 20 seconds, which show what a node takes, what it costs, and how long it makes a
//! client wait.

use std::time::Duration;

use super::format::Format;
use super::keys::{DEFAULT_KEY_BYTES, KeySet, KeySpec, KeysError};
use super::load::Load;
use super::mode::Mode;
use crate::record::{Gaps, Pace};

/// Number of different keys in each phase.
const KEYS: u64 = 1_000_000;
/// Adds a second in the phases with a rate. It is a fraction of what one core takes, so that nothing is lost, and the
/// cost of a message that comes alone can be seen.
const ADD_RATE: f64 = 100_000.0;
/// Counts a second while adds run.
const COUNT_RATE: f64 = 20_000.0;
/// Hits a second.
const HIT_RATE: f64 = 20_000.0;
/// The limit of hits, well above what the earlier floods have added to every key's estimate.
const HIT_LIMIT: u64 = 1000;

/// The phases: adds as fast as possible, in both formats; adds at a rate; counts at a rate while adds run; hits. If a
/// format is given, all phases are in that one, as far as it can. Each phase has keys of its own, so that what a
/// flood loses does not spoil the truth of the others. Everything else is as in `base`.
///
/// # Errors
/// This never fails, since the keys are made.
pub(crate) fn loads(
    only: Option<Format>,
    base: impl Fn(KeySet, Format) -> Load,
) -> Result<Vec<Load>, KeysError> {
    let uniform = &KeySpec::Uniform { keys: KEYS };
    let zipf = &KeySpec::Zipf {
        exponent: 1.1,
        keys: KEYS,
    };
    let rate = |per_s| Pace::Rate {
        per_s,
        gaps: Gaps::Exponential,
    };
    let both = ADD_RATE + COUNT_RATE;
    let mix = Mode::Mix(COUNT_RATE / both);
    let hit = Mode::Hit { limit: HIT_LIMIT };
    let (legacy, compact) = (Format::Legacy, Format::Compact);
    let single = only.unwrap_or(legacy);
    let phases = [
        ("a", uniform, Mode::Add, legacy, Pace::Flood, 3),
        ("d", uniform, Mode::Add, compact, Pace::Flood, 3),
        ("b", zipf, Mode::Add, single, rate(ADD_RATE), 3),
        ("c", zipf, mix, single, rate(both), 5),
        ("e", zipf, hit, compact, rate(HIT_RATE), 4),
    ];
    let wanted = phases
        .into_iter()
        .filter(|&(_, _, _, format, _, _)| only.is_none_or(|only| format == only));
    wanted
        .map(|(prefix, keys, mode, format, pace, seconds)| {
            let keys = KeySet::open(keys, DEFAULT_KEY_BYTES, prefix, format)?;
            let load = Load {
                mode,
                pace,
                duration: Duration::from_secs(seconds),
                warmup: Duration::from_millis(500),
                ..base(keys, format)
            };
            Ok(load.packed(None))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_its_phases() {
        for (only, phases) in [
            (None, 5),
            (Some(Format::Legacy), 3),
            (Some(Format::Compact), 4),
        ] {
            let loads = loads(only, Load::new).unwrap();
            assert_eq!(loads.len(), phases);
            let mut names: Vec<_> = loads.iter().map(|load| load.name.clone()).collect();
            names.dedup();
            assert_eq!(names.len(), phases, "{names:?}");
            let seconds: u64 = loads.iter().map(|load| load.duration.as_secs()).sum();
            assert!(seconds <= 20);
            assert!(
                loads
                    .iter()
                    .all(|load| only.is_none_or(|only| load.format == only))
            );
            loads.iter().try_for_each(Load::check).unwrap();
        }
    }
}
