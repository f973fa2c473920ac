//! Tests of command lines: exit codes, variables, and positions of arguments.
#![allow(clippy::unwrap_used)]

use std::net::UdpSocket;
use std::process::{Command, Output};

use rmbd_testkit::required::skip;

/// Runs the program with these words, and only these `RMBD_` variables.
fn rmbd(words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rmbd"));
    command.args(words);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RMBD_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A port at which nobody answers: the kernel refuses all senders, since the socket that holds it hears only itself.
fn nobody() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(address).unwrap();
    (socket, address.to_string())
}

#[test]
fn wrong_usage_is_2_and_one_line_of_error() {
    type Case = (
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let cases: &[Case] = &[
        (&["-x", "0"], &[], "a width of at least 1"),
        (&[], &[("RMBD_WIDTH", "0")], "a width of at least 1"),
        (&["localhost:65536"], &[], "use a number from 0 to 65535"),
        (
            &[],
            &[("RMBD_ADDRESS", "localhost:65536")],
            "use a number from 0 to 65535",
        ),
        (&["--trust", "10.0.0.0/33"], &[], "write ADDRESS/BITS"),
        (&[], &[("RMBD_TRUST", "10.0.0.0/8,x")], "write ADDRESS/BITS"),
        (&["--compat", "-x", "5"], &[], "--compat fixes the size"),
        (
            &[],
            &[("RMBD_COMPAT", "yes"), ("RMBD_WIDTH", "5")],
            "--compat fixes the size",
        ),
        (&["--config", "/"], &[], "Is a directory"),
        (&["config", "look"], &[], "unrecognized subcommand"),
        (&[], &[("RMBD_COMPAT", "perhaps")], "RMBD_COMPAT"),
        (&["--log", "a=b=c"], &[], "--log"),
        (&["count"], &[], "required arguments were not provided"),
        (
            &["count", "a"],
            &[("RMBD_SERVER", "localhost")],
            "no port: write HOST:PORT",
        ),
        (
            &["hit", "a", "--limit", "5/1s", "--window", "1m"],
            &[],
            "leave --window out, or write --limit 5 --window 60s",
        ),
        (
            &["hit", "a", "--limit", "5/1s"],
            &[("RMBD_WINDOW", "1m")],
            "leave --window out",
        ),
        (
            &["hit", "a", "--limit-name", "api"],
            &[("RMBD_LIMIT", "5")],
            "cannot be used with",
        ),
        (
            &["add", "a"],
            &[("RMBD_SKETCH_NAME", "A")],
            "a sketch's name has no 'A'",
        ),
        (&["start"], &[], "nor one of the commands"),
    ];
    for (words, variables, expected) in cases {
        let output = rmbd(words, variables);
        let error = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{words:?} {variables:?} {error}"
        );
        assert!(output.stdout.is_empty());
        assert!(error.starts_with("error: "), "{error}");
        // Errors name `--compat`'s variable by the option, as clap does.
        let expected = expected.replace("RMBD_COMPAT", "--compat");
        assert!(error.contains(&expected), "{words:?} {variables:?} {error}");
    }
}

#[test]
fn a_failure_is_1() {
    let (_held, nobody) = nobody();
    let output = rmbd(&["count", "a", "--server", &nobody], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let expected = format!("error: no server at {nobody}; start one with `rmbd`\n");
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn a_nodes_variables_do_not_disturb_the_commands() {
    let (_held, nobody) = nobody();
    let variables = [
        ("RMBD_ADDRESS", "0.0.0.0:8000"),
        ("RMBD_WIDTH", "5"),
        ("RMBD_COMPAT", "true"),
        ("RMBD_TRUST", "10.0.0.0/8"),
        ("RMBD_SKETCH", "name=logins,windows=60s/5s"),
        ("RMBD_SERVER", nobody.as_str()),
        ("RMBD_JSON", "false"),
    ];
    let output = rmbd(&["count", "a"], &variables);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("no server at {nobody}")));
}

/// Pages that `man` would show in part only are found by a program that reads them.
#[test]
fn manual_pages_are_understood() {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/command-line-man");
    let _ = std::fs::remove_dir_all(folder);
    let output = rmbd(&["man", folder], &[("RMBD_JOIN", "secret.example:1")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let pages: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(pages.len() > 20, "{pages:?}");
    for page in &pages {
        let page = std::fs::read_to_string(page).unwrap();
        assert!(!page.contains("secret.example"), "{page}");
    }
    match Command::new("mandoc")
        .args(["-Tlint", "-Werror"])
        .args(&pages)
        .output()
    {
        Ok(lint) => assert!(lint.status.success(), "{}", text(&lint.stdout)),
        Err(error) => skip(format_args!("mandoc: {error}")),
    }
}

/// Each shell reads its script without a word of complaint, and knows what completes `rmbd mem`.
#[test]
fn each_shell_completes_by_its_script() {
    let folder = tempfile::tempdir().unwrap();
    let bash = "source $0/_rmbd; COMP_WORDS=(rmbd mem); COMP_CWORD=1; _rmbd rmbd mem rmbd; echo ${COMPREPLY[@]}";
    // What is in a folder of scripts is found there by its first line, and loaded.
    let zsh = "fpath=($0 $fpath); autoload -Uz compinit; compinit -D -u; autoload +X _rmbd; \
               print $_comps[rmbd]; whence -w _rmbd; [[ $functions[_rmbd] == *members:* ]] && print members";
    let fish = "source $argv[1]/_rmbd; complete -C 'rmbd mem' | string split -f 1 \\t";
    for (shell, words, shown) in [
        ("bash", &["--norc", "-c", bash][..], "members\n"),
        (
            "zsh",
            &["-f", "-c", zsh],
            "_rmbd\n_rmbd: function\nmembers\n",
        ),
        ("fish", &["--no-config", "-c", fish], "members\n"),
    ] {
        let script = rmbd(&["completions", shell], &[]).stdout;
        std::fs::write(folder.path().join("_rmbd"), script).unwrap();
        let mut command = Command::new(shell);
        command.args(words).arg(folder.path());
        match command.env("HOME", folder.path()).output() {
            Ok(told) => {
                assert_eq!(text(&told.stdout), shown, "{shell}: {}", text(&told.stderr));
                assert_eq!(text(&told.stderr), "", "{shell}");
            }
            Err(error) => skip(format_args!("{shell}: {error}; apt-get install {shell}")),
        }
    }
}

#[test]
fn help_and_version_are_0() {
    for words in [&["--help"][..], &["--version"], &["add", "--help"]] {
        let output = rmbd(words, &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("rmbd"));
    }
}
