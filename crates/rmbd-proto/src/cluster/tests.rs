#![allow(clippy::unwrap_used)]

mod vectors;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::{Boot, LimitNumber};

const CELLS: u32 = 5_000;
const GROUP: u32 = GROUP_CELLS as u32;
const SLICE: SliceId = SliceId::of(0x1111_2222_3333_4444, Writer(0x5555_6666_7777_8888));

fn slices() -> impl Strategy<Value = SliceId> {
    let sketch = prop_oneof![Just(0u32), any::<u32>()];
    (sketch, any::<u64>(), any::<u64>()).prop_map(|(sketch, node, writer)| SliceId {
        sketch: SketchNumber(sketch),
        node,
        writer: Writer(writer),
    })
}

fn cells_of(_: SketchNumber) -> Option<u32> {
    Some(CELLS)
}

fn written(write: impl FnOnce(&mut FrameWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX));
    assert!(out.len() <= DATAGRAM_BYTES_MAX);
    out
}

fn only(bytes: &[u8]) -> Frame<'_> {
    let mut all = frames(bytes, cells_of);
    let frame = all.next().unwrap().unwrap();
    assert_eq!((all.next(), all.unread()), (None, 0));
    frame
}

/// Reads everything that a datagram holds. Only that this ends matters, not the result.
fn read_all(bytes: &[u8]) -> usize {
    let mut items = 0;
    let rest = head(bytes).map_or(bytes, |(_, rest)| rest);
    for frame in frames(rest, cells_of) {
        items += match frame {
            Err(_) => 1,
            Ok(Frame::Ack { ranges, .. }) => ranges
                .inspect(|range| assert!(range.start() <= range.end()))
                .count(),
            Ok(Frame::Cells { cells, .. }) => {
                let mut last = None;
                cells
                    .inspect(|&(index, _)| {
                        assert!(index < CELLS && last.is_none_or(|last| last < index));
                        last = Some(index);
                    })
                    .count()
            }
            Ok(Frame::Groups { mut groups, .. }) => {
                let (mut out, mut count) = (Vec::new(), 0);
                while let Some(group) = groups.next_group(&mut out) {
                    assert!(out.len() <= GROUP_CELLS);
                    for &(index, value) in &out {
                        assert_eq!(index / GROUP_CELLS as u32, group);
                        assert!(index < CELLS && value > 0);
                    }
                    count += 1;
                }
                count
            }
            Ok(Frame::AgedGroups { mut groups, .. }) => {
                assert!(groups.marks() <= MARKS_MAX && groups.ages().is_sorted());
                assert_eq!(groups.ages().count(), groups.marks());
                let (mut out, mut count) = (AgedGroup::default(), 0);
                while let Some(group) = groups.next_group(&mut out) {
                    let cells = GROUP_CELLS.min((CELLS - group * GROUP) as usize);
                    let folded = groups.fold().folded(cells);
                    assert_eq!(out.increments.len(), folded * groups.marks());
                    assert!(out.increments.iter().all(|&it| it <= CELL_MAX));
                    for &(index, value) in &out.cells {
                        assert!(index / GROUP == group && index < CELLS && value > 0);
                    }
                    count += 1;
                }
                count
            }
            Ok(Frame::Digest { entries } | Frame::Catalogue { entries, .. }) => entries.count(),
            Ok(Frame::Siblings { entries }) => entries.count(),
            Ok(
                Frame::Sections { hashes, .. }
                | Frame::GroupHashes { hashes, .. }
                | Frame::Buckets { sums: hashes, .. },
            ) => hashes.count(),
            Ok(Frame::Pull { groups, .. }) => groups.count(),
            Ok(Frame::About { sketches, .. }) => sketches.count(),
            Ok(Frame::SketchSums { sums }) => sums.count(),
            Ok(Frame::Pardons { entries }) => entries
                .inspect(|pardon| assert!(pardon.key.len() <= PARDON_KEY_BYTES_MAX))
                .count(),
            Ok(Frame::PardonSums { sums }) => sums
                .inspect(|&(bucket, _)| assert!(bucket < PARDON_BUCKETS))
                .count(),
            Ok(Frame::TopOffered { lists } | Frame::TopAsked { lists }) => lists.count(),
            Ok(Frame::Top { list, .. }) => {
                assert!(list.head().bounds.len() <= TOP_BOUNDS_MAX);
                let entries = list.entries().inspect(|entry| {
                    assert!(usize::from(entry.place) < TOP_PLACES_MAX);
                    let name = if let TopName::Name(name) = entry.key {
                        name
                    } else {
                        &[]
                    };
                    assert!(name.len() <= TOP_NAME_BYTES_MAX);
                });
                1 + entries.count()
            }
            Ok(_) => 1,
        };
    }
    items
}

