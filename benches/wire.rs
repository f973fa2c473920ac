//! What reading and answering cost before any sketch is touched.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rmbd::wire::legacy::{
    Dialect, Layout, Message, encode_add, encode_count, encode_sync, messages, replies,
    write_reply_count, write_reply_key,
};

const LAYOUT: Layout = Layout {
    dialect: Dialect::Native,
    width: 1 << 10,
    depth: 4,
};

/// As many messages as a datagram of 1 400 bytes holds.
const PACKED: usize = 9;

fn keys() -> impl Iterator<Item = Vec<u8>> {
    (0..64 * PACKED).map(|n| format!("203.0.113.{n}:443").into_bytes())
}

/// A GRO train's worth of datagrams.
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
    let counters: Vec<u32> = (0..LAYOUT.width as u32).collect();
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

criterion_group!(benches, parse, sync, reply);
criterion_main!(benches);
