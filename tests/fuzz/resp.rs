//! Generated commands of Redis's protocol.

use proptest::prelude::*;

use crate::targets;

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::sample::select(vec![&b"*1"[..], b"$1\r\nx", b"\r\n", b"\"", b"'"]).prop_map(<[u8]>::to_vec),
        1 => (0..400_usize).prop_map(|bytes| vec![b'w'; bytes]),
    ]
}

/// A command as a list, or a line that may be one.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let list = prop::collection::vec(word(), 0..14);
    let list = list.prop_map(|words| rmbd_testkit::redis::command(&words));
    let symbols = prop::sample::select(b"ab 'x4\"\\\t\r\x0b\xff\0n*".to_vec());
    let line = prop::collection::vec(symbols, 0..30).prop_map(|mut line| {
        line.push(b'\n');
        line
    });
    prop_oneof![3 => list, 1 => line]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn commands_are_what_a_naive_parser_reads(
        how in any::<u8>(),
        stream in prop::collection::vec(command(), 0..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut input = vec![how];
        input.extend(stream.concat());
        for (at, value) in damage {
            let at = at.index(input.len());
            input[at] = value;
        }
        targets::resp::commands(&input);
    }
}
