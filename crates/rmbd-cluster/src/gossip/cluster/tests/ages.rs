//! Ages on their way: from the writer, and from a neighbour after the writer is gone.

use super::*;
use rmbd_proto::cluster::GROUP_CELLS;
use rmbd_sketch::Weight;
use rmbd_store::WindowPlan;

const SECOND: Duration = Duration::from_secs(1);

/// How much of a slice a node knows to be older than so many seconds, and how much it knows in all.
fn older_than(net: &Net, node: usize, slice: &SliceId, seconds: u64) -> (u64, u64) {
    let slices = net.nodes[node].cluster.slices();
    let marks = slices.marks_since(slice, 0, net.now);
    let now = rmbd_store::Moment::of(net.now);
    let young = marks.partition_point(|mark| mark.at.age_ms(now) < seconds * 1_000);
    let cells = slices.cells(slice).unwrap().to_vec();
    let depth = geometry().depth() as u64;
    let all: u64 = cells.iter().sum();
    if young == marks.len() {
        return (0, all / depth);
    }
    let (mut since, mut increments) = (0, Vec::new());
    for group in 0..cells.len().div_ceil(GROUP_CELLS) as u32 {
        slices.increments(slice, group, &marks[..=young], &mut increments);
        since += increments.iter().sum::<u64>();
    }
    (all.saturating_sub(since) / depth, all / depth)
}

fn keep_ages(net: &mut Net, node: usize) {
    let minute = WindowPlan::new(60_000, None, None, geometry(), FAMILY).unwrap();
    let now = net.now;
    let sketches = &mut net.nodes[node].cluster.sketches;
    for slices in sketches.iter_mut() {
        slices.keep_ages(&[minute], now).unwrap();
    }
}

fn begin(net: &mut Net, boot: u64) -> usize {
    let node = net.start(boot, boot + 100, boot as u16, geometry());
    keep_ages(net, node);
    let now = net.now;
    net.nodes[node].cluster.join(now, address(2));
    node
}

#[test]
fn who_joins_learns_how_old_it_all_is_from_anybody() {
    let mut net = Net::new(0.1);
    for n in [2, 1] {
        begin(&mut net, n);
    }
    net.run(SECOND * 10);
    let slice = net.nodes[1].cluster.slices().own_slice();
    // Ten units a second for 150 seconds.
    for second in 0..150_u64 {
        for key in 0..10 {
            let key = (second * 100 + key).to_le_bytes();
            net.nodes[1].replica.add(&key, Weight::ONE).unwrap();
        }
        net.run(SECOND);
    }
    let joined = begin(&mut net, 3);
    let end = net.now + SECOND * 20;
    while !net.is_equal() {
        assert!(net.now < end, "all of it arrives");
        net.run(MS * 10);
    }
    // What was counted more than `seconds` ago is told as such, but for what two more steps have.
    let check = |net: &Net, node: usize, seconds: u64, since_end: u64, lag: u64| {
        let (old, all) = older_than(net, node, &slice, seconds);
        let truth = (150 + since_end).saturating_sub(seconds).min(150) * 10;
        assert_eq!(all, 1_500);
        // A second has ten units, and the last one of them may count to either side.
        assert!(
            old <= truth + 10,
            "{old} of {truth} units, node {node}, {seconds} s"
        );
        assert!(
            old + lag * 10 >= truth,
            "{old} of {truth} units, node {node}, {seconds} s"
        );
    };
    let took = |net: &Net| (net.now - SECOND * 161).as_secs();
    for seconds in [20, 60] {
        check(&net, 0, seconds, took(&net), 20);
        check(&net, 1, seconds, took(&net), 11);
        check(&net, joined, seconds, took(&net), 20);
    }
    // The writer goes; who comes now has it from a neighbour.
    net.nodes.remove(1);
    let joined = begin(&mut net, 4);
    net.run(SECOND * 20);
    for seconds in [30, 60] {
        check(&net, joined, seconds, took(&net), 36);
    }
    let (old, all) = older_than(&net, joined, &slice, 60);
    assert!(
        old > 0 && old < all,
        "some of it is in the window, and not all: {old} of {all}"
    );
}
