//! Committed vectors, every prefix of them, and a byte-wise parser to compare with.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::Value;

use super::*;

// --- Vectors, written by a program that knows only the format's description ---

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/compact_vectors.json")).unwrap()
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
        boot: number(once, "boot"),
        client: number(once, "client"),
        sequence: number(once, "sequence"),
    })
}

#[test]
fn vectors_of_requests_are_read() {
    let vectors = vectors();
    assert_eq!(list(&vectors, "requests").len(), 31);
    for vector in list(&vectors, "requests") {
        let datagram = bytes(vector, "bytes");
        let request = request(&datagram).unwrap();
        assert_eq!(u64::from(request.id), number(vector, "id"));
        assert_eq!(
            request.acknowledge,
            vector["acknowledge"].as_bool().unwrap()
        );
        assert_eq!(request.sketch, number(vector, "sketch"));
        let token = vector.get("token").map(|_| bytes(vector, "token"));
        assert_eq!(request.token, token.as_deref());
        assert_eq!(request.once, once(vector));
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
        let mut writer = RequestWriter::new(10_000);
        let header = Header {
            id: number(vector, "id") as u32,
            acknowledge: vector["acknowledge"].as_bool().unwrap(),
            sketch: number(vector, "sketch"),
            token: token.as_deref(),
            once: once(vector),
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
    assert_eq!(written, 29);
}

#[test]
fn vectors_of_malformed_requests_are_refused() {
    let vectors = vectors();
    assert_eq!(list(&vectors, "malformed").len(), 29);
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
            saturated,
        } => {
            out.resize(start + COUNT_ANSWER_BYTES, 0xaa);
            let slot = out.last_chunk_mut().unwrap();
            write_count_answer(estimate, saturated, slot);
        }
        Answer::Hit {
            estimate,
            saturated,
            within,
        } => {
            out.resize(start + COUNT_ANSWER_BYTES, 0xaa);
            let slot = out.last_chunk_mut().unwrap();
            write_hit_answer(estimate, saturated, within, slot);
        }
        Answer::Bounds {
            estimate,
            saturated,
            lower,
            total_weight,
        } => {
            out.resize(start + BOUNDS_ANSWER_BYTES, 0xaa);
            let slot = out.last_chunk_mut().unwrap();
            write_bounds_answer(estimate, saturated, lower, total_weight, slot);
        }
        Answer::Info(info) => out.extend(encode_info(&info)),
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
    assert_eq!(list(&vectors, "replies").len(), 27);
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
        let wanted = list(vector, "answers").iter().map(|wanted| {
            let estimate = wanted["estimate"].as_u64().unwrap_or_default();
            let saturated = wanted["saturated"].as_bool().unwrap_or_default();
            match wanted["answer"].as_str().unwrap() {
                "count" => Answer::Count {
                    estimate,
                    saturated,
                },
                "hit" => Answer::Hit {
                    estimate,
                    saturated,
                    within: wanted["within"].as_bool().unwrap(),
                },
                "bounds" => Answer::Bounds {
                    estimate,
                    saturated,
                    lower: number(wanted, "lower"),
                    total_weight: number(wanted, "total_weight"),
                },
                _ => Answer::Info(Info {
                    boot: number(wanted, "boot"),
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
                }),
            }
        });
        assert_eq!(answers, wanted.collect::<Vec<_>>(), "{}", vector["name"]);
        if !vector["of_an_older_node"].as_bool().unwrap_or_default() {
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
    assert_eq!(Problem::from_code(16), None);
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
    assert!(datagram[0] > crate::wire::legacy::KEY_BYTES_MAX as u8);
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
        boot: 1,
        fingerprint: 2,
        width: 3,
        max_weight: 4,
        depth: 5,
        hash: 6,
        version: &[b'v'; 40],
        cluster_port: 7,
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
    assert_eq!(info.cluster_port, 7);
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

// --- A byte-wise parser to compare with ---

#[derive(Debug, PartialEq)]
enum Seen {
    Rejected(Problem, Option<u32>),
    Header(u32, bool, u64, Option<Vec<u8>>, Option<[u64; 3]>),
    Add(Vec<u8>, u64),
    Count(Vec<u8>),
    Hit(Vec<u8>, [u64; 3]),
    Bounds(Vec<u8>),
    Info,
    Stopped(Problem, bool),
}

fn ours(datagram: &[u8]) -> Vec<Seen> {
    let request = match request(datagram) {
        Ok(request) => request,
        Err(rejected) => return vec![Seen::Rejected(rejected.problem, rejected.id)],
    };
    let mut seen = vec![Seen::Header(
        request.id,
        request.acknowledge,
        request.sketch,
        request.token.map(<[u8]>::to_vec),
        request
            .once
            .map(|once| [once.boot, once.client, once.sequence]),
    )];
    seen.extend(request.operations().map(|operation| match operation {
        Ok(Operation::Add { key, weight }) => Seen::Add(key.to_vec(), weight),
        Ok(Operation::Count { key }) => Seen::Count(key.to_vec()),
        Ok(Operation::Hit {
            key,
            weight,
            limit,
            window_ms,
        }) => Seen::Hit(key.to_vec(), [weight, limit, window_ms]),
        Ok(Operation::Bounds { key }) => Seen::Bounds(key.to_vec()),
        Ok(Operation::Info) => Seen::Info,
        Err(stopped) => Seen::Stopped(stopped.problem, stopped.asks),
    }));
    seen
}

/// Reads one byte after the other, and numbers as sums of what their bits are worth.
struct Naive<'a> {
    datagram: &'a [u8],
    at: usize,
}

impl Naive<'_> {
    fn byte(&mut self) -> Result<u8, Problem> {
        if self.at >= self.datagram.len() {
            return Err(Problem::CutOff);
        }
        self.at += 1;
        Ok(self.datagram[self.at - 1])
    }

    fn fixed(&mut self, bytes: u32) -> Result<u64, Problem> {
        let mut value = 0;
        for place in 0..bytes {
            value += u64::from(self.byte()?) * 256_u64.pow(place);
        }
        Ok(value)
    }

    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0_u128;
        for place in 0..10 {
            let byte = self.byte()?;
            value += u128::from(byte % 128) * 128_u128.pow(place);
            if byte < 128 {
                if place > 0 && byte == 0 || value >= 1 << 64 {
                    return Err(Problem::Varint);
                }
                return Ok(value as u64);
            }
        }
        Err(Problem::Varint)
    }

    fn string(&mut self, length: u64) -> Result<Vec<u8>, Problem> {
        (0..length).map(|_| self.byte()).collect()
    }

    fn key(&mut self) -> Result<Vec<u8>, Problem> {
        match self.varint()? {
            length @ 0..=1024 => self.string(length),
            _ => Err(Problem::KeyTooLong),
        }
    }

    fn header(&mut self, id: u32, flags: u8) -> Result<Seen, Problem> {
        let sketch = self.varint()?;
        let mut token = None;
        if flags / 4 % 2 == 1 {
            let length = self.byte()?;
            token = Some(self.string(length.into())?);
        }
        let mut once = None;
        if flags / 2 % 2 == 1 {
            once = Some([self.fixed(8)?, self.fixed(8)?, self.varint()?]);
        }
        Ok(Seen::Header(id, flags % 2 == 1, sketch, token, once))
    }

    fn operation(&mut self, kind: u8) -> Result<Seen, Problem> {
        match kind {
            1 => Ok(Seen::Add(self.key()?, 1)),
            2 => Ok(Seen::Add(self.key()?, self.varint()?)),
            3 => Ok(Seen::Count(self.key()?)),
            4 => {
                let key = self.key()?;
                Ok(Seen::Hit(
                    key,
                    [self.varint()?, self.varint()?, self.varint()?],
                ))
            }
            5 => Ok(Seen::Bounds(self.key()?)),
            6 => Ok(Seen::Info),
            _ => Err(Problem::UnknownOperation),
        }
    }
}

