//! The fields of one table of a configuration file.

use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::place::{FileError, Place, Places};
use crate::config::nearest::advice;

pub(super) type Value<'d> = Spanned<DeValue<'d>>;

/// A table whose keys are all known.
pub(super) struct Fields<'t, 'd> {
    pub(super) places: &'t Places<'d>,
    table: &'t DeTable<'d>,
    /// Where the table begins.
    span: Range<usize>,
}

impl<'t, 'd> Fields<'t, 'd> {
    /// The fields of a table that is `what`, such as `a sketch`.
    pub(super) fn of(
        places: &'t Places<'d>,
        value: &'t Value<'d>,
        what: &str,
        known: &[&str],
    ) -> Result<Self, FileError> {
        let DeValue::Table(table) = value.get_ref() else {
            let problem = format!("{what} is a table, not {}", kind(value));
            return Err(places.error(&value.span(), problem));
        };
        check_keys(places, table, what, known.iter().copied())?;
        Ok(Self {
            places,
            table,
            span: value.span(),
        })
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> Place {
        self.places.of(&self.span)
    }

    pub(super) fn value(&self, key: &str) -> Option<&'t Value<'d>> {
        self.table.get(key)
    }

    /// The value, or an error that says that there has to be one.
    pub(super) fn required(&self, key: &str, such_as: &str) -> Result<&'t Value<'d>, FileError> {
        let problem = || format!("`{key}` is missing: write {key} = {such_as}");
        self.value(key)
            .ok_or_else(|| self.places.error(&self.span, problem()))
    }

    /// What the text or number of a key means.
    pub(super) fn parsed<T>(&self, key: &str) -> Result<Option<T>, FileError>
    where
        T: FromStr<Err: Display>,
    {
        self.parsed_by(key, T::from_str)
    }

    /// What the text or number of a key means to this parser.
    pub(super) fn parsed_by<T, E: Display>(
        &self,
        key: &str,
        parser: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, FileError> {
        self.value(key)
            .map(|value| parse(self.places, key, value, parser))
            .transpose()
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, FileError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Boolean(is_on) => Ok(Some(*is_on)),
            _ => {
                let problem = format!("`{key}` is true or false, not {}", kind(value));
                Err(self.places.error(&value.span(), problem))
            }
        }
    }

    /// The elements of a list.
    pub(super) fn list(&self, key: &str) -> Result<Option<&'t [Value<'d>]>, FileError> {
        self.value(key)
            .map(|value| list(self.places, key, value))
            .transpose()
    }
}

/// Refuses keys that are not known.
pub(super) fn check_keys<'n>(
    places: &Places<'_>,
    table: &DeTable<'_>,
    what: &str,
    known: impl Iterator<Item = &'n str> + Clone,
) -> Result<(), FileError> {
    let unknown = table
        .keys()
        .filter(|key| !known.clone().any(|name| name == key.get_ref()));
    match unknown.min_by_key(|key| key.span().start) {
        None => Ok(()),
        Some(key) => {
            let name = key.get_ref();
            let shown: String = name.chars().take(64).collect();
            let problem = format!("{what} has no key {shown:?}: {}", advice(name, known));
            Err(places.error(&key.span(), problem))
        }
    }
}

/// Parses the text or number of a key.
pub(super) fn parse<T, E: Display>(
    places: &Places<'_>,
    key: &str,
    value: &Value<'_>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, FileError> {
    let text = text(value).ok_or_else(|| {
        let problem = format!("`{key}` is a text or a number, not {}", kind(value));
        places.error(&value.span(), problem)
    })?;
    parse(&text).map_err(|error| places.error(&value.span(), format!("`{key}`: {error}")))
}

pub(super) fn list<'t, 'd>(
    places: &Places<'_>,
    key: &str,
    value: &'t Value<'d>,
) -> Result<&'t [Value<'d>], FileError> {
    match value.get_ref() {
        DeValue::Array(list) => Ok(list),
        _ => {
            let problem = format!("`{key}` is a list in [ ], not {}", kind(value));
            Err(places.error(&value.span(), problem))
        }
    }
}

/// A text or a number as it would stand on the command line.
pub(super) fn text(value: &Value<'_>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            Some(decimal.map_or_else(|_| number.to_string(), |decimal| decimal.to_string()))
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// What a value is, for errors.
pub(super) fn kind(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
