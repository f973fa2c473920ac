//! The thread that writes files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::desk::{LastFile, SnapshotDesk, Task, Written};
use super::disk::{Disk, DiskChoice};
use super::error::SnapshotFileFailure;
use super::source::Source;
use super::writing::{FileWriter, Occasion, WrittenFile};
use crate::data_dir::FileIdentity;
use crate::shared::Shared;
use rmbd_snapshot::Saved;

/// Pause between two files if one takes longer than the interval.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// What is known to be in a file that is in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownFile {
    pub(crate) identity: FileIdentity,
    /// [`Source::signature`] of what is in it.
    pub(crate) signature: u64,
}

/// The thread, before it runs. The desk is told when it is gone, whether it ran or not.
pub(crate) struct SnapshotThread {
    writer: FileWriter,
    disk: DiskChoice,
    known: Option<KnownFile>,
}

impl SnapshotThread {
    /// A thread that writes what `source` has. `known` is what the file holds already.
    pub(crate) fn new(
        desk: Arc<SnapshotDesk>,
        shared: Arc<Shared>,
        source: Source,
        disk: DiskChoice,
        known: Option<KnownFile>,
    ) -> Self {
        Self {
            writer: FileWriter {
                desk,
                shared,
                source,
            },
            disk,
            known,
        }
    }

    /// Writes files until the desk says that it is enough.
    pub(crate) fn run(mut self) {
        let desk = Arc::clone(&self.writer.desk);
        let mut disk = self.disk.open(desk.folder());
        let mut next = desk.interval().map(|interval| Instant::now() + interval);
        loop {
            match desk.next_task(next) {
                Task::Write(waiting) => {
                    let began = Instant::now();
                    desk.begin_writing();
                    let outcome = self.write(&mut *disk);
                    desk.note(outcome, waiting);
                    let earliest = Instant::now() + PAUSE_MIN;
                    next = desk.interval().map(|it| (began + it).max(earliest));
                }
                Task::Last(last) => {
                    desk.begin_writing();
                    let outcome = self.write_last(&mut *disk, last);
                    return desk.give_last(outcome);
                }
                Task::End => return,
            }
        }
    }

    fn write(&mut self, disk: &mut dyn Disk) -> Result<Written, SnapshotFileFailure> {
        let (until, began) = (self.writer.shared.now(), Instant::now());
        self.writer.publish(Occasion::Serving)?;
        let signature = self.writer.source.signature();
        if self.is_known(signature) {
            return Ok(Written::NothingNew { until });
        }
        self.known = None;
        let no_extra = Box::new(std::iter::empty());
        let saved = self.writer.write(disk, no_extra, Occasion::Serving)?;
        let identity = self.writer.desk.folder().snapshot_identity();
        self.known = identity.map(|identity| KnownFile {
            identity,
            signature,
        });
        let file = WrittenFile {
            bytes: saved.bytes,
            slices: saved.slices,
            took: began.elapsed(),
            has_mark: false,
        };
        Ok(Written::File { until, file })
    }

    fn write_last(
        &mut self,
        disk: &mut dyn Disk,
        last: LastFile,
    ) -> Result<WrittenFile, SnapshotFileFailure> {
        let began = Instant::now();
        self.writer.publish(Occasion::End)?;
        let saved = self.writer.write(disk, last.extra, Occasion::End)?;
        let has_mark = last.leaves_mark && self.leave_mark(disk, &saved);
        Ok(WrittenFile {
            bytes: saved.bytes,
            slices: saved.slices,
            took: began.elapsed(),
            has_mark,
        })
    }

    fn leave_mark(&self, disk: &mut dyn Disk, saved: &Saved) -> bool {
        let left = self.writer.leave_mark(disk, saved);
        if let Err(failure) = &left {
            warn!("{failure}; the next start writes slices of its own");
        }
        left.is_ok()
    }

    fn is_known(&self, signature: u64) -> bool {
        let there = self.writer.desk.folder().snapshot_identity();
        self.known
            .is_some_and(|known| known.signature == signature && Some(known.identity) == there)
    }
}

impl Drop for SnapshotThread {
    fn drop(&mut self) {
        self.writer.desk.note_end();
    }
}
