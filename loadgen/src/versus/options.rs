//! The options of `loadgen versus`.

use std::path::{Path, PathBuf};

use clap::Args;
use rmbd_sketch::Geometry;

use super::rival::Rival;
use crate::plan::{DEFAULT_KEY_BYTES, Format, KeySpec};

/// The directory for records, if the directory above it exists, as in a checkout.
const RECORDS: &str = "benches/record";

/// Options of `versus`.
#[derive(Debug, Clone, Args)]
pub(crate) struct VersusOptions {
    /// The other server: redis://HOST:PORT or memcached://HOST:PORT. The keys stay in it: give one
    /// that holds nothing of value. With --start, HOST:PORT is not needed: redis:// or memcached://
    #[arg(value_name = "PEER")]
    pub(super) rival: Rival,
    /// Starts the other server on a free port (Debian's packages redis-server and memcached) and
    /// ends it afterwards
    #[arg(long)]
    pub(super) start: bool,
    /// Adds into a count-min sketch of the same size there too (CMS.INCRBY: Redis 8, or RedisBloom)
    #[arg(long)]
    pub(super) cms: bool,
    /// The program that --start starts [default: redis-server or memcached]
    #[arg(long, value_name = "PATH", requires = "start")]
    pub(super) server_program: Option<PathBuf>,
    /// A further argument for what --start starts; may be given several times
    #[arg(
        long,
        value_name = "ARG",
        requires = "start",
        allow_hyphen_values = true
    )]
    pub(super) server_arg: Vec<String>,
    /// Format of what our node is sent
    #[arg(long, value_enum, default_value_t = Format::Compact)]
    pub(super) format: Format,
    /// Keys: uniform:N, zipf:S:N, sequential:N, file:PATH, or - for standard input
    #[arg(long, default_value = "zipf:1.1:1000000")]
    pub(super) keys: KeySpec,
    /// Bytes of a key, where it is made; at most 139
    #[arg(long, default_value_t = DEFAULT_KEY_BYTES, value_parser = key_len)]
    pub(super) key_len: usize,
    /// A CR at the end of a line of a file or of standard input is the key's; without it lines end with LF or
    /// CR LF
    #[arg(long)]
    pub(super) keep_cr: bool,
    /// Seed of the keys
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Adds of a turn
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) adds: u64,
    /// Rounds: a turn of each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
    /// Counts of each server, one after the other
    #[arg(long, default_value_t = 50_000)]
    pub(super) counts: u64,
    /// Distinct keys after which memory is read, ascending, in servers started for that; 0 leaves it out
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    pub(super) distinct: Vec<u64>,
    /// Columns of our sketch
    #[arg(long, short = 'x', default_value_t = Geometry::DEFAULT.width() as u64)]
    pub(super) width: u64,
    /// Rows of our sketch
    #[arg(long, short = 'y', default_value_t = Geometry::DEFAULT.depth() as u64)]
    pub(super) depth: u64,
    /// Directory for the record, as JSON and as Markdown [default: benches/record in a checkout]
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) record: Option<PathBuf>,
}

impl VersusOptions {
    /// The directory for the record, if there is one.
    pub(super) fn record_directory(&self) -> Option<PathBuf> {
        let in_checkout = || {
            let records = Path::new(RECORDS);
            let is_checkout = records.parent().is_some_and(Path::is_dir);
            is_checkout.then(|| records.to_owned())
        };
        self.record.clone().or_else(in_checkout)
    }
}

/// Parses the length of keys, which both of our formats must carry.
fn key_len(text: &str) -> Result<usize, String> {
    let most = Format::Legacy.key_bytes_max();
    match text.parse() {
        Ok(bytes) if bytes <= most => Ok(bytes),
        _ => Err(format!(
            "keys of 1 to {most} bytes are compared, as both formats of rmbd carry them"
        )),
    }
}
