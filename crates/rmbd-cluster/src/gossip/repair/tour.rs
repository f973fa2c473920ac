//! The tour through our digest: each round tells as many lines as fit, of all sketches in fair shares, and goes on
//! where the one before has ended.
//!
//! Most sketches are at rest most of the time. So a sketch in which nothing has changed for some rounds is told as one
//! sum, and each round tells the sums of a few of them. Where somebody's sum is another one, the sketch is told line by
//! line again for a while. The first sketch always is.

use std::collections::BTreeMap;

use crate::gossip::limits::ClusterLimits;
use crate::gossip::peers::DigestLine;
use crate::gossip::sketches::Sketches;
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{SketchNumber, Writer};
use rmbd_store::Slices;

/// A sketch is told line by line for so many rounds after something in it has changed: until then news has gone from
/// neighbour to neighbour through a large cluster.
const AWAKE_ROUNDS: u64 = 16;

/// The positions at which the next round goes on.
#[derive(Debug)]
pub(crate) struct DigestTour {
    lines_a_round: usize,
    sums_a_round: usize,
    round: u64,
    of_sketches: BTreeMap<SketchNumber, SketchTour>,
    /// The sketch that was told last line by line, and the one that was told last by its sum.
    told_lines: SketchNumber,
    told_sums: SketchNumber,
}

/// The tour through one sketch.
#[derive(Debug, Clone, Copy, Default)]
struct SketchTour {
    next: DigestPosition,
    /// Its sum at the last round.
    sum: u64,
    /// It is told line by line until this round.
    awake_until: u64,
}

/// A line's place in the digest of a sketch: nodes ascend, and each has two lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct DigestPosition {
    node: u64,
    /// It is the second of them.
    is_of_siblings: bool,
}

impl DigestTour {
    pub(crate) fn new(limits: ClusterLimits) -> Self {
        Self {
            lines_a_round: limits.digest_lines_a_round,
            sums_a_round: limits.sketch_sums_a_round,
            round: 0,
            of_sketches: BTreeMap::new(),
            told_lines: SketchNumber(u32::MAX),
            told_sums: SketchNumber(u32::MAX),
        }
    }

    /// A round begins: looks in which sketches something has changed.
    pub(crate) fn begin_round(&mut self, sketches: &Sketches) {
        self.round += 1;
        for slices in sketches.iter() {
            let sum = slices.sum();
            let sketch = slices.own_slice().sketch;
            let is_new = !self.of_sketches.contains_key(&sketch);
            let tour = self.of_sketches.entry(sketch).or_default();
            if is_new || tour.sum != sum {
                tour.sum = sum;
                tour.awake_until = self.round + AWAKE_ROUNDS;
            }
        }
    }

    /// Somebody has something else of a sketch: it is told line by line for a while.
    pub(crate) fn wake(&mut self, sketch: SketchNumber) {
        if let Some(tour) = self.of_sketches.get_mut(&sketch) {
            tour.awake_until = self.round + AWAKE_ROUNDS;
        }
    }

    /// The lines of this round for somebody with whom some sketches are exchanged; `writers` says who writes now, of
    /// each other node.
    pub(crate) fn part(
        &self,
        sketches: &Sketches,
        writers: &BTreeMap<u64, Writer>,
        exchanges: impl Fn(SketchNumber) -> bool,
    ) -> Vec<DigestLine> {
        self.part_with(sketches, writers, exchanges, self.sums_a_round)
    }

    /// As [`part`](Self::part), for somebody of whom nothing is known yet: with as many sums as there may be lines.
    pub(crate) fn greeting(
        &self,
        sketches: &Sketches,
        writers: &BTreeMap<u64, Writer>,
        exchanges: impl Fn(SketchNumber) -> bool,
    ) -> Vec<DigestLine> {
        self.part_with(sketches, writers, exchanges, self.lines_a_round)
    }

    /// The sketches that this round tells something of, as far as they are exchanged.
    pub(crate) fn sketches_of_round(
        &self,
        sketches: &Sketches,
        exchanges: impl Fn(SketchNumber) -> bool,
    ) -> Vec<SketchNumber> {
        let awake = self.awake(sketches, &exchanges);
        let mut all: Vec<SketchNumber> = awake.take(self.lines_a_round).collect();
        let at_rest = self.at_rest(sketches, &exchanges);
        all.extend(at_rest.take(self.sums_a_round));
        all
    }

