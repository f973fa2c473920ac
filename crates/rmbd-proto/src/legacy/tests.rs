//! Tests with Python's bytes, and of edge cases; `tests/fuzz` compares with a byte-wise parser.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const LAYOUT: Layout = layout(Dialect::Native, 100, 10);

const fn layout(dialect: Dialect, width: usize, depth: usize) -> Layout {
    Layout {
        dialect,
        width,
        depth,
    }
}

// --- Python's bytes ---

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../tests/data/legacy_vectors.json")).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn only(datagram: &[u8], layout: Layout) -> Message<'_> {
    let mut messages = messages(datagram, layout);
    let message = messages.next().unwrap().unwrap();
    assert_eq!(messages.next(), None);
    assert_eq!(messages.next(), None);
    message
}

const DIALECTS: [Dialect; 2] = [Dialect::Native, Dialect::Network];

#[test]
fn python_add_and_count() {
    let vectors = vectors();
    assert_eq!(list(&vectors["messages"]).len(), 14);
    for vector in list(&vectors["messages"]) {
        let [key, stored, add, count] =
            ["key", "stored_key", "add", "count"].map(|name| bytes(&vector[name]));
        assert_eq!(encode_add(&key), *add);
        assert_eq!(encode_count(&key), *count);
        for dialect in DIALECTS {
            let layout = layout(dialect, 100, 10);
            assert_eq!(only(&add, layout), Message::Add { key: &stored });
            assert_eq!(only(&count, layout), Message::Count { key: &stored });
        }
    }
}

#[test]
fn python_replies() {
    let vectors = vectors();
    for vector in list(&vectors["messages"]) {
        let stored = bytes(&vector["stored_key"]);
        for reply in list(&vector["count_reply"]) {
            let count = reply["count"].as_u64().unwrap();
            for dialect in DIALECTS {
                let python = bytes(&reply[dialect.name()]);
                let mut ours = vec![0xaa; dialect.reply_bytes()];
                write_reply_key(&bytes(&vector["key"]), dialect, &mut ours);
                write_reply_count(count, dialect, &mut ours);
                assert_eq!(ours, python);
                assert_eq!(replies(&python).collect::<Vec<_>>(), [(&*stored, count)]);
            }
        }
    }
}

#[test]
fn python_peer() {
    let vectors = vectors();
    assert_eq!(list(&vectors["peer"]).len(), 3);
    for vector in list(&vectors["peer"]) {
        let host = vector["host"].as_str().unwrap();
        let port = vector["port"].as_u64().unwrap();
        let order = Message::Peer(PeerOrder {
            host: host.as_bytes(),
            port,
        });
        for dialect in DIALECTS {
            let layout = layout(dialect, 100, 10);
            // Only the short form depends on the setting.
            let short = bytes(&vector[format!("{dialect}_H")]);
            assert_eq!(only(&short, layout), order);
            assert_eq!(
                encode_peer(host, port as u16, dialect).unwrap(),
                short.as_slice()
            );
            assert_eq!(only(&bytes(&vector["native_L"]), layout), order);
            assert_eq!(only(&bytes(&vector["network_L"]), layout), order);
        }
    }
}

#[test]
fn python_sync() {
    let vectors = vectors();
    assert_eq!(list(&vectors["sync"]).len(), 3);
    for vector in list(&vectors["sync"]) {
        let row = vector["row"].as_u64().unwrap() as usize;
        let counters: Vec<u64> = list(&vector["counters"])
            .iter()
            .map(|counter| counter.as_u64().unwrap())
            .collect();
        for (dialect, setting) in DIALECTS
            .into_iter()
            .zip([Dialect::Network, Dialect::Native])
        {
            let python = bytes(&vector[dialect.name()]);
            let Message::Sync(sync) = only(&python, layout(setting, 100, 10)) else {
                panic!("not a sync");
            };
            assert_eq!((sync.row, sync.dialect), (row, dialect));
            assert_eq!(sync.counters().collect::<Vec<_>>(), counters);
            let mut ours = vec![1, 2, 3];
            encode_sync(row as u16, &counters, dialect, &mut ours);
            assert_eq!(ours, python);
        }
    }
}

#[test]
fn python_ack() {
    let ack = bytes(&vectors()["ack"]);
    assert_eq!(ack, ACK);
    assert_eq!(only(&ack, LAYOUT), Message::Ack);
    assert_eq!(only(&[4; 500], LAYOUT), Message::Ack);
    assert_eq!(only(&[4; MESSAGE_BYTES], LAYOUT), Message::Ack);
}

#[test]
fn python_sizes() {
    let vectors = vectors();
    let (sizes, replies) = (&vectors["sizes"], &vectors["reply_sizes"]);
    assert_eq!(sizes["140p"], MESSAGE_BYTES);
    assert_eq!(sizes["H100L"], Dialect::Native.sync_bytes(100));
    assert_eq!(sizes["!H100L"], Dialect::Network.sync_bytes(100));
    assert_eq!(replies["140pL"], Dialect::Native.reply_bytes());
    assert_eq!(replies["!140pL"], Dialect::Network.reply_bytes());
}

