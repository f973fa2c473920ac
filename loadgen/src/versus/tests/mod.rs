#![allow(clippy::unwrap_used)]

mod fake;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rmbd::config::NodeConfig;
use rmbd::node::Node;
use rmbd_sketch::Geometry;

use self::fake::{Behaviour, Fake, memcached_behaviour, redis_behaviour};
use super::adapter::{Adapter, AdapterError};
use super::markdown::markdown;
use super::memcached::Memcached;
use super::ours::Ours;
use super::process::{Server, StartError, cpu_seconds, resident_bytes};
use super::record::{COMPARISON_SCHEMA, Checked, Comparison, Memory, Score, Spread, Turn};
use super::redis::Redis;
use super::rival::{Rival, RivalError, RivalKind};
use crate::machine::{CpuTime, Environment};
use crate::plan::{Format, KeySet, KeySpec};

const ADDS: u64 = 10_000;
static RUN: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(true);

fn keys() -> KeySet {
    let spec: KeySpec = "zipf:1.1:100".parse().unwrap();
    KeySet::open(&spec, 16, "", Format::Legacy).unwrap()
}

/// Adds, counts every key, and compares with a second run of the stream.
fn check_adds_and_counts(adapter: &mut dyn Adapter) {
    let keys = keys();
    let added = adapter.add(&mut keys.stream(7, 0, 1), ADDS).unwrap();
    assert_eq!(added, ADDS);
    let mut truth = vec![0; keys.distinct() as usize];
    let mut stream = keys.stream(7, 0, 1);
    for _ in 0..ADDS {
        truth[stream.next_number() as usize] += 1;
    }
    for (number, count) in truth.into_iter().enumerate() {
        assert_eq!(
            adapter.count(&keys.key(number as u64)).unwrap(),
            count,
            "key {number}"
        );
    }
    assert_eq!(adapter.count(b"never added").unwrap(), 0);
}

#[test]
fn a_node_counts_what_it_was_sent_in_both_formats() {
    for format in [Format::Legacy, Format::Compact] {
        let config = NodeConfig {
            threads: Some(1),
            ..NodeConfig::at("127.0.0.1:0")
        };
        let node = Node::start(config).unwrap();
        let http = node.http_addr().unwrap();
        let connect = |stop| Ours::connect(node.udp_addr(), http, format, stop).unwrap();
        let mut ours = connect(&RUN);
        assert_eq!(ours.name(), format!("rmbd {}", env!("CARGO_PKG_VERSION")));
        assert!(ours.adds_as().starts_with(format.name()));
        assert!(ours.counts_as().starts_with(format.name()));
        check_adds_and_counts(&mut ours);
        drop(ours);
        let mut stopped = connect(&STOPPED);
        let stream = &mut keys().stream(7, 0, 1);
        assert!(matches!(
            stopped.add(stream, ADDS),
            Err(AdapterError::Interrupted)
        ));
        node.stop().unwrap();
    }
}

#[test]
fn redis_counts_what_it_was_sent_with_replies_and_without() {
    for quiet in [false, true] {
        let fake = Fake::start(redis_behaviour(quiet, false));
        let mut redis = Redis::connect(fake.address(), None, &RUN).unwrap();
        assert_eq!(
            (redis.name().as_str(), redis.pid),
            ("redis 7.9.9", Some(42))
        );
        assert_eq!(redis.adds_as().contains("CLIENT REPLY"), quiet);
        check_adds_and_counts(&mut redis);
    }
}

#[test]
fn a_sketch_in_redis_counts_what_it_was_sent() {
    let geometry = Geometry::new(1000, 3).unwrap();
    let fake = Fake::start(redis_behaviour(true, true));
    let mut redis = Redis::connect(fake.address(), Some(geometry), &RUN).unwrap();
    assert_eq!(redis.name(), "redis 7.9.9 CMS");
    assert!(redis.adds_as().contains("3 x 1000"));
    check_adds_and_counts(&mut redis);
}

#[test]
fn a_redis_without_sketches_is_said_with_the_cure() {
    let geometry = Geometry::new(1000, 3).unwrap();
    let fake = Fake::start(redis_behaviour(true, false));
    let error = Redis::connect(fake.address(), Some(geometry), &RUN)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("Redis 8, or RedisBloom"),
        "{error}"
    );
}

