//! Both clients against a responder that says what it was asked: sketches, windows, limits, and silence.

#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "tokio")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rmbd_client::{
    AsyncClient, Client, ClientError, ClientOptions, Decided, Fate, Limit, Limits, OnFailure,
    TopQuestion, Window,
};
use rmbd_proto::compact::{
    self, COUNT_ANSWER_BYTES, HASH_XXH3, LIMITS_ANSWER_BYTES, Operation, PARDON_ANSWER_BYTES,
    Problem, REPLY_HEAD_BYTES, RETRY_NEVER_MS, ReplyHead, SketchEntry, SketchWindow,
    SketchesWriter, TopEntry, TopHead, TopWriter, Verdict, WINDOW_ANSWER_BYTES, WindowAnswer,
    reply_bytes_max,
};
use rmbd_proto::{Boot, SketchName, SketchNumber, Writer};

const OPTIONS: ClientOptions = ClientOptions {
    timeout: Duration::from_secs(30),
    linger: Duration::ZERO,
};
const MINUTE: Duration = Duration::from_secs(60);
/// For what is never answered.
const SOON: Duration = Duration::from_millis(30);
const SKETCHES: u64 = 40;
const TOP_KEYS: u64 = 60;

/// A node without a memory: each answer is made of its question.
struct FakeNode {
    address: SocketAddr,
    /// Answers nothing but infos.
    is_silent: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeNode {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let is_silent = Arc::new(AtomicBool::new(false));
        let silent = Arc::clone(&is_silent);
        let answer_all = move || {
            let mut datagram = [0; 2048];
            loop {
                let (len, from) = socket.recv_from(&mut datagram).unwrap();
                if len == 0 {
                    return;
                }
                if let Some(reply) = reply(&datagram[..len], silent.load(Ordering::SeqCst)) {
                    socket.send_to(&reply, from).unwrap();
                }
            }
        };
        Self {
            address,
            is_silent,
            thread: Some(std::thread::spawn(answer_all)),
        }
    }

