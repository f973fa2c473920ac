//! Tests of command lines: their meanings, and the errors for those that are wrong.
#![allow(clippy::unwrap_used)]

use clap::{CommandFactory, Parser};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    node: NodeOptions,
}

/// The configuration of a command line, or the first line of the error that is shown.
fn config(line: &str) -> Result<NodeConfig, String> {
    let words = std::iter::once("rmbd").chain(line.split_whitespace());
    let line = Line::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        text.lines().next().unwrap().to_owned()
    })?;
    NodeConfig::from_options(line.node).map_err(|error| error.to_string())
}

fn geometry(width: u64, depth: u64) -> Geometry {
    Geometry::new(width, depth).unwrap()
}

fn sketch(name: &str, geometry: Geometry, windows: &[(u64, Option<u64>)]) -> SketchConfig {
    let family = NodeConfig::default().family;
    let plan = |&(span_ms, step_ms): &(u64, _)| {
        rmbd_store::WindowPlan::new(span_ms, step_ms, None, geometry, family).unwrap()
    };
    SketchConfig {
        name: name.parse().unwrap(),
        geometry,
        windows: windows.iter().map(plan).collect(),
        top: TOP_DEFAULT,
    }
}

fn host_port(text: &str) -> HostPort {
    text.parse().unwrap()
}

fn of_cluster(cluster: ClusterConfig) -> NodeConfig {
    NodeConfig {
        cluster,
        ..NodeConfig::default()
    }
}

#[test]
fn nothing_said_is_the_default() {
    let config = config("").unwrap();
    assert_eq!(config, NodeConfig::default());
    assert_eq!(config.address, "127.0.0.1:8000");
    assert_eq!(config.geometry, geometry(1_048_576, 4));
    assert_eq!(config.family, HashFamily::Xxh3 { seed: 0x726d_6264 });
    assert_eq!(config.dialect, Dialect::Native);
    assert_eq!(config.threads, None);
    assert_eq!(config.io, IoChoice::Auto);
    assert_eq!(config.receive_buffer_bytes, 8_388_608);
    assert_eq!(config.http, HttpChoice::SameAsUdp);
    assert_eq!((config.max_peers, config.peer_grace_rounds), (256, 3));
    let cluster = &config.cluster;
    assert_eq!(cluster.address, ClusterChoice::NextPort);
    assert_eq!(
        (cluster.gossip_interval_ms, cluster.max_origins),
        (500, 65_536)
    );
    assert_eq!(cluster.gossip_rate_bytes_per_s, 33_554_432);
    assert_eq!(cluster.max_memory_bytes, None);
}

