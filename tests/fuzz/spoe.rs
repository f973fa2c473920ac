//! Generated frames of HAProxy.

use proptest::prelude::*;
use rmbd_testkit::spoe::{self, Arg};

use crate::targets;

fn arg() -> impl Strategy<Value = Arg> {
    prop_oneof![
        Just(Arg::Null),
        any::<bool>().prop_map(Arg::Bool),
        any::<i64>().prop_map(Arg::Number),
        (-3..300_i64).prop_map(Arg::Number),
        any::<[u8; 4]>().prop_map(|octets| Arg::Address(octets.into())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Arg::Text),
        (230..260_usize).prop_map(|bytes| Arg::Text(vec![b'x'; bytes])),
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let args = prop::collection::vec(("[a-z]{0,6}", arg()), 0..5);
    let messages = prop::collection::vec(("[a-z-]{0,9}", args), 0..4);
    let notify =
        (any::<u64>(), 0..5_000_u64, messages).prop_map(|(stream_id, frame_id, messages)| {
            let args: Vec<Vec<(&str, Arg)>> = messages
                .iter()
                .map(|(_, args)| {
                    args.iter()
                        .map(|(name, arg)| (&**name, arg.clone()))
                        .collect()
                })
                .collect();
            let messages: Vec<_> = messages
                .iter()
                .zip(&args)
                .map(|((name, _), args)| (&**name, &**args))
                .collect();
            spoe::notify((stream_id, frame_id), &messages)
        });
    prop_oneof![
        4 => notify,
        1 => (0..70_000_u64).prop_map(spoe::hello),
        1 => Just(spoe::health_check()),
        1 => Just(spoe::disconnect()),
        1 => (any::<u8>(), 0..4_u32, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, flags, payload)| spoe::frame(kind % 5, flags, (0, 0), &payload)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn frames_are_what_a_naive_reader_reads(
        how in any::<u8>(),
        stream in prop::collection::vec(frame(), 0..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut input = vec![how];
        input.extend(stream.concat());
        for (at, value) in damage {
            let at = at.index(input.len());
            input[at] = value;
        }
        targets::spoe::frames(&input);
    }
}
