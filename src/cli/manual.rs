//! The commands `rmbd man` and `rmbd completions`: what a package installs beside the program, made of the same
//! options that the program reads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, CliError, Streams};

/// `rmbd man`
#[derive(Debug, Clone, Args)]
pub struct ManOptions {
    /// The folder, which is made where it is missing; pages that it has already are written anew
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// `rmbd completions`
#[derive(Debug, Clone, Args)]
pub struct CompletionsOptions {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = shell())]
    shell: Shell,
}

/// A parser of the shells for which the package has completions.
fn shell() -> impl TypedValueParser<Value = Shell> {
    PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|word| word.parse::<Shell>())
}

/// Writes a manual page for the program, and one for each command.
pub(super) fn man(options: &ManOptions) -> Result<(), CliError> {
    let folder = &options.folder;
    let in_folder = |source| CliError::Manual {
        path: folder.clone(),
        source,
    };
    fs::create_dir_all(folder).map_err(in_folder)?;
    // The pages of `help` would repeat all others.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&command, folder).map_err(in_folder)
}

fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    command
        .get_subcommands()
        .try_for_each(|inner| write_pages(inner, folder))?;
    let page = Man::new(command.clone())
        .source(concat!("rmbd ", env!("CARGO_PKG_VERSION")))
        .manual("rmbd");
    page.generate_to(folder).map(drop)
}

/// Prints what a shell reads to complete command lines.
pub(super) fn completions(
    options: &CompletionsOptions,
    streams: &mut Streams<'_>,
) -> Result<(), CliError> {
    // The generator panics where its output fails, and memory does not.
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "rmbd", &mut script);
    streams.output.write_all(&script).map_err(CliError::Output)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    /// Names of pages by another way than the one by which they are written.
    fn names(command: &Command, prefix: &str, into: &mut BTreeSet<String>) {
        into.insert(format!("{prefix}.1"));
        for inner in command.get_subcommands() {
            names(inner, &format!("{prefix}-{}", inner.get_name()), into);
        }
    }

    #[test]
    fn each_command_has_a_page_that_names_its_options() {
        let folder = std::env::temp_dir().join(format!("rmbd-pages-{}", std::process::id()));
        let options = ManOptions {
            folder: folder.join("made/anew"),
        };
        man(&options).unwrap();
        man(&options).unwrap();
        let mut expected = BTreeSet::new();
        names(&Cli::command(), "rmbd", &mut expected);
        let written = fs::read_dir(&options.folder).unwrap();
        let written: BTreeSet<String> = written
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(written, expected);
        let page = fs::read_to_string(options.folder.join("rmbd.1")).unwrap();
        for argument in Cli::command().get_arguments() {
            let Some(option) = argument.get_long() else {
                continue;
            };
            let option = option.replace('-', "\\-");
            assert!(page.contains(&format!("\\-\\-{option}")), "{option}");
        }
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        let refused = man(&options).unwrap_err().to_string();
        assert!(refused.contains("made/anew"), "{refused}");
        fs::remove_file(&folder).unwrap();
    }

    #[test]
    fn each_shell_is_told_of_each_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut output = Vec::new();
            completions(&CompletionsOptions { shell }, &mut Streams::to(&mut output)).unwrap();
            let script = String::from_utf8(output).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}");
            }
            assert!(script.contains("cluster-key-file"), "{shell}");
        }
    }
}
