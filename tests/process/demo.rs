//! Tests of the demonstration: what it says is there to see is there, and nothing is left of it.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Output, Stdio};

use rmbd_testkit::browser::Browser;
use rmbd_testkit::streams::{Kind, Running, Which};
use rmbd_testkit::terminal::{self, Act};
use rmbd_testkit::terminal_picture::svg;
use rustix::process::{Pid, Signal, kill_process};

use crate::nodes::{PROGRAM, wait_until};

/// The key that floods.
const ABUSER: &str = "203.0.113.66";
/// The folder into which pictures of the page go, and stay. Without it they are small tries.
const PICTURES: &str = "RMBD_PICTURES";
/// Largest size of a picture in bytes: documents have several of them.
const PICTURE_BYTES_MAX: usize = 200_000;
/// Lines and columns of the terminal of which there is a picture.
const TERMINAL: [u16; 2] = [30, 110];
/// How many seconds the page was open before a picture that stays, and before a try.
const SECONDS_SHOWN: [u32; 2] = [90, 3];

/// A running demonstration, and what it has printed so far.
struct Demo {
    running: Running,
    output: BufReader<ChildStdout>,
    text: String,
}

impl Demo {
    /// Starts one, and returns when it has said what there is to look at.
    fn start() -> Self {
        let mut running = Running::start(PROGRAM, &["demo"], Which::Out, Kind::Read, Stdio::null());
        let mut output = BufReader::new(running.child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("--sketch pages") {
            let before = text.len();
            output.read_line(&mut text).unwrap();
            assert!(text.len() > before, "{text}{}", running.error());
        }
        Self {
            running,
            output,
            text,
        }
    }

    fn node(&self, number: u8) -> SocketAddr {
        let start = format!("  node {number}  ");
        let line = self.text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap().parse().unwrap()
    }

    /// The commands that it tells people to type, without the program's name.
    fn commands(&self) -> Vec<Vec<&str>> {
        let lines = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("  rmbd "));
        lines.map(|line| line.split(' ').collect()).collect()
    }

    fn end(mut self, signal: Signal) -> String {
        kill_process(Pid::from_child(&self.running.child), signal).unwrap();
        assert_eq!(self.running.wait("a demonstration").code(), Some(0));
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert_eq!(self.running.error(), "", "it says nothing else");
        rest
    }
}

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(words).stdin(Stdio::null()).output().unwrap()
}

