//! Generated payloads, key files and membership messages of a cluster.

use std::sync::LazyLock;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rmbd_cluster::membership::{Member, Membership, MembershipDatagram, MembershipOptions};
use rmbd_proto::Boot;

use crate::compact::{any_number, varint};
use crate::targets;

/// A number that is mostly small, like gaps and values.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..4_u64, 3 => 0..300_u64, 1 => any_number()]
}

fn slice() -> impl Strategy<Value = Vec<u8>> {
    let sketch = prop_oneof![4 => Just(0), 3 => Just(1), 2 => number()];
    (sketch, any::<[u8; 16]>()).prop_map(|(sketch, ids)| [varint(sketch), ids.to_vec()].concat())
}

/// An entry with its length, which is mostly right; sometimes more bytes follow.
fn entry(content: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let more = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..9)];
    let wrong = prop_oneof![20 => Just(0_u8), 1 => any::<u8>()];
    (content, more, wrong).prop_map(|(content, more, wrong)| {
        let length = (content.len() + more.len()) as u8 ^ wrong;
        [vec![length], content, more].concat()
    })
}

/// The number of a sketch, and a number of 64 bits.
fn sum() -> impl Strategy<Value = Vec<u8>> {
    (number(), any::<[u8; 8]>()).prop_map(|(number, sum)| [varint(number), sum.to_vec()].concat())
}

fn about() -> impl Strategy<Value = Vec<u8>> {
    let head = (any::<[u8; 9]>(), number());
    (head, vec(entry(sum()), 0..6)).prop_map(|((head, more), sketches)| {
        // The number is mostly right.
        let count = sketches.len() as u64 + u64::from(more == 3);
        let place = [varint(more), varint(count)].concat();
        [head.to_vec(), place, varint(count), sketches.concat()].concat()
    })
}

fn numbers(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(number(), count).prop_map(|all| all.into_iter().flat_map(varint).collect())
}

/// A group's gap, form and cells; it has as many bytes as a full group of this form.
fn group() -> impl Strategy<Value = Vec<u8>> {
    let gap = prop_oneof![8 => 0..3_u64, 1 => any_number()];
    let dense = (0..35_u8, vec(any::<u8>(), 32 * 33)).prop_map(|(bits, bytes)| {
        let end = 32 * usize::from(bits.min(33));
        [&[bits], &bytes[..end]].concat()
    });
    let sparse = (number(), vec((0..6_u64, number()), 0..12)).prop_map(|(more, cells)| {
        // The number is mostly right.
        let count = cells.len() as u64 + u64::from(more == 4) * more;
        let cells = cells.into_iter().flat_map(|(gap, value)| [gap, value]);
        let cells: Vec<u8> = cells.flat_map(varint).collect();
        [vec![255], varint(count), cells].concat()
    });
    (gap, prop_oneof![2 => dense, 3 => sparse])
        .prop_map(|(gap, group)| [varint(gap), group].concat())
}

/// What stands behind the slice in a frame of aged groups. Folds and marks are mostly right, and groups full.
fn aged_groups() -> impl Strategy<Value = Vec<u8>> {
    let ages = vec(number(), 0..4);
    (number(), 0..9_u8, ages, any::<u8>()).prop_flat_map(|(version, fold, ages, more)| {
        let folded = 128_usize >> fold.min(7);
        let dense = (0..9_u8, vec(any::<u8>(), folded)).prop_map(move |(bits, bytes)| {
            let end = (folded * usize::from(bits)).div_ceil(8);
            [&[bits], &bytes[..end]].concat()
        });
        let none = Just(vec![0]);
        let increments = vec(prop_oneof![dense, none], ages.len());
        let aged = (group(), increments).prop_map(|(group, more)| [group, more.concat()].concat());
        let marks = ages.len() as u8 + u8::from(more == 3);
        let ages: Vec<u8> = ages.into_iter().flat_map(varint).collect();
        let head = [varint(version), vec![fold, marks], ages].concat();
        vec(aged, 0..4).prop_map(move |all| [head.clone(), all.concat()].concat())
    })
}