/// A datagram with one frame of each kind that is not about siblings or room.
fn sample() -> Vec<u8> {
    let mut out = Vec::new();
    let address = "192.0.2.7:9001".parse().unwrap();
    let (to_boot, node) = (Boot(3), 4);
    Head {
        to_boot,
        node,
        address,
    }
    .write(&mut out);
    let mut writer = FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX);
    assert!(writer.ack(9, [90..=100, 80..=80, 1..=7]));
    let cells = writer.cells(&SLICE, |cells| {
        for (index, value) in [(0, 1), (1, u32::MAX.into()), (400, 300), (CELLS - 1, 2)] {
            assert!(cells.push(index, value));
        }
    });
    assert_eq!(cells, Listed::Some);
    let dense: Vec<u64> = (0..GROUP_CELLS as u64).collect();
    let mut sparse = vec![0; GROUP_CELLS];
    sparse[7] = 70_000;
    let groups = writer.groups(&SLICE, 9, |groups| {
        assert!(groups.push(0, &dense) && groups.push(3, &sparse));
        assert!(groups.push(39, &dense[..8]));
    });
    assert_eq!(groups, Listed::Some);
    assert!(writer.complete(&SLICE, 5, 500));
    let (version, root) = (77, 0xabcd);
    let slice = SLICE;
    let entry = DigestEntry {
        slice,
        version,
        root,
    };
    assert_eq!(writer.digest([entry, entry]), 2);
    assert!(writer.digest_asked());
    assert!(writer.sections_asked(&SLICE, 3));
    assert!(writer.sections(&SLICE, 8, 3, &[1, 2, u64::MAX]));
    assert!(writer.group_hashes_asked(&SLICE, 6));
    assert!(writer.group_hashes(&SLICE, 9, 6, &[4, 5]));
    assert_eq!(writer.pull(&SLICE, [1, 2, 3, 9, 11, 12]), 6);
    assert!(writer.membership(b"who is there"));
    let line = |line| CatalogueLine {
        sketch: SketchNumber(300),
        line,
    };
    assert!(writer.catalogue_asked(line(20)));
    assert!(writer.catalogue(line(20), Some(line(22)), &[entry, entry]));
    assert!(writer.contact(Purpose::Membership));
    assert!(writer.contact_answered(Purpose::OneWay));
    assert!(writer.not_held(&SLICE));
    let sketches = [0, u32::MAX].map(|number| SketchEntry {
        number: SketchNumber(number),
        fingerprint: 5,
    });
    assert!(writer.about(true, Writer(6), &sketches, 0));
    out
}

/// A datagram with one frame of each kind that is about siblings, or says that there is room again.
fn sample_of_siblings() -> Vec<u8> {
    let mut out = sample();
    let rest = head(&out).unwrap().1.len();
    out.truncate(out.len() - rest);
    let mut writer = FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX);
    let slice = SLICE;
    let (count, sum) = (3, 0xabcd);
    let entry = SiblingsEntry { slice, count, sum };
    assert_eq!(writer.siblings([entry, entry]), 2);
    assert!(writer.buckets_asked(&SLICE));
    assert!(writer.buckets(&SLICE, &[7; SIBLING_BUCKETS]));
    assert!(writer.lines_asked(&SLICE, 5, Writer(9)));
    assert!(writer.wanted(&SLICE));
    let sums = [0, u32::MAX].map(|number| SketchSum {
        sketch: SketchNumber(number),
        sum: 9,
    });
    assert_eq!(writer.sketch_sums(sums), 2);
    assert!(writer.sketch_asked(SketchNumber(7)));
    out
}

