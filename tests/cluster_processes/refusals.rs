//! Tests that nodes outside of a cluster, or with another sketch, change nothing in it, and that keys change without
//! a stop.

use crate::support::folder::{Folder, key};
use crate::support::running::{Running, loopback};
use crate::support::together::{content, live, wait_until_equal, wait_until_one};

/// Starts a node on loopback that joins another one.
fn node(seed: Option<&Running>, options: &[&str]) -> Running {
    let mut words = vec![format!("{}:0", loopback())];
    words.extend(seed.map(|seed| format!("--join={}", seed.cluster())));
    words.extend(options.iter().map(|&option| option.to_owned()));
    Running::start(&words)
}

fn refused(node: &Running, reason: &str) -> u64 {
    *node.status().cluster.refused.get(reason).unwrap_or(&0)
}

/// Lines of a node's log that warn of a node at `from`.
fn warnings(node: &Running, from: &str) -> Vec<String> {
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains("WARN"));
    let about = lines.filter(|line| line.contains(from));
    about.map(str::to_owned).collect()
}

/// Starts two members and a stranger who wants to join. The members' status must count the stranger under this
/// reason.
fn is_refused(options: &[&str], stranger: &[&str], reason: &str, words: &[&str]) {
    let first = node(None, options);
    let second = node(Some(&first), options);
    wait_until_one(&[&first, &second]);
    first.add("k", 3);
    second.add("k", 4);
    let before = wait_until_equal(&[&first, &second]);
    let stranger = node(Some(&first), stranger);
    stranger.add("k", 500);
    // The stranger tries again and again, and is logged once.
    let counted = |status: &rmbd::status::Status| {
        status.cluster.refused.get(reason).copied().unwrap_or(0) >= 2
    };
    first.wait("refusals", counted);
    let warned = warnings(&first, &stranger.cluster().to_string());
    assert_eq!(warned.len(), 1, "{warned:?}");
    for word in words {
        assert!(warned[0].contains(word), "{warned:?} without {word}");
    }
    assert_eq!(refused(&second, reason), 0);
    for member in [&first, &second] {
        assert_eq!(content(&member.status()), before);
        assert_eq!(member.count("k"), 7);
        assert_eq!(live(&member.status()).len(), 1);
    }
    assert_eq!(stranger.count("k"), 500);
    assert!(stranger.status().cluster.members.is_empty());
    // The members go on as if the stranger were not there.
    second.add("k", 1);
    first.wait_for_count("k", 8);
}

/// Starts two members and a third one with another sketch. They know each other, and nothing of the sketch goes
/// either way.
fn is_apart(options: &[&str], other: &[&str], words: &[&str]) {
    let first = node(None, options);
    let second = node(Some(&first), options);
    wait_until_one(&[&first, &second]);
    first.add("k", 3);
    second.add("k", 4);
    let before = wait_until_equal(&[&first, &second]);
    let apart = node(Some(&first), other);
    apart.add("k", 500);
    wait_until_one(&[&first, &second, &apart]);
    let is_named = |status: &rmbd::status::Status, others: usize| {
        let members = status.cluster.members.iter();
        let named = members.filter(|member| !member.other_sketches.is_empty());
        named.count() == others
    };
    first.wait("a name", |status| is_named(status, 1));
    second.wait("a name", |status| is_named(status, 1));
    apart.wait("names", |status| is_named(status, 2));
    // All three go on counting.
    second.add("k", 1);
    apart.add("k", 1);
    first.wait_for_count("k", 8);
    apart.wait_for_count("k", 501);
    let fingerprint = |node: &Running| node.status().compact.fingerprint;
    for (member, others) in [(&first, [&apart]), (&second, [&apart])] {
        for other in others {
            is_told(member, other, words);
            let status = member.status();
            let mut members = status.cluster.members.iter();
            let told = members.find(|told| told.address == other.cluster().to_string());
            let told = &told.unwrap().other_sketches[0];
            assert_eq!(told.fingerprint, Some(fingerprint(other)));
        }
        assert_eq!(content(&member.status()).len(), before.len());
        assert_eq!(member.count("k"), 8);
    }
    is_told(&apart, &first, words);
    assert_eq!(apart.status().cluster.slices.len(), 1);
    // Each is ready, and lastingly without the other's counts.
    for node in [&first, &apart] {
        node.wait("as ready as it will be", |status| {
            status.is_ready() && status.readiness.lacks.len() == 1
        });
    }
    // No node waits for the other at the end.
    assert_eq!(apart.end().code, Some(0));
    wait_until_one(&[&first, &second]);
}