fn naive(datagram: &[u8]) -> Vec<Seen> {
    if datagram.len() < 6 {
        return vec![Seen::Rejected(Problem::Short, None)];
    }
    let mut naive = Naive { datagram, at: 2 };
    let id = naive.fixed(4).unwrap() as u32;
    let rejected = |problem| vec![Seen::Rejected(problem, Some(id))];
    if datagram[0] != 0xc1 {
        return rejected(Problem::UnknownVersion);
    }
    if datagram[1] > 7 {
        return rejected(Problem::UnknownFlags);
    }
    let mut seen = match naive.header(id, datagram[1]) {
        Ok(header) => vec![header],
        Err(_) => return rejected(Problem::Header),
    };
    while let Ok(kind) = naive.byte() {
        if kind == 0 {
            continue;
        }
        match naive.operation(kind) {
            Ok(operation) => seen.push(operation),
            Err(problem) => {
                seen.push(Seen::Stopped(problem, kind != 1 && kind != 2));
                break;
            }
        }
    }
    seen
}

#[test]
fn every_prefix_of_every_vector() {
    let vectors = vectors();
    let mut prefixes = 0;
    for of in ["requests", "malformed", "replies"] {
        for vector in list(&vectors, of) {
            let datagram = bytes(vector, "bytes");
            for end in 0..=datagram.len() {
                let prefix = &datagram[..end];
                assert_eq!(ours(prefix), naive(prefix), "{}: {end}", vector["name"]);
                if let Ok(reply) = reply(prefix) {
                    let answers = reply.answers().count();
                    assert!(answers <= list(vector, "answers").len());
                }
                prefixes += 1;
            }
        }
    }
    assert!(prefixes > 10_000, "{prefixes}");
}