    fn fall_silent(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        let stop = UdpSocket::bind("127.0.0.1:0").unwrap();
        stop.send_to(&[], self.address).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn reply(datagram: &[u8], is_silent: bool) -> Option<Vec<u8>> {
    let request = compact::request(datagram).unwrap();
    let mut head = ReplyHead {
        id: request.id,
        ..ReplyHead::default()
    };
    let mut reply = vec![0; REPLY_HEAD_BYTES];
    for operation in request.operations() {
        let operation = operation.unwrap();
        if is_silent && operation != Operation::Info {
            return None;
        }
        let room = reply_bytes_max(datagram.len()) - reply.len();
        match answer(operation, request.sketch, request.once.is_some(), room) {
            Ok(answer) => reply.extend(answer),
            Err(problem) => {
                head.code = problem.code();
                break;
            }
        }
        head.done += 1;
    }
    compact::write_reply_head(head, reply.first_chunk_mut().unwrap());
    assert!(reply.len() <= reply_bytes_max(datagram.len()));
    Some(reply)
}

fn answer(
    operation: Operation<'_>,
    sketch: SketchNumber,
    is_once: bool,
    room: usize,
) -> Result<Vec<u8>, Problem> {
    match operation {
        Operation::Info => Ok(info()),
        Operation::Add { .. } => Ok(Vec::new()),
        Operation::Count { .. } => {
            let mut out = [0; COUNT_ANSWER_BYTES];
            compact::write_count_answer(sketch.0.into(), false, &mut out);
            Ok(out.to_vec())
        }
        Operation::Window {
            window_ms, smooth, ..
        } => {
            let mut out = [0; WINDOW_ANSWER_BYTES];
            let window = WindowAnswer {
                estimate: sketch.0.into(),
                incomplete: smooth,
                overflowed: !smooth,
                covered_ms: window_ms as u32,
            };
            compact::write_window_answer(&window, &mut out);
            Ok(out.to_vec())
        }
        Operation::Limits(limits) => {
            let last = limits.parts().last().unwrap();
            let mut out = [0; LIMITS_ANSWER_BYTES];
            let verdict = Verdict {
                over: limits.weight() > last.limit,
                incomplete: limits.take,
                unsure: limits.bound,
                overflowed: is_once,
                shadow: false,
                part: limits.parts().len() as u8 - 1,
                estimate: last.sketch.0.into(),
                remaining: limits.weight(),
                retry_after_ms: if last.key.is_empty() {
                    RETRY_NEVER_MS
                } else {
                    1_500
                },
                covered_ms: last.window_ms as u32,
            };
            compact::write_limits_answer(&verdict, &mut out);
            Ok(out.to_vec())
        }
        Operation::HitByName { name, weight, .. } if name == b"logins" => {
            let mut out = [0; LIMITS_ANSWER_BYTES];
            let verdict = Verdict {
                over: true,
                shadow: true,
                estimate: weight,
                ..Verdict::default()
            };
            compact::write_hit_by_name_answer(&verdict, &mut out);
            Ok(out.to_vec())
        }
        Operation::HitByName { .. } => Err(Problem::UnknownLimit),
        Operation::Pardon { name, key, for_ms } => {
            assert_eq!((name, key), (&b"logins"[..], &b"10.0.0.7"[..]));
            let mut out = [0; PARDON_ANSWER_BYTES];
            compact::write_pardon_answer(for_ms, &mut out);
            Ok(out.to_vec())
        }
        Operation::Sketches { first } => Ok(sketches(first, room)),
        Operation::Top { .. } if sketch == SketchNumber::DEFAULT => Err(Problem::NoTopList),
        Operation::Top {
            window_ms,
            first,
            most,
        } => Ok(top(window_ms, first, most, room)),
        other => panic!("{other:?}"),
    }
}

fn info() -> Vec<u8> {
    compact::encode_info(&compact::Info {
        boot: Boot(1),
        fingerprint: 0,
        width: 1,
        max_weight: 1 << 20,
        depth: 1,
        hash: HASH_XXH3,
        version: b"",
        cluster_port: 0,
        cookie: b"",
        writer: Writer(0),
    })
}

fn sketches(first: u64, room: usize) -> Vec<u8> {
    let mut out = vec![0; room];
    let mut writer = SketchesWriter::new(&mut out, SKETCHES).unwrap();
    for n in first..SKETCHES {
        let name = format!("sketch-{n:030}");
        let entry = SketchEntry {
            number: SketchNumber(n as u32),
            name: name.as_bytes(),
            fingerprint: n,
            width: 1 << 20,
            depth: 4,
            hash: HASH_XXH3,
        };
        let windows = (1..=n % 3).map(|span| SketchWindow {
            span_ms: span * 60_000,
            step_ms: 1_000,
            width: 1 << 16,
        });
        if !writer.push(&entry, windows) {
            break;
        }
    }
    let bytes = writer.finish();
    out.truncate(bytes);
    out
}

/// Keys of any lengths, of which every seventh has no name.
fn name_of_key(n: u64) -> Option<Vec<u8>> {
    (n % 7 != 6).then(|| vec![n as u8; (n * n % 1_025) as usize])
}

fn top(window_ms: u64, first: u64, most: u64, room: usize) -> Vec<u8> {
    let mut out = vec![0; room];
    let head = TopHead {
        incomplete: true,
        redacted: window_ms > 0,
        edition: 5,
        age_ms: 250,
        complete_above: 17,
        total_weight: window_ms,
        listed: TOP_KEYS,
    };
    let mut writer = TopWriter::new(&mut out, &head).unwrap();
    let wanted = (first..TOP_KEYS).take(most as usize);
    let pushed = wanted.take_while(|&n| {
        writer.push(&TopEntry {
            estimate: 10_000 - n,
            certain: n,
            name: name_of_key(n).as_deref(),
        })
    });
    assert!(pushed.count() > 0 || first >= TOP_KEYS || most == 0);
    let bytes = writer.finish();
    out.truncate(bytes);
    out
}

fn number(name: &str) -> u64 {
    let name: SketchName = name.parse().unwrap();
    name.number().0.into()
}

/// The same calls of both clients; `$wait` is `.await` or nothing.
macro_rules! every_call {
    ($client:expr, $node:expr $(, $wait:tt)?) => {{
        let mut client = $client;
        let logins = number("logins");
        {
            let mut sketch = client.sketch("logins").unwrap();
            sketch.add("10.0.0.7", 3)$(.$wait)?.unwrap();
            assert_eq!(sketch.count("10.0.0.7")$(.$wait)?.unwrap().estimate, logins);
            let bound = sketch.count_in("k", Window::bound(MINUTE))$(.$wait)?.unwrap();
            assert_eq!((bound.estimate, bound.covered), (logins, MINUTE));
            assert_eq!((bound.incomplete, bound.overflowed), (false, true));
            let smooth = sketch.count_in("k", Window::smooth(MINUTE))$(.$wait)?.unwrap();
            assert_eq!((smooth.incomplete, smooth.overflowed), (true, false));

            let within = sketch.hit_in("k", 2, 5, Window::smooth(MINUTE))$(.$wait)?.unwrap();
            assert_eq!((within.allowed, within.over, within.decided), (true, false, Decided::ByNode));
            assert_eq!((within.part, within.estimate, within.remaining), (0, logins, 2));
            assert_eq!(within.retry_after, Some(Duration::from_millis(1_500)));
            assert_eq!(within.covered, MINUTE);
            // Smooth, counting, exactly once.
            assert_eq!((within.incomplete, within.unsure, within.overflowed), (false, false, true));
            let over = sketch.take("", 6, 5, Window::bound(MINUTE))$(.$wait)?.unwrap();
            assert_eq!((over.allowed, over.over, over.retry_after), (false, true, None));
            assert_eq!((over.incomplete, over.unsure, over.overflowed), (true, true, true));

            let pages: SketchName = "pages".parse().unwrap();
            let both = [
                Limit::new("10.0.0.7", 5, MINUTE),
                Limit::new("10.0.0.0/24", 100, 2 * MINUTE).of(&pages).weight(4),
            ];
            let limits = Limits::take(both).repeatable();
            let both = sketch.limits(&limits)$(.$wait)?.unwrap();
            assert_eq!((both.part, both.estimate, both.remaining), (1, number("pages"), 5));
            assert_eq!((both.covered, both.overflowed), (2 * MINUTE, false));
        }
        assert_eq!(client.count_in("k", Window::ALL_TIME)$(.$wait)?.unwrap().estimate, 0);
        assert_eq!(client.hit_in("k", 1, 1, Window::ALL_TIME)$(.$wait)?.unwrap().estimate, 0);

        let shadow = client.hit_by_name("logins", "10.0.0.7", 9)$(.$wait)?.unwrap();
        assert_eq!((shadow.allowed, shadow.over, shadow.shadow), (true, true, true));
        assert_eq!((shadow.estimate, shadow.retry_after), (9, Some(Duration::ZERO)));
        let unknown = client.hit_by_name("none", "k", 1)$(.$wait)?.unwrap_err();
        assert!(matches!(unknown, ClientError::Problem { problem: Problem::UnknownLimit, .. }));
        assert_eq!((unknown.fate(), unknown.is_no_answer()), (Fate::NotAdded, false));
        let credit = client.pardon("logins", "10.0.0.7", MINUTE)$(.$wait)?;
        assert_eq!(credit.unwrap(), 60_000);

        let sketches = client.sketches()$(.$wait)?.unwrap();
        assert_eq!(sketches.len() as u64, SKETCHES);
        for (n, sketch) in sketches.iter().enumerate() {
            assert_eq!(sketch.name, format!("sketch-{n:030}"));
            assert_eq!((sketch.fingerprint, sketch.windows.len()), (n as u64, n % 3));
        }

        // Names of up to 1 024 bytes make many parts of it.
        let whole = client.sketch("logins").unwrap().top(TopQuestion::ALL)$(.$wait)?.unwrap();
        let names: Vec<_> = whole.keys.iter().map(|key| key.name.clone()).collect();
        assert_eq!(names, (0..TOP_KEYS).map(name_of_key).collect::<Vec<_>>());
        assert!(whole.keys.iter().zip(0..).all(|(key, n)| key.certain == n));
        assert_eq!((whole.listed, whole.complete_above), (TOP_KEYS, Some(17)));
        assert_eq!((whole.incomplete, whole.redacted, whole.mixed), (true, false, false));
        assert_eq!(whole.age, Some(Duration::from_millis(250)));
        let minute = TopQuestion::first(30).within(MINUTE);
        let part = client.sketch("logins").unwrap().top(minute)$(.$wait)?.unwrap();
        assert_eq!((part.keys.len(), part.complete_above), (30, Some(9_971)));
        assert_eq!((part.total_weight, part.redacted), (60_000, true));
        let none = client.top(TopQuestion::ALL)$(.$wait)?.unwrap_err();
        assert!(matches!(none, ClientError::Problem { problem: Problem::NoTopList, .. }));

        let none = client.limits(&Limits::count([]))$(.$wait)?.unwrap_err();
        assert!(matches!(none, ClientError::LimitParts { parts: 0 }));
        let long = client.hit_by_name(&"n".repeat(256), "k", 1)$(.$wait)?.unwrap_err();
        assert!(matches!(long, ClientError::NameTooLong { bytes: 256 }));
        assert!(client.sketch("Logins").is_err());

        $node.fall_silent();
        let mut patient = client.sketch("logins").unwrap().within(SOON);
        let late = patient.take("k", 1, 5, Window::smooth(MINUTE))$(.$wait)?.unwrap_err();
        assert!(matches!(late, ClientError::Timeout { timeout_ms: 30, .. }), "{late}");
        assert_eq!((late.fate(), late.is_no_answer()), (Fate::Uncertain, true));
        let late = patient.count("k")$(.$wait)?.unwrap_err();
        assert_eq!(late.fate(), Fate::NotAdded);
        for (on_failure, allowed) in [(OnFailure::Open, true), (OnFailure::Closed, false)] {
            let mut decided = client.sketch("logins").unwrap().within(SOON).or(on_failure);
            let verdict = decided.hit_in("k", 1, 5, Window::smooth(MINUTE))$(.$wait)?.unwrap();
            assert_eq!((verdict.allowed, verdict.decided), (allowed, Decided::ByNobody));
            let verdict = decided.hit_by_name("none", "k", 1)$(.$wait)?.unwrap();
            assert_eq!((verdict.allowed, verdict.decided), (allowed, Decided::ByNobody));
            let long = decided.take([0; 1025], 1, 5, Window::ALL_TIME)$(.$wait)?;
            assert!(matches!(long, Err(ClientError::KeyTooLong { bytes: 1025 })));
        }
    }};
}

#[test]
fn every_call_of_the_blocking_client() {
    let node = FakeNode::start();
    every_call!(Client::connect(node.address, OPTIONS).unwrap(), node);
}

#[test]
#[allow(unused_mut, reason = "the other client's handles change")]
fn every_call_of_the_client_for_tokio() {
    let node = FakeNode::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = AsyncClient::connect(node.address, OPTIONS).await.unwrap();
        every_call!(client, node, await);
    });
}

#[test]
fn an_adder_of_a_sketch_adds_there() {
    let node = FakeNode::start();
    let mut client = Client::connect(node.address, OPTIONS).unwrap();
    let mut sketch = client.sketch("logins").unwrap();
    let mut adder = sketch.adder();
    for n in 0..10_000_u32 {
        adder.push(&n.to_le_bytes(), 1).unwrap();
    }
    assert_eq!(adder.finish().unwrap(), 10_000);
}

/// Many tasks of several sketches share one socket and one line of sequences.
#[test]
fn tasks_of_several_sketches_share_a_client() {
    let node = FakeNode::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = AsyncClient::connect(node.address, OPTIONS).await.unwrap();
        let tasks = (0..300).map(|n| {
            let name = format!("sketch-{}", n % 3);
            let sketch = client.sketch(&name).unwrap();
            tokio::spawn(async move {
                sketch.add("k", 1).await.unwrap();
                let verdict = sketch
                    .take("k", 1, 5, Window::smooth(MINUTE))
                    .await
                    .unwrap();
                assert_eq!(verdict.estimate, number(&name));
                assert_eq!(sketch.count("k").await.unwrap().estimate, number(&name));
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}
