//! What tests need.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use crate::plan::format::Format;
use crate::plan::keys::{DEFAULT_KEY_BYTES, KeySet};
use crate::plan::load::Load;
use crate::record::Pace;

/// A short flood of one thread.
pub(crate) fn load(mode: &str, keys: &str) -> Load {
    Load {
        name: "test".to_owned(),
        mode: mode.parse().unwrap(),
        format: Format::Legacy,
        weight: 1,
        exactly_once: false,
        pace: Pace::Flood,
        keys: KeySet::open(
            &keys.parse().unwrap(),
            DEFAULT_KEY_BYTES,
            "",
            Format::Legacy,
        )
        .unwrap(),
        seed: 1,
        duration: Duration::from_secs(1),
        warmup: Duration::ZERO,
        messages: None,
        pack: 1,
        gso: true,
        threads: 1,
        sockets: 1,
        timeout: Duration::from_secs(1),
        spin: false,
        hold_up: None,
    }
}
