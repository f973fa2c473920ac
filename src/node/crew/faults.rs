//! Makes one part of a node end by itself, when a test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::{Crew, How, Part};

/// Time from one look at the trigger to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Which part is to end, how, and when.
#[derive(Debug, Clone)]
pub(in crate::node) struct Fault {
    part: Part,
    how: How,
    is_due: Arc<AtomicBool>,
}

impl Fault {
    /// Not due yet.
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

    /// Waits until the fault is due that this thread is to have, and panics, or says that it should return.
    /// A thread that is told to end meanwhile does.
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

    /// Does a task's work until a fault of its is due.
    pub(super) async fn unless_struck(self, part: Part, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            () = self.struck(part) => {}
        }
    }

    /// Comes, or panics, when this part's fault is due.
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
