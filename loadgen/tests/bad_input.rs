//! What goes wrong: a clear message, no panic, and what there is is kept.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::thread;
use std::time::Duration;

use loadgen::plan::{Format, Load};
use loadgen::record::{Outcome, Record};
use loadgen::report::table;
use loadgen::run::Event;
use loadgen::server::{HttpAt, ServerError, ServerUnderLoad};
use rustix::process::{Pid, Signal, kill_process};
use support::{NodeProcess, at_rate, check, load, program, run, run_watched};

/// A directory of its own for one test, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn refused(words: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = program()
        .args(words)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{words:?}: {said}");
    assert!(stdout.is_empty(), "{words:?}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn nobody_at_the_address() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let said = refused(&["--server", &address, "--flood"]);
    assert!(said.contains(&format!("no rmbd at {address}")), "{said}");
    let said = refused(&["--server", "no.such.host.invalid:80", "--flood"]);
    assert!(said.contains("can't resolve"), "{said}");
    let said = refused(&["--server", "no port"]);
    assert!(said.contains("can't resolve"), "{said}");
}

#[test]
fn a_silent_server() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let error = ServerUnderLoad::at(&address, &HttpAt::SameAsUdp, None).unwrap_err();
    assert!(matches!(error, ServerError::Silent { .. }), "{error}");
    assert!(error.to_string().contains("no rmbd at"), "{error}");
}

#[test]
fn keys_that_are_not_there() {
    let scratch = Scratch::new("no-keys");
    let empty = scratch.file("empty.txt");
    fs::write(&empty, "\n\n").unwrap();
    let said = refused(&["--keys", &format!("file:{empty}"), "--flood"]);
    assert!(
        said.contains("no keys in") && said.contains(&empty),
        "{said}"
    );
    let said = refused(&["--keys", "file:/no/such/file", "--flood"]);
    assert!(
        said.contains("can't read keys from /no/such/file"),
        "{said}"
    );
    // Standard input is empty here.
    let said = refused(&["--keys", "-", "--flood"]);
    assert!(said.contains("no keys in -"), "{said}");
    let said = refused(&["--keys", "uniform:1000", "--key-len", "2", "--flood"]);
    assert!(said.contains("--key-len 3"), "{said}");
}

#[test]
fn loads_that_cannot_be() {
    for (words, expected) in [
        (&["--flood", "--pack", "0"][..], "--pack 0"),
        (&["--flood", "--pack", "465"], "--pack 465"),
        (
            &["--flood", "--keys", "uniform:9", "--keep-cr"],
            "keys of uniform:9 are made and have no CR to keep",
        ),
        (&["--flood", "--threads", "0"], "--threads 0"),
        (
            &["--flood", "--threads", "2", "--sockets", "1"],
            "--sockets 1",
        ),
        (&["--flood", "--duration", "0"], "--duration"),
        (
            &["--rate", "100M/s", "--mode", "count", "--timeout", "60"],
            "shorter --timeout",
        ),
        (&["--outstanding", "2", "--sockets", "3"], "--outstanding 2"),
        (&["--duration", "3"], "--duration belongs to one load"),
        (
            &["--mode", "hit", "--format", "legacy"],
            "the legacy format has no hits",
        ),
        (
            &["--flood", "--weight", "2", "--format", "legacy"],
            "the legacy format has no weights: use --format compact",
        ),
        (
            &["--flood", "--weight", "0"],
            "--weight 0 is not possible: use 1 to 1048576",
        ),
        (&["--flood", "--weight", "1048577"], "use 1 to 1048576"),
        (
            &["--mode", "count", "--weight", "2"],
            "counts have no weight: leave --weight out",
        ),
        (&["--weight", "2"], "--weight belongs to one load"),
        (
            &["--flood", "--weight", "1000", "--pack", "70"],
            "--pack 70 is not possible: use 1 to 69",
        ),
        (&["--exactly-once"], "--exactly-once belongs to one load"),
        (&["--keys", "uniform:9"], "--keys belongs to one load"),
        (&["--key-len", "20"], "--key-len belongs to one load"),
        (&["--key-prefix", "a"], "--key-prefix belongs to one load"),
        (
            &["--exactly-once", "--flood"],
            "--exactly-once is for the closed loop: use --outstanding K",
        ),
        (
            &["--exactly-once", "--rate", "5/s"],
            "--exactly-once is for the closed loop: use --outstanding K",
        ),
        (
            &["--exactly-once", "--outstanding", "9", "--format", "legacy"],
            "--exactly-once is for compact messages: use --format compact",
        ),
        (
            &["--exactly-once", "--outstanding", "9", "--mode", "hit"],
            "--exactly-once is for adds: use --mode add",
        ),
        (
            &["--exactly-once", "--outstanding", "9", "--mode", "mix:0.1"],
            "--exactly-once is for adds: use --mode add",
        ),
        (
            &["--exactly-once", "--outstanding", "9", "--timeout", "121s"],
            "--exactly-once repeats for at most 120 s",
        ),
        (
            &["--exactly-once", "--outstanding", "1025", "--sockets", "1"],
            "up to 1025 datagrams for each of 1 sockets",
        ),
        (
            &["--exactly-once", "--outstanding", "9", "--pack", "77"],
            "--pack 77 is not possible: use 1 to 75",
        ),
        (
            &["--flood", "--key-len", "140"],
            "the legacy format carries at most 139; use a smaller --key-len, or --format compact",
        ),
        (
            &["--flood", "--key-len", "1025", "--format", "compact"],
            "the compact format carries at most 1024",
        ),
        (
            &["--flood", "--format", "compact", "--pack", "78"],
            "--pack 78 is not possible: use 1 to 77",
        ),
        (
            &[
                "--mode",
                "count",
                "--flood",
                "--format",
                "compact",
                "--key-len",
                "1",
                "--keys",
                "uniform:9",
                "--pack",
                "155",
            ],
            "use 1 to 154",
        ),
    ] {
        let said = refused(words);
        assert!(said.contains(expected), "{words:?}: {said}");
    }
}

