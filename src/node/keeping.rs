//! What the node keeps from one start to the next: it is taken over at the start, written now and then by a thread of
//! its own, and for the last time when the node ends.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::crew::{Crew, Part};
use super::error::{NodeError, system};
use crate::config::NodeConfig;
use crate::data_dir::Folder;
use crate::engine::Engine;
use crate::shared::Shared;
use crate::snapshots::{
    DiskChoice, Found, KnownFile, LastFile, SnapshotDesk, SnapshotThread, Source,
};
use rmbd_io::Backend;
use rmbd_snapshot::{Extra, ExtraKind};
use rmbd_store::Slices;
use rmbd_store::once::{BootChain, OnceTable};

/// Time from the beginning of the end until the last file has to be on the disk. A service manager that ends a process
/// by force after 10 s does not come to that, also where other members have let the node wait.
const LAST_FILE_LIMIT: Duration = Duration::from_secs(7);
/// The least time for the last file, whatever the end has taken so far.
const LAST_FILE_TIME_MIN: Duration = Duration::from_millis(500);
/// Time for the thread to end, if it does not wait for the disk.
const THREAD_END_LIMIT: Duration = Duration::from_millis(500);

/// The folder of a node that starts, when what was in it is taken over.
pub(super) struct Keeping {
    desk: Arc<SnapshotDesk>,
    known: Option<KnownFile>,
}

/// What is taken over beside slices: clients of exactly-once requests, and the starts that they know.
#[derive(Default)]
pub(super) struct KeptClients {
    blocks: Vec<(ExtraKind, Vec<u8>)>,
    /// How long ago they were written, or less.
    elapsed: Duration,
}

/// The thread of snapshot files.
pub(super) struct Keeper {
    desk: Arc<SnapshotDesk>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Keeping {
    /// Takes over what was found, before the node serves. `now` is its clock; `joins_nobody`: it looks for no others.
    ///
    /// # Errors
    /// [`NodeError::SnapshotFile`]: a part of it may have been taken over, so the node must not start.
    pub(super) fn take_over(
        config: &NodeConfig,
        folder: &Arc<Folder>,
        found: Found,
        slices: &mut [Slices],
        (now, joins_nobody): (Duration, bool),
    ) -> Result<(Self, KeptClients), NodeError> {
        let taken = found.take_over(slices, now, joins_nobody);
        let taken = taken.map_err(|source| NodeError::SnapshotFile {
            folder: folder.path().to_owned(),
            source,
        })?;
        let interval_ms = config.cluster.snapshot_interval_ms;
        let desk = SnapshotDesk::new(Arc::clone(folder), interval_ms);
        desk.note_start(&taken);
        let keeping = Self {
            desk: Arc::new(desk),
            known: taken.known,
        };
        let clients = KeptClients {
            blocks: taken.extra,
            elapsed: taken.elapsed,
        };
        Ok((keeping, clients))
    }

    pub(super) fn desk(&self) -> &Arc<SnapshotDesk> {
        &self.desk
    }

    /// Starts the thread, when the node serves.
    ///
    /// # Errors
    /// [`NodeError::System`], if the system gives no thread.
    pub(super) fn begin(
        self,
        crew: &Crew,
        shared: &Arc<Shared>,
        source: Source,
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
            source,
            disk,
            self.known,
        );
        let name = "rmbd-snapshots".to_owned();
        let thread = crew.thread(Part::Snapshots, name, move || thread.run());
        Ok(Keeper {
            desk: self.desk,
            shared: Arc::clone(shared),
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
        let last = LastFile {
            extra: clients(self.shared.engine(), self.shared.now()),
            leaves_mark: !crew.has_failed(),
        };
        match self.desk.write_last(last, deadline) {
            Ok(file) => info!(
                "the last snapshot file has {} bytes and took {:.2} s; {}",
                file.bytes,
                file.took.as_secs_f64(),
                match file.has_mark {
                    true => "the next start goes on from there",
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

impl KeptClients {
    /// Takes them back into a table that has just been made, and returns the starts whose requests it knows then.
    pub(super) fn take_back(&self, table: &OnceTable, now: Duration) -> BootChain {
        let mut earlier = BootChain::default();
        for (kind, block) in &self.blocks {
            let why = match kind {
                ExtraKind::Clients => {
                    let restored = table.restore(block, now, self.elapsed);
                    restored.err().map(|error| error.to_string())
                }
                ExtraKind::Boots => match BootChain::read(block) {
                    Ok(chain) => {
                        earlier = chain;
                        None
                    }
                    Err(error) => Some(error.to_string()),
                },
            };
            if let Some(why) = why {
                warn!(
                    "exactly-once clients of the start before are told that it is uncertain: {why}"
                );
            }
        }
        earlier
    }
}

/// The blocks behind the slices: which requests were applied, and in which starts. Nobody sends requests any more.
fn clients(engine: &Engine, now: Duration) -> Extra {
    let boots = (ExtraKind::Boots, engine.chain().write());
    let pieces = engine.once().save(now);
    let pieces = pieces.map(|piece| (ExtraKind::Clients, piece));
    Box::new(std::iter::once(boots).chain(pieces))
}