#[test]
fn every_option_is_heard() {
    let default = NodeConfig::default;
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    let cases: &[(&str, NodeConfig)] = &[
        ("localhost:0", NodeConfig::at("localhost:0")),
        ("[::1]:9000", NodeConfig::at("[::1]:9000")),
        (
            "-x 100",
            NodeConfig {
                geometry: geometry(100, 4),
                ..default()
            },
        ),
        (
            "--depth 7",
            NodeConfig {
                geometry: geometry(1_048_576, 7),
                ..default()
            },
        ),
        (
            "-x 100 -y 10",
            NodeConfig {
                geometry: geometry(100, 10),
                ..default()
            },
        ),
        (
            "--epsilon 0.001 --confidence 0.99",
            NodeConfig {
                geometry: Geometry::from_error(0.001, 0.99).unwrap(),
                ..default()
            },
        ),
        (
            "--hash fnv",
            NodeConfig {
                family: HashFamily::Fnv,
                ..default()
            },
        ),
        (
            "--hash xxh3 --seed 7",
            NodeConfig {
                family: HashFamily::Xxh3 { seed: 7 },
                ..default()
            },
        ),
        (
            "--seed 0xff",
            NodeConfig {
                family: HashFamily::Xxh3 { seed: 255 },
                ..default()
            },
        ),
        (
            "--compat",
            NodeConfig {
                geometry: geometry(100, 10),
                family: HashFamily::Fnv,
                ..default()
            },
        ),
        (
            "--sketch name=default,width=64,windows=none --sketch name=logins,depth=2,windows=1h/10m;name=pages",
            NodeConfig {
                geometry: geometry(64, 4),
                windows: Vec::new(),
                sketches: vec![
                    sketch(
                        "logins",
                        geometry(1_048_576, 2),
                        &[(3_600_000, Some(600_000))],
                    ),
                    sketch("pages", Geometry::DEFAULT, &[(60_000, None)]),
                ],
                ..default()
            },
        ),
        (
            "--dialect network",
            NodeConfig {
                dialect: Dialect::Network,
                ..default()
            },
        ),
        (
            "--threads 2",
            NodeConfig {
                threads: Some(2),
                ..default()
            },
        ),
        (
            "--io uring",
            NodeConfig {
                io: IoChoice::Uring,
                ..default()
            },
        ),
        (
            "--io mmsg",
            NodeConfig {
                io: IoChoice::Mmsg,
                ..default()
            },
        ),
        (
            "--busy-poll 200",
            NodeConfig {
                busy_poll_us: 200,
                ..default()
            },
        ),
        (
            "--receive-buffer 65536",
            NodeConfig {
                receive_buffer_bytes: 65_536,
                ..default()
            },
        ),
        (
            "--trust 10.0.0.0/8,fd00::/8 --trust 192.0.2.1",
            NodeConfig {
                trust: nets(&["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]),
                ..default()
            },
        ),
        (
            "--show-keys 10.0.0.0/8,fd00::/8 --show-keys 192.0.2.1",
            NodeConfig {
                show_keys: nets(&["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]),
                ..default()
            },
        ),
        (
            "--top 0",
            NodeConfig {
                top: Some(0),
                ..default()
            },
        ),
        (
            "--top 1000",
            NodeConfig {
                top: Some(1_000),
                ..default()
            },
        ),
        (
            "--allow 10.1.2.3/8",
            NodeConfig {
                allow: nets(&["10.0.0.0/8"]),
                ..default()
            },
        ),
        (
            "--http off",
            NodeConfig {
                http: HttpChoice::Off,
                ..default()
            },
        ),
        (
            "--http 0.0.0.0:0",
            NodeConfig {
                http: HttpChoice::At("0.0.0.0:0".into()),
                ..default()
            },
        ),
        (
            "--http-token-file tokens --http-check",
            NodeConfig {
                http_token_file: Some("tokens".into()),
                http_check: true,
                ..default()
            },
        ),
        (
            "--http-host rmbd.example,metrics --http-host Node_1",
            NodeConfig {
                http_hosts: ["rmbd.example", "metrics", "Node_1"]
                    .map(str::to_owned)
                    .into(),
                ..default()
            },
        ),
        (
            "--max-peers 1",
            NodeConfig {
                max_peers: 1,
                ..default()
            },
        ),
        (
            "--max-weight 1000",
            NodeConfig {
                max_weight: 1000,
                ..default()
            },
        ),
        (
            "--resp 0.0.0.0:6379 --resp-password-file p --resp-connections 7 --resp-idle 5m",
            NodeConfig {
                resp: RespConfig {
                    address: Some("0.0.0.0:6379".into()),
                    password_file: Some("p".into()),
                    connections: 7,
                    idle_ms: 300_000,
                },
                ..default()
            },
        ),
        (
            "--envoy localhost:0 --limits tests/data/envoy_rules.yaml",
            default()
                .with_envoy(
                    EnvoyConfig::read(
                        Some("localhost:0".into()),
                        vec!["tests/data/envoy_rules.yaml".into()],
                    )
                    .unwrap(),
                )
                .unwrap(),
        ),
        (
            "--resp localhost:0 --resp-idle 0",
            NodeConfig {
                resp: RespConfig {
                    idle_ms: 0,
                    ..RespConfig::at("localhost:0")
                },
                ..default()
            },
        ),
        (
            "--spoe [::1]:9001",
            NodeConfig {
                spoe: Some("[::1]:9001".into()),
                ..default()
            },
        ),
        (
            "--peer-grace 9",
            NodeConfig {
                peer_grace_rounds: 9,
                ..default()
            },
        ),
        (
            "--join a:1,b:2 --join [::1]:3",
            of_cluster(ClusterConfig::joining([
                host_port("a:1"),
                host_port("b:2"),
                host_port("[::1]:3"),
            ])),
        ),
        (
            "--cluster off",
            of_cluster(ClusterConfig {
                address: ClusterChoice::Off,
                ..ClusterConfig::default()
            }),
        ),
        (
            "--cluster 0.0.0.0:7000 --advertise node-1.example:0",
            of_cluster(ClusterConfig {
                address: ClusterChoice::At("0.0.0.0:7000".into()),
                advertise: Some(host_port("node-1.example:0")),
                ..ClusterConfig::default()
            }),
        ),
        (
            "--cluster-key-file keys --data-dir /var/lib/rmbd",
            of_cluster(ClusterConfig {
                key_file: Some("keys".into()),
                data_dir: Some("/var/lib/rmbd".into()),
                ..ClusterConfig::default()
            }),
        ),
        (
            "--data-dir d --snapshot-interval 1h30m",
            of_cluster(ClusterConfig {
                data_dir: Some("d".into()),
                snapshot_interval_ms: 5_400_000,
                ..ClusterConfig::default()
            }),
        ),
        (
            "--data-dir d --snapshot-interval 0",
            of_cluster(ClusterConfig {
                data_dir: Some("d".into()),
                snapshot_interval_ms: 0,
                ..ClusterConfig::default()
            }),
        ),
        (
            "--insecure-cluster",
            of_cluster(ClusterConfig {
                insecure: true,
                ..ClusterConfig::default()
            }),
        ),
        (
            "--gossip-interval 50 --gossip-rate 65536",
            of_cluster(ClusterConfig {
                gossip_interval_ms: 50,
                gossip_rate_bytes_per_s: 65_536,
                ..ClusterConfig::default()
            }),
        ),
        (
            "--max-origins 8 --max-memory 1000000000",
            of_cluster(ClusterConfig {
                max_origins: 8,
                max_memory_bytes: Some(1_000_000_000),
                ..ClusterConfig::default()
            }),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(config(line).as_ref(), Ok(expected), "{line}");
    }
    // An option whose value is the default would prove nothing.
    assert!(cases.iter().all(|(_, expected)| *expected != default()));
    // Each argument stands above at least once, except the log filter and the name of a file, which do not belong to
    // the node.
    let is_of_node = |name: &&str| !["log", "config"].contains(name);
    for arg in Line::command().get_arguments() {
        let Some(name) = arg.get_long().filter(is_of_node) else {
            continue;
        };
        let short = arg.get_short().map(|short| format!("-{short} "));
        assert!(
            cases
                .iter()
                .any(|(line, _)| line.contains(&format!("--{name}"))
                    || short.as_ref().is_some_and(|short| line.contains(short))),
            "--{name}"
        );
    }
}

#[test]
fn what_cannot_be_is_said_with_the_cure() {
    let cases = [
        ("-x 0", "a width of at least 1"),
        ("-y 0", "a depth of at least 1"),
        ("-y 33", "limit of 32 rows"),
        ("-x -1", "invalid value '-1' for '--width <WIDTH>'"),
        ("-x 18446744073709551615", "choose a smaller width"),
        (
            "-x 99999999999999999999",
            "invalid value '99999999999999999999' for '--width <WIDTH>'",
        ),
        (
            "--epsilon 0 --confidence 0.9",
            "epsilon must lie between 0 and 1",
        ),
        (
            "--epsilon -1 --confidence 0.9",
            "epsilon must lie between 0 and 1",
        ),
        (
            "--epsilon nan --confidence 0.9",
            "epsilon must lie between 0 and 1",
        ),
        (
            "--epsilon 0.1 --confidence 1",
            "confidence must lie between 0 and 1",
        ),
        (
            "--epsilon 0.1",
            "--epsilon and --confidence go together: give both",
        ),
        (
            "--confidence 0.1",
            "--epsilon and --confidence go together: give both",
        ),
        (
            "-x 5 --epsilon 0.1 --confidence 0.9",
            "the size is given twice: leave out",
        ),
        (
            "-y 5 --epsilon 0.1 --confidence 0.9",
            "the size is given twice: leave out",
        ),
        ("--compat -x 100", "--compat fixes the size to -x 100 -y 10"),
        ("--compat -y 10", "--compat fixes the size"),
        (
            "--compat --epsilon 0.1 --confidence 0.9",
            "--compat fixes the size",
        ),
        ("--compat --hash fnv", "--compat fixes the hash to fnv"),
        ("--compat --seed 1", "--compat fixes the hash to fnv"),
        ("--hash fnv --seed 1", "fnv has no seed: leave out --seed"),
        ("--hash md5", "invalid value 'md5' for '--hash <HASH>'"),
        ("--seed x", "write it in decimal, or hexadecimal behind 0x"),
        (
            "--dialect python",
            "invalid value 'python' for '--dialect <DIALECT>'",
        ),
        ("--io epoll", "invalid value 'epoll' for '--io <IO>'"),
        ("--threads 0", "0 is not in 1..=512"),
        ("--busy-poll 2000000", "2000000 is not in 0..=1000000"),
        ("--receive-buffer 1", "1 is not in 4096..="),
        (
            "--trust 10.0.0.0/33",
            "write ADDRESS/BITS, such as 10.0.0.0/8",
        ),
        ("--trust 10.0.0/8", "write ADDRESS/BITS"),
        (
            "--allow 10.0.0.0/8,x",
            "invalid value 'x' for '--allow <CIDR>'",
        ),
        ("--http 8000", "no port: write HOST:PORT"),
        ("--http localhost:65536", "use a number from 0 to 65535"),
        (
            "--http-host http://a",
            "write it without http:// and without a port",
        ),
        (
            "--http-host a:80",
            "write it without http:// and without a port",
        ),
        ("--http-check", "give --http-token-file"),
        ("--max-peers 0", "0 is not in 1..=65536"),
        ("--max-weight 0", "0 is not in 1..=1048576"),
        ("--max-weight 1048577", "1048577 is not in 1..=1048576"),
        ("--peer-grace 0", "0 is not in 1.."),
        ("--join localhost", "no port: write HOST:PORT"),
        ("--join localhost:0", "port 0 cannot be reached"),
        ("--join a:1,b", "invalid value 'b' for '--join <HOST:PORT>'"),
        ("--cluster on", "no port: write HOST:PORT"),
        (
            "--cluster off --join a:1",
            "--cluster off (RMBD_CLUSTER) and --join",
        ),
        (
            "--cluster off --advertise a:1",
            "and --advertise (RMBD_ADVERTISE) contradict",
        ),
        (
            "--cluster off --cluster-key-file keys",
            "and --cluster-key-file (RMBD_CLUSTER_KEY_FILE) contradict",
        ),
        (
            "--cluster off --insecure-cluster",
            "and --insecure-cluster (RMBD_INSECURE_CLUSTER) contradict",
        ),
        ("--advertise 10.0.0.1", "no port: write HOST:PORT"),
        ("--gossip-interval 49", "49 is not in 50..=60000"),
        ("--data-dir d --snapshot-interval 999ms", "1s to 30d apart"),
        ("--data-dir d --snapshot-interval 31d", "1s to 30d apart"),
        ("--data-dir d --snapshot-interval 60", "such as 60s"),
        ("--resp-password-file p", "give that, too"),
        ("--envoy 127.0.0.1:0", "name their files with --limits"),
        (
            "--limits there/is/none.yaml",
            "--limits (RMBD_LIMITS): there/is/none.yaml",
        ),
        ("--resp-idle 10ms", "1s to 30d"),
        ("--resp-connections 0", "0 is not in"),
        ("--snapshot-interval 60s", "give that, too"),
        ("--snapshot-interval 0", "give that, too"),
        ("--gossip-interval 60001", "60001 is not in 50..=60000"),
        ("--gossip-rate 1000", "1000 is not in 65536..="),
        ("--max-origins 0", "0 is not in 1..=1048576"),
        ("--max-memory 0", "0 is not in 1.."),
        (
            "start",
            "neither HOST:PORT, such as 127.0.0.1:8000, nor one of the commands",
        ),
        (
            "localhost:65536",
            "\"65536\" is not a port: use a number from 0 to 65535",
        ),
        ("localhost:http", "\"http\" is not a port"),
        ("localhost:", "\"\" is not a port"),
        ("localhost:+80", "\"+80\" is not a port"),
        (":8000", "no host: write HOST:PORT"),
        ("::1", "an IPv6 address stands in brackets: [::1]:8000"),
        ("::1:8000", "an IPv6 address stands in brackets"),
        ("[::1]", "neither HOST:PORT"),
        ("[localhost]:1", "\"localhost\" is not an IPv6 address"),
    ];
    for (line, expected) in cases {
        let error = config(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
        assert!(!error.contains('\n'), "{line}: {error}");
    }
}

#[test]
fn every_option_has_a_variable() {
    let command = Line::command();
    let args: Vec<_> = command.get_arguments().collect();
    assert!(args.len() >= 28);
    for arg in args {
        let name = arg.get_long().unwrap_or_else(|| arg.get_id().as_str());
        let variable = format!("RMBD_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().unwrap().to_str(), Some(&*variable));
    }
}

#[test]
fn the_help_tells_the_true_defaults() {
    let help = Line::command().render_long_help().to_string();
    // The breaks of long lines are removed.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let HashFamily::Xxh3 { seed } = NodeConfig::default().family else {
        panic!("another default hash");
    };
    for default in [
        Geometry::DEFAULT.width().to_string(),
        Geometry::DEFAULT.depth().to_string(),
        format!("{seed:#x}"),
        DEFAULT_ADDRESS.to_owned(),
    ] {
        assert!(
            help.contains(&format!("[default: {default}]")),
            "{default}\n{help}"
        );
    }
}

#[test]
fn targets_have_a_port() {
    assert_eq!(HostPort::target("localhost:0"), Err(AddressError::PortZero));
    assert_eq!(HostPort::target("localhost:1").unwrap().port, 1);
}

proptest! {
    #[test]
    fn addresses_round_trip(host in "[a-z0-9.-]{1,30}|::1|fe80::1%eth0|2001:db8::", port in any::<u16>()) {
        let address = HostPort { host, port };
        prop_assert_eq!(address.to_string().parse::<HostPort>(), Ok(address));
    }

    #[test]
    fn no_text_panics(text in "[\\[\\]:%a-f0-9.é]{0,20}") {
        if let Ok(address) = text.parse::<HostPort>() {
            prop_assert_eq!(address.to_string().parse::<HostPort>(), Ok(address));
        }
    }
}

#[test]
fn a_word_alone_in_the_filter_of_the_log_is_a_level() {
    for good in [
        "info",
        "WARN",
        "off",
        "",
        "warn,rmbd=debug",
        "rmbd::node=trace, error",
        "rmbd[span]=debug",
    ] {
        assert_eq!(check_log_filter(good), Ok(()), "{good}");
    }
    for (bad, told) in [
        ("wran", "`wran` is no level: do you mean `warn`?"),
        ("rmbd=debug,inof", "`inof` is no level: do you mean `info`?"),
        (
            "hyper",
            "known are off, error, warn, info, debug, trace; a part of the program has its level behind it, as in \
             `hyper=debug`",
        ),
        ("rmbd=loud", "levels are off, error, warn"),
    ] {
        let error = check_log_filter(bad).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}