fn printed(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn what_the_demonstration_says_can_be_seen_and_it_leaves_nothing() {
    let demo = Demo::start();
    let [first, second, third] = [1, 2, 3].map(|number| demo.node(number));
    // The abuser sends to the third node only, and the first one knows.
    let server = first.to_string();
    wait_until("the abuser as the largest key of the minute", || {
        let top = run(&[
            "top", "--once", "--window", "60s", "-k", "1", "--server", &server,
        ]);
        printed(&top).contains(ABUSER)
    });
    let detail = run(&["count", "--detail", ABUSER, "--server", &server, "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&detail.stdout).unwrap();
    let parts = told[0]["origins"].as_array().unwrap().iter();
    let counts: Vec<_> = parts.filter_map(|it| it["count"].as_u64()).collect();
    let largest = counts.iter().max().unwrap();
    assert!(
        counts.iter().sum::<u64>() - largest < largest / 10,
        "of one node: {told}"
    );
    let elsewhere = second.to_string();
    wait_until("the limit refuses the abuser at the second node", || {
        let words = ["hit", ABUSER, "--limit-name", "api", "--server", &elsewhere];
        run(&words).status.code() == Some(3)
    });
    let commands = demo.commands();
    assert!(commands.len() >= 8, "{}", demo.text);
    for words in &commands {
        let output = run(words);
        let code = match words[..2] {
            ["hit", ABUSER] => 3,
            _ => 0,
        };
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        assert!(!output.stdout.is_empty(), "{words:?}");
    }
    let denied = run(&["limits", "denied", "api", "--server", &third.to_string()]);
    assert!(printed(&denied).contains(ABUSER), "{}", printed(&denied));
    take_pictures(&format!("http://{third}/"));
    take_picture_of_top(&server);
    let rest = demo.end(Signal::INT);
    assert!(rest.contains("The demonstration is over"), "{rest}");
    for address in [first, second, third] {
        assert!(
            TcpStream::connect(address).is_err(),
            "{address} still serves"
        );
        UdpSocket::bind(address).unwrap();
    }
}

#[test]
fn a_demonstration_ends_by_itself_or_by_a_signal_during_its_start() {
    let output = run(&["demo", "--for", "600ms"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stderr, b"", "{output:?}");
    let words = ["demo"];
    let mut starting = Running::start(PROGRAM, &words, Which::Out, Kind::Read, Stdio::null());
    kill_process(Pid::from_child(&starting.child), Signal::TERM).unwrap();
    let status = starting.wait("a start");
    // Before the program has begun to run no process can handle signals.
    let is_ended = std::os::unix::process::ExitStatusExt::signal(&status).is_some();
    assert!(status.code() == Some(0) || is_ended, "{status}");
}

/// Takes a picture of the full screen of `rmbd top`.
fn take_picture_of_top(server: &str) {
    let (folder, is_kept) = pictures();
    let top = [PROGRAM, "top", "--server", server];
    let seconds = SECONDS_SHOWN[0].to_string();
    // The first bar of the rate of adds is as high as there is room, and has the rates above it.
    let told = if is_kept {
        let ends = ["timeout", "--foreground", &seconds];
        let words = [&ends[..], &top].concat();
        terminal::run_in(TERMINAL, Act::Nothing, "", &words, &[])
    } else {
        terminal::run_in(TERMINAL, Act::Type("q"), "\u{2588}", &top, &[])
    };
    let Some(seen) = told else {
        return;
    };
    let (picture, text) = svg(&seen.output, TERMINAL);
    for words in [
        ABUSER,
        "hits/s",
        "cluster: 3 of 3 alive",
        "over limit",
        "q quit",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
        // Pieces of a line are apart where they look different.
        let piece = words.split(' ').next().unwrap();
        assert!(picture.contains(piece), "{piece}:\n{picture}");
    }
    assert!(picture.len() < PICTURE_BYTES_MAX, "{}", picture.len());
    std::fs::write(folder.join("top.svg"), picture).unwrap();
}

/// Where pictures go, and whether they stay.
fn pictures() -> (PathBuf, bool) {
    let wanted = std::env::var_os(PICTURES).filter(|folder| !folder.is_empty());
    let is_kept = wanted.is_some();
    let tries = Path::new(env!("CARGO_TARGET_TMPDIR")).to_path_buf();
    let folder = wanted.map_or(tries, |folder| {
        // Tests run in the folder of the package.
        Path::new(env!("CARGO_MANIFEST_DIR")).join(PathBuf::from(folder))
    });
    std::fs::create_dir_all(&folder).unwrap();
    (folder, is_kept)
}

/// Takes pictures of the page in light, in dark, and as narrow as a telephone.
fn take_pictures(url: &str) {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let (folder, is_kept) = pictures();
    let [long, short] = SECONDS_SHOWN;
    let seconds = if is_kept { long } else { short };
    browser.resize(1_280, 1_180);
    browser.open(url);
    browser.wait_until("document.querySelectorAll('#top tr').length === 10");
    browser.value("document.getElementById('top-list').selectedIndex = 1; askTop()");
    let abuser = format!(
        "[...document.querySelectorAll('#top button')].find(b => b.textContent === '{ABUSER}')"
    );
    browser.wait_until(&format!("!!{abuser}"));
    browser.value(&format!("{abuser}.click()"));
    browser.wait_until("!document.getElementById('found').hidden");
    for _ in 0..seconds {
        browser.value("globalThis.before = last; 0");
        browser.wait_until("last !== globalThis.before");
    }
    for (name, is_dark, width, height) in [
        ("page-light.png", false, 1_280, 1_180),
        ("page-dark.png", true, 1_280, 1_180),
        ("page-narrow.png", false, 360, 1_400),
    ] {
        browser.prefer_dark(is_dark);
        browser.resize(width, height);
        let wide = browser.value("document.documentElement.scrollWidth");
        assert_eq!(wide, width, "{name}: nothing is beside the window");
        browser.value("window.scrollTo(0, 0)");
        let bytes = browser.picture(&folder.join(name));
        assert!(
            (1_000..PICTURE_BYTES_MAX).contains(&bytes),
            "{name}: {bytes} bytes"
        );
    }
    assert_eq!(browser.complaints(), [""; 0]);
}
