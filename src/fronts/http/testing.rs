//! A made-up node, for tests.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StatusSource;
use crate::status::testing::status;
use crate::status::{Detail, OriginDetail, Readiness, Status};

/// A source whose status is always the same, but for its readiness.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) ready: AtomicBool,
    pub(crate) readiness: Mutex<Readiness>,
    pub(crate) failure: Mutex<Option<String>>,
}

impl Fake {
    pub(crate) fn new(ready: bool) -> Self {
        Self {
            ready: AtomicBool::new(ready),
            readiness: Mutex::default(),
            failure: Mutex::default(),
        }
    }
}

impl StatusSource for Fake {
    fn status(&self) -> Status {
        Status {
            ready: self.ready.load(Ordering::Relaxed),
            failure: self.failure.lock().map(|it| it.clone()).unwrap_or_default(),
            readiness: self
                .readiness
                .lock()
                .map(|it| it.clone())
                .unwrap_or_default(),
            ..status()
        }
    }

    /// Returns the key, and its length as the count.
    fn detail(&self, key: &[u8]) -> Detail {
        Detail {
            key: key.to_vec().into(),
            count: key.len() as u64,
            incomplete: false,
            origins: vec![OriginDetail {
                node: Some("00000000000000aa".into()),
                legacy: None,
                slices: 1,
                count: key.len() as u64,
                own: true,
            }],
        }
    }
}
