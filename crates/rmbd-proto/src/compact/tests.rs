//! Committed vectors and edges; `tests/fuzz` compares with a byte-wise parser.
#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::*;
use crate::{Boot, SketchNumber, Writer};

// --- Vectors, written by a program that knows only the format's description ---

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../tests/data/compact_vectors.json")).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap()
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    let hex = value[name].as_str().unwrap();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap()
}

fn once(value: &Value) -> Option<Once> {
    let once = value.get("once")?;
    Some(Once {
        boot: Boot(number(once, "boot")),
        client: number(once, "client"),
        sequence: number(once, "sequence"),
    })
}

/// An operation as a vector describes it.
struct Described<'v> {
    value: &'v Value,
    key: Vec<u8>,
    /// Of a limits' parts.
    keys: Vec<Vec<u8>>,
}

impl<'v> From<&'v Value> for Described<'v> {
    fn from(value: &'v Value) -> Self {
        let parts = value["parts"].as_array().map_or(&[][..], Vec::as_slice);
        Self {
            value,
            key: value
                .get("key")
                .map_or_else(Vec::new, |_| bytes(value, "key")),
            keys: parts.iter().map(|part| bytes(part, "key")).collect(),
        }
    }
}

impl Described<'_> {
    fn operation<'o>(&'o self, parts: &'o mut Vec<u8>) -> Operation<'o> {
        let Self { value, key, .. } = self;
        let number = |name| number(value, name);
        let name = value["name"].as_str().unwrap_or_default().as_bytes();
        match value["op"].as_str().unwrap() {
            "add" => Operation::Add { key, weight: 1 },
            "add_weight" => Operation::Add {
                key,
                weight: number("weight"),
            },
            "count" => Operation::Count { key },
            "hit" => Operation::Hit {
                key,
                weight: number("weight"),
                limit: number("limit"),
                window_ms: number("window_ms"),
            },
            "bounds" => Operation::Bounds { key },
            "info" => Operation::Info,
            "window" => Operation::Window {
                key,
                window_ms: number("window_ms"),
                smooth: value["smooth"].as_bool().unwrap(),
            },
            "limits" => Operation::Limits(self.limits(parts)),
            "sketches" => Operation::Sketches {
                first: number("first"),
            },
            "hit_by_name" => Operation::HitByName {
                name,
                key,
                weight: number("weight"),
            },
            "pardon" => Operation::Pardon {
                name,
                key,
                for_ms: number("for_ms"),
            },
            "top" => Operation::Top {
                window_ms: number("window_ms"),
                first: number("first"),
                most: number("most"),
            },
            other => panic!("{other}"),
        }
    }

    fn limits<'o>(&'o self, out: &'o mut Vec<u8>) -> Limits<'o> {
        let parts = list(self.value, "parts").iter().zip(&self.keys);
        let parts: Vec<_> = parts
            .map(|(part, key)| LimitPart {
                sketch: SketchNumber(number(part, "sketch") as u32),
                key,
                weight: number(part, "weight"),
                limit: number(part, "limit"),
                window_ms: number(part, "window_ms"),
            })
            .collect();
        let [take, bound] = ["take", "bound"].map(|name| self.value[name].as_bool().unwrap());
        let limits = Limits::write(take, bound, &parts, out).unwrap();
        assert!(limits.parts().eq(parts.iter().copied()));
        limits
    }
}

#[test]
fn vectors_of_requests_are_read() {
    let vectors = vectors();
    assert_eq!(list(&vectors, "requests").len(), 59);
    for vector in list(&vectors, "requests") {
        let datagram = bytes(vector, "bytes");
        let request = request(&datagram).unwrap();
        assert_eq!(u64::from(request.id), number(vector, "id"));
        assert_eq!(
            request.acknowledge,
            vector["acknowledge"].as_bool().unwrap()
        );
        assert_eq!(u64::from(request.sketch.0), number(vector, "sketch"));
        let token = vector.get("token").map(|_| bytes(vector, "token"));
        assert_eq!(request.token, token.as_deref());
        assert_eq!(request.once, once(vector));
        let cookie = vector.get("cookie").map(|_| bytes(vector, "cookie"));
        assert_eq!(request.cookie, cookie.as_deref());
        let mut operations = request.operations();
        for wanted in list(vector, "operations") {
            if wanted["op"] == "padding" {
                continue;
            }
            let described = Described::from(wanted);
            let mut parts = Vec::new();
            let wanted = described.operation(&mut parts);
            assert_eq!(operations.next(), Some(Ok(wanted)), "{}", vector["name"]);
        }
        assert_eq!(operations.next(), None);
    }
}

