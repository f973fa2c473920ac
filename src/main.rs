//! The `rmbd` binary.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rmbd::cli::{self, Cli, Command, ConfigCommand, Done, Streams};
use rmbd::config::environment::Misread;
use rmbd::config::{self, NodeConfig, NodeOptions, check_log_filter};
use rmbd::node::{self, Reload, Reread};
use rmbd_console::{self as console, FAILURE, Notes, READER_GONE, WRONG_USAGE};
use rmbd_io::limits;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of a hit that is over its limit.
const OVER_LIMIT: u8 = 3;

fn main() -> ExitCode {
    if !limits::has_room_to_begin() {
        return ExitCode::from(FAILURE);
    }
    let _console = console::open();
    let words: Vec<_> = std::env::args_os().collect();
    match config::read(&words, Task::of) {
        Ok(Task::Command(command)) => match cli::run(&command, Streams::standard()) {
            Ok(Done::AsAsked) => ExitCode::SUCCESS,
            Ok(Done::OverLimit) => ExitCode::from(OVER_LIMIT),
            Ok(Done::ReaderGone) => ExitCode::from(READER_GONE),
            Err(error) if error.is_of_rules() => complain(&error, WRONG_USAGE),
            Err(error) => complain(&error, FAILURE),
        },
        Ok(Task::Node(settings)) => node_main(*settings, words),
        Err(Misread::Usage(error)) => console::usage(&error),
        Err(Misread::Refused(error)) => complain(&error, WRONG_USAGE),
    }
}

/// The task that the command line asks for.
enum Task {
    Command(Box<Command>),
    Node(Box<Settings>),
}

/// The settings of a node that is a program.
struct Settings {
    config: NodeConfig,
    log: String,
    /// The file that some of it comes from.
    file: Option<PathBuf>,
}

impl Task {
    fn of(Cli { command, node }: Cli) -> Result<Self, String> {
        let Some(command) = command else {
            return Ok(Self::Node(Box::new(Settings::of(node)?)));
        };
        command.check()?;
        if let Command::Config(ConfigCommand::Show(options)) = &command {
            Settings::of(options.node.clone())?;
        }
        Ok(Self::Command(Box::new(command)))
    }
}

impl Settings {
    fn of(node: NodeOptions) -> Result<Self, String> {
        check_log_filter(&node.log)?;
        let (log, file) = (node.log.clone(), node.config_file.clone());
        let config = NodeConfig::from_options(node).map_err(|error| error.to_string())?;
        Ok(Self { config, log, file })
    }
}

fn node_main(settings: Settings, words: Vec<OsString>) -> ExitCode {
    let Settings { config, log, file } = settings;
    let set_log = open_log(&log);
    let has_files =
        file.is_some() || config.envoy.rules.are_given() || config.cluster.key_file.is_some();
    let reload = has_files.then(|| Reload {
        log,
        read: Box::new(move || reread(&words, file.as_deref())),
        set_log: Box::new(set_log),
    });
    match node::run(&config, reload) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, FAILURE),
    }
}

/// Opens the log, and returns how its filter is changed.
fn open_log(filter: &str) -> impl Fn(&str) -> Result<(), String> + Send + 'static {
    let log = tracing_subscriber::fmt()
        // The filter was checked when the options were read.
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(|| Notes)
        .with_ansi(console::is_watched())
        // Otherwise it would print its errors to standard error itself.
        .log_internal_errors(false)
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    move |filter| {
        let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    }
}

/// Reads flags, variables and the files once more, while the node runs.
fn reread(words: &[OsString], file: Option<&Path>) -> Result<Reread, String> {
    // Reading a pipe could hold up the thread that takes signals.
    let is_other = |file: &&Path| std::fs::metadata(file).is_ok_and(|about| !about.is_file());
    if let Some(file) = file.filter(is_other) {
        let file = file.display();
        return Err(format!(
            "{file} is no regular file, which could be read again"
        ));
    }
    let read = config::read(words, |cli: Cli| Settings::of(cli.node));
    let Settings { config, log, .. } = read.map_err(|misread| misread.line())?;
    Ok(Reread { config, log })
}

/// Reports in one line what went wrong, and returns the exit code.
fn complain(error: &dyn Display, code: u8) -> ExitCode {
    console::note(&format!("error: {error}"));
    ExitCode::from(code)
}
