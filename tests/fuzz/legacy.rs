//! Generated messages and replies of the Python program's protocol.

use proptest::prelude::*;
use rmbd_proto::legacy::{ACK, Dialect, KEY_BYTES_MAX, encode_add, encode_count, encode_sync};

use crate::targets;

fn dialects() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Native), Just(Dialect::Network)]
}

/// A valid message of any type for width 100; peer messages in all their forms.
fn valid_message() -> impl Strategy<Value = Vec<u8>> {
    let key = prop::collection::vec(any::<u8>(), 0..=KEY_BYTES_MAX);
    prop_oneof![
        4 => key.clone().prop_map(|key| encode_add(&key).to_vec()),
        4 => key.prop_map(|key| encode_count(&key).to_vec()),
        1 => (0..12u16, prop::collection::vec(any::<u64>(), 100), dialects()).prop_map(
            |(row, counters, dialect)| {
                let mut out = Vec::new();
                encode_sync(row, &counters, dialect, &mut out);
                out
            }
        ),
        1 => (prop_oneof![Just(143), Just(145), Just(153)]).prop_flat_map(|length| {
            prop::collection::vec(any::<u8>(), length).prop_map(|mut bytes| {
                bytes[0] = 3;
                bytes
            })
        }),
        1 => Just(ACK.to_vec()),
    ]
}

/// Valid messages one after the other; some are damaged.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), 0..6u8), 0..3);
    let cut = prop_oneof![2 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    let messages = (prop::collection::vec(valid_message(), 0..10), damage, cut).prop_map(
        |(messages, damage, cut)| {
            let mut bytes = messages.concat();
            for (at, value) in damage {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            bytes
        },
    );
    prop_oneof![4 => messages, 1 => prop::collection::vec(any::<u8>(), 0..2000)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn messages_are_what_a_naive_parser_reads(
        datagram in datagram(),
        dialect in 0..2_u8,
        width in prop_oneof![4 => Just(100_u8), 1 => 1..200_u8],
        depth in 0..12_u8,
    ) {
        targets::legacy::messages(&[&[dialect, width, depth], &datagram[..]].concat());
        // The same bytes must not make the reader of replies panic.
        targets::legacy::replies(&datagram);
    }

    #[test]
    fn replies_are_what_a_naive_parser_reads(
        datagram in (prop::sample::select(vec![144_usize, 152]), 0..11_usize)
            .prop_flat_map(|(bytes, replies)| prop::collection::vec(any::<u8>(), bytes * replies)),
    ) {
        targets::legacy::replies(&datagram);
    }
}