/// A datagram with aged groups, with marks and without.
fn sample_of_ages() -> Vec<u8> {
    written(|writer| {
        let fold = Fold::of_bits(3).unwrap();
        let aged = writer.aged_groups(&SLICE, 9, (fold, &[5, 5, 70_000]), |groups| {
            assert!(groups.push(2, &[3; GROUP_CELLS], &[1; 3 * 16]));
            assert!(groups.push(39, &[3; 8], &[u64::MAX, 0, 1]));
        });
        let plain = writer.aged_groups(&SLICE, 9, (Fold::NONE, &[]), |groups| {
            assert!(groups.push(7, &[3; GROUP_CELLS], &[]));
        });
        assert_eq!((aged, plain), (Listed::Some, Listed::Some));
    })
}

const PARDON: PardonEntry<'_> = PardonEntry {
    limit: LimitNumber(0x1122_3344_5566_7788),
    key: b"alice",
    count: 300,
    giver: Boot(9),
    left_ms: 60_000,
    kept_ms: 120_000,
    credits: [7, 0, 1, 0, 0, 0, 0, 0],
};

/// A pardon that takes as many bytes as one may.
const LONGEST_PARDON: PardonEntry<'_> = PardonEntry {
    limit: LimitNumber(u64::MAX),
    key: &[7; PARDON_KEY_BYTES_MAX],
    count: u64::MAX,
    giver: Boot(u64::MAX),
    left_ms: u64::MAX,
    kept_ms: u64::MAX,
    credits: [u64::MAX; PARDON_CREDITS_MAX],
};

/// A datagram with pardons, and with what is said about them.
fn sample_of_pardons() -> Vec<u8> {
    written(|writer| {
        let over = PardonEntry {
            left_ms: 0,
            credits: [0; PARDON_CREDITS_MAX],
            ..PARDON
        };
        assert_eq!(writer.pardons([PARDON, over]), 2);
        let mut sums = [0; PARDON_BUCKETS];
        (sums[0], sums[9], sums[31]) = (5, u64::MAX, 1);
        assert!(writer.pardon_sums(&sums));
        assert!(writer.pardons_asked(1 << 31 | 1));
    })
}

const NAMED: TopEntry<'_> = TopEntry {
    place: 3,
    changed: 7,
    key: TopName::Name(b"alice"),
    lists: 0b11,
    certain: 300,
};

/// An entry that takes as many bytes as one may.
const LONGEST_ENTRY: TopEntry<'_> = TopEntry {
    place: TOP_PLACES_MAX as u16 - 1,
    changed: u64::MAX,
    key: TopName::Name(&[7; TOP_NAME_BYTES_MAX]),
    lists: u64::MAX,
    certain: u64::MAX,
};

fn top_head(bounds: usize) -> TopHead {
    let bound = TopBound {
        span_ms: u64::MAX,
        above: u64::MAX,
    };
    TopHead {
        from: 5,
        to: 9,
        is_complete: true,
        weight: u64::MAX,
        bounds: vec![bound; bounds],
    }
}

/// A datagram with a list of largest keys, and with what is said about lists.
fn sample_of_top() -> Vec<u8> {
    written(|writer| {
        let lists = [300, 0].map(|version| TopVersion {
            slice: SLICE,
            version,
            complete: version / 2,
        });
        assert!(writer.top_sum(9) && writer.top_offered(&lists) && writer.top_asked(&lists[..1]));
        let gone = TopEntry {
            key: TopName::Gone,
            changed: 8,
            ..NAMED
        };
        let entries = [NAMED, gone].into_iter();
        assert_eq!(writer.top(&SLICE, &top_head(2), entries), Some((9, true)));
    })
}

#[test]
fn folds_divide_groups() {
    let folds = [1, 2, 3, 8, 12, 64, 128, 256, 384].map(|cells| Fold::dividing(cells).cells());
    assert_eq!(folds, [1, 2, 1, 8, 4, 64, 128, 128, 128]);
    assert_eq!(Fold::of_bits(8), None);
    for fold in (0..=7).map(|bits| Fold::of_bits(bits).unwrap()) {
        assert_eq!(Fold::of_bits(fold.bits()), Some(fold));
        assert_eq!(fold.folded(GROUP_CELLS), GROUP_CELLS / fold.cells());
        assert_eq!(fold.folded(fold.cells() + 1), 2);
    }
    assert_eq!((Fold::NONE.cells(), Fold::GROUP.cells()), (1, GROUP_CELLS));
}

