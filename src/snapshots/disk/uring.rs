//! Files through io_uring: the kernel does the work on threads of its own, and this thread sleeps meanwhile.

use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use rmbd_snapshot::{FILE_NAME, NEW_FILE_NAME, SavingStep};
use tokio_uring::Runtime;
use tokio_uring::fs::{self, File, OpenOptions};

use super::Disk;
use super::plain::no_file;
use crate::data_dir::{FILE_MODE, Folder};

/// The folder, and the file in it that is being written. No operation is under way between two steps.
pub(super) struct UringDisk {
    // It is dropped before the runtime.
    file: Option<Open>,
    folder: Arc<Folder>,
    /// What a piece is copied to, since the kernel reads it on its own.
    piece: Vec<u8>,
    runtime: Runtime,
}

struct Open {
    file: File,
    bytes: u64,
}

impl UringDisk {
    /// A disk with a ring of its own.
    ///
    /// # Errors
    /// The system's refusal of the ring.
    pub(super) fn try_new(folder: Arc<Folder>) -> io::Result<Self> {
        Ok(Self {
            file: None,
            folder,
            piece: Vec::new(),
            runtime: Runtime::new(&tokio_uring::builder())?,
        })
    }

    fn create(&mut self) -> io::Result<()> {
        self.discard()?;
        let path = self.folder.file(NEW_FILE_NAME);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        options.custom_flags(libc::O_NOFOLLOW);
        let file = self.runtime.block_on(options.open(path))?;
        self.file = Some(Open { file, bytes: 0 });
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let open = self.file.as_mut().ok_or_else(no_file)?;
        let mut piece = std::mem::take(&mut self.piece);
        piece.clear();
        piece.extend_from_slice(bytes);
        let written = open.file.write_all_at(piece, open.bytes);
        let (written, piece) = self.runtime.block_on(written);
        self.piece = piece;
        open.bytes += bytes.len() as u64;
        written
    }

    fn sync(&self, with_metadata: bool) -> io::Result<()> {
        let file = &self.file.as_ref().ok_or_else(no_file)?.file;
        self.runtime.block_on(async {
            match with_metadata {
                true => file.sync_all().await,
                false => file.sync_data().await,
            }
        })
    }

    fn rename(&mut self) -> io::Result<()> {
        let [new, old] = [NEW_FILE_NAME, FILE_NAME].map(|name| self.folder.file(name));
        let file = self.file.take();
        self.runtime.block_on(async {
            if let Some(open) = file {
                open.file.close().await?;
            }
            fs::rename(new, old).await
        })
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.runtime.block_on(async {
            let folder = File::open(self.folder.path()).await?;
            let synced = folder.sync_all().await;
            folder.close().await?;
            synced
        })
    }
}

impl Disk for UringDisk {
    fn execute(&mut self, step: &SavingStep<'_>) -> io::Result<()> {
        match step {
            SavingStep::Create => self.create(),
            SavingStep::Write(bytes) => self.append(bytes),
            SavingStep::SyncSome => self.sync(false),
            SavingStep::SyncAll => self.sync(true),
            SavingStep::Rename => self.rename(),
            SavingStep::SyncFolder => self.sync_folder(),
            SavingStep::Done(_) => Ok(()),
        }
    }

    fn discard(&mut self) -> io::Result<()> {
        self.file = None;
        let new = self.folder.file(NEW_FILE_NAME);
        match self.runtime.block_on(fs::remove_file(new)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    fn leave_mark(&mut self, mark: &[u8]) -> io::Result<()> {
        // A hundred bytes, when nothing else is left to be done.
        self.folder.write_mark(mark)
    }
}
