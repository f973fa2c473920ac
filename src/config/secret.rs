//! Files of secrets, and how secrets are compared.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tracing::warn;

/// Opens a file of a secret. If others than its owner can read it, the log says what whoever reads it can do.
pub(crate) fn open_secret(path: &Path, can: &str) -> io::Result<File> {
    let file = File::open(path)?;
    // Pipes and the like have no mode that would tell who can read them.
    if let Ok(about) = file.metadata()
        && about.is_file()
        && about.mode() & 0o077 != 0
    {
        warn!(
            "{} can be read by others than its owner: chmod 600 it, whoever reads it can {can}",
            path.display()
        );
    }
    Ok(file)
}

/// Whether what is given is the secret. The time depends on the length of `given` alone.
pub(crate) fn is_secret(secret: &[u8], given: &[u8]) -> bool {
    let own = secret.iter().cycle();
    let differs = given
        .iter()
        .zip(own)
        .fold(0, |differs, (a, b)| black_box(differs | (a ^ b)));
    black_box(differs) == 0 && given.len() == secret.len()
}
