//! Tests of what is shown of a cluster, and of keys for one.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use super::sample::status;
use super::tests::{run_with, server};
use super::*;
use crate::cli::status::NAME_WAITS_FOR;
use crate::config::{IoChoice, NodeConfig};
use crate::node::Node;
use crate::status::{
    ClusterStatus, MemberStatus, NewWriterStatus, OneWayStatus, OtherSketch, SharedNodeStatus,
    SliceStatus,
};
use rmbd_cluster::seal::KeyRing;
use rmbd_sketch::Geometry;

fn cluster() -> ClusterStatus {
    ClusterStatus {
        enabled: true,
        node: "00000000000000aa".into(),
        boot: "1000000000000000".into(),
        address: Some("0.0.0.0:8001".into()),
        advertised: Some("10.0.0.1:8001".into()),
        members: vec![
            MemberStatus {
                node: "00000000000000bb\u{1b}".into(),
                boot: "2000000000000000".into(),
                address: "10.0.0.2:8001".into(),
                client_port: 8000,
                state: "alive".into(),
                slices: 2,
                lag_versions: 3,
                lag_s: 0.5,
                heard_s: None,
                bytes_sent: 4096,
                bytes_received: 100,
                refuses_ours: false,
                writer: Some("2222222222222222".into()),
                other_sketches: vec![],
            },
            MemberStatus {
                node: "00000000000000cc".into(),
                boot: "3000000000000000".into(),
                address: "10.0.0.3:8001".into(),
                state: "alive".into(),
                bytes_sent: 10_240,
                other_sketches: vec![
                    OtherSketch {
                        sketch: 0,
                        fingerprint: Some("00000000000000ff".into()),
                    },
                    OtherSketch {
                        sketch: 7,
                        fingerprint: None,
                    },
                ],
                ..MemberStatus::default()
            },
        ],
        one_way: vec![OneWayStatus {
            address: "10.9.0.1:8001".into(),
            lag_versions: 1,
            ..OneWayStatus::default()
        }],
        slices: vec![SliceStatus {
            node: "00000000000000aa".into(),
            own: true,
            weight: 5_000,
            ..SliceStatus::default()
        }],
        slices_held: 1,
        slices_of_this_node: 1,
        slices_weight: 5_000,
        slices_refused: vec!["node cc".into()],
        bytes_sent: [("cells".into(), 4096), ("digest".into(), 1024)].into(),
        ..ClusterStatus::default()
    }
}

/// The output of `rmbd members` for this cluster.
fn members(words: &[&str], cluster: &ClusterStatus) -> String {
    let mut document = status(vec![]);
    document.cluster = cluster.clone();
    let (udp, http) = server(vec![(200, serde_json::to_string(&document).unwrap())]);
    let (result, output, notes) = run_with(words, udp.address, io::empty());
    result.unwrap();
    assert_eq!(notes, "");
    http.join().unwrap();
    udp.stop();
    output
}

#[test]
fn members_are_a_table_with_the_asked_node_first() {
    assert_eq!(
        members(&["members"], &cluster()),
        "\
node      address        state    boot      slices  behind by     for    sent    received
00000000  10.0.0.1:8001  asked    10000000  1       -             -      5 KiB   0 bytes
00000000  10.0.0.2:8001  alive    20000000  2       3             0.5 s  4 KiB   100 bytes
00000000  10.0.0.3:8001  alive    30000000  0       other sketch  0.0 s  10 KiB  0 bytes
-         10.9.0.1:8001  one way  -         -       1             -      -       -
not exchanged with 10.0.0.3:8001: sketch 0, of which it has another width, depth, hash or seed
not exchanged with 10.0.0.3:8001: sketch 7, which it does not have
not held: node cc
"
    );
    let json = members(&["members", "--json"], &cluster());
    let read: ClusterStatus = serde_json::from_str(&json).unwrap();
    assert_eq!(read, cluster());
}

#[test]
fn who_has_one_number_and_who_has_a_new_writer_is_said() {
    let named = || ClusterStatus {
        writer: "1111111111111111".into(),
        name_open: true,
        new_writer: Some(NewWriterStatus {
            reason: "same_writer".into(),
            detail: "both count apart from now on\u{1b}".into(),
            may_count_twice: true,
            by: Some("10.0.0.2:8001".into()),
            before: "0123456789abcdef".into(),
        }),
        shared_nodes: vec![SharedNodeStatus {
            node: "00000000000000bb".into(),
            addresses: vec!["10.0.0.2:8001".into(), "10.0.0.4:8001".into()],
            detail: "10.0.0.2:8001 and 10.0.0.4:8001 are one node".into(),
        }],
        ..cluster()
    };
    let open = format!("waits for {NAME_WAITS_FOR}\n");
    let output = members(&["members"], &named());
    let expected = [
        "one number 00000000000000bb: 10.0.0.2:8001 and 10.0.0.4:8001 are one node\n",
        "new writer 1111111111111111 in place of 0123456789abcdef: both count apart from now on\u{fffd}\n",
        &open,
    ];
    assert!(output.contains(&expected.concat()), "{output}");
    let json = members(&["members", "--json"], &named());
    assert_eq!(
        serde_json::from_str::<ClusterStatus>(&json).unwrap(),
        named()
    );
    let output = members(&["status"], &named());
    let expected = [
        "one number 10.0.0.2:8001 and 10.0.0.4:8001 are one node\n",
        "new writer both count apart from now on\u{fffd}\n",
        &open.replace("waits for ", "waits for  "),
    ];
    assert!(output.contains(&expected.concat()), "{output}");

    // Alone, a node waits for nobody.
    let mut alone = named();
    alone.one_way.clear();
    for member in &mut alone.members {
        member.state = "down".into();
    }
    for words in [["members"], ["status"]] {
        let output = members(&words, &alone);
        assert!(!output.contains("waits for"), "{output}");
    }
}

