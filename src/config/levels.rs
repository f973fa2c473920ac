//! Where the values of a node's options come from: the command line, over `RMBD_` variables, over the configuration
//! file, over defaults.
//!
//! A level that gives an option takes precedence over lower ones, and what contradicts that option at lower levels
//! does not count: `--epsilon` on the command line takes the place of `width` in the file, `--cluster off` that of
//! `join`, and `-x` that of `compat`. At one level options that contradict each other are an error.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use super::environment::{self, Misread, empty_variables, variables, without};
use super::file::{self, ConfigFile, FileOption, LimitWish, Place, PlacedSketch};
use super::sketches::SketchWish;
use super::{NodeConfig, NodeOptions};
use rmbd_proto::SketchName;

/// A command line that may have a node's options, and then a configuration file.
pub trait Layered: CommandFactory + FromArgMatches {
    /// The node's options, if the command has them.
    fn node(&mut self) -> Option<&mut NodeOptions>;
}

/// What is known of a node's options beside their values: where each comes from, and what only a file can give.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origins {
    sources: BTreeMap<String, Source>,
    /// Sketches of flags or variables.
    sketch_names: Vec<SketchName>,
    pub(super) sketches: Vec<PlacedSketch>,
    pub(super) limits: Vec<LimitWish>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// A variable of this name.
    Variable(String),
    /// A configuration file.
    File(Place),
    /// Nobody has said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => f.write_str(name),
            Self::File(place) => place.fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Origins {
    /// Where the value of an option comes from, by the option's long name.
    #[must_use]
    pub fn of(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    /// Where a sketch comes from.
    #[must_use]
    pub fn of_sketch(&self, name: &SketchName) -> Source {
        let placed = self.sketches.iter().find(|it| it.wish.name == *name);
        match placed {
            Some(placed) => Source::File(placed.place.clone()),
            None if self.sketch_names.contains(name) => self.of("sketch"),
            None => Source::Default,
        }
    }

    /// Where a sketch that is in no flag and no variable stands.
    pub(super) fn place_of(&self, sketch: &SketchWish) -> Option<&Place> {
        let placed = self.sketches.iter().find(|it| it.wish == *sketch);
        placed.map(|placed| &placed.place)
    }
}

/// Parses `words` (the program's name first), the environment and the configuration file that these name as a `C`,
/// and passes the result to `check`.
///
/// # Errors
/// Fails with [`Misread`]. The error names the variables and the places in the file without which it would be another
/// error, or none.
pub fn read<C: Layered, T>(
    words: &[OsString],
    check: impl Fn(C) -> Result<T, String>,
) -> Result<T, Misread> {
    let unset = empty_variables(&C::command());
    let line = Line { words, unset };
    let file = match line.file::<C>() {
        Ok(file) => file,
        Err(misread) => {
            return Err(line.blame::<C>(misread, None, |left| line.file_without::<C>(left)));
        }
    };
    let file = file.as_deref();
    match line.attempt(&LeftOut::default(), file, &check) {
        Ok(value) => Ok(value),
        Err(misread) if misread.asks_for_help() => environment::read(words, check),
        Err(misread) => Err(line.blame::<C>(misread, file, |left| {
            line.attempt(left, file, &check).map(drop)
        })),
    }
}

/// Parses a configuration file alone, as if there were neither flags nor variables.
///
/// # Errors
/// The text of the error, with its place.
fn read_file<C: Layered, T>(
    path: &OsStr,
    check: impl Fn(C) -> Result<T, String>,
) -> Result<T, String> {
    let words = ["rmbd".into(), "--config".into(), path.to_owned()];
    let line = Line {
        words: &words,
        unset: variables(&C::command()),
    };
    let text = |misread: Misread| misread.line();
    let file = line.file::<C>().map_err(text)?;
    let file = file.as_deref();
    line.attempt(&LeftOut::default(), file, &check)
        .map_err(|misread| {
            line.blame::<C>(misread, file, |left| {
                line.attempt(left, file, &check).map(drop)
            })
            .line()
        })
}

/// What an attempt does without, to find out what is at fault.
#[derive(Debug, Clone, Default)]
struct LeftOut {
    variables: BTreeSet<OsString>,
    keys: BTreeSet<String>,
}

struct Line<'w> {
    words: &'w [OsString],
    /// Variables that count as unset.
    unset: BTreeSet<OsString>,
}

