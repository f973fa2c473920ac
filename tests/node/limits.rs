//! Limits of a whole node: takes that are exact, when to come back, several limits at once, limits with names, exactly
//! once, and requests that are made to harm.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rmbd::config::{
    Amount, IoChoice, LimitConfig, LimitOverride, LimitVerdict, NodeConfig, SketchWish,
    WindowConfig,
};
use rmbd::node::Node;
use rmbd_client::{Client, ClientError, ClientOptions, Limit, Limits, Verdict, Window};
use rmbd_proto::compact::{
    self, Answer, Header, LimitPart, Once, Problem, RequestWriter, WriteError, reply,
    reply_bytes_max, request,
};
use rmbd_proto::{Boot, SketchName, SketchNumber};
use rmbd_sketch::MAX_WEIGHT;
use rmbd_testkit::random::Random;

use crate::support::{BACKENDS, PATIENCE, client_of, config, introduce, receive};

/// So long that nothing leaves it while a test runs.
const HOUR_MS: u64 = 3_600_000;
const HOUR: Duration = Duration::from_millis(HOUR_MS);

fn window(span_ms: u64, step_ms: u64) -> WindowConfig {
    WindowConfig {
        span_ms,
        step_ms: Some(step_ms),
        width: None,
    }
}

/// A node whose sketches `default` and `logins` keep an hour, and of `default` also two seconds.
fn with_windows(io: IoChoice) -> NodeConfig {
    let logins: SketchWish = "name=logins,width=8192,depth=3,windows=1h/5m"
        .parse()
        .unwrap();
    let config = config(io);
    NodeConfig {
        windows: vec![window(HOUR_MS, 300_000), window(2_000, 200)],
        sketches: vec![logins.plan(config.family).unwrap()],
        ..config
    }
}

fn logins() -> SketchName {
    "logins".parse().unwrap()
}

fn client(node: &Node) -> Client {
    let options = ClientOptions {
        timeout: PATIENCE,
        ..ClientOptions::default()
    };
    Client::connect(node.udp_addr(), options).unwrap()
}

#[test]
fn three_clients_of_one_data_thread_take_exactly_the_limit() {
    for io in BACKENDS {
        let node = Node::start(with_windows(io)).unwrap();
        let takes = || {
            let mut client = client(&node);
            let mut sketch = client.default_sketch();
            let mut take = || sketch.take("door", 1, 100, Window::smooth(HOUR)).unwrap();
            let verdicts: Vec<Verdict> = (0..100).map(|_| take()).collect();
            for told in verdicts.iter().filter(|told| !told.allowed) {
                assert_eq!((told.estimate, told.remaining), (100, 0), "{io}");
                assert!(told.retry_after.is_some_and(|wait| !wait.is_zero()));
            }
            verdicts.iter().filter(|told| told.allowed).count()
        };
        let taken: usize = std::thread::scope(|scope| {
            let clients = [(); 3].map(|()| scope.spawn(takes));
            clients.map(|client| client.join().unwrap()).iter().sum()
        });
        // What is refused consumes nothing.
        assert_eq!((taken, node.estimate(b"door").count), (100, 100), "{io}");
        let status = node.stop().unwrap();
        assert_eq!(status.sketch.total_weight, 100);
    }
}