    /// The lines of one sketch, as many as fit a round.
    pub(crate) fn lines_of(
        &self,
        slices: &Slices,
        writers: &BTreeMap<u64, Writer>,
    ) -> Vec<DigestLine> {
        let lines = self.lines(slices, writers);
        lines.take(self.lines_a_round).collect()
    }

    /// The next round goes on where this one has ended. `told` is what each of those was told who were told
    /// something; they may have different sketches. In each sketch it goes on behind the last line that all of them
    /// were told who have it, so that nobody waits for ever for lines of what the others do not have. Which sketch
    /// comes first is said by the last of them.
    pub(crate) fn move_on(
        &mut self,
        told: &[Vec<DigestLine>],
        sketches: &Sketches,
        writers: &BTreeMap<u64, Writer>,
    ) {
        for line in told.last().into_iter().flatten() {
            match line {
                DigestLine::Sketch(sketch) => self.told_sums = *sketch,
                DigestLine::Slice(slice) | DigestLine::Siblings(slice) => {
                    self.told_lines = slice.sketch;
                }
            }
        }
        for (sketch, (_, line)) in shortest(told) {
            let (Some(slices), Some(tour)) =
                (sketches.get(sketch), self.of_sketches.get_mut(&sketch))
            else {
                continue;
            };
            let next = DigestPosition::behind(line);
            let has_line =
                |&next: &DigestPosition| lines_from(next, slices, writers).next().is_some();
            tour.next = next.filter(has_line).unwrap_or_default();
        }
    }

    fn part_with(
        &self,
        sketches: &Sketches,
        writers: &BTreeMap<u64, Writer>,
        exchanges: impl Fn(SketchNumber) -> bool,
        sums_max: usize,
    ) -> Vec<DigestLine> {
        let mut part = Vec::new();
        let awake: Vec<SketchNumber> = self.awake(sketches, &exchanges).collect();
        for (number, sketch) in awake.iter().enumerate() {
            let left = self.lines_a_round.saturating_sub(part.len());
            // What one does not need, those after it have.
            let share = left.div_ceil(awake.len() - number);
            let lines = sketches
                .get(*sketch)
                .map(|slices| self.lines(slices, writers));
            part.extend(lines.into_iter().flatten().take(share));
        }
        let at_rest = self.at_rest(sketches, &exchanges);
        part.extend(at_rest.take(sums_max).map(DigestLine::Sketch));
        part
    }

    fn lines<'a>(
        &self,
        slices: &'a Slices,
        writers: &'a BTreeMap<u64, Writer>,
    ) -> impl Iterator<Item = DigestLine> + 'a {
        let tour = self.of_sketches.get(&slices.own_slice().sketch);
        let next = tour.map_or_else(DigestPosition::default, |tour| tour.next);
        lines_from(next, slices, writers)
    }

    /// Sketches that are told line by line, from whose turn it is.
    fn awake<'a>(
        &'a self,
        sketches: &'a Sketches,
        exchanges: &'a impl Fn(SketchNumber) -> bool,
    ) -> impl Iterator<Item = SketchNumber> + 'a {
        let first = sketches.first().own_slice().sketch;
        let circle = sketches.numbers_behind(self.told_lines);
        circle.filter(move |&it| self.is_awake(it, first) && exchanges(it))
    }

    /// Sketches that are told by their sums, from whose turn it is.
    fn at_rest<'a>(
        &'a self,
        sketches: &'a Sketches,
        exchanges: &'a impl Fn(SketchNumber) -> bool,
    ) -> impl Iterator<Item = SketchNumber> + 'a {
        let first = sketches.first().own_slice().sketch;
        let circle = sketches.numbers_behind(self.told_sums);
        circle.filter(move |&it| !self.is_awake(it, first) && exchanges(it))
    }

    fn is_awake(&self, sketch: SketchNumber, first: SketchNumber) -> bool {
        let tour = self.of_sketches.get(&sketch);
        sketch == first || tour.is_none_or(|tour| self.round < tour.awake_until)
    }
}

impl DigestPosition {
    /// The position behind a line; `None` at the end of all.
    fn behind(line: &DigestLine) -> Option<Self> {
        let (node, is_of_siblings) = match line {
            DigestLine::Slice(slice) => (slice.node, true),
            DigestLine::Siblings(slice) => (slice.node.checked_add(1)?, false),
            DigestLine::Sketch(_) => return None,
        };
        Some(Self {
            node,
            is_of_siblings,
        })
    }
}

