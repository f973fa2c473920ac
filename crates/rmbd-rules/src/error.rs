//! What is wrong with files of rules.

use std::fmt;

use granit_parser::Marker;
use thiserror::Error;

use crate::{
    COUNTER_KEY_BYTES_MAX, DESCRIPTORS_MAX, FILE_BYTES_MAX, FILES_MAX, LEVELS_MAX, NESTING_MAX,
    PART_BYTES_MAX, READ_BYTES_MAX, REPLACES_MAX, WILDCARDS_MAX,
};

/// Files of rules that were not understood. Nothing of them counts: whoever has older rules can keep them.
///
/// It reads `FILE:LINE:COLUMN: what is wrong: what to do`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}{}: {wrong}", at(*place))]
pub struct RulesError {
    file: Box<str>,
    place: Option<Place>,
    wrong: WrongRules,
}

impl RulesError {
    pub(crate) fn new(file: &str, Wrong(place, wrong): Wrong) -> Self {
        Self {
            file: file.into(),
            place,
            wrong,
        }
    }

    /// The name of the file.
    #[must_use]
    pub const fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1. None: the file is wrong as a whole.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.place.map(|place| place.line)
    }

    /// The column in that line, in characters from 1. None: the file is wrong as a whole.
    #[must_use]
    pub fn column(&self) -> Option<u32> {
        self.place.map(|place| place.column)
    }

    /// What is wrong there.
    #[must_use]
    pub const fn wrong(&self) -> &WrongRules {
        &self.wrong
    }
}

