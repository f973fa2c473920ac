//! An agent without sockets: handshakes, messages, errors and limits. Frames are written and read by code that shares
//! nothing with it.
#![allow(clippy::unwrap_used)]

mod connections;
mod generated;

use std::sync::Arc;

use rmbd_io::Stop;
use rmbd_proto::Boot;
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::once::{BootChain, OnceTable};
use rmbd_store::{NamedSketch, Registry, Replica, ReplicaOptions, SketchIndex, WindowPlan};
use rmbd_testkit::spoe::{self, Arg, Args, Said, Variables};

use super::FRAME_BYTES_MAX;
use super::agent::Agent;
use super::dialogue::{Dialogue, Then};
use crate::config::NodeConfig;
use crate::engine::limits::{Amount, KeySet};
use crate::engine::{Engine, EngineOptions, Rule};
use crate::fronts::datagrams::ClientPort;
use crate::shared::{LimitsInForce, Shared};

const HERE: &str = "127.0.0.1:9";

/// An engine with the sketches `default`, which keeps a minute, and `other`, and some limits with names.
fn engine() -> Engine {
    let (geometry, family) = (
        Geometry::new(1 << 12, 4).unwrap(),
        HashFamily::Xxh3 { seed: 1 },
    );
    let default = Replica::try_open(ReplicaOptions {
        windows: vec![WindowPlan::new(60_000, None, None, geometry, family).unwrap()],
        ..ReplicaOptions::new(geometry, family)
    });
    let other = Replica::try_open(ReplicaOptions::new(geometry, family));
    let sketches = [("default", default), ("other", other)];
    let sketches = sketches
        .map(|(name, replica)| NamedSketch::new(name.parse().unwrap(), Arc::new(replica.unwrap())));
    let options = EngineOptions {
        boot: Boot(7),
        earlier: BootChain::default(),
        max_weight: Weight::new(1_000).unwrap(),
        once: Arc::new(OnceTable::new(1, &[7; 32])),
    };
    let engine = Engine::new(Registry::new(sketches.into()).unwrap(), &options);
    engine.set_limits(vec![
        rule("api", false),
        rule("shadow", true),
        Rule {
            exempt: [KeySet::Pattern("free*".parse().unwrap())].into(),
            ..rule("exempt", false)
        },
    ]);
    engine
}

/// A limit of 2 in a minute.
fn rule(name: &str, is_shadow: bool) -> Rule {
    let (limit, window_ms) = (2, 60_000);
    Rule {
        name: name.into(),
        sketch: SketchIndex::DEFAULT,
        keys: "*".parse().unwrap(),
        amounts: [Amount { limit, window_ms }].into(),
        cost: 1,
        takes: true,
        overrides: Box::default(),
        exempt: Box::default(),
        is_shadow,
    }
}

fn agent_of(config: &NodeConfig) -> Arc<Agent> {
    let limits = Arc::new(LimitsInForce::new(&[]));
    let stop = Stop::new().unwrap();
    let shared = Shared::since(std::time::Instant::now(), engine(), limits, stop);
    let port = Arc::new(ClientPort::new(config, Arc::new(shared), None, 0));
    Arc::new(Agent::new(port, HERE.parse().unwrap()))
}

fn agent() -> Arc<Agent> {
    agent_of(&NodeConfig::at("127.0.0.1:0"))
}

/// All that is said in these bytes, which are whole frames.
fn all_said(mut bytes: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    while let Some((one, rest)) = spoe::read(bytes) {
        said.push(one);
        bytes = rest;
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    said
}

/// What is answered to pieces of a stream, and how it ends.
fn answers(agent: &Agent, pieces: &[&[u8]]) -> (Vec<u8>, Then) {
    let (mut dialogue, mut waiting, mut out) = (Dialogue::new(), Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let mut answers = Vec::new();
            let taken = dialogue.received(agent, &waiting, &mut answers);
            out.extend(answers);
            waiting.drain(..taken.bytes);
            match taken.then {
                Then::More => break,
                Then::Send => {}
                Then::End => return (out, Then::End),
            }
        }
    }
    (out, Then::More)
}