/// A pardon with its length; the length, and the number of credits, are mostly right.
fn pardon() -> impl Strategy<Value = Vec<u8>> {
    let key = vec(any::<u8>(), 0..200);
    let credits = prop_oneof![8 => numbers(0..10), 1 => numbers(10..14)];
    let wrong = prop_oneof![20 => Just(0_u64), 1 => number()];
    let of = (
        any::<[u8; 8]>(),
        key,
        number(),
        any::<[u8; 8]>(),
        numbers(2..3),
    );
    (of, 0..12_u8, credits, wrong).prop_map(|(of, told, credits, wrong)| {
        let (limit, key, count, giver, times) = of;
        let key = [varint(key.len() as u64), key].concat();
        let numbers = [varint(count), giver.to_vec(), times, vec![told], credits].concat();
        let pardon = [limit.to_vec(), key, numbers].concat();
        [varint(pardon.len() as u64 ^ wrong), pardon].concat()
    })
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let with_slice = |kinds: &'static [u8], tail: BoxedStrategy<Vec<u8>>| {
        (select(kinds), slice(), tail)
            .prop_map(|(kind, slice, tail)| (kind, [slice, tail].concat()))
    };
    let hashes =
        (numbers(1..3), vec(any::<u8>(), 0..80)).prop_map(|(head, tail)| [head, tail].concat());
    let entries = || {
        let entry = (slice(), numbers(1..2), any::<[u8; 8]>())
            .prop_map(|(slice, version, root)| [slice, version, root.to_vec()].concat());
        vec(self::entry(entry), 0..5).prop_map(|all| all.concat())
    };
    let body = prop_oneof![
        2 => (Just(1), any::<[u8; 8]>(), numbers(0..20))
            .prop_map(|(kind, channel, tail)| (kind, [channel.to_vec(), tail].concat())),
        3 => with_slice(&[2, 4, 7, 9, 11], numbers(0..40).boxed()),
        3 => with_slice(&[3], vec(group(), 0..5).prop_map(|all| all.concat()).boxed()),
        3 => with_slice(&[24], aged_groups().boxed()),
        2 => with_slice(&[8, 10], hashes.boxed()),
        1 => (Just(5), entries()),
        1 => (numbers(2..3), select(&[0, 1][..]), numbers(2..3), entries())
            .prop_map(|(first, flags, next, all)| {
                let next = if flags == 1 { next } else { Vec::new() };
                (14, [first, vec![flags], next, all].concat())
            }),
        1 => (select(&[13, 15, 16, 31][..]), numbers(1..3)),
        1 => vec(entry(sum()), 0..5).prop_map(|all| (30, all.concat())),
        2 => vec(pardon(), 0..4).prop_map(|all| (32, all.concat())),
        1 => (any::<[u8; 4]>(), vec(any::<u8>(), 0..120))
            .prop_map(|(mask, sums)| (33, [mask.to_vec(), sums].concat())),
        1 => vec(any::<u8>(), 0..6).prop_map(|body| (34, body)),
        1 => with_slice(&[17], numbers(0..2).boxed()),
        1 => about().prop_map(|body| (18, body)),
        1 => (any::<u8>(), vec(any::<u8>(), 0..60)),
    ];
    body.prop_map(|(kind, body)| {
        let length = (body.len() as u16).to_le_bytes();
        [&[kind], &length[..], &body].concat()
    })
}

/// Mostly valid payloads for some number of cells; some are damaged.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let cells = prop_oneof![3 => 0..2_000_u16, 2 => any::<u16>(), 1 => Just(u16::MAX)];
    let ip = prop_oneof![vec(any::<u8>(), 4), vec(any::<u8>(), 16)];
    let head = (any::<[u8; 16]>(), ip, any::<[u8; 2]>()).prop_map(|(ids, ip, port)| {
        let family = if ip.len() == 4 { 4 } else { 6 };
        [&ids[..], &[family], &ip, &port].concat()
    });
    let valid = (cells, head, vec(frame(), 0..6)).prop_map(|(cells, head, frames)| {
        [cells.to_le_bytes().to_vec(), head, frames.concat()].concat()
    });
    damaged(valid)
}