impl Line<'_> {
    /// The file that the command line and the environment name.
    fn file<C: Layered>(&self) -> Result<Option<Arc<ConfigFile>>, Misread> {
        let (_, mut parsed) = self.parse::<C>(self.words, &self.unset)?;
        let path = parsed.node().and_then(|node| node.config_file.as_ref());
        let file = path.map(|path| ConfigFile::read(path)).transpose();
        let file = file.map_err(|error| Misread::Refused(error.to_string()))?;
        Ok(file.map(Arc::new))
    }

    fn file_without<C: Layered>(&self, left: &LeftOut) -> Result<(), Misread> {
        let line = Self {
            words: self.words,
            unset: self.unset.union(&left.variables).cloned().collect(),
        };
        line.file::<C>().map(drop)
    }

    fn parse<C: Layered>(
        &self,
        words: &[OsString],
        unset: &BTreeSet<OsString>,
    ) -> Result<(ArgMatches, C), Misread> {
        let mut command = without(C::command(), unset);
        let matches = command.try_get_matches_from_mut(words);
        let parsed = matches.and_then(|matches| Ok((C::from_arg_matches(&matches)?, matches)));
        let parsed = parsed.map_err(|error| Misread::Usage(error.format(&mut command)));
        parsed.map(|(parsed, matches)| (matches, parsed))
    }

    fn attempt<C: Layered, T>(
        &self,
        left: &LeftOut,
        file: Option<&ConfigFile>,
        check: &impl Fn(C) -> Result<T, String>,
    ) -> Result<T, Misread> {
        let mut unset: BTreeSet<_> = self.unset.union(&left.variables).cloned().collect();
        let (matches, mut parsed) = self.parse::<C>(self.words, &unset)?;
        if parsed.node().is_none() {
            return check(parsed).map_err(Misread::Refused);
        }
        let (depth, matches) = innermost(&matches);
        let layers = Layers::new(matches, left, file);
        unset.extend(layers.variables_that_do_not_count());
        let mut words = self.words.to_vec();
        let behind = (1 + depth).min(words.len());
        words.splice(behind..behind, layers.words_of_file());
        let (_, mut parsed) = self.parse::<C>(&words, &unset)?;
        if let Some(node) = parsed.node() {
            node.origins = layers.origins();
        }
        check(parsed).map_err(Misread::Refused)
    }

    /// Adds to an error what is at fault: the variables and the keys of the file without which it is another.
    fn blame<C: Layered>(
        &self,
        misread: Misread,
        file: Option<&ConfigFile>,
        attempt: impl Fn(&LeftOut) -> Result<(), Misread>,
    ) -> Misread {
        let is_other =
            |left: &LeftOut| attempt(left).err().map(|other| other.text()) != Some(misread.text());
        let set = variables(&C::command());
        let set = set
            .difference(&self.unset)
            .filter(|name| std::env::var_os(name).is_some());
        let variables = set.filter(|name| {
            is_other(&LeftOut {
                variables: BTreeSet::from([(*name).clone()]),
                ..LeftOut::default()
            })
        });
        let keys = file.into_iter().flat_map(|file| &file.options);
        let keys = keys.filter(|option| {
            is_other(&LeftOut {
                keys: BTreeSet::from([option.key.clone()]),
                ..LeftOut::default()
            })
        });
        let variables = variables.map(|name| name.to_string_lossy().into_owned());
        let keys = keys.map(|option| format!("`{}` at {}", option.key, option.place));
        let at_fault: Vec<_> = variables.chain(keys).collect();
        misread.naming(&at_fault.join(", "), &C::command())
    }
}

