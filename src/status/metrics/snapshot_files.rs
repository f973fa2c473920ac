//! The metrics of snapshot files.

use std::fmt;

use prometheus_client::registry::Unit;

use super::Page;
use crate::status::SnapshotFilesStatus;

impl Page<'_> {
    /// Encodes the families of snapshot files. Without a folder only the first one is there.
    pub(super) fn snapshot_files(&mut self, files: &SnapshotFilesStatus) -> fmt::Result {
        self.gauge(
            "rmbd_snapshot_file_enabled",
            "1 where what is counted is kept in a folder",
            None,
            u64::from(files.enabled),
        )?;
        if !files.enabled {
            return Ok(());
        }
        if let Some(age_s) = files.age_s {
            self.gauge(
                "rmbd_snapshot_file_age",
                "Time since all that was counted was in the file",
                Some(&Unit::Seconds),
                age_s,
            )?;
        }
        self.gauge(
            "rmbd_snapshot_file_overdue",
            "1 where that is more than three intervals",
            None,
            u64::from(files.overdue),
        )?;
        if let Some(last) = &files.last {
            self.gauge(
                "rmbd_snapshot_file_duration",
                "Time that the last file took",
                Some(&Unit::Seconds),
                last.duration_s,
            )?;
            self.gauge(
                "rmbd_snapshot_file_size",
                "Size of the last file",
                Some(&Unit::Bytes),
                last.bytes,
            )?;
        }
        self.counter(
            "rmbd_snapshot_files_written",
            "Files written",
            None,
            files.written,
        )?;
        self.counter(
            "rmbd_snapshot_files_unchanged",
            "Times that no file was written, since nothing was new",
            None,
            files.unchanged,
        )?;
        self.counter(
            "rmbd_snapshot_files_failed",
            "Times that no file was written, since the disk refused",
            None,
            files.failures,
        )?;
        self.gauge(
            "rmbd_snapshot_files_set_aside",
            "Files in the folder that could not be used",
            None,
            files.set_aside.len(),
        )
    }
}