// --- Edges ---

#[test]
fn widths_that_fit_a_datagram() {
    for (dialect, width) in DIALECTS.into_iter().zip([8_187, 16_376]) {
        assert_eq!(dialect.max_sync_width(), width);
        assert!(dialect.sync_bytes(width) <= UDP_PAYLOAD_BYTES_MAX);
        assert!(dialect.sync_bytes(width + 1) > UDP_PAYLOAD_BYTES_MAX);
        assert_eq!(dialect.sync_bytes(usize::MAX), usize::MAX);
    }
}

#[test]
fn native_counters_have_eight_bytes() {
    let mut datagram = Vec::new();
    encode_sync(3, &[0, 7], Dialect::Native, &mut datagram);
    datagram[9..17].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
    let Message::Sync(sync) = only(&datagram, layout(Dialect::Network, 2, 4)) else {
        panic!("not a sync");
    };
    assert_eq!(sync.counters().collect::<Vec<_>>(), [u64::MAX - 1, 7]);
}

#[test]
fn row_out_of_range() {
    for dialect in DIALECTS {
        for (row, depth, fits) in [(9, 10, true), (10, 10, false), (u16::MAX, 10, false)] {
            let mut datagram = Vec::new();
            encode_sync(row, &[5; 100], dialect, &mut datagram);
            let seen: Vec<_> = messages(&datagram, layout(dialect, 100, depth)).collect();
            assert_eq!(seen.len(), 1);
            match seen[0] {
                Ok(Message::Sync(sync)) => assert!(fits && sync.row == usize::from(row)),
                other => assert!(!fits && other == Err(Malformed::RowOutOfRange)),
            }
        }
    }
}

#[test]
fn length_byte_above_139_reads_as_139() {
    for length in [139, 140, 200, 255] {
        let mut datagram = encode_add(&[b'k'; KEY_BYTES_MAX]);
        datagram[1] = length;
        let key = &[b'k'; KEY_BYTES_MAX];
        assert_eq!(only(&datagram, LAYOUT), Message::Add { key });
        let mut peer = encode_peer(&"h".repeat(KEY_BYTES_MAX), 1, Dialect::Native).unwrap();
        peer[1] = length;
        let host = &[b'h'; KEY_BYTES_MAX];
        assert_eq!(
            only(&peer, LAYOUT),
            Message::Peer(PeerOrder { host, port: 1 })
        );
    }
}

#[test]
fn hosts_are_refused_instead_of_cut() {
    let host = "h".repeat(KEY_BYTES_MAX + 1);
    let error = encode_peer(&host, 1, Dialect::Native).unwrap_err();
    assert_eq!(error, HostTooLong { bytes: 140 });
}

#[test]
fn a_broken_rest_leaves_what_came_before() {
    let good = [encode_add(b"a"), encode_count(b"b")].concat();
    let before = [
        Ok(Message::Add { key: b"a" }),
        Ok(Message::Count { key: b"b" }),
    ];
    let mut sync = Vec::new();
    encode_sync(0, &[1; 100], Dialect::Native, &mut sync);
    let peer = encode_peer("localhost", 1, Dialect::Native).unwrap();
    let rests: [(&[u8], Malformed); 8] = [
        (&[0], Malformed::Length),
        (&[1; 140], Malformed::Length),
        (&[5], Malformed::UnknownType),
        (&[255; MESSAGE_BYTES], Malformed::UnknownType),
        (&ACK, Malformed::NotAlone),
        (&[4; MESSAGE_BYTES], Malformed::NotAlone),
        (&sync, Malformed::NotAlone),
        (&peer, Malformed::NotAlone),
    ];
    for (rest, reason) in rests {
        let datagram = [&good, rest].concat();
        let seen: Vec<_> = messages(&datagram, LAYOUT).collect();
        assert_eq!(seen[..2], before);
        assert_eq!(seen[2..], [Err(reason)]);
    }
}

#[test]
fn other_lengths_are_refused() {
    for kind in [2u8, 3] {
        let valid: &[usize] = if kind == 2 {
            &[809, 403]
        } else {
            &[143, 145, 153]
        };
        for length in (1..1000).filter(|length| !valid.contains(length)) {
            let mut datagram = vec![0; length];
            datagram[0] = kind;
            let seen: Vec<_> = messages(&datagram, LAYOUT).collect();
            assert_eq!(seen, [Err(Malformed::Length)], "{kind} {length}");
        }
    }
}

#[test]
fn labels_and_indices() {
    for (index, reason) in Malformed::ALL.into_iter().enumerate() {
        assert_eq!(reason.index(), index);
        assert!(
            reason
                .name()
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '_')
        );
    }
    for dialect in DIALECTS {
        assert_eq!(dialect.to_string().parse(), Ok(dialect));
    }
    assert_eq!("python".parse::<Dialect>(), Err(UnknownDialect));
}