#[test]
fn every_short_request() {
    for tail in 0..=0xff_ffff_u32 {
        let [a, b, c, _] = tail.to_le_bytes();
        // Behind the header: all operations of up to three bytes.
        let datagram = [0xc1, 0, 1, 2, 3, 4, 0, a, b, c];
        assert_eq!(ours(&datagram), naive(&datagram));
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 127 {
        out.push((value % 128) as u8 + 128);
        value /= 128;
    }
    out.push(value as u8);
    out
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..200_u64,
        any::<u64>(),
        (0..64_u32).prop_map(|bits| 1 << bits),
        Just(u64::MAX),
    ]
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![8 => 0..30_usize, 1 => 120..140_usize, 1 => 1020..1024_usize];
    length.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length))
}

fn operation() -> impl Strategy<Value = Vec<u8>> {
    let numbers = prop::array::uniform3(any_number());
    (0..7_u8, any_key(), numbers).prop_map(|(kind, key, numbers)| {
        let key = [varint(key.len() as u64), key].concat();
        let count = [0, 0, 1, 0, 3, 0, 0][usize::from(kind)];
        let numbers = numbers[..count].iter().flat_map(|&number| varint(number));
        match kind {
            0 | 6 => vec![kind],
            _ => [kind].into_iter().chain(key).chain(numbers).collect(),
        }
    })
}

/// Mostly valid requests, some of them damaged.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let header = (
        0..8_u8,
        any::<u32>(),
        any_number(),
        prop::collection::vec(any::<u8>(), 0..9),
    );
    let once = (any::<[u8; 16]>(), any_number());
    let operations = prop::collection::vec(operation(), 0..12);
    let valid = (header, once, operations).prop_map(|(header, once, operations)| {
        let (flags, id, sketch, token) = header;
        let mut out = vec![0xc1, flags];
        out.extend(id.to_le_bytes());
        out.extend(varint(sketch % 3));
        if flags & 4 != 0 {
            out.push(token.len() as u8);
            out.extend(token);
        }
        if flags & 2 != 0 {
            out.extend(once.0);
            out.extend(varint(once.1));
        }
        out.extend(operations.concat());
        out
    });
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let cut = prop_oneof![2 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    let damaged = (valid, damage, cut).prop_map(|(mut bytes, damage, cut)| {
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    });
    prop_oneof![
        6 => damaged,
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(|tail| {
            [&[0xc1, 0, 0, 0, 0, 0, 0], &tail[..]].concat()
        }),
        1 => prop::collection::vec(any::<u8>(), 0..2000),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn same_as_the_naive_parser(datagram in datagram()) {
        prop_assert_eq!(ours(&datagram), naive(&datagram));
    }

    #[test]
    fn any_bytes_are_read_as_a_reply_without_a_panic(tail in prop::collection::vec(any::<u8>(), 0..1400)) {
        let datagram = [&[0xd1, 0], &tail[..]].concat();
        if let Ok(reply) = reply(&datagram) {
            prop_assert!(reply.answers().count() <= tail.len());
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        operations in prop::collection::vec((0..4_u8, any_key(), prop::array::uniform3(any_number())), 0..20),
        acknowledge: bool,
        id: u32,
    ) {
        let mut writer = RequestWriter::new(4_000);
        let header = Header { id, acknowledge, ..Header::default() };
        writer.start(&header).unwrap();
        let mut expected = Vec::new();
        for (kind, key, [weight, limit, window_ms]) in &operations {
            let (&weight, &limit, &window_ms) = (weight, limit, window_ms);
            let (written, operation) = match kind {
                0 => (writer.add(key, weight), Operation::Add { key, weight }),
                1 => (writer.count(key), Operation::Count { key }),
                2 => (
                    writer.hit(key, weight, limit, window_ms),
                    Operation::Hit { key, weight, limit, window_ms },
                ),
                _ => (writer.bounds(key), Operation::Bounds { key }),
            };
            if written.is_ok() {
                expected.push(Ok(operation));
            }
        }
        prop_assert_eq!(writer.operations(), expected.len());
        let datagram = writer.finish();
        prop_assert!(datagram.len() <= 4_000);
        let request = request(datagram).unwrap();
        prop_assert_eq!((request.id, request.acknowledge), (id, acknowledge));
        prop_assert_eq!(request.operations().collect::<Vec<_>>(), expected);
    }
}