#[test]
fn memcached_counts_what_it_was_sent() {
    let fake = Fake::start(memcached_behaviour(None));
    let mut memcached = Memcached::connect(fake.address(), &RUN).unwrap();
    assert_eq!(
        (memcached.name().as_str(), memcached.pid),
        ("memcached 1.9.9", Some(42))
    );
    check_adds_and_counts(&mut memcached);
}

#[test]
fn a_quiet_operation_that_fails_is_an_error() {
    let fake = Fake::start(memcached_behaviour(Some(5000)));
    let mut memcached = Memcached::connect(fake.address(), &RUN).unwrap();
    let error = memcached
        .add(&mut keys().stream(7, 0, 1), ADDS)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "memcached refused adds: Out of memory (status 130)"
    );
}

#[test]
fn ctrl_c_ends_a_turn() {
    let fake = Fake::start(redis_behaviour(true, false));
    let mut redis = Redis::connect(fake.address(), None, &STOPPED).unwrap();
    let stream = &mut keys().stream(7, 0, 1);
    assert!(matches!(
        redis.add(stream, ADDS),
        Err(AdapterError::Interrupted)
    ));
    let fake = Fake::start(memcached_behaviour(None));
    let mut memcached = Memcached::connect(fake.address(), &STOPPED).unwrap();
    assert!(matches!(
        memcached.add(stream, ADDS),
        Err(AdapterError::Interrupted)
    ));
}

/// A server of another kind, which answers everything with the same text.
fn says(text: &'static [u8]) -> Behaviour {
    Box::new(move |_, output| {
        output.extend_from_slice(text);
        true
    })
}

#[test]
fn nobody_there_or_somebody_else_is_said() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let connect = |address| Memcached::connect(address, &RUN).err().unwrap().to_string();
    assert!(connect(nobody).contains("--start"), "{}", connect(nobody));
    let error = Redis::connect(nobody, None, &RUN)
        .err()
        .unwrap()
        .to_string();
    assert!(error.starts_with("can't connect to redis at"), "{error}");

    let redis = Fake::start(says(b"-ERR this is something else\r\n"));
    let error = connect(redis.address());
    assert!(error.contains("is no memcached"), "{error}");
    let web = Fake::start(says(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let error = Redis::connect(web.address(), None, &RUN)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("is no redis"), "{error}");
    let hung_up = Fake::start(Box::new(|_, _| false));
    let error = connect(hung_up.address());
    assert!(error.contains("does not answer any more"), "{error}");
}

#[test]
fn a_server_is_started_with_what_it_is_told_and_ended() {
    let arguments = ["-c", "echo ready $$; exec sleep 60"].map(str::to_owned);
    let mut server = Server::start(Path::new("/bin/sh"), "dash", &arguments, None).unwrap();
    let said = server.await_ready(|output| {
        let line = output.strip_prefix("ready ")?.strip_suffix('\n')?;
        line.parse::<u32>().ok()
    });
    let pid = server.pid();
    assert_eq!(said.unwrap(), pid);
    assert_eq!(server.command(), "sh -c 'echo ready $$; exec sleep 60'");
    assert!(cpu_seconds(pid).is_some_and(|cpu| cpu < 60.0));
    assert!(resident_bytes(pid).unwrap() > 4096);
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let missing = Server::start(Path::new("no-such-server"), "its-package", &[], None);
    let error = missing.unwrap_err();
    assert!(matches!(error, StartError::NotInstalled { .. }));
    assert!(error.to_string().contains("apt-get install its-package"));

    let arguments = ["-c", "echo the port is taken >&2; exit 3"].map(str::to_owned);
    let mut server = Server::start(Path::new("/bin/sh"), "dash", &arguments, None).unwrap();
    let error = server.await_ready(|_| None::<()>).unwrap_err().to_string();
    assert!(
        error.ends_with("ended at once (exit status: 3); it said: the port is taken"),
        "{error}"
    );
}

#[test]
fn cpu_time_of_a_thread_grows_with_work() {
    let cpu = CpuTime::from_now();
    let mut sum = 0_u64;
    while cpu.spent() < Duration::from_millis(5) {
        sum = std::hint::black_box(sum + 1);
    }
    assert!(sum > 0);
}