#[test]
fn aged_groups_that_do_not_fit_are_left_out() {
    let whole = sample_of_ages();
    let fold = Fold::of_bits(3).unwrap();
    for limit in 0..whole.len() {
        let mut out = Vec::new();
        let mut fits = Vec::new();
        let written = FrameWriter::new(&mut out, limit).aged_groups(
            &SLICE,
            9,
            (fold, &[5, 5, 70_000]),
            |groups| {
                fits.push(groups.push(2, &[3; GROUP_CELLS], &[1; 3 * 16]));
                fits.push(groups.push(39, &[3; 8], &[u64::MAX, 0, 1]));
            },
        );
        let read = read_all(&out);
        assert_eq!(read, fits.iter().filter(|fits| **fits).count(), "{limit}");
        assert_eq!(written == Listed::Some, read > 0);
        assert!(out.len() <= limit);
    }
}

#[test]
fn groups_with_numbers_come_back() {
    let (mut out, mut cells) = (Vec::new(), [0; 16]);
    let groups = [(3, [0; 16]), (3, [7; 16]), (u64::MAX, [u64::MAX; 16])];
    let mut before = 0;
    for (number, cells) in &groups {
        pack_numbered_group(before, *number, cells, &mut out);
        before = *number;
    }
    let (mut rest, mut before) = (&out[..], 0);
    for (number, packed) in groups {
        assert_eq!(
            take_numbered_group(before, &mut rest, &mut cells),
            Some(number)
        );
        assert_eq!(cells, packed.map(|cell| cell.min(CELL_MAX)));
        before = number;
    }
    assert_eq!(take_numbered_group(before, &mut rest, &mut cells), None);
    for cut in 1..out.len() {
        let (mut rest, mut before) = (&out[..cut], 0);
        while let Some(number) = take_numbered_group(before, &mut rest, &mut cells) {
            before = number;
        }
    }
    assert_eq!(
        take_numbered_group(u64::MAX, &mut &[1, 0][..], &mut cells),
        None
    );
}

#[test]
fn heads_come_back_in_both_families() {
    for address in ["192.0.2.7:9001", "[2001:db8::7]:65535"] {
        let head_of = Head {
            to_boot: Boot(7),
            node: u64::MAX,
            address: address.parse::<SocketAddr>().unwrap(),
        };
        let mut out = Vec::new();
        head_of.write(&mut out);
        assert!(out.len() <= Head::BYTES_MAX);
        for cut in 0..out.len() {
            assert_eq!(head(&out[..cut]), None, "{cut}");
        }
        out.push(1);
        assert_eq!(head(&out), Some((head_of, &[1][..])));
    }
}

/// The format does not change by mistake: this is the digest of a datagram with every frame.
#[test]
fn the_bytes_stay_as_they_are() {
    let bytes = sample();
    assert_eq!(bytes.len(), 609);
    assert_eq!(
        bytes[..23],
        [
            3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 192, 0, 2, 7, 0x29, 0x23
        ]
    );
    // ack: type, length, channel, 100 and 10 below it, a gap of 9 to 80 and none below it, a gap of 72 to 7 and 6.
    assert_eq!(
        bytes[23..40],
        [1, 14, 0, 9, 0, 0, 0, 0, 0, 0, 0, 100, 10, 8, 0, 71, 6]
    );
    // cells: type, length, slice, then gaps and values.
    assert_eq!(bytes[40..44], [2, 32, 0, 0]);
    assert_eq!(bytes[44..48], [0x44, 0x44, 0x33, 0x33]);
    assert_eq!(
        bytes[60..73],
        [
            0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x8e, 0x03, 0xac, 0x02, 0xf6
        ]
    );
}

#[test]
fn every_cut_and_every_flipped_bit_is_harmless() {
    let items = 3 + 4 + 3 + 1 + 2 + 1 + 1 + 3 + 1 + 2 + 3 + 1 + 1 + 2 + 1 + 1 + 1 + 2;
    cut_and_flip(&sample(), items);
    cut_and_flip(
        &sample_of_siblings(),
        2 + 1 + SIBLING_BUCKETS + 1 + 1 + 2 + 1,
    );
    cut_and_flip(&sample_of_ages(), 2 + 1);
    cut_and_flip(&sample_of_pardons(), 2 + 3 + 1);
    cut_and_flip(&sample_of_top(), 1 + 2 + 1 + 1 + 2);
}