/// What is wrong with a file of rules. Texts of the file are cut to what a person reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WrongRules {
    /// There are too many files.
    #[error("there are more than {FILES_MAX} files: put rules of one domain into one file")]
    TooManyFiles,
    /// The file is too large.
    #[error("the file has more than {FILE_BYTES_MAX} bytes: split it by domains")]
    FileTooLarge,
    /// All files are too large together, or stand for too much.
    #[error(
        "all files together, with what their anchors stand for, have more than {READ_BYTES_MAX} bytes: write fewer"
    )]
    TooMuch,
    /// It is not YAML.
    #[error("this is not YAML: {0}")]
    Yaml(Box<str>),
    /// A second document begins.
    #[error("a second document begins here: give each domain a file of its own")]
    SecondDocument,
    /// A value has a tag.
    #[error("a tag (`!...`) has no meaning here: leave it out")]
    Tag,
    /// An alias stands in what it stands for.
    #[error("this alias stands for something that it is a part of: write it out")]
    Loop,
    /// Lists and mappings are too deep.
    #[error("more than {NESTING_MAX} lists and mappings stand in each other: write fewer levels")]
    TooDeep,
    /// Something else than a mapping.
    #[error("{0} has to be a mapping of keys to values")]
    NotMapping(What),
    /// Something else than a list.
    #[error("{0} has to be a list")]
    NotList(What),
    /// Something else than a text.
    #[error("{0} has to be a text, not a list or a mapping")]
    NotText(What),
    /// Something else than a truth value.
    #[error("{0} has to be true or false, without quotes")]
    NotFlag(What),
    /// Something else than a number.
    #[error("{0} has to be a whole number from 0 to 4294967295, in digits and without quotes")]
    NotNumber(What),
    /// A key of a mapping is no text.
    #[error("a key of a mapping has to be a word")]
    NotKey,
    /// A key of a mapping means nothing.
    #[error("{of} has no key `{key}`: it may have {known}")]
    UnknownKey {
        /// Where it stands.
        of: What,
        /// The key.
        key: Box<str>,
        /// Those that mean something there.
        known: &'static str,
    },
    /// A mapping has a key twice.
    #[error("`{0}` is there twice: leave one out")]
    RepeatedKey(Box<str>),
    /// A text is too long.
    #[error(
        "{0} has more than {PART_BYTES_MAX} bytes: shorten it, no counter's key has room for it"
    )]
    TooLong(What),
    /// There is no domain.
    #[error(
        "the file has no domain: give it a line such as `domain: my-proxy`, the one that requests name"
    )]
    NoDomain,
    /// Two files have one domain.
    #[error("the domain `{domain}` is that of {file}, too: put its rules into one file")]
    DuplicateDomain {
        /// The domain.
        domain: Box<str>,
        /// The other file.
        file: Box<str>,
    },
    /// A descriptor has no key.
    #[error("this descriptor has no key: give it the key of the pairs that it is for")]
    NoKey,
    /// The key of a descriptor has `*` in it.
    #[error("a descriptor's key has no wildcards, only its value has: write the whole key")]
    WildcardInKey,
    /// Two descriptors are the same.
    #[error("the descriptor `{path}` is there already, in line {line}: make one of both")]
    DuplicateDescriptor {
        /// Its path.
        path: Box<str>,
        /// The line of the first one, from 1.
        line: u32,
    },
    /// There are too many descriptors.
    #[error(
        "there are more than {DESCRIPTORS_MAX} descriptors: use wildcards, or keys without values"
    )]
    TooManyDescriptors,
    /// A descriptor is too deep.
    #[error(
        "more than {LEVELS_MAX} descriptors stand one below the other: no request has so many pairs"
    )]
    TooManyLevels,
    /// A key has too many values with wildcards at one place.
    #[error(
        "more than {WILDCARDS_MAX} values with `*` stand here for one key: each may be tried for each request"
    )]
    TooManyWildcards,
    /// Whatever meets the descriptor has a counter's key that is too long.
    #[error(
        "what meets this has a counter's key of more than {COUNTER_KEY_BYTES_MAX} bytes: shorten keys and values"
    )]
    CounterKeyTooLong,
    /// A rule has no unit.
    #[error(
        "the rate_limit has no unit: give it second, minute, hour, day or week, or `unlimited: true`"
    )]
    NoUnit,
    /// A unit that means nothing.
    #[error("there is no unit `{0}`: use second, minute, hour, day or week")]
    UnknownUnit(Box<str>),
    /// A unit that is too long.
    #[error(
        "a {0} is too long, rmbd keeps windows of up to a week: use second, minute, hour, day or week"
    )]
    LongUnit(&'static str),
    /// A rule has no number of requests.
    #[error("the rate_limit has no requests_per_unit: say how many; 0 lets nothing pass")]
    NoRequests,
    /// A rule without a limit has one.
    #[error("the rate_limit has `unlimited: true`, and {0}: leave one of them out")]
    LimitOfUnlimited(What),
    /// A rule is in shadow mode that is not there.
    #[error(
        "shadow_mode is that of a rate_limit, and there is none: set it where the rate_limit is"
    )]
    ShadowOfNothing,
    /// Something that rmbd does not do.
    #[error("rmbd has no {0}: leave it out, or set it to false")]
    Unsupported(What),
    /// A name of `replaces` is empty.
    #[error(
        "an entry of `replaces` has no name: give it the name of a rate_limit that it replaces"
    )]
    ReplacesNothing,
    /// A rule replaces itself.
    #[error("a rate_limit cannot replace itself: its own name is in `replaces`")]
    ReplacesItself,
    /// A rule replaces too many.
    #[error("a rate_limit replaces more than {REPLACES_MAX} others: give those the same name")]
    TooManyReplaced,
}

/// What something in a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct What(pub(crate) &'static str);

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What is wrong in a file that is known to the caller, and where.
#[derive(Debug)]
pub(crate) struct Wrong(pub(crate) Option<Place>, pub(crate) WrongRules);

impl From<WrongRules> for Wrong {
    fn from(wrong: WrongRules) -> Self {
        Self(None, wrong)
    }
}

/// A place in a file: line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    pub(crate) fn of(marker: &Marker) -> Self {
        // A file has fewer bytes than that.
        Self {
            line: marker.line() as u32,
            column: marker.col() as u32 + 1,
        }
    }

    pub(crate) const fn wrong(self, wrong: WrongRules) -> Wrong {
        Wrong(Some(self), wrong)
    }
}

fn at(place: Option<Place>) -> String {
    place.map_or_else(String::new, |Place { line, column }| {
        format!(":{line}:{column}")
    })
}

/// A text of a file as it is shown to a person: in one line, and not too long for it.
pub(crate) fn shown(text: &str) -> Box<str> {
    const SHOWN_CHARS_MAX: usize = 80;
    let mut chars = text.chars();
    let shown = chars.by_ref().take(SHOWN_CHARS_MAX);
    let shown = shown.flat_map(|it| match it {
        // What `escape_debug` would escape beside control characters belongs to words such as `it's`.
        _ if it.is_control() => it.escape_debug().collect::<Vec<_>>(),
        _ => vec![it],
    });
    let mut shown: String = shown.collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown.into()
}