#[test]
fn vectors_of_requests_are_written() {
    let mut written = 0;
    for vector in list(&vectors(), "requests") {
        let token = vector.get("token").map(|_| bytes(vector, "token"));
        let cookie = vector.get("cookie").map(|_| bytes(vector, "cookie"));
        let mut writer = RequestWriter::new(10_000);
        let header = Header {
            id: number(vector, "id") as u32,
            acknowledge: vector["acknowledge"].as_bool().unwrap(),
            sketch: SketchNumber(number(vector, "sketch") as u32),
            token: token.as_deref(),
            once: once(vector),
            cookie: cookie.as_deref(),
        };
        writer.start(&header).unwrap();
        let operations = list(vector, "operations");
        if operations.iter().any(|wanted| wanted["op"] == "padding") {
            continue;
        }
        for wanted in operations {
            let mut parts = Vec::new();
            let described = Described::from(wanted);
            let operation = described.operation(&mut parts);
            writer.operation(operation).unwrap();
        }
        assert_eq!(writer.operations(), operations.len());
        let expected = bytes(vector, "bytes");
        let (ours, padding) = writer.finish().split_at(expected.len());
        assert_eq!(ours, expected, "{}", vector["name"]);
        assert!(padding.iter().all(|&byte| byte == 0));
        written += 1;
    }
    assert_eq!(written, 56);
}

#[test]
fn vectors_of_malformed_requests_are_refused() {
    let vectors = vectors();
    assert_eq!(list(&vectors, "malformed").len(), 61);
    for vector in list(&vectors, "malformed") {
        let datagram = bytes(vector, "bytes");
        let name = vector["problem"].as_str().unwrap();
        let by_name = Problem::ALL.iter().find(|problem| problem.name() == name);
        let problem = *by_name.unwrap();
        let Some(done) = vector.get("done") else {
            let id = vector["id"].as_u64().map(|id| id as u32);
            assert_eq!(request(&datagram), Err(Rejected { problem, id }));
            continue;
        };
        let mut operations = request(&datagram).unwrap().operations();
        for _ in 0..done.as_u64().unwrap() {
            assert!(operations.next().unwrap().is_ok());
        }
        let asks = vector["asks"].as_bool().unwrap();
        let stopped = Some(Err(Stopped { problem, asks }));
        assert_eq!(operations.next(), stopped, "{}", vector["name"]);
        assert_eq!(operations.next(), None);
        assert_eq!(operations.next(), None);
    }
}