fn cut_and_flip(bytes: &[u8], items: usize) {
    let whole = read_all(bytes);
    assert_eq!(whole, items);
    for cut in 0..bytes.len() {
        assert!(read_all(&bytes[..cut]) <= whole + 1);
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        read_all(&flipped);
    }
}

/// The expected hashes come from a program that knows only the description of the format.
#[test]
fn siblings_are_hashed_as_it_is_written() {
    let all = [
        (0, 0, 1, 0x65c1_4dd9_19ad_0e1f, 0),
        (1, 1, 1, 0x5df7_9e6c_8c03_57e5, 45),
        (SLICE.writer.0, 300, 0xabcd, 0xb1b2_c753_ec94_33da, 27),
        (u64::MAX, u64::MAX, u64::MAX, 0x991e_11b5_6a74_750e, 25),
    ];
    for (writer, version, root, hash, bucket) in all {
        let writer = Writer(writer);
        assert_eq!(sibling_hash(writer, version, root), hash);
        assert_eq!(sibling_bucket(writer), bucket);
    }
}

#[test]
fn frames_of_later_versions_are_skipped() {
    let mut bytes = vec![200, 5, 0, 1, 2, 3, 4, 5, 0, 0, 0];
    FrameWriter::new(&mut bytes, 100).digest_asked();
    assert_eq!(only(&bytes), Frame::DigestAsked);
}

/// Every frame about a slice, once of a sketch that exists and once of one that does not.
#[test]
fn what_is_of_a_sketch_that_is_not_there_is_skipped() {
    let mut bytes = Vec::new();
    let elsewhere = SliceId {
        sketch: SketchNumber(9),
        ..SLICE
    };
    for slice in [elsewhere, SLICE] {
        let mut writer = FrameWriter::new(&mut bytes, DATAGRAM_BYTES_MAX);
        let cells = writer.cells(&slice, |cells| assert!(cells.push(CELLS + 7, 1)));
        let groups = writer.groups(&slice, 1, |groups| {
            assert!(groups.push(99, &[1; GROUP_CELLS]));
        });
        let aged = writer.aged_groups(&slice, 1, (Fold::GROUP, &[7]), |groups| {
            assert!(groups.push(99, &[1; GROUP_CELLS], &[128]));
        });
        assert_eq!(
            (cells, groups, aged),
            (Listed::Some, Listed::Some, Listed::Some)
        );
        assert!(writer.complete(&slice, 1, 2));
        assert!(writer.sections_asked(&slice, 0));
        assert!(writer.sections(&slice, 1, 0, &[1]));
        assert!(writer.group_hashes_asked(&slice, 0));
        assert!(writer.group_hashes(&slice, 1, 0, &[1]));
        assert_eq!(writer.pull(&slice, [1]), 1);
        assert!(writer.not_held(&slice));
    }
    let is_here = |sketch| (sketch == SketchNumber::DEFAULT).then_some(CELLS);
    let read: Vec<Frame<'_>> = frames(&bytes, is_here).map(Result::unwrap).collect();
    assert_eq!(read.len(), 20);
    let (skipped, known) = read.split_at(10);
    let slice = elsewhere;
    assert_eq!(skipped, [Frame::UnknownSketch { slice }; 10]);
    for frame in known {
        assert_eq!(frame.slice(), Some(SLICE));
        assert!(!matches!(frame, Frame::UnknownSketch { .. }));
    }
}

#[test]
fn as_many_sketches_as_are_told_fit_beside_everything_else() {
    let sketches: Vec<SketchEntry> = (0..SKETCHES_MAX as u32)
        .map(|number| SketchEntry {
            number: SketchNumber(u32::MAX - number),
            fingerprint: u64::MAX,
        })
        .collect();
    let mut all = Vec::new();
    for part in (0..SKETCHES_MAX).step_by(SKETCHES_TOLD_MAX) {
        let mut bytes = vec![0; 100];
        let mut writer = FrameWriter::new(&mut bytes, DATAGRAM_BYTES_MAX);
        assert!(writer.about(true, Writer(u64::MAX), &sketches, part as u32));
        let about = only(&bytes[100..]);
        let Frame::About {
            total,
            first,
            sketches: read,
            ..
        } = about
        else {
            panic!("another frame");
        };
        assert_eq!((total, first), (SKETCHES_MAX as u32, part as u32));
        all.extend(read);
    }
    assert_eq!(all, sketches);
}

