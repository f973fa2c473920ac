//! A made-up node, for tests.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StatusSource;
use crate::status::testing::{detail, status};
use crate::status::{Detail, DetailError, DetailQuestion, Readiness, Status};

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

    fn detail(&self, question: &DetailQuestion) -> Result<Detail, DetailError> {
        detail(question)
    }
}
