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

/// Pages that `man` would show in part only, and scripts that a shell would not read, are found by the programs that
/// read them.
#[test]
fn manual_pages_and_completions_are_understood() {
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
    let script = rmbd(&["completions", "bash"], &[]).stdout;
    let path = format!("{folder}/rmbd.bash");
    std::fs::write(&path, script).unwrap();
    let words =
        "source $0; COMP_WORDS=(rmbd mem); COMP_CWORD=1; _rmbd rmbd mem rmbd; echo ${COMPREPLY[@]}";
    let bash = Command::new("bash")
        .args(["-c", words, &path])
        .output()
        .unwrap();
    assert_eq!(text(&bash.stdout), "members\n", "{}", text(&bash.stderr));
}

#[test]
fn help_and_version_are_0() {
    for words in [&["--help"][..], &["--version"], &["add", "--help"]] {
        let output = rmbd(words, &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("rmbd"));
    }
}