#[test]
fn a_member_comes_back_and_may_grow() {
    for address in ["192.0.2.7:9001", "[2001:db8::7]:65535"] {
        let member = MemberEntry {
            node: u64::MAX,
            boot: Boot(u64::MAX - 1),
            started_ms: u64::MAX,
            renewals: u32::MAX,
            address: address.parse().unwrap(),
            client_port: 7,
        };
        let mut out = Vec::new();
        member.write(&mut out);
        assert!(out.len() <= MemberEntry::BYTES_MAX);
        for cut in 0..out.len() {
            assert_eq!(member_entry(&out[..cut]), None, "{cut}");
        }
        out.extend(b"of a later release");
        assert_eq!(member_entry(&out), Some(member));
    }
}

#[test]
fn the_longest_line_has_the_length_said() {
    let slice = SliceId {
        sketch: SketchNumber(u32::MAX),
        ..SLICE
    };
    let (version, root) = (u64::MAX, 1);
    let bytes = written(|writer| {
        writer.digest([DigestEntry {
            slice,
            version,
            root,
        }]);
    });
    assert_eq!(bytes.len(), 3 + DIGEST_LINE_BYTES_MAX);
}

#[test]
fn the_fullest_group_fits_a_datagram_behind_everything_that_stands_before_it() {
    const SEAL_BYTES: usize = 50;
    let mut out = vec![0; SEAL_BYTES + Head::BYTES_MAX];
    let values: Vec<u64> = (0..GROUP_CELLS as u64).map(|n| CELL_MAX - n).collect();
    let mut writer = FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX);
    let groups = writer.groups(&SLICE, 9, |groups| {
        assert!(groups.push(u32::MAX / GROUP_CELLS as u32, &values));
    });
    assert_eq!(groups, Listed::Some);
    let mut out = vec![0; SEAL_BYTES + Head::BYTES_MAX];
    let mut writer = FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX);
    assert!(writer.group_hashes(&SLICE, u64::MAX, u32::MAX, &[u64::MAX; SECTION_GROUPS]));
}

#[test]
fn the_longest_pardon_fits_a_datagram_behind_everything_that_stands_before_it() {
    const SEAL_BYTES: usize = 42;
    let start = SEAL_BYTES + Head::BYTES_MAX;
    let mut out = vec![0; start];
    let mut writer = FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX);
    assert_eq!(writer.pardons([LONGEST_PARDON, PARDON]), 1);
    assert_eq!(out.len(), start + FRAME_HEAD_BYTES + PARDON_BYTES_MAX);
    let Frame::Pardons { mut entries } = only(&out[start..]) else {
        panic!("another frame");
    };
    let read = entries.next().unwrap();
    assert_eq!((read.key, read.giver), (LONGEST_PARDON.key, Boot(u64::MAX)));
    // What it cannot say in so many bytes it says as the most that it can.
    assert_eq!(
        (read.left_ms, read.credits[7]),
        ((1 << 42) - 1, (1 << 49) - 1)
    );
}

#[test]
fn the_longest_entry_of_a_list_fits_a_datagram_and_bounds_come_in_the_next_one() {
    const SEAL_BYTES: usize = 42;
    let start = SEAL_BYTES + Head::BYTES_MAX;
    let slice = SliceId {
        sketch: SketchNumber(u32::MAX),
        ..SLICE
    };
    let write = |entries: &[TopEntry<'static>]| {
        let mut out = vec![0; start];
        let mut writer = FrameWriter::new(&mut out, DATAGRAM_BYTES_MAX);
        let head = TopHead {
            from: u64::MAX,
            to: u64::MAX,
            ..top_head(TOP_BOUNDS_MAX)
        };
        let written = writer.top(&slice, &head, entries.iter().copied());
        (out, written)
    };
    let (out, written) = write(&[LONGEST_ENTRY; 2]);
    assert_eq!(written, Some((u64::MAX, false)));
    assert!(out.len() <= start + FRAME_HEAD_BYTES + TOP_LIST_BYTES_MAX);
    let Frame::Top { list, .. } = only(&out[start..]) else {
        panic!("another frame");
    };
    assert!(!list.head().is_complete && list.head().bounds.is_empty());
    let read = list.entries().next().unwrap();
    assert_eq!(
        (read.key, read.changed),
        (LONGEST_ENTRY.key, TOP_VERSION_MAX)
    );
    let (out, written) = write(&[]);
    assert_eq!(written, Some((u64::MAX, true)));
    let Frame::Top { list, .. } = only(&out[start..]) else {
        panic!("another frame");
    };
    assert_eq!(list.head().bounds.len(), TOP_BOUNDS_MAX);
}

