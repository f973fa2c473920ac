//! Tests of configuration files: what they mean, and the errors for those that are wrong.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use clap::{CommandFactory, Parser};
use proptest::prelude::*;

use super::file::{ConfigFile, keys};
use super::levels::OptionsOnly;
use super::*;

/// A file that is removed at the end.
struct Written(PathBuf);

impl Written {
    fn new(bytes: impl AsRef<[u8]>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "rmbd-config-{}-{}.toml",
            std::process::id(),
            NUMBER.fetch_add(1, Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The configuration of a file, or its error without the path.
fn config(text: impl AsRef<[u8]>) -> Result<NodeConfig, String> {
    let written = Written::new(text);
    let error = |error: String| error.replace(written.0.to_str().unwrap(), "FILE");
    config_of_file(written.0.as_os_str()).map_err(error)
}

/// The configuration of a line and a file. The environment of tests has no variables of ours.
fn with_line(line: &str, text: &str) -> Result<(NodeConfig, Origins), String> {
    let written = Written::new(text);
    let path = written.0.to_str().unwrap();
    let mut words: Vec<OsString> = vec!["rmbd".into(), format!("--config={path}").into()];
    words.extend(line.split_whitespace().map(OsString::from));
    let read = read(&words, |line: OptionsOnly| {
        let origins = line.node.origins.clone();
        let config = NodeConfig::from_options(line.node).map_err(|error| error.to_string())?;
        Ok((config, origins))
    });
    read.map_err(|misread| misread.line().replace(path, "FILE"))
}

fn of_line(line: &str) -> NodeConfig {
    let words = std::iter::once("rmbd").chain(line.split_whitespace());
    NodeConfig::from_options(OptionsOnly::try_parse_from(words).unwrap().node).unwrap()
}

#[test]
fn every_argument_has_a_key_and_every_key_an_argument() {
    let command = OptionsOnly::command();
    let args: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|arg| match arg.get_long() {
            Some("help" | "version" | "config") => None,
            Some(long) => Some(long.to_owned()),
            None => Some(arg.get_id().to_string()),
        })
        .collect();
    let mut of_file: BTreeSet<_> = keys().into_iter().map(|key| key.name).collect();
    of_file.insert("sketch".to_owned());
    assert_eq!(of_file, args);
    let settings = NodeConfig::default().settings();
    let mut shown: BTreeSet<_> = settings.iter().map(|it| it.key.to_owned()).collect();
    shown.extend(["log", "sketch"].map(str::to_owned));
    assert_eq!(shown, args, "all that can be set is shown");
}

/// A key in a file does what the flag does.
#[test]
fn every_key_is_heard() {
    let cases = [
        ("address = 'localhost:0'", "localhost:0"),
        ("width = 100", "-x 100"),
        ("width = 0x1_00", "-x 256"),
        ("width = '100'", "-x 100"),
        ("depth = 7", "-y 7"),
        (
            "epsilon = 0.001\nconfidence = 0.99",
            "--epsilon 0.001 --confidence 0.99",
        ),
        (
            "epsilon = 1e-3\nconfidence = 0.99",
            "--epsilon 0.001 --confidence 0.99",
        ),
        ("hash = 'fnv'", "--hash fnv"),
        ("seed = '0xffffffffffffffff'", "--seed 0xffffffffffffffff"),
        ("seed = 0xff", "--seed 255"),
        ("compat = true", "--compat"),
        ("compat = false\ndepth = 3", "-y 3"),
        ("dialect = 'network'", "--dialect network"),
        ("threads = 2", "--threads 2"),
        ("io = 'mmsg'", "--io mmsg"),
        ("busy-poll = 200", "--busy-poll 200"),
        ("receive-buffer = 65536", "--receive-buffer 65536"),
        (
            "trust = ['10.0.0.0/8', 'fd00::/8']",
            "--trust 10.0.0.0/8,fd00::/8",
        ),
        ("allow = ['10.0.0.0/8']", "--allow 10.0.0.0/8"),
        ("show-keys = ['10.0.0.0/8']", "--show-keys 10.0.0.0/8"),
        ("top = 7", "--top 7"),
        (
            "top = 7\n[[sketch]]\nname = 'a'\ntop = 0\n[[sketch]]\nname = 'b'",
            "--top 7 --sketch name=a,top=0;name=b",
        ),
        ("http = 'off'", "--http off"),
        (
            "resp = '[::1]:6379'\nresp-password-file = 'p'\nresp-connections = 7\nresp-idle = '5m'",
            "--resp [::1]:6379 --resp-password-file p --resp-connections 7 --resp-idle 5m",
        ),
        ("spoe = '[::1]:9001'", "--spoe [::1]:9001"),
        (
            "envoy = '[::1]:8081'\nlimits = ['tests/data/envoy_rules.yaml']",
            "--envoy [::1]:8081 --limits tests/data/envoy_rules.yaml",
        ),
        ("http-host = ['a', 'b']", "--http-host a,b"),
        ("http-token-file = 'a'", "--http-token-file a"),
        (
            "http-check = true\nhttp-token-file = 'a'",
            "--http-check --http-token-file a",
        ),
        ("max-weight = 1000", "--max-weight 1000"),
        ("max-peers = 1", "--max-peers 1"),
        ("peer-grace = 9", "--peer-grace 9"),
        ("join = ['a:1', '[::1]:3']", "--join a:1,[::1]:3"),
        ("cluster = 'off'", "--cluster off"),
        (
            "cluster = '0.0.0.0:7'\nadvertise = 'n:0'",
            "--cluster 0.0.0.0:7 --advertise n:0",
        ),
        ("cluster-key-file = 'keys'", "--cluster-key-file keys"),
        ("data-dir = '/var/lib/rmbd'", "--data-dir /var/lib/rmbd"),
        (
            "data-dir = 'd'\nsnapshot-interval = '5m'",
            "--data-dir d --snapshot-interval 5m",
        ),
        (
            "data-dir = 'd'\nsnapshot-interval = 0",
            "--data-dir d --snapshot-interval 0",
        ),
        ("insecure-cluster = true", "--insecure-cluster"),
        ("gossip-interval = 50", "--gossip-interval 50"),
        ("gossip-rate = 65536", "--gossip-rate 65536"),
        ("max-origins = 8", "--max-origins 8"),
        ("max-memory = 1000000000", "--max-memory 1000000000"),
        (
            "[[sketch]]\nname = 'a'\nepsilon = 1e-5\n[[sketch.window]]\nspan = '1h'\nstep = '10m'",
            "--sketch name=a,epsilon=1e-5,windows=1h/10m",
        ),
        (
            "[[sketch]]\nname = 'default'\nwindow = []",
            "--sketch name=default,windows=none",
        ),
        (
            "[[sketch]]\nname = 'a'\n[[sketch.window]]\nspan = '60s'\nwidth = 65536",
            "--sketch name=a,windows=60s@65536",
        ),
    ];
    for (text, line) in cases {
        assert_eq!(config(text).as_ref(), Ok(&of_line(line)), "{text}");
    }
    for key in keys().iter().filter(|key| key.name != "log") {
        let is_there = cases
            .iter()
            .any(|(text, _)| text.contains(&format!("{} =", key.name)));
        assert!(is_there, "{}", key.name);
    }
    assert_eq!(config("").unwrap(), NodeConfig::default());
    assert_eq!(
        config("trust = []\nlog = 'debug'").unwrap(),
        NodeConfig::default()
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let cases = [
        (
            "widht = 5",
            "FILE:1:1: the configuration has no key \"widht\": do you mean `width`?",
        ),
        (
            "\n  gossip_rate = 5",
            "FILE:2:3: the configuration has no key \"gossip_rate\": do you mean `gossip-rate`?",
        ),
        ("zzz = 5", "known are address, width, depth"),
        (
            "config = 'x'",
            "FILE:1:1: the configuration has no key \"config\"",
        ),
        ("[limits]", "`limits` is a list in [ ], not a table"),
        ("width = 5\nwidth = 6", "FILE:2:1: no TOML: duplicate key"),
        ("x", "FILE:1:2: no TOML:"),
        ("depth = 4\njoin = [", "FILE:2:9: no TOML: unclosed array"),
        (
            "threads = true",
            "FILE:1:11: `threads` takes a text or a number, not true or false",
        ),
        (
            "threads = [1]",
            "FILE:1:11: `threads` takes a text or a number, not a list",
        ),
        ("threads = 1979-05-27", "not a date or time"),
        (
            "compat = 1",
            "FILE:1:10: `compat` is true or false, not a number",
        ),
        (
            "join = 'a:1'",
            "FILE:1:8: `join` is a list in [ ], not a text",
        ),
        (
            "join = ['a:1', {}]",
            "FILE:1:16: `join` takes a text or a number, not a table",
        ),
        (
            "\nthreads = 0",
            "`threads` at FILE:2:1': 0 is not in 1..=512",
        ),
        (
            "join = ['a:1', 'b']",
            "`join` at FILE:1:1': no port: write HOST:PORT",
        ),
        ("address = 'add'", "FILE:1:11: `address`: neither HOST:PORT"),
        (
            "address = '--help'",
            "FILE:1:11: `address`: neither HOST:PORT",
        ),
        (
            "address = '-x:80'",
            "FILE:1:11: `address`: neither HOST:PORT",
        ),
        ("data-dir = ''", "`data-dir` at FILE:1:1"),
        (
            "snapshot-interval = '5m'",
            "give that, too, or leave it out; set by `snapshot-interval` at FILE:1:1",
        ),
        (
            "epsilon = 0.1",
            "go together: give both, or -x and -y instead; set by `epsilon` at FILE:1:1",
        ),
        (
            "compat = true\nseed = 1",
            "--compat fixes the hash to fnv, the Python program's: leave out --hash and --seed (and RMBD_HASH, RMBD_SEED); set by `seed` at FILE:2:1, `compat` at FILE:1:1",
        ),
        ("log = 'a=b=c'", "`log` at FILE:1:1"),
        (
            "sketch = 1",
            "FILE:1:10: `sketch` is a list of tables, not a number: write [[sketch]]",
        ),
        (
            "[sketch]\nname = 'a'",
            "`sketch` is a list of tables, not a table: write [[sketch]]",
        ),
        (
            "sketch = [1]",
            "FILE:1:11: a sketch is a table, not a number",
        ),
        (
            "[[sketch]]\nwidth = 5",
            "FILE:1:1: `name` is missing: write name = \"logins\"",
        ),
        (
            "[[sketch]]\nname = 'Logins'",
            "FILE:2:8: `name`: a sketch's name has no 'L'",
        ),
        (
            "[[sketch]]\nname = ''",
            "FILE:2:8: `name`: a sketch's name has 1 to 64 characters, not 0",
        ),
        (
            "[[sketch]]\nname = 'a'\nwindows = []",
            "FILE:3:1: a sketch has no key \"windows\": do you mean `window`?",
        ),
        (
            "[[sketch]]\nname = 'a'\nwidth = 'x'",
            "FILE:3:9: `width`: not a whole number: write digits only",
        ),
        (
            "[[sketch]]\nname = 'a'\nwidth = 0",
            "FILE:1:1: sketch a: a sketch needs a width of at least 1",
        ),
        (
            "[[sketch]]\nname = 'a'\n[[sketch]]\nname = 'a'",
            "FILE:3:1: there are two sketches of the name a: give one of them another name; the other is at FILE:1:1",
        ),
        (
            "[[sketch]]\nname = 'a'\n[[sketch.window]]\nstep = '5s'",
            "FILE:3:1: `span` is missing: write span = \"60s\"",
        ),
        (
            "[[sketch]]\nname = 'a'\n[[sketch.window]]\nspan = 60",
            "FILE:4:8: `span`: not a length of time",
        ),
        (
            "[[sketch]]\nname = 'a'\n[[sketch.window]]\nspan = '60s'\nsteps = '5s'",
            "do you mean `step`?",
        ),
        (
            "hash = 'fnv'\n[[sketch]]\nname = 'a'\n[[sketch.window]]\nspan = '60s'\nwidth = 64",
            "FILE:2:1: sketch a: the columns of the hash fnv do not fold",
        ),
        (
            "width = 5\n[[sketch]]\nname = 'default'\nwidth = 6",
            "FILE:2:1: the size of sketch default is given twice",
        ),
    ];
    for (text, told) in cases {
        let error = config(text).unwrap_err();
        assert!(error.contains(told), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn limits_are_read_whole() {
    let text = "[[sketch]]
name = 'logins'
[[sketch.window]]
span = '1h'
[[limit]]
name = 'api'
amounts = ['100/60s', '10/5s']
[[limit]]
name = 'logins-of-ip'
sketch = 'logins'
keys = 'ip:*'
amounts = ['5/1h']
cost = 3
verdict = 'count'
overrides = [{ key = 'ip:premium-*', amounts = ['50/1h'] }, { network = '10.1.2.3/8', amounts = ['0/5m'] }]
exempt = ['127.0.0.1', 'fd00::/8', 'health']
shadow = true";
    let limits = config(text).unwrap().limits;
    let [api, logins] = &limits[..] else {
        panic!("{limits:?}");
    };
    assert_eq!(
        (api.name.as_str(), api.sketch.as_str(), api.keys.as_str()),
        ("api", "default", "*")
    );
    assert_eq!(
        (api.cost, api.verdict, api.shadow),
        (1, LimitVerdict::Take, false)
    );
    assert!(api.overrides.is_empty() && api.exempt.is_empty());
    assert_eq!(
        api.amounts[1],
        Amount {
            count: 10,
            window_ms: 5_000
        }
    );
    assert_eq!(
        (logins.cost, logins.verdict, logins.shadow),
        (3, LimitVerdict::Count, true)
    );
    assert!(logins.overrides[0].who.has(b"ip:premium-7"));
    assert!(logins.overrides[1].who.has(b"10.200.0.1"));
    let exempt: Vec<_> = logins.exempt.iter().map(ToString::to_string).collect();
    assert_eq!(exempt, ["127.0.0.1/32", "fd00::/8", "health"]);
}

#[test]
fn wrong_limits_are_said_with_their_place() {
    let limit = "[[limit]]\nname = 'a'\namounts = ['1/60s']\n";
    let many = |what: &str, n: usize| vec![what; n].join(",");
    let too_many = format!("{limit}exempt = [{}]", many("'a'", 257));
    let overrides = many("{key='a', amounts=['1/60s']}", 257);
    let too_many_overrides = format!("{limit}overrides = [{overrides}]");
    let nine: Vec<_> = (1..=9).map(|i| format!("'1/{}s'", 5 * i)).collect();
    let nine = format!("[[limit]]\nname = 'a'\namounts = [{}]", nine.join(","));
    let cases = [
        ("[[limit]]", "FILE:1:1: `name` is missing"),
        (
            "[[limit]]\nname = 'A'",
            "FILE:2:8: `name`: a limit's name has no 'A'",
        ),
        (
            "[[limit]]\nname = 'a'",
            "FILE:1:1: `amounts` is missing: write amounts = [\"100/60s\"]",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = []",
            "FILE:3:11: `amounts` is empty",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = '1/60s'",
            "FILE:3:11: `amounts` is a list in [ ], not a text",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1']",
            "FILE:3:12: `amounts`: \"1\" is not COUNT/TIME",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s', '2/1m']",
            "FILE:3:21: `amounts` has 1m twice",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/61s']",
            "FILE:3:12: limit a: no window of sketch default covers 61s: it has 1m by 5s; choose",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\nsketch = 'b'",
            "FILE:3:12: limit a: there is no sketch b; there are default",
        ),
        (
            "[[sketch]]\nname = 'default'\nwindow = []\n[[limit]]\nname = 'a'\namounts = ['1/60s']",
            "no window of sketch default covers 1m: it has none",
        ),
        (
            "[[limit]]\nname = 'a'\namount = ['1/60s']",
            "a limit has no key \"amount\": do you mean `amounts`?",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\ncost = 0",
            "FILE:4:8: `cost`: 0 is not in 1..=1048576",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\nverdict = 'x'",
            "FILE:4:11: `verdict`: use take",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\nshadow = 'x'",
            "FILE:4:10: `shadow` is true or false, not a text",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\nkeys = ''",
            "`keys`: a pattern of keys has 1 to 256 bytes, not 0",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\nexempt = ['10.0.0.0/33']",
            "FILE:4:11: `exempt`: \"10.0.0.0/33\" is not a network",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\noverrides = [{ amounts = ['1/5s'] }]",
            "FILE:4:14: an override has either a key",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\noverrides = [{ key = 'b', amounts = ['1/7s'] }]",
            "FILE:4:38: limit a: no window of sketch default covers 7s",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\noverrides = [{ network = 'b', amounts = ['1/5s'] }]",
            "`network`: \"b\" is not a network",
        ),
        (
            "[[limit]]\nname = 'a'\namounts = ['1/60s']\noverrides = [1]",
            "FILE:4:14: an override is a table, not a number",
        ),
        (
            &format!("{limit}{limit}"),
            "FILE:4:1: there are two limits of the name a: give one of them another name; the other is at FILE:1:1",
        ),
        (
            &limit.repeat(257),
            "257 are above the limit of 256 limits of a node",
        ),
        (
            &too_many,
            "257 are above the limit of 256 exemptions of a limit",
        ),
        (
            &too_many_overrides,
            "257 are above the limit of 256 overrides of a limit",
        ),
        (&nine, "9 are above the limit of 8 amounts of a limit"),
    ];
    for (text, told) in cases {
        let error = config(text).unwrap_err();
        assert!(error.contains(told), "{text}: {error}");
    }
}

/// A higher level takes precedence, and what contradicts it below does not count.
#[test]
fn the_line_takes_precedence_over_the_file() {
    let cases = [
        ("-x 7", "width = 5\ndepth = 3", "-x 7 -y 3"),
        (
            "--epsilon 0.1 --confidence 0.9",
            "width = 5\ndepth = 3",
            "--epsilon 0.1 --confidence 0.9",
        ),
        (
            "--epsilon 0.1",
            "confidence = 0.9",
            "--epsilon 0.1 --confidence 0.9",
        ),
        ("-y 2", "epsilon = 0.1\nconfidence = 0.9", "-y 2"),
        ("-x 5", "compat = true", "-x 5"),
        (
            "--compat",
            "seed = 4\nwidth = 5\nepsilon = 0.5\n[[sketch]]\nname = 'default'\nwidth = 8",
            "--compat",
        ),
        ("--hash fnv", "seed = 7", "--hash fnv"),
        ("--hash xxh3", "seed = 7", "--seed 7"),
        (
            "--cluster off",
            "join = ['a:1']\nadvertise = 'b:1'",
            "--cluster off",
        ),
        ("--join a:1", "cluster = 'off'", "--join a:1"),
        ("--join a:1", "join = ['b:1', 'c:1']", "--join a:1"),
        (
            "-x 5",
            "[[sketch]]\nname = 'default'\nwidth = 6\nwindow = []",
            "-x 5 --sketch name=default,windows=none",
        ),
        (
            "--sketch name=a,width=5",
            "[[sketch]]\nname = 'a'\nwidth = 6\n[[sketch]]\nname = 'b'",
            "--sketch name=a,width=5;name=b",
        ),
        (
            "--sketch name=default,width=6",
            "width = 5\n[[sketch]]\nname = 'default'\nwidth = 7",
            "--sketch name=default,width=6",
        ),
        ("localhost:1", "address = 'localhost:2'", "localhost:1"),
        ("", "address = 'localhost:2'", "localhost:2"),
        ("--threads 2", "threads = 0", "--threads 2"),
    ];
    for (line, text, same) in cases {
        let read = with_line(line, text).map(|(config, _)| config);
        assert_eq!(read, Ok(of_line(same)), "{line} over {text}");
    }
}

#[test]
fn where_a_value_comes_from_is_known() {
    let text = "threads = 3\nwidth = 5\n[[sketch]]\nname = 'a'";
    let (_, origins) = with_line("-y 2 --sketch name=b", text).unwrap();
    let of = |key| {
        origins
            .of_setting(key)
            .to_string()
            .rsplit_once(".toml")
            .map_or_else(
                || origins.of_setting(key).to_string(),
                |(_, place)| place.to_owned(),
            )
    };
    for (key, source) in [
        ("threads", ":1:1"),
        ("width", ":2:1"),
        ("depth", "flag"),
        ("io", "default"),
        ("epsilon", ":2:1"),
    ] {
        assert_eq!(of(key), source, "{key}");
    }
    let of_sketch = |name: &str| origins.of_sketch(&name.parse().unwrap()).to_string();
    assert!(of_sketch("a").ends_with(".toml:3:1"));
    assert_eq!(
        (&*of_sketch("b"), &*of_sketch("default")),
        ("flag", "default")
    );
    let (_, origins) = with_line("--compat", "width = 5").unwrap();
    for key in ["width", "depth", "hash", "compat"] {
        assert_eq!(origins.of_setting(key), Source::Flag, "{key}");
    }
}

#[test]
fn hostile_files_are_refused() {
    let deep = |open: &str, close: &str| {
        format!("join = {}{}", open.repeat(100_000), close.repeat(100_000))
    };
    let (lists, tables) = (deep("[", "]"), deep("{a=", "}"));
    let dotted = format!("{}a = 1", "a.".repeat(100_000));
    let sketches: String = (0..10_000)
        .map(|i| format!("[[sketch]]\nname = 's{i}'\n"))
        .collect();
    let cases: [(&[u8], &str); 13] = [
        (&[b'x'; 1 << 20], "FILE:1:1048577: no TOML"),
        (&[b'['; 1 << 20], "no TOML: "),
        (&[0; 1 << 20], "FILE:1:1048577: no TOML"),
        (b"log = 'a\0b'", "FILE:1:9: no TOML"),
        (
            b"depth = 4\nlog = 'a\xff'",
            "FILE:2:9: not UTF-8, as TOML is",
        ),
        (&[0xff; 1 << 20], "FILE:1:1: not UTF-8"),
        (lists.as_bytes(), "max recursion depth met"),
        (tables.as_bytes(), "max recursion depth met"),
        (dotted.as_bytes(), "recursion limit"),
        (&vec![b'#'; (8 << 20) + 1], "more than 8388608 bytes"),
        (
            sketches.as_bytes(),
            "10000 sketches are above the limit of 256",
        ),
        ("\u{feff}[".as_bytes(), "no TOML"),
        (b"data-dir = \"a\\u0000b\"\nzzz = 1", "no key \"zzz\""),
    ];
    for (text, told) in cases {
        let error = config(text).unwrap_err();
        let head: String = String::from_utf8_lossy(text).chars().take(40).collect();
        assert!(error.contains(told), "{head:?}: {error}");
        assert!(error.len() < 1_000, "{head:?}: {error}");
    }
    let folder = config_of_file(std::env::temp_dir().as_os_str()).unwrap_err();
    assert!(folder.contains("Is a directory"), "{folder}");
    let missing = config_of_file("/nowhere/rmbd.toml".as_ref()).unwrap_err();
    assert!(
        missing.starts_with("cannot read the configuration file /nowhere/rmbd.toml: No such file"),
        "{missing}"
    );
    let endless = config_of_file("/dev/zero".as_ref()).unwrap_err();
    assert!(endless.contains("more than 8388608 bytes"), "{endless}");
    assert!(config_of_file("".as_ref()).is_err());
}

#[test]
fn the_largest_number_of_sketches_is_taken() {
    let text: String = (1..SKETCHES_MAX)
        .map(|i| format!("[[sketch]]\nname = 's{i}'\n"))
        .collect();
    assert_eq!(
        config(&text).unwrap().all_sketches().unwrap().len(),
        SKETCHES_MAX
    );
    let one_more = format!("{text}[[sketch]]\nname = 'more'");
    assert!(
        config(one_more)
            .unwrap_err()
            .contains("257 sketches are above the limit")
    );
}

proptest! {
    #[test]
    fn no_file_panics(text in "([a-z\\[\\]{}=\"'#.,\n é0-9-]|\\[\\[sketch\\]\\]\n|\\[\\[limit\\]\\]\n|name = 'a'\n|amounts = ){0,40}") {
        let _ = ConfigFile::parse("FILE".as_ref(), &text);
    }
}