/// The number of subcommands that were given, and the matches of the last.
fn innermost(matches: &ArgMatches) -> (usize, &ArgMatches) {
    match matches.subcommand() {
        Some((_, inner)) => {
            let (depth, matches) = innermost(inner);
            (depth + 1, matches)
        }
        None => (0, matches),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    File,
    Variable,
    Flag,
}

/// An option that somebody gave.
struct Given {
    id: String,
    level: Level,
    values: Vec<String>,
    /// Whether it says more than the default does; `--compat` may be given as false.
    is_on: bool,
}

/// A word of an option, or any.
type Word = (&'static str, Option<&'static str>);

const SIZE: [Word; 2] = [("width", None), ("depth", None)];
const ERROR: [Word; 2] = [("epsilon", None), ("confidence", None)];
const COMPAT: [Word; 1] = [("compat", None)];
/// The size in a sketch of the name `default`, which is no option by itself.
const SIZE_OF_DEFAULT: [Word; 1] = [("size of the sketch default", None)];

/// Options that contradict each other: each of the one list with each of the other.
const CONTRADICTIONS: &[(&[Word], &[Word])] = &[
    (&SIZE, &ERROR),
    (&COMPAT, &SIZE),
    (&COMPAT, &ERROR),
    (&COMPAT, &[("hash", None), ("seed", None)]),
    (&[("hash", Some("fnv"))], &[("seed", None)]),
    (&SIZE_OF_DEFAULT, &SIZE),
    (&SIZE_OF_DEFAULT, &ERROR),
    (&SIZE_OF_DEFAULT, &COMPAT),
    (
        &[("cluster", Some("off"))],
        &[
            ("join", None),
            ("advertise", None),
            ("cluster_key_file", None),
            ("insecure_cluster", None),
        ],
    ),
];

impl Given {
    fn is(&self, &(id, value): &Word) -> bool {
        self.id == id && value.is_none_or(|value| self.values.iter().any(|it| it == value))
    }

    fn contradicts(&self, other: &Self) -> bool {
        let has = |words: &[Word], given: &Self| words.iter().any(|word| given.is(word));
        self.is_on
            && other.is_on
            && CONTRADICTIONS.iter().any(|(ones, others)| {
                (has(ones, self) && has(others, other)) || (has(others, self) && has(ones, other))
            })
    }
}

/// All that is given, without what does not count.
struct Layers<'f> {
    counts: Vec<Given>,
    dropped: Vec<Given>,
    file: Vec<&'f FileOption>,
    sketch_names: Vec<SketchName>,
    sketches: Vec<PlacedSketch>,
    limits: Vec<LimitWish>,
}

impl<'f> Layers<'f> {
    fn new(matches: &ArgMatches, left: &LeftOut, file: Option<&'f ConfigFile>) -> Self {
        let mut given: Vec<Given> = NodeOptions::ids()
            .filter_map(|id| of_line(matches, &id))
            .collect();
        let is_given = |id: &str| given.iter().any(|given| given.id == id);
        let options = file.into_iter().flat_map(|file| &file.options);
        let file_options: Vec<_> = options
            .filter(|option| !left.keys.contains(&option.key) && !is_given(&option.id))
            .collect();
        let wishes: Vec<SketchWish> = given
            .iter()
            .filter(|given| given.id == "sketch")
            .flat_map(|given| &given.values)
            .filter_map(|value| SketchWish::from_str(value).ok())
            .collect();
        let mut sketches = file.map_or_else(Vec::new, |file| file.sketches.clone());
        sketches.retain(|placed| wishes.iter().all(|wish| wish.name != placed.wish.name));
        given.extend(file_options.iter().map(|option| of_file(option)));
        let of_flags = given.iter().find(|given| given.id == "sketch");
        let of_flags = of_flags.map_or(Level::File, |given| given.level);
        let of_file = sketches.iter().map(|placed| (Level::File, &placed.wish));
        let size = (wishes.iter().map(|wish| (of_flags, wish)))
            .chain(of_file)
            .find(|(_, wish)| wish.is_default() && wish.has_size());
        given.extend(size.map(|(level, _)| Given {
            id: SIZE_OF_DEFAULT[0].0.to_owned(),
            level,
            values: Vec::new(),
            is_on: true,
        }));
        let (counts, dropped) = weigh(given);
        let is_dropped = |id: &str| dropped.iter().any(|dropped| dropped.id == id);
        if is_dropped(SIZE_OF_DEFAULT[0].0) {
            let default = sketches.iter_mut().filter(|it| it.wish.is_default());
            default.for_each(|placed| placed.wish.forget_size());
        }
        let file_options = file_options.into_iter();
        Self {
            file: file_options.filter(|it| !is_dropped(&it.id)).collect(),
            limits: file.map_or_else(Vec::new, |file| file.limits.clone()),
            sketch_names: wishes.into_iter().map(|wish| wish.name).collect(),
            counts,
            dropped,
            sketches,
        }
    }

