//! Support for tests.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::{DEFAULT_KEY_BYTES, Format, KeySet, Load};

/// A short flood by one thread.
pub(crate) fn load(mode: &str, keys: &str) -> Load {
    let (keys, format) = (keys.parse().unwrap(), Format::Legacy);
    let keys = KeySet::open(&keys, DEFAULT_KEY_BYTES, "", format).unwrap();
    Load {
        name: "test".to_owned(),
        mode: mode.parse().unwrap(),
        duration: Duration::from_secs(1),
        warmup: Duration::ZERO,
        ..Load::new(keys, format)
    }
}