/// Of each sketch, the fewest lines that anybody was told who was told some, and the last of these. All lines of a
/// round begin at the same place.
fn shortest(told: &[Vec<DigestLine>]) -> BTreeMap<SketchNumber, (usize, &DigestLine)> {
    let mut all: BTreeMap<SketchNumber, (usize, &DigestLine)> = BTreeMap::new();
    for part in told {
        let mut of_part: BTreeMap<SketchNumber, (usize, &DigestLine)> = BTreeMap::new();
        for line in part {
            if let DigestLine::Slice(slice) | DigestLine::Siblings(slice) = line {
                let (lines, last) = of_part.entry(slice.sketch).or_insert((0, line));
                (*lines, *last) = (*lines + 1, line);
            }
        }
        for (sketch, found) in of_part {
            let least = all.entry(sketch).or_insert(found);
            if found.0 < least.0 {
                *least = found;
            }
        }
    }
    all
}

fn lines_from<'a>(
    first: DigestPosition,
    slices: &'a Slices,
    writers: &'a BTreeMap<u64, Writer>,
) -> impl Iterator<Item = DigestLine> + 'a {
    let own = slices.own_slice();
    let nodes = slices.nodes(own.sketch, first.node);
    nodes.flat_map(move |node| {
        let present = if node == own.node {
            Some(own.writer)
        } else {
            writers.get(&node).copied()
        };
        let slice = SliceId {
            sketch: own.sketch,
            node,
            writer: present.unwrap_or(Writer(0)),
        };
        let is_written = slice.writer != Writer(0) && slices.has(&slice);
        let is_told = node == first.node && first.is_of_siblings;
        let has_siblings = slices.siblings(&slice).count > 0;
        let line = (is_written && !is_told).then_some(DigestLine::Slice(slice));
        let siblings = has_siblings.then_some(DigestLine::Siblings(slice));
        line.into_iter().chain(siblings)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use rmbd_sketch::{Geometry, HashFamily};
    use rmbd_store::{Replica, ReplicaLimits};

    const OWN: SliceId = SliceId::of(5, Writer(50));

    fn empty(sketch: u32) -> Slices {
        let limits = ReplicaLimits {
            max_peers: 1,
            max_origins: 9,
            max_memory_bytes: u64::MAX,
        };
        let own = SliceId {
            sketch: SketchNumber(sketch),
            ..OWN
        };
        let family = HashFamily::Xxh3 { seed: 1 };
        let geometry = Geometry::new(64, 1).unwrap();
        let replica = Replica::try_with(geometry, family, own, limits).unwrap();
        Slices::try_new(Arc::new(replica)).unwrap()
    }

    /// A node that holds two slices each of nodes 3 and 9, in one sketch.
    fn holder() -> Sketches {
        let mut slices = empty(0);
        for node in [3, 9] {
            for writer in [1, 2] {
                let slice = SliceId::of(node, Writer(writer));
                slices.merge(&slice, [(0, 4)].into_iter()).unwrap();
            }
        }
        Sketches::of([slices])
    }

    fn tour(digest_lines_a_round: usize, sketch_sums_a_round: usize) -> DigestTour {
        DigestTour::new(ClusterLimits {
            digest_lines_a_round,
            sketch_sums_a_round,
            ..ClusterLimits::default()
        })
    }

    fn round(tour: &mut DigestTour, sketches: &Sketches) -> Vec<DigestLine> {
        let writers = BTreeMap::new();
        tour.begin_round(sketches);
        let part = tour.part(sketches, &writers, |_| true);
        tour.move_on(std::slice::from_ref(&part), sketches, &writers);
        part
    }

    #[test]
    fn rounds_tell_all_lines_in_turn() {
        let sketches = holder();
        let writers = [(3, Writer(2)), (9, Writer(7))].into();
        let present = SliceId::of(3, Writer(2));
        let unknown = SliceId::of(9, Writer(7));
        let all = [
            DigestLine::Slice(present),
            DigestLine::Siblings(present),
            DigestLine::Slice(OWN),
            // What the present writer of node 9 wrote is not here yet.
            DigestLine::Siblings(unknown),
        ];
        for lines_a_round in 1..=9 {
            let mut tour = tour(lines_a_round, 1);
            for _ in 0..3 {
                for expected in all.chunks(lines_a_round) {
                    tour.begin_round(&sketches);
                    let part = tour.part(&sketches, &writers, |_| true);
                    assert_eq!(part, expected);
                    tour.move_on(&[part], &sketches, &writers);
                }
            }
        }
    }

    /// Each of several who are told in the same round learns all lines of what it has, also where the others have
    /// nothing of it.
    #[test]
    fn each_is_told_all_of_what_it_has_whatever_the_others_have() {
        let holder = |sketch: u32| {
            let mut slices = empty(sketch);
            for node in 10..18 {
                let slice = SliceId {
                    sketch: SketchNumber(sketch),
                    node,
                    writer: Writer(1),
                };
                slices.merge(&slice, [(0, 4)].into_iter()).unwrap();
            }
            slices
        };
        let sketches = Sketches::of((0..6).map(holder));
        let exchanges: [&dyn Fn(u32) -> bool; 4] =
            [&|_| true, &|it| it < 2, &|it| it % 3 == 1, &|it| it == 5];
        let writers = BTreeMap::new();
        for lines in [6, 7, 20, 200] {
            for last in 0..4 {
                let mut tour = tour(lines, 1);
                let mut told = [(); 4].map(|()| std::collections::BTreeSet::new());
                for _ in 0..40 {
                    tour.begin_round(&sketches);
                    (0..6).for_each(|it| tour.wake(SketchNumber(it)));
                    let mut parts =
                        exchanges.map(|has| tour.part(&sketches, &writers, |it| has(it.0)));
                    for (told, part) in told.iter_mut().zip(&parts) {
                        told.extend(part.iter().map(|line| format!("{line:?}")));
                    }
                    parts.swap(last, 3);
                    tour.move_on(&parts, &sketches, &writers);
                }
                for (has, told) in exchanges.iter().zip(&told) {
                    let expected = 9 * (0..6).filter(|&it| has(it)).count();
                    assert_eq!(told.len(), expected, "{lines} lines");
                }
            }
        }
    }

    /// One sketch with hundreds of nodes and others with one: each has its share of every round.
    #[test]
    fn a_sketch_with_many_lines_does_not_keep_the_others_from_being_told() {
        let mut large = empty(7);
        for node in 10..19 {
            let slice = SliceId {
                sketch: SketchNumber(7),
                node,
                writer: Writer(1),
            };
            large.merge(&slice, [(0, 4)].into_iter()).unwrap();
        }
        let sketches = Sketches::of([empty(0), empty(3), large, empty(9)]);
        let mut tour = tour(6, 1);
        let mut told = Vec::new();
        for _ in 0..6 {
            let part = round(&mut tour, &sketches);
            assert!(part.len() <= 6);
            for small in [0, 3, 9] {
                let own = sketches.get(SketchNumber(small)).unwrap().own_slice();
                assert!(part.contains(&DigestLine::Slice(own)), "{part:?}");
            }
            told.extend(part);
        }
        let of_large = told.iter().filter_map(|line| match line {
            DigestLine::Siblings(slice) => Some(slice.node),
            _ => None,
        });
        let nodes: std::collections::BTreeSet<u64> = of_large.collect();
        assert_eq!(nodes.len(), 9, "{nodes:?}");
    }

    #[test]
    fn sketches_at_rest_are_told_by_their_sums_a_few_a_round_until_something_changes() {
        let mut sketches = Sketches::of((0..40).map(empty));
        let mut tour = tour(240, 8);
        for _ in 1..AWAKE_ROUNDS {
            assert_eq!(round(&mut tour, &sketches).len(), 40);
        }
        let mut told = Vec::new();
        for _ in 0..10 {
            let part = round(&mut tour, &sketches);
            let sums = part.iter().filter_map(|line| match line {
                DigestLine::Sketch(sketch) => Some(sketch.0),
                _ => None,
            });
            told.extend(sums);
            if told.len() >= 8 {
                assert_eq!(part.len(), 9, "the first is told line by line");
            }
        }
        told.truncate(39);
        told.sort_unstable();
        assert!(told.iter().copied().eq(1..40), "{told:?}");
        let slice = SliceId {
            sketch: SketchNumber(33),
            node: 9,
            writer: Writer(1),
        };
        sketches.merge(&slice, [(0, 4)].into_iter()).unwrap();
        let part = round(&mut tour, &sketches);
        let all_of_33 = DigestLine::Siblings(SliceId {
            writer: Writer(0),
            ..slice
        });
        assert!(part.contains(&all_of_33), "{part:?}");
        tour.wake(SketchNumber(12));
        let part = tour.part(&sketches, &BTreeMap::new(), |sketch| sketch.0 == 12);
        let own = sketches.get(SketchNumber(12)).unwrap().own_slice();
        assert_eq!(part, [DigestLine::Slice(own)]);
        let greeting = tour.greeting(&sketches, &BTreeMap::new(), |_| true);
        assert!(greeting.len() >= 40);
    }
}