/// Checks that the log reports the other sketch once, and `rmbd members` lastingly.
fn is_told(member: &Running, other: &Running, words: &[&str]) {
    let address = other.cluster().to_string();
    let warned = warnings(member, &address);
    assert_eq!(warned.len(), 1, "{warned:?}");
    for word in words {
        assert!(warned[0].contains(word), "{warned:?} without {word}");
    }
    let output = member.command(&["members"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains(&format!("not exchanged with {address}: sketch 0")),
        "{told}"
    );
}

#[test]
fn a_member_with_another_geometry_exchanges_nothing() {
    is_apart(
        &["-x", "4096"],
        &["-x", "4097"],
        &["width", "depth", "hash", "seed"],
    );
}

#[test]
fn a_member_with_another_seed_exchanges_nothing_and_both_fingerprints_are_told() {
    let ours = node(None, &["-x", "4096"]).status().compact.fingerprint;
    let other = ["-x", "4096", "--seed", "1"];
    let theirs = node(None, &other).status().compact.fingerprint;
    is_apart(&["-x", "4096"], &other, &[&ours, &theirs]);
}

#[test]
fn a_wrong_key_is_refused() {
    let folder = Folder::new();
    let right = format!("--cluster-key-file={}", folder.file("right", &[&key()]));
    let wrong = format!("--cluster-key-file={}", folder.file("wrong", &[&key()]));
    let sketch = "-x=4096";
    is_refused(
        &[sketch, &right],
        &[sketch, &wrong],
        "forged",
        &["--cluster-key-file"],
    );
    // A node without a key does not come in either.
    is_refused(
        &[sketch, &right],
        &[sketch],
        "forged",
        &["--cluster-key-file"],
    );
}

/// In each step all nodes are restarted one after the other. At every moment they are one cluster.
#[test]
fn keys_are_changed_without_a_stop() {
    let folder = Folder::new();
    let (old, new) = (key(), key());
    let steps: [&[&str]; 4] = [&[&old], &[&old, &new], &[&new, &old], &[&new]];
    let addresses: Vec<_> = (0..3).map(|_| loopback()).collect();
    let start = |index: usize, step: usize| {
        let keys = folder.file(&format!("keys {step}"), steps[step]);
        let others = addresses.iter().filter(|&other| *other != addresses[index]);
        let others = others.map(|other| format!("--join={other}:9001"));
        let mut words = vec![
            format!("{}:9000", addresses[index]),
            "-x=4096".to_owned(),
            format!("--cluster-key-file={keys}"),
            format!("--data-dir={}", folder.path(&index.to_string())),
        ];
        words.extend(others);
        Running::start(&words)
    };
    let mut nodes: Vec<_> = (0..3).map(|index| start(index, 0)).collect();
    let mut total = 0;
    for step in 1..steps.len() {
        for index in 0..3 {
            wait_until_one(&nodes.iter().collect::<Vec<_>>());
            for node in &nodes {
                node.add("k", 1);
                total += 1;
            }
            let ended = nodes.remove(index).end();
            assert_eq!(ended.code, Some(0), "{}", ended.log);
            nodes.insert(index, start(index, step));
            for node in &nodes {
                node.wait_for_count("k", total);
            }
        }
    }
    for node in &nodes {
        assert_eq!(refused(node, "forged"), 0, "{}", node.log());
    }
    // The old key opens nothing any more.
    let seed = Some(&nodes[0]);
    let old = format!("--cluster-key-file={}", folder.file("old", &[&old]));
    let late = node(seed, &["-x=4096", &old]);
    nodes[0].wait("a refusal", |status| {
        status.cluster.refused.contains_key("forged")
    });
    assert_eq!(late.count("k"), 0);
}

#[test]
fn without_a_key_an_open_address_stays_alone_and_says_so() {
    let node = Running::start(&["0.0.0.0:0", "-x", "4096"]);
    assert_eq!(node.field("cluster"), "off");
    node.add("k", 1);
    let output = node.command(&["members"]);
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.starts_with("in no cluster: ") && told.contains("--cluster-key-file"),
        "{told}"
    );
    let log = node.end().log;
    let lines = log.lines().filter(|line| line.contains("alone"));
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("rmbd keygen") && lines[0].contains("--join"),
        "{log}"
    );
}