#[test]
fn keys_that_the_format_cannot_carry() {
    let scratch = Scratch::new("long-keys");
    let file = scratch.file("keys.txt");
    fs::write(&file, format!("a\n{}\n", "k".repeat(1025))).unwrap();
    let keys = format!("file:{file}");
    let said = refused(&["--flood", "--format", "compact", "--keys", &keys]);
    assert!(said.contains("line 2 of"), "{said}");
    assert!(said.contains("has 1025 bytes"), "{said}");
}

#[test]
fn weights_that_the_node_does_not_take_are_refused_before_anything_is_sent() {
    let target = ServerUnderLoad::inside(rmbd::config::NodeConfig {
        max_weight: 1000,
        ..support::node()
    })
    .unwrap();
    let session = |weight| loadgen::run::Session {
        loads: vec![Load {
            format: Format::Compact,
            pace: loadgen::record::Pace::Outstanding { requests: 10 },
            messages: Some(100),
            weight,
            ..load("add", "uniform:10")
        }],
        checked_keys: 0,
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let refused = session(1001).run(&target, &stop, &mut |_| {});
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("at most 1000, not 1001") && said.contains("--max-weight 1001"),
        "{said}"
    );
    assert_eq!(target.status().unwrap().sketch.total_weight, 0);
    let taken = session(1000).run(&target, &stop, &mut |_| {}).unwrap();
    assert!(taken.passed());
    assert_eq!(target.status().unwrap().sketch.total_weight, 100_000);
}

#[test]
fn results_that_cannot_be_written_are_known_before_the_run() {
    for option in ["--json", "--hgrm", "--report"] {
        let said = refused(&["--flood", option, "/no/such/directory/file"]);
        assert!(said.contains("can't write"), "{option}: {said}");
    }
}

#[test]
fn a_server_without_http_is_measured_as_far_as_it_goes() {
    let server = NodeProcess::start("127.0.0.1:0");
    let target = ServerUnderLoad::at(&server.udp, &HttpAt::Off, None).unwrap();
    let counts = Load {
        pace: at_rate(2000.0),
        duration: Duration::from_millis(300),
        ..load("mix:0.5", "uniform:100")
    };
    let record = run(&target, counts, 50);
    assert_eq!(check(&record, "accounted for").outcome, Outcome::Unknown);
    assert_eq!(check(&record, "below").outcome, Outcome::Unknown);
    assert!(record.phases[0].answers.unwrap().answered > 0);
    assert!(record.passed());
    let named = HttpAt::At("127.0.0.1:1".to_owned());
    let error = ServerUnderLoad::at(&server.udp, &named, None).unwrap_err();
    assert!(matches!(error, ServerError::Status { .. }), "{error}");
}

