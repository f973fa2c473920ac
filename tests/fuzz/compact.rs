//! Generated requests and replies of the compact format.

use proptest::prelude::*;
use rmbd_proto::compact::{Header, Operation, RequestWriter, request};

use crate::targets;

#[test]
fn every_short_request() {
    for tail in 0..=0xff_ffff_u32 {
        let [a, b, c, _] = tail.to_le_bytes();
        // These are all operations of up to three bytes behind the header.
        targets::compact::request(&[0xc1, 0, 1, 2, 3, 4, 0, a, b, c]);
    }
}

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 127 {
        out.push((value % 128) as u8 + 128);
        value /= 128;
    }
    out.push(value as u8);
    out
}

pub(crate) fn any_number() -> impl Strategy<Value = u64> {
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
    let older = (0..7_u8, any_key(), numbers).prop_map(|(kind, key, numbers)| {
        let key = [varint(key.len() as u64), key].concat();
        let count = [0, 0, 1, 0, 3, 0, 0][usize::from(kind)];
        let numbers = numbers[..count].iter().flat_map(|&number| varint(number));
        match kind {
            0 | 6 => vec![kind],
            _ => [kind].into_iter().chain(key).chain(numbers).collect(),
        }
    });
    let top = prop::array::uniform3(any_number());
    let top = top.prop_map(|numbers| [vec![13], numbers.map(varint).concat()].concat());
    prop_oneof![older, newer_operation(), limits(), top]
}

/// Of one key.
fn newer_operation() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::collection::vec(any::<u8>(), 0..20);
    (8..15_u8, name, any_key(), any_number(), 0..3_u8).prop_map(
        |(code, name, key, number, flags)| {
            let key = [varint(key.len() as u64), key].concat();
            let name = [vec![name.len() as u8], name].concat();
            match code {
                8 => [vec![code], key, varint(number), vec![flags]].concat(),
                10 => [vec![code], varint(number)].concat(),
                _ => [vec![code], name, key, varint(number)].concat(),
            }
        },
    )
}

fn limits() -> impl Strategy<Value = Vec<u8>> {
    let sketch = prop_oneof![8 => 0..1_u64 << 32, 1 => any::<u64>()];
    let numbers = prop::array::uniform3(any_number());
    let part = (sketch, any_key(), numbers).prop_map(|(sketch, key, numbers)| {
        let numbers = numbers.map(varint).concat();
        [varint(sketch), varint(key.len() as u64), key, numbers].concat()
    });
    (0..5_u8, prop::collection::vec(part, 0..10)).prop_map(|(flags, parts)| {
        let head = [9, flags, parts.len() as u8];
        [&head[..], &parts.concat()].concat()
    })
}

/// Mostly valid requests; some are damaged.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let header = (
        0..16_u8,
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
        out.extend(varint(sketch));
        if flags & 4 != 0 {
            out.push(token.len() as u8);
            out.extend(&token);
        }
        if flags & 2 != 0 {
            out.extend(once.0);
            out.extend(varint(once.1));
        }
        if flags & 8 != 0 {
            out.push(token.len() as u8);
            out.extend(token);
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

/// Answers of all kinds, as a node writes them, or almost so.
fn replies() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop_oneof![
        8 => prop::sample::select(vec![3_u8, 4, 5, 6, 7, 8, 0x3f, 0x44, 0x83, 0x84, 0x85, 0xc4]),
        1 => any::<u8>(),
    ];
    let answer = (tag, prop::collection::vec(any::<u8>(), 24..64)).prop_map(|(tag, bytes)| {
        let length = match tag & 0x3f {
            3 | 4 => 8,
            5 => 24,
            _ => bytes.len(),
        };
        let mut answer = [&[tag], &bytes[..length]].concat();
        if (6..0x40).contains(&tag) {
            answer[1] = (length - 1) as u8;
        }
        answer
    });
    let answers = prop::collection::vec(prop_oneof![answer, newer_answer()], 0..20);
    (any::<[u8; 8]>(), answers)
        .prop_map(|(head, answers)| [&[0xd1], &head[..], &answers.concat()].concat())
}

/// Answers with a length as a varint, of about the size that they need.
fn newer_answer() -> impl Strategy<Value = Vec<u8>> {
    let content = prop::collection::vec(any::<u8>(), 0..40);
    let content = (8..15_u8, content);
    let sketches = sketches().prop_map(|content| (10, content));
    let top = top().prop_map(|content| (13, content));
    prop_oneof![2 => content, 1 => sketches, 1 => top]
        .prop_map(|(code, content)| [vec![code], varint(content.len() as u64), content].concat())
}

/// The content of a list of the largest keys.
fn top() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    let grown = prop::collection::vec(any::<u8>(), 0..3);
    let numbers = prop::array::uniform2(any_number());
    let entry = (numbers, name, grown).prop_map(|(numbers, name, grown)| {
        let length = name.as_ref().map_or(0, |name| name.len() as u64 + 1);
        let numbers = numbers.map(varint).concat();
        [numbers, varint(length), name.unwrap_or_default(), grown].concat()
    });
    let fixed = any::<[u8; 29]>();
    (fixed, any_number(), prop::collection::vec(entry, 0..4)).prop_map(
        |(fixed, listed, entries)| {
            let entries = entries
                .iter()
                .flat_map(|entry| [&varint(entry.len() as u64)[..], entry].concat());
            let head = fixed.into_iter().chain(varint(listed));
            head.chain(entries).collect()
        },
    )
}

/// The content of a list.
fn sketches() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::collection::vec(any::<u8>(), 0..20);
    let windows = prop::collection::vec(prop::array::uniform3(any_number()), 0..4);
    let grown = prop::collection::vec(any::<u8>(), 0..3);
    let entry = (any::<[u8; 12]>(), name, any_number(), windows, grown).prop_map(
        |(bytes, name, width, windows, grown)| {
            let (number, fingerprint) = bytes.split_at(4);
            let count = varint(windows.len() as u64);
            let windows = windows
                .as_flattened()
                .iter()
                .flat_map(|&number| varint(number));
            let windows: Vec<_> = windows.collect();
            let name = [vec![name.len() as u8], name].concat();
            let shape = [varint(width), vec![4, 1], count].concat();
            [number, &name, fingerprint, &shape, &windows, &grown].concat()
        },
    );
    (any_number(), prop::collection::vec(entry, 0..4)).prop_map(|(total, entries)| {
        let entries = entries
            .iter()
            .flat_map(|entry| [&varint(entry.len() as u64)[..], entry].concat());
        varint(total).into_iter().chain(entries).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn requests_are_what_a_naive_parser_reads(datagram in datagram()) {
        targets::compact::request(&datagram);
    }

    #[test]
    fn replies_are_what_a_naive_parser_reads(datagram in replies()) {
        targets::compact::reply(&datagram);
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
