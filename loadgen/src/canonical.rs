//! The workload that runs where nothing else is said: about 20 seconds that show what a node
//! takes, what it costs, and how long it lets one wait.

use std::time::Duration;

use crate::keys::{DEFAULT_KEY_BYTES, KeySet, KeySpec, KeysError};
use crate::load::{Load, Mode, PACK_MAX};
use crate::record::{Gaps, Pace};
use crate::session::name_of;

/// Different keys of each phase.
const KEYS: u64 = 1_000_000;
/// Messages of a legacy datagram that stays below 1 400 bytes.
pub const FULL_DATAGRAM: usize = 9;
/// Adds a second in the phases with a rate: a fraction of what one core takes, so that nothing is
/// lost and the cost of a message that comes alone can be seen.
const ADD_RATE: f64 = 100_000.0;
/// Counts a second while adds run.
const COUNT_RATE: f64 = 20_000.0;

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

/// Adds as fast as they go; adds at a rate; counts at a rate while adds run. Each phase has keys
/// of its own, so that what the flood loses leaves the others' truth alone.
///
/// # Errors
/// None: the keys are made.
pub fn loads(common: &Common) -> Result<Vec<Load>, KeysError> {
    let uniform = KeySpec::Uniform { keys: KEYS };
    let zipf = KeySpec::Zipf {
        exponent: 1.1,
        keys: KEYS,
    };
    let rate = |per_s| Pace::Rate {
        per_s,
        gaps: Gaps::Exponential,
    };
    let both = ADD_RATE + COUNT_RATE;
    Ok(vec![
        phase(
            common,
            "a",
            &uniform,
            Mode::Add,
            Pace::Flood,
            FULL_DATAGRAM,
            5,
        )?,
        phase(common, "b", &zipf, Mode::Add, rate(ADD_RATE), 1, 5)?,
        phase(
            common,
            "c",
            &zipf,
            Mode::Mix(COUNT_RATE / both),
            rate(both),
            1,
            7,
        )?,
    ])
}

fn phase(
    common: &Common,
    prefix: &str,
    keys: &KeySpec,
    mode: Mode,
    pace: Pace,
    pack: usize,
    seconds: u64,
) -> Result<Load, KeysError> {
    let mut load = Load {
        name: String::new(),
        mode,
        pace,
        keys: KeySet::open(keys, DEFAULT_KEY_BYTES, prefix)?,
        seed: common.seed,
        duration: Duration::from_secs(seconds),
        warmup: Duration::from_millis(500),
        messages: None,
        pack: pack.min(PACK_MAX),
        gso: common.gso,
        threads: common.threads,
        sockets: common.sockets,
        timeout: common.timeout,
        spin: common.spin,
        hold_up: None,
    };
    load.name = name_of(&load);
    Ok(load)
}
