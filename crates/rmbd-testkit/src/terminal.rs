//! A program in a terminal of its own, as a person starts it.

use std::process::{Command, Stdio};

use crate::required::skip;

/// It is given what to do when the program has drawn its screen (a signal's number after `signal`, text after
/// `type`, `hang up` or `nothing`), the text by which that is seen, the height and the width of the terminal, and
/// the program. It prints what came from the terminal, and then a line with how the program ended and whether the
/// terminal is as it was.
const SCRIPT: &str = r#"
import fcntl, os, pty, re, signal, struct, sys, termios, time
act, what, until, height, width, *words = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    time.sleep(0.2)  # for the size
    os.execvp(words[0], words)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", int(height), int(width), 0, 0))
before = termios.tcgetattr(terminal)
seen, is_done = b"", act == "nothing"
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    seen += piece
    if not is_done and until.encode() in seen:
        is_done = True
        if act == "hang up":
            os.close(terminal)
            break
        elif act == "signal":
            os.kill(pid, int(what))
        else:
            os.write(terminal, what.encode())
_, status = os.waitpid(pid, 0)
after = None if act == "hang up" else termios.tcgetattr(terminal)
end = "signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "code %d" % os.WEXITSTATUS(status)
sys.stdout.buffer.write(seen)
print("\n" + end + (", gone" if after is None else ", as it was" if before == after else ", changed"))
"#;

/// What a person does when the screen is there.
#[derive(Debug, Clone, Copy)]
pub enum Act<'a> {
    Nothing,
    Type(&'a str),
    Signal(i32),
    /// Closes the terminal.
    HangUp,
}

/// What was seen in the terminal.
#[derive(Debug)]
pub struct Seen {
    /// All that the program wrote.
    pub output: String,
    /// How it ended, and whether the terminal is set as it was: such as `code 0, as it was`.
    pub end: String,
}

/// Runs a program in a terminal of 80 columns and 24 lines, and does something as soon as this text is there. `None`,
/// and the test is skipped, without Python.
pub fn run(act: Act<'_>, until: &str, words: &[&str], variables: &[(&str, &str)]) -> Option<Seen> {
    run_in([24, 80], act, until, words, variables)
}

/// The same in a terminal of so many lines and columns.
pub fn run_in(
    size: [u16; 2],
    act: Act<'_>,
    until: &str,
    words: &[&str],
    variables: &[(&str, &str)],
) -> Option<Seen> {
    let (name, what) = match act {
        Act::Nothing => ("nothing", String::new()),
        Act::Type(text) => ("type", text.to_owned()),
        Act::Signal(signal) => ("signal", signal.to_string()),
        Act::HangUp => ("hang up", String::new()),
    };
    let mut command = Command::new("python3");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RMBD_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["-c", SCRIPT, name, &what, until])
        .args(size.map(|it| it.to_string()))
        .args(words)
        .env("TERM", "xterm-256color")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            skip(format!("python3: {error}; apt-get install python3"));
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    let (output, end) = text
        .trim_end()
        .rsplit_once('\n')
        .unwrap_or_else(|| panic!("{text}{error}"));
    Some(Seen {
        output: output.to_owned(),
        end: end.to_owned(),
    })
}