/// A sender who waits as he is told is let in, and the takes of no window are above the limit.
#[test]
fn who_comes_back_when_told_is_let_in() {
    const LIMIT: u64 = 5;
    let span = Duration::from_millis(2_000);
    let turns = |node: &Node| {
        let (mut client, mut refused) = (client(node), 0);
        let mut taken: Vec<(Instant, Instant)> = Vec::new();
        let start = Instant::now();
        while taken.len() < 3 * LIMIT as usize {
            assert!(start.elapsed() < PATIENCE, "let in {} times", taken.len());
            let (asked, mut sketch) = (Instant::now(), client.default_sketch());
            let told = sketch.take("door", 1, LIMIT, Window::bound(span));
            let told = told.unwrap();
            if told.allowed {
                taken.push((asked, Instant::now()));
            } else {
                refused += 1;
                let wait = told.retry_after.unwrap();
                assert!(!wait.is_zero());
                std::thread::sleep(wait);
            }
        }
        (taken, refused)
    };
    let check = |io| {
        let node = Node::start(with_windows(io)).unwrap();
        let (taken, refused) = turns(&node);
        // Twice at least: the limit is passed three times over.
        assert!(refused >= 2, "{io}: {refused}");
        for (_, answered) in &taken {
            let from = answered.checked_sub(span);
            let is_within =
                |asked, other| other <= answered && from.is_none_or(|from| asked >= from);
            let within = taken
                .iter()
                .filter(|(asked, other)| is_within(*asked, other));
            assert!(within.count() as u64 <= LIMIT, "{io}");
        }
        node.stop().unwrap();
    };
    std::thread::scope(|scope| {
        for io in BACKENDS {
            scope.spawn(move || check(io));
        }
    });
}