#[test]
fn entries_of_a_list_that_do_not_fit_are_told_next() {
    let entries = [0, 1, 2].map(|at| TopEntry {
        changed: 6 + at,
        ..NAMED
    });
    for limit in 0..200 {
        let mut out = Vec::new();
        let mut writer = FrameWriter::new(&mut out, limit);
        let told = writer.top(&SLICE, &top_head(1), entries.into_iter());
        assert!(out.len() <= limit && out.is_empty() == told.is_none());
        let Some((to, is_complete)) = told else {
            continue;
        };
        let Frame::Top { list, .. } = only(&out) else {
            panic!("another frame");
        };
        let read: Vec<_> = list.entries().collect();
        assert_eq!(read, entries[..read.len()]);
        assert_eq!(is_complete, read.len() == 3);
        assert_eq!(
            to,
            if is_complete {
                9
            } else {
                5 + read.len() as u64
            }
        );
        assert_eq!((list.head().to, list.head().is_complete), (to, is_complete));
    }
}

#[test]
fn pardons_that_do_not_fit_are_left_out() {
    for limit in 0..90 {
        let mut out = Vec::new();
        let mut writer = FrameWriter::new(&mut out, limit);
        let pardons = writer.pardons([PARDON; 3]);
        assert!(out.len() <= limit && out.is_empty() == (pardons == 0));
        assert_eq!(read_all(&out), pardons, "{limit}");
    }
}

/// The expected numbers come from a program that knows only the description of the format, and the reference
/// implementation of XXH3 (`xxhsum -H3`).
#[test]
fn pardons_are_placed_and_hashed_as_it_is_written() {
    let api = LimitNumber::of_name(b"api");
    assert_eq!(api, LimitNumber(0x6ead_bb0d_02ac_cc0a));
    let long = &b"an-key-of-more-than-16-bytes"[..];
    let all = [
        (
            LimitNumber(0),
            &b""[..],
            (0, 0),
            (0x0e9e_beff_1ebd_5806, 1),
            0x0166_e9fe_349a_6c3e,
        ),
        (
            LimitNumber(1),
            b"alice",
            (1, 1),
            (0xa570_44a1_1500_3d96, 20),
            0x4907_1ac4_823f_98e6,
        ),
        (
            api,
            b"alice",
            (300, 0x1111_2222_3333_4444),
            (0x208d_8e8f_da0c_5716, 4),
            0xe814_0cd4_a13d_f3a6,
        ),
        (
            LimitNumber(u64::MAX),
            long,
            (u64::MAX, u64::MAX),
            (0x1a93_a545_2a3e_795c, 3),
            0x8176_fd44_c3da_3046,
        ),
    ];
    for (limit, key, (count, giver), (place, bucket), hash) in all {
        assert_eq!(pardon_place(limit, key), place);
        assert_eq!(pardon_bucket(place), bucket);
        assert_eq!(pardon_hash(place, count, Boot(giver)), hash);
    }
}

#[test]
fn what_does_not_fit_leaves_nothing_behind() {
    for limit in 0..60 {
        let mut out = Vec::new();
        let mut writer = FrameWriter::new(&mut out, limit);
        let mut was_asked = false;
        let cells = writer.cells(&SLICE, |cells| {
            was_asked = true;
            while cells.push(CELLS, CELL_MAX) {}
        });
        assert!(was_asked || cells == Listed::NoRoom, "{limit}");
        was_asked = false;
        let groups = writer.groups(&SLICE, 9, |groups| {
            was_asked = true;
            while groups.push(1, &[1; GROUP_CELLS]) {}
        });
        assert!(was_asked || groups == Listed::NoRoom, "{limit}");
        writer.complete(&SLICE, 1, 2);
        writer.pull(&SLICE, [1, 5, 9]);
        writer.sections(&SLICE, 1, 1, &[1, 2]);
        writer.group_hashes(&SLICE, 9, 1, &[1, 2]);
        writer.membership(&[0; 40]);
        assert!(out.len() <= limit);
        assert!(frames(&out, cells_of).all(|frame| frame.is_ok()));
    }
}

