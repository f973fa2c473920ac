//! Writing results: figures for people, and files that are whole.

mod files;
#[cfg(test)]
pub(crate) mod testing;
mod units;

pub(crate) use self::files::OutputError;
pub(crate) use self::files::{check_directory, check_file, make_directory, write_json, write_text};
pub(crate) use self::units::{
    bytes, digits, exact, seconds, share, thousands, time_ns, without_empty_decimals,
};