fn write_answer(answer: &Answer<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    match *answer {
        Answer::Count {
            estimate,
            incomplete,
        } => {
            out.resize(start + COUNT_ANSWER_BYTES, 0xaa);
            let slot = out.last_chunk_mut().unwrap();
            write_count_answer(estimate, incomplete, slot);
        }
        Answer::Hit {
            estimate,
            incomplete,
            within,
        } => {
            out.resize(start + COUNT_ANSWER_BYTES, 0xaa);
            let slot = out.last_chunk_mut().unwrap();
            write_hit_answer(estimate, incomplete, within, slot);
        }
        Answer::Bounds(answer) => {
            out.resize(start + BOUNDS_ANSWER_BYTES, 0xaa);
            write_bounds_answer(&answer, out.last_chunk_mut().unwrap());
        }
        Answer::Info(info) => out.extend(encode_info(&info)),
        Answer::Cookie(cookie) => out.extend(encode_cookie(cookie.try_into().unwrap())),
        Answer::Window(answer) => {
            out.resize(start + WINDOW_ANSWER_BYTES, 0xaa);
            write_window_answer(&answer, out.last_chunk_mut().unwrap());
        }
        Answer::Limits(verdict) => {
            out.resize(start + LIMITS_ANSWER_BYTES, 0xaa);
            write_limits_answer(&verdict, out.last_chunk_mut().unwrap());
        }
        Answer::HitByName(verdict) => {
            out.resize(start + LIMITS_ANSWER_BYTES, 0xaa);
            write_hit_by_name_answer(&verdict, out.last_chunk_mut().unwrap());
        }
        Answer::Pardon { credit } => {
            out.resize(start + PARDON_ANSWER_BYTES, 0xaa);
            write_pardon_answer(credit, out.last_chunk_mut().unwrap());
        }
        Answer::Sketches(sketches) => {
            out.resize(start + REPLY_BYTES_MAX, 0xaa);
            let mut writer = SketchesWriter::new(&mut out[start..], sketches.total).unwrap();
            for (entry, windows) in sketches.entries() {
                assert!(writer.push(&entry, windows));
            }
            let bytes = writer.finish();
            out.truncate(start + bytes);
        }
        Answer::Top(top) => {
            out.resize(start + REPLY_BYTES_MAX, 0xaa);
            let mut writer = TopWriter::new(&mut out[start..], &top.head).unwrap();
            assert!(top.entries().all(|entry| writer.push(&entry)));
            let bytes = writer.finish();
            out.truncate(start + bytes);
        }
    }
}

