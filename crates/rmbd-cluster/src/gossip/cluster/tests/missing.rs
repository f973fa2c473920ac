//! What there is no room for is said to be missing, however it became known.

use super::*;
use rmbd_store::{Fold, GroupAges, SavedMarks};

fn small() -> Geometry {
    Geometry::new(64, 2).unwrap()
}

/// Takes over slices of one cell each, as from a snapshot file of an earlier writer.
fn take_over(into: &mut Slices, file: &[SliceId]) {
    let marks = SavedMarks::default();
    into.begin_restore(&marks, Duration::ZERO, None).unwrap();
    let ages = GroupAges {
        fold: Fold::NONE,
        marks: &[],
        increments: &[],
    };
    for slice in file {
        let cell = [(3, 5)].into_iter();
        if into.restore(slice, 0, cell, &ages).is_ok() {
            into.restore_complete(slice, 1);
        }
    }
    into.end_restore();
}

/// It is refused already when others tell of it, so nobody sends it.
#[test]
fn what_a_snapshot_file_had_and_there_was_no_room_for_is_missing_alone_and_among_others() {
    let file = [
        SliceId::of(1, Writer(5)),
        SliceId::of(8, Writer(6)),
        SliceId::of(1, Writer(4)),
    ];
    let mut net = Net::new(0.0);
    let rich = net.start(2, 102, 2, small());
    for slice in file {
        let sketches = &mut net.nodes[rich].cluster.sketches;
        sketches.merge(&slice, [(3, 5)].into_iter()).unwrap();
        assert!(sketches.complete(&slice, 0, 1));
    }
    net.limits.max_origins = 2;
    let own = SliceId::of(1, Writer(7));
    let mut slices = net.slices(own, &[(0, small(), FAMILY)]);
    take_over(&mut slices[0], &file);
    let poor = net.start_on(slices, 101, 1);
    let missing = |net: &Net| net.nodes[poor].cluster.status(net.now).slices_missing;
    assert_eq!(missing(&net), file[2..]);

    net.join(poor, 2);
    net.run(ROUND * 20);
    assert_eq!(net.live(poor), 1);
    assert_eq!(missing(&net), file[2..]);
    assert!(net.nodes[poor].replica.is_incomplete());
    assert!(net.nodes[poor].cluster.is_ready());
}

#[test]
fn a_sketch_that_lacks_many_slices_does_not_keep_those_of_others_from_being_named() {
    let mut net = Net::new(0.0);
    net.limits.max_origins = 1;
    let sketches = [0, 7, 9].map(|number| (number, small(), FAMILY));
    net.start_with(1, 101, 1, &sketches);
    let slice = |sketch: u32, writer: u64| SliceId {
        sketch: SketchNumber(sketch),
        ..SliceId::of(8, Writer(writer))
    };
    for (sketch, lacking) in [(0, 250), (7, 40), (9, 3)] {
        for writer in 0..=lacking {
            let sketches = &mut net.nodes[0].cluster.sketches;
            let merged = sketches.merge(&slice(sketch, writer), [(3, 5)].into_iter());
            assert_eq!(merged.is_ok(), writer == 0);
        }
    }
    let named = [(0, 250), (7, 16), (9, 3)].map(|(sketch, named)| {
        let writers = 1..=named;
        writers.map(move |writer| slice(sketch, writer))
    });
    let missing = net.nodes[0].cluster.status(net.now).slices_missing;
    assert!(missing.into_iter().eq(named.into_iter().flatten()));
}
