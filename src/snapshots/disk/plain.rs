//! Plain files, whose calls block this thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use rmbd_snapshot::{FILE_NAME, NEW_FILE_NAME, SavingStep};

use super::Disk;
use crate::data_dir::{FILE_MODE, Folder};

/// The folder, and the file in it that is being written.
pub(super) struct PlainDisk {
    folder: Arc<Folder>,
    file: Option<File>,
}

impl PlainDisk {
    pub(super) fn new(folder: Arc<Folder>) -> Self {
        Self { folder, file: None }
    }

    fn create(&mut self) -> io::Result<()> {
        self.discard()?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let options = options.custom_flags(libc::O_NOFOLLOW);
        self.file = Some(options.open(self.folder.file(NEW_FILE_NAME))?);
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(no_file)
    }
}

impl Disk for PlainDisk {
    fn execute(&mut self, step: &SavingStep<'_>) -> io::Result<()> {
        match step {
            SavingStep::Create => self.create(),
            SavingStep::Write(bytes) => self.file()?.write_all(bytes),
            SavingStep::SyncSome => self.file()?.sync_data(),
            SavingStep::SyncAll => self.file()?.sync_all(),
            SavingStep::Rename => {
                self.file = None;
                let new = self.folder.file(NEW_FILE_NAME);
                fs::rename(new, self.folder.file(FILE_NAME))
            }
            SavingStep::SyncFolder => self.folder.sync(),
            SavingStep::Done(_) => Ok(()),
        }
    }

    fn discard(&mut self) -> io::Result<()> {
        self.file = None;
        self.folder.remove_new_snapshot()
    }

    fn leave_mark(&mut self, mark: &[u8]) -> io::Result<()> {
        self.folder.write_mark(mark)
    }
}

/// The error for a step that comes before the file is made.
pub(super) fn no_file() -> io::Error {
    io::Error::other("no file was begun")
}
