//! The configuration file: TOML whose keys are the long options, and tables for sketches and limits.
//!
//! ```toml
//! address = "0.0.0.0:8000"
//! threads = 4
//! join = ["10.0.0.1:8001", "10.0.0.2:8001"]
//!
//! [[sketch]]
//! name = "logins"
//! epsilon = 1e-5
//! [[sketch.window]]
//! span = "1h"
//! step = "5m"
//! width = 65536
//!
//! [[limit]]
//! name = "api"
//! sketch = "logins"
//! amounts = ["1000/1h"]
//! exempt = ["10.0.0.0/8"]
//! ```
//!
//! The values of options are not checked here: they go through the parsers of the command line.

mod fields;
pub(super) mod limits;
mod place;
pub(super) mod sketches;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use clap::{ArgAction, Args, Command};
use toml::de::{DeTable, DeValue};

use self::fields::{Value, check_keys, kind, list, text};
pub(crate) use self::limits::LimitWish;
use self::place::Places;
pub use self::place::{FileError, Place};
pub(crate) use self::sketches::PlacedSketch;
use super::NodeOptions;

/// Bytes of the largest file. As many limits as there may be, with all their overrides, take half of it.
pub const FILE_BYTES_MAX: u64 = 8 << 20;

/// Keys of tables, beside those that are options.
const SKETCH: &str = "sketch";
const LIMIT: &str = "limit";
/// The id of the option that names the file, which is no key of it.
const CONFIG_ID: &str = "config_file";

/// A configuration file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConfigFile {
    pub(super) options: Vec<FileOption>,
    pub(super) sketches: Vec<PlacedSketch>,
    pub(super) limits: Vec<LimitWish>,
}

/// An option in a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FileOption {
    /// The id of its argument.
    pub(super) id: String,
    pub(super) key: String,
    pub(super) place: Place,
    /// Its values as they would stand on the command line.
    pub(super) values: Vec<String>,
    /// What stands on the command line in its place.
    pub(super) words: Vec<OsString>,
}

/// An option that a file may have.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) name: String,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Flag,
    Positional,
    One,
    List,
}

/// All options that a file may have, from the arguments of a node.
pub(super) fn keys() -> Vec<Key> {
    let command = NodeOptions::augment_args(Command::new("rmbd"));
    let args = command
        .get_arguments()
        .filter(|arg| ![CONFIG_ID, SKETCH].contains(&arg.get_id().as_str()));
    args.map(|arg| Key {
        id: arg.get_id().to_string(),
        name: arg
            .get_long()
            .unwrap_or_else(|| arg.get_id().as_str())
            .to_owned(),
        shape: match arg.get_action() {
            ArgAction::SetTrue => Shape::Flag,
            ArgAction::Append => Shape::List,
            _ if arg.is_positional() => Shape::Positional,
            _ => Shape::One,
        },
    })
    .collect()
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Fails if it cannot be read, is no TOML, or has keys that are not known.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = bytes(path).map_err(|problem| FileError::Unreadable {
            path: path.into(),
            problem: problem.to_string(),
        })?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(path, text),
            Err(error) => {
                let (valid, _) = bytes.split_at(error.valid_up_to());
                let valid = std::str::from_utf8(valid).unwrap_or_default();
                let problem = "not UTF-8, as TOML is: save the file as UTF-8";
                Err(Places::new(path, valid).error(&(valid.len()..valid.len()), problem))
            }
        }
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let places = Places::new(path, text);
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            places.error(&span, format!("no TOML: {}", error.message()))
        })?;
        let (table, keys) = (table.get_ref(), keys());
        let names = keys.iter().map(|key| &*key.name);
        let known = names.chain([SKETCH, LIMIT]);
        check_keys(&places, table, "the configuration", known)?;
        let mut options = Vec::new();
        for key in &keys {
            if let Some((name, value)) = table.get_key_value(&*key.name) {
                let place = places.of(&name.span());
                options.push(option(&places, key, place, value)?);
            }
        }
        let sketches = tables(&places, SKETCH, table)?;
        let limits = tables(&places, LIMIT, table)?;
        Ok(Self {
            options,
            sketches: sketches::read(&places, sketches)?,
            limits: limits::read(&places, limits)?,
        })
    }
}

/// Reads a file of at most [`FILE_BYTES_MAX`].
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::other(format!(
            "it has more than {FILE_BYTES_MAX} bytes"
        ))),
        false => Ok(bytes),
    }
}

/// The elements of a list of tables.
fn tables<'t, 'd>(
    places: &Places<'_>,
    key: &str,
    table: &'t DeTable<'d>,
) -> Result<&'t [Value<'d>], FileError> {
    let Some(value) = table.get(key) else {
        return Ok(&[]);
    };
    match value.get_ref() {
        DeValue::Array(list) => Ok(list),
        _ => {
            let problem = format!(
                "`{key}` is a list of tables, not {}: write [[{key}]]",
                kind(value)
            );
            Err(places.error(&value.span(), problem))
        }
    }
}

fn option(
    places: &Places<'_>,
    key: &Key,
    place: Place,
    value: &Value<'_>,
) -> Result<FileOption, FileError> {
    let name = &*key.name;
    let one = |value: &Value<'_>| {
        text(value).ok_or_else(|| {
            let problem = format!("`{name}` takes a text or a number, not {}", kind(value));
            places.error(&value.span(), problem)
        })
    };
    let values = match (key.shape, value.get_ref()) {
        (Shape::Flag, DeValue::Boolean(is_on)) => vec![is_on.to_string()],
        (Shape::Flag, _) => {
            let problem = format!("`{name}` is true or false, not {}", kind(value));
            return Err(places.error(&value.span(), problem));
        }
        (Shape::List, _) => list(places, name, value)?
            .iter()
            .map(one)
            .collect::<Result<_, _>>()?,
        (Shape::One | Shape::Positional, _) => vec![one(value)?],
    };
    let words = match key.shape {
        Shape::Flag if values == ["true"] => vec![format!("--{name}").into()],
        Shape::Flag => Vec::new(),
        Shape::Positional => {
            let address = super::options::listen_address(&values[0]);
            let address = address
                .map_err(|error| places.error(&value.span(), format!("`{name}`: {error}")))?;
            vec![address.into()]
        }
        Shape::One | Shape::List => values
            .iter()
            .map(|value| format!("--{name}={value}").into())
            .collect(),
    };
    Ok(FileOption {
        id: key.id.clone(),
        key: key.name.clone(),
        place,
        values,
        words,
    })
}
