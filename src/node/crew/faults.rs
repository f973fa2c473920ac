//! Faults that make a part of a node end by itself, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::{Crew, How, Part};

/// Time between two checks of the trigger.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The part that is to end, in which way, and when.
#[derive(Debug, Clone)]
pub(in crate::node) struct Fault {
    part: Part,
    how: How,
    is_due: Arc<AtomicBool>,
}

impl Fault {
    /// A fault that is not due yet.
    pub(in crate::node) fn new(part: Part, how: How) -> Self {
        Self {
            part,
            how,
            is_due: Arc::default(),
        }
    }

    pub(in crate::node) fn part(&self) -> Part {
        self.part
    }

    pub(in crate::node) fn strike(&self) {
        self.is_due.store(true, Relaxed);
    }
}

impl Crew {
    fn fault(&self, part: Part) -> Option<&Fault> {
        self.0.fault.as_ref().filter(|fault| fault.part == part)
    }

    /// Waits until this part's fault is due, and then panics, or returns true: the thread is to return. It also returns
    /// true if the thread is told to end meanwhile, and false at once if the part has no fault.
    pub(in crate::node) fn strikes_thread(&self, part: Part) -> bool {
        let Some(fault) = self.fault(part) else {
            return false;
        };
        while !fault.is_due.load(Relaxed) {
            if self.stop().is_given() {
                return true;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        fault.fall()
    }

    /// Does the work of a task until a fault of its part is due.
    pub(in crate::node) async fn unless_struck(self, part: Part, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            () = self.struck(part) => {}
        }
    }

    /// Waits until this part's fault is due, and then returns or panics.
    pub(in crate::node) async fn struck(&self, part: Part) {
        let Some(fault) = self.fault(part) else {
            return std::future::pending().await;
        };
        while !fault.is_due.load(Relaxed) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        fault.fall();
    }
}

impl Fault {
    fn fall(&self) -> bool {
        assert!(self.how == How::Return, "a test makes {} panic", self.part);
        true
    }
}