proptest! {
    #[test]
    fn cells_come_back(
        slice in slices(),
        cells in btree_map(0..CELLS, 0..=CELL_MAX, 1..600),
    ) {
        let mut fitting = BTreeMap::new();
        let bytes = written(|writer| {
            let _ = writer.cells(&slice, |out| {
                for (&index, &value) in &cells {
                    if !out.push(index, value) {
                        break;
                    }
                    fitting.insert(index, value);
                }
            });
        });
        prop_assert!(!fitting.is_empty());
        let Frame::Cells { slice: read, cells } = only(&bytes) else { panic!("another frame") };
        prop_assert_eq!(read, slice);
        prop_assert_eq!(cells.collect::<BTreeMap<_, _>>(), fitting);
    }

    #[test]
    fn groups_come_back(
        slice in slices(),
        groups in btree_map(0..CELLS / GROUP, (0u32..64, 0..=GROUP_CELLS, any::<u64>()), 1..8),
    ) {
        // `count` values that are not 0, of `bits` bits each.
        let values = |bits: u32, count: usize, seed: u64| -> Vec<u64> {
            let mask = (1u64 << bits) - 1;
            let mut state = seed;
            let mut all = vec![0; GROUP_CELLS];
            for value in all.iter_mut().take(count) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *value = (state ^ state >> 16) & mask;
            }
            all.rotate_right((seed % GROUP_CELLS as u64) as usize);
            all
        };
        let mut fitting = BTreeMap::new();
        let bytes = written(|writer| {
            let _ = writer.groups(&slice, 9, |out| {
                for (&group, &(bits, count, seed)) in &groups {
                    let values = values(bits, count, seed);
                    if !out.push(group, &values) {
                        break;
                    }
                    fitting.insert(group, values);
                }
            });
        });
        prop_assert!(!fitting.is_empty());
        let Frame::Groups { slice: read, version: 9, groups: mut reader } = only(&bytes) else {
            panic!("another frame")
        };
        prop_assert_eq!(read, slice);
        let mut cells = Vec::new();
        for (group, values) in fitting {
            prop_assert_eq!(reader.next_group(&mut cells), Some(group));
            let mut back = vec![0; GROUP_CELLS];
            for &(index, value) in &cells {
                back[(index - group * GROUP) as usize] = value;
            }
            prop_assert_eq!(back, values);
        }
        prop_assert_eq!(reader.next_group(&mut cells), None);
    }

    #[test]
    fn numbers_that_are_acked_come_back(numbers in btree_set(1u64..2_000, 1..60)) {
        let mut ranges: Vec<std::ops::RangeInclusive<u64>> = Vec::new();
        for &number in numbers.iter().rev() {
            match ranges.last_mut() {
                Some(last) if *last.start() == number + 1 => *last = number..=*last.end(),
                _ => ranges.push(number..=number),
            }
        }
        let bytes = written(|writer| assert!(writer.ack(7, ranges.iter().cloned())));
        let Frame::Ack { channel: 7, ranges: read } = only(&bytes) else { panic!("another frame") };
        prop_assert_eq!(read.collect::<Vec<_>>(), ranges);
    }

    #[test]
    fn groups_that_are_pulled_come_back(groups in btree_set(0u32..100_000, 1..200)) {
        let mut count = 0;
        let bytes = written(|writer| count = writer.pull(&SLICE, groups.iter().copied()));
        let Frame::Pull { groups: read, .. } = only(&bytes) else { panic!("another frame") };
        let read: Vec<u32> = read.flatten().collect();
        prop_assert_eq!(read.len(), count);
        prop_assert!(read.iter().eq(groups.iter().take(count)));
    }

    #[test]
    fn any_bytes_are_harmless(bytes in vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    /// Frames that begin well, with any body.
    #[test]
    fn any_body_is_harmless(kind in 0u8..40, body in vec(any::<u8>(), 0..100)) {
        let mut bytes = vec![kind, body.len() as u8, 0];
        bytes.extend(&body);
        read_all(&bytes);
    }
}