#[test]
fn limits_over_two_sketches_are_all_kept_or_nothing_is_taken() {
    for io in BACKENDS {
        let node = Node::start(with_windows(io)).unwrap();
        let (mut client, logins) = (client(&node), logins());
        let ask = |client: &mut Client, of: fn(Vec<Limit<'static>>) -> Limits<'static>| {
            let limits = vec![
                Limit::new("10.0.0.7", 1_000, HOUR).weight(3),
                Limit::new("anna", 7, HOUR).of(&logins).weight(2),
                Limit::new("anna", 9, Duration::ZERO).of(&logins),
            ];
            client.limits(&of(limits)).unwrap()
        };
        for (part, estimate, remaining) in [(1, 2, 5), (1, 4, 3), (1, 6, 1)] {
            let told = ask(&mut client, Limits::take);
            assert!(told.allowed && !told.over);
            assert_eq!(told.retry_after, Some(Duration::ZERO));
            let numbers = (told.part, told.estimate, told.remaining);
            assert_eq!(numbers, (part, estimate, remaining), "{io}");
        }
        let counts = |client: &mut Client| {
            let mut of = |name: &str, key: &str| {
                let mut sketch = client.sketch(name).unwrap();
                sketch.count(key).unwrap().estimate
            };
            (of("default", "10.0.0.7"), of("logins", "anna"))
        };
        let told = ask(&mut client, Limits::take);
        assert!(!told.allowed && told.over);
        assert_eq!((told.part, told.estimate, told.remaining), (1, 6, 1));
        assert_eq!(counts(&mut client), (9, 6), "{io}");
        // Where everything counts it is added in both sketches; what is over for all time stays so.
        for (part, estimate) in [(1, 8), (2, 10)] {
            let told = ask(&mut client, Limits::count);
            assert!(!told.allowed);
            assert_eq!((told.part, told.estimate), (part, estimate), "{io}");
        }
        let told = ask(&mut client, Limits::take);
        assert_eq!((told.part, told.retry_after), (2, None), "{io}");
        assert_eq!(counts(&mut client), (15, 10), "{io}");
        let status = node.stop().unwrap();
        let weights = status.sketches.iter().map(|it| it.sketch.total_weight);
        assert_eq!(weights.collect::<Vec<_>>(), [15, 10], "{io}");
    }
}

fn amounts<const N: usize>(amounts: [(u64, u64); N]) -> Vec<Amount> {
    let amount = |(count, window_ms)| Amount { count, window_ms };
    amounts.map(amount).to_vec()
}

/// A limit of five an hour in `logins`.
fn named(name: &str) -> LimitConfig {
    LimitConfig {
        name: name.parse().unwrap(),
        sketch: logins(),
        keys: "*".parse().unwrap(),
        amounts: amounts([(5, HOUR_MS)]),
        cost: 1,
        verdict: LimitVerdict::Take,
        overrides: Vec::new(),
        exempt: Vec::new(),
        shadow: false,
    }
}

fn all_named() -> Vec<LimitConfig> {
    let other = |who: &str, count| LimitOverride {
        who: who.parse().unwrap(),
        amounts: amounts([(count, HOUR_MS)]),
    };
    vec![
        LimitConfig {
            keys: "user:*".parse().unwrap(),
            overrides: vec![other("user:gold-*", 7), other("user:*-gold-*", 1)],
            exempt: vec!["user:root".parse().unwrap()],
            ..named("by-user")
        },
        LimitConfig {
            overrides: vec![other("10.1.0.0/16", 2)],
            exempt: vec!["10.2.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            cost: 2,
            ..named("by-address")
        },
        LimitConfig {
            shadow: true,
            ..named("in-shadow")
        },
        LimitConfig {
            verdict: LimitVerdict::Count,
            amounts: amounts([(5, HOUR_MS), (100, 0)]),
            ..named("counts")
        },
    ]
}

#[test]
fn limits_with_names_have_overrides_exemptions_and_shadows() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            limits: all_named(),
            ..with_windows(io)
        })
        .unwrap();
        let mut client = client(&node);
        // How many of ten hits are admitted, how many were over, and what counts in the end.
        for (limit, key, admitted, over, count) in [
            ("by-user", "user:anna", 5, 5, 5),
            ("by-user", "user:gold-1", 7, 3, 7),
            ("by-user", "user:not-gold-1", 1, 9, 1),
            ("by-user", "user:root", 10, 0, 0),
            ("by-user", "of another kind", 10, 0, 0),
            ("by-address", "10.0.0.1", 2, 8, 4),
            ("by-address", "10.1.0.1", 1, 9, 2),
            ("by-address", "::ffff:10.1.0.2", 1, 9, 2),
            ("by-address", "10.2.0.1", 10, 0, 0),
            ("by-address", "fd00::7", 10, 0, 0),
            ("in-shadow", "shadow", 10, 5, 10),
            ("counts", "counted", 5, 5, 10),
        ] {
            let mut hit = || client.hit_by_name(limit, key, 1).unwrap();
            let told: Vec<_> = (0..10).map(|_| hit()).collect();
            let number = |of: fn(&Verdict) -> bool| told.iter().filter(|it| of(it)).count();
            let numbers = (number(|it| it.allowed), number(|it| it.over));
            assert_eq!(numbers, (admitted, over), "{io} {limit} {key}");
            assert!(told.iter().all(|it| it.shadow == (it.over && it.allowed)));
            let mut sketch = client.sketch("logins").unwrap();
            let estimate = sketch.count(key).unwrap().estimate;
            assert_eq!(estimate, count, "{io} {limit} {key}");
        }
        let error = client.hit_by_name("by-nobody", "key", 1).unwrap_err();
        assert!(
            matches!(
                error,
                ClientError::Problem {
                    problem: Problem::UnknownLimit,
                    ..
                }
            ),
            "{error:?}"
        );
        let status = node.stop().unwrap();
        let tallies = status.limits.iter().map(|limit| {
            let name = limit.name.as_str();
            (name, limit.asked, limit.over, limit.shadow)
        });
        assert_eq!(
            tallies.collect::<Vec<_>>(),
            [
                ("by-address", 30, 26, 0),
                ("by-user", 30, 17, 0),
                ("counts", 10, 5, 0),
                ("in-shadow", 10, 5, 5),
            ],
            "{io}"
        );
    }
}

// --- Requests byte by byte ---

fn datagram(
    header: Header<'_>,
    fill: impl FnOnce(&mut RequestWriter) -> Result<(), WriteError>,
) -> Vec<u8> {
    let mut writer = RequestWriter::new(60_000);
    writer.start(&header).unwrap();
    fill(&mut writer).unwrap();
    writer.finish().to_vec()
}

