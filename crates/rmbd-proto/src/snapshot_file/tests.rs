#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::cluster::{CELL_MAX, Fold, GROUP_CELLS, SliceId};
use crate::{Boot, SketchNumber, Writer};

const SLICE: SliceId = SliceId {
    sketch: SketchNumber(3),
    node: 7,
    writer: Writer(9),
};

fn head() -> FileHead {
    FileHead {
        format: FORMAT,
        file: 0x0102_0304_0506_0708,
        node: 7,
        boot: Boot(8),
        writer: Writer(9),
        time_ns: 5_000_000_000,
        wall_ms: 1_700_000_000_000,
        since_boot_ns: 77,
        machine_boot: 0x1234,
        program: "0.1.0".to_owned(),
    }
}

fn block(number: u64, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin_block(kind, &mut out);
    write(&mut out);
    end_block(start, number, &mut out);
    out
}

fn read(number: u64, bytes: &[u8]) -> Result<Block<'_>, BlockError> {
    let (&head, rest) = bytes.split_first_chunk().unwrap();
    let head = BlockHead::of(head);
    let (content, hash) = rest.split_at(head.content_bytes()?.min(rest.len() - BLOCK_TAIL_BYTES));
    head.check(
        number,
        content,
        hash.try_into().map_err(|_| BlockError::Hash)?,
    )
}

/// Other releases read this.
#[test]
fn blocks_are_what_they_were() {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let cases = [
        (block(0, Kind::Head, |out| head().write(out)), HEAD),
        (
            block(1, Kind::Sketch, |out| {
                let sketch = SketchBlock {
                    number: SketchNumber(3),
                    fingerprint: 0x11,
                    cells: 300,
                    name: "a.b".to_owned(),
                    time_ns: -5,
                    own_marks: vec![(-1_000, 4), (-5, 6)],
                    learnt_marks: vec![-200],
                };
                sketch.write(out);
            }),
            SKETCH,
        ),
        (
            block(2, Kind::Groups, |out| {
                let fold = Fold::of_bits(6).unwrap();
                let mut writer =
                    GroupsBlockWriter::begin(&SLICE, (1_000, fold), &[1_000, 400], out);
                let mut values = [0; GROUP_CELLS];
                (values[3], values[127]) = (5, 1 << 40);
                writer.push(1, &values, &[0, 0, 2, 0], out);
                writer.push(2, &[1; 44], &[0, 1], out);
            }),
            GROUPS,
        ),
        (
            block(3, Kind::Slice, |out| {
                let (version, weight) = (300, 7);
                (SliceBlock {
                    slice: SLICE,
                    version,
                    weight,
                })
                .write(out);
            }),
            SLICE_END,
        ),
        (block(4, Kind::End, |out| write_end(4, out)), END),
    ];
    for (number, (bytes, golden)) in cases.iter().enumerate() {
        assert_eq!(hex(bytes), *golden, "block {number}");
        read(number as u64, bytes).unwrap();
    }
}

const HEAD: &str = "01500000000100080706050403020107000000000000000800000000000000090000000000000000\
    f2052a010000000068e5cf8b0100004d000000000000003412000000000000000000000000000005\
    302e312e309e2724da63229008";
const SKETCH: &str = "02250000000300000011000000000000002c01000003612e62fbffffffffffffff02e30704000601\
    c3011796ba3d174e080b";
const GROUPS: &str = "033d0000000300000007000000000000000900000000000000e803000000000000060200d80401ff\
    0203057b808080808020010102020001ffffffffff0f01010101e72dca88f0bdbdc2";
const SLICE_END: &str = "04170000000300000007000000000000000900000000000000ac020797b6663f8f67851c";
const END: &str = "070100000004cd8e823ab3283b31";

#[test]
fn a_block_that_was_changed_or_moved_is_not_believed() {
    let bytes = block(5, Kind::Slice, |out| out.extend(*b"content"));
    let whole = Block {
        kind: Kind::Slice,
        content: b"content",
    };
    assert_eq!(read(5, &bytes), Ok(whole));
    assert_eq!(read(6, &bytes), Err(BlockError::Hash));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(read(5, &changed).is_err(), "{at} {bit}");
        }
    }
    let later = block(5, Kind::Other(100), |_| ());
    assert_eq!(read(5, &later), Err(BlockError::LaterKind(100)));
    let may_be_left_out = block(5, Kind::Other(200), |_| ());
    assert_eq!(read(5, &may_be_left_out).unwrap().kind, Kind::Other(200));
}

#[test]
fn what_is_behind_the_known_content_is_left_out() {
    let mut content = Vec::new();
    head().write(&mut content);
    content.push(7);
    assert_eq!(FileHead::read(&content), Ok(head()));
    let mut later = Vec::new();
    FileHead {
        format: 9,
        ..head()
    }
    .write(&mut later);
    let later = FileHead::read(&later).unwrap();
    assert_eq!((later.format, later.node, later.wall_ms), (9, 7, 0));
}

proptest! {
    #[test]
    fn groups_come_back(
        groups in prop::collection::btree_map(0..40_u32, (any::<u64>(), 0..64_u32), 0..12),
        marks in prop::collection::vec(0..1_000_000_i64, 0..6),
        bits in 0..8_u8,
        cells in 5_000..5_120_u32,
    ) {
        let fold = Fold::of_bits(bits).unwrap();
        let mut marks = marks;
        marks.sort_unstable();
        marks.reverse();
        let mut out = Vec::new();
        let mut writer = GroupsBlockWriter::begin(&SLICE, (1_000_000, fold), &marks, &mut out);
        let mut wanted = Vec::new();
        for (&group, &(seed, shift)) in &groups {
            let in_group = (cells - group * GROUP_CELLS as u32).min(GROUP_CELLS as u32) as usize;
            let some = |at: usize| (seed.wrapping_mul(at as u64 + 1) >> shift).min(CELL_MAX);
            let values: Vec<u64> = (0..in_group).map(some).collect();
            let increments = (0..marks.len() * fold.folded(in_group)).map(|at| some(at) % 3 / 2);
            let increments: Vec<u64> = increments.collect();
            writer.push(group, &values, &increments, &mut out);
            wanted.push((group, SavedGroup { values, increments }));
        }
        let mut block = GroupsBlock::read(&out).unwrap();
        prop_assert_eq!((block.slice, block.time_ns, &block.marks), (SLICE, 1_000_000, &marks));
        let (mut read, mut group) = (Vec::new(), SavedGroup::default());
        while let Some(number) = block.next_group(cells, &mut group).unwrap() {
            read.push((number, group.clone()));
        }
        prop_assert_eq!(read, wanted);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cells in any::<u32>()) {
        let _ = (FileHead::read(&bytes), SketchBlock::read(&bytes), SliceBlock::read(&bytes));
        let _ = read_end(&bytes);
        if let Ok(mut block) = GroupsBlock::read(&bytes) {
            let mut group = SavedGroup::default();
            while let Ok(Some(_)) = block.next_group(cells, &mut group) {}
        }
    }

    /// Blocks of groups that were begun well are read further than random ones.
    #[test]
    fn no_groups_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cells in 1..2_000_u32,
        marks in 0..4_usize,
    ) {
        let mut out = Vec::new();
        let _ = GroupsBlockWriter::begin(&SLICE, (0, Fold::NONE), &[0; 4][..marks], &mut out);
        out.extend(bytes);
        let mut block = GroupsBlock::read(&out).unwrap();
        let mut group = SavedGroup::default();
        while let Ok(Some(_)) = block.next_group(cells, &mut group) {}
    }
}
