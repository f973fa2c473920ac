//! The tour of each peer through our digest: each round tells it as many lines as fit, of all sketches in fair
//! shares, and goes on where its round before has ended. Peers have different sketches, so that each has places
//! of its own: what one of them is told says nothing about what another still waits for. Each pair of nodes begins
//! somewhere else, so that a node which hears of many others, and of each of them seldom, soon hears of all slices.
//!
//! Most sketches are at rest most of the time. So a sketch in which nothing has changed for some rounds is told
//! as one sum, and each round tells the sums of a few of them. Where somebody's sum is another one, the sketch
//! is told line by line again for a while. The first sketch always is.

use std::collections::BTreeMap;

use crate::gossip::limits::ClusterLimits;
use crate::gossip::peers::DigestLine;
use crate::gossip::sketches::Sketches;
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_store::Slices;

/// A sketch is told line by line for so many rounds after something in it has changed: until then news has gone from
/// neighbour to neighbour through a large cluster.
const AWAKE_ROUNDS: u64 = 16;

/// What is told line by line, and how far each peer was told.
#[derive(Debug)]
pub(crate) struct DigestTour {
    lines_a_round: usize,
    sums_a_round: usize,
    round: u64,
    of_sketches: BTreeMap<SketchNumber, SketchState>,
    places: BTreeMap<Boot, Places>,
}

/// Whether a sketch is told line by line.
#[derive(Debug, Clone, Copy, Default)]
struct SketchState {
    /// Its sum at the last round.
    sum: u64,
    /// It is told line by line until this round.
    awake_until: u64,
}

/// Where a peer's next round goes on.
#[derive(Debug, Clone)]
struct Places {
    /// The sketch of which it was told lines last, and the one of which it was told the sum last.
    lines: SketchNumber,
    sums: SketchNumber,
    /// Whose it is.
    peer: Boot,
    /// In sketches of which it was told a part.
    in_sketches: BTreeMap<SketchNumber, DigestPosition>,
}

/// A line's place in the digest of a sketch: nodes ascend, and each has two lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
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
            places: BTreeMap::new(),
        }
    }

    /// A round begins: looks in which sketches something has changed.
    pub(crate) fn begin_round(&mut self, sketches: &Sketches) {
        self.round += 1;
        for slices in sketches.iter() {
            let sum = slices.sum();
            let sketch = slices.own_slice().sketch;
            let is_new = !self.of_sketches.contains_key(&sketch);
            let state = self.of_sketches.entry(sketch).or_default();
            if is_new || state.sum != sum {
                state.sum = sum;
                state.awake_until = self.round + AWAKE_ROUNDS;
            }
        }
    }

    /// Somebody has something else of a sketch: it is told line by line for a while.
    pub(crate) fn wake(&mut self, sketch: SketchNumber) {
        if let Some(state) = self.of_sketches.get_mut(&sketch) {
            state.awake_until = self.round + AWAKE_ROUNDS;
        }
    }

    /// Nothing is told to this peer any more.
    pub(super) fn forget(&mut self, peer: Boot) {
        self.places.remove(&peer);
    }

    /// The next lines for a peer with whom some sketches are exchanged; `writers` says who writes now, of each other
    /// node.
    pub(crate) fn part(
        &mut self,
        peer: Boot,
        sketches: &Sketches,
        writers: &BTreeMap<u64, Writer>,
        exchanges: impl Fn(SketchNumber) -> bool,
    ) -> Vec<DigestLine> {
        self.part_with(peer, sketches, writers, exchanges, self.sums_a_round)
    }

    /// As [`part`](Self::part), for a peer of which nothing is known yet: with as many sums as there may be lines.
    pub(crate) fn greeting(
        &mut self,
        peer: Boot,
        sketches: &Sketches,
        writers: &BTreeMap<u64, Writer>,
        exchanges: impl Fn(SketchNumber) -> bool,
    ) -> Vec<DigestLine> {
        self.part_with(peer, sketches, writers, exchanges, self.lines_a_round)
    }

    /// The next lines of one sketch for a peer, as many as fit a round.
    pub(crate) fn lines_of(
        &mut self,
        peer: Boot,
        slices: &Slices,
        writers: &BTreeMap<u64, Writer>,
    ) -> Vec<DigestLine> {
        let most = self.lines_a_round;
        let mut part = Vec::new();
        let places = self.places.entry(peer).or_insert_with(|| Places::of(peer));
        places.tell(slices, writers, most, &mut part);
        part
    }

    /// The next sketches of which a peer is told one line each, as far as they are exchanged.
    pub(crate) fn next_sketches(
        &mut self,
        peer: Boot,
        sketches: &Sketches,
        exchanges: impl Fn(SketchNumber) -> bool,
    ) -> Vec<SketchNumber> {
        let mut places = self
            .places
            .get(&peer)
            .cloned()
            .unwrap_or_else(|| Places::of(peer));
        let (mut all, mut at_rest) = self.of_turn(&places, sketches, exchanges);
        all.truncate(self.lines_a_round);
        at_rest.truncate(self.sums_a_round);
        places.lines = all.last().copied().unwrap_or(places.lines);
        places.sums = at_rest.last().copied().unwrap_or(places.sums);
        all.append(&mut at_rest);
        self.keep(peer, places, all.is_empty());
        all
    }

    fn part_with(
        &mut self,
        peer: Boot,
        sketches: &Sketches,
        writers: &BTreeMap<u64, Writer>,
        exchanges: impl Fn(SketchNumber) -> bool,
        sums_max: usize,
    ) -> Vec<DigestLine> {
        let mut places = self
            .places
            .get(&peer)
            .cloned()
            .unwrap_or_else(|| Places::of(peer));
        let (awake, at_rest) = self.of_turn(&places, sketches, exchanges);
        let mut part = Vec::new();
        for (number, sketch) in awake.iter().enumerate() {
            let left = self.lines_a_round.saturating_sub(part.len());
            // What one does not need, those after it have.
            let share = left.div_ceil(awake.len() - number);
            if let Some(slices) = sketches.get(*sketch)
                && share > 0
            {
                places.tell(slices, writers, share, &mut part);
                places.lines = *sketch;
            }
        }
        for &sketch in at_rest.iter().take(sums_max) {
            part.push(DigestLine::Sketch(sketch));
            places.sums = sketch;
        }
        self.keep(peer, places, part.is_empty());
        part
    }

    /// Who is told nothing, such as somebody who has none of our sketches, needs no places.
    fn keep(&mut self, peer: Boot, places: Places, is_told_nothing: bool) {
        if !is_told_nothing {
            self.places.insert(peer, places);
        }
    }

    /// Sketches that are told line by line, and those that are told by their sums, each from whose turn it is.
    fn of_turn(
        &self,
        places: &Places,
        sketches: &Sketches,
        exchanges: impl Fn(SketchNumber) -> bool,
    ) -> (Vec<SketchNumber>, Vec<SketchNumber>) {
        let first = sketches.first().own_slice().sketch;
        let awake = sketches.numbers_behind(places.lines);
        let awake = awake.filter(|&it| self.is_awake(it, first) && exchanges(it));
        let at_rest = sketches.numbers_behind(places.sums);
        let at_rest = at_rest.filter(|&it| !self.is_awake(it, first) && exchanges(it));
        (awake.collect(), at_rest.collect())
    }

    fn is_awake(&self, sketch: SketchNumber, first: SketchNumber) -> bool {
        let state = self.of_sketches.get(&sketch);
        sketch == first || state.is_none_or(|state| self.round < state.awake_until)
    }
}

