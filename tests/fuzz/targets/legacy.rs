//! Targets for messages and replies of the Python program's protocol.

use rmbd_proto::legacy::{self, Dialect, Layout, Malformed, Message};

/// The zero-copy reader of messages must see the same as a byte-wise one. The first three bytes are the node's
/// dialect, width and depth; the rest is the datagram.
pub fn messages(input: &[u8]) {
    let &[dialect, width, depth, ref datagram @ ..] = input else {
        return;
    };
    let layout = Layout {
        dialect: match dialect % 2 {
            0 => Dialect::Native,
            _ => Dialect::Network,
        },
        width: usize::from(width).max(1),
        depth: usize::from(depth % 32) + 1,
    };
    assert_eq!(ours(datagram, layout), naive(datagram, layout));
}

/// The zero-copy reader of replies must see the same as a byte-wise one.
pub fn replies(datagram: &[u8]) {
    let ours = legacy::replies(datagram).map(|(key, count)| (key.to_vec(), count));
    assert!(ours.eq(naive_replies(datagram)));
}

#[derive(Debug, PartialEq)]
enum Seen {
    Add(Vec<u8>),
    Count(Vec<u8>),
    Sync(usize, Vec<u64>),
    Peer(Vec<u8>, u64),
    Ack,
    Bad(Malformed),
}

fn ours(datagram: &[u8], layout: Layout) -> Vec<Seen> {
    legacy::messages(datagram, layout)
        .map(|message| match message {
            Ok(Message::Add { key }) => Seen::Add(key.to_vec()),
            Ok(Message::Count { key }) => Seen::Count(key.to_vec()),
            Ok(Message::Sync(sync)) => Seen::Sync(sync.row, sync.counters().collect()),
            Ok(Message::Peer(order)) => Seen::Peer(order.host.to_vec(), order.port),
            Ok(Message::Ack) => Seen::Ack,
            Err(reason) => Seen::Bad(reason),
        })
        .collect()
}

/// Reads numbers byte by byte from positions that are written out by hand.
fn naive(datagram: &[u8], layout: Layout) -> Vec<Seen> {
    let number = |from: usize, bytes: usize, big_endian: bool| -> u64 {
        (0..bytes).fold(0, |number, n| {
            let at = if big_endian {
                from + n
            } else {
                from + bytes - 1 - n
            };
            number * 256 + u64::from(datagram[at])
        })
    };
    let string = |from: usize| -> Vec<u8> {
        let mut length = datagram[from] as usize;
        if length > 139 {
            length = 139;
        }
        (0..length).map(|n| datagram[from + 1 + n]).collect()
    };
    let length = datagram.len();
    if length == 0 {
        return vec![Seen::Bad(Malformed::Empty)];
    }
    if datagram[0] == 2 {
        let big_endian = length == 3 + 4 * layout.width;
        if !big_endian && length != 9 + 8 * layout.width {
            return vec![Seen::Bad(Malformed::Length)];
        }
        let row = number(1, 2, big_endian) as usize;
        if row >= layout.depth {
            return vec![Seen::Bad(Malformed::RowOutOfRange)];
        }
        let counters = (0..layout.width).map(|n| match big_endian {
            true => number(3 + 4 * n, 4, true),
            false => number(9 + 8 * n, 8, false),
        });
        return vec![Seen::Sync(row, counters.collect())];
    }
    if datagram[0] == 3 {
        return vec![match length {
            143 => Seen::Peer(
                string(1),
                number(141, 2, layout.dialect == Dialect::Network),
            ),
            145 => Seen::Peer(string(1), number(141, 4, true)),
            153 => Seen::Peer(string(1), number(145, 8, false)),
            _ => Seen::Bad(Malformed::Length),
        }];
    }
    if datagram[0] == 4 {
        return vec![Seen::Ack];
    }
    let mut seen = Vec::new();
    let mut at = 0;
    while at < length {
        let reason = match datagram[at] {
            0 | 1 if length - at < 141 => Malformed::Length,
            0 => {
                seen.push(Seen::Add(string(at + 1)));
                at += 141;
                continue;
            }
            1 => {
                seen.push(Seen::Count(string(at + 1)));
                at += 141;
                continue;
            }
            2..=4 => Malformed::NotAlone,
            _ => Malformed::UnknownType,
        };
        seen.push(Seen::Bad(reason));
        break;
    }
    seen
}

/// Reads replies. The dialects differ in length: 140 bytes of key, then 4 of padding and 8 of count, or only 4 of
/// count.
fn naive_replies(datagram: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let reply_bytes = [152, 144]
        .into_iter()
        .find(|bytes| datagram.len().is_multiple_of(*bytes));
    let Some(reply_bytes) = reply_bytes.filter(|_| datagram.len() <= 1400) else {
        return Vec::new();
    };
    let mut seen = Vec::new();
    for reply in datagram.chunks(reply_bytes) {
        let length = usize::from(reply[0]).min(139);
        let mut count = 0;
        for n in 0..reply_bytes - 140 {
            // In the native dialect padding comes first, then the count with the lowest byte first. In the network
            // dialect the highest byte comes first.
            count += match reply_bytes {
                152 if n < 4 => 0,
                152 => u64::from(reply[140 + n]) << (8 * (n - 4)),
                _ => u64::from(reply[140 + n]) << (8 * (3 - n)),
            };
        }
        seen.push((reply[1..1 + length].to_vec(), count));
    }
    seen
}