fn limits_of(take: bool, parts: &[LimitPart<'_>]) -> Vec<u8> {
    datagram(Header::default(), |writer| push_limits(writer, take, parts))
}

fn push_limits(
    writer: &mut RequestWriter,
    take: bool,
    parts: &[LimitPart<'_>],
) -> Result<(), WriteError> {
    let mut bytes = Vec::new();
    writer.limits(compact::Limits::write(take, false, parts, &mut bytes)?)
}

fn part(key: &[u8], weight: u64, limit: u64, window_ms: u64) -> LimitPart<'_> {
    LimitPart {
        sketch: SketchNumber::DEFAULT,
        key,
        weight,
        limit,
        window_ms,
    }
}

/// What came for a datagram: whether it is a repeat, how many operations were done, the problem's code, and verdicts.
#[derive(Debug, PartialEq)]
struct Told {
    repeated: bool,
    done: u16,
    code: u8,
    verdicts: Vec<compact::Verdict>,
}

fn ask(socket: &UdpSocket, datagram: &[u8]) -> Told {
    socket.send(datagram).unwrap();
    let received = receive(socket);
    assert!(received.len() <= reply_bytes_max(datagram.len()));
    let reply = reply(&received).unwrap();
    let verdicts = reply.answers().filter_map(|answer| match answer.unwrap() {
        Answer::Limits(verdict) | Answer::HitByName(verdict) => Some(verdict),
        _ => None,
    });
    Told {
        repeated: reply.head.repeated,
        done: reply.head.done,
        code: reply.head.code,
        verdicts: verdicts.collect(),
    }
}

fn refused(problem: Problem) -> Told {
    Told {
        repeated: false,
        done: 0,
        code: problem.code(),
        verdicts: Vec::new(),
    }
}

#[test]
fn a_take_that_is_repeated_gets_the_verdict_of_the_first_time() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            threads: Some(2),
            limits: all_named(),
            ..with_windows(io)
        })
        .unwrap();
        let boot = Boot(u64::from_str_radix(&node.status().compact.boot, 16).unwrap());
        introduce(&client_of(&node), boot, 7);
        let once = |sequence| Header {
            once: Some(Once {
                boot,
                client: 7,
                sequence,
            }),
            ..Header::default()
        };
        let take = |sequence| {
            datagram(once(sequence), |writer| {
                push_limits(writer, true, &[part(b"door", 3, 5, HOUR_MS)])
            })
        };
        let count = |sequence| {
            datagram(once(sequence), |writer| {
                push_limits(writer, false, &[part(b"gate", 3, 5, HOUR_MS)])
            })
        };
        let by_name = |sequence| {
            datagram(once(sequence), |writer| {
                writer.hit_by_name(b"by-address", b"10.0.0.1", 2)
            })
        };
        let requests = [
            (take(1), false),
            (take(2), true),
            (by_name(3), false),
            (by_name(4), true),
            // A second time it would be over.
            (count(5), false),
        ];
        for (request, is_over) in &requests {
            let told = ask(&client_of(&node), request);
            assert!(!told.repeated && told.done == 1, "{io} {told:?}");
            assert_eq!(told.verdicts[0].over, *is_over, "{io}");
        }
        // From other ports, which reach both threads, and in another order.
        for turn in 0..16 {
            let (request, is_over) = &requests[turn % requests.len()];
            let told = ask(&client_of(&node), request);
            assert!(told.repeated && told.done == 1, "{io} {told:?}");
            assert_eq!(told.verdicts[0].over, *is_over, "{io}");
        }
        // One verdict is remembered for a request.
        let twice = datagram(once(6), |writer| {
            writer.add(b"beside", 1)?;
            push_limits(writer, true, &[part(b"a", 1, 5, 0)])?;
            writer.hit_by_name(b"by-user", b"user:anna", 1)
        });
        assert_eq!(ask(&client_of(&node), &twice), refused(Problem::TakesOnce));
        let status = node.stop().unwrap();
        let weights = status.sketches.iter().map(|it| it.sketch.total_weight);
        assert_eq!(weights.collect::<Vec<_>>(), [6, 4], "{io}");
        assert_eq!(status.compact.repeats, 16, "{io}");
    }
}

