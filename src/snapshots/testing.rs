//! A disk that makes trouble at a chosen step, for tests.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rmbd_snapshot::SavingStep;

use super::disk::Disk;

/// A step at which there is trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Create,
    Write,
    SyncAll,
    Rename,
    SyncFolder,
    Mark,
}

impl Point {
    pub(crate) const ALL: [Self; 6] = [
        Self::Create,
        Self::Write,
        Self::SyncAll,
        Self::Rename,
        Self::SyncFolder,
        Self::Mark,
    ];

    fn of(step: &SavingStep<'_>) -> Option<Self> {
        match step {
            SavingStep::Create => Some(Self::Create),
            SavingStep::Write(_) => Some(Self::Write),
            SavingStep::SyncAll => Some(Self::SyncAll),
            SavingStep::Rename => Some(Self::Rename),
            SavingStep::SyncFolder => Some(Self::SyncFolder),
            SavingStep::SyncSome | SavingStep::Done(_) => None,
        }
    }
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It fails with this code.
    Fails(i32),
    /// It does not return before the trouble is over.
    Hangs,
}

/// The trouble that there is with a disk.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    now: Mutex<Option<(Point, What)>>,
    changed: Condvar,
}

impl Trouble {
    pub(crate) fn begin(&self, point: Point, what: What) {
        *self.lock() = Some((point, what));
    }

    pub(crate) fn end(&self) {
        *self.lock() = None;
        self.changed.notify_all();
    }

    fn strike(&self, point: Option<Point>) -> io::Result<()> {
        let mut now = self.lock();
        while let (Some((at, what)), Some(point)) = (*now, point)
            && at == point
        {
            match what {
                What::Fails(code) => return Err(io::Error::from_raw_os_error(code)),
                What::Hangs => {
                    now = self
                        .changed
                        .wait(now)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Point, What)>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk with trouble.
pub(super) struct TroubledDisk {
    pub(super) disk: Box<dyn Disk>,
    pub(super) trouble: Arc<Trouble>,
}

impl Disk for TroubledDisk {
    fn execute(&mut self, step: &SavingStep<'_>) -> io::Result<()> {
        self.trouble.strike(Point::of(step))?;
        self.disk.execute(step)
    }

    fn discard(&mut self) -> io::Result<()> {
        self.disk.discard()
    }

    fn leave_mark(&mut self, mark: &[u8]) -> io::Result<()> {
        self.trouble.strike(Some(Point::Mark))?;
        self.disk.leave_mark(mark)
    }
}
