//! The workload that runs where nothing else is said: about 20 seconds that show what a node
//! takes, what it costs, and how long it lets one wait.

use std::time::Duration;

use crate::plan::format::Format;
use crate::plan::keys::{DEFAULT_KEY_BYTES, KeySet, KeySpec, KeysError};
use crate::plan::load::{Load, Mode};
use crate::record::{Gaps, Pace};
use crate::run::name_of;

/// Different keys of each phase.
const KEYS: u64 = 1_000_000;
/// Adds a second in the phases with a rate: a fraction of what one core takes, so that nothing is
/// lost and the cost of a message that comes alone can be seen.
const ADD_RATE: f64 = 100_000.0;
/// Counts a second while adds run.
const COUNT_RATE: f64 = 20_000.0;
/// Hits a second.
const HIT_RATE: f64 = 20_000.0;
/// Their limit: well above what the floods before have added to every key's estimate.
const HIT_LIMIT: u64 = 1000;

/// What all phases have in common.
#[derive(Debug, Clone)]
pub struct Common {
    /// Seed of everything.
    pub seed: u64,
    /// Sending threads.
    pub threads: usize,
    /// Sockets over all threads.
    pub sockets: usize,
    /// Trains.
    pub gso: bool,
    /// After how long a request counts as unanswered.
    pub timeout: Duration,
    /// Spin instead of sleep.
    pub spin: bool,
}

/// What one phase has.
struct Plan<'a> {
    prefix: &'a str,
    keys: &'a KeySpec,
    mode: Mode,
    format: Format,
    pace: Pace,
    seconds: u64,
}

/// Adds as fast as they go, in both formats; adds at a rate; counts at a rate while adds run; hits. With a
/// format, all of it in that one, as far as it has it. Each phase has keys of its own, so that what a
/// flood loses leaves the others' truth alone.
///
/// # Errors
/// None: the keys are made.
pub fn loads(common: &Common, only: Option<Format>) -> Result<Vec<Load>, KeysError> {
    let uniform = &KeySpec::Uniform { keys: KEYS };
    let zipf = &KeySpec::Zipf {
        exponent: 1.1,
        keys: KEYS,
    };
    let rate = |per_s| Pace::Rate {
        per_s,
        gaps: Gaps::Exponential,
    };
    let plan = |prefix, keys, mode, format, pace, seconds| Plan {
        prefix,
        keys,
        mode,
        format,
        pace,
        seconds,
    };
    let both = ADD_RATE + COUNT_RATE;
    let mix = Mode::Mix(COUNT_RATE / both);
    let hit = Mode::Hit { limit: HIT_LIMIT };
    let (legacy, compact) = (Format::Legacy, Format::Compact);
    let single = only.unwrap_or(legacy);
    let plans = [
        plan("a", uniform, Mode::Add, legacy, Pace::Flood, 3),
        plan("d", uniform, Mode::Add, compact, Pace::Flood, 3),
        plan("b", zipf, Mode::Add, single, rate(ADD_RATE), 3),
        plan("c", zipf, mix, single, rate(both), 5),
        plan("e", zipf, hit, compact, rate(HIT_RATE), 4),
    ];
    plans
        .into_iter()
        .filter(|plan| only.is_none_or(|format| plan.format == format))
        .map(|plan| phase(common, &plan))
        .collect()
}

fn phase(common: &Common, plan: &Plan<'_>) -> Result<Load, KeysError> {
    let mut load = Load {
        name: String::new(),
        mode: plan.mode,
        format: plan.format,
        weight: 1,
        exactly_once: false,
        pace: plan.pace,
        keys: KeySet::open(plan.keys, DEFAULT_KEY_BYTES, plan.prefix, plan.format)?,
        seed: common.seed,
        duration: Duration::from_secs(plan.seconds),
        warmup: Duration::from_millis(500),
        messages: None,
        pack: 1,
        gso: common.gso,
        threads: common.threads,
        sockets: common.sockets,
        timeout: common.timeout,
        spin: common.spin,
        hold_up: None,
    };
    if load.pace == Pace::Flood {
        load.pack = load.full_datagram();
    }
    load.name = name_of(&load);
    Ok(load)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::run::Session;

    #[test]
    fn every_format_has_its_phases() {
        let common = Common {
            seed: 1,
            threads: 1,
            sockets: 1,
            gso: true,
            timeout: Duration::from_secs(1),
            spin: false,
        };
        for (only, phases) in [
            (None, 5),
            (Some(Format::Legacy), 3),
            (Some(Format::Compact), 4),
        ] {
            let loads = loads(&common, only).unwrap();
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
            let session = Session {
                loads,
                checked_keys: 0,
            };
            session.check().unwrap();
        }
    }
}
