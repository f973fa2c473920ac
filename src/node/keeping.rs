//! What the node keeps from one start to the next: it is taken over at the start, written now and then by a thread of
//! its own, and for the last time when the node ends.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::crew::{Crew, Part};
use super::error::{NodeError, system};
use crate::config::NodeConfig;
use crate::data_dir::Folder;
use crate::shared::Shared;
use crate::snapshots::{
    DiskChoice, Found, KnownFile, LastFile, SnapshotDesk, SnapshotThread, Source,
};
use rmbd_io::Backend;

/// Time from the beginning of the end until the last file has to be on the disk. A service manager that ends a process
/// by force after 10 s does not come to that, also where other members have let the node wait.
const LAST_FILE_LIMIT: Duration = Duration::from_secs(7);
/// The least time for the last file, whatever the end has taken so far.
const LAST_FILE_TIME_MIN: Duration = Duration::from_millis(500);
/// Time for the thread to end, if it does not wait for the disk.
const THREAD_END_LIMIT: Duration = Duration::from_millis(500);

/// The folder of a node that starts.
pub(super) struct Keeping {
    desk: Arc<SnapshotDesk>,
    folder: Arc<Folder>,
    source: Source,
    node: u64,
    known: Option<KnownFile>,
}

/// The thread of snapshot files.
pub(super) struct Keeper {
    desk: Arc<SnapshotDesk>,
    thread: JoinHandle<()>,
}

impl Keeping {
    /// The folder of the node with this id, of which nothing was taken over yet.
    pub(super) fn new(
        config: &NodeConfig,
        folder: &Arc<Folder>,
        source: Source,
        node: u64,
    ) -> Self {
        let interval_ms = config.cluster.snapshot_interval_ms;
        Self {
            desk: Arc::new(SnapshotDesk::new(Arc::clone(folder), interval_ms)),
            folder: Arc::clone(folder),
            source,
            node,
            known: None,
        }
    }

    pub(super) fn desk(&self) -> &Arc<SnapshotDesk> {
        &self.desk
    }

    /// Takes over what was found, before the node serves.
    ///
    /// # Errors
    /// [`NodeError::SnapshotFile`]: a part of it may have been taken over, so the node must not start.
    pub(super) fn take_over(&mut self, found: Found, shared: &Shared) -> Result<(), NodeError> {
        let taken = found.take_over(&self.source, shared.now());
        let taken = taken.map_err(|source| NodeError::SnapshotFile {
            folder: self.folder.path().to_owned(),
            source,
        })?;
        self.known = taken.known;
        debug!("{} blocks of clients", taken.extra.len());
        self.desk.note_start(taken.loaded.as_ref(), taken.set_aside);
        Ok(())
    }

    /// Starts the thread, when the node serves.
    ///
    /// # Errors
    /// [`NodeError::System`], if the system gives no thread.
    pub(super) fn begin(
        self,
        crew: &Crew,
        shared: &Arc<Shared>,
        backend: Option<Backend>,
    ) -> Result<Keeper, NodeError> {
        let disk = match backend {
            Some(Backend::Uring) => DiskChoice::Uring,
            _ => DiskChoice::Plain,
        };
        #[cfg(test)]
        let disk = crew.trouble().map_or(disk, DiskChoice::Troubled);
        let thread = SnapshotThread::new(
            Arc::clone(&self.desk),
            Arc::clone(shared),
            self.source,
            self.node,
            disk,
            self.known,
        );
        let name = "rmbd-snapshots".to_owned();
        let thread = crew.thread(Part::Snapshots, name, move || thread.run());
        Ok(Keeper {
            desk: self.desk,
            thread: thread.map_err(system("starting the thread for snapshot files"))?,
        })
    }
}

impl Keeper {
    /// Writes the last file, and leaves a mark if all has ended well. Nobody adds any more. A disk that hangs is left
    /// behind, with the thread that waits for it.
    pub(super) fn end(self, crew: &Crew) {
        let now = Instant::now();
        let deadline = (crew.ending_since() + LAST_FILE_LIMIT).max(now + LAST_FILE_TIME_MIN);
        let leaves_mark = !crew.has_failed();
        let last = LastFile {
            extra: Box::new(std::iter::empty()),
            leaves_mark,
        };
        match self.desk.write_last(last, deadline) {
            Ok(saved) => info!(
                "the last snapshot file has {} bytes and took {:.2} s; {}",
                saved.bytes,
                saved.took.as_secs_f64(),
                match saved.has_mark {
                    true => "the next start goes on as the same writer",
                    false => "the next start begins as another writer",
                }
            ),
            Err(failure) => crew.fail_at_end(NodeError::LastSnapshotFile(failure)),
        }
        if self.desk.end(Instant::now() + THREAD_END_LIMIT) {
            // The crew knows about a panic.
            let _ = self.thread.join();
        }
    }
}
