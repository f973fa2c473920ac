//! Environment variables of options. An empty variable counts as unset, as container files have it (`RMBD_JOIN=`),
//! and errors name a variable that is wrong.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};

/// Why a command line and its environment are not accepted.
#[derive(Debug)]
pub enum Misread {
    /// They cannot be parsed, or ask for help.
    Usage(clap::Error),
    /// The check refused them.
    Refused(String),
}

/// Parses `words` (the program's name first) and the environment as a `C`, and passes the result to `check`.
///
/// # Errors
/// Fails with [`Misread`]. The error names the variables without which it would be another error, or none.
pub fn read<C: CommandFactory + FromArgMatches, T>(
    words: &[OsString],
    check: impl Fn(C) -> Result<T, String>,
) -> Result<T, Misread> {
    let unset = empty_variables(&C::command());
    let attempt = |unset: &BTreeSet<OsString>| attempt(words, unset, &check);
    let misread = match attempt(&unset) {
        Ok(value) => return Ok(value),
        Err(misread) => misread,
    };
    if misread.asks_for_help() {
        // All variables are in the help, even empty ones.
        return attempt(&BTreeSet::new());
    }
    let is_at_fault = |name: &OsString| {
        let mut without = unset.clone();
        without.insert(name.clone());
        attempt(&without).err().map(|other| other.text()) != Some(misread.text())
    };
    let set = variables(&C::command());
    let at_fault: Vec<String> = set
        .difference(&unset)
        .filter(|name| std::env::var_os(name).is_some() && is_at_fault(name))
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    Err(misread.naming(&at_fault.join(", "), &C::command()))
}

fn attempt<C: CommandFactory + FromArgMatches, T>(
    words: &[OsString],
    unset: &BTreeSet<OsString>,
    check: &impl Fn(C) -> Result<T, String>,
) -> Result<T, Misread> {
    let mut command = without(C::command(), unset);
    let matches = command.try_get_matches_from_mut(words);
    let read = matches.and_then(|mut matches| C::from_arg_matches_mut(&mut matches));
    let read = read.map_err(|error| Misread::Usage(error.format(&mut command)))?;
    check(read).map_err(Misread::Refused)
}

impl Misread {
    pub(super) fn asks_for_help(&self) -> bool {
        let Self::Usage(error) = self else {
            return false;
        };
        matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        )
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Usage(error) => error.to_string(),
            Self::Refused(text) => text.clone(),
        }
    }

    /// The error in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let text = self.text();
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("error: ").unwrap_or(first).to_owned()
    }

    pub(super) fn naming(self, variables: &str, command: &Command) -> Self {
        if variables.is_empty() {
            return self;
        }
        match self {
            Self::Refused(text) => Self::Refused(format!("{text}; set by {variables}")),
            Self::Usage(error) => Self::Usage(named(error, variables, command)),
        }
    }
}

/// Adds the variables to an error: beside the option if it is about that option's value, and else behind the text.
fn named(mut error: clap::Error, variables: &str, command: &Command) -> clap::Error {
    let is_value = matches!(
        error.kind(),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation
    );
    if is_value && let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) {
        let arg = ContextValue::String(format!("{arg}, set by {variables}"));
        error.insert(ContextKind::InvalidArg, arg);
        return error;
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let text = format!("{first}; set by {variables}\n");
    clap::Error::raw(error.kind(), text).with_cmd(command)
}

/// The command, and those below it, without these variables.
pub(super) fn without(command: Command, unset: &BTreeSet<OsString>) -> Command {
    if unset.is_empty() {
        return command;
    }
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if unset.contains(name) => arg.env(Resettable::Reset),
            _ => arg,
        })
        .mut_subcommands(|command| without(command, unset))
}

/// All variables that the command, and those below it, read.
pub(super) fn variables(command: &Command) -> BTreeSet<OsString> {
    let own = command.get_arguments().filter_map(|arg| arg.get_env());
    let own = own.map(OsStr::to_owned);
    own.chain(command.get_subcommands().flat_map(variables))
        .collect()
}

pub(super) fn empty_variables(command: &Command) -> BTreeSet<OsString> {
    let mut names = variables(command);
    names.retain(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
    names
}