    fn variables_that_do_not_count(&self) -> impl Iterator<Item = OsString> {
        let dropped = self.dropped.iter();
        let dropped = dropped.filter(|given| given.level == Level::Variable);
        dropped.filter_map(|given| NodeOptions::variable(&given.id))
    }

    fn words_of_file(&self) -> Vec<OsString> {
        self.file
            .iter()
            .flat_map(|option| option.words.iter().cloned())
            .collect()
    }

    fn origins(self) -> Origins {
        let of_line = self.counts.iter().filter_map(|given| {
            let source = match given.level {
                Level::Flag => Source::Flag,
                Level::Variable => {
                    let name = NodeOptions::variable(&given.id)?;
                    Source::Variable(name.to_string_lossy().into_owned())
                }
                Level::File => return None,
            };
            Some((NodeOptions::key(&given.id), source))
        });
        let of_file = self.file.iter();
        let of_file = of_file.map(|it| (it.key.clone(), Source::File(it.place.clone())));
        Origins {
            sources: of_line.chain(of_file).collect(),
            sketch_names: self.sketch_names,
            sketches: self.sketches,
            limits: self.limits,
        }
    }
}

/// Splits what is given into what counts and what a higher level contradicts.
fn weigh(mut given: Vec<Given>) -> (Vec<Given>, Vec<Given>) {
    given.sort_by_key(|given| std::cmp::Reverse(given.level));
    let (mut counts, mut dropped): (Vec<Given>, _) = (Vec::new(), Vec::new());
    for given in given {
        let is_contradicted = counts
            .iter()
            .any(|higher| higher.level > given.level && higher.contradicts(&given));
        if is_contradicted {
            dropped.push(given);
        } else {
            counts.push(given);
        }
    }
    (counts, dropped)
}

/// What the command line or a variable gives for an option.
fn of_line(matches: &ArgMatches, id: &str) -> Option<Given> {
    let level = match matches.value_source(id)? {
        ValueSource::CommandLine => Level::Flag,
        ValueSource::EnvVariable => Level::Variable,
        _ => return None,
    };
    let flag = matches.try_get_one::<bool>(id).ok().flatten();
    let values = matches.get_raw(id)?;
    Some(Given {
        id: id.to_owned(),
        level,
        values: values.map(|it| it.to_string_lossy().into_owned()).collect(),
        is_on: flag.is_none_or(|is_on| *is_on),
    })
}

fn of_file(option: &FileOption) -> Given {
    Given {
        id: option.id.clone(),
        level: Level::File,
        values: option.values.clone(),
        is_on: !option.values.is_empty() && option.values != ["false"],
    }
}

impl NodeOptions {
    fn command_with_its_arguments() -> Command {
        <Self as clap::Args>::augment_args(Command::new("rmbd"))
    }

    /// The ids of all arguments.
    fn ids() -> impl Iterator<Item = String> {
        let command = Self::command_with_its_arguments();
        let ids: Vec<_> = command
            .get_arguments()
            .map(|arg| arg.get_id().to_string())
            .collect();
        ids.into_iter()
    }

    /// The variable of an argument.
    fn variable(id: &str) -> Option<OsString> {
        let command = Self::command_with_its_arguments();
        let arg = command.get_arguments().find(|arg| arg.get_id() == id)?;
        arg.get_env().map(OsStr::to_owned)
    }

    /// The key of an argument: its long name.
    fn key(id: &str) -> String {
        let keys = file::keys();
        let key = keys.into_iter().find(|key| key.id == id);
        key.map_or_else(|| id.to_owned(), |key| key.name)
    }
}

/// A command line with nothing but a node's options.
#[derive(Debug, clap::Parser)]
#[command(name = "rmbd")]
pub(super) struct OptionsOnly {
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

impl Layered for OptionsOnly {
    fn node(&mut self) -> Option<&mut NodeOptions> {
        Some(&mut self.node)
    }
}

/// The configuration that a file makes, without flags and variables.
///
/// # Errors
/// The text of the error, with its place.
pub fn config_of_file(path: &OsStr) -> Result<NodeConfig, String> {
    read_file(path, |line: OptionsOnly| {
        super::check_log_filter(&line.node.log)?;
        NodeConfig::from_options(line.node).map_err(|error| error.to_string())
    })
}