impl Places {
    fn of(peer: Boot) -> Self {
        // Behind the last sketch is the first one.
        Self {
            peer,
            lines: SketchNumber(u32::MAX),
            sums: SketchNumber(u32::MAX),
            in_sketches: BTreeMap::new(),
        }
    }

    /// Tells the next lines of a sketch, at most so many.
    fn tell(
        &mut self,
        slices: &Slices,
        writers: &BTreeMap<u64, Writer>,
        most: usize,
        into: &mut Vec<DigestLine>,
    ) {
        let sketch = slices.own_slice().sketch;
        // Both numbers are drawn, so that each pair begins somewhere else.
        let start = DigestPosition {
            node: slices.own_slice().node ^ self.peer.0,
            is_of_siblings: false,
        };
        let from = self.in_sketches.remove(&sketch).unwrap_or(start);
        let round = lines_from(DigestPosition::default(), slices, writers);
        let round = round.take_while(|line| DigestPosition::of(line).is_some_and(|it| it < from));
        let mut lines = lines_from(from, slices, writers).chain(round);
        let before = into.len();
        into.extend(lines.by_ref().take(most));
        if lines.next().is_some() {
            let next = into[before..].last().and_then(DigestPosition::behind);
            self.in_sketches.insert(sketch, next.unwrap_or(from));
        }
    }
}

impl DigestPosition {
    /// The position of a line; `None` where it is that of a whole sketch.
    fn of(line: &DigestLine) -> Option<Self> {
        let (node, is_of_siblings) = match line {
            DigestLine::Slice(slice) => (slice.node, false),
            DigestLine::Siblings(slice) => (slice.node, true),
            DigestLine::Sketch(_) => return None,
        };
        Some(Self {
            node,
            is_of_siblings,
        })
    }

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

    /// With it our tour begins at node 1, before all others.
    const PEER: Boot = Boot(OWN.node ^ 1);