fn damaged(valid: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![any::<u8>(), select(vec![0, 1, 4, 0x7f, 0x80, 0xff])];
    let damage = vec((any::<Index>(), value), 0..3);
    let cut = prop_oneof![3 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (valid, damage, cut).prop_map(|(mut bytes, damage, cut)| {
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
    })
}

/// A key file with few different keys, so that some repeat, and with valid and invalid text around them.
fn key_file() -> impl Strategy<Value = Vec<u8>> {
    let key = (0..12_u8, any::<bool>()).prop_map(|(key, is_large)| match is_large {
        true => format!("{:02X}", 0xa0 | key).repeat(32),
        false => format!("{:02x}", 0xa0 | key).repeat(32),
    });
    let space = select(vec!["", "", "", " ", "\t", "\r", "\u{a0}", "\u{2003} "]);
    let comment = select(vec!["", "", "", "# old", "#", "##\u{1f511}", "\u{fffd}"]);
    let full = (space.clone(), key.clone(), space.clone(), comment.clone())
        .prop_map(|(before, key, after, comment)| [before, &key, after, comment].concat());
    let wrong = (
        key,
        any::<Index>(),
        select(vec!["", "g", "é", "0", "+", " ", "\0"]),
    )
        .prop_map(|(mut key, at, instead)| {
            let at = at.index(64);
            key.replace_range(at..=at, instead);
            key
        });
    let empty = (space, comment).prop_map(|(space, comment)| [space, comment].concat());
    let line = prop_oneof![8 => full, 1 => wrong, 4 => empty];
    let end = select(vec!["\n", "\n", "\n", "\r\n", "\n\n"]);
    vec((line, end), 0..12).prop_map(|lines| {
        let text: String = lines
            .into_iter()
            .flat_map(|(line, end)| [line, end.to_owned()])
            .collect();
        text.into_bytes()
    })
}

/// Recorded messages that eight nodes, which come, go, fall silent and start again, send to the first one. Each has
/// the hundredths of a second since the message before.
fn recorded() -> Vec<(u8, Vec<u8>)> {
    const STEP: Duration = Duration::from_millis(10);
    let start = |number: u16, started_ms: u64| {
        let member = Member {
            started_ms,
            boot: Boot(u64::from(number) * 100 + started_ms),
            ..targets::cluster::member(number)
        };
        let member = if number == 1 {
            targets::cluster::member(1)
        } else {
            member
        };
        Membership::new(member, number.into(), MembershipOptions::default())
    };
    let first = targets::cluster::member(1).address;
    let mut nodes = vec![start(1, 1)];
    let (mut recorded, mut last) = (Vec::new(), 0);
    for step in 0..3_000_u16 {
        let now = STEP * u32::from(step);
        match step {
            0..700 if step % 100 == 0 => {
                let mut node = start(step / 100 + 2, 1);
                node.join(now, first);
                nodes.push(node);
            }
            // A node falls silent and is started again.
            1_000 => drop(nodes.pop()),
            2_000 => nodes.push(start(8, 2)),
            2_100 => nodes[7].join(now, first),
            2_500 => nodes[2].leave(now),
            _ => {}
        }
        let mut sent = Vec::new();
        for node in &mut nodes {
            node.wake(now);
            sent.extend(std::iter::from_fn(|| node.poll_transmit()));
        }
        for MembershipDatagram { to, message, .. } in sent {
            if to == first {
                recorded.push(((step - last).min(255) as u8, message.clone()));
                last = step;
            }
            if let Some(node) = nodes.iter_mut().find(|node| node.me().address == to) {
                node.handle(now, &message).unwrap();
            }
        }
    }
    recorded
}

static RECORDED: LazyLock<Vec<(u8, Vec<u8>)>> = LazyLock::new(recorded);

/// A message in the form that the target takes.
fn said((hundredths, message): &(u8, Vec<u8>)) -> Vec<u8> {
    let length = (message.len() as u16).to_le_bytes();
    [&[*hundredths], &length[..], message].concat()
}

/// Recorded messages in a row or in any order; some are damaged inside.
fn membership() -> impl Strategy<Value = Vec<u8>> {
    let any_order = vec(any::<Index>(), 1..12).prop_map(|all| {
        all.into_iter()
            .map(|at| at.get(&RECORDED).clone())
            .collect()
    });
    let in_a_row = (any::<Index>(), 1..40_usize).prop_map(|(at, count)| {
        let from = at.index(RECORDED.len());
        RECORDED[from..].iter().take(count).cloned().collect()
    });
    let messages = prop_oneof![any_order, in_a_row];
    let damage = vec((any::<Index>(), any::<Index>(), any::<u8>()), 0..4);
    (messages, damage).prop_map(|(mut messages, damage): (Vec<(u8, Vec<u8>)>, _)| {
        for (which, at, value) in damage {
            let which = which.index(messages.len());
            let message = &mut messages[which].1;
            let at = at.index(message.len());
            message[at] = value;
        }
        messages.iter().flat_map(said).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn payloads_are_what_a_naive_parser_reads(input in payload()) {
        targets::cluster::payload(&input);
    }

    #[test]
    fn key_files_are_what_a_naive_reader_reads(input in prop_oneof![key_file(), damaged(key_file())]) {
        targets::cluster::key_file(&input);
    }
}

proptest! {
    #[test]
    fn a_membership_stays_bounded_whatever_it_hears(input in membership()) {
        targets::cluster::membership(&input);
    }
}
