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

#[test]
fn vectors_of_requests_are_read() {
    let vectors = vectors();
    assert_eq!(list(&vectors, "requests").len(), 36);
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
            let kind = wanted["op"].as_str().unwrap();
            if kind == "padding" {
                continue;
            }
            let key = match kind {
                "info" => Vec::new(),
                _ => bytes(wanted, "key"),
            };
            let key = &key;
            let wanted = match kind {
                "add" => Operation::Add { key, weight: 1 },
                "add_weight" => Operation::Add {
                    key,
                    weight: number(wanted, "weight"),
                },
                "count" => Operation::Count { key },
                "hit" => Operation::Hit {
                    key,
                    weight: number(wanted, "weight"),
                    limit: number(wanted, "limit"),
                    window_ms: number(wanted, "window_ms"),
                },
                "bounds" => Operation::Bounds { key },
                _ => Operation::Info,
            };
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
            let key = bytes(wanted, "key");
            match wanted["op"].as_str().unwrap() {
                "add" => writer.add(&key, 1),
                "add_weight" => writer.add(&key, number(wanted, "weight")),
                "count" => writer.count(&key),
                "hit" => {
                    let [weight, limit, window_ms] =
                        ["weight", "limit", "window_ms"].map(|name| number(wanted, name));
                    writer.hit(&key, weight, limit, window_ms)
                }
                _ => writer.bounds(&key),
            }
            .unwrap();
        }
        assert_eq!(writer.operations(), operations.len());
        let expected = bytes(vector, "bytes");
        let (ours, padding) = writer.finish().split_at(expected.len());
        assert_eq!(ours, expected, "{}", vector["name"]);
        assert!(padding.iter().all(|&byte| byte == 0));
        written += 1;
    }
    assert_eq!(written, 34);
}

#[test]
fn vectors_of_malformed_requests_are_refused() {
    let vectors = vectors();
    assert_eq!(list(&vectors, "malformed").len(), 31);
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
        Answer::Bounds {
            estimate,
            incomplete,
            lower,
            total_weight,
        } => {
            out.resize(start + BOUNDS_ANSWER_BYTES, 0xaa);
            let slot = out.last_chunk_mut().unwrap();
            write_bounds_answer(estimate, incomplete, lower, total_weight, slot);
        }
        Answer::Info(info) => out.extend(encode_info(&info)),
        Answer::Cookie(cookie) => out.extend(encode_cookie(cookie.try_into().unwrap())),
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

#[test]
fn vectors_of_replies_are_read_and_written() {
    let vectors = vectors();
    assert_eq!(list(&vectors, "replies").len(), 33);
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
            .map(|(wanted, cookie)| {
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
                    "bounds" => Answer::Bounds {
                        estimate,
                        incomplete,
                        lower: number(wanted, "lower"),
                        total_weight: number(wanted, "total_weight"),
                    },
                    "cookie" => Answer::Cookie(cookie),
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
    assert_eq!(Problem::from_code(20), None);
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
        &[8],
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