#[test]
fn many_replies_in_a_datagram() {
    for dialect in DIALECTS {
        let slot = dialect.reply_bytes();
        for fit in 0..=REPLY_DATAGRAM_BYTES_MAX / slot {
            let mut datagram = vec![0xaa; fit * slot];
            for (n, out) in datagram.chunks_mut(slot).enumerate() {
                write_reply_key(&vec![b'x'; n], dialect, out);
                write_reply_count(n as u64, dialect, out);
            }
            let seen: Vec<_> = replies(&datagram)
                .map(|(key, n)| (key.len(), n as usize))
                .collect();
            assert_eq!(seen, (0..fit).map(|n| (n, n)).collect::<Vec<_>>());
            datagram.push(0);
            assert_eq!(replies(&datagram).count(), 0);
        }
    }
    // This is the shortest length that both sizes of a reply divide.
    assert_eq!(replies(&[0; 2_736]).count(), 0);
}

#[test]
fn network_counts_stop_at_the_end() {
    for (count, told) in [
        (u64::from(u32::MAX) + 1, u64::from(u32::MAX)),
        (u64::MAX, u64::from(u32::MAX)),
    ] {
        let mut slot = [0; 144];
        write_reply_key(b"k", Dialect::Network, &mut slot);
        write_reply_count(count, Dialect::Network, &mut slot);
        assert_eq!(replies(&slot).next(), Some((&b"k"[..], told)));
        let mut slot = [0; 152];
        write_reply_key(b"k", Dialect::Native, &mut slot);
        write_reply_count(count, Dialect::Native, &mut slot);
        assert_eq!(replies(&slot).next(), Some((&b"k"[..], count)));
    }
}

// --- Every short datagram ---

#[test]
fn every_datagram_up_to_three_bytes() {
    let mut by_kind = [0u32; 256];
    let mut seen = |datagram: &[u8]| {
        let mut messages = messages(datagram, LAYOUT);
        let expected = match datagram.first() {
            None => Err(Malformed::Empty),
            Some(0..=3) => Err(Malformed::Length),
            Some(4) => Ok(Message::Ack),
            Some(_) => Err(Malformed::UnknownType),
        };
        assert_eq!(messages.next(), Some(expected));
        assert_eq!(messages.next(), None);
        if let Some(&kind) = datagram.first() {
            by_kind[usize::from(kind)] += 1;
        }
    };
    seen(&[]);
    for a in 0..=255 {
        seen(&[a]);
        for b in 0..=255 {
            seen(&[a, b]);
            for c in 0..=255 {
                seen(&[a, b, c]);
            }
        }
    }
    assert_eq!(by_kind, [1 + (1 << 8) + (1 << 16); 256]);
}

fn dialects() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Native), Just(Dialect::Network)]
}

proptest! {
    #[test]
    fn round_trips(
        keys in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..=139)), 0..10),
        dialect in dialects(),
    ) {
        let mut datagram = Vec::new();
        let mut expected = Vec::new();
        for (add, key) in &keys {
            if *add {
                datagram.extend(encode_add(key));
                expected.push(Ok(Message::Add { key }));
            } else {
                datagram.extend(encode_count(key));
                expected.push(Ok(Message::Count { key }));
            }
        }
        if keys.is_empty() {
            expected.push(Err(Malformed::Empty));
        }
        let seen: Vec<_> = messages(&datagram, layout(dialect, 100, 10)).collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn sync_round_trips(
        counters in prop::collection::vec(any::<u64>(), 1..500),
        row in 0..32u16,
        dialect in dialects(),
    ) {
        let mut datagram = Vec::new();
        encode_sync(row, &counters, dialect, &mut datagram);
        prop_assert_eq!(datagram.len(), dialect.sync_bytes(counters.len()));
        let Message::Sync(sync) = only(&datagram, layout(dialect, counters.len(), 32)) else {
            return Err(TestCaseError::fail("not a sync"));
        };
        prop_assert_eq!((sync.row, sync.dialect), (usize::from(row), dialect));
        // The network dialect has 32 bits for each counter.
        let end = match dialect {
            Dialect::Native => u64::MAX,
            Dialect::Network => u32::MAX.into(),
        };
        prop_assert!(sync.counters().eq(counters.into_iter().map(|counter| counter.min(end))));
    }

    #[test]
    fn peer_round_trips(host in "[a-z0-9.:-]{0,139}", port in any::<u16>(), dialect in dialects()) {
        let datagram = encode_peer(&host, port, dialect).unwrap();
        let order = PeerOrder { host: host.as_bytes(), port: port.into() };
        prop_assert_eq!(only(&datagram, layout(dialect, 1, 1)), Message::Peer(order));
    }
}