fn said(agent: &Agent, frames: &[Vec<u8>]) -> (Vec<Said>, Then) {
    let (out, then) = answers(agent, &[&frames.concat()]);
    (all_said(&out), then)
}

fn hello(frame_bytes_max: u64) -> Said {
    Said::Hello {
        version: "2.0".to_owned(),
        frame_bytes_max,
        capabilities: "pipelining".to_owned(),
    }
}

/// The variables that one notification sets.
fn variables(agent: &Agent, messages: &[(&str, Args<'_>)]) -> Variables {
    let frames = [spoe::hello(16_380), spoe::notify((7, 1), messages)];
    let (mut said, then) = said(agent, &frames);
    assert_eq!(then, Then::More, "{said:?}");
    match said.pop() {
        Some(Said::Ack {
            stream_id: 7,
            frame_id: 1,
            variables,
        }) => variables,
        other => panic!("{other:?}"),
    }
}

fn ask(agent: &Agent, name: &str, args: Args<'_>) -> Variables {
    variables(agent, &[(name, args)])
}

/// Variables in the order in which they are told, without the time to wait.
fn in_short(variables: &Variables) -> String {
    let names = ["allowed", "over", "estimate", "remaining", "error"];
    names.map(|name| &*variables[name]).join(" ")
}

#[test]
fn a_handshake_agrees_on_the_smaller_frame() {
    let agent = agent();
    for (theirs, both) in [
        (256, 256),
        (16_380, 16_380),
        (16_384, 16_384),
        (1 << 20, 16_384),
    ] {
        assert_eq!(
            said(&agent, &[spoe::hello(theirs)]),
            (vec![hello(both)], Then::More)
        );
    }
    assert_eq!(
        said(&agent, &[spoe::health_check()]),
        (vec![hello(16_380)], Then::End)
    );
    let end = Said::Disconnect {
        status: 0,
        message: String::new(),
    };
    let frames = [spoe::hello(300), spoe::disconnect()];
    assert_eq!(
        said(&agent, &frames),
        (vec![hello(300), end.clone()], Then::End)
    );
    assert_eq!(said(&agent, &[spoe::disconnect()]), (vec![end], Then::End));
    // What comes behind an end is not looked at.
    let frames = [spoe::health_check(), b"GET / HTTP/1.1".to_vec()];
    assert_eq!(said(&agent, &frames).1, Then::End);
    let tally = agent.tally();
    assert_eq!(
        (tally.spoe_health_checks, tally.spoe_protocol_errors),
        (2, 0)
    );
}

#[test]
fn what_is_no_frame_ends_the_connection_in_the_words_of_the_protocol() {
    let agent = agent();
    let hello = || spoe::hello(300);
    let notify = || spoe::notify((1, 1), &[]);
    let long = vec![b'k'; 300];
    for (frames, status, words) in [
        (vec![notify()], 4, "malformed"),
        (vec![spoe::frame(9, 1, (0, 0), b"")], 4, "malformed"),
        (vec![spoe::hello(255)], 9, "max-frame-size"),
        (vec![hello(), hello()], 4, "malformed"),
        (
            vec![hello(), spoe::frame(3, 0, (1, 1), b"\x01a")],
            10,
            "fragmentation",
        ),
        (
            vec![hello(), spoe::frame(0, 1, (1, 1), b"\x01a")],
            10,
            "fragmentation",
        ),
        (
            vec![hello(), spoe::frame(3, 1, (1, 1), b"\x05a")],
            4,
            "malformed",
        ),
        (
            vec![hello(), spoe::frame(3, 1, (1, 1), &long)],
            3,
            "max-frame-size",
        ),
        (
            vec![hello(), b"GET / HTTP/1.1\r\n\r\n".to_vec()],
            3,
            "max-frame-size",
        ),
        (vec![hello(), vec![0xff; 4]], 3, "max-frame-size"),
        (vec![hello(), vec![0; 4]], 4, "malformed"),
    ] {
        let (mut said, then) = said(&agent, &frames);
        assert_eq!(then, Then::End);
        match said.pop() {
            Some(Said::Disconnect {
                status: told,
                message,
            }) => {
                assert_eq!(told, status, "{message}");
                assert!(message.contains(words), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(agent.tally().spoe_protocol_errors, 11);
    // What is not known is left out once it is known who speaks.
    let frames = [hello(), spoe::frame(9, 0, (1, 1), b"\xff"), notify()];
    assert_eq!(said(&agent, &frames).0.len(), 2);
}

#[test]
fn a_pipeline_is_answered_however_it_is_cut() {
    let agent = agent();
    // What weighs nothing is answered alike each time.
    let args = [
        ("key", Arg::from("k")),
        ("limit", 1.into()),
        ("weight", 0.into()),
    ];
    let messages: [(&str, Args<'_>); 2] = [("rmbd-hit", &args), ("nothing", &[])];
    let mut stream = spoe::hello(16_380);
    for number in 0..3 {
        stream.extend(spoe::notify((1 << (20 * number), number), &messages));
    }
    stream.extend(spoe::disconnect());
    let whole = answers(&agent, &[&stream]);
    assert_eq!(all_said(&whole.0).len(), 5);
    assert_eq!(whole.1, Then::End);
    for cut in 0..=stream.len() {
        let (first, rest) = stream.split_at(cut);
        assert_eq!(answers(&agent, &[first, rest]), whole, "cut at {cut}");
    }
    let bytes: Vec<_> = stream.chunks(1).collect();
    assert_eq!(answers(&agent, &bytes), whole);
}

/// Answers are sent before more is done, so that a pipeline costs no more memory than its answers.
#[test]
fn a_long_pipeline_is_answered_in_parts() {
    let agent = agent();
    let mut stream = spoe::hello(16_380);
    for number in 0..1_000 {
        stream.extend(spoe::notify((number, 1), &[("nothing", &[])]));
    }
    let mut dialogue = Dialogue::new();
    let mut out = Vec::new();
    let taken = dialogue.received(&agent, &stream, &mut out);
    assert_eq!(taken.then, Then::Send);
    assert!(
        taken.bytes < stream.len() && out.len() < 2 * FRAME_BYTES_MAX,
        "{}",
        out.len()
    );
    assert_eq!(all_said(&answers(&agent, &[&stream]).0).len(), 1_001);
}

#[test]
fn limits_with_names_decide_as_they_are_configured() {
    let agent = agent();
    let check = |limit: &str, key: &str| {
        let told = ask(
            &agent,
            "rmbd-check-user",
            &[("limit", limit.into()), ("key", key.into())],
        );
        (in_short(&told), told["retry_after_ms"].clone())
    };
    for (limit, key, expected) in [
        ("api", "a", "true false 1 1 -"),
        ("api", "a", "true false 2 0 -"),
        ("api", "a", "false true 2 0 -"),
        // All of them count the same keys.
        ("shadow", "a", "true true 3 0 -"),
        ("exempt", "a", "false true 3 0 -"),
        ("exempt", "freely", "true false 0 - -"),
        (
            "nothing",
            "a",
            "false false - - there is no limit nothing here",
        ),
    ] {
        let (told, wait) = check(limit, key);
        assert_eq!(told, expected, "{limit} {key}");
        let waits = !told.starts_with("true") && told.ends_with('-');
        let wait_ms = wait.parse::<u64>().ok();
        match (waits, told.contains("no limit")) {
            (true, _) => assert!((1..=120_000).contains(&wait_ms.unwrap()), "{wait}"),
            (false, false) => assert_eq!(wait_ms, Some(0)),
            (false, true) => assert_eq!(wait, "-"),
        }
    }
    let tally = agent.tally();
    assert_eq!(
        (tally.spoe_messages, tally.spoe_over, tally.spoe_refused),
        (7, 3, 1)
    );
    assert_eq!(tally.hit_by_name, 6);
}

#[test]
fn keys_of_all_kinds_count_like_their_text() {
    let agent = agent();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 7]].concat();
    for (arg, text) in [
        (Arg::Address([192, 0, 2, 7].into()), "192.0.2.7"),
        (Arg::Number(-12), "-12"),
    ] {
        for (key, estimate) in [(arg, "1"), (Arg::from(text), "2")] {
            let told = ask(&agent, "rmbd-hit", &[("key", key), ("limit", 9.into())]);
            assert_eq!(told["estimate"], estimate, "{text}");
        }
    }
    // A socket for both kinds of addresses shows the first one so.
    let mut payload = b"\x08rmbd-hit\x02\x05limit\x04\x09\x03key\x07".to_vec();
    payload.extend(mapped);
    let frames = [spoe::hello(16_380), spoe::frame(3, 1, (1, 1), &payload)];
    match said(&agent, &frames).0.pop() {
        Some(Said::Ack { variables, .. }) => assert_eq!(variables["estimate"], "3"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_understood_is_told_and_passes_only_if_that_was_said() {
    let agent = agent();
    let key = || ("key", Arg::from("k"));
    let limit = || ("limit", Arg::Number(9));
    let api = || ("limit", Arg::from("api"));
    let long = "x".repeat(1_025);
    for (name, args, words) in [
        (
            "rmbd-takes",
            vec![key(), limit()],
            "no message rmbd-takes: there are rmbd-check",
        ),
        ("", vec![], "no message"),
        ("rmbd-take", vec![limit()], "no key"),
        (
            "rmbd-take",
            vec![limit(), ("key", Arg::Null)],
            "no value in this request",
        ),
        (
            "rmbd-take",
            vec![limit(), ("key", "".into())],
            "empty in this request",
        ),
        (
            "rmbd-take",
            vec![limit(), ("key", (&*long).into())],
            "1025 bytes",
        ),
        (
            "rmbd-take",
            vec![limit(), ("key", Arg::Bool(true))],
            "the key is a text",
        ),
        ("rmbd-take", vec![key()], "limit is a number"),
        (
            "rmbd-take",
            vec![key(), ("limit", Arg::Number(-1))],
            "limit is a number",
        ),
        ("rmbd-take", vec![key(), api()], "limit is a number"),
        (
            "rmbd-take",
            vec![key(), limit(), ("weight", Arg::Null)],
            "weight is a number",
        ),
        (
            "rmbd-take",
            vec![key(), limit(), ("weight", 1_001.into())],
            "above the largest",
        ),
        (
            "rmbd-take",
            vec![key(), limit(), ("window", "60".into())],
            "length of time",
        ),
        (
            "rmbd-take",
            vec![key(), limit(), ("window", "7s".into())],
            "no window of 7s",
        ),
        (
            "rmbd-take",
            vec![key(), limit(), ("sketch", "no\nne".into())],
            "no sketch no?ne",
        ),
        (
            "rmbd-take",
            vec![key(), limit(), ("sketch", 1.into())],
            "sketch is a name",
        ),
        (
            "rmbd-take",
            vec![key(), limit(), ("limits", 1.into())],
            "no argument limits",
        ),
        (
            "rmbd-take",
            vec![key(), limit(), ("", 1.into())],
            "an argument has no name",
        ),
        (
            "rmbd-take",
            vec![key(), limit(), key()],
            "key is given twice",
        ),
        (
            "rmbd-take",
            vec![key(), limit(), ("as", "a-b".into())],
            "as is 1 to 32",
        ),
        ("rmbd-check", vec![key()], "limit is the name"),
        ("rmbd-check", vec![key(), limit()], "limit is the name"),
        (
            "rmbd-check",
            vec![key(), api(), ("window", "60s".into())],
            "leave these out",
        ),
    ] {
        for (fail, allowed) in [
            (None, "false"),
            (Some("closed"), "false"),
            (Some("open"), "true"),
        ] {
            let mut args = args.clone();
            args.extend(fail.map(|fail| ("fail", Arg::from(fail))));
            let told = ask(&agent, name, &args);
            let error = &told["error"];
            assert!(
                error.contains(words) && error.len() <= 100,
                "{words}: {error}"
            );
            let expected = format!("{allowed} false - - {error}");
            assert_eq!(in_short(&told), expected, "{words}");
        }
    }
    let told = ask(
        &agent,
        "rmbd-take",
        &[key(), limit(), ("fail", "maybe".into())],
    );
    assert_eq!(in_short(&told), "false false - - fail is open or closed");
    // Nothing was added by any of them.
    let told = ask(&agent, "rmbd-take", &[key(), limit()]);
    assert_eq!(in_short(&told), "true false 1 8 -");
}

#[test]
fn messages_of_a_notification_have_variables_of_their_own_or_the_strictest_verdict() {
    let agent = agent();
    let named = |name: &'static str, limit: i64| {
        [
            ("key", Arg::from(name)),
            ("limit", limit.into()),
            ("as", name.into()),
        ]
    };
    let told = variables(
        &agent,
        &[
            ("rmbd-take-ip", &named("ip", 0)),
            ("rmbd-take", &named("user_1.x", 1)),
        ],
    );
    assert_eq!(told.len(), 12);
    assert_eq!(
        (&*told["ip.allowed"], &*told["user_1.x.allowed"]),
        ("false", "true")
    );
    let (strict, loose) = (named("a", 0), named("b", 5));
    let (strict, loose) = (&strict[..2], &loose[..2]);
    for messages in [[strict, loose], [loose, strict]] {
        let told = variables(
            &agent,
            &[("rmbd-take-1", messages[0]), ("rmbd-take-2", messages[1])],
        );
        assert_eq!((&*told["allowed"], &*told["remaining"]), ("false", "0"));
    }
    // All of them were done.
    let told = ask(&agent, "rmbd-take", loose);
    assert_eq!(told["estimate"], "3");
}

/// Each answer fits a frame however small HAProxy wants them, and too many messages do nothing.
#[test]
fn answers_fit_the_frame_that_was_agreed() {
    let agent = agent();
    let args = [("key", Arg::from("k")), ("limit", Arg::Number(i64::MAX))];
    let smallest = [
        spoe::hello(256),
        spoe::notify((u64::MAX, u64::MAX), &[("rmbd-hit", &args)]),
    ];
    assert_eq!(said(&agent, &smallest).0.len(), 2);
    let unknown = "n".repeat(90);
    let smallest = [
        spoe::hello(256),
        spoe::notify((u64::MAX, u64::MAX), &[(&unknown, &[])]),
    ];
    let (out, _) = answers(&agent, &[&smallest.concat()]);
    let (_, ack) = spoe::read(&out).unwrap();
    assert!(ack.len() <= 4 + 256, "{}", ack.len());
    for (frame, fits) in [(16_384, 90), (1_024, 5), (256, 1)] {
        for (messages, status) in [(fits, None), (fits + 5, Some(3))] {
            let messages = vec![("rmbd-hit", &args[..]); messages];
            let frames = [spoe::hello(frame), spoe::notify((1, 1), &messages)];
            let (out, _) = answers(&agent, &[&frames.concat()]);
            let (_, rest) = spoe::read(&out).unwrap();
            match spoe::read(rest).unwrap().0 {
                Said::Disconnect { status: told, .. } => assert_eq!(Some(told), status),
                _ => assert!(status.is_none() && rest.len() <= 4 + frame as usize),
            }
        }
    }
    let told = ask(&agent, "rmbd-hit", &args);
    assert_eq!(told["estimate"], (1 + 90 + 5 + 1 + 1).to_string());
}

#[test]
fn an_agent_that_adds_no_more_says_so() {
    let agent = agent();
    let args = [("key", Arg::from("k")), ("limit", 9.into())];
    assert_eq!(
        in_short(&ask(&agent, "rmbd-take", &args)),
        "true false 1 8 -"
    );
    agent.end_adding();
    let told = ask(&agent, "rmbd-take", &args);
    assert_eq!(
        in_short(&told),
        "false false - - the node ends: ask another"
    );
    assert_eq!(agent.tally().spoe_messages, 1);
}