#[test]
fn a_node_in_no_cluster_says_why() {
    let off = ClusterStatus {
        off_because: Some("--cluster off".into()),
        ..ClusterStatus::default()
    };
    assert_eq!(
        members(&["members"], &off),
        "in no cluster: --cluster off\n"
    );
}

#[test]
fn status_has_a_line_for_the_cluster() {
    for (cluster, expected) in [
        (
            cluster(),
            "cluster    0.0.0.0:8001 as 10.0.0.1:8001, members alive 2, suspect 0, down 0, slices 1, total weight 5000, refused 0\n",
        ),
        (
            ClusterStatus {
                off_because: Some("--cluster off".into()),
                ..ClusterStatus::default()
            },
            "cluster    off: --cluster off\n",
        ),
    ] {
        let output = members(&["status"], &cluster);
        assert!(output.contains(expected), "{output}");
    }
}

#[test]
fn a_count_in_detail_names_who_contributes() {
    let node = Node::start(NodeConfig {
        geometry: Geometry::new(1 << 12, 4).unwrap(),
        threads: Some(1),
        io: IoChoice::Mmsg,
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap();
    node.add(b"a key/\xff", 3).unwrap();
    let id = node.status().cluster.node;
    let count = |words: &[&str]| {
        let input = &b"a key/\xff\nnone\n"[..];
        let words = [&["count", "--detail", "-"], words].concat();
        let command = Cli::try_parse_from(
            ["rmbd"]
                .iter()
                .chain(&words)
                .copied()
                .chain(["--server", &node.udp_addr().to_string()]),
        );
        let mut output = Vec::new();
        run(
            &command.unwrap().command.unwrap(),
            Streams {
                input: BufReader::new(Box::new(input)),
                input_waits: Box::new(|| false),
                output: Box::new(&mut output),
                notes: Box::new(io::sink()),
                shows_progress: false,
                is_terminal: false,
                is_screen: false,
            },
        )
        .unwrap();
        output
    };
    let expected = [
        b"3\ta key/\xff\n".to_vec(),
        format!("  3\tnode {id}, the one that answers\n").into(),
        b"0\tnone\n".to_vec(),
        format!("  0\tnode {id}, the one that answers\n").into(),
    ];
    assert_eq!(count(&[]), expected.concat());
    let json: serde_json::Value = serde_json::from_slice(&count(&["--json"])).unwrap();
    let origin = |count| serde_json::json!({"node": id, "slices": 1, "count": count, "own": true});
    let expected = serde_json::json!([
        {"key_base64": "YSBrZXkv/w==", "count": 3, "incomplete": false, "origins": [origin(3)]},
        {"key": "none", "count": 0, "incomplete": false, "origins": [origin(0)]},
    ]);
    assert_eq!(json, expected);
    node.stop().unwrap();
}

/// Runs `rmbd keygen`, which asks no server.
fn keygen(words: &[&str]) -> (Result<Done, CliError>, String) {
    let words = ["rmbd", "keygen"].iter().chain(words);
    let command = Cli::try_parse_from(words).unwrap().command.unwrap();
    let mut output = Vec::new();
    let streams = Streams::to(&mut output);
    let result = run(&command, streams);
    (result, String::from_utf8(output).unwrap())
}

#[test]
fn a_key_is_printed_or_written_once() {
    let (result, printed) = keygen(&[]);
    result.unwrap();
    assert_eq!(KeyRing::parse(&printed).unwrap().len(), 1);
    assert_ne!(keygen(&[]).1, printed, "drawn anew");
    let token = keygen(&["--token"]).1;
    assert!(token.starts_with("# A token of"), "{token}");
    assert!(!token.contains("cluster"), "{token}");
    let second = token.lines().nth(1).map(str::len);
    assert_eq!((token.lines().count(), second), (2, Some(64)), "{token}");

    let folder = std::env::temp_dir().join(format!("rmbd-keygen-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("key");
    let words = ["-o", path.to_str().unwrap()];
    let (result, printed) = keygen(&words);
    result.unwrap();
    assert_eq!(printed, "");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(KeyRing::parse(&text).unwrap().len(), 1);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let error = keygen(&words).0.unwrap_err();
    assert!(matches!(error, CliError::KeyFile { .. }), "{error}");
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        text,
        "never overwritten"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