#[test]
fn a_rival_is_named_by_its_address() {
    let rival: Rival = "redis://localhost:6379/".parse().unwrap();
    assert_eq!(
        (rival.kind, rival.address.as_str()),
        (RivalKind::Redis, "localhost:6379")
    );
    assert_eq!(rival.to_string(), "redis://localhost:6379");
    assert!(rival.resolve().unwrap().ip().is_loopback());
    let rival: Rival = "memcached://".parse().unwrap();
    assert!(matches!(rival.resolve(), Err(RivalError::NoAddress(_))));
    for text in ["", "redis", "mysql://localhost:1"] {
        assert_eq!(text.parse::<Rival>(), Err(RivalError::Form), "{text}");
    }
}

fn score(name: &str, turns: &[(u64, f64, f64)]) -> Score {
    let turns = turns.iter().map(|&(received, seconds, cpu)| Turn {
        sent: 1_000_000,
        received,
        seconds,
        server_cpu_s: Some(cpu),
        generator_cpu_s: Some(seconds * 0.97),
    });
    Score {
        name: name.to_owned(),
        address: "127.0.0.1:1".to_owned(),
        server_command: Some(format!("{name} --port 1")),
        adds_as: "adds".to_owned(),
        counts_as: "counts".to_owned(),
        cpu: Some(0),
        turns: turns.collect(),
        counts: None,
        memory: vec![Memory {
            distinct_keys: 1_000_000,
            resident_bytes: 32 << 20,
        }],
        checked: Some(Checked {
            keys: 1000,
            exact: 999,
            below: 0,
            over_max: 2,
        }),
    }
}

fn comparison() -> Comparison {
    Comparison {
        schema: COMPARISON_SCHEMA,
        environment: Environment {
            started: "2026-01-02T03:04:05Z".to_owned(),
            command: "loadgen versus redis:// --start".to_owned(),
            ..Environment::default()
        },
        keys: "zipf:1.1:1000000".to_owned(),
        key_bytes: Some(16),
        seed: 1,
        adds_per_turn: 1_000_000,
        generator_cpu: Some(1),
        ours: score(
            "rmbd",
            &[
                (1_000_000, 0.1, 0.05),
                (999_000, 0.2, 0.05),
                (1_000_000, 0.1, 0.07),
            ],
        ),
        theirs: score("redis", &[(1_000_000, 1.0, 1.0), (1_000_000, 1.25, 1.0)]),
        ended_early: None,
    }
}

#[test]
fn figures_are_medians_of_turns() {
    let Comparison { ours, theirs, .. } = comparison();
    let rate = ours.adds_per_s().unwrap();
    assert_eq!((rate.min, rate.median, rate.max), (4_995_000.0, 1e7, 1e7));
    assert_eq!(theirs.adds_per_s().unwrap().median, 900_000.0);
    assert_eq!(theirs.cpu_ns_per_add().unwrap().median, 1000.0);
    assert_eq!(ours.lost(), 1000);
    assert_eq!(Spread::of([]), None);
}

#[test]
fn the_record_says_what_was_done_on_both_sides() {
    let mut comparison = comparison();
    let page = markdown(&comparison);
    for line in [
        "# rmbd against redis",
        "| adds/s | 10.0 M [5.00 M–10.0 M] | 900 k [800 k–1.00 M] | 11.1× |",
        "| server CPU per add | 50.1 ns [50 ns–70 ns] | 1.00 µs [1.00 µs–1.00 µs] | 20.0× |",
        "| memory after 1.00 M keys | 32.0 MiB | 32.0 MiB | 1.00× |",
        "loadgen versus redis:// --start",
        "rmbd --port 1",
        "redis --port 1",
        "The generator was the limit for rmbd and redis: more adds/s are possible.",
    ] {
        assert!(
            page.lines().any(|found| found == line),
            "{line}\nis not in\n{page}"
        );
    }
    assert!(page.contains(
        "rmbd answered the truth for 999 of 1\u{202f}000, less for 0, and at most 2 more."
    ));
    for turn in &mut comparison.theirs.turns {
        turn.generator_cpu_s = Some(0.2 * turn.seconds);
        turn.server_cpu_s = Some(0.4 * turn.seconds);
    }
    assert!(markdown(&comparison).contains("In the turns of redis neither the server nor"));
    comparison.ended_early = Some("interrupted".to_owned());
    assert!(markdown(&comparison).contains("**Ended early**: interrupted"));
    let text = serde_json::to_string(&comparison).unwrap();
    assert!(serde_json::from_str::<Comparison>(&text).unwrap() == comparison);
}