#[test]
fn limits_that_are_none_are_refused_and_change_nothing() {
    for io in BACKENDS {
        let node = Node::start(with_windows(io)).unwrap();
        let socket = client_of(&node);
        let good = part(b"key", 1, 5, HOUR_MS);
        // The writer writes no such numbers of parts.
        for parts in [0, 9, 255] {
            let mut raw = datagram(Header::default(), |_| Ok(()));
            raw.extend([9, 1, parts]);
            for _ in 0..parts {
                raw.extend([0, 1, b'k', 1, 5, 0]);
            }
            raw.resize(raw.len().max(64), 0);
            assert_eq!(ask(&socket, &raw), refused(Problem::LimitParts), "{parts}");
        }
        let unknown = SketchName::number(&"nobodys".parse().unwrap());
        for (bad, problem) in [
            (
                LimitPart {
                    sketch: unknown,
                    ..good
                },
                Problem::UnknownSketch,
            ),
            (part(b"key", 1, 5, 1), Problem::UnknownWindow),
            (part(b"key", 1, 5, 300), Problem::UnknownWindow),
            (part(b"key", 1, 5, 2 * HOUR_MS), Problem::UnknownWindow),
            (part(b"key", 1, 5, u64::MAX), Problem::UnknownWindow),
            (
                part(b"key", u64::from(MAX_WEIGHT) + 1, 5, 0),
                Problem::WeightTooLarge,
            ),
        ] {
            for parts in [[good, bad], [bad, good]] {
                for take in [false, true] {
                    let told = ask(&socket, &limits_of(take, &parts));
                    assert_eq!(told, refused(problem), "{io} {bad:?}");
                }
            }
        }
        let heavy = limits_of(false, &[part(b"key", u64::MAX, 5, 0)]);
        assert_eq!(ask(&socket, &heavy).verdicts, [], "{io}");
        for (window_ms, smooth) in [(1, false), (u64::MAX, true), (300, true)] {
            let window = datagram(Header::default(), |writer| {
                writer.window(b"key", window_ms, smooth)
            });
            assert_eq!(ask(&socket, &window), refused(Problem::UnknownWindow));
        }
        assert_eq!(node.estimate(b"key").count, 0, "{io}");
        assert_eq!(node.stop().unwrap().sketch.total_weight, 0, "{io}");
    }
}

#[test]
fn a_key_in_eight_parts_is_added_once_with_the_largest_weight() {
    for io in BACKENDS {
        let node = Node::start(with_windows(io)).unwrap();
        let socket = client_of(&node);
        let parts: Vec<_> = (1..=8)
            .map(|weight| {
                part(
                    b"key",
                    weight,
                    100,
                    if weight % 2 == 0 { 0 } else { HOUR_MS },
                )
            })
            .collect();
        for round in 1..=5 {
            let take = round % 2 == 0;
            let [told] = ask(&socket, &limits_of(take, &parts)).verdicts[..] else {
                panic!("one verdict");
            };
            assert!(!told.over, "{io}");
            assert_eq!(node.estimate(b"key").count, 8 * round, "{io}");
        }
        assert_eq!(node.stop().unwrap().sketch.total_weight, 40, "{io}");
    }
}