fn write_reply(head: ReplyHead, answers: &[Answer<'_>]) -> Vec<u8> {
    let mut out = vec![0xaa; REPLY_HEAD_BYTES];
    write_reply_head(head, out.first_chunk_mut().unwrap());
    for answer in answers {
        write_answer(answer, &mut out);
    }
    out
}

fn verdict(value: &Value) -> Verdict {
    let flag = |name| value[name].as_bool().unwrap_or_default();
    Verdict {
        over: flag("over"),
        incomplete: flag("incomplete"),
        unsure: flag("unsure"),
        overflowed: flag("overflowed"),
        shadow: flag("shadow"),
        part: number(value, "part") as u8,
        estimate: number(value, "estimate"),
        remaining: number(value, "remaining"),
        retry_after_ms: number(value, "retry_after_ms") as u32,
        covered_ms: number(value, "covered_ms") as u32,
    }
}

/// A list of sketches as vectors describe it.
fn sketches(answer: &Answer<'_>) -> Value {
    let Answer::Sketches(sketches) = answer else {
        panic!("{answer:?}");
    };
    let entries = sketches.entries().map(|(entry, windows)| {
        let windows = windows.map(|window| {
            serde_json::json!({
                "span_ms": window.span_ms,
                "step_ms": window.step_ms,
                "width": window.width,
            })
        });
        serde_json::json!({
            "number": entry.number.0,
            "name": str::from_utf8(entry.name).unwrap(),
            "fingerprint": entry.fingerprint,
            "width": entry.width,
            "depth": entry.depth,
            "hash": if entry.hash == HASH_FNV { "fnv" } else { "xxh3" },
            "windows": windows.collect::<Vec<_>>(),
        })
    });
    let entries: Vec<_> = entries.collect();
    serde_json::json!({ "answer": "sketches", "total": sketches.total, "entries": entries })
}

/// A list of the largest keys as vectors describe it.
fn top(answer: &Answer<'_>) -> Value {
    let Answer::Top(top) = answer else {
        panic!("{answer:?}");
    };
    let hex = |name: &[u8]| -> String { name.iter().map(|byte| format!("{byte:02x}")).collect() };
    let entries = top.entries().map(|entry| {
        serde_json::json!({
            "estimate": entry.estimate,
            "certain": entry.certain,
            "name": entry.name.map(hex),
        })
    });
    let (head, entries) = (top.head, entries.collect::<Vec<_>>());
    serde_json::json!({
        "answer": "top",
        "incomplete": head.incomplete,
        "redacted": head.redacted,
        "edition": head.edition,
        "age_ms": head.age_ms,
        "complete_above": head.complete_above,
        "total_weight": head.total_weight,
        "listed": head.listed,
        "entries": entries,
    })
}

#[test]
fn vectors_of_replies_are_read_and_written() {
    let vectors = vectors();
    assert_eq!(list(&vectors, "replies").len(), 55);
    for vector in list(&vectors, "replies") {
        let datagram = bytes(vector, "bytes");
        let reply = reply(&datagram).unwrap();
        let problem = vector["problem"].as_str();
        assert_eq!(u64::from(reply.head.id), number(vector, "id"));
        assert_eq!(u64::from(reply.head.done), number(vector, "done"));
        assert_eq!(reply.head.repeated, vector["repeated"].as_bool().unwrap());
        assert_eq!(
            reply.head.problem().map(|known| known.unwrap().name()),
            problem
        );
        let answers: Vec<_> = reply.answers().map(Result::unwrap).collect();
        let cookies = list(vector, "answers")
            .iter()
            .map(|wanted| match wanted.get("cookie") {
                None => Vec::new(),
                Some(_) => bytes(wanted, "cookie"),
            });
        let cookies: Vec<_> = cookies.collect();
        let wanted = list(vector, "answers")
            .iter()
            .zip(&cookies)
            .zip(&answers)
            .map(|((wanted, cookie), answer)| {
                let estimate = wanted["estimate"].as_u64().unwrap_or_default();
                let incomplete = wanted["incomplete"].as_bool().unwrap_or_default();
                match wanted["answer"].as_str().unwrap() {
                    "count" => Answer::Count {
                        estimate,
                        incomplete,
                    },
                    "hit" => Answer::Hit {
                        estimate,
                        incomplete,
                        within: wanted["within"].as_bool().unwrap(),
                    },
                    "bounds" => Answer::Bounds(BoundsAnswer {
                        estimate,
                        incomplete,
                        likely_estimate: number(wanted, "likely_estimate"),
                        likely_lower: number(wanted, "likely_lower"),
                        certain_lower: number(wanted, "certain_lower"),
                        total_weight: number(wanted, "total_weight"),
                    }),
                    "cookie" => Answer::Cookie(cookie),
                    "window" => Answer::Window(WindowAnswer {
                        estimate,
                        incomplete,
                        overflowed: wanted["overflowed"].as_bool().unwrap(),
                        covered_ms: number(wanted, "covered_ms") as u32,
                    }),
                    "limits" => Answer::Limits(verdict(wanted)),
                    "hit_by_name" => Answer::HitByName(verdict(wanted)),
                    "pardon" => Answer::Pardon {
                        credit: number(wanted, "credit"),
                    },
                    "sketches" => {
                        assert_eq!(sketches(answer), *wanted);
                        *answer
                    }
                    "top" => {
                        assert_eq!(top(answer), *wanted);
                        *answer
                    }
                    _ => Answer::Info(Info {
                        boot: Boot(number(wanted, "boot")),
                        fingerprint: number(wanted, "fingerprint"),
                        width: number(wanted, "width"),
                        max_weight: number(wanted, "max_weight") as u32,
                        depth: number(wanted, "depth") as u8,
                        hash: match wanted["hash"].as_str().unwrap() {
                            "xxh3" => HASH_XXH3,
                            _ => HASH_FNV,
                        },
                        version: wanted["version"].as_str().unwrap().as_bytes(),
                        cluster_port: number(wanted, "cluster_port") as u16,
                        cookie,
                        writer: Writer(wanted["writer"].as_u64().unwrap_or_default()),
                    }),
                }
            });
        assert_eq!(answers, wanted.collect::<Vec<_>>(), "{}", vector["name"]);
        let is_ours = ["of_an_older_node", "of_a_later_node"]
            .iter()
            .all(|&other| vector.get(other).is_none());
        if is_ours {
            assert_eq!(write_reply(reply.head, &answers), datagram);
        }
    }
}

// --- Rules that no vector shows ---

#[test]
fn problems_have_codes_and_labels() {
    for (index, problem) in Problem::ALL.into_iter().enumerate() {
        assert_eq!(problem.index(), index);
        assert_eq!(Problem::from_code(problem.code()), Some(problem));
        let is_label = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(problem.name().chars().all(is_label));
        let same_name = |other: &&Problem| other.name() == problem.name();
        assert_eq!(Problem::ALL.iter().filter(same_name).count(), 1);
    }
    assert_eq!(Problem::from_code(0), None);
    assert_eq!(Problem::from_code(25), None);
    let unknown = ReplyHead {
        code: 200,
        ..ReplyHead::default()
    };
    assert_eq!(unknown.problem(), Some(None));
}

#[test]
fn no_legacy_message_and_no_reply_is_a_request() {
    for first in 0..=255 {
        assert_eq!(is_request(first), (0xc0..=0xcf).contains(&first));
        assert_eq!(is_reply(first), (0xd0..=0xdf).contains(&first));
    }
    let datagram = write_reply(ReplyHead::default(), &[]);
    assert!(!is_request(datagram[0]));
    // A legacy reply begins with a key's length.
    assert!(datagram[0] > crate::legacy::KEY_BYTES_MAX as u8);
}

#[test]
fn ten_thousand_operations_are_read() {
    let mut writer = RequestWriter::new(65_507);
    writer.start(&Header::default()).unwrap();
    for n in 0..10_000_u32 {
        writer.add(&n.to_le_bytes()[..3], 1).unwrap();
    }
    let datagram = writer.finish().to_vec();
    let operations = request(&datagram).unwrap().operations();
    let keys = operations.map(|operation| match operation {
        Ok(Operation::Add { key, weight: 1 }) => key.to_vec(),
        other => panic!("{other:?}"),
    });
    assert!(keys.eq((0..10_000_u32).map(|n| n.to_le_bytes()[..3].to_vec())));
}

#[test]
fn a_writer_keeps_to_the_limits_of_request_and_reply() {
    let mut writer = RequestWriter::new(1400);
    // Answers end before the request does: a request of 1 400 bytes holds 466 of these.
    writer.start(&Header::default()).unwrap();
    let mut counts = 0;
    while writer.count(b"k").is_ok() {
        counts += 1;
    }
    assert_eq!(counts, (REPLY_BYTES_MAX - REPLY_HEAD_BYTES) / 9);
    assert_eq!(writer.add(b"k", 1), Ok(()));
    let request_bytes = writer.finish().len();
    assert!(reply_bytes_max(request_bytes) >= 9 + 9 * counts);

    // A short request is padded for its reply; a full one is left as it was.
    writer.start(&Header::default()).unwrap();
    writer.info().unwrap();
    let bytes = writer.finish().len();
    assert_eq!(bytes, (9 + INFO_ANSWER_BYTES_MAX).div_ceil(3));
    let mut small = RequestWriter::new(bytes - 1);
    small.start(&Header::default()).unwrap();
    assert_eq!(small.info(), Err(WriteError::Full));
    assert_eq!((small.operations(), small.finish().len()), (0, 7));

    writer.start(&Header::default()).unwrap();
    let refused = WriteError::KeyTooLong { bytes: 1025 };
    assert_eq!(writer.add(&[0; 1025], 1), Err(refused));
    assert_eq!(writer.add(&[0; 1024], 1), Ok(()));
    assert_eq!(writer.add(&[0; 1024], 1), Err(WriteError::Full));
    assert_eq!(writer.finish().len(), 7 + 1 + 2 + 1024);
    let token = Header {
        token: Some(&[0; 256]),
        ..Header::default()
    };
    let refused = WriteError::TokenTooLong { bytes: 256 };
    assert_eq!(writer.start(&token), Err(refused));
    let cookie = Header {
        cookie: Some(&[0; COOKIE_BYTES_MAX + 1]),
        ..Header::default()
    };
    let refused = WriteError::CookieTooLong { bytes: 17 };
    assert_eq!(writer.start(&cookie), Err(refused));
}

/// Whatever stands before the operations, and however the request came by it.
#[test]
fn a_cookie_that_comes_later_is_where_a_written_one_is() {
    let requests = list(&vectors(), "requests").to_vec();
    for (vector, cookie) in requests
        .iter()
        .zip([&b""[..], b"c", &[0xcc; 16]].iter().cycle())
    {
        let datagram = bytes(vector, "bytes");
        let mut out = b"before".to_vec();
        write_with_cookie(&datagram, cookie, &mut out);
        let with = &out[6..];
        if vector.get("cookie").is_some() {
            assert_eq!(with, datagram, "it has one");
            continue;
        }
        assert_eq!(with.len(), datagram.len() + 1 + cookie.len());
        let (without, with) = (request(&datagram).unwrap(), request(with).unwrap());
        let expected = Request {
            cookie: Some(cookie),
            ..without
        };
        assert_eq!(with, expected, "{}", vector["name"]);
    }
    for (datagram, cookie) in [(&b"\xc1\x02\0"[..], 1), (b"\xc1\0\0\0\0\0\0", 17)] {
        let mut out = Vec::new();
        write_with_cookie(datagram, &vec![7; cookie], &mut out);
        assert_eq!(out, datagram, "left as it is");
    }
}

#[test]
fn seventy_seven_adds_fit_a_datagram() {
    let mut writer = RequestWriter::new(1400);
    writer.start(&Header::default()).unwrap();
    let mut adds = 0;
    while writer.add(&[b'k'; 16], 1).is_ok() {
        adds += 1;
    }
    assert_eq!(adds, 77);
}

#[test]
fn an_info_may_grow_and_its_version_is_cut() {
    let mut answer = encode_info(&Info {
        boot: Boot(1),
        fingerprint: 2,
        width: 3,
        max_weight: 4,
        depth: 5,
        hash: 6,
        version: &[b'v'; 40],
        cluster_port: 7,
        cookie: &[b'c'; 20],
        writer: Writer(8),
    });
    assert_eq!(answer.len(), INFO_ANSWER_BYTES_MAX);
    answer[1] += 3;
    answer.extend(b"new");
    let datagram = [write_reply(ReplyHead::default(), &[]), answer].concat();
    let answers: Vec<_> = reply(&datagram).unwrap().answers().collect();
    let [Ok(Answer::Info(info))] = answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!((info.hash, info.version), (6, &[b'v'; 32][..]));
    assert_eq!((info.cluster_port, info.cookie), (7, &[b'c'; 16][..]));
    assert_eq!(info.writer, Writer(8));
}

#[test]
fn what_is_no_reply_is_told() {
    let good = write_reply(ReplyHead::default(), &[]);
    assert!(reply(&good).is_ok());
    for end in 0..good.len() {
        assert_eq!(reply(&good[..end]), Err(ReplyMalformed::NotAReply));
    }
    for first in (0..=255).filter(|&first| first != 0xd1) {
        let other = [&[first], &good[1..]].concat();
        assert_eq!(reply(&other), Err(ReplyMalformed::NotAReply));
    }
    let long = [&good[..], &[3; 1400]].concat();
    assert_eq!(reply(&long), Err(ReplyMalformed::NotAReply));
    for answer in [
        &[0][..],
        &[3],
        &[7],
        &[7, 2, 0],
        &[0xe],
        &[0xe, 0x80, 0],
        &[0xe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        // Content that is too short, and a list with half an entry.
        &[8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[9, 2, 0, 0],
        &[0xb, 0],
        &[0xc, 1, 0],
        &[0xa, 0],
        &[0xa, 3, 1, 1, 0],
        &[0xd, 1, 0],
        &[&[0xd, 31][..], &[0; 29], &[1, 1]].concat(),
        &[&[0xd, 34][..], &[0; 29], &[1, 3, 0, 0, 2]].concat(),
        &[0x88, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x3f, 2, 0],
        &[0x40, 0],
        &[0x87, 0],
        &[0x86, 0],
        &[0x43; 9],
        &[0x45; 25],
        &[6, 1, 0],
    ] {
        let datagram = [&good[..], answer].concat();
        let answers: Vec<_> = reply(&datagram).unwrap().answers().collect();
        assert_eq!(answers, [Err(ReplyMalformed::Answer)], "{answer:x?}");
    }
}

/// What is not whole is not said, and nothing is written where there is no room.
#[test]
fn a_list_of_sketches_ends_where_its_room_does() {
    let entry = |name| SketchEntry {
        number: SketchNumber(7),
        name,
        fingerprint: 8,
        width: 1 << 20,
        depth: 4,
        hash: HASH_XXH3,
    };
    let windows = [60_000, 3_600_000].map(|span_ms| SketchWindow {
        span_ms,
        step_ms: span_ms / 60,
        width: 1 << 16,
    });
    let mut fits = Vec::new();
    for room in 0..700 {
        let mut out = vec![0xaa; room + 1];
        let (content, behind) = out.split_at_mut(room);
        let Some(mut writer) = SketchesWriter::new(content, 300) else {
            assert!(room < 5);
            continue;
        };
        let pushed = (0..40_usize)
            .take_while(|&n| writer.push(&entry(&[b'n'; 40][..n]), windows.into_iter()))
            .count();
        let bytes = writer.finish();
        assert!(bytes <= room && behind == [0xaa]);
        let datagram = [&write_reply(ReplyHead::default(), &[]), &content[..bytes]].concat();
        let answers: Vec<_> = reply(&datagram).unwrap().answers().collect();
        let [Ok(Answer::Sketches(sketches))] = answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(sketches.total, 300);
        let names = sketches.entries().map(|(entry, kept)| {
            assert!(kept.eq(windows));
            entry.name.len()
        });
        assert!(names.eq(0..pushed));
        fits.push(pushed);
    }
    assert!(fits.is_sorted() && fits[0] == 0 && fits.last() > Some(&10));
    // A name is cut, and a large reply ends where lengths of two bytes do.
    let mut out = vec![0; 100_000];
    let mut writer = SketchesWriter::new(&mut out, 1).unwrap();
    let mut pushed = 0;
    while writer.push(&entry(&[b'n'; 300]), windows.into_iter()) {
        pushed += 1;
    }
    assert_eq!((pushed, writer.finish() <= 3 + 16_383), (55, true));
}

/// What is not whole is not said, nothing is written where there is no room, and the longest name fits a reply.
#[test]
fn a_list_of_the_largest_keys_ends_where_its_room_does() {
    let head = TopHead {
        edition: 7,
        listed: 300,
        ..TopHead::default()
    };
    let entry = |name| TopEntry {
        estimate: 1 << 40,
        certain: 5,
        name,
    };
    let mut fits = Vec::new();
    for room in 0..700 {
        let mut out = vec![0xaa; room + 1];
        let (content, behind) = out.split_at_mut(room);
        let Some(mut writer) = TopWriter::new(content, &head) else {
            assert!(room < 3 + 31);
            continue;
        };
        let name = |n: usize| n.checked_sub(1).map(|bytes| &[b'n'; 40][..bytes]);
        let pushed = (0..40_usize)
            .take_while(|&n| writer.push(&entry(name(n))))
            .count();
        let bytes = writer.finish();
        assert!(bytes <= room && behind == [0xaa]);
        let datagram = [&write_reply(ReplyHead::default(), &[]), &content[..bytes]].concat();
        let answers: Vec<_> = reply(&datagram).unwrap().answers().collect();
        let [Ok(Answer::Top(top))] = answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(top.head, head);
        assert!(top.entries().eq((0..pushed).map(|n| entry(name(n)))));
        fits.push(pushed);
    }
    assert!(fits.is_sorted() && fits[0] == 0 && fits.last() > Some(&10));
    let largest = TopHead {
        incomplete: true,
        redacted: true,
        edition: u64::MAX,
        age_ms: u32::MAX,
        complete_above: u64::MAX,
        total_weight: u64::MAX,
        listed: u64::MAX,
    };
    let mut out = [0; REPLY_BYTES_MAX - REPLY_HEAD_BYTES];
    let mut writer = TopWriter::new(&mut out, &largest).unwrap();
    let longest = TopEntry {
        estimate: u64::MAX,
        certain: u64::MAX,
        name: Some(&[0xff; 2_000]),
    };
    assert!(writer.push(&longest) && !writer.push(&longest));
    let bytes = writer.finish();
    let datagram = [&write_reply(ReplyHead::default(), &[]), &out[..bytes]].concat();
    let answers: Vec<_> = reply(&datagram).unwrap().answers().collect();
    let [Ok(Answer::Top(top))] = answers[..] else {
        panic!("{answers:?}");
    };
    let names: Vec<_> = top.entries().filter_map(|entry| entry.name).collect();
    assert_eq!(
        (top.head, names),
        (largest, vec![&[0xff; KEY_BYTES_MAX][..]])
    );
}

#[test]
fn limits_are_one_to_eight_with_keys_that_fit() {
    let part = |key| LimitPart {
        sketch: SketchNumber(3),
        key,
        weight: u64::MAX - 1,
        limit: 1,
        window_ms: 0,
    };
    let mut out = b"before".to_vec();
    for parts in 1..=LIMIT_PARTS_MAX {
        let limits = Limits::write(true, false, &vec![part(b"k"); parts], &mut out).unwrap();
        assert!(limits.parts().len() == parts && limits.parts().all(|one| one == part(b"k")));
        let sum = if parts == 1 { u64::MAX - 1 } else { u64::MAX };
        assert_eq!(limits.weight(), sum);
    }
    for parts in [0, LIMIT_PARTS_MAX + 1] {
        let refused = Limits::write(true, false, &vec![part(b"k"); parts], &mut out);
        assert_eq!(refused, Err(WriteError::LimitParts { parts }));
    }
    let refused = Limits::write(false, true, &[part(b""), part(&[0; 1025])], &mut out);
    assert_eq!(refused, Err(WriteError::KeyTooLong { bytes: 1025 }));
    let mut writer = RequestWriter::new(1400);
    writer.start(&Header::default()).unwrap();
    let refused = writer.hit_by_name(&[0; 256], b"", 1);
    assert_eq!(refused, Err(WriteError::NameTooLong { bytes: 256 }));
    let refused = writer.pardon(b"", &[0; 1025], 1);
    assert_eq!(refused, Err(WriteError::KeyTooLong { bytes: 1025 }));
    assert_eq!((writer.operations(), writer.finish().len()), (0, 7));
}

/// A list has what is left of a reply.
#[test]
fn lists_are_asked_for_alone() {
    let mut writer = RequestWriter::new(1400);
    writer.start(&Header::default()).unwrap();
    writer.sketches(0).unwrap();
    assert_eq!(writer.count(b"k"), Err(WriteError::Full));
    assert_eq!(reply_bytes_max(writer.finish().len()), REPLY_BYTES_MAX);
    writer.start(&Header::default()).unwrap();
    writer.top(0, 0, 10).unwrap();
    assert_eq!(writer.sketches(0), Err(WriteError::Full));
    assert_eq!(reply_bytes_max(writer.finish().len()), REPLY_BYTES_MAX);
}

/// Operations are read by value on the way that takes millions a second.
#[test]
fn an_operation_stays_small() {
    assert_eq!(size_of::<Operation<'_>>(), 48);
}

#[test]
fn a_sequence_that_comes_later_is_where_a_written_one_is() {
    for vector in list(&vectors(), "requests") {
        let datagram = bytes(vector, "bytes");
        for sequence in [0, 127, 128, 1 << 40, u64::MAX] {
            let mut out = b"before".to_vec();
            write_with_sequence(&datagram, sequence, &mut out);
            let with = request(&out[6..]).unwrap();
            let without = request(&datagram).unwrap();
            let once = without.once.map(|once| Once { sequence, ..once });
            assert_eq!(with, Request { once, ..without });
        }
    }
}
