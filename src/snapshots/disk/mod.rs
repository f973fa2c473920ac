//! The disk: does what [`SavingStep`]s say, through io_uring or with plain files.

mod plain;
mod uring;

use std::io;
use std::sync::Arc;

use rmbd_snapshot::SavingStep;
use tracing::info;

use self::plain::PlainDisk;
use self::uring::UringDisk;
#[cfg(test)]
use super::testing::Trouble;
use crate::data_dir::Folder;

/// Does one step after the other, on the thread that writes files. Each call returns when the step is done, or has
/// failed.
pub(super) trait Disk {
    /// Does a step.
    ///
    /// # Errors
    /// The system's. The file is to be [discarded](Self::discard) then.
    fn execute(&mut self, step: &SavingStep<'_>) -> io::Result<()>;

    /// Removes the file that was begun.
    ///
    /// # Errors
    /// The system's.
    fn discard(&mut self) -> io::Result<()>;

    /// Writes the mark of a clean end durably.
    ///
    /// # Errors
    /// The system's.
    fn leave_mark(&mut self, mark: &[u8]) -> io::Result<()>;
}

/// Which way to the disk is taken.
#[derive(Debug, Clone)]
pub(crate) enum DiskChoice {
    /// io_uring, or plain files where the system refuses one more ring.
    Uring,
    Plain,
    /// Plain files, and trouble with them.
    #[cfg(test)]
    Troubled(Arc<Trouble>),
}

impl DiskChoice {
    /// Opens the way, on the thread that goes it.
    pub(super) fn open(&self, folder: &Arc<Folder>) -> Box<dyn Disk> {
        let plain = || Box::new(PlainDisk::new(Arc::clone(folder)));
        match self {
            Self::Uring => match UringDisk::try_new(Arc::clone(folder)) {
                Ok(disk) => Box::new(disk),
                Err(error) => {
                    info!("snapshot files are written without io_uring: {error}");
                    plain()
                }
            },
            Self::Plain => plain(),
            #[cfg(test)]
            Self::Troubled(trouble) => Box::new(super::testing::TroubledDisk {
                disk: plain(),
                trouble: Arc::clone(trouble),
            }),
        }
    }
}
