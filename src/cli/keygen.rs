//! The command `rmbd keygen`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::rand::GetRandomFlags;

use super::{CliError, KeygenOptions, Streams};
use rmbd_cluster::seal::generate_key_text;

const KEY_NOTE: &str =
    "A key of an rmbd cluster: whoever reads it can join. The same file goes to every node.";
const TOKEN_NOTE: &str =
    "A token of rmbd's HTTP API: whoever shows it may add, and is told names of keys.";

/// Prints a file with a key or a token, or creates one that only its owner can read.
pub(super) fn run(options: &KeygenOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let note = if options.token { TOKEN_NOTE } else { KEY_NOTE };
    let text = text(note).map_err(CliError::Random)?;
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

fn text(note: &str) -> io::Result<String> {
    let mut random = [0; 32];
    // getrandom(2) returns so few bytes as a whole.
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty())?;
    Ok(format!("# {note}\n{}\n", generate_key_text(random)))
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
