//! Benches of reading requests and writing answers, without any sketch.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rmbd_proto::compact::{
    Answer, Header, Operation, REPLY_HEAD_BYTES, ReplyHead, RequestWriter, request,
    write_count_answer, write_reply_head,
};
use rmbd_proto::legacy::{
    Dialect, Layout, Message, encode_add, encode_count, encode_sync, messages, replies,
    write_reply_count, write_reply_key,
};

const LAYOUT: Layout = Layout {
    dialect: Dialect::Native,
    width: 1 << 10,
    depth: 4,
};

/// Number of messages in a datagram of 1 400 bytes.
const PACKED: usize = 9;

fn keys() -> impl Iterator<Item = Vec<u8>> {
    (0..64 * PACKED).map(|n| format!("203.0.113.{n}:443").into_bytes())
}

/// As many datagrams as a GRO train has.
fn packed(encode: fn(&[u8]) -> [u8; 141]) -> Vec<Vec<u8>> {
    let messages: Vec<_> = keys().map(|key| encode(&key)).collect();
    messages
        .chunks(PACKED)
        .map(|chunk| chunk.as_flattened().to_vec())
        .collect()
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("legacy/parse");
    for (name, encode) in [
        ("add", encode_add as fn(&[u8]) -> [u8; 141]),
        ("count", encode_count),
    ] {
        let datagrams = packed(encode);
        group.throughput(Throughput::Elements((64 * PACKED) as u64));
        group.bench_function(format!("{name}, {PACKED} a datagram"), |b| {
            b.iter(|| {
                let mut key_bytes = 0;
                for datagram in black_box(&datagrams) {
                    for message in messages(datagram, LAYOUT) {
                        if let Ok(Message::Add { key } | Message::Count { key }) = message {
                            key_bytes += key.len();
                        }
                    }
                }
                key_bytes
            });
        });
    }
    group.finish();
}

fn sync(c: &mut Criterion) {
    let mut group = c.benchmark_group("legacy/sync");
    let counters: Vec<u64> = (0..LAYOUT.width as u64).collect();
    group.throughput(Throughput::Elements(counters.len() as u64));
    for dialect in [Dialect::Native, Dialect::Network] {
        let mut datagram = Vec::new();
        encode_sync(1, &counters, dialect, &mut datagram);
        group.bench_function(format!("read a row, {dialect}"), |b| {
            b.iter(|| match messages(black_box(&datagram), LAYOUT).next() {
                Some(Ok(Message::Sync(row))) => row.counters().fold(0, u64::max),
                _ => 0,
            });
        });
    }
    group.finish();
}

fn reply(c: &mut Criterion) {
    let mut group = c.benchmark_group("legacy/reply");
    let keys: Vec<_> = keys().take(PACKED).collect();
    for dialect in [Dialect::Native, Dialect::Network] {
        let mut datagram = vec![0; PACKED * dialect.reply_bytes()];
        group.throughput(Throughput::Elements(PACKED as u64));
        group.bench_function(format!("write, {dialect}"), |b| {
            b.iter(|| {
                let slots = datagram.chunks_exact_mut(dialect.reply_bytes());
                for (slot, key) in slots.zip(black_box(&keys)) {
                    write_reply_key(key, dialect, slot);
                    write_reply_count(7, dialect, slot);
                }
            });
        });
        group.bench_function(format!("read, {dialect}"), |b| {
            b.iter(|| {
                replies(black_box(&datagram))
                    .map(|(key, n)| key.len() as u64 + n)
                    .sum::<u64>()
            });
        });
    }
    group.finish();
}

/// Bytes of each key in the benches of the compact format. 77 adds of such keys fill a datagram.
const KEY_BYTES: usize = 16;

/// As many datagrams of 1 400 bytes as a GRO train has, full of one operation.
fn full(fill: impl Fn(&mut RequestWriter, &[u8]) -> bool) -> (Vec<Vec<u8>>, usize) {
    let mut writer = RequestWriter::new(1400);
    let mut operations = 0;
    let datagrams = (0..46).map(|_| {
        writer.start(&Header::default()).unwrap_or_default();
        let key = |n: usize| format!("key {n:0width$}", width = KEY_BYTES - 4).into_bytes();
        while fill(&mut writer, &key(operations)) {
            operations += 1;
        }
        writer.finish().to_vec()
    });
    (datagrams.collect(), operations)
}

fn compact(c: &mut Criterion) {
    let mut group = c.benchmark_group("compact/parse");
    for (name, (datagrams, operations)) in [
        ("add", full(|writer, key| writer.add(key, 1).is_ok())),
        (
            "add with weight",
            full(|writer, key| writer.add(key, 1000).is_ok()),
        ),
        ("count", full(|writer, key| writer.count(key).is_ok())),
        (
            "hit",
            full(|writer, key| writer.hit(key, 1, 1000, 0).is_ok()),
        ),
    ] {
        group.throughput(Throughput::Elements(operations as u64));
        let in_one = operations / datagrams.len();
        group.bench_function(format!("{name}, {in_one} a datagram"), |b| {
            b.iter(|| {
                let mut sum = 0;
                for datagram in black_box(&datagrams) {
                    let Ok(request) = request(datagram) else {
                        continue;
                    };
                    for operation in request.operations() {
                        match operation {
                            Ok(
                                Operation::Add { key, weight } | Operation::Hit { key, weight, .. },
                            ) => {
                                sum += key.len() as u64 + weight;
                            }
                            Ok(Operation::Count { key }) => sum += key.len() as u64,
                            _ => {}
                        }
                    }
                }
                sum
            });
        });
    }
    group.finish();
    compact_write(c);
    compact_reply(c);
}

fn compact_write(c: &mut Criterion) {
    let mut group = c.benchmark_group("compact/write");
    let mut writer = RequestWriter::new(1400);
    group.throughput(Throughput::Elements(77));
    group.bench_function("77 adds of 16 bytes", |b| {
        b.iter(|| {
            let _ = writer.start(&Header::default());
            while writer.add(black_box(&[b'k'; KEY_BYTES]), 1).is_ok() {}
            writer.finish().len()
        });
    });
    group.finish();
}

fn compact_reply(c: &mut Criterion) {
    const ANSWERS: usize = 77;
    let mut group = c.benchmark_group("compact/reply");
    let mut datagram = vec![0; REPLY_HEAD_BYTES + ANSWERS * 9];
    group.throughput(Throughput::Elements(ANSWERS as u64));
    group.bench_function("write 77 counts", |b| {
        b.iter(|| {
            let (head, answers) = datagram.split_at_mut(REPLY_HEAD_BYTES);
            if let Ok(head) = head.try_into() {
                write_reply_head(ReplyHead::default(), head);
            }
            for answer in answers.as_chunks_mut().0 {
                write_count_answer(black_box(7), false, answer);
            }
        });
    });
    group.bench_function("read 77 counts", |b| {
        b.iter(|| {
            let reply = rmbd_proto::compact::reply(black_box(&datagram));
            let answers = reply.into_iter().flat_map(|reply| reply.answers());
            answers
                .map(|answer| match answer {
                    Ok(Answer::Count { estimate, .. }) => estimate,
                    _ => 0,
                })
                .sum::<u64>()
        });
    });
    group.finish();
}

criterion_group!(benches, parse, sync, reply, compact);
criterion_main!(benches);
