//! A folder for the nodes of one run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rmbd_cluster::seal::generate_key_text;

/// A folder that goes when it is dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let name = format!("rmbd-restarts-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file with a cluster's key.
    pub(super) fn keys(&self) -> String {
        let path = self.0.join("keys");
        let key = generate_key_text(std::array::from_fn(|at| at as u8));
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
