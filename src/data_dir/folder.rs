//! The folder: its lock, and writing in it durably.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{DataDirError, unusable};

const LOCK_FILE: &str = "lock";

/// The mode of all files: what was counted is nobody else's business.
pub(crate) const FILE_MODE: u32 = 0o600;

/// A folder that no other node has while this one lives.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The lock, which is held as long as this file is open.
    lock: File,
}

impl Folder {
    /// Locks a folder that is there.
    ///
    /// # Errors
    /// [`DataDirError`], also where another node has it.
    pub(super) fn lock(folder: &Path) -> Result<Self, DataDirError> {
        let path = folder.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE);
        let lock = file.open(&path).map_err(unusable(&path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: folder.to_owned(),
                lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse {
                path: folder.to_owned(),
            }),
            Err(error) => Err(unusable(&path)(error.into())),
        }
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether the path still leads to the folder that was locked. Somebody may have moved it away and put another one
    /// in its place, which another node may have.
    ///
    /// # Errors
    /// The system's error where there is no such file any more, or it cannot be looked at.
    pub(crate) fn is_still_there(&self) -> io::Result<bool> {
        let there = fs::symlink_metadata(self.file(LOCK_FILE))?;
        let ours = self.lock.metadata()?;
        Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino()))
    }

    /// Makes durable which files there are.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Writes a small file as a whole or not at all, so that it survives a loss of power: it is written `beside`,
    /// synchronised, and renamed to `name`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn replace(&self, beside: &str, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.file(beside);
        remove_if_there(&new)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .create_new(true)
            .write(true)
            .mode(FILE_MODE)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, self.file(name))?;
        self.sync()
    }
}

/// Removes a file; where there is none, nothing is to be done. Returns whether there was one.
pub(super) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
