//! The node's folder, which keeps its id and what it has counted from one start to the next.
//!
//! ```text
//! DIR/lock           held (flock(2)) while a node runs, so that no two are one
//! DIR/node_id        16 hexadecimal digits and a line end
//! DIR/snapshot       the last snapshot file that was written in full
//! DIR/snapshot.new   one that is being written
//! DIR/snapshot.bad-* files that could not be used, at most 4: when they were set aside (UTC), and why
//! DIR/clean_end      the mark of a clean end, which belongs to `snapshot`
//! ```

mod folder;
mod snapshot_files;

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use self::folder::{FILE_MODE, Folder};
pub(crate) use self::snapshot_files::{FileIdentity, Unusable};

const ID_FILE: &str = "node_id";
const NEW_ID_FILE: &str = "node_id.new";

/// Why a node cannot have its folder. Nothing was started, and the folder's content is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The folder, or a file in it, cannot be used.
    #[error("can't use {} of --data-dir: {source}; name a folder that this user may write to", path.display())]
    Folder {
        /// The path that was tried.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another node runs with this folder.
    #[error(
        "another rmbd runs with --data-dir {}: stop it, or give each node a folder of its own",
        path.display()
    )]
    InUse {
        /// The path of the folder.
        path: PathBuf,
    },
    /// The file does not hold a node's id.
    #[error(
        "{} does not hold a node's number (16 hexadecimal digits): restore it, or remove it to start as a new node",
        path.display()
    )]
    NotANumber {
        /// The path of the file.
        path: PathBuf,
    },
}

/// A node's id, and the folder that keeps it.
#[derive(Debug)]
pub(crate) struct DataDir {
    node: u64,
    folder: Option<Arc<Folder>>,
}

impl DataDir {
    /// Reads the id in `folder`. If there is none, the `fresh` one (random, not 0) is written there. Without a folder,
    /// the fresh id is forgotten at the end of this start.
    pub(crate) fn open(folder: Option<&Path>, fresh: u64) -> Result<Self, DataDirError> {
        let Some(path) = folder else {
            return Ok(Self {
                node: fresh,
                folder: None,
            });
        };
        let mut made = DirBuilder::new();
        made.recursive(true).mode(0o700);
        made.create(path).map_err(unusable(path))?;
        let folder = Folder::lock(path)?;
        let path = folder.file(ID_FILE);
        let node = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or(DataDirError::NotANumber { path })?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                keep(&folder, fresh).map_err(unusable(&path))?;
                fresh
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(DataDirError::NotANumber { path });
            }
            Err(error) => return Err(unusable(&path)(error)),
        };
        Ok(Self {
            node,
            folder: Some(Arc::new(folder)),
        })
    }

    /// The node's id.
    pub(crate) fn node(&self) -> u64 {
        self.node
    }

    /// The folder, which stays locked as long as somebody has it; `None` where nothing is kept.
    pub(crate) fn folder(&self) -> Option<&Arc<Folder>> {
        self.folder.as_ref()
    }
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Folder { path, source }
}

fn parse(text: &str) -> Option<u64> {
    let digits = text.trim_end();
    let is_digits = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let node = u64::from_str_radix(digits, 16).ok();
    node.filter(|&node| is_digits && node != 0)
}

fn keep(folder: &Folder, node: u64) -> io::Result<()> {
    let text = format!("{node:016x}\n");
    folder.replace(NEW_ID_FILE, ID_FILE, text.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder that is removed after the test.
    pub(super) struct Scratch(pub(super) PathBuf);

    impl Scratch {
        pub(super) fn new(name: &str) -> Self {
            let name = format!("rmbd-identity-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_number_is_kept_from_start_to_start() {
        assert_eq!(DataDir::open(None, 7).unwrap().node, 7);
        let folder = Scratch::new("kept");
        let path = folder.0.join("made/too");
        assert_eq!(DataDir::open(Some(&path), 7).unwrap().node, 7);
        assert_eq!(DataDir::open(Some(&path), 8).unwrap().node, 7);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(ID_FILE))), (0o700, 0o600));
        assert!(!path.join(NEW_ID_FILE).exists());
        assert_eq!(
            fs::read_to_string(path.join(ID_FILE)).unwrap(),
            "0000000000000007\n"
        );
    }

    #[test]
    fn two_at_once_are_refused() {
        let folder = Scratch::new("two");
        let first = DataDir::open(Some(&folder.0), 7).unwrap();
        let error = DataDir::open(Some(&folder.0), 8).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }), "{error}");
        drop(first);
        assert_eq!(DataDir::open(Some(&folder.0), 9).unwrap().node, 7);
    }

    #[test]
    fn what_is_no_number_is_left_as_it_is() {
        let folder = Scratch::new("broken");
        fs::create_dir_all(&folder.0).unwrap();
        let path = folder.0.join(ID_FILE);
        for content in [
            &b""[..],
            b"7",
            b"0000000000000000",
            b"+000000000000007",
            b"\xff\xfe",
        ] {
            fs::write(&path, content).unwrap();
            let error = DataDir::open(Some(&folder.0), 8).unwrap_err();
            assert!(matches!(error, DataDirError::NotANumber { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        // A file that was begun before a loss of power does not count.
        fs::remove_file(&path).unwrap();
        fs::write(folder.0.join(NEW_ID_FILE), "00000000").unwrap();
        assert_eq!(DataDir::open(Some(&folder.0), 8).unwrap().node, 8);
        // A file is no folder.
        let error = DataDir::open(Some(&path), 8).unwrap_err();
        assert!(matches!(error, DataDirError::Folder { .. }), "{error}");
    }
}