    fn round(tour: &mut DigestTour, sketches: &Sketches) -> Vec<DigestLine> {
        tour.begin_round(sketches);
        tour.part(PEER, sketches, &BTreeMap::new(), |_| true)
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
            let mut expected = all.iter().cycle();
            for _ in 0..9 {
                tour.begin_round(&sketches);
                let part = tour.part(PEER, &sketches, &writers, |_| true);
                let most = lines_a_round.min(all.len());
                assert!(part.iter().eq(expected.by_ref().take(most)), "{part:?}");
            }
        }
    }

    /// Each peer learns all of what it has, whatever the others have, and whoever is told how often: lines, sums, and
    /// sketches by name.
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
        // What each of them has, and in how many of so many rounds it is told something.
        let peers: [(&dyn Fn(u32) -> bool, u32); 4] = [
            (&|_| true, 1),
            (&|it| it < 2, 3),
            (&|it| it % 3 == 1, 2),
            (&|it| it == 5, 1),
        ];
        type Ask =
            fn(&mut DigestTour, Boot, &Sketches, &dyn Fn(SketchNumber) -> bool) -> Vec<String>;
        let part: Ask = |tour, peer, sketches, has| {
            let part = tour.part(peer, sketches, &BTreeMap::new(), has);
            part.iter().map(|line| format!("{line:?}")).collect()
        };
        let next: Ask = |tour, peer, sketches, has| {
            let next = tour.next_sketches(peer, sketches, has);
            next.iter().map(|sketch| format!("{sketch:?}")).collect()
        };
        // Awake sketches have nine lines each; at rest all but the first have one.
        for (ask, is_awake, lines_of_first, lines_of_others) in [
            (part, true, 9, 9),
            (part, false, 9, 1),
            (next, true, 1, 1),
            (next, false, 1, 1),
        ] {
            for lines in [1, 2, 6, 7, 20, 200] {
                let mut tour = tour(lines, 1);
                let mut told = [(); 4].map(|()| std::collections::BTreeSet::new());
                for round in 0..300_u32 {
                    tour.begin_round(&sketches);
                    if is_awake {
                        (0..6).for_each(|it| tour.wake(SketchNumber(it)));
                    }
                    if !is_awake && round < 2 * AWAKE_ROUNDS as u32 {
                        continue;
                    }
                    for (number, (has, every)) in peers.iter().enumerate() {
                        if round.is_multiple_of(*every) {
                            let peer = Boot(number as u64);
                            told[number].extend(ask(&mut tour, peer, &sketches, &|it| has(it.0)));
                        }
                    }
                }
                for ((has, _), told) in peers.iter().zip(&told) {
                    let others = (1..6).filter(|&it| has(it)).count();
                    let expected = lines_of_first * usize::from(has(0)) + lines_of_others * others;
                    assert_eq!(told.len(), expected, "{lines} lines, awake: {is_awake}");
                }
            }
        }
    }

    /// Whoever hears of many nodes, and of each of them only once, hears of most of what there is.
    #[test]
    fn each_pair_begins_somewhere_else() {
        let mut random = rmbd_testkit::random::Random(7);
        let nodes: Vec<u64> = (0..64).map(|_| random.next()).collect();
        let peer = Boot(random.next());
        let mut told = std::collections::BTreeSet::new();
        for &own in &nodes {
            let limits = ReplicaLimits {
                max_peers: 1,
                max_origins: 99,
                max_memory_bytes: u64::MAX,
            };
            let slice = SliceId::of(own, Writer(1));
            let geometry = Geometry::new(64, 1).unwrap();
            let family = HashFamily::Xxh3 { seed: 1 };
            let replica = Replica::try_with(geometry, family, slice, limits).unwrap();
            let mut slices = Slices::try_new(Arc::new(replica)).unwrap();
            for &node in nodes.iter().filter(|&&node| node != own) {
                let slice = SliceId::of(node, Writer(1));
                slices.merge(&slice, [(0, 4)].into_iter()).unwrap();
            }
            let mut tour = tour(2, 1);
            let sketches = Sketches::of([slices]);
            tour.begin_round(&sketches);
            let part = tour.part(peer, &sketches, &BTreeMap::new(), |_| true);
            assert_eq!(part.len(), 2);
            told.extend(
                part.iter()
                    .map(|line| DigestPosition::of(line).unwrap().node),
            );
        }
        // 128 lines by chance would be 55 of 64; those behind a drawn place are fewer.
        assert!(told.len() > 35, "{}", told.len());
    }

    /// Who has gone leaves nothing behind, and who has nothing of ours gets no place.
    #[test]
    fn places_are_kept_for_those_who_are_told_something() {
        let sketches = holder();
        let mut tour = tour(2, 1);
        tour.begin_round(&sketches);
        let has_nothing = |_| false;
        assert!((tour.part(Boot(2), &sketches, &BTreeMap::new(), has_nothing)).is_empty());
        assert!((tour.next_sketches(Boot(2), &sketches, has_nothing)).is_empty());
        assert!(tour.places.is_empty());
        tour.part(PEER, &sketches, &BTreeMap::new(), |_| true);
        assert_eq!(tour.places.len(), 1);
        tour.forget(PEER);
        assert!(tour.places.is_empty());
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
        let part = tour.part(PEER, &sketches, &BTreeMap::new(), |sketch| sketch.0 == 12);
        let own = sketches.get(SketchNumber(12)).unwrap().own_slice();
        assert_eq!(part, [DigestLine::Slice(own)]);
        let greeting = tour.greeting(PEER, &sketches, &BTreeMap::new(), |_| true);
        assert!(greeting.len() >= 40);
    }
}