#[test]
fn no_reply_is_longer_than_three_times_its_request() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            limits: all_named(),
            ..with_windows(io)
        })
        .unwrap();
        let socket = client_of(&node);
        // Operations as short as can be, without padding.
        let operations: [&[u8]; 5] = [
            &[8, 0, 0, 0],
            &[9, 0, 1, 0, 0, 0, 0, 0],
            &[0x0a, 0],
            b"\x0b\x06counts\0\0",
            &[0x0d, 0, 0, 10],
        ];
        for operation in operations {
            for times in 1..80 {
                let mut raw = datagram(Header::default(), |_| Ok(()));
                raw.extend(operation.repeat(times));
                let told = ask(&socket, &raw);
                let is_whole = usize::from(told.done) == times && told.code == 0;
                let is_cut =
                    usize::from(told.done) < times && told.code == Problem::ReplyTooLarge.code();
                assert!(is_whole || is_cut, "{io} {operation:?} {times}: {told:?}");
            }
        }
        node.stop().unwrap();
    }
}

/// Checks a reply to bytes that nobody meant: it answers what the format reads of them, and nothing else is in it.
fn check_reply(sent: &[u8], received: &[u8], weight_max: u64) {
    let what = || format!("{} {}", sent.escape_ascii(), received.escape_ascii());
    assert!(received.len() <= reply_bytes_max(sent.len()), "{}", what());
    let (request, told) = (request(sent).unwrap(), reply(received).unwrap());
    assert_eq!(told.head.id, request.id, "{}", what());
    let mut answers = told.answers().map(Result::unwrap);
    let done = usize::from(told.head.done);
    for operation in request.operations().take(done) {
        let operation = operation.expect("it was done");
        if !operation.has_answer() {
            continue;
        }
        let answer = answers.next().unwrap_or_else(|| panic!("{}", what()));
        let estimate = match answer {
            Answer::Count { estimate, .. } | Answer::Hit { estimate, .. } => estimate,
            Answer::Bounds(bounds) => bounds.estimate,
            Answer::Window(window) => window.estimate,
            Answer::Limits(verdict) | Answer::HitByName(verdict) => verdict.estimate,
            Answer::Info(_) | Answer::Sketches(_) => 0,
            Answer::Top(top) => top
                .entries()
                .map(|it| it.estimate)
                .max()
                .unwrap_or_default(),
            Answer::Pardon { .. } | Answer::Cookie(_) => panic!("{}", what()),
        };
        assert!(estimate <= weight_max, "{estimate}: {}", what());
    }
    assert_eq!(answers.next(), None, "{}", what());
    let is_whole = request.operations().count() == done && told.head.code == 0;
    assert!(is_whole || told.head.code != 0, "{}", what());
}

#[test]
fn random_bytes_behind_the_codes_of_windows_and_limits() {
    const SEED: u64 = 0x0008_000c;
    println!("seed {SEED:#x}");
    for (seed, io) in (SEED..).zip(BACKENDS) {
        let node = Node::start(NodeConfig {
            limits: all_named(),
            ..with_windows(io)
        })
        .unwrap();
        let (socket, mut random) = (client_of(&node), Random(seed));
        for id in 0..6_000 {
            let header = Header {
                id,
                acknowledge: true,
                ..Header::default()
            };
            let mut sent = datagram(header, |_| Ok(()));
            for _ in 0..1 + random.below(6) {
                match random.below(7) {
                    5 => sent.extend(b"\x0b\x06counts"),
                    6 => sent.push(0x0d),
                    code => sent.push(8 + code as u8),
                }
                // Small numbers make operations that are whole more often.
                let (length, below) = (random.below(24), 1 + random.below(256));
                sent.extend((0..length).map(|_| random.below(below) as u8));
            }
            if random.below(2) == 0 {
                sent.resize(sent.len() + random.below(200) as usize, 0);
            }
            socket.send(&sent).unwrap();
            let received = receive(&socket);
            let status = node.status();
            let weight_max = status.sketches.iter().map(|it| it.known_weight).max();
            check_reply(&sent, &received, weight_max.unwrap());
        }
        assert_eq!(node.failure(), None);
        let status = node.stop().unwrap();
        assert_eq!(status.failure, None);
    }
}