#[test]
fn a_server_that_is_started_again_in_the_middle() {
    // An address that no other test's sockets take a port of.
    let mut first = NodeProcess::start("127.0.0.2:0");
    let target = first.target();
    let mut second = None;
    let counts = Load {
        pace: at_rate(5000.0),
        duration: Duration::from_secs(2),
        timeout: Duration::from_millis(500),
        ..load("mix:0.5", "uniform:100")
    };
    let record = run_watched(&target, counts, 50, &mut |event| {
        if let Event::Progress { elapsed, .. } = event
            && elapsed >= Duration::from_millis(500)
            && second.is_none()
        {
            first.kill();
            second = Some(NodeProcess::start_again(&first.udp));
        }
    });
    let why = record.ended_early.as_deref().unwrap();
    assert!(why.contains("started again"), "{why}");
    assert_eq!(check(&record, "accounted for").outcome, Outcome::Unknown);
    // What there is is kept.
    let phase = &record.phases[0];
    assert_eq!(phase.sent.messages(), 10_000);
    assert!(phase.answers.unwrap().answered > 1000);
    assert!(table::text(&record).contains("ended early"));
}

/// Kills the server after 300 ms of a part.
fn kill_soon(server: &mut NodeProcess) -> impl FnMut(Event<'_>) {
    let mut gone = false;
    move |event| {
        if let Event::Progress { elapsed, .. } = event
            && elapsed >= Duration::from_millis(300)
            && !gone
        {
            server.kill();
            gone = true;
        }
    }
}

#[test]
fn a_server_that_goes_away_in_the_middle() {
    let mut server = NodeProcess::start("127.0.0.1:0");
    let target = server.target();
    let counts = Load {
        pace: at_rate(5000.0),
        timeout: Duration::from_millis(200),
        ..load("count", "uniform:100")
    };
    let record = run_watched(&target, counts, 0, &mut kill_soon(&mut server));
    let why = record.ended_early.as_deref().unwrap();
    assert!(why.contains("status is gone"), "{why}");
    let phase = &record.phases[0];
    let answers = phase.answers.unwrap();
    assert_eq!(phase.sent.counts, 5000, "the plan goes on");
    assert!(
        answers.answered > 500 && answers.timed_out > 2000,
        "{answers:?}"
    );
    assert_eq!(answers.answered + answers.timed_out, 5000);
}

#[test]
fn an_interrupted_run_says_what_it_has() {
    let scratch = Scratch::new("interrupted");
    let json = scratch.file("run.json");
    let mut child = program()
        .args(["--mode", "mix:0.5", "--rate", "5k/s", "--duration", "1h"])
        .args(["--warmup", "0", "--timeout", "5s", "--node-threads", "1"])
        .args(["--json", &json])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // The first line with a rate: messages are on their way.
    lines
        .find(|line| line.as_ref().is_ok_and(|line| line.contains("/s sent")))
        .unwrap()
        .unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut table = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut table)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(
        table.contains("ended early: stopped by a signal"),
        "{table}"
    );
    assert!(table.contains("response time p50"), "{table}");
    let record = Record::read_json(json.as_ref()).unwrap();
    assert!(record.phases[0].sent.messages() > 1000);
    assert!(record.phases[0].seconds < 600.0);
    assert_eq!(check(&record, "accounted for").outcome, Outcome::Passed);
}

#[test]
fn a_whole_run_writes_all_its_results() {
    let scratch = Scratch::new("results");
    let [json, hgrm, report, plots] =
        ["run.json", "run.hgrm", "run.html", "plots"].map(|name| scratch.file(name));
    let output = program()
        .args(["--mode", "mix:0.5", "--rate", "2k/s", "--duration", "1s"])
        .args(["--warmup", "100ms", "--json", &json, "--hgrm", &hgrm])
        .args(["--report", &report, "--plots", &plots])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let record = Record::read_json(json.as_ref()).unwrap();
    assert!(record.passed());
    let phase = &record.phases[0];
    let count = phase.response_time.as_ref().unwrap().count;
    assert_eq!(count, phase.sent.counts);
    assert!(
        fs::read_to_string(&hgrm)
            .unwrap()
            .contains(&count.to_string())
    );
    assert!(fs::read_to_string(&report).unwrap().contains("<svg"));
    assert!(fs::read_dir(&plots).unwrap().count() > 0);

    assert!(record.server.inside);
}

