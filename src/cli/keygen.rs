//! The command `rmbd keygen`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::rand::GetRandomFlags;

use super::{CliError, KeygenOptions, Streams};
use rmbd_cluster::seal::generate_key_text;

/// Prints a key file, or creates one that only its owner can read.
pub(super) fn run(options: &KeygenOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let text = text().map_err(CliError::Random)?;
    match &options.output {
        None => {
            let written = streams.output.write_all(text.as_bytes());
            written.map_err(CliError::Output)
        }
        Some(path) => write_new(path, &text).map_err(|source| CliError::KeyFile {
            path: path.clone(),
            source,
        }),
    }
}

fn text() -> io::Result<String> {
    let mut random = [0; 32];
    // getrandom(2) returns so few bytes as a whole.
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty())?;
    Ok(format!(
        "# A key of an rmbd cluster: whoever reads it can join. The same file goes to every node.\n{}\n",
        generate_key_text(random)
    ))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