/// Every option that takes a file or a directory, in turn with a place that can't be written: said before the run,
/// and nothing of the others is there or changed.
#[test]
fn results_that_cannot_be_written_end_the_run_before_it_begins() {
    let scratch = Scratch::new("no-results");
    let options = ["--json", "--hgrm", "--report", "--plots"];
    let file = scratch.file("a file");
    fs::write(&file, "as it was").unwrap();
    let bad = ["no/such/directory/x", "a file/x"].map(|place| scratch.file(place));
    for (at, option) in options.into_iter().enumerate() {
        for bad in &bad {
            // A directory is made with those above it.
            if option == "--plots" && !bad.contains("a file") {
                continue;
            }
            let words = options.iter().enumerate().flat_map(|(other, &option)| {
                let good = match option {
                    "--json" => file.clone(),
                    _ => scratch.file(option),
                };
                [
                    option.to_owned(),
                    if other == at { bad.clone() } else { good },
                ]
            });
            let words: Vec<_> = words.chain(["--flood".to_owned()]).collect();
            let said = refused(&words.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(said.contains("can't write") && said.contains(bad), "{said}");
        }
    }
    // The same where it is the server that is not there.
    let words = options
        .iter()
        .flat_map(|option| [(*option).to_owned(), scratch.file(option)]);
    let words: Vec<_> = words
        .chain(["--server".to_owned(), "no port".to_owned()])
        .collect();
    refused(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let names = fs::read_dir(&scratch.0).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a file"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "as it was");
}

/// Answers a hit as within whatever its limit is, with an estimate of 1, and a legacy count with 0.
fn answer_everything_with_yes(socket: &UdpSocket) {
    use rmbd_proto::{compact, legacy};
    let mut datagram = [0; 2048];
    while let Ok((len, from)) = socket.recv_from(&mut datagram) {
        let Some(&first) = datagram[..len].first() else {
            return;
        };
        if !compact::is_request(first) {
            let mut reply = [0; 152];
            let length = usize::from(datagram[1]);
            legacy::write_reply_key(
                &datagram[2..2 + length],
                legacy::Dialect::Native,
                &mut reply,
            );
            socket.send_to(&reply, from).unwrap();
            continue;
        }
        let request = compact::request(&datagram[..len]).unwrap();
        let head = compact::ReplyHead {
            id: request.id,
            done: 1,
            ..compact::ReplyHead::default()
        };
        let (mut start, mut answer) = ([0; 9], [0; 9]);
        compact::write_reply_head(head, &mut start);
        compact::write_hit_answer(1, false, true, &mut answer);
        socket.send_to(&[start, answer].concat(), from).unwrap();
    }
}

#[test]
fn a_server_that_allows_everything_is_found_out() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| answer_everything_with_yes(&server));
        let target = ServerUnderLoad::at(&address.to_string(), &HttpAt::Off, None).unwrap();
        let hits = Load {
            format: Format::Compact,
            pace: loadgen::record::Pace::Outstanding { requests: 1 },
            messages: Some(100),
            ..load("hit:9", "uniform:1")
        };
        let record = run(&target, hits, 0);
        // An empty datagram ends it.
        UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .send_to(&[], address)
            .unwrap();
        let verdicts = record.phases[0].verdicts.unwrap();
        assert_eq!((verdicts.judged(), verdicts.within), (100, 100));
        assert_eq!(
            (verdicts.allowed_above_limit, verdicts.below_truth),
            (91, 99)
        );
        let check = check(&record, "above its limit");
        assert_eq!(check.outcome, Outcome::Failed);
        assert!(check.detail.contains("91 were allowed"), "{}", check.detail);
        assert!(!record.passed());
    });
}

#[test]
fn a_warm_up_that_fails_leaves_its_phase_out() {
    let mut server = NodeProcess::start("127.0.0.1:0");
    let target = server.target();
    let counts = Load {
        pace: at_rate(5000.0),
        warmup: Duration::from_secs(1),
        timeout: Duration::from_millis(200),
        ..load("count", "uniform:100")
    };
    let record = run_watched(&target, counts, 0, &mut kill_soon(&mut server));
    let why = record.ended_early.as_deref().unwrap();
    assert!(
        why.contains("warm-up: the server's status is gone"),
        "{why}"
    );
    // Nothing was measured.
    assert!(record.phases.is_empty());
    assert_eq!(check(&record, "accounted for").outcome, Outcome::Unknown);
}

#[test]
fn variables_of_the_node_that_it_runs_may_be_empty_and_are_named_where_they_are_wrong() {
    // Not an address of this machine: said when all variables have been understood.
    let run = |variables: &[(&str, &str)]| {
        let output = program()
            .args(["node", "192.0.2.1:0"])
            .stdin(Stdio::null())
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = run(&[("RMBD_JOIN", ""), ("RMBD_THREADS", ""), ("RMBD_COMPAT", "")]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not an address of this machine"), "{text}");
    for (name, value) in [
        ("RMBD_THREADS", "0"),
        ("RMBD_JOIN", "x"),
        ("RMBD_EPSILON", "0.1"),
    ] {
        let (code, text) = run(&[(name, value)]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.lines().next().unwrap().contains(name), "{text}");
    }
}
